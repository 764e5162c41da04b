/* optimizer_factors.h: what the tables compute of the arguments before they go over the elements. */
#ifndef CLF_OPS_OPTIMIZER_FACTORS_H
#define CLF_OPS_OPTIMIZER_FACTORS_H

#include <clformer/ops.h>

/* An element's step, with these:
 *
 *     g ·= gradient_scale
 *     AdamW   m ← beta1·m + rest1·g,   v ← beta2·v + rest2·g²,   change = m / (root·√v + eps)
 *     SGD     m ← beta1·m + g,         change = m
 *     Lion    change = sign(beta1·m + rest1·g),   m ← beta2·m + rest2·g
 *     w ← w − (decay·w + rate·change)
 *
 * Subtracted so, a decay far below a float's last place of 1 still counts. */
typedef struct clf_optimizer_factors {
    float gradient_scale;
    float beta1, beta2, eps;
    float rest1, rest2; /* 1 − beta */
    float decay;        /* learning_rate · weight_decay */
    float rate;         /* learning_rate; AdamW: ÷ (1 − beta1^step) */
    float root;         /* AdamW: 1/√(1 − beta2^step) */
    uint32_t dither;    /* of element 0, see below */
} clf_optimizer_factors;

/* What rounds the code of variance, in units of 2^−32, grows with the step by the golden ratio (less 1), which spreads
 * it most evenly, and with the element by the square of the plastic number's inverse; both modulo 1. */
#define CLF_DITHER_STEP    0x9e3779b9u
#define CLF_DITHER_ELEMENT 0x91e10da5u

clf_optimizer_factors clf_optimizer_factors_of(const clf_optimizer_step_args *args);

#endif
