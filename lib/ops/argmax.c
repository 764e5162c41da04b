/* argmax.c: what clf_argmax() accepts. */
#include <limits.h>

#include "check.h"

#define OP "argmax"

static clf_status check(clf_context *ctx, clf_argmax_args *a) {
    CLF_TRY(clf_check_tensor(ctx, OP, "x", a->x, CLF_DTYPES_FLOAT, 1, CLF_MAX_DIMS));
    CLF_CHECK(&ctx->error, clf_last(a->x) >= 1 && clf_last(a->x) <= INT_MAX, CLF_INVALID_ARGUMENT,
              OP ": x: expected rows of 1 to %d elements, got %lld", INT_MAX, (long long)clf_last(a->x));
    CLF_TRY(clf_check_tensor(ctx, OP, "out", a->out, CLF_DTYPE_BIT(CLF_I32), 0, CLF_MAX_DIMS));
    CLF_TRY(clf_check_shape(ctx, OP, "out", a->out, a->x->ndim - 1, a->x->shape));
    return clf_check_output(ctx, OP, "out", a->out, "x", a->x, false);
}

CLF_DOOR(argmax)
