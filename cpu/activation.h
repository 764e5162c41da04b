/* activation.h: activations of gated units, VL values at a time.
 *
 *     silu x·σ(x);  gelu x·Φ(x) by erfc;  gelu_tanh ½x(1 + tanh u) = x·σ(2u), u = √(2/π)·(x + 0.044715x³) */
#ifndef CLF_CPU_ACTIVATION_H
#define CLF_CPU_ACTIVATION_H

#include <clformer/ops.h>

#include "simd.h"

/* x / (1 + e^−z); e^−z is kept below 2^126, so that nothing overflows. */
INLINE vf v_x_sigmoid(vf x, vf z) {
    const vf e = v_exp2(v_min(v_mul(z, v_set1(-0x1.715476p0f)), v_set1(126)));
    return v_div(x, v_add(v_set1(1), e));
}

INLINE vf v_gelu(vf x) {
    float t[VL];
    v_store(t, x);
    for (int i = 0; i < VL; i++) t[i] = 0.5f * t[i] * erfcf(t[i] * -0x1.6a09e6p-1f);
    return v_load(t);
}

INLINE vf v_activate(clf_activation a, vf x) {
    if (a == CLF_ACTIVATION_SILU) return v_x_sigmoid(x, x);
    if (a == CLF_ACTIVATION_GELU) return v_gelu(x);
    const vf cubic = v_mul(v_mul(v_mul(x, x), x), v_set1(0.044715f));
    return v_x_sigmoid(x, v_mul(v_add(x, cubic), v_set1(1.5957691216057308f)));
}

#endif
