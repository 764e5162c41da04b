/* activation.h: exp and the gates of clf_activation over simd.h, shared by glu and linear; with their slopes, for glu's
 * gradient, where a place for these is given (a constant NULL leaves them out).
 *
 * Relative errors: silu below 2e-7; the gelus below 7e-7 where the result is above 0.01, growing to 2e-6 where it is
 * 1e-5, and up to 2e-5 below that. Where x is so far
 * below 0 that the result's limit is 0 they give something between −1e-35 and 0; so for −∞. NaN in, NaN out. Slopes are
 * as exact but where their terms cancel, near their zeros: there 3e-7. Polynomials are minimax fits in the variable
 * shown. */
#ifndef CLF_CPU_ACTIVATION_H
#define CLF_CPU_ACTIVATION_H

#include <clformer/ops.h>

#include "simd.h"

/* e^x for −87 ≤ x ≤ 88; NaN gives anything. */
INLINE vf v_exp_within(vf x) {
    const vf magic = v_set1(0x1.8p23f), one = v_set1(1.f);
    const vf t = v_fma(x, v_set1(1.44269504f), magic), k = v_sub(t, magic);
    /* x − k·ln 2, ln 2 in two parts of which the first times k is exact */
    const vf r = v_fma(k, v_set1(2.12194440e-4f), v_fma(k, v_set1(-0.693359375f), x));
    vf q = v_set1(0.00138145988f);
    q = v_fma(q, r, v_set1(0.00836871658f));
    q = v_fma(q, r, v_set1(0.041668389f));
    q = v_fma(q, r, v_set1(0.166665211f));
    q = v_fma(q, r, v_set1(0.49999994f));
    return v_shift_exp(v_fma(v_fma(q, r, one), r, one), t); /* 1 + r + r²·q(r) */
}

/* Where an infinite x would make no number of what has a limit. */
INLINE vf v_bounded(vf x) {
    return v_max(v_set1(-100.f), v_min(v_set1(100.f), x));
}

/* x · s, s = 1/(1 + e^−z), z following x's sign. At z = −87 this is x · 2^−125, as good as its limit 0. The slope is
 * s · (1 + x·z′·(1 − s)). */
INLINE vf v_times_sigmoid(vf x, vf z, vf dz, vf *slope) {
    const vf bound = v_set1(87.f), low = v_set1(-87.f), one = v_set1(1.f);
    const vf e = v_exp_within(v_max(low, v_min(bound, v_sub(v_set1(0), z)))), sum = v_add(one, e);
    if (slope) {
        const vf s = v_div(one, sum);
        *slope = v_mul(s, v_fma(v_mul(v_bounded(x), dz), v_mul(e, s), one));
    }
    return v_div(v_max(v_set1(-100.f), x), sum); /* −100: −∞ has its limit too */
}

INLINE vf v_silu(vf x, vf *slope) {
    return v_times_sigmoid(x, x, v_set1(1.f), slope);
}

/* e^(−q/2) for 0 ≤ q ≤ 167: 2^y, y = k + r. The product in r isn't rounded, so that r is exact where q is. */
INLINE vf v_gauss(vf q) {
    const vf magic = v_set1(0x1.8p23f), to_y = v_set1(-0.721347520f);
    const vf t = v_fma(q, to_y, magic), r = v_fma(q, to_y, v_sub(magic, t)), rr = v_mul(r, r);
    const vf low = v_fma(r, v_set1(0.693147004f), v_set1(1.f));
    const vf middle = v_fma(r, v_set1(0.0555073358f), v_set1(0.240222424f));
    const vf high = v_fma(r, v_set1(0.00132647261f), v_set1(0.00967151299f));
    return v_shift_exp(v_fma(v_fma(high, rr, middle), rr, low), t);
}

/* x·Φ(x) = max(x, 0) − a·Φ(−a), a = |x|, Φ(−a) = e^(−a²/2) · t · R(t), t = 1/(1 + 0.35a); a ≤ 12.9: beyond, the tail is
 * as good as 0. The slope is Φ(x) + x·φ(x), φ being e^(−a²/2)/√(2π). Polynomials are summed in pairs: what one vector
 * waits for is no longer than what the next one has to do. */
INLINE vf v_gelu(vf x, vf *slope) {
    const vf a = v_min(v_set1(12.9f), v_abs(x)), one = v_set1(1.f);
    const vf t = v_div(one, v_fma(a, v_set1(0.35f), one)), tt = v_mul(t, t);
    const vf r0 = v_fma(t, v_set1(0.136136338f), v_set1(0.139830738f));
    const vf r2 = v_fma(t, v_set1(-9.22530235e-5f), v_set1(0.146843567f));
    const vf r4 = v_fma(t, v_set1(-0.191959068f), v_set1(0.222672805f));
    const vf r = v_fma(v_fma(v_fma(tt, v_set1(0.046567969f), r4), tt, r2), tt, r0);
    const vf e = v_gauss(v_mul(a, a)), tail = v_mul(v_mul(e, t), r);
    if (slope) {
        const vf below = v_nfma(v_mul(a, v_set1(0.398942280f)), e, tail); /* the slope at −a */
        *slope = v_ge_or(x, v_set1(0), v_sub(one, below), below);
    }
    return v_nfma(a, tail, v_max(v_set1(0), x));
}

/* x·(1 + tanh(u))/2 = x·σ(2u), u = √(2/π)·(x + 0.044715x³) */
INLINE vf v_gelu_tanh(vf x, vf *slope) {
    const vf cubic = v_set1(0.0713548163f), linear = v_set1(1.59576912f), b = v_bounded(x);
    const vf z = v_mul(x, v_fma(v_mul(x, x), cubic, linear));
    return v_times_sigmoid(x, z, v_fma(v_mul(b, b), v_mul(cubic, v_set1(3.f)), linear), slope);
}

/* activation(x), and where slope isn't NULL its derivative. */
INLINE vf v_activate_slope(clf_activation activation, vf x, vf *slope) {
    if (activation == CLF_ACTIVATION_SILU) return v_silu(x, slope);
    if (activation == CLF_ACTIVATION_GELU) return v_gelu(x, slope);
    if (activation == CLF_ACTIVATION_GELU_TANH) return v_gelu_tanh(x, slope);
    if (slope) *slope = v_set1(1.f);
    return x;
}

INLINE vf v_activate(clf_activation activation, vf x) {
    return v_activate_slope(activation, x, NULL);
}

#endif
