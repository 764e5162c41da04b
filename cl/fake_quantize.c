/* fake_quantize.c: the launcher of fake_quantize.cl. */
#include "cl.h"

enum { LOCAL = 128 };

clf_status clf_fake_quantize_opencl(clf_context *ctx, const clf_fake_quantize_args *args) {
    clf_cl_call call;
    CLF_TRY(clf_cl_begin(&call, ctx, "fake_quantize", "fake_quantize", "-DT=%s", clf_cl_dtype(args->x->dtype)));
    clf_cl_tensor(&call, args->x);
    clf_cl_tensor(&call, args->out);
    clf_cl_shape(&call, args->x);
    clf_cl_long(&call, clf_last(args->x));
    clf_cl_local(&call, LOCAL * sizeof(cl_float));
    return clf_cl_run(&call, (size_t[3]){(size_t)clf_rows(args->x), 1, 1}, LOCAL);
}
