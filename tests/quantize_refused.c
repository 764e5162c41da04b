/* quantize_refused.c: whatever clf_quantize() refuses, or cannot write, leaves nothing behind, and says why. */
#define _GNU_SOURCE
#include "quantize_case.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

static void test_refused(void **state) {
    (void)state;
    clf_context *ctx = open_context("cpu", 0);
    const char *from = in_folder("source.gguf"), *broken = in_folder("broken.gguf");
    const char *const links[] = {in_folder("symbolic.gguf"), in_folder("hard.gguf")};
    quantize_make(from, &wide);
    const clf_quantize_args good = {.input = from, .output = in_folder("to.gguf"), .type = "q8_0"};
    clf_quantize_args args = good;
#define REFUSED(field, value, status, why)                                                                             \
    do {                                                                                                               \
        args = good;                                                                                                   \
        args.field = value;                                                                                            \
        refused(ctx, args, status, why);                                                                               \
    } while (0)
    assert_int_equal(clf_quantize(ctx, NULL, NULL), CLF_INVALID_ARGUMENT);
    REFUSED(type, "q4_q", CLF_INVALID_ARGUMENT, "got q4_q");
    REFUSED(type, "nf4", CLF_INVALID_ARGUMENT, "got nf4");
    REFUSED(type, NULL, CLF_INVALID_ARGUMENT, "type");
    REFUSED(input, NULL, CLF_INVALID_ARGUMENT, "input");
    REFUSED(input, "/nowhere/at.gguf", CLF_NOT_FOUND, "/nowhere/at.gguf");
    REFUSED(output, "folder", CLF_INVALID_ARGUMENT, "NAME.gguf");
    REFUSED(output, NULL, CLF_INVALID_ARGUMENT, "NAME.gguf");
    REFUSED(output, "/nowhere/at.gguf", CLF_NOT_FOUND, "/nowhere/at.gguf");
    /* the input, by its own name and by others */
    REFUSED(output, from, CLF_INVALID_ARGUMENT, "a file of the input");
    assert_int_equal(symlink(from, links[0]), 0);
    assert_int_equal(link(from, links[1]), 0);
    for (int i = 0; i < 2; i++) REFUSED(output, links[i], CLF_INVALID_ARGUMENT, "a file of the input");
    /* weights that aren't numbers, or have no f16 */
    quantize_model bad = {.hidden = 64, .ffn = 96, .layers = 1, .broken = "blk.0.ffn_up.weight", .value = NAN};
    quantize_make(broken, &bad);
    REFUSED(input, broken, CLF_NOT_FINITE, "blk.0.ffn_up.weight: [3, 7]: expected a finite number, got");
    bad.value = INFINITY;
    quantize_make(broken, &bad);
    REFUSED(input, broken, CLF_NOT_FINITE, "blk.0.ffn_up.weight: [3, 7]");
    args.type = "f32";
    refused(ctx, args, CLF_NOT_FINITE, "blk.0.ffn_up.weight: [3, 7]");
    bad.value = 1e6f;
    quantize_make(broken, &bad);
    args.type = "f16";
    refused(ctx, args, CLF_NOT_FINITE, "blk.0.ffn_up.weight: [3, 7]: 1e+06 is infinite as f16");
    bad.value = 1e9f; /* finite, but not the scale of its block as a half */
    quantize_make(broken, &bad);
    args.type = "q8_0";
    refused(ctx, args, CLF_NOT_FINITE, "blk.0.ffn_up.weight: ");
    /* a file that ends early */
    assert_int_equal(truncate(broken, 20000), 0);
    REFUSED(input, broken, CLF_BAD_FILE, "broken.gguf");
    assert_int_equal(truncate(broken, 100), 0);
    REFUSED(input, broken, CLF_BAD_FILE, "broken.gguf");
    /* cancelled */
    report r = {.stop_after = 5};
    const int before = entries_of(folder);
    assert_int_equal(quantize(ctx, good, &r, NULL), CLF_CANCELLED);
    assert_int_equal(r.count, 5);
    assert_int_equal(entries_of(folder), before);
    clf_context_destroy(ctx);
    /* too little memory */
    ctx = open_context("cpu", 1 << 20);
    refused(ctx, good, CLF_OUT_OF_MEMORY, "");
    clf_context_destroy(ctx);
}

static void test_full_disk(void **state) {
    (void)state;
    clf_context *ctx = open_context("cpu", 0);
    const char *from = in_folder("source.gguf"), *to = in_folder("full.gguf");
    struct rlimit old;
    report r = {0};
    quantize_make(from, &wide);
    const clf_quantize_args args = {.input = from, .output = to, .type = "q8_0"};
    assert_ok(ctx, quantize(ctx, args, &r, NULL));
    struct stat whole, after;
    assert_int_equal(stat(to, &whole), 0);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    signal(SIGXFSZ, SIG_IGN);
    for (int i = 0; i < 4; i++) {
        const rlim_t limit = (rlim_t)whole.st_size * (rlim_t)i / 4;
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &(struct rlimit){limit, old.rlim_max}), 0);
        const int before = entries_of(folder);
        const clf_status st = quantize(ctx, args, &r, NULL);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
        assert_int_equal(st, CLF_IO_ERROR);
        assert_int_equal(entries_of(folder), before);
        assert_int_equal(stat(to, &after), 0);
        assert_true(after.st_ino == whole.st_ino && after.st_size == whole.st_size); /* the older one stays */
    }
    clf_context_destroy(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_refused), cmocka_unit_test(test_full_disk)};
    return cmocka_run_group_tests_name("quantize_refused", tests, make_folder, remove_folder);
}
