/* ternarize.c: clf_ternarize(), exactly: γ is rounded to a half and codes are comparisons, so nothing is left to chance
 * but a mean that lies between two halves. */
#include "op_case.h"

#include <math.h>
#include <stdio.h>

enum { TIES = 1, NOT_FINITE = 2, ZEROS = 4, TINY = 8, HUGE_MEAN = 16 };

static const struct variant {
    int ndim;
    int64_t shape[4];
    int features;
    const char *text;
} variants[] = {
    {0, {0}, 0, "scalar"},
    {1, {0}, 0, "[0]"},
    {1, {1}, 0, "[1]"},
    {1, {7}, 0, "[7]"},
    {1, {256}, 0, "[256]"},
    {1, {512}, TIES, "[512] with |x| = γ/2"},
    {1, {4099}, 0, "[4099]"},
    {1, {768}, ZEROS, "[768] zeros"},
    {1, {768}, TINY, "[768] γ below the least half"},
    {1, {768}, HUGE_MEAN, "[768] γ beyond the largest"},
    {1, {1024}, NOT_FINITE, "[1024] with a NaN"},
    {1, {256 * 129}, 0, "[33024]"},
    {1, {300000}, 0, "[300000]"},
    {1, {256 * 1300}, 0, "[332800]"},
    {1, {4096 * 4096}, 0, "bench: 4096 × 4096"},
};
static const clf_dtype outs[] = {CLF_F32, CLF_F16, CLF_BF16, CLF_TQ2_0};
enum { SHAPES = sizeof variants / sizeof *variants, OUTS = 4 };

/* Magnitudes whose mean is 1, so that ±½ lie between two codes. */
static double tie(int64_t i) {
    static const double cycle[] = {1, -1, 0.5, -0.5, 1.5, -1.5, 1, -1};
    return cycle[i % 8];
}

static bool make(op_run *run) {
    const struct variant *v = &variants[run->variant / OUTS];
    const clf_dtype out = outs[run->variant % OUTS];
    const int f = v->features;
    const double high = f & HUGE_MEAN ? 3e5 : f & TINY ? 1e-8 : 0.05;
    if (out == CLF_TQ2_0 && (!v->ndim || v->shape[0] % 256)) return false;
    snprintf(run->text, sizeof run->text, "%s to %s", v->text, clf_dtype_name(out));
    op_tensor *x = &run->t[op_input(run, "x", CLF_F32, v->ndim, v->shape, -high, high)];
    for (int64_t i = 0; i < op_elements(x) && f & (TIES | ZEROS); i++) x->value[i] = f & TIES ? tie(i) : 0;
    if (f & NOT_FINITE) x->value[op_random_int(run, op_elements(x))] = NAN;
    op_output(run, "out", out, v->ndim, v->shape);
    return true;
}

static clf_status call(op_run *run) {
    return clf_ternarize(run->ctx, &(clf_ternarize_args){.x = op_device(run, "x"), .out = op_device(run, "out")});
}

static void reference(op_run *run) {
    const op_tensor *x = op_find(run, "x"), *out = op_find(run, "out");
    const int64_t n = op_elements(x);
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += fabs(x->value[i]);
    const double scale = op_round(op_round(sum / (double)n, CLF_F32), CLF_F16);
    for (int64_t i = 0; i < n; i++) {
        const double code = scale > 0 ? nearbyint(x->value[i] / scale) : 0;
        out->value[i] = isfinite(scale) ? scale * fmax(-1, fmin(1, code)) : NAN;
        if (out->dtype != CLF_TQ2_0) out->value[i] = op_round(out->value[i], out->dtype);
    }
}

static double flops(const op_run *run) {
    return 3.0 * (double)op_elements(&run->t[0]);
}

static int rejects(clf_context *ctx) {
    enum { X, OUT, OTHER, HALF, Q4, N };
    static const clf_tensor_args list[N] = {
        [X] = {.ndim = 2, .shape = {2, 256}},
        [OUT] = {.dtype = CLF_TQ2_0, .ndim = 2, .shape = {2, 256}},
        [OTHER] = {.ndim = 2, .shape = {2, 512}},
        [HALF] = {.dtype = CLF_F16, .ndim = 2, .shape = {2, 256}},
        [Q4] = {.dtype = CLF_Q4_0, .ndim = 2, .shape = {2, 256}},
    };
    clf_tensor *t[N], *gaps;
    if (!op_make(ctx, list, N, t)) return 1;
    int failures = 0;
    const clf_ternarize_args good = {.x = t[X], .out = t[OUT]};
    const clf_status bad = CLF_INVALID_ARGUMENT;
    failures += op_rejected(ctx, clf_ternarize(ctx, NULL), bad, "ternarize: args is NULL");
    OP_REJECT(ternarize, bad, "x is NULL", a.x = NULL);
    OP_REJECT(ternarize, bad, "out is NULL", a.out = NULL);
    OP_REJECT(ternarize, bad, "x: expected dtype f32, got f16", a.x = t[HALF]);
    OP_REJECT(ternarize, bad, "out: expected dtype f32, f16, bf16, tq2_0, got q4_0", a.out = t[Q4]);
    OP_REJECT(ternarize, bad, "out: expected shape [2, 256], got [2, 512]", a.out = t[OTHER]);
    OP_REJECT(ternarize, bad, "out overlaps x", a.out = t[X]);
    if (clf_tensor_view(&gaps, t[OTHER], 2, (int64_t[]){2, 256}, (int64_t[]){512, 1}, 0) == CLF_OK) {
        OP_REJECT(ternarize, bad, "expected contiguous tensors", a.x = gaps);
        clf_tensor_destroy(gaps);
    } else {
        failures++;
    }
    op_unmake(t, N);
    return failures;
}

int main(int argc, char **argv) {
    static const op_case c = {.name = "ternarize",
                              .variants = SHAPES * OUTS,
                              .bench_variants = OUTS,
                              .dtypes = 1u << CLF_F32,
                              .exact = true,
                              .make = make,
                              .call = call,
                              .reference = reference,
                              .flops = flops,
                              .bytes = op_traffic,
                              .rejects = rejects};
    return op_main(argc, argv, &c);
}
