/* argmax.c: the launcher of argmax.cl. */
#include "cl.h"

enum { LOCAL = 256 };

clf_status clf_argmax_opencl(clf_context *ctx, const clf_argmax_args *args) {
    const int64_t n = clf_last(args->x);
    CLF_CHECK(&ctx->error, n <= INT32_MAX - LOCAL, CLF_UNSUPPORTED, "argmax: x: rows of %lld elements", (long long)n);
    clf_tensor out = *args->out; /* [...] as [..., 1]: rows like x's */
    out.shape[out.ndim] = 1;
    out.stride[out.ndim++] = 1;
    clf_cl_call call;
    CLF_TRY(clf_cl_begin(&call, ctx, "argmax", "argmax", "-DT=%s", clf_cl_dtype(args->x->dtype)));
    clf_cl_tensor(&call, args->x);
    clf_cl_tensor(&call, &out);
    clf_cl_shape(&call, args->x);
    clf_cl_int(&call, n);
    clf_cl_local(&call, LOCAL * sizeof(cl_float));
    clf_cl_local(&call, LOCAL * sizeof(cl_int));
    return clf_cl_run(&call, (size_t[3]){(size_t)clf_rows(args->x), 1, 1}, LOCAL);
}
