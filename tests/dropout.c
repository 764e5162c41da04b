/* dropout.c: clf_dropout() in double. Its gradient is itself, with the same seed. */
#include "op_case.h"

#include <math.h>
#include <stdio.h>

#include "philox.h"

enum { RESIDUAL = 1, OVER_X = 2, OVER_RESIDUAL = 4, SPECIAL = 8 };

static const struct variant {
    int ndim;
    int64_t shape[4];
    double probability;
    uint64_t seed;
    int features;
    const char *text;
} variants[] = {
    {0, {0}, 0.5, 1, 0, "scalar"},
    {1, {1}, 0.5, 2, OVER_X, "[1] over x"},
    {1, {7}, 0, 3, RESIDUAL, "[7] residual, nothing dropped"},
    {2, {3, 0}, 0.5, 4, 0, "[3, 0]"},
    {2, {5, 3}, 0.999, 5, RESIDUAL, "[5, 3] residual, p 0.999"},
    {2, {3, 15}, 0.1, 0xfedcba9876543210, 0, "[3, 15] p 0.1"},
    {3, {2, 3, 16}, 0.25, 0xffffffff00000000, RESIDUAL | OVER_RESIDUAL, "[2, 3, 16] residual, over it"},
    {4, {2, 2, 2, 33}, 0.9, 7, RESIDUAL | OVER_X, "[2, 2, 2, 33] residual, over x"},
    {2, {9, 70}, 0.5, 8, SPECIAL, "[9, 70] NaN and infinities"},
    {2, {3, 9001}, 0.05, 9, RESIDUAL, "[3, 9001] residual p 0.05"},
    {2, {4096, 2048}, 0.05, 10, 0, "bench: TinyLlama, 4096 tokens"},
};

static bool make(op_run *run) {
    const struct variant *v = &variants[run->variant];
    const int f = v->features;
    run->args.dropout = (clf_dropout_args){.probability = (float)v->probability, .seed = v->seed};
    snprintf(run->text, sizeof run->text, "%s", v->text);
    const int x = op_input(run, "x", run->dtype, v->ndim, v->shape, -2, 2);
    for (int64_t i = 0; f & SPECIAL && i < op_elements(&run->t[x]); i += 3)
        run->t[x].value[i] = (double[]){NAN, INFINITY, -INFINITY}[i / 3 % 3];
    const int residual = f & RESIDUAL ? op_input(run, "residual", run->dtype, v->ndim, v->shape, -4, 4) : -1;
    if (f & (OVER_X | OVER_RESIDUAL))
        op_output_over(run, "out", f & OVER_X ? x : residual);
    else
        op_output(run, "out", run->dtype, v->ndim, v->shape);
    return true;
}

static clf_status call(op_run *run) {
    clf_dropout_args *a = &run->args.dropout;
    a->x = op_device(run, "x");
    a->residual = op_device(run, "residual");
    a->out = op_device(run, "out");
    return clf_dropout(run->ctx, a);
}

static void reference(op_run *run) {
    const clf_dropout_args *a = &run->args.dropout;
    const double *x = op_value(run, "x"), *residual = op_value(run, "residual"), p = (double)a->probability;
    op_tensor *out = op_find(run, "out");
    const int64_t n = op_elements(out);
    double squares = 0;
    for (int64_t i = 0; i < n; i++) {
        const uint32_t counter[4] = {(uint32_t)(i / 4), (uint32_t)((uint64_t)i >> 34), 0, 0};
        const uint32_t key[2] = {(uint32_t)a->seed, (uint32_t)(a->seed >> 32)};
        uint32_t words[4];
        philox_words(counter, key, words);
        const double kept = (double)words[i % 4] >= p * 0x1p32 ? x[i] / (1 - p) : 0, added = residual ? residual[i] : 0;
        out->value[i] = kept + added;
        if (isfinite(kept)) squares += kept * kept + added * added;
    }
    if (n) out->magnitude = sqrt(squares / (double)n);
}

static double flops(const op_run *run) {
    return 20.0 * (double)op_elements(&run->t[0]);
}

static int rejects(clf_context *ctx) {
    enum { X, OUT, OTHER, INTS, HALF, N };
    static const clf_tensor_args list[N] = {
        [X] = {.ndim = 2, .shape = {2, 4}},
        [OUT] = {.ndim = 2, .shape = {2, 4}},
        [OTHER] = {.ndim = 2, .shape = {4, 2}},
        [INTS] = {.dtype = CLF_I32, .ndim = 2, .shape = {2, 4}},
        [HALF] = {.dtype = CLF_F16, .ndim = 2, .shape = {2, 4}},
    };
    clf_tensor *t[N];
    if (!op_make(ctx, list, N, t)) return 1;
    int failures = 0;
    const clf_dropout_args good = {.x = t[X], .probability = 0.5f, .out = t[OUT]};
    const clf_status bad = CLF_INVALID_ARGUMENT;
    failures += op_rejected(ctx, clf_dropout(ctx, NULL), bad, "dropout: args is NULL");
    OP_REJECT(dropout, bad, "x is NULL", a.x = NULL);
    OP_REJECT(dropout, bad, "out is NULL", a.out = NULL);
    OP_REJECT(dropout, bad, "x: expected dtype f32, f16, bf16, got i32", a.x = t[INTS]);
    OP_REJECT(dropout, bad, "residual: expected x's dtype f32, got f16", a.residual = t[HALF]);
    OP_REJECT(dropout, bad, "out: expected shape [2, 4], got [4, 2]", a.out = t[OTHER]);
    OP_REJECT(dropout, bad, "probability", a.probability = 1);
    OP_REJECT(dropout, bad, "probability", a.probability = -0.1f);
    OP_REJECT(dropout, bad, "probability", a.probability = NAN);
    op_unmake(t, N);
    return failures;
}

int main(int argc, char **argv) {
    static const op_case c = {.name = "dropout",
                              .variants = sizeof variants / sizeof *variants,
                              .bench_variants = 1,
                              .make = make,
                              .call = call,
                              .reference = reference,
                              .ulp = true,
                              .flops = flops,
                              .bytes = op_traffic,
                              .rejects = rejects};
    return op_main(argc, argv, &c);
}
