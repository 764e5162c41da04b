/* model_save.c: what a model saves, loads again: adapters beside their base, in both formats and from both kinds of
 * base, to the bit where nothing had to be folded; merged models with the adapter's logits; blocks as they were. */
#include "model_save_case.h"

/* Saved from either base, in either format, loaded beside either base. Of the same kind of base a PEFT adapter gives
 * the same bits; a GGUF adapter has one alpha, so that B may round differently. */
static void test_adapters(void **state) {
    (void)state;
    clf_context *ctx = open_context("cpu", 0);
    for (int i = 0; i < 2; i++)
        for (int from = 0; from < 2; from++) {
            char base[128], golden[128];
            const char *peft = in_folder("peft"), *gguf = in_folder("adapter.gguf");
            int64_t n;
            base_path(base, i, from);
            snprintf(golden, sizeof golden, "golden/adapters/%s", names[i]);
            clf_model *m = load(ctx, base, golden);
            float *want = logits_of(ctx, m, &n);
            assert_ok(ctx, clf_model_save_adapter(m, &(clf_adapter_save_args){.path = peft, .base_model = base}));
            assert_ok(ctx, clf_model_save_adapter(m, &(clf_adapter_save_args){.path = gguf}));
            clf_model_destroy(m);
            for (int to = 0; to < 2; to++) {
                base_path(base, i, to);
                same_logits(ctx, base, peft, want, n, to == from ? 0 : 1e-6);
                same_logits(ctx, base, gguf, want, n, 1e-6);
            }
            free(want);
        }
    clf_context_destroy(ctx);
    assert_int_equal(entries_of(folder), 2);
}

/* Float tensors of `path` are those of `exact`, F32, rounded to `dtype`; vectors too, or not. */
static void rounded_once(const char *path, const char *exact, clf_dtype dtype, bool vectors) {
    clf_model_file *x, *y;
    clf_error err = {0};
    assert_int_equal(clf_model_file_open(&x, &(clf_model_file_args){.path = path}, &err), CLF_OK);
    assert_int_equal(clf_model_file_open(&y, &(clf_model_file_args){.path = exact}, &err), CLF_OK);
    assert_int_equal(clf_model_file_count(x), clf_model_file_count(y));
    for (int64_t i = 0; i < clf_model_file_count(x); i++) {
        const clf_file_tensor *t = clf_model_file_at(x, i), *f = clf_model_file_find(y, t->name);
        const bool rounds = vectors || t->ndim > 1;
        assert_non_null(f);
        assert_int_equal(f->dtype, CLF_F32);
        assert_int_equal(t->dtype, rounds ? dtype : CLF_F32);
        for (uint64_t j = 0; j < f->nbytes / 4; j++) {
            float v;
            uint16_t got;
            memcpy(&v, (const char *)f->data + 4 * j, 4);
            if (rounds) memcpy(&got, (const char *)t->data + 2 * j, 2);
            if (rounds)
                assert_int_equal(got, dtype == CLF_F16 ? clf_f32_to_f16(v) : clf_f32_to_bf16(v));
            else
                assert_memory_equal((const char *)t->data + 4 * j, &v, 4);
        }
    }
    clf_model_file_close(x);
    clf_model_file_close(y);
}

/* A random adapter's products are as large as the weights, which 1e-5 allows for. */
static void test_merged(void **state) {
    (void)state;
    clf_context *ctx = open_context("cpu", 0);
    for (int i = 0; i < 2; i++)
        for (int gguf = 0; gguf < 2; gguf++) {
            char base[128], golden[128];
            const char *path = in_folder(gguf ? "merged.gguf" : "merged"),
                       *rounded = in_folder(gguf ? "rounded.gguf" : "rounded");
            int64_t n;
            base_path(base, i, gguf);
            snprintf(golden, sizeof golden, "golden/adapters/%s", names[i]);
            clf_model *m = load(ctx, base, golden);
            float *want = logits_of(ctx, m, &n);
            assert_ok(ctx, clf_model_save(m, &(clf_model_save_args){.path = path}));
            same_logits(ctx, path, NULL, want, n, 1e-5);
            assert_ok(ctx, clf_model_save(m, &(clf_model_save_args){.path = rounded, .dtype = "bf16"}));
            rounded_once(rounded, path, CLF_BF16, !gguf);
            assert_ok(ctx, clf_model_save(m, &(clf_model_save_args){.path = rounded, .dtype = "f16"}));
            rounded_once(rounded, path, CLF_F16, !gguf);
            clf_model_destroy(m);
            clf_model_info info;
            m = load(ctx, rounded, NULL);
            assert_ok(ctx, clf_model_get_info(m, &info));
            assert_int_equal(info.weight_dtype, CLF_F16);
            clf_model_destroy(m);
            free(want);
        }
    clf_context_destroy(ctx);
}

/* Every golden model, saved as it is, has the same logits to the bit; a folder becomes a GGUF and a GGUF a folder. */
static void test_unchanged(void **state) {
    (void)state;
    static const char *const models[] = {"llama-bias", "llama3",        "mistral",      "qwen2",
                                         "qwen3",      "phi3-longrope", "qwen2-window", "gemma2",
                                         "gemma3",     "llama-yarn",    "phi3-short",   "llama-linear"};
    clf_context *ctx = open_context("cpu", 0);
    for (size_t i = 0; i < sizeof models / sizeof *models; i++)
        for (int gguf = 0; gguf < 2; gguf++) {
            char base[128];
            int64_t n;
            snprintf(base, sizeof base, gguf ? "golden/gguf/%s.gguf" : "golden/models/%s", models[i]);
            clf_model *m = load(ctx, base, NULL);
            float *want = logits_of(ctx, m, &n);
            const char *path = in_folder(gguf ? "again.gguf" : "again");
            assert_ok(ctx, clf_model_save(m, &(clf_model_save_args){.path = path}));
            same_logits(ctx, path, NULL, want, n, 0);
            path = in_folder(gguf ? "converted" : "converted.gguf");
            assert_ok(ctx, clf_model_save(m, &(clf_model_save_args){.path = path}));
            clf_model_destroy(m);
            same_logits(ctx, path, NULL, want, n, 2e-6);
            if (gguf) assert_int_equal(entries_of(path), 2);
            free(want);
        }
    clf_context_destroy(ctx);
}

/* Parts of a fused matrix that were adapted apart, one of them not at all. */
static void test_block_diagonal(void **state) {
    (void)state;
    clf_context *ctx = open_context("cpu", 0);
    for (int gguf = 0; gguf < 2; gguf++) {
        char base[128];
        const char *peft = in_folder("diagonal"), *file = in_folder("diagonal.gguf");
        int64_t n;
        base_path(base, 1, gguf);
        clf_model *m = load(ctx, base, "golden/adapters/phi3");
        clf_layer *l = &m->layers[1];
        clf_lora_release(&l->lora[CLF_W_KEY]);
        l->lora[CLF_W_KEY] = (clf_lora){0};
        clf_lora *value = &l->lora[CLF_W_VALUE];
        float a[1024];
        const size_t bytes = clf_tensor_bytes(&value->a);
        assert_true(bytes <= sizeof a);
        assert_ok(ctx, clf_tensor_read(&value->a, a, bytes));
        for (size_t i = 0; i < bytes / sizeof *a; i++) a[i] *= i % 3 ? 0.5f : -1.5f;
        assert_ok(ctx, clf_tensor_write(&value->a, a, bytes));
        value->scale *= 0.75f;
        float *want = logits_of(ctx, m, &n);
        assert_ok(ctx, clf_model_save_adapter(m, &(clf_adapter_save_args){.path = peft}));
        assert_ok(ctx, clf_model_save_adapter(m, &(clf_adapter_save_args){.path = file}));
        clf_model_destroy(m);
        same_logits(ctx, base, peft, want, n, 1e-6);
        same_logits(ctx, base, file, want, n, 1e-6);
        free(want);
    }
    clf_context_destroy(ctx);
}

/* A rank-2 adapter on one matrix of the tiny model, some values from a seed. */
static void adapt(clf_context *ctx, clf_model *m, int layer, clf_weight id) {
    const clf_tensor *w = &m->layers[layer].weight[id];
    clf_lora *l = &m->layers[layer].lora[id];
    const clf_tensor_args a = {.ndim = 2, .shape = {2, w->shape[1]}}, b = {.ndim = 2, .shape = {w->shape[0], 2}};
    float values[2 * TINY_VOCAB];
    uint32_t random = 99;
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        random = random * 1664525u + 1013904223u;
        values[i] = ((float)(random >> 8) / 8388608.f - 1) * 0.3f;
    }
    assert_ok(ctx, clf_tensor_init(&l->a, ctx, &a));
    assert_ok(ctx, clf_tensor_init(&l->b, ctx, &b));
    assert_ok(ctx, clf_tensor_write(&l->a, values, clf_tensor_bytes(&l->a)));
    assert_ok(ctx, clf_tensor_write(&l->b, values + 7, clf_tensor_bytes(&l->b)));
    l->scale = 1.5f;
    m->lora_rank = 2;
}

static void test_blocks(void **state) {
    (void)state;
    const char *q8 = in_folder("q8.gguf"), *out = in_folder("q8-again.gguf");
    clf_context *ctx = open_context("cpu", 0);
    write_q8(q8);
    clf_model *m = load(ctx, q8, NULL);
    assert_ok(ctx, clf_model_save(m, &(clf_model_save_args){.path = out}));
    clf_gguf *x, *y;
    clf_error err = {0};
    assert_int_equal(clf_gguf_open(&x, &(clf_model_file_args){.path = q8}, &err), CLF_OK);
    assert_int_equal(clf_gguf_open(&y, &(clf_model_file_args){.path = out}, &err), CLF_OK);
    assert_int_equal(clf_gguf_tensor_count(x), clf_gguf_tensor_count(y));
    for (int64_t i = 0; i < clf_gguf_tensor_count(x); i++) {
        const clf_file_tensor *s = clf_gguf_tensor(x, i), *t = clf_gguf_tensor(y, i);
        assert_string_equal(s->name, t->name);
        assert_int_equal(s->dtype, t->dtype);
        assert_int_equal(s->nbytes, t->nbytes);
        assert_memory_equal(s->data, t->data, s->nbytes);
    }
    clf_gguf_close(x);
    clf_gguf_close(y);

    adapt(ctx, m, 1, CLF_W_DOWN);
    assert_int_equal(clf_model_save(m, &(clf_model_save_args){.path = out}), CLF_UNSUPPORTED);
    assert_non_null(strstr(clf_error_message(ctx), "blk.1.ffn_down.weight"));
    assert_non_null(strstr(clf_error_message(ctx), "q8_0"));
    assert_ok(ctx, clf_model_save(m, &(clf_model_save_args){.path = out, .dtype = "F32"}));
    static float w[TINY_HIDDEN * TINY_FFN], got[TINY_HIDDEN * TINY_FFN];
    float a[2 * TINY_FFN], b[2 * TINY_HIDDEN];
    const clf_layer *l = &m->layers[1];
    clf_tensor decoded;
    assert_ok(ctx, clf_tensor_init(&decoded, ctx, &(clf_tensor_args){.ndim = 2, .shape = {TINY_HIDDEN, TINY_FFN}}));
    assert_ok(ctx, clf_convert(ctx, &(clf_convert_args){.x = &l->weight[CLF_W_DOWN], .out = &decoded}));
    assert_ok(ctx, clf_tensor_read(&decoded, w, sizeof w));
    assert_ok(ctx, clf_tensor_read(&l->lora[CLF_W_DOWN].a, a, sizeof a));
    assert_ok(ctx, clf_tensor_read(&l->lora[CLF_W_DOWN].b, b, sizeof b));
    clf_tensor_release(&decoded);
    clf_model_destroy(m);
    m = load(ctx, out, NULL);
    assert_int_equal(m->layers[1].weight[CLF_W_DOWN].dtype, CLF_F32);
    assert_ok(ctx, clf_tensor_read(&m->layers[1].weight[CLF_W_DOWN], got, sizeof got));
    for (int i = 0; i < TINY_HIDDEN; i++)
        for (int k = 0; k < TINY_FFN; k++) {
            const double sum = (double)b[2 * i] * a[k] + (double)b[2 * i + 1] * a[TINY_FFN + k];
            const double want = w[i * TINY_FFN + k] + 1.5 * sum;
            if (fabs(got[i * TINY_FFN + k] - want) > 1e-7)
                fail_msg("[%d, %d]: %g, expected %g", i, k, (double)got[i * TINY_FFN + k], want);
        }
    clf_model_destroy(m);
    clf_context_destroy(ctx);
}

/* A weight that a trainer keeps in F32 of its own goes where the file's was. */
static void test_trained(void **state) {
    (void)state;
    clf_context *ctx = open_context("cpu", 0);
    const char *const bases[] = {"golden/models/phi3", "golden/gguf/llama.gguf"};
    for (int i = 0; i < 2; i++) {
        clf_model *m = load(ctx, bases[i], NULL);
        clf_tensor *w = &m->layers[0].weight[CLF_W_UP], *e = &m->embedding, trained[2];
        const clf_tensor *const old[] = {w, e};
        for (int j = 0; j < 2; j++) {
            const size_t bytes = (size_t)clf_elements(old[j]) * sizeof(float);
            float *values = malloc(bytes);
            assert_ok(ctx, clf_tensor_read(old[j], values, bytes));
            for (size_t k = 0; k < bytes / sizeof *values; k++) values[k] += 0.01f * (float)(k % 7);
            assert_ok(ctx,
                      clf_tensor_init(&trained[j], ctx,
                                      &(clf_tensor_args){.ndim = 2, .shape = {old[j]->shape[0], old[j]->shape[1]}}));
            assert_ok(ctx, clf_tensor_write(&trained[j], values, bytes));
            free(values);
        }
        clf_tensor_release(w);
        clf_tensor_release(e);
        *w = trained[0];
        *e = trained[1];
        int64_t n;
        float *want = logits_of(ctx, m, &n);
        const char *path = in_folder(i ? "trained.gguf" : "trained");
        assert_ok(ctx, save(m, path, NULL));
        clf_model_destroy(m);
        same_logits(ctx, path, NULL, want, n, 0);
        free(want);
    }
    clf_context_destroy(ctx);
}

/* A model in memory; and its file gone while only its description would be read again. */
static void test_sources(void **state) {
    (void)state;
    const char *path = in_folder("tiny.gguf");
    tiny_gguf tiny = tiny_gguf_make();
    clf_context *ctx = open_context("cpu", 0);
    clf_model *m;
    int64_t n;
    assert_ok(ctx,
              clf_model_load(
                  &m, &(clf_model_args){.data = tiny.data, .data_size = tiny.size, .contexts = &ctx, .n_contexts = 1}));
    float *want = logits_of(ctx, m, &n);
    assert_ok(ctx, save(m, path, NULL));
    clf_model_destroy(m);
    free(tiny.data);
    same_logits(ctx, path, NULL, want, n, 0);
    m = load(ctx, path, NULL);
    assert_non_null(clf_model_tokenizer(m)); /* its keys came along */
    adapt(ctx, m, 0, CLF_W_QUERY);
    assert_ok(ctx, save(m, path, NULL)); /* over the file that it is mapped from */
    float *adapted = logits_of(ctx, m, &n);
    same_logits(ctx, path, NULL, adapted, n, 1e-6);
    assert_true(difference(adapted, want, n) > 1e-3);
    clf_model_destroy(m);
    free(want);
    free(adapted);
    clf_context_destroy(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_adapters),  cmocka_unit_test(test_merged),
                                       cmocka_unit_test(test_unchanged), cmocka_unit_test(test_block_diagonal),
                                       cmocka_unit_test(test_blocks),    cmocka_unit_test(test_trained),
                                       cmocka_unit_test(test_sources)};
    return cmocka_run_group_tests_name("model_save", tests, make_folder, remove_folder);
}
