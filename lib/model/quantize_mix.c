/* quantize_mix.c: which matrix gets which dtype, as llama.cpp's tool chooses for models of these architectures, so that
 * files of one name are alike. The matrices that suffer most get a better dtype than the mix's: the output (a tied
 * embedding is one), values and what is fused with them, what writes into the residual stream, and the first and last
 * layers. */
#include "quantize_mix.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

static const clf_quantize_type types[] = {
    {"f32", CLF_F32, 0},      {"f16", CLF_F16, 1},      {"bf16", CLF_BF16, 32},     {"q8_0", CLF_Q8_0, 7},
    {"q4_0", CLF_Q4_0, 2},    {"q4_1", CLF_Q4_1, 3},    {"q5_0", CLF_Q5_0, 8},      {"q5_1", CLF_Q5_1, 9},
    {"q2_k", CLF_Q2_K, 10},   {"q2_k_s", CLF_Q2_K, 21}, {"q3_k_s", CLF_Q3_K, 11},   {"q3_k_m", CLF_Q3_K, 12},
    {"q3_k_l", CLF_Q3_K, 13}, {"q4_k_s", CLF_Q4_K, 14}, {"q4_k_m", CLF_Q4_K, 15},   {"q5_k_s", CLF_Q5_K, 16},
    {"q5_k_m", CLF_Q5_K, 17}, {"q6_k", CLF_Q6_K, 18},   {"iq4_nl", CLF_IQ4_NL, 25}, {"iq4_xs", CLF_IQ4_XS, 30},
    {"mxfp4", CLF_MXFP4, 38}, {"tq1_0", CLF_TQ1_0, 36}, {"tq2_0", CLF_TQ2_0, 37},   {"q2_0", CLF_Q2_0, 41},
    {"t1", CLF_T1, 36},       {"t2", CLF_T2, 37}};
enum { TYPES = sizeof types / sizeof *types };

/* Which layers of n a rule is for. */
typedef enum layers {
    ALL,
    FIRST_2,
    FIRST_4,
    FIRST_16TH,
    FIRST_8TH,
    FIRST_8TH_BLIND,   /* without an importance matrix */
    FIRST_8TH_GUIDED,  /* with one */
    ENDS_AND_EACH_3RD, /* the first and last eighth, and every third between */
    SHARED_BY_4        /* all, where at least four query heads share a value */
} layers;

typedef struct rule {
    const char *type, *stem;
    layers layers;
    clf_dtype dtype;
} rule;

/* The first that fits counts. */
static const rule rules[] = {
    {"q2_k", "attn_v", SHARED_BY_4, CLF_Q4_K},
    {"q2_k", "attn_v", ALL, CLF_Q3_K},
    {"q2_k", "attn_output", ALL, CLF_Q3_K},
    {"q2_k", "ffn_down", ALL, CLF_Q3_K},
    {"q2_k_s", "attn_v", SHARED_BY_4, CLF_Q4_K},
    {"q2_k_s", "ffn_down", FIRST_8TH, CLF_Q4_K},
    {"q3_k_m", "attn_v", FIRST_2, CLF_Q5_K},
    {"q3_k_m", "attn_v", ALL, CLF_Q4_K},
    {"q3_k_m", "attn_output", ALL, CLF_Q4_K},
    {"q3_k_m", "ffn_down", FIRST_16TH, CLF_Q5_K},
    {"q3_k_m", "ffn_down", ALL, CLF_Q4_K},
    {"q3_k_l", "attn_v", ALL, CLF_Q5_K},
    {"q3_k_l", "attn_output", ALL, CLF_Q5_K},
    {"q3_k_l", "ffn_down", ALL, CLF_Q5_K},
    {"q4_k_s", "attn_v", FIRST_4, CLF_Q5_K},
    {"q4_k_s", "ffn_down", FIRST_8TH, CLF_Q5_K},
    {"q4_k_m", "attn_v", ENDS_AND_EACH_3RD, CLF_Q6_K},
    {"q4_k_m", "ffn_down", ENDS_AND_EACH_3RD, CLF_Q6_K},
    {"q5_k_m", "attn_v", ENDS_AND_EACH_3RD, CLF_Q6_K},
    {"q5_k_m", "ffn_down", ENDS_AND_EACH_3RD, CLF_Q6_K},
    {"q4_0", "ffn_down", FIRST_8TH_GUIDED, CLF_Q4_1},
    {"q5_0", "ffn_down", FIRST_8TH_GUIDED, CLF_Q5_1},
    {"iq4_nl", "attn_v", SHARED_BY_4, CLF_Q5_K},
    {"iq4_nl", "ffn_down", FIRST_8TH_BLIND, CLF_Q5_K},
    {"iq4_xs", "attn_v", SHARED_BY_4, CLF_Q5_K},
    {"iq4_xs", "ffn_down", FIRST_8TH_BLIND, CLF_Q5_K},
    {"tq1_0", "token_embd", ALL, CLF_Q4_K},
    {"tq2_0", "token_embd", ALL, CLF_Q4_K},
    {"q2_0", "token_embd", ALL, CLF_Q4_K},
};
enum { RULES = sizeof rules / sizeof *rules };

clf_status clf_quantize_type_named(const clf_quantize_type **out, const char *name, clf_error *err) {
    static const char *const aliases[][2] = {{"q3_k", "q3_k_m"}, {"q4_k", "q4_k_m"}, {"q5_k", "q5_k_m"}};
    char known[256] = "";
    for (int i = 0; i < 3; i++)
        if (!strcasecmp(name, aliases[i][0])) name = aliases[i][1];
    for (int i = 0; i < TYPES; i++) {
        const size_t n = strlen(known);
        if (!strcasecmp(name, types[i].name)) return *out = &types[i], CLF_OK;
        snprintf(known + n, sizeof known - n, "%s%s", i ? ", " : "", types[i].name);
    }
    return clf_fail(err, CLF_INVALID_ARGUMENT, "quantize: type: expected one of %s; got %.40s", known, name);
}

static bool covers(layers which, const clf_config *c, clf_quantize_place p) {
    const int n = c->n_layers, i = p.layer, eighth = n / 8;
    switch (which) {
    case FIRST_2: return i < 2;
    case FIRST_4: return i < 4;
    case FIRST_16TH: return i < n / 16;
    case FIRST_8TH: return i < eighth;
    case FIRST_8TH_BLIND: return i < eighth && !p.importance;
    case FIRST_8TH_GUIDED: return i < eighth && p.importance;
    case ENDS_AND_EACH_3RD: return i < eighth || i >= 7 * n / 8 || (i - eighth) % 3 == 2;
    case SHARED_BY_4: return c->n_heads >= 4 * c->n_kv_heads;
    default: return true;
    }
}

/* Whether a dtype has fewer bits per weight than another. */
static bool is_coarser(clf_dtype a, clf_dtype b) {
    return clf_dtype_block_bytes(a) * (size_t)clf_dtype_block_values(b) <
           clf_dtype_block_bytes(b) * (size_t)clf_dtype_block_values(a);
}

clf_dtype clf_quantize_mixed(const clf_quantize_type *type, const clf_config *c, clf_quantize_place p) {
    const char *output = c->tied_output ? "token_embd" : "output";
    clf_dtype dtype = type->dtype;
    if (!strcmp(p.stem, "attn_qkv")) p.stem = "attn_v";
    if (!strcmp(p.stem, output)) return is_coarser(dtype, CLF_Q6_K) ? CLF_Q6_K : dtype;
    for (int i = RULES - 1; i >= 0; i--) {
        const rule *r = &rules[i];
        if (!strcmp(r->type, type->name) && !strcmp(r->stem, p.stem) && covers(r->layers, c, p)) dtype = r->dtype;
    }
    /* the values of 70 billion weights, 80 layers that share them, cost little */
    const bool large = c->n_layers == 80 && c->n_heads > c->n_kv_heads && !strcmp(p.stem, "attn_v");
    return large && (dtype == CLF_Q3_K || dtype == CLF_Q4_K) ? CLF_Q5_K : dtype;
}
