/* linear_matrix.h: sums of products of two float matrices, each read along its rows or across them:
 *
 *     C[r][l] = Σ_i Σ_k A_i(r, k) · B_i(k, l)
 *
 * An operand lies as its tensor does. Along: the sum runs along its rows, row r (or l) holds A(r, ·). Across: each row
 * is one term k. So x·Wᵀ is (x along, W along), d·W is (d along, W across), dᵀ·x is (d across, x across).
 *
 * C is cut into units, at most UNIT_R × UNIT_L. Whoever takes a unit packs UNIT_L columns of B, CHUNK terms at a time
 * (L2), and tiles of A (L1); block dtypes are decoded in that step, and nowhere else. While a chunk is computed the
 * next one of B, be it of the next unit, is fetched and packed a little at a time: memory is never waited for. A unit's
 * sums lie in float32 scratch until all terms are in; each element belongs to one unit and has one order of summation,
 * so that neither threads nor their number change a bit.
 *
 * The sides are exchanged where fewer lanes would be idle: C is then Cᵀ to all that is below. */
#ifndef CLF_CPU_LINEAR_MATRIX_H
#define CLF_CPU_LINEAR_MATRIX_H

#include "decode.h"
#include "linear_tile.h"

enum {
    UNIT_R = 256,
    UNIT_L = 256,
    GROUP_R = 48, /* rows of A that are packed together: whole tiles, and whole lines of the cache across */
    MATRIX_TERMS = CLF_LINEAR_MAX
};

typedef struct operand {
    const clf_tensor *t; /* [..., columns]: matrix of clf_rows() rows */
    bool across;
    int64_t values; /* of a block, 1 of floats, */
    size_t bytes;   /* and what it takes */
} operand;

INLINE operand operand_of(const clf_tensor *t, bool across) {
    return (operand){t, across, clf_dtype_block_values(t->dtype), clf_dtype_block_bytes(t->dtype)};
}

/* Of whole blocks. */
INLINE size_t operand_bytes(const operand *o, int64_t values) {
    return (size_t)(o->values > 1 ? values / o->values : values) * o->bytes;
}

/* Where an element lies; of a block dtype, the block that it begins. */
INLINE const char *operand_at(const operand *o, int64_t row, int64_t column) {
    return (const char *)clf_data(o->t) + operand_bytes(o, clf_row_offset(o->t, row) + column);
}

typedef struct matrix {
    int64_t rows, columns; /* of C */
    int n;                 /* products that are summed */
    operand a[MATRIX_TERMS], b[MATRIX_TERMS];
    int64_t terms[MATRIX_TERMS];
    const clf_tensor *out; /* what `finish` writes, which is asked for before; or NULL */
    bool exchanged;
    int64_t unit_r, unit_l, units_r, units_l;
} matrix;

/* Terms k0 … k0 + count − 1 of product i, of the unit at r0 and l0 of C. */
typedef struct matrix_chunk {
    int64_t unit, r0, rows, l0, lanes; /* no rows: there is no such unit */
    int i, count;
    int64_t k0;
} matrix_chunk;

/* One thread's. */
typedef struct matrix_scratch {
    float *c;             /* [UNIT_R][UNIT_L] */
    float *packed[2];     /* [UNIT_L / VL][CHUNK + 1][VL]: the chunk that is computed, the one that is packed */
    matrix_chunk held[2]; /* what they hold */
    float *a[2]; /* likewise groups of rows: [GROUP_R][CHUNK], or across [GROUP_R / TILE_R][CHUNK + 1][TILE_R] */
} matrix_scratch;

enum {
    PANEL = (CHUNK + 1) * VL, /* from panel to panel: a term's lanes fall into different sets of the cache */
    PACKED = PANEL * (UNIT_L / VL),
    GROUP = GROUP_R * (CHUNK + 1), /* the last term's vectors reach over its end */
    MATRIX_SCRATCH = (UNIT_R * UNIT_L + 2 * (PACKED + GROUP)) * (int)sizeof(float)
};

INLINE matrix_scratch matrix_scratch_of(char *memory, int thread) {
    float *c = (float *)(void *)(memory + (size_t)thread * MATRIX_SCRATCH);
    float *packed = c + UNIT_R * UNIT_L;
    float *a = packed + 2 * PACKED;
    return (matrix_scratch){.c = c, .packed = {packed, packed + PACKED}, .a = {a, a + GROUP}};
}

/* n cut evenly into parts of at most `most`, but multiples of `step`. */
INLINE int64_t matrix_share_of(int64_t n, int64_t most, int64_t step) {
    if (n == 0) return step;
    const int64_t parts = (n + most - 1) / most, part = (n + parts - 1) / parts;
    return (part + step - 1) / step * step;
}

/* The rows of C are those of what a[] says, its columns those of b[]; cuts C for `threads`. */
static inline void matrix_plan(matrix *m, int threads) {
    const int64_t padded_rows = (m->rows + VL - 1) / VL * VL, padded_columns = (m->columns + VL - 1) / VL * VL;
    bool exchange = 5 * m->columns * padded_rows < 4 * m->rows * padded_columns;
    if (m->n && m->a[0].across && m->columns < UNIT_L && m->columns < m->rows)
        exchange = true; /* the narrow side is cheaper to transpose */
    int64_t step = TILE_V * VL;
    for (int i = 0; i < m->n; i++) {
        const int64_t values = m->b[i].values;
        if (values > 1) exchange = false; /* a's columns aren't read block by block */
        if (m->b[i].across && values > step) step = values;
    }
    if (exchange) {
        const int64_t rows = m->rows;
        m->rows = m->columns;
        m->columns = rows;
        m->exchanged = true;
        for (int i = 0; i < m->n; i++) {
            const operand a = m->a[i];
            m->a[i] = m->b[i];
            m->b[i] = a;
        }
    }
    int64_t r = UNIT_R, l = UNIT_L;
    while (((m->rows + r - 1) / r) * ((m->columns + l - 1) / l) < 4 * threads) {
        if (l > step && (l > 64 || r <= 4 * TILE_R))
            l /= 2;
        else if (r > 2 * TILE_R)
            r = r / 2 / TILE_R * TILE_R;
        else
            break;
    }
    m->unit_l = matrix_share_of(m->columns, l, step);
    m->units_l = (m->columns + m->unit_l - 1) / m->unit_l;
    m->unit_r = matrix_share_of(m->rows, r, m->n && m->a[0].across ? VL : 1);
    m->units_r = (m->rows + m->unit_r - 1) / m->unit_r;
}

/* Asks for `bytes` of lines [begin, end) of an operand, its rows from `row` on, from a column on. */
INLINE void matrix_fetch(const operand *o, int64_t row, int64_t column, size_t bytes, int begin, int end) {
    for (int i = begin; i < end; i++) {
        const char *p = operand_at(o, row + i, column);
        for (size_t at = 0; at < bytes; at += 64) __builtin_prefetch(p + at, 0, 2);
    }
}

/* What B(k0 …, l0 …), `count` by `lanes`, is packed by: terms, or panels where it lies along. */
INLINE int matrix_lines_b(const operand *b, int64_t lanes, int count) {
    return b->across ? count : (int)((lanes + VL - 1) / VL);
}

/* Lines [begin, end) of it, as panels [count][VL] that end in zeros, `apart` floats apart. */
static inline void matrix_pack_b_lines(const operand *b, int64_t l0, int64_t lanes, int64_t k0, int count, int begin,
                                       int end, float *to, int64_t apart) {
    const clf_dtype dtype = b->t->dtype;
    if (!b->across) {
        for (int panel = begin; panel < end; panel++) {
            float rows[VL][CHUNK], *at = to + panel * apart;
            for (int i = 0; i < VL; i++) {
                if (panel * VL + i < lanes)
                    cpu_decode_row(dtype, operand_at(b, l0 + panel * VL + i, k0), count, rows[i]);
                else
                    memset(rows[i], 0, sizeof rows[i]);
            }
            for (int k = 0; k < count; k += VL) {
                vf v[VL];
                for (int i = 0; i < VL; i++) v[i] = v_load_n(rows[i] + k, count - k < VL ? count - k : VL);
                v_transpose(v);
                for (int i = 0; i < VL && k + i < count; i++) v_store(at + (k + i) * VL, v[i]);
            }
        }
        return;
    }
    const bool blocks = b->values > 1;
    const int64_t whole = lanes / VL * VL;
    const int left = (int)(lanes - whole);
    for (int k = begin; k < end; k++) {
        float line[UNIT_L];
        const char *from = operand_at(b, k0 + k, l0);
        if (blocks) {
            cpu_decode_row(dtype, from, lanes, line);
            from = (const char *)line;
        }
        float *at = to + k * VL;
        for (int64_t l = 0; l < lanes; l += VL) __builtin_prefetch(at + l / VL * apart, 1, 3);
        CPU_FOR_DTYPE(DTYPE, blocks ? CLF_F32 : dtype, {
            const size_t size = cpu_bytes(DTYPE);
            for (int64_t l = 0; l < whole; l += VL, at += apart) v_store(at, v_load_as(from + (size_t)l * size, DTYPE));
            if (left) v_store(at, v_load_as_n(from + (size_t)whole * size, left, DTYPE));
        });
    }
}

static inline void matrix_pack_b(const operand *b, int64_t l0, int64_t lanes, int64_t k0, int count, float *to) {
    matrix_pack_b_lines(b, l0, lanes, k0, count, 0, matrix_lines_b(b, lanes, count), to, (int64_t)count * VL);
}

static inline matrix_chunk matrix_chunk_of(const matrix *m, matrix_chunk c, int i, int64_t k0) {
    c.i = i;
    c.k0 = k0;
    c.count = m->terms[i] - k0 < CHUNK ? (int)(m->terms[i] - k0) : CHUNK;
    return c;
}

/* The first chunk of the next unit that nobody has taken. */
static inline matrix_chunk matrix_take(const matrix *m, int64_t *taken) {
    matrix_chunk c = {0};
#pragma omp atomic capture
    c.unit = (*taken)++;
    if (c.unit >= m->units_r * m->units_l) return c;
    c.r0 = c.unit % m->units_r * m->unit_r;
    c.l0 = c.unit / m->units_r * m->unit_l;
    c.rows = m->rows - c.r0 < m->unit_r ? m->rows - c.r0 : m->unit_r;
    c.lanes = m->columns - c.l0 < m->unit_l ? m->columns - c.l0 : m->unit_l;
    return matrix_chunk_of(m, c, 0, 0);
}

static inline bool matrix_ends_unit(const matrix *m, const matrix_chunk *c) {
    return c->i + 1 >= m->n && c->k0 + c->count >= m->terms[c->i];
}

static inline matrix_chunk matrix_next(const matrix *m, const matrix_chunk *c, int64_t *taken) {
    if (matrix_ends_unit(m, c)) return matrix_take(m, taken);
    const bool ends = c->k0 + c->count >= m->terms[c->i];
    return matrix_chunk_of(m, *c, c->i + ends, ends ? 0 : c->k0 + c->count);
}

/* Packing is done in steps of some lines, one of them after each pair of panels that is computed; in each the lines of
 * the next step are asked for: no earlier, as lines that are far apart, by a power of two often, drive each other out
 * of the cache. */
typedef struct matrix_steps {
    int lines, each, at;
} matrix_steps;

INLINE matrix_steps matrix_steps_of(int lines, int64_t steps) {
    return (matrix_steps){lines, (int)((lines + steps - 1) / steps), 0};
}

/* The lines that are asked for, or, one step later, packed. */
INLINE int matrix_step_line(const matrix_steps *s, int step) {
    const int line = step > 0 ? step * s->each : 0;
    return line < s->lines ? line : s->lines;
}

/* The next step of packing B of a chunk. */
INLINE void matrix_step_b(const matrix *m, const matrix_chunk *c, matrix_steps *s, float *packed) {
    const operand *b = &m->b[c->i];
    const int before = matrix_step_line(s, s->at - 1), now = matrix_step_line(s, s->at),
              after = matrix_step_line(s, s->at + 1);
    s->at++;
    if (before == after) return;
    if (b->across) matrix_fetch(b, c->k0, c->l0, operand_bytes(b, c->lanes), now, after);
    matrix_pack_b_lines(b, c->l0, c->lanes, c->k0, c->count, before, now, packed, PANEL);
}

INLINE bool matrix_is_across(const matrix *m) {
    return m->n > 0 && m->a[0].across;
}

/* Rows of A in a chunk, which are packed together, in even tiles: across, some tiles' while those before are computed;
 * along, one tile's where it is used, as nothing is faster to read again than what was just written. */
typedef struct matrix_group {
    const matrix_chunk *chunk;
    int64_t first;
    int rows, tiles, edge[GROUP_R / TILE_R + 1]; /* rows [edge[i], edge[i + 1]) are a tile */
} matrix_group;

INLINE matrix_group matrix_group_at(const matrix *m, const matrix_chunk *c, int64_t first) {
    const int64_t left = c->rows - first, most = matrix_is_across(m) ? GROUP_R : TILE_R;
    matrix_group g = {.chunk = c, .first = first, .rows = (int)(left < most ? left : most)};
    g.tiles = (g.rows + TILE_R - 1) / TILE_R;
    for (int i = 1; i <= g.tiles; i++) g.edge[i] = g.rows * i / g.tiles;
    return g;
}

/* Lines [begin, end) of a group packed: terms of its tiles, or rows where A lies along. */
static inline void matrix_pack_a_lines(const operand *a, const matrix_group *g, int begin, int end, float *to) {
    const matrix_chunk *c = g->chunk;
    const int64_t r0 = c->r0 + g->first;
    const clf_dtype dtype = a->t->dtype;
    if (!a->across) {
        for (int r = begin; r < end; r++) cpu_decode_row(dtype, operand_at(a, r0 + r, c->k0), c->count, to + r * CHUNK);
        return;
    }
    for (int k = begin; k < end; k++) {
        const char *from = operand_at(a, c->k0 + k, r0);
        CPU_FOR_DTYPE(
            DTYPE, dtype, for (int tile = 0; tile < g->tiles; tile++) {
                const int first = g->edge[tile], rows = g->edge[tile + 1] - first;
                const char *p = from + (size_t)first * cpu_bytes(DTYPE);
                float *at = to + (tile * (CHUNK + 1) + k) * TILE_R;
                for (int r = 0; r < rows; r += VL) {
                    const int n = rows - r < VL ? rows - r : VL;
                    v_store(at + r, v_load_as_n(p + (size_t)r * cpu_bytes(DTYPE), n, DTYPE));
                }
            });
    }
}

/* The next step of packing a group, or, along, of asking for it. */
INLINE void matrix_step_a(const matrix *m, const matrix_group *g, matrix_steps *s, float *packed) {
    const matrix_chunk *c = g->chunk;
    const operand *a = &m->a[c->i];
    const int before = matrix_step_line(s, s->at - 1), now = matrix_step_line(s, s->at),
              after = matrix_step_line(s, s->at + 1);
    s->at++;
    if (before == after) return;
    if (a->across)
        matrix_fetch(a, c->k0, c->r0 + g->first, operand_bytes(a, g->rows), now, after);
    else
        matrix_fetch(a, c->r0 + g->first, c->k0, operand_bytes(a, c->count), now, after);
    if (a->across) matrix_pack_a_lines(a, g, before, now, packed);
}

INLINE matrix_steps matrix_steps_a(const matrix *m, const matrix_group *g, int64_t steps) {
    const matrix_chunk *c = g->chunk;
    return matrix_steps_of(c->count == 0 ? 0 : m->a[c->i].across && g->rows ? c->count : g->rows, steps);
}

/* Nothing is left to do where it is `held` already, as units below each other have the same columns. */
INLINE matrix_steps matrix_steps_b(const matrix *m, const matrix_chunk *c, const matrix_chunk *held, int64_t steps) {
    const bool same = held->rows && held->l0 == c->l0 && held->i == c->i && held->k0 == c->k0;
    return matrix_steps_of(c->rows && c->count && !same ? matrix_lines_b(&m->b[c->i], c->lanes, c->count) : 0, steps);
}

/* Asks for what `finish` writes of part `part` of `parts` of rows r0 … of a unit. */
INLINE void matrix_fetch_out(const matrix *m, const matrix_chunk *c, int64_t r0, int64_t rows, int64_t part,
                             int64_t parts) {
    const operand out = operand_of(m->out, false);
    const size_t bytes = (size_t)c->lanes * cpu_bytes(m->out->dtype);
    for (int64_t r = rows * part / parts; r < rows * (part + 1) / parts; r++) {
        const char *to = operand_at(&out, c->r0 + r0 + r, c->l0);
        for (size_t at = 0; at < bytes; at += 64) __builtin_prefetch(to + at, 1, 2);
    }
}

INLINE void matrix_swap(float *packed[2]) {
    float *const free = packed[0];
    packed[0] = packed[1];
    packed[1] = free;
}

/* Adds a chunk, packed in s->packed[0] and its first group in s->a[0], to the unit's sums, packs `next` likewise, and
 * gives rows of C that are done to `finish`, while they are in the cache. */
static inline void
matrix_add(const matrix *m, const matrix_chunk *now, const matrix_chunk *next, matrix_scratch *s, int64_t pitch,
           void (*finish)(const void *job, int64_t row, int64_t column, int64_t count, const float *y),
           const void *job) {
    const int64_t panels = pitch / VL, pairs = (panels + TILE_V - 1) / TILE_V;
    const int64_t turns = now->count < CHUNK ? 1 : pairs; /* to prepare, of a tile */
    const bool ends = matrix_ends_unit(m, now) && !m->exchanged, begins = now->i == 0 && now->k0 == 0;
    const bool across = matrix_is_across(m);
    int64_t steps = 0;
    for (int64_t first = 0; first < now->rows; first += across ? GROUP_R : TILE_R)
        steps += matrix_group_at(m, now, first).tiles * turns;
    matrix_steps next_b = matrix_steps_b(m, next, &s->held[1], steps);
    for (int64_t first = 0; first < now->rows; first += across ? GROUP_R : TILE_R) {
        const matrix_group g = matrix_group_at(m, now, first), after = first + g.rows < now->rows
                                                                           ? matrix_group_at(m, now, first + g.rows)
                                                                           : matrix_group_at(m, next, 0);
        matrix_steps next_a = matrix_steps_a(m, &after, g.tiles * turns);
        if (!across && now->count) matrix_pack_a_lines(&m->a[now->i], &g, 0, g.rows, s->a[0]);
        for (int tile = 0; tile < g.tiles; tile++) {
            const int r0 = g.edge[tile], rows = g.edge[tile + 1] - r0;
            float *c = s->c + (first + r0) * pitch;
            for (int64_t pair = 0; pair < pairs; pair++) {
                const int64_t v = pair * TILE_V;
                const float *b = s->packed[0] + v * PANEL;
                if (pair < turns) {
                    matrix_step_a(m, &after, &next_a, s->a[1]);
                    matrix_step_b(m, next, &next_b, s->packed[1]);
                }
                if (ends && m->out) matrix_fetch_out(m, now, first + r0, rows, pair, pairs);
                if (across)
                    tile_across(rows, panels - v, (const float(*)[TILE_R])(s->a[0] + tile * (CHUNK + 1) * TILE_R), b,
                                PANEL, now->count, c + v * VL, pitch, begins);
                else
                    tile_float(rows, panels - v, (const float(*)[CHUNK])(s->a[0] + r0 * CHUNK), b, PANEL, now->count,
                               c + v * VL, pitch, begins);
            }
            for (int r = 0; r < rows && ends; r++)
                finish(job, now->r0 + first + r0 + r, now->l0, now->lanes, c + r * pitch);
        }
        matrix_step_a(m, &after, &next_a, s->a[1]);
        if (across) matrix_swap(s->a);
    }
    matrix_step_b(m, next, &next_b, s->packed[1]);
    matrix_swap(s->packed);
    s->held[1] = *now;
    s->held[0] = *next;
}

/* Gives columns of a unit's sums, which are rows of what was asked for, to `finish`. */
static inline void matrix_finish_exchanged(const matrix_chunk *u, const float *c, int64_t pitch,
                                           void (*finish)(const void *job, int64_t row, int64_t column, int64_t count,
                                                          const float *y),
                                           const void *job) {
    for (int64_t l = 0; l < u->lanes; l++) {
        float y[UNIT_R];
        for (int64_t r = 0; r < u->rows; r++) y[r] = c[r * pitch + l];
        finish(job, u->l0 + l, u->r0, u->rows, y);
    }
}

/* Computes units as long as there are any that nobody has taken. */
static inline void matrix_run(const matrix *m, int64_t *taken, const matrix_scratch *s,
                              void (*finish)(const void *job, int64_t row, int64_t column, int64_t count,
                                             const float *y),
                              const void *job) {
    matrix_scratch own = *s;
    matrix_chunk now = matrix_take(m, taken);
    const matrix_group g = matrix_group_at(m, &now, 0);
    matrix_steps first_a = matrix_steps_a(m, &g, 1), first_b = matrix_steps_b(m, &now, &own.held[0], 1);
    for (int i = 0; i < 2; i++) {
        matrix_step_a(m, &g, &first_a, own.a[0]);
        matrix_step_b(m, &now, &first_b, own.packed[0]);
    }
    while (now.rows) {
        const int64_t pitch = (now.lanes + VL - 1) / VL * VL;
        const matrix_chunk next = matrix_next(m, &now, taken);
        matrix_add(m, &now, &next, &own, pitch, finish, job);
        if (matrix_ends_unit(m, &now) && m->exchanged) matrix_finish_exchanged(&now, own.c, pitch, finish, job);
        now = next;
    }
}

#endif
