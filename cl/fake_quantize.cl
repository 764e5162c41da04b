/* fake_quantize.cl: rows rounded to int8 and back, one group a row: out = d · round(x · (127 / amax)), d = amax / 127. A
 * NaN or an infinity makes d NaN. T: dtype of x and out. */

kernel void fake_quantize(IN(x), OUT(out), uint4 shape, long n, local float *scratch) {
    const uint row = get_group_id(0);
    const long x_row = ROW(x, row), out_row = ROW(out, row);
    float most = 0, poison = 0;
    for (long i = get_local_id(0); i < n; i += get_local_size(0)) {
        const float v = load(x, x_row + i, T);
        most = fmax(most, fabs(v));
        poison += v * 0;
    }
    const float amax = group_max(most, scratch);
    poison = group_sum(poison, scratch);
    const bool none = amax < 0x1p-100f;
    const float d = (none ? 0 : amax / 127) + poison, scale = none ? 0 : 127 / amax;
    for (long i = get_local_id(0); i < n; i += get_local_size(0))
        store(out, out_row + i, rint(load(x, x_row + i, T) * scale) * d, T);
}
