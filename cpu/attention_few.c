/* attention_few.c: attention for a few rows (decoding), where reading the keys and values is what takes time. They are
 * read once for all rows of the group, a chunk of 4 KiB of each at a time; while one is in use the next is fetched. Per
 * chunk and R rows (what is missing to R has zeros for a query, and its results are dropped):
 *
 *   score[key][row] = k · q     vectors of SPANS keys × SPAN elements, so that few lanes are left to sum
 *   p = 2^(score − max)         keys and rows along the lanes
 *   out[row] = α out[row] + Σ p[key][row] v[key]     the chunk's sum starts from zero: its error doesn't grow with the
 * keys
 *
 * Scores lie as they are made: for each SPANS keys, for each SPAN rows, a vector [SPANS keys][SPAN rows]. */
#include "attention_forward.h"

#include <limits.h>

enum {
    ROWS = VL == 16 ? 8 : 4,  /* most rows at a time */
    GROUPS = VL == 1 ? 1 : 2, /* keys at a time: GROUPS · SPANS */
    COLUMNS = 2,              /* vectors of v at a time */
    MOST_KEYS = 64,           /* of a chunk */
    CHUNK = 4096              /* bytes of keys a chunk */
};

#define BYTES(dtype) ((dtype) == CLF_F32 ? 4 : 2)

typedef struct chunk {
    const char *k, *v;          /* first key's row and value's row */
    int64_t k_stride, v_stride; /* bytes from row to row */
    int n, next;                /* keys; how many follow, to be fetched */
    const float *bias;          /* [n][rows]; NULL: none */
    int rows;                   /* of the bias */
} chunk;

/* What to fetch next, line by line in the order of memory: in any other order the memory is slower. */
typedef struct fetcher {
    const char *row;
    int64_t stride;
    int bytes, at, left; /* of a row; in this one; rows */
} fetcher;

INLINE void fetch(fetcher *f, int lines) {
    for (; lines > 0 && f->left > 0; lines--) {
        __builtin_prefetch(f->row + f->at);
        if ((f->at += 64) < f->bytes) continue;
        f->at = 0;
        f->row += f->stride;
        f->left--;
    }
}

/* n elements from element d on; n is VL but for the last of a row. */
INLINE vf load_part(const char *row, int d, int n, clf_dtype dtype) {
    const char *p = row + (size_t)d * BYTES(dtype);
    return n == VL ? v_load_as(p, dtype) : v_load_as_n(p, n, dtype);
}

/* acc[group][row] += q · k over n elements from d on, for GROUPS · SPANS keys. */
INLINE void score_step(vf *acc, const char *const *k, const float *q, int d, int n, const int R,
                       const clf_dtype dtype) {
    vf x[GROUPS * SPANS];
    UNROLL for (int i = 0; i < GROUPS * SPANS; i++) x[i] = load_part(k[i], d, n, dtype);
    UNROLL for (int g = 0; g < GROUPS; g++) v_regroup(x + g * SPANS);
    UNROLL for (int s = 0; s < SPANS; s++) UNROLL for (int r = 0; r < R; r++) {
        const vf y = v_load_span(q + d * R + (s * R + r) * SPAN);
        UNROLL for (int g = 0; g < GROUPS; g++) acc[g * R + r] = v_fma(y, x[g * SPANS + s], acc[g * R + r]);
    }
}

/* Scores of R rows, q being [head_dim / SPAN][R][SPAN]; keys past n repeat the last. Meanwhile the chunk's values are
 * fetched. */
INLINE void scores(const attention *a, const chunk *c, const float *q, float *score, const int R, const clf_dtype dtype,
                   bool first) {
    const int whole = a->dim / VL * VL;
    fetcher f = {.row = c->v, .stride = c->v_stride, .bytes = a->v_dim * BYTES(dtype), .left = first ? c->n : 0};
    const int lines = GROUPS * SPANS * (f.bytes / 64 + 1) / (whole / VL + 1) + 1;
    for (int j = 0; j < c->n; j += GROUPS * SPANS) {
        vf acc[GROUPS * ROWS];
        const char *k[GROUPS * SPANS];
        UNROLL for (int i = 0; i < GROUPS * R; i++) acc[i] = v_set1(0);
        UNROLL for (int i = 0; i < GROUPS * SPANS; i++) k[i] = c->k + (j + i < c->n ? j + i : c->n - 1) * c->k_stride;
        for (int d = 0; d < whole; d += VL) {
            score_step(acc, k, q, d, VL, R, dtype);
            fetch(&f, lines);
        }
        if (whole < a->dim) score_step(acc, k, q, whole, a->dim - whole, R, dtype);
        UNROLL for (int i = 0; i < GROUPS * R; i += SPAN) v_store(score + j * R + i * SPANS, v_span_sums(acc + i));
    }
    fetch(&f, INT_MAX);
}

/* Cap, bias, and −inf for keys that don't exist. */
INLINE void change_scores(const attention *a, const chunk *c, float *score, const int R, int row) {
    for (int j = 0; j < c->n; j += SPANS)
        for (int r = 0; r < R; r += SPAN) {
            float bias[VL], *at = score + j * R + r * SPANS;
            for (int l = 0; l < VL; l++) {
                const int key = j + l / SPAN, of = row + r + l % SPAN;
                bias[l] = key >= c->n ? -INFINITY : c->bias && of < c->rows ? c->bias[key * c->rows + of] : 0;
            }
            v_store(at, attention_score(v_load(at), a->cap, bias));
        }
}

/* Turns the scores into p, updates maximum and sum of the R rows, writes α, what the earlier result shrinks by. */
INLINE void softmax(const chunk *c, float *p, float *max, float *sum, float *alpha, const int R) {
    const int step = SPANS * R, end = (c->n + SPANS - 1) / SPANS * step;
    UNROLL for (int r = 0; r < R; r += SPAN) {
        vf m = v_set1(-INFINITY), s = v_set1(0);
        for (int i = r * SPANS; i < end; i += step) m = v_max(m, v_load(p + i));
        const vf before = v_load_span(max + r);
        m = v_max(before, v_spans_max(m));
        const vf base = attention_base(m), shrink = v_exp2(v_sub(before, base));
        for (int i = r * SPANS; i < end; i += step) {
            const vf e = v_exp2(v_sub(v_load(p + i), base));
            v_store(p + i, e);
            s = v_add(s, e);
        }
        v_store_n(max + r, m, SPAN);
        v_store_n(alpha + r, shrink, SPAN);
        v_store_n(sum + r, v_fma(v_load_span(sum + r), shrink, v_spans_sum(s)), SPAN);
    }
}

/* acc[row][column] += p · v for one key */
INLINE void value_step(vf *acc, const char *row, const float *p, int d, int n, const int columns, const int R,
                       const clf_dtype dtype) {
    vf v[COLUMNS];
    UNROLL for (int i = 0; i < columns; i++) v[i] = load_part(row, d + i * VL, n, dtype);
    UNROLL for (int r = 0; r < R; r++) {
        const vf x = v_set1(p[r / SPAN * VL + r % SPAN]);
        UNROLL for (int i = 0; i < columns; i++) acc[r * columns + i] = v_fma(x, v[i], acc[r * columns + i]);
    }
}

/* out[row] = α out[row] + Σ p[key][row] v[key], for `columns` vectors of n elements from d on. */
INLINE void value_columns(const attention *a, const chunk *c, const float *p, const float *alpha, float *out, int d,
                          int n, fetcher *f, int lines, const int columns, const int R, const clf_dtype dtype) {
    vf acc[ROWS * COLUMNS];
    const char *v = c->v;
    int j = 0;
    UNROLL for (int i = 0; i < R * columns; i++) acc[i] = v_set1(0);
    for (; j + SPANS <= c->n; j += SPANS, p += SPANS * R) {
        for (int s = 0; s < SPANS; s++, v += c->v_stride) value_step(acc, v, p + s * SPAN, d, n, columns, R, dtype);
        fetch(f, lines);
    }
    for (; j < c->n; j++, p += SPAN, v += c->v_stride) value_step(acc, v, p, d, n, columns, R, dtype);
    UNROLL for (int r = 0; r < R; r++) {
        const vf x = v_set1(alpha[r]);
        UNROLL for (int i = 0; i < columns; i++) {
            float *o = out + r * a->v_pitch + d + i * VL;
            v_store(o, v_fma(x, v_load(o), acc[r * columns + i]));
        }
    }
}

/* Meanwhile the next chunk's keys are fetched. */
INLINE void values(const attention *a, const chunk *c, const float *p, const float *alpha, float *out, const int R,
                   const clf_dtype dtype, bool first) {
    const int whole = a->v_dim / VL * VL;
    fetcher f = {.row = c->k + c->n * c->k_stride,
                 .stride = c->k_stride,
                 .bytes = a->dim * BYTES(dtype),
                 .left = first ? c->next : 0};
    const int lines = SPANS * (f.bytes / 64 + 1) / (whole / (COLUMNS * VL) + 1) + 1;
    int d = 0;
    for (; d + COLUMNS * VL <= whole; d += COLUMNS * VL)
        value_columns(a, c, p, alpha, out, d, VL, &f, lines, COLUMNS, R, dtype);
    for (; d < whole; d += VL) value_columns(a, c, p, alpha, out, d, VL, &f, lines, 1, R, dtype);
    if (d < a->v_dim) value_columns(a, c, p, alpha, out, d, a->v_dim - d, &f, lines, 1, R, dtype);
    fetch(&f, INT_MAX);
}

INLINE void add_rows(const attention *a, const chunk *c, const float *q, const attention_partial *out, int row,
                     const int R, const clf_dtype dtype) {
    float p[(MOST_KEYS + GROUPS * SPANS) * ROWS], alpha[ROWS];
    scores(a, c, q + row * a->pitch, p, R, dtype, row == 0);
    if (c->bias || a->cap > 0 || c->n % SPANS) change_scores(a, c, p, R, row);
    softmax(c, p, out->max + row, out->sum + row, alpha, R);
    values(a, c, p, alpha, out->out + row * a->v_pitch, R, dtype, row == 0);
}

/* Rows that the next tile has room for. */
static inline int tile_rows(int left) {
    return left > ROWS / 2 ? ROWS : ROWS / 2 > SPAN ? ROWS / 2 : SPAN;
}

INLINE void add_chunk(const attention *a, const chunk *c, const float *q, const attention_partial *out, int rows,
                      const clf_dtype dtype) {
    for (int row = 0; row < rows; row += ROWS)
        if (tile_rows(rows - row) == ROWS)
            add_rows(a, c, q, out, row, ROWS, dtype);
        else
            add_rows(a, c, q, out, row, ROWS / 2 > SPAN ? ROWS / 2 : SPAN, dtype);
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
        attention_sees(a, &u->s, attention_query(a, u->row + r), &first, &end);
        if (a->biased)
            attention_bias(a, &u->s, attention_head(a, u, u->row + r), attention_query(a, u->row + r), key, n, bias + r,
                           u->rows);
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
    int64_t first = 0, end = u->s.n_keys; /* what every row sees */
    memset(q, 0, CLF_ATTENTION_FEW * (size_t)a->pitch * sizeof *q);
    for (int r = 0; r < u->rows; r++) {
        const char *x = attention_row_at(a, u, query, u->row + r);
        const int first_row = r / ROWS * ROWS, R = tile_rows(u->rows - first_row);
        float *to = q + first_row * a->pitch + (r - first_row) * SPAN;
        for (int d = 0; d < a->dim; d++)
            to[d / SPAN * SPAN * R + d % SPAN] = attention_float(x, d, query->dtype) * a->scale;
        int64_t sees_first, sees_end;
        attention_sees(a, &u->s, attention_query(a, u->row + r), &sees_first, &sees_end);
        if (sees_first > first) first = sees_first;
        if (sees_end < end) end = sees_end;
    }
    int step = CHUNK / (a->dim * bytes) / 8 * 8;
    step = step < 8 ? 8 : step > MOST_KEYS ? MOST_KEYS : step;
    const char *k = attention_key_at(key, &u->s, u->kv_head, 0), *v = attention_key_at(value, &u->s, u->kv_head, 0);
    chunk c = {.k_stride = key->stride[2] * bytes, .v_stride = value->stride[2] * bytes, .rows = u->rows};
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
