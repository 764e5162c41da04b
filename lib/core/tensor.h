/* tensor.h: the state behind a clf_tensor, and how rooms read it. A clf_tensor may also live on the stack:
 * clf_view_of() makes one that borrows its storage and needs no destroy. */
#ifndef CLF_CORE_TENSOR_H
#define CLF_CORE_TENSOR_H

#include <clformer/tensor.h>

#include "dtype.h"
#include "memory.h"

#define CLF_TENSOR_MAGIC 0x636c6674 /* "clft" */

struct clf_tensor {
    uint32_t magic;
    clf_dtype dtype;
    int ndim;
    int64_t shape[CLF_MAX_DIMS];
    int64_t stride[CLF_MAX_DIMS]; /* in elements */
    clf_context *ctx;
    clf_buffer *buffer;
    size_t offset; /* bytes from the buffer's start */
};

static inline int64_t clf_elements(const clf_tensor *t) {
    int64_t n = 1;
    for (int i = 0; i < t->ndim; i++) n *= t->shape[i];
    return n;
}

/* Bytes of n elements of whole blocks. */
static inline size_t clf_dtype_bytes(clf_dtype dtype, int64_t n) {
    return (size_t)(n / clf_dtype_block_values(dtype)) * clf_dtype_block_bytes(dtype);
}

/* Last dimension; 1 for a scalar. */
static inline int64_t clf_last(const clf_tensor *t) {
    return t->ndim ? t->shape[t->ndim - 1] : 1;
}

/* Rows: elements ÷ last dimension; 0 when empty. */
static inline int64_t clf_rows(const clf_tensor *t) {
    int64_t n = 1;
    for (int i = 0; i + 1 < t->ndim; i++) n *= t->shape[i];
    return clf_last(t) ? n : 0;
}

/* Element offset of row `row` (all dimensions but the last, counted in C order). */
static inline int64_t clf_row_offset(const clf_tensor *t, int64_t row) {
    int64_t offset = 0;
    for (int i = t->ndim - 2; i > 0; i--) {
        offset += row % t->shape[i] * t->stride[i];
        row /= t->shape[i];
    }
    return t->ndim > 1 ? offset + row * t->stride[0] : 0;
}

/* Host address of the first element; CPU tables only. */
static inline void *clf_data(const clf_tensor *t) {
    return (char *)t->buffer->memory.host + t->offset;
}
/* Host address of a row. */
static inline void *clf_row(const clf_tensor *t, int64_t row) {
    return (char *)clf_data(t) + clf_dtype_bytes(t->dtype, clf_row_offset(t, row));
}

bool clf_is_contiguous(const clf_tensor *t);

/* A borrowed view, for the library's own use: no checks beyond asserts. stride NULL: contiguous. */
clf_tensor clf_view_of(const clf_tensor *t, int ndim, const int64_t *shape, const int64_t *stride, int64_t offset);
/* Checks args and fills all of a contiguous tensor but its buffer; the bytes it needs. */
clf_status clf_tensor_describe(clf_tensor *t, clf_context *ctx, const clf_tensor_args *args, uint64_t *bytes);
/* As clf_tensor_create, filling a tensor in place; clf_tensor_release() undoes it. */
clf_status clf_tensor_init(clf_tensor *t, clf_context *ctx, const clf_tensor_args *args);
void clf_tensor_release(clf_tensor *t);

#endif
