/* sum_squares.cl: sums of squares, a group for MAP_COLUMNS columns of one row, which leaves its sum in `sums`; then sums of
 * those, in the same way, until one is left. So additions form a tree, and their error grows with its height alone. T:
 * dtype of x. */

void leave(float sum, global float *sums, local float *scratch) {
    const float total = group_sum(sum, scratch);
    if (get_local_id(0) == 0) sums[get_group_id(0)] = total;
}

kernel void sum_squares(IN(x), global float *sums, local float *scratch, MAP_ARGS) {
    const long x_row = ROW(x, MAP_ROW);
    float sum = 0;
    FOR_COLUMNS(i) {
        const float v = load(x, x_row + i, T);
        sum += v * v;
    }
    leave(sum, sums, scratch);
}

/* n sums from `from` on become ⌈n / MAP_COLUMNS⌉ from `to` on. */
kernel void sum_sums(global const float *from, long from_at, global float *to, long to_at, long n,
                     local float *scratch) {
    const long begin = (long)get_group_id(0) * MAP_COLUMNS;
    float sum = 0;
    for (long i = begin + get_local_id(0); i < min(n, begin + MAP_COLUMNS); i += get_local_size(0))
        sum += from[from_at + i];
    leave(sum, to + to_at, scratch);
}
