/* linear_dot_avx2.h: dot products of quantised rows where they lie with int8 activations; AVX2. 32 values a step: bytes
 * are multiplied in pairs to int16, added in pairs to 8 lanes of int32, converted and scaled. Codes are unsigned, Q8_0
 * takes x with the sign of w; −offset·Σx joins the integer sum, Σ over the minimums a second float one. */
#ifndef CLF_CPU_LINEAR_DOT_AVX2_H
#define CLF_CPU_LINEAR_DOT_AVX2_H

#include "linear.h"

/* Sums of 4 products u · s; u < 128, or |u| and s = x with u's sign. */
INLINE __m256i dot4(__m256i u, __m256i s) {
    return _mm256_madd_epi16(_mm256_maddubs_epi16(u, s), _mm256_set1_epi16(1));
}
/* sum + Σ of 4 products of codes and x */
INLINE __m256i dot_32(__m256i sum, __m256i codes, __m256i x, bool are_signed) {
    return _mm256_add_epi32(sum,
                            are_signed ? dot4(_mm256_abs_epi8(codes), _mm256_sign_epi8(x, codes)) : dot4(codes, x));
}
INLINE __m256i load256(const void *p) {
    return _mm256_loadu_si256((const __m256i *)p);
}
INLINE float sum8(__m256 a) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
/* An f16 in all lanes. */
INLINE __m256 half_all(const char *p) {
    int16_t h;
    memcpy(&h, p, 2);
    return _mm256_cvtph_ps(_mm_set1_epi16(h));
}

INLINE void dot_q8_0(const char *const *w, const quantized_row *x, int64_t k, float *out, const int S) {
    __m256 f[DOT_STREAMS];
    UNROLL
    for (int s = 0; s < S; s++) f[s] = _mm256_setzero_ps();
    for (int64_t b = 0; b < k / 32; b++) {
        const __m256i xq = load256(x->q + 32 * b);
        const __m256 xd = _mm256_broadcast_ss(x->d + b);
        UNROLL
        for (int s = 0; s < S; s++) {
            const char *p = w[s] + 34 * b;
            __builtin_prefetch(p + PREFETCH);
            const __m256i v = load256(p + 2);
            const __m256i dot = dot4(_mm256_abs_epi8(v), _mm256_sign_epi8(xq, v));
            f[s] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), _mm256_mul_ps(half_all(p), xd), f[s]);
        }
    }
    UNROLL
    for (int s = 0; s < S; s++) out[s] = sum8(f[s]);
}

/* The scales of Q4_K's and Q5_K's 8 blocks of 32, times d and x's, into scale; returns the minimums' products with the
 * sums of x. xd: x's scales; xs: −d · Σq. */
INLINE __m256 scales_k(const char *p, __m256 xd, __m256 xs, float scale[8]) {
    uint32_t s[3];
    memcpy(s, p + 4, 12);
    const uint64_t high_scale = (s[2] & 0x0f0f0f0f) | (s[0] >> 2 & 0x30303030);
    const uint64_t high_min = (s[2] >> 4 & 0x0f0f0f0f) | (s[1] >> 2 & 0x30303030);
    const __m128i sc = _mm_cvtsi64_si128((long long)((s[0] & 0x3f3f3f3f) | high_scale << 32));
    const __m128i mn = _mm_cvtsi64_si128((long long)((s[1] & 0x3f3f3f3f) | high_min << 32));
    const __m256 scf = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(sc)), mnf = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(mn));
    _mm256_storeu_ps(scale, _mm256_mul_ps(_mm256_mul_ps(scf, half_all(p)), xd));
    return _mm256_mul_ps(_mm256_mul_ps(mnf, half_all(p + 2)), xs);
}

INLINE void dot_q45_k(const char *const *w, const quantized_row *x, int64_t k, float *out, const bool five,
                      const int S) {
    const __m256i low = _mm256_set1_epi8(15), bit = _mm256_set1_epi8(16);
    __m256 f[DOT_STREAMS];
    UNROLL
    for (int s = 0; s < S; s++) f[s] = _mm256_setzero_ps();
    for (int64_t i = 0; i < k; i += 256) {
        const __m256 xd = _mm256_loadu_ps(x->d + i / 32);
        const __m256i sums = _mm256_madd_epi16(load256(x->sum + i / 16), _mm256_set1_epi16(-1));
        const __m256 xs = _mm256_mul_ps(xd, _mm256_cvtepi32_ps(sums));
        const int64_t at = i / 256 * (five ? 176 : 144);
        float scale[DOT_STREAMS][8];
        UNROLL
        for (int s = 0; s < S; s++) { /* for all rows first: it takes long */
            __builtin_prefetch(w[s] + at + PREFETCH);
            __builtin_prefetch(w[s] + at + PREFETCH + 64);
            __builtin_prefetch(w[s] + at + PREFETCH + 128);
            f[s] = _mm256_add_ps(f[s], scales_k(w[s] + at, xd, xs, scale[s]));
        }
        UNROLL
        for (int s = 0; s < S; s++) {
            const char *p = w[s] + at;
            __m256i high = five ? load256(p + 16) : low;
            UNROLL
            for (int g = 0; g < 4; g++) {
                const __m256i v = load256(p + (five ? 48 : 16) + 32 * g);
                __m256i c0 = _mm256_and_si256(v, low), c1 = _mm256_and_si256(_mm256_srli_epi16(v, 4), low);
                if (five) { /* bits 2g and 2g + 1 to bit 4 */
                    const __m256i h0 = g < 2 ? _mm256_slli_epi16(high, 4 - 2 * g) : _mm256_srli_epi16(high, 2 * g - 4);
                    const __m256i h1 = g < 2 ? _mm256_slli_epi16(high, 3 - 2 * g) : _mm256_srli_epi16(high, 2 * g - 3);
                    c0 = _mm256_or_si256(c0, _mm256_and_si256(h0, bit));
                    c1 = _mm256_or_si256(c1, _mm256_and_si256(h1, bit));
                }
                const int8_t *q = x->q + i + 64 * g;
                f[s] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot4(c0, load256(q))), _mm256_broadcast_ss(scale[s] + 2 * g),
                                       f[s]);
                f[s] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot4(c1, load256(q + 32))),
                                       _mm256_broadcast_ss(scale[s] + 2 * g + 1), f[s]);
            }
        }
    }
    UNROLL
    for (int s = 0; s < S; s++) out[s] = sum8(f[s]);
}

INLINE void dot_q4_k(const char *const *w, const quantized_row *x, int64_t k, float *out, const int S) {
    dot_q45_k(w, x, k, out, false, S);
}
INLINE void dot_q5_k(const char *const *w, const quantized_row *x, int64_t k, float *out, const int S) {
    dot_q45_k(w, x, k, out, true, S);
}

/* Q6_K's scales, one for 16 values, multiply the int16 sums. */
INLINE void dot_q6_k(const char *const *w, const quantized_row *x, int64_t k, float *out, const int S) {
    const __m256i low = _mm256_set1_epi8(15), bits = _mm256_set1_epi8(0x30);
    __m256 f[DOT_STREAMS];
    UNROLL
    for (int s = 0; s < S; s++) f[s] = _mm256_setzero_ps();
    for (int64_t i = 0; i < k; i += 256) {
        const __m256 xd = _mm256_loadu_ps(x->d + i / 32);
        const __m256i sums = load256(x->sum + i / 16);
        UNROLL
        for (int s = 0; s < S; s++) {
            const char *p = w[s] + i / 256 * 210;
            __builtin_prefetch(p + PREFETCH);
            __builtin_prefetch(p + PREFETCH + 64);
            __builtin_prefetch(p + PREFETCH + 128);
            __builtin_prefetch(p + PREFETCH + 192);
            const __m256i sc = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(p + 192)));
            const __m256 scale = _mm256_mul_ps(half_all(p + 208), xd);
            const __m256i bias = _mm256_slli_epi32(_mm256_madd_epi16(sc, sums), 5);
            f[s] = _mm256_fnmadd_ps(_mm256_cvtepi32_ps(bias), scale, f[s]);
            float scales[8];
            _mm256_storeu_ps(scales, scale);
            /* 128-bit halves [scale 2j, scale 2j + 1] as bytes for the shuffles: low half scales 0–7, high 8–15 */
            const __m256i sc0 = _mm256_permute4x64_epi64(sc, 0x44), sc1 = _mm256_permute4x64_epi64(sc, 0xee);
            UNROLL
            for (int h = 0; h < 2; h++) {
                const __m256i v0 = load256(p + 64 * h), v1 = load256(p + 64 * h + 32);
                const __m256i high = load256(p + 128 + 32 * h);
                const __m256i code[4] = {
                    _mm256_or_si256(_mm256_and_si256(v0, low), _mm256_and_si256(_mm256_slli_epi16(high, 4), bits)),
                    _mm256_or_si256(_mm256_and_si256(v1, low), _mm256_and_si256(_mm256_slli_epi16(high, 2), bits)),
                    _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(v0, 4), low), _mm256_and_si256(high, bits)),
                    _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(v1, 4), low),
                                    _mm256_and_si256(_mm256_srli_epi16(high, 2), bits))};
                UNROLL
                for (int g = 0; g < 4; g++) {
                    /* words 2g in the low half, 2g + 1 in the high one */
                    const __m256i at =
                        _mm256_inserti128_si256(_mm256_set1_epi16((short)(4 * g | (4 * g + 1) << 8)),
                                                _mm_set1_epi16((short)((4 * g + 2) | (4 * g + 3) << 8)), 1);
                    const __m256i two = _mm256_shuffle_epi8(h ? sc1 : sc0, at);
                    const __m256i dot =
                        _mm256_madd_epi16(_mm256_maddubs_epi16(code[g], load256(x->q + i + 128 * h + 32 * g)), two);
                    f[s] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), _mm256_broadcast_ss(scales + 4 * h + g), f[s]);
                }
            }
        }
    }
    UNROLL
    for (int s = 0; s < S; s++) out[s] = sum8(f[s]);
}

#endif
