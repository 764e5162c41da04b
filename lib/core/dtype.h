/* dtype.h: conversions between dtypes that the whole library shares: GGUF's ids, half and bfloat16 by hand. */
#ifndef CLF_CORE_DTYPE_H
#define CLF_CORE_DTYPE_H

#include <string.h>

#include <clformer/base.h>

bool clf_dtype_from_gguf(uint32_t type, clf_dtype *out); /* false: unknown type */
int clf_dtype_to_gguf(clf_dtype dtype);                  /* -1: GGUF has none */

/* What NF4's codes stand for: quantiles of N(0, 1), scaled to ±1. */
extern const float clf_nf4_values[16];

static inline bool clf_dtype_is_float(clf_dtype d) {
    return d == CLF_F32 || d == CLF_F16 || d == CLF_BF16;
}
static inline bool clf_dtype_is_block(clf_dtype d) {
    return clf_dtype_block_values(d) > 1;
}

/* Whether rows are interleaved, CLF_PANEL_ROWS a panel: a panel is the smallest part that stands alone. */
enum { CLF_PANEL_ROWS = 16 };
static inline bool clf_dtype_is_interleaved(clf_dtype d) {
    return d == CLF_T2 || d == CLF_T1;
}

static inline float clf_f16_to_f32(uint16_t h) {
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, mantissa = h & 1023;
    float f = (float)mantissa * 0x1p-24f; /* zero and subnormal */
    uint32_t u;
    memcpy(&u, &f, 4);
    if (exponent == 31)
        u = 0x7f800000 | mantissa << 13;
    else if (exponent)
        u = (exponent + 112) << 23 | mantissa << 13;
    u |= sign;
    memcpy(&f, &u, 4);
    return f;
}

/* Nearest even; overflow to infinity, NaN stays NaN. */
static inline uint16_t clf_f32_to_f16(float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    const uint32_t sign = u >> 16 & 0x8000;
    u &= 0x7fffffff;
    if (u > 0x7f800000) return (uint16_t)(sign | 0x7e00 | (u >> 13 & 0x3ff));
    if (u >= 0x477ff000) return (uint16_t)(sign | 0x7c00); /* 65520 and above */
    if (u < 0x38800000) {                                  /* below 2^-14: the sum's lowest bits are the subnormal */
        float v, magic = 0.5f;
        memcpy(&v, &u, 4);
        v += magic;
        memcpy(&u, &v, 4);
        return (uint16_t)(sign | (u - 0x3f000000));
    }
    u += 0xc8000fff + (u >> 13 & 1); /* exponent − 112, round to even */
    return (uint16_t)(sign | u >> 13);
}

static inline float clf_bf16_to_f32(uint16_t h) {
    const uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}

/* Nearest even; NaN stays NaN. */
static inline uint16_t clf_f32_to_bf16(float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    if ((u & 0x7fffffff) > 0x7f800000) return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

#endif
