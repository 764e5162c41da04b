/* linear_cross_entropy.c: what clf_linear_cross_entropy() accepts. Labels are the table's to check: only it can see
 * them. */
#include <float.h>

#include "check.h"

#define OP "linear_cross_entropy"

/* `t` is F32 [rows] and overlaps no input. */
static clf_status check_row_output(clf_context *ctx, const clf_linear_cross_entropy_args *a, const char *name,
                                   const clf_tensor *t) {
    CLF_TRY(clf_check_tensor(ctx, OP, name, t, CLF_DTYPE_BIT(CLF_F32), 1, 1));
    CLF_TRY(clf_check_shape(ctx, OP, name, t, 1, a->x->shape));
    CLF_TRY(clf_check_output(ctx, OP, name, t, "x", a->x, false));
    CLF_TRY(clf_check_output(ctx, OP, name, t, "weight", a->weight, false));
    CLF_TRY(clf_check_output(ctx, OP, name, t, "labels", a->labels, false));
    return clf_check_output(ctx, OP, name, t, "row_weights", a->row_weights, false);
}

/* A gradient overlaps neither inputs nor the rows' outputs. */
static clf_status check_gradient(clf_context *ctx, const clf_linear_cross_entropy_args *a, const char *name,
                                 const clf_tensor *t, bool over_x) {
    CLF_TRY(clf_check_output(ctx, OP, name, t, "x", a->x, over_x));
    CLF_TRY(clf_check_output(ctx, OP, name, t, "weight", a->weight, false));
    CLF_TRY(clf_check_output(ctx, OP, name, t, "labels", a->labels, false));
    CLF_TRY(clf_check_output(ctx, OP, name, t, "row_weights", a->row_weights, false));
    CLF_TRY(clf_check_output(ctx, OP, name, t, "loss", a->loss, false));
    return clf_check_output(ctx, OP, name, t, "lse", a->lse, false);
}

static clf_status check(clf_context *ctx, clf_linear_cross_entropy_args *a) {
    const uint32_t f32 = CLF_DTYPE_BIT(CLF_F32);
    CLF_TRY(clf_check_tensor(ctx, OP, "x", a->x, CLF_DTYPES_FLOAT, 2, 2));
    CLF_TRY(clf_check_tensor(ctx, OP, "weight", a->weight, CLF_DTYPES_FLOAT | CLF_DTYPES_BLOCK, 2, 2));
    CLF_CHECK(&ctx->error, a->weight->shape[1] == a->x->shape[1], CLF_INVALID_ARGUMENT,
              OP ": weight: expected rows of %lld as x has, got %lld", (long long)a->x->shape[1],
              (long long)a->weight->shape[1]);
    CLF_CHECK(&ctx->error, a->weight->shape[0] > 0, CLF_INVALID_ARGUMENT, OP ": weight: expected rows, got none");
    CLF_TRY(clf_check_tensor(ctx, OP, "labels", a->labels, CLF_DTYPE_BIT(CLF_I32), 1, 1));
    CLF_TRY(clf_check_shape(ctx, OP, "labels", a->labels, 1, a->x->shape));
    if (a->row_weights) {
        CLF_TRY(clf_check_tensor(ctx, OP, "row_weights", a->row_weights, f32, 1, 1));
        CLF_TRY(clf_check_shape(ctx, OP, "row_weights", a->row_weights, 1, a->x->shape));
    }
    CLF_TRY(clf_check_finite(ctx, OP, "softcap", (double)a->softcap, 0, FLT_MAX));
    CLF_TRY(clf_check_finite(ctx, OP, "label_smoothing", (double)a->label_smoothing, 0, 1));
    CLF_TRY(clf_check_finite(ctx, OP, "z_loss", (double)a->z_loss, 0, FLT_MAX));
    CLF_TRY(clf_check_finite(ctx, OP, "d_loss", (double)a->d_loss, -FLT_MAX, FLT_MAX));
    if (a->d_loss == 0) a->d_loss = 1;
    CLF_TRY(check_row_output(ctx, a, "loss", a->loss));
    if (a->lse) {
        CLF_TRY(check_row_output(ctx, a, "lse", a->lse));
        CLF_TRY(clf_check_output(ctx, OP, "lse", a->lse, "loss", a->loss, false));
    }
    if (a->d_x) {
        CLF_TRY(clf_check_like(ctx, OP, "d_x", a->d_x, "x", a->x));
        CLF_TRY(clf_check_tensor(ctx, OP, "d_x", a->d_x, CLF_DTYPES_FLOAT, 2, 2));
        CLF_TRY(check_gradient(ctx, a, "d_x", a->d_x, true));
    }
    if (!a->d_weight) return CLF_OK;
    CLF_TRY(clf_check_tensor(ctx, OP, "d_weight", a->d_weight, f32, 2, 2));
    CLF_TRY(clf_check_shape(ctx, OP, "d_weight", a->d_weight, 2, a->weight->shape));
    CLF_TRY(clf_check_output(ctx, OP, "d_weight", a->d_weight, "d_x", a->d_x, false));
    return check_gradient(ctx, a, "d_weight", a->d_weight, false);
}

CLF_DOOR(linear_cross_entropy)
