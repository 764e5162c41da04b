/* glu.c: the launchers of glu.cl. */
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

clf_status clf_glu_backward_opencl(clf_context *ctx, const clf_glu_backward_args *args) {
    const clf_tensor *out = args->out ? args->out : args->gate;
    clf_tensor v[6] = {*args->gate, *args->up, *args->d_out, *args->d_gate, *args->d_up, *out};
    clf_cl_collapse(v, 6);
    clf_cl_call call;
    CLF_TRY(clf_cl_begin(&call, ctx, "glu", "glu_backward", "-DT=%s", clf_cl_dtype(v->dtype)));
    for (int i = 0; i < 6; i++) clf_cl_tensor(&call, i == 5 && !args->out ? NULL : &v[i]);
    clf_cl_int(&call, args->activation);
    return clf_cl_run_map(&call, &v[0]);
}
