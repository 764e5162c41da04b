/* attention_rules.cl: what attention's kernels share: the call as they see it, which rows are whose, which keys a query
 * sees, what is added to a score, dropout (by philox.cl, which comes before). Index tensors may hold anything: whatever they say, rows outside the tensors
 * are never named; starts are read from a copy that rises (attention_starts). Rows and keys of a call are fewer than
 * 2^31 - 2^16, so that tiles beyond the last one still count in an int. */

/* Where a tensor's rows lie: offset of the first element (blocks: byte), strides of the batch (paged: block of the pool),
 * head and row in elements. */
typedef struct view {
    long at, batch, head, row;
} view;

/* As clf_cl_attention in attention_rules.h. */
typedef struct attention_call {
    view query, key, value, out, lse, mask;
    long mask_key; /* stride of the mask's keys */
    long alibi_at, sinks_at, lengths_at, table_at, table_stride, rows_at, columns_at;
    long window, window_right;
    float scale, softcap, kept;  /* kept: 1 / (1 - dropout) */
    uint drop;                   /* words below it drop; 0: none */
    uint2 seed;
    uint n_q, n_k;               /* n_k: most keys of a sequence; packed, all rows */
    uint head_dim, v_dim, heads, group;
    int q_dtype, kv_dtype, mask_dtype;
    int causal, packed;
    uint sequences;
    uint page, pages;            /* rows of a block of the pool, and blocks; page 0: not paged */
    uint block, row_blocks, entries; /* of the layout; block 0: none */
} attention_call;

/* The pointers that go with it. */
#define RULES                                                                                                          \
    attention_call c, global const void *mask, global const float *alibi, global const float *sinks,                   \
        global const int *lengths, global const int *starts, global const int *table, global const int *layout_rows,   \
        global const int *layout_columns

typedef struct sequence {
    int index, batch; /* as tables and dropout count it; as query and out do */
    int first_query, queries, first_key, keys;
    int length; /* keys from it on are hidden */
} sequence;

sequence sequence_at(const attention_call *c, global const int *lengths, global const int *starts, uint index) {
    sequence s = {index, index, 0, c->n_q, 0, c->n_k, 0};
    const bool real = index < c->sequences; /* the last one of a packed call has the rows of none */
    const int length = lengths && real ? clamp(lengths[c->lengths_at + index], 0, (int)c->n_k) : (int)c->n_k;
    if (c->packed) {
        s.batch = 0;
        s.first_query = starts[index];
        s.queries = starts[index + 1] - s.first_query;
        if (!c->page) {
            global const int *key_starts = starts + c->sequences + 2;
            s.first_key = key_starts[index];
            s.keys = key_starts[index + 1] - s.first_key;
        }
    }
    if (c->page) s.keys = length;
    if (real) s.length = min(length, s.keys);
    return s;
}

/* Tiles of `size` rows, each of one sequence: packed, those of sequence s are from starts[s] / size + s on, of which
 * the last may be empty. The sequence of tile t; its first row in it goes to *row. */
uint tile_of(global const int *starts, uint sequences, uint size, uint t, int *row) {
    uint low = 0, high = sequences; /* the last s whose tiles begin at t or before */
    while (low < high) {
        const uint middle = (low + high + 1) / 2;
        if (starts[middle] / size + middle <= t)
            low = middle;
        else
            high = middle - 1;
    }
    *row = (t - (starts[low] / size + low)) * size;
    return low;
}

sequence query_tile(const attention_call *c, global const int *lengths, global const int *starts, uint batch, uint t,
                    uint size, int *row) {
    *row = t * size;
    return sequence_at(c, lengths, starts, c->packed ? tile_of(starts, c->sequences, size, t, row) : batch);
}

/* Likewise of the keys of a call that is not paged. */
sequence key_tile(const attention_call *c, global const int *lengths, global const int *starts, uint batch, uint t,
                  uint size, int *row) {
    *row = t * size;
    if (c->packed) batch = tile_of(starts + c->sequences + 2, c->sequences, size, t, row);
    return sequence_at(c, lengths, starts, batch);
}

/* Places: (batch or block of the pool, row of it) of a query or key; (-1, 0): it is hidden, nothing is read there. */
int2 query_place(const sequence *s, int i) {
    return i < s->queries ? (int2)(s->batch, s->first_query + i) : (int2)(-1, 0);
}

int2 key_place(const attention_call *c, global const int *table, const sequence *s, int j) {
    if (j >= s->length) return (int2)(-1, 0);
    if (!c->page) return (int2)(s->batch, s->first_key + j);
    const int block = table[c->table_at + s->index * c->table_stride + j / c->page];
    return block >= 0 && block < (int)c->pages ? (int2)(block, j % c->page) : (int2)(-1, 0);
}

/* The key position at which query i stands. */
int position_of(const sequence *s, int i) {
    return i + s->keys - s->queries;
}

/* The keys from .x to .y - 1 are those that query i sees, but for layout and mask. Neither falls with i. */
int2 seen(const attention_call *c, const sequence *s, int i) {
    const long position = position_of(s, i);
    long end = s->length;
    if (c->causal) end = min(end, position + 1);
    if (c->window_right) end = min(end, position + c->window_right);
    end = max(end, 0L);
    const long begin = c->window ? max(position - c->window + 1, 0L) : 0;
    return (int2)(min(begin, end), end);
}

/* Likewise of any of the n queries from i0 on, which may all lie beyond the last: tiles have no other way out, since
 * PoCL 3.1 miscompiles kernels that return before a barrier. */
int2 seen_by(const attention_call *c, const sequence *s, int i0, int n) {
    if (i0 >= s->queries) return 0;
    return (int2)(seen(c, s, i0).x, seen(c, s, min(i0 + n, s->queries) - 1).y);
}

/* The queries from .x to .y - 1 are those that may see one of the keys from j0 to j1 - 1. */
int2 seeing(const attention_call *c, const sequence *s, int j0, int j1) {
    const long shift = (long)s->keys - s->queries;
    long begin = 0, end = j0 < s->length ? s->queries : 0;
    if (c->causal) begin = max(begin, j0 - shift);
    if (c->window_right) begin = max(begin, j0 - c->window_right + 1 - shift);
    if (c->window) end = min(end, min(j1, s->length) - 1 + c->window - shift);
    return (int2)(min(begin, (long)s->queries), max(end, 0L));
}

/* Which parts of 16 queries by 16 keys of a tile the layout leaves, at most 32: bit (query part) * (keys / 16) + (key
 * part). i0 and j0 are multiples of 16; up to 16 queries may begin anywhere in a part. */
uint layout_bits(const attention_call *c, global const int *rows, global const int *columns, int i0, int j0,
                 int queries, int keys) {
    if (!c->block) return ~0u;
    const int block = c->block, entries = c->entries;
    uint bits = 0;
    for (int q = 0; q < queries && (i0 + q) / block < (int)c->row_blocks; q += 16) {
        const long row = c->rows_at + (i0 + q) / block;
        const int end = clamp(rows[row + 1], 0, entries);
        int at = clamp(rows[row], 0, end), high = end;
        while (at < high) { /* the first column that reaches j0 */
            const int middle = at + (high - at) / 2;
            if (columns[c->columns_at + middle] < j0 / block)
                at = middle + 1;
            else
                high = middle;
        }
        for (; at < end; at++) {
            const int column = columns[c->columns_at + at];
            if (column < j0 / block || column > (j0 + keys - 1) / block) break;
            const int first = max(column * block - j0, 0), last = min(column * block + block - j0, keys);
            for (int k = first; k < last; k += 16) bits |= 1u << (q / 16 * (keys / 16) + k / 16);
        }
    }
    return bits;
}

/* Whether a tile of so many keys has the key in its layout bits for some query. */
bool key_in_layout(uint bits, int queries, int keys, int key) {
    uint any = 0;
    for (int q = 0; q < queries; q += 16) any |= bits >> (q / 16 * (keys / 16));
    return any >> key / 16 & 1;
}

/* What joins the softmax's sum besides keys; -INFINITY: nothing. Rows of no sequence have no sink either. */
float sink_of(const attention_call *c, const sequence *s, global const float *sinks, uint head) {
    return sinks && s->index < (int)c->sequences ? sinks[c->sinks_at + head] : -INFINITY;
}

/* The score after soft cap, ALiBi and mask, from q . k; mask_at is where the mask has it. *through: its derivative by
 * the dot product. */
float score(const attention_call *c, float dot, float slope, int distance, global const void *mask, long mask_at,
            float *through) {
    float s = c->scale * dot;
    *through = c->scale;
    if (c->softcap != 0) {
        const float t = tanh(s / c->softcap);
        s = c->softcap * t;
        *through *= (1 - t) * (1 + t);
    }
    s -= slope * fabs((float)distance);
    const float added = mask ? load(mask, mask_at, c->mask_dtype) : 0;
    return added == -INFINITY ? added : fmax(s + added, -MAXFLOAT);
}

long mask_row(const attention_call *c, const sequence *s, uint head, int i) {
    return c->mask.at + s->batch * c->mask.batch + head * c->mask.head + (s->first_query + i) * c->mask.row +
           s->first_key * c->mask_key;
}

/* What dropout makes of the probabilities of query i and the keys from j on, a multiple of 4: 0 or 1 / (1 - dropout).
 */
float4 kept4(const attention_call *c, const sequence *s, uint head, int i, int j) {
    if (!c->drop) return 1;
    const uint4 words = philox((uint4)(j / 4, i, head, s->index), c->seed);
    return select((float4)0, (float4)c->kept, words >= (uint4)c->drop);
}

/* Columns column ... column + 7 of the row at a place, zero from `dim` on and where there is none. Rows of Q8_0 and
 * Q4_0 are whole blocks. */
float8 load_part(global const void *p, const view *v, uint head, int2 place, uint column, uint dim, int dtype) {
    if (place.x < 0 || column >= dim) return 0;
    const long i = place.x * v->batch + head * v->head + place.y * v->row + column;
    if (dtype == Q8_0) {
        global const uchar *b = (global const uchar *)p + v->at + i / Q8_0_values * Q8_0_bytes;
        const char8 codes = as_char8(vload4(0, (global const ushort *)(b + 2 + i % Q8_0_values)));
        return half_at(b) * convert_float8(codes);
    }
    if (dtype == Q4_0) {
        global const uchar *b = (global const uchar *)p + v->at + i / Q4_0_values * Q4_0_bytes;
        const uchar8 pairs = as_uchar8(vload4(0, (global const ushort *)(b + 2 + i % 16)));
        return half_at(b) * (convert_float8(i % 32 < 16 ? pairs & (uchar8)15 : pairs >> (uchar8)4) - 8);
    }
    if (column + 8 > dim) {
        float last[8];
        for (uint n = 0; n < 8; n++) last[n] = column + n < dim ? load(p, v->at + i + n, dtype) : 0;
        return vload8(0, last);
    }
    if (dtype == F32) return vload8(0, (global const float *)p + v->at + i);
    if (dtype == F16) return vload_half8(0, (global const half *)p + v->at + i);
    return as_float8(convert_uint8(vload8(0, (global const ushort *)p + v->at + i)) << 16);
}
