/* linear.c: what clf_linear() accepts. */
#include "check.h"

#include <stdio.h>

#define OP "linear"

/* "weight[1]" */
static const char *entry(char *text, size_t size, const char *field, int i) {
    snprintf(text, size, "%s[%d]", field, i);
    return text;
}

static clf_status check_weight(clf_context *ctx, const clf_linear_args *a, int i) {
    char name[24], bias[24];
    const int64_t k = clf_last(a->x);
    entry(name, sizeof name, "weight", i);
    CLF_TRY(clf_check_tensor(ctx, OP, name, a->weight[i], CLF_DTYPES_FLOAT | CLF_DTYPES_BLOCK, 2, 2));
    CLF_CHECK(&ctx->error, a->weight[i]->shape[1] == k, CLF_INVALID_ARGUMENT,
              OP ": %s: expected rows of %lld as x has, got %lld", name, (long long)k,
              (long long)a->weight[i]->shape[1]);
    if (!a->bias[i]) return CLF_OK;
    entry(bias, sizeof bias, "bias", i);
    const uint32_t dtypes = CLF_DTYPE_BIT(CLF_F32) | CLF_DTYPE_BIT(a->x->dtype);
    CLF_TRY(clf_check_tensor(ctx, OP, bias, a->bias[i], dtypes, 1, 1));
    return clf_check_shape(ctx, OP, bias, a->bias[i], 1, a->weight[i]->shape);
}

/* out[i] has x's shape but for the last dimension, which is weight[i]'s rows, and overlaps no input. */
static clf_status check_out(clf_context *ctx, const clf_linear_args *a, int i) {
    char name[24], other[24];
    const clf_tensor *x = a->x, *out = a->out[i];
    int64_t shape[CLF_MAX_DIMS];
    for (int d = 0; d < x->ndim; d++) shape[d] = x->shape[d];
    shape[x->ndim - 1] = a->weight[i]->shape[0];
    entry(name, sizeof name, "out", i);
    const uint32_t dtypes = CLF_DTYPE_BIT(CLF_F32) | CLF_DTYPE_BIT(x->dtype);
    CLF_TRY(clf_check_tensor(ctx, OP, name, out, dtypes, 1, CLF_MAX_DIMS));
    CLF_TRY(clf_check_shape(ctx, OP, name, out, x->ndim, shape));
    CLF_TRY(clf_check_output(ctx, OP, name, out, "x", x, false));
    for (int j = 0; j < CLF_LINEAR_MAX && a->weight[j]; j++) {
        CLF_TRY(clf_check_output(ctx, OP, name, out, entry(other, sizeof other, "weight", j), a->weight[j], false));
        CLF_TRY(clf_check_output(ctx, OP, name, out, entry(other, sizeof other, "bias", j), a->bias[j], false));
        CLF_CHECK(&ctx->error,
                  j >= i || clf_elements(out) == 0 || out->buffer != a->out[j]->buffer ||
                      out->offset != a->out[j]->offset,
                  CLF_INVALID_ARGUMENT, OP ": %s is out[%d]", name, j);
    }
    return CLF_OK;
}

static clf_status check(clf_context *ctx, clf_linear_args *a) {
    clf_error *err = &ctx->error;
    CLF_TRY(clf_check_tensor(ctx, OP, "x", a->x, CLF_DTYPES_FLOAT, 1, CLF_MAX_DIMS));
    CLF_CHECK(err, (unsigned)a->glu <= CLF_ACTIVATION_GELU_TANH, CLF_INVALID_ARGUMENT,
              OP ": glu: expected a clf_activation, got %d", (int)a->glu);
    CLF_CHECK(err, (unsigned)a->precision <= CLF_LINEAR_EXACT, CLF_INVALID_ARGUMENT,
              OP ": precision: expected a clf_linear_precision, got %d", (int)a->precision);
    CLF_CHECK(err, a->weight[0], CLF_INVALID_ARGUMENT, OP ": weight[0] is NULL");
    int n = 0;
    for (; n < CLF_LINEAR_MAX && a->weight[n]; n++) CLF_TRY(check_weight(ctx, a, n));
    for (int i = n; i < CLF_LINEAR_MAX; i++)
        CLF_CHECK(err, !a->weight[i] && !a->bias[i], CLF_INVALID_ARGUMENT,
                  OP ": weight[%d] or bias[%d] follows the end of the list, weight[%d] being NULL", i, i, n);
    const bool gated = a->glu != CLF_ACTIVATION_NONE;
    CLF_CHECK(err, !gated || n == 2, CLF_INVALID_ARGUMENT, OP ": glu: expected two weights, gate and up, got %d", n);
    CLF_CHECK(err, !gated || a->weight[0]->shape[0] == a->weight[1]->shape[0], CLF_INVALID_ARGUMENT,
              OP ": glu: expected gate and up of one size, got %lld and %lld rows", (long long)a->weight[0]->shape[0],
              (long long)a->weight[1]->shape[0]);
    CLF_CHECK(err, !a->residual || n == 1 || gated, CLF_INVALID_ARGUMENT,
              OP ": residual: expected one product or a gate, got %d products", n);
    const int outs = gated ? 1 : n;
    for (int i = 0; i < outs; i++) CLF_TRY(check_out(ctx, a, i));
    for (int i = outs; i < CLF_LINEAR_MAX; i++)
        CLF_CHECK(err, !a->out[i], CLF_INVALID_ARGUMENT, OP ": out[%d]: expected NULL, as nothing is stored there", i);
    if (a->residual) {
        CLF_TRY(clf_check_like(ctx, OP, "residual", a->residual, "out[0]", a->out[0]));
        CLF_TRY(clf_check_tensor(ctx, OP, "residual", a->residual, CLF_DTYPES_FLOAT, 1, CLF_MAX_DIMS));
        CLF_TRY(clf_check_output(ctx, OP, "out[0]", a->out[0], "residual", a->residual, true));
    }
    return CLF_OK;
}

CLF_DOOR(linear)
