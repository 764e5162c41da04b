/* dlpack.c: tensors shared with other libraries by DLPack, on the host, without a copy. */
#include "dlpack.h"

#include <stdlib.h>
#include <string.h>

#include "checked.h"
#include "context.h"
#include "tensor.h"

static const struct {
    clf_dtype dtype;
    DLDataType dl;
} types[] = {
    {CLF_F32, {DL_FLOAT, 32, 1}},   {CLF_F16, {DL_FLOAT, 16, 1}}, {CLF_F64, {DL_FLOAT, 64, 1}},
    {CLF_BF16, {DL_BFLOAT, 16, 1}}, {CLF_I8, {DL_INT, 8, 1}},     {CLF_I16, {DL_INT, 16, 1}},
    {CLF_I32, {DL_INT, 32, 1}},     {CLF_I64, {DL_INT, 64, 1}},   {CLF_U8, {DL_UINT, 8, 1}},
    {CLF_BOOL, {DL_BOOL, 8, 1}},
};
enum { N_TYPES = sizeof types / sizeof *types };

static clf_status dtype_of(clf_error *err, DLDataType dl, clf_dtype *out) {
    for (int i = 0; i < N_TYPES; i++)
        if (types[i].dl.code == dl.code && types[i].dl.bits == dl.bits && dl.lanes == 1)
            return *out = types[i].dtype, CLF_OK;
    return clf_fail(err, CLF_UNSUPPORTED, "dlpack: dtype code %d with %d bits and %d lanes", dl.code, dl.bits,
                    dl.lanes);
}

static void release_managed(void *user) {
    DLManagedTensor *dl = user;
    if (dl->deleter) dl->deleter(dl);
}

/* The tensor's description, checked, and the bytes it spans. */
static clf_status describe(clf_error *err, const DLTensor *d, clf_tensor *t, size_t *bytes) {
    CLF_CHECK(err, d->device.device_type == DL_CPU, CLF_UNSUPPORTED,
              "dlpack: expected host memory (device 1), got device %d", d->device.device_type);
    CLF_CHECK(err, d->ndim >= 0 && d->ndim <= CLF_MAX_DIMS, CLF_INVALID_ARGUMENT,
              "dlpack: expected 0 to %d dimensions, got %d", CLF_MAX_DIMS, d->ndim);
    CLF_CHECK(err, d->shape || !d->ndim, CLF_INVALID_ARGUMENT, "dlpack: shape is NULL");
    CLF_TRY(dtype_of(err, d->dtype, &t->dtype));
    t->ndim = d->ndim;
    int64_t elements;
    CLF_CHECK(err, clf_product_i64(d->shape, d->ndim, &elements), CLF_INVALID_ARGUMENT, "dlpack: the shape overflows");
    uint64_t last = 0, step = 1;
    for (int i = d->ndim - 1; i >= 0; i--) {
        t->shape[i] = d->shape[i];
        t->stride[i] = d->strides ? d->strides[i] : (int64_t)step;
        CLF_CHECK(err, t->stride[i] >= 0, CLF_INVALID_ARGUMENT, "dlpack: stride %d is %lld", i,
                  (long long)t->stride[i]);
        uint64_t reach;
        CLF_CHECK(err,
                  !elements || (clf_mul_u64((uint64_t)(t->shape[i] - 1), (uint64_t)t->stride[i], &reach) &&
                                clf_add_u64(last, reach, &last)),
                  CLF_INVALID_ARGUMENT, "dlpack: the extent overflows");
        step *= elements ? (uint64_t)t->shape[i] : 1;
    }
    const size_t size = clf_dtype_block_bytes(t->dtype);
    uint64_t span = 0;
    CLF_CHECK(err, !elements || (clf_mul_u64(last + 1, size, &span) && span <= INT64_MAX), CLF_INVALID_ARGUMENT,
              "dlpack: the extent overflows");
    CLF_CHECK(err, d->data || !elements, CLF_INVALID_ARGUMENT, "dlpack: data is NULL");
    CLF_CHECK(err, ((uintptr_t)d->data + d->byte_offset) % size == 0, CLF_INVALID_ARGUMENT,
              "dlpack: data is not aligned to %zu bytes", size);
    *bytes = span;
    return CLF_OK;
}

static clf_status import(clf_tensor **out, clf_context *ctx, DLManagedTensor *dl) {
    clf_error *err = &ctx->error;
    CLF_CHECK(err, out && dl, CLF_INVALID_ARGUMENT, "dlpack: NULL argument");
    CLF_CHECK(err, ctx->backend->host, CLF_UNSUPPORTED, "dlpack: %s has no host memory", ctx->backend->name);
    clf_tensor t = {.magic = CLF_TENSOR_MAGIC, .ctx = ctx};
    size_t bytes = 0;
    CLF_TRY(describe(err, &dl->dl_tensor, &t, &bytes));
    clf_tensor *copy = malloc(sizeof *copy);
    CLF_CHECK(err, copy, CLF_OUT_OF_MEMORY, "out of host memory");
    const clf_status st = clf_buffer_wrap(&t.buffer, ctx, (char *)dl->dl_tensor.data + dl->dl_tensor.byte_offset, bytes,
                                          release_managed, dl);
    if (st != CLF_OK) return free(copy), st;
    *copy = t;
    *out = copy;
    return CLF_OK;
}

clf_status clf_tensor_from_dlpack(clf_tensor **out, clf_context *ctx, DLManagedTensor *dl) {
    if (out) *out = NULL;
    CLF_TRY(clf_enter(ctx));
    return clf_leave(ctx, import(out, ctx, dl));
}

/* What an exported tensor owns. */
typedef struct shared_tensor {
    DLManagedTensor dl;
    int64_t shape[CLF_MAX_DIMS], stride[CLF_MAX_DIMS];
    clf_buffer *buffer;
} shared_tensor;

static void delete_shared(DLManagedTensor *dl) {
    shared_tensor *s = dl->manager_ctx;
    clf_buffer_release(s->buffer);
    free(s);
}

static clf_status export(DLManagedTensor **out, const clf_tensor *t) {
    clf_error *err = &t->ctx->error;
    CLF_CHECK(err, out, CLF_INVALID_ARGUMENT, "dlpack: NULL argument");
    CLF_CHECK(err, t->ctx->backend->host, CLF_UNSUPPORTED, "dlpack: %s has no host memory", t->ctx->backend->name);
    int i = 0;
    while (i < N_TYPES && types[i].dtype != t->dtype) i++;
    CLF_CHECK(err, i < N_TYPES, CLF_UNSUPPORTED, "dlpack: it has no dtype for %s", clf_dtype_name(t->dtype));
    shared_tensor *s = malloc(sizeof *s);
    CLF_CHECK(err, s, CLF_OUT_OF_MEMORY, "out of host memory");
    memcpy(s->shape, t->shape, sizeof s->shape);
    memcpy(s->stride, t->stride, sizeof s->stride);
    s->buffer = t->buffer;
    clf_buffer_retain(t->buffer);
    s->dl = (DLManagedTensor){.dl_tensor = {.data = clf_data(t),
                                            .device = {DL_CPU, 0},
                                            .ndim = t->ndim,
                                            .dtype = types[i].dl,
                                            .shape = s->shape,
                                            .strides = s->stride},
                              .manager_ctx = s,
                              .deleter = delete_shared};
    *out = &s->dl;
    return CLF_OK;
}

clf_status clf_tensor_to_dlpack(DLManagedTensor **out, const clf_tensor *t) {
    if (out) *out = NULL;
    if (!t || t->magic != CLF_TENSOR_MAGIC) return CLF_INVALID_ARGUMENT;
    CLF_TRY(clf_enter(t->ctx));
    return clf_leave(t->ctx, export(out, t));
}
