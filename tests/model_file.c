/* model_file.c: good files give the configuration and tensors that they hold. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "../lib/model/model_file.h"
#include "../lib/model/read_config.h"

static const char *const names[] = {"llama",   "llama3", "llama-yarn",    "llama-linear", "llama-bias",
                                    "mistral", "qwen2",  "qwen2-window",  "qwen3",        "gemma2",
                                    "gemma3",  "phi3",   "phi3-longrope", "phi3-short"};
enum { NAMES = sizeof names / sizeof *names };

static clf_model_file *open_model(const char *path, bool map) {
    clf_model_file *f;
    clf_error err = {0};
    const clf_status st = clf_model_file_open(&f, &(clf_model_file_args){.path = path, .mmap = map}, &err);
    assert_string_equal(err.message, "");
    assert_int_equal(st, CLF_OK);
    return f;
}

/* The GGUF made of a folder says the same, but for what the formats differ in; factors agree to rounding. */
static void same_rope(const clf_rope_config *a, const clf_rope_config *b) {
    assert_true(a->base == b->base);
    assert_int_equal(a->n_dims, b->n_dims);
    assert_float_equal(a->attention_factor, b->attention_factor, 1e-6);
    if (a->scaling != CLF_ROPE_SCALING_LLAMA3) assert_int_equal(a->scaling, b->scaling);
    if (a->scaling == CLF_ROPE_SCALING_LLAMA3) assert_true(b->has_freq_factors);
    if (a->scaling == CLF_ROPE_SCALING_LINEAR || a->scaling == CLF_ROPE_SCALING_YARN)
        assert_true(a->factor == b->factor);
    if (a->scaling == CLF_ROPE_SCALING_YARN || a->scaling == CLF_ROPE_SCALING_LONGROPE)
        assert_int_equal(a->original_context, b->original_context);
    if (a->scaling == CLF_ROPE_SCALING_LONGROPE)
        for (int i = 0; i < a->n_dims / 2; i++) {
            assert_true(a->freq_factors[i] == b->freq_factors[i]);
            assert_true(a->long_freq_factors[i] == b->long_freq_factors[i]);
        }
}

static float scale_of(const clf_config *c) {
    return c->attention_scale != 0 ? c->attention_scale : 1 / sqrtf((float)c->head_dim);
}

static void same_config(const clf_config *hf, const clf_config *gguf) {
    assert_string_equal(hf->name, gguf->name);
    const int64_t a[] = {
        hf->trained_context, hf->vocab_size, hf->hidden_size,    hf->ffn_size,   hf->n_layers, hf->n_heads,
        hf->n_kv_heads,      hf->head_dim,   hf->v_dim,          hf->activation, hf->qk_norm,  hf->post_norms,
        hf->tied_output,     hf->window,     hf->has_rope_local, hf->bos,        hf->eos};
    const int64_t b[] = {gguf->trained_context,
                         gguf->vocab_size,
                         gguf->hidden_size,
                         gguf->ffn_size,
                         gguf->n_layers,
                         gguf->n_heads,
                         gguf->n_kv_heads,
                         gguf->head_dim,
                         gguf->v_dim,
                         gguf->activation,
                         gguf->qk_norm,
                         gguf->post_norms,
                         gguf->tied_output,
                         gguf->window,
                         gguf->has_rope_local,
                         gguf->bos,
                         gguf->eos};
    for (size_t i = 0; i < sizeof a / sizeof *a; i++) assert_int_equal(a[i], b[i]);
    assert_memory_equal(hf->windowed, gguf->windowed, (size_t)hf->n_layers);
    assert_float_equal(hf->norm_eps, gguf->norm_eps, 1e-12);
    assert_float_equal(hf->embedding_scale, gguf->embedding_scale, 0);
    assert_float_equal(scale_of(hf), scale_of(gguf), 1e-7);
    assert_float_equal(hf->attention_softcap, gguf->attention_softcap, 0);
    assert_float_equal(hf->logit_softcap, gguf->logit_softcap, 0);
    same_rope(&hf->rope, &gguf->rope);
    if (hf->has_rope_local) same_rope(&hf->rope_local, &gguf->rope_local);
}

static float at(const clf_file_tensor *t, int64_t row, int64_t column) {
    float v;
    const int64_t columns = t->ndim == 2 ? t->shape[1] : 1;
    memcpy(&v, (const char *)t->data + 4 * (row * columns + column), 4);
    return v;
}

/* Row of the Hugging Face matrix that a llama GGUF has at `row`: pairs are neighbours there, halves here. */
static int64_t permuted(const clf_config *c, const char *name, int64_t row) {
    const bool rotated = strstr(name, ".attn_q.") || strstr(name, ".attn_k.");
    if (c->rope.pairing == CLF_ROPE_HALVES || !rotated) return row;
    const int64_t in = row % c->head_dim;
    return row - in + in / 2 + in % 2 * (c->head_dim / 2);
}

static void test_same_model(void **state) {
    (void)state;
    for (int i = 0; i < NAMES; i++) {
        char path[128];
        snprintf(path, sizeof path, "golden/models/%s", names[i]);
        clf_model_file *hf = open_model(path, true);
        snprintf(path, sizeof path, "golden/gguf/%s.gguf", names[i]);
        clf_model_file *gguf = open_model(path, false);
        const clf_config *c = clf_model_file_config(hf), *cg = clf_model_file_config(gguf);
        same_config(c, cg);
        assert_string_equal(clf_model_file_format(hf), "safetensors");
        assert_string_equal(clf_model_file_format(gguf), "gguf");
        int64_t compared = 0;
        for (int64_t j = 0; j < clf_model_file_count(gguf); j++) {
            const clf_file_tensor *b = clf_model_file_at(gguf, j);
            if (!strncmp(b->name, "rope_", 5)) continue;
            const clf_file_tensor *a = clf_model_file_find(hf, b->name);
            assert_non_null(a);
            assert_int_equal(a->ndim, b->ndim);
            assert_memory_equal(a->shape, b->shape, sizeof a->shape);
            const float offset = strstr(b->name, "norm") ? c->norm_offset - cg->norm_offset : 0;
            for (int64_t row = 0; row < b->shape[0]; row++)
                for (int64_t k = 0; k < (b->ndim == 2 ? b->shape[1] : 1); k++)
                    if (at(a, permuted(cg, b->name, row), k) + offset != at(b, row, k))
                        fail_msg("%s: %s: row %lld differs", names[i], b->name, (long long)row);
            compared++;
        }
        assert_int_equal(compared, clf_model_file_count(hf));
        clf_model_file_close(hf);
        clf_model_file_close(gguf);
    }
}

/* What transformers 4 writes says the same as what transformers 5 writes. */
#define SIZES(type, layers, hidden, ffn, heads, kv)                                                                    \
    "{\"model_type\":\"" type "\",\"num_hidden_layers\":" layers ",\"hidden_size\":" hidden                            \
    ",\"intermediate_size\":" ffn ",\"num_attention_heads\":" heads ",\"num_key_value_heads\":" kv                     \
    ",\"max_position_embeddings\":64,\"bos_token_id\":1,\"eos_token_id\":[2,3],\"vocab_size\":96"
#define NARROW(type) SIZES(type, "2", "32", "40", "4", "2")
#define WIDE(type)   SIZES(type, "2", "48", "80", "4", "2")

static void test_spellings(void **state) {
    (void)state;
    static const struct {
        const char *name, *text;
    } cases[] = {
        {"llama", WIDE("llama") ",\"rms_norm_eps\":1e-5,\"rope_scaling\":null}"},
        {"llama3", WIDE("llama") ",\"rms_norm_eps\":1e-5,\"tie_word_embeddings\":true,\"rope_theta\":10000.0,"
                                 "\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":4.0,\"low_freq_factor\":1.0,"
                                 "\"high_freq_factor\":4.0,\"original_max_position_embeddings\":16}}"},
        {"llama-linear", NARROW("llama") ",\"rope_scaling\":{\"type\":\"linear\",\"factor\":2.0}}"},
        {"llama-yarn", NARROW("llama") ",\"rope_theta\":10000,\"rope_scaling\":{\"type\":\"yarn\",\"factor\":4.0,"
                                       "\"original_max_position_embeddings\":16,\"beta_fast\":32}}"},
        {"mistral", WIDE("mistral") ",\"rms_norm_eps\":1e-5,\"head_dim\":16,\"rope_theta\":1e6,\"sliding_window\":8}"},
        {"qwen2", WIDE("qwen2") ",\"rope_theta\":1000000.0,\"sliding_window\":8,\"use_sliding_window\":false,"
                                "\"max_window_layers\":1,\"tie_word_embeddings\":true}"},
        {"qwen2-window", NARROW("qwen2") ",\"rope_theta\":1000000.0,\"sliding_window\":8,\"use_sliding_window\":true,"
                                         "\"max_window_layers\":1}"},
        {"gemma2", WIDE("gemma2") ",\"head_dim\":16,\"sliding_window\":8,\"query_pre_attn_scalar\":16,"
                                  "\"attn_logit_softcapping\":5,\"final_logit_softcapping\":3.0,\"hidden_act\":"
                                  "\"gelu_pytorch_tanh\"}"},
        {"gemma3",
         "{\"model_type\":\"gemma3\",\"bos_token_id\":1,\"eos_token_id\":2,\"vision_config\":{},\"text_config\":"
         "{\"model_type\":\"gemma3_text\",\"num_hidden_layers\":6,\"hidden_size\":32,\"intermediate_size\":40,"
         "\"num_attention_heads\":2,\"num_key_value_heads\":1,\"head_dim\":16,\"vocab_size\":96,"
         "\"max_position_embeddings\":64,\"query_pre_attn_scalar\":24,\"sliding_window\":8,"
         "\"rope_scaling\":{\"rope_type\":\"linear\",\"factor\":8.0},\"rope_local_base_freq\":10000.0,"
         "\"sliding_window_pattern\":6}}"},
        {"phi3-longrope", NARROW("phi3") ",\"original_max_position_embeddings\":4,\"partial_rotary_factor\":0.5,"
                                         "\"rope_scaling\":{\"type\":\"su\",\"short_factor\":[1.0,1.3],"
                                         "\"long_factor\":[1.2,4.5]}}"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char path[128];
        snprintf(path, sizeof path, "golden/models/%s", cases[i].name);
        clf_model_file *f = open_model(path, true);
        clf_config want = *clf_model_file_config(f), got;
        const clf_architecture *a;
        clf_error err = {0};
        if (clf_config_from_json(&got, &a, cases[i].text, strlen(cases[i].text), &err) != CLF_OK)
            fail_msg("%s: %s", cases[i].name, err.message);
        memcpy(got.name, want.name, sizeof got.name);
        assert_string_equal(got.architecture, want.architecture);
        assert_float_equal(got.norm_offset, want.norm_offset, 0);
        if (want.rope.scaling == CLF_ROPE_SCALING_LLAMA3) { /* same_rope() compares it with a GGUF's factors */
            assert_memory_equal(&got.rope, &want.rope, sizeof want.rope);
            got.rope.has_freq_factors = true;
        }
        same_config(&want, &got);
        clf_model_file_close(f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_same_model), cmocka_unit_test(test_spellings)};
    return cmocka_run_group_tests_name("model_file", tests, NULL, NULL);
}
