/* attention_tile.cl: products of a tile of QUERIES queries and KEYS keys by ITEMS work-items: of rows with rows, which
 * are scores, and of tile with rows, which are outputs and gradients. What they read goes through local memory: DEPTH
 * columns of all rows, or RUN rows of COLUMNS columns.
 *
 * An item computes MQ queries by 4 keys of a tile; or 4 columns of rows by ITEMS / 16 groups. All four numbers are
 * powers of two with 2 or 4 items a query, MQ 4 or 8; sums are of DEPTH or RUN products first. */
#define MQ       (QUERIES * KEYS / ITEMS / 4)
#define LANES    (ITEMS / QUERIES)
#define Q_PITCH  (QUERIES + 4)
#define K_PITCH  (KEYS + 4)
#define COLUMNS  64
#define V_PITCH  (COLUMNS + 4)
#define RUN      32
#define MOST_ROWS 8 /* of outputs an item has */
/* floats; as in attention_tile.h */
#define POOL (DEPTH * (Q_PITCH + K_PITCH) > RUN * V_PITCH ? DEPTH * (Q_PITCH + K_PITCH) : RUN * V_PITCH)

/* Some tensor's rows: their memory, a head of them, and their places. */
typedef struct rows {
    global const void *p;
    const view *v;
    local const int2 *places;
    uint head, dim;
    int dtype;
} rows;

/* Columns [column, column + DEPTH) of n rows, transposed. */
void stage_columns(local float *tile, const rows *r, uint n, uint column) {
    for (uint e = get_local_id(0); e < n * DEPTH / 8; e += ITEMS) {
        const uint line = e % n, part = e / n * 8;
        float values[8];
        vstore8(load_part(r->p, r->v, r->head, r->places[line], column + part, r->dim, r->dtype), 0, values);
        local float *to = tile + part * (n + 4) + line;
        for (uint j = 0; j < 8; j++) to[j * (n + 4)] = values[j];
    }
}

/* s[m] = queries MQ * (item / (KEYS / 4)) + m by keys 4 * (item % (KEYS / 4)) ...: products over all columns. */
void multiply(float4 s[MQ], local float *pool, const rows *queries, const rows *keys) {
    const uint item = get_local_id(0), x = item % (KEYS / 4), y = item / (KEYS / 4) * (MQ / 4);
    local float *k_tile = pool + DEPTH * Q_PITCH;
    for (int m = 0; m < MQ; m++) s[m] = 0;
    for (uint d0 = 0; d0 < queries->dim; d0 += DEPTH) {
        stage_columns(pool, queries, QUERIES, d0);
        stage_columns(k_tile, keys, KEYS, d0);
        barrier(CLK_LOCAL_MEM_FENCE);
        float4 t[MQ];
        for (int m = 0; m < MQ; m++) t[m] = 0;
        for (int d = 0; d < DEPTH; d++) {
            const float4 b = ((local const float4 *)(k_tile + d * K_PITCH))[x];
            for (int m = 0; m < MQ / 4; m++) {
                const float4 a = ((local const float4 *)(pool + d * Q_PITCH))[y + m];
                t[4 * m + 0] += a.x * b;
                t[4 * m + 1] += a.y * b;
                t[4 * m + 2] += a.z * b;
                t[4 * m + 3] += a.w * b;
            }
        }
        for (int m = 0; m < MQ; m++) s[m] += t[m];
        barrier(CLK_LOCAL_MEM_FENCE);
    }
}

/* o[m] += sum over n rows of w[row * pitch + count * (item / 16) + m] times columns column + 4 * (item % 16) ... of it,
 * for `count`, 4 or 8, outputs. */
void accumulate(float4 o[MOST_ROWS], const int count, local float *pool, local const float *w, uint pitch, uint n,
                const rows *r, uint column) {
    const uint item = get_local_id(0), x = item % (COLUMNS / 4), y = item / (COLUMNS / 4) * (count / 4);
    for (uint first = 0; first < n; first += RUN) {
        for (uint e = item; e < RUN * COLUMNS / 8; e += ITEMS) {
            const uint line = e / (COLUMNS / 8), part = e % (COLUMNS / 8) * 8;
            vstore8(load_part(r->p, r->v, r->head, r->places[first + line], column + part, r->dim, r->dtype), 0,
                    pool + line * V_PITCH + part);
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        float4 t[MOST_ROWS];
        for (int m = 0; m < count; m++) t[m] = 0;
        for (uint k = 0; k < RUN; k++) {
            const float4 b = ((local const float4 *)(pool + k * V_PITCH))[x];
            for (int m = 0; m < count / 4; m++) {
                const float4 a = ((local const float4 *)(w + (first + k) * pitch))[y + m];
                t[4 * m + 0] += a.x * b;
                t[4 * m + 1] += a.y * b;
                t[4 * m + 2] += a.z * b;
                t[4 * m + 3] += a.w * b;
            }
        }
        for (int m = 0; m < count; m++) o[m] += t[m];
        barrier(CLK_LOCAL_MEM_FENCE);
    }
}

/* Writes an item's outputs to the rows from `first` to end - 1. */
void write_rows(const float4 o[MOST_ROWS], const int count, global void *p, const view *v, uint batch,
                uint head, int first, int end, uint column, uint dim, int dtype) {
    const uint item = get_local_id(0), y = item / (COLUMNS / 4) * count;
    column += item % (COLUMNS / 4) * 4;
    for (int m = 0; m < count; m++) {
        float values[4];
        vstore4(o[m], 0, values);
        const long row = v->at + batch * v->batch + head * v->head + (long)(first + (int)y + m) * v->row;
        for (uint j = 0; j < 4; j++)
            if (first + (int)y + m < end && column + j < dim) store(p, row + column + j, values[j], dtype);
    }
}
