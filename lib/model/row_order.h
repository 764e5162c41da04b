/* row_order.h: rows of query and key matrices in the two orders of rotary pairs. Within each head of head_dim rows pair
 * i is at i and i + head_dim/2 (halves: Hugging Face), or at 2i and 2i + 1 (interleaved: a llama GGUF). */
#ifndef CLF_MODEL_ROW_ORDER_H
#define CLF_MODEL_ROW_ORDER_H

#include <clformer/ops.h>
#include <string.h>

/* Which row of a matrix in order `from` is `row` in the other order. */
static inline int64_t clf_row_source(int64_t row, int32_t head_dim, clf_rope_pairing from) {
    const int64_t in = row % head_dim, half = head_dim / 2;
    return row - in + (from == CLF_ROPE_HALVES ? in / 2 + in % 2 * half : in % half * 2 + in / half);
}

/* Rows of whole heads from order `from` into the other one. */
static inline void clf_reorder_rows(void *out, const void *in, int64_t rows, uint64_t row_bytes, int32_t head_dim,
                                    clf_rope_pairing from) {
    for (int64_t i = 0; i < rows; i++)
        memcpy((uint8_t *)out + row_bytes * (uint64_t)i,
               (const uint8_t *)in + row_bytes * (uint64_t)clf_row_source(i, head_dim, from), (size_t)row_bytes);
}

#endif
