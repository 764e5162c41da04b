/* linear_tile.h: the one kernel of float products, whatever their operands' layout: those who call it pack differently.
 *
 *     c[r][l] (+)= Σ_k a[r][k] · b[k][l]
 *
 * a: up to TILE_R rows that are broadcast, [r][CHUNK] or, across, [k][TILE_R]. b: one or two panels [k][VL]. Sums stay
 * in registers for `count` terms, at most CHUNK, and start from zero, which keeps the error flat in k. Each height has
 * a body of its own, so that a few rows cost no more than they are. */
#ifndef CLF_CPU_LINEAR_TILE_H
#define CLF_CPU_LINEAR_TILE_H

#include "cpu.h"

#if defined(__AVX512F__)
enum { TILE_R = 12 };
#else
enum { TILE_R = 6 };
#endif
enum {
    TILE_V = 2, /* a last odd panel is done alone */
    CHUNK = 256 /* terms that are packed at a time: whole blocks of every dtype */
};

INLINE void tile_of(const int R, const int V, const bool across, const float *a, const float *b, int64_t apart,
                    int count, float *c, int64_t c_stride, bool first) {
    vf acc[TILE_R][TILE_V];
    UNROLL
    for (int r = 0; r < R; r++) UNROLL
    for (int v = 0; v < V; v++) acc[r][v] = v_set1(0);
    UNROLL
    for (int r = 0; r < R; r++) UNROLL
    for (int v = 0; v < V; v++) __builtin_prefetch(c + r * c_stride + v * VL, 1, 3);
    for (int k = 0; k < count; k++) {
        vf bv[TILE_V];
        UNROLL
        for (int v = 0; v < V; v++) bv[v] = v_load(b + v * apart + k * VL);
        UNROLL
        for (int r = 0; r < R; r++) {
            const vf ar = v_set1(across ? a[k * TILE_R + r] : a[r * CHUNK + k]);
            UNROLL
            for (int v = 0; v < V; v++) acc[r][v] = v_fma(ar, bv[v], acc[r][v]);
        }
    }
    UNROLL
    for (int r = 0; r < R; r++) UNROLL
    for (int v = 0; v < V; v++) {
        float *to = c + r * c_stride + v * VL;
        v_store(to, first ? acc[r][v] : v_add(v_load(to), acc[r][v]));
    }
}

INLINE void tile_by(const bool across, int rows, int64_t panels, const float *a, const float *b, int64_t apart,
                    int count, float *c, int64_t c_stride, bool first) {
#define TILE(R)                                                                                                        \
    case R:                                                                                                            \
        if (panels > 1)                                                                                                \
            tile_of(R, 2, across, a, b, apart, count, c, c_stride, first);                                             \
        else                                                                                                           \
            tile_of(R, 1, across, a, b, apart, count, c, c_stride, first);                                             \
        break
    switch (rows) {
        TILE(1);
        TILE(2);
        TILE(3);
        TILE(4);
        TILE(5);
        TILE(6);
#if defined(__AVX512F__)
        TILE(7);
        TILE(8);
        TILE(9);
        TILE(10);
        TILE(11);
        TILE(12);
#endif
    default: break;
    }
#undef TILE
}

/* `rows` of a, and two panels of b, `apart` floats apart, where `panels` > 1. */
static inline void tile_float(int rows, int64_t panels, const float (*a)[CHUNK], const float *b, int64_t apart,
                              int count, float *c, int64_t c_stride, bool first) {
    tile_by(false, rows, panels, a[0], b, apart, count, c, c_stride, first);
}

static inline void tile_across(int rows, int64_t panels, const float (*a)[TILE_R], const float *b, int64_t apart,
                               int count, float *c, int64_t c_stride, bool first) {
    tile_by(true, rows, panels, a[0], b, apart, count, c, c_stride, first);
}

#endif
