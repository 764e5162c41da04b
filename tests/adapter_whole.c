/* adapter_whole.c: embedding and output matrix trained as a whole beside an adapter: saved with it as PEFT does, loaded
 * again, merged; refused where a file can't hold them. */
#include "folder_case.h"
#include "model_case.h"

enum { TOKENS = 24 };

static void eval(clf_context *ctx, clf_model *m, float *logits) {
    int32_t ids[TOKENS];
    make_ids(ids, TOKENS, 5);
    clf_session *s = open_session(ctx, &(clf_session_args){.model = m, .context_length = TOKENS});
    assert_ok(ctx, clf_session_eval(s, ids, TOKENS, CLF_LOGITS_ALL, logits));
    clf_session_destroy(s);
}

static void train(clf_context *ctx, clf_model *m, bool embedding, bool output) {
    int32_t ids[TOKENS], labels[TOKENS], positions[TOKENS];
    const int32_t starts[] = {0, TOKENS};
    make_ids(ids, TOKENS, 7);
    for (int i = 0; i < TOKENS; i++) labels[i] = ids[(i + 1) % TOKENS], positions[i] = i;
    const clf_batch batch = {.tokens = TOKENS,
                             .sequences = 1,
                             .ids = ids,
                             .labels = labels,
                             .positions = positions,
                             .starts = starts,
                             .targets = TOKENS};
    clf_trainer *t;
    assert_ok(ctx, clf_trainer_create(&t, &(clf_trainer_args){.model = m,
                                                              .lora = {.rank = 3},
                                                              .train_embedding = embedding,
                                                              .train_output = output,
                                                              .tokens = TOKENS,
                                                              .seed = 2}));
    for (int i = 0; i < 3; i++) {
        assert_ok(ctx, clf_trainer_accumulate(t, &batch, TOKENS, NULL));
        assert_ok(ctx, clf_trainer_update(t, 1e-2F, NULL));
    }
    clf_trainer_destroy(t);
}

static double error_of(const float *got, const float *want) {
    double sum = 0, all = 0;
    for (int i = 0; i < TOKENS * VOCAB; i++) {
        sum += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        all += (double)want[i] * want[i];
    }
    return sqrt(sum / all);
}

static clf_model *load_adapted(clf_context *ctx, const char *base, const char *adapter) {
    clf_model *m;
    assert_ok(ctx, clf_model_load(
                       &m, &(clf_model_args){.path = base, .contexts = &ctx, .n_contexts = 1, .adapter = adapter}));
    return m;
}

static void saved_with_the_adapter(void **state) {
    (void)state;
    static const struct {
        const char *base;
        bool embedding, output;
    } cases[] = {{"golden/models/llama", true, true},
                 {"golden/models/llama", false, true},
                 {"golden/gguf/llama.gguf", true, false},
                 {"golden/models/gemma2", true, false}, /* tied */
                 {"golden/gguf/gemma2.gguf", false, true}};
    const char *adapter = in_folder("adapter"), *gguf = in_folder("adapter.gguf");
    clf_context *ctx = open_context("cpu", 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        static float want[TOKENS * VOCAB], got[TOKENS * VOCAB], plain[TOKENS * VOCAB];
        const char *merged = in_folder(strstr(cases[i].base, ".gguf") ? "merged.gguf" : "merged");
        clf_model *m = load_model(&ctx, 1, cases[i].base);
        eval(ctx, m, plain);
        train(ctx, m, cases[i].embedding, cases[i].output);
        eval(ctx, m, want);
        assert_true(error_of(plain, want) > 1e-3);
        assert_ok(ctx, clf_model_save_adapter(m, &(clf_adapter_save_args){.path = adapter}));
        assert_int_equal(clf_model_save_adapter(m, &(clf_adapter_save_args){.path = gguf}), CLF_UNSUPPORTED);
        assert_non_null(strstr(clf_error_message(ctx), "whole"));
        assert_int_not_equal(access(gguf, F_OK), 0);
        assert_ok(ctx, clf_model_save(m, &(clf_model_save_args){.path = merged, .dtype = "f32"}));
        clf_model_destroy(m);

        m = load_adapted(ctx, cases[i].base, adapter);
        eval(ctx, m, got);
        assert_memory_equal(got, want, sizeof want);
        assert_ok(ctx, clf_model_save_adapter(m, &(clf_adapter_save_args){.path = adapter})); /* it goes on with it */
        clf_model_destroy(m);
        m = load_adapted(ctx, cases[i].base, adapter);
        eval(ctx, m, got);
        assert_memory_equal(got, want, sizeof want);
        clf_model_destroy(m);
        m = load_model(&ctx, 1, merged);
        eval(ctx, m, got);
        assert_true(error_of(got, want) <= 5e-6);
        clf_model_destroy(m);
    }
    clf_context_destroy(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(saved_with_the_adapter, make_folder, remove_folder)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
