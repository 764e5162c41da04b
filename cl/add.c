/* add.c: the launcher of add.cl. */
#include "cl.h"

clf_status clf_add_opencl(clf_context *ctx, const clf_add_args *args) {
    clf_tensor v[3] = {*args->a, *args->b, *args->out};
    if (args->b->ndim == args->a->ndim) clf_cl_collapse(v, 3); /* a row of b stays a row */
    clf_cl_call call;
    CLF_TRY(clf_cl_begin(&call, ctx, "add", "add", "-DT=%s", clf_cl_dtype(v->dtype)));
    for (int i = 0; i < 3; i++) clf_cl_tensor(&call, &v[i]);
    return clf_cl_run_map(&call, &v[0]);
}
