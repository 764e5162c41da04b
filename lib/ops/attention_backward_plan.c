/* attention_backward_plan.c: how the CPU tables share out attention's backward pass, and the scratch that takes: it
 * grows with the keys, not with queries × keys. */
#include "attention.h"

#include "../core/checked.h"

static int64_t round_up(int64_t n, int64_t step) {
    return n / step * step + (n % step ? step : 0);
}

/* Whether there is work for more than one thread. */
static bool busy(const clf_attention_shape *s) {
    int64_t products;
    const int64_t sizes[] = {s->batch, s->heads, s->queries, s->keys, s->head_dim + s->v_dim};
    return !clf_product_i64(sizes, 5, &products) || products > 1 << 16;
}

/* Queries a block: fewer for wide heads, so that a block stays in the second cache, and where threads that share a unit
 * would idle. */
static int block_rows(const clf_attention_shape *s, int64_t units, int threads) {
    const bool wide = s->head_dim > 128 || s->v_dim > 128;
    const bool few = units < threads && s->queries / CLF_ATTENTION_BACKWARD_ROWS < 4 * (int64_t)threads;
    return wide || few ? CLF_ATTENTION_BACKWARD_ROWS / 2 : CLF_ATTENTION_BACKWARD_ROWS;
}

bool clf_attention_backward_plan_make(clf_attention_backward_plan *p, const clf_attention_shape *s,
                                      const clf_tensor *d_mask, int threads) {
    enum { ROWS = CLF_ATTENTION_BACKWARD_ROWS, KEYS = CLF_ATTENTION_KEYS, PANEL = CLF_ATTENTION_PANEL };
    *p = (clf_attention_backward_plan){.threads = busy(s) ? threads : 1};
    const int64_t pitch = round_up(s->head_dim, 16), v_pitch = round_up(s->v_dim, 16);
    int64_t sums, heads, mask_sums = 0;
    if (!clf_product_i64((int64_t[]){s->batch, s->kv_heads}, 2, &p->units)) return false;
    if (!clf_product_i64((int64_t[]){s->batch, s->heads}, 2, &heads)) return false;
    if (!clf_product_i64((int64_t[]){s->keys, pitch + v_pitch}, 2, &sums)) return false;
    if (d_mask && d_mask->shape[2] == 1 &&
        !clf_product_i64((int64_t[]){s->kv_heads ? s->heads / s->kv_heads : 0, s->keys}, 2, &mask_sums))
        return false;
    p->alone = d_mask ? 0 : p->units / p->threads * p->threads;
    p->rows = block_rows(s, p->units, p->threads);
    p->sums = (uint64_t)sums;
    p->mask_sums = (uint64_t)round_up(mask_sums, 16);
    p->head_sums = (uint64_t)round_up(heads, 8);
    p->work = 2 * ROWS * (uint64_t)(round_up(pitch, PANEL) + round_up(v_pitch, PANEL)) + ROWS * (uint64_t)pitch +
              5 * ROWS * KEYS + KEYS * (uint64_t)(pitch + v_pitch) + 2 * ROWS;
    uint64_t floats;
    return clf_mul_u64(p->head_sums, 2 * sizeof(double) / sizeof(float), &floats) &&
           clf_add_u64(floats, p->sums, &floats) && clf_add_u64(floats, p->mask_sums, &floats) &&
           clf_add_u64(floats, p->work, &floats) &&
           clf_mul_u64(floats, (uint64_t)p->threads * sizeof(float), &p->scratch);
}
