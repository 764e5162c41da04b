/* simd_scalar.h: the vector vocabulary in plain C: one float. Included by simd.h, which says what the words mean. */
#ifndef CLF_CPU_SIMD_SCALAR_H
#define CLF_CPU_SIMD_SCALAR_H

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
INLINE vf v_sqrt(vf a) {
    return sqrtf(a);
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
INLINE void v_transpose_spans(vf *a) {
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
INLINE vf v_swap(vf a) {
    return a;
}
INLINE vf v_load_i8(const void *p) {
    return *(const int8_t *)p;
}
INLINE vf v_load_u8(const void *p) {
    return *(const uint8_t *)p;
}
INLINE vf v_load_u4(const void *p, bool high) {
    return (float)(high ? *(const uint8_t *)p >> 4 : *(const uint8_t *)p & 15);
}
INLINE void v_store_u8(void *p, vf a) {
    *(uint8_t *)p = (uint8_t)a;
}
INLINE vf v_set1_f16(const void *p) {
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return clf_f16_to_f32(h);
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
