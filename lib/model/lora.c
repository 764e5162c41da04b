/* lora.c: adapters beside the matrices they adapt. */
#include "lora.h"

#include "model.h"

clf_status clf_lora_load(clf_model *model, const char *path) {
    return clf_fail(&model->contexts[0]->error, CLF_UNSUPPORTED, "adapter: %s", path);
}

void clf_lora_release(clf_lora *lora) {
    clf_tensor_release(&lora->a);
    clf_tensor_release(&lora->b);
}

clf_status clf_lora_apply(clf_context *ctx, const clf_lora *lora, const clf_tensor *x, const clf_tensor *inner,
                          clf_tensor *y) {
    const int64_t shape[] = {x->shape[0], lora->a.shape[0]};
    clf_tensor z = clf_view_of(inner, 2, shape, NULL, 0);
    CLF_TRY(clf_linear(ctx, &(clf_linear_args){.x = x, .weight = {&lora->a}, .out = {&z}}));
    return clf_linear(ctx, &(clf_linear_args){.x = &z, .weight = {&lora->b}, .residual = y, .out = {y}});
}
