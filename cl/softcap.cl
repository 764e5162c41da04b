/* softcap.cl: out = cap · tanh(x / cap), in float, and backward d_x = d_out · (1 − (out / cap)²), as (cap − |out|) / cap
 * · (1 + |out| / cap), of which no digits are lost. T: dtype. */
kernel void softcap(IN(x), OUT(out), float cap, MAP_ARGS) {
    const uint row = MAP_ROW;
    const long x_row = ROW(x, row), out_row = ROW(out, row);
    FOR_COLUMNS(i) store(out, out_row + i, cap * tanh(load(x, x_row + i, T) / cap), T);
}

kernel void softcap_backward(IN(out), IN(d_out), OUT(d_x), float cap, MAP_ARGS) {
    const uint row = MAP_ROW;
    const long out_row = ROW(out, row), d_out_row = ROW(d_out, row), d_x_row = ROW(d_x, row);
    FOR_COLUMNS(i) {
        const float s = fabs(load(out, out_row + i, T));
        store(d_x, d_x_row + i, load(d_out, d_out_row + i, T) * ((cap - s) / cap * (1 + s / cap)), T);
    }
}
