/* folder_tokenizer.c: tokenizers of GGUFs as tokenizer.json and tokenizer_config.json, read back as a folder's: the
 * same ids of the texts that come with them, and the same text of the ids. What can't be said there is refused. */
#include "folder_case.h"
#include "model_case.h"
#include "tokenizer_case.h"

#include "../lib/model/folder_from_gguf.h"
#include "../lib/model/gguf.h"
#include "../lib/model/model.h"
#include "../lib/model/tokenizer_data.h"

/* `text`, freed, as a file. */
static void write_file(const char *name, char *text) {
    FILE *f = fopen(in_folder(name), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
    assert_int_equal(fclose(f), 0);
    free(text);
}

static void assert_same_ids(const clf_tokenizer *a, const clf_tokenizer *b, const char *text, size_t length,
                            int flags) {
    enum { MOST = 4096 };
    static int32_t ids[2][MOST];
    static char back[2][4 * MOST];
    size_t n[2], m[2];
    const clf_tokenizer *const both[] = {a, b};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(clf_tokenize(both[i], text, length, flags, ids[i], MOST, &n[i]), CLF_OK);
        assert_true(n[i] <= MOST);
        assert_int_equal(clf_detokenize(both[i], ids[i], n[i], true, back[i], sizeof back[i], &m[i]), CLF_OK);
    }
    if (n[0] != n[1] || memcmp(ids[0], ids[1], n[0] * sizeof *ids[0])) fail_msg("%.*s", (int)length, text);
    assert_int_equal(m[0], m[1]);
    assert_memory_equal(back[0], back[1], m[0]);
}

/* The texts between the lines "__ggml_vocab_test__" of a file. */
static int compare_texts(const clf_tokenizer *a, const clf_tokenizer *b, const char *path) {
    static char texts[1 << 16];
    static const char between[] = "\n__ggml_vocab_test__\n";
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    const size_t size = fread(texts, 1, sizeof texts - 1, f);
    fclose(f);
    assert_true(size < sizeof texts - 1);
    int count = 0;
    for (char *at = texts, *end; at; at = end ? end + strlen(between) : NULL, count++) {
        end = strstr(at, between);
        const size_t length = end ? (size_t)(end - at) : strlen(at);
        assert_same_ids(a, b, at, length, 0);
        assert_same_ids(a, b, at, length, CLF_TOKENIZE_ADD_SPECIAL | CLF_TOKENIZE_PARSE_SPECIAL);
    }
    return count;
}

static void same_as_in_the_gguf(void **state) {
    (void)state;
    static const char *const paths[][2] = {
        {"golden/vocab/gpt-2.gguf", "golden/vocab/gpt-2.gguf.inp"},
        {"golden/vocab/llama-spm.gguf", "golden/vocab/llama-spm.gguf.inp"},
        {"../examples/default_model/default.gguf", "golden/vocab/gpt-2.gguf.inp"},
    };
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        clf_error err = {0};
        char *text;
        clf_tokenizer *t = open_tokenizer(paths[i][0]);
        if (clf_folder_tokenizer(&text, t, &err) != CLF_OK) fail_msg("%s: %s", paths[i][0], err.message);
        write_file("tokenizer.json", text);
        assert_int_equal(clf_folder_tokenizer_config(&text, t, 512, &err), CLF_OK);
        write_file("tokenizer_config.json", text);
        clf_tokenizer *read = open_tokenizer(folder);
        assert_int_equal(clf_tokenizer_size(read), clf_tokenizer_size(t));
        assert_int_equal(clf_tokenizer_bos(read), clf_tokenizer_bos(t));
        assert_int_equal(clf_tokenizer_eos(read), clf_tokenizer_eos(t));
        assert_true(compare_texts(t, read, paths[i][1]) > 40);
        clf_tokenizer_destroy(read);
        clf_tokenizer_destroy(t);
    }
}

/* clf_model_save() writes them beside the weights. */
static void saved_with_a_model(void **state) {
    (void)state;
    const char *path = in_folder("model"), *gguf = "../examples/default_model/default.gguf",
               *text = "Once upon a time, there was a little girl.";
    clf_context *ctx = open_context("cpu", 0);
    clf_model *model;
    assert_ok(ctx, clf_model_load(&model, &(clf_model_args){.path = gguf, .contexts = &ctx, .n_contexts = 1}));
    assert_ok(ctx, clf_model_save(model, &(clf_model_save_args){.path = path}));
    clf_tokenizer *read = open_tokenizer(path);
    assert_same_ids(clf_model_tokenizer(model), read, text, strlen(text), CLF_TOKENIZE_ADD_SPECIAL);
    clf_tokenizer_destroy(read);
    clf_model_destroy(model);
    assert_ok(ctx, clf_model_load(&model, &(clf_model_args){.path = path, .contexts = &ctx, .n_contexts = 1}));
    assert_non_null(clf_model_tokenizer(model));
    clf_model_destroy(model);
    clf_context_destroy(ctx);
    assert_int_equal(entries_of(path), 4); /* the weights, three configurations */
}

static void unigrams_are_refused(void **state) {
    (void)state;
    clf_error err = {0};
    char *text;
    clf_tokenizer *t = open_tokenizer("golden/tokenizers/unigram");
    assert_int_equal(clf_folder_tokenizer(&text, t, &err), CLF_UNSUPPORTED);
    assert_null(text);
    assert_non_null(strstr(err.message, "tokenizer.json: expected"));
    clf_tokenizer_destroy(t);
}

/* JSON has no word for such bytes. */
static void broken_tokens_are_refused(void **state) {
    (void)state;
    const char bytes[] = {'\xff', '\0'};
    for (size_t i = 0; i < sizeof bytes; i++) {
        clf_error err = {0};
        char *text;
        clf_tokenizer *t = open_tokenizer("../examples/default_model/default.gguf");
        t->vocab.spelling.data[t->vocab.pieces[500].offset] = bytes[i];
        assert_int_equal(clf_folder_tokenizer(&text, t, &err), CLF_UNSUPPORTED);
        assert_non_null(strstr(err.message, "token 500: expected UTF-8"));
        clf_tokenizer_destroy(t);
    }
}

static void keep_line(void *user, clf_log_level level, const char *line) {
    if (level == CLF_LOG_WARNING) snprintf(user, 512, "%s", line);
}

/* Then a model is saved without it, and the log says why; a model that has none isn't worth a line. */
static void left_out_with_a_reason(void **state) {
    (void)state;
    static const char *const paths[] = {"../examples/default_model/default.gguf", "golden/gguf/llama.gguf"};
    for (int i = 0; i < 2; i++) {
        const char *path = in_folder("model");
        char line[512] = "";
        clf_context *ctx;
        clf_model *model;
        assert_int_equal(
            clf_context_create(&ctx, &(clf_context_args){.device = "cpu", .log = keep_line, .log_user = line}), CLF_OK);
        assert_ok(ctx, clf_model_load(&model, &(clf_model_args){.path = paths[i], .contexts = &ctx, .n_contexts = 1}));
        assert_true((model->tokenizer != NULL) == !i);
        if (!i) model->tokenizer->vocab.spelling.data[model->tokenizer->vocab.pieces[500].offset] = '\xff';
        assert_ok(ctx, clf_model_save(model, &(clf_model_save_args){.path = path}));
        assert_string_equal(clf_error_message(ctx), "");
        clf_model_destroy(model);
        assert_ok(ctx, clf_model_load(&model, &(clf_model_args){.path = path, .contexts = &ctx, .n_contexts = 1}));
        assert_null(clf_model_tokenizer(model));
        clf_model_destroy(model);
        clf_context_destroy(ctx);
        if (i)
            assert_string_equal(line, "");
        else if (!strstr(line, "no tokenizer: tokenizer.json: token 500: expected UTF-8"))
            fail_msg("%s", line);
        assert_int_equal(entries_of(path), 2);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(same_as_in_the_gguf, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(saved_with_a_model, make_folder, remove_folder),
        cmocka_unit_test(unigrams_are_refused),
        cmocka_unit_test(broken_tokens_are_refused),
        cmocka_unit_test_setup_teardown(left_out_with_a_reason, make_folder, remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
