/* attention_step.h: a step of keys and values as rows of floats: where they lie if they are float32 in whole vectors,
 * else converted; keys also as the pairs of bfloat16s that they are, where the table multiplies such. Keys of a step
 * needn't follow one another: pieces say which they are, runs where they lie evenly. */
#ifndef CLF_CPU_ATTENTION_STEP_H
#define CLF_CPU_ATTENTION_STEP_H

#include "attention_forward.h"

enum { STEP = CLF_ATTENTION_STEP, LINE = 16 /* floats of a cache line */ };

/* Keys key … key + n − 1 are those from `at` on. */
typedef struct step_piece {
    int64_t key;
    int at, n;
} step_piece;

typedef struct step_run {
    const char *k; /* of key `at`: floats, or pairs */
    const float *v;
    int at, n;
} step_run;

typedef struct step {
    int n, pieces, runs;
    bool pairs;
    const char *after;          /* the next step's first key, if it is read where it lies; else this one's */
    int64_t k_stride, v_stride; /* bytes; floats */
    step_piece piece[STEP];
    step_run run[STEP];
    int64_t key[STEP];  /* for dropout */
    float offset[STEP]; /* from the first key, for alibi */
} step;

/* Scattered rows are brought together: tiles take several keys at once. */
static inline bool step_scattered(const attention *a, const clf_tensor *t) {
    return a->args->block_table && t->shape[2] < 8;
}

/* Whether rows of `t` are used where they lie as floats. */
static inline bool step_in_place(const attention *a, const clf_tensor *t, bool whole) {
    return t->dtype == CLF_F32 && !step_scattered(a, t) && (!whole || t->shape[3] % VL == 0);
}

/* Whether scores are made of q and k as they are, two bfloat16s a lane. */
static inline bool step_pairs(const attention *a) {
    const clf_tensor *q = a->args->query, *k = a->args->key;
    return V_PAIRS && q->dtype == CLF_BF16 && k->dtype == CLF_BF16 && a->dim % 2 == 0 && !step_scattered(a, k);
}

/* The keys [key, key + n), of one piece, as runs from `at` on. */
static inline void step_add(const attention *a, const attention_unit *u, step *s, int64_t key, int n, float *k,
                            float *v) {
    const clf_tensor *keys = a->args->key, *values = a->args->value;
    const bool k_here = s->pairs || step_in_place(a, keys, false), v_here = step_in_place(a, values, true);
    s->k_stride = k_here ? attention_bytes(keys, keys->stride[2]) : a->pitch * (int64_t)sizeof(float);
    s->v_stride = v_here ? values->stride[2] : a->v_pitch;
    for (int done = 0, m; done < n; done += m) {
        m = (int)attention_even(a, &u->s, key + done, n - done);
        const char *k_row = attention_key_at(keys, &u->s, u->kv_head, key + done);
        const char *v_row = attention_key_at(values, &u->s, u->kv_head, key + done);
        step_run r = {.at = s->n + done, .n = m};
        r.k = k_here ? k_row : (const char *)(k + r.at * a->pitch);
        r.v = v_here ? (const float *)(const void *)v_row : v + r.at * a->v_pitch;
        if (!v_here) /* before the keys, which are needed first and then still in the cache */
            attention_convert(v_row, attention_bytes(values, values->stride[2]), values->dtype, m, a->v_dim, a->v_pitch,
                              v + r.at * a->v_pitch);
        if (!k_here)
            attention_convert(k_row, attention_bytes(keys, keys->stride[2]), keys->dtype, m, a->dim, a->pitch,
                              k + r.at * a->pitch);
        if (s->runs && !k_here && !v_here)
            s->run[0].n += m;
        else
            s->run[s->runs++] = r;
    }
}

/* The next keys of the walk, up to STEP; 0 at the end. `k` and `v` have room for so many rows. */
static inline int step_take(const attention *a, const attention_unit *u, attention_walk *walk, step *s, float *k,
                            float *v) {
    int64_t key, n;
    s->n = s->pieces = s->runs = 0;
    s->pairs = step_pairs(a);
    while (s->n < STEP && (n = attention_walk_on(walk, STEP - s->n, &key)) > 0) {
        step_add(a, u, s, key, (int)n, k, v);
        s->piece[s->pieces++] = (step_piece){key, s->n, (int)n};
        for (int j = 0; (a->least || a->args->alibi_slopes) && j < n; j++) {
            s->key[s->n + j] = key + j;
            s->offset[s->n + j] = (float)(key + j - s->piece[0].key);
        }
        s->n += (int)n;
    }
    s->after = s->run[0].k;
    attention_walk next = *walk;
    if (step_in_place(a, a->args->key, false) && attention_walk_on(&next, 1, &key))
        s->after = attention_key_at(a->args->key, &u->s, u->kv_head, key);
    return s->n;
}

/* Rows that a product of floats fetches, as many as it has keys: the values of its keys, and the keys that come next.
 */
typedef struct step_fetch {
    const char *k;
    const float *v; /* NULL: nothing */
} step_fetch;

/* acc[r][c] = key r · the queries of vector c, times scale · log2 e; `k` is the first of the keys, q
 * [dim][columns][VL], scaled, or as they are in pairs. For each line of the keys that is multiplied a line of each row
 * of `next` is fetched: all at once leave what the product itself reads waiting. */
INLINE void step_multiply(const attention *a, const step *s, const char *k, const float *q, vf *acc, step_fetch next,
                          const int keys, const int columns) {
    UNROLL for (int i = 0; i < keys * columns; i++) acc[i] = v_set1(0);
#if V_PAIRS
    if (s->pairs) {
        for (int d = 0; d < a->dim; d += 2, k += sizeof(float), q += columns * VL) {
            vf x[4];
            UNROLL for (int c = 0; c < columns; c++) x[c] = v_load(q + c * VL);
            UNROLL for (int r = 0; r < keys; r++) {
                const vf w = v_set1_pair(k + r * s->k_stride);
                UNROLL for (int c = 0; c < columns; c++) acc[r * columns + c] =
                    v_dot_pairs(w, x[c], acc[r * columns + c]);
            }
        }
        UNROLL for (int i = 0; i < keys * columns; i++) acc[i] = v_mul(acc[i], v_set1(a->scale));
        return;
    }
#endif
    const float *x = (const float *)(const void *)k;
    const int part = next.v ? LINE : a->dim;
    int d = 0;
    do {
        for (int r = 0; next.v && r < keys; r++) {
            __builtin_prefetch(next.k + r * s->k_stride + d * (int)sizeof(float));
            __builtin_prefetch(next.v + r * s->v_stride + d);
        }
        attention_multiply(acc, keys, columns, a->dim - d < part ? a->dim - d : part, x + d,
                           s->k_stride / (int)sizeof(float), 1, q + d * columns * VL, columns * VL);
    } while (next.v && (d += part) < a->dim);
}

#endif
