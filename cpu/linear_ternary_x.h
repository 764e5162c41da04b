/* linear_ternary_x.h: activations rounded to int8 for T2 and T1, a float scale per 256 consecutive values of a row:
 *
 *     d = amax / 127,  q = round(x · (127 / amax)) to nearest even,  x ≈ d · q        (float32 throughout)
 *
 * where amax < 2^-100 gives d = q = 0. Every table computes this to the bit. A NaN or an infinity makes d NaN.
 *
 * Codes are value + 1, so sums of products start at −Σq. Where products are summed in int16 (i_short), that is two
 * halves: of q at 4s, 4s + 1 and at 4s + 2, 4s + 3, as those sums have it. */
#ifndef CLF_CPU_LINEAR_TERNARY_X_H
#define CLF_CPU_LINEAR_TERNARY_X_H

#include "simd_int8.h"
#include "ternary.h"

/* Rows of x, block by block: what belongs to block b of row m is at [b · rows + m]. */
typedef struct ternary_x {
    int8_t (*q)[T_BLOCK];
    float *d;
    int32_t *bias;
    int64_t rows;
} ternary_x;

/* sum + codes · x in the form that sums are kept in over a block */
INLINE vi ternary_dot(vi sum, vi codes, vi x) {
    return i_short_steps(4) ? i_short_add(sum, i_short(codes, x)) : i_dot_u7(sum, codes, x);
}

INLINE int32_t ternary_bias(const int8_t *q) {
    vi sum = i_set1(0);
    for (int i = 0; i < T_BLOCK; i += 4 * VL) sum = ternary_dot(sum, i_set1(0x01010101), i_load(q + i));
    int32_t whole[VL], bias = 0;
    int16_t half[2 * VL], both[2] = {0};
    memcpy(whole, &sum, sizeof whole);
    memcpy(half, &sum, sizeof half);
    if (i_short_steps(4)) {
        for (int i = 0; i < 2 * VL; i++) both[i % 2] = (int16_t)(both[i % 2] - half[i]);
        memcpy(&bias, both, sizeof bias);
    } else {
        for (int i = 0; i < VL; i++) bias -= whole[i];
    }
    return bias;
}

INLINE void ternary_quantize_block(const float *x, int8_t *q, float *d, int32_t *bias) {
    vf amax = v_set1(0), poison = v_set1(0);
    for (int i = 0; i < T_BLOCK; i += VL) {
        const vf v = v_load(x + i);
        amax = v_max(amax, v_abs(v));
        poison = v_fma(v, v_set1(0), poison);
    }
    const float a = v_hmax(amax);
    const bool zero = a < 0x1p-100f;
    *d = (zero ? 0 : a / 127) + v_hsum(poison);
    const vf scale = v_set1(zero ? 0 : 127 / a), magic = v_set1(0x1.8p23f); /* x + magic: x rounded in the low bits */
    union {
        float f[T_BLOCK];
        uint32_t u[T_BLOCK];
    } t;
    for (int i = 0; i < T_BLOCK; i += VL) v_store(t.f + i, v_add(v_mul(v_load(x + i), scale), magic));
    for (int i = 0; i < T_BLOCK; i++) q[i] = (int8_t)(uint8_t)t.u[i];
    *bias = ternary_bias(q);
}

/* Row m, k values. */
INLINE void ternary_quantize(const float *x, int64_t k, int64_t m, const ternary_x *to) {
    for (int64_t b = 0; b < k / T_BLOCK; b++) {
        const int64_t at = b * to->rows + m;
        ternary_quantize_block(x + b * T_BLOCK, to->q[at], to->d + at, to->bias + at);
    }
}

#endif
