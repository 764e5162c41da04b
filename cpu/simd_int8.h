/* simd_int8.h: integer dot products beside simd.h. vi is VL lanes of 32 bits: an int32 each, or 4 bytes each.
 *
 *     i_dot_u7(acc, w, x): acc + Σ w·x over the 4 bytes of each lane, w in 0 … 127, x signed
 *     i_dot_s8(acc, w, x): the same for signed w to which I_SIGNED_OFFSET was added (128 where the instruction wants
 *                          unsigned bytes; the caller subtracts 128·Σx)
 *
 *     i_and(a, b), i_right(a, n): bits; a shifted right by n < 8, when bits from a neighbouring byte are masked off
 * after
 *
 *     i_quarter(a): a / 4 of int32, and i_short_quarter(a) of sums of pairs, for multiples of 4
 *
 * AVX-512 VNNI has it as one instruction; AVX2 and AVX-512 take pairs through int16, which 2·127·127 fits. There,
 * several steps of small codes can be summed in int16 before they are widened:
 *
 *     i_short_steps(bits): how many, for codes of so many bits; 0: none, or no use
 *     i_short(w, x), i_short_add(a, b), i_widen_add(acc, a): pairs of products; their sums; acc + those, paired */
#ifndef CLF_CPU_SIMD_INT8_H
#define CLF_CPU_SIMD_INT8_H

#include "simd.h"

#if defined(__AVX512VNNI__)
enum { I_SIGNED_OFFSET = 128 };
#else
enum { I_SIGNED_OFFSET = 0 };
#endif

#if defined(__AVX512F__)
typedef __m512i vi;
INLINE vi i_load(const void *p) {
    return _mm512_loadu_si512(p);
}
INLINE vi i_set1(int32_t a) {
    return _mm512_set1_epi32(a);
}
INLINE vi i_add(vi a, vi b) {
    return _mm512_add_epi32(a, b);
}
INLINE vi i_and(vi a, vi b) {
    return _mm512_and_si512(a, b);
}
INLINE vi i_right(vi a, int n) {
    return _mm512_srli_epi16(a, (unsigned)n);
}
INLINE vi i_mul(vi a, vi b) {
    return _mm512_mullo_epi32(a, b);
}
INLINE vi i_quarter(vi a) {
    return _mm512_srai_epi32(a, 2);
}
INLINE vf i_to_float(vi a) {
    return _mm512_cvtepi32_ps(a);
}
#if defined(__AVX512VNNI__)
INLINE vi i_dot_u7(vi acc, vi w, vi x) {
    return _mm512_dpbusd_epi32(acc, w, x);
}
INLINE vi i_dot_s8(vi acc, vi w, vi x) {
    return _mm512_dpbusd_epi32(acc, w, x);
}
#else
INLINE vi i_dot_u7(vi acc, vi w, vi x) {
    return _mm512_add_epi32(acc, _mm512_madd_epi16(_mm512_maddubs_epi16(w, x), _mm512_set1_epi16(1)));
}
INLINE vi i_dot_s8(vi acc, vi w, vi x) { /* |w| · (x with w's sign) */
    const vi sx = _mm512_mask_sub_epi8(x, _mm512_movepi8_mask(w), _mm512_setzero_si512(), x);
    return _mm512_add_epi32(acc, _mm512_madd_epi16(_mm512_maddubs_epi16(_mm512_abs_epi8(w), sx), _mm512_set1_epi16(1)));
}
#endif

#elif defined(__AVX2__)
typedef __m256i vi;
INLINE vi i_load(const void *p) {
    return _mm256_loadu_si256((const __m256i *)p);
}
INLINE vi i_set1(int32_t a) {
    return _mm256_set1_epi32(a);
}
INLINE vi i_add(vi a, vi b) {
    return _mm256_add_epi32(a, b);
}
INLINE vi i_and(vi a, vi b) {
    return _mm256_and_si256(a, b);
}
INLINE vi i_right(vi a, int n) {
    return _mm256_srli_epi16(a, n);
}
INLINE vi i_mul(vi a, vi b) {
    return _mm256_mullo_epi32(a, b);
}
INLINE vi i_quarter(vi a) {
    return _mm256_srai_epi32(a, 2);
}
INLINE vf i_to_float(vi a) {
    return _mm256_cvtepi32_ps(a);
}
INLINE vi i_dot_u7(vi acc, vi w, vi x) {
    return _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), _mm256_set1_epi16(1)));
}
INLINE vi i_dot_s8(vi acc, vi w, vi x) { /* |w| · (x with w's sign) */
    const vi p = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
    return _mm256_add_epi32(acc, _mm256_madd_epi16(p, _mm256_set1_epi16(1)));
}

#elif defined(__ARM_NEON) && defined(__aarch64__) && !defined(CLF_SIMD_OFF)
typedef int32x4_t vi;
INLINE vi i_load(const void *p) {
    return vreinterpretq_s32_s8(vld1q_s8(p));
}
INLINE vi i_set1(int32_t a) {
    return vdupq_n_s32(a);
}
INLINE vi i_add(vi a, vi b) {
    return vaddq_s32(a, b);
}
INLINE vi i_and(vi a, vi b) {
    return vandq_s32(a, b);
}
INLINE vi i_right(vi a, int n) {
    return vshlq_s32(a, vdupq_n_s32(-n));
}
INLINE vi i_mul(vi a, vi b) {
    return vmulq_s32(a, b);
}
INLINE vi i_quarter(vi a) {
    return vshrq_n_s32(a, 2);
}
INLINE vf i_to_float(vi a) {
    return vcvtq_f32_s32(a);
}
INLINE vi i_dot_s8(vi acc, vi w, vi x) {
    const int8x16_t a = vreinterpretq_s8_s32(w), b = vreinterpretq_s8_s32(x);
    const int16x8_t low = vmull_s8(vget_low_s8(a), vget_low_s8(b)), high = vmull_high_s8(a, b);
    return vaddq_s32(acc, vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high)));
}
INLINE vi i_dot_u7(vi acc, vi w, vi x) {
    return i_dot_s8(acc, w, x);
}

#else
typedef int32_t vi;
INLINE vi i_load(const void *p) {
    vi a;
    memcpy(&a, p, 4);
    return a;
}
INLINE vi i_set1(int32_t a) {
    return a;
}
INLINE vi i_add(vi a, vi b) {
    return a + b;
}
INLINE vi i_and(vi a, vi b) {
    return a & b;
}
INLINE vi i_right(vi a, int n) {
    return a >> n;
}
INLINE vi i_mul(vi a, vi b) {
    return a * b;
}
INLINE vi i_quarter(vi a) {
    return a / 4;
}
INLINE vf i_to_float(vi a) {
    return (vf)a;
}
INLINE vi i_dot_s8(vi acc, vi w, vi x) {
    int8_t a[4], b[4];
    memcpy(a, &w, 4);
    memcpy(b, &x, 4);
    return acc + a[0] * b[0] + a[1] * b[1] + a[2] * b[2] + a[3] * b[3];
}
INLINE vi i_dot_u7(vi acc, vi w, vi x) {
    return i_dot_s8(acc, w, x);
}
#endif

#if defined(__AVX2__) && !defined(__AVX512VNNI__)
INLINE int i_short_steps(int bits) { /* 2·steps·(2^bits − 1)·127 < 2^15 */
    return bits <= 4 ? 8 : bits == 5 ? 4 : bits == 6 ? 2 : 0;
}
#if defined(__AVX512F__)
INLINE vi i_short(vi w, vi x) {
    return _mm512_maddubs_epi16(w, x);
}
INLINE vi i_short_add(vi a, vi b) {
    return _mm512_add_epi16(a, b);
}
INLINE vi i_short_quarter(vi a) {
    return _mm512_srai_epi16(a, 2);
}
INLINE vi i_widen_add(vi acc, vi a) {
    return _mm512_add_epi32(acc, _mm512_madd_epi16(a, _mm512_set1_epi16(1)));
}
#else
INLINE vi i_short(vi w, vi x) {
    return _mm256_maddubs_epi16(w, x);
}
INLINE vi i_short_add(vi a, vi b) {
    return _mm256_add_epi16(a, b);
}
INLINE vi i_short_quarter(vi a) {
    return _mm256_srai_epi16(a, 2);
}
INLINE vi i_widen_add(vi acc, vi a) {
    return _mm256_add_epi32(acc, _mm256_madd_epi16(a, _mm256_set1_epi16(1)));
}
#endif
#else
INLINE int i_short_steps(int bits) {
    (void)bits;
    return 0;
}
INLINE vi i_short(vi w, vi x) {
    return i_dot_u7(i_set1(0), w, x);
}
INLINE vi i_short_add(vi a, vi b) {
    return i_add(a, b);
}
INLINE vi i_short_quarter(vi a) {
    return i_quarter(a);
}
INLINE vi i_widen_add(vi acc, vi a) {
    return i_add(acc, a);
}
#endif

/* gcc reassociates integer sums of an unrolled loop, keeps every operand alive and spills: this ties the sum to its
 * place. clang doesn't, and would keep array elements in memory for it. */
#if defined(__AVX2__) && !defined(__clang__)
#define I_PIN(sum) __asm__("" : "+v"(sum))
#else
#define I_PIN(sum) ((void)0)
#endif

/* 16 bytes as 32 nibbles, the low ones first. */
INLINE void i_nibbles_32(const uint8_t *p, uint8_t *codes) {
#if defined(__AVX2__)
    const __m256i v = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)p));
    const __m256i shift = _mm256_setr_epi32(0, 0, 0, 0, 4, 4, 4, 4);
    _mm256_storeu_si256((__m256i *)codes, _mm256_and_si256(_mm256_srlv_epi32(v, shift), _mm256_set1_epi8(15)));
#else
    for (int h = 0; h < 2; h++) {
        uint64_t eight;
        memcpy(&eight, p + 8 * h, 8);
        const uint64_t low = eight & 0x0f0f0f0f0f0f0f0f, high = eight >> 4 & 0x0f0f0f0f0f0f0f0f;
        memcpy(codes + 8 * h, &low, 8);
        memcpy(codes + 16 + 8 * h, &high, 8);
    }
#endif
}

/* Adds a fifth bit to each of 32 codes. */
INLINE void i_fifth_32(const uint8_t four[4], uint8_t *codes) {
#if defined(__AVX2__)
    int32_t all;
    memcpy(&all, four, 4);
    const __m256i from = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201);
    const __m256i bits = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32(all), from), bit);
    const __m256i fifth = _mm256_and_si256(_mm256_cmpeq_epi8(bits, bit), _mm256_set1_epi8(16));
    __m256i *const p = (__m256i *)codes;
    _mm256_storeu_si256(p, _mm256_or_si256(_mm256_loadu_si256(p), fifth));
#else
    for (int j = 0; j < 32; j++) codes[j] |= (uint8_t)((four[j / 8] >> j % 8 & 1) << 4);
#endif
}

/* codes[j] = table[codes[j]], 32 codes below 16 */
INLINE void i_lookup_32(const int8_t table[16], uint8_t *codes) {
#if defined(__AVX2__)
    const __m256i t = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)table));
    __m256i *const p = (__m256i *)codes;
    _mm256_storeu_si256(p, _mm256_shuffle_epi8(t, _mm256_loadu_si256(p)));
#elif defined(__ARM_NEON) && defined(__aarch64__) && !defined(CLF_SIMD_OFF)
    const uint8x16_t t = vreinterpretq_u8_s8(vld1q_s8(table));
    for (int i = 0; i < 32; i += 16) vst1q_u8(codes + i, vqtbl1q_u8(t, vld1q_u8(codes + i)));
#else
    for (int i = 0; i < 32; i++) codes[i] = (uint8_t)table[codes[i]];
#endif
}

INLINE vi i_broadcast(const uint8_t *four) {
    int32_t a;
    memcpy(&a, four, 4);
    return i_set1(a);
}

#endif
