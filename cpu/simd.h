/* simd.h: the one vector vocabulary. vf is VL floats, vh VL halves or bfloat16s: AVX-512 (16), AVX2+FMA+F16C (8), NEON
 * (4) or plain float (1); simd_ISA.h says the same words for each. Nothing here allocates or branches.
 *
 *     v_load, v_store, vh_load, vh_store   unaligned; …_n: only the first n of VL, the rest read as 0
 *     v_stream, vh_stream                  past the caches, to a multiple of 64 bytes (vh: 32); v_stream_end() then
 *                                          makes it visible to other threads
 *     v_load_i8, v_set1_f16                VL signed bytes as floats; the half at p in every lane; at any address
 *     v_load_u8, v_store_u8                VL unsigned bytes as floats; whole numbers of 0 … 255 as bytes
 *     v_load_u4                            the low or high halves of VL bytes as floats
 *     v_from_f16, v_to_f16, …_bf16         to nearest even; NaN stays NaN
 *     v_fma, v_nfma                        a·b + c, c − a·b; rounded once, but for plain float
 *     v_dot_pairs, v_set1_pair             if V_PAIRS: c + a·b over the two bfloat16s of a lane, two multiply-adds that
 *                                          take and give 0 for magnitudes below 2^−126; the pair at p in every lane
 *     v_sqrt                               rounded to nearest
 *     v_max, v_min                         of a NaN: the second operand (NEON: the NaN)
 *     v_ge_or                              a ≥ b ? x : y; a NaN gives y
 *     v_hsum, v_hmax                       over the lanes
 *     v_swap                               each two neighbours change places; not for plain float
 *     v_shift_exp                          p · 2^k where t = k + 1.5·2^23
 *
 * A vector is SPANS spans of SPAN lanes: v_load_span puts the floats at p into every span; v_regroup exchanges span j
 * of a[i] with span i of a[j], for SPANS vectors; v_transpose_spans exchanges element j of each span of a[i] with
 * element i of that span of a[j], for SPAN vectors; v_span_sums makes lane i of each span the sum of that span of a[i],
 * for SPAN vectors; v_spans_sum and v_spans_max put the sum or maximum over the spans into every span. */
#ifndef CLF_CPU_SIMD_H
#define CLF_CPU_SIMD_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "../lib/core/dtype.h"

#define INLINE static inline __attribute__((always_inline))

/* Full unrolling, so that accumulator arrays become registers. clang ignores gcc's spelling without a word; with checks
 * on every access unrolled code takes minutes to compile, and gcc warns where it can't unroll. */
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__SANITIZE_ADDRESS__)
#define UNROLL
#else
#define UNROLL _Pragma("GCC unroll 64")
#endif

#if defined(__AVX512F__)
#include "simd_avx512.h"
#elif defined(__AVX2__)
#include "simd_avx2.h"
#elif defined(__ARM_NEON) && defined(__aarch64__) && !defined(CLF_SIMD_OFF)
#include "simd_neon.h"
#else
#include "simd_scalar.h"
#endif
#ifndef V_PAIRS
#define V_PAIRS 0
#endif

/* 2^x for x ≤ 127, error below 1 ulp; x ≤ −127 (also −inf) gives exactly 0, results below 2^−126 are not meaningful;
 * a NaN whose low nine bits are 0, as arithmetic makes them, stays NaN. Degree-6 minimax polynomial on [−½, ½] with
 * p(0) = 1. */
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

/* Element j of a[i] changes places with element i of a[j], for VL vectors. */
INLINE void v_transpose(vf *a) {
    vf t[VL];
    UNROLL for (int i = 0; i < VL; i++) t[i] = a[i];
    UNROLL for (int s = 0; s < SPANS; s++) v_transpose_spans(t + s * SPAN);
    UNROLL for (int r = 0; r < SPAN; r++) {
        vf same[SPANS];
        UNROLL for (int s = 0; s < SPANS; s++) same[s] = t[s * SPAN + r];
        v_regroup(same);
        UNROLL for (int s = 0; s < SPANS; s++) a[s * SPAN + r] = same[s];
    }
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
