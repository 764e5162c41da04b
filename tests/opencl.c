/* opencl.c: what is specific to the OpenCL backend: probing, several devices, memory, the program cache against damage,
 * tuned tiles, attention's memory, compilers that refuse, every OpenCL call failing in turn, lost devices,
 * interoperation. What ops compute is checked by their own tests. Skipped where no OpenCL platform is. */
#define _DEFAULT_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <xxhash.h>

#include <clformer/clformer.h>
#include <clformer/opencl.h>

#include "cl_fail_layer.h"

static cl_fail_state *fail_state; /* of the layer that the ICD loader has loaded */
static char *program;

static clf_status try_open(clf_context **ctx, const char *device, const char *cache, char message[512]) {
    return clf_context_create(
        ctx, &(clf_context_args){.device = device, .cache_dir = cache, .error = message, .error_size = 512});
}

static clf_context *open_device(const char *device, const char *cache) {
    char message[512];
    clf_context *ctx;
    if (try_open(&ctx, device, cache, message) != CLF_OK) fail_msg("%s: %s", device, message);
    return ctx;
}

#define ok(ctx, call)                                                                                                  \
    do {                                                                                                               \
        if ((call) != CLF_OK) fail_msg("%s: %s", #call, clf_error_message(ctx));                                       \
    } while (0)

static void assert_says(const char *message, const char *part) {
    if (!strstr(message, part)) fail_msg("expected '%s' in '%s'", part, message);
}

enum { N = 1000 };

/* RMSNorm of N numbers, through device memory; checks the result unless something failed. */
static clf_status work(clf_context *ctx) {
    float x[N], y[N];
    clf_tensor *tx = NULL, *ty = NULL;
    const clf_tensor_args args = {.ndim = 1, .shape = {N}};
    double squares = 0;
    for (int i = 0; i < N; i++) {
        x[i] = (float)i / 100 - 5;
        squares += (double)x[i] * (double)x[i];
    }
    clf_status st = clf_tensor_create(&tx, ctx, &args);
    if (st == CLF_OK) st = clf_tensor_create(&ty, ctx, &args);
    if (st == CLF_OK) st = clf_tensor_write(tx, x, sizeof x);
    if (st == CLF_OK) st = clf_rms_norm(ctx, &(clf_rms_norm_args){.x = tx, .out = ty});
    if (st == CLF_OK) st = clf_sync(ctx);
    if (st == CLF_OK) st = clf_tensor_read(ty, y, sizeof y);
    clf_tensor_destroy(tx);
    clf_tensor_destroy(ty);
    for (int i = 0; i < N && st == CLF_OK; i++)
        if (!(fabs((double)y[i] - (double)x[i] / sqrt(squares / N)) < 1e-6)) fail_msg("rms_norm: wrong at %d", i);
    clf_memory_stats stats;
    clf_memory_get_stats(ctx, &stats);
    assert_int_equal(stats.in_use, 0);
    return st;
}

/* devices */

static void lists_devices(void **unused) {
    (void)unused;
    clf_device_info info[16];
    int n, found = 0;
    assert_int_equal(clf_devices(info, 16, &n), CLF_OK);
    for (int i = 0; i < n; i++) {
        if (strncmp(info[i].name, "opencl:", 7)) continue;
        found++;
        assert_true(info[i].what[0]);
        assert_true(info[i].reason[0]);
        if (strstr(info[i].what, "Portable Computing")) assert_false(info[i].chosen); /* never PoCL by itself */
    }
    assert_true(found >= 2); /* POCL_DEVICES, see main */
    int same;
    assert_int_equal(clf_devices(NULL, 0, &same), CLF_OK);
    assert_int_equal(same, n);
}

static void refuses_absent_devices(void **unused) {
    (void)unused;
    char message[512];
    clf_context *ctx;
    assert_int_equal(try_open(&ctx, "opencl:99", "off", message), CLF_NOT_FOUND);
    assert_null(ctx);
    assert_says(message, "opencl:99");
}

/* Runs this program again as `what`, without any platform. */
static void works_without_platform(void **unused) {
    (void)unused;
    const pid_t child = fork();
    if (!child) {
        setenv("OCL_ICD_VENDORS", "/nonexistent", 1);
        unsetenv("OPENCL_LAYERS");
        execl(program, program, "without-platform", (char *)NULL);
        _exit(99);
    }
    int status;
    waitpid(child, &status, 0);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static int without_platform(void) {
    clf_device_info info[16];
    int n;
    char message[512];
    clf_context *ctx;
    if (clf_devices(info, 16, &n) != CLF_OK || n < 2) return 1;
    if (strcmp(info[0].name, "opencl") || info[0].usable || !strstr(info[0].reason, "no OpenCL platform")) return 2;
    if (try_open(&ctx, "opencl", "off", message) != CLF_NOT_FOUND || ctx) return 3;
    if (try_open(&ctx, "auto", "off", message) != CLF_OK || strncmp(clf_context_backend(ctx), "cpu-", 4)) return 4;
    clf_context_destroy(ctx);
    return 0;
}

static void copies_between_devices(void **unused) {
    (void)unused;
    clf_context *a = open_device("opencl:0", NULL), *b = open_device("opencl:1", NULL), *c = open_device("cpu", NULL);
    assert_string_not_equal(clf_context_device(a), clf_context_device(b));
    const clf_tensor_args args = {.ndim = 2, .shape = {3, 5}};
    clf_tensor *ta, *tb, *tc;
    ok(a, clf_tensor_create(&ta, a, &args));
    ok(b, clf_tensor_create(&tb, b, &args));
    ok(c, clf_tensor_create(&tc, c, &args));
    float x[15], y[15] = {0};
    for (int i = 0; i < 15; i++) x[i] = (float)i;
    ok(a, clf_tensor_write(ta, x, sizeof x));
    ok(b, clf_tensor_copy(tb, ta));
    ok(c, clf_tensor_copy(tc, tb));
    ok(c, clf_tensor_read(tc, y, sizeof y));
    assert_memory_equal(x, y, sizeof x);
    clf_memory_stats stats;
    ok(b, clf_memory_get_stats(b, &stats));
    assert_int_equal(stats.between.count, 1);
    assert_int_equal(stats.between.bytes, sizeof x);
    assert_int_equal(clf_rms_norm(b, &(clf_rms_norm_args){.x = ta, .out = tb}), CLF_INVALID_ARGUMENT);
    assert_says(clf_error_message(b), "another context");
    clf_tensor_destroy(ta);
    clf_tensor_destroy(tb);
    clf_tensor_destroy(tc);
    clf_context_destroy(a);
    ok(b, work(b)); /* what is left goes on */
    clf_context_destroy(b);
    clf_context_destroy(c);
}

/* memory */

/* Zeros fill what the view covers, odd offsets and sizes included, and nothing beside it. */
static void clears(void **unused) {
    (void)unused;
    clf_context *ctx = open_device("opencl:0", NULL);
    enum { BYTES = 1000 };
    static const struct {
        int64_t offset, n;
    } parts[] = {{0, BYTES}, {1, 1}, {3, 402}, {4, 400}, {BYTES - 1, 1}, {5, 0}};
    clf_tensor *t, *part;
    uint8_t data[BYTES], back[BYTES];
    memset(data, 0xa5, BYTES);
    ok(ctx, clf_tensor_create(&t, ctx, &(clf_tensor_args){.dtype = CLF_U8, .ndim = 1, .shape = {BYTES}}));
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        ok(ctx, clf_tensor_view(&part, t, 1, &parts[i].n, NULL, parts[i].offset));
        ok(ctx, clf_tensor_write(t, data, BYTES));
        ok(ctx, clf_tensor_clear(part));
        ok(ctx, clf_tensor_read(t, back, BYTES));
        for (int64_t k = 0; k < BYTES; k++)
            assert_int_equal(back[k], k >= parts[i].offset && k < parts[i].offset + parts[i].n ? 0 : 0xa5);
        clf_tensor_destroy(part);
    }
    ok(ctx, clf_tensor_view(&part, t, 2, (int64_t[]){3, 4}, (int64_t[]){8, 1}, 0));
    assert_int_equal(clf_tensor_clear(part), CLF_INVALID_ARGUMENT);
    assert_says(clf_error_message(ctx), "expected a contiguous one");
    clf_tensor_destroy(part);
    clf_tensor_destroy(t);
    clf_context_destroy(ctx);
}

static void keeps_the_memory_limit(void **unused) {
    (void)unused;
    clf_context *ctx;
    clf_tensor *t;
    assert_int_equal(clf_context_create(&ctx, &(clf_context_args){.device = "opencl:0", .memory_limit = 1 << 20}),
                     CLF_OK);
    assert_int_equal(clf_tensor_create(&t, ctx, &(clf_tensor_args){.ndim = 1, .shape = {1 << 19}}), CLF_OUT_OF_MEMORY);
    assert_null(t);
    assert_says(clf_error_message(ctx), "required 2097152 bytes");
    assert_says(clf_error_message(ctx), "available");
    ok(ctx, clf_tensor_create(&t, ctx, &(clf_tensor_args){.ndim = 1, .shape = {1 << 17}}));
    clf_tensor_destroy(t);
    ok(ctx, work(ctx));
    clf_context_destroy(ctx);
}

static void refuses_what_the_device_cannot_hold(void **unused) {
    (void)unused;
    clf_context *ctx = open_device("opencl:0", NULL);
    clf_tensor *t;
    float host[4];
    assert_int_equal(clf_tensor_create(&t, ctx, &(clf_tensor_args){.ndim = 1, .shape = {(int64_t)1 << 44}}),
                     CLF_OUT_OF_MEMORY);
    assert_int_equal(clf_tensor_create(&t, ctx, &(clf_tensor_args){.ndim = 1, .shape = {4}, .data = host}),
                     CLF_UNSUPPORTED);
    ok(ctx, work(ctx));
    clf_context_destroy(ctx);
}

/* the program cache */

static void make_directory(char path[64]) {
    snprintf(path, 64, "%s/clformer-cache-XXXXXX", P_tmpdir);
    assert_non_null(mkdtemp(path));
}

/* Calls visit for each program in the cache; how many there are. */
static int for_programs(const char *cache, void (*visit)(const char *path, int arg), int arg) {
    char directory[128], path[512];
    int n = 0;
    snprintf(directory, sizeof directory, "%s/opencl", cache);
    DIR *d = opendir(directory);
    for (struct dirent *e; d && (e = readdir(d));) {
        if (*e->d_name == '.') continue;
        snprintf(path, sizeof path, "%s/%s", directory, e->d_name);
        if (visit) visit(path, arg);
        n++;
    }
    if (d) closedir(d);
    return n;
}

static void remove_file(const char *path, int arg) {
    (void)arg;
    remove(path);
}

static void remove_directory(const char *cache) {
    char directory[128];
    for_programs(cache, remove_file, 0);
    snprintf(directory, sizeof directory, "%s/opencl", cache);
    rmdir(directory);
    rmdir(cache);
}

static void check_private(const char *path, int arg) {
    (void)arg;
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 077, 0);
}

/* Opens, works, closes; programs made from source and from binaries meanwhile. */
static void cached_work(const char *cache, int *sources, int *binaries) {
    const int sources_before = fail_state->sources, binaries_before = fail_state->binaries;
    clf_context *ctx = open_device("opencl:0", cache);
    ok(ctx, work(ctx));
    clf_context_destroy(ctx);
    *sources = fail_state->sources - sources_before;
    *binaries = fail_state->binaries - binaries_before;
}

static void caches_programs(void **unused) {
    (void)unused;
    char cache[64], directory[128];
    int sources, binaries;
    make_directory(cache);
    cached_work(cache, &sources, &binaries);
    assert_true(sources > 0);
    assert_int_equal(binaries, 0);
    assert_int_equal(for_programs(cache, check_private, 0), sources + 1); /* and the self test's result */
    snprintf(directory, sizeof directory, "%s/opencl", cache);
    check_private(directory, 0);
    cached_work(cache, &sources, &binaries);
    assert_int_equal(sources, 0);
    assert_int_equal(binaries, 1);
    remove_directory(cache);
}

enum { FLIP_FIRST, FLIP_SIZE, FLIP_HASH, FLIP_MIDDLE, FLIP_LAST, HALVE, EMPTY, LENGTHEN, DAMAGES };

static void damage(const char *path, int kind) {
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    const long size = st.st_size;
    const long at[] = {
        [FLIP_FIRST] = 0, [FLIP_SIZE] = 8, [FLIP_HASH] = 17, [FLIP_MIDDLE] = size / 2, [FLIP_LAST] = size - 1};
    if (kind == HALVE || kind == EMPTY || kind == LENGTHEN) {
        assert_int_equal(truncate(path, kind == HALVE ? size / 2 : kind == EMPTY ? 0 : size + 1), 0);
        return;
    }
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, at[kind], SEEK_SET), 0);
    const int byte = fgetc(file);
    assert_int_equal(fseek(file, at[kind], SEEK_SET), 0);
    fputc(byte ^ 4, file);
    assert_int_equal(fclose(file), 0);
}

static void gives_the_driver_no_damaged_program(void **unused) {
    (void)unused;
    char cache[64];
    int sources, binaries, all;
    make_directory(cache);
    cached_work(cache, &all, &binaries);
    for (int kind = 0; kind < DAMAGES; kind++) {
        for_programs(cache, damage, kind);
        cached_work(cache, &sources, &binaries);
        assert_int_equal(binaries, 0);
        assert_int_equal(sources, all); /* the self test's result was damaged too */
        cached_work(cache, &sources, &binaries);
        assert_int_equal(binaries, 1); /* it was replaced */
        assert_int_equal(sources, 0);
    }
    remove_directory(cache);
}

static char swap_with[512];

/* Called for each file in turn, all take each other's places. */
static void swap_file(const char *path, int arg) {
    (void)arg;
    char other[600];
    if (!*swap_with) {
        snprintf(swap_with, sizeof swap_with, "%s", path);
        return;
    }
    snprintf(other, sizeof other, "%s.other", path);
    assert_int_equal(rename(path, other), 0);
    assert_int_equal(rename(swap_with, path), 0);
    assert_int_equal(rename(other, swap_with), 0);
    snprintf(swap_with, sizeof swap_with, "%s", path);
}

static void refuses_programs_under_other_keys(void **unused) {
    (void)unused;
    char cache[64];
    int sources, binaries;
    make_directory(cache);
    cached_work(cache, &sources, &binaries);
    const int n = for_programs(cache, NULL, 0);
    *swap_with = 0;
    for_programs(cache, swap_file, 0);
    cached_work(cache, &sources, &binaries);
    assert_int_equal(sources, n - 1); /* one was the self test's result */
    assert_int_equal(binaries, 0);
    remove_directory(cache);
}

static void does_without_a_cache(void **unused) {
    (void)unused;
    char cache[64], directory[128];
    int sources, binaries;
    cached_work("/proc/nowhere", &sources, &binaries);
    assert_true(sources > 0);
    make_directory(cache); /* a directory that others may enter is not used */
    snprintf(directory, sizeof directory, "%s/opencl", cache);
    assert_int_equal(mkdir(directory, 0700), 0);
    assert_int_equal(chmod(directory, 0755), 0);
    cached_work(cache, &sources, &binaries);
    assert_true(sources > 0);
    assert_int_equal(for_programs(cache, NULL, 0), 0);
    remove_directory(cache);
}

/* tuned tile sizes */

enum { TILES_FILE = 32 + 6 }; /* a header and a byte for each pass and width */

static void collect_all(void *user, clf_log_level level, const char *line) {
    char *text = user;
    (void)level;
    if (strlen(text) + strlen(line) < 4000) strcat(text, line);
}

/* Opens and works; what was logged meanwhile. */
static void logged_work(const char *cache, char log[4096]) {
    clf_context *ctx;
    *log = 0;
    const clf_context_args args = {
        .device = "opencl:0", .cache_dir = cache, .log = collect_all, .log_user = log, .log_level = CLF_LOG_INFO};
    assert_int_equal(clf_context_create(&ctx, &args), CLF_OK);
    ok(ctx, work(ctx));
    clf_context_destroy(ctx);
}

/* Makes the file of tiles say `value` throughout, under a right hash. */
static void forge_tiles(const char *path, int value) {
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    if (st.st_size != TILES_FILE) return;
    unsigned long long key[2];
    uint8_t tiles[6];
    assert_int_equal(sscanf(strrchr(path, '/') + 1, "%16llx%16llx", &key[1], &key[0]), 2);
    memset(tiles, value, sizeof tiles);
    const XXH128_hash_t h = XXH3_128bits_withSeed(tiles, sizeof tiles, key[0] ^ key[1]);
    const uint64_t hash[2] = {h.low64 ^ key[0], h.high64 ^ key[1]};
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, 16, SEEK_SET), 0);
    assert_int_equal(fwrite(hash, sizeof hash, 1, file), 1);
    assert_int_equal(fwrite(tiles, sizeof tiles, 1, file), 1);
    assert_int_equal(fclose(file), 0);
}

static void damage_tiles(const char *path, int kind) {
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    if (st.st_size == TILES_FILE) damage(path, kind);
}

static void keeps_tuned_tiles(void **unused) {
    (void)unused;
    char cache[64], log[4096];
    make_directory(cache);
    clf_context *ctx = open_device("opencl:0", cache), *cpu = open_device("cpu", NULL);
    assert_int_equal(clf_opencl_tune(cpu, NULL), CLF_UNSUPPORTED);
    assert_int_equal(clf_opencl_tune(ctx, &(clf_opencl_tune_args){.head_dim = 257}), CLF_INVALID_ARGUMENT);
    assert_int_equal(clf_opencl_tune(ctx, &(clf_opencl_tune_args){.length = -1}), CLF_INVALID_ARGUMENT);
    assert_int_equal(clf_opencl_tune(ctx, &(clf_opencl_tune_args){.most = -1}), CLF_INVALID_ARGUMENT);
    ok(ctx, clf_opencl_tune(ctx, &(clf_opencl_tune_args){.head_dim = 64, .length = 64, .most = 1}));
    clf_context_destroy(ctx);
    clf_context_destroy(cpu);
    logged_work(cache, log);
    assert_says(log, "tiles as tuned");
    assert_says(log, "passed its self test"); /* again, with them */
    logged_work(cache, log);
    assert_says(log, "tiles as tuned");
    assert_null(strstr(log, "self test"));
    for_programs(cache, forge_tiles, 200);
    logged_work(cache, log);
    assert_says(log, "defaults are used");
    for_programs(cache, forge_tiles, 0);
    for_programs(cache, damage_tiles, FLIP_LAST);
    logged_work(cache, log);
    assert_null(strstr(log, "tiles"));
    remove_directory(cache);
}

/* Attention's memory against that of the scores, and of its gradient. */
static void stores_no_scores(void **unused) {
    (void)unused;
    enum { LENGTH = 2048, DIM = 64, LSE = 8, TENSORS };
    clf_context *ctx = open_device("opencl:0", NULL);
    clf_tensor *t[TENSORS]; /* q k v out d_out dq dk dv lse */
    float *x = test_calloc(LENGTH * DIM, sizeof *x);
    ok(ctx, clf_memory_reset_peak(ctx));
    for (int i = 0; i < TENSORS; i++) {
        ok(ctx,
           clf_tensor_create(&t[i], ctx, &(clf_tensor_args){.ndim = i == LSE ? 3 : 4, .shape = {1, 1, LENGTH, DIM}}));
        ok(ctx, clf_tensor_write(t[i], x, (i == LSE ? 1 : DIM) * LENGTH * sizeof *x));
    }
    test_free(x);
    const clf_attention_args args = {
        .query = t[0], .key = t[1], .value = t[2], .causal = true, .out = t[3], .lse = t[LSE]};
    clf_memory_stats stats;
    const uint64_t matrix = (uint64_t)LENGTH * LENGTH * sizeof(float), own = (uint64_t)LENGTH * DIM * sizeof(float);
    ok(ctx, clf_attention(ctx, &args));
    ok(ctx, clf_memory_get_stats(ctx, &stats));
    assert_true(stats.peak_asked <= (2 * matrix + 4 * own) / 5); /* scores and probabilities */
    assert_int_equal(stats.tag_peak[CLF_TAG_SCRATCH], 0);
    ok(ctx, clf_attention_backward(
                ctx, &(clf_attention_backward_args){
                         .forward = args, .d_out = t[4], .d_query = t[5], .d_key = t[6], .d_value = t[7]}));
    ok(ctx, clf_memory_get_stats(ctx, &stats));
    assert_true(stats.peak_asked <= (2 * matrix + 8 * own) / 5);
    assert_int_equal(stats.tag_peak[CLF_TAG_SCRATCH], LENGTH * sizeof(float)); /* a float a query */
    for (int i = 0; i < TENSORS; i++) clf_tensor_destroy(t[i]);
    clf_context_destroy(ctx);
}

/* failures */

static void collect(void *user, clf_log_level level, const char *line) {
    char *text = user;
    if (level == CLF_LOG_ERROR && strlen(text) + strlen(line) < 4000) strcat(text, line);
}

static void reports_what_the_compiler_said(void **unused) {
    (void)unused;
    char message[512], log[4096] = "";
    clf_context *ctx;
    fail_state->break_sources = true;
    assert_int_equal(clf_context_create(&ctx, &(clf_context_args){.device = "opencl:0",
                                                                  .cache_dir = "off",
                                                                  .error = message,
                                                                  .error_size = sizeof message,
                                                                  .log = collect,
                                                                  .log_user = log}),
                     CLF_DEVICE_ERROR);
    fail_state->break_sources = false;
    assert_null(ctx);
    assert_says(message, "compiler refused");
    assert_says(log, "broken on purpose");
}

/* Opens and works while call `at` of OpenCL answers `error`; leaves the number of calls till then in the layer. */
static clf_status work_failing(int at, cl_int error, const char *cache) {
    char message[512];
    clf_context *ctx;
    fail_state->calls = 0;
    fail_state->error = error;
    fail_state->at = at;
    clf_status st = try_open(&ctx, "opencl:0", cache, message);
    if (st != CLF_OK) {
        assert_null(ctx);
        assert_true(strlen(message) > 10);
    } else {
        st = work(ctx);
        if (st != CLF_OK) {
            assert_true(strlen(clf_error_message(ctx)) > 10);
            ok(ctx, work(ctx)); /* the next calls work */
        }
    }
    const int calls = fail_state->calls;
    fail_state->at = 0;
    clf_context_destroy(ctx);
    fail_state->calls = calls;
    return st;
}

/* Each step-th call fails, until there is none left to fail. Most failures show; an allocation may succeed at the
 * second attempt, and a binary that can't be loaded is built from source. */
static void fail_each(cl_int error, int step, const char *cache) {
    int tried = 0, failed = 0;
    for (int at = 1;; at += step) {
        const clf_status st = work_failing(at, error, cache);
        if (st != CLF_OK) assert_int_equal(st, CLF_OUT_OF_MEMORY);
        if (fail_state->calls < at) break;
        tried++;
        failed += st != CLF_OK;
    }
    assert_true(tried > 15);
    assert_true(failed >= tried * 3 / 4);
}

static void survives_each_failing_call(void **unused) {
    (void)unused;
    char cache[64];
    int sources, binaries;
    make_directory(cache);
    cached_work(cache, &sources, &binaries);
    static const cl_int errors[] = {CL_OUT_OF_RESOURCES, CL_MEM_OBJECT_ALLOCATION_FAILURE, CL_OUT_OF_HOST_MEMORY};
    for (int e = 0; e < 3; e++) fail_each(errors[e], 1, cache);
    fail_each(CL_OUT_OF_RESOURCES, 5, "off"); /* with the self test's many calls */
    remove_directory(cache);
}

static void leaves_a_lost_device_alone(void **unused) {
    (void)unused;
    clf_context *ctx = open_device("opencl:0", NULL);
    ok(ctx, work(ctx));
    clf_tensor *t;
    float value = 1;
    ok(ctx, clf_tensor_create(&t, ctx, &(clf_tensor_args){.ndim = 1, .shape = {1}}));
    ok(ctx, clf_tensor_write(t, &value, sizeof value));
    fail_state->calls = 0;
    fail_state->error = -9999;
    fail_state->at = 1;
    assert_int_equal(clf_tensor_read(t, &value, sizeof value), CLF_DEVICE_ERROR);
    assert_says(clf_error_message(ctx), "lost");
    fail_state->at = 0;
    fail_state->calls = 0;
    assert_int_equal(clf_tensor_read(t, &value, sizeof value), CLF_DEVICE_ERROR);
    assert_says(clf_error_message(ctx), "lost");
    assert_int_equal(clf_rms_norm(ctx, &(clf_rms_norm_args){.x = t, .out = t}), CLF_DEVICE_ERROR);
    assert_int_equal(clf_sync(ctx), CLF_DEVICE_ERROR);
    clf_tensor_destroy(t);
    clf_context_destroy(ctx);
    assert_int_equal(fail_state->calls, 0); /* no call reached it */
}

/* CLBlast, where the build has it: the same product with and without */

static void multiplies_alike_with_clblast(void **unused) {
    (void)unused;
    enum { M = 130, COLUMNS = 140, K = 70 };
    static float x[M * K], w[COLUMNS * K], bias[COLUMNS], y[2][M * COLUMNS];
    for (int i = 0; i < M * K; i++) x[i] = (float)(i * 7 % 13 - 6);
    for (int i = 0; i < COLUMNS * K; i++) w[i] = (float)(i * 5 % 17 - 8);
    for (int i = 0; i < COLUMNS; i++) bias[i] = (float)(i % 3);
    for (int blas = 0; blas < 2; blas++) {
        setenv("CLFORMER_CLBLAST", blas ? "1" : "0", 1);
        clf_context *ctx = open_device("opencl:0", NULL);
        clf_tensor *t[4];
        const int64_t shapes[4][2] = {{M, K}, {COLUMNS, K}, {COLUMNS}, {M, COLUMNS}};
        const float *const data[3] = {x, w, bias};
        for (int i = 0; i < 4; i++) {
            clf_tensor_args args = {.ndim = i == 2 ? 1 : 2, .shape = {shapes[i][0], shapes[i][1]}};
            ok(ctx, clf_tensor_create(&t[i], ctx, &args));
            if (i < 3) ok(ctx, clf_tensor_write(t[i], data[i], clf_tensor_bytes(t[i])));
        }
        ok(ctx, clf_linear(ctx, &(clf_linear_args){.x = t[0], .weight = {t[1]}, .bias = {t[2]}, .out = {t[3]}}));
        ok(ctx, clf_tensor_read(t[3], y[blas], sizeof y[blas]));
        for (int i = 0; i < 4; i++) clf_tensor_destroy(t[i]);
        clf_context_destroy(ctx);
    }
    unsetenv("CLFORMER_CLBLAST");
    assert_memory_equal(y[0], y[1], sizeof y[0]); /* whole numbers: exact in any order */
}

/* interoperation */

static void shares_memory_with_the_caller(void **unused) {
    (void)unused;
    clf_context *ctx = open_device("opencl:0", NULL), *cpu = open_device("cpu", NULL);
    clf_opencl_handles h;
    ok(ctx, clf_opencl_get_handles(ctx, &h));
    assert_int_equal(clf_opencl_get_handles(cpu, &h), CLF_UNSUPPORTED);
    float x[8] = {1, 2, 3, 4, 5, 6, 7, 8}, y[4];
    cl_int error;
    cl_mem mem = clCreateBuffer(h.context, CL_MEM_READ_WRITE | CL_MEM_COPY_HOST_PTR, sizeof x, x, &error);
    assert_int_equal(error, CL_SUCCESS);

    const clf_tensor_args four = {.ndim = 1, .shape = {4}}, five = {.ndim = 1, .shape = {5}};
    clf_tensor *t, *copy;
    assert_int_equal(clf_opencl_wrap(&t, ctx, &five, mem, 16), CLF_INVALID_ARGUMENT);
    assert_int_equal(clf_opencl_wrap(&t, ctx, &four, mem, 4), CLF_INVALID_ARGUMENT);
    assert_int_equal(clf_opencl_wrap(&t, cpu, &four, mem, 0), CLF_UNSUPPORTED);
    ok(ctx, clf_opencl_wrap(&t, ctx, &four, mem, 16));
    assert_int_equal(clReleaseMemObject(mem), CL_SUCCESS); /* the tensor holds it */

    clf_memory_stats stats;
    ok(ctx, clf_memory_get_stats(ctx, &stats));
    assert_int_equal(stats.mapped, 32);
    ok(ctx, clf_tensor_read(t, y, sizeof y));
    assert_memory_equal(y, x + 4, sizeof y);

    struct _cl_mem *got;
    size_t offset;
    ok(ctx, clf_opencl_get_memory(t, &got, &offset));
    assert_ptr_equal(got, mem);
    assert_int_equal(offset, 16);
    ok(ctx, clf_tensor_create(&copy, ctx, &four));
    ok(ctx, clf_tensor_copy(copy, t));
    ok(ctx, clf_opencl_get_memory(copy, &got, &offset));
    assert_int_equal(clEnqueueReadBuffer(h.queue, got, CL_TRUE, offset, sizeof y, y, 0, NULL, NULL), CL_SUCCESS);
    assert_memory_equal(y, x + 4, sizeof y);
    clf_tensor_destroy(t);
    clf_tensor_destroy(copy);
    ok(ctx, clf_memory_get_stats(ctx, &stats));
    assert_int_equal(stats.mapped, 0);
    clf_context_destroy(ctx);
    clf_context_destroy(cpu);
}

static bool has_device(void) {
    clf_device_info info[16];
    int n;
    if (clf_devices(info, 16, &n) != CLF_OK) return false;
    for (int i = 0; i < n && i < 16; i++)
        if (!strncmp(info[i].name, "opencl:", 7) && info[i].usable) return true;
    return false;
}

int main(int argc, char **argv) {
    program = argv[0];
    if (argc == 2 && !strcmp(argv[1], "without-platform")) return without_platform();
    setenv("OPENCL_LAYERS", FAIL_LAYER, 1);
    setenv("POCL_DEVICES", "pthread pthread", 1);
    if (!has_device()) {
        printf("skipped: no OpenCL device\n");
        return 77;
    }
    void *layer = dlopen(FAIL_LAYER, RTLD_NOW | RTLD_NOLOAD);
    cl_fail_state *(*get_state)(void) = NULL;
    if (layer) *(void **)&get_state = dlsym(layer, "cl_fail");
    if (!get_state) {
        printf("skipped: the ICD loader takes no layers\n");
        return 77;
    }
    fail_state = get_state();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_devices),
        cmocka_unit_test(refuses_absent_devices),
        cmocka_unit_test(works_without_platform),
        cmocka_unit_test(copies_between_devices),
        cmocka_unit_test(clears),
        cmocka_unit_test(keeps_the_memory_limit),
        cmocka_unit_test(refuses_what_the_device_cannot_hold),
        cmocka_unit_test(caches_programs),
        cmocka_unit_test(gives_the_driver_no_damaged_program),
        cmocka_unit_test(refuses_programs_under_other_keys),
        cmocka_unit_test(does_without_a_cache),
        cmocka_unit_test(keeps_tuned_tiles),
        cmocka_unit_test(stores_no_scores),
        cmocka_unit_test(reports_what_the_compiler_said),
        cmocka_unit_test(survives_each_failing_call),
        cmocka_unit_test(leaves_a_lost_device_alone),
        cmocka_unit_test(multiplies_alike_with_clblast),
        cmocka_unit_test(shares_memory_with_the_caller),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
