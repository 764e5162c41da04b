/* dynamic_map.h: the dynamic map of 8-bit optimizer state (Dettmers et al., arXiv:2110.02861), as formulas.
 *
 * Magnitudes of 0 … 1 are numbered by c: c = first … 128·first − 1 are the middles of cells, first·2^i cells of equal
 * width in the decade from 10^(i−7) to 10^(i−6), i = 0 … 6; c = 128·first is 1, and c = first − 1 is 0. The signed map
 * has first = 1 and codes 127 ± c; there is no −1. The unsigned one has first = 2 and codes c − 1. */
#ifndef CLF_CPU_DYNAMIC_MAP_H
#define CLF_CPU_DYNAMIC_MAP_H

#include <float.h>

#include "simd.h"

enum { MAP_DECADES = 7, MAP_SIGNED = 1, MAP_UNSIGNED = 2 }; /* the latter are `first` */

static const float map_top[MAP_DECADES] = {1e-6f, 1e-5f, 1e-4f, 1e-3f, 1e-2f, 1e-1f, 1};

/* The magnitude that c stands for. */
INLINE vf map_value(vf c, int first) {
    vf top = v_set1(map_top[0]), width = v_set1(1.f / (float)first); /* 1 / cells */
    UNROLL for (int i = 1; i < MAP_DECADES; i++) {
        const vf start = v_set1((float)(first << i));
        top = v_ge_or(c, start, v_set1(map_top[i]), top);
        width = v_ge_or(c, start, v_set1(1.f / (float)(first << i)), width);
    }
    const vf place = v_fma(v_add(c, v_set1(0.5f)), width, v_set1(-1)); /* in the decade, 0 … 1 */
    const vf value = v_mul(top, v_fma(v_set1(0.9f), place, v_set1(0.1f)));
    return v_ge_or(c, v_set1((float)(first << MAP_DECADES)), v_set1(1),
                   v_ge_or(c, v_set1((float)first), value, v_set1(0)));
}

/* The c of the value nearest to a magnitude y of 0 … 1; where y isn't 0, of those that aren't. A NaN gives a number of
 * the map. */
INLINE vf map_nearest(vf y, int first) {
    vf cells = v_set1((float)first), inverse = v_set1(1 / (0.9f * map_top[0]));
    UNROLL for (int i = 1; i < MAP_DECADES; i++) { /* from the middle between this decade's first and the last before */
        const vf start = v_set1(map_top[i - 1] * (1 + 0.9f / (float)(first << (i - 1))));
        cells = v_ge_or(y, start, v_set1((float)(first << i)), cells);
        inverse = v_ge_or(y, start, v_set1(1 / (0.9f * map_top[i])), inverse);
    }
    const int most = first << MAP_DECADES;
    vf c = v_fma(cells, v_fma(y, inverse, v_set1(8.f / 9)), v_set1(-0.5f));
    c = v_min(c, v_fma(cells, v_set1(2), v_set1(-1)));
    c = v_ge_or(y, v_set1(1 - 0.45f / (float)most), v_set1((float)most), c);
    c = v_ge_or(y, v_set1(FLT_MIN), v_max(c, v_set1((float)first)), v_set1((float)(first - 1)));
    return v_sub(v_add(c, v_set1(0x1.8p23f)), v_set1(0x1.8p23f)); /* to a whole number */
}

INLINE vf map_decode_signed(vf code) {
    const vf c = v_sub(code, v_set1(127)), value = map_value(v_abs(c), MAP_SIGNED);
    return v_ge_or(c, v_set1(0), value, v_sub(v_set1(0), value));
}
INLINE vf map_decode_unsigned(vf code) {
    return map_value(v_add(code, v_set1(1)), MAP_UNSIGNED);
}

/* Codes of x, |x| ≤ 1. */
INLINE vf map_encode_signed(vf x) {
    const vf c = map_nearest(v_abs(x), MAP_SIGNED), zero = v_set1(127);
    return v_ge_or(x, v_set1(0), v_add(zero, c), v_sub(zero, v_min(c, zero)));
}
INLINE vf map_encode_unsigned(vf x) {
    return v_sub(map_nearest(x, MAP_UNSIGNED), v_set1(1));
}

#endif
