/* rms_norm.cl: s = x + residual, rounded to their dtype; out = s / √(mean(s²) + eps) · (weight_offset + weight). One
 * group a row; each item reads in the second pass what it read in the first, so that sum may alias x or residual, and
 * out x. T: dtype of x, sum and out. */
kernel void rms_norm(IN(x), IN(residual), IN(weight), int weight_dtype, float weight_offset, float eps, OUT(sum),
                     OUT(rstd), OUT(out), uint4 shape, long n, local float *scratch) {
    const uint row = get_group_id(0), first = get_local_id(0), step = get_local_size(0);
    const long x_row = ROW(x, row), residual_row = ROW(residual, row), sum_row = ROW(sum, row), out_row = ROW(out, row);
    float squares = 0;
    for (long i = first; i < n; i += step) {
        float s = load(x, x_row + i, T);
        if (residual) s = rounded(s + load(residual, residual_row + i, T), T);
        if (sum) store(sum, sum_row + i, s, T);
        squares += s * s;
    }
    const float r = 1 / sqrt(group_sum(squares, scratch) / n + eps);
    for (long i = first; i < n; i += step) {
        float s = sum ? load(sum, sum_row + i, T) : load(x, x_row + i, T);
        if (residual && !sum) s = rounded(s + load(residual, residual_row + i, T), T);
        const float w = weight ? load(weight, weight_at + i, weight_dtype) : 1;
        store(out, out_row + i, s * r * (weight_offset + w), T);
    }
    if (rstd && first == 0) store(rstd, ROW(rstd, row), r, F32);
}
