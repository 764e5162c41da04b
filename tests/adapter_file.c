/* adapter_file.c: a PEFT folder and a GGUF made of it give the same pairs, whichever format the base has; bad adapters
 * are refused. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../lib/model/adapter_file.h"

static clf_config config_of(const char *path) {
    clf_model_file *f;
    clf_error err = {0};
    const clf_status st = clf_model_file_open(&f, &(clf_model_file_args){.path = path, .metadata_only = true}, &err);
    if (st != CLF_OK) fail_msg("%s", err.message);
    const clf_config c = *clf_model_file_config(f);
    clf_model_file_close(f);
    return c;
}

static clf_adapter_file *open_adapter(const char *path, const clf_config *base) {
    clf_adapter_file *f;
    clf_error err = {0};
    if (clf_adapter_file_open(&f, path, false, base, &err) != CLF_OK) fail_msg("%s", err.message);
    return f;
}

static float at(const clf_file_tensor *t, int64_t i) {
    float v;
    memcpy(&v, (const char *)t->data + 4 * i, 4);
    return v;
}

/* Σ over the rank is what is added to the matrix: compared element by element. */
static double delta(const clf_adapter_pair *p, int64_t row, int64_t column) {
    const int64_t rank = p->a.shape[0], k = p->a.shape[1];
    double sum = 0;
    for (int64_t r = 0; r < rank; r++) sum += (double)at(&p->b, row * rank + r) * at(&p->a, r * k + column);
    return sum * p->scale;
}

static void same(const clf_adapter_file *x, const clf_adapter_file *y) {
    assert_int_equal(clf_adapter_file_count(x), clf_adapter_file_count(y));
    for (int64_t i = 0; i < clf_adapter_file_count(x); i++) {
        const clf_adapter_pair *p = clf_adapter_file_at(x, i), *q = clf_adapter_file_find(y, p->name);
        assert_non_null(q);
        assert_int_equal(p->b.shape[0], q->b.shape[0]);
        assert_int_equal(p->a.shape[1], q->a.shape[1]);
        for (int64_t row = 0; row < p->b.shape[0]; row++)
            for (int64_t k = 0; k < p->a.shape[1]; k += 5)
                if (fabs(delta(p, row, k) - delta(q, row, k)) > 1e-6)
                    fail_msg("%s: [%lld, %lld]: %g, %g", p->name, (long long)row, (long long)k, delta(p, row, k),
                             delta(q, row, k));
    }
}

static void test_formats(void **state) {
    (void)state;
    static const char *const names[] = {"llama", "phi3"};
    for (int i = 0; i < 2; i++) {
        char path[128];
        snprintf(path, sizeof path, "golden/models/%s", names[i]);
        const clf_config hf = config_of(path);
        snprintf(path, sizeof path, "golden/gguf/%s.gguf", names[i]);
        const clf_config gguf = config_of(path);
        snprintf(path, sizeof path, "golden/adapters/%s", names[i]);
        clf_adapter_file *peft_hf = open_adapter(path, &hf), *peft_gguf = open_adapter(path, &gguf);
        snprintf(path, sizeof path, "golden/gguf/%s-adapter.gguf", names[i]);
        clf_adapter_file *gguf_hf = open_adapter(path, &hf), *gguf_gguf = open_adapter(path, &gguf);
        assert_int_equal(clf_adapter_file_count(peft_hf), 2 * 7);
        same(peft_hf, gguf_hf);
        same(peft_gguf, gguf_gguf);
        clf_adapter_file_close(peft_hf);
        clf_adapter_file_close(peft_gguf);
        clf_adapter_file_close(gguf_hf);
        clf_adapter_file_close(gguf_gguf);
    }
}

static void test_scales(void **state) {
    (void)state;
    const clf_config llama = config_of("golden/models/llama"), phi3 = config_of("golden/models/phi3");
    clf_adapter_file *f = open_adapter("golden/adapters/llama", &llama);
    assert_float_equal(clf_adapter_file_find(f, "blk.0.attn_q.weight")->scale, 8.0 / 4, 0);
    assert_float_equal(clf_adapter_file_find(f, "blk.1.attn_q.weight")->scale, 3.0 / 4, 0);   /* alpha_pattern */
    assert_float_equal(clf_adapter_file_find(f, "blk.1.ffn_down.weight")->scale, 8.0 / 2, 0); /* rank_pattern */
    assert_int_equal(clf_adapter_file_find(f, "blk.1.ffn_down.weight")->a.shape[0], 2);
    assert_null(clf_adapter_file_find(f, "blk.2.ffn_down.weight"));
    clf_adapter_file_close(f);
    f = open_adapter("golden/adapters/phi3", &phi3);
    assert_float_equal(clf_adapter_file_find(f, "blk.0.ffn_up.weight")->scale, 4 / sqrt(3), 1e-6); /* use_rslora */
    clf_adapter_file_close(f);
}

static void refused(const char *path, const clf_config *base, clf_status status, const char *part) {
    clf_adapter_file *f;
    clf_error err = {0};
    assert_int_equal(clf_adapter_file_open(&f, path, true, base, &err), status);
    assert_null(f);
    if (!strstr(err.message, part)) fail_msg("%s: expected \"%s\", got \"%s\"", path, part, err.message);
}

static void test_refusals(void **state) {
    (void)state;
    const clf_config llama = config_of("golden/models/llama"), phi3 = config_of("golden/models/phi3"),
                     qwen3 = config_of("golden/models/qwen3"), other = config_of("golden/models/mistral");
    clf_config short_llama = llama;
    short_llama.n_layers = 1;
    refused("golden/gguf/llama-adapter.gguf", &phi3, CLF_BAD_FILE, "expected the base's, phi3, got llama");
    refused("golden/gguf/llama-adapter.gguf", &other, CLF_BAD_FILE, "shape: expected");
    refused("golden/gguf/llama-adapter.gguf", &short_llama, CLF_BAD_FILE, "the base has 1 layers");
    refused("golden/adapters/llama", &qwen3, CLF_BAD_FILE, "self_attn.");
    refused("golden/gguf/llama.gguf", &llama, CLF_BAD_FILE, "general.type");
    refused("golden/models/llama", &llama, CLF_NOT_FOUND, "adapter_config.json");
    refused("golden/nothing", &llama, CLF_NOT_FOUND, "golden/nothing");
    refused("", &llama, CLF_INVALID_ARGUMENT, "path");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_formats), cmocka_unit_test(test_scales),
                                       cmocka_unit_test(test_refusals)};
    return cmocka_run_group_tests_name("adapter_file", tests, NULL, NULL);
}
