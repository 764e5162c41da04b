/* decoder.h: one forward pass for every architecture; what differs is in clf_config and in which weights exist.
 *
 *     x = embedding[ids] · scale
 *     each block:  h = norm(x);  q, k, v = h·W + b;  q, k = rope(norm(q)), rope(norm(k));  k, v → cache
 *                  x += norm(attention(q, cache)·Wo);  h = norm(x);  x += norm((act(h·Wg) · (h·Wu))·Wd)
 *     logits = softcap(norm(x)·W)
 *
 * with the inner norms where the architecture has them. Activations are F32, F16 or BF16, [tokens, width], allocated
 * once for `chunk` tokens on every context in use; a step allocates nothing. */
#ifndef CLF_MODEL_DECODER_H
#define CLF_MODEL_DECODER_H

#include "kv_cache.h"

typedef enum clf_activations {
    CLF_ACT_HIDDEN,   /* x, the residual stream */
    CLF_ACT_NORMED,   /* h */
    CLF_ACT_QUERY,    /* q */
    CLF_ACT_KEY,      /* k, before it goes to the cache */
    CLF_ACT_VALUE,    /* v */
    CLF_ACT_ATTENDED, /* attention's output */
    CLF_ACT_FFN,      /* act(gate) · up */
    CLF_ACT_BRANCH,   /* a branch before its post norm; no width without post norms */
    CLF_ACT_UP,       /* up apart from gate; no width without an adapter */
    CLF_ACT_INNER,    /* A·x; no width without an adapter */
    CLF_ACT_COUNT
} clf_activations;

typedef struct clf_decoder {
    const clf_model *model;
    clf_dtype compute; /* of the activations */
    int64_t chunk;
    clf_tensor act[CLF_MAX_PLACES][CLF_ACT_COUNT]; /* [chunk, width] */
    clf_tensor ids;                                /* I32 [chunk], on the first block's context */
    clf_tensor logits;                             /* [rows at a time, vocab], on the last block's */
    clf_rope_args rope[2];                         /* of full layers; of window layers */
    struct clf_importance *importance;             /* told what the blocks' matrices meet; NULL: nobody is */
} clf_decoder;

/* On failure nothing stays allocated. `context_length` as for clf_decoder_ropes(). */
clf_status clf_decoder_init(clf_decoder *d, const clf_model *model, clf_dtype compute, int64_t chunk,
                            int64_t context_length);
void clf_decoder_release(clf_decoder *d);
/* Makes room for `rows` logits at a time, at most 16 MiB of them. */
clf_status clf_decoder_reserve(clf_decoder *d, int64_t rows);
/* Appends n ≤ chunk tokens to the cache's storage (cache->rows is the caller's to advance). The last `want` of their
 * rows x go through all of the last block. */
clf_status clf_decoder_forward(clf_decoder *d, const clf_kv_cache *cache, const int32_t *ids, int64_t n, int64_t want);
/* Writes logits of n rows x, from `first` on, of those that the last forward pass left, to host memory, [n, vocab]. */
clf_status clf_decoder_logits(const clf_decoder *d, int64_t first, int64_t n, float *logits);

/* What the parts of a block share. Rows [first, first + n) of [rows, width]. */
clf_tensor clf_decoder_rows(const clf_tensor *t, int64_t first, int64_t n);
/* out = norm(x + residual), the sum kept in `residual`; without one, norm(x). */
clf_status clf_decoder_norm(const clf_config *config, const clf_tensor *weight, const clf_tensor *x,
                            clf_tensor *residual, clf_tensor *out);
/* out[i] = x · W[first + i]ᵀ + bias (+ residual), with adapters. */
clf_status clf_decoder_project(const clf_decoder *d, const clf_layer *layer, clf_weight first, int count,
                               const clf_tensor *x, const clf_tensor *residual, clf_tensor *out);
/* Rotations of full and of window layers. `context_length` chooses among longrope's factors. */
void clf_decoder_ropes(clf_rope_args out[2], const clf_config *config, int64_t context_length);
/* Width of each activation; 0: not needed. */
void clf_decoder_widths(int64_t width[CLF_ACT_COUNT], const clf_config *config, int64_t lora_rank);

#endif
