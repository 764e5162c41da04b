/* attention_starts.cl: what attention's kernels read of packed sequences' starts, whatever those hold. */

/* Copies of query_starts and key_starts: 0, no entry below the one before, none above `most`, which also ends them:
 * rows of no sequence are a last one of their own. One group; n entries. */
kernel void attention_starts(global const int *in, long in_at, uint n, int most, global int *out, long out_at,
                             local int *scan) {
    const uint item = get_local_id(0), items = get_local_size(0);
    int before = 0;
    for (uint first = 0; first < n; first += items) {
        const uint e = first + item;
        scan[item] = e && e < n ? clamp(in[in_at + e], 0, most) : 0;
        barrier(CLK_LOCAL_MEM_FENCE);
        for (uint step = 1; step < items; step *= 2) {
            const int other = item >= step ? scan[item - step] : 0;
            barrier(CLK_LOCAL_MEM_FENCE);
            scan[item] = max(scan[item], other);
            barrier(CLK_LOCAL_MEM_FENCE);
        }
        if (e < n) out[out_at + e] = max(before, scan[item]);
        before = max(before, scan[items - 1]);
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    if (item == 0) out[out_at + n] = most;
}
