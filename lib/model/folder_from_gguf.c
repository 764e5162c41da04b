/* folder_from_gguf.c: a configuration as config.json. A GGUF says less than a folder in two places: models of Mistral's
 * are llamas there, and of LLaMA 3's scaling only the factors are left, from which the rule is found again. */
#include "folder_from_gguf.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gguf_from_folder.h"
#include "json.h"
#include "read_config.h"

/* What transformers calls the model, and which biases its class may have. */
typedef struct class_of {
    const char *architecture, *name;
    bool attention_bias, mlp_bias; /* where asked for in config.json */
    bool qkv_bias;                 /* always there */
} class_of;
static const class_of classes[] = {
    {"llama", "LlamaForCausalLM", true, true, false},    {"mistral", "MistralForCausalLM", false, false, false},
    {"qwen2", "Qwen2ForCausalLM", false, false, true},   {"qwen3", "Qwen3ForCausalLM", true, false, false},
    {"gemma2", "Gemma2ForCausalLM", true, false, false}, {"gemma3", "Gemma3ForCausalLM", true, false, false},
    {"phi3", "Phi3ForCausalLM", false, false, false}};
enum { CLASSES = sizeof classes / sizeof *classes };

typedef struct keys {
    json_t *root;
    const clf_config *config;
    const clf_architecture *a;
    bool failed; /* out of memory */
} keys;

static void put_in(keys *k, json_t *object, const char *key, json_t *value) {
    if (json_object_set_new(object, key, value)) k->failed = true;
}
static void put(keys *k, const char *key, json_t *value) {
    put_in(k, k->root, key, value);
}
static json_t *integer_or_null(int64_t value, bool there) {
    return there ? json_integer(value) : json_null();
}

/* A float with no more digits than tell it from its neighbours. */
static json_t *number(float value) {
    char text[32];
    for (int digits = 1; digits <= FLT_DECIMAL_DIG; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)value);
        if (strtof(text, NULL) == value) break;
    }
    return json_real(strtod(text, NULL));
}

static void put_sizes(keys *k) {
    const clf_config *c = k->config;
    put(k, "vocab_size", json_integer(c->vocab_size));
    put(k, "hidden_size", json_integer(c->hidden_size));
    put(k, "intermediate_size", json_integer(c->ffn_size));
    put(k, "num_hidden_layers", json_integer(c->n_layers));
    put(k, "num_attention_heads", json_integer(c->n_heads));
    put(k, "num_key_value_heads", json_integer(c->n_kv_heads));
    put(k, "head_dim", json_integer(c->head_dim));
    put(k, "max_position_embeddings", json_integer(c->trained_context));
    put(k, "tie_word_embeddings", json_boolean(c->tied_output));
    put(k, "rms_norm_eps", number(c->norm_eps));
    put(k, k->a->gemma ? "hidden_activation" : "hidden_act",
        json_string(c->activation == CLF_ACTIVATION_SILU        ? "silu"
                    : c->activation == CLF_ACTIVATION_GELU_TANH ? "gelu_pytorch_tanh"
                                                                : "gelu"));
}

static json_t *factors_of(const float *values, int n) {
    json_t *list = json_array();
    for (int i = 0; list && i < n; i++)
        if (json_array_append_new(list, number(values[i]))) return json_decref(list), NULL;
    return list;
}

/* LLaMA 3's rule whose factors these are: the largest is its `factor`; bounds of 1 and 4 have been the only ones, and
 * contexts powers of two. */
static bool find_llama3(const clf_rope_config *r, clf_rope_config *rule) {
    const int n = r->n_dims / 2;
    *rule = *r;
    rule->low_freq_factor = 1;
    rule->high_freq_factor = 4;
    for (int i = 0; i < n; i++) rule->factor = fmaxf(rule->factor, r->freq_factors[i]);
    for (rule->original_context = 1; rule->original_context <= 1 << 24; rule->original_context *= 2) {
        int i = 0;
        while (i < n && fabsf(clf_llama3_factor(rule, i) / r->freq_factors[i] - 1) < 1e-5f) i++;
        if (i == n) return true;
    }
    return false;
}

static json_t *scaling_of(keys *k, const char *type, float factor, bool original) {
    json_t *rope = json_object();
    put_in(k, rope, "rope_type", json_string(type));
    put_in(k, rope, "factor", number(factor));
    if (original) put_in(k, rope, "original_max_position_embeddings", json_integer(k->config->rope.original_context));
    return rope;
}

static void put_longrope(keys *k) {
    const clf_config *c = k->config;
    const clf_rope_config *r = &c->rope;
    const double factor = (double)c->trained_context / (double)r->original_context;
    const double usual = factor <= 1 ? 1 : sqrt(1 + log(factor) / log((double)r->original_context));
    json_t *rope = json_object();
    put_in(k, rope, "type", json_string("longrope"));
    put_in(k, rope, "short_factor", factors_of(r->freq_factors, r->n_dims / 2));
    put_in(k, rope, "long_factor", factors_of(r->long_freq_factors, r->n_dims / 2));
    /* transformers 4 takes no fourth key */
    if (fabs(usual / (double)r->attention_factor - 1) > 1e-6)
        put_in(k, rope, "attention_factor", number(r->attention_factor));
    put(k, "original_max_position_embeddings", json_integer(r->original_context));
    put(k, "rope_scaling", rope);
}

static clf_status put_rope(keys *k, clf_error *err) {
    const clf_config *c = k->config;
    const clf_rope_config *r = &c->rope;
    clf_rope_config llama3;
    put(k, "rope_theta", json_real(r->base));
    if (r->n_dims != c->head_dim) put(k, "partial_rotary_factor", json_real((double)r->n_dims / c->head_dim));
    if (c->has_rope_local) put(k, "rope_local_base_freq", json_real(c->rope_local.base));
    if (r->has_freq_factors && !strcmp(k->a->name, "phi3")) return put_longrope(k), CLF_OK;
    if (r->has_freq_factors) {
        CLF_CHECK(err, find_llama3(r, &llama3), CLF_UNSUPPORTED,
                  "rope_freqs.weight: expected LLaMA 3's factors: config.json has no place for others");
        json_t *rope = scaling_of(k, "llama3", llama3.factor, false);
        put_in(k, rope, "low_freq_factor", number(llama3.low_freq_factor));
        put_in(k, rope, "high_freq_factor", number(llama3.high_freq_factor));
        put_in(k, rope, "original_max_position_embeddings", json_integer(llama3.original_context));
        put(k, "rope_scaling", rope);
    } else if (r->scaling == CLF_ROPE_SCALING_LINEAR) {
        put(k, "rope_scaling", scaling_of(k, "linear", r->factor, false));
    } else if (r->scaling == CLF_ROPE_SCALING_YARN) {
        json_t *rope = scaling_of(k, "yarn", r->factor, true);
        put_in(k, rope, "beta_fast", number(r->beta_fast));
        put_in(k, rope, "beta_slow", number(r->beta_slow));
        put_in(k, rope, "attention_factor", number(r->attention_factor));
        put(k, "rope_scaling", rope);
    }
    return CLF_OK;
}

/* Where layers differ, each one's kind is said; transformers 4 before 4.53 goes by the other keys. */
static void put_window(keys *k) {
    const clf_config *c = k->config;
    const bool mixed = k->a->full_every || k->a->window_tail;
    int32_t first = 0;
    if (!strcmp(k->a->name, "llama")) return;
    put(k, "sliding_window", integer_or_null(c->window, c->window != 0));
    if (!mixed) return;
    while (first < c->n_layers && !c->windowed[first]) first++;
    if (k->a->window_tail) {
        put(k, "use_sliding_window", json_boolean(c->window != 0));
        put(k, "max_window_layers", json_integer(first));
    }
    json_t *types = json_array();
    for (int32_t i = 0; i < c->n_layers; i++)
        if (json_array_append_new(types, json_string(c->windowed[i] ? "sliding_attention" : "full_attention")))
            k->failed = true;
    put(k, "layer_types", types);
}

/* Gemma's: scores × 1/√query_pre_attn_scalar, a whole number but for rounding. */
static void put_scales(keys *k) {
    const clf_config *c = k->config;
    const double scale = (double)c->attention_scale, scalar = scale != 0 ? 1 / (scale * scale) : c->head_dim;
    const bool whole = fabs(scalar / nearbyint(scalar) - 1) < 1e-6;
    if (!k->a->gemma) return;
    put(k, "query_pre_attn_scalar", whole ? json_integer((json_int_t)nearbyint(scalar)) : json_real(scalar));
    put(k, "attn_logit_softcapping", c->attention_softcap != 0 ? number(c->attention_softcap) : json_null());
    put(k, "final_logit_softcapping", c->logit_softcap != 0 ? number(c->logit_softcap) : json_null());
}

static bool has_bias(const clf_model *m, clf_weight first, clf_weight last) {
    for (int i = 0; i < m->config.n_layers; i++)
        for (clf_weight id = first; id <= last; id++)
            if (clf_weight_of(&m->layers[i], id)) return true;
    return false;
}

static clf_status put_biases(keys *k, const class_of *of, const clf_model *m, clf_error *err) {
    const bool qkv = has_bias(m, CLF_W_QUERY_BIAS, CLF_W_VALUE_BIAS),
               output = has_bias(m, CLF_W_OUTPUT_BIAS, CLF_W_OUTPUT_BIAS),
               mlp = has_bias(m, CLF_W_GATE_BIAS, CLF_W_DOWN_BIAS);
    CLF_CHECK(err,
              (!qkv || of->attention_bias || of->qkv_bias) && (!output || of->attention_bias) && (!mlp || of->mlp_bias),
              CLF_UNSUPPORTED, "config.json: biases: a %s has no place for those of this model", of->name);
    if (of->attention_bias) put(k, "attention_bias", json_boolean(qkv || output));
    if (of->mlp_bias) put(k, "mlp_bias", json_boolean(mlp));
    return CLF_OK;
}

static clf_status check_written(const keys *k, clf_error *err) {
    const clf_architecture *a;
    clf_config *read = malloc(sizeof *read);
    char *text = clf_json_text(k->root, JSON_COMPACT);
    clf_status st = read && text ? clf_config_from_json(read, &a, text, strlen(text), err)
                                 : clf_fail(err, CLF_OUT_OF_MEMORY, "config.json: out of memory");
    const char *difference = st == CLF_OK ? clf_config_difference(read, k->config) : NULL;
    if (difference)
        st = clf_fail(err, CLF_UNSUPPORTED, "config.json: %s: a folder of %s can't say it", difference, k->a->name);
    free(text);
    free(read);
    return st;
}

static clf_status put_all(keys *k, const class_of *of, const clf_model *m, int64_t padding, clf_dtype dtype,
                          clf_error *err) {
    static const char *const dtypes[] = {[CLF_F32] = "float32", [CLF_F16] = "float16", [CLF_BF16] = "bfloat16"};
    const clf_config *c = k->config;
    put(k, "architectures", json_pack("[s]", of->name));
    put(k, "model_type", json_string(k->a->hf[0]));
    put(k, "torch_dtype", json_string(dtypes[dtype]));
    put_sizes(k);
    CLF_TRY(put_rope(k, err));
    put_window(k);
    put_scales(k);
    CLF_TRY(put_biases(k, of, m, err));
    put(k, "bos_token_id", integer_or_null(c->bos, c->bos >= 0));
    put(k, "eos_token_id", integer_or_null(c->eos, c->eos >= 0));
    put(k, "pad_token_id", integer_or_null(padding, padding >= 0 && padding < c->vocab_size));
    CLF_CHECK(err, !k->failed, CLF_OUT_OF_MEMORY, "config.json: out of memory");
    return check_written(k, err);
}

clf_status clf_folder_config(json_t **out, const clf_model *m, int64_t padding, clf_dtype dtype, clf_error *err) {
    const clf_config *c = &m->config;
    const bool slides = c->window && !strcmp(c->architecture, "llama");
    keys k = {.root = json_object(), .config = c};
    k.a = clf_architecture_named(slides ? "mistral" : c->architecture);
    *out = NULL;
    int i = 0;
    while (i + 1 < CLASSES && strcmp(classes[i].architecture, k.a->name)) i++;
    const clf_status st = put_all(&k, &classes[i], m, padding, dtype, err);
    if (st == CLF_OK)
        *out = k.root;
    else
        json_decref(k.root);
    return st;
}
