/* optimizer_golden.c: ten steps of each optimizer beside those of PyTorch, what codes of 8-bit state stand for, and
 * that variance in 8 bits follows variance in floats, on every usable device. golden/make_optimizer.py made the
 * numbers. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <clformer/clformer.h>

#include "golden.h"

static golden_file *file;

static const golden_tensor *find(const char *format, const char *name) {
    char text[64];
    snprintf(text, sizeof text, format, name);
    const golden_tensor *t = golden_find(file, text);
    if (!t) fail_msg("%s is missing", text);
    return t;
}

static void ok(clf_context *ctx, clf_status st) {
    if (st != CLF_OK) fail_msg("%s: %s: %s", clf_context_backend(ctx), clf_status_string(st), clf_error_message(ctx));
}

static clf_tensor *make(clf_context *ctx, clf_dtype dtype, int64_t n) {
    clf_tensor *t;
    ok(ctx, clf_tensor_create(&t, ctx, &(clf_tensor_args){.dtype = dtype, .ndim = 1, .shape = {n}}));
    ok(ctx, clf_tensor_clear(t));
    return t;
}

/* That a tensor holds what the file says. */
static void compare(clf_context *ctx, const clf_tensor *t, const char *format, const char *name, double tolerance) {
    const golden_tensor *g = find(format, name);
    float *got = malloc((size_t)g->elements * sizeof *got);
    double *want = golden_doubles(g);
    ok(ctx, clf_tensor_read(t, got, (size_t)g->elements * sizeof *got));
    const double error = golden_error(got, want, g->elements);
    if (!(error <= tolerance))
        fail_msg("%s: %s: error %.3g, tolerance %.3g", clf_context_backend(ctx), g->name, error, tolerance);
    free(got);
    free(want);
}

static void run(clf_context *ctx, const char *name, clf_optimizer_step_args args, bool has_momentum) {
    const golden_tensor *first = find("%s", "start"), *gradients = find("%s", "gradients");
    const int64_t n = first->elements, steps = gradients->elements / n;
    float *start = golden_floats(first), *g = golden_floats(gradients), *left = malloc((size_t)n * sizeof *left);
    args.weight = make(ctx, CLF_F32, n);
    args.gradient = make(ctx, CLF_F32, n);
    args.momentum = has_momentum ? make(ctx, CLF_F32, n) : NULL;
    args.variance = args.optimizer == CLF_OPTIMIZER_ADAMW ? make(ctx, CLF_F32, n) : NULL;
    ok(ctx, clf_tensor_write(args.weight, start, (size_t)n * sizeof *start));
    for (args.step = 1; args.step <= steps; args.step++) {
        ok(ctx, clf_tensor_write(args.gradient, g + (args.step - 1) * n, (size_t)n * sizeof *g));
        ok(ctx, clf_optimizer_step(ctx, &args));
        ok(ctx, clf_tensor_read(args.gradient, left, (size_t)n * sizeof *left));
        for (int64_t i = 0; i < n; i++) assert_true(left[i] == 0);
    }
    compare(ctx, args.weight, "%s.weight", name, 2e-7); /* ten roundings of 2^-25; they changed by 1e-3 and more */
    if (args.momentum) compare(ctx, args.momentum, "%s.momentum", name, 1e-6);
    if (args.variance) compare(ctx, args.variance, "%s.variance", name, 1e-6);
    clf_tensor_destroy(args.weight);
    clf_tensor_destroy(args.gradient);
    clf_tensor_destroy(args.momentum);
    clf_tensor_destroy(args.variance);
    free(start);
    free(g);
    free(left);
}

/* What each code stands for: block c is full of code c and of scale 1; a step with beta ½ and gradient 0 leaves half of
 * its value as the block's scale, and moves the weights by the momentum's. */
static void maps(clf_context *ctx) {
    enum { CODES = 256, N = CODES * CLF_OPTIMIZER_BLOCK };
    static uint8_t codes[N];
    static float ones[CODES], scales[2][CODES], weight[N];
    for (int i = 0; i < N; i++) codes[i] = (uint8_t)(i / CLF_OPTIMIZER_BLOCK);
    for (int i = 0; i < CODES; i++) ones[i] = 1;
    clf_optimizer_step_args args = {
        .optimizer = CLF_OPTIMIZER_SGD, .learning_rate = 1, .beta1 = 0.5f, .beta2 = 0.5f, .step = 1};
    args.weight = make(ctx, CLF_F32, N);
    args.gradient = make(ctx, CLF_F32, N);
    args.momentum = make(ctx, CLF_U8, N);
    args.momentum_scale = make(ctx, CLF_F32, CODES);
    ok(ctx, clf_tensor_write(args.momentum, codes, sizeof codes));
    ok(ctx, clf_tensor_write(args.momentum_scale, ones, sizeof ones));
    ok(ctx, clf_optimizer_step(ctx, &args));
    ok(ctx, clf_tensor_read(args.weight, weight, sizeof weight));
    ok(ctx, clf_tensor_read(args.momentum_scale, scales[0], sizeof scales[0]));

    args.optimizer = CLF_OPTIMIZER_ADAMW;
    args.eps = 1;
    args.variance = make(ctx, CLF_U8, N);
    args.variance_scale = make(ctx, CLF_F32, CODES);
    ok(ctx, clf_tensor_write(args.variance, codes, sizeof codes));
    ok(ctx, clf_tensor_write(args.variance_scale, ones, sizeof ones));
    ok(ctx, clf_optimizer_step(ctx, &args));
    ok(ctx, clf_tensor_read(args.variance_scale, scales[1], sizeof scales[1]));
    for (int i = 0; i < CODES; i++) {
        const double k = (i - 128) / 127.0, momentum = k * fabs(k), variance = pow(i / 255.0, 4);
        const double moved = -2 * (double)weight[i * CLF_OPTIMIZER_BLOCK + i];
        if (!(fabs(moved - momentum) <= 4e-7 * fabs(momentum)))
            fail_msg("%s: momentum's code %d: expected %.9g, got %.9g", clf_context_backend(ctx), i, momentum, moved);
        if (!(fabs(2 * (double)scales[0][i] - fabs(momentum)) <= 4e-7 * fabs(momentum)))
            fail_msg("%s: scale of momentum's code %d: %.9g", clf_context_backend(ctx), i, (double)scales[0][i]);
        if (!(fabs(2 * (double)scales[1][i] - variance) <= 4e-7 * variance))
            fail_msg("%s: variance's code %d: expected %.9g, got %.9g", clf_context_backend(ctx), i, variance,
                     2 * (double)scales[1][i]);
    }
    clf_tensor *all[] = {args.weight,         args.gradient, args.momentum,
                         args.momentum_scale, args.variance, args.variance_scale};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) clf_tensor_destroy(all[i]);
}

/* Half the weights have gradients 1, half 1/2, from a variance of 1: it must come down for the latter as in floats,
 * though a step changes it by far less than codes differ. */
static void variance_falls(clf_context *ctx) {
    enum { N = 16 * CLF_OPTIMIZER_BLOCK, STEPS = 500 };
    static float gradient[N], scale[N / CLF_OPTIMIZER_BLOCK];
    static uint8_t codes[N];
    for (int i = 0; i < N; i++) gradient[i] = i % 2 ? 0.5F : 1;
    memset(codes, 255, sizeof codes);
    for (int i = 0; i < N / CLF_OPTIMIZER_BLOCK; i++) scale[i] = 1;
    clf_optimizer_step_args args = {.beta1 = 0.9F, .beta2 = 0.999F, .eps = 1e-8F};
    args.weight = make(ctx, CLF_F32, N);
    args.gradient = make(ctx, CLF_F32, N);
    args.momentum = make(ctx, CLF_F32, N);
    args.variance = make(ctx, CLF_U8, N);
    args.variance_scale = make(ctx, CLF_F32, N / CLF_OPTIMIZER_BLOCK);
    ok(ctx, clf_tensor_write(args.variance, codes, sizeof codes));
    ok(ctx, clf_tensor_write(args.variance_scale, scale, sizeof scale));
    double want[2] = {1, 1}, sum[2] = {0};
    for (args.step = 1; args.step <= STEPS; args.step++) {
        ok(ctx, clf_tensor_write(args.gradient, gradient, sizeof gradient));
        ok(ctx, clf_optimizer_step(ctx, &args));
        want[1] = 0.999 * want[1] + 0.001 * 0.25;
    }
    ok(ctx, clf_tensor_read(args.variance, codes, sizeof codes));
    ok(ctx, clf_tensor_read(args.variance_scale, scale, sizeof scale));
    for (int i = 0; i < N; i++)
        sum[i % 2] += pow(codes[i] / 255.0, 4) * (double)scale[i / CLF_OPTIMIZER_BLOCK] / (N / 2);
    for (int k = 0; k < 2; k++)
        if (!(fabs(sum[k] - want[k]) < 0.01 * want[k]))
            fail_msg("%s: mean of variance: expected %.9g, got %.9g", clf_context_backend(ctx), want[k], sum[k]);
    clf_tensor *all[] = {args.weight, args.gradient, args.momentum, args.variance, args.variance_scale};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) clf_tensor_destroy(all[i]);
}

static void for_devices(void (*check)(clf_context *)) {
    clf_device_info info[32];
    int n = 0;
    assert_int_equal(clf_devices(info, 32, &n), CLF_OK);
    for (int i = 0; i < n && i < 32; i++) {
        if (!info[i].usable) continue;
        clf_context *ctx;
        char error[400];
        const clf_context_args args = {.device = info[i].name, .error = error, .error_size = sizeof error};
        if (clf_context_create(&ctx, &args) != CLF_OK) fail_msg("%s: %s", info[i].name, error);
        check(ctx);
        clf_context_destroy(ctx);
    }
}

static void check_adamw(clf_context *ctx) {
    run(ctx, "adamw",
        (clf_optimizer_step_args){
            .learning_rate = 3e-3f, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f, .weight_decay = 0.1f},
        true);
}
static void check_sgd(clf_context *ctx) {
    const clf_optimizer_step_args args = {.optimizer = CLF_OPTIMIZER_SGD, .learning_rate = 1e-2f, .beta1 = 0.9f};
    run(ctx, "sgd", args, true);
    run(ctx, "sgd_plain", args, false);
}
static void check_lion(clf_context *ctx) {
    run(ctx, "lion",
        (clf_optimizer_step_args){.optimizer = CLF_OPTIMIZER_LION,
                                  .learning_rate = 1e-4f,
                                  .beta1 = 0.9f,
                                  .beta2 = 0.99f,
                                  .weight_decay = 0.1f},
        true);
}

static void adamw(void **state) {
    (void)state;
    for_devices(check_adamw);
}
static void sgd(void **state) {
    (void)state;
    for_devices(check_sgd);
}
static void lion(void **state) {
    (void)state;
    for_devices(check_lion);
}
static void codes(void **state) {
    (void)state;
    for_devices(maps);
}
static void variance_follows(void **state) {
    (void)state;
    for_devices(variance_falls);
}

int main(void) {
    file = golden_open("golden/optimizer/steps.safetensors");
    if (!file) return 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(adamw), cmocka_unit_test(sgd), cmocka_unit_test(lion),
                                       cmocka_unit_test(codes), cmocka_unit_test(variance_follows)};
    const int failures = cmocka_run_group_tests(tests, NULL, NULL);
    golden_close(file);
    return failures;
}
