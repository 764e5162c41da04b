/* optimizer_step.c: AdamW, SGD and Lion, one pass over weights, gradients and state.
 *
 * The formulas stand in lib/ops/optimizer_factors.h. Threads take blocks of CLF_OPTIMIZER_BLOCK elements, those that
 * share a scale in 8-bit state. Such state is decoded into floats that stay in the cache, stepped, and encoded again,
 * by optimizer_code.h; float state is stepped where it lies. A block that is cut short by the tensor's end is stepped
 * in a padded copy, so that no vector is partial. */
#include "../lib/ops/optimizer_factors.h"
#include "cpu.h"
#include "optimizer_code.h"

enum { BLOCK = CLF_OPTIMIZER_BLOCK };

typedef enum update_rule { ADAMW, SGD, SGD_PLAIN, LION } update_rule;

/* Where a block's elements are. */
typedef struct block {
    float *weight, *gradient, *momentum, *variance; /* the latter two NULL where the rule has none */
} block;

INLINE void step(const block *b, const clf_optimizer_factors *f, update_rule rule) {
    const vf zero = v_set1(0), scale = v_set1(f->gradient_scale), decay = v_set1(f->decay), rate = v_set1(f->rate);
    const vf beta1 = v_set1(f->beta1), rest1 = v_set1(f->rest1), beta2 = v_set1(f->beta2), rest2 = v_set1(f->rest2);
    const vf root = v_set1(f->root), eps = v_set1(f->eps), one = v_set1(1), least = v_set1(FLT_TRUE_MIN);
    for (int i = 0; i < BLOCK; i += VL) {
        const vf g = v_mul(v_load(b->gradient + i), scale);
        vf change = g;
        if (rule == ADAMW) {
            const vf m = v_fma(beta1, v_load(b->momentum + i), v_mul(rest1, g));
            const vf v = v_fma(beta2, v_load(b->variance + i), v_mul(rest2, v_mul(g, g)));
            v_store(b->momentum + i, m);
            v_store(b->variance + i, v);
            change = v_div(m, v_fma(root, v_sqrt(v), eps));
        } else if (rule == SGD) {
            change = v_fma(beta1, v_load(b->momentum + i), g);
            v_store(b->momentum + i, change);
        } else if (rule == LION) {
            const vf m = v_load(b->momentum + i), c = v_fma(beta1, m, v_mul(rest1, g));
            v_store(b->momentum + i, v_fma(beta2, m, v_mul(rest2, g)));
            change = v_sub(v_ge_or(c, least, one, zero), v_ge_or(v_sub(zero, least), c, one, zero)); /* sign of c */
        }
        v_store(b->gradient + i, zero);
        const vf w = v_load(b->weight + i);
        v_store(b->weight + i, v_sub(w, v_fma(decay, w, v_mul(rate, change))));
    }
}

static void step_block(const block *b, const clf_optimizer_factors *f, update_rule rule) {
    switch (rule) {
    case ADAMW: step(b, f, ADAMW); break;
    case SGD: step(b, f, SGD); break;
    case SGD_PLAIN: step(b, f, SGD_PLAIN); break;
    case LION: step(b, f, LION); break;
    }
}

typedef enum state_kind { MOMENTUM, VARIANCE } state_kind;

INLINE void decode(const uint8_t *code, float scale, float *x, state_kind kind) {
    for (int i = 0; i < BLOCK; i += VL) {
        const vf c = v_load_u8(code + i);
        v_store(x + i, v_mul(v_set1(scale), kind == MOMENTUM ? decode_momentum(c) : decode_variance(c)));
    }
}

/* Returns the scale. u [BLOCK]: variance's. */
INLINE float encode(const float *x, const float *u, uint8_t *code, state_kind kind) {
    vf most = v_set1(0);
    for (int i = 0; i < BLOCK; i += VL) most = v_max(v_abs(v_load(x + i)), most);
    const float scale = v_hmax(most);
    const vf inverse = v_set1(1 / (scale > FLT_MIN ? scale : FLT_MIN));
    for (int i = 0; i < BLOCK; i += VL) {
        const vf y = v_mul(v_load(x + i), inverse);
        v_store_u8(code + i, kind == MOMENTUM ? encode_momentum(y) : encode_variance(y, v_load(u + i)));
    }
    return scale;
}

/* The n elements of one kind of state from element `at` on: where they lie, or decoded in `floats`. */
static float *open_state(const clf_tensor *t, const clf_tensor *scale, int64_t at, int n, float *floats,
                         state_kind kind) {
    if (!t) return NULL;
    if (t->dtype == CLF_F32) return (float *)clf_data(t) + at;
    uint8_t code[BLOCK] = {0};
    memcpy(code, (const uint8_t *)clf_data(t) + at, (size_t)n);
    const float s = ((const float *)clf_data(scale))[at / BLOCK];
    if (kind == MOMENTUM)
        decode(code, s, floats, MOMENTUM);
    else
        decode(code, s, floats, VARIANCE);
    for (int i = n; i < BLOCK; i++) floats[i] = 0;
    return floats;
}

/* `dither` is of element 0. */
static void close_state(const clf_tensor *t, const clf_tensor *scale, int64_t at, int n, const float *floats,
                        state_kind kind, uint32_t dither) {
    if (!t || t->dtype == CLF_F32) return;
    uint8_t code[BLOCK];
    float u[BLOCK], *s = (float *)clf_data(scale) + at / BLOCK;
    if (kind == MOMENTUM) {
        *s = encode(floats, NULL, code, MOMENTUM);
    } else {
        for (int i = 0; i < BLOCK; i++)
            u[i] = (float)(int)((dither + (uint32_t)(at + i) * CLF_DITHER_ELEMENT) >> 16) * 0x1p-16f;
        *s = encode(floats, u, code, VARIANCE);
    }
    memcpy((uint8_t *)clf_data(t) + at, code, (size_t)n);
}

/* Steps the first n elements of a block, in a copy. */
static void step_part(const block *b, int n, const clf_optimizer_factors *f, update_rule rule) {
    float padded[4][BLOCK] = {{0}}, *const part[4] = {b->weight, b->gradient, b->momentum, b->variance};
    const size_t bytes = (size_t)n * sizeof **padded;
    for (int i = 0; i < 4; i++)
        if (part[i]) memcpy(padded[i], part[i], bytes);
    step_block(&(block){padded[0], padded[1], padded[2], padded[3]}, f, rule);
    for (int i = 0; i < 4; i++)
        if (part[i]) memcpy(part[i], padded[i], bytes);
}

INLINE void copy_as(const float *weight, char *copy, int n, clf_dtype dtype) {
    int i = 0;
    for (; i + VL <= n; i += VL) v_store_as(copy + (size_t)i * cpu_bytes(dtype), v_load(weight + i), dtype);
    if (i < n) v_store_as_n(copy + (size_t)i * cpu_bytes(dtype), v_load_n(weight + i, n - i), n - i, dtype);
}

/* The block of n elements from element `at` on. */
static void run(const clf_optimizer_step_args *a, const clf_optimizer_factors *f, update_rule rule, int64_t at, int n) {
    float momentum[BLOCK], variance[BLOCK];
    const block b = {.weight = (float *)clf_data(a->weight) + at,
                     .gradient = (float *)clf_data(a->gradient) + at,
                     .momentum = open_state(a->momentum, a->momentum_scale, at, n, momentum, MOMENTUM),
                     .variance = open_state(a->variance, a->variance_scale, at, n, variance, VARIANCE)};
    if (n == BLOCK)
        step_block(&b, f, rule);
    else
        step_part(&b, n, f, rule);
    close_state(a->momentum, a->momentum_scale, at, n, momentum, MOMENTUM, f->dither);
    close_state(a->variance, a->variance_scale, at, n, variance, VARIANCE, f->dither);
    if (!a->copy) return;
    char *copy = (char *)clf_data(a->copy) + at * (int64_t)cpu_bytes(a->copy->dtype);
    if (a->copy->dtype == CLF_F16)
        copy_as(b.weight, copy, n, CLF_F16);
    else
        copy_as(b.weight, copy, n, CLF_BF16);
}

clf_status CPU_FN(optimizer_step)(clf_context *ctx, const clf_optimizer_step_args *a) {
    const clf_optimizer_factors f = clf_optimizer_factors_of(a);
    const update_rule rule = a->optimizer == CLF_OPTIMIZER_ADAMW  ? ADAMW
                             : a->optimizer == CLF_OPTIMIZER_LION ? LION
                             : a->momentum                        ? SGD
                                                                  : SGD_PLAIN;
    const int64_t n = clf_elements(a->weight), blocks = (n + BLOCK - 1) / BLOCK;
    const int threads = cpu_threads(ctx, blocks, 16 * n);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        int64_t begin, end;
        cpu_share(blocks, omp_get_thread_num(), omp_get_num_threads(), &begin, &end);
        for (int64_t i = begin; i < end; i++)
            run(a, &f, rule, i * BLOCK, n - i * BLOCK < BLOCK ? (int)(n - i * BLOCK) : BLOCK);
    }
    return CLF_OK;
}
