/* embedding.c: the launchers of embedding.cl. */
#include "cl.h"

enum { LOCAL = 64 };

/* [...] as [..., 1]: rows like those that go with the ids. */
static clf_tensor column(const clf_tensor *ids) {
    clf_tensor t = *ids;
    t.shape[t.ndim] = 1;
    t.stride[t.ndim++] = 1;
    return t;
}

clf_status clf_embedding_opencl(clf_context *ctx, const clf_embedding_args *args) {
    const clf_tensor *weight = args->weight, *out = args->out;
    const int64_t n = clf_last(out), parts = (n + 15) / 16;
    const clf_tensor ids = column(args->ids);
    clf_cl_call call;
    CLF_TRY(clf_cl_begin(&call, ctx, "embedding", "embedding", "-DW=%s%s", clf_cl_dtype(weight->dtype),
                         clf_dtype_is_block(weight->dtype) ? " -DBLOCKS" : ""));
    clf_cl_memory(&call, &weight->buffer->memory);
    clf_cl_long(&call, clf_cl_offset(weight));
    clf_cl_long(&call, clf_cl_row_stride(weight));
    clf_cl_long(&call, weight->shape[0]);
    clf_cl_tensor(&call, &ids);
    clf_cl_float(&call, args->scale);
    clf_cl_tensor(&call, out);
    clf_cl_int(&call, out->dtype);
    clf_cl_shape(&call, out);
    clf_cl_long(&call, n);
    clf_cl_int(&call, parts);
    clf_cl_long(&call, clf_rows(out) * parts);
    return clf_cl_run(&call, (size_t[3]){clf_cl_divide_up(clf_rows(out) * parts, LOCAL), 1, 1}, LOCAL);
}

static clf_status add_rows(clf_context *ctx, const clf_embedding_backward_args *args, const clf_memory *chain) {
    const clf_tensor *d_weight = args->d_weight, *d_out = args->d_out, ids = column(args->ids);
    const char *dtype = clf_cl_dtype(d_out->dtype);
    const int64_t rows = clf_rows(d_out);
    clf_cl_call call;
    CLF_TRY(clf_cl_begin(&call, ctx, "embedding", "embedding_chain", "-DW=%s", dtype));
    clf_cl_tensor(&call, &ids);
    clf_cl_shape(&call, d_out);
    clf_cl_int(&call, rows);
    clf_cl_memory(&call, chain);
    CLF_TRY(clf_cl_run(&call, (size_t[3]){clf_cl_divide_up(rows, LOCAL), 1, 1}, LOCAL));
    CLF_TRY(clf_cl_begin(&call, ctx, "embedding", "embedding_backward", "-DW=%s", dtype));
    clf_cl_memory(&call, chain);
    clf_cl_int(&call, rows);
    clf_cl_tensor(&call, &ids);
    clf_cl_float(&call, args->scale);
    clf_cl_tensor(&call, d_out);
    clf_cl_memory(&call, &d_weight->buffer->memory);
    clf_cl_long(&call, clf_cl_offset(d_weight));
    clf_cl_long(&call, clf_cl_row_stride(d_weight));
    clf_cl_long(&call, d_weight->shape[0]);
    return clf_cl_run_map(&call, d_out);
}

clf_status clf_embedding_backward_opencl(clf_context *ctx, const clf_embedding_backward_args *args) {
    const int64_t rows = clf_rows(args->d_out);
    clf_buffer *chain;
    if (!rows) return CLF_OK;
    CLF_CHECK(&ctx->error, rows < INT32_MAX, CLF_UNSUPPORTED, "embedding_backward: ids: %lld of them", (long long)rows);
    CLF_TRY(clf_buffer_create(&chain, ctx, (uint64_t)rows * sizeof(cl_int), CLF_TAG_SCRATCH));
    const clf_status st = add_rows(ctx, args, &chain->memory);
    clf_buffer_release(chain); /* the queue is in order: nothing reuses it before both are done */
    return st;
}
