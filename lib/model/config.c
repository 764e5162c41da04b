/* config.c: a configuration is refused, wherever it comes from, unless a decoder can be built from it; and whether two
 * say the same. */
#include "config.h"

#include <math.h>
#include <string.h>

/* Bounds far above any model, so that products of two of them fit in int64_t and of one in int32_t. */
enum { MAX_WIDTH = 1 << 22, MAX_HEADS = 1 << 14, MAX_HEAD_DIM = 256 };

typedef struct range {
    const char *name;
    int64_t value, min, max;
} range;

static clf_status check_rope(const clf_rope_config *r, int32_t head_dim, const char *name, clf_error *err) {
    CLF_CHECK(err, isfinite(r->base) && r->base > 0, CLF_BAD_FILE, "%s: base: expected a positive number, got %g", name,
              r->base);
    CLF_CHECK(err, r->n_dims >= 2 && r->n_dims <= head_dim && r->n_dims % 2 == 0, CLF_BAD_FILE,
              "%s: rotated dimensions: expected an even number from 2 to %d, got %d", name, head_dim, r->n_dims);
    const struct {
        const char *name;
        float value;
        bool used;
    } positive[] = {
        {"factor", r->factor, r->scaling != CLF_ROPE_SCALING_NONE && r->scaling != CLF_ROPE_SCALING_LONGROPE},
        {"low_freq_factor", r->low_freq_factor, r->scaling == CLF_ROPE_SCALING_LLAMA3},
        {"high_freq_factor", r->high_freq_factor, r->scaling == CLF_ROPE_SCALING_LLAMA3},
        {"beta_fast", r->beta_fast, r->scaling == CLF_ROPE_SCALING_YARN},
        {"beta_slow", r->beta_slow, r->scaling == CLF_ROPE_SCALING_YARN},
        {"attention_factor", r->attention_factor,
         r->scaling == CLF_ROPE_SCALING_YARN || r->scaling == CLF_ROPE_SCALING_LONGROPE},
    };
    for (size_t i = 0; i < sizeof positive / sizeof *positive; i++)
        CLF_CHECK(err, !positive[i].used || (isfinite(positive[i].value) && positive[i].value > 0), CLF_BAD_FILE,
                  "%s: %s: expected a positive number, got %g", name, positive[i].name, (double)positive[i].value);
    CLF_CHECK(err, r->scaling != CLF_ROPE_SCALING_LLAMA3 || r->high_freq_factor > r->low_freq_factor, CLF_BAD_FILE,
              "%s: high_freq_factor: expected above low_freq_factor %g, got %g", name, (double)r->low_freq_factor,
              (double)r->high_freq_factor);
    const bool trained = r->scaling == CLF_ROPE_SCALING_LLAMA3 || r->scaling == CLF_ROPE_SCALING_YARN ||
                         r->scaling == CLF_ROPE_SCALING_LONGROPE;
    CLF_CHECK(err, !trained || r->original_context > 0, CLF_BAD_FILE,
              "%s: original context: expected a positive number, got %lld", name, (long long)r->original_context);
    for (int i = 0; r->has_freq_factors && i < r->n_dims / 2; i++)
        CLF_CHECK(err,
                  isfinite(r->freq_factors[i]) && r->freq_factors[i] > 0 && isfinite(r->long_freq_factors[i]) &&
                      r->long_freq_factors[i] > 0,
                  CLF_BAD_FILE, "%s: frequency factor %d: expected a positive number, got %g and %g", name, i,
                  (double)r->freq_factors[i], (double)r->long_freq_factors[i]);
    return CLF_OK;
}

clf_status clf_config_check(const clf_config *c, clf_error *err) {
    const range ranges[] = {
        {"layers", c->n_layers, 1, CLF_MAX_LAYERS},           {"hidden size", c->hidden_size, 1, MAX_WIDTH},
        {"feed-forward size", c->ffn_size, 1, MAX_WIDTH},     {"heads", c->n_heads, 1, MAX_HEADS},
        {"key/value heads", c->n_kv_heads, 1, c->n_heads},    {"head dimension", c->head_dim, 1, MAX_WIDTH},
        {"value dimension", c->v_dim, 1, MAX_WIDTH},          {"vocabulary", c->vocab_size, 1, INT32_MAX},
        {"context length", c->trained_context, 1, INT32_MAX}, {"sliding window", c->window, 0, INT32_MAX},
    };
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
        CLF_CHECK(err, ranges[i].value >= ranges[i].min && ranges[i].value <= ranges[i].max, CLF_BAD_FILE,
                  "%s: expected %lld to %lld, got %lld", ranges[i].name, (long long)ranges[i].min,
                  (long long)ranges[i].max, (long long)ranges[i].value);
    CLF_CHECK(err, c->head_dim <= MAX_HEAD_DIM && c->v_dim <= MAX_HEAD_DIM, CLF_UNSUPPORTED,
              "head dimension: expected at most %d, got %d", MAX_HEAD_DIM,
              c->head_dim > c->v_dim ? c->head_dim : c->v_dim);
    CLF_CHECK(err, c->n_heads % c->n_kv_heads == 0, CLF_BAD_FILE,
              "key/value heads: expected a divisor of %d heads, got %d", c->n_heads, c->n_kv_heads);
    CLF_CHECK(err, isfinite(c->norm_eps) && c->norm_eps >= 0 && c->norm_eps < 1, CLF_BAD_FILE,
              "norm epsilon: expected 0 to 1, got %g", (double)c->norm_eps);
    const float others[] = {c->attention_scale, c->attention_softcap, c->logit_softcap, c->embedding_scale};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        CLF_CHECK(err, isfinite(others[i]) && others[i] >= 0, CLF_BAD_FILE,
                  "scale or softcap: expected a number from 0, got %g", (double)others[i]);
    CLF_TRY(check_rope(&c->rope, c->head_dim, "rope", err));
    return c->has_rope_local ? check_rope(&c->rope_local, c->head_dim, "local rope", err) : CLF_OK;
}

void clf_config_set_windows(clf_config *c, int32_t full_every) {
    for (int32_t i = 0; i < c->n_layers; i++) c->windowed[i] = c->window && (!full_every || (i + 1) % full_every != 0);
}

static bool close(float a, float b) {
    return fabsf(a - b) <= 1e-6f * fmaxf(fabsf(a), fabsf(b));
}

static bool same_rope(const clf_rope_config *a, const clf_rope_config *b) {
    const bool by_factors = a->scaling == CLF_ROPE_SCALING_LLAMA3 || a->scaling == CLF_ROPE_SCALING_LONGROPE;
    return (float)a->base == (float)b->base && a->n_dims == b->n_dims && (by_factors || a->scaling == b->scaling) &&
           (by_factors || a->scaling == CLF_ROPE_SCALING_NONE || a->factor == b->factor) &&
           (a->scaling != CLF_ROPE_SCALING_YARN || (a->beta_fast == b->beta_fast && a->beta_slow == b->beta_slow)) &&
           (a->scaling < CLF_ROPE_SCALING_YARN || close(a->attention_factor, b->attention_factor));
}

const char *clf_config_difference(const clf_config *a, const clf_config *b) {
    const float scale_a = a->attention_scale != 0 ? a->attention_scale : (float)(1 / sqrt(a->head_dim)),
                scale_b = b->attention_scale != 0 ? b->attention_scale : (float)(1 / sqrt(b->head_dim));
    const struct {
        const char *what;
        bool same;
    } parts[] = {{"activation", a->activation == b->activation},
                 {"norms", a->qk_norm == b->qk_norm && a->post_norms == b->post_norms && a->norm_eps == b->norm_eps},
                 {"sizes", a->n_layers == b->n_layers && a->hidden_size == b->hidden_size &&
                               a->ffn_size == b->ffn_size && a->n_heads == b->n_heads &&
                               a->n_kv_heads == b->n_kv_heads && a->head_dim == b->head_dim && a->v_dim == b->v_dim &&
                               a->trained_context == b->trained_context},
                 {"rotary embeddings", same_rope(&a->rope, &b->rope)},
                 {"local rotary embeddings", a->has_rope_local == b->has_rope_local &&
                                                 (!a->has_rope_local || same_rope(&a->rope_local, &b->rope_local))},
                 {"sliding window", a->window == b->window && !memcmp(a->windowed, b->windowed, (size_t)a->n_layers)},
                 {"scales", close(scale_a, scale_b) && close(a->embedding_scale, b->embedding_scale) &&
                                a->attention_softcap == b->attention_softcap && a->logit_softcap == b->logit_softcap}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (!parts[i].same) return parts[i].what;
    return NULL;
}
