/* estimate.c: what clf_estimate_model() says against what the pool counted, for every golden model: weights, cache and
 * activations each, and all together with scratch. Arguments: further models, MODEL or MODEL:CONTEXT. */
#include "model_case.h"

static char **more;

/* Relative difference. */
static double off(uint64_t said, uint64_t counted) {
    return counted ? fabs((double)said - (double)counted) / (double)counted : said != 0;
}

static void compare(const char *path, int64_t context, clf_dtype kv, clf_dtype compute, int64_t chunk) {
    clf_context *ctx = open_context("cpu", 0);
    clf_model_estimate e;
    clf_model_info told, info;
    char message[512];
    clf_model_estimate_args args = {.path = path,
                                    .context_length = context,
                                    .kv_dtype = kv,
                                    .compute = compute,
                                    .chunk = chunk,
                                    .threads = clf_context_threads(ctx),
                                    .error = message,
                                    .error_size = sizeof message};
    if (clf_estimate_model(&e, &told, &args) != CLF_OK) fail_msg("%s: %s", path, message);

    clf_model *model = load_model(&ctx, 1, path);
    assert_ok(ctx, clf_model_get_info(model, &info));
    memset(told.layers_on, 0, sizeof told.layers_on);
    memset(info.layers_on, 0, sizeof info.layers_on);
    assert_memory_equal(&told, &info, sizeof info);
    clf_session *s = open_session(
        ctx, &(clf_session_args){
                 .model = model, .context_length = context, .kv_dtype = kv, .compute = compute, .chunk = chunk});
    const int64_t n = clf_session_capacity(s);
    int32_t *ids = calloc((size_t)n, sizeof *ids);
    float *logits = malloc((size_t)info.vocab_size * sizeof *logits);
    assert_ok(ctx, clf_session_eval(s, ids, n - 1, CLF_LOGITS_LAST, logits));
    assert_ok(ctx, clf_session_eval(s, ids, 1, CLF_LOGITS_LAST, logits));
    clf_memory_stats stats;
    assert_ok(ctx, clf_memory_get_stats(ctx, &stats));
    const uint64_t weights = stats.tag_peak[CLF_TAG_WEIGHTS] + stats.mapped, cache = stats.tag_peak[CLF_TAG_KV_CACHE],
                   activations = stats.tag_peak[CLF_TAG_ACTIVATIONS], scratch = stats.tag_peak[CLF_TAG_SCRATCH];
    const uint64_t said = e.weights + e.kv_cache + e.activations + e.scratch,
                   counted = weights + cache + activations + scratch;
    print_message("%-30s context %5lld: weights %+.1f %%, cache %+.1f %%, activations %+.1f %%, scratch %llu of %llu, "
                  "all %.1f %% of %.2f MB\n",
                  path, (long long)n, 100 * off(e.weights, weights), 100 * off(e.kv_cache, cache),
                  100 * off(e.activations, activations), (unsigned long long)e.scratch, (unsigned long long)scratch,
                  100 * off(said, counted), (double)counted / 1e6);
    assert_true(off(e.weights, weights) < 0.01);
    assert_int_equal(e.kv_cache, cache);
    assert_int_equal(e.activations, activations);
    assert_true(off(said, counted) <= 0.10);
    free(ids);
    free(logits);
    clf_session_destroy(s);
    clf_model_destroy(model);
    clf_context_destroy(ctx);
}

static void golden_models(void **state) {
    (void)state;
    static const char *const names[] = {"llama", "llama3", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "phi3"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[64];
        snprintf(path, sizeof path, "golden/models/%s", names[i]);
        compare(path, 0, CLF_F32, CLF_F32, 0);
        compare(path, 500, CLF_F16, CLF_BF16, 100);
        snprintf(path, sizeof path, "golden/gguf/%s.gguf", names[i]);
        compare(path, 0, CLF_F32, CLF_F32, 0);
    }
    compare("golden/models/llama-wide", 1000, CLF_Q8_0, CLF_F32, 100);
    compare("golden/models/gemma2-wide", 300, CLF_Q4_0, CLF_F16, 0);
}

static void given_models(void **state) {
    (void)state;
    for (char **m = more; *m; m++) {
        char *colon = strrchr(*m, ':');
        if (colon) *colon = 0;
        compare(*m, colon ? atoll(colon + 1) : 2048, CLF_F16, CLF_F32, 0);
    }
}

static void wrong_arguments_are_refused(void **state) {
    (void)state;
    clf_model_estimate e;
    char message[128];
    const char *const path = "golden/models/llama";
    const clf_model_estimate_args bad[] = {{.path = path, .context_length = -1},
                                           {.path = path, .context_length = INT64_MAX},
                                           {.path = path, .chunk = -1},
                                           {.path = path, .kv_dtype = CLF_I32},
                                           {.path = NULL}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        clf_model_estimate_args args = bad[i];
        args.error = message;
        args.error_size = sizeof message;
        assert_int_equal(clf_estimate_model(&e, NULL, &args), CLF_INVALID_ARGUMENT);
        assert_string_not_equal(message, "");
    }
    assert_int_equal(clf_estimate_model(&e, NULL, &(clf_model_estimate_args){.path = "/nowhere"}), CLF_NOT_FOUND);
    assert_int_equal(clf_estimate_model(NULL, NULL, &bad[0]), CLF_INVALID_ARGUMENT);
}

int main(int argc, char **argv) {
    (void)argc;
    more = argv + 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(golden_models), cmocka_unit_test(given_models),
                                       cmocka_unit_test(wrong_arguments_are_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
