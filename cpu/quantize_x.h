/* quantize_x.h: activations rounded to int8, a float scale per 32 consecutive values of a row (CLF_LINEAR_FAST):
 *
 *     d = amax / 127,  q = round(x · (127 / amax)) to nearest even,  x ≈ d · q        (float32 throughout)
 *
 * where amax < 2^-100 gives d = q = 0. Every table computes this to the bit. A NaN or an infinity makes d NaN. Blocks
 * of Q8_0 are such codes already, with a half for d. */
#ifndef CLF_CPU_QUANTIZE_X_H
#define CLF_CPU_QUANTIZE_X_H

#include "simd.h"

enum { QX = 32 /* values a scale */, Q8_0_BYTES = 34 };

/* One row of k values, k a multiple of QX; zeros follow up to a multiple of 2·QX. */
typedef struct quantized_row {
    int8_t *q;    /* [k] */
    float *d;     /* [k / 32] */
    int16_t *sum; /* [k / 16]: sums of q */
} quantized_row;

/* Of 16 values; in two words of eight bytes, as compilers add bytes one by one. */
INLINE int sum_16(const int8_t *q) {
    const uint64_t sign = 0x8080808080808080u, low = 0x00ff00ff00ff00ffu; /* offsets of 128 make bytes unsigned */
    uint64_t a, b;
    memcpy(&a, q, 8);
    memcpy(&b, q + 8, 8);
    a ^= sign;
    b ^= sign;
    const uint64_t four = (a & low) + (a >> 8 & low) + (b & low) + (b >> 8 & low);
    return (int)(four * 0x0001000100010001u >> 48) - 16 * 128;
}

INLINE void quantize_32(const float *x, int8_t *q, float *d, int16_t *sum) {
    vf amax = v_set1(0), poison = v_set1(0);
    for (int i = 0; i < QX; i += VL) {
        const vf v = v_load(x + i);
        amax = v_max(amax, v_abs(v));
        poison = v_fma(v, v_set1(0), poison);
    }
    const float a = v_hmax(amax);
    const bool zero = a < 0x1p-100f;
    *d = (zero ? 0 : a / 127) + v_hsum(poison);
    const vf scale = v_set1(zero ? 0 : 127 / a), magic = v_set1(0x1.8p23f); /* x + magic: x rounded in the low bits */
    union {
        float f[QX];
        uint32_t u[QX];
    } t;
    for (int i = 0; i < QX; i += VL) v_store(t.f + i, v_add(v_mul(v_load(x + i), scale), magic));
    for (int i = 0; i < QX; i++) q[i] = (int8_t)(uint8_t)t.u[i];
    for (int h = 0; h < 2; h++) sum[h] = (int16_t)sum_16(q + 16 * h);
}

/* A block of Q8_0. The code -128, which no quantiser makes, becomes -127: sums of products count on that. */
INLINE void take_32(const char *block, int8_t *q, float *d, int16_t *sum) {
    uint16_t half;
    memcpy(&half, block, sizeof half);
    *d = clf_f16_to_f32(half);
    memcpy(q, block + sizeof half, QX);
    for (int i = 0; i < QX; i++) q[i] = q[i] < -127 ? -127 : q[i];
    for (int h = 0; h < 2; h++) sum[h] = (int16_t)sum_16(q + 16 * h);
}

/* Group `i` of 32 values of a row of blocks of Q8_0, or of floats. */
INLINE void codes_of_32(const char *x, bool blocks, int64_t i, int8_t *q, float *d, int16_t *sum) {
    if (blocks)
        take_32(x + i * Q8_0_BYTES, q, d, sum);
    else
        quantize_32((const float *)x + i * QX, q, d, sum);
}

INLINE void quantize_row(const char *x, bool blocks, int64_t k, quantized_row r) {
    for (int64_t i = 0; i < k / QX; i++) codes_of_32(x, blocks, i, r.q + i * QX, r.d + i, r.sum + 2 * i);
    if (k % (2 * QX)) {
        memset(r.q + k, 0, QX);
        r.d[k / QX] = r.sum[k / 16] = r.sum[k / 16 + 1] = 0;
    }
}

#endif
