/* linear_gemm.h: many rows of x. x is packed with its rows along the vector lanes, so that weights are broadcast from
 * rows that lie as they were decoded; nothing of the weights is transposed.
 *
 *     float:  c[r][m] = Σ_k w[r][k] · x[m][k]                               any weight dtype, decoded to float
 *     codes:  c[r][m] = Σ_b d[m][b] · (scale[r][b] · Σ_k (code − offset) · q[m][k] − min[r][b] · Σ_k q[m][k])
 *
 * Packed x is [chunk of CHUNK k][panel of VL rows][k][lane], so that the chunk of all panels lies together (L2). A tile
 * is weights' rows × TILE_V panels; its sums stay in registers for one chunk and start from zero, which keeps the error
 * flat in k. */
#ifndef CLF_CPU_LINEAR_GEMM_H
#define CLF_CPU_LINEAR_GEMM_H

#include "linear.h"

enum {
    CODE_TILE_R = TILE_R / 2,
    BLOCK_R = 96 /* weights' rows whose c stays in L2 */
};

/* 32 k of one panel's int8 activations. */
typedef struct code_panel {
    int8_t q[QX / 4][VL][4];
    float d[VL];
    int32_t sum[2][VL]; /* of q, per 16 k */
} code_panel;

INLINE int64_t panels_of(int64_t rows) {
    return (rows + VL - 1) / VL;
}

/* Where panel `panel`'s chunk at k0 begins in packed x, in values. */
INLINE int64_t packed_at(int64_t panels, int64_t k, int64_t k0, int64_t panel) {
    const int64_t chunk = k - k0 < CHUNK ? k - k0 : CHUNK;
    return (k0 * panels + chunk * panel) * VL;
}

/* Packs VL rows of floats; rows[i] NULL gives zeros. */
INLINE void pack_float(const float *const *rows, int64_t panels, int64_t panel, int64_t k, float *packed) {
    for (int64_t k0 = 0; k0 < k; k0 += CHUNK) {
        float *to = packed + packed_at(panels, k, k0, panel);
        const int64_t count = k - k0 < CHUNK ? k - k0 : CHUNK;
        for (int64_t i = 0; i < count; i += VL) {
            const int n = count - i < VL ? (int)(count - i) : VL;
            vf v[VL];
            for (int lane = 0; lane < VL; lane++) v[lane] = rows[lane] ? v_load_n(rows[lane] + k0 + i, n) : v_set1(0);
            v_transpose(v);
            for (int at = 0; at < n; at++) v_store(to + (i + at) * VL, v[at]);
        }
    }
}

/* Likewise codes, of floats or of blocks of Q8_0. */
INLINE void pack_codes(const char *const *rows, bool blocks, int64_t panels, int64_t panel, int64_t k,
                       code_panel *packed) {
    for (int64_t k0 = 0; k0 < k; k0 += CHUNK) {
        code_panel *to = packed + packed_at(panels, k, k0, panel) / (QX * VL);
        const int64_t count = k - k0 < CHUNK ? k - k0 : CHUNK;
        for (int64_t b = 0; b < count / QX; b++)
            for (int lane = 0; lane < VL; lane++) {
                int32_t q[QX / 4] = {0};
                int16_t sum[2] = {0};
                to[b].d[lane] = 0;
                if (rows[lane]) codes_of_32(rows[lane], blocks, k0 / QX + b, (int8_t *)q, &to[b].d[lane], sum);
                for (int i = 0; i < QX / 4; i++) memcpy(to[b].q[i][lane], &q[i], 4);
                to[b].sum[0][lane] = sum[0];
                to[b].sum[1][lane] = sum[1];
            }
    }
}

/* What comes after a tile: `bytes` of each of `rows` weights' rows. */
typedef struct tile_ahead {
    const char *data;
    int64_t rows;
    size_t bytes, row_bytes;
} tile_ahead;

/* The order is that of the blocks below: rows of the block, then chunks of k, then the next block. */
INLINE tile_ahead tile_after(const product *p, int64_t row, int64_t rows, int64_t r0, int64_t k0, int tile_rows) {
    int64_t next = row + r0 + tile_rows, k = k0;
    if (r0 + tile_rows >= rows) {
        k = k0 + CHUNK < p->k ? k0 + CHUNK : 0;
        next = k ? row : row + rows;
    }
    const int64_t count = p->k - k < CHUNK ? p->k - k : CHUNK;
    const int64_t left = p->n - next;
    return (tile_ahead){product_row(p, next) + clf_dtype_bytes(p->dtype, k), left < tile_rows ? left : tile_rows,
                        clf_dtype_bytes(p->dtype, count), p->row_bytes};
}

/* While the tile is computed, part `part` of `parts` is fetched into L2. */
INLINE void fetch_ahead(const tile_ahead *t, int64_t part, int64_t parts) {
    for (int64_t r = part; r < t->rows; r += parts)
        for (size_t at = 0; at < t->bytes; at += 64) __builtin_prefetch(t->data + (size_t)r * t->row_bytes + at, 0, 2);
}

/* The codes of CODE_TILE_R rows, one chunk. */
typedef struct code_tile {
    uint8_t code[CODE_TILE_R][CHUNK];
    float scale[CODE_TILE_R][CHUNK / 16];
    float min[CODE_TILE_R][CHUNK / 32];
} code_tile;

INLINE void tile_codes(const code_tile *w, const code_panel *x, int64_t apart, int blocks, float *c, int64_t c_stride,
                       bool first, const code_format f, const int V) {
    vf acc[CODE_TILE_R][TILE_V];
    UNROLL
    for (int r = 0; r < CODE_TILE_R; r++) UNROLL
    for (int v = 0; v < V; v++) acc[r][v] = v_set1(0);
    for (int b = 0; b < blocks; b++, x++) {
        UNROLL
        for (int g = 0; g < 32 / f.group; g++) {
            vi dot[CODE_TILE_R][TILE_V];
            UNROLL
            for (int v = 0; v < V; v++) {
                vi bias = i_set1(0);
                if (f.offset) {
                    bias = i_load(x[v * apart].sum[g]);
                    if (f.group == 32) bias = i_add(bias, i_load(x[v * apart].sum[1]));
                    bias = i_mul(bias, i_set1(-f.offset));
                }
                UNROLL
                for (int r = 0; r < CODE_TILE_R; r++) dot[r][v] = bias;
            }
            const int most = i_short_steps(f.bits) ? i_short_steps(f.bits) : 1;
            const int steps = most < f.group / 4 ? most : f.group / 4;
            UNROLL
            for (int i0 = 0; i0 < f.group / 4; i0 += steps) {
                vi part[CODE_TILE_R][TILE_V];
                UNROLL
                for (int i = 0; i < steps; i++) {
                    const int at = g * (f.group / 4) + i0 + i;
                    vi xv[TILE_V];
                    UNROLL
                    for (int v = 0; v < V; v++) xv[v] = i_load(x[v * apart].q[at]);
                    UNROLL
                    for (int r = 0; r < CODE_TILE_R; r++) {
                        const vi wr = i_broadcast(&w->code[r][32 * b + 4 * at]);
                        UNROLL
                        for (int v = 0; v < V; v++) {
                            if (!i_short_steps(f.bits))
                                dot[r][v] =
                                    f.bits == 8 ? i_dot_s8(dot[r][v], wr, xv[v]) : i_dot_u7(dot[r][v], wr, xv[v]);
                            else if (i == 0)
                                part[r][v] = i_short(wr, xv[v]);
                            else
                                part[r][v] = i_short_add(part[r][v], i_short(wr, xv[v]));
                            I_PIN(*(i_short_steps(f.bits) ? &part[r][v] : &dot[r][v]));
                        }
                    }
                }
                if (!i_short_steps(f.bits)) continue;
                UNROLL
                for (int r = 0; r < CODE_TILE_R; r++) UNROLL
                for (int v = 0; v < V; v++) dot[r][v] = i_widen_add(dot[r][v], part[r][v]);
            }
            UNROLL
            for (int v = 0; v < V; v++) {
                const vf d = v_load(x[v * apart].d);
                UNROLL
                for (int r = 0; r < CODE_TILE_R; r++) {
                    const vf scale = v_set1(w->scale[r][(32 / f.group) * b + g]);
                    acc[r][v] = v_fma(v_mul(i_to_float(dot[r][v]), d), scale, acc[r][v]);
                }
            }
        }
        if (f.min) {
            UNROLL
            for (int v = 0; v < V; v++) {
                const vi sum = i_add(i_load(x[v * apart].sum[0]), i_load(x[v * apart].sum[1]));
                const vf ds = v_mul(i_to_float(sum), v_load(x[v * apart].d));
                UNROLL
                for (int r = 0; r < CODE_TILE_R; r++) acc[r][v] = v_fma(ds, v_set1(-w->min[r][b]), acc[r][v]);
            }
        }
    }
    UNROLL
    for (int r = 0; r < CODE_TILE_R; r++) UNROLL
    for (int v = 0; v < V; v++) {
        float *to = c + r * c_stride + v * VL;
        v_store(to, first ? acc[r][v] : v_add(v_load(to), acc[r][v]));
    }
}

static inline void block_float(const product *p, const float *x, int64_t panels, int64_t row, int64_t rows, float *c) {
    float w[TILE_R][CHUNK];
    const float(*cw)[CHUNK] = (const float(*)[CHUNK])w;
    for (int64_t k0 = 0; k0 < p->k; k0 += CHUNK) {
        const int count = p->k - k0 < CHUNK ? (int)(p->k - k0) : CHUNK;
        const float *chunk = x + packed_at(panels, p->k, k0, 0);
        for (int64_t r0 = 0; r0 < rows; r0 += TILE_R) {
            for (int r = 0; r < TILE_R && r0 + r < rows; r++) product_decode(p, row + r0 + r, k0, count, w[r]);
            float *to = c + r0 * panels * VL;
            const int left = rows - r0 < TILE_R ? (int)(rows - r0) : TILE_R;
            const tile_ahead next = tile_after(p, row, rows, r0, k0, TILE_R);
            for (int64_t v = 0; v < panels; v += TILE_V) {
                fetch_ahead(&next, v / TILE_V, (panels + TILE_V - 1) / TILE_V);
                const float *from = chunk + v * count * VL;
                tile_float(left, panels - v, cw, from, (int64_t)count * VL, count, to + v * VL, panels * VL, k0 == 0);
            }
        }
    }
}

INLINE void block_codes_as(const product *p, const clf_dtype dtype, const code_panel *x, int64_t panels, int64_t row,
                           int64_t rows, float *c) {
    const code_format f = code_format_of(dtype);
    code_tile w;
    for (int64_t k0 = 0; k0 < p->k; k0 += CHUNK) {
        const int count = p->k - k0 < CHUNK ? (int)(p->k - k0) : CHUNK;
        const code_panel *chunk = x + k0 * panels / QX;
        for (int64_t r0 = 0; r0 < rows; r0 += CODE_TILE_R) {
            for (int r = 0; r < CODE_TILE_R; r++) {
                const char *from = product_row(p, row + (r0 + r < rows ? r0 + r : rows - 1));
                code_row(dtype, from + clf_dtype_bytes(dtype, k0), count, w.code[r], w.scale[r], w.min[r]);
            }
            float *to = c + r0 * panels * VL;
            const int blocks = count / QX;
            const tile_ahead next = tile_after(p, row, rows, r0, k0, CODE_TILE_R);
            for (int64_t v = 0; v < panels; v += TILE_V) {
                fetch_ahead(&next, v / TILE_V, (panels + TILE_V - 1) / TILE_V);
                const code_panel *from = chunk + v * blocks;
                if (v + TILE_V <= panels)
                    tile_codes(&w, from, blocks, blocks, to + v * VL, panels * VL, k0 == 0, f, TILE_V);
                else
                    tile_codes(&w, from, 0, blocks, to + v * VL, panels * VL, k0 == 0, f, 1);
            }
        }
    }
}

static inline void block_codes(const product *p, const code_panel *x, int64_t panels, int64_t row, int64_t rows,
                               float *c) {
    switch (p->dtype) {
    case CLF_Q8_0: block_codes_as(p, CLF_Q8_0, x, panels, row, rows, c); break;
    case CLF_Q4_0: block_codes_as(p, CLF_Q4_0, x, panels, row, rows, c); break;
    case CLF_Q4_K: block_codes_as(p, CLF_Q4_K, x, panels, row, rows, c); break;
    case CLF_Q5_K: block_codes_as(p, CLF_Q5_K, x, panels, row, rows, c); break;
    case CLF_Q4_1: block_codes_as(p, CLF_Q4_1, x, panels, row, rows, c); break;
    case CLF_Q5_1: block_codes_as(p, CLF_Q5_1, x, panels, row, rows, c); break;
    case CLF_Q3_K: block_codes_as(p, CLF_Q3_K, x, panels, row, rows, c); break;
    case CLF_IQ4_NL: block_codes_as(p, CLF_IQ4_NL, x, panels, row, rows, c); break;
    case CLF_IQ4_XS: block_codes_as(p, CLF_IQ4_XS, x, panels, row, rows, c); break;
    case CLF_MXFP4: block_codes_as(p, CLF_MXFP4, x, panels, row, rows, c); break;
    case CLF_TQ1_0: block_codes_as(p, CLF_TQ1_0, x, panels, row, rows, c); break;
    case CLF_TQ2_0: block_codes_as(p, CLF_TQ2_0, x, panels, row, rows, c); break;
    case CLF_Q2_0: block_codes_as(p, CLF_Q2_0, x, panels, row, rows, c); break;
    default: block_codes_as(p, CLF_Q6_K, x, panels, row, rows, c);
    }
}

#endif
