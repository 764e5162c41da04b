/* op_runner.c: the runner must find what is wrong. clf_add() is called with one fault put in at a time, through the
 * host address that CPU tables give; each must fail, and none must not. And it must run what its flags choose. */
#include "op_case.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

typedef enum fault {
    NOTHING,
    UNWRITTEN,        /* the last element stays as it was */
    POISONED,         /* an element is NaN */
    BEFORE,           /* the byte before the output changes */
    AFTER,            /* the byte after it */
    GAP,              /* in strided runs, a byte between two rows */
    INPUT,            /* an input's element changes */
    INPUT_GUARD,      /* a byte after an input */
    TWO_ULPS,         /* an element is two units off */
    ONE_BIT_ONCE,     /* the second call's last bit differs */
    SMALL_ERROR,      /* all elements are 3e-6 off */
    WRONG_SIGN,       /* −∞ for ∞ */
    ONLY_TWO_THREADS, /* wrong with two threads only */
    ONLY_STRIDED,     /* wrong in strided runs only */
    STATUS,           /* an error is returned */
    FAULTS
} fault;

static fault injected;
static int calls;

static bool make(op_run *run) {
    const int64_t shape[] = {3, 5};
    op_input(run, "a", run->dtype, 2, shape, 1, 2);
    const int b = op_input(run, "b", run->dtype, 2, shape, 1, 2);
    run->t[b].value[7] = INFINITY;
    op_output(run, "out", run->dtype, 2, shape);
    return true;
}

/* Element i of 15 as an unsigned integer, and its address. */
static uint8_t *at(clf_tensor *t, int i) {
    const size_t bytes = clf_dtype_block_bytes(clf_tensor_dtype(t));
    return (uint8_t *)clf_tensor_data(t) + (size_t)(i / 5 * clf_tensor_stride(t, 0) + i % 5) * bytes;
}

static void put(clf_tensor *t, int i, double value) {
    op_encode(clf_tensor_dtype(t), &value, 1, at(t, i));
}

static void sabotage(op_run *run) {
    clf_tensor *a = op_device(run, "a"), *out = op_device(run, "out");
    const size_t bytes = clf_dtype_block_bytes(run->dtype);
    const bool strided = clf_tensor_stride(out, 0) != 5, is16 = bytes == 2;
    float f;
    switch (injected) {
    case POISONED: put(out, 3, NAN); break;
    case BEFORE: at(out, 0)[-1] ^= 1; break;
    case AFTER: at(out, 14)[bytes] ^= 1; break;
    case GAP:
        if (strided) at(out, 4)[bytes] ^= 1;
        break;
    case INPUT: *at(a, 9) ^= 1; break;
    case INPUT_GUARD: at(a, 14)[bytes] ^= 1; break;
    case TWO_ULPS: /* in float32 the tolerance is a norm: many units */
        if (is16) *(uint16_t *)(void *)at(out, 2) += 2;
        if (!is16) memcpy(&f, at(out, 2), 4), f *= 1.00001f, memcpy(at(out, 2), &f, 4);
        break;
    case ONE_BIT_ONCE:
        if (calls % 2 == 0) *at(out, 14) ^= 1;
        break;
    case SMALL_ERROR:
        for (int i = 0; i < 7; i++)
            if (is16)
                *(uint16_t *)(void *)at(out, i) += 1; /* within the element's bound, not within the norm's */
            else
                memcpy(&f, at(out, i), 4), f *= 1.000003f, memcpy(at(out, i), &f, 4);
        break;
    case WRONG_SIGN: put(out, 7, -INFINITY); break;
    case ONLY_TWO_THREADS:
        if (clf_context_threads(run->ctx) == 2) put(out, 0, 9);
        break;
    case ONLY_STRIDED:
        if (strided) put(out, 0, 9);
        break;
    default: break;
    }
}

static clf_status call(op_run *run) {
    clf_tensor *out = op_device(run, "out");
    uint8_t kept[4];
    calls++;
    memcpy(kept, at(out, 14), 4);
    const clf_status st =
        clf_add(run->ctx, &(clf_add_args){.a = op_device(run, "a"), .b = op_device(run, "b"), .out = out});
    if (injected == UNWRITTEN) memcpy(at(out, 14), kept, clf_dtype_block_bytes(run->dtype));
    sabotage(run);
    return injected == STATUS ? CLF_UNSUPPORTED : st;
}

static void reference(op_run *run) {
    for (int i = 0; i < 15; i++) op_value(run, "out")[i] = op_value(run, "a")[i] + op_value(run, "b")[i];
}

/* The runner's exit code; its lines are for failures that people look into, not for these. */
static int run_with(const op_case *c, fault f, int n, const char *const *flags) {
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        char words[16][16] = {"test-add", "--device", "cpu"};
        char *argv[16] = {words[0], words[1], words[2]};
        for (int i = 0; i < n; i++) {
            argv[3 + i] = words[3 + i];
            snprintf(words[3 + i], sizeof words[3 + i], "%s", flags[i]);
        }
        injected = f;
        if (!freopen("/dev/null", "w", stdout) || !freopen("/dev/null", "w", stderr)) _exit(3);
        _exit(op_main(3 + n, argv, c));
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status)) return -1;
    return WEXITSTATUS(status);
}

static int check_faults(int *passed) {
    static const op_case c = {
        .name = "add", .variants = 1, .ulp = true, .make = make, .call = call, .reference = reference};
    static const char *const dtypes[] = {"f32", "f16", "bf16"};
    int failures = 0;
    for (int f = 0; f < FAULTS; f++)
        for (int d = 0; d < 3; d++) {
            const int code = run_with(&c, (fault)f, 2, (const char *const[]){"--dtype", dtypes[d]}),
                      expected = f == NOTHING ? 0 : 1;
            *passed += code == expected;
            if (code == expected) continue;
            printf("FAIL fault %d, %s: expected exit code %d, got %d\n", f, dtypes[d], expected, code);
            failures++;
        }
    return failures;
}

/* All runs are wrong, but for the forward one of variant 0, whose tensors are of one dtype. */
static bool make_two(op_run *run) {
    const int64_t one = 1;
    const bool made = make(run);
    if (run->variant) op_input(run, "extra", CLF_I32, 1, &one, 0, 2);
    return made;
}
static clf_status call_two(op_run *run) {
    injected = run->variant || run->backward ? POISONED : NOTHING;
    return call(run);
}

/* The flags that choose among runs leave out what they should, and nothing else. */
static int check_choice(int *passed) {
    static const op_case c = {.name = "add",
                              .variants = 2,
                              .ulp = true,
                              .make = make_two,
                              .call = call_two,
                              .reference = reference,
                              .call_backward = call_two,
                              .reference_backward = reference};
    static const struct {
        int n;
        const char *flags[3];
        int code;
    } choices[] = {{0, {NULL}, 1},
                   {1, {"--forward"}, 1},
                   {1, {"--backward"}, 1},
                   {2, {"--like", "0"}, 1},
                   {3, {"--forward", "--like", "0"}, 0},
                   {3, {"--forward", "--like", "1"}, 1},
                   {3, {"--backward", "--like", "0"}, 1},
                   {3, {"--forward", "--variant", "0"}, 0},
                   {2, {"--like", "2"}, 2}};
    int failures = 0;
    for (size_t i = 0; i < sizeof choices / sizeof *choices; i++) {
        const int code = run_with(&c, NOTHING, choices[i].n, choices[i].flags);
        *passed += code == choices[i].code;
        if (code == choices[i].code) continue;
        printf("FAIL choice %d: expected exit code %d, got %d\n", (int)i, choices[i].code, code);
        failures++;
    }
    return failures;
}

/* 1 + i units and 1: every other sum lies in the middle between two 16-bit numbers. */
static double unit_of(const op_run *run) {
    return run->dtype == CLF_F16 ? 0x1p-10 : 0x1p-7;
}
static bool make_ties(op_run *run) {
    const int64_t shape[] = {3, 5};
    const int a = op_input(run, "a", run->dtype, 2, shape, 1, 2), b = op_input(run, "b", run->dtype, 2, shape, 1, 2);
    for (int i = 0; i < 15; i++) run->t[a].value[i] = 1 + i * unit_of(run), run->t[b].value[i] = 1;
    op_output(run, "out", run->dtype, 2, shape);
    return true;
}
/* Rounds them all up; with a fault, those that need no rounding. */
static clf_status call_ties(op_run *run) {
    const clf_status st = call(run);
    for (int i = injected == NOTHING; i < 15; i += 2)
        put(op_device(run, "out"), i, 2 + (i + 1 + (i % 2 == 0)) * unit_of(run));
    return st;
}

/* Where sums are compared, either rounding of a tie is right, and no other number. */
static int check_ties(int *passed) {
    static const op_case c = {
        .name = "add", .variants = 1, .make = make_ties, .call = call_ties, .reference = reference};
    static const char *const dtypes[] = {"f16", "bf16"};
    int failures = 0;
    for (int d = 0; d < 2; d++)
        for (int wrong = 0; wrong < 2; wrong++) {
            const int code = run_with(&c, wrong ? FAULTS : NOTHING, 2, (const char *const[]){"--dtype", dtypes[d]});
            *passed += code == wrong;
            if (code == wrong) continue;
            printf("FAIL ties, %s: expected exit code %d, got %d\n", dtypes[d], wrong, code);
            failures++;
        }
    return failures;
}

int main(void) {
    int passed = 0;
    const int failures = check_faults(&passed) + check_choice(&passed) + check_ties(&passed);
    printf("%d passed, %d failed, 0 skipped\n", passed, failures);
    return failures != 0;
}
