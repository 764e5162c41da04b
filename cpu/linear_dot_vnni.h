/* linear_dot_vnni.h: dot products of quantised rows where they lie with int8 activations; AVX-512 VNNI and VBMI. 64
 * values a step: a 32-bit lane holds the sum of 4 products, so lanes 0–7 belong to one block of 32 and 8–15 to the
 * next, each scaled by its w and x scales in float. What depends on x alone is made once for the S rows.
 *
 * Codes are unsigned: v = code − offset, and −offset·Σx starts the integer sum. High nibbles stay where they are, 16
 * times too big, where the scale can take the 1/16. Q4_K and Q5_K, whose scales are integers times one half, are
 * multiplied by them as integers, 128 values at a time. Nothing reads past a row: loads that could are masked. */
#ifndef CLF_CPU_LINEAR_DOT_VNNI_H
#define CLF_CPU_LINEAR_DOT_VNNI_H

#include "linear.h"

/* sum + Σ of 4 products; signed codes are 128 too big here, as all are unsigned. */
INLINE __m256i dot_32(__m256i sum, __m256i codes, __m256i x, bool are_signed) {
    (void)are_signed;
    return _mm256_dpbusd_epi32(sum, codes, x);
}

INLINE float sum8(__m256 a) {
    return v_hsum(_mm512_zextps256_ps512(a));
}

/* [a × 8, b × 8] */
INLINE __m512 pair_scales(const float *two) {
    return _mm512_insertf32x8(_mm512_castps256_ps512(_mm256_broadcast_ss(two)), _mm256_broadcast_ss(two + 1), 1);
}

/* factor · Σx of two blocks in lanes 0 and 8. */
INLINE __m512i pair_bias(const int16_t *four, int factor) {
    int32_t a, b;
    memcpy(&a, four, 4);
    memcpy(&b, four + 2, 4);
    const __m512i sums = _mm512_mask_set1_epi32(_mm512_maskz_set1_epi32(0x0001, a), 0x0100, b);
    return _mm512_madd_epi16(sums, _mm512_set1_epi16((short)factor));
}

INLINE void dot_q8_0(const char *const *w, const quantized_row *x, int64_t k, float *out, const int S) {
    __m512 f[DOT_STREAMS];
    UNROLL
    for (int s = 0; s < S; s++) f[s] = _mm512_setzero_ps();
    for (int64_t i = 0; i < k; i += 64) {
        const bool full = i + 32 < k;
        const __m512i xq = _mm512_loadu_si512(x->q + i), bias = pair_bias(x->sum + i / 16, -128);
        const __m512 xd = pair_scales(x->d + i / 32);
        UNROLL
        for (int s = 0; s < S; s++) {
            const char *p = w[s] + i / 32 * 34;
            __builtin_prefetch(p + PREFETCH);
            const __m256i low = _mm256_loadu_si256((const __m256i *)(p + 2));
            const __m256i high = full ? _mm256_loadu_si256((const __m256i *)(p + 36)) : low;
            const __m512i code =
                _mm512_xor_si512(_mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1), _mm512_set1_epi8((char)128));
            int16_t d0, d1 = 0;
            memcpy(&d0, p, 2);
            if (full) memcpy(&d1, p + 34, 2);
            const __m256i d =
                _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_set1_epi16(d0)), _mm_set1_epi16(d1), 1);
            f[s] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_dpbusd_epi32(bias, code, xq)),
                                   _mm512_mul_ps(_mm512_cvtph_ps(d), xd), f[s]);
        }
    }
    UNROLL
    for (int s = 0; s < S; s++) out[s] = v_hsum(f[s]);
}

/* What Q4_K and Q5_K need of 256 values of x, blocks of 32 numbered 0 … 7. */
typedef struct x_of_k {
    __m512i low[2], high[2]; /* q of blocks 0 2 and 4 6, which meet low nibbles, and of 1 3 and 5 7 */
    __m512 d[2];             /* of 0 0 1 1 0 0 1 1 2 2 3 3 2 2 3 3, and of those + 4 */
    __m256 sums;             /* −d · Σq */
} x_of_k;

INLINE x_of_k prepare_k(const quantized_row *x, int64_t i) {
    const __m512i order = _mm512_setr_epi32(0, 0, 1, 1, 0, 0, 1, 1, 2, 2, 3, 3, 2, 2, 3, 3);
    const __m256i sums = _mm256_loadu_si256((const __m256i *)(x->sum + i / 16));
    const __m256 d = _mm256_loadu_ps(x->d + i / 32);
    x_of_k r;
    UNROLL
    for (int h = 0; h < 2; h++) {
        const __m512i a = _mm512_loadu_si512(x->q + i + 128 * h), b = _mm512_loadu_si512(x->q + i + 128 * h + 64);
        r.low[h] = _mm512_shuffle_i64x2(a, b, 0x44);
        r.high[h] = _mm512_shuffle_i64x2(a, b, 0xee);
        r.d[h] = _mm512_permutexvar_ps(_mm512_add_epi32(order, _mm512_set1_epi32(4 * h)), _mm512_castps256_ps512(d));
    }
    r.sums = _mm256_mul_ps(d, _mm256_cvtepi32_ps(_mm256_madd_epi16(sums, _mm256_set1_epi16(-1))));
    return r;
}

/* The codes of a block p in the order of x->low and x->high. A lane's four products are at most 4·31·127 < 2^15, so
 * that they are multiplied by the scales of six bits in int16, two lanes of a block of 32 at a time. */
INLINE void add_k(const char *p, const __m512i low[2], const __m512i high[2], const x_of_k *x, __m512 *f,
                  __m256 *mins) {
    const __m512i zero = _mm512_setzero_si512();
    const __m512i spread = _mm512_setr_epi64(0, 0x0001000100010001, 0, 0x0001000100010001, 0x0002000200020002,
                                             0x0003000300030003, 0x0002000200020002, 0x0003000300030003);
    uint32_t s[3];
    int32_t dd;
    memcpy(&dd, p, 4);
    memcpy(s, p + 4, 12);
    const uint64_t high_scale = (s[2] & 0x0f0f0f0f) | (s[0] >> 2 & 0x30303030);
    const uint64_t high_min = (s[2] >> 4 & 0x0f0f0f0f) | (s[1] >> 2 & 0x30303030);
    const __m128i scale = _mm_cvtsi64_si128((long long)((s[0] & 0x3f3f3f3f) | high_scale << 32));
    const __m128i min = _mm_cvtsi64_si128((long long)((s[1] & 0x3f3f3f3f) | high_min << 32));
    const __m128 d = _mm_cvtph_ps(_mm_cvtsi32_si128(dd)); /* of scales, of minimums */
    __m512 sum = _mm512_setzero_ps();
    UNROLL
    for (int h = 0; h < 2; h++) {
        const __m512i dots = _mm512_packs_epi32(_mm512_dpbusd_epi32(zero, low[h], x->low[h]),
                                                _mm512_dpbusd_epi32(zero, high[h], x->high[h]));
        const __m512i scales = _mm512_maskz_permutexvar_epi8(
            0x5555555555555555, _mm512_add_epi16(spread, _mm512_set1_epi16((short)(4 * h))),
            _mm512_castsi128_si512(scale));
        sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_madd_epi16(dots, scales)), x->d[h], sum);
    }
    *f = _mm512_fmadd_ps(sum, _mm512_broadcastss_ps(d), *f);
    *mins = _mm256_fmadd_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(min)), x->sums),
                            _mm256_broadcastss_ps(_mm_movehdup_ps(d)), *mins);
}

INLINE void dot_k(const char *const *w, const quantized_row *x, int64_t k, float *out, const int S, const bool five) {
    const __m512i nibble = _mm512_set1_epi8(15), bit = _mm512_set1_epi8(16);
    const __m512i first = _mm512_inserti64x4(_mm512_set1_epi32(2), _mm256_set1_epi32(4), 0); /* bits 0, 2 to bit 4 */
    const int64_t bytes = five ? 176 : 144;
    __m512 f[DOT_STREAMS];
    __m256 mins[DOT_STREAMS];
    UNROLL
    for (int s = 0; s < S; s++) {
        f[s] = _mm512_setzero_ps();
        mins[s] = _mm256_setzero_ps();
    }
    for (int64_t i = 0; i < k; i += 256) {
        const x_of_k xk = prepare_k(x, i);
        UNROLL
        for (int s = 0; s < S; s++) {
            const char *p = w[s] + i / 256 * bytes;
            __builtin_prefetch(p + PREFETCH);
            __builtin_prefetch(p + PREFETCH + 64);
            __builtin_prefetch(p + PREFETCH + 128);
            __m512i low[2], high[2], fifth = _mm512_setzero_si512();
            if (five)
                fifth = _mm512_rolv_epi32(_mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)(p + 16))), first);
            UNROLL
            for (int h = 0; h < 2; h++) {
                const __m512i v = _mm512_loadu_si512(p + bytes - 128 + 64 * h);
                low[h] = _mm512_and_si512(v, nibble);
                high[h] = _mm512_and_si512(_mm512_srli_epi16(v, 4), nibble);
                if (!five) continue;
                low[h] = _mm512_ternarylogic_epi32(low[h], fifth, bit, 0xf8); /* a | (b & c) */
                fifth = _mm512_ror_epi32(fifth, 1);
                high[h] = _mm512_ternarylogic_epi32(high[h], fifth, bit, 0xf8);
                fifth = _mm512_ror_epi32(fifth, 3);
            }
            add_k(p, low, high, &xk, &f[s], &mins[s]);
        }
    }
    UNROLL
    for (int s = 0; s < S; s++) out[s] = v_hsum(_mm512_add_ps(f[s], _mm512_zextps256_ps512(mins[s])));
}

INLINE void dot_q4_k(const char *const *w, const quantized_row *x, int64_t k, float *out, const int S) {
    dot_k(w, x, k, out, S, false);
}

INLINE void dot_q5_k(const char *const *w, const quantized_row *x, int64_t k, float *out, const int S) {
    dot_k(w, x, k, out, S, true);
}

INLINE void dot_q6_k(const char *const *w, const quantized_row *x, int64_t k, float *out, const int S) {
    const __m512i low = _mm512_set1_epi8(15), bits = _mm512_set1_epi8(0x30);
    const __m512i left = _mm512_inserti64x4(_mm512_set1_epi32(2), _mm256_set1_epi32(4), 0);
    const __m512i right = _mm512_inserti64x4(_mm512_set1_epi32(2), _mm256_setzero_si256(), 0);
    const __m512i twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    const __m512i four = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    __m512 f[DOT_STREAMS];
    UNROLL
    for (int s = 0; s < S; s++) f[s] = _mm512_setzero_ps();
    for (int64_t i = 0; i < k; i += 256) {
        const __m512 xd = _mm512_permutexvar_ps(twice, _mm512_castps256_ps512(_mm256_loadu_ps(x->d + i / 32)));
        const __m512 sums =
            _mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(_mm256_loadu_si256((const __m256i *)(x->sum + i / 16))));
        const __m512 bias = _mm512_mul_ps(sums, _mm512_set1_ps(-32));
        UNROLL
        for (int s = 0; s < S; s++) {
            const char *p = w[s] + i / 256 * 210;
            __builtin_prefetch(p + PREFETCH);
            __builtin_prefetch(p + PREFETCH + 64);
            __builtin_prefetch(p + PREFETCH + 128);
            __builtin_prefetch(p + PREFETCH + 192);
            int16_t d;
            memcpy(&d, p + 208, 2);
            const __m512 sc = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(p + 192))));
            const __m512 scales = _mm512_mul_ps(_mm512_mul_ps(sc, xd), _mm512_cvtph_ps(_mm256_set1_epi16(d)));
            f[s] = _mm512_fmadd_ps(scales, bias, f[s]);
            UNROLL
            for (int h = 0; h < 2; h++) {
                const __m512i v = _mm512_loadu_si512(p + 64 * h);
                const __m512i high = _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)(p + 128 + 32 * h)));
                const __m512i t0 = _mm512_and_si512(_mm512_sllv_epi32(high, left), bits);
                const __m512i t1 = _mm512_and_si512(_mm512_srlv_epi32(high, right), bits);
                const __m512i c0 = _mm512_ternarylogic_epi32(v, low, t0, 0xea); /* (v & 15) | t0 */
                const __m512i c1 = _mm512_ternarylogic_epi32(_mm512_srli_epi32(v, 4), low, t1, 0xea);
                const int8_t *q = x->q + i + 128 * h;
                const __m512i zero = _mm512_setzero_si512(), eight = _mm512_set1_epi32(8 * h);
                const __m512i dot0 = _mm512_dpbusd_epi32(zero, c0, _mm512_loadu_si512(q));
                const __m512i dot1 = _mm512_dpbusd_epi32(zero, c1, _mm512_loadu_si512(q + 64));
                const __m512i at0 = _mm512_add_epi32(four, eight), at1 = _mm512_add_epi32(at0, _mm512_set1_epi32(4));
                f[s] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot0), _mm512_permutexvar_ps(at0, scales), f[s]);
                f[s] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot1), _mm512_permutexvar_ps(at1, scales), f[s]);
            }
        }
    }
    UNROLL
    for (int s = 0; s < S; s++) out[s] = v_hsum(f[s]);
}

#endif
