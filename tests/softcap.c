/* softcap.c: clf_softcap() in double. */
#include "op_case.h"

#include <math.h>
#include <stdio.h>

static const struct variant {
    int ndim;
    int64_t shape[4];
    double cap, high; /* inputs are in ±high; NaN: special ones */
    bool over;
    const char *text;
} variants[] = {
    {0, {0}, 30, 60, false, "scalar"},
    {1, {1}, 30, 60, true, "[1] over x"},
    {2, {3, 0}, 30, 60, false, "[3, 0]"},
    {2, {3, 3}, 50, 500, false, "[3, 3] far beyond the cap"},
    {2, {3, 15}, 30, 0.05, false, "[3, 15] far below the cap"},
    {3, {2, 3, 17}, 50, 100, true, "[2, 3, 17] over x"},
    {4, {2, 2, 2, 33}, 0.5, 2, false, "[2, 2, 2, 33] cap 0.5"},
    {2, {4, 31}, 1, 0.7, false, "[4, 31] around the change of formula"},
    {2, {4, 16}, 30, NAN, false, "[4, 16] NaN, infinities, large"},
    {2, {3, 9001}, 30, 90, false, "[3, 9001]"},
    {2, {64, 262144}, 30, 60, false, "bench: Gemma logits, 64 tokens"},
};

static bool make(op_run *run) {
    const struct variant *v = &variants[run->variant];
    run->args.softcap.cap = (float)v->cap;
    snprintf(run->text, sizeof run->text, "%s", v->text);
    const double high = isnan(v->high) ? 1 : v->high;
    const int x = op_input(run, "x", run->dtype, v->ndim, v->shape, -high, high);
    if (isnan(v->high)) {
        static const double special[] = {NAN, INFINITY, -INFINITY, 1e4, -1e4, 0, -0., 6e-8};
        for (int64_t i = 0; i < op_elements(&run->t[x]); i++) run->t[x].value[i] = op_round(special[i % 8], run->dtype);
    }
    if (v->over)
        op_output_over(run, "out", x);
    else
        op_output(run, "out", run->dtype, v->ndim, v->shape);
    return true;
}

static clf_status call(op_run *run) {
    return clf_softcap(
        run->ctx,
        &(clf_softcap_args){.x = op_device(run, "x"), .cap = run->args.softcap.cap, .out = op_device(run, "out")});
}

static void reference(op_run *run) {
    const double *x = op_value(run, "x"), cap = (double)run->args.softcap.cap;
    double *out = op_value(run, "out");
    for (int64_t i = 0; i < op_elements(&run->t[0]); i++) out[i] = cap * tanh(x[i] / cap);
}

static double flops(const op_run *run) {
    return 20.0 * (double)op_elements(&run->t[0]);
}

static int rejects(clf_context *ctx) {
    enum { X, OUT, OTHER, INTS, N };
    static const clf_tensor_args list[N] = {
        [X] = {.ndim = 2, .shape = {2, 4}},
        [OUT] = {.ndim = 2, .shape = {2, 4}},
        [OTHER] = {.ndim = 2, .shape = {4, 2}},
        [INTS] = {.dtype = CLF_I32, .ndim = 2, .shape = {2, 4}},
    };
    clf_tensor *t[N];
    if (!op_make(ctx, list, N, t)) return 1;
    int failures = 0;
    const clf_softcap_args good = {.x = t[X], .cap = 30, .out = t[OUT]};
    const clf_status bad = CLF_INVALID_ARGUMENT;
    failures += op_rejected(ctx, clf_softcap(ctx, NULL), bad, "softcap: args is NULL");
    OP_REJECT(softcap, bad, "x is NULL", a.x = NULL);
    OP_REJECT(softcap, bad, "out is NULL", a.out = NULL);
    OP_REJECT(softcap, bad, "x: expected dtype f32, f16, bf16, got i32", a.x = t[INTS]);
    OP_REJECT(softcap, bad, "out: expected shape [2, 4], got [4, 2]", a.out = t[OTHER]);
    OP_REJECT(softcap, bad, "cap", a.cap = 0);
    OP_REJECT(softcap, bad, "cap", a.cap = -1);
    OP_REJECT(softcap, bad, "cap", a.cap = INFINITY);
    op_unmake(t, N);
    return failures;
}

int main(int argc, char **argv) {
    static const op_case c = {.name = "softcap",
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
