/* config.h: what a decoder must know, from GGUF keys or config.json alike; architectures differ by these data alone. */
#ifndef CLF_MODEL_CONFIG_H
#define CLF_MODEL_CONFIG_H

#include <clformer/ops.h>

#include "../core/status.h"

enum { CLF_MAX_LAYERS = 1024, CLF_MAX_ROPE_PAIRS = 128 };

typedef struct clf_rope_config {
    double base;
    int n_dims; /* elements of a head that rotate */
    clf_rope_pairing pairing;
    clf_rope_scaling scaling;
    float factor, low_freq_factor, high_freq_factor, beta_fast, beta_slow;
    float attention_factor; /* of yarn and longrope: final, whatever the file left to be computed */
    int64_t original_context;
    bool has_freq_factors;
    float freq_factors[CLF_MAX_ROPE_PAIRS];      /* GGUF's rope_freqs.weight, longrope's short_factor */
    float long_freq_factors[CLF_MAX_ROPE_PAIRS]; /* longrope: contexts beyond original_context */
} clf_rope_config;

/* How a folder's matrices were quantised, if they were (packed.h). */
typedef enum clf_packing { CLF_PACKING_NONE, CLF_PACKING_GPTQ, CLF_PACKING_AWQ, CLF_PACKING_NF4 } clf_packing;

typedef struct clf_packing_config {
    clf_packing method;
    int64_t group_size; /* columns that share a scale; 0: all */
    bool symmetric, act_order, zeros_as_are;
} clf_packing_config;

typedef struct clf_config {
    char architecture[32]; /* a name of architecture.c's table: "llama", "mistral", "qwen2", "qwen3", "gemma2",
                              "gemma3", "phi3" */
    char name[96];
    int64_t trained_context;
    int32_t vocab_size, hidden_size, ffn_size, n_layers, n_heads, n_kv_heads, head_dim, v_dim;
    float norm_eps;
    float norm_offset;     /* 1: weights are stored less one (Gemma's safetensors; its GGUFs have it added) */
    float embedding_scale; /* 0: 1 */
    float attention_scale; /* 0: 1/√head_dim */
    float attention_softcap, logit_softcap; /* 0: none */
    clf_activation activation;
    bool qk_norm;                     /* RMSNorm over each query and key head, before RoPE */
    bool post_norms;                  /* a norm after attention and after the gated unit too (Gemma 2, 3) */
    bool tied_output;                 /* no output matrix: the embedding's */
    int64_t window;                   /* sliding window; 0: none */
    uint8_t windowed[CLF_MAX_LAYERS]; /* [n_layers] 1: this layer slides and, where rope_local is set, uses it */
    clf_rope_config rope;
    bool has_rope_local;
    clf_rope_config rope_local; /* Gemma 3: of the layers that slide */
    int32_t bos, eos;           /* -1: none */
    clf_packing_config packing;
} clf_config;

/* CLF_BAD_FILE naming what is out of range, CLF_UNSUPPORTED for what no kernel takes (head dimensions above 256). */
clf_status clf_config_check(const clf_config *config, clf_error *err);
/* What a folder's configuration and a GGUF's differ in, in words; NULL: nothing that a decoder would notice. Scalings
 * that a GGUF says by tensors of factors count as equal. */
const char *clf_config_difference(const clf_config *folder, const clf_config *gguf);
/* Every layer slides but each `full_every`-th; 0: all slide. None does where `window` is 0. n_layers must be checked.
 */
void clf_config_set_windows(clf_config *config, int32_t full_every);

#endif
