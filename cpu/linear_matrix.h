/* linear_matrix.h: sums of products of two float matrices, each read along its rows or across them:
 *
 *     C[r][l] = Σ_i Σ_k A_i(r, k) · B_i(k, l)
 *
 * An operand lies as its tensor does. Along: the sum runs along its rows, row r (or l) holds A(r, ·). Across: each row
 * is one term k. So x·Wᵀ is (x along, W along), d·W is (d along, W across), dᵀ·x is (d across, x across).
 *
 * C is cut into units, at most UNIT_R × UNIT_L. Whoever takes a unit packs UNIT_L columns of B, CHUNK terms at a time
 * (L2), and tiles of A (L1); block dtypes are decoded in that step, and nowhere else. A unit's sums lie in float32
 * scratch until all terms are in; each element belongs to one unit and has one order of summation, so that neither
 * threads nor their number change a bit.
 *
 * The sides are exchanged where fewer lanes would be idle: C is then Cᵀ to all that is below. */
#ifndef CLF_CPU_LINEAR_MATRIX_H
#define CLF_CPU_LINEAR_MATRIX_H

#include "decode.h"
#include "linear_tile.h"

enum { UNIT_R = 384, UNIT_L = 256, MATRIX_TERMS = CLF_LINEAR_MAX };

typedef struct operand {
    const clf_tensor *t; /* [..., columns]: matrix of clf_rows() rows */
    bool across;
} operand;

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
    float *c;      /* [UNIT_R][UNIT_L] */
    float *packed; /* [UNIT_L / VL][CHUNK][VL] */
} matrix_scratch;

enum { MATRIX_SCRATCH = (UNIT_R * UNIT_L + UNIT_L * CHUNK) * (int)sizeof(float) };

INLINE matrix_scratch matrix_scratch_of(char *memory, int thread) {
    float *c = (float *)(void *)(memory + (size_t)thread * MATRIX_SCRATCH);
    return (matrix_scratch){c, c + UNIT_R * UNIT_L};
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
    m->units_l = (m->columns + l - 1) / l;
    m->unit_l = m->units_l ? ((m->columns + m->units_l - 1) / m->units_l + step - 1) / step * step : 0;
    m->units_r = (m->rows + r - 1) / r;
    m->unit_r = m->units_r ? (m->rows + m->units_r - 1) / m->units_r : 0;
}

/* A(r0 …, k0 …): `rows` by `count`. */
static inline void matrix_pack_a(const operand *a, int64_t r0, int rows, int64_t k0, int count, float (*to)[CHUNK]) {
    const clf_dtype dtype = a->t->dtype;
    if (!a->across) {
        const size_t from = clf_dtype_bytes(dtype, k0);
        for (int r = 0; r < rows; r++) cpu_decode_row(dtype, (const char *)clf_row(a->t, r0 + r) + from, count, to[r]);
        return;
    }
    const size_t size = cpu_bytes(dtype), from = (size_t)r0 * size;
    for (int k = 0; k < count; k += VL)
        for (int r = 0; r < rows; r += VL) {
            const int n = rows - r < VL ? rows - r : VL;
            vf v[VL];
            for (int i = 0; i < VL; i++) {
                if (k + i < count) {
                    const char *p = (const char *)clf_row(a->t, k0 + k + i) + from + (size_t)r * size;
                    CPU_FOR_DTYPE(DTYPE, dtype, v[i] = v_load_as_n(p, n, DTYPE));
                } else {
                    v[i] = v_set1(0);
                }
            }
            v_transpose(v);
            for (int i = 0; i < n; i++) v_store(to[r + i] + k, v[i]);
        }
}

/* B(k0 …, l0 …), `count` by `lanes`, as panels [count][VL] that end in zeros. */
static inline void matrix_pack_b(const operand *b, int64_t l0, int64_t lanes, int64_t k0, int count, float *to) {
    const clf_dtype dtype = b->t->dtype;
    if (!b->across) {
        float rows[VL][CHUNK];
        for (int64_t l = 0; l < lanes; l += VL, to += count * VL) {
            for (int i = 0; i < VL; i++) {
                if (l + i < lanes)
                    cpu_decode_row(dtype, (const char *)clf_row(b->t, l0 + l + i) + clf_dtype_bytes(dtype, k0), count,
                                   rows[i]);
                else
                    memset(rows[i], 0, sizeof rows[i]);
            }
            for (int k = 0; k < count; k += VL) {
                vf v[VL];
                for (int i = 0; i < VL; i++) v[i] = v_load_n(rows[i] + k, count - k < VL ? count - k : VL);
                v_transpose(v);
                for (int i = 0; i < VL && k + i < count; i++) v_store(to + (k + i) * VL, v[i]);
            }
        }
        return;
    }
    const bool blocks = clf_dtype_is_block(dtype);
    const int64_t whole = lanes / VL * VL;
    const int left = (int)(lanes - whole);
    for (int k = 0; k < count; k++) {
        float line[UNIT_L];
        const char *p = (const char *)clf_row(b->t, k0 + k) + clf_dtype_bytes(dtype, l0);
        if (blocks) cpu_decode_row(dtype, p, lanes, line);
        const char *from = blocks ? (const char *)line : p;
        float *at = to + k * VL;
        CPU_FOR_DTYPE(DTYPE, blocks ? CLF_F32 : dtype, {
            const size_t size = cpu_bytes(DTYPE);
            for (int64_t l = 0; l < whole; l += VL, at += count * VL)
                v_store(at, v_load_as(from + (size_t)l * size, DTYPE));
            if (left) v_store(at, v_load_as_n(from + (size_t)whole * size, left, DTYPE));
        });
    }
}

/* Asks for A(r0 …, k0 …), which is packed next. */
INLINE void matrix_fetch_a(const operand *a, int64_t r0, int rows, int64_t k0, int count) {
    const clf_dtype dtype = a->t->dtype;
    if (!a->across) {
        const size_t from = clf_dtype_bytes(dtype, k0), bytes = clf_dtype_bytes(dtype, count);
        for (int r = 0; r < rows; r++) {
            const char *p = (const char *)clf_row(a->t, r0 + r) + from;
            for (size_t at = 0; at < bytes; at += 64) __builtin_prefetch(p + at, 0, 2);
        }
        return;
    }
    const size_t from = (size_t)r0 * cpu_bytes(dtype);
    for (int k = 0; k < count; k++) __builtin_prefetch((const char *)clf_row(a->t, k0 + k) + from, 0, 2);
}

/* Asks for part `part` of `parts` of the columns of B that are packed next. */
INLINE void matrix_fetch(const operand *b, int64_t l0, int64_t lanes, int64_t k0, int64_t terms, int64_t part,
                         int64_t parts) {
    if (!b->across) return;
    const size_t from = clf_dtype_bytes(b->t->dtype, l0), bytes = clf_dtype_bytes(b->t->dtype, lanes);
    const int64_t count = terms - k0 < CHUNK ? terms - k0 : CHUNK;
    for (int64_t k = count * part / parts; k < count * (part + 1) / parts; k++) {
        const char *row = (const char *)clf_row(b->t, k0 + k) + from;
        for (size_t at = 0; at < bytes; at += 64) __builtin_prefetch(row + at, 0, 2);
    }
}

/* Where unit `unit` lies in C; `c` holds it afterwards, `pitch` floats a row. */
typedef struct matrix_unit {
    int64_t r0, rows, l0, lanes, pitch;
} matrix_unit;

static inline matrix_unit matrix_multiply(const matrix *m, int64_t unit, const matrix_scratch *s) {
    matrix_unit u = {.r0 = unit % m->units_r * m->unit_r, .l0 = unit / m->units_r * m->unit_l};
    u.rows = m->rows - u.r0 < m->unit_r ? m->rows - u.r0 : m->unit_r;
    u.lanes = m->columns - u.l0 < m->unit_l ? m->columns - u.l0 : m->unit_l;
    if (u.rows <= 0 || u.lanes <= 0) return (matrix_unit){0};
    const int64_t panels = (u.lanes + VL - 1) / VL, tiles = (u.rows + TILE_R - 1) / TILE_R;
    u.pitch = panels * VL;
    bool first = true;
    for (int i = 0; i < m->n; i++)
        for (int64_t k0 = 0; k0 < m->terms[i]; k0 += CHUNK, first = false) {
            const int count = m->terms[i] - k0 < CHUNK ? (int)(m->terms[i] - k0) : CHUNK;
            matrix_pack_b(&m->b[i], u.l0, u.lanes, k0, count, s->packed);
            for (int64_t tile = 0; tile < tiles; tile++) {
                float a[TILE_R][CHUNK];
                const int64_t r0 = u.rows * tile / tiles;
                const int rows = (int)(u.rows * (tile + 1) / tiles - r0);
                matrix_pack_a(&m->a[i], u.r0 + r0, rows, k0, count, a);
                if (tile + 1 < tiles)
                    matrix_fetch_a(&m->a[i], u.r0 + r0 + rows, (int)(u.rows * (tile + 2) / tiles - r0 - rows), k0,
                                   count);
                if (k0 + CHUNK < m->terms[i])
                    matrix_fetch(&m->b[i], u.l0, u.lanes, k0 + CHUNK, m->terms[i], tile, tiles);
                for (int64_t v = 0; v < panels; v += TILE_V)
                    tile_float(rows, panels - v, (const float(*)[CHUNK])a, s->packed + v * count * VL,
                               (int64_t)count * VL, count, s->c + r0 * u.pitch + v * VL, u.pitch, first);
            }
        }
    if (first) memset(s->c, 0, (size_t)(u.rows * u.pitch) * sizeof *s->c);
    return u;
}

/* Computes unit `unit` and gives its rows of C, or the parts of them that it holds, to `finish`. */
static inline void matrix_run(const matrix *m, int64_t unit, const matrix_scratch *s,
                              void (*finish)(const void *job, int64_t row, int64_t column, int64_t count,
                                             const float *y),
                              const void *job) {
    const matrix_unit u = matrix_multiply(m, unit, s);
    if (!m->exchanged) {
        for (int64_t r = 0; r < u.rows; r++) finish(job, u.r0 + r, u.l0, u.lanes, s->c + r * u.pitch);
        return;
    }
    for (int64_t l = 0; l < u.lanes; l++) {
        float y[UNIT_R];
        for (int64_t r = 0; r < u.rows; r++) y[r] = s->c[r * u.pitch + l];
        finish(job, u.l0 + l, u.r0, u.rows, y);
    }
}

#endif
