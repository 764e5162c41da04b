/* call.c: one call of a kernel: its arguments and its range. */
#include "cl.h"

enum { MAP_LOCAL = 128, MAP_COLUMNS = 1024 }; /* as in common.cl */

void clf_cl_value(clf_cl_call *call, size_t size, const void *value) {
    const cl_int error = clSetKernelArg(call->kernel, call->n++, size, value);
    if (!call->error) call->error = error;
}

void clf_cl_memory(clf_cl_call *call, const clf_memory *memory) {
    const cl_mem mem = memory ? memory->handle : NULL;
    clf_cl_value(call, sizeof mem, mem ? (const void *)&mem : NULL);
}

void clf_cl_int(clf_cl_call *call, int64_t value) {
    if (!call->error && (value < INT32_MIN || value > UINT32_MAX)) call->error = CL_INVALID_ARG_VALUE;
    const cl_uint bits = (cl_uint)value;
    clf_cl_value(call, sizeof bits, &bits);
}

void clf_cl_long(clf_cl_call *call, int64_t value) {
    const cl_long number = value;
    clf_cl_value(call, sizeof number, &number);
}

void clf_cl_float(clf_cl_call *call, float value) {
    clf_cl_value(call, sizeof value, &value);
}

void clf_cl_local(clf_cl_call *call, size_t bytes) {
    clf_cl_value(call, bytes, NULL);
}

void clf_cl_tensor(clf_cl_call *call, const clf_tensor *t) {
    cl_long4 stride = {{0}};
    for (int i = 0; t && i < t->ndim; i++) stride.s[CLF_MAX_DIMS - t->ndim + i] = t->stride[i];
    clf_cl_memory(call, t ? &t->buffer->memory : NULL);
    clf_cl_long(call, t ? clf_cl_offset(t) : 0);
    clf_cl_value(call, sizeof stride, &stride);
}

void clf_cl_shape(clf_cl_call *call, const clf_tensor *t) {
    cl_uint4 shape = {{1, 1, 1, 1}};
    for (int i = 0; i < t->ndim; i++) {
        if (t->shape[i] > UINT32_MAX && i < t->ndim - 1 && !call->error) call->error = CL_INVALID_ARG_VALUE;
        shape.s[CLF_MAX_DIMS - t->ndim + i] = (cl_uint)t->shape[i];
    }
    clf_cl_value(call, sizeof shape, &shape);
}

clf_status clf_cl_run(clf_cl_call *call, const size_t groups[3], size_t local) {
    clf_context *ctx = call->ctx;
    CLF_TRY(clf_cl_check(ctx, call->error, CLF_CL_AT_ONCE, call->name));
    if (!groups[0] || !groups[1] || !groups[2]) return CLF_OK;
    CLF_CHECK(&ctx->error, groups[0] <= UINT32_MAX / local, CLF_UNSUPPORTED, "%s: too large for one call", call->name);
    const size_t global[3] = {groups[0] * local, groups[1], groups[2]};
    const size_t locals[3] = {local, 1, 1};
    const cl_int error =
        clEnqueueNDRangeKernel(clf_cl(ctx)->queue, call->kernel, 3, NULL, global, locals, 0, NULL, NULL);
    return clf_cl_check(ctx, error, CLF_CL_AT_ONCE, call->name);
}

/* Whether dimensions i and i + 1 of t lie as one; the last dimension is contiguous. */
static bool joins(const clf_tensor *t, int i) {
    const int64_t inner = i + 1 == t->ndim - 1 ? 1 : t->stride[i + 1];
    return t->shape[i] == 1 || t->stride[i] == t->shape[i + 1] * inner;
}

void clf_cl_collapse(clf_tensor *views, int n) {
    for (int i = views->ndim - 2; i >= 0; i--) {
        bool all = true;
        for (int v = 0; v < n; v++) all = all && joins(&views[v], i);
        if (!all) continue;
        for (int v = 0; v < n; v++) {
            clf_tensor *t = &views[v];
            t->shape[i + 1] *= t->shape[i];
            for (int j = i; j + 1 < t->ndim; j++) t->shape[j] = t->shape[j + 1], t->stride[j] = t->stride[j + 1];
            t->ndim--;
        }
    }
}

clf_status clf_cl_run_map(clf_cl_call *call, const clf_tensor *like) {
    const int64_t n = clf_last(like), rows = clf_rows(like);
    const size_t chunks = clf_cl_divide_up(n, MAP_COLUMNS);
    clf_cl_shape(call, like);
    clf_cl_long(call, n);
    clf_cl_int(call, (int64_t)chunks);
    return clf_cl_run(call, (size_t[3]){(size_t)rows * chunks, 1, 1}, MAP_LOCAL);
}
