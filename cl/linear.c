/* linear.c: the launcher of linear.cl, which has what nvidia/linear.c does not take. A gated unit is two products: the
 * gate's goes to float32 scratch, the other takes it up in its epilogue. */
#include "linear.h"

#include "nvidia/nvidia.h"

enum { TILE = 64, PITCH = TILE + 4, DEPTH = 32, GEMM_LOCAL = 256, GEMV_LOCAL = 64, GEMV_COLUMNS = 4 };
/* Rows of x from which a tile of 64 is faster than rows by fours. */
enum { GEMM_ROWS = 16 };

void clf_cl_epilogue(clf_cl_call *call, const clf_cl_product *p) {
    clf_cl_float(call, p->scale);
    clf_cl_memory(call, p->bias ? &p->bias->buffer->memory : NULL);
    clf_cl_long(call, p->bias ? clf_cl_offset(p->bias) : 0);
    clf_cl_int(call, p->bias ? p->bias->dtype : CLF_F32);
    clf_cl_memory(call, p->gate);
    clf_cl_int(call, p->activation);
    clf_cl_tensor(call, p->residual);
    clf_cl_int(call, p->residual ? p->residual->dtype : CLF_F32);
    clf_cl_tensor(call, p->out);
    clf_cl_int(call, p->out->dtype);
    clf_cl_shape(call, p->out);
    clf_cl_int(call, clf_rows(p->out));
    clf_cl_int(call, clf_last(p->out));
}

/* By CLBlast into scratch, then the epilogue. */
static clf_status multiply_blas(clf_context *ctx, const clf_cl_product *p) {
    const int64_t elements = clf_elements(p->out);
    clf_buffer *scratch;
    clf_cl_call call;
    CLF_TRY(clf_buffer_create(&scratch, ctx, (size_t)elements * sizeof(float), CLF_TAG_SCRATCH));
    clf_status st = clf_cl_blas_multiply(ctx, p->x, p->weight, &scratch->memory);
    if (st == CLF_OK) st = clf_cl_begin(&call, ctx, "linear", "epilogue", "-DW=F32");
    if (st == CLF_OK) {
        clf_cl_memory(&call, &scratch->memory);
        clf_cl_epilogue(&call, p);
        st = clf_cl_run(&call, (size_t[3]){clf_cl_divide_up(elements, GEMM_LOCAL), 1, 1}, GEMM_LOCAL);
    }
    clf_buffer_release(scratch);
    return st;
}

clf_status clf_cl_multiply(clf_context *ctx, const clf_cl_product *p) {
    if (p->tile_rows) return clf_cl_multiply_tiles(ctx, p);
    if (clf_cl_blas_takes(ctx, p->x, p->weight)) return multiply_blas(ctx, p);
    const int64_t m = clf_rows(p->out), n = p->weight->shape[0], k = p->weight->shape[1];
    const bool gemm = m >= GEMM_ROWS;
    clf_cl_call call;
    CLF_TRY(clf_cl_begin(&call, ctx, "linear",
                         gemm    ? "gemm"
                         : m > 1 ? "gemv4"
                                 : "gemv1",
                         "-DW=%s%s", clf_cl_dtype(p->weight->dtype),
                         clf_dtype_is_interleaved(p->weight->dtype) ? " -DPANELS"
                         : clf_dtype_is_block(p->weight->dtype)     ? " -DBLOCKS"
                                                                    : ""));
    clf_cl_tensor(&call, p->x);
    clf_cl_int(&call, p->x->dtype);
    clf_cl_memory(&call, &p->weight->buffer->memory);
    clf_cl_long(&call, clf_cl_offset(p->weight));
    clf_cl_long(&call, clf_cl_row_stride(p->weight));
    clf_cl_int(&call, k);
    clf_cl_epilogue(&call, p);
    if (gemm) {
        clf_cl_local(&call, DEPTH * PITCH * sizeof(float));
        clf_cl_local(&call, DEPTH * PITCH * sizeof(float));
        return clf_cl_run(&call, (size_t[3]){clf_cl_divide_up(n, TILE), clf_cl_divide_up(m, TILE), 1}, GEMM_LOCAL);
    }
    clf_cl_local(&call, GEMV_LOCAL * sizeof(float));
    return clf_cl_run(&call, (size_t[3]){clf_cl_divide_up(n, GEMV_COLUMNS), clf_cl_divide_up(m, m > 1 ? 4 : 1), 1},
                      GEMV_LOCAL);
}

static clf_status multiply(clf_context *ctx, const clf_cl_product *p) {
    bool taken;
    CLF_TRY(clf_nvidia_linear(&taken, ctx, p));
    return taken ? CLF_OK : clf_cl_multiply(ctx, p);
}

/* Product i of a call, without a residual. */
static clf_cl_product product_of(const clf_linear_args *args, int i, const clf_tensor *out) {
    return (clf_cl_product){.x = args->x,
                            .weight = args->weight[i],
                            .tile_rows = args->tile_rows[i],
                            .tile_columns = args->tile_columns[i],
                            .row_scale = args->row_scale[i],
                            .bias = args->bias[i],
                            .out = out,
                            .scale = args->scale,
                            .precision = args->precision,
                            .ends_as = out->dtype};
}

static clf_status gated(clf_context *ctx, const clf_linear_args *args) {
    clf_buffer *scratch;
    CLF_TRY(clf_buffer_create(&scratch, ctx, (size_t)clf_elements(args->out[0]) * sizeof(float), CLF_TAG_SCRATCH));
    clf_tensor gate = *args->out[0]; /* its shape, contiguous, in float32 */
    gate.dtype = CLF_F32;
    gate.buffer = scratch;
    gate.offset = 0;
    int64_t stride = 1;
    for (int i = gate.ndim - 1; i >= 0; i--) gate.stride[i] = stride, stride *= gate.shape[i];
    clf_cl_product first = product_of(args, 0, &gate), second = product_of(args, 1, args->out[0]);
    first.ends_as = args->out[0]->dtype;
    second.residual = args->residual;
    second.gate = &scratch->memory;
    second.activation = args->glu;
    clf_status st = multiply(ctx, &first);
    if (st == CLF_OK) st = multiply(ctx, &second);
    clf_buffer_release(scratch); /* the queue is in order: nothing reuses it before both are done */
    return st;
}

clf_status clf_linear_opencl(clf_context *ctx, const clf_linear_args *args) {
    CLF_CHECK(&ctx->error, !clf_dtype_is_block(args->x->dtype), CLF_UNSUPPORTED,
              "linear: x: %s takes f32, f16 and bf16, not %s", ctx->backend->name, clf_dtype_name(args->x->dtype));
    if (args->glu != CLF_ACTIVATION_NONE) return gated(ctx, args);
    for (int i = 0; i < CLF_LINEAR_MAX && args->weight[i]; i++) {
        clf_cl_product p = product_of(args, i, args->out[i]);
        if (!i) p.residual = args->residual;
        CLF_TRY(multiply(ctx, &p));
    }
    return CLF_OK;
}
