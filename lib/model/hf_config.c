/* hf_config.c: a configuration from config.json, as transformers 4 (rope_theta, rope_scaling) and 5 (rope_parameters,
 * layer_types) write it. Defaults are those of transformers' configuration classes. Where the text model is nested
 * (text_config), what it doesn't say is looked up outside. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "json.h"
#include "read_config.h"

typedef struct reader {
    const json_t *inner, *outer;
    clf_error *err;
} reader;

/* NULL where absent or null. */
static const json_t *member(const json_t *object, const char *key) {
    const json_t *v = json_object_get(object, key);
    return json_is_null(v) ? NULL : v;
}

static const json_t *find(const reader *r, const char *key) {
    const json_t *v = member(r->inner, key);
    return v ? v : member(r->outer, key);
}

static clf_status to_int(const json_t *v, const char *key, int64_t *out, clf_error *err) {
    const double d = json_number_value(v);
    CLF_CHECK(err, json_is_integer(v) || (json_is_real(v) && d == floor(d) && fabs(d) < 9e15), CLF_BAD_FILE,
              "%s: expected an integer", key);
    *out = json_is_integer(v) ? (int64_t)json_integer_value(v) : (int64_t)d;
    return CLF_OK;
}

/* The getters leave *out alone where the key is absent. */
static clf_status get_int(const reader *r, const char *key, int64_t *out) {
    const json_t *v = find(r, key);
    return v ? to_int(v, key, out, r->err) : CLF_OK;
}

static clf_status get_i32(const reader *r, const char *key, int32_t *out) {
    int64_t value = *out;
    CLF_TRY(get_int(r, key, &value));
    CLF_CHECK(r->err, value >= INT32_MIN && value <= INT32_MAX, CLF_BAD_FILE,
              "%s: expected an integer of 32 bits, got %" PRId64, key, value);
    *out = (int32_t)value;
    return CLF_OK;
}

static clf_status get_required(const reader *r, const char *key, int32_t *out) {
    CLF_CHECK(r->err, find(r, key), CLF_BAD_FILE, "%s: missing", key);
    return get_i32(r, key, out);
}

static clf_status get_number_of(const json_t *object, const char *key, double *out, clf_error *err) {
    const json_t *v = member(object, key);
    CLF_CHECK(err, !v || json_is_number(v), CLF_BAD_FILE, "%s: expected a number", key);
    if (v) *out = json_number_value(v);
    return CLF_OK;
}

static clf_status get_number(const reader *r, const char *key, double *out) {
    return get_number_of(member(r->inner, key) ? r->inner : r->outer, key, out, r->err);
}

static clf_status get_bool(const reader *r, const char *key, bool *out) {
    const json_t *v = find(r, key);
    CLF_CHECK(r->err, !v || json_is_boolean(v), CLF_BAD_FILE, "%s: expected true or false", key);
    if (v) *out = json_is_true(v);
    return CLF_OK;
}

static clf_status get_sizes(const reader *r, const clf_hf_defaults *d, clf_config *c) {
    CLF_TRY(get_required(r, "num_hidden_layers", &c->n_layers));
    CLF_TRY(get_required(r, "hidden_size", &c->hidden_size));
    CLF_TRY(get_required(r, "intermediate_size", &c->ffn_size));
    c->n_heads = d->n_heads;
    CLF_TRY(get_i32(r, "num_attention_heads", &c->n_heads));
    CLF_CHECK(r->err, c->n_heads > 0, CLF_BAD_FILE, "num_attention_heads: expected a positive number, got %d",
              c->n_heads);
    c->n_kv_heads = d->n_kv_heads ? d->n_kv_heads : c->n_heads;
    if (json_is_null(json_object_get(r->inner, "num_key_value_heads"))) c->n_kv_heads = c->n_heads;
    CLF_TRY(get_i32(r, "num_key_value_heads", &c->n_kv_heads));
    c->head_dim = d->head_dim ? d->head_dim : c->hidden_size / c->n_heads;
    CLF_TRY(get_i32(r, "head_dim", &c->head_dim));
    c->v_dim = c->head_dim;
    CLF_TRY(get_i32(r, "vocab_size", &c->vocab_size));
    c->trained_context = d->context;
    return get_int(r, "max_position_embeddings", &c->trained_context);
}

static clf_status get_activation(const reader *r, clf_config *c) {
    static const struct {
        const char *name;
        clf_activation activation;
    } names[] = {{"silu", CLF_ACTIVATION_SILU},
                 {"swish", CLF_ACTIVATION_SILU},
                 {"gelu", CLF_ACTIVATION_GELU},
                 {"gelu_new", CLF_ACTIVATION_GELU_TANH},
                 {"gelu_pytorch_tanh", CLF_ACTIVATION_GELU_TANH}};
    const json_t *v = find(r, "hidden_activation");
    if (!v) v = find(r, "hidden_act");
    if (!v) return CLF_OK;
    const char *name = json_string_value(v);
    CLF_CHECK(r->err, name, CLF_BAD_FILE, "hidden_act: expected a string");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(names[i].name, name)) return c->activation = names[i].activation, CLF_OK;
    return clf_fail(r->err, CLF_UNSUPPORTED,
                    "hidden_act: expected silu, gelu, gelu_new or gelu_pytorch_tanh; got %.40s", name);
}

/* [n] numbers of `key` */
static clf_status get_factors(const json_t *rope, const char *key, int n, float *out, clf_error *err) {
    const json_t *list = member(rope, key);
    CLF_CHECK(err, json_is_array(list) && json_array_size(list) == (size_t)n && n <= CLF_MAX_ROPE_PAIRS, CLF_BAD_FILE,
              "%s: expected an array of %d numbers", key, n);
    for (int i = 0; i < n; i++) {
        const json_t *v = json_array_get(list, (size_t)i);
        CLF_CHECK(err, json_is_number(v), CLF_BAD_FILE, "%s: expected numbers", key);
        out[i] = (float)json_number_value(v);
    }
    return CLF_OK;
}

/* What yarn multiplies magnitudes by, for a context `factor` times as long. */
static double yarn_magnitude(double factor, double scale) {
    return factor <= 1 ? 1 : 0.1 * scale * log(factor) + 1;
}

static clf_status get_yarn(const json_t *rope, double factor, clf_rope_config *p, clf_error *err) {
    double fast = 0, slow = 0, magnitude = 0, mscale = 0, mscale_all = 0;
    const json_t *truncate = member(rope, "truncate");
    CLF_CHECK(err, !truncate || json_is_true(truncate), CLF_UNSUPPORTED, "rope: yarn without truncation");
    CLF_TRY(get_number_of(rope, "beta_fast", &fast, err));
    CLF_TRY(get_number_of(rope, "beta_slow", &slow, err));
    CLF_TRY(get_number_of(rope, "mscale", &mscale, err));
    CLF_TRY(get_number_of(rope, "mscale_all_dim", &mscale_all, err));
    magnitude = mscale != 0 && mscale_all != 0 ? yarn_magnitude(factor, mscale) / yarn_magnitude(factor, mscale_all)
                                               : yarn_magnitude(factor, 1);
    CLF_TRY(get_number_of(rope, "attention_factor", &magnitude, err));
    if (fast != 0) p->beta_fast = (float)fast;
    if (slow != 0) p->beta_slow = (float)slow;
    p->attention_factor = (float)magnitude;
    return CLF_OK;
}

static clf_status get_longrope(const json_t *rope, double factor, clf_rope_config *p, clf_error *err) {
    double magnitude =
        factor <= 1 ? 1 : sqrt(1 + log(factor) / log(p->original_context > 1 ? (double)p->original_context : 2));
    CLF_TRY(get_number_of(rope, "attention_factor", &magnitude, err));
    CLF_TRY(get_factors(rope, "short_factor", p->n_dims / 2, p->freq_factors, err));
    CLF_TRY(get_factors(rope, "long_factor", p->n_dims / 2, p->long_freq_factors, err));
    p->has_freq_factors = true;
    p->attention_factor = (float)magnitude;
    return CLF_OK;
}

/* `rope` is rope_parameters or rope_scaling, or a part of them; NULL: nothing is said. */
static clf_status get_rope(const reader *r, const json_t *rope, double base, const clf_config *c, clf_rope_config *p) {
    clf_error *err = r->err;
    *p = (clf_rope_config){.base = base,
                           .factor = 1,
                           .low_freq_factor = 1,
                           .high_freq_factor = 4,
                           .beta_fast = 32,
                           .beta_slow = 1,
                           .attention_factor = 1,
                           .original_context = c->trained_context};
    CLF_TRY(get_number_of(rope, "rope_theta", &p->base, err));
    double partial = 1, factor = 0, low = 1, high = 4;
    CLF_TRY(get_number(r, "partial_rotary_factor", &partial));
    CLF_TRY(get_number_of(rope, "partial_rotary_factor", &partial, err));
    CLF_CHECK(err, partial > 0 && partial <= 1, CLF_BAD_FILE,
              "partial_rotary_factor: expected above 0, up to 1; got %g", partial);
    p->n_dims = (int)(c->head_dim * partial);
    const json_t *type = member(rope, "rope_type");
    if (!type) type = member(rope, "type");
    if (!type) return CLF_OK;
    const char *name = json_string_value(type);
    CLF_CHECK(err, name, CLF_BAD_FILE, "rope_type: expected a string");
    if (!strcmp(name, "default")) return CLF_OK;

    const json_t *original = find(r, "original_max_position_embeddings");
    if (!original) original = member(rope, "original_max_position_embeddings");
    if (original) CLF_TRY(to_int(original, "original_max_position_embeddings", &p->original_context, err));
    CLF_CHECK(err, p->original_context > 0, CLF_BAD_FILE,
              "original_max_position_embeddings: expected a positive number, got %" PRId64, p->original_context);
    factor = (double)c->trained_context / (double)p->original_context;
    CLF_TRY(get_number_of(rope, "factor", &factor, err));
    CLF_TRY(get_number_of(rope, "low_freq_factor", &low, err));
    CLF_TRY(get_number_of(rope, "high_freq_factor", &high, err));
    CLF_CHECK(err, factor > 0, CLF_BAD_FILE, "rope: factor: expected a positive number, got %g", factor);
    p->factor = (float)factor;
    p->low_freq_factor = (float)low;
    p->high_freq_factor = (float)high;
    const bool phi = !strcmp(c->architecture, "phi3"); /* its first files say su or yarn for longrope */
    if (!strcmp(name, "longrope") || !strcmp(name, "su") || (phi && !strcmp(name, "yarn"))) {
        p->scaling = CLF_ROPE_SCALING_LONGROPE;
        return get_longrope(rope, factor, p, err);
    }
    if (!strcmp(name, "yarn")) {
        p->scaling = CLF_ROPE_SCALING_YARN;
        return get_yarn(rope, factor, p, err);
    }
    if (!strcmp(name, "linear")) return p->scaling = CLF_ROPE_SCALING_LINEAR, CLF_OK;
    if (!strcmp(name, "llama3")) return p->scaling = CLF_ROPE_SCALING_LLAMA3, CLF_OK;
    return clf_fail(err, CLF_UNSUPPORTED, "rope_type: expected default, linear, llama3, yarn or longrope; got %.40s",
                    name);
}

/* Transformers 5 nests rope_parameters by layer type where types differ. */
static clf_status get_ropes(const reader *r, const clf_architecture *a, clf_config *c) {
    const json_t *rope = find(r, "rope_parameters"), *local = member(rope, "sliding_attention");
    if (!rope) rope = find(r, "rope_scaling");
    CLF_CHECK(r->err, !rope || json_is_object(rope), CLF_BAD_FILE, "rope_parameters: expected an object");
    if (member(rope, "full_attention")) rope = member(rope, "full_attention");
    double base = a->hf_defaults.rope_base, local_base = a->local_rope_base;
    CLF_TRY(get_number(r, "rope_theta", &base));
    CLF_TRY(get_rope(r, rope, base, c, &c->rope));
    c->has_rope_local = a->local_rope_base != 0;
    if (!c->has_rope_local) return CLF_OK;
    CLF_TRY(get_number(r, "rope_local_base_freq", &local_base));
    return get_rope(r, local, local_base, c, &c->rope_local);
}

static clf_status get_windows(const reader *r, const clf_architecture *a, clf_config *c) {
    bool used = !a->window_tail;
    int32_t tail = 28, period = a->full_every;
    CLF_CHECK(r->err, c->n_layers >= 1 && c->n_layers <= CLF_MAX_LAYERS, CLF_BAD_FILE,
              "num_hidden_layers: expected 1 to %d, got %d", CLF_MAX_LAYERS, c->n_layers);
    CLF_TRY(get_bool(r, "use_sliding_window", &used));
    c->window = json_object_get(r->inner, "sliding_window") ? 0 : a->hf_defaults.window; /* null: none */
    CLF_TRY(get_int(r, "sliding_window", &c->window));
    if (!used) c->window = 0;
    CLF_TRY(get_i32(r, "max_window_layers", &tail));
    CLF_TRY(get_i32(r, "sliding_window_pattern", &period));
    CLF_CHECK(r->err, period >= 0, CLF_BAD_FILE, "sliding_window_pattern: expected a number from 0, got %d", period);
    clf_config_set_windows(c, period);
    for (int32_t i = 0; a->window_tail && i < c->n_layers; i++) c->windowed[i] = c->window && i >= tail;
    const json_t *types = find(r, "layer_types");
    if (!types) return CLF_OK;
    CLF_CHECK(r->err, json_is_array(types) && json_array_size(types) == (size_t)c->n_layers, CLF_BAD_FILE,
              "layer_types: expected an array of %d", c->n_layers);
    for (int32_t i = 0; i < c->n_layers; i++) {
        const char *type = json_string_value(json_array_get(types, (size_t)i));
        const bool slides = type && !strcmp(type, "sliding_attention");
        CLF_CHECK(r->err, slides || (type && !strcmp(type, "full_attention")), CLF_UNSUPPORTED,
                  "layer_types: expected sliding_attention or full_attention, got %.40s", type ? type : "no string");
        c->windowed[i] = slides && c->window;
    }
    return CLF_OK;
}

static clf_status get_scales(const reader *r, const clf_architecture *a, clf_config *c) {
    const clf_hf_defaults *d = &a->hf_defaults;
    double eps = d->eps, scalar = d->attention_scalar, attention = d->attention_softcap, logit = d->logit_softcap;
    CLF_TRY(get_number(r, "rms_norm_eps", &eps));
    CLF_TRY(get_number(r, "query_pre_attn_scalar", &scalar));
    if (json_is_null(json_object_get(r->inner, "attn_logit_softcapping"))) attention = 0;
    if (json_is_null(json_object_get(r->inner, "final_logit_softcapping"))) logit = 0;
    CLF_TRY(get_number(r, "attn_logit_softcapping", &attention));
    CLF_TRY(get_number(r, "final_logit_softcapping", &logit));
    c->norm_eps = (float)eps;
    CLF_CHECK(r->err, scalar >= 0, CLF_BAD_FILE, "query_pre_attn_scalar: expected a positive number, got %g", scalar);
    c->attention_scale = a->gemma && scalar > 0 ? (float)(1 / sqrt(scalar)) : 0;
    c->attention_softcap = (float)attention;
    c->logit_softcap = (float)logit;
    c->norm_offset = a->gemma ? 1 : 0;
    c->embedding_scale = a->gemma ? (float)sqrt(c->hidden_size) : 0;
    return CLF_OK;
}

/* A token id, or the first of a list; -1 where absent. */
static int32_t token(const reader *r, const char *key) {
    const json_t *v = find(r, key);
    if (json_is_array(v)) v = json_array_get(v, 0);
    const int64_t id = json_is_integer(v) ? (int64_t)json_integer_value(v) : -1;
    return id >= 0 && id <= INT32_MAX ? (int32_t)id : -1;
}

/* Bits and group size; GPTQ's order of columns, whether every zero is 8, and whether zeros are stored as they are. */
static clf_status get_groups(const reader *r, clf_packing_config *p) {
    int64_t bits = 0, group = -1;
    const json_t *format = find(r, "checkpoint_format"), *version = find(r, "version");
    const char *name = json_string_value(format), *layout = json_string_value(version);
    CLF_TRY(get_int(r, "bits", &bits));
    CLF_TRY(get_int(r, "group_size", &group));
    CLF_CHECK(r->err, bits == 4, CLF_UNSUPPORTED, "bits: expected 4, got %" PRId64, bits);
    CLF_CHECK(r->err, group == -1 || (group > 0 && group <= INT32_MAX), CLF_BAD_FILE,
              "group_size: expected -1 or a positive number, got %" PRId64, group);
    p->group_size = group < 0 ? 0 : group;
    if (p->method == CLF_PACKING_AWQ) {
        CLF_CHECK(r->err, !version || (layout && !strcasecmp(layout, "gemm")), CLF_UNSUPPORTED,
                  "version: expected gemm, got %.40s", layout ? layout : "no string");
        return CLF_OK;
    }
    CLF_CHECK(r->err, !format || (name && (!strcmp(name, "gptq") || !strcmp(name, "gptq_v2"))), CLF_UNSUPPORTED,
              "checkpoint_format: expected gptq or gptq_v2, got %.40s", name ? name : "no string");
    p->zeros_as_are = name && !strcmp(name, "gptq_v2");
    CLF_TRY(get_bool(r, "sym", &p->symmetric));
    return get_bool(r, "desc_act", &p->act_order);
}

static clf_status get_nf4(const reader *r) {
    bool four = false;
    const char *type = json_string_value(find(r, "bnb_4bit_quant_type"));
    CLF_TRY(get_bool(r, "load_in_4bit", &four));
    CLF_CHECK(r->err, four, CLF_UNSUPPORTED, "load_in_4bit: expected true");
    CLF_CHECK(r->err, type && !strcmp(type, "nf4"), CLF_UNSUPPORTED, "bnb_4bit_quant_type: expected nf4, got %.40s",
              type ? type : "no string");
    return CLF_OK;
}

static clf_status get_packing(const json_t *quantization, clf_packing_config *p, clf_error *err) {
    static const char *const methods[] = {"", "gptq", "awq", "bitsandbytes"};
    const reader r = {quantization, quantization, err};
    if (!quantization) return CLF_OK;
    const char *name = json_string_value(member(quantization, "quant_method"));
    for (int i = 1; name && i < 4; i++)
        if (!strcmp(name, methods[i])) p->method = (clf_packing)i;
    CLF_CHECK(err, p->method, CLF_UNSUPPORTED, "quant_method: expected gptq, awq or bitsandbytes, got %.40s",
              name ? name : "no string");
    return p->method == CLF_PACKING_NF4 ? get_nf4(&r) : get_groups(&r, p);
}

static clf_status read_config(clf_config *c, const clf_architecture **architecture, const json_t *root,
                              clf_error *err) {
    const json_t *type = member(root, "model_type"), *text = member(root, "text_config");
    CLF_CHECK(err, json_is_string(type), CLF_BAD_FILE, "model_type: missing or no string");
    CLF_CHECK(err, !text || json_is_object(text), CLF_BAD_FILE, "text_config: expected an object");
    CLF_TRY(clf_architecture_from_hf(architecture, json_string_value(type), err));
    const clf_architecture *a = *architecture;
    const reader r = {text ? text : root, root, err};
    *c = (clf_config){.activation = a->activation,
                      .qk_norm = a->qk_norm,
                      .post_norms = a->post_norms,
                      .bos = token(&r, "bos_token_id"),
                      .eos = token(&r, "eos_token_id"),
                      .tied_output = a->hf_defaults.tied};
    snprintf(c->architecture, sizeof c->architecture, "%s", a->name);
    if (get_packing(member(root, "quantization_config"), &c->packing, err) != CLF_OK)
        return clf_fail_in(err, "quantization_config");
    bool bidirectional = false;
    CLF_TRY(get_bool(&r, "use_bidirectional_attention", &bidirectional));
    CLF_CHECK(err, !bidirectional, CLF_UNSUPPORTED, "use_bidirectional_attention: a text decoder is causal");
    CLF_TRY(get_bool(&r, "tie_word_embeddings", &c->tied_output));
    CLF_TRY(get_sizes(&r, &a->hf_defaults, c));
    CLF_TRY(get_activation(&r, c));
    CLF_TRY(get_ropes(&r, a, c));
    CLF_TRY(get_windows(&r, a, c));
    return get_scales(&r, a, c);
}

clf_status clf_config_from_json(clf_config *out, const clf_architecture **architecture, const char *text, size_t size,
                                clf_error *err) {
    json_t *root;
    CLF_TRY(clf_json_parse(&root, text, size, "config", err));
    const clf_status st = read_config(out, architecture, root, err);
    json_decref(root);
    return st;
}
