/* rms_norm.c: what clf_rms_norm() and clf_rms_norm_backward() accept. */
#include <float.h>

#include "check.h"

#define OP "rms_norm"

static clf_status check_weight(clf_context *ctx, const char *op, const clf_tensor *x, const clf_tensor *weight,
                               float offset) {
    CLF_TRY(clf_check_finite(ctx, op, "weight_offset", offset, -FLT_MAX, FLT_MAX));
    if (!weight) return CLF_OK;
    const int64_t dim = clf_last(x);
    CLF_TRY(clf_check_tensor(ctx, op, "weight", weight, CLF_DTYPE_BIT(CLF_F32) | CLF_DTYPE_BIT(x->dtype), 1, 1));
    return clf_check_shape(ctx, op, "weight", weight, 1, &dim);
}

static clf_status check(clf_context *ctx, clf_rms_norm_args *a) {
    CLF_TRY(clf_check_tensor(ctx, OP, "x", a->x, CLF_DTYPES_FLOAT, 1, CLF_MAX_DIMS));
    if (a->residual) CLF_TRY(clf_check_like(ctx, OP, "residual", a->residual, "x", a->x));
    if (a->sum) {
        CLF_TRY(clf_check_like(ctx, OP, "sum", a->sum, "x", a->x));
        CLF_TRY(clf_check_output(ctx, OP, "sum", a->sum, "x", a->x, true));
        CLF_TRY(clf_check_output(ctx, OP, "sum", a->sum, "residual", a->residual, true));
        CLF_TRY(clf_check_output(ctx, OP, "sum", a->sum, "weight", a->weight, false));
    }
    CLF_TRY(clf_check_finite(ctx, OP, "eps", a->eps, 0, FLT_MAX));
    CLF_TRY(check_weight(ctx, OP, a->x, a->weight, a->weight_offset));
    CLF_TRY(clf_check_tensor(ctx, OP, "out", a->out, CLF_DTYPE_BIT(a->x->dtype) | CLF_DTYPE_BIT(CLF_Q8_0), 1,
                             CLF_MAX_DIMS));
    CLF_TRY(clf_check_shape(ctx, OP, "out", a->out, a->x->ndim, a->x->shape));
    CLF_CHECK(&ctx->error, a->out->dtype != CLF_Q8_0 || a->sum || !a->residual, CLF_INVALID_ARGUMENT,
              OP ": sum is NULL: expected a place for x + residual, as out is q8_0");
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

#undef OP
#define OP "rms_norm_backward"

/* `out`, a gradient, is apart from what is only read. */
static clf_status check_gradient(clf_context *ctx, const char *name, const clf_tensor *out,
                                 const clf_rms_norm_backward_args *b) {
    CLF_TRY(clf_check_output(ctx, OP, name, out, "x", b->x, false));
    CLF_TRY(clf_check_output(ctx, OP, name, out, "weight", b->weight, false));
    return clf_check_output(ctx, OP, name, out, "rstd", b->rstd, false);
}

static clf_status check_backward(clf_context *ctx, clf_rms_norm_backward_args *b) {
    CLF_TRY(clf_check_tensor(ctx, OP, "x", b->x, CLF_DTYPES_FLOAT, 1, CLF_MAX_DIMS));
    CLF_TRY(check_weight(ctx, OP, b->x, b->weight, b->weight_offset));
    CLF_TRY(clf_check_tensor(ctx, OP, "rstd", b->rstd, CLF_DTYPE_BIT(CLF_F32), 0, CLF_MAX_DIMS));
    CLF_TRY(clf_check_shape(ctx, OP, "rstd", b->rstd, b->x->ndim - 1, b->x->shape));
    CLF_TRY(clf_check_like(ctx, OP, "d_out", b->d_out, "x", b->x));
    if (b->residual) CLF_TRY(clf_check_like(ctx, OP, "residual", b->residual, "x", b->x));
    if (b->d_x) {
        CLF_TRY(clf_check_like(ctx, OP, "d_x", b->d_x, "x", b->x));
        CLF_TRY(check_gradient(ctx, "d_x", b->d_x, b));
        CLF_TRY(clf_check_output(ctx, OP, "d_x", b->d_x, "d_out", b->d_out, true));
        CLF_TRY(clf_check_output(ctx, OP, "d_x", b->d_x, "residual", b->residual, true));
    }
    if (b->d_weight) {
        const int64_t dim = clf_last(b->x);
        CLF_TRY(clf_check_tensor(ctx, OP, "d_weight", b->d_weight, CLF_DTYPE_BIT(CLF_F32), 1, 1));
        CLF_TRY(clf_check_shape(ctx, OP, "d_weight", b->d_weight, 1, &dim));
        CLF_TRY(check_gradient(ctx, "d_weight", b->d_weight, b));
        CLF_TRY(clf_check_output(ctx, OP, "d_weight", b->d_weight, "d_out", b->d_out, false));
        CLF_TRY(clf_check_output(ctx, OP, "d_weight", b->d_weight, "residual", b->residual, false));
        CLF_TRY(clf_check_output(ctx, OP, "d_weight", b->d_weight, "d_x", b->d_x, false));
    }
    return CLF_OK;
}

CLF_DOOR_CHECKED(rms_norm_backward, check_backward)
