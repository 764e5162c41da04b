/* attention_backward.c: gradients of attention. */
#include "cpu.h"

clf_status CPU_FN(attention_backward)(clf_context *ctx, const clf_attention_backward_args *args) {
    (void)args;
    return clf_fail(&ctx->error, CLF_UNSUPPORTED, "attention_backward: %s does not have it", ctx->backend->name);
}
