/* attention_panels.c: attention for many rows. Everything is done on the transposed scores, with rows along the lanes:
 * q is transposed once per block into panels of PANEL rows; keys and values are read where they lie (or converted, a
 * step at a time), and the softmax needs no horizontal step. Per step of keys and panel:
 *
 *   score[key][lane] = k · q         tiles of KEYS keys × LANES vectors
 *   p = 2^(score − max)
 *   out[row] = α out[row] + Σ p[key][row] v[key]     tiles of ROWS rows × COLUMNS vectors of v_dim
 *
 * Each step's products start from zero and are added once, so float32 error doesn't grow with the number of keys. What
 * a row does not see is left out tile by tile, and hidden by comparison only in the tiles that the border crosses. */
#include "attention_forward.h"

#if defined(__AVX512F__) || (defined(__ARM_NEON) && !defined(CLF_SIMD_OFF)) /* 24 accumulators of 32 registers */
enum { KEYS = 8, LANES = 3, ROWS = 12, COLUMNS = 2 };
#elif defined(__AVX2__) /* 12 or 8 of 16 */
enum { KEYS = 6, LANES = 2, ROWS = 4, COLUMNS = 2 };
#else
enum { KEYS = 3, LANES = 4, ROWS = 4, COLUMNS = 2 };
#endif
enum { PANEL = LANES * VL, STEP = CLF_ATTENTION_KEYS };
_Static_assert(PANEL % ROWS == 0, "a panel holds whole row tiles");
_Static_assert(CLF_ATTENTION_LANES % PANEL == 0, "a block holds whole panels");

/* One step of keys, as rows of floats. */
typedef struct step {
    const float *k, *v;
    int64_t k_stride, v_stride;
    int n;
} step;

/* A panel against a step. */
typedef struct panel {
    const float *q;                    /* [dim][PANEL] */
    float *score;                      /* [STEP][PANEL] */
    const float *bias;                 /* [STEP][PANEL]; NULL: none */
    float *max, *sum, *out;            /* of its first row */
    float first[PANEL], end_of[PANEL]; /* each lane sees [first, end_of), counted from the step's first key */
    int begin, end;                    /* what any lane sees of the step */
    int all_begin, all_end;            /* what all lanes see */
} panel;

/* acc[r][c] += Σ_k a[r·ar + k·ak] b[k·bk + c·VL] */
INLINE void multiply(vf *acc, const int rows, const int columns, int64_t n, const float *a, int64_t ar, int64_t ak,
                     const float *b, int64_t bk) {
    for (int64_t k = 0; k < n; k++, a += ak, b += bk) {
        vf x[4];
        UNROLL for (int c = 0; c < columns; c++) x[c] = v_load(b + c * VL);
        UNROLL for (int r = 0; r < rows; r++) {
            const vf w = v_set1(a[r * ar]);
            UNROLL for (int c = 0; c < columns; c++) acc[r * columns + c] = v_fma(w, x[c], acc[r * columns + c]);
        }
    }
}

/* Scores of `keys` keys from `j` on, with cap, bias and what the lanes don't see; raises max. */
INLINE void score_tile(const attention *a, const step *s, const panel *p, int j, vf *max, const int keys) {
    vf acc[KEYS * LANES];
    UNROLL for (int i = 0; i < keys * LANES; i++) acc[i] = v_set1(0);
    multiply(acc, keys, LANES, a->dim, s->k + j * s->k_stride, s->k_stride, 1, p->q, PANEL);
    const bool border = j < p->all_begin || j + keys > p->all_end, change = a->cap > 0 || p->bias;
    UNROLL for (int r = 0; r < keys; r++) {
        const vf key = v_set1((float)(j + r)), hidden = v_set1(-INFINITY);
        UNROLL for (int c = 0; c < LANES; c++) {
            vf x = acc[r * LANES + c];
            if (change) x = attention_score(x, a->cap, p->bias ? p->bias + (j + r) * PANEL + c * VL : NULL);
            if (border) {
                x = v_ge_or(key, v_load(p->first + c * VL), x, hidden);
                x = v_ge_or(key, v_load(p->end_of + c * VL), hidden, x);
            }
            max[c] = v_max(max[c], x);
            v_store(p->score + (j + r) * PANEL + c * VL, x);
        }
    }
}

static inline void fetch(const float *p, int n) {
    for (int i = 0; i < n; i += 16) __builtin_prefetch(p + i);
}

/* Scores of the panel, then p in their place; updates max and sum; alpha[lane] is what the earlier result shrinks by.
 */
static void softmax_panel(const attention *a, const step *s, const panel *p, float *alpha, bool fetch_values) {
    vf max[LANES], sum[LANES], base[LANES];
    UNROLL for (int c = 0; c < LANES; c++) max[c] = v_load(p->max + c * VL);
    int j = p->begin;
    for (; j + KEYS <= p->end; j += KEYS) {
        if (fetch_values) /* values are read by columns next, which the hardware doesn't foresee */
            for (int i = 0; i < KEYS; i++) fetch(s->v + (j + i) * s->v_stride, a->v_dim);
        score_tile(a, s, p, j, max, KEYS);
    }
    for (; j < p->end; j++) score_tile(a, s, p, j, max, 1);
    UNROLL for (int c = 0; c < LANES; c++) {
        base[c] = attention_base(max[c]);
        v_store(alpha + c * VL, v_exp2(v_sub(v_load(p->max + c * VL), base[c])));
        v_store(p->max + c * VL, max[c]);
        sum[c] = v_set1(0);
    }
    for (j = p->begin; j < p->end; j++) UNROLL for (int c = 0; c < LANES; c++) {
            float *at = p->score + j * PANEL + c * VL;
            const vf e = v_exp2(v_sub(v_load(at), base[c]));
            v_store(at, e);
            sum[c] = v_add(sum[c], e);
        }
    UNROLL for (int c = 0; c < LANES; c++)
        v_store(p->sum + c * VL, v_fma(v_load(alpha + c * VL), v_load(p->sum + c * VL), sum[c]));
}

INLINE void value_tile(const attention *a, const step *s, const panel *p, const float *alpha, int row, int d, int begin,
                       int end, const int columns) {
    vf acc[ROWS * COLUMNS];
    UNROLL for (int i = 0; i < ROWS * columns; i++) acc[i] = v_set1(0);
    multiply(acc, ROWS, columns, end - begin, p->score + begin * PANEL + row, 1, PANEL, s->v + begin * s->v_stride + d,
             s->v_stride);
    UNROLL for (int r = 0; r < ROWS; r++) {
        float *out = p->out + (row + r) * a->v_pitch + d;
        const vf w = v_set1(alpha[row + r]);
        UNROLL for (int c = 0; c < columns; c++)
            v_store(out + c * VL, v_fma(w, v_load(out + c * VL), acc[r * columns + c]));
    }
}

static void values_panel(const attention *a, const step *s, const panel *p, const float *alpha) {
    const int vectors = (a->v_dim + VL - 1) / VL;
    const bool border = p->all_begin > p->begin || p->all_end < p->end;
    for (int c = 0; c < vectors; c += COLUMNS)
        for (int row = 0; row < PANEL; row += ROWS) { /* neither bound falls from row to row */
            const int begin = border ? (int)p->first[row] : p->begin;
            const int end = border ? (int)p->end_of[row + ROWS - 1] : p->end;
            if (end <= begin) continue;
            if (c + COLUMNS <= vectors)
                value_tile(a, s, p, alpha, row, c * VL, begin, end, COLUMNS);
            else
                for (int i = c; i < vectors; i++) value_tile(a, s, p, alpha, row, i * VL, begin, end, 1);
        }
}

/* Rows of floats: the tensor's own where they are float32 and whole vectors, else converted and padded with zeros. */
static const float *as_floats(const clf_tensor *t, const char *first, int n, int dim, bool whole, int64_t pitch,
                              float *buffer, int64_t *stride) {
    if (t->dtype == CLF_F32 && (!whole || dim % VL == 0)) return *stride = t->stride[2], (const float *)first;
    const int64_t bytes = t->stride[2] * (t->dtype == CLF_F32 ? 4 : 2);
    for (int j = 0; j < n; j++) {
        const char *row = first + j * bytes;
        float *out = buffer + j * pitch;
        int d = 0;
        if (t->dtype == CLF_F32)
            for (; d + VL <= dim; d += VL) v_store(out + d, v_load((const float *)row + d));
        else if (t->dtype == CLF_F16)
            for (; d + VL <= dim; d += VL) v_store(out + d, v_load_f16((const uint16_t *)row + d));
        else
            for (; d + VL <= dim; d += VL) v_store(out + d, v_load_bf16((const uint16_t *)row + d));
        for (; d < pitch; d++) out[d] = d < dim ? attention_float(row, d, t->dtype) : 0;
    }
    *stride = pitch;
    return buffer;
}

/* q of one panel, transposed and scaled; lanes beyond the block's rows are zero. */
static void pack(const attention *a, const attention_unit *u, int row, float *out) {
    const clf_tensor *q = a->args->query;
    for (int l = 0; l < PANEL; l++) {
        const int64_t r = u->row + row + l;
        const char *x = row + l < u->rows ? attention_row_at(a, u, q, r) : NULL;
        for (int d = 0; d < a->dim; d++) out[d * PANEL + l] = x ? attention_float(x, d, q->dtype) * a->scale : 0;
    }
}

/* Key `x` counted from a step's first one, cut off where it makes no difference to the n keys of the step. */
static int cut(int64_t x, int n) {
    return x < 0 ? 0 : x > n ? n : (int)x;
}

/* Sets what the lanes of a panel see of the keys [key, key + n), from what the block's rows see; lanes beyond them see
 * what the last row sees. */
static void look(panel *p, const attention_unit *u, const int64_t *sees, int row, int64_t key, int n) {
    const int last = row + PANEL <= u->rows ? row + PANEL - 1 : u->rows - 1;
    p->begin = cut(sees[2 * row] - key, n);
    p->end = cut(sees[2 * last + 1] - key, n);
    p->all_begin = cut(sees[2 * last] - key, n);
    p->all_end = cut(sees[2 * row + 1] - key, n);
    if (p->all_begin == p->begin && p->all_end == p->end) return;
    for (int l = 0; l < PANEL; l++) {
        const int r = row + l < last ? row + l : last;
        p->first[l] = (float)cut(sees[2 * r] - key, n);
        p->end_of[l] = (float)cut(sees[2 * r + 1] - key, n);
    }
}

void attention_panels(const attention *a, const attention_unit *u, const attention_partial *out, float *work) {
    const clf_tensor *key = a->args->key, *value = a->args->value;
    const int64_t pitch = a->pitch, v_pitch = a->v_pitch, tile = (int64_t)STEP * PANEL;
    const int panels = (u->rows + PANEL - 1) / PANEL, padded = panels * PANEL;
    float *q = work, *score = q + padded * pitch, *bias = score + tile, *k = bias + tile, *v = k + STEP * pitch;
    int64_t *sees = (int64_t *)(void *)(v + STEP * v_pitch);
    for (int i = 0; i < panels; i++) pack(a, u, i * PANEL, q + i * PANEL * pitch);
    for (int r = 0; r < u->rows; r++)
        attention_sees(a, &u->s, attention_query(a, u->row + r), sees + 2 * r, sees + 2 * r + 1);

    step s;
    panel p = {.score = score};
    for (int64_t j = u->begin; j < u->end; j += s.n) {
        s.n = u->end - j < STEP ? (int)(u->end - j) : STEP;
        s.k = as_floats(key, attention_key_at(key, &u->s, u->kv_head, j), s.n, a->dim, false, pitch, k, &s.k_stride);
        s.v = as_floats(value, attention_key_at(value, &u->s, u->kv_head, j), s.n, a->v_dim, true, v_pitch, v,
                        &s.v_stride);
        bool fetch_values = true;
        for (int i = 0; i < panels; i++) {
            const int row = i * PANEL;
            look(&p, u, sees, row, j, s.n);
            if (p.begin >= p.end) continue;
            p.q = q + row * pitch;
            p.max = out->max + row;
            p.sum = out->sum + row;
            p.out = out->out + row * v_pitch;
            for (int l = 0; a->biased && l < PANEL; l++) {
                const int r = row + l < u->rows ? row + l : u->rows - 1;
                attention_bias(a, &u->s, attention_head(a, u, u->row + r), attention_query(a, u->row + r), j + p.begin,
                               p.end - p.begin, bias + p.begin * PANEL + l, PANEL);
            }
            p.bias = a->biased ? bias : NULL;
            float alpha[PANEL];
            softmax_panel(a, &s, &p, alpha, fetch_values);
            values_panel(a, &s, &p, alpha);
            fetch_values = false;
        }
    }
}
