/* sum_squares.c: the launchers of sum_squares.cl. */
#include "cl.h"

enum { LOCAL = 128, COLUMNS = 1024 }; /* MAP_COLUMNS of common.cl */

/* The sums of x's pieces, `groups` of them, from sums[0] on. */
static clf_status run_squares(clf_context *ctx, const clf_tensor *x, const clf_buffer *sums, int64_t groups) {
    clf_cl_call call;
    CLF_TRY(clf_cl_begin(&call, ctx, "sum_squares", "sum_squares", "-DT=%s", clf_cl_dtype(x->dtype)));
    clf_cl_tensor(&call, x);
    clf_cl_memory(&call, &sums->memory);
    clf_cl_local(&call, LOCAL * sizeof(cl_float));
    clf_cl_shape(&call, x);
    clf_cl_long(&call, clf_last(x));
    clf_cl_int(&call, (int64_t)clf_cl_divide_up(clf_last(x), COLUMNS));
    return clf_cl_run(&call, (size_t[3]){(size_t)groups, 1, 1}, LOCAL);
}

/* n sums from element from_at on become ⌈n / COLUMNS⌉ in `to`. */
static clf_status run_sums(clf_context *ctx, clf_dtype dtype, const clf_memory *from, int64_t from_at,
                           const clf_memory *to, int64_t to_at, int64_t n) {
    clf_cl_call call;
    CLF_TRY(clf_cl_begin(&call, ctx, "sum_squares", "sum_sums", "-DT=%s", clf_cl_dtype(dtype)));
    clf_cl_memory(&call, from);
    clf_cl_long(&call, from_at);
    clf_cl_memory(&call, to);
    clf_cl_long(&call, to_at);
    clf_cl_long(&call, n);
    clf_cl_local(&call, LOCAL * sizeof(cl_float));
    return clf_cl_run(&call, (size_t[3]){n ? clf_cl_divide_up(n, COLUMNS) : 1, 1, 1}, LOCAL);
}

clf_status clf_sum_squares_opencl(clf_context *ctx, const clf_sum_squares_args *args) {
    clf_tensor x = *args->x;
    clf_cl_collapse(&x, 1);
    int64_t n = clf_rows(&x) * (int64_t)clf_cl_divide_up(clf_last(&x), COLUMNS), at = 0;
    clf_buffer *sums; /* of pieces, then of those, one after another: fewer than two for each piece */
    CLF_TRY(clf_buffer_create(&sums, ctx, (size_t)(2 * n + 1) * sizeof(cl_float), CLF_TAG_SCRATCH));
    clf_status st = run_squares(ctx, &x, sums, n);
    for (; st == CLF_OK && n > COLUMNS; at += n, n = (int64_t)clf_cl_divide_up(n, COLUMNS))
        st = run_sums(ctx, x.dtype, &sums->memory, at, &sums->memory, at + n, n);
    if (st == CLF_OK)
        st = run_sums(ctx, x.dtype, &sums->memory, at, &args->out->buffer->memory, clf_cl_offset(args->out), n);
    clf_buffer_release(sums);
    return st;
}
