/* attention.h: a call of attention, forward or backward, as the kernels see it: its sequences, which keys a query sees
 * and where they lie, what is added to their scores, and which probabilities dropout keeps. Queries and keys are
 * counted within their sequence. Scores are kept in units of log2 e, so that probabilities are 2^(score − maximum). */
#ifndef CLF_CPU_ATTENTION_H
#define CLF_CPU_ATTENTION_H

#include <float.h>

#include "../lib/ops/attention.h"
#include "cpu.h"
#include "philox.h"

#define LOG2_E 1.44269504088896340736

typedef struct attention {
    const clf_attention_args *args;
    int64_t sequences, group; /* query heads of a key/value head */
    int dim, v_dim;
    int pitch, v_pitch; /* floats of their rows in scratch: whole vectors */
    float scale;        /* · log2 e */
    float cap;          /* softcap · log2 e; 0: none */
    bool biased;        /* alibi or mask */
    uint32_t least;     /* dropout keeps words from it on; 0: all */
} attention;

static inline attention attention_of(const clf_attention_args *args) {
    const int64_t kv_heads = args->key->shape[1];
    return (attention){.args = args,
                       .sequences = clf_attention_sequences(args),
                       .group = kv_heads ? args->query->shape[1] / kv_heads : 0,
                       .dim = (int)args->query->shape[3],
                       .v_dim = (int)args->value->shape[3],
                       .pitch = ((int)args->query->shape[3] + 15) / 16 * 16,
                       .v_pitch = ((int)args->value->shape[3] + 15) / 16 * 16,
                       .scale = (float)((double)args->scale * LOG2_E),
                       .cap = (float)((double)args->softcap * LOG2_E),
                       .biased = args->alibi_slopes || args->mask,
                       .least = (uint32_t)ceil((double)args->dropout * 0x1p32)};
}

/* One sequence: its queries are the rows query … query + n_queries − 1 of entry `batch`, its keys the rows from `key`
 * on, unless they lie in blocks. */
typedef struct attention_sequence {
    int64_t index; /* among those of the call */
    int64_t batch;
    int64_t query, n_queries;
    int64_t key, n_keys;   /* the last query stands at the last key */
    int64_t seen;          /* keys from it on are hidden */
    const int32_t *blocks; /* NULL: not paged */
} attention_sequence;

static inline int64_t attention_index(const clf_tensor *t, int64_t i) {
    return ((const int32_t *)clf_data(t))[i * t->stride[0]];
}

static inline attention_sequence attention_sequence_of(const attention *a, int64_t s) {
    const clf_attention_args *args = a->args;
    attention_sequence q = {.index = s, .batch = s, .n_queries = args->query->shape[2], .n_keys = args->key->shape[2]};
    if (args->query_starts) {
        q.batch = 0;
        q.query = attention_index(args->query_starts, s);
        q.n_queries = attention_index(args->query_starts, s + 1) - q.query;
    }
    if (args->key_starts) {
        q.key = attention_index(args->key_starts, s);
        q.n_keys = attention_index(args->key_starts, s + 1) - q.key;
    }
    q.seen = q.n_keys;
    if (args->block_table) {
        q.seen = q.n_keys = attention_index(args->key_lengths, s);
        q.blocks = (const int32_t *)clf_data(args->block_table) + s * args->block_table->stride[0];
    } else if (args->key_lengths) {
        const int64_t length = attention_index(args->key_lengths, s);
        q.seen = length < 0 ? 0 : length < q.n_keys ? length : q.n_keys;
    }
    return q;
}

/* Bytes of n elements, whole blocks of them: no division where there are no blocks, this is done for every few keys. */
static inline int64_t attention_bytes(const clf_tensor *t, int64_t n) {
    if (t->dtype == CLF_Q8_0) return n / 32 * 34;
    if (t->dtype == CLF_Q4_0) return n / 32 * 18;
    return n * (int64_t)cpu_bytes(t->dtype);
}
/* Address of [x, y, z, 0]. */
static inline char *attention_at(const clf_tensor *t, int64_t x, int64_t y, int64_t z) {
    return (char *)clf_data(t) + attention_bytes(t, x * t->stride[0] + y * t->stride[1] + z * t->stride[2]);
}
/* Address of key or value `j`. */
static inline char *attention_key_at(const clf_tensor *t, const attention_sequence *s, int64_t kv_head, int64_t j) {
    if (!s->blocks) return attention_at(t, s->batch, kv_head, s->key + j);
    const int64_t size = t->shape[2];
    return attention_at(t, s->blocks[j / size], kv_head, j % size);
}
/* Keys from `j` on, of at most n, that lie evenly one after another. */
static inline int64_t attention_even(const attention *a, const attention_sequence *s, int64_t j, int64_t n) {
    if (!s->blocks) return n;
    const int64_t size = a->args->key->shape[2], left = size - j % size;
    return n < left ? n : left;
}

/* Query `i` sees keys of [*first, *end) only: causal, windows and the key length are all of this kind. Neither bound
 * falls from query to query. */
static inline void attention_sees(const attention *a, const attention_sequence *s, int64_t i, int64_t *first,
                                  int64_t *end) {
    const clf_attention_args *args = a->args;
    const int64_t position = i + s->n_keys - s->n_queries, right = args->causal ? 1 : args->window_right;
    *first = args->window && position >= args->window ? position - args->window + 1 : 0;
    *end = s->seen;
    if (right && position < *end && right <= *end - position) *end = position + right;
    if (*end < 0) *end = 0;
    if (*first > *end) *first = *end;
}

/* A walk over the keys of [key, end) that the layout, if there is one, shows to the row block of one query. */
typedef struct attention_walk {
    int64_t key, stop, end;    /* the next key; where the layout's blocks in hand end; where all ends */
    int64_t entry, last;       /* of layout_columns: not taken yet */
    int64_t block;             /* keys of a layout's block */
    const clf_tensor *columns; /* NULL: no layout */
} attention_walk;

static inline attention_walk attention_walk_of(const attention *a, int64_t query, int64_t begin, int64_t end) {
    const clf_tensor *rows = a->args->layout_rows;
    attention_walk w = {.key = begin, .stop = rows ? begin : end, .end = end, .block = a->args->layout_block};
    if (!rows) return w;
    const int64_t r = query / w.block;
    w.columns = a->args->layout_columns;
    if (r + 1 >= rows->shape[0]) return w;
    w.entry = attention_index(rows, r);
    w.last = attention_index(rows, r + 1);
    return w;
}

/* Takes up to `most` keys that follow one another from *key on; returns how many, 0 at the end. */
static inline int64_t attention_walk_on(attention_walk *w, int64_t most, int64_t *key) {
    while (w->key >= w->stop && w->entry < w->last) { /* adjacent blocks are taken together */
        int64_t column = attention_index(w->columns, w->entry);
        if (column * w->block > w->key) w->key = column * w->block;
        while (++w->entry < w->last && attention_index(w->columns, w->entry) == column + 1) column++;
        w->stop = (column + 1) * w->block;
    }
    *key = w->key;
    const int64_t stop = w->stop < w->end ? w->stop : w->end, left = stop - w->key;
    if (left <= 0) return 0;
    const int64_t n = left < most ? left : most;
    w->key += n;
    return n;
}

static inline float attention_float(const void *p, int64_t i, clf_dtype dtype) {
    if (dtype == CLF_F32) return ((const float *)p)[i];
    return dtype == CLF_F16 ? clf_f16_to_f32(((const uint16_t *)p)[i]) : clf_bf16_to_f32(((const uint16_t *)p)[i]);
}

/* VL elements of a row of Q8_0 (d, int8[32]) or Q4_0 (d, low nibbles, high nibbles) from element d on. */
INLINE vf attention_decode(const char *row, int d, clf_dtype dtype) {
    if (dtype == CLF_Q8_0) {
        const char *block = row + d / 32 * 34;
        return v_mul(v_set1_f16(block), v_load_i8(block + 2 + d % 32));
    }
    const char *block = row + d / 32 * 18;
    return v_mul(v_set1_f16(block), v_sub(v_load_u4(block + 2 + d % 16, d % 32 >= 16), v_set1(8)));
}

/* n elements from element d of a row on; n is VL but for the last of a row. */
INLINE vf attention_load(const char *row, int d, int n, clf_dtype dtype) {
    const char *at = row + (size_t)d * cpu_bytes(dtype);
    return n < VL ? v_load_as_n(at, n, dtype) : v_load_as(at, dtype);
}

/* Rows of floats from n rows of elements, padded to whole vectors with zeros. */
static inline void attention_convert(const char *from, int64_t stride, clf_dtype dtype, int n, int dim, int64_t pitch,
                                     float *out) {
    if (clf_dtype_is_block(dtype)) {
        for (int j = 0; j < n; j++)
            for (int d = 0; d < dim; d += VL)
                v_store(out + j * pitch + d, attention_decode(from + j * stride, d, dtype));
        return;
    }
    CPU_FOR_DTYPE(DTYPE, dtype, {
        for (int j = 0; j < n; j++)
            for (int d = 0; d < dim; d += VL)
                v_store(out + j * pitch + d, attention_load(from + j * stride, d, dim - d, DTYPE));
    });
}

/* acc[r][c] += Σ_k a[r·ar + k·ak] b[k·bk + c·VL] */
INLINE void attention_multiply(vf *acc, const int rows, const int columns, int64_t n, const float *a, int64_t ar,
                               int64_t ak, const float *b, int64_t bk) {
    for (int64_t k = 0; k < n; k++, a += ak, b += bk) {
        vf x[4];
        UNROLL for (int c = 0; c < columns; c++) x[c] = v_load(b + c * VL);
        UNROLL for (int r = 0; r < rows; r++) {
            const vf w = v_set1(a[r * ar]);
            UNROLL for (int c = 0; c < columns; c++) acc[r * columns + c] = v_fma(w, x[c], acc[r * columns + c]);
        }
    }
}

/* out[j · step] = what alibi and mask add to the score of key + j, in units of log2 e; −inf only where the mask hides.
 */
static inline void attention_bias(const attention *a, const attention_sequence *s, int64_t head, int64_t query,
                                  int64_t key, int n, float *out, int step) {
    const clf_attention_args *args = a->args;
    const int64_t position = query + s->n_keys - s->n_queries;
    const clf_tensor *slopes = args->alibi_slopes, *mask = args->mask;
    const double slope = slopes ? (double)((const float *)clf_data(slopes))[head * slopes->stride[0]] : 0;
    const void *m = NULL;
    if (mask)
        m = attention_at(mask, mask->shape[0] > 1 ? s->batch : 0, mask->shape[1] > 1 ? head : 0,
                         mask->shape[2] > 1 ? s->query + query : 0);
    for (int j = 0; j < n; j++) {
        const int64_t distance = key + j < position ? position - key - j : key + j - position;
        const float hide = m ? attention_float(m, mask->shape[3] > 1 ? s->key + key + j : 0, mask->dtype) : 0;
        double bias = ((double)hide - slope * (double)distance) * LOG2_E;
        if (bias < -(double)FLT_MAX && hide > -INFINITY) bias = -(double)FLT_MAX;
        out[(int64_t)j * step] = (float)bias;
    }
}

/* The score after the soft cap. */
INLINE vf attention_cap(vf score, float cap) {
    return cap > 0 ? v_mul(v_tanh(v_mul(score, v_set1(1 / cap))), v_set1(cap)) : score;
}

/* The score after soft cap and bias; −inf hides whatever the score is. */
INLINE vf attention_score(vf score, float cap, const float *bias) {
    score = attention_cap(score, cap);
    if (bias) {
        const vf b = v_load(bias);
        score = v_ge_or(b, v_set1(-FLT_MAX), v_add(score, b), b);
    }
    return score;
}

/* The maximum to subtract: where no key is seen, 0 instead of −inf, since −inf − −inf is no number. */
INLINE vf attention_base(vf max) {
    return v_ge_or(max, v_set1(-FLT_MAX), max, v_set1(0));
}

/* The words that decide about the keys 4·quad … 4·quad + 3, for a vector of queries and heads: dropout keeps p of key
 * 4·quad + k where word[k] ≥ least (vu_keep), and divides it by 1 − dropout. */
INLINE void attention_dropout(const attention *a, const attention_sequence *s, vu query, vu head, int64_t quad,
                              vu word[4]) {
    word[0] = vu_set1((uint32_t)quad);
    word[1] = query;
    word[2] = head;
    word[3] = vu_set1((uint32_t)s->index);
    philox(word, a->args->dropout_seed);
}

#endif
