/* architecture.c: the tables of architectures and tensors. */
#include "architecture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SILU CLF_ACTIVATION_SILU
#define GELU CLF_ACTIVATION_GELU_TANH

static const clf_architecture table[] = {
    {.name = "llama",
     .gguf = "llama",
     .hf = {"llama"},
     .pairing = CLF_ROPE_INTERLEAVED,
     .activation = SILU,
     .hf_defaults = {.n_heads = 32, .context = 2048, .eps = 1e-6, .rope_base = 1e4}},
    {.name = "mistral",
     .hf = {"mistral"},
     .activation = SILU,
     .hf_defaults = {.n_heads = 32, .n_kv_heads = 8, .window = 4096, .context = 131072, .eps = 1e-6, .rope_base = 1e4}},
    {.name = "qwen2",
     .gguf = "qwen2",
     .hf = {"qwen2"},
     .activation = SILU,
     .qkv_bias = true,
     .window_tail = true,
     .hf_defaults = {.n_heads = 32, .n_kv_heads = 32, .window = 4096, .context = 32768, .eps = 1e-6, .rope_base = 1e4}},
    {.name = "qwen3",
     .gguf = "qwen3",
     .hf = {"qwen3"},
     .activation = SILU,
     .window_tail = true,
     .qk_norm = true,
     .hf_defaults = {.n_heads = 32,
                     .n_kv_heads = 32,
                     .head_dim = 128,
                     .window = 4096,
                     .context = 32768,
                     .eps = 1e-6,
                     .rope_base = 1e4}},
    {.name = "gemma2",
     .gguf = "gemma2",
     .hf = {"gemma2"},
     .activation = GELU,
     .gemma = true,
     .post_norms = true,
     .full_every = 2,
     .gguf_window = 4096,
     .gguf_wide_layers = 46,
     .hf_defaults = {.n_heads = 8,
                     .n_kv_heads = 4,
                     .head_dim = 256,
                     .window = 4096,
                     .context = 8192,
                     .eps = 1e-6,
                     .rope_base = 1e4,
                     .attention_scalar = 256,
                     .attention_softcap = 50,
                     .logit_softcap = 30,
                     .tied = true}},
    {.name = "gemma3",
     .gguf = "gemma3",
     .hf = {"gemma3_text", "gemma3"},
     .activation = GELU,
     .gemma = true,
     .post_norms = true,
     .qk_norm = true,
     .full_every = 6,
     .local_rope_base = 1e4,
     .gguf_wide_layers = 62,
     .hf_defaults = {.n_heads = 8,
                     .n_kv_heads = 4,
                     .head_dim = 256,
                     .window = 4096,
                     .context = 131072,
                     .eps = 1e-6,
                     .rope_base = 1e6,
                     .attention_scalar = 256,
                     .tied = true}},
    {.name = "phi3",
     .gguf = "phi3",
     .hf = {"phi3"},
     .activation = SILU,
     .fused = true,
     .hf_defaults = {.n_heads = 32, .context = 4096, .eps = 1e-5, .rope_base = 1e4}},
};
enum { ARCHITECTURES = sizeof table / sizeof *table };

static clf_status unknown(const char *key, const char *name, size_t length, clf_error *err) {
    char known[256] = "";
    for (int i = 0; i < ARCHITECTURES; i++) {
        const size_t n = strlen(known);
        snprintf(known + n, sizeof known - n, "%s%s", i ? ", " : "", table[i].name);
    }
    return clf_fail(err, CLF_UNSUPPORTED, "%s: expected one of %s; got \"%.*s\"", key, known,
                    length < 80 ? (int)length : 80, name);
}

clf_status clf_architecture_from_gguf(const clf_architecture **out, const char *name, size_t length, clf_error *err) {
    for (int i = 0; i < ARCHITECTURES; i++)
        if (table[i].gguf && strlen(table[i].gguf) == length && !memcmp(table[i].gguf, name, length))
            return *out = &table[i], CLF_OK;
    return unknown("general.architecture", name, length, err);
}

clf_status clf_architecture_from_hf(const clf_architecture **out, const char *model_type, clf_error *err) {
    for (int i = 0; i < ARCHITECTURES; i++)
        for (int j = 0; j < 2; j++)
            if (table[i].hf[j] && !strcmp(table[i].hf[j], model_type)) return *out = &table[i], CLF_OK;
    return unknown("model_type", model_type, strlen(model_type), err);
}

const clf_architecture *clf_architecture_named(const char *name) {
    for (int i = 0; i < ARCHITECTURES; i++)
        if (!strcmp(table[i].name, name)) return &table[i];
    return NULL;
}

const clf_architecture *clf_architecture_in_gguf(const clf_architecture *a) {
    return a->gguf ? a : clf_architecture_named("llama");
}

int64_t clf_extent_of(clf_extent extent, const clf_config *c) {
    const int64_t query = (int64_t)c->n_heads * c->head_dim, key = (int64_t)c->n_kv_heads * c->head_dim,
                  value = (int64_t)c->n_kv_heads * c->v_dim;
    switch (extent) {
    case CLF_EXTENT_NONE: return 1;
    case CLF_EXTENT_HIDDEN: return c->hidden_size;
    case CLF_EXTENT_FFN: return c->ffn_size;
    case CLF_EXTENT_VOCAB: return c->vocab_size;
    case CLF_EXTENT_HEAD: return c->head_dim;
    case CLF_EXTENT_QUERY: return query;
    case CLF_EXTENT_KEY: return key;
    case CLF_EXTENT_VALUE: return value;
    case CLF_EXTENT_ATTENTION: return (int64_t)c->n_heads * c->v_dim;
    case CLF_EXTENT_QKV: return query + key + value;
    case CLF_EXTENT_GATE_UP: return 2 * (int64_t)c->ffn_size;
    }
    return 0;
}

#define HIDDEN CLF_EXTENT_HIDDEN
const clf_tensor_rule clf_tensor_rules[] = {
    {"token_embd", "embed_tokens", false, CLF_EXTENT_VOCAB, HIDDEN, CLF_IN_ALL, {0}},
    {"output_norm", "norm", false, HIDDEN, 0, CLF_IN_ALL, {0}},
    {"output", "lm_head", false, CLF_EXTENT_VOCAB, HIDDEN, CLF_IN_UNTIED, {0}},
    {"attn_norm", "input_layernorm", true, HIDDEN, 0, CLF_IN_ALL, {0}},
    {"attn_q", "self_attn.q_proj", true, CLF_EXTENT_QUERY, HIDDEN, CLF_IN_ALL, {0}},
    {"attn_k", "self_attn.k_proj", true, CLF_EXTENT_KEY, HIDDEN, CLF_IN_ALL, {0}},
    {"attn_v", "self_attn.v_proj", true, CLF_EXTENT_VALUE, HIDDEN, CLF_IN_ALL, {0}},
    {"attn_q_norm", "self_attn.q_norm", true, CLF_EXTENT_HEAD, 0, CLF_IN_QK_NORM, {0}},
    {"attn_k_norm", "self_attn.k_norm", true, CLF_EXTENT_HEAD, 0, CLF_IN_QK_NORM, {0}},
    {"attn_output", "self_attn.o_proj", true, HIDDEN, CLF_EXTENT_ATTENTION, CLF_IN_ALL, {0}},
    {"ffn_norm", "post_attention_layernorm", true, HIDDEN, 0, CLF_IN_PLAIN, {0}},
    {"post_attention_norm", "post_attention_layernorm", true, HIDDEN, 0, CLF_IN_POST_NORMS, {0}},
    {"ffn_norm", "pre_feedforward_layernorm", true, HIDDEN, 0, CLF_IN_POST_NORMS, {0}},
    {"post_ffw_norm", "post_feedforward_layernorm", true, HIDDEN, 0, CLF_IN_POST_NORMS, {0}},
    {"ffn_gate", "mlp.gate_proj", true, CLF_EXTENT_FFN, HIDDEN, CLF_IN_ALL, {0}},
    {"ffn_up", "mlp.up_proj", true, CLF_EXTENT_FFN, HIDDEN, CLF_IN_ALL, {0}},
    {"ffn_down", "mlp.down_proj", true, HIDDEN, CLF_EXTENT_FFN, CLF_IN_ALL, {0}},
    {"attn_qkv", "self_attn.qkv_proj", true, CLF_EXTENT_QKV, HIDDEN, CLF_IN_FUSED, {"attn_q", "attn_k", "attn_v"}},
    {"ffn_gate_up", "mlp.gate_up_proj", true, CLF_EXTENT_GATE_UP, HIDDEN, CLF_IN_FUSED, {"ffn_gate", "ffn_up"}},
};
const int clf_tensor_rule_count = sizeof clf_tensor_rules / sizeof *clf_tensor_rules;

const clf_tensor_rule *clf_tensor_rule_named(const char *name) {
    for (int i = 0; i < clf_tensor_rule_count; i++)
        if (!strcmp(clf_tensor_rules[i].name, name)) return &clf_tensor_rules[i];
    return NULL;
}

bool clf_tensor_rule_applies(const clf_tensor_rule *rule, bool qk_norm, bool post_norms, bool tied) {
    switch (rule->presence) {
    case CLF_IN_ALL: return true;
    case CLF_IN_PLAIN: return !post_norms;
    case CLF_IN_POST_NORMS: return post_norms;
    case CLF_IN_QK_NORM: return qk_norm;
    case CLF_IN_UNTIED: return !tied;
    case CLF_IN_FUSED: break;
    }
    return false;
}

bool clf_tensor_rule_has_bias(const clf_tensor_rule *rule) {
    return rule->layer && rule->columns != CLF_EXTENT_NONE;
}

bool clf_tensor_rule_is_rotated(const clf_tensor_rule *rule) {
    return clf_tensor_rule_has_bias(rule) && (rule->rows == CLF_EXTENT_QUERY || rule->rows == CLF_EXTENT_KEY);
}

bool clf_tensor_rule_is_stored(const clf_tensor_rule *rule, bool fused) {
    if (!clf_tensor_rule_has_bias(rule)) return false;
    if (rule->presence == CLF_IN_FUSED) return fused;
    for (int i = 0; fused && i < clf_tensor_rule_count; i++)
        for (int j = 0; j < 3 && clf_tensor_rules[i].parts[j]; j++)
            if (!strcmp(clf_tensor_rules[i].parts[j], rule->name)) return false;
    return true;
}

const char *clf_name_in_gguf(char out[CLF_NAME_SIZE], const clf_tensor_rule *r, int layer, const char *suffix) {
    const char *name = r->rows == CLF_EXTENT_GATE_UP ? "ffn_up" : r->name; /* phi3: ffn_up holds gate and up */
    if (r->layer)
        snprintf(out, CLF_NAME_SIZE, "blk.%d.%s%s", layer, name, suffix);
    else
        snprintf(out, CLF_NAME_SIZE, "%s%s", name, suffix);
    return out;
}

const char *clf_name_in_hf(char out[CLF_NAME_SIZE], const clf_tensor_rule *r, int layer, const char *suffix) {
    if (r->layer)
        snprintf(out, CLF_NAME_SIZE, "model.layers.%d.%s%s", layer, r->hf, suffix);
    else
        snprintf(out, CLF_NAME_SIZE, "%s%s%s", r->presence == CLF_IN_UNTIED ? "" : "model.", r->hf, suffix);
    return out;
}

/* Reads a layer number and the dot after it, moving *p behind; false if there is none below CLF_MAX_LAYERS. */
static bool take_layer(const char **p, int *layer) {
    char *end;
    if (**p < '0' || **p > '9') return false;
    const unsigned long n = strtoul(*p, &end, 10);
    if (n >= CLF_MAX_LAYERS || *end != '.') return false;
    *layer = (int)n;
    *p = end + 1;
    return true;
}

static bool is_suffix(const clf_tensor_rule *rule, const char *s) {
    return !strcmp(s, ".weight") || (!strcmp(s, ".bias") && clf_tensor_rule_has_bias(rule));
}

const clf_tensor_rule *clf_name_from_hf(const clf_architecture *a, const char *hf, char out[CLF_NAME_SIZE],
                                        int *layer) {
    static const char *const prefixes[] = {"model.language_model.", "language_model.model.", "language_model.",
                                           "model."};
    const char *p = hf;
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
        if (!strncmp(hf, prefixes[i], strlen(prefixes[i]))) {
            p = hf + strlen(prefixes[i]);
            break;
        }
    *layer = -1;
    if (!strncmp(p, "layers.", 7) && (p += 7, !take_layer(&p, layer))) return NULL;
    for (int i = 0; i < clf_tensor_rule_count; i++) {
        const clf_tensor_rule *r = &clf_tensor_rules[i];
        const size_t n = strlen(r->hf);
        if (r->layer != (*layer >= 0) || strncmp(p, r->hf, n) || !is_suffix(r, p + n)) continue;
        if (r->presence != CLF_IN_FUSED && !clf_tensor_rule_applies(r, a->qk_norm, a->post_norms, false)) continue;
        clf_name_in_gguf(out, r, *layer, p + n);
        return r;
    }
    return NULL;
}

const clf_tensor_rule *clf_name_parse(const char *name, int *layer, const char **suffix) {
    const char *p = name;
    *layer = -1;
    if (!strncmp(p, "blk.", 4) && (p += 4, !take_layer(&p, layer))) return NULL;
    for (int i = 0; i < clf_tensor_rule_count; i++) {
        const clf_tensor_rule *r = &clf_tensor_rules[i];
        const size_t n = strlen(r->name);
        if (r->layer != (*layer >= 0) || strncmp(p, r->name, n) || !is_suffix(r, p + n)) continue;
        *suffix = p + n;
        return r;
    }
    return NULL;
}
