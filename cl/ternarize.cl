/* ternarize.cl: out = γ · clip(round(x / γ), −1, 1), γ = mean|x| rounded to f16. sum_magnitudes leaves a sum for each of
 * its groups; every group of ternarize adds these up again, alike, and makes its part of out: a weight is ±γ where its
 * magnitude is above γ/2. T: dtype of out. */

kernel void sum_magnitudes(global const float *x, long x_at, global float *sums, long n, local float *scratch) {
    float sum = 0;
    for (long i = get_global_id(0); i < n; i += get_global_size(0)) sum += fabs(x[x_at + i]);
    const float total = group_sum(sum, scratch);
    if (get_local_id(0) == 0) sums[get_group_id(0)] = total;
}

int ternary(float v, float scale) {
    return (v > scale / 2) - (v < -scale / 2);
}

/* Bits 2k of byte m of half h of a block: the code of weight 128h + 32k + m, plus 1; behind the 64 bytes the scale. */
kernel void ternarize(global const float *x, long x_at, global void *out, long out_at, global const float *sums,
                      uint count, long n, local float *scratch) {
    float sum = 0;
    for (uint i = get_local_id(0); i < count; i += get_local_size(0)) sum += sums[i];
    const float scale = rounded(group_sum(sum, scratch) / n, F16);
    if (T != TQ2_0) {
        for (long i = get_global_id(0); i < n; i += get_global_size(0))
            store(out, out_at + i, ternary(x[x_at + i], scale) * scale, T);
        return;
    }
    for (long i = get_global_id(0); i < n / 4; i += get_global_size(0)) {
        global const float *w = x + x_at + i / 32 * 128 + i % 32;
        global uchar *block = (global uchar *)out + out_at + i / 64 * 66;
        uint codes = 0;
        for (int k = 0; k < 4; k++) codes |= (uint)(ternary(w[32 * k], scale) + 1) << 2 * k;
        block[i % 64] = (uchar)codes;
        if (i % 64 == 0) vstore_half(scale, 0, (global half *)(block + 64));
    }
}
