/* nf4.c: NF4 with double quantisation: bitsandbytes' codes and magnitudes (golden/nf4.safetensors, by make_nf4.py),
 * error on N(0, 1), and what isn't finite. */
#include "model_case.h"

#include "../lib/core/dtype.h"
#include "../lib/model/nf4.h"
#include "golden.h"

enum { BLOCKS = 600, N = BLOCKS * CLF_NF4_VALUES };

/* The 4-bit code of value i. */
static int code_of(const uint8_t *blocks, int64_t i) {
    const uint8_t *b = blocks + i / CLF_NF4_VALUES * CLF_NF4_BYTES + sizeof(float);
    const int64_t j = i % CLF_NF4_VALUES;
    return b[j / 32 * 16 + j % 16] >> (j % 32 < 16 ? 0 : 4) & 15;
}

static void equal_to_bitsandbytes(void **state) {
    (void)state;
    golden_file *file = golden_open("golden/nf4.safetensors");
    assert_non_null(file);
    const golden_tensor *x = golden_find(file, "x"), *codes = golden_find(file, "codes"),
                        *magnitudes = golden_find(file, "absmax");
    assert_true(x && codes && magnitudes && x->elements % CLF_NF4_VALUES == 0 && codes->elements == x->elements);
    float *values = golden_floats(x), *magnitude = golden_floats(magnitudes);
    int32_t *code = golden_ints(codes);
    uint8_t *blocks = malloc((size_t)x->elements);
    clf_error err = {0};
    assert_int_equal(clf_nf4_quantize(blocks, values, x->elements, &err), CLF_OK);
    for (int64_t i = 0; i < x->elements; i++) assert_int_equal(code_of(blocks, i), code[i]);
    for (int64_t b = 0; b < magnitudes->elements; b++) {
        float got;
        memcpy(&got, blocks + b * CLF_NF4_BYTES, sizeof got);
        assert_true(fabsf(got - magnitude[b]) <= 2e-7F * fabsf(magnitude[b])); /* the mean, summed in another order */
    }
    free(values);
    free(magnitude);
    free(code);
    free(blocks);
    golden_close(file);
}

/* Quantiles of N(0, 1): relative error of 0.093 at most. */
static void error_is_small(void **state) {
    (void)state;
    float *x = malloc(N * sizeof *x);
    uint8_t *blocks = malloc(BLOCKS * CLF_NF4_BYTES);
    assert_true(x && blocks);
    uint32_t seed = 1;
    for (int i = 0; i < N; i++) {
        double sum = 0;
        for (int k = 0; k < 12; k++) sum += (double)((seed = seed * 1664525u + 1013904223u) >> 8) / (1 << 24);
        x[i] = (float)(sum - 6);
    }
    clf_error err = {0};
    assert_int_equal(clf_nf4_quantize(blocks, x, N, &err), CLF_OK);
    double above = 0, below = 0;
    for (int64_t i = 0; i < N; i++) {
        float d;
        memcpy(&d, blocks + i / CLF_NF4_VALUES * CLF_NF4_BYTES, sizeof d);
        const double e = (double)d * (double)clf_nf4_values[code_of(blocks, i)] - (double)x[i];
        above += e * e;
        below += (double)x[i] * (double)x[i];
    }
    print_message("relative error %.4f\n", sqrt(above / below));
    assert_true(sqrt(above / below) < 0.097); /* of 12 uniform numbers' sum; 0.093 of N(0, 1) itself */
    memset(x, 0, 128 * sizeof *x);
    assert_int_equal(clf_nf4_quantize(blocks, x, 128, &err), CLF_OK);
    for (int i = 0; i < 128; i++) assert_int_equal(code_of(blocks, i), 7);
    x[70] = NAN;
    assert_int_equal(clf_nf4_quantize(blocks, x, 128, &err), CLF_NOT_FINITE);
    assert_non_null(strstr(err.message, "70"));
    assert_int_equal(clf_nf4_quantize(blocks, x, 0, &err), CLF_OK);
    free(x);
    free(blocks);
}

/* The default model with NF4 matrices: memory as estimated, logits near, on the CPU and OpenCL alike. */
static void models_are_quantised(void **state) {
    (void)state;
    const char *path = "../examples/default_model/default.gguf";
    static float want[1 << 16], got[1 << 16];
    clf_model_info info;
    clf_model_estimate said, plain;
    assert_int_equal(clf_estimate_model(&plain, &info, &(clf_model_estimate_args){.path = path}), CLF_OK);
    assert_int_equal(clf_estimate_model(&said, NULL, &(clf_model_estimate_args){.path = path, .quantize = CLF_NF4}),
                     CLF_OK);
    assert_true(said.weights < plain.weights);
    int32_t ids[16];
    make_ids(ids, 16, 3);
    static const char *const devices[] = {"cpu", "cpu-scalar", "opencl"};
    for (int d = -1; d < 3; d++) { /* -1: as the file has it */
        clf_device_info infos[16];
        int n = 0;
        bool usable = d < 1;
        clf_devices(infos, 16, &n);
        for (int i = 0; i < n && i < 16; i++)
            usable |= infos[i].usable && strstr(infos[i].name, devices[d > 0 ? d : 0]);
        if (!usable) continue;
        clf_context *ctx = open_context(devices[d > 0 ? d : 0], 0);
        clf_model *m;
        const clf_model_args args = {
            .path = path, .contexts = &ctx, .n_contexts = 1, .quantize = d < 0 ? CLF_F32 : CLF_NF4};
        assert_ok(ctx, clf_model_load(&m, &args));
        clf_session *s = open_session(ctx, &(clf_session_args){.model = m});
        assert_ok(ctx, clf_session_eval(s, ids, 16, CLF_LOGITS_LAST, d < 0 ? want : got));
        if (d >= 0) {
            clf_memory_stats stats;
            assert_ok(ctx, clf_memory_get_stats(ctx, &stats));
            const double error = difference(got, want, info.vocab_size);
            print_message("%s: logits %.3f\n", devices[d], error);
            assert_true(error > 1e-4 && error < 0.5);
            if (d == 2) assert_int_equal(stats.tag_asked[CLF_TAG_WEIGHTS], said.weights);
        }
        clf_session_destroy(s);
        clf_model_destroy(m);
        clf_context_destroy(ctx);
    }
    clf_context *ctx = open_context("cpu", 0);
    clf_model *m;
    const clf_model_args args = {.path = path, .contexts = &ctx, .n_contexts = 1, .quantize = CLF_Q4_K};
    assert_int_equal(clf_model_load(&m, &args), CLF_UNSUPPORTED);
    clf_context_destroy(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(equal_to_bitsandbytes), cmocka_unit_test(error_is_small),
                                       cmocka_unit_test(models_are_quantised)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
