/* attention.cl: out = softmax(mask(softcap(scale * q.kT) - alibi + mask)) * v, a tile of keys at a time with a running
 * maximum and sum (arXiv:2205.14135), so that scores never leave the chip. A group has QUERIES queries of one sequence
 * and head; key tiles that none of them sees are not looked at. CHUNKS: v_dim / 64, rounded up to 1, 2 or 4. */
#include "philox.cl"
#include "attention_rules.cl"
#include "attention_tile.cl"

#define ROWS (QUERIES * (COLUMNS / 4) / ITEMS) /* of the output, an item has */

/* Groups: tiles of queries, heads of all batches. `memory` is carved up below; as in attention.c. */
kernel __attribute__((reqd_work_group_size(ITEMS, 1, 1))) void
attention(RULES, global const void *q, global const void *key, global const void *value, global void *out,
          global float *lse, local float4 *memory) {
    local float *pool = (local float *)memory, *p = pool + POOL /* keys by queries */, *partial = p + KEYS * Q_PITCH,
                *alpha = partial + ITEMS;
    local uint *bits = (local uint *)(alpha + QUERIES);
    local int2 *q_places = (local int2 *)(bits + ITEMS), *k_places = q_places + QUERIES;

    const uint item = get_local_id(0), head = get_group_id(1) % c.heads;
    int i0;
    const sequence s = query_tile(&c, lengths, starts, get_group_id(1) / c.heads, get_group_id(0), QUERIES, &i0);
    const int2 range = seen_by(&c, &s, i0, QUERIES);
    const int begin = range.x / KEYS * KEYS, end = range.y;
    const float slope = alibi ? alibi[c.alibi_at + head] : 0;
    if (item < QUERIES) q_places[item] = query_place(&s, i0 + item);
    const rows queries = {q, &c.query, q_places, head, c.head_dim, c.q_dtype};
    const rows keys = {key, &c.key, k_places, head / c.group, c.head_dim, c.kv_dtype};
    const rows values = {value, &c.value, k_places, head / c.group, c.v_dim, c.kv_dtype};

    const uint row = item % QUERIES, lane = item / QUERIES; /* in the softmax: KEYS / LANES keys of a query */
    float maximum = sink_of(&c, &s, sinks, head), sum = isinf(maximum) ? 0 : 1;
    float4 o[CHUNKS][MOST_ROWS];
    for (int n = 0; n < CHUNKS; n++)
        for (int m = 0; m < ROWS; m++) o[n][m] = 0;

    for (int first = begin; first < end; first += KEYS * ITEMS) {
        barrier(CLK_LOCAL_MEM_FENCE);
        const int mine = first + (int)item * KEYS;
        bits[item] = mine < end ? layout_bits(&c, layout_rows, layout_columns, i0, mine, QUERIES, KEYS) : 0;
        barrier(CLK_LOCAL_MEM_FENCE);
        for (uint tile = 0; tile < ITEMS; tile++) {
            const uint left = bits[tile];
            if (left) {
                const int j0 = first + (int)tile * KEYS;
                if (item < KEYS)
                    k_places[item] = key_in_layout(left, QUERIES, KEYS, item) && j0 + (int)item < end
                                         ? key_place(&c, table, &s, j0 + item)
                                         : (int2)(-1, 0);
                barrier(CLK_LOCAL_MEM_FENCE);
                float4 scores[MQ];
                multiply(scores, pool, &queries, &keys);
                const uint x = item % (KEYS / 4) * 4, y = item / (KEYS / 4) * MQ;
                for (uint m = 0; m < MQ; m++) {
                    const int i = i0 + (int)(y + m), position = position_of(&s, i);
                    const int2 own = i < s.queries ? seen(&c, &s, i) : (int2)(0, 0);
                    const uint visible = left >> ((y + m) / 16 * (KEYS / 16) + x / 16) & 1;
                    const long mask_at = mask ? mask_row(&c, &s, head, i) : 0;
                    float values4[4], ignored;
                    vstore4(scores[m], 0, values4);
                    for (uint n = 0; n < 4; n++) {
                        const int j = j0 + (int)(x + n);
                        const bool sees = visible && j >= own.x && j < own.y && k_places[x + n].x >= 0;
                        p[(x + n) * Q_PITCH + y + m] =
                            sees ? score(&c, values4[n], slope, position - j, mask, mask_at + j * c.mask_key,
                                          &ignored)
                                 : -INFINITY;
                    }
                }
                barrier(CLK_LOCAL_MEM_FENCE);

                /* softmax: a query's items keep its maximum and sum alike */
                local float *e_row = p + KEYS / LANES * lane * Q_PITCH + row;
                float high = maximum;
                for (uint k = 0; k < KEYS / LANES; k++) high = fmax(high, e_row[k * Q_PITCH]);
                partial[item] = high;
                barrier(CLK_LOCAL_MEM_FENCE);
                for (uint n = 0; n < LANES; n++) high = fmax(high, partial[n * QUERIES + row]);
                barrier(CLK_LOCAL_MEM_FENCE);
                const float base = high == -INFINITY ? 0 : high, a = exp(maximum - base);
                float part = 0;
                for (uint k = 0; k < KEYS / LANES; k += 4) {
                    float kept[4];
                    vstore4(kept4(&c, &s, head, i0 + row, j0 + KEYS / LANES * lane + k), 0, kept);
                    for (uint n = 0; n < 4; n++) {
                        const float e = exp(e_row[(k + n) * Q_PITCH] - base);
                        part += e;
                        e_row[(k + n) * Q_PITCH] = e * kept[n];
                    }
                }
                partial[item] = part;
                if (lane == 0) alpha[row] = a;
                barrier(CLK_LOCAL_MEM_FENCE);
                sum *= a;
                for (uint n = 0; n < LANES; n++) sum += partial[n * QUERIES + row];
                maximum = high;

                for (int n = 0; n < CHUNKS; n++) {
                    for (int m = 0; m < ROWS; m++) o[n][m] *= alpha[item / (COLUMNS / 4) * ROWS + m];
                    accumulate(o[n], ROWS, pool, p, Q_PITCH, KEYS, &values, COLUMNS * n);
                }
            }
        }
    }

    barrier(CLK_LOCAL_MEM_FENCE);
    if (lane == 0) {
        alpha[row] = sum > 0 ? 1 / sum : 0;
        if (lse && i0 + (int)row < s.queries)
            lse[c.lse.at + s.batch * c.lse.batch + head * c.lse.head + (s.first_query + i0 + (int)row) * c.lse.row] =
                sum > 0 ? maximum + log(sum) : -INFINITY;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int n = 0; n < CHUNKS; n++) {
        for (int m = 0; m < ROWS; m++) o[n][m] *= alpha[item / (COLUMNS / 4) * ROWS + m];
        write_rows(o[n], ROWS, out, &c.out, s.batch, head, s.first_query + i0, s.first_query + s.queries,
                   COLUMNS * n, c.v_dim, c.q_dtype);
    }
}
