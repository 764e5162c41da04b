/* kv_cache.c: rows of keys and values: kept, viewed, copied, evicted. */
#include "kv_cache.h"

#include <stdlib.h>

#include "../core/context.h"

enum { TURNED = 64 }; /* rows of each head that are floats at a time */

clf_status clf_kv_cache_check(const clf_config *config, clf_dtype dtype, const char *op, clf_error *err) {
    const bool blocks = dtype == CLF_Q8_0 || dtype == CLF_Q4_0;
    const int values = clf_dtype_block_values(dtype), wrong = config->head_dim % 32 ? config->head_dim : config->v_dim;
    CLF_CHECK(err, clf_dtype_is_float(dtype) || blocks, CLF_INVALID_ARGUMENT,
              "%s: kv_dtype: expected f32, f16, bf16, q8_0 or q4_0, got %s", op, clf_dtype_name(dtype));
    CLF_CHECK(err, config->head_dim % values == 0 && config->v_dim % values == 0, CLF_UNSUPPORTED,
              "%s: kv_dtype %s: expected a head_dim that is a multiple of %d, got %d", op, clf_dtype_name(dtype),
              values, wrong);
    return CLF_OK;
}

uint64_t clf_kv_cache_key_bytes(const clf_config *config, clf_dtype dtype, int64_t capacity) {
    return (uint64_t)config->n_kv_heads * (uint64_t)capacity * clf_dtype_bytes(dtype, config->head_dim);
}
uint64_t clf_kv_cache_value_bytes(const clf_config *config, clf_dtype dtype, int64_t capacity) {
    return (uint64_t)config->n_kv_heads * (uint64_t)capacity * clf_dtype_bytes(dtype, config->v_dim);
}

static clf_status create_tensor(const clf_kv_cache *cache, clf_tensor *t, clf_context *ctx, int dim) {
    const clf_tensor_args args = {.dtype = cache->dtype,
                                  .ndim = 3,
                                  .shape = {cache->model->config.n_kv_heads, cache->capacity, dim},
                                  .tag = CLF_TAG_KV_CACHE};
    return clf_model_failed(cache->model, ctx, clf_tensor_init(t, ctx, &args));
}

static clf_status create_tensors(clf_kv_cache *cache) {
    const clf_config *c = &cache->model->config;
    for (int i = 0; i < c->n_layers; i++) {
        CLF_TRY(create_tensor(cache, &cache->key[i], cache->model->layers[i].ctx, c->head_dim));
        CLF_TRY(create_tensor(cache, &cache->value[i], cache->model->layers[i].ctx, c->v_dim));
    }
    return CLF_OK;
}

clf_status clf_kv_cache_init(clf_kv_cache *cache, const clf_model *model, clf_dtype dtype, int64_t capacity,
                             int64_t keep) {
    const size_t n = (size_t)model->config.n_layers;
    *cache = (clf_kv_cache){.model = model, .dtype = dtype, .capacity = capacity, .keep = keep};
    cache->key = calloc(n, sizeof *cache->key);
    cache->value = calloc(n, sizeof *cache->value);
    const clf_status st = cache->key && cache->value
                              ? create_tensors(cache)
                              : clf_fail(&model->contexts[0]->error, CLF_OUT_OF_MEMORY, "session: out of host memory");
    if (st != CLF_OK) clf_kv_cache_release(cache);
    return st;
}

void clf_kv_cache_release(clf_kv_cache *cache) {
    for (int i = 0; cache->key && cache->value && i < cache->model->config.n_layers; i++) {
        clf_tensor_release(&cache->key[i]);
        clf_tensor_release(&cache->value[i]);
    }
    free(cache->key);
    free(cache->value);
    cache->key = cache->value = NULL;
}

clf_tensor clf_kv_cache_rows(const clf_kv_cache *cache, const clf_tensor *of, int64_t first, int64_t n) {
    const int64_t heads = of->shape[0], dim = of->shape[2];
    const int64_t shape[] = {1, heads, n, dim};
    const int64_t stride[] = {heads * cache->capacity * dim, cache->capacity * dim, dim, 1};
    return clf_view_of(of, 4, shape, stride, first * dim);
}

/* Turns x, [n, 1, dim], back by `positions`. A rotation only: the magnitude was applied once. */
static clf_status turn_back(clf_rope_args rope, int64_t positions, const clf_tensor *x, clf_tensor *out) {
    rope.x = x;
    rope.out = out;
    rope.position = positions;
    rope.inverse = true;
    rope.attention_factor = 1;
    return clf_rope(x->ctx, &rope);
}

/* Moves rows [from, from + n) of one head to [to, to + n), which don't overlap; keys turn back by from − to positions.
 * Each row is a "head" at one position here, so that one call turns all by the same angle. */
static clf_status move_rows(const clf_tensor *of, int64_t head, int64_t to, int64_t from, int64_t n,
                            const clf_rope_args *rope) {
    const int64_t dim = of->shape[2], base = head * of->shape[1] * dim;
    const int64_t shape[] = {n, 1, dim};
    const clf_tensor src = clf_view_of(of, 3, shape, NULL, base + from * dim);
    clf_tensor dst = clf_view_of(of, 3, shape, NULL, base + to * dim);
    return rope ? turn_back(*rope, from - to, &src, &dst)
                : clf_convert(of->ctx, &(clf_convert_args){.x = &src, .out = &dst});
}

/* The same of the keys of all heads, in blocks: TURNED rows at a time become floats, turn, and become blocks again. */
static clf_status turn_blocks(const clf_kv_cache *cache, const clf_tensor *of, int64_t to, int64_t from, int64_t n,
                              const clf_rope_args *rope) {
    const int64_t heads = of->shape[0], dim = of->shape[2], most = n < TURNED ? n : TURNED;
    clf_tensor floats;
    CLF_TRY(clf_tensor_init(&floats, of->ctx,
                            &(clf_tensor_args){.ndim = 1, .shape = {heads * most * dim}, .tag = CLF_TAG_SCRATCH}));
    clf_status st = CLF_OK;
    for (int64_t done = 0, m; done < n && st == CLF_OK; done += m) {
        m = n - done < most ? n - done : most;
        const clf_tensor src = clf_kv_cache_rows(cache, of, from + done, m);
        clf_tensor dst = clf_kv_cache_rows(cache, of, to + done, m);
        clf_tensor rows = clf_view_of(&floats, 4, src.shape, NULL, 0);
        clf_tensor each = clf_view_of(&floats, 3, (const int64_t[]){heads * m, 1, dim}, NULL, 0);
        st = clf_convert(of->ctx, &(clf_convert_args){.x = &src, .out = &rows});
        if (st == CLF_OK) st = turn_back(*rope, from - to, &each, &each);
        if (st == CLF_OK) st = clf_convert(of->ctx, &(clf_convert_args){.x = &rows, .out = &dst});
    }
    clf_tensor_release(&floats);
    return st;
}

/* Moves what an eviction leaves of one block's keys and values. */
static clf_status move_layer(const clf_kv_cache *cache, int index, int64_t from, int64_t n, const clf_rope_args *rope) {
    const clf_tensor *key = &cache->key[index], *value = &cache->value[index];
    const bool blocks = clf_dtype_is_block(cache->dtype);
    if (blocks) CLF_TRY(turn_blocks(cache, key, cache->keep, from, n, rope));
    for (int64_t head = 0; head < key->shape[0]; head++) {
        if (!blocks) CLF_TRY(move_rows(key, head, cache->keep, from, n, rope));
        CLF_TRY(move_rows(value, head, cache->keep, from, n, NULL));
    }
    return CLF_OK;
}

/* Drops rows [keep, keep + evicting). What is read isn't written, so that the whole may be repeated after a failure. */
clf_status clf_kv_cache_settle(clf_kv_cache *cache, const clf_rope_args rope[2]) {
    const clf_model *m = cache->model;
    const int64_t from = cache->keep + cache->evicting, n = cache->rows - from;
    for (int i = 0; cache->evicting && n > 0 && i < m->config.n_layers; i++) {
        const clf_status st = move_layer(cache, i, from, n, &rope[m->config.windowed[i] != 0]);
        if (st != CLF_OK) return clf_model_failed(m, m->layers[i].ctx, st);
    }
    const int64_t rest =
        cache->rows > cache->keep ? cache->rows - cache->keep : 0; /* rows may be fewer after a failure */
    const int64_t dropped = cache->evicting < rest ? cache->evicting : rest;
    cache->rows -= dropped;
    cache->evicted += dropped;
    cache->evicting = 0;
    return CLF_OK;
}

clf_status clf_kv_cache_evict(clf_kv_cache *cache, int64_t n, const clf_rope_args rope[2]) {
    const int64_t droppable = cache->rows - cache->keep, need = cache->rows + n - cache->capacity;
    const int64_t half = (droppable + 1) / 2; /* at least half: the rest then moves in one piece, and rarely */
    cache->evicting = need > half ? need : half;
    return clf_kv_cache_settle(cache, rope);
}

clf_status clf_kv_cache_copy(clf_kv_cache *cache, const clf_kv_cache *from) {
    const clf_model *m = cache->model;
    for (int i = 0; i < m->config.n_layers; i++) {
        clf_tensor to_key = clf_kv_cache_rows(cache, &cache->key[i], 0, from->rows);
        clf_tensor to_value = clf_kv_cache_rows(cache, &cache->value[i], 0, from->rows);
        const clf_tensor key = clf_kv_cache_rows(from, &from->key[i], 0, from->rows);
        const clf_tensor value = clf_kv_cache_rows(from, &from->value[i], 0, from->rows);
        clf_status st = clf_tensor_copy(&to_key, &key);
        if (st == CLF_OK) st = clf_tensor_copy(&to_value, &value);
        if (st != CLF_OK) return clf_model_failed(m, m->layers[i].ctx, st);
    }
    cache->rows = from->rows;
    cache->evicted = from->evicted;
    cache->evicting = from->evicting;
    return CLF_OK;
}
