/* rope.cl: rotates pairs of elements by position · frequency. A frequency is a 64-bit fraction of a turn: the product
 * wraps at whole turns, which is the exact reduction. Rows are [batch, heads, seq]; each item turns pairs or copies one
 * of the elements that don't rotate. T: dtype. */
kernel void rope(IN(x), OUT(out), global const int *positions, long positions_at, long2 positions_stride, long position,
                 global const ulong *turns, int half_dims, int interleaved, float magnitude, int inverse, uint4 shape,
                 int n) {
    const uint row = get_group_id(0);
    const long x_row = ROW(x, row), out_row = ROW(out, row);
    const uint seq = row % shape.z, batch = row / shape.z / shape.y;
    const long at =
        position + (positions ? positions[positions_at + batch * positions_stride.x + seq * positions_stride.y] : seq);
    for (int i = get_local_id(0); i < n - half_dims; i += get_local_size(0)) {
        if (i < half_dims) {
            const int a = interleaved ? 2 * i : i, b = interleaved ? 2 * i + 1 : i + half_dims;
            const float half_turns = (float)(long)((ulong)at * turns[i]) * 0x1p-63f; /* of −1 … 1 */
            const float c = magnitude * cospi(half_turns);
            const float s = magnitude * (inverse ? -sinpi(half_turns) : sinpi(half_turns));
            const float p = load(x, x_row + a, T), q = load(x, x_row + b, T);
            store(out, out_row + a, p * c - q * s, T);
            store(out, out_row + b, p * s + q * c, T);
        } else {
            const int j = i + half_dims;
            store(out, out_row + j, load(x, x_row + j, T), T);
        }
    }
}
