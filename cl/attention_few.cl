/* attention_few.cl: attention of few queries and many keys (decoding; flash-decoding's split of the keys): a group has
 * up to ROWS rows that share keys, so many queries by the heads of one key head as fit, and one part of the keys, KEYS
 * at a time; every key is read once for all rows. Parts are merged in their order. The formula is attention.cl's.
 *
 * A part's result is v_dim sums, the maximum that they are relative to, and the sum of probabilities. */
#include "philox.cl"
#include "attention_rules.cl"

#define ITEMS   128
#define KEYS    64
#define COLUMNS 64
#define PITCH   (COLUMNS + 4)
#define Q_PITCH 256 /* floats of a query in local memory */
#define LANES   16  /* of the softmax: each has four keys of a row */
#define SCORED  (ROWS < 2 ? 1 : ROWS / 2) /* rows of a key whose scores an item computes */

/* Divides by the sum, the sink's part included. */
void finish(const attention_call *c, const sequence *s, uint head, float maximum, float sum, global const float *sinks,
            float *factor, float *lse) {
    const float sink = sink_of(c, s, sinks, head), high = fmax(maximum, sink);
    const float base = high == -INFINITY ? 0 : high;
    const float shrink = exp(maximum - base), all = sum * shrink + exp(sink - base);
    *factor = all > 0 ? shrink / all : 0;
    *lse = all > 0 ? base + log(all) : -INFINITY;
}

long lse_at(const attention_call *c, const sequence *s, uint head, int i) {
    return c->lse.at + s->batch * c->lse.batch + head * c->lse.head + (s->first_query + i) * c->lse.row;
}

long out_at(const attention_call *c, const sequence *s, uint head, int i) {
    return c->out.at + s->batch * c->out.batch + head * c->out.head + (s->first_query + i) * c->out.row;
}

/* Where part `split` of a row begins. */
long part_at(const attention_call *c, const sequence *s, uint head, int i, uint splits, uint split) {
    const long row = ((long)s->batch * c->heads + head) * c->n_q + s->first_query + i;
    return (row * splits + split) * (c->v_dim + 2);
}

/* Groups: tiles of row_queries queries; key heads of all batches by tiles of row_heads heads; splits. */
kernel __attribute__((reqd_work_group_size(ITEMS, 1, 1))) void
attention_few(RULES, global const void *q, global const void *key, global const void *value, global void *out,
              global float *lse, uint row_heads, uint row_queries, global float *parts, local float4 *memory) {
    local float *tile = (local float *)memory /* keys by columns */, *p = tile + KEYS * PITCH /* rows by keys */,
                *query = p + ROWS * KEYS, *stats = query + ROWS * Q_PITCH, *alpha = stats + ROWS * LANES;
    local int2 *places = (local int2 *)(alpha + 2 * ROWS);

    const uint item = get_local_id(0), splits = get_num_groups(2), split = get_group_id(2);
    const uint head_tiles = (c.group + row_heads - 1) / row_heads, kv_heads = c.heads / c.group;
    const uint head0 = get_group_id(1) % head_tiles * row_heads;
    const uint kv_head = get_group_id(1) / head_tiles % kv_heads, batch = get_group_id(1) / head_tiles / kv_heads;
    int i0;
    const sequence s = query_tile(&c, lengths, starts, batch, get_group_id(0), row_queries, &i0);

    /* keys that some query sees, whole tiles for each split */
    const int2 keys = seen_by(&c, &s, i0, row_queries);
    const int from = keys.x / KEYS * KEYS, to = keys.y;
    const long tiles = (max(to - from, 0) + KEYS - 1) / KEYS;
    const int begin = from + (int)(tiles * split / splits) * KEYS;
    const int end = min(to, from + (int)(tiles * (split + 1) / splits) * KEYS);

#define ROW_QUERY(r) (i0 + (int)((r) / row_heads))
#define ROW_HEAD(r)  (kv_head * c.group + head0 + (r) % row_heads)
#define ROW_IS(r)    ((r) / row_heads < row_queries && ROW_QUERY(r) < s.queries && head0 + (r) % row_heads < c.group)
    for (uint e = item; e < ROWS * Q_PITCH / 8; e += ITEMS) {
        const uint r = e / (Q_PITCH / 8), part = e % (Q_PITCH / 8) * 8;
        const int2 place = ROW_IS(r) ? query_place(&s, ROW_QUERY(r)) : (int2)(-1, 0);
        vstore8(load_part(q, &c.query, ROW_HEAD(r), place, part, c.head_dim, c.q_dtype), 0,
                query + r * Q_PITCH + part);
    }

    /* in the softmax: a row's keys, four an item */
    const uint row = item / LANES, lane = item % LANES;
    const bool has_row = row < ROWS && ROW_IS(row);
    const int i = has_row ? ROW_QUERY(row) : i0, position = position_of(&s, i);
    const uint head = has_row ? ROW_HEAD(row) : 0;
    const int2 range = has_row ? seen(&c, &s, i) : (int2)(0, 0);
    const float slope = alibi && has_row ? alibi[c.alibi_at + head] : 0;
    const long mask_at = mask ? mask_row(&c, &s, head, i) : 0;
    float maximum = -INFINITY, sum = 0;

    /* of the values: 8 columns of every v_lanes-th key */
    const uint v_parts = (c.v_dim + 7) / 8, v_lanes = ITEMS / v_parts, v_part = item % v_parts, v_lane = item / v_parts;
    float8 o[ROWS];
    for (int r = 0; r < ROWS; r++) o[r] = 0;

    for (int j0 = begin; j0 < end; j0 += KEYS) {
        const uint bits = layout_bits(&c, layout_rows, layout_columns, i0 / 16 * 16, j0, 16, KEYS);
        if (bits) {
            barrier(CLK_LOCAL_MEM_FENCE);
            if (item < KEYS)
                places[item] = bits >> item / 16 & 1 && j0 + (int)item < end ? key_place(&c, table, &s, j0 + item)
                                                                              : (int2)(-1, 0);
            float dot[SCORED];
            for (int r = 0; r < SCORED; r++) dot[r] = 0;
            const uint k = item % KEYS, r0 = item / KEYS * SCORED;
            for (uint d0 = 0; d0 < c.head_dim; d0 += COLUMNS) {
                barrier(CLK_LOCAL_MEM_FENCE);
                for (uint e = item; e < KEYS * COLUMNS / 8; e += ITEMS) {
                    const uint line = e / (COLUMNS / 8), part = e % (COLUMNS / 8) * 8;
                    vstore8(load_part(key, &c.key, kv_head, places[line], d0 + part, c.head_dim, c.kv_dtype), 0,
                            tile + line * PITCH + part);
                }
                barrier(CLK_LOCAL_MEM_FENCE);
                if (r0 < ROWS) {
                    float4 t[SCORED];
                    for (int r = 0; r < SCORED; r++) t[r] = 0;
                    for (uint d = 0; d < COLUMNS / 4; d++) {
                        const float4 b = ((local const float4 *)(tile + k * PITCH))[d];
                        for (int r = 0; r < SCORED; r++)
                            t[r] += ((local const float4 *)(query + (r0 + r) * Q_PITCH + d0))[d] * b;
                    }
                    for (int r = 0; r < SCORED; r++) dot[r] += (t[r].x + t[r].z) + (t[r].y + t[r].w);
                }
            }
            if (r0 < ROWS)
                for (int r = 0; r < SCORED; r++) p[(r0 + r) * KEYS + k] = dot[r];
            barrier(CLK_LOCAL_MEM_FENCE);

            float own[4], high = maximum, ignored;
            for (uint n = 0; n < 4; n++) {
                const int at = 4 * lane + n, j = j0 + at;
                const bool sees = has_row && j >= range.x && j < range.y && places[at].x >= 0;
                own[n] = sees ? score(&c, p[row * KEYS + at], slope, position - j, mask, mask_at + j * c.mask_key,
                                    &ignored)
                              : -INFINITY;
                high = fmax(high, own[n]);
            }
            if (row < ROWS) stats[row * LANES + lane] = high;
            barrier(CLK_LOCAL_MEM_FENCE);
            if (row < ROWS)
                for (uint n = 0; n < LANES; n++) high = fmax(high, stats[row * LANES + n]);
            barrier(CLK_LOCAL_MEM_FENCE);
            const float base = high == -INFINITY ? 0 : high, a = exp(maximum - base);
            if (row < ROWS) {
                float part = 0, kept[4];
                vstore4(kept4(&c, &s, head, i, j0 + 4 * lane), 0, kept);
                for (uint n = 0; n < 4; n++) {
                    const float e = exp(own[n] - base);
                    part += e;
                    p[row * KEYS + 4 * lane + n] = e * kept[n];
                }
                stats[row * LANES + lane] = part;
                if (lane == 0) alpha[row] = a;
            }
            barrier(CLK_LOCAL_MEM_FENCE);
            sum *= a;
            if (row < ROWS)
                for (uint n = 0; n < LANES; n++) sum += stats[row * LANES + n];
            maximum = high;

            float8 t[ROWS];
            for (int r = 0; r < ROWS; r++) t[r] = 0;
            for (uint n = v_lane; v_lane < v_lanes && n < KEYS; n += v_lanes) {
                const float8 v = load_part(value, &c.value, kv_head, places[n], 8 * v_part, c.v_dim, c.kv_dtype);
                for (int r = 0; r < ROWS; r++) t[r] += p[r * KEYS + n] * v;
            }
            for (int r = 0; r < ROWS; r++) o[r] = o[r] * alpha[r] + t[r];
        }
    }

    barrier(CLK_LOCAL_MEM_FENCE);
    if (has_row && lane == 0) {
        float factor = 1, log_sum;
        if (splits > 1) {
            const long at = part_at(&c, &s, head, i, splits, split) + c.v_dim;
            parts[at] = maximum;
            parts[at + 1] = sum;
        } else {
            finish(&c, &s, head, maximum, sum, sinks, &factor, &log_sum);
            if (lse) lse[lse_at(&c, &s, head, i)] = log_sum;
        }
        alpha[row] = factor;
    }
    for (uint r = 0; r < ROWS; r++) {
        barrier(CLK_LOCAL_MEM_FENCE);
        float8 mine = 0;
        for (uint n = 0; n < ROWS; n++) mine = r == n ? o[n] : mine; /* o stays in registers */
        vstore8(mine, item, tile);
        barrier(CLK_LOCAL_MEM_FENCE);
        if (ROW_IS(r))
            for (uint column = item; column < c.v_dim; column += ITEMS) {
                float total = 0;
                for (uint n = 0; n < v_lanes; n++) total += tile[(n * v_parts + column / 8) * 8 + column % 8];
                if (splits > 1)
                    parts[part_at(&c, &s, ROW_HEAD(r), ROW_QUERY(r), splits, split) + column] = total;
                else
                    store(out, out_at(&c, &s, ROW_HEAD(r), ROW_QUERY(r)) + column, total * alpha[r], c.q_dtype);
            }
    }
}

/* Groups: queries, heads of all batches. */
kernel void attention_merge(RULES, global void *out, global float *lse, uint splits, global const float *parts) {
    const uint head = get_group_id(1) % c.heads, batch = get_group_id(1) / c.heads;
    const int i = get_group_id(0);
    const bool some = !c.packed || i < starts[c.sequences]; /* whose row it is does not matter, if it is anyone's */
    const sequence row = {some ? 0 : c.sequences, batch, 0, c.n_q, 0, 0, 0};
    const uint pitch = c.v_dim + 2;
    parts += part_at(&c, &row, head, i, splits, 0);
    float maximum = -INFINITY, sum = 0, factor, log_sum;
    for (uint n = 0; n < splits; n++) maximum = fmax(maximum, parts[n * pitch + c.v_dim]);
    const float base = maximum == -INFINITY ? 0 : maximum;
    for (uint n = 0; n < splits; n++) sum += parts[n * pitch + c.v_dim + 1] * exp(parts[n * pitch + c.v_dim] - base);
    finish(&c, &row, head, maximum, sum, sinks, &factor, &log_sum);
    for (uint column = get_local_id(0); column < c.v_dim; column += get_local_size(0)) {
        float total = 0;
        for (uint n = 0; n < splits; n++) total += parts[n * pitch + column] * exp(parts[n * pitch + c.v_dim] - base);
        store(out, out_at(&c, &row, head, i) + column, total * factor, c.q_dtype);
    }
    if (lse && get_local_id(0) == 0) lse[lse_at(&c, &row, head, i)] = log_sum;
}
