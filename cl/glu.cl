/* glu.cl: out = activation(gate) · up, in float. T: dtype. */
kernel void glu(IN(gate), IN(up), OUT(out), int activation, MAP_ARGS) {
    const uint row = MAP_ROW;
    const long gate_row = ROW(gate, row), up_row = ROW(up, row), out_row = ROW(out, row);
    FOR_COLUMNS(i)
    store(out, out_row + i, activate(load(gate, gate_row + i, T), activation) * load(up, up_row + i, T), T);
}
