/* rms_norm.c: the launcher of rms_norm.cl. */
#include "cl.h"

enum { LOCAL = 256 };

clf_status clf_rms_norm_opencl(clf_context *ctx, const clf_rms_norm_args *args) {
    clf_tensor rstd;
    if (args->rstd) { /* [...] as [..., 1]: rows like x's */
        rstd = *args->rstd;
        rstd.shape[rstd.ndim] = 1;
        rstd.stride[rstd.ndim++] = 1;
    }
    clf_cl_call call;
    CLF_TRY(clf_cl_begin(&call, ctx, "rms_norm", "rms_norm", "-DT=%s", clf_cl_dtype(args->x->dtype)));
    clf_cl_tensor(&call, args->x);
    clf_cl_tensor(&call, args->residual);
    clf_cl_tensor(&call, args->weight);
    clf_cl_int(&call, args->weight ? args->weight->dtype : CLF_F32);
    clf_cl_float(&call, args->weight_offset);
    clf_cl_float(&call, args->eps);
    clf_cl_tensor(&call, args->sum);
    clf_cl_tensor(&call, args->rstd ? &rstd : NULL);
    clf_cl_tensor(&call, args->out);
    clf_cl_shape(&call, args->x);
    clf_cl_long(&call, clf_last(args->x));
    clf_cl_local(&call, LOCAL * sizeof(float));
    return clf_cl_run(&call, (size_t[3]){(size_t)clf_rows(args->x), 1, 1}, LOCAL);
}
