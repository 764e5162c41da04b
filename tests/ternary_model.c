/* ternary_model.c: models whose ternary matrices are repacked, or become tiles on CPUs: logits, saving, training; and
 * files of T2 and T1. All on every device there is. */
#include "folder_case.h"
#include "model_case.h"

#include "../lib/model/estimate.h"
#include "../lib/model/gguf_write.h"
#include "../lib/model/model.h"
#include "op_case.h"

static bool has_opencl(void) {
    clf_context *ctx;
    const bool has = clf_context_create(&ctx, &(clf_context_args){.device = "opencl"}) == CLF_OK;
    clf_context_destroy(ctx);
    if (!has) print_message("skipped: there is no OpenCL device\n");
    return has;
}

enum { HIDDEN = 256, FFN = 512, LAYERS = 2, WORDS = 64, PROMPT = 20, TOKENS = PROMPT + 3 };

static clf_error err;

/* One tensor of the model: a matrix of a block of `dtype`, of which so many of ten tiles are empty; else random floats.
 */
static void *tensor_data(op_run *run, const clf_file_tensor *t, int empty) {
    const int64_t n = clf_file_elements(t), k = t->ndim > 1 ? t->shape[1] : 1;
    uint8_t *data = malloc((size_t)t->nbytes);
    assert_non_null(data);
    if (t->dtype == CLF_F32) {
        for (int64_t i = 0; i < n; i++) {
            const float v = (float)(t->ndim > 1 ? op_random(run) - 0.5 : 0.8 + 0.4 * op_random(run));
            memcpy(data + 4 * i, &v, sizeof v);
        }
        return data;
    }
    const int values = clf_dtype_block_values(t->dtype);
    const size_t block = clf_dtype_block_bytes(t->dtype);
    op_random_blocks(run, t->dtype, n, 0.03, data); /* what blocks add is about as large as what they add to */
    if (empty < 0) return data;                     /* scales of blocks, all codes */
    for (int64_t r = 0; r < t->shape[0]; r++)       /* a scale a row */
        for (int64_t b = 0; b < k / values; b++) {
            uint8_t *at = data + (size_t)(r * (k / values) + b) * block,
                    *first = data + (size_t)(r * (k / values)) * block;
            if (t->dtype == CLF_Q2_0)
                memcpy(at, first, 2);
            else
                memcpy(at + block - 2, first + block - 2, 2);
        }
    for (int64_t tile = 0; t->dtype == CLF_Q2_0 && tile < n / 256; tile++) {
        if (op_random_int(run, 10) >= empty) continue;
        const int64_t row = tile / (k / 16) * 16, column = tile % (k / 16) * 16;
        for (int64_t r = row; r < row + 16; r++)
            memset(data + (size_t)(r * (k / 64) + column / 64) * 18 + 2 + column % 64 / 4, 0x55, 4);
    }
    return data;
}

static void write_model(const char *path, clf_dtype dtype, int empty) {
    static const struct {
        const char *name;
        int rows, columns;
    } block[] = {{"attn_norm", HIDDEN, 0},       {"attn_q", HIDDEN, HIDDEN},      {"attn_k", HIDDEN / 2, HIDDEN},
                 {"attn_v", HIDDEN / 2, HIDDEN}, {"attn_output", HIDDEN, HIDDEN}, {"ffn_norm", HIDDEN, 0},
                 {"ffn_gate", FFN, HIDDEN},      {"ffn_up", FFN, HIDDEN},         {"ffn_down", HIDDEN, FFN}};
    enum { EACH = sizeof block / sizeof *block, COUNT = 2 + LAYERS * EACH };
    static char names[COUNT][CLF_WEIGHT_NAME_SIZE];
    clf_file_tensor t[COUNT] = {{.name = "token_embd.weight", .dtype = CLF_F32, .ndim = 2, .shape = {WORDS, HIDDEN}},
                                {.name = "output_norm.weight", .dtype = CLF_F32, .ndim = 1, .shape = {HIDDEN}}};
    clf_gguf_writer *w;
    assert_int_equal(clf_gguf_writer_create(&w, path, &err), CLF_OK);
    assert_int_equal(clf_gguf_write_string(w, "general.architecture", "llama", &err), CLF_OK);
    const struct {
        const char *key;
        uint32_t value;
    } keys[] = {{"llama.context_length", 128},     {"llama.embedding_length", HIDDEN},
                {"llama.block_count", LAYERS},     {"llama.feed_forward_length", FFN},
                {"llama.attention.head_count", 4}, {"llama.attention.head_count_kv", 2},
                {"llama.vocab_size", WORDS}};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        assert_int_equal(clf_gguf_write_u32(w, keys[i].key, keys[i].value, &err), CLF_OK);
    assert_int_equal(clf_gguf_write_f32(w, "llama.attention.layer_norm_rms_epsilon", 1e-5f, &err), CLF_OK);
    for (int i = 0; i < COUNT; i++) {
        if (i >= 2) {
            const int b = (i - 2) % EACH;
            snprintf(names[i], sizeof names[i], "blk.%d.%s.weight", (i - 2) / EACH, block[b].name);
            t[i] = (clf_file_tensor){.name = names[i],
                                     .dtype = block[b].columns ? dtype : CLF_F32,
                                     .ndim = block[b].columns ? 2 : 1,
                                     .shape = {block[b].rows, block[b].columns}};
        }
        t[i].nbytes = (uint64_t)clf_dtype_bytes(t[i].dtype, clf_file_elements(&t[i]));
        assert_int_equal(clf_gguf_write_tensor(w, &t[i], &err), CLF_OK);
    }
    op_run run = {.random = 3};
    for (int i = 0; i < COUNT; i++) {
        void *data = tensor_data(&run, &t[i], empty);
        assert_int_equal(clf_gguf_write_data(w, i, data, t[i].nbytes, &err), CLF_OK);
        free(data);
    }
    assert_int_equal(clf_gguf_writer_finish(w, &err), CLF_OK);
    clf_gguf_writer_destroy(w);
}

static clf_model *load(clf_context *ctx, const char *path, bool keep_layout) {
    clf_model *m;
    assert_ok(ctx,
              clf_model_load(
                  &m, &(clf_model_args){
                          .path = path, .mmap = true, .contexts = &ctx, .n_contexts = 1, .keep_layout = keep_layout}));
    return m;
}

/* Logits of a prompt and of tokens after it. */
static void evaluate(clf_context *ctx, clf_model *m, float *logits) {
    int32_t ids[TOKENS];
    for (int i = 0; i < TOKENS; i++) ids[i] = i * 7 % WORDS;
    clf_session *s = open_session(ctx, &(clf_session_args){.model = m});
    assert_ok(ctx, clf_session_eval(s, ids, PROMPT, CLF_LOGITS_ALL, logits));
    for (int i = PROMPT; i < TOKENS; i++)
        assert_ok(ctx, clf_session_eval(s, ids + i, 1, CLF_LOGITS_ALL, logits + i * WORDS));
    clf_session_destroy(s);
}

static size_t read_all(const char *path, uint8_t *out, size_t capacity) {
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    const size_t n = fread(out, 1, capacity, f);
    fclose(f);
    return n;
}

/* Logits of the rows of a file by the CPU. */
static void evaluate_on_cpu(const char *path, float *logits) {
    clf_context *ctx = open_context("cpu", 0);
    clf_model *m = load(ctx, path, true);
    evaluate(ctx, m, logits);
    clf_model_destroy(m);
    clf_context_destroy(ctx);
}

/* Bytes of the weights of a file, as they are planned for a context. */
static uint64_t estimate(const clf_context *ctx, const char *path) {
    clf_model_file *file;
    clf_weight_bytes embedding, output;
    assert_int_equal(clf_model_file_open(&file, &(clf_model_file_args){.path = path, .mmap = true}, &err), CLF_OK);
    clf_estimate_ends(&embedding, &output, file);
    uint64_t bytes = output.all; /* tied */
    for (int i = 0; i < LAYERS; i++) bytes += clf_estimate_block(file, i, ctx->backend).all;
    clf_model_file_close(file);
    return bytes;
}

static void check_model(const char *device, clf_dtype dtype, int empty, bool tiles) {
    static float want[TOKENS * WORDS], got[TOKENS * WORDS], by_cpu[TOKENS * WORDS];
    static uint8_t before[1 << 20], after[1 << 20];
    const char *path = in_folder("model.gguf"), *again = in_folder("again.gguf");
    write_model(path, dtype, empty);
    evaluate_on_cpu(path, by_cpu);
    clf_context *ctx = open_context(device, 0);
    const bool host = ctx->backend->host;
    clf_model *kept = load(ctx, path, true);
    clf_memory_stats stats;
    clf_model_estimate said;
    assert_ok(ctx, clf_memory_get_stats(ctx, &stats));
    const size_t in_place = stats.tag_asked[CLF_TAG_WEIGHTS];
    assert_int_equal(kept->layers[0].weight[CLF_W_UP].dtype, dtype);
    evaluate(ctx, kept, want);
    assert_ok(ctx, clf_model_save(kept, &(clf_model_save_args){.path = again}));
    const size_t n = read_all(again, before, sizeof before);
    clf_model_destroy(kept);

    clf_model *m = load(ctx, path, false);
    for (int i = 0; i < LAYERS; i++)
        for (int id = 0; id < CLF_W_MATRICES; id++) {
            const bool base3 = ctx->backend->ternary == CLF_T1 && dtype == CLF_TQ1_0;
            assert_int_equal(clf_tiles_are_there(&m->layers[i].tiles[id]), tiles);
            if (!tiles) assert_int_equal(m->layers[i].weight[id].dtype, base3 ? CLF_T1 : CLF_T2);
        }
    evaluate(ctx, m, got);
    const double error = difference(got, want, TOKENS * WORDS); /* of activations rounded by other groups */
    const double apart = difference(got, by_cpu, TOKENS * WORDS);
    print_message("%s %s%s: logits %.4f, from the CPU's %.4f\n", device, clf_dtype_name(dtype), tiles ? " tiles" : "",
                  error, apart);
    assert_true(error < 0.05 && apart < 0.05); /* a row or a scale elsewhere makes it 0.5 and more */
    assert_true(!host || error > 0);
    assert_ok(ctx, clf_memory_get_stats(ctx, &stats));
    if (host)
        assert_true(stats.tag_asked[CLF_TAG_WEIGHTS] > in_place);
    else
        assert_int_equal(stats.tag_asked[CLF_TAG_WEIGHTS], estimate(ctx, path));
    assert_int_equal(clf_estimate_model(&said, NULL, &(clf_model_estimate_args){.path = path}), CLF_OK);
    if (!tiles && !strcmp(device, "cpu"))
        assert_true(stats.tag_asked[CLF_TAG_WEIGHTS] <= said.weights &&
                    said.weights < stats.tag_asked[CLF_TAG_WEIGHTS] * 2);

    clf_trainer *trainer;
    assert_int_equal(clf_trainer_create(&trainer, &(clf_trainer_args){.model = m, .tokens = 16}), CLF_UNSUPPORTED);
    assert_non_null(strstr(clf_error_message(ctx), "keep_layout"));
    assert_ok(ctx, clf_model_save(m, &(clf_model_save_args){.path = again}));
    assert_int_equal(read_all(again, after, sizeof after), n);
    assert_memory_equal(before, after, n);
    assert_ok(ctx, clf_model_save(m, &(clf_model_save_args){.path = again, .dtype = "f32"}));
    clf_model_destroy(m);

    m = load(ctx, again, false);
    evaluate(ctx, m, got);
    assert_true(difference(got, want, TOKENS * WORDS) < 0.05);
    clf_model_destroy(m);
    clf_context_destroy(ctx);
}

static void models(void **state) {
    (void)state;
    static const char *const devices[] = {"cpu", "cpu-scalar", "opencl"};
    for (int d = 0; d < 3; d++) {
        const bool device = !strcmp(devices[d], "opencl");
        if (device && !has_opencl()) continue;
        check_model(devices[d], CLF_TQ2_0, -1, false);
        check_model(devices[d], CLF_TQ1_0, -1, false);
        check_model(devices[d], CLF_Q2_0, 0, false);
        check_model(devices[d], CLF_Q2_0, 9, !device);
    }
}

static clf_status quantize(clf_context *ctx, const char *from, const char *to, const char *type) {
    return clf_quantize(ctx, &(clf_quantize_args){.input = from, .output = to, .type = type}, NULL);
}

static void refuses(clf_context *ctx, const char *path, bool keep_layout, clf_status status, const char *why) {
    clf_model *m;
    const clf_model_args args = {
        .path = path, .mmap = true, .contexts = &ctx, .n_contexts = 1, .keep_layout = keep_layout};
    assert_int_equal(clf_model_load(&m, &args), status);
    assert_non_null(strstr(clf_error_message(ctx), why));
}

static void check_same_panels(clf_context *ctx, const clf_tensor *a, const clf_tensor *b) {
    static uint8_t bytes[2][FFN * HIDDEN];
    const size_t n = clf_tensor_bytes(a);
    assert_ok(ctx, clf_tensor_read(a, bytes[0], n));
    assert_ok(ctx, clf_tensor_read(b, bytes[1], n));
    assert_memory_equal(bytes[0], bytes[1], n);
}

/* A file of T2 or T1 is used as it lies, on other devices than CPUs as T2, with the bits that repacking at load gives,
 * and can become rows again. */
static void check_repacked(const char *device, const char *path, const char *panels, const char *again,
                           clf_dtype layout) {
    static float want[TOKENS * WORDS], got[TOKENS * WORDS];
    clf_memory_stats stats;
    clf_context *ctx = open_context(device, 0);
    const bool host = ctx->backend->host;
    const bool to_t2 = layout == CLF_T1;
    if (!host) layout = CLF_T2;
    clf_model *rows = load(ctx, path, false);
    const bool same = rows->layers[0].weight[CLF_W_UP].dtype == layout;
    evaluate(ctx, rows, want);
    assert_ok(ctx, clf_memory_get_stats(ctx, &stats));
    const size_t before = stats.in_use;
    clf_model *m = load(ctx, panels, false);
    assert_ok(ctx, clf_memory_get_stats(ctx, &stats));
    assert_true(stats.in_use == before || !host);
    for (int id = 0; id < CLF_W_MATRICES; id++) {
        const clf_tensor *w = &m->layers[LAYERS - 1].weight[id], *made = &rows->layers[LAYERS - 1].weight[id];
        assert_int_equal(w->dtype, layout);
        assert_true(!host || (uintptr_t)clf_data(w) % 64 == 0);
        if (same) check_same_panels(ctx, w, made);
    }
    evaluate(ctx, m, got);
    assert_true(difference(got, want, TOKENS * WORDS) < 1e-5);
    if (same) assert_memory_equal(got, want, sizeof want);
    assert_ok(ctx, clf_model_save(m, &(clf_model_save_args){.path = again}));
    clf_model_destroy(m);
    clf_model_destroy(rows);
    m = load(ctx, again, false);
    evaluate(ctx, m, got);
    assert_memory_equal(got, want, sizeof want);
    clf_model_destroy(m);
    clf_context *cpu = open_context("cpu", 0);
    assert_ok(cpu, quantize(cpu, panels, again, to_t2 ? "t2" : "f32"));
    clf_context_destroy(cpu);
    m = load(ctx, again, false);
    evaluate(ctx, m, got);
    assert_true(difference(got, want, TOKENS * WORDS) < 0.05);
    clf_model_destroy(m);
    refuses(ctx, panels, true, CLF_UNSUPPORTED, "repacked for inference");
    clf_context_destroy(ctx);
}

/* A GGUF whose only matrix has so many rows, perhaps other than those it was written with. */
static void write_matrix(const char *path, int64_t rows) {
    clf_gguf_writer *w;
    enum { ROWS_WRITTEN = 16 };
    clf_file_tensor t = {.name = "blk.0.ffn_up.weight", .dtype = CLF_T1, .ndim = 2, .shape = {24, HIDDEN}};
    static uint8_t bytes[8192];
    assert_int_equal(clf_gguf_writer_create(&w, path, &err), CLF_OK);
    assert_int_equal(clf_gguf_write_tensor(w, &t, &err), CLF_INVALID_ARGUMENT);
    t.shape[0] = ROWS_WRITTEN;
    assert_int_equal(clf_gguf_write_tensor(w, &t, &err), CLF_OK);
    assert_int_equal(clf_gguf_write_data(w, 0, bytes, ROWS_WRITTEN * 54, &err), CLF_OK);
    assert_int_equal(clf_gguf_writer_finish(w, &err), CLF_OK);
    clf_gguf_writer_destroy(w);
    const size_t n = read_all(path, bytes, sizeof bytes);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    for (size_t i = 24; i + 8 < n; i++) { /* the second of two dimensions, columns first */
        const int64_t shape[2] = {HIDDEN, ROWS_WRITTEN};
        if (!memcmp(bytes + i, shape, sizeof shape)) memcpy(bytes + i + 8, &rows, sizeof rows);
    }
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static void check_repacked_refusals(const char *path, const char *panels, const char *again) {
    clf_context *ctx = open_context("cpu", 0);
    const clf_quantize_override one = {"blk.0.ffn_up.weight", CLF_Q8_0}, own = {"blk.0.ffn_up.weight", CLF_T1};
    clf_quantize_args args = {.input = path, .output = again, .type = "t2", .overrides = &one, .n_overrides = 1};
    remove(again);
    assert_int_equal(clf_quantize(ctx, &args, NULL), CLF_INVALID_ARGUMENT);
    assert_non_null(strstr(clf_error_message(ctx), "t2 only repacks"));
    args.type = "q8_0", args.overrides = &own;
    assert_int_equal(clf_quantize(ctx, &args, NULL), CLF_INVALID_ARGUMENT);
    write_model(path, CLF_TQ2_0, -1);
    assert_int_equal(quantize(ctx, path, again, "t1"), CLF_INVALID_ARGUMENT);
    assert_non_null(strstr(clf_error_message(ctx), "t1 can't hold the value 2"));
    write_model(path, CLF_Q8_0, -1);
    assert_int_equal(quantize(ctx, path, again, "t2"), CLF_UNSUPPORTED);
    assert_non_null(strstr(clf_error_message(ctx), "expected a model with ternary matrices"));
    assert_int_not_equal(access(again, F_OK), 0);

    static uint8_t bytes[1 << 20];
    const size_t n = read_all(panels, bytes, sizeof bytes);
    FILE *f = fopen(again, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n - 4096, f), n - 4096);
    assert_int_equal(fclose(f), 0);
    refuses(ctx, again, false, CLF_BAD_FILE, "");
    write_matrix(again, 8);
    refuses(ctx, again, false, CLF_BAD_FILE, "multiple of 16 rows");
    clf_context_destroy(ctx);
}

static void repacked_files(void **state) {
    (void)state;
    static const char *const devices[] = {"cpu", "cpu-avx512", "cpu-avx2", "cpu-scalar", "opencl"};
    const char *path = in_folder("model.gguf"), *panels = in_folder("panels.gguf"), *again = in_folder("again.gguf");
    clf_context *ctx = open_context("cpu", 0);
    static const struct {
        clf_dtype dtype, layout;
    } cases[] = {{CLF_TQ1_0, CLF_T1}, {CLF_TQ1_0, CLF_T2}, {CLF_TQ2_0, CLF_T2}};
    for (int i = 0; i < 3; i++) {
        write_model(path, cases[i].dtype, -1);
        assert_ok(ctx, quantize(ctx, path, panels, clf_dtype_name(cases[i].layout)));
        for (int d = 0; d < 5; d++) {
            clf_context *there = NULL;
            if (clf_context_create(&there, &(clf_context_args){.device = devices[d]}) != CLF_OK) continue;
            clf_context_destroy(there);
            check_repacked(devices[d], path, panels, again, cases[i].layout);
        }
    }
    clf_context_destroy(ctx);
    check_repacked_refusals(path, panels, again);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(models, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(repacked_files, make_folder, remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
