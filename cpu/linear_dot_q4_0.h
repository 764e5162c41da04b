/* linear_dot_q4_0.h: dot products of rows of Q4_0 with int8 activations, 64 values a step: two blocks lie side by side,
 * lanes 0–3 and 4–7, their low nibbles against the first halves of the blocks of x and their high ones against the
 * second halves, in one sum. Nothing reads past a row. */
#ifndef CLF_CPU_LINEAR_DOT_Q4_0_H
#define CLF_CPU_LINEAR_DOT_Q4_0_H

#include "linear.h"

#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
enum { Q4_0_TIMES = 16 }; /* high nibbles stay where they are, low ones are shifted to there */

INLINE __m256i q4_0_sum(__m256i sum, __m256i codes, __m256i x_low, __m256i x_high) {
    const __m256i high = _mm256_set1_epi8((char)0xf0);
    sum = _mm256_dpbusd_epi32(sum, _mm256_and_si256(_mm256_slli_epi16(codes, 4), high), x_low);
    return _mm256_dpbusd_epi32(sum, _mm256_and_si256(codes, high), x_high);
}
#else
enum { Q4_0_TIMES = 1 };

INLINE __m256i q4_0_sum(__m256i sum, __m256i codes, __m256i x_low, __m256i x_high) {
    const __m256i low = _mm256_set1_epi8(15); /* four products are below 2^13 */
    const __m256i pairs = _mm256_maddubs_epi16(_mm256_and_si256(codes, low), x_low);
    const __m256i others = _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16(codes, 4), low), x_high);
    return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_add_epi16(pairs, others), _mm256_set1_epi16(1)));
}
#endif

/* Two blocks of S rows, 1 or DOT_STREAMS, from `block` on, or, not `full`, the last one. The scales of all rows are
 * converted together. */
INLINE void step_q4_0(const char *const *w, int64_t block, const bool full, const quantized_row *x, __m256 *f,
                      const int S) {
    const __m256i a = _mm256_loadu_si256((const __m256i *)(x->q + 32 * block));
    const __m256i b = _mm256_loadu_si256((const __m256i *)(x->q + 32 * block + 32));
    const __m256i x_low = _mm256_permute2x128_si256(a, b, 0x20), x_high = _mm256_permute2x128_si256(a, b, 0x31);
    const __m256i sums = _mm256_cvtepu32_epi64(_mm_loadl_epi64((const __m128i *)(x->sum + 2 * block)));
    const __m256i bias = _mm256_madd_epi16(_mm256_permute4x64_epi64(sums, 0xd8), /* in lanes 0 and 4 */
                                           _mm256_set1_epi16(-8 * Q4_0_TIMES));
    const __m256 xd = _mm256_castpd_ps(_mm256_broadcast_sd((const double *)(const void *)(x->d + block)));
    const __m256i first = _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1);
    const __m128i none = _mm_setzero_si128();
    const char *p[DOT_STREAMS];
    __m128i d[DOT_STREAMS];
    UNROLL
    for (int s = 0; s < S; s++) {
        p[s] = w[s] + 18 * block;
        __builtin_prefetch(p[s] + PREFETCH);
        d[s] = _mm_unpacklo_epi16(_mm_loadu_si128((const __m128i *)p[s]),
                                  full ? _mm_loadu_si128((const __m128i *)(p[s] + 18)) : none);
    }
    const __m128i d01 = _mm_unpacklo_epi32(d[0], d[S > 1]), d23 = _mm_unpacklo_epi32(d[S / 4 * 2], d[S / 4 * 3]);
    const __m256 scales = _mm256_mul_ps(_mm256_cvtph_ps(_mm_unpacklo_epi64(d01, d23)),
                                        _mm256_mul_ps(xd, _mm256_set1_ps(1.f / Q4_0_TIMES)));
    UNROLL
    for (int s = 0; s < S; s++) {
        const __m256i codes =
            _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(p[s] + 2))),
                                    full ? _mm_loadu_si128((const __m128i *)(p[s] + 20)) : none, 1);
        const __m256 scale = _mm256_permutevar8x32_ps(scales, _mm256_add_epi32(first, _mm256_set1_epi32(2 * s)));
        f[s] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(q4_0_sum(bias, codes, x_low, x_high)), scale, f[s]);
    }
}

INLINE void dot_q4_0(const char *const *w, const quantized_row *x, int64_t k, float *out, const int S) {
    __m256 f[DOT_STREAMS];
    UNROLL
    for (int s = 0; s < S; s++) f[s] = _mm256_setzero_ps();
    int64_t block = 0;
    for (; block + 2 <= k / 32; block += 2) step_q4_0(w, block, true, x, f, S);
    if (block < k / 32) step_q4_0(w, block, false, x, f, S);
    UNROLL
    for (int s = 0; s < S; s++) out[s] = sum8(f[s]);
}

#endif
