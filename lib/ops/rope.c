/* rope.c: what clf_rope() accepts. */
#include <float.h>
#include <math.h>

#include "check.h"
#include "rope_frequencies.h"

#define OP "rope"

static clf_status check_scaling(clf_context *ctx, clf_rope_args *a) {
    const clf_rope_scaling s = a->scaling;
    CLF_CHECK(&ctx->error, (unsigned)s <= CLF_ROPE_SCALING_LONGROPE, CLF_INVALID_ARGUMENT,
              OP ": scaling: %d is no clf_rope_scaling", (int)s);
    if (a->base == 0) a->base = 10000;
    if (a->factor == 0) a->factor = 1;
    if (a->low_freq_factor == 0) a->low_freq_factor = 1;
    if (a->high_freq_factor == 0) a->high_freq_factor = 4;
    if (a->beta_fast == 0) a->beta_fast = 32;
    if (a->beta_slow == 0) a->beta_slow = 1;
    CLF_CHECK(&ctx->error, isfinite(a->base) && a->base > 1, CLF_INVALID_ARGUMENT,
              OP ": base: expected above 1, got %g", a->base);
    CLF_TRY(clf_check_finite(ctx, OP, "factor", (double)a->factor, FLT_MIN, FLT_MAX));
    if (s == CLF_ROPE_SCALING_LLAMA3 || s == CLF_ROPE_SCALING_YARN)
        CLF_CHECK(&ctx->error, a->original_context > 0, CLF_INVALID_ARGUMENT,
                  OP ": original_context: expected a positive number, got %lld", (long long)a->original_context);
    if (s == CLF_ROPE_SCALING_LLAMA3) {
        CLF_TRY(clf_check_finite(ctx, OP, "low_freq_factor", (double)a->low_freq_factor, FLT_MIN, FLT_MAX));
        CLF_CHECK(&ctx->error, isfinite(a->high_freq_factor) && a->high_freq_factor > a->low_freq_factor,
                  CLF_INVALID_ARGUMENT, OP ": high_freq_factor: expected above low_freq_factor %g, got %g",
                  (double)a->low_freq_factor, (double)a->high_freq_factor);
    }
    if (s == CLF_ROPE_SCALING_YARN) {
        CLF_TRY(clf_check_finite(ctx, OP, "beta_slow", (double)a->beta_slow, FLT_MIN, FLT_MAX));
        CLF_TRY(clf_check_finite(ctx, OP, "beta_fast", (double)a->beta_fast, (double)a->beta_slow, FLT_MAX));
    }
    if (a->attention_factor == 0) {
        const bool grows = s == CLF_ROPE_SCALING_YARN && a->factor > 1;
        a->attention_factor = grows ? (float)(0.1 * log((double)a->factor) + 1) : 1;
    }
    return clf_check_finite(ctx, OP, "attention_factor", (double)a->attention_factor, FLT_MIN, FLT_MAX);
}

static clf_status check(clf_context *ctx, clf_rope_args *a) {
    CLF_TRY(clf_check_tensor(ctx, OP, "x", a->x, CLF_DTYPES_FLOAT, 3, 4));
    const int64_t *shape = a->x->shape, head_dim = clf_last(a->x);
    const int batch = a->x->ndim - 3; /* 1 if there is a batch dimension */
    if (a->n_dims == 0 && head_dim <= CLF_ROPE_MAX_DIMS) a->n_dims = (int)head_dim;
    CLF_CHECK(&ctx->error, a->n_dims <= CLF_ROPE_MAX_DIMS && (a->n_dims > 0 || head_dim <= CLF_ROPE_MAX_DIMS),
              CLF_UNSUPPORTED, OP ": n_dims: expected at most %d, got %lld", CLF_ROPE_MAX_DIMS,
              (long long)(a->n_dims ? a->n_dims : head_dim));
    CLF_CHECK(&ctx->error, a->n_dims >= 0 && a->n_dims <= head_dim && a->n_dims % 2 == 0, CLF_INVALID_ARGUMENT,
              OP ": n_dims: expected an even number up to head_dim %lld, got %d", (long long)head_dim, a->n_dims);
    CLF_CHECK(&ctx->error, (unsigned)a->pairing <= CLF_ROPE_INTERLEAVED, CLF_INVALID_ARGUMENT,
              OP ": pairing: %d is no clf_rope_pairing", (int)a->pairing);
    CLF_CHECK(&ctx->error, a->position >= 0, CLF_INVALID_ARGUMENT, OP ": position: expected 0 or more, got %lld",
              (long long)a->position);
    if (a->positions) {
        const int64_t want[] = {shape[0], shape[batch + 1]};
        CLF_TRY(clf_check_tensor(ctx, OP, "positions", a->positions, CLF_DTYPE_BIT(CLF_I32), 1, 1 + batch));
        CLF_TRY(clf_check_shape(ctx, OP, "positions", a->positions, a->positions->ndim,
                                a->positions->ndim == 2 ? want : want + 1));
    }
    CLF_TRY(check_scaling(ctx, a));
    CLF_TRY(clf_check_like(ctx, OP, "out", a->out, "x", a->x));
    CLF_TRY(clf_check_output(ctx, OP, "out", a->out, "x", a->x, true));
    if (a->positions) CLF_TRY(clf_check_output(ctx, OP, "out", a->out, "positions", a->positions, false));
    for (int i = 0; a->freq_factors && i < a->n_dims / 2; i++)
        CLF_CHECK(&ctx->error, isfinite(a->freq_factors[i]) && a->freq_factors[i] > 0, CLF_INVALID_ARGUMENT,
                  OP ": freq_factors[%d]: expected a positive number, got %g", i, (double)a->freq_factors[i]);
    return CLF_OK;
}

CLF_DOOR(rope)
