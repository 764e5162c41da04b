/* attention_few.c: attention for a few rows (decoding), where reading the keys and values is what takes time. They are
 * read once for all rows of the group, a chunk of 4 KiB of each at a time; while one is in use the next is fetched. Per
 * chunk and R rows (what is missing to R has zeros for a query, and its results are dropped):
 *
 *   score[key][row] = k · q     vectors of SPANS keys × SPAN elements, so that few lanes are left to sum
 *   p = 2^(score − max)         keys and rows along the lanes
 *   out[row] = α out[row] + Σ p[key][row] v[key]     the chunk's sum starts from zero: its error doesn't grow with the
 * keys
 *
 * Scores lie as they are made: for each SPANS keys, for each SPAN rows, a vector [SPANS keys][SPAN rows]. A chunk's
 * keys may lie anywhere (paged sequences); those that the mask hides from all rows are left out of it. */
#include "attention_forward.h"

#include <limits.h>

enum {
    ROWS = VL == 16 ? 8 : 4,  /* most rows at a time */
    GROUPS = VL == 1 ? 1 : 2, /* keys at a time: GROUPS · SPANS */
    COLUMNS = 2,              /* vectors of v at a time */
    MOST_KEYS = 64,           /* of a chunk */
    CHUNK = 4096              /* bytes of keys a chunk */
};

typedef struct chunk {
    int n;
    const char *k[MOST_KEYS], *v[MOST_KEYS]; /* rows */
    int64_t key[MOST_KEYS];
    bool biased;
    float bias[MOST_KEYS * CLF_ATTENTION_FEW]; /* [n][rows] */
} chunk;

/* A call with what doesn't change from chunk to chunk. */
typedef struct few {
    const attention *a;
    const attention_unit *u;
    const float *q;
    int k_bytes, v_bytes; /* of a row */
    int step;             /* keys a chunk */
    int64_t first, end;   /* what every row sees */
    attention_walk walk;
    int64_t key, left; /* of the walk's piece in hand */
} few;

/* What to fetch next, line by line in the order of memory: in any other order the memory is slower. */
typedef struct fetcher {
    const char *const *row;
    int bytes, at, left; /* of a row; in this one; rows */
} fetcher;

INLINE void fetch(fetcher *f, int lines) {
    for (; lines > 0 && f->left > 0; lines--) {
        __builtin_prefetch(*f->row + f->at);
        if ((f->at += 64) < f->bytes) continue;
        f->at = 0;
        f->row++;
        f->left--;
    }
}

/* n elements from element d on; n is VL but for the last of a row. */
INLINE vf load_part(const char *row, int d, int n, clf_dtype dtype) {
    if (dtype == CLF_Q8_0 || dtype == CLF_Q4_0) return attention_decode(row, d, dtype);
    const char *p = row + (size_t)d * cpu_bytes(dtype);
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
INLINE void scores(const few *f, const chunk *c, const float *q, float *score, const int R, const clf_dtype dtype,
                   bool first) {
    const int dim = f->a->dim, whole = dim / VL * VL;
    fetcher next = {.row = c->v, .bytes = f->v_bytes, .left = first ? c->n : 0};
    const int lines = GROUPS * SPANS * (next.bytes / 64 + 1) / (whole / VL + 1) + 1;
    for (int j = 0; j < c->n; j += GROUPS * SPANS) {
        vf acc[GROUPS * ROWS];
        const char *k[GROUPS * SPANS];
        UNROLL for (int i = 0; i < GROUPS * R; i++) acc[i] = v_set1(0);
        UNROLL for (int i = 0; i < GROUPS * SPANS; i++) k[i] = c->k[j + i < c->n ? j + i : c->n - 1];
        for (int d = 0; d < whole; d += VL) {
            score_step(acc, k, q, d, VL, R, dtype);
            fetch(&next, lines);
        }
        if (whole < dim) score_step(acc, k, q, whole, dim - whole, R, dtype);
        UNROLL for (int i = 0; i < GROUPS * R; i += SPAN) v_store(score + j * R + i * SPANS, v_span_sums(acc + i));
    }
    fetch(&next, INT_MAX);
}

/* Cap, bias, and −inf for keys that don't exist. */
INLINE void change_scores(const few *f, const chunk *c, float *score, const int R, int row) {
    const int rows = f->u->rows;
    for (int j = 0; j < c->n; j += SPANS)
        for (int r = 0; r < R; r += SPAN) {
            float bias[VL], *at = score + j * R + r * SPANS;
            for (int l = 0; l < VL; l++) {
                const int key = j + l / SPAN, of = row + r + l % SPAN;
                bias[l] = key >= c->n ? -INFINITY : c->biased && of < rows ? c->bias[key * rows + of] : 0;
            }
            v_store(at, attention_score(v_load(at), f->a->cap, bias));
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

/* p of what dropout drops is 0. */
static void drop(const few *f, const chunk *c, float *p, const int R, int row) {
    const attention *a = f->a;
    uint32_t query[ROWS + VL] = {0}, head[ROWS + VL] = {0};
    for (int r = 0; r < R && row + r < f->u->rows; r++) {
        query[r] = (uint32_t)attention_query(a, f->u->row + row + r);
        head[r] = (uint32_t)attention_head(a, f->u, f->u->row + row + r);
    }
    for (int r = 0; r < R; r += VL) {
        vu word[4];
        int64_t quad = -1;
        for (int j = 0; j < c->n; j++) {
            if (c->key[j] / 4 != quad)
                attention_dropout(a, &f->u->s, vu_load(query + r), vu_load(head + r), quad = c->key[j] / 4, word);
            float kept[VL];
            v_store(kept, vu_keep(word[c->key[j] % 4], vu_set1(a->least), v_set1(1)));
            for (int l = 0; l < VL && r + l < R; l++)
                p[j / SPANS * SPANS * R + (r + l) / SPAN * VL + j % SPANS * SPAN + (r + l) % SPAN] *= kept[l];
        }
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
INLINE void value_columns(const few *f, const chunk *c, const float *p, const float *alpha, float *out, int d, int n,
                          fetcher *next, int lines, const int columns, const int R, const clf_dtype dtype) {
    vf acc[ROWS * COLUMNS];
    int j = 0;
    UNROLL for (int i = 0; i < R * columns; i++) acc[i] = v_set1(0);
    for (; j + SPANS <= c->n; j += SPANS, p += SPANS * R) {
        for (int s = 0; s < SPANS; s++) value_step(acc, c->v[j + s], p + s * SPAN, d, n, columns, R, dtype);
        fetch(next, lines);
    }
    for (; j < c->n; j++, p += SPAN) value_step(acc, c->v[j], p, d, n, columns, R, dtype);
    UNROLL for (int r = 0; r < R; r++) {
        const vf x = v_set1(alpha[r]);
        UNROLL for (int i = 0; i < columns; i++) {
            float *o = out + r * f->a->v_pitch + d + i * VL;
            v_store(o, v_fma(x, v_load(o), acc[r * columns + i]));
        }
    }
}

/* Meanwhile the next chunk's keys are fetched. */
INLINE void values(const few *f, const chunk *c, const chunk *after, const float *p, const float *alpha, float *out,
                   const int R, const clf_dtype dtype, bool first) {
    const int dim = f->a->v_dim, whole = dim / VL * VL;
    fetcher next = {.row = after->k, .bytes = f->k_bytes, .left = first ? after->n : 0};
    const int lines = SPANS * (next.bytes / 64 + 1) / (whole / (COLUMNS * VL) + 1) + 1;
    int d = 0;
    for (; d + COLUMNS * VL <= whole; d += COLUMNS * VL)
        value_columns(f, c, p, alpha, out, d, VL, &next, lines, COLUMNS, R, dtype);
    for (; d < whole; d += VL) value_columns(f, c, p, alpha, out, d, VL, &next, lines, 1, R, dtype);
    if (d < dim) value_columns(f, c, p, alpha, out, d, dim - d, &next, lines, 1, R, dtype);
    fetch(&next, INT_MAX);
}

INLINE void add_rows(const few *f, const chunk *c, const chunk *after, const attention_partial *out, int row,
                     const int R, const clf_dtype dtype) {
    float p[(MOST_KEYS + GROUPS * SPANS) * ROWS], alpha[ROWS];
    scores(f, c, f->q + row * f->a->pitch, p, R, dtype, row == 0);
    if (c->biased || f->a->cap > 0 || c->n % SPANS) change_scores(f, c, p, R, row);
    softmax(c, p, out->max + row, out->sum + row, alpha, R);
    if (f->a->least) drop(f, c, p, R, row);
    values(f, c, after, p, alpha, out->out + row * f->a->v_pitch, R, dtype, row == 0);
}

/* Rows that the next tile has room for. */
static inline int tile_rows(int left) {
    return left > ROWS / 2 ? ROWS : ROWS / 2 > SPAN ? ROWS / 2 : SPAN;
}

INLINE void add_chunk(const few *f, const chunk *c, const chunk *after, const attention_partial *out,
                      const clf_dtype dtype) {
    for (int row = 0; row < f->u->rows; row += ROWS)
        if (tile_rows(f->u->rows - row) == ROWS)
            add_rows(f, c, after, out, row, ROWS, dtype);
        else
            add_rows(f, c, after, out, row, ROWS / 2 > SPAN ? ROWS / 2 : SPAN, dtype);
}

static void add_f32(const few *f, const chunk *c, const chunk *after, const attention_partial *out) {
    add_chunk(f, c, after, out, CLF_F32);
}
static void add_f16(const few *f, const chunk *c, const chunk *after, const attention_partial *out) {
    add_chunk(f, c, after, out, CLF_F16);
}
static void add_bf16(const few *f, const chunk *c, const chunk *after, const attention_partial *out) {
    add_chunk(f, c, after, out, CLF_BF16);
}
static void add_q8_0(const few *f, const chunk *c, const chunk *after, const attention_partial *out) {
    add_chunk(f, c, after, out, CLF_Q8_0);
}
static void add_q4_0(const few *f, const chunk *c, const chunk *after, const attention_partial *out) {
    add_chunk(f, c, after, out, CLF_Q4_0);
}

/* Bias of a chunk whose keys not every row sees, or that alibi or mask change: −inf where hidden. */
static void bias_chunk(const few *f, chunk *c) {
    const attention *a = f->a;
    const attention_unit *u = f->u;
    for (int r = 0; r < u->rows; r++) {
        const int64_t query = attention_query(a, u->row + r);
        int64_t first, end;
        attention_sees(a, &u->s, query, &first, &end);
        for (int j = 0, n; j < c->n; j += n) { /* keys that follow one another */
            for (n = 1; j + n < c->n && c->key[j + n] == c->key[j] + n;) n++;
            float *bias = c->bias + j * u->rows + r;
            if (a->biased)
                attention_bias(a, &u->s, attention_head(a, u, u->row + r), query, c->key[j], n, bias, u->rows);
            for (int i = 0; i < n; i++) {
                if (!a->biased) bias[i * u->rows] = 0;
                if (c->key[j + i] < first || c->key[j + i] >= end) bias[i * u->rows] = -INFINITY;
            }
        }
    }
}

/* Leaves out the keys that no row sees. */
static void drop_unseen(const few *f, chunk *c) {
    const int rows = f->u->rows;
    int kept = 0;
    for (int j = 0; j < c->n; j++) {
        bool seen = false;
        for (int r = 0; r < rows; r++) seen |= !(c->bias[j * rows + r] == -INFINITY);
        if (!seen) continue;
        c->k[kept] = c->k[j];
        c->v[kept] = c->v[j];
        c->key[kept] = c->key[j];
        memmove(c->bias + kept++ * rows, c->bias + j * rows, (size_t)rows * sizeof(float));
    }
    c->n = kept;
}

/* The next keys that some row sees; none at the end. */
static void take_chunk(few *f, chunk *c) {
    const clf_tensor *keys = f->a->args->key, *values = f->a->args->value;
    const int64_t k_stride = attention_bytes(keys, keys->stride[2]),
                  v_stride = attention_bytes(values, values->stride[2]);
    do {
        bool border = false;
        for (c->n = 0; c->n < f->step;) {
            if (!f->left) f->left = attention_walk_on(&f->walk, INT64_MAX, &f->key);
            if (!f->left) break;
            const int64_t room = f->step - c->n,
                          n = attention_even(f->a, &f->u->s, f->key, f->left < room ? f->left : room);
            const char *k = attention_key_at(keys, &f->u->s, f->u->kv_head, f->key);
            const char *v = attention_key_at(values, &f->u->s, f->u->kv_head, f->key);
            border |= f->key < f->first || f->key + n > f->end;
            for (int64_t j = 0; j < n; j++, c->n++) {
                c->k[c->n] = k + j * k_stride;
                c->v[c->n] = v + j * v_stride;
                c->key[c->n] = f->key + j;
            }
            f->key += n;
            f->left -= n;
        }
        if (!c->n) return;
        c->biased = border || f->a->biased;
        if (c->biased) bias_chunk(f, c);
        if (c->biased) drop_unseen(f, c);
    } while (!c->n);
}

/* q as [rows / R][head_dim / SPAN][R][SPAN], scaled. */
static void pack(few *f, float *q) {
    const attention *a = f->a;
    const attention_unit *u = f->u;
    const clf_tensor *query = a->args->query;
    memset(q, 0, CLF_ATTENTION_FEW * (size_t)a->pitch * sizeof *q);
    attention_row at = attention_row_of(a, u, u->row);
    for (int r = 0; r < u->rows; r++, attention_row_next(&at)) {
        const char *x = attention_row_at(u, query, &at);
        const int first_row = r / ROWS * ROWS, R = tile_rows(u->rows - first_row);
        float *to = q + first_row * a->pitch + (r - first_row) * SPAN;
        for (int d = 0; d < a->dim; d++)
            to[d / SPAN * SPAN * R + d % SPAN] = attention_float(x, d, query->dtype) * a->scale;
        int64_t first, end;
        attention_sees(a, &u->s, at.query, &first, &end);
        if (first > f->first) f->first = first;
        if (end < f->end) f->end = end;
    }
    f->q = q;
}

void attention_few(const attention *a, const attention_unit *u, const attention_partial *out, float *q) {
    const clf_dtype dtype = a->args->key->dtype;
    few f = {.a = a,
             .u = u,
             .k_bytes = (int)clf_dtype_bytes(dtype, a->dim),
             .v_bytes = (int)clf_dtype_bytes(dtype, a->v_dim),
             .end = u->s.n_keys,
             .walk = attention_unit_keys(a, u)};
    f.step = CHUNK / f.k_bytes / 8 * 8;
    f.step = f.step < 8 ? 8 : f.step > MOST_KEYS ? MOST_KEYS : f.step;
    pack(&f, q);
    chunk two[2], *c = two, *after = two + 1;
    take_chunk(&f, c);
    while (c->n) {
        take_chunk(&f, after);
        if (dtype == CLF_F32)
            add_f32(&f, c, after, out);
        else if (dtype == CLF_F16)
            add_f16(&f, c, after, out);
        else if (dtype == CLF_BF16)
            add_bf16(&f, c, after, out);
        else if (dtype == CLF_Q8_0)
            add_q8_0(&f, c, after, out);
        else
            add_q4_0(&f, c, after, out);
        chunk *done = c;
        c = after;
        after = done;
    }
}
