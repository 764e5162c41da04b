/* optimizer_step.c: the launcher of optimizer_step.cl. */
#include "../lib/ops/optimizer_factors.h"
#include "cl.h"

/* Codes or floats, and the scales of codes. */
static void set_state(clf_cl_call *call, const clf_tensor *t, const clf_tensor *scale) {
    clf_cl_memory(call, t ? &t->buffer->memory : NULL);
    clf_cl_long(call, t ? clf_cl_offset(t) : 0);
    clf_cl_memory(call, scale ? &scale->buffer->memory : NULL);
    clf_cl_long(call, scale ? clf_cl_offset(scale) : 0);
}

clf_status clf_optimizer_step_opencl(clf_context *ctx, const clf_optimizer_step_args *args) {
    const clf_optimizer_factors f = clf_optimizer_factors_of(args);
    const float factors[] = {f.gradient_scale, f.beta1, f.beta2, f.eps, f.rest1, f.rest2, f.decay, f.rate, f.root};
    const int64_t n = clf_elements(args->weight);
    clf_cl_call call;
    CLF_TRY(clf_cl_begin(&call, ctx, "optimizer_step", "optimizer_step", "-DRULE=%d -DMOMENTUM=%s -DVARIANCE=%s",
                         (int)args->optimizer, clf_cl_dtype(args->momentum ? args->momentum->dtype : CLF_F32),
                         clf_cl_dtype(args->variance ? args->variance->dtype : CLF_F32)));
    clf_cl_memory(&call, &args->weight->buffer->memory);
    clf_cl_long(&call, clf_cl_offset(args->weight));
    clf_cl_memory(&call, &args->gradient->buffer->memory);
    clf_cl_long(&call, clf_cl_offset(args->gradient));
    clf_cl_memory(&call, args->copy ? &args->copy->buffer->memory : NULL);
    clf_cl_long(&call, args->copy ? clf_cl_offset(args->copy) : 0);
    clf_cl_int(&call, args->copy ? args->copy->dtype : CLF_F32);
    set_state(&call, args->momentum, args->momentum_scale);
    set_state(&call, args->variance, args->variance_scale);
    for (size_t i = 0; i < sizeof factors / sizeof *factors; i++) clf_cl_float(&call, factors[i]);
    clf_cl_int(&call, f.dither);
    clf_cl_int(&call, CLF_DITHER_ELEMENT);
    clf_cl_long(&call, n);
    clf_cl_local(&call, CLF_OPTIMIZER_BLOCK * sizeof(cl_float));
    return clf_cl_run(&call, (size_t[3]){clf_cl_divide_up(n, CLF_OPTIMIZER_BLOCK), 1, 1}, CLF_OPTIMIZER_BLOCK);
}
