/* attention.h: the size of a call; and how the CPU tables cut one clf_attention() into work, and how much scratch that
 * takes; clf_attention_memory() reads the same figures.
 *
 * The query heads of one key/value head, its group, share keys and values: row r of a sequence's group is query r /
 * group of head r % group, so the rows of a block look at nearly the same keys. A unit of work is a block of rows × a
 * range of keys; where there are fewer blocks than threads the keys are split and the unfinished results merged in a
 * fixed order. Sequences take turns, the longest first. */
#ifndef CLF_OPS_ATTENTION_H
#define CLF_OPS_ATTENTION_H

#include <stdbool.h>
#include <stdint.h>

#include <clformer/ops.h>

#include "../core/dtype.h"
#include "../core/tensor.h"

enum {
    CLF_ATTENTION_FEW = 16,   /* up to so many rows of a sequence's group: key by key, dot products (decoding) */
    CLF_ATTENTION_LANES = 16, /* rows of blocks are multiples of it, and so of every table's narrowest panel */
    CLF_ATTENTION_STEP = 64,  /* keys a step, forward */
    CLF_ATTENTION_KEYS = 48,  /* backward */
    CLF_ATTENTION_PART = 128, /* keys of a part, at least */
    CLF_ATTENTION_ROW = 8,    /* floats that a block keeps about each of its rows */
    CLF_ATTENTION_DIM = 256   /* largest head_dim and v_dim */
};

/* Where a device splits the keys over groups of work-items (decoding): up to so many rows, at most so many parts, of so
 * many keys at least. The portable kernels count rows by queries of a sequence; tensor cores by those of its group. And
 * how many floats the parts of a repeated d_mask have there at most. */
enum {
    CLF_ATTENTION_DEVICE_QUERIES = 8,
    CLF_ATTENTION_DEVICE_PARTS = 128,
    CLF_ATTENTION_DEVICE_PART = 256,
    CLF_ATTENTION_TENSOR_ROWS = 16,
    CLF_ATTENTION_TENSOR_PARTS = 64,
    CLF_ATTENTION_TENSOR_PART = 32, /* two tiles of the fewest keys */
    CLF_ATTENTION_MASK_PARTS = 1 << 20
};

/* How many sequences a call has, and how many keys at most one of them (paged: positions that its table has room for).
 */
static inline int64_t clf_attention_sequences(const clf_attention_args *a) {
    return a->query_starts ? a->query_starts->shape[0] - 1 : a->query->shape[0];
}
static inline int64_t clf_attention_keys(const clf_attention_args *a) {
    return a->block_table ? a->block_table->shape[1] * a->key->shape[2] : a->key->shape[2];
}

/* For tables whose tensors are host memory. */
clf_status clf_attention_check_indices(clf_context *ctx, const char *op, const clf_attention_args *args);

/* What a call's scratch follows from. */
typedef struct clf_attention_shape {
    int64_t batch, heads, kv_heads, queries, keys, head_dim, v_dim;
    int64_t sequences;    /* packed or paged: their lengths are known only when they are read; 0: batch, all alike */
    int64_t layout_block; /* 0: no layout */
} clf_attention_shape;

static inline clf_attention_shape clf_attention_shape_of(const clf_attention_args *a) {
    const int64_t *q = a->query->shape;
    return (clf_attention_shape){.batch = q[0],
                                 .heads = q[1],
                                 .kv_heads = a->key->shape[1],
                                 .queries = q[2],
                                 .keys = clf_attention_keys(a),
                                 .head_dim = q[3],
                                 .v_dim = a->value->shape[3],
                                 .sequences = a->query_starts || a->block_table ? clf_attention_sequences(a) : 0,
                                 .layout_block = a->layout_rows ? a->layout_block : 0};
}

/* The turn of one sequence: all its units of work. */
typedef struct clf_attention_turn {
    int64_t sequence, blocks; /* blocks of rows */
    int64_t parts;            /* of the keys */
    int64_t units;            /* of the turns before */
    int64_t waiting;          /* where its unfinished results begin, in floats */
    int64_t cost;
} clf_attention_turn;

/* The units that a thread takes first, [next, end) of all: a part of the whole, so that a head's keys stay in the
 * caches of one thread, or few; then it takes what others haven't yet. A cache line of its own. */
typedef struct clf_attention_share {
    int64_t next, end;
    int64_t unused[6];
} clf_attention_share;

typedef struct clf_attention_plan {
    int64_t group;    /* heads ÷ kv_heads */
    int threads;      /* that take part: all, or one where starting them would cost more */
    int64_t turns;    /* sequences */
    int64_t stretch;  /* rows of a row block of the layout, or all; no block lies across two */
    int64_t block;    /* rows a block, a multiple of CLF_ATTENTION_LANES */
    int64_t splits;   /* of the keys of blocks of many rows */
    int64_t pitch;    /* floats of a query row: head_dim rounded up to whole vectors of any table */
    int64_t v_pitch;  /* of a value row */
    int64_t waiting;  /* floats of unfinished results that wait for others, at most */
    int64_t partial;  /* floats of a block's unfinished result: out, maximum, sum */
    int64_t work;     /* floats that a thread needs besides */
    uint64_t scratch; /* bytes in all: for each thread its share, waiting, for each thread partial and work, turns */
} clf_attention_plan;

/* Blocks of a sequence of `rows`. */
static inline int64_t clf_attention_blocks(const clf_attention_plan *p, int64_t rows) {
    const int64_t each = (p->stretch - 1) / p->block + 1, rest = rows % p->stretch;
    return rows / p->stretch * each + (rest + p->block - 1) / p->block;
}

/* Parts of the keys: the fewest that give every thread the same number of units, or four of them, at least 128 keys
 * each. */
int64_t clf_attention_splits(int64_t units, int64_t keys, int threads);

/* False if a product exceeds 64 bits. Sizes are ≥ 0, heads a multiple of kv_heads, dims ≤ CLF_ATTENTION_DIM, threads
 * ≥ 1. */
bool clf_attention_plan_make(clf_attention_plan *plan, const clf_attention_shape *shape, int threads);

enum {
    CLF_ATTENTION_BACKWARD_ROWS = 96, /* most queries of a block of the backward pass */
    CLF_ATTENTION_PANEL = 32          /* lanes of the widest table's pairs of vectors */
};

/* The backward pass. A unit of work is a batch entry and a key/value head: its sums of d_key and d_value are a thread's
 * own. While every thread can have one, units are done side by side; of those that are left, all threads do one
 * together: each takes some blocks of its queries, and their sums are added in a fixed order. */
typedef struct clf_attention_backward_plan {
    int threads;
    int rows;           /* queries a block */
    int64_t units;      /* batch · kv_heads */
    int64_t alone;      /* the first of them that one thread does each */
    uint64_t sums;      /* floats of a thread's d_key and d_value */
    uint64_t mask_sums; /* of its d_mask, where that is summed over the queries */
    uint64_t head_sums; /* doubles of its d_sinks, and as many of its d_alibi_slopes */
    uint64_t work;      /* floats that a thread needs besides */
    uint64_t scratch;   /* bytes in all */
} clf_attention_backward_plan;

/* As above. d_mask is done by all threads together: queries are then always the same thread's. */
bool clf_attention_backward_plan_make(clf_attention_backward_plan *plan, const clf_attention_shape *shape,
                                      const clf_tensor *d_mask, int threads);

#endif
