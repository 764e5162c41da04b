/* add.c: the launcher of add.cl. */
#include "cl.h"

clf_status clf_add_opencl(clf_context *ctx, const clf_add_args *args) {
    const bool broadcast = args->b->ndim != args->a->ndim || args->b->ndim == 1;
    clf_tensor v[3] = {*args->a, *args->out, *args->b};
    clf_cl_collapse(v, broadcast ? 2 : 3);
    clf_cl_call call;
    CLF_TRY(clf_cl_begin(&call, ctx, "add", "add", "-DT=%s", clf_cl_dtype(v->dtype)));
    clf_cl_tensor(&call, &v[0]);
    clf_cl_tensor(&call, &v[2]);
    clf_cl_tensor(&call, &v[1]);
    return clf_cl_run_map(&call, &v[0]);
}
