/* linear_dot_nibbles.h: dot products of rows of Q4_1, IQ4_NL, IQ4_XS and MXFP4, which have 16 bytes for 32 values of
 * four bits, with int8 activations; 32 values a step, as dot_32() takes them. All but Q4_1 look their values up. */
#ifndef CLF_CPU_LINEAR_DOT_NIBBLES_H
#define CLF_CPU_LINEAR_DOT_NIBBLES_H

#include "linear.h"

INLINE __m256i nibbles_table(const clf_dtype dtype) {
    if (dtype == CLF_Q4_1) return _mm256_setzero_si256();
    const int8_t *values = dtype == CLF_MXFP4 ? code_mxfp4_values : code_iq4_values;
    const __m128i table = _mm_loadu_si128((const __m128i *)(const void *)values);
    return _mm256_xor_si256(_mm256_broadcastsi128_si256(table),
                            _mm256_set1_epi8((char)(dtype == CLF_MXFP4 ? 0 : I_SIGNED_OFFSET)));
}

/* The 16 bytes at p against 32 of x, whose sum is `all`. */
INLINE __m256 nibbles_dot(const char *p, __m256i table, __m256i xq, int32_t all, const clf_dtype dtype) {
    const code_format f = code_format_of(dtype);
    const __m256i shift = _mm256_setr_epi32(0, 0, 0, 0, 4, 4, 4, 4);
    const __m256i v = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)p));
    __m256i code = _mm256_and_si256(_mm256_srlv_epi32(v, shift), _mm256_set1_epi8(15));
    if (dtype != CLF_Q4_1) code = _mm256_shuffle_epi8(table, code);
    const __m256i bias = _mm256_zextsi128_si256(_mm_cvtsi32_si128(-f.offset * all));
    return _mm256_cvtepi32_ps(dot_32(bias, code, xq, f.bits == 8));
}

INLINE __m256i nibbles_x(const quantized_row *x, int64_t block, int32_t *all) {
    *all = x->sum[2 * block] + x->sum[2 * block + 1];
    return _mm256_loadu_si256((const __m256i *)(const void *)(x->q + 32 * block));
}

/* Blocks of 32: a scale, and Q4_1's minimum, before the 16 bytes. */
INLINE void dot_nibbles(const char *const *w, const quantized_row *x, int64_t k, float *out, const int S,
                        const clf_dtype dtype) {
    const int bytes = (int)clf_dtype_bytes(dtype, 32);
    const __m256i table = nibbles_table(dtype);
    __m256 sum[DOT_STREAMS];
    float mins[DOT_STREAMS];
    UNROLL
    for (int s = 0; s < S; s++) {
        sum[s] = _mm256_setzero_ps();
        mins[s] = 0;
    }
    for (int64_t b = 0; b < k / 32; b++) {
        int32_t all;
        const __m256i xq = nibbles_x(x, b, &all);
        const float xd = x->d[b];
        UNROLL
        for (int s = 0; s < S; s++) {
            const char *p = w[s] + bytes * b;
            const uint8_t *head = (const uint8_t *)p;
            __builtin_prefetch(p + PREFETCH);
            const float d = dtype == CLF_MXFP4 ? code_half_e8m0(*head) : code_half(head);
            const __m256 dot = nibbles_dot(p + bytes - 16, table, xq, all, dtype);
            sum[s] = _mm256_fmadd_ps(dot, _mm256_set1_ps(d * xd), sum[s]);
            if (dtype == CLF_Q4_1) mins[s] += code_half(head + 2) * (xd * (float)all);
        }
    }
    UNROLL
    for (int s = 0; s < S; s++) out[s] = sum8(sum[s]) + mins[s];
}

/* The scales of IQ4_XS's 8 blocks of 32, six bits less 32, times d and x's. */
INLINE void scales_iq4_xs(const char *p, __m256 xd, float scale[8]) {
    uint16_t high;
    uint32_t low;
    memcpy(&high, p + 2, 2);
    memcpy(&low, p + 4, 4);
    const __m256i two = _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14), four = _mm256_slli_epi32(two, 1);
    const __m256i l = _mm256_and_si256(_mm256_srlv_epi32(_mm256_set1_epi32((int)low), four), _mm256_set1_epi32(15));
    const __m256i h = _mm256_and_si256(_mm256_srlv_epi32(_mm256_set1_epi32(high), two), _mm256_set1_epi32(3));
    const __m256i all = _mm256_sub_epi32(_mm256_or_si256(l, _mm256_slli_epi32(h, 4)), _mm256_set1_epi32(32));
    const __m256 d = _mm256_set1_ps(code_half((const uint8_t *)p));
    _mm256_storeu_ps(scale, _mm256_mul_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(all), d), xd));
}

INLINE void dot_iq4_xs(const char *const *w, const quantized_row *x, int64_t k, float *out, const int S) {
    const __m256i table = nibbles_table(CLF_IQ4_XS);
    __m256 sum[DOT_STREAMS];
    UNROLL
    for (int s = 0; s < S; s++) sum[s] = _mm256_setzero_ps();
    for (int64_t i = 0; i < k / 256; i++) {
        float scale[DOT_STREAMS][8];
        UNROLL
        for (int s = 0; s < S; s++) {
            const char *p = w[s] + 136 * i;
            __builtin_prefetch(p + PREFETCH);
            __builtin_prefetch(p + PREFETCH + 64);
            __builtin_prefetch(p + PREFETCH + 128);
            scales_iq4_xs(p, _mm256_loadu_ps(x->d + 8 * i), scale[s]);
        }
        for (int b = 0; b < 8; b++) {
            int32_t all;
            const __m256i xq = nibbles_x(x, 8 * i + b, &all);
            UNROLL
            for (int s = 0; s < S; s++)
                sum[s] = _mm256_fmadd_ps(nibbles_dot(w[s] + 136 * i + 8 + 16 * b, table, xq, all, CLF_IQ4_XS),
                                         _mm256_set1_ps(scale[s][b]), sum[s]);
        }
    }
    UNROLL
    for (int s = 0; s < S; s++) out[s] = sum8(sum[s]);
}

#endif
