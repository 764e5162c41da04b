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

/* The keys or the values of a unit. */
typedef struct step_rows {
    const clf_tensor *tensor;
    const char *first; /* row 0; not of a paged one */
    int64_t bytes;     /* from row to row */
    bool here;         /* used where they lie */
} step_rows;

typedef struct step {
    bool pairs;
    step_rows k_rows, v_rows;
    int64_t k_stride, v_stride; /* of the runs: bytes; floats */
    int n, pieces, runs;
    const char *after; /* the next step's first key, if it is read where it lies; else this one's */
    step_piece piece[STEP];
    step_run run[STEP];
    int64_t key[STEP];  /* for dropout */
    float offset[STEP]; /* from the first key, for alibi */
} step;

/* Scattered rows are brought together: tiles take several keys at once. */
static inline bool step_scattered(const attention *a, const clf_tensor *t) {
    return a->args->block_table && t->shape[2] < 8;
}

/* Whether scores are made of q and k as they are, two bfloat16s a lane. */
static inline bool step_pairs(const attention *a) {
    const clf_tensor *q = a->args->query, *k = a->args->key;
    return V_PAIRS && q->dtype == CLF_BF16 && k->dtype == CLF_BF16 && a->dim % 2 == 0 && !step_scattered(a, k);
}

static inline step_rows step_rows_of(const attention *a, const attention_unit *u, const clf_tensor *t, bool here) {
    return (step_rows){t, u->s.blocks ? NULL : attention_key_at(t, &u->s, u->kv_head, 0),
                       attention_bytes(t, t->stride[2]), here && !step_scattered(a, t)};
}
static inline const char *step_row(const attention_unit *u, const step_rows *r, int64_t key) {
    return r->first ? r->first + key * r->bytes : attention_key_at(r->tensor, &u->s, u->kv_head, key);
}

/* Before the first step of a unit. */
static inline void step_begin(const attention *a, const attention_unit *u, step *s) {
    const clf_tensor *k = a->args->key, *v = a->args->value;
    s->pairs = step_pairs(a);
    s->k_rows = step_rows_of(a, u, k, k->dtype == CLF_F32 || s->pairs);
    s->v_rows = step_rows_of(a, u, v, v->dtype == CLF_F32 && a->v_dim % VL == 0);
    s->k_stride = s->k_rows.here ? s->k_rows.bytes : a->pitch * (int64_t)sizeof(float);
    s->v_stride = s->v_rows.here ? v->stride[2] : a->v_pitch;
}

/* The keys [key, key + n), of one piece, as runs from `at` on. */
static inline void step_add(const attention *a, const attention_unit *u, step *s, int64_t key, int n, float *k,
                            float *v) {
    for (int done = 0, m; done < n; done += m) {
        m = (int)attention_even(a, &u->s, key + done, n - done);
        const char *k_row = step_row(u, &s->k_rows, key + done), *v_row = step_row(u, &s->v_rows, key + done);
        step_run r = {.at = s->n + done, .n = m};
        r.k = s->k_rows.here ? k_row : (const char *)(k + r.at * a->pitch);
        r.v = s->v_rows.here ? (const float *)(const void *)v_row : v + r.at * a->v_pitch;
        if (!s->v_rows.here) /* before the keys, which are needed first and then still in the cache */
            attention_convert(v_row, s->v_rows.bytes, a->args->value->dtype, m, a->v_dim, a->v_pitch,
                              v + r.at * a->v_pitch);
        if (!s->k_rows.here)
            attention_convert(k_row, s->k_rows.bytes, a->args->key->dtype, m, a->dim, a->pitch, k + r.at * a->pitch);
        if (s->runs && !s->k_rows.here && !s->v_rows.here)
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
    if (s->k_rows.here && !s->pairs && attention_walk_on(&next, 1, &key)) s->after = step_row(u, &s->k_rows, key);
    return s->n;
}

/* Rows that a product of floats fetches, as many as it has keys: keys to come, and the values of its own; as far as the
 * second level of caches, since a step's keys and values fill the first. */
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
            __builtin_prefetch(next.k + r * s->k_stride + d * (int)sizeof(float), 0, 2);
            __builtin_prefetch(next.v + r * s->v_stride + d, 0, 2);
        }
        attention_multiply(acc, keys, columns, a->dim - d < part ? a->dim - d : part, x + d,
                           s->k_stride / (int)sizeof(float), 1, q + d * columns * VL, columns * VL);
    } while (next.v && (d += part) < a->dim);
}

#endif
