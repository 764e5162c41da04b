/* codes.h: rows of the block dtypes that meet int8 activations, taken apart into
 *
 *     w[i] = scale[i / group] · (code[i] − offset) − min[i / 32]
 *
 * with unsigned codes below 64 (Q8_0, IQ4_NL, IQ4_XS: signed bytes + I_SIGNED_OFFSET), so that integer products serve
 * all of them. No sum overflows: a scale's are of at most 32 products, below 32·255·127 < 2^20 in int32; in int16 one
 * pair is at most 2·128·127 < 2^15, and i_short_steps() says how many fit. NF4's values are multiples of no step and
 * Q5_0 may hold what was exact elsewhere (packed folders): these, and Q2_K, stay floats. Layouts: ggml's. */
#ifndef CLF_CPU_CODES_H
#define CLF_CPU_CODES_H

#include "simd_int8.h"

/* What is constant of a dtype. */
typedef struct code_format {
    int group;  /* codes a scale: 32 or 16 */
    int offset; /* subtracted from each code */
    bool min;   /* there are minimums */
    int bits;   /* of a code; 8: signed */
} code_format;

/* Ternary rows where they lie: those that weren't repacked as T2 or T1 (ternary.h). */
INLINE bool code_is_ternary(clf_dtype dtype) {
    return dtype == CLF_TQ1_0 || dtype == CLF_TQ2_0 || dtype == CLF_Q2_0;
}
/* Those that have kernels of their own for few rows of x (linear_dot_vnni.h, linear_dot_avx2.h, linear_dot_nibbles.h).
 */
INLINE bool code_is_tuned(clf_dtype dtype) {
    return dtype == CLF_Q8_0 || dtype == CLF_Q4_0 || dtype == CLF_Q4_K || dtype == CLF_Q5_K || dtype == CLF_Q6_K ||
           dtype == CLF_Q4_1 || dtype == CLF_IQ4_NL || dtype == CLF_IQ4_XS || dtype == CLF_MXFP4;
}
INLINE bool code_has(clf_dtype dtype) {
    return code_is_tuned(dtype) || code_is_ternary(dtype) || dtype == CLF_Q5_1 || dtype == CLF_Q3_K;
}

INLINE code_format code_format_of(clf_dtype dtype) {
    if (dtype == CLF_Q8_0 || dtype == CLF_IQ4_NL || dtype == CLF_IQ4_XS)
        return (code_format){.group = 32, .offset = I_SIGNED_OFFSET, .bits = 8};
    if (dtype == CLF_Q4_0) return (code_format){.group = 32, .offset = 8, .bits = 4};
    if (code_is_ternary(dtype)) return (code_format){.group = 32, .offset = 1, .bits = 2};
    if (dtype == CLF_MXFP4) return (code_format){.group = 32, .offset = 12, .bits = 5};
    if (dtype == CLF_Q3_K) return (code_format){.group = 16, .offset = 4, .bits = 3};
    if (dtype == CLF_Q6_K) return (code_format){.group = 16, .offset = 32, .bits = 6};
    return (code_format){.group = 32, .min = true, .bits = dtype == CLF_Q4_K || dtype == CLF_Q4_1 ? 4 : 5};
}

INLINE float code_half(const uint8_t *p) {
    uint16_t h;
    memcpy(&h, p, 2);
#if defined(__F16C__)
    return _cvtsh_ss(h);
#else
    return clf_f16_to_f32(h);
#endif
}

/* The 6-bit scales and minimums of Q4_K and Q5_K, from their 12 bytes. */
INLINE void code_scales_k(const uint8_t *p, uint8_t scale[8], uint8_t min[8]) {
    for (int j = 0; j < 4; j++) {
        scale[j] = p[j] & 63;
        min[j] = p[j + 4] & 63;
        scale[j + 4] = (uint8_t)((p[j + 8] & 15) | p[j] >> 6 << 4);
        min[j + 4] = (uint8_t)(p[j + 8] >> 4 | p[j + 4] >> 6 << 4);
    }
}

INLINE void code_q8_0(const uint8_t *p, int64_t n, uint8_t *code, float *scale) {
    for (int64_t b = 0; b < n / 32; b++, p += 34) {
        for (int j = 0; j < 32; j++) code[32 * b + j] = p[2 + j] ^ I_SIGNED_OFFSET;
        scale[b] = code_half(p);
    }
}

INLINE void code_q4_0(const uint8_t *p, int64_t n, uint8_t *code, float *scale) {
    for (int64_t b = 0; b < n / 32; b++, p += 18) {
        i_nibbles_32(p + 2, code + 32 * b);
        scale[b] = code_half(p);
    }
}

INLINE void code_q4_1(const uint8_t *p, int64_t n, uint8_t *code, float *scale, float *min) {
    for (int64_t b = 0; b < n / 32; b++, p += 20) {
        i_nibbles_32(p + 4, code + 32 * b);
        scale[b] = code_half(p);
        min[b] = -code_half(p + 2);
    }
}

INLINE void code_q5_1(const uint8_t *p, int64_t n, uint8_t *code, float *scale, float *min) {
    for (int64_t b = 0; b < n / 32; b++, p += 24) {
        i_nibbles_32(p + 8, code + 32 * b);
        i_fifth_32(p + 4, code + 32 * b);
        scale[b] = code_half(p);
        min[b] = -code_half(p + 2);
    }
}

static const int8_t code_iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

/* 16 bytes as 32 values of IQ4's table. */
INLINE void code_iq4(const uint8_t *p, uint8_t *code) {
    i_nibbles_32(p, code);
    i_lookup_32(code_iq4_values, code);
    for (int j = 0; j < 32; j++) code[j] ^= I_SIGNED_OFFSET;
}

INLINE void code_iq4_nl(const uint8_t *p, int64_t n, uint8_t *code, float *scale) {
    for (int64_t b = 0; b < n / 32; b++, p += 18) {
        code_iq4(p + 2, code + 32 * b);
        scale[b] = code_half(p);
    }
}

INLINE void code_iq4_xs(const uint8_t *p, int64_t n, uint8_t *code, float *scale) {
    for (int64_t b = 0; b < n / 256; b++, p += 136) {
        uint16_t high;
        memcpy(&high, p + 2, 2);
        for (int s = 0; s < 8; s++) {
            code_iq4(p + 8 + 16 * s, code + 256 * b + 32 * s);
            const int low = p[4 + s / 2] >> s % 2 * 4 & 15;
            scale[8 * b + s] = code_half(p) * (float)((low | (high >> 2 * s & 3) << 4) - 32);
        }
    }
}

/* 2^(e − 128), of which e = 0 and 1 are denormal */
INLINE float code_half_e8m0(uint8_t e) {
    const uint32_t bits = e > 1 ? (uint32_t)(e - 1) << 23 : 0x200000u << e;
    float d;
    memcpy(&d, &bits, sizeof d);
    return d;
}

/* Twice the value, plus 12. */
static const int8_t code_mxfp4_values[16] = {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0};

INLINE void code_mxfp4(const uint8_t *p, int64_t n, uint8_t *code, float *scale) {
    for (int64_t b = 0; b < n / 32; b++, p += 17) {
        i_nibbles_32(p + 1, code + 32 * b);
        i_lookup_32(code_mxfp4_values, code + 32 * b);
        scale[b] = code_half_e8m0(p[0]);
    }
}

INLINE void code_q3_k(const uint8_t *p, int64_t n, uint8_t *code, float *scale) {
    for (int64_t b = 0; b < n / 256; b++, p += 110, code += 256) {
        const float d = code_half(p + 108);
        for (int s = 0; s < 16; s++) {
            const int low = p[96 + s % 8] >> s / 8 * 4 & 15, high = p[104 + s % 4] >> s / 4 * 2 & 3;
            scale[16 * b + s] = d * (float)((low | high << 4) - 32);
        }
        for (int g = 0; g < 8; g++)
            for (int j = 0; j < 32; j++)
                code[32 * g + j] = (uint8_t)((p[32 + g / 4 * 32 + j] >> g % 4 * 2 & 3) | (p[j] >> g & 1) << 2);
    }
}

INLINE void code_q45_k(const uint8_t *p, int64_t n, uint8_t *code, float *scale, float *min, bool five) {
    for (int64_t b = 0; b < n / 256; b++, p += five ? 176 : 144) {
        uint8_t sc[8], mn[8];
        code_scales_k(p + 4, sc, mn);
        const float d = code_half(p), dmin = code_half(p + 2);
        for (int j = 0; j < 8; j++) scale[8 * b + j] = d * sc[j];
        for (int j = 0; j < 8; j++) min[8 * b + j] = dmin * mn[j];
        const uint8_t *high = p + 16, *low = p + (five ? 48 : 16);
        for (int g = 0; g < 4; g++, low += 32, code += 64)
            for (int j = 0; j < 32; j++) {
                code[j] = low[j] & 15;
                code[32 + j] = low[j] >> 4;
                if (five) {
                    code[j] |= (uint8_t)((high[j] >> 2 * g & 1) << 4);
                    code[32 + j] |= (uint8_t)((high[j] >> (2 * g + 1) & 1) << 4);
                }
            }
    }
}

INLINE void code_q6_k(const uint8_t *p, int64_t n, uint8_t *code, float *scale) {
    for (int64_t b = 0; b < n / 256; b++, p += 210) {
        const float d = code_half(p + 208);
        for (int j = 0; j < 16; j++) scale[16 * b + j] = d * (int8_t)p[192 + j];
        for (int h = 0; h < 2; h++, code += 128) {
            const uint8_t *low = p + 64 * h, *high = p + 128 + 32 * h;
            for (int j = 0; j < 32; j++) {
                code[j] = (uint8_t)((low[j] & 15) | (high[j] & 3) << 4);
                code[32 + j] = (uint8_t)((low[32 + j] & 15) | (high[j] >> 2 & 3) << 4);
                code[64 + j] = (uint8_t)(low[j] >> 4 | (high[j] >> 4 & 3) << 4);
                code[96 + j] = (uint8_t)(low[32 + j] >> 4 | (high[j] >> 6) << 4);
            }
        }
    }
}

/* The digits of base-3 fractions of 243: tripling brings up the next. */
INLINE void code_digits(const uint8_t *p, int n, int digits, uint8_t *code) {
    for (int t = 0, power = 1; t < digits; t++, power *= 3)
        for (int j = 0; j < n; j++) code[t * n + j] = (uint8_t)((uint8_t)(p[j] * power) * 3 >> 8);
}

INLINE void code_tq1_0(const uint8_t *p, int64_t n, uint8_t *code, float *scale) {
    for (int64_t b = 0; b < n / 256; b++, p += 54, code += 256) {
        code_digits(p, 32, 5, code);
        code_digits(p + 32, 16, 5, code + 160);
        code_digits(p + 48, 4, 4, code + 240);
        for (int j = 0; j < 8; j++) scale[8 * b + j] = code_half(p + 52);
    }
}

INLINE void code_tq2_0(const uint8_t *p, int64_t n, uint8_t *code, float *scale) {
    for (int64_t b = 0; b < n / 256; b++, p += 66, code += 256) {
        for (int g = 0; g < 8; g++)
            for (int j = 0; j < 32; j++) code[32 * g + j] = p[g / 4 * 32 + j] >> g % 4 * 2 & 3;
        for (int j = 0; j < 8; j++) scale[8 * b + j] = code_half(p + 64);
    }
}

INLINE void code_q2_0(const uint8_t *p, int64_t n, uint8_t *code, float *scale) {
    for (int64_t b = 0; b < n / 64; b++, p += 18, code += 64) {
        for (int j = 0; j < 64; j++) code[j] = p[2 + j / 4] >> j % 4 * 2 & 3;
        scale[2 * b] = scale[2 * b + 1] = code_half(p);
    }
}

/* n codes of a row from `row` on, n whole blocks. scale [n / group], min [n / 32] (only where the format has it). */
INLINE void code_row(clf_dtype dtype, const void *row, int64_t n, uint8_t *code, float *scale, float *min) {
    switch (dtype) {
    case CLF_Q8_0: code_q8_0(row, n, code, scale); break;
    case CLF_Q4_0: code_q4_0(row, n, code, scale); break;
    case CLF_Q4_K: code_q45_k(row, n, code, scale, min, false); break;
    case CLF_Q5_K: code_q45_k(row, n, code, scale, min, true); break;
    case CLF_Q4_1: code_q4_1(row, n, code, scale, min); break;
    case CLF_Q5_1: code_q5_1(row, n, code, scale, min); break;
    case CLF_Q3_K: code_q3_k(row, n, code, scale); break;
    case CLF_IQ4_NL: code_iq4_nl(row, n, code, scale); break;
    case CLF_IQ4_XS: code_iq4_xs(row, n, code, scale); break;
    case CLF_MXFP4: code_mxfp4(row, n, code, scale); break;
    case CLF_TQ1_0: code_tq1_0(row, n, code, scale); break;
    case CLF_TQ2_0: code_tq2_0(row, n, code, scale); break;
    case CLF_Q2_0: code_q2_0(row, n, code, scale); break;
    default: code_q6_k(row, n, code, scale);
    }
}

#endif
