/* simd.h: the one vector vocabulary. vf is VL floats: AVX-512 (16), AVX2+FMA+F16C (8), NEON (4) or plain float (1);
 * nothing here allocates or branches. Loads and stores are unaligned; v_load_n and v_store_n touch only the first n of
 * VL elements (the rest read as 0). 16-bit stores round to nearest even. A vector is SPANS spans of SPAN
 * lanes: v_load_span puts the floats at p into every span; v_regroup exchanges span j of a[i] with span i of a[j], for
 * SPANS vectors; v_span_sums makes lane i of each span the sum of that span of a[i], for SPAN vectors; v_spans_sum and
 * v_spans_max put the sum or maximum over the spans into every span. */
#ifndef CLF_CPU_SIMD_H
#define CLF_CPU_SIMD_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "../lib/core/dtype.h"

#define INLINE static inline __attribute__((always_inline))

/* Full unrolling, so that accumulator arrays become registers. clang ignores gcc's spelling without a word. */
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 64")
#endif

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
enum { VL = 16, SPAN = 4, SPANS = 4 };
typedef __m512 vf;
INLINE vf v_set1(float a) {
    return _mm512_set1_ps(a);
}
INLINE vf v_load(const float *p) {
    return _mm512_loadu_ps(p);
}
INLINE void v_store(float *p, vf a) {
    _mm512_storeu_ps(p, a);
}
INLINE vf v_load_n(const float *p, int n) {
    return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}
INLINE void v_store_n(float *p, vf a, int n) {
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), a);
}
INLINE vf v_fma(vf a, vf b, vf c) {
    return _mm512_fmadd_ps(a, b, c);
}
/* c − a·b */
INLINE vf v_nfma(vf a, vf b, vf c) {
    return _mm512_fnmadd_ps(a, b, c);
}
INLINE vf v_add(vf a, vf b) {
    return _mm512_add_ps(a, b);
}
INLINE vf v_sub(vf a, vf b) {
    return _mm512_sub_ps(a, b);
}
INLINE vf v_mul(vf a, vf b) {
    return _mm512_mul_ps(a, b);
}
INLINE vf v_div(vf a, vf b) {
    return _mm512_div_ps(a, b);
}
INLINE vf v_max(vf a, vf b) {
    return _mm512_max_ps(a, b);
}
INLINE vf v_min(vf a, vf b) {
    return _mm512_min_ps(a, b);
}
INLINE vf v_abs(vf a) {
    return _mm512_abs_ps(a);
}
/* a >= b ? x : y */
INLINE vf v_ge_or(vf a, vf b, vf x, vf y) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_GE_OQ), y, x);
}
INLINE float v_hsum(vf a) {
    return _mm512_reduce_add_ps(a);
}
INLINE float v_hmax(vf a) {
    return _mm512_reduce_max_ps(a);
}
INLINE vf v_load_span(const float *p) {
    return _mm512_broadcast_f32x4(_mm_loadu_ps(p));
}
INLINE void v_regroup(vf *a) {
    const vf t = _mm512_shuffle_f32x4(a[0], a[1], 0x44), u = _mm512_shuffle_f32x4(a[2], a[3], 0x44);
    const vf v = _mm512_shuffle_f32x4(a[0], a[1], 0xee), w = _mm512_shuffle_f32x4(a[2], a[3], 0xee);
    a[0] = _mm512_shuffle_f32x4(t, u, 0x88);
    a[1] = _mm512_shuffle_f32x4(t, u, 0xdd);
    a[2] = _mm512_shuffle_f32x4(v, w, 0x88);
    a[3] = _mm512_shuffle_f32x4(v, w, 0xdd);
}
INLINE vf v_spans_sum(vf a) {
    a = _mm512_add_ps(a, _mm512_shuffle_f32x4(a, a, 0x4e));
    return _mm512_add_ps(a, _mm512_shuffle_f32x4(a, a, 0xb1));
}
INLINE vf v_spans_max(vf a) {
    a = _mm512_max_ps(a, _mm512_shuffle_f32x4(a, a, 0x4e));
    return _mm512_max_ps(a, _mm512_shuffle_f32x4(a, a, 0xb1));
}
INLINE vf v_span_sums(const vf *a) {
    const vf t = _mm512_add_ps(_mm512_unpacklo_ps(a[0], a[1]), _mm512_unpackhi_ps(a[0], a[1]));
    const vf u = _mm512_add_ps(_mm512_unpacklo_ps(a[2], a[3]), _mm512_unpackhi_ps(a[2], a[3]));
    return _mm512_add_ps(_mm512_shuffle_ps(t, u, 0x44), _mm512_shuffle_ps(t, u, 0xee));
}
/* p · 2^k where t = k + 1.5·2^23 */
INLINE vf v_shift_exp(vf p, vf t) {
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(p), _mm512_slli_epi32(_mm512_castps_si512(t), 23)));
}
/* each two neighbours change places */
INLINE vf v_swap(vf a) {
    return _mm512_permute_ps(a, 0xb1);
}
typedef __m256i vh; /* VL halves or bfloat16s */
INLINE vh vh_load(const uint16_t *p) {
    return _mm256_loadu_si256((const __m256i *)p);
}
INLINE void vh_store(uint16_t *p, vh a) {
    _mm256_storeu_si256((__m256i *)p, a);
}
INLINE vh vh_load_n(const uint16_t *p, int n) {
    return _mm256_maskz_loadu_epi16((__mmask16)((1u << n) - 1), p);
}
INLINE void vh_store_n(uint16_t *p, vh a, int n) {
    _mm256_mask_storeu_epi16(p, (__mmask16)((1u << n) - 1), a);
}
INLINE vf v_from_f16(vh a) {
    return _mm512_cvtph_ps(a);
}
INLINE vh v_to_f16(vf a) {
    return _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
INLINE vf v_from_bf16(vh a) { /* to the upper halves of 32-bit elements, by one permutation */
    const __m512i to = _mm512_set_epi16(15, 0, 14, 0, 13, 0, 12, 0, 11, 0, 10, 0, 9, 0, 8, 0, 7, 0, 6, 0, 5, 0, 4, 0, 3,
                                        0, 2, 0, 1, 0, 0, 0);
    return _mm512_castsi512_ps(_mm512_maskz_permutexvar_epi16(0xaaaaaaaa, to, _mm512_castsi256_si512(a)));
}
INLINE vh v_to_bf16(vf a) {
    const __m512i upper = _mm512_set_epi16(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 31, 29, 27, 25, 23, 21, 19,
                                           17, 15, 13, 11, 9, 7, 5, 3, 1);
    const __m512i u = _mm512_castps_si512(a);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
    const __m512i rounded = _mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    const __mmask16 is_nan = _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q);
    const __m512i r = _mm512_mask_or_epi32(rounded, is_nan, u, _mm512_set1_epi32(0x400000));
    return _mm512_castsi512_si256(_mm512_permutexvar_epi16(upper, r));
}
/* Past the caches, to a multiple of 64 bytes (32 for halves); v_stream_end() makes it visible to other threads. */
INLINE void v_stream(float *p, vf a) {
    _mm512_stream_ps(p, a);
}
INLINE void vh_stream(uint16_t *p, vh a) {
    _mm256_stream_si256((__m256i *)p, a);
}
INLINE void v_stream_end(void) {
    _mm_sfence();
}

#elif defined(__AVX2__)
enum { VL = 8, SPAN = 4, SPANS = 2 };
typedef __m256 vf;
INLINE __m256i v_mask_n(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
INLINE vf v_set1(float a) {
    return _mm256_set1_ps(a);
}
INLINE vf v_load(const float *p) {
    return _mm256_loadu_ps(p);
}
INLINE void v_store(float *p, vf a) {
    _mm256_storeu_ps(p, a);
}
INLINE vf v_load_n(const float *p, int n) {
    return _mm256_maskload_ps(p, v_mask_n(n));
}
INLINE void v_store_n(float *p, vf a, int n) {
    _mm256_maskstore_ps(p, v_mask_n(n), a);
}
INLINE vf v_fma(vf a, vf b, vf c) {
    return _mm256_fmadd_ps(a, b, c);
}
INLINE vf v_nfma(vf a, vf b, vf c) {
    return _mm256_fnmadd_ps(a, b, c);
}
INLINE vf v_add(vf a, vf b) {
    return _mm256_add_ps(a, b);
}
INLINE vf v_sub(vf a, vf b) {
    return _mm256_sub_ps(a, b);
}
INLINE vf v_mul(vf a, vf b) {
    return _mm256_mul_ps(a, b);
}
INLINE vf v_div(vf a, vf b) {
    return _mm256_div_ps(a, b);
}
INLINE vf v_max(vf a, vf b) {
    return _mm256_max_ps(a, b);
}
INLINE vf v_min(vf a, vf b) {
    return _mm256_min_ps(a, b);
}
INLINE vf v_abs(vf a) {
    return _mm256_andnot_ps(_mm256_set1_ps(-0.f), a);
}
INLINE vf v_ge_or(vf a, vf b, vf x, vf y) {
    return _mm256_blendv_ps(y, x, _mm256_cmp_ps(a, b, _CMP_GE_OQ));
}
INLINE float v_hsum(vf a) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
INLINE float v_hmax(vf a) {
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}
INLINE vf v_load_span(const float *p) {
    return _mm256_broadcast_ps((const __m128 *)(const void *)p);
}
INLINE void v_regroup(vf *a) {
    const vf t = _mm256_permute2f128_ps(a[0], a[1], 0x20);
    a[1] = _mm256_permute2f128_ps(a[0], a[1], 0x31);
    a[0] = t;
}
INLINE vf v_spans_sum(vf a) {
    return _mm256_add_ps(a, _mm256_permute2f128_ps(a, a, 1));
}
INLINE vf v_spans_max(vf a) {
    return _mm256_max_ps(a, _mm256_permute2f128_ps(a, a, 1));
}
INLINE vf v_span_sums(const vf *a) {
    const vf t = _mm256_add_ps(_mm256_unpacklo_ps(a[0], a[1]), _mm256_unpackhi_ps(a[0], a[1]));
    const vf u = _mm256_add_ps(_mm256_unpacklo_ps(a[2], a[3]), _mm256_unpackhi_ps(a[2], a[3]));
    return _mm256_add_ps(_mm256_shuffle_ps(t, u, 0x44), _mm256_shuffle_ps(t, u, 0xee));
}
INLINE vf v_shift_exp(vf p, vf t) {
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), _mm256_slli_epi32(_mm256_castps_si256(t), 23)));
}
INLINE vf v_swap(vf a) {
    return _mm256_permute_ps(a, 0xb1);
}
typedef __m128i vh;
INLINE vh vh_load(const uint16_t *p) {
    return _mm_loadu_si128((const __m128i *)p);
}
INLINE void vh_store(uint16_t *p, vh a) {
    _mm_storeu_si128((__m128i *)p, a);
}
INLINE vh vh_load_n(const uint16_t *p, int n) {
    uint16_t t[8] = {0};
    memcpy(t, p, (size_t)n * sizeof *t);
    return vh_load(t);
}
INLINE void vh_store_n(uint16_t *p, vh a, int n) {
    uint16_t t[8];
    vh_store(t, a);
    memcpy(p, t, (size_t)n * sizeof *t);
}
INLINE vf v_from_f16(vh a) {
    return _mm256_cvtph_ps(a);
}
INLINE vh v_to_f16(vf a) {
    return _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
INLINE vf v_from_bf16(vh a) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(a), 16));
}
INLINE vh v_to_bf16(vf a) {
    const __m256i u = _mm256_castps_si256(a);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
    const __m256i rounded =
        _mm256_srli_epi32(_mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
    const __m256i nan = _mm256_or_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(0x40));
    const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q));
    const __m256i r = _mm256_blendv_epi8(rounded, nan, is_nan);
    return _mm_packus_epi32(_mm256_castsi256_si128(r), _mm256_extracti128_si256(r, 1));
}
INLINE void v_stream(float *p, vf a) {
    _mm256_stream_ps(p, a);
}
INLINE void vh_stream(uint16_t *p, vh a) {
    _mm_stream_si128((__m128i *)p, a);
}
INLINE void v_stream_end(void) {
    _mm_sfence();
}

#elif defined(__ARM_NEON) && defined(__aarch64__) && !defined(CLF_SIMD_OFF)
#include <arm_neon.h>
enum { VL = 4, SPAN = 4, SPANS = 1 };
typedef float32x4_t vf;
INLINE vf v_set1(float a) {
    return vdupq_n_f32(a);
}
INLINE vf v_load(const float *p) {
    return vld1q_f32(p);
}
INLINE void v_store(float *p, vf a) {
    vst1q_f32(p, a);
}
INLINE vf v_load_n(const float *p, int n) {
    float t[4] = {0};
    memcpy(t, p, (size_t)n * sizeof *t);
    return vld1q_f32(t);
}
INLINE void v_store_n(float *p, vf a, int n) {
    float t[4];
    vst1q_f32(t, a);
    memcpy(p, t, (size_t)n * sizeof *t);
}
INLINE vf v_fma(vf a, vf b, vf c) {
    return vfmaq_f32(c, a, b);
}
INLINE vf v_nfma(vf a, vf b, vf c) {
    return vfmsq_f32(c, a, b);
}
INLINE vf v_add(vf a, vf b) {
    return vaddq_f32(a, b);
}
INLINE vf v_sub(vf a, vf b) {
    return vsubq_f32(a, b);
}
INLINE vf v_mul(vf a, vf b) {
    return vmulq_f32(a, b);
}
INLINE vf v_div(vf a, vf b) {
    return vdivq_f32(a, b);
}
INLINE vf v_max(vf a, vf b) {
    return vmaxq_f32(a, b);
}
INLINE vf v_min(vf a, vf b) {
    return vminq_f32(a, b);
}
INLINE vf v_abs(vf a) {
    return vabsq_f32(a);
}
INLINE vf v_ge_or(vf a, vf b, vf x, vf y) {
    return vbslq_f32(vcgeq_f32(a, b), x, y);
}
INLINE float v_hsum(vf a) {
    return vaddvq_f32(a);
}
INLINE float v_hmax(vf a) {
    return vmaxvq_f32(a);
}
INLINE vf v_load_span(const float *p) {
    return vld1q_f32(p);
}
INLINE void v_regroup(vf *a) {
    (void)a;
}
INLINE vf v_spans_sum(vf a) {
    return a;
}
INLINE vf v_spans_max(vf a) {
    return a;
}
INLINE vf v_span_sums(const vf *a) {
    return vpaddq_f32(vpaddq_f32(a[0], a[1]), vpaddq_f32(a[2], a[3]));
}
INLINE vf v_shift_exp(vf p, vf t) {
    return vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(p), vshlq_n_s32(vreinterpretq_s32_f32(t), 23)));
}
INLINE vf v_swap(vf a) {
    return vrev64q_f32(a);
}
typedef uint16x4_t vh;
INLINE vh vh_load(const uint16_t *p) {
    return vld1_u16(p);
}
INLINE void vh_store(uint16_t *p, vh a) {
    vst1_u16(p, a);
}
INLINE vh vh_load_n(const uint16_t *p, int n) {
    uint16_t t[4] = {0};
    memcpy(t, p, (size_t)n * sizeof *t);
    return vh_load(t);
}
INLINE void vh_store_n(uint16_t *p, vh a, int n) {
    uint16_t t[4];
    vh_store(t, a);
    memcpy(p, t, (size_t)n * sizeof *t);
}
INLINE vf v_from_f16(vh a) {
    return vcvt_f32_f16(vreinterpret_f16_u16(a));
}
INLINE vh v_to_f16(vf a) {
    return vreinterpret_u16_f16(vcvt_f16_f32(a));
}
INLINE vf v_from_bf16(vh a) {
    return vreinterpretq_f32_u32(vshll_n_u16(a, 16));
}
INLINE vh v_to_bf16(vf a) {
    const uint32x4_t u = vreinterpretq_u32_f32(a);
    const uint32x4_t odd = vandq_u32(vshrq_n_u32(u, 16), vdupq_n_u32(1));
    const uint32x4_t rounded = vshrq_n_u32(vaddq_u32(u, vaddq_u32(odd, vdupq_n_u32(0x7fff))), 16);
    const uint32x4_t nan = vorrq_u32(vshrq_n_u32(u, 16), vdupq_n_u32(0x40));
    return vmovn_u32(vbslq_u32(vceqq_f32(a, a), rounded, nan));
}
INLINE void v_stream(float *p, vf a) {
    vst1q_f32(p, a);
}
INLINE void vh_stream(uint16_t *p, vh a) {
    vh_store(p, a);
}
INLINE void v_stream_end(void) {}

#else
enum { VL = 1, SPAN = 1, SPANS = 1 };
typedef float vf;
INLINE vf v_set1(float a) {
    return a;
}
INLINE vf v_load(const float *p) {
    return *p;
}
INLINE void v_store(float *p, vf a) {
    *p = a;
}
INLINE vf v_load_n(const float *p, int n) {
    return n ? *p : 0;
}
INLINE void v_store_n(float *p, vf a, int n) {
    if (n) *p = a;
}
INLINE vf v_fma(vf a, vf b, vf c) {
    return a * b + c;
}
INLINE vf v_nfma(vf a, vf b, vf c) {
    return c - a * b;
}
INLINE vf v_add(vf a, vf b) {
    return a + b;
}
INLINE vf v_sub(vf a, vf b) {
    return a - b;
}
INLINE vf v_mul(vf a, vf b) {
    return a * b;
}
INLINE vf v_div(vf a, vf b) {
    return a / b;
}
INLINE vf v_max(vf a, vf b) {
    return a > b ? a : b;
}
INLINE vf v_min(vf a, vf b) {
    return a < b ? a : b;
}
INLINE vf v_abs(vf a) {
    return fabsf(a);
}
INLINE vf v_ge_or(vf a, vf b, vf x, vf y) {
    return a >= b ? x : y;
}
INLINE float v_hsum(vf a) {
    return a;
}
INLINE float v_hmax(vf a) {
    return a;
}
INLINE vf v_load_span(const float *p) {
    return *p;
}
INLINE void v_regroup(vf *a) {
    (void)a;
}
INLINE vf v_spans_sum(vf a) {
    return a;
}
INLINE vf v_spans_max(vf a) {
    return a;
}
INLINE vf v_span_sums(const vf *a) {
    return *a;
}
INLINE vf v_shift_exp(vf p, vf t) {
    uint32_t i, j;
    memcpy(&i, &p, 4);
    memcpy(&j, &t, 4);
    i += j << 23;
    memcpy(&p, &i, 4);
    return p;
}
INLINE vf v_swap(vf a) { /* of one: nothing to change with */
    return a;
}
typedef uint16_t vh;
INLINE vh vh_load(const uint16_t *p) {
    return *p;
}
INLINE void vh_store(uint16_t *p, vh a) {
    *p = a;
}
INLINE vh vh_load_n(const uint16_t *p, int n) {
    return n ? *p : 0;
}
INLINE void vh_store_n(uint16_t *p, vh a, int n) {
    if (n) *p = a;
}
INLINE vf v_from_f16(vh a) {
    return clf_f16_to_f32(a);
}
INLINE vh v_to_f16(vf a) {
    return clf_f32_to_f16(a);
}
INLINE vf v_from_bf16(vh a) {
    return clf_bf16_to_f32(a);
}
INLINE vh v_to_bf16(vf a) {
    return clf_f32_to_bf16(a);
}
INLINE void v_stream(float *p, vf a) {
    *p = a;
}
INLINE void vh_stream(uint16_t *p, vh a) {
    *p = a;
}
INLINE void v_stream_end(void) {}
#endif

/* 2^x for x ≤ 127, error below 1 ulp; x ≤ −127 (also −inf) gives exactly 0, results below 2^−126 are not meaningful;
 * NaN stays NaN. Degree-6 minimax polynomial on [−½, ½] with p(0) = 1. */
INLINE vf v_exp2(vf x) {
    const vf magic = v_set1(0x1.8p23f);
    x = v_max(v_set1(-127.f), x); /* in this order a NaN passes */
    const vf t = v_add(x, magic), r = v_sub(x, v_sub(t, magic));
    vf p = v_set1(0.00015353362f);
    p = v_fma(p, r, v_set1(0.0013398875f));
    p = v_fma(p, r, v_set1(0.00961843692f));
    p = v_fma(p, r, v_set1(0.0555033237f));
    p = v_fma(p, r, v_set1(0.240226477f));
    p = v_fma(p, r, v_set1(0.693147182f));
    p = v_fma(p, r, v_set1(1.f));
    return v_shift_exp(p, t);
}

/* tanh x, relative error below 2e-7: an odd minimax polynomial near 0, 1 − 2/(1 + e^2|x|) beyond; NaN stays NaN. */
INLINE vf v_tanh(vf x) {
    const vf a = v_abs(x), z = v_mul(x, x), one = v_set1(1.f);
    vf p = v_set1(-0.0062742396f);
    p = v_fma(p, z, v_set1(0.0210716780f));
    p = v_fma(p, z, v_set1(-0.0538523085f));
    p = v_fma(p, z, v_set1(0.133325860f));
    p = v_fma(p, z, v_set1(-0.333333164f));
    const vf near = v_fma(v_mul(x, z), p, x);
    const vf e = v_exp2(v_min(v_set1(60.f), v_mul(a, v_set1(2.88539008f))));
    const vf far = v_sub(one, v_div(v_set1(2.f), v_add(one, e)));
    return v_ge_or(a, v_set1(0.55f), v_ge_or(x, v_set1(0.f), far, v_sub(v_set1(0.f), far)), near); /* NaN: near */
}

INLINE vf v_load_f16(const uint16_t *p) {
    return v_from_f16(vh_load(p));
}
INLINE void v_store_f16(uint16_t *p, vf a) {
    vh_store(p, v_to_f16(a));
}
INLINE vf v_load_bf16(const uint16_t *p) {
    return v_from_bf16(vh_load(p));
}
INLINE void v_store_bf16(uint16_t *p, vf a) {
    vh_store(p, v_to_bf16(a));
}

/* VL elements, or the first n, of a float tensor of any dtype; `p` addresses the first, `dtype` is a constant where it
 * counts. */
INLINE vf v_load_as(const void *p, clf_dtype dtype) {
    if (dtype == CLF_F32) return v_load(p);
    return dtype == CLF_F16 ? v_load_f16(p) : v_load_bf16(p);
}
INLINE void v_store_as(void *p, vf a, clf_dtype dtype) {
    if (dtype == CLF_F32)
        v_store(p, a);
    else
        vh_store(p, dtype == CLF_F16 ? v_to_f16(a) : v_to_bf16(a));
}
INLINE vf v_load_as_n(const void *p, int n, clf_dtype dtype) {
    if (dtype == CLF_F32) return v_load_n(p, n);
    return dtype == CLF_F16 ? v_from_f16(vh_load_n(p, n)) : v_from_bf16(vh_load_n(p, n));
}
INLINE void v_store_as_n(void *p, vf a, int n, clf_dtype dtype) {
    if (dtype == CLF_F32)
        v_store_n(p, a, n);
    else
        vh_store_n(p, dtype == CLF_F16 ? v_to_f16(a) : v_to_bf16(a), n);
}
INLINE void v_stream_as(void *p, vf a, clf_dtype dtype) {
    if (dtype == CLF_F32)
        v_stream(p, a);
    else
        vh_stream(p, dtype == CLF_F16 ? v_to_f16(a) : v_to_bf16(a));
}
/* What storing and loading makes of it. */
INLINE vf v_round_as(vf a, clf_dtype dtype) {
    if (dtype == CLF_F32) return a;
    return dtype == CLF_F16 ? v_from_f16(v_to_f16(a)) : v_from_bf16(v_to_bf16(a));
}

#endif
