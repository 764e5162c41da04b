/* attention_tile.h: the products of attention over many rows, in tiles of ROWS × COLUMNS vectors that stay in
 * registers, and the forms that rows take for them:
 *
 *   rows      [i][d], the tensor's own or converted to floats
 *   columns   [d / PANEL][i][d % PANEL]: what a product of many rows i reads side by side
 *   panels    [i / PANEL][d][i % PANEL]: rows along the lanes
 */
#ifndef CLF_CPU_ATTENTION_TILE_H
#define CLF_CPU_ATTENTION_TILE_H

#include "attention.h"

#if defined(__AVX512F__) || (defined(__ARM_NEON) && !defined(CLF_SIMD_OFF)) /* 24 accumulators of 32 registers */
enum { ROWS = 12, COLUMNS = 2 };
#else /* 12 of 16 */
enum { ROWS = 6, COLUMNS = 2 };
#endif
enum { PANEL = COLUMNS * VL };

/* acc[r][c] = Σ_k a[r·ar + k·ak] b[k·bk + c·VL] */
INLINE void tile_product(vf *acc, const int rows, const int columns, int64_t n, const float *a, int64_t ar, int64_t ak,
                         const float *b, int64_t bk) {
    UNROLL for (int i = 0; i < rows * columns; i++) acc[i] = v_set1(0);
    attention_multiply(acc, rows, columns, n, a, ar, ak, b, bk);
}

/* Writes a row of floats, scaled, to a tensor's row. */
static inline void tile_store(char *row, clf_dtype dtype, const float *x, int dim, float scale) {
    const vf by = v_set1(scale);
    CPU_FOR_DTYPE(DTYPE, dtype, {
        for (int d = 0; d < dim; d += VL) {
            char *at = row + (size_t)d * cpu_bytes(DTYPE);
            if (d + VL <= dim)
                v_store_as(at, v_mul(v_load(x + d), by), DTYPE);
            else
                v_store_as_n(at, v_mul(v_load(x + d), by), dim - d, DTYPE);
        }
    });
}

/* Rows of floats: the tensor's own where they are float32, and whole vectors if `whole`; else converted, and padded to
 * whole vectors with zeros. */
static inline const float *tile_rows(const clf_tensor *t, const char *first, int n, int dim, bool whole, int64_t pitch,
                                     float *buffer, int64_t *stride) {
    if (t->dtype == CLF_F32 && (!whole || dim % VL == 0)) return *stride = t->stride[2], (const float *)first;
    attention_convert(first, attention_bytes(t, t->stride[2]), t->dtype, n, dim, pitch, buffer);
    *stride = pitch;
    return buffer;
}

/* One row into columns of `rows` rows each, times weight; without it, zeros whatever the row is. */
static inline void tile_columns(float *columns, int rows, int i, const char *row, clf_dtype dtype, int dim,
                                float weight) {
    const vf by = v_set1(weight);
    CPU_FOR_DTYPE(DTYPE, dtype, {
        for (int d = 0; d < dim; d += VL) {
            float *at = columns + ((int64_t)(d / PANEL) * rows + i) * PANEL + d % PANEL;
            v_store(at, weight == 0 ? v_set1(0) : v_mul(by, attention_load(row, d, dim - d, DTYPE)));
        }
    });
}

/* Panels [..][pitch][PANEL] of columns' first n rows, n a multiple of VL, times scale. */
static inline void tile_panels(float *panels, int64_t pitch, const float *columns, int rows, int n, int dim,
                               float scale) {
    const vf by = v_set1(scale);
    for (int i = 0; i < n; i += VL)
        for (int d = 0; d < dim; d += VL) {
            const float *from = columns + ((int64_t)(d / PANEL) * rows + i) * PANEL + d % PANEL;
            float *to = panels + i / PANEL * PANEL * pitch + (int64_t)d * PANEL + i % PANEL;
            vf x[VL];
            UNROLL for (int r = 0; r < VL; r++) x[r] = v_load(from + r * PANEL);
            v_transpose(x);
            UNROLL for (int r = 0; r < VL; r++) v_store(to + r * PANEL, v_mul(by, x[r]));
        }
}

#endif
