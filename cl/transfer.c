/* transfer.c: copies between device and host memory on a queue of their own, beside the ops. Each begins when the ops
 * enqueued before it have finished; what is enqueued after clf_cl_join() begins when the copies have. The host's side
 * is memory that the driver keeps in place, so that the device reaches it by itself: with any other a driver may wait,
 * or copy twice. */
#include "cl.h"

clf_status clf_cl_host_alloc(clf_context *ctx, size_t bytes, clf_memory *out) {
    const clf_cl_state *s = clf_cl(ctx);
    CLF_TRY(clf_cl_alive(ctx));
    cl_int error;
    cl_mem mem = clCreateBuffer(s->context, CL_MEM_READ_WRITE | CL_MEM_ALLOC_HOST_PTR, bytes, NULL, &error);
    CLF_TRY(clf_cl_check(ctx, error, CLF_CL_AT_ONCE, "clCreateBuffer"));
    void *host =
        clEnqueueMapBuffer(s->queue, mem, CL_TRUE, CL_MAP_READ | CL_MAP_WRITE, 0, bytes, 0, NULL, NULL, &error);
    const clf_status st = clf_cl_check(ctx, error, CLF_CL_AT_ONCE, "clEnqueueMapBuffer");
    if (st == CLF_OK)
        *out = (clf_memory){.host = host, .handle = mem, .size = bytes};
    else if (!s->lost)
        clReleaseMemObject(mem);
    return st;
}

void clf_cl_host_free(clf_context *ctx, clf_memory *memory) {
    const clf_cl_state *s = clf_cl(ctx);
    if (memory->handle && !s->lost) {
        if (s->transfers) clFinish(s->transfers);
        clEnqueueUnmapMemObject(s->queue, memory->handle, memory->host, 0, NULL, NULL);
        clReleaseMemObject(memory->handle);
    }
    *memory = (clf_memory){0};
}

/* *ready: when the ops enqueued so far have finished. */
static clf_status begin(clf_context *ctx, cl_event *ready) {
    clf_cl_state *s = clf_cl(ctx);
    cl_int error = CL_SUCCESS;
    CLF_TRY(clf_cl_alive(ctx));
    if (!s->transfers) s->transfers = clCreateCommandQueue(s->context, s->device, 0, &error);
    CLF_TRY(clf_cl_check(ctx, error, CLF_CL_AT_ONCE, "clCreateCommandQueue"));
    error = clEnqueueMarkerWithWaitList(s->queue, 0, NULL, ready);
    CLF_TRY(clf_cl_check(ctx, error, CLF_CL_AT_ONCE, "clEnqueueMarkerWithWaitList"));
    error = clFlush(s->queue); /* another queue waits for it */
    if (error) clReleaseEvent(*ready);
    return clf_cl_check(ctx, error, CLF_CL_AT_ONCE, "clFlush");
}

/* After the copy was enqueued, or wasn't: `arrival` is its event. */
static clf_status end(clf_context *ctx, cl_event ready, cl_event arrival, cl_int error, const char *what) {
    clf_cl_state *s = clf_cl(ctx);
    clReleaseEvent(ready);
    CLF_TRY(clf_cl_check(ctx, error, CLF_CL_AT_ONCE, what));
    if (s->arrival) clReleaseEvent(s->arrival); /* in order: the last one's is everyone's */
    s->arrival = arrival;
    return clf_cl_check(ctx, clFlush(s->transfers), CLF_CL_AT_ONCE, "clFlush");
}

clf_status clf_cl_start_read(clf_context *ctx, const clf_memory *memory, size_t offset, void *data, size_t bytes) {
    cl_event ready, arrival = NULL;
    CLF_TRY(begin(ctx, &ready));
    const cl_int error =
        clEnqueueReadBuffer(clf_cl(ctx)->transfers, memory->handle, CL_FALSE, offset, bytes, data, 1, &ready, &arrival);
    return end(ctx, ready, arrival, error, "clEnqueueReadBuffer");
}

clf_status clf_cl_start_write(clf_context *ctx, const clf_memory *memory, size_t offset, const void *data,
                              size_t bytes) {
    cl_event ready, arrival = NULL;
    CLF_TRY(begin(ctx, &ready));
    const cl_int error = clEnqueueWriteBuffer(clf_cl(ctx)->transfers, memory->handle, CL_FALSE, offset, bytes, data, 1,
                                              &ready, &arrival);
    return end(ctx, ready, arrival, error, "clEnqueueWriteBuffer");
}

clf_status clf_cl_join(clf_context *ctx) {
    clf_cl_state *s = clf_cl(ctx);
    CLF_TRY(clf_cl_alive(ctx));
    if (!s->arrival) return CLF_OK;
    const cl_int error = clEnqueueBarrierWithWaitList(s->queue, 1, &s->arrival, NULL);
    CLF_TRY(clf_cl_check(ctx, error, CLF_CL_AT_ONCE, "clEnqueueBarrierWithWaitList"));
    clReleaseEvent(s->arrival);
    s->arrival = NULL;
    return CLF_OK;
}
