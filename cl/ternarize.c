/* ternarize.c: the launchers of ternarize.cl. */
#include "cl.h"

enum { LOCAL = 128, MOST_SUMS = 256, EACH = 1024 /* elements a group, at least */ };

static clf_status run(clf_context *ctx, const clf_ternarize_args *a, const clf_buffer *sums, int64_t groups) {
    const int64_t n = clf_elements(a->x);
    clf_cl_call call;
    CLF_TRY(clf_cl_begin(&call, ctx, "ternarize", "sum_magnitudes", "-DT=%s", clf_cl_dtype(a->out->dtype)));
    clf_cl_memory(&call, &a->x->buffer->memory);
    clf_cl_long(&call, clf_cl_offset(a->x));
    clf_cl_memory(&call, &sums->memory);
    clf_cl_long(&call, n);
    clf_cl_local(&call, LOCAL * sizeof(cl_float));
    CLF_TRY(clf_cl_run(&call, (size_t[3]){(size_t)groups, 1, 1}, LOCAL));
    CLF_TRY(clf_cl_begin(&call, ctx, "ternarize", "ternarize", "-DT=%s", clf_cl_dtype(a->out->dtype)));
    clf_cl_memory(&call, &a->x->buffer->memory);
    clf_cl_long(&call, clf_cl_offset(a->x));
    clf_cl_memory(&call, &a->out->buffer->memory);
    clf_cl_long(&call, clf_cl_offset(a->out));
    clf_cl_memory(&call, &sums->memory);
    clf_cl_int(&call, groups);
    clf_cl_long(&call, n);
    clf_cl_local(&call, LOCAL * sizeof(cl_float));
    return clf_cl_run(&call, (size_t[3]){(size_t)groups, 1, 1}, LOCAL);
}

clf_status clf_ternarize_opencl(clf_context *ctx, const clf_ternarize_args *args) {
    const int64_t n = clf_elements(args->x);
    const int64_t groups = n / EACH < 1 ? 1 : n / EACH < MOST_SUMS ? n / EACH : MOST_SUMS;
    clf_buffer *sums;
    if (!n) return CLF_OK;
    CLF_TRY(clf_buffer_create(&sums, ctx, (size_t)groups * sizeof(cl_float), CLF_TAG_SCRATCH));
    const clf_status st = run(ctx, args, sums, groups);
    clf_buffer_release(sums);
    return st;
}
