/* sum_squares.c: what clf_sum_squares() accepts. */
#include "check.h"

#define OP "sum_squares"

static clf_status check(clf_context *ctx, clf_sum_squares_args *a) {
    CLF_TRY(clf_check_tensor(ctx, OP, "x", a->x, CLF_DTYPES_FLOAT, 0, CLF_MAX_DIMS));
    CLF_TRY(clf_check_tensor(ctx, OP, "out", a->out, CLF_DTYPE_BIT(CLF_F32), 0, CLF_MAX_DIMS));
    CLF_CHECK(&ctx->error, clf_elements(a->out) == 1, CLF_INVALID_ARGUMENT, OP ": out: expected 1 element, got %lld",
              (long long)clf_elements(a->out));
    return clf_check_output(ctx, OP, "out", a->out, "x", a->x, false);
}

CLF_DOOR(sum_squares)
