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
