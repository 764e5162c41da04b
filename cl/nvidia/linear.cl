/* linear.cl: products on tensor cores, of 16-bit operands or of bytes, accumulated in float32:
 *
 *     gemm             out[m, n] = Σ_k x[m, k] · w[n, k], then the epilogue
 *     gemm with DOWN   out[m, n] = Σ_k x[m, k] · w[k, n]: the gradient of linear's x from that of out
 *
 * w is of x's dtype, or of a block dtype W (BLOCKS), which is decoded a tile at a time. Nothing is rounded that x and w
 * hold: codes are integers that an operand holds exactly, and their scale, one a RUN of 16 or 32 of k, multiplies the sum
 * over the run (CODES). Only where that can't be, with DOWN, whose sum runs across the runs, and for NF4, whose codes
 * stand for floats, values are decoded to PARTS operands: one of 11 bits as f16, or two of 8 as bf16, which are added.
 *
 *     CODES      Σ_runs scale · Σ x · code − minimum · Σ x
 *     INT8       the same with x rounded to bytes by round_rows (linear_bytes.cl): Σ_runs scale · x_scale · Σ x · code
 *
 * A group computes BLOCK_M × BLOCK_N of out, a warp WARP_M × WARP_N of that, 64 bytes of k at a time: x and w of its
 * dtype come by cp.async STAGES − 1 steps ahead; blocks come into registers before the products of a step and go to
 * local memory after them. Grid: (⌈n / BLOCK_N⌉, ⌈m / BLOCK_M⌉).
 *
 * Options: those of warp.h · W, BLOCKS · DOWN · INT8 · CODES · RUN · MINIMA · PARTS · BLOCK_M, BLOCK_N (multiples of 64) ·
 * WARP_M, WARP_N (of 16) · ALIGNED 0: rows of x and w lie anywhere; 1: at multiples of 16 bytes, and have such lengths. */
#include "common.cl"
#include "blocks.cl"
#include "linear_epilogue.cl"

#define ROW_BYTES 64
#define STEP      (INT8 ? 64 : 32) /* of k */
#define RUNS      (STEP / RUN)
#define WARPS_N   (BLOCK_N / WARP_N)
#define N_WARPS   (BLOCK_M / WARP_M * WARPS_N)
#define M_TILES   (WARP_M / 16)
#define N_TILES   (WARP_N / 16)
#include "nvidia/linear_result.cl"

/* Local memory: of each stage x, w (PARTS times), scales and minima by runs and columns, and with INT8 x's by rows. */
#define W_AT         (BLOCK_M * ROW_BYTES)
#define W_BYTES      (BLOCK_N * ROW_BYTES)
#define SCALES_AT    (W_AT + PARTS * W_BYTES)
#define MINIMA_AT    (SCALES_AT + CODES * RUNS * BLOCK_N * 4)
#define X_SCALES_AT  (MINIMA_AT + CODES * MINIMA * RUNS * BLOCK_N * 4)
#define X_SUMS_AT    (X_SCALES_AT + INT8 * 2 * BLOCK_M * 4)
#define STAGE_BYTES  (X_SUMS_AT + INT8 * MINIMA * RUNS * BLOCK_M * 4)
#define STAGES       (3 * STAGE_BYTES > 49152 ? 2 : 3)
#define LOCAL_BYTES  (STAGES * STAGE_BYTES > RESULT_BYTES ? STAGES * STAGE_BYTES : RESULT_BYTES)

#define CHUNKS (BLOCK_M * 4 / N_THREADS) /* of x, each item's */
#define W_ROWS (DOWN ? STEP : BLOCK_N)
#define W_CHUNKS (BLOCK_N * 4 / N_THREADS)

/* Up to eight operands into a chunk, zero where there are none. */
WARP_FN void bring(warp *w, uint to, const __global ushort *from, int count) {
#if ALIGNED
    cp_async16(w, to, from, 2 * clamp(count, 0, 8));
#else
    uint v[4];
    UNROLL for (int i = 0; i < 4; i++) {
        const uint low = 2 * i < count ? from[2 * i] : 0, high = 2 * i + 1 < count ? from[2 * i + 1] : 0;
        v[i] = low | high << 16;
    }
    local_put16(w, to, (uint4)(v[0], v[1], v[2], v[3]));
#endif
}

#ifdef BLOCKS
/* ---- blocks: runs of 16 ---- */

#define RUN_ROW  (DOWN ? BLOCK_N / 16 : STEP / 16) /* runs in a row of the tile */
#define N_RUNS   (BLOCK_N * STEP / 16 / N_THREADS) /* each item's */

typedef struct {
    uint4 codes;
    float scale, minimum;
} run;

/* Part `part` of row `row`; zeros outside of w. */
WARP_FN run fetch_run(const __global uchar *blocks, long stride, int row, int rows, int part, int parts) {
    run r = {0, 0, 0};
    if (row < rows && part < parts) {
        const __global uchar *b = blocks + BLOCK_OF(row * stride, part);
        r.codes = PASTE(codes_, W)(b, part % PARTS_OF_BLOCK);
        r.scale = PASTE(scale_, W)(b, part % PARTS_OF_BLOCK);
#if MINIMA
        r.minimum = PASTE(minimum_, W)(b, part % PARTS_OF_BLOCK);
#endif
    }
    return r;
}

/* What byte i of a word of codes stands for: bytes are exact within 2^23. */
WARP_FN float value_of(uint codes, int i) {
    if (W == NF4) return nf4_values[codes >> 8 * i & 15];
    return as_float(((codes ^ 0x80808080u) >> 8 * i & 255) | 0x4b000000) - 8388736.0f;
}

/* Where chunk c of row r of w's tile lies. */
WARP_FN uint w_chunk(uint tile, int r, int c) {
#if DOWN
    return tile_chunk(tile + (c >> 3) * PAGE_BYTES(STEP), r, c & 7);
#else
    return panel_chunk(tile, r, c);
#endif
}

/* Run `id` of the tile to its place in a stage. */
WARP_FN void put_run(warp *w, uint stage, int id, const run *r) {
    const int row = id / RUN_ROW, at = id % RUN_ROW;
#if INT8
    local_put16(w, w_chunk(stage + W_AT, row, at), r->codes);
#else
    const uint words[4] = {r->codes.x, r->codes.y, r->codes.z, r->codes.w};
    UNROLL for (int half_run = 0; half_run < 2; half_run++) {
        uint v[PARTS][4];
        UNROLL for (int i = 0; i < 4; i++) {
            const uint word = words[2 * half_run + i / 2];
            float low = value_of(word, i % 2 * 2), high = value_of(word, i % 2 * 2 + 1);
#if !CODES
            low = r->scale * low - r->minimum;
            high = r->scale * high - r->minimum;
#endif
            v[0][i] = pack(low, high);
#if PARTS == 2
            v[1][i] = pack(low - unpack(v[0][i] & 0xffff), high - unpack(v[0][i] >> 16));
#endif
        }
        UNROLL for (int p = 0; p < PARTS; p++)
            local_put16(w, w_chunk(stage + W_AT + p * W_BYTES, row, 2 * at + half_run),
                        (uint4)(v[p][0], v[p][1], v[p][2], v[p][3]));
    }
#endif
#if CODES
    if (at * 16 % RUN == 0) {
        const uint to = (at * 16 / RUN * BLOCK_N + row) * 4;
        local_put(w, stage + SCALES_AT + to, r->scale);
#if MINIMA
        local_put(w, stage + MINIMA_AT + to, r->minimum);
#endif
    }
#endif
}
#endif

/* ---- sums of runs ---- */

#if INT8
#define PRODUCT_START 0x4b400000 /* 1.5 · 2^23 as a float: what is added to its bits is added to it */

/* acc += scales of the columns · scales of the rows · c. Scales have at most 20 bits, so that nothing here is rounded
 * but the result: fma's two summands cancel exactly. */
WARP_FN void add_run(float *acc, const int *c, float2 scale, const float *x_scale) {
    const float2 start = -12582912.0f * scale;
    acc[0] = fma(fma(as_float(c[0]), scale.x, start.x), x_scale[0], acc[0]);
    acc[1] = fma(fma(as_float(c[1]), scale.y, start.y), x_scale[0], acc[1]);
    acc[2] = fma(fma(as_float(c[2]), scale.x, start.x), x_scale[1], acc[2]);
    acc[3] = fma(fma(as_float(c[3]), scale.y, start.y), x_scale[1], acc[3]);
    settle(acc);
}
#else
WARP_FN void add_run(float *acc, const float *c, float2 scale) {
    acc[0] = fma(c[0], scale.x, acc[0]);
    acc[1] = fma(c[1], scale.y, acc[1]);
    acc[2] = fma(c[2], scale.x, acc[2]);
    acc[3] = fma(c[3], scale.y, acc[3]);
    settle(acc);
}
#endif

WARP_FN void subtract_minima(float *acc, float2 minimum, float sum0, float sum8) {
    acc[0] = fma(-minimum.x, sum0, acc[0]);
    acc[1] = fma(-minimum.y, sum0, acc[1]);
    acc[2] = fma(-minimum.x, sum8, acc[2]);
    acc[3] = fma(-minimum.y, sum8, acc[3]);
}

#if INT8
#define X_ARGS __global const uchar *x, __global const float *x_scales, __global const float *x_sums, int padded_m
#else
#define X_ARGS IN(x)
#endif

/* k-halves of a step whose products a run's scale multiplies together; and runs in a half whose scales are apart. */
#if CODES && !INT8 && RUN == 32
#define HALVES 2
#else
#define HALVES 1
#endif
#if INT8 && RUN == 16
#define RUNS_HALF 2
#else
#define RUNS_HALF 1
#endif

__attribute__((reqd_work_group_size(N_THREADS, 1, 1))) __kernel void
gemm(X_ARGS, __global const void *weight, long w_at, long w_stride, int k, EPILOGUE_ARGS, __local uint *local_memory) {
    WARP_BEGIN(w, local_memory, LOCAL_BYTES, N_WARPS);
    const int id = w->index * 32 + w->lane;
    const int m0 = (int)get_group_id(1) * BLOCK_M, n0 = (int)get_group_id(0) * BLOCK_N;
    const int warp_m = w->index / WARPS_N * WARP_M, warp_n = w->index % WARPS_N * WARP_N;
    const int n_steps = (k + STEP - 1) / STEP;
#if CODES
    const int column = (w->lane & 3) * 2; /* this lane's, in each 8 of out */
#endif

#if INT8
    const __global uchar *x_row[CHUNKS];
    UNROLL for (int i = 0; i < CHUNKS; i++)
        x_row[i] = x + (long)min(m0 + (id >> 2) + i * (N_THREADS / 4), (int)m - 1) * k + (id & 3) * 16;
#else
    const __global ushort *x_row[CHUNKS];
    UNROLL for (int i = 0; i < CHUNKS; i++)
        x_row[i] = (const __global ushort *)x + ROW(x, min((uint)(m0 + (id >> 2) + i * (N_THREADS / 4)), m - 1)) +
                   (id & 3) * 8;
#endif

    float acc[M_TILES][2 * N_TILES][4];
    UNROLL for (int i = 0; i < M_TILES; i++) CLEAR(acc[i], 2 * N_TILES);

    /* Work-item `id` starts the copies of step s into a stage. */
#if INT8
#define LOAD_X(id, s, stage)                                                                                           \
    UNROLL for (int i = 0; i < CHUNKS; i++) {                                                                          \
        const int r = (id >> 2) + i * (N_THREADS / 4), left = k - (s)*STEP - (id & 3) * 16;                            \
        cp_async16(w, panel_chunk(stage, r, id & 3), x_row[i] + (s)*STEP, m0 + r < (int)m ? clamp(left, 0, 16) : 0);   \
    }                                                                                                                  \
    for (int i = id; i < BLOCK_M / 2; i += N_THREADS) { /* of two groups of 32, four rows */                           \
        const int group = (s)*2 + i / (BLOCK_M / 4), r = i % (BLOCK_M / 4) * 4;                                        \
        cp_async16(w, (stage) + X_SCALES_AT + i * 16, x_scales + (long)group * padded_m + m0 + r,                      \
                   group < k / 32 && m0 + r < padded_m ? 16 : 0);                                                      \
    }                                                                                                                  \
    for (int i = id; i < MINIMA * RUNS * BLOCK_M / 4; i += N_THREADS) {                                                \
        const int at = (s)*RUNS + i / (BLOCK_M / 4), r = i % (BLOCK_M / 4) * 4;                                        \
        cp_async16(w, (stage) + X_SUMS_AT + i * 16, x_sums + (long)at * padded_m + m0 + r,                             \
                   at < k / RUN && m0 + r < padded_m ? 16 : 0);                                                        \
    }
#else
#define LOAD_X(id, s, stage)                                                                                           \
    UNROLL for (int i = 0; i < CHUNKS; i++) {                                                                          \
        const int r = (id >> 2) + i * (N_THREADS / 4);                                                                 \
        bring(w, panel_chunk(stage, r, id & 3), x_row[i] + (s)*STEP,                                                   \
              m0 + r < (int)m ? k - (s)*STEP - (id & 3) * 8 : 0);                                                      \
    }
#endif

#ifdef BLOCKS
    const __global uchar *blocks = (const __global uchar *)weight + w_at;
    run runs[N_RUNS];
#define FETCH_W(id, s)                                                                                                 \
    UNROLL for (int i = 0; i < N_RUNS; i++) {                                                                          \
        const int at = id + i * N_THREADS, r = at / RUN_ROW, part = at % RUN_ROW;                                      \
        runs[i] = DOWN ? fetch_run(blocks, w_stride, (s)*STEP + r, k, n0 / 16 + part, (int)n / 16)                     \
                       : fetch_run(blocks, w_stride, n0 + r, (int)n, (s)*RUN_ROW + part, k / 16);                      \
    }
#define PUT_W(id, stage)     UNROLL for (int i = 0; i < N_RUNS; i++) put_run(w, stage, id + i * N_THREADS, &runs[i])
#define LOAD_W(id, s, stage) (void)0
#else
    const __global ushort *w_from = (const __global ushort *)weight + w_at;
#define FETCH_W(id, s)   (void)0
#define PUT_W(id, stage) (void)0
#if DOWN
#define LOAD_W(id, s, stage)                                                                                           \
    UNROLL for (int i = 0; i < W_CHUNKS; i++) {                                                                        \
        const int at = id + i * N_THREADS, r = at / (BLOCK_N / 8), c = at % (BLOCK_N / 8), row = (s)*STEP + r;         \
        bring(w, tile_chunk((stage) + W_AT + (c >> 3) * PAGE_BYTES(STEP), r, c & 7),                                   \
              w_from + min(row, k - 1) * w_stride + n0 + c * 8, row < k ? (int)n - n0 - c * 8 : 0);                    \
    }
#else
#define LOAD_W(id, s, stage)                                                                                           \
    UNROLL for (int i = 0; i < W_CHUNKS; i++) {                                                                        \
        const int r = (id >> 2) + i * (N_THREADS / 4);                                                                 \
        bring(w, panel_chunk((stage) + W_AT, r, id & 3),                                                               \
              w_from + min(n0 + r, (int)n - 1) * w_stride + (s)*STEP + (id & 3) * 8,                                   \
              n0 + r < (int)n ? k - (s)*STEP - (id & 3) * 8 : 0);                                                      \
    }
#endif
#endif

    UNROLL for (int s = 0; s < STAGES - 1; s++) {
        const uint stage = w->local_base + s * STAGE_BYTES;
        if (s < n_steps) {
            LOAD_X(id, s, stage);
            LOAD_W(id, s, stage);
            FETCH_W(id, s);
            PUT_W(id, stage);
        }
        cp_async_commit(w);
    }
    int now = 0, ahead = STAGES - 1;
    for (int s = 0; s < n_steps; s++) {
        const uint stage = w->local_base + now * STAGE_BYTES, free_stage = w->local_base + ahead * STAGE_BYTES;
        const int next = s + STAGES - 1;
        cp_async_wait_group(w, STAGES - 2); /* step s is here */
        block_barrier(w);                   /* for all; and all are done with step s − 1 */
        const int item = (int)fresh((uint)id); /* = id; what follows from it is not to wait in registers */
        if (next < n_steps) {
            LOAD_X(item, next, free_stage);
            LOAD_W(item, next, free_stage);
            FETCH_W(item, next);
        }
        cp_async_commit(w);

        const uint a_lane = panel_a(w->lane), b_lane = DOWN ? operand_a(w->lane) : panel_b(w->lane);
        UNROLL for (int r = 0; r < 2 / HALVES; r++) {
            uint a[HALVES][M_TILES][4];
            UNROLL for (int h = 0; h < HALVES; h++)
                UNROLL for (int i = 0; i < M_TILES; i++)
                    ldmatrix_x4(w, a[h][i], panel_fragment(stage, warp_m / 16 + i, HALVES * r + h, a_lane));
#if CODES && MINIMA && !INT8
            float sums[M_TILES][4]; /* of x's rows: each column the same */
            CLEAR(sums, M_TILES);
            UNROLL for (int h = 0; h < HALVES; h++)
                UNROLL for (int i = 0; i < M_TILES; i++) mma_m16n8k16(w, sums[i], a[h][i], pack(1, 1), pack(1, 1));
#endif
#if INT8
            float x_scale[M_TILES][2];
            UNROLL for (int i = 0; i < 2 * M_TILES; i++)
                x_scale[i / 2][i % 2] =
                    local_get(w, stage + X_SCALES_AT + (r * BLOCK_M + warp_m + i * 8 + (w->lane >> 2)) * 4);
#endif
            UNROLL for (int j = 0; j < N_TILES; j++) {
                uint b[PARTS][HALVES][4];
                UNROLL for (int p = 0; p < PARTS; p++)
                    UNROLL for (int h = 0; h < HALVES; h++) {
                        const uint tile = stage + W_AT + p * W_BYTES;
#if DOWN
                        ldmatrix_x4_trans(w, b[p][h], fragment(tile, STEP, r, warp_n / 16 + j, b_lane));
#else
                        ldmatrix_x4(w, b[p][h], panel_fragment(tile, warp_n / 16 + j, HALVES * r + h, b_lane));
#endif
                    }
                UNROLL for (int e = 0; e < 2; e++) {
#if !CODES
                    UNROLL for (int i = 0; i < M_TILES; i++)
                        UNROLL for (int p = 0; p < PARTS; p++)
                            mma_m16n8k16(w, acc[i][2 * j + e], a[0][i], b[p][0][2 * e], b[p][0][2 * e + 1]);
#else
                    const uint at = (warp_n + j * 16 + e * 8 + column) * 4; /* of scales and minima, in a run's */
                    UNROLL for (int q = 0; q < RUNS_HALF; q++) {
                        const int at_run = RUNS_HALF * r + q;
                        const uint run_at = at_run * BLOCK_N * 4 + at;
                        const float2 scale = local_get2(w, stage + SCALES_AT + run_at);
#if MINIMA
                        const float2 minimum = local_get2(w, stage + MINIMA_AT + run_at);
#endif
                        UNROLL for (int i = 0; i < M_TILES; i++) {
                            float *sum = acc[i][2 * j + e];
#if INT8
                            int c[4] = {PRODUCT_START, PRODUCT_START, PRODUCT_START, PRODUCT_START};
#if RUN == 16
                            mma_m16n8k16_bytes(w, c, a[0][i] + 2 * q, b[0][0][2 * e + q]);
#else
                            mma_m16n8k32(w, c, a[0][i], b[0][0][2 * e], b[0][0][2 * e + 1]);
#endif
                            add_run(sum, c, scale, x_scale[i]);
#if MINIMA
                            const int row = at_run * BLOCK_M + warp_m + i * 16 + (w->lane >> 2);
                            const uint x_sum = stage + X_SUMS_AT + row * 4;
                            subtract_minima(sum, minimum, local_get(w, x_sum), local_get(w, x_sum + 32));
#endif
#else
                            float c[4] = {0, 0, 0, 0};
                            UNROLL for (int h = 0; h < HALVES; h++)
                                mma_m16n8k16(w, c, a[h][i], b[0][h][2 * e], b[0][h][2 * e + 1]);
                            add_run(sum, c, scale);
#if MINIMA
                            subtract_minima(sum, minimum, sums[i][0], sums[i][2]);
#endif
#endif
                        }
                    }
#endif
                }
            }
        }
        if (next < n_steps) PUT_W(item, free_stage);
        now = now + 1 == STAGES ? 0 : now + 1;
        ahead = ahead + 1 == STAGES ? 0 : ahead + 1;
    }

    UNROLL for (int i = 0; i < M_TILES; i++)
        store_rows(w, acc[i], m0 + warp_m + i * 16, n0 + warp_n, EPILOGUE);
}
