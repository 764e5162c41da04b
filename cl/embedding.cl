/* embedding.cl: out[r, :] = scale · weight[ids[r], :]; a row whose id is out of range becomes NaN, since nobody waits here
 * to tell the caller. An item makes 16 columns. W: the weight's dtype. */
kernel void embedding(global const void *weight, long weight_at, long weight_stride, long vocab, IN(ids), float scale,
                      OUT(out), int out_dtype, uint4 shape, long n, uint parts, ulong items) {
    const ulong item = get_global_id(0);
    if (item >= items) return;
    const uint row = item / parts;
    const long part = item % parts;
    const int id = ((global const int *)ids)[ROW(ids, row)];
    float16 v = NAN;
    if (id >= 0 && id < vocab) {
#ifdef BLOCKS
        v = scale * decode_part(weight, weight_at + id * weight_stride, part);
#else
        v = scale * load16(weight, weight_at + id * weight_stride + 16 * part, n - 16 * part, W);
#endif
    }
    store16(out, ROW(out, row) + 16 * part, n - 16 * part, v, out_dtype);
}

/* Backward. chain[r] is the next row with the id of row r, or `rows`; −1 − that if an earlier row has the id too. */
kernel void embedding_chain(IN(ids), uint4 shape, uint rows, global int *chain) {
    const uint row = get_global_id(0);
    if (row >= rows) return;
    const int id = ((global const int *)ids)[ROW(ids, row)];
    uint next = row + 1, before = row;
    while (next < rows && ((global const int *)ids)[ROW(ids, next)] != id) next++;
    while (before > 0 && ((global const int *)ids)[ROW(ids, before - 1)] != id) before--;
    chain[row] = before > 0 ? -1 - (int)next : (int)next;
}

/* d_weight[ids[r], :] += scale · d_out[r, :]. A group has columns of one row that is the first with its id, and adds all
 * others with that id in their order, each product and sum rounded as on the CPU; ids out of range add nothing. W:
 * d_out's dtype. */
#pragma OPENCL FP_CONTRACT OFF
kernel void embedding_backward(global const int *chain, uint rows, IN(ids), float scale, IN(d_out),
                               global float *d_weight, long d_weight_at, long d_weight_stride, long vocab, MAP_ARGS) {
    const uint first = MAP_ROW;
    const int id = ((global const int *)ids)[ROW(ids, first)];
    if (chain[first] < 0 || id < 0 || id >= vocab) return;
    global float *to = d_weight + d_weight_at + id * d_weight_stride;
    FOR_COLUMNS(i) {
        float sum = to[i];
        for (uint row = first; row < rows;) {
            sum += scale * load(d_out, ROW(d_out, row) + i, W);
            row = chain[row] < 0 ? -1 - chain[row] : chain[row];
        }
        to[i] = sum;
    }
}
