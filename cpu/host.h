/* host.h: host memory, for every CPU table. */
#ifndef CLF_CPU_HOST_H
#define CLF_CPU_HOST_H

#include "../lib/core/context.h"

clf_status clf_host_open(clf_context *ctx, int index);
void clf_host_close(clf_context *ctx);
clf_status clf_host_alloc(clf_context *ctx, size_t bytes, clf_memory *out);
void clf_host_free(clf_context *ctx, clf_memory *memory);
clf_status clf_host_write(clf_context *ctx, const clf_memory *memory, size_t offset, const void *data, size_t bytes);
clf_status clf_host_read(clf_context *ctx, const clf_memory *memory, size_t offset, void *data, size_t bytes);
clf_status clf_host_clear(clf_context *ctx, const clf_memory *memory, size_t offset, size_t bytes);
clf_status clf_host_sync(clf_context *ctx);

#endif
