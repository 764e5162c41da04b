/* kv_cache.c: quantised caches against those of floats, on every table: what is encoded, sizes, logits, eviction,
 * forks, files, and what is refused. */
#include "folder_case.h"
#include "model_case.h"

#include <unistd.h>

#include "../lib/model/session.h"

#define DEFAULT "../examples/default_model/default.gguf"

enum { MOST_VOCAB = 1024, TOKENS = 96, PROMPT = 80 };

static const clf_dtype dtypes[] = {CLF_F16, CLF_BF16, CLF_Q8_0, CLF_Q4_0};
enum { DTYPES = 4 };

/* How far logits may be off, as dtypes[]: of random weights, whose attention is sharper than a model's, and of the
 * default model. */
static const double of_random[DTYPES] = {2e-3, 1e-2, 3e-2, 0.5}, of_default[DTYPES] = {1e-3, 8e-3, 5e-3, 0.1};

typedef struct use {
    clf_context *ctx;
    clf_model *model;
    int64_t vocab;
    int32_t ids[TOKENS];
} use;

static bool usable(const char *device) {
    clf_device_info infos[32];
    int n = 0;
    clf_devices(infos, 32, &n);
    for (int i = 0; i < n && i < 32; i++)
        if (infos[i].usable && !strncmp(infos[i].name, device, strlen(device))) return true;
    return false;
}

/* The model on a device, and ids: of a text where it has a tokenizer. */
static use open_use(const char *device, const char *path) {
    static const char text[] = "Once upon a time there was a little dog who lived in a house by the sea. Every day he "
                               "went to play with his friend, the cat. One day they found a big red ball in the "
                               "garden. They were very happy and played with the ball until it was dark. Then his "
                               "mother called him, and he said good night to the cat and went home to sleep.";
    use u = {.ctx = open_context(device, 0)};
    clf_model_info info;
    size_t n = 0;
    u.model = load_model(&u.ctx, 1, path);
    assert_ok(u.ctx, clf_model_get_info(u.model, &info));
    u.vocab = info.vocab_size;
    assert_true(u.vocab <= MOST_VOCAB);
    const clf_tokenizer *t = clf_model_tokenizer(u.model);
    make_ids(u.ids, TOKENS, 21);
    if (t) clf_tokenize(t, text, strlen(text), CLF_TOKENIZE_ADD_SPECIAL, u.ids, TOKENS, &n);
    return u;
}

static void close_use(use *u) {
    clf_model_destroy(u->model);
    clf_context_destroy(u->ctx);
}

static clf_session *session(const use *u, clf_session_args args) {
    args.model = u->model;
    return open_session(u->ctx, &args);
}

/* Logits of all tokens: the prompt in chunks, the rest one by one. */
static void run(const use *u, clf_dtype kv, float *logits) {
    clf_session *s = session(u, (clf_session_args){.kv_dtype = kv, .context_length = TOKENS, .chunk = 37});
    assert_ok(u->ctx, clf_session_eval(s, u->ids, PROMPT, CLF_LOGITS_ALL, logits));
    for (int i = PROMPT; i < TOKENS; i++)
        assert_ok(u->ctx, clf_session_eval(s, u->ids + i, 1, CLF_LOGITS_LAST, logits + i * u->vocab));
    clf_session_destroy(s);
}

static void logits_are_near(void **state) {
    (void)state;
    static const char *const devices[] = {"cpu-scalar", "cpu-avx2", "cpu-neon", "cpu-avx512", "opencl"};
    static const char *const models[] = {DEFAULT, "golden/models/llama-wide", "golden/models/gemma2-wide"};
    static float want[TOKENS * MOST_VOCAB], got[TOKENS * MOST_VOCAB];
    for (int d = 0; d < 5; d++)
        for (int m = 0; usable(devices[d]) && m < 3; m++) {
            use u = open_use(devices[d], models[m]);
            run(&u, CLF_F32, want);
            print_message("%-10s %s:", devices[d], models[m]);
            for (int t = 0; t < DTYPES; t++) {
                run(&u, dtypes[t], got);
                const double error = difference(got, want, TOKENS * u.vocab);
                print_message(" %s %.2e", clf_dtype_name(dtypes[t]), error);
                assert_true(error > 0 && error <= (m ? of_random : of_default)[t]);
            }
            print_message("\n");
            close_use(&u);
        }
}

static void sizes_are_as_blocks_say(void **state) {
    (void)state;
    use u = open_use("cpu", DEFAULT);
    uint64_t bytes[DTYPES];
    for (int t = 0; t < DTYPES; t++) {
        clf_memory_stats before, after;
        assert_ok(u.ctx, clf_memory_get_stats(u.ctx, &before));
        clf_session *s = session(&u, (clf_session_args){.kv_dtype = dtypes[t], .context_length = 512});
        assert_ok(u.ctx, clf_memory_get_stats(u.ctx, &after));
        bytes[t] = after.tag_asked[CLF_TAG_KV_CACHE] - before.tag_asked[CLF_TAG_KV_CACHE];
        clf_session_destroy(s);
    }
    assert_int_equal(bytes[0], bytes[1]);
    assert_int_equal(bytes[2] * 64, bytes[0] * 34);
    assert_int_equal(bytes[3] * 64, bytes[0] * 18);
    assert_true((double)bytes[2] <= 0.54 * (double)bytes[0]);
    close_use(&u);
}

/* Rows of one block's keys or values: as they lie, and decoded on the device. */
static size_t read_rows(const use *u, const clf_session *s, const clf_tensor *of, int64_t first, int64_t n, void *bytes,
                        float *values) {
    const clf_tensor rows = clf_kv_cache_rows(&s->cache, of, first, n);
    clf_tensor *floats;
    clf_tensor_args args = {.ndim = 4};
    memcpy(args.shape, rows.shape, sizeof args.shape);
    assert_ok(u->ctx, clf_tensor_create(&floats, of->ctx, &args));
    assert_ok(u->ctx, clf_convert(of->ctx, &(clf_convert_args){.x = &rows, .out = floats}));
    assert_ok(u->ctx, clf_tensor_read(floats, values, clf_tensor_bytes(floats)));
    assert_ok(u->ctx, clf_tensor_read(&rows, bytes, clf_tensor_bytes(&rows)));
    clf_tensor_destroy(floats);
    return clf_tensor_bytes(&rows);
}

enum { ROWS = 6, COLUMNS = 32 * 64, EDGES = 64 };

/* Values of every size, ties, zeros of both signs, all alike; by dtype's own rounding. */
static void fill(void *out, clf_dtype dtype) {
    uint32_t seed = 5;
    for (int i = 0; i < ROWS * COLUMNS; i++) {
        seed = seed * 1664525u + 1013904223u;
        const int block = i / 32 % EDGES, j = i % 32;
        float v = ((float)(seed >> 8) / (1 << 23) - 1) * (float)ldexp(1, block % 30 - 20);
        if (block == 0) v = j % 2 ? -0.0F : 0;
        if (block == 1) v = -0.0F;
        if (block == 2) v = (float)(j - 16) / 2; /* halves of the steps */
        if (block == 3) v = j % 3 ? 127 : (float)j + 0.5F;
        if (block == 4) v = j % 2 ? 5 : -5; /* which of them is first decides */
        if (block == 5) v = j % 2 ? -3 : 3;
        if (block == 6) v = 1e-7F * (float)j; /* scales that no half holds */
        if (dtype == CLF_F32)
            ((float *)out)[i] = v;
        else
            ((uint16_t *)out)[i] = dtype == CLF_F16 ? clf_f32_to_f16(v) : clf_f32_to_bf16(v);
    }
}

/* Blocks of the middle two of four heads' rows, made from every other row of x. */
static void encode(const char *device, clf_dtype from, clf_dtype to, const void *x, void *out, size_t bytes) {
    clf_context *ctx = open_context(device, 0);
    const int64_t shape[] = {2, ROWS / 2, COLUMNS / 2};
    clf_tensor *in, *blocks, *in_view, *view;
    memset(out, 0x55, bytes);
    assert_ok(ctx,
              clf_tensor_create(&in, ctx, &(clf_tensor_args){.dtype = from, .ndim = 1, .shape = {ROWS * COLUMNS}}));
    assert_ok(ctx, clf_tensor_write(in, x, clf_tensor_bytes(in)));
    assert_ok(ctx,
              clf_tensor_create(&blocks, ctx, &(clf_tensor_args){.dtype = to, .ndim = 1, .shape = {ROWS * COLUMNS}}));
    assert_int_equal(clf_tensor_bytes(blocks), bytes);
    assert_ok(ctx, clf_tensor_write(blocks, out, bytes));
    assert_ok(ctx, clf_tensor_view(&in_view, in, 3, shape, (int64_t[]){COLUMNS / 2, 2 * COLUMNS, 1}, 0));
    assert_ok(ctx, clf_tensor_view(&view, blocks, 3, shape, (int64_t[]){2 * COLUMNS, COLUMNS / 2, 1}, COLUMNS));
    assert_ok(ctx, clf_convert(ctx, &(clf_convert_args){.x = in_view, .out = view}));
    assert_ok(ctx, clf_tensor_read(blocks, out, bytes));
    clf_tensor_destroy(view);
    clf_tensor_destroy(in_view);
    clf_tensor_destroy(blocks);
    clf_tensor_destroy(in);
    clf_context_destroy(ctx);
}

/* Whose bytes on CPUs are ggml's (encode.c). */
static void devices_encode_alike(void **state) {
    (void)state;
    if (!usable("opencl")) skip();
    static float x[ROWS * COLUMNS];
    static uint8_t got[ROWS * COLUMNS * 2], want[ROWS * COLUMNS * 2];
    for (int t = 2; t < DTYPES; t++)
        for (int d = CLF_F32; d <= CLF_BF16; d++) {
            const size_t bytes = clf_dtype_bytes(dtypes[t], ROWS * COLUMNS);
            fill(x, (clf_dtype)d);
            encode("cpu-scalar", (clf_dtype)d, dtypes[t], x, want, bytes);
            encode("opencl", (clf_dtype)d, dtypes[t], x, got, bytes);
            assert_memory_equal(got, want, bytes);
        }
}

/* A device can't say where a number isn't finite: the block's scale isn't one either. */
static void what_is_not_finite_stays_so(void **state) {
    (void)state;
    if (!usable("opencl")) skip();
    clf_context *ctx = open_context("opencl", 0);
    float values[96] = {[3] = NAN, [40] = INFINITY, [70] = 1};
    clf_tensor *x, *blocks, *other;
    assert_ok(ctx, clf_tensor_create(&x, ctx, &(clf_tensor_args){.ndim = 1, .shape = {96}}));
    for (int t = 2; t < DTYPES; t++) {
        assert_ok(ctx,
                  clf_tensor_create(&blocks, ctx, &(clf_tensor_args){.dtype = dtypes[t], .ndim = 1, .shape = {96}}));
        assert_ok(ctx, clf_tensor_write(x, values, sizeof values));
        assert_ok(ctx, clf_convert(ctx, &(clf_convert_args){.x = x, .out = blocks}));
        assert_ok(ctx, clf_convert(ctx, &(clf_convert_args){.x = blocks, .out = x}));
        float back[96];
        assert_ok(ctx, clf_tensor_read(x, back, sizeof back));
        for (int i = 0; i < 96; i++) assert_true(i < 64 ? isnan(back[i]) : fabsf(back[i] - values[i]) < 1e-3F);
        assert_int_equal(clf_convert(ctx, &(clf_convert_args){.x = x, .importance = x, .out = blocks}),
                         CLF_UNSUPPORTED);
        clf_tensor_destroy(blocks);
    }
    assert_ok(ctx, clf_tensor_create(&other, ctx, &(clf_tensor_args){.dtype = CLF_Q5_0, .ndim = 1, .shape = {96}}));
    assert_int_equal(clf_convert(ctx, &(clf_convert_args){.x = x, .out = other}), CLF_UNSUPPORTED);
    assert_non_null(strstr(clf_error_message(ctx), "q5_0"));
    clf_tensor_destroy(other);
    clf_tensor_destroy(x);
    clf_context_destroy(ctx);
}

enum { BYTES = 1 << 16, VALUES = 1 << 15 };

/* The first layer's keys and values, which no rounding precedes, are clf_convert() of those of a float cache. */
static void rows_are_encoded(void **state) {
    (void)state;
    static const char *const devices[] = {"cpu", "opencl"};
    static char got[BYTES], want[BYTES];
    static float values[VALUES];
    for (int d = 0; d < 2; d++)
        for (int t = 2; usable(devices[d]) && t < DTYPES; t++) {
            use u = open_use(devices[d], "golden/models/llama-wide");
            clf_session *s = session(&u, (clf_session_args){.kv_dtype = dtypes[t]}),
                        *f = session(&u, (clf_session_args){0});
            assert_ok(u.ctx, clf_session_eval(s, u.ids, 40, CLF_LOGITS_NONE, NULL));
            assert_ok(u.ctx, clf_session_eval(f, u.ids, 40, CLF_LOGITS_NONE, NULL));
            for (int v = 0; v < 2; v++) {
                const clf_tensor rows = clf_kv_cache_rows(&f->cache, v ? &f->cache.value[0] : &f->cache.key[0], 0, 40);
                clf_tensor *blocks;
                clf_tensor_args args = {.dtype = dtypes[t], .ndim = 4};
                memcpy(args.shape, rows.shape, sizeof args.shape);
                assert_ok(u.ctx, clf_tensor_create(&blocks, u.ctx, &args));
                assert_ok(u.ctx, clf_convert(u.ctx, &(clf_convert_args){.x = &rows, .out = blocks}));
                assert_ok(u.ctx, clf_tensor_read(blocks, want, clf_tensor_bytes(blocks)));
                const size_t n = read_rows(&u, s, v ? &s->cache.value[0] : &s->cache.key[0], 0, 40, got, values);
                assert_int_equal(n, clf_tensor_bytes(blocks));
                assert_memory_equal(got, want, n);
                clf_tensor_destroy(blocks);
            }
            clf_session_destroy(f);
            clf_session_destroy(s);
            close_use(&u);
        }
}

/* Filled to the end, then evicted once: the first layer's keys are, but for a second rounding, those of a session that
 * got only the tokens kept; values, and the keys that stay in place, are to the bit what they were. */
static void eviction_turns_blocks(void **state) {
    (void)state;
    static const char *const devices[] = {"cpu", "opencl"};
    static const char *const models[] = {DEFAULT, "golden/models/llama-wide", "golden/models/gemma2-wide"};
    static const double off[DTYPES] = {1e-3, 8e-3, 1.2e-2, 0.2};
    static char before[2][BYTES], after[2][BYTES];
    static float got[VALUES], want[VALUES];
    enum { CAPACITY = 80, KEEP = 5 };
    for (int d = 0; d < 2; d++)
        for (int m = 0; usable(devices[d]) && m < 3; m++) {
            use u = open_use(devices[d], models[m]);
            for (int t = 0; t < DTYPES; t++) {
                int32_t kept[CAPACITY];
                clf_session_args args = {.kv_dtype = dtypes[t], .context_length = CAPACITY};
                clf_session *fresh = session(&u, args);
                args.evict = true;
                args.keep = KEEP;
                clf_session *s = session(&u, args);
                const clf_tensor *key = &s->cache.key[0], *value = &s->cache.value[0];
                assert_ok(u.ctx, clf_session_eval(s, u.ids, CAPACITY, CLF_LOGITS_NONE, NULL));
                read_rows(&u, s, key, 0, CAPACITY, before[0], got);
                read_rows(&u, s, value, 0, CAPACITY, before[1], got);
                assert_ok(u.ctx, clf_session_eval(s, u.ids + CAPACITY, 1, CLF_LOGITS_NONE, NULL));
                const int64_t rows = s->cache.rows, dropped = s->cache.evicted;
                assert_true(dropped == (CAPACITY - KEEP + 1) / 2 && rows == CAPACITY + 1 - dropped);
                memcpy(kept, u.ids, KEEP * sizeof *kept);
                memcpy(kept + KEEP, u.ids + KEEP + dropped, (size_t)(rows - KEEP) * sizeof *kept);
                assert_ok(u.ctx, clf_session_eval(fresh, kept, rows, CLF_LOGITS_NONE, NULL));

                read_rows(&u, s, key, 0, rows, after[0], got);
                read_rows(&u, fresh, &fresh->cache.key[0], 0, rows, after[1], want);
                const double error = difference(got, want, key->shape[0] * rows * key->shape[2]);
                print_message("%s %s %s: keys off by %.2e\n", devices[d], models[m], clf_dtype_name(dtypes[t]), error);
                assert_true(error > 0 && error < off[t]);
                read_rows(&u, s, value, 0, rows, after[1], got);
                for (int v = 0; v < 2; v++) {
                    const clf_tensor *of = v ? value : key;
                    const size_t row = clf_tensor_bytes(of) / (size_t)(of->shape[0] * CAPACITY);
                    for (int64_t h = 0; h < of->shape[0]; h++)
                        for (int64_t r = 0; r < (v ? rows - 1 : KEEP); r++) {
                            const int64_t from = r < KEEP ? r : r + dropped;
                            assert_memory_equal(after[v] + (size_t)(h * rows + r) * row,
                                                before[v] + (size_t)(h * CAPACITY + from) * row, row);
                        }
                }
                clf_session_destroy(fresh);
                clf_session_destroy(s);
            }
            close_use(&u);
        }
}

static void last_logits(const use *u, clf_session *s, const int32_t *ids, int64_t n, float *logits) {
    assert_ok(u->ctx, clf_session_eval(s, ids, n, CLF_LOGITS_LAST, logits));
}

/* A session rewound, forked and from a file goes on to the bit as one that never left. */
static void sessions_go_on(void **state) {
    (void)state;
    static const char *const devices[] = {"cpu", "opencl"};
    static float want[MOST_VOCAB], got[MOST_VOCAB];
    const char *path = in_folder("session");
    for (int d = 0; d < 2; d++)
        for (int t = 0; usable(devices[d]) && t < DTYPES; t++) {
            use u = open_use(devices[d], "golden/models/llama-wide");
            const clf_session_args args = {.kv_dtype = dtypes[t], .context_length = 64};
            clf_session *s = session(&u, args), *other = session(&u, args), *fork;
            last_logits(&u, s, u.ids, 30, want);
            assert_ok(u.ctx, clf_session_fork(&fork, s));
            assert_ok(u.ctx, clf_session_save(s, path));
            last_logits(&u, s, u.ids + 30, 7, want);
            last_logits(&u, fork, u.ids + 30, 7, got);
            assert_memory_equal(got, want, (size_t)u.vocab * sizeof *got);
            assert_ok(u.ctx, clf_session_load(other, path));
            last_logits(&u, other, u.ids + 30, 7, got);
            assert_memory_equal(got, want, (size_t)u.vocab * sizeof *got);
            assert_ok(u.ctx, clf_session_rewind(s, 30));
            last_logits(&u, s, u.ids + 30, 7, got);
            assert_memory_equal(got, want, (size_t)u.vocab * sizeof *got);
            clf_session_destroy(other);
            other = session(&u, (clf_session_args){.kv_dtype = dtypes[(t + 1) % DTYPES], .context_length = 64});
            assert_int_equal(clf_session_load(other, path), CLF_INVALID_ARGUMENT);
            clf_session_destroy(other);
            clf_session_destroy(fork);
            clf_session_destroy(s);
            close_use(&u);
        }
}

static void heads_of_parts_of_blocks_are_refused(void **state) {
    (void)state;
    use u = open_use("cpu", "golden/models/llama"); /* 12 wide */
    clf_session *s;
    clf_model_estimate e;
    char message[256];
    for (int t = 2; t < DTYPES; t++) {
        assert_int_equal(clf_session_create(&s, &(clf_session_args){.model = u.model, .kv_dtype = dtypes[t]}),
                         CLF_UNSUPPORTED);
        assert_null(s);
        assert_non_null(strstr(clf_error_message(u.ctx), "expected a head_dim that is a multiple of 32, got 12"));
        const clf_model_estimate_args args = {
            .path = "golden/models/llama", .kv_dtype = dtypes[t], .error = message, .error_size = sizeof message};
        assert_int_equal(clf_estimate_model(&e, NULL, &args), CLF_UNSUPPORTED);
        assert_non_null(strstr(message, "multiple of 32"));
    }
    static const clf_dtype never[] = {CLF_Q4_1, CLF_NF4, CLF_I8, CLF_DTYPE_COUNT};
    for (int i = 0; i < 4; i++)
        assert_int_equal(clf_session_create(&s, &(clf_session_args){.model = u.model, .kv_dtype = never[i]}),
                         CLF_INVALID_ARGUMENT);
    close_use(&u);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_are_near),
        cmocka_unit_test(sizes_are_as_blocks_say),
        cmocka_unit_test(devices_encode_alike),
        cmocka_unit_test(what_is_not_finite_stays_so),
        cmocka_unit_test(rows_are_encoded),
        cmocka_unit_test(eviction_turns_blocks),
        cmocka_unit_test_setup_teardown(sessions_go_on, make_folder, remove_folder),
        cmocka_unit_test(heads_of_parts_of_blocks_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
