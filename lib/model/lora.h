/* lora.h: low-rank adapters at run time: y += scale · B·(A·x) (arXiv:2106.09685). */
#ifndef CLF_MODEL_LORA_H
#define CLF_MODEL_LORA_H

#include <clformer/model.h>

#include "../core/tensor.h"

/* One adapted matrix [n, k]. */
typedef struct clf_lora {
    clf_tensor a; /* F32 [r, k]; buffer NULL: not adapted */
    clf_tensor b; /* F32 [n, r] */
    float scale;
} clf_lora;

/* Reads an adapter and puts each pair beside its matrix; *hash takes up what tells it from others. */
clf_status clf_lora_load(clf_model *model, const char *path, uint64_t *hash);
void clf_lora_release(clf_lora *lora);
/* y += scale · B·(A·x) over `rows` tokens: x [rows, k], y [rows, n], inner [rows, r] is scratch. */
clf_status clf_lora_apply(clf_context *ctx, const clf_lora *lora, const clf_tensor *x, const clf_tensor *inner,
                          clf_tensor *y);

#endif
