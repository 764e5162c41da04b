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

/* d_x = rstd · (m − n · mean(m · n)) + residual, n = x · rstd, m = d_out · (weight_offset + weight). One group a row, as
 * above, so that d_x may alias d_out or residual. */
kernel void rms_norm_backward(IN(x), IN(weight), int weight_dtype, float weight_offset, IN(rstd), IN(d_out),
                              IN(residual), OUT(d_x), uint4 shape, long n, local float *scratch) {
    const uint row = get_group_id(0), first = get_local_id(0), step = get_local_size(0);
    const long x_row = ROW(x, row), residual_row = ROW(residual, row);
    const long d_out_row = ROW(d_out, row), d_x_row = ROW(d_x, row);
    const float r = load(rstd, ROW(rstd, row), F32);
    float product = 0;
    for (long i = first; i < n; i += step) {
        const float w = weight_offset + (weight ? load(weight, weight_at + i, weight_dtype) : 1);
        product += load(d_out, d_out_row + i, T) * w * load(x, x_row + i, T);
    }
    const float inner = group_sum(product, scratch) / n * r * r;
    for (long i = first; i < n; i += step) {
        const float w = weight_offset + (weight ? load(weight, weight_at + i, weight_dtype) : 1);
        float v = r * (load(d_out, d_out_row + i, T) * w - load(x, x_row + i, T) * inner);
        if (residual) v += load(residual, residual_row + i, T);
        store(d_x, d_x_row + i, v, T);
    }
}

/* partial[part, i] = Σ d_out · x · rstd over the part's rows of column i. An item a column, group_id(1) the part. */
kernel void rms_norm_columns(IN(x), IN(rstd), IN(d_out), uint4 shape, long n, uint rows, uint part_rows,
                             global float *partial) {
    const long i = get_global_id(0);
    const uint part = get_group_id(1);
    if (i >= n) return;
    float sum = 0;
    for (uint row = part * part_rows; row < min(rows, (part + 1) * part_rows); row++)
        sum += load(d_out, ROW(d_out, row) + i, T) * load(x, ROW(x, row) + i, T) * load(rstd, ROW(rstd, row), F32);
    partial[part * n + i] = sum;
}

/* d_weight += Σ partial over the parts, in their order. */
kernel void rms_norm_weights(global const float *partial, uint parts, long n, global float *d_weight,
                             long d_weight_at) {
    const long i = get_global_id(0);
    if (i >= n) return;
    float sum = 0;
    for (uint part = 0; part < parts; part++) sum += partial[part * n + i];
    d_weight[d_weight_at + i] += sum;
}
