/* gguf_config.c: a configuration from GGUF keys "ARCH.…", where ARCH is general.architecture. Defaults are llama.cpp's.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "read_config.h"

typedef struct reader {
    const clf_gguf *gguf;
    const char *prefix; /* "llama" */
    clf_error *err;
    char key[96]; /* the last one asked for */
} reader;

/* Whether "prefix.name" is there; it is then r->key. */
static bool has(reader *r, const char *name) {
    snprintf(r->key, sizeof r->key, "%s.%s", r->prefix, name);
    return clf_gguf_has(r->gguf, r->key);
}

/* An integer; an array of equal ones (some converters write one for each layer) counts as one. Left alone if absent. */
static clf_status get_int(reader *r, const char *name, int64_t *out) {
    clf_gguf_type type;
    uint64_t count;
    int64_t next;
    if (!has(r, name)) return CLF_OK;
    if (!clf_gguf_get_array(r->gguf, r->key, &type, &count)) {
        CLF_CHECK(r->err, clf_gguf_get_i64(r->gguf, r->key, out), CLF_BAD_FILE, "%s: expected an integer", r->key);
        return CLF_OK;
    }
    CLF_CHECK(r->err, clf_gguf_array_i64(r->gguf, r->key, 0, out), CLF_BAD_FILE, "%s: expected integers", r->key);
    for (uint64_t i = 1; i < count; i++) {
        CLF_CHECK(r->err, clf_gguf_array_i64(r->gguf, r->key, i, &next), CLF_BAD_FILE, "%s: expected integers", r->key);
        CLF_CHECK(r->err, next == *out, CLF_UNSUPPORTED,
                  "%s: expected the same number for each layer, got %" PRId64 " and %" PRId64, r->key, *out, next);
    }
    return CLF_OK;
}

static clf_status get_i32(reader *r, const char *name, bool required, int32_t *out) {
    int64_t value = *out;
    CLF_TRY(get_int(r, name, &value));
    CLF_CHECK(r->err, !required || clf_gguf_has(r->gguf, r->key), CLF_BAD_FILE, "%s: missing", r->key);
    CLF_CHECK(r->err, value >= INT32_MIN && value <= INT32_MAX, CLF_BAD_FILE,
              "%s: expected an integer of 32 bits, got %" PRId64, r->key, value);
    *out = (int32_t)value;
    return CLF_OK;
}

static clf_status get_float(reader *r, const char *name, bool required, float *out) {
    double value = *out;
    if (!has(r, name)) {
        CLF_CHECK(r->err, !required, CLF_BAD_FILE, "%s: missing", r->key);
        return CLF_OK;
    }
    CLF_CHECK(r->err, clf_gguf_get_f64(r->gguf, r->key, &value), CLF_BAD_FILE, "%s: expected a number", r->key);
    *out = (float)value;
    return CLF_OK;
}

static clf_status get_sizes(reader *r, clf_config *c) {
    CLF_TRY(get_i32(r, "block_count", true, &c->n_layers));
    CLF_TRY(get_i32(r, "embedding_length", true, &c->hidden_size));
    CLF_TRY(get_i32(r, "feed_forward_length", true, &c->ffn_size));
    CLF_TRY(get_i32(r, "attention.head_count", true, &c->n_heads));
    CLF_CHECK(r->err, c->n_heads > 0, CLF_BAD_FILE, "%s: expected a positive number, got %d", r->key, c->n_heads);
    c->n_kv_heads = c->n_heads;
    CLF_TRY(get_i32(r, "attention.head_count_kv", false, &c->n_kv_heads));
    c->head_dim = c->v_dim = c->hidden_size / c->n_heads;
    CLF_TRY(get_i32(r, "attention.key_length", false, &c->head_dim));
    CLF_TRY(get_i32(r, "attention.value_length", false, &c->v_dim));
    CLF_TRY(get_i32(r, "vocab_size", false, &c->vocab_size));
    CLF_CHECK(r->err, has(r, "context_length"), CLF_BAD_FILE, "%s: missing", r->key);
    CLF_TRY(get_int(r, "context_length", &c->trained_context));
    int32_t experts = 0;
    CLF_TRY(get_i32(r, "expert_count", false, &experts));
    CLF_CHECK(r->err, !experts, CLF_UNSUPPORTED, "%s: mixtures of experts are not supported, got %d", r->key, experts);
    return CLF_OK;
}

static clf_status get_scaling(reader *r, const clf_config *c, clf_rope_config *p) {
    clf_string type = {"linear", 6};
    float factor = 0, multiplier = 0;
    if (has(r, "rope.scaling.type"))
        CLF_CHECK(r->err, clf_gguf_get_string(r->gguf, r->key, &type), CLF_BAD_FILE, "%s: expected a string", r->key);
    CLF_TRY(get_float(r, "rope.scale_linear", false, &factor)); /* old name */
    CLF_TRY(get_float(r, "rope.scaling.factor", false, &factor));
    p->original_context = c->trained_context;
    CLF_TRY(get_int(r, "rope.scaling.original_context_length", &p->original_context));
    CLF_TRY(get_float(r, "rope.scaling.attn_factor", false, &p->attention_factor));
    CLF_TRY(get_float(r, "rope.scaling.yarn_log_multiplier", false, &multiplier));
    CLF_TRY(get_float(r, "rope.scaling.yarn_beta_fast", false, &p->beta_fast));
    CLF_TRY(get_float(r, "rope.scaling.yarn_beta_slow", false, &p->beta_slow));
#define IS(name) (type.length == sizeof name - 1 && !memcmp(type.data, name, sizeof name - 1))
    if (IS("none") || IS("longrope") || factor == 0) return CLF_OK; /* longrope shows by its tensors of factors */
    p->factor = factor;
    if (IS("linear")) {
        p->scaling = factor == 1 ? CLF_ROPE_SCALING_NONE : CLF_ROPE_SCALING_LINEAR;
    } else if (IS("yarn")) {
        p->scaling = CLF_ROPE_SCALING_YARN;
        const double log_factor = factor > 1 ? log(factor) : 0;
        p->attention_factor *= (float)((1 + 0.1 * log_factor) / (1 + 0.1 * (double)multiplier * log_factor));
    } else {
        return clf_fail(r->err, CLF_UNSUPPORTED,
                        "%s.rope.scaling.type: expected none, linear, yarn or longrope; got %.*s", r->prefix,
                        type.length < 40 ? (int)type.length : 40, type.data);
    }
#undef IS
    return CLF_OK;
}

static clf_status get_rope(reader *r, const clf_architecture *a, clf_config *c) {
    clf_rope_config *p = &c->rope;
    *p = (clf_rope_config){.base = 1e4,
                           .n_dims = c->head_dim,
                           .pairing = a->pairing,
                           .factor = 1,
                           .low_freq_factor = 1,
                           .high_freq_factor = 4,
                           .beta_fast = 32,
                           .beta_slow = 1,
                           .attention_factor = 1};
    if (has(r, "rope.freq_base"))
        CLF_CHECK(r->err, clf_gguf_get_f64(r->gguf, r->key, &p->base), CLF_BAD_FILE, "%s: expected a number", r->key);
    CLF_TRY(get_i32(r, "rope.dimension_count", false, &p->n_dims));
    CLF_TRY(get_scaling(r, c, p));
    if (!a->local_rope_base) return CLF_OK;
    c->has_rope_local = true;
    c->rope_local = *p;
    c->rope_local.base = a->local_rope_base;
    c->rope_local.scaling = CLF_ROPE_SCALING_NONE;
    if (has(r, "rope.freq_base_swa"))
        CLF_CHECK(r->err, clf_gguf_get_f64(r->gguf, r->key, &c->rope_local.base), CLF_BAD_FILE, "%s: expected a number",
                  r->key);
    return CLF_OK;
}

/* sliding_window_pattern is a period (n-1 layers slide, one sees everything), or one bool per layer. */
static clf_status get_window(reader *r, const clf_architecture *a, clf_config *c) {
    clf_gguf_type type;
    uint64_t count;
    int32_t period = a->full_every;
    c->window = a->gguf_window;
    CLF_TRY(get_int(r, "attention.sliding_window", &c->window));
    CLF_CHECK(r->err, c->n_layers >= 1 && c->n_layers <= CLF_MAX_LAYERS, CLF_BAD_FILE,
              "%s.block_count: expected 1 to %d, got %d", r->prefix, CLF_MAX_LAYERS, c->n_layers);
    const bool pattern = has(r, "attention.sliding_window_pattern");
    if (pattern && clf_gguf_get_array(r->gguf, r->key, &type, &count)) {
        CLF_CHECK(r->err, count == (uint64_t)c->n_layers, CLF_BAD_FILE, "%s: expected %d elements, got %" PRIu64,
                  r->key, c->n_layers, count);
        for (int32_t i = 0; i < c->n_layers; i++) {
            bool slides;
            CLF_CHECK(r->err, clf_gguf_array_bool(r->gguf, r->key, (uint64_t)i, &slides), CLF_BAD_FILE,
                      "%s: expected bools", r->key);
            c->windowed[i] = slides && c->window;
        }
        return CLF_OK;
    }
    if (a->window_tail && !pattern) c->window = 0; /* which layers slide isn't said: llama.cpp lets none */
    CLF_TRY(get_i32(r, "attention.sliding_window_pattern", false, &period));
    CLF_CHECK(r->err, period >= 0, CLF_BAD_FILE, "%s: expected a number from 0, got %d", r->key, period);
    clf_config_set_windows(c, period);
    return CLF_OK;
}

static clf_status get_scales(reader *r, const clf_architecture *a, clf_config *c) {
    CLF_TRY(get_float(r, "attention.layer_norm_rms_epsilon", true, &c->norm_eps));
    c->attention_softcap = (float)a->hf_defaults.attention_softcap;
    c->logit_softcap = (float)a->hf_defaults.logit_softcap;
    CLF_TRY(get_float(r, "attn_logit_softcapping", false, &c->attention_softcap));
    CLF_TRY(get_float(r, "final_logit_softcapping", false, &c->logit_softcap));
    if (c->n_layers == a->gguf_wide_layers) c->attention_scale = (float)(1 / sqrt((double)c->hidden_size / c->n_heads));
    CLF_TRY(get_float(r, "attention.scale", false, &c->attention_scale));
    if (a->gemma) c->embedding_scale = (float)sqrt(c->hidden_size);
    return CLF_OK;
}

/* A token id; -1 where absent. */
static int32_t token(const clf_gguf *g, const char *key) {
    int64_t id;
    return clf_gguf_get_i64(g, key, &id) && id >= 0 && id <= INT32_MAX ? (int32_t)id : -1;
}

clf_status clf_config_from_gguf(clf_config *c, const clf_architecture **architecture, const clf_gguf *gguf,
                                clf_error *err) {
    clf_string name;
    *c = (clf_config){.bos = token(gguf, "tokenizer.ggml.bos_token_id"),
                      .eos = token(gguf, "tokenizer.ggml.eos_token_id")};
    CLF_CHECK(err, clf_gguf_get_string(gguf, "general.architecture", &name), CLF_BAD_FILE,
              "general.architecture: missing or no string");
    CLF_TRY(clf_architecture_from_gguf(architecture, name.data, (size_t)name.length, err));
    const clf_architecture *a = *architecture;
    reader r = {.gguf = gguf, .prefix = a->gguf, .err = err};
    snprintf(c->architecture, sizeof c->architecture, "%s", a->name);
    if (clf_gguf_get_string(gguf, "general.name", &name))
        snprintf(c->name, sizeof c->name, "%.*s", name.length < sizeof c->name ? (int)name.length : (int)sizeof c->name,
                 name.data);
    c->activation = a->activation;
    c->qk_norm = a->qk_norm;
    c->post_norms = a->post_norms;
    CLF_TRY(get_sizes(&r, c));
    CLF_TRY(get_rope(&r, a, c));
    CLF_TRY(get_window(&r, a, c));
    return get_scales(&r, a, c);
}
