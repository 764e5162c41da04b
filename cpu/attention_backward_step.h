/* attention_backward_step.h: a step of keys against a block of queries: what they see of it, P and dS, and the three
 * products. What a query does not see is left out, by tiles of P and dS and by single queries and keys of the products,
 * and hidden by comparison where the border crosses a tile. Each product starts from zero and is added once, so float32
 * error doesn't grow with the sequence. */
#ifndef CLF_CPU_ATTENTION_BACKWARD_STEP_H
#define CLF_CPU_ATTENTION_BACKWARD_STEP_H

#include "attention_backward.h"
#include "attention_tile.h"

enum { STEP = ATTENTION_STEP, BLOCK = ATTENTION_BLOCK, TILES = STEP / ROWS };
_Static_assert(STEP % ROWS == 0 && BLOCK % ROWS == 0, "steps and blocks are whole tiles");
_Static_assert(BLOCK % PANEL == 0 && PANEL <= (int)CLF_ATTENTION_PANEL, "blocks are whole panels");

typedef struct attention_step {
    const float *k, *v; /* its keys and values as rows of floats */
    int64_t k_stride, v_stride;
    int64_t key; /* its first one */
    int n;
    bool border;                    /* not all queries see all of it: */
    float first[BLOCK], end[BLOCK]; /* query i sees its keys [first, end) */
    int rows[TILES][2];             /* queries [begin, end) that see any key of a tile */
} attention_step;

/* What the queries of a block see, in keys of the sequence. */
typedef struct attention_sights {
    int64_t first[BLOCK], end[BLOCK];
} attention_sights;

static inline int step_clip(int64_t x, int n) {
    return x < 0 ? 0 : x > n ? n : (int)x;
}

/* Sets what the queries see of a step; lanes beyond them see what the last one sees. Neither bound falls. */
static inline void step_look(attention_step *s, const attention_block *q, const attention_sights *all) {
    s->border = all->first[q->rows - 1] > s->key || all->end[0] < s->key + s->n;
    for (int i = 0; i < TILES; i++) {
        s->rows[i][0] = 0;
        s->rows[i][1] = q->rows;
    }
    if (!s->border) return;
    for (int i = 0; i < BLOCK; i++) {
        const int r = i < q->rows ? i : q->rows - 1;
        s->first[i] = (float)step_clip(all->first[r] - s->key, s->n);
        s->end[i] = (float)step_clip(all->end[r] - s->key, s->n);
    }
    for (int i = 0, begin = 0, end = 0; i < TILES; i++) {
        while (begin < q->rows && s->end[begin] <= (float)(i * ROWS)) begin++;
        while (end < q->rows && s->first[end] < (float)((i + 1) * ROWS)) end++;
        s->rows[i][0] = begin;
        s->rows[i][1] = end;
    }
}

/* P, or the scores themselves if `raw`, of `rows` keys from j on and `columns` vectors of queries from `lane` on. */
INLINE void step_score_tile(const attention *a, const attention_step *s, const attention_scratch *t, int j, int lane,
                            const int rows, const int columns, const bool raw) {
    vf acc[ROWS * COLUMNS];
    tile_product(acc, rows, columns, a->dim, s->k + j * s->k_stride, s->k_stride, 1,
                 t->q_panels + lane / PANEL * PANEL * a->pitch + lane % PANEL, PANEL);
    const vf cap = v_set1(a->cap), shrink = v_set1(1 / a->cap), one = v_set1(1), hidden = v_set1(-INFINITY);
    UNROLL for (int r = 0; r < rows; r++) {
        const vf key = v_set1((float)(j + r));
        UNROLL for (int c = 0; c < columns; c++) {
            const int i = lane + c * VL, at = (j + r) * BLOCK + i;
            vf x = acc[r * columns + c], bend = one;
            if (a->cap > 0) {
                const vf bent = v_tanh(v_mul(x, shrink));
                bend = v_nfma(bent, bent, one);
                x = v_mul(bent, cap);
            }
            if (a->biased) {
                const vf bias = v_load(t->bias + at);
                x = v_ge_or(bias, v_set1(-FLT_MAX), v_add(x, bias), bias);
            }
            if (s->border) {
                x = v_ge_or(key, v_load(s->first + i), x, hidden);
                x = v_ge_or(key, v_load(s->end + i), hidden, x);
            }
            if (a->cap > 0) v_store(t->bend + at, v_ge_or(x, v_set1(-FLT_MAX), bend, v_set1(0)));
            v_store(t->p + at, raw ? x : v_exp2(v_sub(x, v_load(t->base + i))));
        }
    }
}

/* dS of the same tile. */
INLINE void step_slope_tile(const attention *a, const attention_step *s, const attention_scratch *t, int j, int lane,
                            const int rows, const int columns) {
    vf acc[ROWS * COLUMNS];
    tile_product(acc, rows, columns, a->v_dim, s->v + j * s->v_stride, s->v_stride, 1,
                 t->g_panels + lane / PANEL * PANEL * a->v_pitch + lane % PANEL, PANEL);
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int c = 0; c < columns; c++) {
        const int i = lane + c * VL, at = (j + r) * BLOCK + i;
        vf x = acc[r * columns + c];
        if (a->least) x = v_mul(x, v_load(t->keep + at));
        v_store(t->ds + at, v_mul(v_load(t->p + at), v_sub(x, v_load(t->delta + i))));
    }
}

INLINE void step_tiles(const attention_backward *b, const attention_step *s, const attention_scratch *t, int j,
                       int lane, const int rows, const int columns, const bool raw) {
    step_score_tile(&b->a, s, t, j, lane, rows, columns, raw);
    if (b->scores && !raw) step_slope_tile(&b->a, s, t, j, lane, rows, columns);
}

static inline void step_fetch(const float *p, int64_t n) {
    for (int64_t i = 0; i < n; i += 16) __builtin_prefetch(p + i);
}

/* P, dS and its bend of a vector of queries and the keys [j, end) that none of them sees. */
static inline void step_clear(const attention_scratch *t, int lane, int j, int end, float p) {
    for (; j < end; j++) {
        v_store(t->p + j * BLOCK + lane, v_set1(p));
        v_store(t->ds + j * BLOCK + lane, v_set1(0));
        v_store(t->bend + j * BLOCK + lane, v_set1(0));
    }
}

/* P and dS of a step, or P alone as scores if `raw`. The last tile of keys may take some again. */
INLINE void step_scores(const attention_backward *b, const attention_block *q, const attention_step *s,
                        const attention_scratch *t, const bool raw) {
    for (int lane = 0; lane < q->rows; lane += PANEL) {
        const int vectors = q->rows - lane > VL ? 2 : 1;
        int begin[COLUMNS] = {0, 0}, end[COLUMNS] = {s->n, vectors == 2 ? s->n : 0};
        for (int c = 0; s->border && c < vectors; c++) {
            const int first = lane + c * VL;
            begin[c] = (int)s->first[first];
            end[c] = (int)s->end[first + VL - 1];
            step_clear(t, first, 0, begin[c], raw ? -INFINITY : 0);
            step_clear(t, first, end[c], s->n, raw ? -INFINITY : 0);
        }
        const int stop = end[1] > end[0] ? end[1] : end[0];
        for (int i = begin[0]; i < stop; i += ROWS) {
            if (s->n < ROWS) {
                for (int j = i; j < stop; j++)
                    for (int c = 0; c < vectors; c++) step_tiles(b, s, t, j, lane + c * VL, 1, 1, raw);
                break;
            }
            const int j = i + ROWS > s->n ? s->n - ROWS : i;
            const bool low = end[0] > j, high = vectors == 2 && end[1] > j && begin[1] < j + ROWS;
            if (lane == 0 && !raw) /* the sums that this step adds to */
                for (int r = 0; r < ROWS; r++) {
                    step_fetch(t->d_key + (q->s.key + s->key + j + r) * b->a.pitch, b->a.dim);
                    step_fetch(t->d_value + (q->s.key + s->key + j + r) * b->a.v_pitch, b->a.v_dim);
                }
            if (low && high)
                step_tiles(b, s, t, j, lane, ROWS, 2, raw);
            else if (low || high)
                step_tiles(b, s, t, j, lane + (high ? VL : 0), ROWS, 1, raw);
        }
    }
}

/* sums[j] += Σ_i w[j][i] x[i] over a step's keys and the queries that see them. */
INLINE void step_key_tile(const attention_step *s, int tile, const float *w, const float *columns, float *sums,
                          int64_t pitch, const int vectors) {
    vf acc[ROWS * COLUMNS];
    const int j = tile * ROWS, begin = s->rows[tile][0], end = s->rows[tile][1];
    tile_product(acc, ROWS, vectors, end - begin, w + j * BLOCK + begin, BLOCK, 1, columns + begin * PANEL, PANEL);
    UNROLL for (int r = 0; r < ROWS; r++) {
        float *to = sums + (j + r) * pitch;
        UNROLL for (int c = 0; c < vectors; c++) if (j + r < s->n)
            v_store(to + c * VL, v_add(v_load(to + c * VL), acc[r * vectors + c]));
    }
}

static inline void step_add_keys(const attention_step *s, const float *w, const float *columns, int dim, float *sums,
                                 int64_t pitch) {
    for (int d = 0; d < dim; d += PANEL, columns += BLOCK * PANEL)
        for (int tile = 0; tile * ROWS < s->n; tile++) {
            if (s->rows[tile][0] >= s->rows[tile][1]) continue;
            if (dim - d > VL)
                step_key_tile(s, tile, w, columns, sums + d, pitch, 2);
            else
                step_key_tile(s, tile, w, columns, sums + d, pitch, 1);
        }
}

/* d_query[i] += Σ_j dS[j][i] k_j over the keys that the queries of a tile see. */
INLINE void step_query_tile(const attention *a, const attention_step *s, const attention_scratch *t, int i, int begin,
                            int end, int d, const int vectors) {
    vf acc[ROWS * COLUMNS];
    tile_product(acc, ROWS, vectors, end - begin, t->ds + begin * BLOCK + i, 1, BLOCK, s->k + begin * s->k_stride + d,
                 s->k_stride);
    UNROLL for (int r = 0; r < ROWS; r++) {
        float *to = t->d_query + (i + r) * a->pitch + d;
        UNROLL for (int c = 0; c < vectors; c++) v_store(to + c * VL, v_add(v_load(to + c * VL), acc[r * vectors + c]));
    }
}

static inline void step_add_queries(const attention *a, const attention_block *q, const attention_step *s,
                                    const attention_scratch *t) {
    for (int d = 0; d < a->dim; d += PANEL)
        for (int i = 0; i < q->rows; i += ROWS) {
            const int begin = s->border ? (int)s->first[i] : 0, end = s->border ? (int)s->end[i + ROWS - 1] : s->n;
            if (begin >= end) continue;
            if (a->dim - d > VL)
                step_query_tile(a, s, t, i, begin, end, d, 2);
            else
                step_query_tile(a, s, t, i, begin, end, d, 1);
        }
}

#endif
