/* model_write.c: what the writers write, the readers read back, whole and equal; a failure leaves nothing behind and
 * what was there before untouched. With "--keep DIR" the files stay, for other readers (tests/read_back.py). */
#include "folder_case.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "../lib/core/dtype.h"
#include "../lib/model/gguf_write.h"
#include "../lib/model/safetensors_write.h"

static bool keep;

static bool exists(const char *path) {
    struct stat info;
    return !stat(path, &info);
}

#define ok(expr)                                                                                                       \
    do {                                                                                                               \
        clf_error err = {0};                                                                                           \
        if ((expr) != CLF_OK) fail_msg("%s: %s", #expr, err.message);                                                  \
    } while (0)

/* Other readers (gguf-py 0.19) don't know Q2_0; T2 and T1 (tests/ternary.c) have panels of 16 rows. */
static bool is_written(int dtype) {
    return clf_dtype_to_gguf((clf_dtype)dtype) >= 0 && !clf_dtype_is_interleaved((clf_dtype)dtype) &&
           !(keep && dtype == CLF_Q2_0);
}

/* One tensor of each dtype that GGUF has: 2 rows of 256 values, bytes that tell where they are. */
static clf_file_tensor sample(int dtype, char *name, uint8_t *data) {
    clf_file_tensor t = {.dtype = (clf_dtype)dtype, .ndim = 2, .shape = {2, 256}, .data = data};
    t.nbytes = 512 / (uint64_t)clf_dtype_block_values(t.dtype) * clf_dtype_block_bytes(t.dtype);
    sprintf(name, "t.%s", clf_dtype_name(t.dtype));
    t.name = name;
    for (uint64_t i = 0; i < t.nbytes; i++) data[i] = (uint8_t)(i * 7 + (uint64_t)dtype);
    if (t.dtype == CLF_BOOL)
        for (uint64_t i = 0; i < t.nbytes; i++) data[i] &= 1;
    return t;
}

static void write_gguf(const char *path) {
    clf_gguf_writer *w;
    static uint8_t data[CLF_DTYPE_COUNT][4096];
    clf_file_tensor t[CLF_DTYPE_COUNT];
    char names[CLF_DTYPE_COUNT][32];
    const clf_string strings[] = {{"one", 3}, {"", 0}, {"a\0b", 3}, {"\xff\xfe", 2}};
    const float floats[] = {0.5f, -1.0f, 1e30f};
    const int32_t ints[] = {INT32_MIN, 0, 7};
    int n = 0;
    ok(clf_gguf_writer_create(&w, path, &err));
    ok(clf_gguf_write_string(w, "general.architecture", "llama", &err));
    ok(clf_gguf_write_u32(w, "a.u32", 4000000000u, &err));
    ok(clf_gguf_write_f32(w, "a.f32", 1e-5f, &err));
    ok(clf_gguf_write_bool(w, "a.bool", true, &err));
    ok(clf_gguf_write_string(w, "a.empty", "", &err));
    ok(clf_gguf_write_strings(w, "a.strings", strings, 4, &err));
    ok(clf_gguf_write_array(w, "a.floats", CLF_GGUF_F32, floats, 3, &err));
    ok(clf_gguf_write_array(w, "a.ints", CLF_GGUF_I32, ints, 3, &err));
    ok(clf_gguf_write_array(w, "a.none", CLF_GGUF_I32, ints, 0, &err));
    for (int d = 0; d < CLF_DTYPE_COUNT; d++) {
        if (!is_written(d)) continue;
        t[n] = sample(d, names[n], data[n]);
        ok(clf_gguf_write_tensor(w, &t[n], &err));
        n++;
    }
    for (int i = n - 1; i >= 0; i--) ok(clf_gguf_write_data(w, i, t[i].data, t[i].nbytes, &err));
    assert_false(exists(path));
    ok(clf_gguf_writer_finish(w, &err));
    clf_gguf_writer_destroy(w);
}

static void check_gguf(const char *path) {
    clf_gguf *g;
    uint64_t u = 0, count;
    double d = 0;
    int64_t i64 = 0;
    bool b = false;
    clf_string s;
    clf_gguf_type type;
    ok(clf_gguf_open(&g, &(clf_model_file_args){.path = path}, &err));
    assert_true(clf_gguf_get_u64(g, "a.u32", &u) && u == 4000000000u);
    assert_true(clf_gguf_get_f64(g, "a.f32", &d) && (float)d == 1e-5f);
    assert_true(clf_gguf_get_bool(g, "a.bool", &b) && b);
    assert_true(clf_gguf_get_string(g, "a.empty", &s) && s.length == 0);
    assert_true(clf_gguf_get_array(g, "a.strings", &type, &count) && type == CLF_GGUF_STRING && count == 4);
    assert_true(clf_gguf_array_string(g, "a.strings", 2, &s) && s.length == 3 && !memcmp(s.data, "a\0b", 3));
    assert_true(clf_gguf_array_string(g, "a.strings", 3, &s) && s.length == 2 && !memcmp(s.data, "\xff\xfe", 2));
    assert_false(clf_gguf_array_string(g, "a.strings", 4, &s));
    assert_true(clf_gguf_array_f64(g, "a.floats", 2, &d) && d == (double)1e30f);
    assert_true(clf_gguf_array_i64(g, "a.ints", 0, &i64) && i64 == INT32_MIN);
    assert_true(clf_gguf_get_array(g, "a.none", &type, &count) && count == 0);
    /* no lossy conversion */
    assert_false(clf_gguf_get_u64(g, "a.f32", &u));
    assert_false(clf_gguf_get_u64(g, "a.bool", &u));
    assert_false(clf_gguf_get_bool(g, "a.u32", &b));
    assert_false(clf_gguf_array_f64(g, "a.u32", 0, &d));
    assert_false(clf_gguf_get_f64(g, "a.floats", &d));
    assert_false(clf_gguf_get_string(g, "absent", &s));
    int n = 0;
    for (int dtype = 0; dtype < CLF_DTYPE_COUNT; dtype++) {
        static uint8_t data[4096];
        char name[32];
        if (!is_written(dtype)) continue;
        const clf_file_tensor want = sample(dtype, name, data), *got = clf_gguf_find(g, name);
        assert_ptr_equal(got, clf_gguf_tensor(g, n++));
        assert_int_equal(got->dtype, want.dtype);
        assert_int_equal(got->ndim, 2);
        assert_memory_equal(got->shape, want.shape, sizeof want.shape);
        assert_int_equal(got->nbytes, want.nbytes);
        assert_memory_equal(got->data, want.data, want.nbytes);
    }
    assert_int_equal(clf_gguf_tensor_count(g), n);
    clf_gguf_close(g);
}

static void test_gguf(void **state) {
    (void)state;
    write_gguf(in_folder("all.gguf"));
    check_gguf(in_folder("all.gguf"));
}

/* A copy of all keys is the same again. */
static void test_gguf_keys(void **state) {
    (void)state;
    clf_gguf *from, *to;
    clf_gguf_writer *w;
    clf_string s;
    double d = 0;
    const char *source = in_folder("all.gguf");
    ok(clf_gguf_open(&from, &(clf_model_file_args){.path = source}, &err));
    ok(clf_gguf_writer_create(&w, in_folder("keys.gguf"), &err));
    ok(clf_gguf_write_string(w, "general.architecture", "other", &err));
    ok(clf_gguf_write_keys_of(w, from, &err));
    ok(clf_gguf_writer_finish(w, &err));
    clf_gguf_writer_destroy(w);
    ok(clf_gguf_open(&to, &(clf_model_file_args){.path = in_folder("keys.gguf")}, &err));
    assert_true(clf_gguf_get_string(to, "general.architecture", &s) && s.length == 5);
    assert_true(clf_gguf_array_string(to, "a.strings", 2, &s) && s.length == 3 && !memcmp(s.data, "a\0b", 3));
    assert_true(clf_gguf_array_f64(to, "a.floats", 1, &d) && d == -1);
    assert_int_equal(clf_gguf_tensor_count(to), 0);
    clf_gguf_close(from);
    clf_gguf_close(to);
}

static const clf_dtype stored[] = {CLF_BOOL, CLF_F32, CLF_BF16, CLF_I64, CLF_U8,
                                   CLF_F16,  CLF_F64, CLF_I32,  CLF_I16, CLF_I8};
enum { STORED = sizeof stored / sizeof *stored };

static void write_safetensors(const char *path) {
    clf_safetensors_writer *w;
    static uint8_t data[STORED][4096];
    char names[STORED][32];
    clf_file_tensor t[STORED + 2];
    int n = 0;
    ok(clf_safetensors_writer_create(&w, path, &err));
    ok(clf_safetensors_write_metadata(w, "format", "pt", &err));
    for (; n < STORED; n++) t[n] = sample(stored[n], names[n], data[n]);
    t[n++] = (clf_file_tensor){.name = "scalar", .dtype = CLF_F16, .nbytes = 2, .data = "\1\2"};
    t[n++] = (clf_file_tensor){.name = "empty \"\xc3\xa9\"", .dtype = CLF_F32, .ndim = 2, .shape = {3, 0}, .data = ""};
    for (int i = 0; i < n; i++) ok(clf_safetensors_write_tensor(w, &t[i], &err));
    for (int i = n - 1; i >= 0; i--) ok(clf_safetensors_write_data(w, i, t[i].data, t[i].nbytes, &err));
    ok(clf_safetensors_writer_finish(w, &err));
    clf_safetensors_writer_destroy(w);
}

static void test_safetensors(void **state) {
    (void)state;
    clf_safetensors *s;
    write_safetensors(in_folder("all.safetensors"));
    ok(clf_safetensors_open(&s, &(clf_model_file_args){.path = in_folder("all.safetensors"), .mmap = true}, &err));
    assert_string_equal(clf_safetensors_metadata(s, "format"), "pt");
    assert_null(clf_safetensors_metadata(s, "absent"));
    assert_int_equal(clf_safetensors_count(s), STORED + 2);
    for (int i = 0; i < STORED; i++) {
        static uint8_t data[4096];
        char name[32];
        const clf_file_tensor want = sample(stored[i], name, data), *got = clf_safetensors_find(s, name);
        assert_non_null(got);
        assert_int_equal(got->dtype, want.dtype);
        assert_memory_equal(got->shape, want.shape, sizeof want.shape);
        assert_int_equal(got->nbytes, want.nbytes);
        assert_int_equal((uintptr_t)got->data % clf_dtype_block_bytes(want.dtype), 0);
        assert_memory_equal(got->data, want.data, want.nbytes);
    }
    assert_int_equal(clf_safetensors_find(s, "scalar")->ndim, 0);
    assert_int_equal(clf_safetensors_find(s, "empty \"\xc3\xa9\"")->nbytes, 0);
    clf_safetensors_close(s);
}

#define refused(expr, status, part)                                                                                    \
    do {                                                                                                               \
        clf_error err = {0};                                                                                           \
        assert_int_equal((expr), (status));                                                                            \
        if (!strstr(err.message, (part))) fail_msg("expected \"%s\", got \"%s\"", (part), err.message);                \
    } while (0)

static void test_misuse(void **state) {
    (void)state;
    clf_gguf *g;
    clf_gguf_writer *w;
    clf_safetensors_writer *s;
    const clf_file_tensor t = {.name = "t", .dtype = CLF_F32, .ndim = 1, .shape = {2}};
    clf_file_tensor bad = t;
    const int before = entries_of(folder);
    ok(clf_gguf_writer_create(&w, in_folder("bad.gguf"), &err));
    ok(clf_gguf_write_u32(w, "k", 1, &err));
    refused(clf_gguf_write_u32(w, "k", 1, &err), CLF_INVALID_ARGUMENT, "twice");
    refused(clf_gguf_write_u32(w, "", 1, &err), CLF_INVALID_ARGUMENT, "name");
    refused(clf_gguf_write_u32(w, "\xff", 1, &err), CLF_INVALID_ARGUMENT, "UTF-8");
    ok(clf_gguf_write_tensor(w, &t, &err));
    refused(clf_gguf_write_tensor(w, &t, &err), CLF_INVALID_ARGUMENT, "twice");
    bad.name = "a name that is longer than the 63 bytes which a tensor's name has in GGUF";
    refused(clf_gguf_write_tensor(w, &bad, &err), CLF_INVALID_ARGUMENT, "63");
    bad = t, bad.name = "u8", bad.dtype = CLF_U8;
    refused(clf_gguf_write_tensor(w, &bad, &err), CLF_UNSUPPORTED, "u8");
    bad = t, bad.name = "q", bad.dtype = CLF_Q8_0;
    refused(clf_gguf_write_tensor(w, &bad, &err), CLF_INVALID_ARGUMENT, "whole blocks");
    refused(clf_gguf_write_data(w, 0, "123456789", 9, &err), CLF_INVALID_ARGUMENT, "expected at most 8 bytes, got 9");
    refused(clf_gguf_write_data(w, 1, "1234", 4, &err), CLF_INVALID_ARGUMENT, "below 1");
    bad = t, bad.name = "second";
    ok(clf_gguf_write_tensor(w, &bad, &err));
    ok(clf_gguf_write_data(w, 1, "abcdefgh", 8, &err));
    ok(clf_gguf_write_data(w, 0, "123", 3, &err));
    refused(clf_gguf_writer_finish(w, &err), CLF_INVALID_ARGUMENT,
            "tensor 0: expected 8 bytes of data, 3 were written");
    ok(clf_gguf_write_data(w, 0, "45678", 5, &err));
    refused(clf_gguf_write_data(w, 0, "9", 1, &err), CLF_INVALID_ARGUMENT, "expected at most 0 bytes, got 1");
    refused(clf_gguf_write_u32(w, "late", 1, &err), CLF_INVALID_ARGUMENT, "before data");
    ok(clf_gguf_writer_finish(w, &err));
    clf_gguf_writer_destroy(w);
    ok(clf_gguf_open(&g, &(clf_model_file_args){.path = in_folder("bad.gguf")}, &err));
    assert_memory_equal(clf_gguf_find(g, "t")->data, "12345678", 8);
    assert_memory_equal(clf_gguf_find(g, "second")->data, "abcdefgh", 8);
    clf_gguf_close(g);
    unlink(in_folder("bad.gguf"));
    bad.dtype = CLF_Q8_0;
    ok(clf_safetensors_writer_create(&s, in_folder("bad.safetensors"), &err));
    ok(clf_safetensors_write_tensor(s, &t, &err));
    refused(clf_safetensors_write_tensor(s, &t, &err), CLF_INVALID_ARGUMENT, "twice");
    refused(clf_safetensors_write_tensor(s, &bad, &err), CLF_UNSUPPORTED, "q8_0");
    refused(clf_safetensors_writer_finish(s, &err), CLF_INVALID_ARGUMENT, "0 were written");
    clf_safetensors_writer_destroy(s);
    refused(clf_gguf_writer_create(&w, in_folder("nowhere/x.gguf"), &err), CLF_NOT_FOUND, "nowhere");
    refused(clf_gguf_writer_create(&w, "", &err), CLF_INVALID_ARGUMENT, "path");
    assert_int_equal(entries_of(folder), before);
}

/* A file that may not grow beyond a size, like a full disk, fails a write; the old file stays, nothing else does. */
static void test_full_disk(void **state) {
    (void)state;
    static uint8_t data[1 << 20];
    const clf_file_tensor t = {.name = "t", .dtype = CLF_F32, .ndim = 1, .shape = {1 << 18}};
    struct rlimit old, little;
    const char *path = in_folder("all.gguf");
    const int before = entries_of(folder);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    signal(SIGXFSZ, SIG_IGN);
    for (rlim_t limit = 0; limit < 1 << 20; limit = limit ? limit * 4 : 16) {
        clf_gguf_writer *w;
        clf_error failure = {0};
        little = (struct rlimit){limit, old.rlim_max};
        ok(clf_gguf_writer_create(&w, path, &err));
        ok(clf_gguf_write_tensor(w, &t, &err));
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &little), 0);
        clf_status st = clf_gguf_write_data(w, 0, data, sizeof data, &failure);
        if (st == CLF_OK) st = clf_gguf_writer_finish(w, &failure);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
        clf_gguf_writer_destroy(w);
        assert_int_equal(st, CLF_IO_ERROR);
        assert_non_null(strstr(failure.message, "all.gguf"));
        assert_int_equal(entries_of(folder), before);
        check_gguf(path);
    }
}

static int remove_three(void **state) { /* nothing else was left */
    const bool three = entries_of(folder) == 3;
    return remove_folder(state) || !three;
}

int main(int argc, char **argv) {
    if (argc == 3 && !strcmp(argv[1], "--keep")) {
        keep = true;
        snprintf(folder, sizeof folder, "%s", argv[2]);
        if (mkdir(folder, 0777) && !exists(folder)) return 1;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_gguf), cmocka_unit_test(test_gguf_keys),
                                       cmocka_unit_test(test_safetensors), cmocka_unit_test(test_misuse),
                                       cmocka_unit_test(test_full_disk)};
    return cmocka_run_group_tests_name("model_write", tests, keep ? NULL : make_folder, keep ? NULL : remove_three);
}
