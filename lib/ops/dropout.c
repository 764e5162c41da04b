/* dropout.c: what clf_dropout() accepts. */
#include "check.h"

#define OP "dropout"

static clf_status check(clf_context *ctx, clf_dropout_args *a) {
    CLF_TRY(clf_check_tensor(ctx, OP, "x", a->x, CLF_DTYPES_FLOAT, 0, CLF_MAX_DIMS));
    if (a->residual) CLF_TRY(clf_check_like(ctx, OP, "residual", a->residual, "x", a->x));
    CLF_CHECK(&ctx->error, a->probability >= 0 && a->probability < 1, CLF_INVALID_ARGUMENT,
              OP ": probability: expected 0 or more and less than 1, got %g", (double)a->probability);
    CLF_TRY(clf_check_like(ctx, OP, "out", a->out, "x", a->x));
    CLF_TRY(clf_check_output(ctx, OP, "out", a->out, "x", a->x, true));
    return clf_check_output(ctx, OP, "out", a->out, "residual", a->residual, true);
}

CLF_DOOR(dropout)
