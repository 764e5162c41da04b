/* optimizer_code.h: the codes of 8-bit optimizer state. y is a value ÷ its block's scale, the largest magnitude.
 *
 *     momentum   128 + k, |k| ≤ 127, stands for k·|k| / 127²; the nearest k to ±127·√|y|
 *     variance   c of 0 … 255 stands for (c / 255)⁴; ⌊255·⁴√y + u⌋, at least 1 if y isn't 0
 *
 * u, of 0 … 1, is another for each step and element. It is there because a step changes variance by a thousandth, which
 * rounding to the nearest code would lose each time. Over the steps an element's u are spread evenly, so that it goes
 * to the next code after as many steps as it should. Equal cells of ⁴√ make 1/√variance, which weights move by, right
 * in the mean. */
#ifndef CLF_CPU_OPTIMIZER_CODE_H
#define CLF_CPU_OPTIMIZER_CODE_H

#include <float.h>

#include "simd.h"

/* To a whole number. */
INLINE vf nearest(vf x) {
    return v_sub(v_add(x, v_set1(0x1.8p23f)), v_set1(0x1.8p23f));
}

INLINE vf decode_momentum(vf code) {
    const vf k = v_sub(code, v_set1(128));
    return v_mul(v_mul(k, v_abs(k)), v_set1(1.f / (127 * 127)));
}
/* |y| ≤ 1, as below. */
INLINE vf encode_momentum(vf y) {
    const vf k = v_min(nearest(v_mul(v_sqrt(v_abs(y)), v_set1(127))), v_set1(127)), zero = v_set1(128);
    return v_ge_or(y, v_set1(0), v_add(zero, k), v_sub(zero, k));
}

INLINE vf decode_variance(vf code) {
    const vf square = v_mul(code, code);
    return v_mul(v_mul(square, square), v_set1(1 / (255.f * 255 * 255 * 255)));
}
INLINE vf encode_variance(vf y, vf u) {
    const vf c = nearest(v_fma(v_sqrt(v_sqrt(y)), v_set1(255), v_sub(u, v_set1(0.5f))));
    return v_ge_or(y, v_set1(FLT_MIN), v_min(v_max(c, v_set1(1)), v_set1(255)), v_set1(0));
}

#endif
