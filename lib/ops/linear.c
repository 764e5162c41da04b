/* linear.c: what clf_linear() and clf_linear_backward() accept. */
#include "check.h"

#include <float.h>

#define OP "linear"

/* Names of the lists' entries, for messages. */
#define ENTRIES(field)                                                                                                 \
    { field "[0]", field "[1]", field "[2]" }
typedef const char *const entry_names[CLF_LINEAR_MAX];
static entry_names weight_names = ENTRIES("weight"), bias_names = ENTRIES("bias"), out_names = ENTRIES("out"),
                   tile_rows_names = ENTRIES("tile_rows"), tile_columns_names = ENTRIES("tile_columns"),
                   row_scale_names = ENTRIES("row_scale"), d_out_names = ENTRIES("d_out"),
                   d_weight_names = ENTRIES("d_weight"), d_bias_names = ENTRIES("d_bias");

/* What outputs and biases beside x may be. */
static uint32_t dtypes_beside(const clf_tensor *x) {
    return x->dtype == CLF_Q8_0 ? CLF_DTYPES_FLOAT : CLF_DTYPE_BIT(CLF_F32) | CLF_DTYPE_BIT(x->dtype);
}

/* Rows of product i. */
static int64_t rows_of(const clf_linear_args *a, int i) {
    return a->tile_rows[i] ? clf_last(a->row_scale[i]) : a->weight[i]->shape[0];
}

/* What the lists say is the table's to check: only it can see them. */
static clf_status check_tiles(clf_context *ctx, const clf_linear_args *a, int i) {
    enum { TILE = CLF_PANEL_ROWS, TILE_BYTES = 64 };
    const int64_t k = clf_last(a->x);
    const char *name = weight_names[i];
    CLF_TRY(clf_check_tensor(ctx, OP, name, a->weight[i], CLF_DTYPE_BIT(CLF_U8), 1, 1));
    const int64_t tiles = clf_last(a->weight[i]) / TILE_BYTES;
    CLF_CHECK(&ctx->error, clf_last(a->weight[i]) % TILE_BYTES == 0, CLF_INVALID_ARGUMENT,
              OP ": %s: expected tiles of %d bytes, got %lld", name, TILE_BYTES, (long long)clf_last(a->weight[i]));
    CLF_CHECK(&ctx->error, k % TILE == 0, CLF_INVALID_ARGUMENT,
              OP ": x: expected rows of a multiple of %d for tiles, got %lld", TILE, (long long)k);
    name = row_scale_names[i];
    CLF_TRY(clf_check_tensor(ctx, OP, name, a->row_scale[i], CLF_DTYPE_BIT(CLF_F32), 1, 1));
    const int64_t n = clf_last(a->row_scale[i]);
    CLF_CHECK(&ctx->error, n % TILE == 0, CLF_INVALID_ARGUMENT, OP ": %s: expected a multiple of %d rows, got %lld",
              name, TILE, (long long)n);
    name = tile_rows_names[i];
    CLF_TRY(clf_check_tensor(ctx, OP, name, a->tile_rows[i], CLF_DTYPE_BIT(CLF_I32), 1, 1));
    CLF_TRY(clf_check_shape(ctx, OP, name, a->tile_rows[i], 1, (int64_t[]){n / TILE + 1}));
    name = tile_columns_names[i];
    CLF_TRY(clf_check_tensor(ctx, OP, name, a->tile_columns[i], CLF_DTYPE_BIT(CLF_I32), 1, 1));
    return clf_check_shape(ctx, OP, name, a->tile_columns[i], 1, &tiles);
}

static clf_status check_dense(clf_context *ctx, const clf_linear_args *a, int i) {
    const int64_t k = clf_last(a->x);
    CLF_CHECK(&ctx->error, !a->tile_columns[i] && !a->row_scale[i], CLF_INVALID_ARGUMENT,
              OP ": tile_columns[%d], row_scale[%d]: expected NULL, as tile_rows[%d] is", i, i, i);
    const char *name = weight_names[i];
    CLF_TRY(clf_check_tensor(ctx, OP, name, a->weight[i], CLF_DTYPES_FLOAT | CLF_DTYPES_BLOCK | CLF_DTYPES_INTERLEAVED,
                             2, 2));
    CLF_CHECK(&ctx->error, a->weight[i]->shape[1] == k, CLF_INVALID_ARGUMENT,
              OP ": %s: expected rows of %lld as x has, got %lld", name, (long long)k,
              (long long)a->weight[i]->shape[1]);
    return CLF_OK;
}

static clf_status check_weight(clf_context *ctx, const clf_linear_args *a, int i) {
    const char *bias = bias_names[i];
    CLF_TRY(a->tile_rows[i] ? check_tiles(ctx, a, i) : check_dense(ctx, a, i));
    if (!a->bias[i]) return CLF_OK;
    CLF_TRY(clf_check_tensor(ctx, OP, bias, a->bias[i], dtypes_beside(a->x), 1, 1));
    return clf_check_shape(ctx, OP, bias, a->bias[i], 1, (int64_t[]){rows_of(a, i)});
}

/* out[i] has x's shape but for the last dimension, which is weight[i]'s rows, and overlaps no input. */
static clf_status check_out(clf_context *ctx, const clf_linear_args *a, int i) {
    const clf_tensor *x = a->x, *out = a->out[i];
    int64_t shape[CLF_MAX_DIMS];
    for (int d = 0; d < x->ndim; d++) shape[d] = x->shape[d];
    shape[x->ndim - 1] = rows_of(a, i);
    const char *name = out_names[i];
    CLF_TRY(clf_check_tensor(ctx, OP, name, out, dtypes_beside(x), 1, CLF_MAX_DIMS));
    CLF_TRY(clf_check_shape(ctx, OP, name, out, x->ndim, shape));
    CLF_TRY(clf_check_output(ctx, OP, name, out, "x", x, false));
    for (int j = 0; j < CLF_LINEAR_MAX && a->weight[j]; j++) {
        CLF_TRY(clf_check_output(ctx, OP, name, out, weight_names[j], a->weight[j], false));
        CLF_TRY(clf_check_output(ctx, OP, name, out, bias_names[j], a->bias[j], false));
        const clf_tensor *const lists[] = {a->tile_rows[j], a->tile_columns[j], a->row_scale[j]};
        for (int l = 0; l < 3; l++) CLF_TRY(clf_check_output(ctx, OP, name, out, "a list of tiles", lists[l], false));
        CLF_CHECK(&ctx->error,
                  j >= i || clf_elements(out) == 0 || out->buffer != a->out[j]->buffer ||
                      out->offset != a->out[j]->offset,
                  CLF_INVALID_ARGUMENT, OP ": %s is out[%d]", name, j);
    }
    return CLF_OK;
}

static clf_status check(clf_context *ctx, clf_linear_args *a) {
    clf_error *err = &ctx->error;
    CLF_TRY(clf_check_tensor(ctx, OP, "x", a->x, CLF_DTYPES_FLOAT | CLF_DTYPE_BIT(CLF_Q8_0), 1, CLF_MAX_DIMS));
    CLF_CHECK(err, (unsigned)a->glu <= CLF_ACTIVATION_GELU_TANH, CLF_INVALID_ARGUMENT,
              OP ": glu: expected a clf_activation, got %d", (int)a->glu);
    CLF_CHECK(err, (unsigned)a->precision <= CLF_LINEAR_EXACT, CLF_INVALID_ARGUMENT,
              OP ": precision: expected a clf_linear_precision, got %d", (int)a->precision);
    CLF_TRY(clf_check_finite(ctx, OP, "scale", a->scale, -FLT_MAX, FLT_MAX));
    if (a->scale == 0) a->scale = 1;
    CLF_CHECK(err, a->weight[0], CLF_INVALID_ARGUMENT, OP ": weight[0] is NULL");
    int n = 0;
    for (; n < CLF_LINEAR_MAX && a->weight[n]; n++) CLF_TRY(check_weight(ctx, a, n));
    for (int i = n; i < CLF_LINEAR_MAX; i++)
        CLF_CHECK(err, !a->weight[i] && !a->bias[i] && !a->tile_rows[i], CLF_INVALID_ARGUMENT,
                  OP ": weight[%d] or bias[%d] follows the end of the list, weight[%d] being NULL", i, i, n);
    const bool gated = a->glu != CLF_ACTIVATION_NONE;
    CLF_CHECK(err, !gated || n == 2, CLF_INVALID_ARGUMENT, OP ": glu: expected two weights, gate and up, got %d", n);
    CLF_CHECK(err, !gated || rows_of(a, 0) == rows_of(a, 1), CLF_INVALID_ARGUMENT,
              OP ": glu: expected gate and up of one size, got %lld and %lld rows", (long long)rows_of(a, 0),
              (long long)rows_of(a, 1));
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

#undef OP
#define OP "linear_backward"

/* The size of x's or d_x's rows, of which at least one is there. */
static const clf_tensor *like_x(const clf_linear_backward_args *a) {
    return a->d_x ? a->d_x : a->x;
}

/* d_out[i] has `like`'s rows. */
static clf_status check_d_out(clf_context *ctx, const clf_linear_backward_args *a, int i, const clf_tensor *like) {
    int64_t shape[CLF_MAX_DIMS];
    const clf_tensor *d = a->d_out[i];
    const char *name = d_out_names[i];
    const uint32_t dtypes = i ? CLF_DTYPE_BIT(a->d_out[0]->dtype) : CLF_DTYPES_FLOAT;
    CLF_TRY(clf_check_tensor(ctx, OP, name, d, dtypes, 1, CLF_MAX_DIMS));
    if (!like) like = a->d_out[0];
    for (int j = 0; j < like->ndim; j++) shape[j] = like->shape[j];
    shape[like->ndim - 1] = clf_last(d);
    return clf_check_shape(ctx, OP, name, d, like->ndim, shape);
}

/* `out` overlaps no input but, where it may alias it, `residual`. */
static clf_status check_backward_out(clf_context *ctx, const clf_linear_backward_args *a, const char *name,
                                     const clf_tensor *out) {
    CLF_TRY(clf_check_output(ctx, OP, name, out, "x", a->x, false));
    CLF_TRY(clf_check_output(ctx, OP, name, out, "residual", a->residual, out == a->d_x));
    for (int i = 0; i < CLF_LINEAR_MAX && a->d_out[i]; i++) {
        CLF_TRY(clf_check_output(ctx, OP, name, out, d_out_names[i], a->d_out[i], false));
        CLF_TRY(clf_check_output(ctx, OP, name, out, weight_names[i], a->weight[i], false));
        if (out != a->d_x) CLF_TRY(clf_check_output(ctx, OP, name, out, "d_x", a->d_x, false));
    }
    return CLF_OK;
}

static clf_status check_entry(clf_context *ctx, const clf_linear_backward_args *a, int i) {
    const int64_t n = clf_last(a->d_out[i]), k = like_x(a) ? clf_last(like_x(a)) : 0;
    if (a->d_x) {
        const char *name = weight_names[i];
        CLF_TRY(clf_check_tensor(ctx, OP, name, a->weight[i], CLF_DTYPES_FLOAT | CLF_DTYPES_BLOCK, 2, 2));
        CLF_TRY(clf_check_shape(ctx, OP, name, a->weight[i], 2, (int64_t[]){n, k}));
    }
    if (a->d_weight[i]) {
        const char *name = d_weight_names[i];
        CLF_CHECK(&ctx->error, a->x, CLF_INVALID_ARGUMENT, OP ": x is NULL, which %s is computed from", name);
        CLF_TRY(clf_check_tensor(ctx, OP, name, a->d_weight[i], CLF_DTYPE_BIT(CLF_F32), 2, 2));
        CLF_TRY(clf_check_shape(ctx, OP, name, a->d_weight[i], 2, (int64_t[]){n, k}));
        CLF_TRY(check_backward_out(ctx, a, name, a->d_weight[i]));
        for (int j = 0; j < i; j++)
            CLF_TRY(clf_check_output(ctx, OP, name, a->d_weight[i], d_weight_names[j], a->d_weight[j], false));
    }
    if (!a->d_bias[i]) return CLF_OK;
    const char *name = d_bias_names[i];
    CLF_TRY(clf_check_tensor(ctx, OP, name, a->d_bias[i], CLF_DTYPE_BIT(CLF_F32), 1, 1));
    CLF_TRY(clf_check_shape(ctx, OP, name, a->d_bias[i], 1, &n));
    CLF_TRY(check_backward_out(ctx, a, name, a->d_bias[i]));
    for (int j = 0; j < CLF_LINEAR_MAX; j++) {
        CLF_TRY(clf_check_output(ctx, OP, name, a->d_bias[i], d_weight_names[j], a->d_weight[j], false));
        if (j < i) CLF_TRY(clf_check_output(ctx, OP, name, a->d_bias[i], d_bias_names[j], a->d_bias[j], false));
    }
    return CLF_OK;
}

static clf_status check_backward(clf_context *ctx, clf_linear_backward_args *a) {
    clf_error *err = &ctx->error;
    CLF_TRY(clf_check_finite(ctx, OP, "scale", a->scale, -FLT_MAX, FLT_MAX));
    if (a->scale == 0) a->scale = 1;
    CLF_CHECK(err, a->d_out[0], CLF_INVALID_ARGUMENT, OP ": d_out[0] is NULL");
    if (a->x) CLF_TRY(clf_check_tensor(ctx, OP, "x", a->x, CLF_DTYPES_FLOAT, 1, CLF_MAX_DIMS));
    CLF_TRY(check_d_out(ctx, a, 0, NULL));
    if (a->d_x) {
        const uint32_t dtypes = CLF_DTYPE_BIT(CLF_F32) | CLF_DTYPE_BIT(a->d_out[0]->dtype);
        CLF_TRY(clf_check_tensor(ctx, OP, "d_x", a->d_x, dtypes, 1, CLF_MAX_DIMS));
        if (a->x) CLF_TRY(clf_check_shape(ctx, OP, "d_x", a->d_x, a->x->ndim, a->x->shape));
    }
    int n = 0;
    for (; n < CLF_LINEAR_MAX && a->d_out[n]; n++) {
        CLF_TRY(check_d_out(ctx, a, n, like_x(a)));
        CLF_TRY(check_entry(ctx, a, n));
    }
    for (int i = n; i < CLF_LINEAR_MAX; i++)
        CLF_CHECK(err, !a->d_out[i] && !a->weight[i] && !a->d_weight[i] && !a->d_bias[i], CLF_INVALID_ARGUMENT,
                  OP ": d_out[%d], weight[%d], d_weight[%d] or d_bias[%d] follows the end of the list, d_out[%d] being "
                     "NULL",
                  i, i, i, i, n);
    CLF_CHECK(err, a->d_x || !a->residual, CLF_INVALID_ARGUMENT, OP ": residual: expected NULL, as d_x is");
    if (!a->d_x) return CLF_OK;
    if (a->residual) {
        CLF_TRY(clf_check_tensor(ctx, OP, "residual", a->residual, CLF_DTYPES_FLOAT, 1, CLF_MAX_DIMS));
        CLF_TRY(clf_check_like(ctx, OP, "residual", a->residual, "d_x", a->d_x));
    }
    return check_backward_out(ctx, a, "d_x", a->d_x);
}

CLF_DOOR_CHECKED(linear_backward, check_backward)
