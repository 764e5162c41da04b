/* attention.c: what clf_attention() and clf_attention_backward() accept. What lies in index tensors is read where they
 * are host memory (attention_indices.c). */
#include "attention.h"

#include <float.h>
#include <math.h>

#include "../core/checked.h"
#include "check.h"

#define KEY_BLOCKS (CLF_DTYPE_BIT(CLF_Q8_0) | CLF_DTYPE_BIT(CLF_Q4_0))

/* Keys and values: floats, Q8_0 or Q4_0; other blocks no table has. */
static clf_status check_keys(clf_context *ctx, const char *op, const char *name, const clf_tensor *t) {
    const clf_status st = clf_check_tensor(ctx, op, name, t, CLF_DTYPES_FLOAT | KEY_BLOCKS, 4, 4);
    const bool blocks = t && t->magic == CLF_TENSOR_MAGIC && t->ctx == ctx && t->ndim == 4 &&
                        (CLF_DTYPES_BLOCK & ~KEY_BLOCKS) >> t->dtype & 1;
    return blocks ? CLF_UNSUPPORTED : st;
}

static clf_status check_dim(clf_context *ctx, const char *op, const char *name, const char *what, int64_t dim) {
    CLF_CHECK(&ctx->error, dim >= 1 && dim <= CLF_ATTENTION_DIM, dim < 1 ? CLF_INVALID_ARGUMENT : CLF_UNSUPPORTED,
              "%s: %s: expected a %s of 1 to %d, got %lld", op, name, what, CLF_ATTENTION_DIM, (long long)dim);
    return CLF_OK;
}

/* Query, key and value: four dimensions that fit together. */
static clf_status check_inputs(clf_context *ctx, const char *op, const clf_attention_args *a) {
    clf_error *err = &ctx->error;
    CLF_TRY(clf_check_tensor(ctx, op, "query", a->query, CLF_DTYPES_FLOAT, 4, 4));
    CLF_TRY(check_keys(ctx, op, "key", a->key));
    CLF_TRY(check_keys(ctx, op, "value", a->value));
    CLF_CHECK(err, a->value->dtype == a->key->dtype, CLF_INVALID_ARGUMENT, "%s: value: expected key's dtype %s, got %s",
              op, clf_dtype_name(a->key->dtype), clf_dtype_name(a->value->dtype));
    const int64_t *q = a->query->shape, *k = a->key->shape, *v = a->value->shape;
    CLF_TRY(check_dim(ctx, op, "query", "head_dim", q[3]));
    CLF_TRY(check_dim(ctx, op, "value", "v_dim", v[3]));
    CLF_CHECK(err, k[1] ? q[1] % k[1] == 0 : q[1] == 0, CLF_INVALID_ARGUMENT,
              "%s: key: expected kv_heads that divide query's %lld heads, got %lld", op, (long long)q[1],
              (long long)k[1]);
    const int64_t entries = a->block_table ? k[0] : q[0];
    CLF_TRY(clf_check_shape(ctx, op, "key", a->key, 4, (int64_t[]){entries, k[1], k[2], q[3]}));
    return clf_check_shape(ctx, op, "value", a->value, 4, (int64_t[]){entries, k[1], k[2], v[3]});
}

/* A vector of `n`, unless it is NULL. */
static clf_status check_vector(clf_context *ctx, const char *op, const char *name, const clf_tensor *t, clf_dtype dtype,
                               int64_t n) {
    if (!t) return CLF_OK;
    CLF_TRY(clf_check_tensor(ctx, op, name, t, CLF_DTYPE_BIT(dtype), 1, 1));
    return clf_check_shape(ctx, op, name, t, 1, &n);
}

/* Offsets of sequences: one more than there are. */
static clf_status check_starts(clf_context *ctx, const char *op, const char *name, const clf_tensor *t) {
    CLF_TRY(clf_check_tensor(ctx, op, name, t, CLF_DTYPE_BIT(CLF_I32), 1, 1));
    CLF_CHECK(&ctx->error, t->shape[0] >= 1, CLF_INVALID_ARGUMENT, "%s: %s: expected 1 or more entries, got 0", op,
              name);
    return CLF_OK;
}

/* Which rows are whose: packed and paged sequences. */
static clf_status check_sequences(clf_context *ctx, const char *op, const clf_attention_args *a) {
    clf_error *err = &ctx->error;
    CLF_CHECK(err, !a->key_starts || a->query_starts, CLF_INVALID_ARGUMENT, "%s: key_starts: needs query_starts", op);
    CLF_CHECK(err, !a->key_starts || !a->block_table, CLF_INVALID_ARGUMENT,
              "%s: key_starts: expected NULL with a block_table", op);
    if (a->query_starts) {
        CLF_TRY(check_starts(ctx, op, "query_starts", a->query_starts));
        CLF_CHECK(err, a->query->shape[0] == 1, CLF_INVALID_ARGUMENT,
                  "%s: query: expected a batch of 1 with query_starts, got %lld", op, (long long)a->query->shape[0]);
        CLF_CHECK(err, a->key_starts || a->block_table, CLF_INVALID_ARGUMENT,
                  "%s: query_starts: needs key_starts or a block_table", op);
    }
    if (a->key_starts) {
        CLF_TRY(check_starts(ctx, op, "key_starts", a->key_starts));
        CLF_TRY(clf_check_shape(ctx, op, "key_starts", a->key_starts, 1, a->query_starts->shape));
    }
    const int64_t sequences = clf_attention_sequences(a);
    CLF_TRY(check_vector(ctx, op, "key_lengths", a->key_lengths, CLF_I32, sequences));
    if (!a->block_table) return CLF_OK;
    CLF_TRY(clf_check_tensor(ctx, op, "block_table", a->block_table, CLF_DTYPE_BIT(CLF_I32), 2, 2));
    CLF_TRY(
        clf_check_shape(ctx, op, "block_table", a->block_table, 2, (int64_t[]){sequences, a->block_table->shape[1]}));
    CLF_CHECK(err, a->key_lengths, CLF_INVALID_ARGUMENT, "%s: block_table: needs key_lengths", op);
    int64_t keys;
    CLF_CHECK(err, clf_product_i64((int64_t[]){a->block_table->shape[1], a->key->shape[2]}, 2, &keys),
              CLF_INVALID_ARGUMENT, "%s: block_table: %lld × %lld positions exceed 64 bits", op,
              (long long)a->block_table->shape[1], (long long)a->key->shape[2]);
    return CLF_OK;
}

static clf_status check_mask(clf_context *ctx, const char *op, const clf_attention_args *a) {
    const uint32_t dtypes = CLF_DTYPE_BIT(CLF_F32) | CLF_DTYPE_BIT(a->query->dtype);
    const int64_t *q = a->query->shape, full[4] = {q[0], q[1], q[2], clf_attention_keys(a)};
    int64_t want[4];
    CLF_TRY(clf_check_tensor(ctx, op, "mask", a->mask, dtypes, 4, 4));
    for (int i = 0; i < 4; i++) want[i] = a->mask->shape[i] == 1 ? 1 : full[i];
    return clf_check_shape(ctx, op, "mask", a->mask, 4, want);
}

static clf_status check_layout(clf_context *ctx, const char *op, const clf_attention_args *a) {
    clf_error *err = &ctx->error;
    const int64_t block = a->layout_block;
    CLF_CHECK(err, !a->layout_rows == !a->layout_columns, CLF_INVALID_ARGUMENT, "%s: %s is NULL", op,
              a->layout_rows ? "layout_columns" : "layout_rows");
    if (!a->layout_rows) {
        CLF_CHECK(err, !block, CLF_INVALID_ARGUMENT, "%s: layout_block: expected 0 without layout_rows, got %lld", op,
                  (long long)block);
        return CLF_OK;
    }
    CLF_CHECK(err, block == 16 || block == 32 || block == 64 || block == 128, CLF_INVALID_ARGUMENT,
              "%s: layout_block: expected 16, 32, 64 or 128, got %lld", op, (long long)block);
    CLF_TRY(clf_check_tensor(ctx, op, "layout_columns", a->layout_columns, CLF_DTYPE_BIT(CLF_I32), 1, 1));
    CLF_TRY(check_starts(ctx, op, "layout_rows", a->layout_rows));
    if (a->query_starts) return CLF_OK;
    const int64_t n_q = a->query->shape[2], rows = n_q / block + (n_q % block != 0) + 1;
    return clf_check_shape(ctx, op, "layout_rows", a->layout_rows, 1, &rows);
}

/* `out` is apart from all that the forward call reads. */
static clf_status check_output(clf_context *ctx, const char *op, const char *name, const clf_tensor *out,
                               const clf_attention_args *a) {
    const struct {
        const char *name;
        const clf_tensor *t;
    } inputs[] = {{"query", a->query},
                  {"key", a->key},
                  {"value", a->value},
                  {"alibi_slopes", a->alibi_slopes},
                  {"mask", a->mask},
                  {"key_lengths", a->key_lengths},
                  {"query_starts", a->query_starts},
                  {"key_starts", a->key_starts},
                  {"block_table", a->block_table},
                  {"layout_rows", a->layout_rows},
                  {"layout_columns", a->layout_columns},
                  {"sinks", a->sinks}};
    for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++)
        CLF_TRY(clf_check_output(ctx, op, name, out, inputs[i].name, inputs[i].t, false));
    return CLF_OK;
}

/* The forward call; replaces its zeros by their defaults. */
static clf_status check_call(clf_context *ctx, const char *op, clf_attention_args *a) {
    CLF_TRY(check_inputs(ctx, op, a));
    CLF_TRY(check_sequences(ctx, op, a));
    const int64_t *q = a->query->shape;
    CLF_TRY(clf_check_finite(ctx, op, "scale", a->scale, -FLT_MAX, FLT_MAX));
    CLF_TRY(clf_check_finite(ctx, op, "softcap", a->softcap, 0, FLT_MAX));
    CLF_CHECK(&ctx->error, a->dropout >= 0 && a->dropout < 1, CLF_INVALID_ARGUMENT,
              "%s: dropout: expected 0 or more and less than 1, got %g", op, (double)a->dropout);
    CLF_CHECK(&ctx->error, a->window >= 0, CLF_INVALID_ARGUMENT, "%s: window: expected 0 or more, got %lld", op,
              (long long)a->window);
    CLF_CHECK(&ctx->error, a->window_right >= 0, CLF_INVALID_ARGUMENT, "%s: window_right: expected 0 or more, got %lld",
              op, (long long)a->window_right);
    CLF_TRY(check_vector(ctx, op, "alibi_slopes", a->alibi_slopes, CLF_F32, q[1]));
    if (a->mask) CLF_TRY(check_mask(ctx, op, a));
    CLF_TRY(check_layout(ctx, op, a));
    CLF_TRY(check_vector(ctx, op, "sinks", a->sinks, CLF_F32, q[1]));
    if (ctx->backend->host) CLF_TRY(clf_attention_check_indices(ctx, op, a));

    CLF_TRY(clf_check_tensor(ctx, op, "out", a->out, CLF_DTYPE_BIT(a->query->dtype), 4, 4));
    CLF_TRY(clf_check_shape(ctx, op, "out", a->out, 4, (int64_t[]){q[0], q[1], q[2], a->value->shape[3]}));
    CLF_TRY(check_output(ctx, op, "out", a->out, a));
    if (a->lse) {
        CLF_TRY(clf_check_tensor(ctx, op, "lse", a->lse, CLF_DTYPE_BIT(CLF_F32), 3, 3));
        CLF_TRY(clf_check_shape(ctx, op, "lse", a->lse, 3, q));
        CLF_TRY(check_output(ctx, op, "lse", a->lse, a));
        CLF_TRY(clf_check_output(ctx, op, "lse", a->lse, "out", a->out, false));
    }
    if (a->scale == 0) a->scale = 1 / sqrtf((float)q[3]);
    /* windows that hide nothing: kernels may add positions to the others without overflow */
    if (a->window >= clf_attention_keys(a)) a->window = 0;
    if (a->window_right >= q[2]) a->window_right = 0;
    return CLF_OK;
}

static clf_status check(clf_context *ctx, clf_attention_args *a) {
    return check_call(ctx, "attention", a);
}

CLF_DOOR(attention)

#define OP "attention_backward"

typedef struct gradient {
    const char *name, *of_name;
    const clf_tensor *out, *of;
    uint32_t dtypes;
} gradient;

/* Each gradient is like what it is the gradient of, and apart from the inputs and the gradients before it. */
static clf_status check_gradients(clf_context *ctx, const clf_attention_backward_args *b) {
    const clf_attention_args *a = &b->forward;
    const uint32_t f32 = CLF_DTYPE_BIT(CLF_F32), q = f32 | CLF_DTYPE_BIT(a->query->dtype),
                   kv = f32 | CLF_DTYPE_BIT(a->key->dtype);
    const gradient list[] = {{"d_query", "query", b->d_query, a->query, q},
                             {"d_key", "key", b->d_key, a->key, kv},
                             {"d_value", "value", b->d_value, a->value, kv},
                             {"d_sinks", "sinks", b->d_sinks, a->sinks, f32},
                             {"d_mask", "mask", b->d_mask, a->mask, f32},
                             {"d_alibi_slopes", "alibi_slopes", b->d_alibi_slopes, a->alibi_slopes, f32}};
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        const gradient *g = &list[i];
        if (!g->out) continue;
        CLF_CHECK(&ctx->error, g->of, CLF_INVALID_ARGUMENT, OP ": %s: expected NULL without %s", g->name, g->of_name);
        CLF_TRY(clf_check_tensor(ctx, OP, g->name, g->out, g->dtypes, g->of->ndim, g->of->ndim));
        CLF_TRY(clf_check_shape(ctx, OP, g->name, g->out, g->of->ndim, g->of->shape));
        CLF_TRY(check_output(ctx, OP, g->name, g->out, a));
        CLF_TRY(clf_check_output(ctx, OP, g->name, g->out, "out", a->out, false));
        CLF_TRY(clf_check_output(ctx, OP, g->name, g->out, "lse", a->lse, false));
        CLF_TRY(clf_check_output(ctx, OP, g->name, g->out, "d_out", b->d_out, false));
        for (size_t j = 0; j < i; j++)
            CLF_TRY(clf_check_output(ctx, OP, g->name, g->out, list[j].name, list[j].out, false));
    }
    return CLF_OK;
}

static clf_status check_backward(clf_context *ctx, clf_attention_backward_args *b) {
    CLF_TRY(check_call(ctx, OP, &b->forward));
    const clf_attention_args *a = &b->forward;
    CLF_CHECK(&ctx->error, a->lse, CLF_INVALID_ARGUMENT, OP ": lse is NULL");
    CLF_CHECK(&ctx->error, !a->block_table, CLF_UNSUPPORTED,
              OP ": block_table: expected NULL, paged keys have no gradient");
    CLF_CHECK(&ctx->error, clf_dtype_is_float(a->key->dtype), CLF_UNSUPPORTED,
              OP ": key: expected dtype f32, f16, bf16, got %s", clf_dtype_name(a->key->dtype));
    CLF_TRY(clf_check_tensor(ctx, OP, "d_out", b->d_out, CLF_DTYPE_BIT(a->out->dtype), 4, 4));
    CLF_TRY(clf_check_shape(ctx, OP, "d_out", b->d_out, 4, a->out->shape));
    return check_gradients(ctx, b);
}

CLF_DOOR_CHECKED(attention_backward, check_backward)
