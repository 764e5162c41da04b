/* linear.cl: out = scale · x · weightᵀ + bias, optionally as the gated half of a GLU and with a residual added:
 *
 *     v = scale · Σ x[row, k] · weight[column, k] + bias[column]
 *     v = activation(gate[row, column]) · v        with a gate, which an earlier call left in float32 scratch
 *     out[row, column] = v + residual[row, column]
 *
 * gemm computes tiles of 64 × 64 by 256 items, 32 of k at a time in local memory; gemv1 and gemv4 one or four rows of x
 * with four columns a group. All decode 16 weights at a time and sum in float32, chunk by chunk, so that the rounding
 * error grows with the number of chunks and not with k. W is the weight's dtype, with PANELS one of interleaved rows;
 * x's is an argument. */

#include "linear_epilogue.cl"

/* Weights k … k + 15 of row `row` of them; zero from n on. */
float16 weights(global const void *w, long w_at, long w_stride, uint row, uint k, uint n) {
#ifdef PANELS
    return k < n ? decode_panel_part(w, w_at, row, k / 16, n) : 0;
#elif defined(BLOCKS)
    return k < n ? decode_part(w, w_at + row * w_stride, k / 16) : 0;
#else
    return k < n ? load16(w, w_at + row * w_stride + k, n - k, W) : 0;
#endif
}

#define TILE 64
#define DEPTH 32
#define PITCH (TILE + 4) /* rows of a tile start in different banks, and on float4 boundaries */

/* A group: 16 × 16 items of 4 × 4 outputs. Items 0 … 127 fetch x, the others weights; both tiles lie k-major. */
kernel __attribute__((reqd_work_group_size(256, 1, 1))) void
gemm(IN(x), int x_dtype, global const void *w, long w_at, long w_stride, uint k, EPILOGUE_ARGS, local float *x_tile,
     local float *w_tile) {
    const uint item = get_local_id(0), tx = item % 16, ty = item / 16;
    const uint m0 = get_group_id(1) * TILE, n0 = get_group_id(0) * TILE;
    const bool fetches_x = item < 128;
    const uint line = item % TILE, part = item / TILE % 2 * 16;
    const uint row = min(fetches_x ? m0 + line : n0 + line, (fetches_x ? m : n) - 1);
    const long x_row = fetches_x ? ROW(x, row) : 0;
    local float *tile = (fetches_x ? x_tile : w_tile) + part * PITCH + line;
    float4 sum0 = 0, sum1 = 0, sum2 = 0, sum3 = 0;
    for (uint k0 = 0; k0 < k; k0 += DEPTH) {
        const uint at = k0 + part;
        float16 v = 0;
        if (at < k) v = fetches_x ? load16(x, x_row + at, k - at, x_dtype) : weights(w, w_at, w_stride, row, at, k);
        float values[16];
        vstore16(v, 0, values);
        for (int j = 0; j < 16; j++) tile[j * PITCH] = values[j];
        barrier(CLK_LOCAL_MEM_FENCE);
        float4 chunk0 = 0, chunk1 = 0, chunk2 = 0, chunk3 = 0;
        for (int j = 0; j < DEPTH; j++) {
            const float4 a = vload4(0, x_tile + j * PITCH + 4 * ty), b = vload4(0, w_tile + j * PITCH + 4 * tx);
            chunk0 += a.x * b;
            chunk1 += a.y * b;
            chunk2 += a.z * b;
            chunk3 += a.w * b;
        }
        sum0 += chunk0;
        sum1 += chunk1;
        sum2 += chunk2;
        sum3 += chunk3;
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    float sums[16];
    vstore16((float16)(sum0, sum1, sum2, sum3), 0, sums);
    for (uint i = 0; i < 16; i++) finish(m0 + 4 * ty + i / 4, n0 + 4 * tx + i % 4, sums[i], EPILOGUE);
}

#define LANES 16

/* ROWS rows of x with four columns: 16 items share a column, each with every 16th run of 16. */
#define GEMV(ROWS)                                                                                                     \
    const uint item = get_local_id(0), lane = item % LANES;                                                            \
    const uint column = get_group_id(0) * 4 + item / LANES, row0 = get_group_id(1) * ROWS;                             \
    const uint w_row = min(column, n - 1);                                                                             \
    long x_row[ROWS];                                                                                                  \
    float16 sum[ROWS];                                                                                                 \
    for (int r = 0; r < ROWS; r++) {                                                                                   \
        x_row[r] = ROW(x, min(row0 + r, m - 1));                                                                       \
        sum[r] = 0;                                                                                                    \
    }                                                                                                                  \
    for (uint at = 16 * lane; at < k; at += 16 * LANES) {                                                              \
        const float16 v = weights(w, w_at, w_stride, w_row, at, k);                                                    \
        for (int r = 0; r < ROWS; r++) sum[r] += v * load16(x, x_row[r] + at, k - at, x_dtype);                        \
    }                                                                                                                  \
    for (int r = 0; r < ROWS; r++) {                                                                                   \
        barrier(CLK_LOCAL_MEM_FENCE);                                                                                  \
        scratch[item] = sum16(sum[r]);                                                                                 \
        for (uint half_lanes = LANES / 2; half_lanes; half_lanes /= 2) {                                               \
            barrier(CLK_LOCAL_MEM_FENCE);                                                                              \
            if (lane < half_lanes) scratch[item] += scratch[item + half_lanes];                                        \
        }                                                                                                              \
        if (lane == 0) finish(row0 + r, column, scratch[item], EPILOGUE);                                              \
    }

kernel __attribute__((reqd_work_group_size(64, 1, 1))) void
gemv1(IN(x), int x_dtype, global const void *w, long w_at, long w_stride, uint k, EPILOGUE_ARGS, local float *scratch) {
    GEMV(1)
}

kernel __attribute__((reqd_work_group_size(64, 1, 1))) void
gemv4(IN(x), int x_dtype, global const void *w, long w_at, long w_stride, uint k, EPILOGUE_ARGS, local float *scratch) {
    GEMV(4)
}

/* What is left to do where another library multiplied: product is [m, n]. */
kernel void epilogue(global const float *product, EPILOGUE_ARGS) {
    const ulong item = get_global_id(0);
    if (item < (ulong)m * n) finish(item / n, item % n, product[item], EPILOGUE);
}
