/* attention_few.c: attention for a few rows (decoding), where reading the keys and values is what takes time. They are
 * read once for all rows of the group, a chunk of 4 KiB of each at a time; while one is in use the next is fetched. Per
 * chunk and up to ROWS rows:
 *
 *   score[key][row] = k · q     dot products, vectors along head_dim, KEYS keys × R rows a tile, summed VL vectors at
 * once p = 2^(score − max)         keys and rows along the lanes out[row] = α out[row] + Σ p[key][row] v[key]     the
 * chunk's sum starts from zero, so the error doesn't grow with the keys */
#include "attention.h"

enum {
    ROWS = VL == 16 ? 8 : 4, /* most rows a tile; powers of two down to 1 take the rest */
    TILE = VL > 8 ? VL : 8,  /* accumulators of a score tile: keys × rows */
    COLUMNS = 2,             /* vectors of v at a time */
    MOST_KEYS = 64,          /* of a chunk */
    CHUNK = 4096             /* bytes of keys a chunk */
};

typedef struct chunk {
    const char *k, *v;          /* first key's row and value's row */
    int64_t k_stride, v_stride; /* bytes from row to row */
    int n, next;                /* keys; how many follow, to be fetched */
    const float *bias;          /* [n][rows]; NULL: none */
} chunk;

static inline void fetch(const char *p, int64_t bytes) {
    for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(p + i);
}

INLINE vf load_part(const char *row, int d, int dim, clf_dtype dtype) {
    const char *p = row + (size_t)d * (dtype == CLF_F32 ? 4 : 2);
    return d + VL <= dim ? v_load_as(p, dtype) : v_load_as_n(p, dim - d, dtype);
}

/* score[key][row] for R rows of q; keys past n repeat the last. */
INLINE void scores(const chunk *c, const float *q, int64_t pitch, int dim, int v_dim, float *score, const int R,
                   const clf_dtype dtype, bool first) {
    enum { MOST = TILE };
    const int keys = MOST / R;
    const int64_t v_bytes = (int64_t)v_dim * (dtype == CLF_F32 ? 4 : 2);
    for (int j = 0; j < c->n; j += keys) {
        vf acc[MOST];
        const char *row[MOST];
        UNROLL for (int i = 0; i < MOST; i++) acc[i] = v_set1(0);
        for (int i = 0; i < keys; i++) {
            const int at = j + i < c->n ? j + i : c->n - 1;
            row[i] = c->k + at * c->k_stride;
            if (first) fetch(c->v + at * c->v_stride, v_bytes);
        }
        for (int d = 0; d < dim; d += VL) {
            vf k[MOST];
            UNROLL for (int i = 0; i < keys; i++) k[i] = load_part(row[i], d, dim, dtype);
            UNROLL for (int r = 0; r < R; r++) {
                const vf x = v_load(q + r * pitch + d);
                UNROLL for (int i = 0; i < keys; i++) acc[i * R + r] = v_fma(x, k[i], acc[i * R + r]);
            }
        }
        UNROLL for (int i = 0; i < MOST; i += VL) v_store(score + j * R + i, v_hsums(acc + i));
    }
}

/* Turns the scores into p, updates maximum and sum of the R rows, writes α, what the earlier result shrinks by. */
INLINE void softmax(const attention *a, const chunk *c, float *p, float *max, float *sum, float *alpha, const int R,
                    const int row, const int rows) {
    enum { LANES = (int)VL > (int)ROWS ? (int)VL : (int)ROWS };
    const int lanes = VL > R ? VL : R, n = c->n * R; /* lane l holds row l % R */
    float t[LANES];
    for (int i = n; i < n + lanes; i++) p[i] = -INFINITY;
    if (c->bias || a->cap > 0) {
        float bias[LANES] = {0};
        for (int i = 0; i < n; i += VL) {
            if (c->bias)
                for (int l = 0; l < VL && i + l < n; l++) bias[l] = c->bias[(i + l) / R * rows + row + (i + l) % R];
            v_store_n(p + i, attention_score(v_load(p + i), a->cap, c->bias ? bias : NULL), n - i < VL ? n - i : VL);
        }
    }
    for (int l = 0; l < lanes; l++) t[l] = -INFINITY;
    for (int i = 0; i < n; i += lanes)
        for (int l = 0; l < lanes; l += VL) v_store(t + l, v_max(v_load(t + l), v_load(p + i + l)));
    for (int r = 0; r < R; r++) {
        float m = max[r];
        for (int l = r; l < lanes; l += R) m = t[l] > m ? t[l] : m;
        const float base = m < -FLT_MAX ? 0 : m;
        alpha[r] = max[r] - base;
        max[r] = m;
        for (int l = r; l < lanes; l += R) t[l] = base;
    }
    float s[LANES] = {0};
    for (int i = 0; i < n; i += lanes)
        for (int l = 0; l < lanes; l += VL) {
            const vf e = v_exp2(v_sub(v_load(p + i + l), v_load(t + l)));
            v_store(p + i + l, e);
            v_store(s + l, v_add(v_load(s + l), e));
        }
    for (int r = 0; r < R; r += VL) {
        const int m = R - r < VL ? R - r : VL;
        v_store_n(alpha + r, v_exp2(v_load_n(alpha + r, m)), m);
    }
    for (int r = 0; r < R; r++) {
        for (int l = r + R; l < lanes; l += R) s[r] += s[l];
        sum[r] = sum[r] * alpha[r] + s[r];
    }
}

/* out[row] = α out[row] + Σ p[key][row] v[key] */
INLINE void values(const chunk *c, const float *p, const float *alpha, float *out, int64_t pitch, int dim, int v_dim,
                   const int R, const clf_dtype dtype, bool first) {
    enum { MOST = ROWS * COLUMNS };
    const int64_t row_bytes = (int64_t)dim * (dtype == CLF_F32 ? 4 : 2);
    const int steps = (v_dim + COLUMNS * VL - 1) / (COLUMNS * VL);
    for (int step = 0; step < steps; step++) {
        const int d = step * COLUMNS * VL;
        if (first)
            for (int j = c->next * step / steps; j < c->next * (step + 1) / steps; j++)
                fetch(c->k + (c->n + j) * c->k_stride, row_bytes);
        vf acc[MOST];
        UNROLL for (int i = 0; i < R * COLUMNS; i++) acc[i] = v_set1(0);
        for (int j = 0; j < c->n; j++) {
            const char *row = c->v + j * c->v_stride;
            vf x[COLUMNS];
            UNROLL for (int i = 0; i < COLUMNS; i++) x[i] =
                d + i * VL < v_dim ? load_part(row, d + i * VL, v_dim, dtype) : v_set1(0);
            UNROLL for (int r = 0; r < R; r++) {
                const vf w = v_set1(p[j * R + r]);
                UNROLL for (int i = 0; i < COLUMNS; i++) acc[r * COLUMNS + i] = v_fma(w, x[i], acc[r * COLUMNS + i]);
            }
        }
        UNROLL for (int r = 0; r < R; r++) {
            const vf w = v_set1(alpha[r]);
            UNROLL for (int i = 0; i < COLUMNS; i++) {
                float *o = out + r * pitch + d + i * VL;
                if (d + i * VL < v_dim) v_store(o, v_fma(w, v_load(o), acc[r * COLUMNS + i]));
            }
        }
    }
}

INLINE void add_rows(const attention *a, const chunk *c, const float *q, const attention_partial *out, int row,
                     int rows, const int R, const clf_dtype dtype) {
    float p[MOST_KEYS * ROWS + 2 * TILE], alpha[ROWS];
    scores(c, q + row * a->plan.pitch, a->plan.pitch, a->dim, a->v_dim, p, R, dtype, row == 0);
    softmax(a, c, p, out->max + row, out->sum + row, alpha, R, row, rows);
    values(c, p, alpha, out->out + row * a->plan.v_pitch, a->plan.v_pitch, a->dim, a->v_dim, R, dtype, row == 0);
}

INLINE void add_chunk(const attention *a, const chunk *c, const float *q, const attention_partial *out, int rows,
                      const clf_dtype dtype) {
    int row = 0;
    for (; rows - row >= ROWS; row += ROWS) add_rows(a, c, q, out, row, rows, ROWS, dtype);
    if (ROWS > 4 && (rows - row) & 4) add_rows(a, c, q, out, row, rows, 4, dtype), row += 4;
    if ((rows - row) & 2) add_rows(a, c, q, out, row, rows, 2, dtype), row += 2;
    if ((rows - row) & 1) add_rows(a, c, q, out, row, rows, 1, dtype);
}

static void add_f32(const attention *a, const chunk *c, const float *q, const attention_partial *out, int rows) {
    add_chunk(a, c, q, out, rows, CLF_F32);
}
static void add_f16(const attention *a, const chunk *c, const float *q, const attention_partial *out, int rows) {
    add_chunk(a, c, q, out, rows, CLF_F16);
}
static void add_bf16(const attention *a, const chunk *c, const float *q, const attention_partial *out, int rows) {
    add_chunk(a, c, q, out, rows, CLF_BF16);
}

/* Bias of a chunk whose keys not every row sees, or that alibi or mask change: [n][rows], −inf where hidden. */
static void chunk_bias(const attention *a, const attention_unit *u, int64_t key, int n, float *bias) {
    for (int r = 0; r < u->rows; r++) {
        int64_t first, end;
        attention_sees(a, u->batch, u->row + r, &first, &end);
        if (a->biased)
            attention_bias(a, u, u->row + r, key, n, bias + r, u->rows);
        else
            for (int j = 0; j < n; j++) bias[j * u->rows + r] = 0;
        for (int j = 0; j < n; j++)
            if (key + j < first || key + j >= end) bias[j * u->rows + r] = -INFINITY;
    }
}

void attention_few(const attention *a, const attention_unit *u, const attention_partial *out, float *q) {
    const clf_tensor *key = a->args->key, *value = a->args->value, *query = a->args->query;
    const clf_dtype dtype = key->dtype;
    const int bytes = dtype == CLF_F32 ? 4 : 2;
    int64_t first = 0, end = a->n_keys; /* what every row sees */
    for (int r = 0; r < u->rows; r++) {
        const int64_t head = attention_head(a, u, u->row + r);
        const char *x = attention_at(query, u->batch, head, attention_query(a, u->row + r));
        for (int d = 0; d < a->plan.pitch; d++)
            q[r * a->plan.pitch + d] = d < a->dim ? attention_float(x, d, query->dtype) * a->scale : 0;
        int64_t sees_first, sees_end;
        attention_sees(a, u->batch, u->row + r, &sees_first, &sees_end);
        if (sees_first > first) first = sees_first;
        if (sees_end < end) end = sees_end;
    }
    int step = CHUNK / (a->dim * bytes) / 8 * 8;
    step = step < 8 ? 8 : step > MOST_KEYS ? MOST_KEYS : step;
    const char *k = attention_at(key, u->batch, u->kv_head, 0), *v = attention_at(value, u->batch, u->kv_head, 0);
    chunk c = {.k_stride = key->stride[2] * bytes, .v_stride = value->stride[2] * bytes};
    float bias[MOST_KEYS * CLF_ATTENTION_FEW];
    for (int64_t j = u->begin; j < u->end; j += step) {
        const int64_t left = u->end - j;
        c.n = left < step ? (int)left : step;
        c.next = left - c.n < step ? (int)(left - c.n) : step;
        c.k = k + j * c.k_stride;
        c.v = v + j * c.v_stride;
        c.bias = NULL;
        if (a->biased || j < first || j + c.n > end) {
            chunk_bias(a, u, j, c.n, bias);
            c.bias = bias;
        }
        if (dtype == CLF_F32)
            add_f32(a, &c, q, out, u->rows);
        else if (dtype == CLF_F16)
            add_f16(a, &c, q, out, u->rows);
        else
            add_bf16(a, &c, q, out, u->rows);
    }
}
