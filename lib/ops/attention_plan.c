/* attention_plan.c: blocks, splits and scratch of attention on the CPU tables; and the estimate that people ask for. */
#include "attention.h"

#include <clformer/memory.h>

#include "../core/checked.h"
#include "../core/dtype.h"

static int64_t min64(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static int64_t round_up(int64_t n, int64_t step) {
    return n / step * step + (n % step ? step : 0);
}

static int64_t blocks_of(int64_t n, int64_t each) {
    return n / each + (n % each != 0);
}

/* Whether there is work for more than one thread: starting them takes as long as some 100 000 multiplications. */
static bool busy(int64_t rows, const clf_attention_shape *s) {
    int64_t products;
    return !clf_product_i64((int64_t[]){rows, s->keys, s->head_dim + s->v_dim}, 3, &products) || products > 1 << 17;
}

/* Rows a block: 192 (96 for wide heads, so that a block stays in the second cache), fewer where threads would idle, and
 * an even share of a layout's row block. */
static int64_t block_rows(const clf_attention_plan *p, int64_t groups, int64_t rows, int64_t typical) {
    const int64_t most = p->pitch > 128 || p->v_pitch > 128 ? 96 : 192, wanted = 4 * (int64_t)p->threads;
    int64_t block = groups < wanted ? typical / (wanted / groups) : rows;
    block = block < 1 ? 1 : min64(block, most);
    if (p->stretch < rows) block = blocks_of(p->stretch, blocks_of(p->stretch, min64(block, p->stretch)));
    return round_up(block, CLF_ATTENTION_LANES);
}

int64_t clf_attention_splits(int64_t units, int64_t keys, int threads) {
    const int64_t wanted = 4 * (int64_t)threads, most = min64(keys / CLF_ATTENTION_PART, wanted);
    for (int64_t n = 1; n < most; n++)
        if (units >= wanted || units * n % threads == 0 || units * n >= wanted) return n;
    return most > 1 ? most : 1;
}

/* What waits of few rows: parts are at least a quarter of a thread's share of the keys, a sequence in several has no
 * more than twice as many as whole ones would fit, so all have no more than eight a thread. */
static int64_t waiting_few(const clf_attention_plan *p, int64_t keys) {
    if (p->threads == 1 || keys <= CLF_ATTENTION_PART) return 0;
    return 8 * (int64_t)p->threads * CLF_ATTENTION_FEW * (p->v_pitch + 2);
}

bool clf_attention_plan_make(clf_attention_plan *p, const clf_attention_shape *s, int threads) {
    *p = (clf_attention_plan){.group = s->kv_heads ? s->heads / s->kv_heads : 0,
                              .turns = s->sequences ? s->sequences : s->batch,
                              .pitch = round_up(s->head_dim, 16),
                              .v_pitch = round_up(s->v_dim, 16),
                              .splits = 1};
    int64_t groups, rows, all;
    if (!clf_product_i64((int64_t[]){p->turns, s->kv_heads}, 2, &groups)) return false;
    if (!clf_product_i64((int64_t[]){p->group, s->queries}, 2, &rows)) return false; /* of one sequence, at most */
    if (!clf_product_i64((int64_t[]){groups, rows}, 2, &all)) return false;
    if (all == 0) return true;
    if (s->sequences) all = all / s->sequences * s->batch;
    p->threads = busy(all, s) ? threads : 1;
    p->stretch = s->layout_block ? min64(rows, p->group * s->layout_block) : rows;
    p->block = block_rows(p, groups, rows, blocks_of(all, groups));
    p->partial = p->block * (p->v_pitch + 2);
    p->work = CLF_ATTENTION_FEW * p->pitch;
    if (s->sequences || rows <= CLF_ATTENTION_FEW) p->waiting = waiting_few(p, s->keys);
    if (rows > CLF_ATTENTION_FEW) {
        const int64_t tile = CLF_ATTENTION_STEP * CLF_ATTENTION_STEP;
        p->work = p->block * (p->pitch + CLF_ATTENTION_ROW) + 2 * tile + CLF_ATTENTION_STEP * (p->pitch + p->v_pitch);
        if (!s->sequences) {
            const int64_t units = groups * clf_attention_blocks(p, rows);
            p->splits = clf_attention_splits(units, s->keys, p->threads);
            if (p->splits > 1) p->waiting = units * p->splits * p->partial;
        }
    }
    uint64_t floats, turns;
    return clf_mul_u64((uint64_t)p->threads, (uint64_t)(p->partial + p->work), &floats) &&
           clf_add_u64(floats, (uint64_t)p->waiting, &floats) && clf_mul_u64(floats, sizeof(float), &p->scratch) &&
           clf_mul_u64((uint64_t)p->turns, sizeof(clf_attention_turn), &turns) &&
           clf_add_u64(p->scratch, turns, &p->scratch) &&
           clf_add_u64(p->scratch, (uint64_t)p->threads * sizeof(clf_attention_share), &p->scratch);
}

/* Bytes of `n` sizes' product of `dtype`, added to *sum. */
static bool add_bytes(uint64_t *sum, const int64_t *sizes, int n, clf_dtype dtype) {
    int64_t elements;
    uint64_t bytes;
    return clf_product_i64(sizes, n, &elements) &&
           clf_mul_u64((uint64_t)elements, clf_dtype_block_bytes(dtype), &bytes) && clf_add_u64(*sum, bytes, sum);
}

/* Parts that a device may split the keys into. */
static int64_t device_parts(const clf_attention_shape *s, clf_dtype dtype) {
    const int64_t sequences = s->sequences ? s->sequences : 1, group = s->kv_heads ? s->heads / s->kv_heads : 0;
    int64_t parts = 1;
    if (blocks_of(s->queries, sequences) <= CLF_ATTENTION_DEVICE_QUERIES)
        parts = min64(s->keys / CLF_ATTENTION_DEVICE_PART, CLF_ATTENTION_DEVICE_PARTS);
    if (dtype == CLF_F32 || group == 0) return parts;
    if (s->queries / sequences > CLF_ATTENTION_TENSOR_ROWS / group) return parts;
    const int64_t splits = min64(s->keys / CLF_ATTENTION_TENSOR_PART, CLF_ATTENTION_TENSOR_PARTS);
    return splits > parts ? splits : parts;
}

/* Of each part and row: out, maximum, sum; both kinds of starts, with the rows of no sequence; of each row D, and on
 * tensor cores lse beside it. */
static bool add_device(clf_attention_bytes *e, const clf_attention_shape *s, clf_dtype dtype) {
    const int64_t parts = device_parts(s, dtype), split[] = {s->batch, s->heads, s->queries, parts, s->v_dim + 2};
    const int64_t rows[] = {dtype == CLF_F32 ? 1 : 2, s->batch, s->heads, s->queries};
    uint64_t starts = 0;
    if (s->sequences && !clf_mul_u64((uint64_t)s->sequences + 2, 2 * sizeof(int32_t), &starts)) return false;
    e->device_scratch = e->device_backward_scratch = starts;
    return (parts <= 1 || add_bytes(&e->device_scratch, split, 5, CLF_F32)) &&
           add_bytes(&e->device_backward_scratch, rows, 4, CLF_F32);
}

clf_status clf_attention_memory(clf_attention_bytes *out, const clf_attention_memory_args *a) {
    if (!out || !a) return CLF_INVALID_ARGUMENT;
    *out = (clf_attention_bytes){0};
    const clf_attention_shape s = {
        a->batch,     a->heads,       a->kv_heads, a->queries, a->keys, a->head_dim, a->v_dim ? a->v_dim : a->head_dim,
        a->sequences, a->layout_block};
    const int64_t sizes[] = {s.batch,    s.heads, s.kv_heads,  s.queries,      s.keys,
                             s.head_dim, s.v_dim, s.sequences, s.layout_block, a->threads};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (sizes[i] < 0) return CLF_INVALID_ARGUMENT;
    if (!clf_dtype_is_float(a->dtype) || s.head_dim > CLF_ATTENTION_DIM || s.v_dim > CLF_ATTENTION_DIM ||
        (s.kv_heads ? s.heads % s.kv_heads != 0 : s.heads != 0))
        return CLF_INVALID_ARGUMENT;

    clf_attention_bytes e = {0};
    clf_attention_plan plan;
    clf_attention_backward_plan backward;
    const int threads = a->threads ? a->threads : 1;
    const int64_t q[] = {s.batch, s.heads, s.queries, s.head_dim}, k[] = {s.batch, s.kv_heads, s.keys, s.head_dim},
                  v[] = {s.batch, s.kv_heads, s.keys, s.v_dim}, o[] = {s.batch, s.heads, s.queries, s.v_dim},
                  scores[] = {2, s.batch, s.heads, s.queries, s.keys};
    const bool fits = add_bytes(&e.inputs, q, 4, a->dtype) && add_bytes(&e.inputs, k, 4, a->dtype) &&
                      add_bytes(&e.inputs, v, 4, a->dtype) && add_bytes(&e.output, o, 4, a->dtype) &&
                      add_bytes(&e.output, o, 3, CLF_F32) && add_bytes(&e.naive_scratch, scores, 5, a->dtype) &&
                      add_bytes(&e.naive_saved, scores + 1, 4, a->dtype) && add_device(&e, &s, a->dtype) &&
                      clf_attention_plan_make(&plan, &s, threads) &&
                      clf_attention_backward_plan_make(&backward, &s, NULL, threads);
    if (!fits) return CLF_INVALID_ARGUMENT;
    e.flash_scratch = plan.scratch;
    e.saved = e.output;
    e.backward_scratch = backward.scratch;
    *out = e;
    return CLF_OK;
}
