/* simd_avx512.h: the vector vocabulary in AVX-512 F, BW, DQ, VL, and BF16 if there: 16 floats. Included by simd.h,
 * which says what the words mean. */
#ifndef CLF_CPU_SIMD_AVX512_H
#define CLF_CPU_SIMD_AVX512_H

#include <immintrin.h>

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
INLINE vf v_sqrt(vf a) {
    return _mm512_sqrt_ps(a);
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
INLINE void v_transpose_spans(vf *a) {
    const vf t = _mm512_unpacklo_ps(a[0], a[1]), u = _mm512_unpackhi_ps(a[0], a[1]);
    const vf v = _mm512_unpacklo_ps(a[2], a[3]), w = _mm512_unpackhi_ps(a[2], a[3]);
    a[0] = _mm512_shuffle_ps(t, v, 0x44);
    a[1] = _mm512_shuffle_ps(t, v, 0xee);
    a[2] = _mm512_shuffle_ps(u, w, 0x44);
    a[3] = _mm512_shuffle_ps(u, w, 0xee);
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
INLINE vf v_shift_exp(vf p, vf t) {
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(p), _mm512_slli_epi32(_mm512_castps_si512(t), 23)));
}
INLINE vf v_swap(vf a) {
    return _mm512_permute_ps(a, 0xb1);
}
INLINE vf v_load_i8(const void *p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p)));
}
INLINE vf v_load_u8(const void *p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(p)));
}
INLINE vf v_load_u4(const void *p, bool high) {
    const __m128i b = _mm_loadu_si128(p), n = _mm_srl_epi16(b, _mm_cvtsi32_si128(high ? 4 : 0));
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_and_si128(n, _mm_set1_epi8(15))));
}
INLINE void v_store_u8(void *p, vf a) {
    _mm_storeu_si128(p, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(a)));
}
INLINE vf v_set1_f16(const void *p) {
    short h;
    memcpy(&h, p, sizeof h);
    return _mm512_cvtph_ps(_mm256_set1_epi16(h));
}
typedef __m256i vh;
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
#if defined(__AVX512BF16__)
#define V_PAIRS 1
INLINE vf v_dot_pairs(vf a, vf b, vf c) {
    return _mm512_dpbf16_ps(c, (__m512bh)a, (__m512bh)b);
}
INLINE vf v_set1_pair(const void *p) {
    int pair;
    memcpy(&pair, p, sizeof pair);
    return _mm512_castsi512_ps(_mm512_set1_epi32(pair));
}
#endif
INLINE void v_stream(float *p, vf a) {
    _mm512_stream_ps(p, a);
}
INLINE void vh_stream(uint16_t *p, vh a) {
    _mm256_stream_si256((__m256i *)p, a);
}
INLINE void v_stream_end(void) {
    _mm_sfence();
}

#endif
