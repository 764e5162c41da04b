/* glu.cl: out = activation(gate) · up, in float; and backward d_gate = d_out · up · activation′(gate), d_up = d_out ·
 * activation(gate), and out again. All that an item reads of an element it reads before it writes. T: dtype. */
kernel void glu(IN(gate), IN(up), OUT(out), int activation, MAP_ARGS) {
    const uint row = MAP_ROW;
    const long gate_row = ROW(gate, row), up_row = ROW(up, row), out_row = ROW(out, row);
    FOR_COLUMNS(i)
    store(out, out_row + i, activate(load(gate, gate_row + i, T), activation) * load(up, up_row + i, T), T);
}

kernel void glu_backward(IN(gate), IN(up), IN(d_out), OUT(d_gate), OUT(d_up), OUT(out), int activation, MAP_ARGS) {
    const uint row = MAP_ROW;
    const long gate_row = ROW(gate, row), up_row = ROW(up, row), d_out_row = ROW(d_out, row);
    const long d_gate_row = ROW(d_gate, row), d_up_row = ROW(d_up, row), out_row = ROW(out, row);
    FOR_COLUMNS(i) {
        float slope;
        const float active = activate_slope(load(gate, gate_row + i, T), activation, &slope);
        const float u = load(up, up_row + i, T), d = load(d_out, d_out_row + i, T);
        store(d_gate, d_gate_row + i, d * u * slope, T);
        store(d_up, d_up_row + i, d * active, T);
        if (out) store(out, out_row + i, active * u, T);
    }
}
