/* fake_quantize.c: clf_fake_quantize() in double. Where float32 rounding may choose the level, either is right. */
#include "op_case.h"

#include <math.h>
#include <stdio.h>

enum { IN_PLACE = 1, ZERO_ROW = 2, NOT_FINITE = 4, TINY_ROW = 8, LEVELS = 16 };

static const struct variant {
    int ndim;
    int64_t shape[4];
    int features;
    const char *text;
} variants[] = {
    {1, {0}, 0, "[0]"},
    {1, {1}, 0, "[1]"},
    {2, {0, 5}, 0, "[0, 5]"},
    {2, {3, 0}, 0, "[3, 0]"},
    {2, {5, 7}, IN_PLACE, "[5, 7] in place"},
    {2, {3, 129}, ZERO_ROW, "[3, 129], a row of zeros"},
    {2, {3, 33}, TINY_ROW, "[3, 33], a row below 2^-100"},
    {2, {3, 65}, NOT_FINITE, "[3, 65], an infinity and a NaN"},
    {2, {4, 254}, LEVELS, "[4, 254], levels stay"},
    {3, {2, 5, 300}, 0, "[2, 5, 300]"},
    {2, {17, 2048}, IN_PLACE, "[17, 2048] in place"},
    {2, {512, 2048}, 0, "bench: [512, 2048]"},
};

static bool make(op_run *run) {
    const struct variant *v = &variants[run->variant];
    const int f = v->features;
    const int64_t dim = v->shape[v->ndim - 1];
    snprintf(run->text, sizeof run->text, "%s", v->text);
    const int x = op_input(run, "x", run->dtype, v->ndim, v->shape, -3, 3);
    double *value = run->t[x].value;
    for (int64_t i = 0; i < dim; i++) { /* of the first row */
        if (f & ZERO_ROW) value[i] = 0;
        if (f & TINY_ROW) value[i] = op_round(value[i] * 0x1p-110, run->dtype);
        if (f & LEVELS) value[i] = (double)(i % 255 - 127) / 4;
    }
    if (f & NOT_FINITE) {
        value[op_random_int(run, dim)] = INFINITY;
        value[dim + op_random_int(run, dim)] = NAN;
    }
    if (f & IN_PLACE)
        op_output_over(run, "out", x);
    else
        op_output(run, "out", run->dtype, v->ndim, v->shape);
    return true;
}

static clf_status call(op_run *run) {
    clf_tensor *x = op_device(run, "x");
    return clf_fake_quantize(
        run->ctx, &(clf_fake_quantize_args){
                      .x = x, .out = variants[run->variant].features & IN_PLACE ? x : op_device(run, "out")});
}

static void reference(op_run *run) {
    const op_tensor *x = &run->t[0];
    op_tensor *out = &run->t[1];
    const int64_t n = op_elements(x), dim = x->shape[x->ndim - 1];
    out->sampled = true;
    for (int64_t r = 0; r < n; r += dim) {
        double most = 0;
        bool finite = true;
        for (int64_t i = r; i < r + dim; i++) {
            most = fmax(most, fabs(x->value[i]));
            finite &= isfinite(x->value[i]) != 0;
        }
        if (!finite) out->sampled = false;
        for (int64_t i = r; i < r + dim; i++) {
            const double level = most < 0x1p-100 ? 0 : x->value[i] * 127 / most;
            const bool open = fabs(fabs(level - trunc(level)) - 0.5) < 1e-6 * fabs(level);
            out->value[i] = !finite || (open && out->sampled) ? NAN : nearbyint(level) * most / 127;
        }
    }
}

static double flops(const op_run *run) {
    return 6.0 * (double)op_elements(&run->t[0]);
}

static int rejects(clf_context *ctx) {
    enum { X, OUT, INTS, OTHER, HALF, N };
    static const clf_tensor_args list[N] = {
        [X] = {.ndim = 2, .shape = {2, 4}},
        [OUT] = {.ndim = 2, .shape = {2, 4}},
        [INTS] = {.dtype = CLF_I8, .ndim = 2, .shape = {2, 4}},
        [OTHER] = {.ndim = 2, .shape = {4, 2}},
        [HALF] = {.dtype = CLF_F16, .ndim = 2, .shape = {2, 4}},
    };
    clf_tensor *t[N], *shifted;
    if (!op_make(ctx, list, N, t)) return 1;
    int failures = 0;
    const clf_fake_quantize_args good = {.x = t[X], .out = t[OUT]};
    const clf_status bad = CLF_INVALID_ARGUMENT;
    failures += op_rejected(ctx, clf_fake_quantize(ctx, NULL), bad, "fake_quantize: args is NULL");
    OP_REJECT(fake_quantize, bad, "x is NULL", a.x = NULL);
    OP_REJECT(fake_quantize, bad, "out is NULL", a.out = NULL);
    OP_REJECT(fake_quantize, bad, "x: expected dtype f32, f16, bf16, got i8", a.x = t[INTS]);
    OP_REJECT(fake_quantize, bad, "out: expected x's dtype f32, got f16", a.out = t[HALF]);
    OP_REJECT(fake_quantize, bad, "out: expected shape [2, 4], got [4, 2]", a.out = t[OTHER]);
    if (clf_tensor_view(&shifted, t[X], 2, (int64_t[]){1, 4}, (int64_t[]){4, 1}, 2) == CLF_OK) {
        clf_tensor *first;
        if (clf_tensor_view(&first, t[X], 2, (int64_t[]){1, 4}, (int64_t[]){4, 1}, 0) == CLF_OK) {
            OP_REJECT(fake_quantize, bad, "out overlaps x", a.x = first, a.out = shifted);
            clf_tensor_destroy(first);
        } else {
            failures++;
        }
        clf_tensor_destroy(shifted);
    } else {
        failures++;
    }
    op_unmake(t, N);
    return failures;
}

int main(int argc, char **argv) {
    static const op_case c = {.name = "fake_quantize",
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
