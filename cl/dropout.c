/* dropout.c: the launcher of dropout.cl. */
#include <math.h>

#include "cl.h"

clf_status clf_dropout_opencl(clf_context *ctx, const clf_dropout_args *args) {
    const clf_tensor *residual = args->residual ? args->residual : args->x;
    const cl_uint2 seed = {{(cl_uint)args->seed, (cl_uint)(args->seed >> 32)}};
    clf_tensor v[3] = {*args->x, *residual, *args->out};
    clf_cl_collapse(v, 3);
    clf_cl_call call;
    CLF_TRY(clf_cl_begin(&call, ctx, "dropout", "dropout", "-DT=%s", clf_cl_dtype(v->dtype)));
    clf_cl_tensor(&call, &v[0]);
    clf_cl_tensor(&call, args->residual ? &v[1] : NULL);
    clf_cl_tensor(&call, &v[2]);
    clf_cl_value(&call, sizeof seed, &seed);
    clf_cl_int(&call, (int64_t)ceil((double)args->probability * 0x1p32));
    clf_cl_float(&call, (float)(1 / (1 - (double)args->probability)));
    return clf_cl_run_map(&call, &v[0]);
}
