/* opencl_cache.c: what the OpenCL backend keeps on disk, compiled programs and tuned tiles, against damage and forgery;
 * and that the tuner takes no tile that computes wrongly. Skipped where no OpenCL platform is. */
#define _DEFAULT_SOURCE
#include "opencl_case.h"

#include <xxhash.h>

#include <clformer/opencl.h>

/* programs */

static void check_private(const char *path, int arg) {
    (void)arg;
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 077, 0);
}

static void caches_programs(void **unused) {
    (void)unused;
    char directory[300];
    int sources, binaries;
    cached_work(folder, &sources, &binaries);
    assert_true(sources > 0);
    assert_int_equal(binaries, 0);
    assert_int_equal(for_programs(folder, check_private, 0), sources + 1); /* and the self test's result */
    snprintf(directory, sizeof directory, "%s/opencl", folder);
    check_private(directory, 0);
    cached_work(folder, &sources, &binaries);
    assert_int_equal(sources, 0);
    assert_int_equal(binaries, 1);
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
    int sources, binaries, all;
    cached_work(folder, &all, &binaries);
    for (int kind = 0; kind < DAMAGES; kind++) {
        for_programs(folder, damage, kind);
        cached_work(folder, &sources, &binaries);
        assert_int_equal(binaries, 0);
        assert_int_equal(sources, all); /* the self test's result was damaged too */
        cached_work(folder, &sources, &binaries);
        assert_int_equal(binaries, 1); /* it was replaced */
        assert_int_equal(sources, 0);
    }
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
    int sources, binaries;
    cached_work(folder, &sources, &binaries);
    const int n = for_programs(folder, NULL, 0);
    *swap_with = 0;
    for_programs(folder, swap_file, 0);
    cached_work(folder, &sources, &binaries);
    assert_int_equal(sources, n - 1); /* one was the self test's result */
    assert_int_equal(binaries, 0);
}

static void does_without_a_cache(void **unused) {
    (void)unused;
    char directory[300];
    int sources, binaries;
    cached_work("/proc/nowhere", &sources, &binaries);
    assert_true(sources > 0);
    /* a directory that others may enter is not used */
    snprintf(directory, sizeof directory, "%s/opencl", folder);
    assert_int_equal(mkdir(directory, 0700), 0);
    assert_int_equal(chmod(directory, 0755), 0);
    cached_work(folder, &sources, &binaries);
    assert_true(sources > 0);
    assert_int_equal(for_programs(folder, NULL, 0), 0);
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
    char log[4096];
    clf_context *ctx = open_device("opencl:0", folder), *cpu = open_device("cpu", NULL);
    assert_int_equal(clf_opencl_tune(cpu, NULL), CLF_UNSUPPORTED);
    assert_int_equal(clf_opencl_tune(ctx, &(clf_opencl_tune_args){.head_dim = 257}), CLF_INVALID_ARGUMENT);
    assert_int_equal(clf_opencl_tune(ctx, &(clf_opencl_tune_args){.length = -1}), CLF_INVALID_ARGUMENT);
    assert_int_equal(clf_opencl_tune(ctx, &(clf_opencl_tune_args){.most = -1}), CLF_INVALID_ARGUMENT);
    ok(ctx, clf_opencl_tune(ctx, &(clf_opencl_tune_args){.head_dim = 64, .length = 64, .most = 1}));
    clf_context_destroy(ctx);
    clf_context_destroy(cpu);
    logged_work(folder, log);
    assert_says(log, "tiles as tuned");
    assert_says(log, "passed its self test"); /* again, with them */
    logged_work(folder, log);
    assert_says(log, "tiles as tuned");
    assert_null(strstr(log, "self test"));
    for_programs(folder, forge_tiles, 200);
    logged_work(folder, log);
    assert_says(log, "defaults are used");
    for_programs(folder, forge_tiles, 0);
    for_programs(folder, damage_tiles, FLIP_LAST);
    logged_work(folder, log);
    assert_null(strstr(log, "tiles"));
}

/* A tile has to know the gradients' answers, the mask's too. */
static void tunes_no_wrong_tile(void **unused) {
    (void)unused;
    char log[4096] = "";
    clf_context *ctx;
    const clf_context_args args = {
        .device = "opencl:0", .cache_dir = "off", .log = collect_all, .log_user = log, .log_level = CLF_LOG_INFO};
    assert_int_equal(clf_context_create(&ctx, &args), CLF_OK);
    fail_state->find = "sums[m] += db[m];"; /* of attention_backward_mask */
    fail_state->replace = "sums[m] -= db[m];";
    const clf_status st = clf_opencl_tune(ctx, &(clf_opencl_tune_args){.head_dim = 64, .length = 64, .most = 1});
    fail_state->find = NULL;
    ok(ctx, st);
    assert_says(log, "attention forward, up to 64 columns:  64 queries");
    assert_says(log, "is out: self test: d_mask");
    assert_null(strstr(log, "attention backward, up to 64 columns:  "));
    clf_context_destroy(ctx);
}

int main(void) {
    const int skipped = open_layer();
    if (skipped) return skipped;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(caches_programs, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(gives_the_driver_no_damaged_program, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(refuses_programs_under_other_keys, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(does_without_a_cache, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(keeps_tuned_tiles, make_folder, remove_folder),
        cmocka_unit_test(tunes_no_wrong_tile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
