/* attention_layer.c: the attention half of a block. */
#include "attention_layer.h"

#include <clformer/memory.h>

#include "estimate.h"

/* [n, heads · dim] as [1, heads, n, dim]. */
static clf_tensor heads_of(const clf_tensor *t, int64_t heads) {
    const int64_t n = t->shape[0], width = t->shape[1], dim = width / heads;
    return clf_view_of(t, 4, (const int64_t[]){1, heads, n, dim}, (const int64_t[]){n * width, dim, width, 1}, 0);
}

/* Norm of each head, in place. */
static clf_status norm_heads(const clf_config *c, const clf_tensor *weight, const clf_tensor *t, int64_t heads) {
    clf_tensor h = clf_view_of(t, 3, (const int64_t[]){t->shape[0], heads, t->shape[1] / heads}, NULL, 0);
    return clf_decoder_norm(c, weight, &h, NULL, &h);
}

static clf_status rotate(clf_rope_args args, int64_t position, const clf_tensor *x, clf_tensor *out) {
    args.x = x;
    args.position = position;
    args.out = out;
    return clf_rope(x->ctx, &args);
}

/* Keys, rotated, and values of the new tokens go to their rows of the cache. */
static clf_status append(const clf_decoder *d, const clf_kv_cache *cache, int index, const clf_tensor *key,
                         const clf_tensor *value) {
    const clf_config *c = &d->model->config;
    const clf_rope_args *rope = &d->rope[c->windowed[index] != 0];
    const int64_t n = key->shape[0], at = cache->rows;
    clf_tensor k = heads_of(key, c->n_kv_heads);
    const clf_tensor v = heads_of(value, c->n_kv_heads);
    clf_tensor key_rows = clf_kv_cache_rows(cache, &cache->key[index], at, n);
    clf_tensor value_rows = clf_kv_cache_rows(cache, &cache->value[index], at, n);
    if (cache->dtype == k.dtype) {
        CLF_TRY(rotate(*rope, at, &k, &key_rows));
    } else {
        CLF_TRY(rotate(*rope, at, &k, &k));
        CLF_TRY(clf_convert(k.ctx, &(clf_convert_args){.x = &k, .out = &key_rows}));
    }
    return clf_convert(v.ctx, &(clf_convert_args){.x = &v, .out = &value_rows});
}

/* attended = attention of `query`, the last rows, over everything in the cache and the n new rows. */
static clf_status attend(const clf_decoder *d, const clf_kv_cache *cache, int index, int64_t n, const clf_tensor *query,
                         const clf_tensor *attended) {
    const clf_config *c = &d->model->config;
    const bool windowed = c->windowed[index] != 0;
    const int64_t end = cache->rows + n;
    clf_tensor q = heads_of(query, c->n_heads), out = heads_of(attended, c->n_heads);
    const clf_tensor k = clf_kv_cache_rows(cache, &cache->key[index], 0, end);
    const clf_tensor v = clf_kv_cache_rows(cache, &cache->value[index], 0, end);
    CLF_TRY(rotate(d->rope[windowed], end - query->shape[0], &q, &q));
    return clf_attention(q.ctx, &(clf_attention_args){.query = &q,
                                                      .key = &k,
                                                      .value = &v,
                                                      .scale = c->attention_scale,
                                                      .softcap = c->attention_softcap,
                                                      .causal = true,
                                                      .window = windowed ? c->window : 0,
                                                      .out = &out});
}

clf_status clf_attention_layer(const clf_decoder *d, const clf_kv_cache *cache, int index, const clf_tensor *h,
                               int64_t want, const clf_tensor *residual, clf_tensor *out) {
    const clf_config *c = &d->model->config;
    const clf_layer *l = &d->model->layers[index];
    const clf_tensor *act = d->act[l->place];
    const int64_t n = h->shape[0];
    clf_tensor qkv[] = {clf_decoder_rows(&act[CLF_ACT_QUERY], 0, n), clf_decoder_rows(&act[CLF_ACT_KEY], 0, n),
                        clf_decoder_rows(&act[CLF_ACT_VALUE], 0, n)};
    CLF_TRY(clf_decoder_project(d, l, CLF_W_QUERY, 3, h, NULL, qkv));
    if (c->qk_norm) {
        CLF_TRY(norm_heads(c, &l->weight[CLF_W_QUERY_NORM], &qkv[0], c->n_heads));
        CLF_TRY(norm_heads(c, &l->weight[CLF_W_KEY_NORM], &qkv[1], c->n_kv_heads));
    }
    CLF_TRY(append(d, cache, index, &qkv[1], &qkv[2]));
    if (!want) return CLF_OK;
    const clf_tensor q = clf_decoder_rows(&qkv[0], n - want, want);
    const clf_tensor attended = clf_decoder_rows(&act[CLF_ACT_ATTENDED], 0, want);
    CLF_TRY(attend(d, cache, index, n, &q, &attended));
    return clf_decoder_project(d, l, CLF_W_OUTPUT, 1, &attended, residual, out);
}

static uint64_t larger(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

clf_status clf_attention_layer_memory(clf_attention_layer_bytes *out, const clf_attention_layer_memory_args *a) {
    if (!out || !a) return CLF_INVALID_ARGUMENT;
    *out = (clf_attention_layer_bytes){0};
    const int64_t v_dim = a->v_dim ? a->v_dim : a->head_dim, most = (int64_t)1 << 31, n = a->tokens;
    const int64_t sizes[] = {a->hidden_size, a->n_heads, a->n_kv_heads, n, a->context_length};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (sizes[i] < 0 || sizes[i] >= most) return CLF_INVALID_ARGUMENT;
    if (a->context_length < n || (unsigned)a->weight_dtype >= CLF_DTYPE_COUNT) return CLF_INVALID_ARGUMENT;
    const clf_config kv = {
        .n_kv_heads = (int32_t)a->n_kv_heads, .head_dim = (int32_t)a->head_dim, .v_dim = (int32_t)v_dim};
    clf_attention_bytes attention;
    const clf_attention_memory_args shape = {.batch = 1,
                                             .heads = a->n_heads,
                                             .kv_heads = a->n_kv_heads,
                                             .queries = n,
                                             .keys = a->context_length,
                                             .head_dim = a->head_dim,
                                             .v_dim = v_dim,
                                             .threads = a->threads};
    CLF_TRY(clf_attention_memory(&attention, &shape));
    if (clf_kv_cache_check(&kv, a->kv_dtype, "attention", NULL) != CLF_OK) return CLF_INVALID_ARGUMENT;
    const int64_t q = a->n_heads * a->head_dim, kv_width = a->n_kv_heads * (a->head_dim + v_dim),
                  o = a->n_heads * v_dim;
    const bool codes = clf_dtype_is_block(a->weight_dtype);
    const int threads = a->threads ? a->threads : 1;
    const uint64_t linear = larger(clf_estimate_linear(n, a->hidden_size, q + kv_width, false, codes, threads),
                                   clf_estimate_linear(n, o, a->hidden_size, false, codes, threads));
    *out = (clf_attention_layer_bytes){.kv_cache = clf_kv_cache_key_bytes(&kv, a->kv_dtype, a->context_length) +
                                                   clf_kv_cache_value_bytes(&kv, a->kv_dtype, a->context_length),
                                       .activations = sizeof(float) * (uint64_t)(n * (q + kv_width + o)),
                                       .scratch = larger(linear, attention.flash_scratch),
                                       .naive_scratch = larger(linear, attention.naive_scratch)};
    return CLF_OK;
}
