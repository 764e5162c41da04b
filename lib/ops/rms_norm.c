/* rms_norm.c: what clf_rms_norm() accepts. */
#include <float.h>

#include "check.h"

#define OP "rms_norm"

static clf_status check(clf_context *ctx, clf_rms_norm_args *a) {
    CLF_TRY(clf_check_tensor(ctx, OP, "x", a->x, CLF_DTYPES_FLOAT, 1, CLF_MAX_DIMS));
    if (a->residual) CLF_TRY(clf_check_like(ctx, OP, "residual", a->residual, "x", a->x));
    if (a->sum) {
        CLF_TRY(clf_check_like(ctx, OP, "sum", a->sum, "x", a->x));
        CLF_TRY(clf_check_output(ctx, OP, "sum", a->sum, "x", a->x, true));
        CLF_TRY(clf_check_output(ctx, OP, "sum", a->sum, "residual", a->residual, true));
        CLF_TRY(clf_check_output(ctx, OP, "sum", a->sum, "weight", a->weight, false));
    }
    if (a->weight) {
        const uint32_t dtypes = CLF_DTYPE_BIT(CLF_F32) | CLF_DTYPE_BIT(a->x->dtype);
        const int64_t dim = clf_last(a->x);
        CLF_TRY(clf_check_tensor(ctx, OP, "weight", a->weight, dtypes, 1, 1));
        CLF_TRY(clf_check_shape(ctx, OP, "weight", a->weight, 1, &dim));
    }
    CLF_TRY(clf_check_finite(ctx, OP, "eps", a->eps, 0, FLT_MAX));
    CLF_TRY(clf_check_finite(ctx, OP, "weight_offset", a->weight_offset, -FLT_MAX, FLT_MAX));
    CLF_TRY(clf_check_like(ctx, OP, "out", a->out, "x", a->x));
    CLF_TRY(clf_check_output(ctx, OP, "out", a->out, "x", a->x, true));
    CLF_TRY(clf_check_output(ctx, OP, "out", a->out, "residual", a->residual, !a->sum));
    CLF_TRY(clf_check_output(ctx, OP, "out", a->out, "sum", a->sum, false));
    CLF_TRY(clf_check_output(ctx, OP, "out", a->out, "weight", a->weight, false));
    if (a->rstd) {
        CLF_TRY(clf_check_tensor(ctx, OP, "rstd", a->rstd, CLF_DTYPE_BIT(CLF_F32), 0, CLF_MAX_DIMS));
        CLF_TRY(clf_check_shape(ctx, OP, "rstd", a->rstd, a->x->ndim - 1, a->x->shape));
        CLF_CHECK(&ctx->error, clf_last(a->x) > 0 || !clf_elements(a->rstd), CLF_INVALID_ARGUMENT,
                  OP ": rstd: expected rows of x that have elements, got dim 0");
        CLF_TRY(clf_check_output(ctx, OP, "rstd", a->rstd, "x", a->x, false));
        CLF_TRY(clf_check_output(ctx, OP, "rstd", a->rstd, "out", a->out, false));
    }
    return CLF_OK;
}

CLF_DOOR(rms_norm)
