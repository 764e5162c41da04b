/* softcap.cl: out = cap · tanh(x / cap), in float. T: dtype. */
kernel void softcap(IN(x), OUT(out), float cap, MAP_ARGS) {
    const uint row = MAP_ROW;
    const long x_row = ROW(x, row), out_row = ROW(out, row);
    FOR_COLUMNS(i) store(out, out_row + i, cap * tanh(load(x, x_row + i, T) / cap), T);
}
