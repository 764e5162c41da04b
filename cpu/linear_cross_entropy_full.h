/* linear_cross_entropy_full.h: the products of linear_cross_entropy_full.c, on operands as they lie: m rows of a chunk,
 * BLOCK rows of the weights. The rows' dz and z are [m][BLOCK].
 *
 *     dot    z[m][v] = Σ_k x[m][k] · w[v][k]                  both along their rows: lanes are k, summed at the end
 *     outer  c[r][j] += Σ_i a[r, i] · b[i][j]                 lanes are j; b's rows by their addresses
 *            d_x[m] += Σ_v dz[m][v] · w[v]                    a(r, i) = dz[r][i]
 *            d_weight[v] += Σ_m dz[m][v] · x[m]               a(r, i) = dz[i][r]
 */
#ifndef CLF_CPU_LINEAR_CROSS_ENTROPY_FULL_H
#define CLF_CPU_LINEAR_CROSS_ENTROPY_FULL_H

#include "decode.h"
#include "linear_cross_entropy.h"
#include "linear_tile.h"

enum {
    BLOCK = 24,              /* rows of the weights that are in L2 with a chunk of x */
    MOST_ROWS = 96,          /* of a chunk */
    DOT_M = SPAN,            /* a tile of dots: rows of x … */
    DOT_V = VL == 8 ? 2 : 6, /* … by rows of the weights: 8 sums of 16 registers, 24 of 32 */
    DOT_K = 1024             /* its terms, so that the weights' part is read from L1 */
};

/* z[m][v] (+)= x[m] · w[v] over k0 … k0 + n, a multiple of VL. */
INLINE void dot_tile(const float *const *x, const float *const *w, int64_t k0, int64_t n, float *z, int rows,
                     bool first) {
    vf sum[DOT_V][DOT_M];
    UNROLL
    for (int v = 0; v < DOT_V; v++) UNROLL
    for (int m = 0; m < DOT_M; m++) sum[v][m] = v_set1(0);
    for (int64_t k = k0; k < k0 + n; k += VL) {
        vf xv[DOT_M];
        UNROLL
        for (int m = 0; m < DOT_M; m++) xv[m] = v_load(x[m] + k);
        UNROLL
        for (int v = 0; v < DOT_V; v++) {
            const vf wv = v_load(w[v] + k);
            UNROLL
            for (int m = 0; m < DOT_M; m++) sum[v][m] = v_fma(wv, xv[m], sum[v][m]);
        }
    }
    UNROLL
    for (int v = 0; v < DOT_V; v++) {
        float total[VL];
        v_store(total, v_spans_sum(v_span_sums(sum[v])));
        for (int m = 0; m < rows; m++) {
            float *to = z + m * BLOCK + v;
            *to = first ? total[m] : *to + total[m];
        }
    }
}

/* z of `rows` rows x, and BLOCK rows w; k is a multiple of VL. */
static void dot(const float *const *x, int rows, const float *const *w, int64_t k, float *z) {
    if (k == 0) memset(z, 0, (size_t)rows * BLOCK * sizeof *z);
    for (int v = 0; v < BLOCK; v += DOT_V)
        for (int64_t k0 = 0; k0 < k; k0 += DOT_K)
            for (int m = 0; m < rows; m += DOT_M) {
                const float *xm[DOT_M];
                for (int i = 0; i < DOT_M; i++) xm[i] = x[m + i < rows ? m + i : rows - 1];
                dot_tile(xm, w + v, k0, k - k0 < DOT_K ? k - k0 : DOT_K, z + m * BLOCK + v,
                         rows - m < DOT_M ? rows - m : DOT_M, k0 == 0);
            }
}

INLINE void outer_of(const int R, const int V, const float *a, const int ar, const int ai, int n, const float *const *b,
                     int64_t j, float *c, int64_t pitch) {
    vf sum[TILE_R][TILE_V];
    UNROLL
    for (int r = 0; r < R; r++) UNROLL
    for (int v = 0; v < V; v++) sum[r][v] = v_set1(0);
    for (int i = 0; i < n; i++, a += ai) {
        vf bv[TILE_V];
        UNROLL
        for (int v = 0; v < V; v++) bv[v] = v_load(b[i] + j + v * VL);
        UNROLL
        for (int r = 0; r < R; r++) {
            const vf s = v_set1(a[r * ar]);
            UNROLL
            for (int v = 0; v < V; v++) sum[r][v] = v_fma(s, bv[v], sum[r][v]);
        }
    }
    __asm__ volatile("" ::: "memory"); /* c isn't read before: there are no registers for it, and gcc would spill bv */
    UNROLL
    for (int r = 0; r < R; r++) UNROLL
    for (int v = 0; v < V; v++) {
        float *to = c + r * pitch + v * VL;
        v_store(to, v_add(v_load(to), sum[r][v]));
    }
}

#if defined(__AVX512F__)
#define OUTER_ROWS(ROW) ROW(1) ROW(2) ROW(3) ROW(4) ROW(5) ROW(6) ROW(7) ROW(8) ROW(9) ROW(10) ROW(11) ROW(12)
#else
#define OUTER_ROWS(ROW) ROW(1) ROW(2) ROW(3) ROW(4) ROW(5) ROW(6)
#endif

/* `rows` ≤ TILE_R of c, TILE_V · VL columns from j on. `down`: a(r, i) = a[i][r]. */
static void outer(int rows, bool down, const float *a, int n, const float *const *b, int64_t j, float *c,
                  int64_t pitch) {
#define OUTER(R)                                                                                                       \
    case R:                                                                                                            \
        if (down)                                                                                                      \
            outer_of(R, TILE_V, a, 1, BLOCK, n, b, j, c, pitch);                                                       \
        else                                                                                                           \
            outer_of(R, TILE_V, a, BLOCK, 1, n, b, j, c, pitch);                                                       \
        break;
    switch (rows) {
        OUTER_ROWS(OUTER)
    default: break;
    }
#undef OUTER
}

#endif
