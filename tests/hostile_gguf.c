/* hostile_gguf.c: hostile inputs 1 to 31 and 35: GGUF files that lie about their sizes, types and names, and files that
 * are none. Each is opened from memory (a block of exactly its size), read from a file, and mapped. */
#include "hostile_gguf.h"

static void test_header(void **state) {
    (void)state;
    bytes b = {0};
    check(1, "empty", AS_GGUF, &b, CLF_BAD_FILE, "empty");
    b = header(3, 0, 0), b.data[3] = 'f';
    check(2, "magic", AS_GGUF, &b, CLF_BAD_FILE, "expected 47 47 55 46 (GGUF), got 47 47 55 66");
    b = header(0, 0, 0);
    check(3, "version 0", AS_GGUF, &b, CLF_UNSUPPORTED, "version");
    b = header(1, 0, 0);
    check(3, "version 1", AS_GGUF, &b, CLF_UNSUPPORTED, "expected 2 or 3, got 1");
    b = header(99, 0, 0);
    check(3, "version 99", AS_GGUF, &b, CLF_UNSUPPORTED, "expected 2 or 3, got 99");
    b = header(3u << 24, 0, 0);
    check(4, "big-endian", AS_GGUF, &b, CLF_UNSUPPORTED, "big-endian");
    b = header(3, (uint64_t)1 << 63, 0);
    check(6, "2^63 tensors", AS_GGUF, &b, CLF_BAD_FILE, "counts");
    b = header(3, INT64_MAX, 0);
    check(6, "2^63-1 tensors", AS_GGUF, &b, CLF_BAD_FILE, "ends too early");
    b = header(3, 0, (uint64_t)1 << 63);
    check(7, "2^63 keys", AS_GGUF, &b, CLF_BAD_FILE, "counts");
    b = header(3, 0, INT64_MAX);
    check(7, "2^63-1 keys", AS_GGUF, &b, CLF_BAD_FILE, "ends too early");
    b = header(2, 0, 0);
    check(3, "version 2 is read", AS_GGUF, &b, CLF_OK, "");
}

static void test_many_keys(void **state) {
    (void)state;
    enum { MILLION = 1000000 };
    bytes b = header(3, 0, MILLION);
    for (int i = 0; i < MILLION; i++) {
        put_u64(&b, 1);
        put_u8(&b, (uint8_t)(33 + i % 90));
        put_u32(&b, CLF_GGUF_U8);
        put_u8(&b, 0);
    }
    check(8, "a million keys of one byte", AS_GGUF, &b, CLF_BAD_FILE, "duplicate key");
    b = header(3, 0, MILLION);
    for (int i = 0; i < MILLION; i++) {
        char key[16];
        snprintf(key, sizeof key, "%d", i);
        put_string(&b, key);
        put_u32(&b, CLF_GGUF_U8);
        put_u8(&b, 0);
    }
    check(8, "a million different keys", AS_GGUF, &b, CLF_OK, "");
}

static void test_keys(void **state) {
    (void)state;
    bytes b = header(3, 0, 1);
    put_u64(&b, UINT64_MAX);
    put(&b, "key", 3);
    check(9, "key of 2^64-1 bytes", AS_GGUF, &b, CLF_BAD_FILE, "ends too early");
    b = header(3, 0, 1);
    put_u64(&b, UINT64_MAX - 31); /* at + length wraps to nearly 0 */
    put(&b, "key", 3);
    check(9, "key whose end wraps", AS_GGUF, &b, CLF_BAD_FILE, "ends too early");
    b = one_key("");
    put_u32(&b, CLF_GGUF_U8);
    put_u8(&b, 0);
    check(10, "empty key", AS_GGUF, &b, CLF_BAD_FILE, "expected 1 to 65535 bytes");
    b = header(3, 0, 2);
    for (int i = 0; i < 2; i++) {
        put_string(&b, "twice");
        put_u32(&b, CLF_GGUF_U8);
        put_u8(&b, 0);
    }
    check(11, "duplicate key", AS_GGUF, &b, CLF_BAD_FILE, "twice: duplicate key");
    static const char *const bad[] = {"a\xff", "\xc0\x80", "\xed\xa0\x80", "a\nb", "a\x7f"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        b = one_key(bad[i]);
        put_u32(&b, CLF_GGUF_U8);
        put_u8(&b, 0);
        check(12, "bad UTF-8 or control characters", AS_GGUF, &b, CLF_BAD_FILE, "UTF-8");
    }
    b = header(3, 0, 1);
    put_u64(&b, 3);
    put(&b, "a\0b", 3);
    put_u32(&b, CLF_GGUF_U8);
    put_u8(&b, 0);
    check(12, "NUL in a key", AS_GGUF, &b, CLF_BAD_FILE, "UTF-8");
}

static void test_values(void **state) {
    (void)state;
    static const uint32_t types[] = {13, 255, UINT32_MAX};
    for (int i = 0; i < 3; i++) {
        bytes b = one_key("k");
        put_u32(&b, types[i]);
        put_u64(&b, 0);
        check(13, "unknown type", AS_GGUF, &b, CLF_BAD_FILE, "k: type: expected below 13");
        b = one_key("k");
        put_u32(&b, CLF_GGUF_ARRAY);
        put_u32(&b, types[i]);
        put_u64(&b, 0);
        check(13, "array of an unknown type", AS_GGUF, &b, CLF_BAD_FILE, "k: array: expected an element type");
    }
    bytes b = one_key("deep");
    put_u32(&b, CLF_GGUF_ARRAY);
    for (int i = 0; i < 100000; i++) {
        put_u32(&b, CLF_GGUF_ARRAY);
        put_u64(&b, 1);
    }
    check(14, "arrays 10^5 deep", AS_GGUF, &b, CLF_BAD_FILE, "no array of arrays");
    static const uint64_t counts[] = {(uint64_t)1 << 62, UINT64_MAX, ((uint64_t)1 << 62) + 1, ((uint64_t)1 << 61) + 1};
    for (int i = 0; i < 4; i++) {
        b = one_key("k");
        put_u32(&b, CLF_GGUF_ARRAY);
        put_u32(&b, i < 3 ? CLF_GGUF_F32 : CLF_GGUF_U64);
        put_u64(&b, counts[i]);
        put_u64(&b, 0);
        check(15, "array whose size wraps", AS_GGUF, &b, CLF_BAD_FILE, "overflow");
    }
    static const uint32_t elements[] = {CLF_GGUF_U8, CLF_GGUF_BOOL, CLF_GGUF_F64, CLF_GGUF_STRING};
    for (int i = 0; i < 4; i++) {
        b = one_key("k");
        put_u32(&b, CLF_GGUF_ARRAY);
        put_u32(&b, elements[i]);
        put_u64(&b, 1000);
        put_u64(&b, 0);
        check(16, "array beyond the end", AS_GGUF, &b, CLF_BAD_FILE, "ends too early");
    }
    b = one_key("k");
    put_u32(&b, CLF_GGUF_ARRAY);
    put_u32(&b, CLF_GGUF_STRING);
    put_u64(&b, (uint64_t)1 << 40);
    put_u64(&b, 0);
    check(16, "2^40 strings", AS_GGUF, &b, CLF_BAD_FILE, "at most");
    b = one_key("k");
    put_u32(&b, CLF_GGUF_STRING);
    put_u64(&b, UINT64_MAX - 7);
    check(16, "string whose end wraps", AS_GGUF, &b, CLF_BAD_FILE, "ends too early");
    b = one_key("k");
    put_u32(&b, CLF_GGUF_BOOL);
    put_u8(&b, 7);
    check(17, "bool 7", AS_GGUF, &b, CLF_BAD_FILE, "expected 0 or 1, got 7");
    b = one_key("k");
    put_u32(&b, CLF_GGUF_ARRAY);
    put_u32(&b, CLF_GGUF_BOOL);
    put_u64(&b, 2);
    put(&b, "\1\2", 2);
    check(17, "array of bools with 2", AS_GGUF, &b, CLF_BAD_FILE, "expected 0 or 1, got 2");
    static const uint32_t alignments[] = {0, 3, 1u << 31, UINT32_MAX};
    for (int i = 0; i < 4; i++) {
        b = one_key("general.alignment");
        put_u32(&b, CLF_GGUF_U32);
        put_u32(&b, alignments[i]);
        check(18, "alignment", AS_GGUF, &b, CLF_BAD_FILE, "expected a power of two");
    }
    b = one_key("general.alignment");
    put_u32(&b, CLF_GGUF_STRING);
    put_string(&b, "32");
    check(18, "alignment as a string", AS_GGUF, &b, CLF_BAD_FILE, "expected u32, got string");
}

static void test_tensors(void **state) {
    (void)state;
    const uint64_t big = (uint64_t)1 << 32;
    bytes b = one_tensor(0, NULL, 0, 0, 4);
    check(19, "no dimension", AS_GGUF, &b, CLF_BAD_FILE, "expected 1 to 4, got 0");
    b = one_tensor(DIMS(1, 1, 1, 1, 1), 0, 0, 4);
    check(19, "5 dimensions", AS_GGUF, &b, CLF_BAD_FILE, "expected 1 to 4, got 5");
    b = one_tensor(UINT32_MAX, (const uint64_t[8]){1, 1, 1, 1, 1, 1, 1, 1}, 0, 0, 4);
    check(19, "2^32-1 dimensions", AS_GGUF, &b, CLF_BAD_FILE, "expected 1 to 4, got 4294967295");
    b = one_tensor(DIMS(4, 0), 0, 0, 0);
    check(20, "dimension 0", AS_GGUF, &b, CLF_BAD_FILE, "expected a positive size, got 0");
    b = one_tensor(DIMS(UINT64_MAX), 0, 0, 0);
    check(20, "dimension -1", AS_GGUF, &b, CLF_BAD_FILE, "expected a positive size, got -1");
    b = one_tensor(DIMS(big, big), 0, 0, 0);
    check(21, "dimensions that multiply to 2^64", AS_GGUF, &b, CLF_BAD_FILE, "overflows");
    b = one_tensor(DIMS(big, big, big, big), 0, 0, 0);
    check(21, "dimensions that multiply to 2^128", AS_GGUF, &b, CLF_BAD_FILE, "overflows");
    b = one_tensor(DIMS((uint64_t)3 << 61), 0, 0, 0);
    check(21, "a dimension above 2^62", AS_GGUF, &b, CLF_BAD_FILE, "");
    b = one_tensor(DIMS((uint64_t)1 << 62), 0, 0, 0);
    check(22, "bytes that wrap", AS_GGUF, &b, CLF_BAD_FILE, "bytes overflows");
    b = one_tensor(DIMS(33), 2, 0, 64);
    check(23, "a row of 33 in blocks of 32", AS_GGUF, &b, CLF_BAD_FILE, "expected a multiple of 32 for q4_0, got 33");
    b = one_tensor(DIMS(16, 2), 2, 0, 64);
    check(23, "rows of 16 in blocks of 32", AS_GGUF, &b, CLF_BAD_FILE, "expected a multiple of 32");
    static const uint32_t types[] = {4, 5, 9, 15, 31, 36, 255, UINT32_MAX};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        b = one_tensor(DIMS(256), types[i], 0, 2048);
        check(24, "removed or unknown type", AS_GGUF, &b, CLF_UNSUPPORTED, "tensor t: tensor type");
    }
    static const uint64_t offsets[] = {1, 32, UINT64_MAX, (uint64_t)1 << 63};
    for (int i = 0; i < 4; i++) {
        b = one_tensor(DIMS(8), 0, offsets[i], 128);
        check(25, "offset", AS_GGUF, &b, CLF_BAD_FILE, "offset: expected 0");
    }
    b = header(3, 2, 0);
    put_info(&b, "a", DIMS(8), 0, 0);
    put_info(&b, "b", DIMS(8), 0, 0);
    put_zeros(&b, 128);
    check(25, "overlap", AS_GGUF, &b, CLF_BAD_FILE, "tensor b: offset: expected 32");
    b = one_tensor(DIMS(9), 0, 0, 32);
    check(25, "past the end", AS_GGUF, &b, CLF_BAD_FILE, "expected data up to byte");
    b = header(3, 3, 0);
    for (int i = 0; i < 3; i++) {
        char name[2] = {(char)('a' + i), 0};
        put_info(&b, name, DIMS(((uint64_t)1 << 62) - 8, 2), 24, (uint64_t)i * (((uint64_t)1 << 63) - 16));
    }
    check(26, "sum of sizes wraps", AS_GGUF, &b, CLF_BAD_FILE, "");
    b = header(3, 1, 0);
    put_info(&b, "a", DIMS((uint64_t)INT64_MAX), 24, 0);
    check(26, "start and size wrap", AS_GGUF, &b, CLF_BAD_FILE, "expected data up to byte");
    b = header(3, 2, 0);
    put_info(&b, "a", DIMS(8), 0, 0);
    put_info(&b, "a", DIMS(8), 0, 32);
    put_zeros(&b, 128);
    check(27, "duplicate tensor", AS_GGUF, &b, CLF_BAD_FILE, "tensor a: duplicate tensor name");
    char name[66] = "";
    memset(name, 'n', 64);
    b = header(3, 1, 0);
    put_info(&b, name, DIMS(8), 0, 0);
    put_zeros(&b, 128);
    check(28, "name of 64 bytes", AS_GGUF, &b, CLF_BAD_FILE, "expected 1 to 63 bytes");
    name[63] = 0;
    b = header(3, 1, 0);
    put_info(&b, name, DIMS(8), 0, 0);
    put_zeros(&b, 128);
    check(28, "name of 63 bytes", AS_GGUF, &b, CLF_OK, "");
    b = header(3, 1, 0);
    put_info(&b, "", DIMS(8), 0, 0);
    put_zeros(&b, 128);
    check(28, "empty name", AS_GGUF, &b, CLF_BAD_FILE, "expected 1 to 63 bytes");
}

/* 35: a NaN scale is data: the file opens and the bytes are there; what computes with it gives NaN. */
static void test_nan_scale(void **state) {
    (void)state;
    bytes b = one_tensor(DIMS(32), 8, 0, 0);
    put_u8(&b, 0xff);
    put_u8(&b, 0x7f);
    put_zeros(&b, 32);
    check(35, "NaN scale", AS_GGUF, &b, CLF_OK, "");
}

/* Writes `b` at the start of a file of `size` bytes that takes no room; false where the file system can't. */
static bool save_sparse(const char *path, const bytes *b, uint64_t size) {
    save(path, b->data, b->size);
    return !truncate(path, (off_t)size);
}

static void test_sparse(void **state) {
    (void)state;
    const uint64_t terabyte = (uint64_t)1 << 40;
    const struct {
        const char *what;
        bytes b;
        clf_status read, mapped;
    } cases[] = {
        {"a model and nothing else", model(&(change){0}), CLF_OK, CLF_OK},
        {"2^36 keys", header(3, 0, (uint64_t)1 << 36), CLF_BAD_FILE, CLF_BAD_FILE},
        {"2^36 tensors", header(3, (uint64_t)1 << 36, 0), CLF_BAD_FILE, CLF_BAD_FILE},
        {"a tensor of it all", one_tensor(DIMS(terabyte / 4 - 64), 0, 0, 0), CLF_OUT_OF_MEMORY, CLF_OK},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bytes b = cases[i].b;
        if (!save_sparse(in_folder("sparse.gguf"), &b, terabyte)) {
            free(b.data);
            print_message("29: no file of 1 TiB here\n");
            skip();
        }
        free(b.data);
        for (int map = 0; map < 2; map++) {
            clf_error err;
            const double start = seconds();
            const clf_status st =
                open_as(AS_GGUF, &(clf_model_file_args){.path = in_folder("sparse.gguf"), .mmap = map}, &err);
            expect(29, cases[i].what, st, &err, map ? cases[i].mapped : cases[i].read, "", start);
        }
    }
    /* strings and arrays that claim the zeros */
    static const uint32_t elements[] = {CLF_GGUF_U8, CLF_GGUF_BOOL, CLF_GGUF_STRING};
    for (int i = 0; i < 4; i++) {
        bytes b = one_key("k");
        if (i < 3) {
            put_u32(&b, CLF_GGUF_ARRAY);
            put_u32(&b, elements[i]);
        } else {
            put_u32(&b, CLF_GGUF_STRING);
        }
        put_u64(&b, terabyte / 16);
        assert_true(save_sparse(in_folder("sparse.gguf"), &b, terabyte));
        free(b.data);
        for (int map = 0; map < 2; map++) {
            clf_error err;
            const double start = seconds();
            const clf_status st =
                open_as(AS_GGUF, &(clf_model_file_args){.path = in_folder("sparse.gguf"), .mmap = map}, &err);
            expect(29, "metadata of 64 GiB", st, &err, CLF_BAD_FILE, "at most", start);
        }
    }
}

/* 30: a file that was read may shrink. (A mapped one may not: the system then ends the process, as model.h says.) */
static void test_shrinks(void **state) {
    (void)state;
    bytes b = one_tensor(DIMS(1 << 16), 0, 0, 0);
    const size_t start = b.size;
    for (uint32_t i = 0; i < 1 << 16; i++) put_u32(&b, i);
    save(in_folder("shrinks.gguf"), b.data, b.size);
    clf_gguf *g;
    clf_error err = {0};
    assert_int_equal(clf_gguf_open(&g, &(clf_model_file_args){.path = in_folder("shrinks.gguf")}, &err), CLF_OK);
    assert_int_equal(truncate(in_folder("shrinks.gguf"), 10), 0);
    assert_memory_equal(clf_gguf_find(g, "t")->data, b.data + start, 4 << 16);
    clf_gguf_close(g);
    free(b.data);
}

static void test_odd_files(void **state) {
    (void)state;
    assert_int_equal(mkfifo(in_folder("fifo"), 0600), 0);
    assert_int_equal(symlink("loop", in_folder("loop")), 0);
    assert_int_equal(mkdir(in_folder("folder"), 0700), 0);
    const struct {
        const char *path;
        opener as;
        clf_status status;
        const char *part;
    } cases[] = {{in_folder("fifo"), AS_MODEL, CLF_BAD_FILE, "regular file"},
                 {"/dev/zero", AS_MODEL, CLF_BAD_FILE, "regular file"},
                 {in_folder("folder"), AS_GGUF, CLF_BAD_FILE, "a folder"},
                 {in_folder("folder"), AS_MODEL, CLF_NOT_FOUND, "config.json"}};
    for (size_t i = 0; i < 4; i++)
        for (int map = 0; map < 2; map++) {
            clf_error err;
            const double start = seconds();
            const clf_status st =
                open_as(cases[i].as, &(clf_model_file_args){.path = cases[i].path, .mmap = map}, &err);
            expect(31, cases[i].path, st, &err, cases[i].status, cases[i].part, start);
        }
    clf_error err;
    double start = seconds();
    expect(31, "symlink loop", open_as(AS_MODEL, &(clf_model_file_args){.path = in_folder("loop")}, &err), &err,
           CLF_IO_ERROR, "loop", start);
    expect(31, "nothing", open_as(AS_MODEL, &(clf_model_file_args){.path = in_folder("nothing")}, &err), &err,
           CLF_NOT_FOUND, "nothing", start);
    expect(31, "no path", open_as(AS_MODEL, &(clf_model_file_args){0}, &err), &err, CLF_INVALID_ARGUMENT, "path",
           start);
}

int main(int argc, char **argv) {
    if (argc == 3 && !strcmp(argv[1], "--seeds")) seeds = argv[2];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_header), cmocka_unit_test(test_many_keys), cmocka_unit_test(test_keys),
        cmocka_unit_test(test_values), cmocka_unit_test(test_tensors),   cmocka_unit_test(test_nan_scale),
        cmocka_unit_test(test_sparse), cmocka_unit_test(test_shrinks),   cmocka_unit_test(test_odd_files)};
    return cmocka_run_group_tests_name("hostile_gguf", tests, make_folder, remove_and_weigh);
}
