/* layer.h: one block of the decoder, forward and backward, over all tokens of a micro-batch:
 *
 *     h = norm(x);  q, k, v = h·W + b;  q, k = rope(norm(q)), rope(norm(k));  y = x + norm(attention(q, k, v)·Wo)
 *     h = norm(y);  out = y + norm((act(h·Wg) · (h·Wu))·Wd)
 *
 * with the inner norms where the architecture has them, each product plus scale·(dropout(x)·Aᵀ)·Bᵀ where it has an
 * adapter. The backward pass goes through the formula from its end, writing gradients over what it no longer needs. */
#ifndef CLF_TRAIN_LAYER_H
#define CLF_TRAIN_LAYER_H

#include "saved.h"

/* Where gradients go, F32 as the weights; NULL: frozen. */
typedef struct clf_layer_gradients {
    clf_tensor *weight[CLF_W_COUNT];
    clf_tensor *a[CLF_W_MATRICES], *b[CLF_W_MATRICES];
} clf_layer_gradients;

/* Memory that all blocks share, [T, width]. */
typedef enum clf_work {
    CLF_WORK_NORMED,   /* h, and the gradient of a branch before its post norm; between blocks free */
    CLF_WORK_D_HIDDEN, /* d_x, through all blocks */
    CLF_WORK_WIDE,     /* act(g)·u and its gradient, or the gradients of o, q, k, v; at last d_h over the first */
    CLF_WORK_INNER,    /* x·Aᵀ of the products of one x; no width without adapters */
    CLF_WORK_D_INNER,  /* its gradient */
    CLF_WORK_SEEN,     /* x as products see it: dropped or rounded, or the gradient by it; no width otherwise */
    CLF_WORK_COUNT
} clf_work;

void clf_work_widths(int64_t width[CLF_WORK_COUNT], const clf_config *config, int64_t lora_rank, bool seen);

/* One pass over a micro-batch. */
typedef struct clf_pass {
    const clf_model *model;
    clf_tensor work[CLF_WORK_COUNT]; /* T rows each */
    clf_tensor positions;            /* I32 [T], in each one's sequence */
    clf_tensor starts;               /* I32 [sequences + 1]; buffer NULL: one sequence */
    clf_rope_args rope[2];           /* of full layers; of window layers */
    bool base_only;                  /* adapters are passed over */
    float dropout;                   /* of adapters' inputs */
    bool ternary;                    /* inputs of matrices are rounded to int8, each token's */
    uint64_t seed;                   /* of this micro-batch */
} clf_pass;

/* Fills `saved` from saved->act[CLF_SAVED_INPUT]; out NULL: only what the backward pass needs. `out` is the next
 * block's input. */
clf_status clf_layer_forward(const clf_pass *pass, int index, const clf_saved_set *saved, clf_tensor *out);
/* work[CLF_WORK_D_HIDDEN] is the gradient by the block's output and becomes that by its input, unless nothing wants
 * it. Writes over `saved`. */
clf_status clf_layer_backward(const clf_pass *pass, int index, const clf_saved_set *saved,
                              const clf_layer_gradients *gradients, bool input_wanted);

#endif
