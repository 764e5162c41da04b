/* quantize.c: clf_quantize(): what is written is what the report says, for every type, with overrides and with rows
 * that aren't whole blocks. */
#define _GNU_SOURCE
#include "quantize_case.h"

/* A key of a GGUF; -1 where it has none. */
static int64_t key_of(const char *path, const char *key) {
    clf_error err = {0};
    clf_gguf *g;
    int64_t value = -1;
    assert_int_equal(clf_gguf_open(&g, &(clf_model_file_args){.path = path, .metadata_only = true}, &err), CLF_OK);
    clf_gguf_get_i64(g, key, &value);
    clf_gguf_close(g);
    return value;
}

/* Logits of a model for twelve ids, to be freed. */
static float *logits_of(clf_context *ctx, const char *path) {
    int32_t ids[12];
    make_ids(ids, 12, 7);
    clf_model *m = load_model(&ctx, 1, path);
    float *logits = malloc(12 * VOCAB * sizeof *logits);
    clf_session *s = open_session(ctx, &(clf_session_args){.model = m, .context_length = 12});
    assert_ok(ctx, clf_session_eval(s, ids, 12, CLF_LOGITS_ALL, logits));
    clf_session_destroy(s);
    clf_model_destroy(m);
    return logits;
}

/* Relative errors of normal weights: quantisation.md's bounds, a little above what is met. Random layers enlarge them.
 */
static void test_types(void **state) {
    (void)state;
    static const struct {
        const char *type;
        int file_type;
        double error;
    } types[] = {{"f32", 0, 0},        {"f16", 1, 0},         {"bf16", 32, 0.002},  {"q8_0", 7, 0.0055},
                 {"q4_0", 2, 0.09},    {"q4_1", 3, 0.09},     {"q5_0", 8, 0.045},   {"q5_1", 9, 0.045},
                 {"mxfp4", 38, 0.12},  {"q6_k", 18, 0.02},    {"q5_k", 17, 0.04},   {"q5_k_s", 16, 0.04},
                 {"q4_k", 15, 0.075},  {"q4_k_s", 14, 0.075}, {"q3_k_s", 11, 0.17}, {"q3_k_m", 12, 0.17},
                 {"q3_k_l", 13, 0.17}, {"q2_k", 10, 0.3},     {"q2_k_s", 21, 0.3},  {"iq4_nl", 25, 0.085},
                 {"iq4_xs", 30, 0.085}};
    clf_context *ctx = open_context("cpu", 0);
    const char *from = in_folder("source.gguf"), *to = in_folder("written.gguf");
    quantize_make(from, &wide);
    float *want = logits_of(ctx, from);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        report r = {0};
        clf_quantize_result result;
        const clf_quantize_args args = {.input = from, .output = to, .type = types[i].type};
        assert_ok(ctx, quantize(ctx, args, &r, &result));
        check_file(ctx, from, to, &r, types[i].type);
        for (int k = 0; k < r.count; k++)
            if (r.of[k].t.relative_error > types[i].error)
                fail_msg("%s, %s: error %g", types[i].type, r.of[k].name, r.of[k].t.relative_error);
        assert_int_equal(key_of(to, "general.file_type"), types[i].file_type);
        assert_int_equal(key_of(to, "general.quantization_version"), i < 3 ? -1 : 2);
        assert_int_equal(key_of(to, "llama.block_count"), 2);
        float *got = logits_of(ctx, to);
        const double error = difference(got, want, 12 * VOCAB);
        if (!(error <= 8 * types[i].error + 1e-6)) fail_msg("%s: logits differ by %g", types[i].type, error);
        free(got);
        uint64_t bytes = 0;
        for (int k = 0; k < r.count; k++) bytes += r.of[k].t.bytes;
        assert_int_equal(result.bytes, bytes);
        assert_int_equal(result.fell_back, 0);
    }
    free(want);
    clf_context_destroy(ctx);
}

/* Weights that are ternary stay so; others are refused, unless asked for. */
static void test_ternary(void **state) {
    (void)state;
    static const char *const types[] = {"tq1_0", "tq2_0", "q2_0"};
    clf_context *ctx = open_context("cpu", 0);
    quantize_model trained = wide;
    trained.values = TERNARY;
    const char *from = in_folder("ternary.gguf"), *normal = in_folder("normal.gguf"), *to = in_folder("tq.gguf");
    quantize_make(from, &trained);
    quantize_make(normal, &wide);
    for (int i = 0; i < 3; i++) {
        report r = {0};
        clf_quantize_args args = {.input = from, .output = to, .type = types[i]};
        assert_ok(ctx, quantize(ctx, args, &r, NULL));
        check_file(ctx, from, to, &r, types[i]);
        const clf_quantized_tensor *t = reported(&r, "blk.1.ffn_up.weight");
        assert_true(t->ternary && t->relative_error == 0 && t->zeros > 0.3 && t->zeros < 0.37);
        assert_int_equal(reported(&r, "output.weight")->to, CLF_Q6_K);
        assert_int_equal(reported(&r, "token_embd.weight")->to, CLF_Q4_K);

        const int before = entries_of(folder);
        args.input = normal;
        args.output = in_folder("refused.gguf");
        assert_int_equal(quantize(ctx, args, &r, NULL), CLF_UNSUPPORTED);
        assert_non_null(strstr(clf_error_message(ctx), "aren't ternary"));
        assert_int_equal(entries_of(folder), before);
        args.force = true;
        assert_ok(ctx, quantize(ctx, args, &r, NULL));
        t = reported(&r, "blk.1.ffn_up.weight");
        assert_true(!t->ternary && t->relative_error > 0.5);
        unlink(args.output);
    }
    clf_context_destroy(ctx);
}

static void test_overrides(void **state) {
    (void)state;
    clf_context *ctx = open_context("cpu", 0);
    const char *from = in_folder("source.gguf"), *to = in_folder("overridden.gguf");
    report r = {0};
    quantize_make(from, &wide);
    clf_quantize_override overrides[] = {
        {"blk.0.ffn_down.weight", CLF_BF16}, {"blk.*.ffn_down.weight", CLF_Q5_1}, {"output.weight", CLF_Q4_0}};
    clf_quantize_args args = {.input = from, .output = to, .type = "q8_0", .overrides = overrides, .n_overrides = 3};
    assert_ok(ctx, quantize(ctx, args, &r, NULL));
    check_file(ctx, from, to, &r, "overrides");
    assert_int_equal(reported(&r, "blk.0.ffn_down.weight")->to, CLF_BF16);
    assert_int_equal(reported(&r, "blk.1.ffn_down.weight")->to, CLF_Q5_1);
    assert_int_equal(reported(&r, "output.weight")->to, CLF_Q4_0);
    assert_int_equal(reported(&r, "blk.1.ffn_up.weight")->to, CLF_Q8_0);
    assert_int_equal(reported(&r, "blk.1.ffn_norm.weight")->to, CLF_F32);

    overrides[1].name = "blk.*.ffn_dawn.weight";
    assert_int_equal(quantize(ctx, args, &r, NULL), CLF_INVALID_ARGUMENT);
    assert_non_null(strstr(clf_error_message(ctx), "ffn_dawn"));
    overrides[1] = (clf_quantize_override){"blk.1.*", CLF_NF4};
    assert_int_equal(quantize(ctx, args, &r, NULL), CLF_INVALID_ARGUMENT);
    overrides[1].dtype = CLF_I32;
    assert_int_equal(quantize(ctx, args, &r, NULL), CLF_INVALID_ARGUMENT);
    clf_context_destroy(ctx);
}

/* Rows of 64 and 96: whole blocks of 32, but no blocks of 256. */
static void test_rows(void **state) {
    (void)state;
    clf_context *ctx = open_context("cpu", 0);
    const char *from = in_folder("narrow.gguf"), *to = in_folder("rows.gguf");
    report r = {0};
    clf_quantize_result result;
    quantize_make(from, &narrow);
    clf_quantize_args args = {.input = from, .output = to, .type = "q4_0"};
    assert_ok(ctx, quantize(ctx, args, &r, &result));
    assert_int_equal(reported(&r, "output.weight")->to, CLF_Q8_0); /* for Q6_K */
    assert_int_equal(result.fell_back, 0);
    args.type = "q2_0"; /* blocks of 64: not of ffn_down */
    args.force = true;
    assert_ok(ctx, quantize(ctx, args, &r, &result));
    check_file(ctx, from, to, &r, "rows");
    assert_int_equal(result.fell_back, 2);
    assert_true(reported(&r, "blk.1.ffn_down.weight")->fell_back);
    assert_int_equal(reported(&r, "blk.1.ffn_down.weight")->to, CLF_F16);
    args.pure = true;
    args.output = to = in_folder("pure.gguf");
    assert_int_equal(quantize(ctx, args, &r, &result), CLF_INVALID_ARGUMENT);
    assert_non_null(strstr(clf_error_message(ctx), "blk.0.ffn_down.weight"));
    assert_int_equal(access(to, F_OK), -1);
    args.type = "q4_0";
    assert_ok(ctx, quantize(ctx, args, &r, &result));
    assert_int_equal(reported(&r, "output.weight")->to, CLF_Q4_0);
    clf_context_destroy(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_overrides), cmocka_unit_test(test_rows),
                                       cmocka_unit_test(test_ternary), cmocka_unit_test(test_types)};
    return cmocka_run_group_tests_name("quantize", tests, make_folder, remove_folder);
}
