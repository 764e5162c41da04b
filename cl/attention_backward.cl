/* attention_backward.cl: gradients of attention, probabilities being recomputed from lse (arXiv:2205.14135, algorithm
 * 4). With z = 1 / (1 - dropout) or 0, D_i = d_out_i . out_i and the notation of attention.cl:
 *
 *   p_ij  = exp(score_ij - lse_i)        db_ij = p_ij (z_ij d_out_i . v_j - D_i)        ds_ij = db_ij d score / d (q . k)
 *   d_v_j = sum_i z_ij p_ij d_out_i      d_q_i = sum_j ds_ij k_j                        d_k_j = sum_i ds_ij q_i
 *   d_mask = sum db    d_alibi = -sum db_ij |distance|    d_sink = -sum_i exp(sink - lse_i) D_i
 *
 * Each kernel owns what it writes and adds in one order; nothing is larger than a row of floats for each query:
 * D, and the ALiBi slope's sum. CHUNKS: the larger of head_dim and v_dim / 64, rounded up to 1, 2 or 4. */
#include "philox.cl"
#include "attention_rules.cl"
#include "attention_tile.cl"

/* As clf_cl_attention_gradients in attention_backward.c. */
typedef struct gradients {
    view d_out, d_query, d_key, d_value, d_mask;
    long d_mask_key, d_sinks_at, d_alibi_at;
    int query_dtype, key_dtype, value_dtype;
    uint batch, mask_batch, mask_heads, mask_rows, mask_keys; /* the mask's own shape */
} gradients;

/* What every kernel reads; d: D by row. */
#define INPUTS                                                                                                         \
    RULES, gradients g, global const void *q, global const void *key, global const void *value,                        \
        global const void *d_out, global const float *lse, global float *d

long row_of(const attention_call *c, const sequence *s, uint head, int i) {
    return ((long)s->batch * c->heads + head) * c->n_q + s->first_query + i;
}

/* d = d_out . out, an item a row. */
kernel void attention_products(RULES, gradients g, global const void *out, global const void *d_out, global float *d) {
    const uint i = get_global_id(0), head = get_global_id(1) % c.heads, batch = get_global_id(1) / c.heads;
    if (i >= c.n_q) return;
    float8 sum = 0;
    for (uint column = 0; column < c.v_dim; column += 8)
        sum += load_part(out, &c.out, head, (int2)(batch, i), column, c.v_dim, c.q_dtype) *
               load_part(d_out, &g.d_out, head, (int2)(batch, i), column, c.v_dim, c.q_dtype);
    const float4 four = sum.lo + sum.hi;
    d[((long)batch * c.heads + head) * c.n_q + i] = (four.x + four.z) + (four.y + four.w);
}

/* A tile of a group's: where it is, and its local memory. */
typedef struct tile {
    const attention_call *c;
    const sequence *s;
    uint head, bits;
    int i0, j0;
    float slope;
    local float *pool, *lse, *d; /* the latter by query */
    local const int2 *q_places, *k_places;
} tile;

/* Places, lse and D of the tile's queries; a barrier must follow. Queries without a key have an lse of -inf. */
void load_queries(const tile *t, const gradients *g, local int2 *places, global const float *lse,
                  global const float *d) {
    const uint item = get_local_id(0);
    if (item >= QUERIES) return;
    const int i = t->i0 + (int)item;
    const bool is = i < t->s->queries;
    const attention_call *c = t->c;
    places[item] = query_place(t->s, i);
    t->lse[item] = is ? lse[c->lse.at + t->s->batch * c->lse.batch + t->head * c->lse.head +
                            (t->s->first_query + i) * c->lse.row]
                      : -INFINITY;
    t->d[item] = is ? d[row_of(c, t->s, t->head, i)] : 0;
}

void load_keys(const tile *t, local int2 *places, global const int *table) {
    const uint item = get_local_id(0);
    if (item < KEYS)
        places[item] = key_in_layout(t->bits, QUERIES, KEYS, item) ? key_place(t->c, table, t->s, t->j0 + item)
                                                                   : (int2)(-1, 0);
}

/* The item's part of the tile, laid out as by multiply(): z p, db and ds. */
void differentiate(const tile *t, const rows *queries, const rows *keys, const rows *d_outs, const rows *values,
                   global const void *mask, float4 p[MQ], float4 db[MQ], float4 ds[MQ]) {
    const attention_call *c = t->c;
    const sequence *s = t->s;
    const uint item = get_local_id(0), x = item % (KEYS / 4) * 4, y = item / (KEYS / 4) * MQ;
    multiply(p, t->pool, queries, keys);
    multiply(db, t->pool, d_outs, values);
    for (uint m = 0; m < MQ; m++) {
        const int i = t->i0 + (int)(y + m), position = position_of(s, i);
        const int2 own = i < s->queries ? seen(c, s, i) : (int2)(0, 0);
        const uint visible = t->bits >> ((y + m) / 16 * (KEYS / 16) + x / 16) & 1;
        const long mask_at = mask ? mask_row(c, s, t->head, i) : 0;
        const float lse = t->lse[y + m], d = t->d[y + m];
        float dot[4], dp[4], kept[4], ps[4], dbs[4], dss[4];
        vstore4(p[m], 0, dot);
        vstore4(db[m], 0, dp);
        vstore4(visible ? kept4(c, s, t->head, i, t->j0 + (int)x) : (float4)0, 0, kept);
        for (uint n = 0; n < 4; n++) {
            const int j = t->j0 + (int)(x + n);
            float e = 0, through = 0;
            if (visible && lse > -INFINITY && j >= own.x && j < own.y && t->k_places[x + n].x >= 0)
                e = exp(score(c, dot[n], t->slope, position - j, mask, mask_at + j * c->mask_key, &through) - lse);
            ps[n] = e * kept[n];
            dbs[n] = e * (kept[n] * dp[n] - d);
            dss[n] = dbs[n] * through;
        }
        p[m] = vload4(0, ps);
        db[m] = vload4(0, dbs);
        ds[m] = vload4(0, dss);
    }
}

/* Local memory, as clf_cl_attention_local() counts it: pool, two tiles, lse, D, layout bits of tiles, places. */
#define CARVE(memory)                                                                                                  \
    local float *pool = (local float *)memory, *p_tile = pool + POOL, *ds_tile = p_tile + TILE,                        \
                *lse_tile = ds_tile + TILE, *d_tile = lse_tile + QUERIES;                                              \
    local uint *bits = (local uint *)(d_tile + QUERIES);                                                               \
    local int2 *q_places = (local int2 *)(bits + ITEMS), *k_places = q_places + QUERIES;                               \
    const uint item = get_local_id(0), x = item % (KEYS / 4) * 4, y = item / (KEYS / 4) * MQ
#define TILE (KEYS * Q_PITCH > QUERIES * K_PITCH ? KEYS * Q_PITCH : QUERIES * K_PITCH)
#define ROWS_OF(head_)                                                                                                 \
    const rows queries = {q, &c.query, q_places, head_, c.head_dim, c.q_dtype};                                        \
    const rows d_outs = {d_out, &g.d_out, q_places, head_, c.v_dim, c.q_dtype};                                        \
    const rows keys = {key, &c.key, k_places, (head_) / c.group, c.head_dim, c.kv_dtype};                              \
    const rows values = {value, &c.value, k_places, (head_) / c.group, c.v_dim, c.kv_dtype}

#define KEY_ROWS (KEYS * (COLUMNS / 4) / ITEMS) /* of d_key, an item has */

/* Groups: tiles of keys, key heads of all batches. The heads of a group one after another, tiles of queries in order.
 */
kernel __attribute__((reqd_work_group_size(ITEMS, 1, 1))) void
attention_backward_keys(INPUTS, global void *d_key, global void *d_value, uint kv_heads, local float4 *memory) {
    CARVE(memory);
    const uint kv_head = get_group_id(1) % kv_heads;
    int j0;
    const sequence s = key_tile(&c, lengths, starts, get_group_id(1) / kv_heads, get_group_id(0), KEYS, &j0);
    const int2 range = seeing(&c, &s, j0, j0 + KEYS);
    const int begin = range.x / QUERIES * QUERIES, end = range.y;
    float4 dk[CHUNKS][MOST_ROWS], dv[CHUNKS][MOST_ROWS];
    for (int n = 0; n < CHUNKS; n++)
        for (int m = 0; m < KEY_ROWS; m++) dk[n][m] = dv[n][m] = 0;
    for (uint h = 0; h < c.group; h++) {
        const uint head = kv_head * c.group + h;
        ROWS_OF(head);
        for (int first = begin; first < end; first += QUERIES * ITEMS) {
            barrier(CLK_LOCAL_MEM_FENCE);
            const int mine = first + (int)item * QUERIES;
            bits[item] = mine < end ? layout_bits(&c, layout_rows, layout_columns, mine, j0, QUERIES, KEYS) : 0;
            barrier(CLK_LOCAL_MEM_FENCE);
            for (uint n = 0; n < ITEMS; n++) {
                const uint left = bits[n];
                if (left) {
                    const tile t = {&c, &s, head, left, first + (int)n * QUERIES, j0,
                                    alibi ? alibi[c.alibi_at + head] : 0, pool, lse_tile, d_tile, q_places, k_places};
                    load_queries(&t, &g, q_places, lse, d);
                    load_keys(&t, k_places, table);
                    barrier(CLK_LOCAL_MEM_FENCE);
                    float4 p[MQ], db[MQ], ds[MQ];
                    differentiate(&t, &queries, &keys, &d_outs, &values, mask, p, db, ds);
                    for (uint m = 0; m < MQ; m++) { /* queries by keys */
                        vstore4(p[m], 0, p_tile + (y + m) * K_PITCH + x);
                        vstore4(ds[m], 0, ds_tile + (y + m) * K_PITCH + x);
                    }
                    barrier(CLK_LOCAL_MEM_FENCE);
                    for (int chunk = 0; chunk < CHUNKS; chunk++) {
                        if (d_value)
                            accumulate(dv[chunk], KEY_ROWS, pool, p_tile, K_PITCH, QUERIES, &d_outs, COLUMNS * chunk);
                        if (d_key)
                            accumulate(dk[chunk], KEY_ROWS, pool, ds_tile, K_PITCH, QUERIES, &queries, COLUMNS * chunk);
                    }
                }
            }
        }
    }
    const int row = s.first_key + j0, last = s.first_key + s.keys;
    for (int n = 0; n < CHUNKS; n++) {
        if (d_key)
            write_rows(dk[n], KEY_ROWS, d_key, &g.d_key, s.batch, kv_head, row, last, COLUMNS * n, c.head_dim,
                       g.key_dtype);
        if (d_value)
            write_rows(dv[n], KEY_ROWS, d_value, &g.d_value, s.batch, kv_head, row, last, COLUMNS * n, c.v_dim,
                       g.value_dtype);
    }
}

#define QUERY_ROWS (QUERIES * (COLUMNS / 4) / ITEMS) /* of d_query, an item has */

/* Groups: tiles of queries, heads of all batches. distances: sum of db |distance| by row, NULL without ALiBi. */
kernel __attribute__((reqd_work_group_size(ITEMS, 1, 1))) void
attention_backward_queries(INPUTS, global void *d_query, global float *distances, local float4 *memory) {
    CARVE(memory);
    const uint head = get_group_id(1) % c.heads;
    int i0;
    const sequence s = query_tile(&c, lengths, starts, get_group_id(1) / c.heads, get_group_id(0), QUERIES, &i0);
    const int2 range = seen_by(&c, &s, i0, QUERIES);
    const int begin = range.x / KEYS * KEYS, end = range.y;
    tile t = {&c, &s, head, 0, i0, 0, alibi ? alibi[c.alibi_at + head] : 0, pool, lse_tile, d_tile, q_places, k_places};
    ROWS_OF(head);
    load_queries(&t, &g, q_places, lse, d);
    float4 dq[CHUNKS][MOST_ROWS];
    float by_distance[MQ];
    for (int m = 0; m < MQ; m++) by_distance[m] = 0;
    for (int n = 0; n < CHUNKS; n++)
        for (int m = 0; m < QUERY_ROWS; m++) dq[n][m] = 0;
    for (int first = begin; first < end; first += KEYS * ITEMS) {
        barrier(CLK_LOCAL_MEM_FENCE);
        const int mine = first + (int)item * KEYS;
        bits[item] = mine < end ? layout_bits(&c, layout_rows, layout_columns, i0, mine, QUERIES, KEYS) : 0;
        barrier(CLK_LOCAL_MEM_FENCE);
        for (uint n = 0; n < ITEMS; n++) {
            const uint left = bits[n];
            if (left) {
                t.bits = left;
                t.j0 = first + (int)n * KEYS;
                load_keys(&t, k_places, table);
                barrier(CLK_LOCAL_MEM_FENCE);
                float4 p[MQ], db[MQ], ds[MQ];
                differentiate(&t, &queries, &keys, &d_outs, &values, mask, p, db, ds);
                for (uint m = 0; m < MQ; m++) { /* keys by queries */
                    float column[4], each[4];
                    vstore4(ds[m], 0, column);
                    vstore4(db[m], 0, each);
                    const int distance = position_of(&s, i0 + (int)(y + m)) - t.j0 - (int)x;
                    for (int k = 0; k < 4; k++) {
                        ds_tile[(x + k) * Q_PITCH + y + m] = column[k];
                        by_distance[m] += each[k] * fabs((float)(distance - k));
                    }
                }
                barrier(CLK_LOCAL_MEM_FENCE);
                for (int chunk = 0; d_query && chunk < CHUNKS; chunk++)
                    accumulate(dq[chunk], QUERY_ROWS, pool, ds_tile, Q_PITCH, KEYS, &keys, COLUMNS * chunk);
            }
        }
    }
    for (int n = 0; d_query && n < CHUNKS; n++)
        write_rows(dq[n], QUERY_ROWS, d_query, &g.d_query, s.batch, head, s.first_query + i0, s.first_query + s.queries,
                   COLUMNS * n, c.head_dim, g.query_dtype);
    barrier(CLK_LOCAL_MEM_FENCE);
    for (uint m = 0; m < MQ; m++) pool[(y + m) * (KEYS / 4) + x / 4] = by_distance[m];
    barrier(CLK_LOCAL_MEM_FENCE);
    if (distances && item < QUERIES && i0 + (int)item < s.queries) {
        float sum = 0;
        for (uint n = 0; n < KEYS / 4; n++) sum += pool[item * (KEYS / 4) + n];
        distances[row_of(&c, &s, head, i0 + item)] = sum;
    }
}

/* Groups: tiles of the mask's queries (one if it is repeated over them), of its keys (likewise), its heads and batches.
 * What the mask is repeated over is gone through in order. */
kernel __attribute__((reqd_work_group_size(ITEMS, 1, 1))) void
attention_backward_mask(INPUTS, global float *d_mask, local float4 *memory) {
    CARVE(memory);
    const bool all_rows = g.mask_rows == 1, all_keys = g.mask_keys == 1;
    const uint mask_batch = get_group_id(2) / g.mask_heads, mask_head = get_group_id(2) % g.mask_heads;
    const uint head0 = g.mask_heads == 1 ? 0 : mask_head, heads = g.mask_heads == 1 ? c.heads : mask_head + 1;
    uint s0 = g.mask_batch == 1 ? 0 : mask_batch, sequences = g.mask_batch == 1 ? g.batch : mask_batch + 1;
    int own_i = 0, own_j = 0;
    sequence of_rows = query_tile(&c, lengths, starts, s0, get_group_id(0), QUERIES, &own_i);
    sequence of_keys = key_tile(&c, lengths, starts, s0, get_group_id(1), KEYS, &own_j);
    if (c.packed) {
        s0 = all_rows ? all_keys ? 0 : of_keys.index : of_rows.index;
        sequences = all_rows && all_keys ? c.sequences : s0 + 1;
        if (!all_rows && !all_keys && of_rows.index != of_keys.index) sequences = s0; /* they do not meet */
    }
    float4 sums[MQ];
    for (int m = 0; m < MQ; m++) sums[m] = 0;
    for (uint n = s0; n < sequences; n++) {
        const sequence s = sequence_at(&c, lengths, starts, n);
        for (uint head = head0; head < heads; head++) {
            ROWS_OF(head);
            tile t = {&c, &s, head, 0, 0, 0, alibi ? alibi[c.alibi_at + head] : 0, pool, lse_tile, d_tile, q_places,
                      k_places};
            const int last_i = all_rows ? s.queries : own_i + 1;
            for (t.i0 = all_rows ? 0 : own_i; t.i0 < last_i; t.i0 += QUERIES) {
                barrier(CLK_LOCAL_MEM_FENCE);
                load_queries(&t, &g, q_places, lse, d);
                const int2 range = seen_by(&c, &s, t.i0, QUERIES);
                const int last_j = all_keys ? range.y : min(own_j + 1, range.y);
                for (t.j0 = all_keys ? range.x / KEYS * KEYS : own_j; t.j0 < last_j; t.j0 += KEYS) {
                    t.bits = layout_bits(&c, layout_rows, layout_columns, t.i0, t.j0, QUERIES, KEYS);
                    if (t.bits) {
                        barrier(CLK_LOCAL_MEM_FENCE);
                        load_keys(&t, k_places, table);
                        barrier(CLK_LOCAL_MEM_FENCE);
                        float4 p[MQ], db[MQ], ds[MQ];
                        differentiate(&t, &queries, &keys, &d_outs, &values, mask, p, db, ds);
                        for (int m = 0; m < MQ; m++) sums[m] += db[m];
                    }
                }
            }
        }
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    for (uint m = 0; m < MQ; m++) {
        float column[4];
        vstore4(sums[m], 0, column);
        for (uint k = 0; k < 4; k++) p_tile[(x + k) * Q_PITCH + y + m] = column[k];
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    if (all_rows && item < KEYS)
        for (uint i = 1; i < QUERIES; i++) p_tile[item * Q_PITCH] += p_tile[item * Q_PITCH + i];
    barrier(CLK_LOCAL_MEM_FENCE);
    if (all_keys && item < (all_rows ? 1 : QUERIES))
        for (uint j = 1; j < KEYS; j++) p_tile[item] += p_tile[j * Q_PITCH + item];
    barrier(CLK_LOCAL_MEM_FENCE);
    const uint n_rows = all_rows ? 1 : clamp(of_rows.queries - own_i, 0, QUERIES);
    const uint n_keys = all_keys ? 1 : clamp(of_keys.keys - own_j, 0, KEYS);
    const long at = g.d_mask.at + mask_batch * g.d_mask.batch + mask_head * g.d_mask.head +
                    (all_rows ? 0 : of_rows.first_query + own_i) * g.d_mask.row +
                    (all_keys ? 0 : of_keys.first_key + own_j) * g.d_mask_key;
    for (uint e = item; e < n_rows * n_keys; e += ITEMS)
        d_mask[at + e / n_keys * g.d_mask.row + e % n_keys * g.d_mask_key] = p_tile[e % n_keys * Q_PITCH + e / n_keys];
}

/* Groups: heads. d_sinks or d_alibi may be NULL. */
kernel void attention_sums(RULES, gradients g, global const float *lse, global const float *d,
                           global const float *distances, global float *d_sinks, global float *d_alibi,
                           local float *scratch) {
    const uint head = get_group_id(0);
    float of_sink = 0, of_slope = 0;
    for (uint batch = 0; batch < g.batch; batch++)
        for (uint i = get_local_id(0); i < c.n_q; i += get_local_size(0)) {
            const long row = ((long)batch * c.heads + head) * c.n_q + i;
            const float l = lse[c.lse.at + batch * c.lse.batch + head * c.lse.head + i * c.lse.row];
            if (d_sinks && l > -INFINITY) of_sink -= exp(sinks[c.sinks_at + head] - l) * d[row];
            if (d_alibi) of_slope -= distances[row];
        }
    of_sink = group_sum(of_sink, scratch);
    of_slope = group_sum(of_slope, scratch);
    if (get_local_id(0) == 0 && d_sinks) d_sinks[g.d_sinks_at + head] = of_sink;
    if (get_local_id(0) == 0 && d_alibi) d_alibi[g.d_alibi_at + head] = of_slope;
}
