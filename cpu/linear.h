/* linear.h: what the files of clf_linear() share. Everything is static: each instruction set has its own. */
#ifndef CLF_CPU_LINEAR_H
#define CLF_CPU_LINEAR_H

#include "codes.h"
#include "decode.h"
#include "linear_tile.h"
#include "quantize_x.h"
#include "ternary.h"

enum {
    DOT_STREAMS = 4, /* far-apart rows of the weights that a thread reads at a time */
    PREFETCH = 384   /* bytes ahead: best of 128 … 1024 on Zen 4, by 10–15 % */
};

/* One product x · wᵀ, w [n, k]. */
typedef struct product {
    const char *data;
    size_t row_bytes;
    clf_dtype dtype;
    int64_t n, k;
    const int32_t *tile_rows, *tile_columns; /* of a block-sparse matrix, whose data are `tiles` words of T2; or NULL */
    const float *row_scale;
    int64_t tiles;
    bool codes, ternary,
        sparse; /* x is rounded to int8, for rows of codes, for T2 and T1 or for tiles; else everything is float */
} product;

INLINE const char *product_row(const product *p, int64_t row) {
    return p->data + (size_t)row * p->row_bytes;
}

/* Of a block-sparse matrix: what no tile holds is zero. */
INLINE void sparse_decode(const product *p, int64_t row, int64_t k0, int count, float *out) {
    const int64_t t = row / T_ROWS, lane = 4 * (row % T_ROWS);
    for (int i = 0; i < count; i++) out[i] = 0;
    for (int64_t i = p->tile_rows[t]; i < p->tile_rows[t + 1]; i++) {
        const int64_t at = 16 * (int64_t)p->tile_columns[i] - k0;
        if (at < 0 || at >= count) continue;
        const uint8_t *four = (const uint8_t *)p->data + i * T_WORD + lane;
        for (int j = 0; j < 16; j++) out[at + j] = p->row_scale[row] * (float)((four[j % 4] >> j / 4 * 2 & 3) - 1);
    }
}

/* Values [k0, k0 + count) of a row, as floats; k0 a multiple of CHUNK, whole blocks. */
INLINE void product_decode(const product *p, int64_t row, int64_t k0, int count, float *out) {
    if (p->tile_rows) {
        sparse_decode(p, row, k0, count, out);
        return;
    }
    if (clf_dtype_is_interleaved(p->dtype)) {
        const char *panel = product_row(p, row / T_ROWS * T_ROWS);
        for (int i = 0; i < count; i += T_BLOCK)
            ternary_decode(p->dtype, panel, p->k, (int)(row % T_ROWS), (k0 + i) / T_BLOCK, out + i);
        return;
    }
    cpu_decode_row(p->dtype, product_row(p, row) + clf_dtype_bytes(p->dtype, k0), count, out);
}

#endif
