/* attention.cl: out = softmax(mask(softcap(scale · q·kᵀ) − alibi + mask)) · v on tensor cores, a block of keys at a time
 * with a running maximum and sum (arXiv:2205.14135). 16-bit operands, float32 accumulators; P is rounded to 16 bits.
 *
 * attention        One group has BLOCK_Q rows of one key/value head, each warp 16·ROW_TILES of them and all keys. The
 *                  rows of a sequence: row r is query r / group of the head's r % group, so that a group of heads reads
 *                  its keys once. Grid: (tiles · splits, kv_heads, batch); packed, tiles of all sequences follow each
 *                  other. With splits > 1 each of them has a part of the keys and leaves its out and lse in `part`.
 * attention_join   merges the parts of one row, in their order.
 *
 * Options: those of warp.h and rules.h · HEAD_DIM, V_DIM: the call's rounded up, multiples of 16 · PAGED 1 · N_WARPS ·
 * ROW_TILES · BLOCK_K keys a step · K_STAGES 1: K(n+1) is fetched during softmax(n), 2: during S(n) · Q_IN_REGISTERS ·
 * WGMMA 1: both products are those of four warps: Q in registers, one row tile, N_WARPS a multiple of 4, V_DIM and
 * BLOCK_K 64 or 128.
 * Rows are 16-byte aligned, head_dim and v_dim multiples of 8. */
#include "nvidia/rules.h"

#define BLOCK_Q (16 * ROW_TILES * N_WARPS)

/* Local memory: Q, K (K_STAGES times), V; with Q in registers, K overwrites it. */
#define K_BYTES TILE_BYTES(BLOCK_K, HEAD_DIM)
#define Q_BYTES TILE_BYTES(BLOCK_Q, HEAD_DIM)
#define K_AT    (Q_IN_REGISTERS ? 0 : Q_BYTES)
#define V_AT    (K_AT + K_STAGES * K_BYTES)
#define END_AT  (V_AT + TILE_BYTES(BLOCK_K, V_DIM))
#define LOCAL_BYTES (END_AT > Q_BYTES ? END_AT : Q_BYTES)

#define QUERY_ROW(r) (q_from + (r) / group * query_stride.z + (r) % group * query_stride.y)
#if PAGED
/* The block of position j, in bounds; a wrong one's keys are hidden. */
#define PAGE_GOOD(j) ((uint)table[table_at + s.index * table_stride + (j) / page_size] < (uint)n_pages)
#define PAGE(j)                                                                                                        \
    ((j) < limit ? clamp(table[table_at + s.index * table_stride + (j) / page_size], 0, n_pages - 1) : 0)
#define KEY_ROW(j)   (k_from + PAGE(j) * key_stride.x + (j) % page_size * key_stride.z)
#define VALUE_ROW(j) (v_from + PAGE(j) * value_stride.x + (j) % page_size * value_stride.z)
#else
#define KEY_ROW(j)   (k_from + (j) * key_stride.z)
#define VALUE_ROW(j) (v_from + (j) * value_stride.z)
#endif

/* The first block of keys ≥ key that any of the group's queries sees. */
#if LAYOUT
#define SEEN_BLOCK(block)                                                                                              \
    do {                                                                                                               \
        int best_ = limit;                                                                                             \
        for (int r_ = first_query / layout_block; r_ <= last_query / layout_block; r_++) {                             \
            int high_;                                                                                                 \
            const int at_ = LAYOUT_FIND(r_, (block) / layout_block, &high_);                                           \
            const int column_ = at_ < high_ ? min(INT_AT(layout_columns, at_), limit) : limit;                         \
            if (column_ < (limit + layout_block - 1) / layout_block)                                                   \
                best_ = min(best_, max(block, column_ * layout_block / BLOCK_K * BLOCK_K));                            \
        }                                                                                                              \
        block = best_;                                                                                                 \
    } while (0)
#else
#define SEEN_BLOCK(block) (void)0
#endif

/* In `part_lse`: a row of no sequence, which no sink joins. */
#define NOBODY INFINITY

/* A sink joins a row's sum: *lse becomes log(exp(*lse) + exp(sink)); returns what out is multiplied by. */
WARP_FN float join_sink(float *lse, float sink) {
    const float top = fmax(*lse, sink);
    if (top == -INFINITY) return 0;
    const float own = ex2((*lse - top) * LOG2_E), sum = own + ex2((sink - top) * LOG2_E);
    *lse = top + lg2(sum) * LN_2;
    return own / sum;
}

__attribute__((reqd_work_group_size(N_THREADS, 1, 1))) __kernel void
attention(IN(query), IN(key), IN(value), OUT(out), __global float *lse, const long lse_at, const long4 lse_stride,
          __global const float *sinks, const long sinks_at, RULES, __global const int *table, const long table_at,
          const long table_stride, const int page_size, const int n_pages, __global float *part_out,
          __global float *part_lse, const long n_rows, const int splits, __local uint *local_memory) {
    WARP_BEGIN(w, local_memory, LOCAL_BYTES, N_WARPS);
    const int split = (int)get_group_id(0) % splits, kv_head = (int)get_group_id(1);
    int tile = (int)get_group_id(0) / splits;
    sequence s;
    if (query_starts) {
        for (int i = 0;; i++) {
            PACKED_SEQUENCE(s, i);
            const int tiles = (s.n_q * group + BLOCK_Q - 1) / BLOCK_Q;
            if (tile < tiles || i == sequences) break;
            tile -= tiles;
        }
    } else {
        BATCH_SEQUENCE(s, (int)get_group_id(2));
    }
#if PAGED
    s.n_k = s.end = s.index < sequences ? clamp(INT_AT(lengths, s.index), 0, n_k) : 0;
#endif
    const int shift = s.n_k - s.n_q, end_row = s.n_q * group, first_row = tile * BLOCK_Q;
    const int first_query = first_row / group, last_query = (min(first_row + BLOCK_Q, end_row) - 1) / group;
    const __global ushort *q_from =
        (const __global ushort *)query + query_at + s.entry * query_stride.x + kv_head * group * query_stride.y + s.q_first * query_stride.z;
    const __global ushort *k_from = (const __global ushort *)key + key_at + kv_head * key_stride.y;
    const __global ushort *v_from = (const __global ushort *)value + value_at + kv_head * value_stride.y;
#if !PAGED
    k_from += s.entry * key_stride.x + s.k_first * key_stride.z;
    v_from += s.entry * value_stride.x + s.k_first * value_stride.z;
#endif

    /* the keys that any row sees, and of those, this split's */
    const int all_from = SEEN_FROM(first_query + shift) / BLOCK_K * BLOCK_K;
    const int all_to = first_row < end_row ? SEEN_TO(last_query + shift) : 0;
    const int n_blocks = (max(all_to - all_from, 0) + BLOCK_K - 1) / BLOCK_K;
    const int limit = min(all_to, all_from + (int)((long)n_blocks * (split + 1) / splits) * BLOCK_K);
    int block = all_from + (int)((long)n_blocks * split / splits) * BLOCK_K;
    SEEN_BLOCK(block);

    const uint q_tile = w->local_base, k_tiles = w->local_base + K_AT, v_tile = w->local_base + V_AT;
    const uint a_lane = operand_a(w->lane);
    const int column = (w->lane & 3) * 2;                        /* this lane's, in each 8 of S and O */
    const int warp_row = first_row + w->index * 16 * ROW_TILES; /* this lane's: + lane/4, and + 8, and + 16 a tile */
    const float unit = SCORES ? 1 : scale, factor = unit * LOG2_E; /* of what S holds */

    TILE_LOAD(w, q_tile, BLOCK_Q, HEAD_DIM, QUERY_ROW, first_row, end_row, head_dim);
    cp_async_commit(w);
#if Q_IN_REGISTERS
    uint q[HEAD_DIM / 16][ROW_TILES][4];
    cp_async_wait_group(w, 0);
    block_barrier(w);
    UNROLL for (int k = 0; k < HEAD_DIM / 16; k++)
        UNROLL for (int m = 0; m < ROW_TILES; m++)
            ldmatrix_x4(w, q[k][m], fragment(q_tile, BLOCK_Q, w->index * ROW_TILES + m, k, a_lane));
    block_barrier(w);
#endif
    TILE_LOAD(w, k_tiles, BLOCK_K, HEAD_DIM, KEY_ROW, block, limit, head_dim);
    cp_async_commit(w);

    float o[ROW_TILES][V_DIM / 8][4]; /* unnormalised */
    float row_max[ROW_TILES][2];      /* of the scores (or q·k), of rows lane/4 and lane/4 + 8 */
    float row_sum[ROW_TILES][2];      /* of P, over this lane's columns */
    UNROLL for (int m = 0; m < ROW_TILES; m++) {
        CLEAR(o[m], V_DIM / 8);
        row_max[m][0] = row_max[m][1] = -INFINITY;
        row_sum[m][0] = row_sum[m][1] = 0;
    }

    for (int stage = 0; block < limit; stage ^= 1) {
        const uint k_tile = k_tiles + (K_STAGES == 2 ? stage * K_BYTES : 0);
        int next = block + BLOCK_K;
        SEEN_BLOCK(next);

        TILE_LOAD(w, v_tile, BLOCK_K, V_DIM, VALUE_ROW, block, limit, v_dim);
        cp_async_commit(w);
#if K_STAGES == 2
        if (next < limit) TILE_LOAD(w, k_tiles + (stage ^ 1) * K_BYTES, BLOCK_K, HEAD_DIM, KEY_ROW, next, limit, head_dim);
        cp_async_commit(w);
        cp_async_wait_group(w, 2); /* K is here; V and the next K on their way */
#else
        cp_async_wait_group(w, 1); /* K is here; V on its way */
#endif
#if WGMMA
        wgmma_visible(w);
#endif
        block_barrier(w);

        /* S[16·ROW_TILES × BLOCK_K] = Q·Kᵀ */
        float sc[ROW_TILES][BLOCK_K / 8][4];
#if WGMMA
        wgmma_begin(w);
        UNROLL for (int k = 0; k < HEAD_DIM / 16; k++)
            wgmma(w, BLOCK_K, sc[0], q[k][0], operand_rows(k_tile, BLOCK_K, k), k > 0, 0);
        wgmma_end(w, sc[0], BLOCK_K / 8);
#else
        const uint b_lane = operand_b(fresh(w->lane));
        UNROLL for (int m = 0; m < ROW_TILES; m++) CLEAR(sc[m], BLOCK_K / 8);
        UNROLL for (int k = 0; k < HEAD_DIM / 16; k++) {
#if Q_IN_REGISTERS
#define Q_FRAGMENT(m) q[k][m]
#else
#define Q_FRAGMENT(m) q[m]
            uint q[ROW_TILES][4];
            UNROLL for (int m = 0; m < ROW_TILES; m++)
                ldmatrix_x4(w, q[m], fragment(q_tile, BLOCK_Q, w->index * ROW_TILES + m, k, a_lane));
#endif
            UNROLL for (int j = 0; j < BLOCK_K / 16; j++) {
                uint b[4];
                ldmatrix_x4(w, b, fragment(k_tile, BLOCK_K, j, k, b_lane));
                UNROLL for (int m = 0; m < ROW_TILES; m++) {
                    mma_m16n8k16(w, sc[m][2 * j], Q_FRAGMENT(m), b[0], b[1]);
                    mma_m16n8k16(w, sc[m][2 * j + 1], Q_FRAGMENT(m), b[2], b[3]);
                }
            }
        }
#endif
#if K_STAGES == 1
        block_barrier(w); /* all warps are done with K */
        if (next < limit) TILE_LOAD(w, k_tiles, BLOCK_K, HEAD_DIM, KEY_ROW, next, limit, head_dim);
        cp_async_commit(w);
#endif

        /* Scores, and −∞ where a key is hidden: only where one of this warp's rows does not see the whole block. */
        bool partial = block + BLOCK_K > min(SEEN_TO(warp_row / group + shift), limit) ||
                       block < SEEN_FROM((warp_row + 16 * ROW_TILES - 1) / group + shift);
#if LAYOUT
        partial |= first_query / layout_block != last_query / layout_block || layout_block % BLOCK_K != 0;
#endif
#if PAGED
        for (int j = block; j < min(block + BLOCK_K, limit); j += page_size) partial |= !PAGE_GOOD(j);
        partial |= !PAGE_GOOD(min(block + BLOCK_K, limit) - 1);
#endif
        if (SCORES || partial) {
            const int lane = (int)fresh((uint)w->lane), first = block + (lane & 3) * 2;
            UNROLL for (int m = 0; m < ROW_TILES; m++)
                UNROLL for (int h = 0; h < 2; h++) {
                    const int row = warp_row + m * 16 + h * 8 + (lane >> 2), i = row / group;
                    const int from = SEEN_FROM(i + shift), to = row < end_row ? min(SEEN_TO(i + shift), limit) : 0;
#if LAYOUT
                    uint seen = 0; /* a bit for each 16 keys */
                    for (int b = 0; b < BLOCK_K / 16; b++) {
                        bool has;
                        LAYOUT_HAS(has, i / layout_block, (block + 16 * b) / layout_block);
                        seen |= (uint)has << b;
                    }
#endif
#if SCORES
                    const int head = kv_head * group + row % group;
                    const float slope = alibi ? alibi[alibi_at + head] : 0;
                    const long mask_row = mask_at + s.entry * mask_stride.x + head * mask_stride.y +
                                          (s.q_first + i) * mask_stride.z + s.k_first * mask_stride.w;
#endif
                    UNROLL for (int j = 0; j < BLOCK_K / 8; j++)
                        UNROLL for (int e = 0; e < 2; e++) {
                            const int at = first + j * 8 + e;
                            float *x = &sc[m][j][2 * h + e];
                            bool visible = at >= from && at < to;
#if LAYOUT
                            visible = visible && (seen >> (j >> 1) & 1);
#endif
#if PAGED
                            visible = visible && PAGE_GOOD(at);
#endif
#if SCORES
                            float ignored;
                            if (visible) *x = score_of(*x, scale, softcap, slope, i + shift - at, &ignored);
                            if (visible && mask) *x += mask_value(mask, mask_row + at * mask_stride.w, mask_f32);
#endif
                            if (!visible) *x = -INFINITY;
                        }
                }
        }

        /* P = exp(S − max), as the A operand of P·V; what O and the sum held is scaled to the new maximum. */
        uint p[ROW_TILES][BLOCK_K / 8][2];
        UNROLL for (int m = 0; m < ROW_TILES; m++)
            UNROLL for (int h = 0; h < 2; h++) {
                float top = row_max[m][h];
                UNROLL for (int j = 0; j < BLOCK_K / 8; j++)
                    top = fmax(top, fmax(sc[m][j][2 * h], sc[m][j][2 * h + 1]));
                top = fmax(top, warp_shfl_xor(w, top, 1));
                top = fmax(top, warp_shfl_xor(w, top, 2));
                const float base = top == -INFINITY ? 0.0f : top;
                const float rescale = weight(row_max[m][h], base, factor);
                float sum = 0;
                UNROLL for (int j = 0; j < BLOCK_K / 8; j++) {
                    float p0 = weight(sc[m][j][2 * h], base, factor), p1 = weight(sc[m][j][2 * h + 1], base, factor);
                    sum += p0 + p1;
#if DROPOUT
                    const int row = warp_row + m * 16 + h * 8 + (w->lane >> 2);
                    const uint2 word = philox(seed, (block + j * 8 + column) >> 2, row / group,
                                              kv_head * group + row % group, s.index, column & 2);
                    p0 = word.x >= dropout ? p0 : 0;
                    p1 = word.y >= dropout ? p1 : 0;
#endif
                    p[m][j][h] = pack(p0, p1);
                }
                row_max[m][h] = top;
                row_sum[m][h] = fma(row_sum[m][h], rescale, sum);
                UNROLL for (int j = 0; j < V_DIM / 8; j++) {
                    o[m][j][2 * h] *= rescale;
                    o[m][j][2 * h + 1] *= rescale;
                }
            }

        cp_async_wait_group(w, 1); /* V is here; the next K on its way */
#if WGMMA
        wgmma_visible(w);
#endif
        block_barrier(w);

        /* O[16·ROW_TILES × V_DIM] += P·V */
#if WGMMA
        wgmma_begin(w);
        UNROLL for (int k = 0; k < BLOCK_K / 16; k++) {
            uint a[4];
            as_operand_a(a, p[0], k);
            wgmma(w, V_DIM, o[0], a, operand_columns(v_tile, BLOCK_K, k), 1, 1);
        }
        wgmma_end(w, o[0], V_DIM / 8);
#else
        const uint v_lane = operand_a(fresh(w->lane));
        UNROLL for (int k = 0; k < BLOCK_K / 16; k++)
            UNROLL for (int j = 0; j < V_DIM / 16; j++) {
                uint b[4];
                ldmatrix_x4_trans(w, b, fragment(v_tile, BLOCK_K, k, j, v_lane));
                UNROLL for (int m = 0; m < ROW_TILES; m++) {
                    uint a[4];
                    as_operand_a(a, p[m], k);
                    mma_m16n8k16(w, o[m][2 * j], a, b[0], b[1]);
                    mma_m16n8k16(w, o[m][2 * j + 1], a, b[2], b[3]);
                }
            }
#endif
        block_barrier(w); /* all warps are done with V */
        block = next;
    }

    UNROLL for (int m = 0; m < ROW_TILES; m++)
        UNROLL for (int h = 0; h < 2; h++) {
            float sum = row_sum[m][h];
            sum += warp_shfl_xor(w, sum, 1);
            sum += warp_shfl_xor(w, sum, 2);
            const int row = warp_row + m * 16 + h * 8 + (w->lane >> 2), i = s.q_first + row / group;
            const int head = kv_head * group + row % group;
            float row_lse = sum > 0 ? row_max[m][h] * unit + lg2(sum) * LN_2 : -INFINITY;
            float inverse = sum > 0 ? 1 / sum : 0;
#if DROPOUT
            inverse /= 1 - dropout * 0x1p-32f;
#endif
            const long part_at = split * n_rows + ((long)s.entry * heads + head) * n_q + i;
            if (row < end_row && splits > 1) {
                if (column == 0) part_lse[part_at] = s.index < sequences ? row_lse : NOBODY;
                UNROLL for (int j = 0; j < V_DIM / 8; j++)
                    if (j * 8 < v_dim)
                        *(__global float2 *)(part_out + part_at * v_dim + j * 8 + column) =
                            (float2)(o[m][j][2 * h] * inverse, o[m][j][2 * h + 1] * inverse);
            } else if (row < end_row) {
                if (sinks && s.index < sequences) inverse *= join_sink(&row_lse, sinks[sinks_at + head]);
                if (lse && column == 0)
                    lse[lse_at + s.entry * lse_stride.y + head * lse_stride.z + i * lse_stride.w] = row_lse;
                __global ushort *to = (__global ushort *)out + out_at + s.entry * out_stride.x + head * out_stride.y +
                                      i * out_stride.z + column;
                UNROLL for (int j = 0; j < V_DIM / 8; j++)
                    if (j * 8 < v_dim) store_pair(to + j * 8, o[m][j][2 * h] * inverse, o[m][j][2 * h + 1] * inverse);
            }
        }
}

/* Grid: (queries, heads, batch) of 32 items, two columns each at a time. */
__attribute__((reqd_work_group_size(32, 1, 1))) __kernel void
attention_join(__global const float *part_out, __global const float *part_lse, const long n_rows, const int splits,
               OUT(out), __global float *lse, const long lse_at, const long4 lse_stride, __global const float *sinks,
               const long sinks_at, const int n_q, const int heads, const int v_dim) {
    const int i = (int)get_group_id(0), head = (int)get_group_id(1), entry = (int)get_group_id(2);
    const long row = ((long)entry * heads + head) * n_q + i;
    float top = -INFINITY, sum = 0;
    for (int k = 0; k < splits; k++) top = fmax(top, part_lse[k * n_rows + row]);
    const float base = top == -INFINITY || top == NOBODY ? 0.0f : top;
    for (int k = 0; k < splits && top != NOBODY; k++) sum += ex2((part_lse[k * n_rows + row] - base) * LOG2_E);
    float row_lse = sum > 0 ? base + lg2(sum) * LN_2 : -INFINITY;
    float inverse = sum > 0 ? 1 / sum : 0;
    if (sinks && top != NOBODY) inverse *= join_sink(&row_lse, sinks[sinks_at + head]);
    if (lse && get_local_id(0) == 0)
        lse[lse_at + entry * lse_stride.y + head * lse_stride.z + i * lse_stride.w] = row_lse;
    __global ushort *to =
        (__global ushort *)out + out_at + entry * out_stride.x + head * out_stride.y + i * out_stride.z;
    for (int c = 2 * (int)get_local_id(0); c < v_dim; c += 64) {
        float2 total = 0;
        for (int k = 0; k < splits; k++) {
            const long at = k * n_rows + row;
            total += ex2((sum > 0 ? part_lse[at] - base : 0) * LOG2_E) * *(__global const float2 *)(part_out + at * v_dim + c);
        }
        store_pair(to + c, total.x * inverse, total.y * inverse);
    }
}
