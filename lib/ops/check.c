/* check.c: the checks that doors share. */
#include "check.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* "[2, 3, 4]" */
static const char *shape_text(char *text, size_t size, int ndim, const int64_t *shape) {
    size_t used = (size_t)snprintf(text, size, "[");
    for (int i = 0; i < ndim && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, "%s%lld", i ? ", " : "", (long long)shape[i]);
    if (used < size) snprintf(text + used, size - used, "]");
    return text;
}

static const char *dtypes_text(char *text, size_t size, uint32_t dtypes) {
    size_t used = 0;
    text[0] = 0;
    for (int i = 0; i < CLF_DTYPE_COUNT && used < size; i++)
        if (dtypes >> i & 1)
            used += (size_t)snprintf(text + used, size - used, "%s%s", used ? ", " : "", clf_dtype_name((clf_dtype)i));
    return text;
}

clf_status clf_check_tensor(clf_context *ctx, const char *op, const char *name, const clf_tensor *t, uint32_t dtypes,
                            int min_ndim, int max_ndim) {
    clf_error *err = &ctx->error;
    char text[256];
    CLF_CHECK(err, t, CLF_INVALID_ARGUMENT, "%s: %s is NULL", op, name);
    CLF_CHECK(err, t->magic == CLF_TENSOR_MAGIC, CLF_INVALID_ARGUMENT, "%s: %s is not a tensor", op, name);
    CLF_CHECK(err, t->ctx == ctx, CLF_INVALID_ARGUMENT, "%s: %s lives on another context (%s), expected this one (%s)",
              op, name, t->ctx->device_name, ctx->device_name);
    CLF_CHECK(err, dtypes >> t->dtype & 1, CLF_INVALID_ARGUMENT, "%s: %s: expected dtype %s, got %s", op, name,
              dtypes_text(text, sizeof text, dtypes), clf_dtype_name(t->dtype));
    CLF_CHECK(err, t->ndim >= min_ndim && t->ndim <= max_ndim, CLF_INVALID_ARGUMENT,
              "%s: %s: expected %d to %d dimensions, got %d", op, name, min_ndim, max_ndim, t->ndim);
    CLF_CHECK(err, !t->ndim || clf_last(t) <= 1 || t->stride[t->ndim - 1] == 1, CLF_INVALID_ARGUMENT,
              "%s: %s: expected a contiguous last dimension, got stride %lld", op, name,
              (long long)t->stride[t->ndim - 1]);
    return CLF_OK;
}

clf_status clf_check_shape(clf_context *ctx, const char *op, const char *name, const clf_tensor *t, int ndim,
                           const int64_t *shape) {
    char want[128], got[128];
    CLF_CHECK(&ctx->error, t->ndim == ndim && !memcmp(t->shape, shape, (size_t)ndim * sizeof *shape),
              CLF_INVALID_ARGUMENT, "%s: %s: expected shape %s, got %s", op, name,
              shape_text(want, sizeof want, ndim, shape), shape_text(got, sizeof got, t->ndim, t->shape));
    return CLF_OK;
}

clf_status clf_check_like(clf_context *ctx, const char *op, const char *name, const clf_tensor *t,
                          const char *like_name, const clf_tensor *like) {
    CLF_TRY(clf_check_tensor(ctx, op, name, t, CLF_DTYPES_ANY, 0, CLF_MAX_DIMS));
    CLF_CHECK(&ctx->error, t->dtype == like->dtype, CLF_INVALID_ARGUMENT, "%s: %s: expected %s's dtype %s, got %s", op,
              name, like_name, clf_dtype_name(like->dtype), clf_dtype_name(t->dtype));
    return clf_check_shape(ctx, op, name, t, like->ndim, like->shape);
}

/* Bytes from the first to one past the last that a tensor reaches. */
static void extent(const clf_tensor *t, size_t *begin, size_t *end) {
    int64_t last = 0;
    for (int i = 0; i < t->ndim; i++) last += (t->shape[i] - 1) * t->stride[i];
    const int values = clf_dtype_block_values(t->dtype);
    *begin = t->offset;
    *end = t->offset + (size_t)(last / values + 1) * clf_dtype_block_bytes(t->dtype);
}

clf_status clf_check_output(clf_context *ctx, const char *op, const char *name, const clf_tensor *out,
                            const char *in_name, const clf_tensor *in, bool may_alias) {
    if (clf_elements(out) == 0) return CLF_OK;
    int64_t reach = 0; /* strides must nest: each dimension steps over all smaller ones */
    bool done[CLF_MAX_DIMS] = {false};
    for (int n = 0; n < out->ndim; n++) {
        int smallest = -1;
        for (int i = 0; i < out->ndim; i++)
            if (!done[i] && (smallest < 0 || out->stride[i] < out->stride[smallest])) smallest = i;
        done[smallest] = true;
        if (out->shape[smallest] == 1) continue;
        CLF_CHECK(&ctx->error, out->stride[smallest] > reach, CLF_INVALID_ARGUMENT,
                  "%s: %s: elements overlap (stride %lld of dimension %d)", op, name, (long long)out->stride[smallest],
                  smallest);
        reach += (out->shape[smallest] - 1) * out->stride[smallest];
    }
    if (!in || clf_elements(in) == 0 || in->buffer != out->buffer) return CLF_OK;
    if (may_alias && in->offset == out->offset && in->dtype == out->dtype && in->ndim == out->ndim &&
        !memcmp(in->shape, out->shape, (size_t)in->ndim * sizeof *in->shape) &&
        !memcmp(in->stride, out->stride, (size_t)in->ndim * sizeof *in->stride))
        return CLF_OK;
    size_t a, b, c, d;
    extent(out, &a, &b);
    extent(in, &c, &d);
    CLF_CHECK(&ctx->error, b <= c || d <= a, CLF_INVALID_ARGUMENT, "%s: %s overlaps %s", op, name, in_name);
    return CLF_OK;
}

clf_status clf_check_finite(clf_context *ctx, const char *op, const char *name, double value, double min, double max) {
    CLF_CHECK(&ctx->error, isfinite(value) && value >= min && value <= max, CLF_INVALID_ARGUMENT,
              "%s: %s: expected %g to %g, got %g", op, name, min, max, value);
    return CLF_OK;
}
