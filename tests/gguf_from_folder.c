/* gguf_from_folder.c: configurations and tokenizers of folders as GGUF keys, read back: every golden model's
 * configuration, and golden tokenizers on the texts that they come with. What GGUF can't say is refused. */
#include "folder_case.h"
#include "model_case.h"

#include <jansson.h>

#include "../lib/model/gguf_from_folder.h"
#include "../lib/model/read_config.h"
#include "../lib/model/tokenizer.h"

/* A writer of keys; its file isn't finished. */
static clf_gguf_writer *open_writer(void) {
    clf_error err = {0};
    clf_gguf_writer *w;
    assert_int_equal(clf_gguf_writer_create(&w, in_folder("keys.gguf"), &err), CLF_OK);
    return w;
}

/* What was written, to be closed; its bytes at *data, to be freed afterwards. */
static clf_gguf *read_back(const clf_gguf_writer *w, void **data) {
    clf_error err = {0};
    clf_gguf *g;
    size_t size;
    assert_int_equal(clf_gguf_writer_keys(w, data, &size, &err), CLF_OK);
    if (clf_gguf_open(&g, &(clf_model_file_args){.data = *data, .data_size = size}, &err) != CLF_OK)
        fail_msg("%s", err.message);
    return g;
}

static void test_configurations(void **state) {
    (void)state;
    static const char *const models[] = {"llama",   "llama-bias", "llama-linear",  "llama-yarn", "llama3",
                                         "mistral", "qwen2",      "qwen2-window",  "qwen3",      "gemma2",
                                         "gemma3",  "phi3",       "phi3-longrope", "phi3-short"};
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        char from[128];
        clf_error err = {0};
        clf_model_file *f;
        snprintf(from, sizeof from, "golden/models/%s", models[i]);
        assert_int_equal(clf_model_file_open(&f, &(clf_model_file_args){.path = from}, &err), CLF_OK);
        clf_gguf_writer *w = open_writer();
        if (clf_gguf_write_keys_of_folder(w, f, &err) != CLF_OK) fail_msg("%s: %s", models[i], err.message);
        void *data;
        clf_gguf *g = read_back(w, &data);
        const clf_architecture *a;
        clf_config c;
        assert_int_equal(clf_config_from_gguf(&c, &a, g, &err), CLF_OK);
        const clf_config *want = clf_model_file_config(f);
        assert_string_equal(c.name, models[i]);
        assert_int_equal(c.vocab_size, want->vocab_size);
        assert_int_equal(c.bos, want->bos);
        assert_int_equal(c.eos, want->eos);
        clf_gguf_close(g);
        free(data);
        clf_gguf_writer_destroy(w);

        /* GGUF can't say another activation than the architecture's */
        w = open_writer();
        clf_config *other = (clf_config *)(uintptr_t)want;
        other->activation = CLF_ACTIVATION_GELU;
        assert_int_equal(clf_gguf_write_keys_of_folder(w, f, &err), CLF_UNSUPPORTED);
        assert_non_null(strstr(err.message, "activation"));
        clf_gguf_writer_destroy(w);
        clf_model_file_close(f);
    }
}

/* Frequencies ÷ factors are those that clf_rope() makes of LLaMA 3's scaling. */
static void test_factors(void **state) {
    (void)state;
    clf_config c = {.rope = {.base = 5e5,
                             .n_dims = 128,
                             .scaling = CLF_ROPE_SCALING_LLAMA3,
                             .factor = 8,
                             .low_freq_factor = 1,
                             .high_freq_factor = 4,
                             .original_context = 8192}};
    clf_gguf_factors f;
    clf_gguf_factors_of(&f, &c);
    assert_int_equal(f.count, 1);
    assert_string_equal(f.tensor[0].name, "rope_freqs.weight");
    assert_int_equal(f.tensor[0].shape[0], 64);
    assert_true(f.values[0][0] == 1 && f.values[0][63] == 8);
    for (int i = 1; i < 64; i++) assert_true(f.values[0][i] >= f.values[0][i - 1]);
    c.rope.scaling = CLF_ROPE_SCALING_NONE;
    clf_gguf_factors_of(&f, &c);
    assert_int_equal(f.count, 0);
}

/* The ids of a text, at most 4096, to `ids`. */
static size_t ids_of(const clf_tokenizer *t, const json_t *text, int32_t *ids) {
    size_t n;
    assert_int_equal(
        clf_tokenize(t, json_string_value(text), json_string_length(text), CLF_TOKENIZE_PARSE_SPECIAL, ids, 4096, &n),
        CLF_OK);
    return n;
}

static void test_tokenizers(void **state) {
    (void)state;
    static const struct {
        const char *name, *refused; /* with these words; NULL: taken */
        bool composes;              /* the original normalizes, which GGUF doesn't say */
    } cases[] = {{"llama3-bpe", NULL, false},
                 {"qwen2-bpe", NULL, true},
                 {"llama2-spm", NULL, false},
                 {"gemma-spm", NULL, false},
                 {"unigram", "GGUF has byte-level BPE and SentencePiece's BPE", false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char from[128], file[160];
        clf_error err = {0};
        snprintf(from, sizeof from, "golden/tokenizers/%s", cases[i].name);
        clf_gguf_writer *w = open_writer();
        clf_config c = {.vocab_size = 1500, .bos = -1, .eos = -1};
        const clf_status st = clf_gguf_write_tokenizer_of(w, from, &c, &err);
        if (st != (cases[i].refused ? CLF_UNSUPPORTED : CLF_OK)) fail_msg("%s: %d %s", from, st, err.message);
        if (cases[i].refused) {
            assert_non_null(strstr(err.message, cases[i].refused));
            clf_gguf_writer_destroy(w);
            continue;
        }
        void *data;
        clf_tokenizer *t, *original;
        clf_gguf *g = read_back(w, &data);
        if (clf_tokenizer_from_gguf(&t, g, &err) != CLF_OK) fail_msg("%s: %s", from, err.message);
        assert_int_equal(clf_tokenizer_from_folder(&original, from, &err), CLF_OK);
        snprintf(file, sizeof file, "%s/expect.json", from);
        json_t *expected = json_load_file(file, 0, NULL), *row;
        size_t k, others = 0;
        json_array_foreach(expected, k, row) {
            static int32_t got[4096], want[4096];
            const json_t *text = json_object_get(row, "text");
            const size_t n = ids_of(t, text, got), m = ids_of(original, text, want);
            const bool same = n == m && !memcmp(got, want, n * sizeof *got);
            if (!same && !cases[i].composes) fail_msg("%s: %s", from, json_string_value(text));
            others += !same;
        }
        assert_true(k > 40 && others <= 1);
        json_decref(expected);
        clf_tokenizer_destroy(original);
        clf_tokenizer_destroy(t);
        clf_gguf_close(g);
        free(data);
        clf_gguf_writer_destroy(w);

        /* fewer rows than tokens */
        c.vocab_size = 96;
        w = open_writer();
        assert_int_equal(clf_gguf_write_tokenizer_of(w, from, &c, &err), CLF_UNSUPPORTED);
        clf_gguf_writer_destroy(w);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_configurations), cmocka_unit_test(test_factors),
                                       cmocka_unit_test(test_tokenizers)};
    return cmocka_run_group_tests_name("gguf_from_folder", tests, make_folder, remove_folder);
}
