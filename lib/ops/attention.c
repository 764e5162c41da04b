/* attention.c: what clf_attention() accepts. */
#include "attention.h"

#include <float.h>
#include <math.h>

#include "check.h"

#define OP "attention"

/* Query, key and value: four dimensions that fit together. */
static clf_status check_inputs(clf_context *ctx, const clf_attention_args *a) {
    clf_error *err = &ctx->error;
    CLF_TRY(clf_check_tensor(ctx, OP, "query", a->query, CLF_DTYPES_FLOAT, 4, 4));
    CLF_TRY(clf_check_tensor(ctx, OP, "key", a->key, CLF_DTYPES_FLOAT, 4, 4));
    CLF_TRY(clf_check_tensor(ctx, OP, "value", a->value, CLF_DTYPES_FLOAT, 4, 4));
    CLF_CHECK(err, a->value->dtype == a->key->dtype, CLF_INVALID_ARGUMENT,
              OP ": value: expected key's dtype %s, got %s", clf_dtype_name(a->key->dtype),
              clf_dtype_name(a->value->dtype));
    const int64_t *q = a->query->shape, *k = a->key->shape, *v = a->value->shape;
    CLF_CHECK(err, q[3] >= 1 && q[3] <= CLF_ATTENTION_DIM, CLF_INVALID_ARGUMENT,
              OP ": query: expected a head_dim of 1 to %d, got %lld", CLF_ATTENTION_DIM, (long long)q[3]);
    CLF_CHECK(err, v[3] >= 1 && v[3] <= CLF_ATTENTION_DIM, CLF_INVALID_ARGUMENT,
              OP ": value: expected a v_dim of 1 to %d, got %lld", CLF_ATTENTION_DIM, (long long)v[3]);
    CLF_CHECK(err, k[1] ? q[1] % k[1] == 0 : q[1] == 0, CLF_INVALID_ARGUMENT,
              OP ": key: expected kv_heads that divide query's %lld heads, got %lld", (long long)q[1], (long long)k[1]);
    CLF_TRY(clf_check_shape(ctx, OP, "key", a->key, 4, (int64_t[]){q[0], k[1], k[2], q[3]}));
    return clf_check_shape(ctx, OP, "value", a->value, 4, (int64_t[]){q[0], k[1], k[2], v[3]});
}

static clf_status check_mask(clf_context *ctx, const clf_attention_args *a) {
    const uint32_t dtypes = CLF_DTYPE_BIT(CLF_F32) | CLF_DTYPE_BIT(a->query->dtype);
    const int64_t *q = a->query->shape, full[4] = {q[0], q[1], q[2], a->key->shape[2]};
    int64_t want[4];
    CLF_TRY(clf_check_tensor(ctx, OP, "mask", a->mask, dtypes, 4, 4));
    for (int i = 0; i < 4; i++) want[i] = a->mask->shape[i] == 1 ? 1 : full[i];
    return clf_check_shape(ctx, OP, "mask", a->mask, 4, want);
}

/* A vector of `n`, unless it is NULL. */
static clf_status check_vector(clf_context *ctx, const char *name, const clf_tensor *t, clf_dtype dtype, int64_t n) {
    if (!t) return CLF_OK;
    CLF_TRY(clf_check_tensor(ctx, OP, name, t, CLF_DTYPE_BIT(dtype), 1, 1));
    return clf_check_shape(ctx, OP, name, t, 1, &n);
}

static clf_status check_output(clf_context *ctx, const char *name, const clf_tensor *out, const clf_attention_args *a) {
    CLF_TRY(clf_check_output(ctx, OP, name, out, "query", a->query, false));
    CLF_TRY(clf_check_output(ctx, OP, name, out, "key", a->key, false));
    CLF_TRY(clf_check_output(ctx, OP, name, out, "value", a->value, false));
    CLF_TRY(clf_check_output(ctx, OP, name, out, "alibi_slopes", a->alibi_slopes, false));
    CLF_TRY(clf_check_output(ctx, OP, name, out, "mask", a->mask, false));
    CLF_TRY(clf_check_output(ctx, OP, name, out, "key_lengths", a->key_lengths, false));
    return clf_check_output(ctx, OP, name, out, "sinks", a->sinks, false);
}

static clf_status check(clf_context *ctx, clf_attention_args *a) {
    CLF_TRY(check_inputs(ctx, a));
    const int64_t *q = a->query->shape;
    CLF_TRY(clf_check_finite(ctx, OP, "scale", a->scale, -FLT_MAX, FLT_MAX));
    CLF_TRY(clf_check_finite(ctx, OP, "softcap", a->softcap, 0, FLT_MAX));
    CLF_CHECK(&ctx->error, a->window >= 0, CLF_INVALID_ARGUMENT, OP ": window: expected 0 or more, got %lld",
              (long long)a->window);
    CLF_TRY(check_vector(ctx, "alibi_slopes", a->alibi_slopes, CLF_F32, q[1]));
    if (a->mask) CLF_TRY(check_mask(ctx, a));
    CLF_TRY(check_vector(ctx, "key_lengths", a->key_lengths, CLF_I32, q[0]));
    CLF_TRY(check_vector(ctx, "sinks", a->sinks, CLF_F32, q[1]));

    CLF_TRY(clf_check_tensor(ctx, OP, "out", a->out, CLF_DTYPE_BIT(a->query->dtype), 4, 4));
    CLF_TRY(clf_check_shape(ctx, OP, "out", a->out, 4, (int64_t[]){q[0], q[1], q[2], a->value->shape[3]}));
    CLF_TRY(check_output(ctx, "out", a->out, a));
    if (a->lse) {
        CLF_TRY(clf_check_tensor(ctx, OP, "lse", a->lse, CLF_DTYPE_BIT(CLF_F32), 3, 3));
        CLF_TRY(clf_check_shape(ctx, OP, "lse", a->lse, 3, q));
        CLF_TRY(check_output(ctx, "lse", a->lse, a));
        CLF_TRY(clf_check_output(ctx, OP, "lse", a->lse, "out", a->out, false));
    }
    if (a->scale == 0) a->scale = 1 / sqrtf((float)q[3]);
    return CLF_OK;
}

CLF_DOOR(attention)
