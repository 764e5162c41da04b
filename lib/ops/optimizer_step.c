/* optimizer_step.c: what clf_optimizer_step() accepts. */
#include <float.h>

#include "check.h"

#define OP "optimizer_step"

static clf_status check_contiguous(clf_context *ctx, const char *name, const clf_tensor *t) {
    CLF_CHECK(&ctx->error, clf_is_contiguous(t), CLF_INVALID_ARGUMENT, OP ": %s: expected a contiguous tensor", name);
    return CLF_OK;
}

/* `t` is F32 as weight, or U8 of its shape with a scale for each block. */
static clf_status check_state(clf_context *ctx, const clf_tensor *weight, const char *name, const clf_tensor *t,
                              const char *scale_name, const clf_tensor *scale) {
    CLF_TRY(clf_check_tensor(ctx, OP, name, t, CLF_DTYPE_BIT(CLF_F32) | CLF_DTYPE_BIT(CLF_U8), 0, CLF_MAX_DIMS));
    CLF_TRY(clf_check_shape(ctx, OP, name, t, weight->ndim, weight->shape));
    CLF_TRY(check_contiguous(ctx, name, t));
    if (t->dtype == CLF_F32) {
        CLF_CHECK(&ctx->error, !scale, CLF_INVALID_ARGUMENT, OP ": %s: expected NULL, as %s is f32", scale_name, name);
        return CLF_OK;
    }
    const int64_t n = clf_elements(weight);
    const int64_t blocks = n / CLF_OPTIMIZER_BLOCK + (n % CLF_OPTIMIZER_BLOCK != 0);
    CLF_TRY(clf_check_tensor(ctx, OP, scale_name, scale, CLF_DTYPE_BIT(CLF_F32), 1, 1));
    CLF_TRY(clf_check_shape(ctx, OP, scale_name, scale, 1, &blocks));
    return check_contiguous(ctx, scale_name, scale);
}

static clf_status check_states(clf_context *ctx, const clf_optimizer_step_args *a) {
    const bool adamw = a->optimizer == CLF_OPTIMIZER_ADAMW;
    if (a->momentum || a->optimizer != CLF_OPTIMIZER_SGD)
        CLF_TRY(check_state(ctx, a->weight, "momentum", a->momentum, "momentum_scale", a->momentum_scale));
    else
        CLF_CHECK(&ctx->error, !a->momentum_scale, CLF_INVALID_ARGUMENT,
                  OP ": momentum_scale: expected NULL, as momentum is");
    if (adamw) return check_state(ctx, a->weight, "variance", a->variance, "variance_scale", a->variance_scale);
    CLF_CHECK(&ctx->error, !a->variance && !a->variance_scale, CLF_INVALID_ARGUMENT,
              OP ": variance: expected NULL but for AdamW");
    return CLF_OK;
}

/* No two of the tensors overlap. */
static clf_status check_apart(clf_context *ctx, const clf_optimizer_step_args *a) {
    const struct {
        const char *name;
        const clf_tensor *t;
    } all[] = {{"weight", a->weight},
               {"gradient", a->gradient},
               {"copy", a->copy},
               {"momentum", a->momentum},
               {"variance", a->variance},
               {"momentum_scale", a->momentum_scale},
               {"variance_scale", a->variance_scale}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        for (size_t j = 0; j < i && all[i].t; j++)
            CLF_TRY(clf_check_output(ctx, OP, all[i].name, all[i].t, all[j].name, all[j].t, false));
    return CLF_OK;
}

static clf_status check(clf_context *ctx, clf_optimizer_step_args *a) {
    static const float below_1 = 1 - FLT_EPSILON / 2;
    CLF_CHECK(&ctx->error, a->optimizer >= CLF_OPTIMIZER_ADAMW && a->optimizer <= CLF_OPTIMIZER_LION,
              CLF_INVALID_ARGUMENT, OP ": optimizer: %d is none", (int)a->optimizer);
    CLF_TRY(clf_check_tensor(ctx, OP, "weight", a->weight, CLF_DTYPE_BIT(CLF_F32), 0, CLF_MAX_DIMS));
    CLF_TRY(check_contiguous(ctx, "weight", a->weight));
    CLF_TRY(clf_check_like(ctx, OP, "gradient", a->gradient, "weight", a->weight));
    CLF_TRY(check_contiguous(ctx, "gradient", a->gradient));
    if (a->copy) {
        const uint32_t dtypes = CLF_DTYPE_BIT(CLF_F16) | CLF_DTYPE_BIT(CLF_BF16);
        CLF_TRY(clf_check_tensor(ctx, OP, "copy", a->copy, dtypes, 0, CLF_MAX_DIMS));
        CLF_TRY(clf_check_shape(ctx, OP, "copy", a->copy, a->weight->ndim, a->weight->shape));
        CLF_TRY(check_contiguous(ctx, "copy", a->copy));
    }
    CLF_TRY(check_states(ctx, a));
    CLF_TRY(check_apart(ctx, a));
    if (a->gradient_scale == 0) a->gradient_scale = 1;
    CLF_TRY(clf_check_finite(ctx, OP, "gradient_scale", (double)a->gradient_scale, -FLT_MAX, FLT_MAX));
    CLF_TRY(clf_check_finite(ctx, OP, "learning_rate", (double)a->learning_rate, 0, FLT_MAX));
    CLF_TRY(clf_check_finite(ctx, OP, "beta1", (double)a->beta1, 0, (double)below_1));
    CLF_TRY(clf_check_finite(ctx, OP, "beta2", (double)a->beta2, 0, (double)below_1));
    CLF_TRY(clf_check_finite(ctx, OP, "eps", (double)a->eps, 0, FLT_MAX));
    CLF_TRY(clf_check_finite(ctx, OP, "weight_decay", (double)a->weight_decay, 0, FLT_MAX));
    CLF_CHECK(&ctx->error, a->optimizer != CLF_OPTIMIZER_ADAMW || a->step >= 1, CLF_INVALID_ARGUMENT,
              OP ": step: expected 1 or more, got %lld", (long long)a->step);
    return CLF_OK;
}

CLF_DOOR(optimizer_step)
