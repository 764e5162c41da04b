/* linear_backward.c: the launcher of linear_backward.cl. Several products' d_x are summed in float32: in d_x itself, or
 * in scratch where it has 16 bits. */
#include "linear.h"

#include "nvidia/nvidia.h"

enum { TILE = 64, PITCH = TILE + 4, DEPTH = 32, GEMM_LOCAL = 256, SUMS_LOCAL = 64 };

/* c = scale · a · b (+ added), or aᵀ · b with `down`; added has c's shape. */
static clf_status multiply(clf_context *ctx, bool down, const clf_tensor *a, const clf_tensor *b, float scale,
                           const clf_tensor *added, const clf_tensor *c) {
    const int64_t m = clf_rows(c), n = clf_last(c), k = down ? clf_rows(a) : clf_last(a);
    clf_tensor rows = *b;
    if (clf_dtype_is_block(b->dtype)) rows.stride[0] = clf_cl_row_stride(b); /* in bytes, as its offset */
    clf_cl_call call;
    CLF_TRY(clf_cl_begin(&call, ctx, "linear_backward", down ? "product_down" : "product", "-DW=%s%s",
                         clf_cl_dtype(clf_dtype_is_block(b->dtype) ? b->dtype : CLF_F32),
                         clf_dtype_is_block(b->dtype) ? " -DBLOCKS" : ""));
    clf_cl_tensor(&call, a);
    clf_cl_int(&call, a->dtype);
    clf_cl_shape(&call, a);
    clf_cl_tensor(&call, &rows);
    clf_cl_int(&call, b->dtype);
    clf_cl_shape(&call, b);
    clf_cl_float(&call, scale);
    clf_cl_tensor(&call, added);
    clf_cl_int(&call, added ? added->dtype : CLF_F32);
    clf_cl_tensor(&call, c);
    clf_cl_int(&call, c->dtype);
    clf_cl_shape(&call, c);
    clf_cl_int(&call, m);
    clf_cl_int(&call, n);
    clf_cl_int(&call, k);
    clf_cl_local(&call, DEPTH * PITCH * sizeof(float));
    clf_cl_local(&call, DEPTH * PITCH * sizeof(float));
    return clf_cl_run(&call, (size_t[3]){clf_cl_divide_up(n, TILE), clf_cl_divide_up(m, TILE), 1}, GEMM_LOCAL);
}

clf_status clf_cl_multiply_down(clf_context *ctx, const clf_cl_product *p) {
    return multiply(ctx, false, p->x, p->weight, p->scale, p->residual, p->out);
}

static clf_status multiply_down(clf_context *ctx, const clf_cl_product *p) {
    bool taken;
    CLF_TRY(clf_nvidia_linear_down(&taken, ctx, p));
    return taken ? CLF_OK : clf_cl_multiply_down(ctx, p);
}

static clf_status add_bias(clf_context *ctx, const clf_tensor *d_out, const clf_tensor *d_bias) {
    clf_cl_call call;
    CLF_TRY(clf_cl_begin(&call, ctx, "linear_backward", "column_sums", "-DW=F32"));
    clf_cl_tensor(&call, d_out);
    clf_cl_int(&call, d_out->dtype);
    clf_cl_shape(&call, d_out);
    clf_cl_memory(&call, &d_bias->buffer->memory);
    clf_cl_long(&call, clf_cl_offset(d_bias));
    clf_cl_int(&call, clf_rows(d_out));
    clf_cl_int(&call, clf_last(d_out));
    return clf_cl_run(&call, (size_t[3]){clf_cl_divide_up(clf_last(d_out), SUMS_LOCAL), 1, 1}, SUMS_LOCAL);
}

clf_status clf_linear_backward_opencl(clf_context *ctx, const clf_linear_backward_args *args) {
    int n = 0;
    for (; n < CLF_LINEAR_MAX && args->d_out[n]; n++) {
        const clf_tensor *d = args->d_out[n], *d_weight = args->d_weight[n];
        if (args->d_bias[n]) CLF_TRY(add_bias(ctx, d, args->d_bias[n]));
        if (d_weight) CLF_TRY(multiply(ctx, true, d, args->x, args->scale, d_weight, d_weight));
    }
    if (!args->d_x) return CLF_OK;
    clf_tensor sum = *args->d_x;
    clf_buffer *scratch = NULL;
    if (n > 1 && sum.dtype != CLF_F32) {
        CLF_TRY(clf_buffer_create(&scratch, ctx, (size_t)clf_elements(&sum) * sizeof(float), CLF_TAG_SCRATCH));
        sum.dtype = CLF_F32;
        sum.buffer = scratch;
        sum.offset = 0;
        int64_t stride = 1;
        for (int i = sum.ndim - 1; i >= 0; i--) sum.stride[i] = stride, stride *= sum.shape[i];
    }
    clf_status st = CLF_OK;
    for (int i = 0; i < n && st == CLF_OK; i++) {
        const clf_cl_product p = {.x = args->d_out[i],
                                  .weight = args->weight[i],
                                  .residual = i ? &sum : args->residual,
                                  .out = i + 1 < n ? &sum : args->d_x,
                                  .scale = args->scale,
                                  .precision = CLF_LINEAR_EXACT,
                                  .ends_as = args->d_x->dtype};
        st = multiply_down(ctx, &p);
    }
    clf_buffer_release(scratch);
    return st;
}
