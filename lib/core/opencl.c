/* opencl.c: what opencl.h promises, through the table: nothing here knows more of OpenCL than pointers. */
#include <clformer/opencl.h>

#include <stdlib.h>

#include "checked.h"
#include "context.h"
#include "tensor.h"

static clf_status need_opencl(clf_context *ctx) {
    CLF_CHECK(&ctx->error, ctx->backend->native, CLF_UNSUPPORTED, "opencl: %s is no OpenCL context", ctx->device_name);
    return CLF_OK;
}

static clf_status get_handles(clf_context *ctx, clf_opencl_handles *out) {
    CLF_TRY(need_opencl(ctx));
    CLF_CHECK(&ctx->error, out, CLF_INVALID_ARGUMENT, "opencl: out is NULL");
    void *handles[4];
    ctx->backend->native(ctx, handles);
    *out = (clf_opencl_handles){handles[0], handles[1], handles[2], handles[3]};
    return CLF_OK;
}

clf_status clf_opencl_get_handles(clf_context *ctx, clf_opencl_handles *out) {
    CLF_TRY(clf_enter(ctx));
    return clf_leave(ctx, get_handles(ctx, out));
}

static clf_status get_memory(const clf_tensor *t, struct _cl_mem **memory, size_t *offset) {
    CLF_TRY(need_opencl(t->ctx));
    CLF_CHECK(&t->ctx->error, memory && offset, CLF_INVALID_ARGUMENT, "opencl: NULL argument");
    *memory = t->buffer->memory.handle;
    *offset = t->offset;
    return CLF_OK;
}

clf_status clf_opencl_get_memory(const clf_tensor *t, struct _cl_mem **memory, size_t *offset) {
    if (!t || t->magic != CLF_TENSOR_MAGIC) return CLF_INVALID_ARGUMENT;
    CLF_TRY(clf_enter(t->ctx));
    return clf_leave(t->ctx, get_memory(t, memory, offset));
}

static clf_status wrap(clf_tensor **out, clf_context *ctx, const clf_tensor_args *args, struct _cl_mem *memory,
                       size_t offset) {
    clf_error *err = &ctx->error;
    CLF_TRY(need_opencl(ctx));
    CLF_CHECK(err, out && args && memory, CLF_INVALID_ARGUMENT, "wrap: NULL argument");
    CLF_CHECK(err, !args->data, CLF_INVALID_ARGUMENT, "wrap: data must be NULL");
    CLF_CHECK(err, offset % 16 == 0, CLF_INVALID_ARGUMENT, "wrap: offset: expected a multiple of 16, got %zu", offset);
    clf_tensor t;
    uint64_t bytes, end;
    CLF_TRY(clf_tensor_describe(&t, ctx, args, &bytes));
    CLF_CHECK(err, clf_add_u64(bytes, offset, &end), CLF_INVALID_ARGUMENT, "wrap: the extent overflows");
    clf_tensor *copy = malloc(sizeof *copy);
    CLF_CHECK(err, copy, CLF_OUT_OF_MEMORY, "out of host memory");
    clf_memory adopted;
    clf_status st = ctx->backend->adopt(ctx, memory, end, &adopted);
    if (st != CLF_OK) return free(copy), st;
    st = clf_buffer_wrap(&t.buffer, ctx, NULL, end, ctx->backend->disown, memory);
    if (st != CLF_OK) return ctx->backend->disown(memory), free(copy), st;
    t.buffer->memory = adopted;
    t.offset = offset;
    *copy = t;
    *out = copy;
    return CLF_OK;
}

clf_status clf_opencl_wrap(clf_tensor **out, clf_context *ctx, const clf_tensor_args *args, struct _cl_mem *memory,
                           size_t offset) {
    if (out) *out = NULL;
    CLF_TRY(clf_enter(ctx));
    return clf_leave(ctx, wrap(out, ctx, args, memory, offset));
}

static clf_status tune(clf_context *ctx, const clf_opencl_tune_args *args) {
    static const clf_opencl_tune_args all;
    const clf_opencl_tune_args *a = args ? args : &all;
    CLF_TRY(need_opencl(ctx));
    CLF_CHECK(&ctx->error, a->head_dim >= 0 && a->head_dim <= 256, CLF_INVALID_ARGUMENT,
              "tune: head_dim: expected 0 to 256, got %d", a->head_dim);
    CLF_CHECK(&ctx->error, a->length >= 0 && a->length <= 1 << 16, CLF_INVALID_ARGUMENT,
              "tune: length: expected 0 to 65536, got %lld", (long long)a->length);
    CLF_CHECK(&ctx->error, a->most >= 0, CLF_INVALID_ARGUMENT, "tune: most: expected 0 or more, got %d", a->most);
    return ctx->backend->tune(ctx, a);
}

clf_status clf_opencl_tune(clf_context *ctx, const clf_opencl_tune_args *args) {
    CLF_TRY(clf_enter(ctx));
    return clf_leave(ctx, tune(ctx, args));
}
