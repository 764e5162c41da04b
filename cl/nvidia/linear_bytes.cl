/* linear_bytes.cl: linear with x rounded to bytes (CLF_LINEAR_FAST) and weights of block dtypes as they lie:
 *
 *     round_rows   x of 32 ≈ x_scale · bytes, x_scale = amax / 127 (docs/numerics.md), for decode and for linear.cl
 *     decode       out[row, column] = Σ_parts x_scale · scale · Σ byte · code (dp4a), ROWS rows, then the epilogue
 *
 * A warp of decode has two columns, whose rows of w it reads from end to end: neighbouring lanes take neighbouring 16 bytes
 * of codes, and all the parts of 16 values that these hold (UNIT of them, DISTANCE apart). Each byte of w is read once;
 * x's bytes, 1, 2 or 4 for each of w's, come from the nearest cache. Time is at least that of w's bytes: of 1000 weights
 * 1062 of Q8_0, 562 of Q4_0 and Q4_K, 820 of Q6_K, 258 of TQ2_0, against 2000 of f16.
 *
 * Options: those of warp.h · W, BLOCKS · RUN, values that share a minimum's sum · MINIMA · ROWS 1 to 8 · UNIT, DISTANCE ·
 * WIDE 1: the codes of W lie at multiples of 16 bytes. */

/* 16 bytes at an even address: four words, and the half word behind them where they begin inside a word. */
#if WIDE
#define BYTES16(p) (*(global const uint4 *)(p))
#else
#define BYTES16(p) words_at(p)
WARP_FN uint4 words_at(global const uchar *p) {
    const uint inside = (uint)(size_t)p & 2;
    global const uint *word = (global const uint *)(p - inside);
    const uint4 v = (uint4)(word[0], word[1], word[2], word[3]);
    const uint last = *(global const ushort *)(p + 14);
    return inside ? v >> 16 | (uint4)(v.yzw, last) << 16 : v;
}
#endif
#include "common.cl"
#include "blocks.cl"
#include "linear_epilogue.cl"

#define N_WARPS 4
#define COLUMNS 2

#ifndef BLOCKS
/* An item rounds 32 values; groups of them lie one after the other, rows of each likewise: [k / 32][padded_m], and
 * x_sums, of RUN values each, [k / RUN][padded_m]. */
__kernel void round_rows(IN(x), int x_dtype, uint4 shape, uint m, uint k, __global uint *bytes, __global float *x_scales,
                         __global float *x_sums, uint padded_m, uint run) {
    const uint groups = k / 32, item = get_global_id(0), row = item / groups, group = item % groups;
    if (row >= m) return;
    const long at = ROW(x, row) + group * 32;
    float v[32], most = 0;
    bool bad = false;
    UNROLL for (int i = 0; i < 32; i++) {
        v[i] = load(x, at + i, x_dtype);
        most = fmax(most, fabs(v[i]));
        bad |= !(fabs(v[i]) < INFINITY);
    }
    const bool none = most < 0x1p-100f;
    const float scale = bad ? NAN : none ? 0 : most / 127, inverse = bad || none ? 0 : 127 / most;
    int sums[2] = {0, 0};
    UNROLL for (int i = 0; i < 8; i++) {
        uint word = 0;
        UNROLL for (int j = 0; j < 4; j++) {
            const int byte = bad ? 0 : (int)rint(v[4 * i + j] * inverse);
            sums[i / 4] += byte;
            word |= ((uint)byte & 255) << 8 * j;
        }
        bytes[(ulong)row * (k / 4) + group * 8 + i] = word;
    }
    x_scales[(ulong)group * padded_m + row] = scale;
    if (run == 32) x_sums[(ulong)group * padded_m + row] = scale * (sums[0] + sums[1]);
    if (run == 16) {
        x_sums[(ulong)group * 2 * padded_m + row] = scale * sums[0];
        x_sums[((ulong)group * 2 + 1) * padded_m + row] = scale * sums[1];
    }
}

#else
__attribute__((reqd_work_group_size(32 * N_WARPS, 1, 1))) __kernel void
decode(__global const uint *x, __global const float *x_scales, int padded_m, __global const void *weight, long w_at,
       long w_stride, int k, EPILOGUE_ARGS, __local uint *local_memory) {
    WARP_BEGIN(w, local_memory, 16, N_WARPS);
    const int row0 = (int)get_group_id(1) * ROWS;
    const uint column0 = (get_group_id(0) * N_WARPS + w->index) * COLUMNS;
    const __global uchar *blocks[COLUMNS];
    UNROLL for (int c = 0; c < COLUMNS; c++)
        blocks[c] = (const __global uchar *)weight + w_at + min(column0 + c, n - 1) * w_stride;
    float sum[ROWS][COLUMNS];
    UNROLL for (int r = 0; r < ROWS; r++) UNROLL for (int c = 0; c < COLUMNS; c++) sum[r][c] = 0;

    for (int unit = w->lane; unit < k / (16 * UNIT); unit += 32) {
        const int first = unit / DISTANCE * (DISTANCE * UNIT) + unit % DISTANCE; /* parts first, first + DISTANCE … */
        const int at = first % PARTS_OF_BLOCK;
        uint4 codes[COLUMNS][UNIT];
        float scale[COLUMNS][UNIT];
#if MINIMA
        float minimum[COLUMNS][UNIT];
#endif
        UNROLL for (int c = 0; c < COLUMNS; c++) {
            const __global uchar *block = blocks[c] + BLOCK_OF((long)0, first);
            UNROLL for (int i = 0; i < UNIT; i++) {
                codes[c][i] = PASTE(codes_, W)(block, at + i * DISTANCE);
                scale[c][i] = PASTE(scale_, W)(block, at + i * DISTANCE);
#if MINIMA
                minimum[c][i] = PASTE(minimum_, W)(block, at + i * DISTANCE);
#endif
            }
        }
        UNROLL for (int r = 0; r < ROWS; r++) {
            const uint row = fresh((uint)min(row0 + r, (int)m - 1));
            UNROLL for (int i = 0; i < UNIT; i++) {
                const int part = first + i * DISTANCE;
                const uint4 v = *(const __global uint4 *)(x + (row * (uint)(k / 4) + (uint)part * 4));
                const float x_scale = x_scales[(uint)(part / 2) * (uint)padded_m + row];
                UNROLL for (int c = 0; c < COLUMNS; c++) {
                    const uint4 q = codes[c][i];
                    const int dot = dp4a(v.x, q.x, dp4a(v.y, q.y, dp4a(v.z, q.z, dp4a(v.w, q.w, 0))));
                    float term = scale[c][i] * (float)dot;
#if MINIMA
                    const uint one = 0x01010101u;
                    const int x_sum = dp4a(v.x, one, dp4a(v.y, one, dp4a(v.z, one, dp4a(v.w, one, 0))));
                    term = fma(-minimum[c][i], (float)x_sum, term);
#endif
                    sum[r][c] = fma(x_scale, term, sum[r][c]);
                }
            }
        }
    }

    float result = 0; /* of row lane / COLUMNS, column lane % COLUMNS */
    UNROLL for (int r = 0; r < ROWS; r++)
        UNROLL for (int c = 0; c < COLUMNS; c++) {
            float v = sum[r][c];
            UNROLL for (int mask = 16; mask; mask /= 2) v += warp_shfl_xor(w, v, mask);
            if (w->lane == r * COLUMNS + c) result = v;
        }
    const int r = w->lane / COLUMNS;
    if (r < ROWS) finish((uint)(row0 + r), column0 + (uint)(w->lane % COLUMNS), result, EPILOGUE);
}
#endif
