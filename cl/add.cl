/* add.cl: out = a + b, in float. A b that is added to every row has row strides of 0. T: dtype. */
kernel void add(IN(a), IN(b), OUT(out), MAP_ARGS) {
    const uint row = MAP_ROW;
    const long a_row = ROW(a, row), b_row = ROW(b, row), out_row = ROW(out, row);
    FOR_COLUMNS(i) store(out, out_row + i, load(a, a_row + i, T) + load(b, b_row + i, T), T);
}
