/* spread.c: blocks to contexts, in order. A context of host memory uses mapped weights in place, so there only keys,
 * values and activations count against its limit. */
#include "spread.h"

#include "../core/context.h"
#include "estimate.h"
#include "kv_cache.h"

enum { CONTEXT = 2048, CHUNK = 512 };

/* What is left of ctx's limit after activations and scratch. */
static uint64_t budget(const clf_context *ctx, const clf_model_file *file, int64_t context_length) {
    const clf_memory_stats *s = &ctx->pool.stats;
    const int64_t chunk = context_length < CHUNK ? context_length : CHUNK;
    const uint64_t fixed = clf_estimate_activations(clf_model_file_config(file), CLF_F32, chunk) +
                           clf_estimate_scratch(file, chunk, context_length, ctx->threads);
    if (s->limit == UINT64_MAX) return UINT64_MAX;
    return s->limit > s->in_use + fixed ? s->limit - s->in_use - fixed : 0;
}

static uint64_t bytes_on(const clf_context *ctx, clf_weight_bytes w) {
    return ctx->backend->host ? clf_pool_block(w.copied) : w.held;
}

clf_status clf_spread(int *place, const clf_model_args *args, const clf_model_file *file, clf_error *err) {
    const clf_config *c = clf_model_file_config(file);
    int64_t length = args->context_length;
    if (!length) length = c->trained_context < CONTEXT ? c->trained_context : CONTEXT;
    CLF_CHECK(err, length > 0, CLF_INVALID_ARGUMENT, "model: context_length: expected more than 0, got %lld",
              (long long)length);
    const uint64_t kv = clf_pool_block(clf_kv_cache_key_bytes(c, CLF_F32, length)) +
                        clf_pool_block(clf_kv_cache_value_bytes(c, CLF_F32, length));
    clf_weight_bytes embedding, output;
    clf_estimate_ends(&embedding, &output, file);

    int at = 0, count = 0; /* context being filled, blocks on it */
    uint64_t left = budget(args->contexts[0], file, length);
    for (int i = 0; i < c->n_layers; i++) {
        for (;; at++, count = 0, left = budget(args->contexts[at], file, length)) {
            const clf_context *ctx = args->contexts[at];
            const clf_weight_bytes block = clf_estimate_block(file, i, ctx->backend);
            uint64_t need = kv + bytes_on(ctx, block);
            if (i == 0) need += bytes_on(ctx, embedding);
            if (i == c->n_layers - 1) need += bytes_on(ctx, output);
            const bool last = at == args->n_contexts - 1;
            if (last || (need <= left && (!args->layers || count < args->layers[at]))) {
                left -= need < left ? need : left;
                break;
            }
        }
        place[i] = at;
        count++;
    }
    return CLF_OK;
}
