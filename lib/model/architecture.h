/* architecture.h: what the architectures differ in, as data; and which tensors a decoder has, with the names that GGUF
 * and Hugging Face give them. */
#ifndef CLF_MODEL_ARCHITECTURE_H
#define CLF_MODEL_ARCHITECTURE_H

#include "config.h"

/* What transformers takes where config.json is silent. */
typedef struct clf_hf_defaults {
    int32_t n_heads, n_kv_heads, head_dim; /* kv 0: as heads; head_dim 0: hidden ÷ heads */
    int32_t window;                        /* 0: none */
    int64_t context;
    double eps, rope_base;
    double attention_scalar; /* scores × 1/√ of it; 0: of head_dim */
    double attention_softcap, logit_softcap;
    bool tied;
} clf_hf_defaults;

typedef struct clf_architecture {
    const char *name;         /* clf_config.architecture */
    const char *gguf;         /* general.architecture; NULL: no GGUF says this (Mistral's are "llama") */
    const char *hf[2];        /* model_type in config.json */
    clf_rope_pairing pairing; /* in GGUF, whose llama converter permutes rows; Hugging Face's is always halves */
    clf_activation activation;
    bool qk_norm;
    bool qkv_bias; /* query, key and value have biases; elsewhere they may */
    bool post_norms;
    bool fused;               /* files have query, key and value in one matrix, gate and up in another */
    bool gemma;               /* norms stored less one in Hugging Face folders; embeddings × √hidden */
    bool window_tail;         /* Qwen: the layers from max_window_layers on slide */
    int32_t full_every;       /* of a model with a window, every n-th layer sees everything; 0: none does */
    double local_rope_base;   /* of the layers that slide, without scaling; 0: as the others */
    int32_t gguf_window;      /* where a GGUF is silent; 0: none */
    int32_t gguf_wide_layers; /* a GGUF of so many layers scales scores by 1/√(hidden ÷ heads) */
    clf_hf_defaults hf_defaults;
} clf_architecture;

/* CLF_UNSUPPORTED, with the known names in the message, for others. */
clf_status clf_architecture_from_gguf(const clf_architecture **out, const char *name, size_t length, clf_error *err);
clf_status clf_architecture_from_hf(const clf_architecture **out, const char *model_type, clf_error *err);

/* By clf_config.architecture; NULL if there is none. */
const clf_architecture *clf_architecture_named(const char *name);
/* What a GGUF of it says it is: itself, or llama. */
const clf_architecture *clf_architecture_in_gguf(const clf_architecture *a);

/* How long one side of a tensor is. */
typedef enum clf_extent {
    CLF_EXTENT_NONE, /* a vector has no columns */
    CLF_EXTENT_HIDDEN,
    CLF_EXTENT_FFN,
    CLF_EXTENT_VOCAB,
    CLF_EXTENT_HEAD,      /* head_dim */
    CLF_EXTENT_QUERY,     /* n_heads × head_dim */
    CLF_EXTENT_KEY,       /* n_kv_heads × head_dim */
    CLF_EXTENT_VALUE,     /* n_kv_heads × v_dim */
    CLF_EXTENT_ATTENTION, /* n_heads × v_dim */
    CLF_EXTENT_QKV,       /* query, key and value rows in one */
    CLF_EXTENT_GATE_UP    /* 2 × ffn: gate's rows, then up's */
} clf_extent;
int64_t clf_extent_of(clf_extent extent, const clf_config *config);

/* Which models have a tensor. */
typedef enum clf_tensor_presence {
    CLF_IN_ALL,
    CLF_IN_PLAIN,      /* without post_norms */
    CLF_IN_POST_NORMS, /* with them */
    CLF_IN_QK_NORM,
    CLF_IN_UNTIED, /* with an output matrix */
    CLF_IN_FUSED   /* never asked for: split into others */
} clf_tensor_presence;

typedef struct clf_tensor_rule {
    const char *name; /* GGUF's: "attn_q" of "blk.3.attn_q.weight" */
    const char *hf;   /* Hugging Face's: "self_attn.q_proj" of "model.layers.3.self_attn.q_proj.weight" */
    bool layer;       /* one per layer; otherwise one per model */
    clf_extent rows, columns;
    clf_tensor_presence presence;
    const char *parts[3]; /* of a fused one: the tensors that its rows are, in order */
} clf_tensor_rule;

extern const clf_tensor_rule clf_tensor_rules[];
extern const int clf_tensor_rule_count;
/* By GGUF's name (the first, where there are two); NULL if there is none. */
const clf_tensor_rule *clf_tensor_rule_named(const char *name);
bool clf_tensor_rule_applies(const clf_tensor_rule *rule, bool qk_norm, bool post_norms, bool tied);
/* Whether there may be a bias beside it: matrices of layers only. */
bool clf_tensor_rule_has_bias(const clf_tensor_rule *rule);
/* Queries and keys: their rows are in the order of rotary pairs. */
bool clf_tensor_rule_is_rotated(const clf_tensor_rule *rule);
/* Whether files have it, a matrix of layers: fused ones instead of their parts, or the other way round. */
bool clf_tensor_rule_is_stored(const clf_tensor_rule *rule, bool fused);

enum { CLF_NAME_SIZE = 64 }; /* of any GGUF name made here */

/* Its name in GGUF ("blk.3.attn_q" + suffix) and in a Hugging Face folder ("model.layers.3.self_attn.q_proj" + suffix),
 * written to `out`, which is returned. */
const char *clf_name_in_gguf(char out[CLF_NAME_SIZE], const clf_tensor_rule *rule, int layer, const char *suffix);
const char *clf_name_in_hf(char out[CLF_NAME_SIZE], const clf_tensor_rule *rule, int layer, const char *suffix);
/* GGUF's name of a Hugging Face tensor ("model.layers.3.self_attn.q_proj.weight" → "blk.3.attn_q.weight"). Prefixes
 * such as "language_model." are passed over. Returns the rule, or NULL where no tensor of the decoder is called so;
 * *layer is -1 for those of the model. */
const clf_tensor_rule *clf_name_from_hf(const clf_architecture *a, const char *hf, char out[CLF_NAME_SIZE], int *layer);
/* Takes a GGUF name apart: its rule or NULL, its layer (-1: the model's), and ".weight" or ".bias". */
const clf_tensor_rule *clf_name_parse(const char *name, int *layer, const char **suffix);

#endif
