/* ternarize.c: what clf_ternarize() accepts. */
#include "check.h"

#define OP "ternarize"

static clf_status check(clf_context *ctx, clf_ternarize_args *a) {
    const uint32_t outs = CLF_DTYPES_FLOAT | CLF_DTYPE_BIT(CLF_TQ2_0);
    CLF_TRY(clf_check_tensor(ctx, OP, "x", a->x, CLF_DTYPE_BIT(CLF_F32), 0, CLF_MAX_DIMS));
    CLF_TRY(clf_check_tensor(ctx, OP, "out", a->out, outs, 0, CLF_MAX_DIMS));
    CLF_TRY(clf_check_shape(ctx, OP, "out", a->out, a->x->ndim, a->x->shape));
    CLF_CHECK(&ctx->error, clf_is_contiguous(a->x) && clf_is_contiguous(a->out), CLF_INVALID_ARGUMENT,
              OP ": x, out: expected contiguous tensors");
    return clf_check_output(ctx, OP, "out", a->out, "x", a->x, false);
}

CLF_DOOR(ternarize)
