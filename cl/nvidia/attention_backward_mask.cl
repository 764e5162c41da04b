/* attention_backward_mask.cl: the gradient of attention's mask on tensor cores, as in attention_backward.cl:
 *
 *     d_mask = Σ dS, dS = P ∘ (Z ∘ dP − D)        of all pairs that an element of the mask is added to
 *
 * A group has a tile of the mask, BLOCK queries × STEP keys; a mask that is repeated over queries, or keys, has one
 * tile of them. It goes through what the tile is repeated over, sequences, heads, queries and keys, in order, makes S
 * and dP once more and sums dS, which isn't rounded, in registers: no atomics, the same bits every time.
 *
 * Where a mask has few tiles, `splits` groups share one: they take turns at its heads and tiles of queries, each leaves
 * a part of the mask's size, and attention_mask_join adds the parts in order.
 *
 * Options: those of backward.h; SCORES is 1. */
#include "nvidia/rules.h"

#include "nvidia/backward.h"

#define TOTAL 0 /* in local memory, N_WARPS parts of each key's sum */

/* Grid: tiles of the mask's queries, of its keys, its heads · batches · splits. mask_…: the mask's shape; d_mask: the
 * parts, one after another, or with one split the gradient itself. */
__attribute__((reqd_work_group_size(N_THREADS, 1, 1))) __kernel void
attention_backward_mask(IN(query), IN(key), IN(value), IN(d_out), __global const float2 *rows, __global float *d_mask,
                        const long d_mask_at, const long4 d_mask_stride, const int mask_batch, const int mask_heads,
                        const int mask_queries, const int mask_keys, const int batch, const int splits, RULES,
                        __local uint *local_memory) {
    WARP_BEGIN(w, local_memory, LOCAL_BYTES, N_WARPS);
    const bool all_queries = mask_queries == 1, all_keys = mask_keys == 1;
    const int split = (int)get_group_id(2) % splits, mask_index = (int)get_group_id(2) / splits;
    const int mask_entry = mask_index / mask_heads, mask_head = mask_index % mask_heads;
    const int head_end = mask_heads == 1 ? heads : mask_head + 1;
    int query_tile = (int)get_group_id(0), key_tile = (int)get_group_id(1);
    sequence of_queries, of_keys; /* which have the tile's rows and columns */
    FIND_QUERIES(of_queries, query_tile, mask_entry);
    FIND_KEYS(of_keys, key_tile, STEP, mask_entry);
    const int own_query = query_tile * BLOCK, own_key = key_tile * STEP;
    int index = mask_entry, index_end = mask_batch == 1 ? batch : mask_entry + 1; /* sequences that the tile serves */
    if (query_starts) {
        index = all_queries ? all_keys ? 0 : of_keys.index : of_queries.index;
        index_end = all_queries && all_keys ? sequences : index + 1;
        if (!all_queries && !all_keys && of_queries.index != of_keys.index) index_end = index; /* they don't meet */
    }

    const int column = (w->lane & 3) * 2;                /* a key, in each 8 of the step */
    const int warp_row = w->index * 16 + (w->lane >> 2); /* a query; and + 8 */
    float sums[STEP / 8][4];
    CLEAR(sums, STEP / 8);
#if DROPOUT
    const float kept = 1 / (1 - dropout * 0x1p-32f);
#endif

    int turn = split + 1; /* this group's when it has come down to 0 */
    for (; index < index_end; index++) {
        sequence s;
        if (query_starts)
            PACKED_SEQUENCE(s, index);
        else
            BATCH_SEQUENCE(s, index);
        const int shift = s.n_k - s.n_q;
        for (int own_head = mask_heads == 1 ? 0 : mask_head; own_head < head_end; own_head++) {
            const int query_end = all_queries ? s.n_q : min(own_query + 1, s.n_q);
            for (int m = all_queries ? 0 : own_query; m < query_end; m += BLOCK) {
                if (--turn) continue;
                turn = splits;
                const int last_query = min(m + BLOCK, s.n_q) - 1;
                const int seen_from = SEEN_FROM(m + shift) / STEP * STEP, limit = SEEN_TO(last_query + shift);
                const int key_end = all_keys ? limit : min(own_key + 1, limit);
                for (int n = all_keys ? seen_from : max(own_key, seen_from); n < key_end; n += STEP) {
                    if (!LAYOUT_MEETS(m, last_query, n, n + STEP - 1)) continue;
                    /* addresses are computed in each step: kept throughout, they cost spills */
                    const int head = (int)fresh((uint)own_head), kv_head = head / group, first = (int)fresh((uint)m);
                    const __global ushort *q_from = ROWS_FROM(query, s.entry, head, s.q_first);
                    const __global ushort *g_from = ROWS_FROM(d_out, s.entry, head, s.q_first);
                    const __global ushort *k_from = ROWS_FROM(key, s.entry, kv_head, s.k_first);
                    const __global ushort *v_from = ROWS_FROM(value, s.entry, kv_head, s.k_first);
#define QUERY_ROW(i) (q_from + (i)*query_stride.z)
#define D_OUT_ROW(i) (g_from + (i)*d_out_stride.z)
#define KEY_ROW(j)   (k_from + (j)*key_stride.z)
#define VALUE_ROW(j) (v_from + (j)*value_stride.z)
                    TILE_LOAD(w, w->local_base + OWN_0, BLOCK, HEAD_DIM, QUERY_ROW, first, s.n_q, head_dim);
                    TILE_LOAD(w, w->local_base + OWN_1, BLOCK, V_DIM, D_OUT_ROW, first, s.n_q, v_dim);
                    TILE_LOAD(w, w->local_base + OTHER_0, STEP, HEAD_DIM, KEY_ROW, n, limit, head_dim);
                    TILE_LOAD(w, w->local_base + OTHER_1, STEP, V_DIM, VALUE_ROW, n, limit, v_dim);
                    cp_async_commit(w);
                    cp_async_wait_group(w, 0);
                    block_barrier(w);

                    float x[STEP / 8][4], dp[STEP / 8][4]; /* S, dP: 16 queries × STEP keys */
                    PRODUCT(x, OWN_0, OTHER_0, HEAD_DIM);
                    PRODUCT(dp, OWN_1, OTHER_1, V_DIM);

                    const float slope = alibi ? alibi[alibi_at + head] : 0;
                    const __global float2 *head_rows = rows + ((long)s.entry * heads + head) * n_q + s.q_first;
                    const long mask_from = mask_at + s.entry * mask_stride.x + head * mask_stride.y +
                                           s.q_first * mask_stride.z + s.k_first * mask_stride.w;
                    const int lane = (int)fresh((uint)w->lane), first_key = n + (lane & 3) * 2;
                    UNROLL for (int h = 0; h < 2; h++) {
                        const int i = m + w->index * 16 + (lane >> 2) + 8 * h;
                        const int from = SEEN_FROM(i + shift), to = i < s.n_q ? min(SEEN_TO(i + shift), limit) : 0;
                        const float2 row = i < s.n_q ? head_rows[i] : (float2)(INFINITY, 0.0f);
                        UNROLL for (int j = 0; j < STEP / 8; j++) {
#if DROPOUT
                            const uint2 word = philox(seed, (first_key + j * 8) >> 2, i, head, s.index, first_key & 2);
#endif
                            UNROLL for (int e = 0; e < 2; e++) {
                                const int at = first_key + j * 8 + e;
                                bool visible = at >= from && at < to;
#if LAYOUT
                                if (visible) LAYOUT_HAS(visible, i / layout_block, at / layout_block);
#endif
                                float score = -INFINITY, ignored;
                                if (visible) {
                                    score = score_of(x[j][2 * h + e], scale, softcap, slope, i + shift - at, &ignored);
                                    score += mask_value(mask, mask_from + i * mask_stride.z + at * mask_stride.w,
                                                        mask_f32);
                                }
                                float dp_kept = dp[j][2 * h + e];
#if DROPOUT
                                dp_kept = (e ? word.y : word.x) < dropout ? 0 : dp_kept * kept;
#endif
                                sums[j][2 * h + e] += PROBABILITY(score, row.x) * (dp_kept - row.y);
                            }
                        }
                    }
                    block_barrier(w); /* all warps are done with the tiles */
                }
            }
        }
    }

    if (all_keys) /* each query's sum, in its four lanes' first column */
        UNROLL for (int h = 0; h < 2; h++) {
            float sum = 0;
            UNROLL for (int j = 0; j < STEP / 8; j++) sum += sums[j][2 * h] + sums[j][2 * h + 1];
            sum += warp_shfl_xor(w, sum, 1);
            sum += warp_shfl_xor(w, sum, 2);
            sums[0][2 * h] = sum;
        }
    const long to = d_mask_at + (long)split * mask_batch * mask_heads * mask_queries * mask_keys +
                    mask_entry * d_mask_stride.x + mask_head * d_mask_stride.y +
                    (all_queries ? 0 : of_queries.q_first * d_mask_stride.z) +
                    (all_keys ? 0 : of_keys.k_first * d_mask_stride.w);
    const int n_columns = all_keys ? 1 : min(STEP, of_keys.n_k - own_key);
    if (all_queries) {
        UNROLL for (int j = 0; j < STEP / 8; j++)
            UNROLL for (int e = 0; e < 2; e++) {
                float sum = sums[j][e] + sums[j][2 + e];
                sum += warp_shfl_xor(w, sum, 4);
                sum += warp_shfl_xor(w, sum, 8);
                sum += warp_shfl_xor(w, sum, 16);
                if (w->lane < 4)
                    local_put(w, w->local_base + TOTAL + ((j * 8 + column + e) * N_WARPS + w->index) * 4, sum);
            }
        block_barrier(w);
        const int c = w->index * 32 + w->lane;
        if (c < n_columns) {
            float sum = 0;
            UNROLL for (int n = 0; n < N_WARPS; n++)
                sum += local_get(w, w->local_base + TOTAL + (c * N_WARPS + n) * 4);
            d_mask[to + (own_key + c) * d_mask_stride.w] = sum;
        }
    } else {
        UNROLL for (int h = 0; h < 2; h++) {
            const int i = own_query + warp_row + 8 * h;
            if (i < of_queries.n_q)
                UNROLL for (int j = 0; j < STEP / 8; j++)
                    UNROLL for (int e = 0; e < 2; e++) {
                        const int c = j * 8 + column + e;
                        const long at = to + i * d_mask_stride.z + (own_key + c) * d_mask_stride.w;
                        if (c < n_columns) d_mask[at] = sums[j][2 * h + e];
                    }
        }
    }
}

/* Grid: (⌈elements / 64⌉) of 64 items. shape: the mask's; parts[splits][elements]. */
__attribute__((reqd_work_group_size(64, 1, 1))) __kernel void
attention_mask_join(__global const float *parts, const int splits, const uint4 shape, __global float *d_mask,
                             const long d_mask_at, const long4 d_mask_stride) {
    const uint elements = shape.x * shape.y * shape.z * shape.w, i = (uint)get_global_id(0);
    if (i >= elements) return;
    float sum = 0;
    for (int n = 0; n < splits; n++) sum += parts[(long)n * elements + i];
    const uint row = i / shape.w, head = row / shape.z;
    d_mask[d_mask_at + head / shape.y * d_mask_stride.x + head % shape.y * d_mask_stride.y +
           row % shape.z * d_mask_stride.z + i % shape.w * d_mask_stride.w] = sum;
}
