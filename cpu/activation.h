/* activation.h: exp and the gates of clf_activation over simd.h, shared by glu and linear.
 *
 * Relative errors below 3e-7 (in the tails of the gelus, where the result is below 1e-5, up to 2e-5); what is below
 * 2^−126 may be 0. NaN in, NaN out; ±∞ gives the limit, so silu(−∞) = −0. Polynomials are minimax fits in the variable
 * shown. */
#ifndef CLF_CPU_ACTIVATION_H
#define CLF_CPU_ACTIVATION_H

#include <clformer/ops.h>

#include "simd.h"

/* e^x for x ≤ 88; below −87 exactly 0. Not for NaN: callers multiply by their argument. */
INLINE vf v_exp(vf x) {
    const vf low = v_set1(-87.f), magic = v_set1(0x1.8p23f);
    const vf y = v_max(x, low), t = v_fma(y, v_set1(1.44269504f), magic), k = v_sub(t, magic);
    /* y − k·ln 2, ln 2 in two parts of which the first times k is exact */
    const vf r = v_fma(k, v_set1(2.12194440e-4f), v_fma(k, v_set1(-0.693359375f), y));
    vf q = v_set1(0.00138145988f);
    q = v_fma(q, r, v_set1(0.00836871658f));
    q = v_fma(q, r, v_set1(0.041668389f));
    q = v_fma(q, r, v_set1(0.166665211f));
    q = v_fma(q, r, v_set1(0.49999994f));
    const vf p = v_add(v_fma(v_mul(q, r), r, r), v_set1(1.f)); /* 1 + r + r²·q(r) */
    return v_ge_or(low, x, v_set1(0), v_shift_exp(p, t));
}

/* 1 / (1 + e^−x), from e^−|x|, which doesn't overflow */
INLINE vf v_sigmoid(vf x) {
    const vf e = v_exp(v_sub(v_set1(0), v_abs(x))), q = v_div(v_set1(1.f), v_add(v_set1(1.f), e));
    return v_ge_or(x, v_set1(0), q, v_mul(e, q));
}

/* Keeps −∞ · 0 from being NaN in x · gate(x); below −100 every gate is 0. */
INLINE vf v_gated(vf x, vf gate) {
    return v_mul(v_max(v_set1(-100.f), x), gate);
}

INLINE vf v_silu(vf x) {
    return v_gated(x, v_sigmoid(x));
}

/* x·Φ(x), Φ from erfc(z) = e^−z² · t · R(t), z = |x|/√2, t = 1/(1 + 0.3z) */
INLINE vf v_gelu(vf x) {
    const vf z = v_min(v_mul(v_abs(x), v_set1(0.707106781f)), v_set1(15.f));
    const vf t = v_div(v_set1(1.f), v_fma(z, v_set1(0.3f), v_set1(1.f)));
    vf r = v_set1(-0.129522726f);
    r = v_fma(r, t, v_set1(0.485562325f));
    r = v_fma(r, t, v_set1(-0.512276232f));
    r = v_fma(r, t, v_set1(0.547717929f));
    r = v_fma(r, t, v_set1(-0.0946493074f));
    r = v_fma(r, t, v_set1(0.214925468f));
    r = v_fma(r, t, v_set1(0.148339316f));
    r = v_fma(r, t, v_set1(0.170715213f));
    r = v_fma(r, t, v_set1(0.169188008f));
    const vf e = v_exp(v_sub(v_set1(0), v_mul(z, z)));
    const vf tail = v_mul(v_mul(v_set1(0.5f), e), v_mul(t, r));
    return v_gated(x, v_ge_or(x, v_set1(0), v_sub(v_set1(1.f), tail), tail));
}

/* x·(1 + tanh(u))/2 = x·σ(2u), u = √(2/π)·(x + 0.044715x³) */
INLINE vf v_gelu_tanh(vf x) {
    const vf c = v_fma(v_mul(x, x), v_set1(0.0713548163f), v_set1(1.59576912f));
    return v_gated(x, v_sigmoid(v_mul(x, c)));
}

INLINE vf v_activate(clf_activation activation, vf x) {
    if (activation == CLF_ACTIVATION_SILU) return v_silu(x);
    if (activation == CLF_ACTIVATION_GELU) return v_gelu(x);
    return activation == CLF_ACTIVATION_GELU_TANH ? v_gelu_tanh(x) : x;
}

#endif
