/* attention_panels.c: attention for many rows. Everything is done on the transposed scores, with rows along the lanes:
 * q is transposed once per block into panels of W vectors of rows; keys and values are read where they lie (or
 * converted, a step at a time), and the softmax needs no horizontal step. Per step of keys and panel:
 *
 *   score[key][lane] = k · q         tiles of KEYS keys × W vectors
 *   p = 2^(score − max)
 *   out[row] = α out[row] + Σ p[key][row] v[key]     tiles of ROWS rows × COLUMNS vectors of v_dim
 *
 * Each step's products start from zero and are added once, so float32 error doesn't grow with the number of keys. What
 * a row does not see is left out tile by tile, and hidden by comparison only in the tiles that the border crosses. */
#include "attention_step.h"

/* Widest panels in vectors; the two register tiles: KEYS × W vectors of scores, ROWS × COLUMNS of results; and whether
 * the first leaves registers to fetch ahead with. */
#if defined(__AVX512F__) /* 16 accumulators of 32 registers; 24, three vectors wide, are no faster */
enum { WIDEST = 2, KEYS = 8, ROWS = 8, COLUMNS = 2, FETCHES = 1 };
#elif defined(__ARM_NEON) && !defined(CLF_SIMD_OFF)
enum { WIDEST = 4, KEYS = 6, ROWS = 8, COLUMNS = 2, FETCHES = 0 };
#elif defined(__AVX2__) /* 12 or 8 of 16 */
enum { WIDEST = 2, KEYS = 6, ROWS = 4, COLUMNS = 2, FETCHES = 0 };
#else
enum { WIDEST = 4, KEYS = 3, ROWS = 4, COLUMNS = 2, FETCHES = 0 };
#endif
enum { LANES = WIDEST * VL, FEWER = VL == 1 ? 2 : 4 };
_Static_assert(LANES <= (int)STEP && CLF_ATTENTION_LANES % (int)ROWS == 0, "a panel holds whole row tiles");
_Static_assert(VL == 16 || CLF_ATTENTION_LANES % LANES == 0, "a block holds whole panels");

/* What the kernels keep about the rows of a block, each an array of as many as the block has, padded. */
typedef struct block {
    int64_t *first, *end;          /* it sees keys of [first, end) */
    uint32_t *query, *head;        /* of dropout's counter */
    float *slope_high, *slope_low; /* together alibi's slope · log2 e */
} block;
_Static_assert(sizeof(block) / sizeof(void *) + 2 == CLF_ATTENTION_ROW, "two of them take two floats each");

/* A panel against a step. */
typedef struct panel {
    const float *q;                      /* [dim][lanes] */
    float *score;                        /* [STEP][lanes] */
    float *mask;                         /* [STEP][lanes], · log2 e; NULL: none */
    float *max, *sum, *out;              /* of its first row */
    const float *slope_high, *slope_low; /* NULL: no alibi */
    const uint32_t *query, *head;
    float position[LANES];             /* of alibi, counted from the step's first key */
    float first[LANES], end_of[LANES]; /* each lane sees [first, end_of) of the step */
    int begin, end;                    /* what any lane sees of the step */
    int all_begin, all_end;            /* what all lanes see */
    int runs;                          /* of values that some lane sees */
    const step_run *run;
} panel;

/* The score after soft cap, alibi and mask; −inf in the mask hides whatever the score is. */
INLINE vf change_score(const attention *a, const step *s, const panel *p, vf x, int j, int c, const int W) {
    const vf lowest = v_set1(-FLT_MAX);
    x = attention_cap(x, a->cap);
    if (p->slope_high) {
        const vf distance = v_abs(v_sub(v_load(p->position + c * VL), v_set1(s->offset[j])));
        x = v_nfma(v_load(p->slope_low + c * VL), distance, x);
        x = v_max(lowest, v_nfma(v_load(p->slope_high + c * VL), distance, x));
    }
    if (p->mask) {
        const vf m = v_load(p->mask + (j * W + c) * VL);
        x = v_ge_or(m, lowest, v_max(lowest, v_add(x, m)), m);
    }
    return x;
}

/* Scores of `keys` keys from `j` on, k being the first's, with what changes them and what the lanes don't see; raises
 * max. */
INLINE void score_tile(const attention *a, const step *s, const panel *p, const char *k, int j, vf *max,
                       step_fetch next, const int keys, const int W) {
    vf acc[KEYS * WIDEST];
    step_multiply(a, s, k, p->q, acc, next, keys, W);
    const bool border = j < p->all_begin || j + keys > p->all_end, change = a->cap > 0 || a->biased;
    UNROLL for (int r = 0; r < keys; r++) {
        const vf key = v_set1((float)(j + r)), hidden = v_set1(-INFINITY);
        UNROLL for (int c = 0; c < W; c++) {
            vf x = acc[r * W + c];
            if (change) x = change_score(a, s, p, x, j + r, c, W);
            if (border) {
                x = v_ge_or(key, v_load(p->first + c * VL), x, hidden);
                x = v_ge_or(key, v_load(p->end_of + c * VL), hidden, x);
            }
            max[c] = v_max(max[c], x);
            v_store(p->score + ((j + r) * W + c) * VL, x);
        }
    }
}

static inline void fetch(const void *row, int bytes) {
    for (int i = 0; i < bytes; i += 64) __builtin_prefetch((const char *)row + i);
}

/* The scores of the step. The first panel fetches, line by line between the products, what the hardware doesn't
 * foresee: its keys' values, which are read by columns next, and the keys after the next, which may lie anywhere. */
INLINE void score_panel(const attention *a, const step *s, const panel *p, vf *max, bool first, const int W) {
    const step_fetch none = {NULL, NULL};
    for (int i = 0; i < s->runs; i++) {
        const step_run *r = &s->run[i];
        int j = r->at > p->begin ? r->at : p->begin;
        const int end = r->at + r->n < p->end ? r->at + r->n : p->end;
        for (; j + KEYS <= end; j += KEYS) {
            const int at = j - r->at;
            const char *k = r->k + at * s->k_stride;
            step_fetch next = none;
            if (FETCHES && first && s->v_rows.here) {
                const int over = j + 2 * KEYS - end; /* two tiles on */
                const char *on = i + 1 < s->runs ? s->run[i + 1].k : s->after;
                next.k = over < 0 ? k + 2 * KEYS * s->k_stride : on + over * s->k_stride;
                next.v = r->v + at * s->v_stride;
            }
            score_tile(a, s, p, k, j, max, next, KEYS, W);
        }
        for (; j + FEWER <= end; j += FEWER)
            score_tile(a, s, p, r->k + (j - r->at) * s->k_stride, j, max, none, FEWER, W);
        for (; j < end; j++) score_tile(a, s, p, r->k + (j - r->at) * s->k_stride, j, max, none, 1, W);
    }
}

/* p of the dropped is 0. */
INLINE void drop(const attention *a, const attention_sequence *seq, const step *s, const panel *p, const int W) {
    const vu least = vu_set1(a->least);
    for (int c = 0; c < W; c++) {
        const vu query = vu_load(p->query + c * VL), head = vu_load(p->head + c * VL);
        vu word[4];
        int64_t quad = -1;
        for (int j = p->begin; j < p->end; j++) {
            const int64_t key = s->key[j];
            if (key / 4 != quad) attention_dropout(a, seq, query, head, quad = key / 4, word);
            float *at = p->score + (j * W + c) * VL;
            v_store(at, vu_keep(word[key % 4], least, v_load(at)));
        }
    }
}

/* Scores of the panel, then p in their place; updates max and sum; alpha[lane] is what the earlier result shrinks by.
 */
INLINE void softmax_panel(const attention *a, const step *s, const panel *p, float *alpha, bool first, const int W) {
    vf max[WIDEST], sum[WIDEST], base[WIDEST];
    UNROLL for (int c = 0; c < W; c++) max[c] = v_load(p->max + c * VL);
    score_panel(a, s, p, max, first, W);
    UNROLL for (int c = 0; c < W; c++) {
        base[c] = attention_base(max[c]);
        v_store(alpha + c * VL, v_exp2(v_sub(v_load(p->max + c * VL), base[c])));
        v_store(p->max + c * VL, max[c]);
        sum[c] = v_set1(0);
    }
    for (int j = p->begin; j < p->end; j++) UNROLL for (int c = 0; c < W; c++) {
            float *at = p->score + (j * W + c) * VL;
            const vf e = v_exp2(v_sub(v_load(at), base[c]));
            v_store(at, e);
            sum[c] = v_add(sum[c], e);
        }
    UNROLL for (int c = 0; c < W; c++)
        v_store(p->sum + c * VL, v_fma(v_load(alpha + c * VL), v_load(p->sum + c * VL), sum[c]));
}

INLINE void value_tile(const attention *a, const step *s, const panel *p, const float *alpha, int row, int d, int begin,
                       int end, const int columns, const int W) {
    vf acc[ROWS * COLUMNS];
    UNROLL for (int i = 0; i < ROWS * columns; i++) acc[i] = v_set1(0);
    for (int i = 0; i < p->runs; i++) {
        const step_run *r = &p->run[i];
        const int from = begin > r->at ? begin : r->at, to = end < r->at + r->n ? end : r->at + r->n;
        attention_multiply(acc, ROWS, columns, to - from, p->score + from * W * VL + row, 1, W * VL,
                           r->v + (from - r->at) * s->v_stride + d, s->v_stride);
    }
    UNROLL for (int r = 0; r < ROWS; r++) {
        float *out = p->out + (row + r) * a->v_pitch + d;
        const vf w = v_set1(alpha[row + r]);
        UNROLL for (int c = 0; c < columns; c++)
            v_store(out + c * VL, v_fma(w, v_load(out + c * VL), acc[r * columns + c]));
    }
}

INLINE void values_panel(const attention *a, const step *s, const panel *p, const float *alpha, const int W) {
    const int vectors = (a->v_dim + VL - 1) / VL;
    const bool border = p->all_begin > p->begin || p->all_end < p->end;
    for (int c = 0; c < vectors; c += COLUMNS)
        for (int row = 0; row < W * VL; row += ROWS) { /* neither bound falls from row to row */
            const int begin = border ? (int)p->first[row] : p->begin;
            const int end = border ? (int)p->end_of[row + ROWS - 1] : p->end;
            if (end <= begin) continue;
            if (c + COLUMNS <= vectors)
                value_tile(a, s, p, alpha, row, c * VL, begin, end, COLUMNS, W);
            else
                for (int i = c; i < vectors; i++) value_tile(a, s, p, alpha, row, i * VL, begin, end, 1, W);
        }
}

/* q of one panel, transposed, and scaled unless it stays in pairs; lanes beyond the block's rows are zero. */
static void pack(const attention *a, const attention_unit *u, const block *all, int row, int lanes, float *out) {
    const clf_tensor *q = a->args->query;
    const bool pairs = step_pairs(a); /* they move like floats */
    const clf_dtype dtype = pairs ? CLF_F32 : q->dtype;
    const int dim = pairs ? a->dim / 2 : a->dim;
    for (int l = 0; l < lanes; l += VL) {
        const char *from[VL];
        for (int i = 0; i < VL; i++) {
            const int r = row + l + i;
            from[i] = attention_at(q, u->s.batch, all->head[r], u->s.query + all->query[r]);
            fetch(from[i], dim * (int)cpu_bytes(dtype));
        }
        for (int d = 0; d < dim; d += VL) {
            const int n = dim - d < VL ? dim - d : VL;
            vf x[VL];
            for (int i = 0; i < VL; i++) {
                const char *at = from[i] + (size_t)d * cpu_bytes(dtype);
                x[i] = n == VL ? v_load_as(at, dtype) : v_load_as_n(at, n, dtype);
                if (!pairs) x[i] = v_mul(x[i], v_set1(a->scale));
                if (row + l + i >= u->rows) x[i] = v_set1(0);
            }
            v_transpose(x);
            for (int i = 0; i < n; i++) v_store(out + (d + i) * lanes + l, x[i]);
        }
    }
}

/* Key `x` counted from a step's first one, cut off where it makes no difference to the n keys of the step. */
static int cut(const step *s, int64_t x) {
    for (int i = 0; i < s->pieces; i++) {
        const step_piece *p = &s->piece[i];
        if (x <= p->key) return p->at;
        if (x < p->key + p->n) return p->at + (int)(x - p->key);
    }
    return s->n;
}

/* Sets what the lanes of a panel see of a step; lanes beyond the block's rows see what the last row sees. */
static void look(panel *p, const attention_unit *u, const block *all, const step *s, int row, int lanes) {
    const int last = row + lanes <= u->rows ? row + lanes - 1 : u->rows - 1;
    p->begin = cut(s, all->first[row]);
    p->end = cut(s, all->end[last]);
    p->all_begin = cut(s, all->first[last]);
    p->all_end = cut(s, all->end[row]);
    if (p->all_begin == p->begin && p->all_end == p->end) return;
    for (int l = 0; l < lanes; l++) {
        const int r = row + l < last ? row + l : last;
        p->first[l] = (float)cut(s, all->first[r]);
        p->end_of[l] = (float)cut(s, all->end[r]);
    }
}

/* The mask of a panel, · log2 e; false where it hides everything. */
static bool look_mask(const attention *a, const attention_unit *u, const step *s, const panel *p, int row, int lanes) {
    const clf_tensor *mask = a->args->mask;
    const vf lowest = v_set1(-FLT_MAX), high = v_set1((float)LOG2_E), low = v_set1((float)(LOG2_E - (float)LOG2_E));
    const int64_t bytes = (int64_t)cpu_bytes(mask->dtype);
    const bool repeats = mask->shape[3] == 1;
    vf most = v_set1(-INFINITY);
    for (int l = 0; l < lanes; l += VL) {
        const char *m[VL];
        for (int i = 0; i < VL; i++) {
            const int r = row + l + i < u->rows ? row + l + i : u->rows - 1;
            m[i] = attention_at(mask, mask->shape[0] > 1 ? u->s.batch : 0,
                                mask->shape[1] > 1 ? attention_head(a, u, u->row + r) : 0,
                                mask->shape[2] > 1 ? u->s.query + attention_query(a, u->row + r) : 0);
        }
        for (int k = 0; k < s->pieces; k++) {
            const step_piece *piece = &s->piece[k];
            for (int j = 0; j < piece->n; j += VL) {
                const int n = piece->n - j < VL ? piece->n - j : VL;
                const int64_t at = repeats ? 0 : u->s.key + piece->key + j;
                vf x[VL];
                for (int i = 0; i < VL; i++) {
                    const char *from = m[i] + at * bytes;
                    if (repeats)
                        x[i] = v_set1(attention_float(from, 0, mask->dtype));
                    else
                        x[i] = n == VL ? v_load_as(from, mask->dtype) : v_load_as_n(from, n, mask->dtype);
                    const vf in_log2 = v_fma(x[i], low, v_mul(x[i], high));
                    x[i] = v_ge_or(x[i], lowest, v_max(lowest, in_log2), x[i]);
                }
                v_transpose(x);
                for (int i = 0; i < n; i++) {
                    v_store(p->mask + (piece->at + j + i) * lanes + l, x[i]);
                    most = v_max(most, x[i]);
                }
            }
        }
    }
    return v_hmax(most) > -INFINITY;
}

/* Runs of the values that some row of the panel sees: what a mask hides from all may be anything. */
static int seen_runs(const step *s, const panel *p, int lanes, step_run *run) {
    int runs = 0;
    for (int i = 0; i < s->runs; i++) {
        bool before = false;
        for (int j = s->run[i].at; j < s->run[i].at + s->run[i].n; j++) {
            vf most = v_set1(0);
            for (int l = 0; j >= p->begin && j < p->end && l < lanes; l += VL)
                most = v_max(v_load(p->score + j * lanes + l), most);
            const bool seen = v_hmax(most) > 0;
            if (seen && !before) run[runs++] = (step_run){NULL, s->run[i].v + (j - s->run[i].at) * s->v_stride, j, 0};
            if (seen) run[runs - 1].n++;
            before = seen;
        }
    }
    return runs;
}

INLINE void add_panel(const attention *a, const attention_unit *u, const step *s, panel *p, int row, bool first,
                      const int W) {
    float alpha[LANES];
    step_run seen[STEP];
    if (a->args->mask && !look_mask(a, u, s, p, row, W * VL)) return;
    softmax_panel(a, s, p, alpha, first, W);
    p->runs = s->runs;
    p->run = s->run;
    if (a->args->mask) {
        p->runs = seen_runs(s, p, W * VL, seen);
        p->run = seen;
    }
    if (a->least) drop(a, &u->s, s, p, W);
    values_panel(a, s, p, alpha, W);
}

static void add_panel_1(const attention *a, const attention_unit *u, const step *s, panel *p, int row, bool first) {
    add_panel(a, u, s, p, row, first, 1);
}
static void add_panel_widest(const attention *a, const attention_unit *u, const step *s, panel *p, int row,
                             bool first) {
    add_panel(a, u, s, p, row, first, WIDEST);
}
/* Vectors of the next panel: what is left of a block may be fewer rows than the widest panel's. */
INLINE int vectors_of(int left) {
    return CLF_ATTENTION_LANES % LANES && left < LANES ? 1 : WIDEST;
}

/* Fills what is kept about the rows; those beyond the block's are like the last. */
static void look_rows(const attention *a, const attention_unit *u, const block *all, int padded) {
    const clf_tensor *slopes = a->args->alibi_slopes;
    attention_row at = attention_row_of(a, u, u->row);
    int64_t first, end;
    attention_sees(a, &u->s, at.query, &first, &end);
    for (int i = 0; i < padded; i++) {
        double slope = slopes ? (double)((const float *)clf_data(slopes))[at.head * slopes->stride[0]] * LOG2_E : 0;
        if (slope > (double)FLT_MAX) slope = (double)FLT_MAX;
        all->first[i] = first;
        all->end[i] = end;
        all->query[i] = (uint32_t)at.query;
        all->head[i] = (uint32_t)at.head;
        all->slope_high[i] = (float)slope;
        all->slope_low[i] = (float)(slope - (double)all->slope_high[i]);
        if (i + 1 >= u->rows) continue;
        attention_row_next(&at);
        if (at.head == at.first) attention_sees(a, &u->s, at.query, &first, &end);
    }
}

/* The floats of a thread's work, one thing after another. */
static float *part_of(float **work, int64_t floats) {
    float *part = *work;
    *work += floats;
    return part;
}

/* Fetches up to n rows of a unit's queries, and of its outputs. */
static void fetch_rows(const attention *a, const attention_unit *u, attention_row *at, int *left, int n) {
    const clf_tensor *q = a->args->query, *out = a->args->out;
    const int q_bytes = a->dim * (int)cpu_bytes(q->dtype), out_bytes = a->v_dim * (int)cpu_bytes(out->dtype);
    for (; n > 0 && *left > 0; n--, --*left, attention_row_next(at)) {
        const char *from = attention_row_at(u, q, at), *to = attention_row_at(u, out, at);
        for (int i = 0; i < q_bytes; i += 64) __builtin_prefetch(from + i, 0, 2);
        for (int i = 0; i < out_bytes; i += 64) __builtin_prefetch(to + i, 1, 2);
    }
}

/* Fetches the layout's columns of a unit. */
static void fetch_columns(const attention *a, const attention_unit *u) {
    const attention_walk w = attention_walk_of(a, attention_query(a, u->row), 0, 0);
    for (int64_t i = w.entry; i < w.last; i += LINE)
        __builtin_prefetch((const int32_t *)clf_data(w.columns) + i * w.columns->stride[0]);
}

void attention_panels(const attention *a, const attention_unit *u, const attention_unit *after,
                      const attention_partial *out, float *work) {
    const int padded = (u->rows + CLF_ATTENTION_LANES - 1) / CLF_ATTENTION_LANES * CLF_ATTENTION_LANES;
    float *const q = part_of(&work, padded * a->pitch);
    panel p = {.score = part_of(&work, STEP * STEP), .mask = part_of(&work, STEP * STEP)};
    float *const k = part_of(&work, STEP * a->pitch), *const v = part_of(&work, STEP * a->v_pitch);
    block all = {.first = (int64_t *)(void *)part_of(&work, 2 * padded),
                 .end = (int64_t *)(void *)part_of(&work, 2 * padded),
                 .query = (uint32_t *)(void *)part_of(&work, padded),
                 .head = (uint32_t *)(void *)part_of(&work, padded),
                 .slope_high = part_of(&work, padded),
                 .slope_low = part_of(&work, padded)};
    look_rows(a, u, &all, padded);
    for (int row = 0, vectors; row < padded; row += vectors * VL) {
        vectors = vectors_of(padded - row);
        pack(a, u, &all, row, vectors * VL, q + row * a->pitch);
    }
    if (!a->args->mask) p.mask = NULL;

    step s;
    step_begin(a, u, &s);
    attention_walk walk = attention_unit_keys(a, u);
    attention_row at = attention_row_of(a, after, after->row);
    int left = after->rows;
    if (left) fetch_columns(a, after);
    while (step_take(a, u, &walk, &s, k, v)) {
        bool first = true;
        fetch_rows(a, after, &at, &left, padded / 4);
        for (int row = 0, vectors; row < padded; row += vectors * VL) {
            vectors = vectors_of(padded - row);
            look(&p, u, &all, &s, row, vectors * VL);
            if (p.begin >= p.end) continue;
            p.q = q + row * a->pitch;
            p.max = out->max + row;
            p.sum = out->sum + row;
            p.out = out->out + row * a->v_pitch;
            p.query = all.query + row;
            p.head = all.head + row;
            p.slope_high = a->args->alibi_slopes ? all.slope_high + row : NULL;
            p.slope_low = all.slope_low + row;
            for (int l = 0; p.slope_high && l < vectors * VL; l++)
                p.position[l] = (float)(all.query[row + l] + u->s.n_keys - u->s.n_queries - s.piece[0].key);
            (vectors == WIDEST ? add_panel_widest : add_panel_1)(a, u, &s, &p, row, first);
            first = false;
        }
    }
}
