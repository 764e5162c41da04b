/* attention.h: the size of a call; and how the CPU tables cut one clf_attention() into work, and how much scratch that
 * takes; clf_attention_memory() reads the same figures.
 *
 * The query heads of one key/value head, its group, share keys and values: row r of a group is query r / group of head
 * r % group, so the rows of a block look at nearly the same keys. A unit of work is a block of rows × a range of keys;
 * where there are fewer blocks than threads the keys are split and the unfinished results merged in a fixed order. */
#ifndef CLF_OPS_ATTENTION_H
#define CLF_OPS_ATTENTION_H

#include <stdbool.h>
#include <stdint.h>

#include <clformer/ops.h>

#include "../core/dtype.h"
#include "../core/tensor.h"

enum {
    CLF_ATTENTION_FEW = 16,   /* up to so many rows a group: key by key, dot products (decoding) */
    CLF_ATTENTION_LANES = 48, /* rows of blocks are multiples of it, and so of every table's panel */
    CLF_ATTENTION_KEYS = 48,  /* keys a step */
    CLF_ATTENTION_DIM = 256   /* largest head_dim and v_dim */
};

/* How many sequences a call has, and how many keys at most one of them (paged: positions that its table has room for).
 */
static inline int64_t clf_attention_sequences(const clf_attention_args *a) {
    return a->query_starts ? a->query_starts->shape[0] - 1 : a->query->shape[0];
}
static inline int64_t clf_attention_keys(const clf_attention_args *a) {
    return a->block_table ? a->block_table->shape[1] * a->key->shape[2] : a->key->shape[2];
}

/* Whether the call has one sequence an entry of the batch, whole keys of floats, and neither layout nor dropout. */
static inline bool clf_attention_plain(const clf_attention_args *a) {
    return !a->query_starts && !a->block_table && !a->layout_rows && !a->window_right && a->dropout == 0 &&
           clf_dtype_is_float(a->key->dtype);
}

/* For tables whose tensors are host memory. */
clf_status clf_attention_check_indices(clf_context *ctx, const char *op, const clf_attention_args *args);

typedef struct clf_attention_shape {
    int64_t batch, heads, kv_heads, queries, keys, head_dim, v_dim;
} clf_attention_shape;

typedef struct clf_attention_plan {
    int64_t group;    /* heads ÷ kv_heads */
    int64_t rows;     /* of a group: group · queries */
    bool few;         /* rows ≤ CLF_ATTENTION_FEW */
    int threads;      /* that take part: all, or one where starting them would cost more */
    int64_t block;    /* rows a block */
    int64_t blocks;   /* of all groups together */
    int64_t splits;   /* of the keys */
    int64_t pitch;    /* floats of a query row: head_dim rounded up to whole vectors of any table */
    int64_t v_pitch;  /* of a value row */
    uint64_t partial; /* floats of a block's unfinished result: out, maximum, sum */
    uint64_t work;    /* floats that a thread needs besides */
    uint64_t scratch; /* bytes in all */
} clf_attention_plan;

/* False if a product exceeds 64 bits. Sizes are ≥ 0, heads a multiple of kv_heads, dims ≤ CLF_ATTENTION_DIM, threads
 * ≥ 1. */
bool clf_attention_plan_make(clf_attention_plan *plan, const clf_attention_shape *shape, int threads);

#endif
