/* softcap.c: the launchers of softcap.cl. */
#include "cl.h"

clf_status clf_softcap_opencl(clf_context *ctx, const clf_softcap_args *args) {
    clf_tensor v[2] = {*args->x, *args->out};
    clf_cl_collapse(v, 2);
    clf_cl_call call;
    CLF_TRY(clf_cl_begin(&call, ctx, "softcap", "softcap", "-DT=%s", clf_cl_dtype(v->dtype)));
    for (int i = 0; i < 2; i++) clf_cl_tensor(&call, &v[i]);
    clf_cl_float(&call, args->cap);
    return clf_cl_run_map(&call, &v[0]);
}

clf_status clf_softcap_backward_opencl(clf_context *ctx, const clf_softcap_backward_args *args) {
    clf_tensor v[3] = {*args->out, *args->d_out, *args->d_x};
    clf_cl_collapse(v, 3);
    clf_cl_call call;
    CLF_TRY(clf_cl_begin(&call, ctx, "softcap", "softcap_backward", "-DT=%s", clf_cl_dtype(v->dtype)));
    for (int i = 0; i < 3; i++) clf_cl_tensor(&call, &v[i]);
    clf_cl_float(&call, args->cap);
    return clf_cl_run_map(&call, &v[0]);
}
