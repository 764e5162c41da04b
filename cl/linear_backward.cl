/* linear_backward.cl: products whose second operand is read across its rows:
 *
 *     c[m, n] = scale · Σ_k a(m, k) · b[k, n] (+ added[m, n])
 *
 * product: a(m, k) = a[m, k], b of dtype W: d_x from d_out and the weights, block dtypes being decoded 16 values at a
 * time. product_down: a(m, k) = a[k, m]: d_weight from d_out and x. Tiles of 64 × 64 by 256 items, 32 of k at a time in
 * local memory, k-major, summed chunk by chunk. column_sums: out[n] += Σ a[m, n], for biases. */

#define TILE  64
#define DEPTH 32
#define PITCH (TILE + 4)

#define PRODUCT_ARGS                                                                                                   \
    IN(a), int a_dtype, uint4 a_shape, IN(b), int b_dtype, uint4 b_shape, float scale, IN(added), int added_dtype,     \
        OUT(c), int c_dtype, uint4 c_shape, uint m, uint n, uint k, local float *a_tile, local float *b_tile

#define ROW_OF(t, r) (t##_at + row_offset(r, t##_shape, t##_stride))

/* Columns i … i + 15 of the row of b at `row`; zero from n on. */
float16 second(global const void *b, long row, uint i, uint n, int b_dtype) {
#ifdef BLOCKS
    return i < n ? decode_part(b, row, i / 16) : 0;
#else
    return i < n ? load16(b, row + i, n - i, b_dtype) : 0;
#endif
}

/* Items 0 … 127 fetch a, the others b. Along: an item has 16 k of one line; across: 16 lines of one k. */
#define PRODUCT(DOWN, SECOND)                                                                                          \
    const uint item = get_local_id(0), tx = item % 16, ty = item / 16, worker = item % 128;                            \
    const uint m0 = get_group_id(1) * TILE, n0 = get_group_id(0) * TILE;                                               \
    const bool fetches_a = item < 128;                                                                                 \
    const uint line = worker % TILE, part = worker / TILE * 16, depth = worker / 4, column = worker % 4 * 16;          \
    float4 sum0 = 0, sum1 = 0, sum2 = 0, sum3 = 0;                                                                     \
    for (uint k0 = 0; k0 < k; k0 += DEPTH) {                                                                           \
        if (fetches_a && !DOWN) {                                                                                      \
            const uint at = k0 + part;                                                                                 \
            float16 v = 0;                                                                                             \
            if (at < k && m0 + line < m) v = load16(a, ROW_OF(a, m0 + line) + at, k - at, a_dtype);                    \
            float values[16];                                                                                          \
            vstore16(v, 0, values);                                                                                    \
            for (int j = 0; j < 16; j++) a_tile[(part + j) * PITCH + line] = values[j];                                \
        } else {                                                                                                       \
            const uint row = k0 + depth, at = (fetches_a ? m0 : n0) + column;                                          \
            float16 v = 0;                                                                                             \
            if (row < k && fetches_a && at < m) v = load16(a, ROW_OF(a, row) + at, m - at, a_dtype);                   \
            if (row < k && !fetches_a) v = SECOND(b, ROW_OF(b, row), at, n, b_dtype);                                  \
            vstore16(v, 0, (fetches_a ? a_tile : b_tile) + depth * PITCH + column);                                    \
        }                                                                                                              \
        barrier(CLK_LOCAL_MEM_FENCE);                                                                                  \
        float4 chunk0 = 0, chunk1 = 0, chunk2 = 0, chunk3 = 0;                                                         \
        for (int j = 0; j < DEPTH; j++) {                                                                              \
            const float4 x = vload4(0, a_tile + j * PITCH + 4 * ty), y = vload4(0, b_tile + j * PITCH + 4 * tx);       \
            chunk0 += x.x * y;                                                                                         \
            chunk1 += x.y * y;                                                                                         \
            chunk2 += x.z * y;                                                                                         \
            chunk3 += x.w * y;                                                                                         \
        }                                                                                                              \
        sum0 += chunk0;                                                                                                \
        sum1 += chunk1;                                                                                                \
        sum2 += chunk2;                                                                                                \
        sum3 += chunk3;                                                                                                \
        barrier(CLK_LOCAL_MEM_FENCE);                                                                                  \
    }                                                                                                                  \
    float sums[16];                                                                                                    \
    vstore16((float16)(sum0, sum1, sum2, sum3), 0, sums);                                                              \
    for (uint i = 0; i < 16; i++) {                                                                                    \
        const uint row = m0 + 4 * ty + i / 4, to = n0 + 4 * tx + i % 4;                                                \
        if (row >= m || to >= n) continue;                                                                             \
        float v = scale * sums[i];                                                                                     \
        if (added) v += load(added, added_at + row_offset(row, c_shape, added_stride) + to, added_dtype);              \
        store(c, ROW_OF(c, row) + to, v, c_dtype);                                                                     \
    }

kernel __attribute__((reqd_work_group_size(256, 1, 1))) void product(PRODUCT_ARGS) {
    PRODUCT(false, second)
}

float16 second_float(global const void *b, long row, uint i, uint n, int b_dtype) {
    return i < n ? load16(b, row + i, n - i, b_dtype) : 0;
}

kernel __attribute__((reqd_work_group_size(256, 1, 1))) void product_down(PRODUCT_ARGS) {
    PRODUCT(true, second_float)
}

/* An item a column; 64 rows at a time. */
kernel void column_sums(IN(a), int a_dtype, uint4 a_shape, global float *out, long out_at, uint m, uint n) {
    const uint column = get_global_id(0);
    if (column >= n) return;
    float sum = 0;
    for (uint m0 = 0; m0 < m; m0 += 64) {
        float part = 0;
        for (uint row = m0; row < min(m, m0 + 64); row++) part += load(a, ROW_OF(a, row) + column, a_dtype);
        sum += part;
    }
    out[out_at + column] += sum;
}
