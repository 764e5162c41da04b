/* attention_backward.cl: gradients of attention on tensor cores, P being recomputed from the LSE (arXiv:2205.14135):
 *
 *     P  = exp(score − LSE)       D  = rowsum(dO ∘ O)       Z = kept ÷ (1 − dropout)
 *     dV = (P ∘ Z)ᵀ·dO            dP = dO·Vᵀ                dS = P ∘ (Z ∘ dP − D)
 *     dQ = scale · (dS ∘ cap′)·K, dK = scale · (dS ∘ cap′)ᵀ·Q
 *
 * attention_backward_rows   {what P's exponent takes off, D} of each query.
 * attention_backward_keys   dK and dV: a block of keys of one key/value head against all queries of its heads. It works
 *                           on Sᵀ = K·Qᵀ and dPᵀ = V·dOᵀ, so that Pᵀ and dSᵀ are A operands as they stand.
 * attention_backward_queries  dQ: a block of queries of one head against all keys; and Σ −dS · distance of each query.
 * attention_backward_heads  the gradients of sinks and ALiBi slopes: sums over a head's queries.
 *
 * That of a mask is attention_backward_mask.cl's.
 *
 * No atomics: the same bits every time. Each warp has 16 rows of its block: BLOCK = 16·N_WARPS keys or queries, against
 * STEP queries or keys at a time. P, Z∘P and dS are rounded to 16 bits as operands.
 *
 * Options: those of backward.h · GRADIENTS: which of dK (1) and dV (2) attention_backward_keys makes: registers hold
 * both only up to 128 columns each. */
#include "nvidia/rules.h"

#include "nvidia/backward.h"

#define MAKES_K (GRADIENTS & 1)
#define MAKES_V (GRADIENTS & 2)

/* Two neighbouring elements of a gradient. */
WARP_FN void store_gradient(__global void *to, long at, int is_f32, float low, float high) {
    if (is_f32)
        *(__global float2 *)((__global float *)to + at) = (float2)(low, high);
    else
        store_pair((__global ushort *)to + at, low, high);
}

/* Grid: (⌈n_q / 64⌉, heads, batch) of 64 items. Where a query sees no key, the lse becomes +∞, which makes P = 0. */
__attribute__((reqd_work_group_size(64, 1, 1))) __kernel void
attention_backward_rows(IN(out), IN(d_out), __global const float *lse, const long lse_at, const long4 lse_stride,
                        __global float2 *rows, const int n_q, const int heads, const int v_dim) {
    const int i = (int)(get_group_id(0) * 64 + get_local_id(0)), head = (int)get_group_id(1), entry = (int)get_group_id(2);
    if (i >= n_q) return;
    const __global ushort *o = ROWS_FROM(out, entry, head, i);
    const __global ushort *g = ROWS_FROM(d_out, entry, head, i);
    const float x = lse[lse_at + entry * lse_stride.y + head * lse_stride.z + i * lse_stride.w];
    float delta = 0;
    for (int c = 0; c < v_dim; c++) delta = fma(unpack(o[c]), unpack(g[c]), delta);
    const bool sees = x != -INFINITY;
    rows[((long)entry * heads + head) * n_q + i] =
        (float2)(sees ? x * (SCORES ? 1 : LOG2_E) : INFINITY, sees ? delta : 0.0f);
}

__attribute__((reqd_work_group_size(N_THREADS, 1, 1))) __kernel void
attention_backward_keys(IN(query), IN(key), IN(value), IN(d_out), __global const float2 *rows, OUT(d_key),
                        const int d_key_f32, OUT(d_value), const int d_value_f32, RULES, __local uint *local_memory) {
    WARP_BEGIN(w, local_memory, LOCAL_BYTES, N_WARPS);
    const int kv_head = (int)get_group_id(1);
    int tile = (int)get_group_id(0);
    sequence s;
    FIND_KEYS(s, tile, BLOCK, (int)get_group_id(2));
    const int first_key = tile * BLOCK, shift = s.n_k - s.n_q;
    const __global ushort *k_from = ROWS_FROM(key, s.entry, kv_head, s.k_first);
    const __global ushort *v_from = ROWS_FROM(value, s.entry, kv_head, s.k_first);
#define KEY_ROW(j)   (k_from + (j) * key_stride.z)
#define VALUE_ROW(j) (v_from + (j) * value_stride.z)
    TILE_LOAD(w, w->local_base + OWN_0, BLOCK, HEAD_DIM, KEY_ROW, first_key, s.end, head_dim);
    if (MAKES_K) TILE_LOAD(w, w->local_base + OWN_1, BLOCK, V_DIM, VALUE_ROW, first_key, s.end, v_dim);
    cp_async_commit(w);

    float dk[HEAD_DIM / 8][4], dv[V_DIM / 8][4];
    CLEAR(dk, HEAD_DIM / 8);
    CLEAR(dv, V_DIM / 8);

    /* queries that see any key here */
    const int last_key = min(first_key + BLOCK, s.end) - 1;
    const int first_query = max(0, first_key - right + 1 - shift) / STEP * STEP;
    const int end_query = last_key >= first_key ? min(s.n_q, last_key + left - shift) : 0;
#if DROPOUT
    const float kept = 1 / (1 - dropout * 0x1p-32f);
#endif

    for (int head = kv_head * group; head < (kv_head + 1) * group; head++) {
        const __global ushort *q_from = ROWS_FROM(query, s.entry, head, s.q_first);
        const __global ushort *g_from = ROWS_FROM(d_out, s.entry, head, s.q_first);
        const __global float2 *head_rows = rows + ((long)s.entry * heads + head) * n_q + s.q_first;
#define QUERY_ROW(i) (q_from + (i) * query_stride.z)
#define D_OUT_ROW(i) (g_from + (i) * d_out_stride.z)
        for (int m = first_query; m < end_query; m += STEP) {
            if (!LAYOUT_MEETS(m, min(m + STEP, s.n_q) - 1, first_key, last_key)) continue;
            TILE_LOAD(w, w->local_base + OTHER_0, STEP, HEAD_DIM, QUERY_ROW, m, s.n_q, head_dim);
            TILE_LOAD(w, w->local_base + OTHER_1, STEP, V_DIM, D_OUT_ROW, m, s.n_q, v_dim);
            cp_async_commit(w);
            cp_async_wait_group(w, 0);
            block_barrier(w);

            float x[STEP / 8][4], dp[STEP / 8][4]; /* Sᵀ, later Pᵀ ∘ cap′; dPᵀ: 16 keys × STEP queries */
            PRODUCT(x, OWN_0, OTHER_0, HEAD_DIM);

            const int lane = fresh(w->lane), column = m + (lane & 3) * 2;  /* a query, in each 8 of the step */
            const int key_row = first_key + w->index * 16 + (lane >> 2); /* and + 8 */
#if SCORES
            float cap_slope[STEP / 8][4];
            const float slope = alibi ? alibi[alibi_at + head] : 0;
            const long mask_head = mask_at + s.entry * mask_stride.x + head * mask_stride.y +
                                   s.q_first * mask_stride.z + s.k_first * mask_stride.w;
#endif
            if (SCORES || LAYOUT || first_key + BLOCK > m + shift + right || first_key < m + STEP + shift - left) {
                UNROLL for (int j = 0; j < STEP / 8; j++)
                    UNROLL for (int e = 0; e < 4; e++) {
                        const int i = column + j * 8 + (e & 1), at = key_row + (e >> 1) * 8;
                        bool visible = at >= SEEN_FROM(i + shift) && at < SEEN_TO(i + shift) && i < s.n_q;
#if LAYOUT
                        if (visible) LAYOUT_HAS(visible, i / layout_block, at / layout_block);
#endif
#if SCORES
                        cap_slope[j][e] = 1;
                        if (visible) x[j][e] = score_of(x[j][e], scale, softcap, slope, i + shift - at, &cap_slope[j][e]);
                        if (visible && mask)
                            x[j][e] += mask_value(mask, mask_head + i * mask_stride.z + at * mask_stride.w, mask_f32);
#endif
                        if (!visible) x[j][e] = -INFINITY;
                    }
            }

            uint p[STEP / 8][2], ds[STEP / 8][2]; /* (P ∘ Z)ᵀ, dSᵀ, packed */
#if DROPOUT
            uint dropped = 0; /* a bit for each of x */
#define DRAW(j, h, i, at)                                                                                              \
    UNROLL for (int e = 0; e < 2; e++) {                                                                               \
        const uint2 word = philox(seed, (at) >> 2, (i) + e, head, s.index, (at) & 2);                                  \
        dropped |= (uint)(((at) & 1 ? word.y : word.x) < dropout) << ((j) * 4 + 2 * (h) + e);                          \
    }
#define Z(j, e) (dropped >> ((j) * 4 + (e)) & 1 ? 0.0f : kept)
#else
#define DRAW(j, h, i, at)
#define Z(j, e) 1.0f
#endif
            UNROLL for (int j = 0; j < STEP / 8; j++) {
                const int i = column + j * 8;
                const float row0 = i < s.n_q ? head_rows[i].x : INFINITY;
                const float row1 = i + 1 < s.n_q ? head_rows[i + 1].x : INFINITY;
                UNROLL for (int h = 0; h < 2; h++) {
                    x[j][2 * h] = PROBABILITY(x[j][2 * h], row0);
                    x[j][2 * h + 1] = PROBABILITY(x[j][2 * h + 1], row1);
                    if (MAKES_V) {
                        DRAW(j, h, i, key_row + 8 * h);
                        p[j][h] = pack(x[j][2 * h] * Z(j, 2 * h), x[j][2 * h + 1] * Z(j, 2 * h + 1));
                    }
#if SCORES
                    x[j][2 * h] *= cap_slope[j][2 * h];
                    x[j][2 * h + 1] *= cap_slope[j][2 * h + 1];
#endif
                }
            }

            if (MAKES_K) { /* only now: held beside x for longer, dP costs spills */
                PRODUCT(dp, OWN_1, OTHER_1, V_DIM);
                UNROLL for (int j = 0; j < STEP / 8; j++) {
                    const int i = (MAKES_V ? column : m + (fresh(w->lane) & 3) * 2) + j * 8;
                    const float d0 = i < s.n_q ? head_rows[i].y : 0, d1 = i + 1 < s.n_q ? head_rows[i + 1].y : 0;
                    UNROLL for (int h = 0; h < 2; h++) {
                        if (!MAKES_V) DRAW(j, h, i, first_key + w->index * 16 + (fresh(w->lane) >> 2) + 8 * h);
                        ds[j][h] = pack(x[j][2 * h] * (dp[j][2 * h] * Z(j, 2 * h) - d0),
                                        x[j][2 * h + 1] * (dp[j][2 * h + 1] * Z(j, 2 * h + 1) - d1));
                    }
                }
            }
            if (MAKES_V) ACCUMULATE(dv, p, OTHER_1, V_DIM);
            if (MAKES_K) ACCUMULATE(dk, ds, OTHER_0, HEAD_DIM);
            block_barrier(w); /* all warps are done with Q and dO */
        }
    }

    UNROLL for (int h = 0; h < 2; h++) {
        const int row = first_key + w->index * 16 + (w->lane >> 2) + 8 * h, c = (w->lane & 3) * 2;
        const bool keep = row < s.end;
        if (MAKES_K && row < s.n_k && d_key) {
            const long at = d_key_at + s.entry * d_key_stride.x + kv_head * d_key_stride.y +
                            (s.k_first + row) * d_key_stride.z + c;
            UNROLL for (int j = 0; j < HEAD_DIM / 8; j++)
                if (j * 8 < head_dim)
                    store_gradient(d_key, at + j * 8, d_key_f32, keep ? dk[j][2 * h] * scale : 0,
                                   keep ? dk[j][2 * h + 1] * scale : 0);
        }
        if (MAKES_V && row < s.n_k && d_value) {
            const long at = d_value_at + s.entry * d_value_stride.x + kv_head * d_value_stride.y +
                            (s.k_first + row) * d_value_stride.z + c;
            UNROLL for (int j = 0; j < V_DIM / 8; j++)
                if (j * 8 < v_dim)
                    store_gradient(d_value, at + j * 8, d_value_f32, keep ? dv[j][2 * h] : 0,
                                   keep ? dv[j][2 * h + 1] : 0);
        }
    }
#undef QUERY_ROW
#undef D_OUT_ROW
}

__attribute__((reqd_work_group_size(N_THREADS, 1, 1))) __kernel void
attention_backward_queries(IN(query), IN(key), IN(value), IN(d_out), __global const float2 *rows, OUT(d_query),
                           const int d_query_f32, __global float *slopes /* one a row, as rows; or NULL */, RULES,
                           __local uint *local_memory) {
    WARP_BEGIN(w, local_memory, LOCAL_BYTES, N_WARPS);
    const int head = (int)get_group_id(1), kv_head = head / group;
    int tile = (int)get_group_id(0);
    sequence s;
    FIND_QUERIES(s, tile, (int)get_group_id(2));
    const int first_query = tile * BLOCK, last_query = min(first_query + BLOCK, s.n_q) - 1, shift = s.n_k - s.n_q;
    const int limit = last_query >= first_query ? SEEN_TO(last_query + shift) : 0; /* of the keys that any row sees */
    const __global ushort *q_from = ROWS_FROM(query, s.entry, head, s.q_first);
    const __global ushort *g_from = ROWS_FROM(d_out, s.entry, head, s.q_first);
    const __global ushort *k_from = ROWS_FROM(key, s.entry, kv_head, s.k_first);
    const __global ushort *v_from = ROWS_FROM(value, s.entry, kv_head, s.k_first);
#define QUERY_ROW(i) (q_from + (i) * query_stride.z)
#define D_OUT_ROW(i) (g_from + (i) * d_out_stride.z)
    TILE_LOAD(w, w->local_base + OWN_0, BLOCK, HEAD_DIM, QUERY_ROW, first_query, s.n_q, head_dim);
    TILE_LOAD(w, w->local_base + OWN_1, BLOCK, V_DIM, D_OUT_ROW, first_query, s.n_q, v_dim);
    cp_async_commit(w);

    const int column = (w->lane & 3) * 2;                          /* a key, in each 8 of the step */
    const int row = first_query + w->index * 16 + (w->lane >> 2); /* a query; and + 8 */
    const long first_row = ((long)s.entry * heads + head) * n_q + s.q_first;
    const __global float2 *head_rows = rows + first_row;
    float dq[HEAD_DIM / 8][4];
    CLEAR(dq, HEAD_DIM / 8);
#if SCORES
    float by_slope[2] = {0, 0};
    const float slope = alibi ? alibi[alibi_at + head] : 0;
    const long mask_head = mask_at + s.entry * mask_stride.x + head * mask_stride.y + s.q_first * mask_stride.z +
                           s.k_first * mask_stride.w;
#endif
#if DROPOUT
    const float kept = 1 / (1 - dropout * 0x1p-32f);
#endif

    for (int n = SEEN_FROM(first_query + shift) / STEP * STEP; n < limit; n += STEP) {
        if (!LAYOUT_MEETS(first_query, last_query, n, n + STEP - 1)) continue;
        TILE_LOAD(w, w->local_base + OTHER_0, STEP, HEAD_DIM, KEY_ROW, n, limit, head_dim);
        TILE_LOAD(w, w->local_base + OTHER_1, STEP, V_DIM, VALUE_ROW, n, limit, v_dim);
        cp_async_commit(w);
        cp_async_wait_group(w, 0);
        block_barrier(w);

        float x[STEP / 8][4], dp[STEP / 8][4]; /* S, dP: 16 queries × STEP keys */
        PRODUCT(x, OWN_0, OTHER_0, HEAD_DIM);
        PRODUCT(dp, OWN_1, OTHER_1, V_DIM);

        uint ds[STEP / 8][2];
        const int warp_row = first_query + w->index * 16;
        const bool partial = SCORES || LAYOUT || n + STEP > min(SEEN_TO(warp_row + shift), limit) ||
                             n < SEEN_FROM(warp_row + 15 + shift);
        const int first = n + (SCORES ? (int)(fresh((uint)w->lane) & 3) * 2 : column);
        UNROLL for (int h = 0; h < 2; h++) {
            const int i = row + 8 * h, from = SEEN_FROM(i + shift), to = min(SEEN_TO(i + shift), limit);
            const float2 r = i < s.n_q ? head_rows[i] : (float2)(INFINITY, 0.0f);
            UNROLL for (int j = 0; j < STEP / 8; j++) {
                float d[2];
#if DROPOUT
                const uint2 word = philox(seed, (first + j * 8) >> 2, i, head, s.index, first & 2);
#endif
                UNROLL for (int e = 0; e < 2; e++) {
                    const int at = first + j * 8 + e;
                    float score = x[j][2 * h + e];
#if SCORES
                    float cap_slope = 1;
#endif
                    if (partial) {
                        bool visible = at >= from && at < to && i < s.n_q;
#if LAYOUT
                        if (visible) LAYOUT_HAS(visible, i / layout_block, at / layout_block);
#endif
#if SCORES
                        if (visible) score = score_of(score, scale, softcap, slope, i + shift - at, &cap_slope);
                        if (visible && mask)
                            score += mask_value(mask, mask_head + i * mask_stride.z + at * mask_stride.w, mask_f32);
#endif
                        if (!visible) score = -INFINITY;
                    }
                    float dp_kept = dp[j][2 * h + e];
#if DROPOUT
                    dp_kept = (e ? word.y : word.x) < dropout ? 0 : dp_kept * kept;
#endif
                    d[e] = PROBABILITY(score, r.x) * (dp_kept - r.y);
#if SCORES
                    by_slope[h] -= d[e] * fabs((float)(i + shift - at));
                    d[e] *= cap_slope;
#endif
                }
                ds[j][h] = pack(d[0], d[1]);
            }
        }
        ACCUMULATE(dq, ds, OTHER_0, HEAD_DIM);
        block_barrier(w); /* all warps are done with K and V */
    }

    UNROLL for (int h = 0; h < 2; h++) {
        const int i = row + 8 * h;
#if SCORES
        float sum = by_slope[h];
        sum += warp_shfl_xor(w, sum, 1);
        sum += warp_shfl_xor(w, sum, 2);
        if (slopes && i < s.n_q && column == 0) slopes[first_row + i] = sum;
#endif
        if (i < s.n_q && d_query) {
            const long at = d_query_at + s.entry * d_query_stride.x + head * d_query_stride.y +
                            (s.q_first + i) * d_query_stride.z + column;
            UNROLL for (int j = 0; j < HEAD_DIM / 8; j++)
                if (j * 8 < head_dim)
                    store_gradient(d_query, at + j * 8, d_query_f32, dq[j][2 * h] * scale, dq[j][2 * h + 1] * scale);
        }
    }
}

/* Grid: (heads) of 128 items. d_sinks = Σ −exp(sink − lse) · D; d_alibi = Σ slopes; each may be NULL. */
__attribute__((reqd_work_group_size(128, 1, 1))) __kernel void
attention_backward_heads(__global const float2 *rows, __global const float *slopes, __global const float *sinks,
                         const long sinks_at, __global float *d_sinks, const long d_sinks_at, __global float *d_alibi,
                         const long d_alibi_at, const int batch, const int n_q, const int heads, __local float *sums) {
    const int head = (int)get_group_id(0), item = (int)get_local_id(0);
    float by_sink = 0, by_slope = 0;
    for (int entry = 0; entry < batch; entry++)
        for (int i = item; i < n_q; i += 128) {
            const long at = ((long)entry * heads + head) * n_q + i;
            const float lse2 = rows[at].x * (SCORES ? LOG2_E : 1);
            if (d_sinks && lse2 != INFINITY) by_sink -= ex2(sinks[sinks_at + head] * LOG2_E - lse2) * rows[at].y;
            if (d_alibi) by_slope += slopes[at];
        }
    sums[item] = by_sink;
    sums[128 + item] = by_slope;
    for (int n = 64; n; n /= 2) {
        barrier(CLK_LOCAL_MEM_FENCE);
        if (item < n) {
            sums[item] += sums[item + n];
            sums[128 + item] += sums[128 + item + n];
        }
    }
    if (item == 0 && d_sinks) d_sinks[d_sinks_at + head] = sums[0];
    if (item == 0 && d_alibi) d_alibi[d_alibi_at + head] = sums[128];
}
