/* glu.c: what clf_glu() and clf_glu_backward() accept. */
#include "check.h"

#define OP "glu"

static clf_status check_inputs(clf_context *ctx, const char *op, const clf_tensor *gate, const clf_tensor *up,
                               clf_activation activation) {
    CLF_TRY(clf_check_tensor(ctx, op, "gate", gate, CLF_DTYPES_FLOAT, 0, CLF_MAX_DIMS));
    CLF_TRY(clf_check_like(ctx, op, "up", up, "gate", gate));
    CLF_CHECK(&ctx->error, activation > CLF_ACTIVATION_NONE && activation <= CLF_ACTIVATION_GELU_TANH,
              CLF_INVALID_ARGUMENT, "%s: activation: expected silu, gelu or gelu_tanh, got %d", op, (int)activation);
    return CLF_OK;
}

static clf_status check(clf_context *ctx, clf_glu_args *a) {
    CLF_TRY(check_inputs(ctx, OP, a->gate, a->up, a->activation));
    CLF_TRY(clf_check_like(ctx, OP, "out", a->out, "gate", a->gate));
    CLF_TRY(clf_check_output(ctx, OP, "out", a->out, "gate", a->gate, true));
    return clf_check_output(ctx, OP, "out", a->out, "up", a->up, true);
}

CLF_DOOR(glu)

#undef OP
#define OP "glu_backward"

/* An output may take the place of any input. */
static clf_status check_output(clf_context *ctx, const char *name, const clf_tensor *out,
                               const clf_glu_backward_args *b) {
    CLF_TRY(clf_check_like(ctx, OP, name, out, "gate", b->gate));
    CLF_TRY(clf_check_output(ctx, OP, name, out, "gate", b->gate, true));
    CLF_TRY(clf_check_output(ctx, OP, name, out, "up", b->up, true));
    return clf_check_output(ctx, OP, name, out, "d_out", b->d_out, true);
}

static clf_status check_backward(clf_context *ctx, clf_glu_backward_args *b) {
    CLF_TRY(check_inputs(ctx, OP, b->gate, b->up, b->activation));
    CLF_TRY(clf_check_like(ctx, OP, "d_out", b->d_out, "gate", b->gate));
    CLF_TRY(check_output(ctx, "d_gate", b->d_gate, b));
    CLF_TRY(check_output(ctx, "d_up", b->d_up, b));
    CLF_TRY(clf_check_output(ctx, OP, "d_up", b->d_up, "d_gate", b->d_gate, false));
    if (!b->out) return CLF_OK;
    CLF_TRY(check_output(ctx, "out", b->out, b));
    CLF_TRY(clf_check_output(ctx, OP, "out", b->out, "d_gate", b->d_gate, false));
    return clf_check_output(ctx, OP, "out", b->out, "d_up", b->d_up, false);
}

CLF_DOOR_CHECKED(glu_backward, check_backward)
