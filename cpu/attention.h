/* attention.h: what the forms of attention share: the call as kernels see it, which keys a row sees, and what is added
 * to its scores. Scores are kept in units of log2 e, so that probabilities are 2^(score − maximum). Rows are as in
 * lib/ops/attention.h. */
#ifndef CLF_CPU_ATTENTION_H
#define CLF_CPU_ATTENTION_H

#include <float.h>

#include "../lib/ops/attention.h"
#include "cpu.h"

#define LOG2_E 1.44269504088896340736

typedef struct attention {
    const clf_attention_args *args;
    clf_attention_plan plan;
    int64_t n_queries, n_keys;
    int dim, v_dim;
    float scale; /* · log2 e */
    float cap;   /* softcap · log2 e; 0: none */
    bool biased; /* alibi or mask */
} attention;

/* Rows [row, row + rows) of one group, and the keys [begin, end) that this unit of work looks at. */
typedef struct attention_unit {
    int64_t batch, kv_head, row, begin, end;
    int rows;
} attention_unit;

/* An unfinished result: out · sum, not divided yet, relative to the maximum. */
typedef struct attention_partial {
    float *out; /* [rows][v_pitch] */
    float *max; /* [rows], −inf: no key seen yet */
    float *sum; /* [rows] */
} attention_partial;

/* Each form adds the unit's keys to an empty partial result; `work` is plan.work floats. */
#define attention_few    CPU_FN(attention_few)
#define attention_panels CPU_FN(attention_panels)
void attention_few(const attention *a, const attention_unit *u, const attention_partial *out, float *work);
void attention_panels(const attention *a, const attention_unit *u, const attention_partial *out, float *work);

static inline int64_t attention_query(const attention *a, int64_t row) {
    return row / a->plan.group;
}
static inline int64_t attention_head(const attention *a, const attention_unit *u, int64_t row) {
    return u->kv_head * a->plan.group + row % a->plan.group;
}
/* Address of [x, y, z, 0]. */
static inline char *attention_at(const clf_tensor *t, int64_t x, int64_t y, int64_t z) {
    const int64_t offset = x * t->stride[0] + y * t->stride[1] + z * t->stride[2];
    return (char *)clf_data(t) + offset * (int64_t)clf_dtype_block_bytes(t->dtype);
}

/* Row `row` of a group sees the keys [*first, *end): causal, window and key length are all of this kind. Neither bound
 * falls from row to row. */
static inline void attention_sees(const attention *a, int64_t batch, int64_t row, int64_t *first, int64_t *end) {
    const clf_attention_args *args = a->args;
    const int64_t position = attention_query(a, row) + a->n_keys - a->n_queries;
    *first = args->window && position >= args->window ? position - args->window + 1 : 0;
    *end = a->n_keys;
    if (args->key_lengths) {
        const int64_t length = ((const int32_t *)clf_data(args->key_lengths))[batch * args->key_lengths->stride[0]];
        if (length < *end) *end = length;
    }
    if (args->causal && position + 1 < *end) *end = position + 1;
    if (*end < 0) *end = 0;
    if (*first > *end) *first = *end;
}

static inline float attention_float(const void *p, int64_t i, clf_dtype dtype) {
    if (dtype == CLF_F32) return ((const float *)p)[i];
    return dtype == CLF_F16 ? clf_f16_to_f32(((const uint16_t *)p)[i]) : clf_bf16_to_f32(((const uint16_t *)p)[i]);
}

/* out[j · step] = what alibi and mask add to the score of key + j, in units of log2 e; −inf only where the mask hides.
 */
static inline void attention_bias(const attention *a, const attention_unit *u, int64_t row, int64_t key, int n,
                                  float *out, int step) {
    const clf_attention_args *args = a->args;
    const int64_t query = attention_query(a, row), head = attention_head(a, u, row);
    const int64_t position = query + a->n_keys - a->n_queries;
    const clf_tensor *slopes = args->alibi_slopes, *mask = args->mask;
    const double slope = slopes ? (double)((const float *)clf_data(slopes))[head * slopes->stride[0]] : 0;
    const void *m = NULL;
    if (mask)
        m = attention_at(mask, mask->shape[0] > 1 ? u->batch : 0, mask->shape[1] > 1 ? head : 0,
                         mask->shape[2] > 1 ? query : 0);
    for (int j = 0; j < n; j++) {
        const int64_t distance = key + j < position ? position - key - j : key + j - position;
        const float hide = m ? attention_float(m, mask->shape[3] > 1 ? key + j : 0, mask->dtype) : 0;
        double bias = ((double)hide - slope * (double)distance) * LOG2_E;
        if (bias < -(double)FLT_MAX && hide > -INFINITY) bias = -(double)FLT_MAX;
        out[(int64_t)j * step] = (float)bias;
    }
}

/* The score after soft cap and bias; −inf hides whatever the score is. */
INLINE vf attention_score(vf score, float cap, const float *bias) {
    if (cap > 0) score = v_mul(v_tanh(v_mul(score, v_set1(1 / cap))), v_set1(cap));
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

#endif
