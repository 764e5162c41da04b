/* attention.cl: out = softmax(mask(softcap(scale · q·kᵀ) − alibi + mask)) · v, a tile of keys at a time with a running
 * maximum and sum (arXiv:2205.14135), so that scores never leave the chip.
 *
 * attention       64 queries of one head by 256 items, 32 keys at a time; the head dimension goes through local memory
 *                 in runs of 32 (scores) and 64 (values). CHUNKS, 1, 2 or 4: v_dim ÷ 64, rounded up.
 * attention_few   one query by 128 items, 128 keys at a time: each item scores one key, then adds 16 columns of some.
 *
 * Dtypes are arguments, head_dim and v_dim up to 64 · CHUNKS, keys of any dtype. Keys that no query
 * of a group sees are not read as values, whatever lies there. */

/* What both kernels take after the tensors; strides are (batch, head, row). */
#define RULES                                                                                                          \
    IN(mask), int mask_dtype, global const float *alibi, long alibi_at, global const float *sinks, long sinks_at,      \
        global const int *lengths, long lengths_at, long lengths_stride, global float *lse, long lse_at,               \
        long4 lse_stride, float scale, float softcap, int causal, long window, uint n_q, uint n_k, uint head_dim,      \
        uint v_dim, uint heads, uint group

/* The keys that `query` sees of [0, end): those from *begin to *limit − 1. */
void seen(long position, long end, int causal, long window, long *begin, long *limit) {
    *limit = causal ? min(end, position + 1) : end;
    *begin = window ? max(0L, position - window + 1) : 0;
}

/* A score from q·k; mask_at is where the query's row and this key lie in the mask. */
float score(float dot, float scale, float softcap, float slope, long distance, global const void *mask, long mask_at,
            int mask_dtype) {
    float s = scale * dot;
    if (softcap != 0) s = softcap * tanh(s / softcap);
    s -= slope * fabs((float)distance);
    return mask ? s + load(mask, mask_at, mask_dtype) : s;
}

#define QUERIES 64
#define KEYS    32
#define DEPTH   32
#define PITCH   (QUERIES + 4)
#define K_PITCH (KEYS + 4)

/* 256 items: scores by 32 × 8 of 2 × 4, values by 16 × 16 of 4 × 4. `pool` holds 32 rows of queries and of keys, or 32
 * rows of values; `p` the probabilities, keys by queries; `stats` 6 floats a query. */
kernel __attribute__((reqd_work_group_size(256, 1, 1))) void
attention(IN(q), int q_dtype, IN(key), IN(value), int kv_dtype, OUT(out), RULES, local float *pool, local float *p,
          local float *stats) {
    const uint item = get_local_id(0), q0 = get_group_id(0) * QUERIES;
    const uint head = get_group_id(1) % heads, batch = get_group_id(1) / heads;
    const long q_base = q_at + batch * q_stride.x + head * q_stride.y;
    const long k_base = key_at + batch * key_stride.x + head / group * key_stride.y;
    const long v_base = value_at + batch * value_stride.x + head / group * value_stride.y;
    const long mask_base = mask_at + batch * mask_stride.x + head * mask_stride.y;
    const long out_base = out_at + batch * out_stride.x + head * out_stride.y;
    const float slope = alibi ? alibi[alibi_at + head] : 0;

    /* keys that any of the group's queries sees */
    const long shift = (long)n_k - n_q, end = lengths ? clamp((long)lengths[lengths_at + batch * lengths_stride], 0L, (long)n_k) : n_k;
    const long last_query = min(q0 + QUERIES, n_q) - 1;
    long begin, limit, ignored;
    seen(q0 + shift, end, causal, window, &begin, &ignored);
    seen(last_query + shift, end, causal, window, &ignored, &limit);

    local float *q_tile = pool, *k_tile = pool + DEPTH * PITCH;
    local float *partial = stats, *alpha = stats + 4 * QUERIES, *top = stats + 5 * QUERIES;
    const uint row = item % QUERIES, quarter = item / QUERIES; /* in the softmax: 8 keys of a query */
    float maximum = sinks ? sinks[sinks_at + head] : -INFINITY, sum = sinks && !isinf(maximum) ? 1 : 0;

    float4 o[CHUNKS][4];
    for (int c = 0; c < CHUNKS; c++)
        for (int i = 0; i < 4; i++) o[c][i] = 0;

    for (long k0 = begin; k0 < limit; k0 += KEYS) {
        /* scores */
        const uint sx = item % 8 * 4, sy = item / 8 * 2;
        float4 s0 = 0, s1 = 0;
        for (uint d0 = 0; d0 < head_dim; d0 += DEPTH) {
            if (item < 192) {
                const bool is_q = item < 128;
                const uint line = is_q ? item % 64 : item % 32, at = d0 + (is_q ? item / 64 : (item - 128) / 32) * 16;
                const long from = is_q ? q_base + min(q0 + line, n_q - 1) * q_stride.z
                                       : k_base + min(k0 + line, end - 1) * key_stride.z;
                float16 v = 0;
                if (at < head_dim)
                    v = is_q ? load16(q, from + at, head_dim - at, q_dtype)
                             : load16(key, from + at, head_dim - at, kv_dtype);
                float values[16];
                vstore16(v, 0, values);
                local float *tile = (is_q ? q_tile + line : k_tile + line) + (at - d0) * (is_q ? PITCH : K_PITCH);
                for (int j = 0; j < 16; j++) tile[j * (is_q ? PITCH : K_PITCH)] = values[j];
            }
            barrier(CLK_LOCAL_MEM_FENCE);
            float4 t0 = 0, t1 = 0;
            for (int d = 0; d < DEPTH; d++) {
                const float2 a = vload2(0, q_tile + d * PITCH + sy);
                const float4 b = vload4(0, k_tile + d * K_PITCH + sx);
                t0 += a.x * b;
                t1 += a.y * b;
            }
            s0 += t0;
            s1 += t1;
            barrier(CLK_LOCAL_MEM_FENCE);
        }
        float scores[8];
        vstore8((float8)(s0, s1), 0, scores);
        for (uint i = 0; i < 8; i++) {
            const uint query = q0 + sy + i / 4;
            const long k = k0 + sx + i % 4, position = query + shift;
            long from, to;
            seen(position, end, causal, window, &from, &to);
            float s = -INFINITY;
            if (query < n_q && k >= from && k < to)
                s = score(scores[i], scale, softcap, slope, position - k, mask,
                          mask_base + query * mask_stride.z + k * mask_stride.w, mask_dtype);
            p[(sx + i % 4) * PITCH + sy + i / 4] = s;
        }
        barrier(CLK_LOCAL_MEM_FENCE);

        /* softmax: each query by four items, which keep its maximum and sum alike */
        float high = maximum;
        for (uint j = 0; j < 8; j++) high = fmax(high, p[(8 * quarter + j) * PITCH + row]);
        partial[item] = high;
        barrier(CLK_LOCAL_MEM_FENCE);
        for (uint j = 0; j < 4; j++) high = fmax(high, partial[j * QUERIES + row]);
        barrier(CLK_LOCAL_MEM_FENCE);
        const float base = high == -INFINITY ? 0 : high;
        float part = 0;
        for (uint j = 0; j < 8; j++) {
            local float *e = p + (8 * quarter + j) * PITCH + row;
            part += *e = exp(*e - base);
        }
        partial[item] = part;
        const float a = exp(maximum - base);
        if (quarter == 0) alpha[row] = a;
        barrier(CLK_LOCAL_MEM_FENCE);
        sum = sum * a + ((partial[row] + partial[QUERIES + row]) + (partial[2 * QUERIES + row] + partial[3 * QUERIES + row]));
        maximum = high;

        /* values */
        const uint ox = item % 16 * 4, oy = item / 16 * 4;
        const float4 alphas = vload4(0, alpha + oy);
        for (int c = 0; c < CHUNKS; c++) {
            const uint line = item % 32, at = 64 * c + item / 32 * 16;
            if (item < 128) {
                float16 v = 0;
                if (at < v_dim && k0 + line < limit)
                    v = load16(value, v_base + (k0 + line) * value_stride.z + at, v_dim - at, kv_dtype);
                vstore16(v, 0, pool + line * PITCH + at - 64 * c);
            }
            barrier(CLK_LOCAL_MEM_FENCE);
            float4 t0 = 0, t1 = 0, t2 = 0, t3 = 0;
            for (int k = 0; k < KEYS; k++) {
                const float4 w = vload4(0, p + k * PITCH + oy), b = vload4(0, pool + k * PITCH + ox);
                t0 += w.x * b;
                t1 += w.y * b;
                t2 += w.z * b;
                t3 += w.w * b;
            }
            o[c][0] = o[c][0] * alphas.x + t0;
            o[c][1] = o[c][1] * alphas.y + t1;
            o[c][2] = o[c][2] * alphas.z + t2;
            o[c][3] = o[c][3] * alphas.w + t3;
            barrier(CLK_LOCAL_MEM_FENCE);
        }
    }

    if (quarter == 0) {
        top[row] = sum > 0 ? 1 / sum : 0;
        if (lse && q0 + row < n_q)
            lse[lse_at + batch * lse_stride.y + head * lse_stride.z + (q0 + row) * lse_stride.w] =
                sum > 0 ? maximum + log(sum) : -INFINITY;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    const uint ox = item % 16 * 4, oy = item / 16 * 4;
    for (int c = 0; c < CHUNKS; c++)
        for (uint i = 0; i < 4; i++) {
            float values[4];
            vstore4(o[c][i] * top[oy + i], 0, values);
            for (uint j = 0; j < 4; j++) {
                const uint column = 64 * c + ox + j;
                if (q0 + oy + i < n_q && column < v_dim)
                    store(out, out_base + (q0 + oy + i) * out_stride.z + column, values[j], q_dtype);
            }
        }
}

#define FEW_KEYS 128

/* 128 items. `pool`: 16 floats an item; `p`: the probabilities; the query lies in `row`. */
kernel __attribute__((reqd_work_group_size(FEW_KEYS, 1, 1))) void
attention_few(IN(q), int q_dtype, IN(key), IN(value), int kv_dtype, OUT(out), RULES, local float *pool, local float *p,
              local float *row) {
    const uint item = get_local_id(0), query = get_group_id(0);
    const uint head = get_group_id(1) % heads, batch = get_group_id(1) / heads;
    const long q_base = q_at + batch * q_stride.x + head * q_stride.y + query * q_stride.z;
    const long k_base = key_at + batch * key_stride.x + head / group * key_stride.y;
    const long v_base = value_at + batch * value_stride.x + head / group * value_stride.y;
    const long mask_row = mask_at + batch * mask_stride.x + head * mask_stride.y + query * mask_stride.z;
    const long out_row = out_at + batch * out_stride.x + head * out_stride.y + query * out_stride.z;
    const float slope = alibi ? alibi[alibi_at + head] : 0;
    const long end = lengths ? clamp((long)lengths[lengths_at + batch * lengths_stride], 0L, (long)n_k) : n_k;
    const long position = (long)query + n_k - n_q;
    long begin, limit;
    seen(position, end, causal, window, &begin, &limit);

    for (uint d = item; d < head_dim; d += FEW_KEYS) row[d] = load(q, q_base + d, q_dtype);
    barrier(CLK_LOCAL_MEM_FENCE);

    /* of the values: 16 columns from 16 · part on, every lines-th key */
    const uint parts = (v_dim + 15) / 16, lines = FEW_KEYS / parts, part = item % parts, line = item / parts;
    float maximum = sinks ? sinks[sinks_at + head] : -INFINITY, sum = sinks && !isinf(maximum) ? 1 : 0;
    float16 o = 0;
    for (long k0 = begin; k0 < limit; k0 += FEW_KEYS) {
        const long k = k0 + item;
        float s = -INFINITY;
        if (k < limit) {
            float16 dot16 = 0;
            for (uint d = 0; d < head_dim; d += 16) {
                float16 a = 0;
                if (d + 16 <= head_dim) {
                    a = vload16(0, row + d);
                } else {
                    float tail[16];
                    for (uint j = 0; j < 16; j++) tail[j] = d + j < head_dim ? row[d + j] : 0;
                    a = vload16(0, tail);
                }
                dot16 += a * load16(key, k_base + k * key_stride.z + d, head_dim - d, kv_dtype);
            }
            s = score(sum16(dot16), scale, softcap, slope, position - k, mask, mask_row + k * mask_stride.w, mask_dtype);
        }
        const float high = fmax(maximum, group_max(s, pool)), base = high == -INFINITY ? 0 : high;
        const float e = exp(s - base), a = exp(maximum - base);
        p[item] = e;
        sum = sum * a + group_sum(e, pool); /* its barriers also order p */
        maximum = high;
        float16 t = 0;
        for (uint j = line; line < lines && j < FEW_KEYS && k0 + j < limit; j += lines)
            if (p[j] != 0)
                t += p[j] * load16(value, v_base + (k0 + j) * value_stride.z + 16 * part, v_dim - 16 * part, kv_dtype);
        o = o * a + t;
    }

    barrier(CLK_LOCAL_MEM_FENCE);
    vstore16(o, item, pool);
    barrier(CLK_LOCAL_MEM_FENCE);
    for (uint c = item; c < v_dim; c += FEW_KEYS) {
        float total = 0;
        for (uint j = 0; j < lines; j++) total += pool[(j * parts + c / 16) * 16 + c % 16];
        store(out, out_row + c, sum > 0 ? total / sum : 0, q_dtype);
    }
    if (lse && item == 0)
        lse[lse_at + batch * lse_stride.y + head * lse_stride.z + query * lse_stride.w] =
            sum > 0 ? maximum + log(sum) : -INFINITY;
}
