/* rms_norm.c: the launchers of rms_norm.cl. */
#include "../lib/core/checked.h"
#include "cl.h"

/* Columns are summed over parts of at least PART_ROWS rows, at most MOST_PARTS of them. */
enum { LOCAL = 256, COLUMNS_LOCAL = 64, PART_ROWS = 32, MOST_PARTS = 64 };

/* rstd's [...] as [..., 1]: rows like x's. */
static clf_tensor column(const clf_tensor *rstd) {
    clf_tensor t = *rstd;
    t.shape[t.ndim] = 1;
    t.stride[t.ndim++] = 1;
    return t;
}

clf_status clf_rms_norm_opencl(clf_context *ctx, const clf_rms_norm_args *args) {
    CLF_CHECK(&ctx->error, !clf_dtype_is_block(args->out->dtype), CLF_UNSUPPORTED,
              "rms_norm: out: %s writes x's dtype, not %s", ctx->backend->name, clf_dtype_name(args->out->dtype));
    clf_tensor rstd;
    if (args->rstd) rstd = column(args->rstd);
    clf_cl_call call;
    CLF_TRY(clf_cl_begin(&call, ctx, "rms_norm", "rms_norm", "-DT=%s", clf_cl_dtype(args->x->dtype)));
    clf_cl_tensor(&call, args->x);
    clf_cl_tensor(&call, args->residual);
    clf_cl_tensor(&call, args->weight);
    clf_cl_int(&call, args->weight ? args->weight->dtype : CLF_F32);
    clf_cl_float(&call, args->weight_offset);
    clf_cl_float(&call, args->eps);
    clf_cl_tensor(&call, args->sum);
    clf_cl_tensor(&call, args->rstd ? &rstd : NULL);
    clf_cl_tensor(&call, args->out);
    clf_cl_shape(&call, args->x);
    clf_cl_long(&call, clf_last(args->x));
    clf_cl_local(&call, LOCAL * sizeof(float));
    return clf_cl_run(&call, (size_t[3]){(size_t)clf_rows(args->x), 1, 1}, LOCAL);
}

static clf_status run_rows(clf_context *ctx, const clf_rms_norm_backward_args *args, const clf_tensor *rstd) {
    clf_cl_call call;
    CLF_TRY(clf_cl_begin(&call, ctx, "rms_norm", "rms_norm_backward", "-DT=%s", clf_cl_dtype(args->x->dtype)));
    clf_cl_tensor(&call, args->x);
    clf_cl_tensor(&call, args->weight);
    clf_cl_int(&call, args->weight ? args->weight->dtype : CLF_F32);
    clf_cl_float(&call, args->weight_offset);
    clf_cl_tensor(&call, rstd);
    clf_cl_tensor(&call, args->d_out);
    clf_cl_tensor(&call, args->residual);
    clf_cl_tensor(&call, args->d_x);
    clf_cl_shape(&call, args->x);
    clf_cl_long(&call, clf_last(args->x));
    clf_cl_local(&call, LOCAL * sizeof(float));
    return clf_cl_run(&call, (size_t[3]){(size_t)clf_rows(args->x), 1, 1}, LOCAL);
}

static clf_status run_columns(clf_context *ctx, const clf_rms_norm_backward_args *args, const clf_tensor *rstd,
                              const clf_memory *partial, int64_t parts) {
    const int64_t n = clf_last(args->x), rows = clf_rows(args->x), part_rows = (rows + parts - 1) / parts;
    const size_t groups = clf_cl_divide_up(n, COLUMNS_LOCAL);
    clf_cl_call call;
    CLF_TRY(clf_cl_begin(&call, ctx, "rms_norm", "rms_norm_columns", "-DT=%s", clf_cl_dtype(args->x->dtype)));
    clf_cl_tensor(&call, args->x);
    clf_cl_tensor(&call, rstd);
    clf_cl_tensor(&call, args->d_out);
    clf_cl_shape(&call, args->x);
    clf_cl_long(&call, n);
    clf_cl_int(&call, rows);
    clf_cl_int(&call, part_rows);
    clf_cl_memory(&call, partial);
    CLF_TRY(clf_cl_run(&call, (size_t[3]){groups, (size_t)parts, 1}, COLUMNS_LOCAL));
    CLF_TRY(clf_cl_begin(&call, ctx, "rms_norm", "rms_norm_weights", "-DT=%s", clf_cl_dtype(args->x->dtype)));
    clf_cl_memory(&call, partial);
    clf_cl_int(&call, parts);
    clf_cl_long(&call, n);
    clf_cl_memory(&call, &args->d_weight->buffer->memory);
    clf_cl_long(&call, clf_cl_offset(args->d_weight));
    return clf_cl_run(&call, (size_t[3]){groups, 1, 1}, COLUMNS_LOCAL);
}

clf_status clf_rms_norm_backward_opencl(clf_context *ctx, const clf_rms_norm_backward_args *args) {
    const int64_t rows = clf_rows(args->x);
    const clf_tensor rstd = column(args->rstd);
    if (!rows) return CLF_OK;
    CLF_CHECK(&ctx->error, rows <= INT32_MAX, CLF_UNSUPPORTED, "rms_norm_backward: x: %lld rows", (long long)rows);
    if (args->d_weight) { /* before d_x, which may take the place of d_out */
        const int64_t most = (rows + PART_ROWS - 1) / PART_ROWS, parts = most < MOST_PARTS ? most : MOST_PARTS;
        clf_buffer *partial;
        int64_t bytes;
        CLF_CHECK(&ctx->error, clf_product_i64((int64_t[]){parts, clf_last(args->x), sizeof(cl_float)}, 3, &bytes),
                  CLF_OUT_OF_MEMORY, "rms_norm_backward: sums of %lld columns exceed 64 bits",
                  (long long)clf_last(args->x));
        CLF_TRY(clf_buffer_create(&partial, ctx, (uint64_t)bytes, CLF_TAG_SCRATCH));
        const clf_status st = run_columns(ctx, args, &rstd, &partial->memory, parts);
        clf_buffer_release(partial); /* the queue is in order: nothing reuses it before both are done */
        CLF_TRY(st);
    }
    return args->d_x ? run_rows(ctx, args, &rstd) : CLF_OK;
}
