/* argmax.cl: index of the greatest element of each row; the first of equals, the first NaN before all. One group a row.
 * T: dtype of x. */

/* Whether element i of value a stands before j of b. An index of −1 is no element. */
bool before(float a, int i, float b, int j) {
    if (i < 0 || j < 0) return j < 0;
    if (isnan(a) || isnan(b)) return isnan(a) && (!isnan(b) || i < j);
    return a > b || (a == b && i < j);
}

kernel void argmax(IN(x), OUT(out), uint4 shape, int n, local float *values, local int *indices) {
    const uint row = get_group_id(0), item = get_local_id(0);
    const long x_row = ROW(x, row);
    float best = 0;
    int index = -1;
    for (int i = item; i < n; i += get_local_size(0)) {
        const float v = load(x, x_row + i, T);
        if (before(v, i, best, index)) best = v, index = i;
    }
    values[item] = best;
    indices[item] = index;
    for (uint half_size = get_local_size(0) / 2; half_size; half_size /= 2) {
        barrier(CLK_LOCAL_MEM_FENCE);
        const uint other = item + half_size;
        if (item < half_size && before(values[other], indices[other], values[item], indices[item])) {
            values[item] = values[other];
            indices[item] = indices[other];
        }
    }
    if (item == 0) ((global int *)out)[ROW(out, row)] = indices[0];
}
