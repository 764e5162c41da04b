/* optimizer_step.cl: AdamW, SGD and Lion, by the formulas of lib/ops/optimizer_factors.h. A group has one block of 8-bit state,
 * each item one element. RULE: as clf_optimizer. MOMENTUM, VARIANCE: their dtypes; U8 are codes of the dynamic map, which
 * cpu/dynamic_map.h explains. SGD may have no momentum. */
enum { ADAMW, SGD, LION };
#define ZERO 127 /* the signed code of 0 */

constant float map_top[7] = {1e-6f, 1e-5f, 1e-4f, 1e-3f, 1e-2f, 1e-1f, 1};

float map_value(int c, int first) {
    if (c < first) return 0;
    if (c >= first << 7) return 1;
    int decade = 0;
    while (decade < 6 && c >= first << (decade + 1)) decade++;
    return map_top[decade] * fma(0.9f, fma(c + 0.5f, 1.0f / (first << decade), -1.0f), 0.1f);
}

int map_nearest(float y, int first) {
    const int most = first << 7;
    if (!(y >= FLT_MIN)) return first - 1;
    if (y >= 1 - 0.45f / most) return most;
    int decade = 0;
    while (decade < 6 && y >= map_top[decade] * (1 + 0.9f / (first << decade))) decade++;
    const float cells = first << decade;
    const float c = fma(cells, fma(y, 1 / (0.9f * map_top[decade]), 8.0f / 9), -0.5f);
    return max((int)rint(fmin(c, 2 * cells - 1)), first);
}

float load_state(global const void *t, long i, int dtype, global const float *scale, long block, bool has_sign) {
    if (dtype == F32) return ((global const float *)t)[i];
    const int code = ((global const uchar *)t)[i], c = code - ZERO;
    const float value = has_sign ? map_value(abs(c), 1) : map_value(code + 1, 2);
    return scale[block] * (has_sign && c < 0 ? -value : value);
}

/* All items of the group come here; those without an element have value 0 and `here` false. */
void store_codes(global void *t, long i, global float *scale, long block, bool has_sign, float value, bool here,
                 local float *scratch) {
    const float most = group_max(fabs(value), scratch), y = value * (1 / fmax(most, FLT_MIN));
    barrier(CLK_GLOBAL_MEM_FENCE); /* all have read the scale that is written below */
    const int c = map_nearest(has_sign ? fabs(y) : y, has_sign ? 1 : 2);
    const int code = has_sign ? y >= 0 ? ZERO + c : ZERO - min(c, ZERO) : c - 1;
    if (here) ((global uchar *)t)[i] = (uchar)code;
    if (get_local_id(0) == 0) scale[block] = most;
}

kernel void optimizer_step(global float *weight, long weight_at, global float *gradient, long gradient_at,
                           global void *copy, long copy_at, int copy_dtype, global void *momentum, long momentum_at,
                           global float *momentum_scale, long momentum_scale_at, global void *variance,
                           long variance_at, global float *variance_scale, long variance_scale_at, float gradient_scale,
                           float beta1, float beta2, float eps, float rest1, float rest2, float decay, float rate,
                           float root, long n, local float *scratch) {
    const long i = get_global_id(0), block = get_group_id(0);
    const bool here = i < n;
    const float g = here ? gradient[gradient_at + i] * gradient_scale : 0;
    const bool has_momentum = momentum; /* the same for all items */
    const long momentum_block = momentum_scale_at + block, variance_block = variance_scale_at + block;
    float old = 0, v = 0;
    if (here && has_momentum) old = load_state(momentum, momentum_at + i, MOMENTUM, momentum_scale, momentum_block, true);
    if (here && RULE == ADAMW) v = load_state(variance, variance_at + i, VARIANCE, variance_scale, variance_block, false);
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
        store_codes(momentum, momentum_at + i, momentum_scale, momentum_block, true, m, here, scratch);
    else if (here && has_momentum)
        ((global float *)momentum)[momentum_at + i] = m;
    if (VARIANCE == U8)
        store_codes(variance, variance_at + i, variance_scale, variance_block, false, v, here, scratch);
    else if (here && RULE == ADAMW)
        ((global float *)variance)[variance_at + i] = v;
    if (!here) return;
    const float before = weight[weight_at + i], w = before - fma(decay, before, rate * change);
    weight[weight_at + i] = w;
    gradient[gradient_at + i] = 0;
    if (copy) store(copy, copy_at + i, w, copy_dtype);
}
