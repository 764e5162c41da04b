/* memory.c: the pool behind memory.h. */
#include "context.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checked.h"

static const char *const tag_names[CLF_TAG_COUNT] = {
    [CLF_TAG_OTHER] = "other",        [CLF_TAG_WEIGHTS] = "weights",
    [CLF_TAG_KV_CACHE] = "kv cache",  [CLF_TAG_ACTIVATIONS] = "activations",
    [CLF_TAG_SCRATCH] = "scratch",    [CLF_TAG_GRADIENTS] = "gradients",
    [CLF_TAG_OPTIMIZER] = "optimizer"};

const char *clf_memory_tag_name(clf_memory_tag tag) {
    return (unsigned)tag < CLF_TAG_COUNT ? tag_names[tag] : "?";
}

/* The size class of `bytes` and its size: 64 bytes, or the next of 4, 5, 6, 7 × 2^n, a multiple of 64. */
static bool size_class(size_t bytes, int *index, size_t *size) {
    if (bytes > SIZE_MAX / 4) return false;
    if (bytes <= 256) {
        *size = bytes <= 64 ? 64 : (bytes + 63) / 64 * 64;
        *index = (int)(*size / 64) - 1;
        return true;
    }
    const int top = 63 - __builtin_clzll(bytes - 1); /* 2^top < bytes ≤ 2^(top+1) */
    const size_t step = (size_t)1 << (top - 2);
    *size = (bytes + step - 1) / step * step;
    *index = 4 * (top - 7) + (int)(*size / step) - 5;
    return true;
}

uint64_t clf_pool_block(uint64_t bytes) {
    int index;
    size_t size;
    return size_class(bytes, &index, &size) ? size : UINT64_MAX;
}

static void raise_peaks(clf_memory_stats *s, clf_memory_tag tag) {
    if (s->held > s->peak_held) s->peak_held = s->held;
    if (s->asked > s->peak_asked) s->peak_asked = s->asked;
    if (s->tag_asked[tag] > s->tag_peak[tag]) s->tag_peak[tag] = s->tag_asked[tag];
}

static void put_free(clf_pool *pool, clf_buffer *b) {
    b->next = pool->free_list[b->size_class];
    pool->free_list[b->size_class] = b;
}

static clf_buffer *take_free(clf_pool *pool, int index) {
    clf_buffer *b = pool->free_list[index];
    if (b) pool->free_list[index] = b->next;
    return b;
}

static void give_back(clf_context *ctx, clf_buffer *b) {
    ctx->pool.stats.held -= b->memory.size;
    ctx->backend->free(ctx, &b->memory);
    free(b);
}

/* The block of scratch, if it is free. One that is too small is given back: the next one will do for all. */
static clf_buffer *take_scratch(clf_context *ctx, size_t size) {
    clf_buffer *b = ctx->pool.scratch;
    ctx->pool.scratch = NULL;
    if (!b || b->memory.size >= size) return b;
    return give_back(ctx, b), NULL;
}

/* Keeps the larger one as the block of scratch. */
static void put_scratch(clf_pool *pool, clf_buffer *b) {
    clf_buffer *other = pool->scratch;
    const bool larger = !other || b->memory.size > other->memory.size;
    pool->scratch = larger ? b : other;
    if (other) put_free(pool, larger ? other : b);
}

/* A new block from the device, within the limit; what is kept for reuse is given back first if that helps. */
static clf_status take_new(clf_context *ctx, size_t bytes, size_t size, clf_buffer *b) {
    clf_memory_stats *s = &ctx->pool.stats;
    if (size > s->limit || s->held > s->limit - size) clf_pool_trim(ctx);
    char need[32], left[32];
    const uint64_t available = s->limit > s->held ? s->limit - s->held : 0;
    CLF_CHECK(&ctx->error, size <= available, CLF_OUT_OF_MEMORY,
              "memory limit of %s: required %llu bytes (%s), available %llu bytes (%s)", ctx->backend->name,
              (unsigned long long)size, clf_format_bytes(need, sizeof need, size), (unsigned long long)available,
              clf_format_bytes(left, sizeof left, available));
    clf_status st = ctx->backend->alloc(ctx, size, &b->memory);
    if (st == CLF_OUT_OF_MEMORY && s->held > s->in_use) {
        clf_pool_trim(ctx);
        st = ctx->backend->alloc(ctx, size, &b->memory);
    }
    CLF_CHECK(&ctx->error, st != CLF_OUT_OF_MEMORY, st, "%s has no memory left: required %llu bytes (%s for %s asked)",
              ctx->backend->name, (unsigned long long)size, clf_format_bytes(need, sizeof need, size),
              clf_format_bytes(left, sizeof left, bytes));
    CLF_TRY(st);
    s->held += size;
    return CLF_OK;
}

clf_status clf_buffer_create(clf_buffer **out, clf_context *ctx, size_t bytes, clf_memory_tag tag) {
    *out = NULL;
    int index;
    size_t size;
    CLF_CHECK(&ctx->error, size_class(bytes, &index, &size), CLF_OUT_OF_MEMORY, "cannot allocate %llu bytes",
              (unsigned long long)bytes);
    clf_memory_stats *s = &ctx->pool.stats;
    clf_buffer *b = tag == CLF_TAG_SCRATCH ? take_scratch(ctx, size) : NULL;
    if (!b) b = take_free(&ctx->pool, index);
    if (b) {
        s->reused++;
    } else {
        b = calloc(1, sizeof *b);
        CLF_CHECK(&ctx->error, b, CLF_OUT_OF_MEMORY, "out of host memory");
        const clf_status st = take_new(ctx, bytes, size, b);
        if (st != CLF_OK) return free(b), st;
        b->memory.size = size;
        b->size_class = index;
    }
    atomic_init(&b->references, 1);
    b->ctx = ctx;
    b->asked = bytes;
    b->tag = tag;
    b->next = NULL;
    s->allocations++;
    s->in_use += b->memory.size;
    s->asked += bytes;
    s->tag_asked[tag] += bytes;
    raise_peaks(s, tag);
    *out = b;
    return CLF_OK;
}

clf_status clf_buffer_wrap(clf_buffer **out, clf_context *ctx, void *data, size_t bytes, void (*release)(void *),
                           void *user) {
    clf_buffer *b = *out = calloc(1, sizeof *b);
    CLF_CHECK(&ctx->error, b, CLF_OUT_OF_MEMORY, "out of host memory");
    atomic_init(&b->references, 1);
    b->ctx = ctx;
    b->memory = (clf_memory){.host = data, .size = bytes};
    b->asked = bytes;
    b->size_class = -1;
    b->release = release;
    b->user = user;
    ctx->pool.stats.mapped += bytes;
    return CLF_OK;
}

void clf_buffer_retain(clf_buffer *buffer) {
    atomic_fetch_add(&buffer->references, 1);
}

void clf_buffer_release(clf_buffer *b) {
    if (!b || atomic_fetch_sub(&b->references, 1) != 1) return;
    clf_pool *pool = &b->ctx->pool;
    if (b->size_class < 0) {
        pool->stats.mapped -= b->asked;
        if (b->release) b->release(b->user);
        free(b);
        return;
    }
    pool->stats.in_use -= b->memory.size;
    pool->stats.asked -= b->asked;
    pool->stats.tag_asked[b->tag] -= b->asked;
    if (b->tag == CLF_TAG_SCRATCH)
        put_scratch(pool, b);
    else
        put_free(pool, b);
}

void clf_pool_trim(clf_context *ctx) {
    clf_buffer *b = ctx->pool.scratch;
    ctx->pool.scratch = NULL;
    if (b) give_back(ctx, b);
    for (int i = 0; i < CLF_POOL_CLASSES; i++)
        while ((b = take_free(&ctx->pool, i))) give_back(ctx, b);
}

clf_status clf_memory_get_stats(const clf_context *ctx, clf_memory_stats *out) {
    if (!ctx || ctx->magic != CLF_CONTEXT_MAGIC || !out) return CLF_INVALID_ARGUMENT;
    *out = ctx->pool.stats;
    out->efficiency = out->in_use ? (double)out->asked / (double)out->in_use : 1;
    return CLF_OK;
}

clf_status clf_memory_reset_peak(clf_context *ctx) {
    CLF_TRY(clf_enter(ctx));
    clf_memory_stats *s = &ctx->pool.stats;
    s->peak_held = s->held;
    s->peak_asked = s->asked;
    memcpy(s->tag_peak, s->tag_asked, sizeof s->tag_peak);
    return clf_leave(ctx, CLF_OK);
}

clf_status clf_memory_trim(clf_context *ctx) {
    CLF_TRY(clf_enter(ctx));
    const clf_status st = ctx->backend->sync(ctx);
    clf_pool_trim(ctx);
    return clf_leave(ctx, st);
}
