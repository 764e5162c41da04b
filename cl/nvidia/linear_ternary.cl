/* linear_ternary.cl: linear with ternary weights, codes of two bits, and x rounded to bytes: T2, and block-sparse tiles of
 * 16 rows × 16 k of which the empty ones aren't there (TILES):
 *
 *     round_spans   x of a span ≈ x_scale · bytes, x_scale = amax / 127; T2: of 256 values, as its scales; tiles: of a row
 *     decode        out[row, column] = Σ_spans x_scale · scale · Σ byte · (code − 1), ROWS rows of x, by dp4a
 *     gemm          the same on tensor cores, m16n8k32
 *
 * and the epilogue. A word of 64 bytes holds 16 rows × 16 k: bits 2p and 2p + 1 of byte i of a row's four are the code at
 * k = 4p + i. So (four bytes >> 2p) & 0x03030303 are four consecutive codes, which is what dp4a takes and, with p = lane & 3
 * and row lane >> 2, operand B of mma: words stay as they lie until then. Sums over a span are exact in int32.
 *
 * Bytes of x lie as [k / 16][m][16], x_scale as [spans][padded_m].
 *
 *     decode          a group has 16 columns; a lane takes 16 bytes of a word, four rows: a warp reads 512 consecutive ones
 *     gemm, of T2     a group computes BLOCK_M × BLOCK_N of out, a warp WARP_M × WARP_N of that, 64 of k at a time, which
 *                     cp.async brings three steps ahead; a span is four steps. Grid: (⌈n / BLOCK_N⌉, ⌈m / BLOCK_M⌉)
 *     gemm, of tiles  a group computes 16 columns of BLOCK_M rows, a warp WARP_M of these, four of the listed tiles at a
 *                     time, two for each product's k. Nothing is read but what is listed. Grid: (n / 16, ⌈m / BLOCK_M⌉)
 *
 * Lists that lead outside of w or of x make their columns NaN.
 *
 * Options: those of warp.h · TILES · ITEMS: round_spans, with groups of so many · ROWS: decode, of 1 to 8 · else gemm:
 * BLOCK_M, BLOCK_N (multiples of 64) · WARP_M, WARP_N (of 16); of tiles BLOCK_N = WARP_N = 16. */
#include "common.cl"
#include "blocks.cl"
#include "linear_epilogue.cl"

#define SPAN 256 /* of T2 */
#define ONES 0x01010101u

/* Codes of k 4p … 4p + 3 of a row's four bytes. */
WARP_FN uint codes4(uint bytes, int p) {
    return bytes >> 2 * p & 0x03030303u;
}

#if TILES
#define W_ARGS                                                                                                         \
    __global const uint *tiles, long tiles_at, int n_tiles, __global const int *tile_rows, long rows_at,               \
        __global const int *tile_columns, long columns_at, __global const float *row_scale, long scale_at
#else
#define W_ARGS __global const uchar *weight, long w_at
#endif
#define X_ARGS __global const uint4 *x, __global const float *x_scales, int padded_m

#if TILES
/* The tiles of row of tiles t: [from, to); none of a list that leads outside, which is `bad`. */
typedef struct {
    int from, to;
    bool bad;
} list;

WARP_FN list list_of(const __global int *tile_rows, int t, int n_tiles) {
    list l = {tile_rows[t], tile_rows[t + 1], false};
    l.bad = l.from < 0 || l.from > l.to || l.to > n_tiles;
    if (l.bad) l.to = l.from;
    return l;
}

/* The 16 k that a tile is of; outside of x: the first, and *bad. */
WARP_FN uint group_of(int column, int k, bool *bad) {
    if ((uint)column < (uint)(k / 16)) return (uint)column;
    *bad = true;
    return 0;
}
#endif

#ifdef ITEMS
#define LOCAL_BYTES (ITEMS * 4)

/* A group a span of a row; an item rounds four values at a time. */
__attribute__((reqd_work_group_size(ITEMS, 1, 1))) __kernel void
round_spans(IN(x), int x_dtype, uint4 shape, uint m, int span, __global uint *bytes, __global float *x_scales,
            uint padded_m, __local float *scratch) {
    const uint row = get_group_id(0), begin = get_group_id(1) * span;
    const long at = ROW(x, row) + begin;
    float most = 0;
    for (int i = (int)get_local_id(0) * 4; i < span; i += ITEMS * 4)
        UNROLL for (int j = 0; j < 4; j++) {
            const float size = fabs(load(x, at + i + j, x_dtype));
            most = size < INFINITY ? fmax(most, size) : INFINITY;
        }
    most = group_max(most, scratch);
    const bool bad = most == INFINITY, none = most < 0x1p-100f;
    const float inverse = bad || none ? 0 : 127 / most;
    for (int i = (int)get_local_id(0) * 4; i < span; i += ITEMS * 4) {
        uint word = 0;
        UNROLL for (int j = 0; j < 4; j++) {
            const int byte = bad ? 0 : (int)rint(load(x, at + i + j, x_dtype) * inverse);
            word |= ((uint)byte & 255) << 8 * j;
        }
        bytes[((ulong)((begin + i) / 16) * m + row) * 4 + i % 16 / 4] = word;
    }
    if (get_local_id(0) == 0) x_scales[(ulong)get_group_id(1) * padded_m + row] = bad ? NAN : none ? 0 : most / 127;
}

#elif defined(ROWS)
#define N_WARPS     4
#define LOCAL_BYTES (N_WARPS * ROWS * 16 * 4)

/* Of a lane's 16 bytes of a word, four rows: [row][p]. */
WARP_FN void decode_rows(uint (*codes)[4], uint4 rows) {
    UNROLL for (int p = 0; p < 4; p++) {
        codes[0][p] = codes4(rows.x, p);
        codes[1][p] = codes4(rows.y, p);
        codes[2][p] = codes4(rows.z, p);
        codes[3][p] = codes4(rows.w, p);
    }
}

/* sums[j] += Σ byte · code − Σ byte. */
WARP_FN void add_products(int *sums, uint (*codes)[4], uint4 v) {
    const int sum = dp4a(v.x, ONES, dp4a(v.y, ONES, dp4a(v.z, ONES, dp4a(v.w, ONES, 0))));
    UNROLL for (int j = 0; j < 4; j++)
        sums[j] = dp4a(v.x, codes[j][0],
                       dp4a(v.y, codes[j][1], dp4a(v.z, codes[j][2], dp4a(v.w, codes[j][3], sums[j] - sum))));
}

__attribute__((reqd_work_group_size(32 * N_WARPS, 1, 1))) __kernel void
decode(X_ARGS, W_ARGS, int k, EPILOGUE_ARGS, __local uint *local_memory) {
    WARP_BEGIN(w, local_memory, LOCAL_BYTES, N_WARPS);
    const int row0 = (int)get_group_id(1) * ROWS, panel = (int)get_group_id(0), part = w->lane >> 2;
    const int first = (w->lane & 3) * 4; /* of this lane's four columns */
    float sum[ROWS][4];
#if TILES
    const list l = list_of(tile_rows + rows_at, panel, n_tiles);
    bool bad = l.bad;
    int dots[ROWS][4];
    UNROLL for (int r = 0; r < ROWS; r++) UNROLL for (int j = 0; j < 4; j++) dots[r][j] = 0;
    for (int e = l.from + w->index * 8 + part; e < l.to; e += N_WARPS * 8) {
        const uint group = group_of(tile_columns[columns_at + e], k, &bad);
        uint codes[4][4];
        decode_rows(codes, *(const __global uint4 *)(tiles + tiles_at / 4 + (long)e * 16 + first));
        UNROLL for (int r = 0; r < ROWS; r++)
            add_products(dots[r], codes, x[(long)group * m + min(row0 + r, (int)m - 1)]);
    }
    UNROLL for (int r = 0; r < ROWS; r++) {
        const float x_scale = x_scales[min(row0 + r, (int)m - 1)];
        UNROLL for (int j = 0; j < 4; j++)
            sum[r][j] = bad ? NAN : row_scale[scale_at + panel * 16 + first + j] * x_scale * (float)dots[r][j];
    }
#else
    const __global uchar *scales = weight + w_at + (long)panel * (k / SPAN) * (16 * T2_bytes);
    const __global uint4 *words = (const __global uint4 *)(scales + k / SPAN * 32);
    UNROLL for (int r = 0; r < ROWS; r++) UNROLL for (int j = 0; j < 4; j++) sum[r][j] = 0;
    for (int s = w->index; s < k / SPAN; s += N_WARPS) { /* words part and 8 + part of a span */
        uint codes[2][4][4];
        float scale[4];
        UNROLL for (int i = 0; i < 2; i++) decode_rows(codes[i], words[s * 64 + i * 32 + w->lane]);
        UNROLL for (int j = 0; j < 4; j++) scale[j] = half_at(scales + s * 32 + (first + j) * 2);
        UNROLL for (int r = 0; r < ROWS; r++) {
            const int row = min(row0 + r, (int)m - 1);
            const float x_scale = x_scales[(long)s * padded_m + row];
            int dots[4] = {0, 0, 0, 0};
            UNROLL for (int i = 0; i < 2; i++) add_products(dots, codes[i], x[(long)(s * 16 + i * 8 + part) * m + row]);
            UNROLL for (int j = 0; j < 4; j++) sum[r][j] = fma(x_scale * scale[j], (float)dots[j], sum[r][j]);
        }
    }
#endif

    UNROLL for (int r = 0; r < ROWS; r++) UNROLL for (int j = 0; j < 4; j++) {
        UNROLL for (int mask = 4; mask < 32; mask *= 2) sum[r][j] += warp_shfl_xor(w, sum[r][j], mask);
        if (part == 0) local_put(w, w->local_base + ((w->index * ROWS + r) * 16 + first + j) * 4, sum[r][j]);
    }
    block_barrier(w);
    const int id = w->index * 32 + w->lane; /* at most eight rows of 16 columns */
    if (id < ROWS * 16) {
        float v = 0;
        UNROLL for (int i = 0; i < N_WARPS; i++) v += local_get(w, w->local_base + (i * ROWS * 16 + id) * 4);
        finish((uint)(row0 + id / 16), (uint)(panel * 16 + id % 16), v, EPILOGUE);
    }
}

#else
#define M_TILES (WARP_M / 16)
#define N_WARPS (BLOCK_M / WARP_M * (BLOCK_N / WARP_N))
#include "nvidia/linear_result.cl"

/* Four codes less 1 each. */
WARP_FN uint operand_b4(uint word, int p) {
    return (codes4(word, p) + 0x7f7f7f7fu) ^ 0x80808080u;
}

#if TILES
#define LOCAL_BYTES RESULT_BYTES
#define AT_ONCE     4 /* tiles */

__attribute__((reqd_work_group_size(32 * N_WARPS, 1, 1))) __kernel void
gemm(X_ARGS, W_ARGS, int k, EPILOGUE_ARGS, __local uint *local_memory) {
    WARP_BEGIN(w, local_memory, LOCAL_BYTES, N_WARPS);
    const int panel = (int)get_group_id(0), g = w->lane >> 2, t = w->lane & 3;
    const int row0 = (int)get_group_id(1) * BLOCK_M + w->index * WARP_M + g;
    const __global uint *words = tiles + tiles_at / 4 + g, *x_words = (const __global uint *)x + t;
    const list l = list_of(tile_rows + rows_at, panel, n_tiles);
    bool bad = l.bad;
    int c[M_TILES][2][4];
    UNROLL for (int i = 0; i < M_TILES; i++) CLEAR(c[i], 2);
    for (int e = l.from; e < l.to; e += AT_ONCE) {
        uint word[AT_ONCE][2], a[AT_ONCE][M_TILES][2];
        UNROLL for (int q = 0; q < AT_ONCE; q++) {
            const bool in = e + q < l.to;
            const uint group = in ? group_of(tile_columns[columns_at + e + q], k, &bad) : 0;
            UNROLL for (int h = 0; h < 2; h++) {
                word[q][h] = in ? words[(long)(e + q) * 16 + 8 * h] : 0x55555555; /* zeros */
                UNROLL for (int i = 0; i < M_TILES; i++)
                    a[q][i][h] = x_words[((long)group * m + min(row0 + i * 16 + 8 * h, (int)m - 1)) * 4];
            }
        }
        UNROLL for (int q = 0; q < AT_ONCE; q += 2) UNROLL for (int i = 0; i < M_TILES; i++) {
            const uint both[4] = {a[q][i][0], a[q][i][1], a[q + 1][i][0], a[q + 1][i][1]};
            UNROLL for (int h = 0; h < 2; h++)
                mma_m16n8k32(w, c[i][h], both, operand_b4(word[q][h], t), operand_b4(word[q + 1][h], t));
        }
    }
    UNROLL for (int i = 0; i < M_TILES; i++) {
        float sum[2][4];
        UNROLL for (int j = 0; j < 2; j++) UNROLL for (int e = 0; e < 4; e++) {
            const float x_scale = x_scales[min(row0 + i * 16 + e / 2 * 8, (int)m - 1)];
            sum[j][e] =
                bad ? NAN : row_scale[scale_at + panel * 16 + j * 8 + 2 * t + e % 2] * x_scale * (float)c[i][j][e];
        }
        store_rows(w, sum, row0 - g + i * 16, panel * 16, EPILOGUE);
    }
}

#else
#define STEP        64 /* of k */
#define WARPS_N     (BLOCK_N / WARP_N)
#define N_TILES     (WARP_N / 16)
#define CHUNKS      (BLOCK_M * 4 / N_THREADS) /* of x, each item's */

/* Local memory: of each stage x, words, and of those that end a span the scales of w, halves, and of x. */
#define W_AT        (BLOCK_M * STEP)
#define SCALES_AT   (W_AT + BLOCK_N * 16)
#define X_SCALES_AT (SCALES_AT + BLOCK_N * 2)
#define STAGE_BYTES (X_SCALES_AT + BLOCK_M * 4)
#define STAGES      4
#define LOCAL_BYTES (STAGES * STAGE_BYTES > RESULT_BYTES ? STAGES * STAGE_BYTES : RESULT_BYTES)

#define PRODUCT_START 0x4b400000 /* 1.5 · 2^23 as a float: what is added to its bits is added to it */
WARP_FN float product_value(int c) {
    return as_float(c) - 12582912.0f;
}

__attribute__((reqd_work_group_size(N_THREADS, 1, 1))) __kernel void
gemm(X_ARGS, W_ARGS, int k, EPILOGUE_ARGS, __local uint *local_memory) {
    WARP_BEGIN(w, local_memory, LOCAL_BYTES, N_WARPS);
    const int id = w->index * 32 + w->lane, g = w->lane >> 2, t = w->lane & 3;
    const int m0 = (int)get_group_id(1) * BLOCK_M, n0 = (int)get_group_id(0) * BLOCK_N;
    const int warp_m = w->index / WARPS_N * WARP_M, warp_n = w->index % WARPS_N * WARP_N;
    const int n_steps = k / STEP;
    const long panel_bytes = (long)(k / SPAN) * (16 * T2_bytes);

    float acc[M_TILES][2 * N_TILES][4];
    int c[M_TILES][2 * N_TILES][4];
    UNROLL for (int i = 0; i < M_TILES; i++)
        UNROLL for (int j = 0; j < 2 * N_TILES; j++)
            UNROLL for (int e = 0; e < 4; e++) {
                acc[i][j][e] = 0;
                c[i][j][e] = PRODUCT_START;
            }

    /* Starts the copies of step s into a stage. */
#define LOAD(s, stage)                                                                                                 \
    UNROLL for (int i = 0; i < CHUNKS; i++) {                                                                          \
        const int at = id + i * N_THREADS, r = at % BLOCK_M, part = at / BLOCK_M, in = m0 + r < (int)m;                \
        cp_async16(w, panel_chunk(stage, r, part), x + ((long)((s)*4 + part) * m + (in ? m0 + r : 0)), in ? 16 : 0);   \
    }                                                                                                                  \
    for (int i = id; i < BLOCK_N; i += N_THREADS) { /* a panel's four words are 16 chunks */                           \
        const int in = n0 + i / 16 * 16 < (int)n;                                                                      \
        const __global uchar *from = weight + w_at + (in ? n0 / 16 + i / 16 : 0) * panel_bytes;                        \
        cp_async16(w, (stage) + W_AT + i * 16, from + k / SPAN * 32 + (s) * (STEP * 4) + i % 16 * 16, in ? 16 : 0);    \
    }                                                                                                                  \
    if ((s) % 4 == 3) {                                                                                                \
        for (int i = id; i < BLOCK_N / 8; i += N_THREADS) {                                                            \
            const int in = n0 + i * 8 < (int)n;                                                                        \
            const __global uchar *from = weight + w_at + (in ? n0 / 16 + i / 2 : 0) * panel_bytes;                     \
            cp_async16(w, (stage) + SCALES_AT + i * 16, from + (s) / 4 * 32 + i % 2 * 16, in ? 16 : 0);                \
        }                                                                                                              \
        for (int i = id; i < BLOCK_M / 4; i += N_THREADS) {                                                            \
            const int in = m0 + i * 4 < padded_m;                                                                      \
            cp_async16(w, (stage) + X_SCALES_AT + i * 16,                                                              \
                       x_scales + (long)((s) / 4) * padded_m + (in ? m0 + i * 4 : 0), in ? 16 : 0);                    \
        }                                                                                                              \
    }

    UNROLL for (int s = 0; s < STAGES - 1; s++) {
        if (s < n_steps) {
            LOAD(s, w->local_base + s * STAGE_BYTES);
        }
        cp_async_commit(w);
    }
    for (int s = 0; s < n_steps; s++) {
        const uint stage = w->local_base + s % STAGES * STAGE_BYTES;
        const int next = s + STAGES - 1;
        cp_async_wait_group(w, STAGES - 2); /* step s is here */
        block_barrier(w);                   /* for all; and all are done with step s − 1 */
        if (next < n_steps) {
            LOAD(next, w->local_base + next % STAGES * STAGE_BYTES);
        }
        cp_async_commit(w);

        const uint a_lane = panel_a(w->lane);
        UNROLL for (int r = 0; r < 2; r++) {
            uint a[M_TILES][4];
            UNROLL for (int i = 0; i < M_TILES; i++)
                ldmatrix_x4(w, a[i], panel_fragment(stage, warp_m / 16 + i, r, a_lane));
            UNROLL for (int j = 0; j < 2 * N_TILES; j++) {
                const uint word = stage + W_AT + ((warp_n / 16 + j / 2) * 64 + 2 * r * 16 + j % 2 * 8 + g) * 4;
                const uint b0 = operand_b4(as_uint(local_get(w, word)), t);
                const uint b1 = operand_b4(as_uint(local_get(w, word + 64)), t);
                UNROLL for (int i = 0; i < M_TILES; i++) mma_m16n8k32(w, c[i][j], a[i], b0, b1);
            }
        }
        if (s % 4 != 3) continue;
        float x_scale[M_TILES][2];
        UNROLL for (int i = 0; i < 2 * M_TILES; i++)
            x_scale[i / 2][i % 2] = local_get(w, stage + X_SCALES_AT + (warp_m + i * 8 + g) * 4);
        UNROLL for (int j = 0; j < 2 * N_TILES; j++) {
            const uint scales = as_uint(local_get(w, stage + SCALES_AT + (warp_n + j * 8 + 2 * t) * 2));
            const float scale[2] = {half_value((ushort)scales), half_value((ushort)(scales >> 16))};
            UNROLL for (int i = 0; i < M_TILES; i++) UNROLL for (int e = 0; e < 4; e++) {
                acc[i][j][e] = fma(x_scale[i][e / 2] * scale[e % 2], product_value(c[i][j][e]), acc[i][j][e]);
                c[i][j][e] = PRODUCT_START;
            }
        }
    }

    UNROLL for (int i = 0; i < M_TILES; i++) store_rows(w, acc[i], m0 + warp_m + i * 16, n0 + warp_n, EPILOGUE);
}
#endif
#endif
