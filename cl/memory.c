/* memory.c: device memory, transfers and waiting. Drivers take memory when it is first used, so each block is touched
 * at both ends when it is made: lack of memory shows here and not in some later kernel. */
#include "cl.h"

enum { TOUCH = 64, WAIT_FROM = 1 << 20 };

clf_status clf_cl_alloc(clf_context *ctx, size_t bytes, clf_memory *out) {
    clf_cl_state *s = clf_cl(ctx);
    CLF_TRY(clf_cl_alive(ctx));
    cl_int error;
    cl_mem mem = clCreateBuffer(s->context, CL_MEM_READ_WRITE, bytes, NULL, &error);
    CLF_TRY(clf_cl_check(ctx, error, CLF_CL_AT_ONCE, "clCreateBuffer"));
    static const cl_uint zero;
    error = clEnqueueFillBuffer(s->queue, mem, &zero, sizeof zero, 0, TOUCH, 0, NULL, NULL);
    if (!error)
        error =
            clEnqueueFillBuffer(s->queue, mem, &zero, sizeof zero, bytes / TOUCH * TOUCH - TOUCH, TOUCH, 0, NULL, NULL);
    clf_status st = clf_cl_check(ctx, error, CLF_CL_AT_ONCE, "clEnqueueFillBuffer");
    if (st == CLF_OK && bytes >= WAIT_FROM) st = clf_cl_sync(ctx);
    if (st != CLF_OK) {
        if (!s->lost) clReleaseMemObject(mem);
        return st;
    }
    *out = (clf_memory){.handle = mem, .size = bytes};
    return CLF_OK;
}

void clf_cl_free(clf_context *ctx, clf_memory *memory) {
    if (!clf_cl(ctx)->lost) clReleaseMemObject(memory->handle);
    memory->handle = NULL;
}

clf_status clf_cl_write(clf_context *ctx, const clf_memory *memory, size_t offset, const void *data, size_t bytes) {
    CLF_TRY(clf_cl_alive(ctx));
    if (!bytes) return CLF_OK;
    return clf_cl_check(
        ctx, clEnqueueWriteBuffer(clf_cl(ctx)->queue, memory->handle, CL_TRUE, offset, bytes, data, 0, NULL, NULL),
        CLF_CL_AT_FINISH, "clEnqueueWriteBuffer");
}

clf_status clf_cl_read(clf_context *ctx, const clf_memory *memory, size_t offset, void *data, size_t bytes) {
    CLF_TRY(clf_cl_alive(ctx));
    if (!bytes) return CLF_OK;
    return clf_cl_check(
        ctx, clEnqueueReadBuffer(clf_cl(ctx)->queue, memory->handle, CL_TRUE, offset, bytes, data, 0, NULL, NULL),
        CLF_CL_AT_FINISH, "clEnqueueReadBuffer");
}

clf_status clf_cl_clear(clf_context *ctx, const clf_memory *memory, size_t offset, size_t bytes) {
    CLF_TRY(clf_cl_alive(ctx));
    static const cl_uint zero;
    const size_t unit = (offset | bytes) % sizeof zero ? 1 : sizeof zero;
    return clf_cl_check(
        ctx, clEnqueueFillBuffer(clf_cl(ctx)->queue, memory->handle, &zero, unit, offset, bytes, 0, NULL, NULL),
        CLF_CL_AT_ONCE, "clEnqueueFillBuffer");
}

clf_status clf_cl_sync(clf_context *ctx) {
    CLF_TRY(clf_cl_alive(ctx));
    return clf_cl_check(ctx, clFinish(clf_cl(ctx)->queue), CLF_CL_AT_FINISH, "clFinish");
}

void clf_cl_native(clf_context *ctx, void *handles[4]) {
    const clf_cl_state *s = clf_cl(ctx);
    handles[0] = s->platform;
    handles[1] = s->device;
    handles[2] = s->context;
    handles[3] = s->queue;
}

clf_status clf_cl_adopt(clf_context *ctx, void *handle, size_t bytes, clf_memory *out) {
    CLF_TRY(clf_cl_alive(ctx));
    cl_context home = NULL;
    size_t size = 0;
    cl_int error = clGetMemObjectInfo(handle, CL_MEM_CONTEXT, sizeof home, &home, NULL);
    if (!error) error = clGetMemObjectInfo(handle, CL_MEM_SIZE, sizeof size, &size, NULL);
    CLF_CHECK(&ctx->error, !error, CLF_INVALID_ARGUMENT, "wrap: not a memory object: %s (%d)", clf_cl_error_name(error),
              error);
    CLF_CHECK(&ctx->error, home == clf_cl(ctx)->context, CLF_INVALID_ARGUMENT,
              "wrap: the memory object belongs to another cl_context");
    CLF_CHECK(&ctx->error, bytes <= size, CLF_INVALID_ARGUMENT, "wrap: expected at least %zu bytes, got %zu", bytes,
              size);
    CLF_TRY(clf_cl_check(ctx, clRetainMemObject(handle), CLF_CL_AT_ONCE, "clRetainMemObject"));
    *out = (clf_memory){.handle = handle, .size = size};
    return CLF_OK;
}

void clf_cl_disown(void *handle) {
    clReleaseMemObject(handle);
}
