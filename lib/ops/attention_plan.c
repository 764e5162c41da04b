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

/* Whether there is work for more than one thread: starting them takes as long as some 100 000 multiplications. */
static bool busy(int64_t rows, const clf_attention_shape *s) {
    int64_t products;
    return !clf_product_i64((int64_t[]){rows, s->keys, s->head_dim + s->v_dim}, 3, &products) || products > 1 << 17;
}

/* Rows a block: 192 (96 for wide heads, so that a block stays in the second cache), fewer where threads would idle. */
static int64_t block_rows(const clf_attention_plan *p, int64_t groups, int threads) {
    if (p->few) return p->rows;
    const int64_t most = p->pitch > 128 || p->v_pitch > 128 ? 96 : 192;
    const int64_t share = groups < 4 * (int64_t)threads ? p->rows / (4 * (int64_t)threads / groups) : p->rows;
    const int64_t fair = round_up(share + 1, CLF_ATTENTION_LANES);
    return fair < most ? fair : most;
}

/* Parts of the keys: the fewest that give every thread the same number of units, or four of them, at least 128 keys
 * each. */
static int64_t key_splits(int64_t blocks, int64_t keys, int threads) {
    const int64_t most = min64(keys / 128, 4 * (int64_t)threads);
    for (int64_t n = 1; n < most; n++)
        if (blocks >= 4 * (int64_t)threads || blocks * n % threads == 0 || blocks * n >= 4 * (int64_t)threads) return n;
    return most > 1 ? most : 1;
}

bool clf_attention_plan_make(clf_attention_plan *p, const clf_attention_shape *s, int threads) {
    *p = (clf_attention_plan){.group = s->kv_heads ? s->heads / s->kv_heads : 0,
                              .pitch = round_up(s->head_dim, 16),
                              .v_pitch = round_up(s->v_dim, 16),
                              .splits = 1};
    int64_t groups, rows, blocks;
    if (!clf_product_i64((int64_t[]){s->batch, s->kv_heads}, 2, &groups)) return false;
    if (!clf_product_i64((int64_t[]){p->group, s->queries}, 2, &p->rows)) return false;
    if (!clf_product_i64((int64_t[]){groups, p->rows}, 2, &rows)) return false;
    if (rows == 0) return true;
    p->few = p->rows <= CLF_ATTENTION_FEW;
    p->threads = threads = busy(rows, s) ? threads : 1;
    p->block = block_rows(p, groups, threads);
    if (!clf_product_i64((int64_t[]){groups, (p->rows - 1) / p->block + 1}, 2, &blocks)) return false;
    p->blocks = blocks;
    p->splits = key_splits(blocks, s->keys, threads);

    const uint64_t padded = (uint64_t)round_up(p->block, p->few ? CLF_ATTENTION_FEW : CLF_ATTENTION_LANES);
    const uint64_t tile = (uint64_t)CLF_ATTENTION_KEYS * CLF_ATTENTION_LANES;
    p->partial = padded * (uint64_t)(p->v_pitch + 2);
    p->work = padded * (uint64_t)p->pitch;
    if (!p->few) p->work += 2 * tile + 4 * padded + (uint64_t)CLF_ATTENTION_KEYS * (uint64_t)(p->pitch + p->v_pitch);
    const uint64_t partials = p->splits > 1 ? (uint64_t)(p->blocks * p->splits) : (uint64_t)threads;
    uint64_t floats;
    return clf_mul_u64(partials, p->partial, &floats) && clf_add_u64(floats, (uint64_t)threads * p->work, &floats) &&
           clf_mul_u64(floats, sizeof(float), &p->scratch);
}

/* Bytes of `n` sizes' product of `dtype`, added to *sum. */
static bool add_bytes(uint64_t *sum, const int64_t *sizes, int n, clf_dtype dtype) {
    int64_t elements;
    uint64_t bytes;
    return clf_product_i64(sizes, n, &elements) &&
           clf_mul_u64((uint64_t)elements, clf_dtype_block_bytes(dtype), &bytes) && clf_add_u64(*sum, bytes, sum);
}

clf_status clf_attention_memory(clf_attention_bytes *out, const clf_attention_memory_args *a) {
    if (!out || !a) return CLF_INVALID_ARGUMENT;
    *out = (clf_attention_bytes){0};
    clf_attention_shape s = {a->batch, a->heads, a->kv_heads, a->queries, a->keys, a->head_dim, a->v_dim};
    if (!s.v_dim) s.v_dim = s.head_dim;
    const int64_t sizes[] = {s.batch, s.heads, s.kv_heads, s.queries, s.keys, s.head_dim, s.v_dim, a->threads};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (sizes[i] < 0) return CLF_INVALID_ARGUMENT;
    if (!clf_dtype_is_float(a->dtype) || s.head_dim > CLF_ATTENTION_DIM || s.v_dim > CLF_ATTENTION_DIM ||
        (s.kv_heads ? s.heads % s.kv_heads != 0 : s.heads != 0))
        return CLF_INVALID_ARGUMENT;

    clf_attention_bytes e = {0};
    clf_attention_plan plan;
    const int64_t q[] = {s.batch, s.heads, s.queries, s.head_dim}, k[] = {s.batch, s.kv_heads, s.keys, s.head_dim},
                  v[] = {s.batch, s.kv_heads, s.keys, s.v_dim}, o[] = {s.batch, s.heads, s.queries, s.v_dim},
                  scores[] = {2, s.batch, s.heads, s.queries, s.keys};
    const bool fits = add_bytes(&e.inputs, q, 4, a->dtype) && add_bytes(&e.inputs, k, 4, a->dtype) &&
                      add_bytes(&e.inputs, v, 4, a->dtype) && add_bytes(&e.output, o, 4, a->dtype) &&
                      add_bytes(&e.output, o, 3, CLF_F32) && add_bytes(&e.naive_scratch, scores, 5, a->dtype) &&
                      clf_attention_plan_make(&plan, &s, a->threads ? a->threads : 1);
    if (!fits) return CLF_INVALID_ARGUMENT;
    e.flash_scratch = plan.scratch;
    *out = e;
    return CLF_OK;
}
