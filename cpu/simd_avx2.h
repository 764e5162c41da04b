/* simd_avx2.h: the vector vocabulary in AVX2, FMA and F16C: 8 floats. Included by simd.h, which says what the words
 * mean. */
#ifndef CLF_CPU_SIMD_AVX2_H
#define CLF_CPU_SIMD_AVX2_H

#include <immintrin.h>

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
INLINE vf v_sqrt(vf a) {
    return _mm256_sqrt_ps(a);
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
INLINE void v_transpose_spans(vf *a) {
    const vf t = _mm256_unpacklo_ps(a[0], a[1]), u = _mm256_unpackhi_ps(a[0], a[1]);
    const vf v = _mm256_unpacklo_ps(a[2], a[3]), w = _mm256_unpackhi_ps(a[2], a[3]);
    a[0] = _mm256_shuffle_ps(t, v, 0x44);
    a[1] = _mm256_shuffle_ps(t, v, 0xee);
    a[2] = _mm256_shuffle_ps(u, w, 0x44);
    a[3] = _mm256_shuffle_ps(u, w, 0xee);
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
INLINE vf v_load_i8(const void *p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p)));
}
INLINE vf v_load_u8(const void *p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(p)));
}
INLINE vf v_load_u4(const void *p, bool high) {
    const __m128i b = _mm_loadl_epi64(p), n = _mm_srl_epi16(b, _mm_cvtsi32_si128(high ? 4 : 0));
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_and_si128(n, _mm_set1_epi8(15))));
}
INLINE void v_store_u8(void *p, vf a) {
    const __m256i i = _mm256_cvtps_epi32(a);
    const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(i), _mm256_extracti128_si256(i, 1));
    _mm_storel_epi64(p, _mm_packus_epi16(words, words));
}
INLINE vf v_set1_f16(const void *p) {
    short h;
    memcpy(&h, p, sizeof h);
    return _mm256_cvtph_ps(_mm_set1_epi16(h));
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

#endif
