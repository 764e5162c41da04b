/* softcap.c: clf_softcap() and clf_softcap_backward() in double. */
#include "op_case.h"

#include <math.h>
#include <stdio.h>

static const struct variant {
    int ndim;
    int64_t shape[4];
    double cap, high; /* inputs are in ±high; NaN: special ones */
    int over;         /* output over x; backward, over out (1) or d_out (2) */
    const char *text;
} variants[] = {
    {0, {0}, 30, 60, 0, "scalar"},
    {1, {1}, 30, 60, 1, "[1] over x"},
    {2, {3, 0}, 30, 60, 0, "[3, 0]"},
    {2, {3, 3}, 50, 500, 0, "[3, 3] far beyond the cap"},
    {2, {3, 15}, 30, 0.05, 0, "[3, 15] far below the cap"},
    {3, {2, 3, 17}, 50, 100, 2, "[2, 3, 17] over x"},
    {4, {2, 2, 2, 33}, 0.5, 2, 0, "[2, 2, 2, 33] cap 0.5"},
    {2, {4, 31}, 1, 0.7, 0, "[4, 31] around the change of formula"},
    {2, {4, 16}, 30, NAN, 0, "[4, 16] NaN, infinities, large"},
    {2, {3, 9001}, 30, 90, 0, "[3, 9001]"},
    {2, {64, 262144}, 30, 60, 0, "bench: Gemma logits, 64 tokens"},
};

static double capped(double x, double cap) {
    return cap * tanh(x / cap);
}

/* The backward function needs no x: it stands there for the loss. */
static bool make(op_run *run) {
    const struct variant *v = &variants[run->variant];
    if (!run->backward) run->args.softcap.cap = (float)v->cap;
    snprintf(run->text, sizeof run->text, "%s", v->text);
    const double high = isnan(v->high) ? 1 : v->high;
    const int x = op_input(run, "x", run->dtype, v->ndim, v->shape, -high, high);
    if (isnan(v->high)) {
        static const double special[] = {NAN, INFINITY, -INFINITY, 1e4, -1e4, 0, -0., 6e-8};
        for (int64_t i = 0; i < op_elements(&run->t[x]); i++) run->t[x].value[i] = op_round(special[i % 8], run->dtype);
    }
    if (!run->backward) {
        if (v->over)
            op_output_over(run, "out", x);
        else
            op_output(run, "out", run->dtype, v->ndim, v->shape);
        return true;
    }
    run->args.softcap_backward.cap = (float)v->cap;
    const int out = op_input(run, "out", run->dtype, v->ndim, v->shape, 0, 1);
    for (int64_t i = 0; i < op_elements(&run->t[x]); i++)
        run->t[out].value[i] = op_round(capped(run->t[x].value[i], (float)v->cap), run->dtype);
    const int d_out = op_input(run, "d_out", run->dtype, v->ndim, v->shape, -2, 2);
    if (v->over)
        op_output_over(run, "d_x", v->over == 1 ? out : d_out);
    else
        op_output(run, "d_x", run->dtype, v->ndim, v->shape);
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
    for (int64_t i = 0; i < op_elements(&run->t[0]); i++) out[i] = capped(x[i], cap);
}

static clf_status call_backward(op_run *run) {
    return clf_softcap_backward(run->ctx, &(clf_softcap_backward_args){.out = op_device(run, "out"),
                                                                       .cap = run->args.softcap_backward.cap,
                                                                       .d_out = op_device(run, "d_out"),
                                                                       .d_x = op_device(run, "d_x")});
}

/* From the rounded out, as the op has it. */
static void reference_backward(op_run *run) {
    const double *out = op_value(run, "out"), *d_out = op_value(run, "d_out");
    const double cap = (double)run->args.softcap_backward.cap;
    double *d_x = op_value(run, "d_x");
    for (int64_t i = 0; i < op_elements(&run->t[0]); i++) d_x[i] = d_out[i] * (1 - out[i] / cap) * (1 + out[i] / cap);
}

static double loss(op_run *run) {
    const double *x = op_value(run, "x"), *d_out = op_value(run, "d_out");
    double sum = 0;
    for (int64_t i = 0; i < op_elements(&run->t[0]); i++)
        sum += d_out[i] * capped(x[i], (double)run->args.softcap_backward.cap);
    return sum;
}

static double flops(const op_run *run) {
    return 20.0 * (double)op_elements(&run->t[0]);
}

static double bytes(const op_run *run) {
    return op_traffic(run) - (run->backward ? (double)op_bytes(&run->t[0]) : 0);
}

static int rejects_backward(clf_context *ctx, clf_tensor *out, clf_tensor *d_x, clf_tensor *other) {
    int failures = 0;
    const clf_softcap_backward_args good = {.out = out, .cap = 30, .d_out = out, .d_x = d_x};
    const clf_status bad = CLF_INVALID_ARGUMENT;
    failures += op_rejected(ctx, clf_softcap_backward(ctx, NULL), bad, "softcap_backward: args is NULL");
    OP_REJECT(softcap_backward, bad, "out is NULL", a.out = NULL);
    OP_REJECT(softcap_backward, bad, "d_out is NULL", a.d_out = NULL);
    OP_REJECT(softcap_backward, bad, "d_x is NULL", a.d_x = NULL);
    OP_REJECT(softcap_backward, bad, "cap", a.cap = 0);
    OP_REJECT(softcap_backward, bad, "cap", a.cap = NAN);
    OP_REJECT(softcap_backward, bad, "d_out: expected shape [2, 4], got [4, 2]", a.d_out = other);
    OP_REJECT(softcap_backward, bad, "d_x: expected shape [2, 4], got [4, 2]", a.d_x = other);
    return failures;
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
    failures += rejects_backward(ctx, t[X], t[OUT], t[OTHER]);
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
                              .call_backward = call_backward,
                              .reference_backward = reference_backward,
                              .loss = loss,
                              .ulp = true,
                              .flops = flops,
                              .bytes = bytes,
                              .rejects = rejects};
    return op_main(argc, argv, &c);
}
