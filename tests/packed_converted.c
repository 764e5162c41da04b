/* packed_converted.c: quantised models from one format into the other: GGUFs become folders of NF4, with the codes that
 * their weights have as floats; folders of packed parts become GGUFs, which have their blocks or don't. */
#include "folder_case.h"
#include "model_case.h"

#include "../lib/model/model.h"
#include "../lib/model/nf4.h"
#include "golden.h"

#define DEFAULT_MODEL "../examples/default_model/default.gguf"

enum { TOKENS = 8 };

static clf_status save(const clf_model *m, const char *path, const char *dtype) {
    return clf_model_save(m, &(clf_model_save_args){.path = path, .dtype = dtype});
}

/* NF4 of w's floats, to be freed. */
static void *nf4_of(clf_context *ctx, const clf_tensor *w) {
    const int64_t n = clf_elements(w);
    float *values = malloc((size_t)n * sizeof *values);
    clf_error err = {0};
    assert_int_equal(w->dtype, CLF_F32);
    assert_ok(ctx, clf_tensor_read(w, values, clf_tensor_bytes(w)));
    assert_int_equal(clf_nf4_quantize(values, values, n, &err), CLF_OK);
    return values;
}

/* Of floats, and of blocks. */
static void ggufs_become_nf4(void **state) {
    (void)state;
    clf_context *ctx = open_context("cpu", 0);
    const char *const bases[] = {DEFAULT_MODEL, in_folder("blocks.gguf")};
    const char *plain = in_folder("plain"), *packed = in_folder("packed");
    assert_ok(
        ctx, clf_quantize(
                 ctx, &(clf_quantize_args){.input = bases[0], .output = bases[1], .type = "q8_0", .pure = true}, NULL));
    for (int b = 0; b < 2; b++) {
        clf_model *m = load_model(&ctx, 1, bases[b]);
        assert_ok(ctx, save(m, plain, "f32"));
        assert_ok(ctx, save(m, packed, "nf4"));
        clf_model_destroy(m);
        assert_int_equal(entries_of(packed), 4); /* with its tokenizer */
        golden_file *file = golden_open(in_folder("packed/model.safetensors"));
        assert_string_equal(golden_find(file, "model.embed_tokens.weight")->dtype, b ? "F32" : "F16");
        assert_string_equal(golden_find(file, "model.norm.weight")->dtype, b ? "F32" : "F16"); /* no two dtypes */
        golden_close(file);
        m = load_model(&ctx, 1, plain);
        clf_model *again = load_model(&ctx, 1, packed);
        assert_non_null(clf_model_tokenizer(again));
        for (int i = 0; i < m->config.n_layers; i++)
            for (int id = 0; id < CLF_W_MATRICES; id++) {
                const clf_tensor *q = &again->layers[i].weight[id];
                const size_t bytes = clf_tensor_bytes(q);
                void *want = nf4_of(ctx, &m->layers[i].weight[id]), *got = malloc(bytes);
                assert_int_equal(q->dtype, CLF_NF4);
                assert_ok(ctx, clf_tensor_read(q, got, bytes));
                assert_memory_equal(got, want, bytes);
                free(want);
                free(got);
            }
        clf_model_destroy(again);
        clf_model_destroy(m);
    }
    clf_context_destroy(ctx);
}

static double logits_error(clf_context *ctx, const char *path, golden_file *expect) {
    float got[TOKENS * VOCAB], *want = golden_floats(golden_find(expect, "logits"));
    int32_t *ids = golden_ints(golden_find(expect, "input_ids"));
    clf_model *m = load_model(&ctx, 1, path);
    clf_session *s = open_session(ctx, &(clf_session_args){.model = m});
    assert_ok(ctx, clf_session_eval(s, ids, TOKENS, CLF_LOGITS_ALL, got));
    clf_session_destroy(s);
    clf_model_destroy(m);
    const double error = difference(got, want, TOKENS * VOCAB);
    free(ids);
    free(want);
    return error;
}

/* Blocks that GGUF has go as they are, rows in its order; NF4 has to become floats. `logits`: how far they may be off,
 * as in packed.c. */
static void folders_become_ggufs(void **state) {
    (void)state;
    static const struct {
        const char *name;
        clf_dtype query;
        double logits;
    } cases[] = {{"gptq", CLF_Q4_0, 2e-2},      {"gptq-zeros", CLF_Q5_0, 5e-6}, {"gptq-v2", CLF_Q5_0, 5e-6},
                 {"gptq-order", CLF_F16, 2e-3}, {"awq", CLF_Q5_0, 5e-6},        {"nf4", CLF_NF4, 5e-6},
                 {"nf4-floats", CLF_NF4, 5e-6}};
    clf_context *ctx = open_context("cpu", 0);
    const char *path = in_folder("model.gguf");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char from[128], golden[160];
        snprintf(from, sizeof from, "golden/packed/%s", cases[i].name);
        snprintf(golden, sizeof golden, "%s/expect.safetensors", from);
        golden_file *expect = golden_open(golden);
        assert_non_null(expect);
        clf_model *m = load_model(&ctx, 1, from);
        const bool nf4 = cases[i].query == CLF_NF4;
        assert_int_equal(save(m, path, "nf4"), CLF_UNSUPPORTED);
        assert_non_null(strstr(clf_error_message(ctx), "a GGUF has no nf4"));
        assert_int_equal(save(m, path, NULL), nf4 ? CLF_UNSUPPORTED : CLF_OK);
        if (nf4) {
            assert_non_null(strstr(clf_error_message(ctx), "weight: a GGUF has no nf4: expected a dtype"));
            assert_int_equal(access(path, F_OK), -1);
            assert_ok(ctx, save(m, path, "f32"));
        }
        clf_model_destroy(m);
        m = load_model(&ctx, 1, path);
        assert_int_equal(m->layers[0].weight[CLF_W_QUERY].dtype, nf4 ? CLF_F32 : cases[i].query);
        clf_model_destroy(m);
        const double error = logits_error(ctx, path, expect);
        print_message("%s: logits off by %.1e\n", cases[i].name, error);
        assert_true(error <= cases[i].logits);
        golden_close(expect);
        assert_int_equal(unlink(path), 0);
    }
    clf_context_destroy(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(ggufs_become_nf4), cmocka_unit_test(folders_become_ggufs)};
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
