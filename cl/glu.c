/* glu.c: the launcher of glu.cl. */
#include "cl.h"

clf_status clf_glu_opencl(clf_context *ctx, const clf_glu_args *args) {
    clf_tensor v[3] = {*args->gate, *args->up, *args->out};
    clf_cl_collapse(v, 3);
    clf_cl_call call;
    CLF_TRY(clf_cl_begin(&call, ctx, "glu", "glu", "-DT=%s", clf_cl_dtype(v->dtype)));
    for (int i = 0; i < 3; i++) clf_cl_tensor(&call, &v[i]);
    clf_cl_int(&call, args->activation);
    return clf_cl_run_map(&call, &v[0]);
}
