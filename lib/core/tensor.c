/* tensor.c: tensors and views, and copies between them and the host. */
#include "tensor.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "checked.h"
#include "context.h"

static void set_contiguous(clf_tensor *t) {
    int64_t stride = 1;
    for (int i = t->ndim - 1; i >= 0; i--) {
        t->stride[i] = stride;
        stride *= t->shape[i] ? t->shape[i] : 1;
    }
}

bool clf_is_contiguous(const clf_tensor *t) {
    int64_t stride = 1;
    for (int i = t->ndim - 1; i >= 0; i--) {
        if (t->shape[i] != 1 && t->stride[i] != stride) return clf_elements(t) == 0;
        stride *= t->shape[i];
    }
    return true;
}

/* Checks dtype and shape; the number of elements and of bytes. */
static clf_status check_shape(clf_error *err, clf_dtype dtype, int ndim, const int64_t *shape, int64_t *elements,
                              uint64_t *bytes) {
    CLF_CHECK(err, (unsigned)dtype < CLF_DTYPE_COUNT, CLF_INVALID_ARGUMENT, "tensor: %d is no dtype", (int)dtype);
    CLF_CHECK(err, ndim >= 0 && ndim <= CLF_MAX_DIMS, CLF_INVALID_ARGUMENT,
              "tensor: expected 0 to %d dimensions, got %d", CLF_MAX_DIMS, ndim);
    for (int i = 0; i < ndim; i++)
        CLF_CHECK(err, shape[i] >= 0, CLF_INVALID_ARGUMENT, "tensor: dimension %d is %lld", i, (long long)shape[i]);
    const int values = clf_dtype_block_values(dtype);
    CLF_CHECK(err, values == 1 || (ndim && shape[ndim - 1] % values == 0), CLF_INVALID_ARGUMENT,
              "tensor: rows of %s are multiples of %d, got %lld", clf_dtype_name(dtype), values,
              (long long)(ndim ? shape[ndim - 1] : 1));
    CLF_CHECK(err, !clf_dtype_is_interleaved(dtype) || (ndim == 2 && shape[0] % CLF_PANEL_ROWS == 0),
              CLF_INVALID_ARGUMENT, "tensor: %s is for matrices whose rows are a multiple of %d", clf_dtype_name(dtype),
              CLF_PANEL_ROWS);
    uint64_t size = 0;
    CLF_CHECK(err,
              clf_product_i64(shape, ndim, elements) &&
                  clf_mul_u64((uint64_t)(*elements / values), clf_dtype_block_bytes(dtype), &size) && size <= INT64_MAX,
              CLF_INVALID_ARGUMENT, "tensor: the size overflows");
    *bytes = size;
    return CLF_OK;
}

clf_status clf_tensor_describe(clf_tensor *t, clf_context *ctx, const clf_tensor_args *args, uint64_t *bytes) {
    *t = (clf_tensor){.magic = CLF_TENSOR_MAGIC, .dtype = args->dtype, .ndim = args->ndim, .ctx = ctx};
    int64_t elements;
    CLF_TRY(check_shape(&ctx->error, args->dtype, args->ndim, args->shape, &elements, bytes));
    CLF_CHECK(&ctx->error, (unsigned)args->tag < CLF_TAG_COUNT, CLF_INVALID_ARGUMENT, "tensor: %d is no tag",
              args->tag);
    memcpy(t->shape, args->shape, (size_t)args->ndim * sizeof *t->shape);
    set_contiguous(t);
    return CLF_OK;
}

clf_status clf_tensor_init(clf_tensor *t, clf_context *ctx, const clf_tensor_args *args) {
    uint64_t bytes;
    CLF_TRY(clf_tensor_describe(t, ctx, args, &bytes));
    if (args->data) {
        const size_t unit = clf_dtype_is_block(args->dtype) ? 2 : clf_dtype_block_bytes(args->dtype);
        CLF_CHECK(&ctx->error, ctx->backend->host, CLF_UNSUPPORTED, "tensor: %s cannot use host memory in place",
                  ctx->backend->name);
        CLF_CHECK(&ctx->error, unit == 2 ? true : (uintptr_t)args->data % unit == 0, CLF_INVALID_ARGUMENT,
                  "tensor: data is not aligned to %zu bytes", unit);
        CLF_TRY(clf_buffer_wrap(&t->buffer, ctx, args->data, bytes, NULL, NULL));
    } else {
        CLF_TRY(clf_buffer_create(&t->buffer, ctx, bytes, args->tag));
    }
    return CLF_OK;
}

void clf_tensor_release(clf_tensor *t) {
    clf_buffer_release(t->buffer);
    t->buffer = NULL;
    t->magic = 0;
}

clf_status clf_tensor_create(clf_tensor **out, clf_context *ctx, const clf_tensor_args *args) {
    if (out) *out = NULL;
    CLF_TRY(clf_enter(ctx));
    if (!out || !args) return clf_leave(ctx, clf_fail(&ctx->error, CLF_INVALID_ARGUMENT, "tensor: NULL argument"));
    clf_tensor *t = malloc(sizeof *t);
    if (!t) return clf_leave(ctx, clf_fail(&ctx->error, CLF_OUT_OF_MEMORY, "out of host memory"));
    const clf_status st = clf_tensor_init(t, ctx, args);
    if (st == CLF_OK)
        *out = t;
    else
        free(t);
    return clf_leave(ctx, st);
}

clf_tensor clf_view_of(const clf_tensor *t, int ndim, const int64_t *shape, const int64_t *stride, int64_t offset) {
    clf_tensor v = *t;
    v.ndim = ndim;
    if (ndim) memcpy(v.shape, shape, (size_t)ndim * sizeof *shape);
    if (stride)
        memcpy(v.stride, stride, (size_t)ndim * sizeof *stride);
    else
        set_contiguous(&v);
    assert(offset % clf_dtype_block_values(t->dtype) == 0);
    v.offset += clf_dtype_bytes(t->dtype, offset);
    return v;
}

static clf_status view(clf_tensor **out, const clf_tensor *t, int ndim, const int64_t *shape, const int64_t *stride,
                       int64_t offset) {
    clf_error *err = &t->ctx->error;
    CLF_CHECK(err, out && (shape || !ndim), CLF_INVALID_ARGUMENT, "view: NULL argument");
    int64_t elements = 0;
    uint64_t bytes = 0;
    CLF_TRY(check_shape(err, t->dtype, ndim, shape, &elements, &bytes));
    clf_tensor v = *t;
    v.ndim = ndim;
    if (ndim) memcpy(v.shape, shape, (size_t)ndim * sizeof *shape);
    set_contiguous(&v);
    if (stride && ndim) memcpy(v.stride, stride, (size_t)ndim * sizeof *stride);

    const int values = clf_dtype_block_values(t->dtype);
    uint64_t last = 0; /* furthest element, from the view's first */
    CLF_CHECK(err, offset >= 0 && offset % values == 0, CLF_INVALID_ARGUMENT, "view: offset %lld", (long long)offset);
    for (int i = 0; i < ndim && elements; i++) {
        uint64_t reach;
        CLF_CHECK(err, v.stride[i] >= 0, CLF_INVALID_ARGUMENT, "view: stride %d is %lld", i, (long long)v.stride[i]);
        CLF_CHECK(err, values == 1 || (i == ndim - 1 ? v.stride[i] == 1 : v.stride[i] % values == 0),
                  CLF_INVALID_ARGUMENT, "view: stride %d splits blocks of %d values", i, values);
        CLF_CHECK(err,
                  clf_mul_u64((uint64_t)(v.shape[i] - 1), (uint64_t)v.stride[i], &reach) &&
                      clf_add_u64(last, reach, &last),
                  CLF_INVALID_ARGUMENT, "view: the extent overflows");
    }
    CLF_CHECK(
        err,
        !clf_dtype_is_interleaved(t->dtype) || !elements ||
            (v.shape[1] == t->shape[1] && v.stride[0] == v.shape[1] && offset % (v.shape[1] * CLF_PANEL_ROWS) == 0),
        CLF_INVALID_ARGUMENT, "view: expected whole panels of %d rows of %s", CLF_PANEL_ROWS, clf_dtype_name(t->dtype));
    const uint64_t start = t->offset / clf_dtype_block_bytes(t->dtype) * (uint64_t)values;
    const uint64_t room = t->buffer->asked / clf_dtype_block_bytes(t->dtype) * (uint64_t)values;
    uint64_t end;
    CLF_CHECK(err,
              !elements || (clf_add_u64(last, start, &end) && clf_add_u64(end, (uint64_t)offset, &end) && end < room),
              CLF_INVALID_ARGUMENT, "view: reaches beyond the storage of %llu elements", (unsigned long long)room);
    if (elements) v.offset += clf_dtype_bytes(t->dtype, offset);
    clf_tensor *copy = malloc(sizeof *copy);
    CLF_CHECK(err, copy, CLF_OUT_OF_MEMORY, "out of host memory");
    *copy = v;
    clf_buffer_retain(copy->buffer);
    *out = copy;
    return CLF_OK;
}

/* Begins a call on a tensor's context. */
static clf_status enter(const clf_tensor *t) {
    if (!t || t->magic != CLF_TENSOR_MAGIC) return CLF_INVALID_ARGUMENT;
    return clf_enter(t->ctx);
}

clf_status clf_tensor_view(clf_tensor **out, const clf_tensor *t, int ndim, const int64_t *shape, const int64_t *stride,
                           int64_t offset) {
    if (out) *out = NULL;
    CLF_TRY(enter(t));
    return clf_leave(t->ctx, view(out, t, ndim, shape, stride, offset));
}

void clf_tensor_destroy(clf_tensor *t) {
    if (!t || t->magic != CLF_TENSOR_MAGIC) return;
    clf_tensor_release(t);
    free(t);
}

static void count(clf_transfers *t, size_t bytes) {
    t->count++;
    t->bytes += bytes;
}

/* Runs `copy` over the contiguous pieces of `t` in C order; `position` counts bytes of the packed layout. */
typedef clf_status (*piece_fn)(const clf_tensor *t, size_t offset, size_t position, size_t bytes, void *user);

static clf_status for_pieces(const clf_tensor *t, piece_fn copy, void *user) {
    if (clf_elements(t) == 0) return CLF_OK;
    int inner = t->ndim; /* dimensions from here on lie contiguously */
    int64_t piece = 1, pieces = 1;
    while (inner && (t->shape[inner - 1] == 1 || t->stride[inner - 1] == piece)) piece *= t->shape[--inner];
    for (int i = 0; i < inner; i++) pieces *= t->shape[i];
    const size_t bytes = clf_dtype_bytes(t->dtype, piece);
    for (int64_t p = 0; p < pieces; p++) {
        int64_t offset = 0, rest = p;
        for (int i = inner - 1; i >= 0; i--) {
            offset += rest % t->shape[i] * t->stride[i];
            rest /= t->shape[i];
        }
        CLF_TRY(copy(t, t->offset + clf_dtype_bytes(t->dtype, offset), (size_t)p * bytes, bytes, user));
    }
    return CLF_OK;
}

static clf_status write_piece(const clf_tensor *t, size_t offset, size_t position, size_t bytes, void *user) {
    return t->ctx->backend->write(t->ctx, &t->buffer->memory, offset, (const char *)user + position, bytes);
}

static clf_status read_piece(const clf_tensor *t, size_t offset, size_t position, size_t bytes, void *user) {
    return t->ctx->backend->read(t->ctx, &t->buffer->memory, offset, (char *)user + position, bytes);
}

static clf_status check_bytes(const clf_tensor *t, const void *data, size_t bytes) {
    const size_t expected = clf_dtype_bytes(t->dtype, clf_elements(t));
    CLF_CHECK(&t->ctx->error, data || !expected, CLF_INVALID_ARGUMENT, "tensor: data is NULL");
    CLF_CHECK(&t->ctx->error, bytes == expected, CLF_INVALID_ARGUMENT, "tensor: expected %zu bytes, got %zu", expected,
              bytes);
    return CLF_OK;
}

clf_status clf_tensor_write(clf_tensor *t, const void *data, size_t bytes) {
    CLF_TRY(enter(t));
    clf_status st = check_bytes(t, data, bytes);
    if (st == CLF_OK) st = for_pieces(t, write_piece, (void *)(uintptr_t)data);
    if (st == CLF_OK && !t->ctx->backend->host) count(&t->ctx->pool.stats.to_device, bytes);
    return clf_leave(t->ctx, st);
}

clf_status clf_tensor_read(const clf_tensor *t, void *data, size_t bytes) {
    CLF_TRY(enter(t));
    clf_status st = check_bytes(t, data, bytes);
    if (st == CLF_OK) st = for_pieces(t, read_piece, data);
    if (st == CLF_OK && !t->ctx->backend->host) count(&t->ctx->pool.stats.to_host, bytes);
    return clf_leave(t->ctx, st);
}

clf_status clf_tensor_copy(clf_tensor *dst, const clf_tensor *src) {
    CLF_TRY(enter(dst));
    clf_context *ctx = dst->ctx;
    if (!src || src->magic != CLF_TENSOR_MAGIC || src->dtype != dst->dtype || src->ndim != dst->ndim ||
        memcmp(src->shape, dst->shape, (size_t)src->ndim * sizeof *src->shape))
        return clf_leave(
            ctx, clf_fail(&ctx->error, CLF_INVALID_ARGUMENT, "copy: source and destination differ in dtype or shape"));
    const size_t bytes = clf_dtype_bytes(src->dtype, clf_elements(src));
    void *packed = malloc(bytes ? bytes : 1);
    clf_status st = packed ? CLF_OK : clf_fail(&ctx->error, CLF_OUT_OF_MEMORY, "copy: out of host memory");
    if (st == CLF_OK && (st = for_pieces(src, read_piece, packed)) != CLF_OK && src->ctx != ctx)
        clf_fail(&ctx->error, st, "copy: %s", src->ctx->error.message);
    if (st == CLF_OK) st = for_pieces(dst, write_piece, packed);
    if (st == CLF_OK && src->ctx != ctx) count(&ctx->pool.stats.between, bytes);
    free(packed);
    return clf_leave(ctx, st);
}

clf_status clf_tensor_clear(clf_tensor *t) {
    CLF_TRY(enter(t));
    clf_status st = CLF_OK;
    const size_t bytes = clf_dtype_bytes(t->dtype, clf_elements(t));
    if (!clf_is_contiguous(t))
        st = clf_fail(&t->ctx->error, CLF_INVALID_ARGUMENT, "clear: tensor: expected a contiguous one, got a view");
    else if (bytes)
        st = t->ctx->backend->clear(t->ctx, &t->buffer->memory, t->offset, bytes);
    return clf_leave(t->ctx, st);
}

clf_dtype clf_tensor_dtype(const clf_tensor *t) {
    return t->dtype;
}
int clf_tensor_ndim(const clf_tensor *t) {
    return t->ndim;
}
int64_t clf_tensor_size(const clf_tensor *t, int dim) {
    const int i = dim < 0 ? dim + t->ndim : dim;
    return i >= 0 && i < t->ndim ? t->shape[i] : -1;
}
int64_t clf_tensor_stride(const clf_tensor *t, int dim) {
    const int i = dim < 0 ? dim + t->ndim : dim;
    return i >= 0 && i < t->ndim ? t->stride[i] : -1;
}
int64_t clf_tensor_elements(const clf_tensor *t) {
    return clf_elements(t);
}
size_t clf_tensor_bytes(const clf_tensor *t) {
    return clf_dtype_bytes(t->dtype, clf_elements(t));
}
clf_context *clf_tensor_context(const clf_tensor *t) {
    return t->ctx;
}
void *clf_tensor_data(const clf_tensor *t) {
    return t->ctx->backend->host ? clf_data(t) : NULL;
}
