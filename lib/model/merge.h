/* merge.h: a weight as it is now, some rows at a time: W + scale · B · A in F32, where an adapter is beside it. */
#ifndef CLF_MODEL_MERGE_H
#define CLF_MODEL_MERGE_H

#include "lora.h"

typedef struct clf_merge {
    clf_tensor weight;    /* a view: [n, k], vectors as [n, 1] */
    const clf_lora *lora; /* NULL: none */
    clf_tensor tile;      /* F32 [rows, k] on the weight's context */
    clf_tensor a;         /* Aᵀ, F32 [k, r] */
} clf_merge;

/* `rows`: most at a time. On failure nothing stays allocated. */
clf_status clf_merge_begin(clf_merge *merge, const clf_tensor *weight, const clf_lora *lora, int64_t rows);
void clf_merge_end(clf_merge *merge);
/* Rows [first, first + rows) to host memory, [rows, k]. */
clf_status clf_merge_rows(clf_merge *merge, int64_t first, int64_t rows, float *out);

#endif
