/* glu.c: what clf_glu() accepts. */
#include "check.h"

#define OP "glu"

static clf_status check(clf_context *ctx, clf_glu_args *a) {
    CLF_TRY(clf_check_tensor(ctx, OP, "gate", a->gate, CLF_DTYPES_FLOAT, 0, CLF_MAX_DIMS));
    CLF_TRY(clf_check_like(ctx, OP, "up", a->up, "gate", a->gate));
    CLF_CHECK(&ctx->error, a->activation > CLF_ACTIVATION_NONE && a->activation <= CLF_ACTIVATION_GELU_TANH,
              CLF_INVALID_ARGUMENT, OP ": activation: expected silu, gelu or gelu_tanh, got %d", (int)a->activation);
    CLF_TRY(clf_check_like(ctx, OP, "out", a->out, "gate", a->gate));
    CLF_TRY(clf_check_output(ctx, OP, "out", a->out, "gate", a->gate, true));
    return clf_check_output(ctx, OP, "out", a->out, "up", a->up, true);
}

CLF_DOOR(glu)
