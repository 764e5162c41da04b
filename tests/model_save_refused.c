/* model_save_refused.c: models and adapters that can't be saved: what config.json has no words for, wrong arguments,
 * values that aren't finite, a full disk. What can't be written whole isn't there at all, and what was there stays. */
#include "model_save_case.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

/* What config.json has no words for is refused, and nothing is there: blocks, factors that no rule makes, biases of a
 * model that slides. */
static void test_folders_that_cannot_be(void **state) {
    (void)state;
    const char *path = in_folder("cannot-be"), *q8 = in_folder("blocks.gguf");
    clf_context *ctx = open_context("cpu", 0);
    write_q8(q8);
    clf_model *m = load(ctx, q8, NULL);
    assert_int_equal(clf_model_save(m, &(clf_model_save_args){.path = path}), CLF_UNSUPPORTED);
    assert_non_null(strstr(clf_error_message(ctx), "q8_0"));
    assert_int_equal(entries_of(path), -1);
    assert_ok(ctx, clf_model_save(m, &(clf_model_save_args){.path = path, .dtype = "f16"}));
    assert_int_equal(entries_of(path), 2);
    remove_all(path);
    clf_model_destroy(m);

    m = load(ctx, "golden/gguf/llama3.gguf", NULL);
    m->config.rope.freq_factors[1] *= 1.01f;
    assert_int_equal(clf_model_save(m, &(clf_model_save_args){.path = path}), CLF_UNSUPPORTED);
    assert_non_null(strstr(clf_error_message(ctx), "rope_freqs.weight"));
    assert_int_equal(entries_of(path), -1);
    clf_model_destroy(m);

    m = load(ctx, "golden/gguf/llama-bias.gguf", NULL);
    m->config.window = 8;
    clf_config_set_windows(&m->config, 0);
    assert_int_equal(clf_model_save(m, &(clf_model_save_args){.path = path}), CLF_UNSUPPORTED);
    assert_non_null(strstr(clf_error_message(ctx), "biases"));
    clf_model_destroy(m);

    m = load(ctx, "golden/gguf/llama.gguf", NULL);
    m->config.attention_scale = 0.1f;
    assert_int_equal(clf_model_save(m, &(clf_model_save_args){.path = path}), CLF_UNSUPPORTED);
    assert_non_null(strstr(clf_error_message(ctx), "scales"));
    clf_model_destroy(m);
    clf_context_destroy(ctx);
}

#define refused(expr, status, part)                                                                                    \
    do {                                                                                                               \
        assert_int_equal((expr), (status));                                                                            \
        if (!strstr(clf_error_message(ctx), (part)))                                                                   \
            fail_msg("expected \"%s\", got \"%s\"", (part), clf_error_message(ctx));                                   \
    } while (0)

static void test_misuse(void **state) {
    (void)state;
    const char *path = in_folder("refused"), *other = in_folder("refused/thesis.tex");
    clf_context *ctx = open_context("cpu", 0);
    clf_model *plain, *m = load(ctx, "golden/models/llama", "golden/adapters/llama");
    assert_ok(ctx,
              clf_model_load(&plain, &(clf_model_args){.path = "golden/models/llama", /* not mapped: changed below */
                                                       .contexts = &ctx,
                                                       .n_contexts = 1}));
    const int before = entries_of(folder);
    assert_int_equal(clf_model_save(NULL, NULL), CLF_INVALID_ARGUMENT);
    assert_int_equal(clf_model_save_adapter(NULL, NULL), CLF_INVALID_ARGUMENT);
    refused(clf_model_save(m, NULL), CLF_INVALID_ARGUMENT, "path");
    refused(clf_model_save_adapter(m, NULL), CLF_INVALID_ARGUMENT, "path");
    refused(save(m, "", NULL), CLF_INVALID_ARGUMENT, "path");
    refused(save(m, path, "q4_0"), CLF_INVALID_ARGUMENT, "got q4_0");
    refused(save(m, path, "nonsense"), CLF_INVALID_ARGUMENT, "got nonsense");
    refused(save_adapter(plain, path, NULL), CLF_INVALID_ARGUMENT, "carries none");
    refused(save_adapter(m, path, "\xff"), CLF_INVALID_ARGUMENT, "UTF-8");
    refused(save_adapter(m, in_folder("nowhere/adapter"), NULL), CLF_NOT_FOUND, "nowhere");
    refused(save_adapter(m, in_folder("nowhere/adapter.gguf"), NULL), CLF_NOT_FOUND, "nowhere");
    refused(save(m, in_folder("nowhere/model"), NULL), CLF_NOT_FOUND, "nowhere");
    assert_int_equal(entries_of(folder), before);

    /* a folder with anything else in it, or a file, stays as it is */
    assert_int_equal(mkdir(path, 0777), 0);
    fclose(fopen(other, "w"));
    refused(save(m, path, NULL), CLF_INVALID_ARGUMENT, "holds thesis.tex");
    refused(save_adapter(m, path, NULL), CLF_INVALID_ARGUMENT, "holds thesis.tex");
    refused(save_adapter(m, other, NULL), CLF_INVALID_ARGUMENT, "expected a folder");
    assert_int_equal(entries_of(path), 1);
    unlink(other);
    assert_ok(ctx, save_adapter(m, in_folder("refused///"), NULL)); /* empty */
    assert_ok(ctx, save_adapter(m, path, NULL));                    /* its own */
    assert_int_equal(entries_of(path), 2);
    assert_int_equal(entries_of(folder), before + 1);
    remove_all(path);

    /* what isn't finite */
    const float nan = NAN, huge = 1e6f;
    clf_tensor *w = &plain->layers[1].weight[CLF_W_FFN_NORM];
    clf_tensor element = clf_view_of(w, 1, (const int64_t[]){1}, NULL, 3);
    assert_ok(ctx, clf_tensor_write(&element, &huge, sizeof huge));
    refused(save(plain, path, "f16"), CLF_NOT_FINITE, "model.layers.1.post_attention_layernorm.weight");
    assert_ok(ctx, clf_tensor_write(&element, &nan, sizeof nan));
    refused(save(plain, path, NULL), CLF_NOT_FINITE, "model.layers.1.post_attention_layernorm.weight");
    element = clf_view_of(&m->layers[0].lora[CLF_W_UP].b, 1, (const int64_t[]){1}, NULL, 5);
    assert_ok(ctx, clf_tensor_write(&element, &nan, sizeof nan));
    refused(save(m, path, NULL), CLF_NOT_FINITE, "model.layers.0.mlp.up_proj.weight");
    refused(save_adapter(m, path, NULL), CLF_NOT_FINITE, "layers.0.mlp.up_proj.lora_B.weight");
    refused(save_adapter(m, in_folder("refused.gguf"), NULL), CLF_NOT_FINITE, "blk.0.ffn_up.weight.lora_b");
    assert_int_equal(entries_of(folder), before);
    clf_model_destroy(plain);
    clf_model_destroy(m);
    clf_context_destroy(ctx);
}

/* The file size limit stands for a full disk: what was there before stays, and nothing else. */
static void test_full_disk(void **state) {
    (void)state;
    clf_context *ctx = open_context("cpu", 0);
    struct rlimit old;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    signal(SIGXFSZ, SIG_IGN);
    for (int gguf = 0; gguf < 2; gguf++) {
        char base[128];
        const char *model = in_folder(gguf ? "full.gguf" : "full"),
                   *adapter = in_folder(gguf ? "full-adapter.gguf" : "full-adapter");
        int64_t n;
        base_path(base, 0, gguf);
        clf_model *m = load(ctx, base, "golden/adapters/llama");
        float *want = logits_of(ctx, m, &n);
        assert_ok(ctx, save(m, model, NULL));
        assert_ok(ctx, save_adapter(m, adapter, NULL));
        const int before = entries_of(folder);
        for (rlim_t limit = 0; limit < 20000; limit = limit ? limit * 5 : 16) {
            assert_int_equal(setrlimit(RLIMIT_FSIZE, &(struct rlimit){limit, old.rlim_max}), 0);
            const clf_status st = save(m, model, NULL), st_adapter = save_adapter(m, adapter, NULL);
            assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
            assert_int_equal(st, CLF_IO_ERROR);
            assert_int_equal(st_adapter, CLF_IO_ERROR);
            assert_int_equal(entries_of(folder), before);
        }
        same_logits(ctx, model, NULL, want, n, 1e-5);
        same_logits(ctx, base, adapter, want, n, 1e-6);
        free(want);
        clf_model_destroy(m);
    }
    clf_context_destroy(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_folders_that_cannot_be), cmocka_unit_test(test_misuse),
                                       cmocka_unit_test(test_full_disk)};
    return cmocka_run_group_tests_name("model_save_refused", tests, make_folder, remove_folder);
}
