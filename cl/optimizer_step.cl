/* optimizer_step.cl: AdamW, SGD and Lion, by the formulas of lib/ops/optimizer_factors.h. A group has one block of 8-bit state,
 * each item one element. RULE: as clf_optimizer. MOMENTUM, VARIANCE: their dtypes; U8 are codes, which
 * cpu/optimizer_code.h explains. SGD may have no momentum. */
enum { ADAMW, SGD, LION };

float load_momentum(global const void *t, long i, global const float *scale, long block) {
    if (MOMENTUM == F32) return ((global const float *)t)[i];
    const float k = ((global const uchar *)t)[i] - 128;
    return scale[block] * (k * fabs(k) * (1.0f / (127 * 127)));
}

float load_variance(global const void *t, long i, global const float *scale, long block) {
    if (VARIANCE == F32) return ((global const float *)t)[i];
    const float code = ((global const uchar *)t)[i], square = code * code;
    return scale[block] * (square * square * (1 / (255.0f * 255 * 255 * 255)));
}

/* Below, all items of the group come here; those without an element have value 0 and `here` false. */

/* Value in units of the largest magnitude, which becomes the block's scale. */
float scaled(float value, global float *scale, long block, local float *scratch) {
    const float most = group_max(fabs(value), scratch);
    barrier(CLK_GLOBAL_MEM_FENCE); /* all have read the scale that is written now */
    if (get_local_id(0) == 0) scale[block] = most;
    return value * (1 / fmax(most, FLT_MIN));
}

void store_momentum(global void *t, long i, global float *scale, long block, float value, bool here,
                    local float *scratch) {
    const float y = scaled(value, scale, block, scratch);
    const float k = fmin(rint(sqrt(fabs(y)) * 127), 127.0f);
    if (here) ((global uchar *)t)[i] = (uchar)(128 + (y >= 0 ? k : -k));
}

void store_variance(global void *t, long i, global float *scale, long block, float value, bool here, uint dither,
                    local float *scratch) {
    const float y = scaled(value, scale, block, scratch), u = (dither >> 16) * 0x1p-16f;
    const float c = rint(fma(sqrt(sqrt(y)), 255.0f, u - 0.5f));
    if (here) ((global uchar *)t)[i] = (uchar)(y >= FLT_MIN ? clamp(c, 1.0f, 255.0f) : 0);
}

kernel void optimizer_step(global float *weight, long weight_at, global float *gradient, long gradient_at,
                           global void *copy, long copy_at, int copy_dtype, global void *momentum, long momentum_at,
                           global float *momentum_scale, long momentum_scale_at, global void *variance,
                           long variance_at, global float *variance_scale, long variance_scale_at, float gradient_scale,
                           float beta1, float beta2, float eps, float rest1, float rest2, float decay, float rate,
                           float root, uint dither, uint dither_element, long n, local float *scratch) {
    const long i = get_global_id(0), block = get_group_id(0);
    const bool here = i < n;
    const float g = here ? gradient[gradient_at + i] * gradient_scale : 0;
    const bool has_momentum = momentum; /* the same for all items */
    const long momentum_block = momentum_scale_at + block, variance_block = variance_scale_at + block;
    float old = 0, v = 0;
    if (here && has_momentum) old = load_momentum(momentum, momentum_at + i, momentum_scale, momentum_block);
    if (here && RULE == ADAMW) v = load_variance(variance, variance_at + i, variance_scale, variance_block);
    float m = old, change = g;
    if (RULE == ADAMW) {
        m = fma(beta1, old, rest1 * g);
        v = fma(beta2, v, rest2 * (g * g));
        change = m / fma(root, sqrt(v), eps);
    } else if (RULE == SGD) {
        if (has_momentum) m = change = fma(beta1, old, g);
    } else {
        const float c = fma(beta1, old, rest1 * g);
        m = fma(beta2, old, rest2 * g);
        change = (float)((c > 0) - (c < 0));
    }
    if (MOMENTUM == U8)
        store_momentum(momentum, momentum_at + i, momentum_scale, momentum_block, m, here, scratch);
    else if (here && has_momentum)
        ((global float *)momentum)[momentum_at + i] = m;
    if (VARIANCE == U8)
        store_variance(variance, variance_at + i, variance_scale, variance_block, v, here,
                       dither + (uint)i * dither_element, scratch);
    else if (here && RULE == ADAMW)
        ((global float *)variance)[variance_at + i] = v;
    if (!here) return;
    const float before = weight[weight_at + i], w = before - fma(decay, before, rate * change);
    weight[weight_at + i] = w;
    gradient[gradient_at + i] = 0;
    if (copy) store(copy, copy_at + i, w, copy_dtype);
}
