/* argmax.c: clf_argmax(), exactly. */
#include "op_case.h"

#include <math.h>
#include <stdio.h>

enum { EQUALS = 1, NANS = 2, HIDDEN = 4, NEGATIVE = 8, INFINITE = 16 };

static const struct variant {
    int ndim;
    int64_t shape[4];
    int features;
    const char *text;
} variants[] = {
    {1, {1}, 0, "[1]"},
    {1, {3}, 0, "[3]"},
    {2, {0, 5}, 0, "[0, 5]"},
    {2, {4, 1}, NANS, "[4, 1] NaN"},
    {2, {7, 15}, NEGATIVE, "[7, 15] all negative"},
    {3, {3, 5, 17}, EQUALS, "[3, 5, 17] equals"},
    {3, {3, 5, 33}, EQUALS | NANS, "[3, 5, 33] equals, NaNs"},
    {4, {2, 2, 3, 16}, HIDDEN, "[2, 2, 3, 16] all −∞"},
    {2, {20, 47}, INFINITE | EQUALS, "[20, 47] infinities"},
    {2, {3, 32003}, 0, "[3, 32003]"},
    {2, {3, 32001}, NANS, "[3, 32001] NaN"},
    {2, {64, 128256}, 0, "bench: LLaMA 3 logits, 64 tokens"},
};

static bool make(op_run *run) {
    const struct variant *v = &variants[run->variant];
    const int f = v->features;
    snprintf(run->text, sizeof run->text, "%s", v->text);
    const int x = op_input(run, "x", run->dtype, v->ndim, v->shape, -2, f & NEGATIVE ? -1 : 2);
    double *value = run->t[x].value;
    for (int64_t i = 0; i < op_elements(&run->t[x]); i++) {
        if (f & EQUALS) value[i] = floor(value[i]);
        if (f & HIDDEN) value[i] = -INFINITY;
        if (f & INFINITE && !op_random_int(run, 40)) value[i] = op_random_int(run, 2) ? INFINITY : -INFINITY;
        if (f & NANS && !op_random_int(run, 50)) value[i] = NAN;
    }
    op_output(run, "out", CLF_I32, v->ndim - 1, v->shape);
    return true;
}

static clf_status call(op_run *run) {
    return clf_argmax(run->ctx, &(clf_argmax_args){.x = op_device(run, "x"), .out = op_device(run, "out")});
}

static void reference(op_run *run) {
    const op_tensor *x = op_find(run, "x");
    const int64_t dim = x->shape[x->ndim - 1];
    double *out = op_value(run, "out");
    for (int64_t r = 0; r < op_elements(x) / dim; r++) {
        const double *row = x->value + r * dim;
        int64_t best = 0;
        for (int64_t i = 1; i < dim && !isnan(row[best]); i++)
            if (isnan(row[i]) || row[i] > row[best]) best = i;
        out[r] = (double)best;
    }
}

static double flops(const op_run *run) {
    return (double)op_elements(&run->t[0]);
}

static int rejects(clf_context *ctx) {
    enum { X, OUT, EMPTY, FLAT, FLOATS, N };
    static const clf_tensor_args list[N] = {
        [X] = {.ndim = 2, .shape = {2, 4}},     [OUT] = {.dtype = CLF_I32, .ndim = 1, .shape = {2}},
        [EMPTY] = {.ndim = 2, .shape = {2, 0}}, [FLAT] = {.ndim = 0},
        [FLOATS] = {.ndim = 1, .shape = {2}},
    };
    clf_tensor *t[N];
    if (!op_make(ctx, list, N, t)) return 1;
    int failures = 0;
    const clf_argmax_args good = {.x = t[X], .out = t[OUT]};
    const clf_status bad = CLF_INVALID_ARGUMENT;
    failures += op_rejected(ctx, clf_argmax(ctx, NULL), bad, "argmax: args is NULL");
    OP_REJECT(argmax, bad, "x is NULL", a.x = NULL);
    OP_REJECT(argmax, bad, "out is NULL", a.out = NULL);
    OP_REJECT(argmax, bad, "x: expected rows of 1", a.x = t[EMPTY]);
    OP_REJECT(argmax, bad, "x: expected 1 to 4 dimensions, got 0", a.x = t[FLAT]);
    OP_REJECT(argmax, bad, "x: expected dtype", a.x = t[OUT]);
    OP_REJECT(argmax, bad, "out: expected dtype i32, got f32", a.out = t[FLOATS]);
    OP_REJECT(argmax, bad, "out: expected shape [], got [2]", a.x = t[FLOATS]);
    op_unmake(t, N);
    return failures;
}

int main(int argc, char **argv) {
    static const op_case c = {.name = "argmax",
                              .variants = sizeof variants / sizeof *variants,
                              .bench_variants = 1,
                              .exact = true,
                              .make = make,
                              .call = call,
                              .reference = reference,
                              .flops = flops,
                              .bytes = op_traffic,
                              .rejects = rejects};
    return op_main(argc, argv, &c);
}
