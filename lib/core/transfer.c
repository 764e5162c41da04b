/* transfer.c: the calls of transfer.h, which the backend's table carries out; counted as other copies are. */
#include "transfer.h"

#include <assert.h>

#include "context.h"

clf_status clf_transfer_alloc(clf_memory *out, clf_context *ctx, size_t bytes) {
    *out = (clf_memory){0};
    CLF_TRY(clf_enter(ctx));
    return clf_leave(ctx, ctx->backend->host_alloc(ctx, bytes, out));
}

void clf_transfer_free(clf_context *ctx, clf_memory *memory) {
    if (memory->size) ctx->backend->host_free(ctx, memory);
}

static clf_status start(const clf_tensor *t, const clf_memory *host, bool to_host) {
    clf_context *ctx = t->ctx;
    const clf_backend *b = ctx->backend;
    const size_t bytes = clf_dtype_bytes(t->dtype, clf_elements(t));
    assert(clf_is_contiguous(t) && bytes <= host->size);
    if (!bytes) return CLF_OK;
    CLF_TRY(clf_enter(ctx));
    clf_transfers *counted = to_host ? &ctx->pool.stats.to_host : &ctx->pool.stats.to_device;
    const clf_status st = to_host ? b->start_read(ctx, &t->buffer->memory, t->offset, host->host, bytes)
                                  : b->start_write(ctx, &t->buffer->memory, t->offset, host->host, bytes);
    if (st == CLF_OK) {
        counted->count++;
        counted->bytes += bytes;
    }
    return clf_leave(ctx, st);
}

clf_status clf_transfer_to_host(const clf_tensor *t, const clf_memory *host) {
    return start(t, host, true);
}

clf_status clf_transfer_to_device(const clf_tensor *t, const clf_memory *host) {
    return start(t, host, false);
}

clf_status clf_transfer_join(clf_context *ctx) {
    if (!ctx->backend->join) return CLF_OK;
    CLF_TRY(clf_enter(ctx));
    return clf_leave(ctx, ctx->backend->join(ctx));
}
