/* simd_neon.h: the vector vocabulary in Advanced SIMD of aarch64: 4 floats. Included by simd.h, which says what the
 * words mean. */
#ifndef CLF_CPU_SIMD_NEON_H
#define CLF_CPU_SIMD_NEON_H

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
INLINE vf v_sqrt(vf a) {
    return vsqrtq_f32(a);
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
INLINE void v_transpose_spans(vf *a) {
    const float32x4x2_t t = vzipq_f32(a[0], a[2]), u = vzipq_f32(a[1], a[3]);
    const float32x4x2_t low = vzipq_f32(t.val[0], u.val[0]), high = vzipq_f32(t.val[1], u.val[1]);
    a[0] = low.val[0];
    a[1] = low.val[1];
    a[2] = high.val[0];
    a[3] = high.val[1];
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
INLINE vf v_load_i8(const void *p) {
    int32_t four;
    memcpy(&four, p, sizeof four);
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(four))))));
}
INLINE vf v_load_u8(const void *p) {
    uint32_t four;
    memcpy(&four, p, sizeof four);
    return vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(four))))));
}
INLINE vf v_load_u4(const void *p, bool high) {
    uint32_t four;
    memcpy(&four, p, sizeof four);
    const uint8x8_t n = vreinterpret_u8_u32(vdup_n_u32((high ? four >> 4 : four) & 0x0f0f0f0f));
    return vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(n))));
}
INLINE void v_store_u8(void *p, vf a) {
    const uint16x4_t words = vmovn_u32(vcvtq_u32_f32(a));
    const uint32_t four = vget_lane_u32(vreinterpret_u32_u8(vmovn_u16(vcombine_u16(words, words))), 0);
    memcpy(p, &four, sizeof four);
}
INLINE vf v_set1_f16(const void *p) {
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(h)));
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

#endif
