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

enum { UNIT_R = 256, UNIT_L = 256, MATRIX_TERMS = CLF_LINEAR_MAX };

typedef struct operand {
    const clf_tensor *t; /* [..., columns]: matrix of clf_rows() rows */
    bool across;
} operand;

/* Where an element lies; of a block dtype, the block that it begins. */
INLINE const char *operand_at(const operand *o, int64_t row, int64_t column) {
    const clf_dtype dtype = o->t->dtype;
    if (clf_dtype_is_block(dtype)) return (const char *)clf_row(o->t, row) + clf_dtype_bytes(dtype, column);
    return (const char *)clf_data(o->t) + (size_t)(clf_row_offset(o->t, row) + column) * cpu_bytes(dtype);
}

typedef struct matrix {
    int64_t rows, columns; /* of C */
    int n;                 /* products that are summed */
    operand a[MATRIX_TERMS], b[MATRIX_TERMS];
    int64_t terms[MATRIX_TERMS];
    bool exchanged;
    int64_t unit_r, unit_l, units_r, units_l;
} matrix;

/* One thread's. */
typedef struct matrix_scratch {
    float *c;         /* [UNIT_R][UNIT_L] */
    float *packed[2]; /* [UNIT_L / VL][CHUNK + 1][VL]: the chunk that is computed, the one that is packed */
} matrix_scratch;

enum {
    PANEL = (CHUNK + 1) * VL, /* from panel to panel: a term's lanes fall into different sets of the cache */
    PACKED = PANEL * (UNIT_L / VL),
    MATRIX_SCRATCH = (UNIT_R * UNIT_L + 2 * PACKED) * (int)sizeof(float)
};

INLINE matrix_scratch matrix_scratch_of(char *memory, int thread) {
    float *c = (float *)(void *)(memory + (size_t)thread * MATRIX_SCRATCH);
    return (matrix_scratch){c, {c + UNIT_R * UNIT_L, c + UNIT_R * UNIT_L + PACKED}};
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
        const int values = clf_dtype_block_values(m->b[i].t->dtype);
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
    m->unit_r = matrix_share_of(m->rows, r, 1);
    m->units_r = (m->rows + m->unit_r - 1) / m->unit_r;
}

/* A(r0 …, k0 …): `rows` by `count`. */
static inline void matrix_pack_a(const operand *a, int64_t r0, int rows, int64_t k0, int count, float (*to)[CHUNK]) {
    const clf_dtype dtype = a->t->dtype;
    if (!a->across) {
        for (int r = 0; r < rows; r++) cpu_decode_row(dtype, operand_at(a, r0 + r, k0), count, to[r]);
        return;
    }
    for (int k = 0; k < count; k += VL)
        for (int r = 0; r < rows; r += VL) {
            const int n = rows - r < VL ? rows - r : VL;
            vf v[VL];
            for (int i = 0; i < VL; i++) {
                if (k + i < count) {
                    const char *p = operand_at(a, k0 + k + i, r0 + r);
                    CPU_FOR_DTYPE(DTYPE, dtype, v[i] = v_load_as_n(p, n, DTYPE));
                } else {
                    v[i] = v_set1(0);
                }
            }
            v_transpose(v);
            for (int i = 0; i < n; i++) v_store(to[r + i] + k, v[i]);
        }
}

/* Part `part` of `parts` of B(k0 …, l0 …), `count` by `lanes`, as panels [count][VL] that end in zeros, `apart` floats
 * apart. */
static inline void matrix_pack_part(const operand *b, int64_t l0, int64_t lanes, int64_t k0, int count, int64_t part,
                                    int64_t parts, float *to, int64_t apart) {
    const clf_dtype dtype = b->t->dtype;
    if (!b->across) {
        const int64_t panels = (lanes + VL - 1) / VL;
        for (int64_t panel = panels * part / parts; panel < panels * (part + 1) / parts; panel++) {
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
    const bool blocks = clf_dtype_is_block(dtype);
    const int64_t whole = lanes / VL * VL;
    const int left = (int)(lanes - whole);
    for (int64_t k = count * part / parts; k < count * (part + 1) / parts; k++) {
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
    matrix_pack_part(b, l0, lanes, k0, count, 0, 1, to, (int64_t)count * VL);
}

INLINE void matrix_fetch_line(const char *p, size_t bytes) {
    for (size_t at = 0; at < bytes; at += 64) __builtin_prefetch(p + at, 0, 2);
}

/* Asks for part `part` of `parts` of A(r0 …, k0 …), which is packed next. */
INLINE void matrix_fetch_a(const operand *a, int64_t r0, int rows, int64_t k0, int count, int64_t part, int64_t parts) {
    const clf_dtype dtype = a->t->dtype;
    const int64_t lines = a->across ? count : rows;
    for (int64_t i = lines * part / parts; i < lines * (part + 1) / parts; i++)
        if (a->across)
            __builtin_prefetch(operand_at(a, k0 + i, r0), 0, 2);
        else
            matrix_fetch_line(operand_at(a, r0 + i, k0), clf_dtype_bytes(dtype, count));
}

/* Asks for part `part` of `parts` of the columns of B that are packed next. */
INLINE void matrix_fetch(const operand *b, int64_t l0, int64_t lanes, int64_t k0, int64_t terms, int64_t part,
                         int64_t parts) {
    if (!b->across) return;
    const size_t bytes = clf_dtype_bytes(b->t->dtype, lanes);
    const int64_t count = terms - k0 < CHUNK ? terms - k0 : CHUNK;
    for (int64_t k = count * part / parts; k < count * (part + 1) / parts; k++)
        matrix_fetch_line(operand_at(b, k0 + k, l0), bytes);
}

/* Terms k0 … k0 + count − 1 of product i, of the unit at r0 and l0 of C. */
typedef struct matrix_chunk {
    int64_t unit, r0, rows, l0, lanes; /* no rows: there is no such unit */
    int i, count;
    int64_t k0;
} matrix_chunk;

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

/* A part of what the next chunk needs: fetched while the part before it is packed. */
INLINE void matrix_prepare(const matrix *m, const matrix_chunk *c, int64_t part, int64_t parts, float *packed) {
    const operand *b = &m->b[c->i];
    const int64_t lead = parts > 1;
    if (c->rows == 0 || c->count == 0) return;
    if (part < parts - lead) matrix_fetch(b, c->l0, c->lanes, c->k0, c->k0 + c->count, part, parts - lead);
    if (part >= lead) matrix_pack_part(b, c->l0, c->lanes, c->k0, c->count, part - lead, parts - lead, packed, PANEL);
}

/* Adds a chunk, packed in packed[0], to the unit's sums, and packs `next` in packed[1]. */
static inline void matrix_add(const matrix *m, const matrix_chunk *now, const matrix_chunk *next, float *const *packed,
                              float *c, int64_t pitch) {
    const operand *a = &m->a[now->i];
    const int64_t panels = pitch / VL, pairs = (panels + TILE_V - 1) / TILE_V,
                  tiles = (now->rows + TILE_R - 1) / TILE_R;
    const int64_t turns = now->count < CHUNK ? 1 : pairs; /* to prepare, of a tile */
    for (int64_t tile = 0; tile < tiles; tile++) {
        float rows_a[TILE_R][CHUNK];
        const int64_t first = now->rows * tile / tiles, end = now->rows * (tile + 1) / tiles,
                      after = tile + 1 < tiles ? now->rows * (tile + 2) / tiles : end;
        if (now->count) matrix_pack_a(a, now->r0 + first, (int)(end - first), now->k0, now->count, rows_a);
        for (int64_t pair = 0; pair < pairs; pair++) {
            const int64_t v = pair * TILE_V;
            if (pair < turns) {
                matrix_fetch_a(a, now->r0 + end, (int)(after - end), now->k0, now->count, pair, turns);
                matrix_prepare(m, next, tile * turns + pair, tiles * turns, packed[1]);
            }
            tile_float((int)(end - first), panels - v, (const float(*)[CHUNK])rows_a, packed[0] + v * PANEL, PANEL,
                       now->count, c + first * pitch + v * VL, pitch, now->i == 0 && now->k0 == 0);
        }
    }
}

/* Gives a unit's rows of C, or the parts of them that it holds, to `finish`. */
static inline void matrix_finish(const matrix *m, const matrix_chunk *u, const float *c, int64_t pitch,
                                 void (*finish)(const void *job, int64_t row, int64_t column, int64_t count,
                                                const float *y),
                                 const void *job) {
    if (!m->exchanged) {
        for (int64_t r = 0; r < u->rows; r++) finish(job, u->r0 + r, u->l0, u->lanes, c + r * pitch);
        return;
    }
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
    float *packed[2] = {s->packed[0], s->packed[1]};
    matrix_chunk now = matrix_take(m, taken);
    matrix_prepare(m, &now, 0, 1, packed[0]);
    while (now.rows) {
        const int64_t pitch = (now.lanes + VL - 1) / VL * VL;
        const matrix_chunk next = matrix_next(m, &now, taken);
        matrix_add(m, &now, &next, packed, s->c, pitch);
        if (matrix_ends_unit(m, &now)) matrix_finish(m, &now, s->c, pitch, finish, job);
        float *const free = packed[0];
        packed[0] = packed[1];
        packed[1] = free;
        now = next;
    }
}

#endif
