/* session.c: a session's contents however they came about: in chunks, one by one, rewound, forked, saved, evicted,
 * spread over contexts. Models are the golden ones. */
#include "folder_case.h"
#include "model_case.h"

#include <sys/stat.h>
#include <unistd.h>

#include "../lib/model/session.h"

#define LLAMA "golden/models/llama"

typedef struct fixture {
    clf_context *ctx;
    clf_model *model;
} fixture;

static int setup(void **state) {
    fixture *f = calloc(1, sizeof *f);
    f->ctx = open_context("cpu", 0);
    f->model = load_model(&f->ctx, 1, LLAMA);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    clf_model_destroy(f->model);
    clf_context_destroy(f->ctx);
    free(f);
    return 0;
}

static clf_session *session(const fixture *f, clf_session_args args) {
    args.model = f->model;
    return open_session(f->ctx, &args);
}

static void append(const fixture *f, clf_session *s, const int32_t *ids, int64_t n, float *logits) {
    assert_ok(f->ctx, clf_session_eval(s, ids, n, logits ? CLF_LOGITS_LAST : CLF_LOGITS_NONE, logits));
}

/* What follows must be what a fresh session gives after `ids`. */
static void assert_as_fresh(const fixture *f, clf_session *s, const int32_t *ids, int64_t n, double tolerance) {
    float got[VOCAB], want[VOCAB];
    const int32_t probe = 17;
    clf_session *fresh = session(f, (clf_session_args){.kv_dtype = s->args.kv_dtype});
    assert_int_equal(clf_session_position(s), n);
    append(f, fresh, ids, n, NULL);
    append(f, fresh, &probe, 1, want);
    append(f, s, &probe, 1, got);
    assert_true(difference(got, want, VOCAB) <= tolerance);
    assert_ok(f->ctx, clf_session_rewind(s, n));
    clf_session_destroy(fresh);
}

static void chunks_make_no_difference(void **state) {
    const fixture *f = *state;
    static const char *const models[] = {LLAMA, "golden/models/mistral", "golden/models/gemma2", "golden/models/qwen3",
                                         "golden/models/phi3"};
    int32_t ids[40];
    make_ids(ids, 40, 1);
    for (size_t m = 0; m < sizeof models / sizeof *models; m++) {
        clf_model *model = load_model(&f->ctx, 1, models[m]);
        for (int half = 0; half < 2; half++) {
            float all[40][VOCAB], chunked[40][VOCAB], one[VOCAB];
            const clf_dtype kv = half ? CLF_F16 : CLF_F32;
            const double tolerance = half ? 2e-3 : 5e-6; /* of logits, as against PyTorch */
            clf_session *a = open_session(f->ctx, &(clf_session_args){.model = model, .kv_dtype = kv});
            clf_session *b = open_session(f->ctx, &(clf_session_args){.model = model, .kv_dtype = kv, .chunk = 7});
            clf_session *c = open_session(f->ctx, &(clf_session_args){.model = model, .kv_dtype = kv});
            assert_ok(f->ctx, clf_session_eval(a, ids, 40, CLF_LOGITS_ALL, all[0]));
            assert_ok(f->ctx, clf_session_eval(b, ids, 40, CLF_LOGITS_ALL, chunked[0]));
            assert_true(difference(chunked[0], all[0], 40 * VOCAB) <= tolerance);
            for (int i = 0; i < 40; i++) {
                assert_ok(f->ctx, clf_session_eval(c, ids + i, 1, CLF_LOGITS_LAST, one));
                assert_true(difference(one, all[i], VOCAB) <= tolerance);
            }
            assert_ok(f->ctx, clf_session_clear(c)); /* the last row alone, as of all */
            assert_ok(f->ctx, clf_session_eval(c, ids, 40, CLF_LOGITS_LAST, one));
            assert_true(difference(one, all[39], VOCAB) <= tolerance);
            clf_session_destroy(a);
            clf_session_destroy(b);
            clf_session_destroy(c);
        }
        clf_model_destroy(model);
    }
}

static void rewind_forgets_the_rest(void **state) {
    const fixture *f = *state;
    int32_t ids[30], others[10];
    make_ids(ids, 30, 2);
    make_ids(others, 10, 3);
    clf_session *s = session(f, (clf_session_args){0});
    append(f, s, ids, 30, NULL);
    assert_int_equal(clf_session_rewind(s, 31), CLF_INVALID_ARGUMENT);
    assert_int_equal(clf_session_rewind(s, -1), CLF_INVALID_ARGUMENT);
    assert_as_fresh(f, s, ids, 30, 2e-6);
    assert_ok(f->ctx, clf_session_rewind(s, 12));
    assert_as_fresh(f, s, ids, 12, 2e-6);
    append(f, s, others, 10, NULL);
    memcpy(ids + 12, others, sizeof others);
    assert_as_fresh(f, s, ids, 22, 2e-6);
    assert_ok(f->ctx, clf_session_clear(s));
    assert_as_fresh(f, s, others, 0, 2e-6);
    clf_session_destroy(s);
}

static void forks_go_their_own_way(void **state) {
    const fixture *f = *state;
    int32_t ids[30], others[30];
    make_ids(ids, 30, 4);
    make_ids(others, 30, 5);
    memcpy(others, ids, 20 * sizeof *ids);
    for (int half = 0; half < 2; half++) {
        clf_session *fork, *s = session(f, (clf_session_args){.kv_dtype = half ? CLF_F16 : CLF_F32});
        append(f, s, ids, 20, NULL);
        assert_ok(f->ctx, clf_session_fork(&fork, s));
        append(f, fork, others + 20, 10, NULL);
        append(f, s, ids + 20, 10, NULL);
        assert_as_fresh(f, s, ids, 30, half ? 2e-3 : 2e-6);
        clf_session_destroy(s);
        assert_as_fresh(f, fork, others, 30, half ? 2e-3 : 2e-6);
        clf_session_destroy(fork);
    }
}

static void a_full_cache_says_so(void **state) {
    const fixture *f = *state;
    int32_t ids[30];
    make_ids(ids, 30, 6);
    clf_session *s = session(f, (clf_session_args){.context_length = 20});
    assert_int_equal(clf_session_capacity(s), 20);
    append(f, s, ids, 10, NULL);
    assert_int_equal(clf_session_eval(s, ids + 10, 11, CLF_LOGITS_NONE, NULL), CLF_FULL);
    assert_non_null(strstr(clf_error_message(f->ctx), "room for 10 of 20"));
    assert_as_fresh(f, s, ids, 10, 2e-6);
    append(f, s, ids + 10, 10, NULL);
    assert_int_equal(clf_session_eval(s, ids, 1, CLF_LOGITS_NONE, NULL), CLF_FULL);
    assert_int_equal(clf_session_position(s), 20);
    clf_session_destroy(s);
}

static void wrong_arguments_are_refused(void **state) {
    const fixture *f = *state;
    const int32_t ids[] = {1, 2, VOCAB, 3}, negative = -1;
    float logits[4 * VOCAB];
    clf_session *s = session(f, (clf_session_args){0}), *none;
    assert_int_equal(clf_session_eval(s, ids, 4, CLF_LOGITS_LAST, logits), CLF_INVALID_ARGUMENT);
    assert_string_equal(clf_error_message(f->ctx), "eval: ids[2]: expected 0 to 95, got 96");
    assert_int_equal(clf_session_eval(s, &negative, 1, CLF_LOGITS_LAST, logits), CLF_INVALID_ARGUMENT);
    assert_int_equal(clf_session_eval(s, ids, 2, CLF_LOGITS_LAST, NULL), CLF_INVALID_ARGUMENT);
    assert_int_equal(clf_session_eval(s, NULL, 2, CLF_LOGITS_NONE, NULL), CLF_INVALID_ARGUMENT);
    assert_int_equal(clf_session_eval(s, ids, -1, CLF_LOGITS_NONE, NULL), CLF_INVALID_ARGUMENT);
    assert_int_equal(clf_session_eval(s, ids, 0, CLF_LOGITS_LAST, logits), CLF_INVALID_ARGUMENT);
    assert_int_equal(clf_session_eval(s, ids, 1, (clf_logits)3, logits), CLF_INVALID_ARGUMENT);
    assert_int_equal(clf_session_eval(NULL, ids, 1, CLF_LOGITS_NONE, NULL), CLF_INVALID_ARGUMENT);
    assert_int_equal(clf_session_position(s), 0);
    assert_ok(f->ctx, clf_session_eval(s, ids, 0, CLF_LOGITS_NONE, NULL));
    clf_session_destroy(s);
    clf_session_destroy(NULL);

    const clf_session_args bad[] = {
        {.model = f->model, .context_length = -1}, {.model = f->model, .context_length = INT64_MAX},
        {.model = f->model, .chunk = -1},          {.model = f->model, .kv_dtype = CLF_I32},
        {.model = f->model, .compute = CLF_I32},   {.model = f->model, .context_length = 8, .keep = 8},
        {.model = f->model, .keep = -1},           {.model = NULL}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(clf_session_create(&none, &bad[i]), CLF_INVALID_ARGUMENT);
        assert_null(none);
    }
}

/* Rows of one block's keys or values, as floats. */
static void read_rows(const fixture *f, const clf_session *s, const clf_tensor *of, int64_t first, int64_t n,
                      float *out) {
    const clf_tensor rows = clf_kv_cache_rows(&s->cache, of, first, n);
    assert_ok(f->ctx, clf_tensor_read(&rows, out, clf_tensor_bytes(&rows)));
}

static void read_as_floats(const fixture *f, const clf_tensor *t, float *out) {
    const int64_t n = clf_tensor_elements(t);
    if (clf_tensor_dtype(t) == CLF_F32) {
        assert_ok(f->ctx, clf_tensor_read(t, out, (size_t)n * sizeof *out));
        return;
    }
    uint16_t *halves = malloc((size_t)n * sizeof *halves);
    assert_ok(f->ctx, clf_tensor_read(t, halves, (size_t)n * sizeof *halves));
    for (int64_t i = 0; i < n; i++) out[i] = clf_f16_to_f32(halves[i]);
    free(halves);
}

/* After eviction the first block's rows, which depend on token and position alone, are those of a session that got only
 * the tokens kept, and the second block's are the same vectors as before, turned to their new positions. */
static void eviction_keeps_positions_right(void **state) {
    const fixture *f = *state;
    enum { CAPACITY = 32, KEEP = 3, HEADS = 2, DIM = 12, HALF = DIM / 2 };
    int32_t ids[CAPACITY + 1], kept[CAPACITY];
    make_ids(ids, CAPACITY + 1, 7);
    clf_session *s = session(f, (clf_session_args){.context_length = CAPACITY, .evict = true, .keep = KEEP});
    append(f, s, ids, CAPACITY, NULL);
    float before[HEADS][CAPACITY][DIM], values[HEADS][CAPACITY][DIM];
    read_rows(f, s, &s->cache.key[1], 0, CAPACITY, before[0][0]);
    read_rows(f, s, &s->cache.value[1], 0, CAPACITY, values[0][0]);
    append(f, s, ids + CAPACITY, 1, NULL);
    assert_int_equal(clf_session_position(s), CAPACITY + 1);
    const int64_t dropped = s->cache.evicted, rows = s->cache.rows;
    assert_int_equal(dropped, (CAPACITY - KEEP + 1) / 2);
    assert_int_equal(rows, CAPACITY + 1 - dropped);

    memcpy(kept, ids, KEEP * sizeof *ids);
    memcpy(kept + KEEP, ids + KEEP + dropped, (size_t)(rows - KEEP) * sizeof *ids);
    clf_session *fresh = session(f, (clf_session_args){0});
    append(f, fresh, kept, rows, NULL);
    float got[HEADS * CAPACITY * DIM], want[HEADS * CAPACITY * DIM];
    read_rows(f, s, &s->cache.key[0], 0, rows, got);
    read_rows(f, fresh, &fresh->cache.key[0], 0, rows, want);
    assert_true(difference(got, want, HEADS * rows * DIM) < 1e-6);
    read_rows(f, s, &s->cache.value[0], 0, rows, got);
    read_rows(f, fresh, &fresh->cache.value[0], 0, rows, want);
    assert_true(difference(got, want, HEADS * rows * DIM) < 1e-6);
    clf_session_destroy(fresh);

    const int64_t moved = rows - 1; /* all but the new token's */
    float got_values[HEADS * CAPACITY * DIM], want_values[HEADS * CAPACITY * DIM];
    read_rows(f, s, &s->cache.key[1], 0, moved, got);
    read_rows(f, s, &s->cache.value[1], 0, moved, got_values);
    for (int h = 0; h < HEADS; h++)
        for (int64_t r = 0; r < moved; r++) {
            const int64_t from = r < KEEP ? r : r + dropped;
            float *key = want + (h * moved + r) * DIM;
            for (int i = 0; i < HALF; i++) {
                const double angle = -(double)(from - r) * pow(10000, -2.0 * i / DIM);
                const double x = before[h][from][i], y = before[h][from][i + HALF];
                key[i] = (float)(x * cos(angle) - y * sin(angle));
                key[i + HALF] = (float)(x * sin(angle) + y * cos(angle));
            }
            memcpy(want_values + (h * moved + r) * DIM, values[h][from], sizeof values[h][from]);
        }
    assert_true(difference(got, want, HEADS * moved * DIM) < 1e-6);
    assert_memory_equal(got_values, want_values, (size_t)(HEADS * moved * DIM) * sizeof *got_values);
    clf_session_destroy(s);
}

/* The same of the first block for every way to rotate: pairings, scalings, a local base; keys and values in F16 too. */
static void eviction_turns_every_rotation(void **state) {
    const fixture *f = *state;
    static const char *const models[] = {
        "golden/gguf/llama.gguf",      "golden/models/llama3", "golden/models/llama-yarn", "golden/models/llama-linear",
        "golden/models/phi3-longrope", "golden/models/gemma3", "golden/gguf/gemma2.gguf"};
    enum { CAPACITY = 48, KEEP = 5, TOKENS = 130 };
    int32_t ids[TOKENS], kept[CAPACITY];
    static float got[1 << 16], want[1 << 16];
    make_ids(ids, TOKENS, 13);
    for (size_t i = 0; i < sizeof models / sizeof *models; i++)
        for (int half = 0; half < 2; half++) {
            clf_model *model = load_model(&f->ctx, 1, models[i]);
            const clf_dtype kv = half ? CLF_F16 : CLF_F32;
            clf_session *s = open_session(f->ctx, &(clf_session_args){.model = model,
                                                                      .context_length = CAPACITY,
                                                                      .kv_dtype = kv,
                                                                      .evict = true,
                                                                      .keep = KEEP,
                                                                      .chunk = 11});
            clf_session *fresh =
                open_session(f->ctx, &(clf_session_args){.model = model, .context_length = CAPACITY, .kv_dtype = kv});
            append(f, s, ids, TOKENS, NULL);
            const int64_t rows = s->cache.rows, dropped = s->cache.evicted;
            assert_true(dropped > CAPACITY); /* more than once */
            memcpy(kept, ids, KEEP * sizeof *ids);
            memcpy(kept + KEEP, ids + KEEP + dropped, (size_t)(rows - KEEP) * sizeof *ids);
            append(f, fresh, kept, rows, NULL);
            const clf_tensor a = clf_kv_cache_rows(&s->cache, &s->cache.key[0], 0, rows);
            const clf_tensor b = clf_kv_cache_rows(&fresh->cache, &fresh->cache.key[0], 0, rows);
            const int64_t n = clf_tensor_elements(&a);
            read_as_floats(f, &a, got);
            read_as_floats(f, &b, want);
            assert_true(difference(got, want, n) < (half ? 1e-3 : 2e-6));
            clf_session_destroy(s);
            clf_session_destroy(fresh);
            clf_model_destroy(model);
        }
}

static void eviction_goes_on_and_on(void **state) {
    const fixture *f = *state;
    int32_t ids[500];
    float logits[VOCAB];
    make_ids(ids, 500, 8);
    const clf_session_args cases[] = {{.context_length = 32, .evict = true, .keep = 4, .chunk = 5},
                                      {.context_length = 32, .evict = true, .kv_dtype = CLF_F16},
                                      {.context_length = 32, .evict = true, .keep = 31},
                                      {.context_length = 1, .evict = true},
                                      {.context_length = 33, .evict = true, .keep = 16}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        clf_session *s = session(f, cases[c]);
        append(f, s, ids, 300, NULL); /* more than there is room for */
        for (int i = 300; i < 500; i++) {
            append(f, s, ids + i, 1, logits);
            assert_int_equal(clf_session_position(s), i + 1);
            for (int j = 0; j < VOCAB; j++) assert_true(isfinite(logits[j]));
            assert_in_range(s->cache.rows, 1, cases[c].context_length);
        }
        const int64_t keep = s->cache.keep, gone = keep + s->cache.evicted;
        if (s->cache.evicted)
            assert_int_equal(clf_session_rewind(s, gone - 1), gone - 1 > keep ? CLF_INVALID_ARGUMENT : CLF_OK);
        assert_ok(f->ctx, clf_session_rewind(s, keep)); /* the first ones are still there */
        assert_as_fresh(f, s, ids, keep, cases[c].kv_dtype == CLF_F16 ? 2e-3 : 2e-6);
        clf_session_destroy(s);
    }
}

static void write_file(const char *path, const void *data, size_t bytes) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
}

static void sessions_come_back_from_files(void **state) {
    const fixture *f = *state;
    int32_t ids[30];
    make_ids(ids, 30, 9);
    float logits[VOCAB], again[VOCAB];
    for (int evict = 0; evict < 2; evict++) {
        const char *path = in_folder("session");
        const clf_session_args args = {.context_length = evict ? 16 : 40, .evict = evict, .keep = 2 * evict};
        clf_session *s = session(f, args), *t = session(f, args);
        append(f, s, ids, 25, logits);
        append(f, t, ids + 5, 9, NULL);
        assert_ok(f->ctx, clf_session_save(s, path));
        assert_ok(f->ctx, clf_session_load(t, path));
        assert_int_equal(clf_session_position(t), 25);
        append(f, s, ids + 25, 5, logits);
        append(f, t, ids + 25, 5, again);
        assert_memory_equal(logits, again, sizeof logits);
        clf_session_destroy(s);
        clf_session_destroy(t);
    }
}

static void damaged_files_change_nothing(void **state) {
    const fixture *f = *state;
    int32_t ids[12];
    make_ids(ids, 12, 10);
    float logits[VOCAB];
    const char *path = in_folder("damaged");
    clf_session *s = session(f, (clf_session_args){.context_length = 16});
    append(f, s, ids, 6, logits);
    assert_ok(f->ctx, clf_session_save(s, path));
    append(f, s, ids + 6, 3, NULL);
    FILE *file = fopen(path, "rb");
    static char data[1 << 16];
    const size_t bytes = fread(data, 1, sizeof data, file);
    fclose(file);
    for (size_t i = 0; i < bytes; i++) {
        data[i] ^= (char)(1 << i % 8);
        write_file(path, data, bytes);
        data[i] ^= (char)(1 << i % 8);
        assert_int_not_equal(clf_session_load(s, path), CLF_OK);
        assert_int_equal(clf_session_position(s), 9);
    }
    for (size_t n = 0; n < bytes; n += n < 200 ? 1 : 97) {
        write_file(path, data, n);
        assert_int_equal(clf_session_load(s, path), CLF_BAD_FILE);
    }
    data[bytes] = 0;
    write_file(path, data, bytes + 1);
    assert_int_equal(clf_session_load(s, path), CLF_BAD_FILE);
    assert_as_fresh(f, s, ids, 9, 2e-6);

    write_file(path, data, bytes); /* whole again: of another model, of another cache, too long */
    clf_model *other = load_model(&f->ctx, 1, "golden/models/llama3");
    clf_session *t = open_session(f->ctx, &(clf_session_args){.model = other});
    assert_int_equal(clf_session_load(t, path), CLF_BAD_FILE);
    assert_non_null(strstr(clf_error_message(f->ctx), "another model"));
    clf_session_destroy(t);
    clf_model_destroy(other);
    t = session(f, (clf_session_args){.kv_dtype = CLF_F16});
    assert_int_equal(clf_session_load(t, path), CLF_INVALID_ARGUMENT);
    clf_session_destroy(t);
    t = session(f, (clf_session_args){.context_length = 5});
    assert_int_equal(clf_session_load(t, path), CLF_FULL);
    clf_session_destroy(t);
    assert_ok(f->ctx, clf_session_load(s, path));
    assert_as_fresh(f, s, ids, 6, 2e-6);

    unlink(path);
    assert_int_equal(clf_session_load(s, path), CLF_NOT_FOUND);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(clf_session_load(s, path), CLF_BAD_FILE);
    unlink(path);
    assert_int_equal(clf_session_load(s, "/"), CLF_BAD_FILE);
    assert_int_equal(clf_session_save(s, "/nowhere/session"), CLF_NOT_FOUND);
    assert_int_equal(clf_session_save(s, NULL), CLF_INVALID_ARGUMENT);
    assert_as_fresh(f, s, ids, 6, 2e-6);
    clf_session_destroy(s);
}

/* The same logits, to the bit, on one context and on two. */
static void assert_same_when_spread(const fixture *f, clf_context *const *contexts, const clf_model_args *args,
                                    int on_first) {
    int32_t ids[24];
    float one[24][VOCAB], two[24][VOCAB];
    make_ids(ids, 24, 11);
    clf_model *model;
    clf_model_info info;
    clf_memory_stats before, after;
    assert_ok(contexts[1], clf_memory_get_stats(contexts[1], &before));
    assert_ok(contexts[0], clf_model_load(&model, args));
    assert_ok(contexts[0], clf_model_get_info(model, &info));
    assert_int_equal(info.layers_on[0], on_first);
    assert_int_equal(info.layers_on[1], 2 - on_first);
    clf_session *s = session(f, (clf_session_args){.context_length = 24});
    clf_session *t = open_session(contexts[0], &(clf_session_args){.model = model, .context_length = 24});
    assert_ok(f->ctx, clf_session_eval(s, ids, 24, CLF_LOGITS_ALL, one[0]));
    assert_ok(contexts[0], clf_session_eval(t, ids, 23, CLF_LOGITS_ALL, two[0]));
    assert_ok(contexts[0], clf_session_eval(t, ids + 23, 1, CLF_LOGITS_ALL, two[23]));
    assert_true(difference(two[0], one[0], 24 * VOCAB) < 2e-6);
    assert_ok(contexts[1], clf_memory_get_stats(contexts[1], &after));
    assert_int_equal(after.between.count - before.between.count, on_first == 1 ? 2 : 0);
    clf_session_destroy(s);
    clf_session_destroy(t);
    clf_model_destroy(model);
}

static void models_spread_over_contexts(void **state) {
    const fixture *f = *state;
    clf_context *pair[] = {open_context("cpu", 0), open_context("cpu", 0)};
    const int one[] = {1, 100}, none[] = {0, 0};
    clf_model_args args = {.path = LLAMA, .mmap = true, .contexts = pair, .n_contexts = 2, .layers = one};
    assert_same_when_spread(f, pair, &args, 1);
    args.layers = none;
    assert_same_when_spread(f, pair, &args, 0);
    args.layers = NULL;
    assert_same_when_spread(f, pair, &args, 2);
    clf_context_destroy(pair[0]);

    /* one block's keys and values fit into the first context's limit, two don't */
    args.context_length = 1 << 16;
    const uint64_t kv = 2 * 2 * 12 * (1 << 16) * sizeof(float);
    clf_memory_stats stats;
    clf_context *probe = open_context("cpu", 0);
    clf_model *model = load_model(&probe, 1, LLAMA);
    clf_session *s = open_session(probe, &(clf_session_args){.model = model, .context_length = 1 << 16});
    int32_t ids[512];
    make_ids(ids, 512, 12);
    assert_ok(probe, clf_session_eval(s, ids, 512, CLF_LOGITS_NONE, NULL)); /* for its scratch */
    assert_ok(probe, clf_memory_get_stats(probe, &stats));
    const uint64_t needed = stats.held;
    clf_session_destroy(s);
    clf_model_destroy(model);
    clf_context_destroy(probe);
    pair[0] = open_context("cpu", needed - kv / 2);
    assert_same_when_spread(f, pair, &args, 1);
    clf_context_destroy(pair[0]);
    clf_context_destroy(pair[1]);
}

static void memory_that_is_short_is_an_error(void **state) {
    (void)state;
    clf_context *ctx = open_context("cpu", 1 << 20);
    clf_model *model = load_model(&ctx, 1, LLAMA);
    clf_session *s;
    assert_int_equal(clf_session_create(&s, &(clf_session_args){.model = model, .context_length = 1 << 16}),
                     CLF_OUT_OF_MEMORY);
    assert_null(s);
    assert_non_null(strstr(clf_error_message(ctx), "required"));
    s = open_session(ctx, &(clf_session_args){.model = model, .context_length = 16});
    const int32_t id = 1;
    float logits[VOCAB];
    assert_ok(ctx, clf_session_eval(s, &id, 1, CLF_LOGITS_LAST, logits));
    clf_session_destroy(s);
    clf_model_destroy(model);
    clf_context_destroy(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chunks_make_no_difference),
        cmocka_unit_test(rewind_forgets_the_rest),
        cmocka_unit_test(forks_go_their_own_way),
        cmocka_unit_test(a_full_cache_says_so),
        cmocka_unit_test(wrong_arguments_are_refused),
        cmocka_unit_test(eviction_keeps_positions_right),
        cmocka_unit_test(eviction_turns_every_rotation),
        cmocka_unit_test(eviction_goes_on_and_on),
        cmocka_unit_test_setup_teardown(sessions_come_back_from_files, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(damaged_files_change_nothing, make_folder, remove_folder),
        cmocka_unit_test(models_spread_over_contexts),
        cmocka_unit_test(memory_that_is_short_is_an_error),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
