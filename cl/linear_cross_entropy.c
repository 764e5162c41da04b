/* linear_cross_entropy.c: the launcher of linear_cross_entropy.cl. Rows are taken in chunks, whose logits are at most a
 * MEMORYth of all of them, or LEAST_ROWS: clf_linear() makes them, the kernel turns them into their gradients, and
 * clf_linear_backward() takes those on. */
#include "cl.h"

enum { LOCAL = 256, LEAST_ROWS = 16, MEMORY = 21 };

/* Rows [first, first + rows) of a matrix. */
static clf_tensor part(const clf_tensor *t, int64_t first, int64_t rows) {
    clf_tensor p = *t;
    p.shape[0] = rows;
    p.offset += clf_dtype_bytes(t->dtype, first * t->stride[0]);
    return p;
}

static clf_status run_rows(clf_context *ctx, const clf_linear_cross_entropy_args *args, const clf_tensor *z,
                           int64_t first) {
    clf_cl_call call;
    CLF_TRY(clf_cl_begin(&call, ctx, "linear_cross_entropy", "linear_cross_entropy", "-DW=F32"));
    clf_cl_memory(&call, &z->buffer->memory);
    clf_cl_memory(&call, &args->labels->buffer->memory);
    clf_cl_long(&call, clf_cl_offset(args->labels));
    clf_cl_memory(&call, args->row_weights ? &args->row_weights->buffer->memory : NULL);
    clf_cl_long(&call, args->row_weights ? clf_cl_offset(args->row_weights) : 0);
    clf_cl_float(&call, args->softcap);
    clf_cl_float(&call, args->label_smoothing);
    clf_cl_float(&call, args->z_loss);
    clf_cl_float(&call, args->d_loss);
    clf_cl_memory(&call, &args->loss->buffer->memory);
    clf_cl_long(&call, clf_cl_offset(args->loss));
    clf_cl_memory(&call, args->lse ? &args->lse->buffer->memory : NULL);
    clf_cl_long(&call, args->lse ? clf_cl_offset(args->lse) : 0);
    clf_cl_int(&call, first);
    clf_cl_int(&call, z->shape[1]);
    clf_cl_local(&call, LOCAL * sizeof(float));
    return clf_cl_run(&call, (size_t[3]){(size_t)z->shape[0], 1, 1}, LOCAL);
}

static clf_status run_chunk(clf_context *ctx, const clf_linear_cross_entropy_args *args, clf_tensor *z, int64_t first) {
    const clf_tensor x = part(args->x, first, z->shape[0]);
    CLF_TRY(clf_linear_opencl(ctx, &(clf_linear_args){.x = &x, .weight = {args->weight}, .scale = 1, .out = {z}}));
    CLF_TRY(run_rows(ctx, args, z, first));
    clf_tensor d_x;
    if (args->d_x) d_x = part(args->d_x, first, z->shape[0]);
    return clf_linear_backward_opencl(ctx, &(clf_linear_backward_args){.x = &x,
                                                                       .weight = {args->weight},
                                                                       .d_out = {z},
                                                                       .scale = 1,
                                                                       .d_x = args->d_x ? &d_x : NULL,
                                                                       .d_weight = {args->d_weight}});
}

clf_status clf_linear_cross_entropy_opencl(clf_context *ctx, const clf_linear_cross_entropy_args *args) {
    const int64_t rows = args->x->shape[0], vocab = args->weight->shape[0];
    int64_t most = rows / MEMORY > LEAST_ROWS ? rows / MEMORY : LEAST_ROWS;
    if (most > rows) most = rows;
    if (!rows) return CLF_OK;
    const int64_t chunks = (rows + most - 1) / most;
    clf_tensor z = *args->x; /* [most, vocab], contiguous, in float32 */
    z.dtype = CLF_F32;
    z.offset = 0;
    z.shape[1] = z.stride[0] = vocab;
    z.stride[1] = 1;
    clf_status st = clf_buffer_create(&z.buffer, ctx, (size_t)(most * vocab) * sizeof(float), CLF_TAG_SCRATCH);
    if (st != CLF_OK) return st;
    for (int64_t i = 0; i < chunks && st == CLF_OK; i++) {
        const int64_t first = rows * i / chunks;
        z.shape[0] = rows * (i + 1) / chunks - first;
        st = run_chunk(ctx, args, &z, first);
    }
    clf_buffer_release(z.buffer); /* the queue is in order */
    return st;
}
