/* rms_norm.c: clf_rms_norm() in double. */
#include "op_case.h"

#include <math.h>
#include <stdio.h>

enum {
    RESIDUAL = 1,
    SUM = 2,
    WEIGHT = 4,
    WEIGHT_F32 = 8,
    RSTD = 16,
    GEMMA = 32,
    OVER_X = 64,
    SUM_OVER_X = 128,
    SUM_OVER_RESIDUAL = 256,
    OVER_RESIDUAL = 512,
    REPEAT = 1024,
    ZEROS = 2048
};

static const struct variant {
    int ndim;
    int64_t shape[4];
    int features;
    const char *text;
} variants[] = {
    {1, {1}, 0, "[1]"},
    {1, {3}, WEIGHT, "[3] weight"},
    {2, {2, 0}, WEIGHT, "[2, 0] weight"},
    {2, {0, 5}, WEIGHT | RSTD, "[0, 5] weight rstd"},
    {2, {0, 8}, WEIGHT | SUM | RESIDUAL, "[0, 8] residual sum weight"},
    {2, {3, 1}, WEIGHT | RSTD, "[3, 1] weight rstd"},
    {3, {2, 3, 15}, WEIGHT_F32, "[2, 3, 15] weight f32"},
    {3, {2, 3, 16}, WEIGHT | RESIDUAL, "[2, 3, 16] residual weight"},
    {3, {2, 3, 17}, RESIDUAL | SUM | WEIGHT | RSTD, "[2, 3, 17] residual sum weight rstd"},
    {4, {2, 3, 2, 31}, RESIDUAL | SUM | WEIGHT_F32 | GEMMA, "[2, 3, 2, 31] residual sum weight f32 1+w"},
    {2, {3, 33}, GEMMA, "[3, 33] 1+w without weight"},
    {2, {3, 64}, WEIGHT | OVER_X, "[3, 64] weight, out over x"},
    {2, {3, 65}, RESIDUAL | SUM | WEIGHT | SUM_OVER_X, "[3, 65] residual sum weight, sum over x"},
    {2, {3, 63}, RESIDUAL | SUM | WEIGHT | SUM_OVER_RESIDUAL, "[3, 63] residual sum weight, sum over residual"},
    {2, {3, 129}, RESIDUAL | WEIGHT | OVER_X, "[3, 129] residual weight, out over x"},
    {2, {3, 127}, RESIDUAL | WEIGHT_F32 | OVER_RESIDUAL, "[3, 127] residual weight f32, out over residual"},
    {2,
     {4, 100},
     RESIDUAL | SUM | SUM_OVER_RESIDUAL | OVER_X | WEIGHT,
     "[4, 100] residual sum weight, sum over residual, out over x"},
    {3, {3, 5, 24}, RESIDUAL | WEIGHT | REPEAT, "[3, 5, 24] residual weight, x repeats"},
    {2, {3, 21}, SUM | WEIGHT, "[3, 21] sum without residual"},
    {2, {3, 40}, ZEROS | WEIGHT | RSTD, "[3, 40] zeros weight rstd"},
    {2, {5, 2051}, RESIDUAL | SUM | WEIGHT | RSTD, "[5, 2051] residual sum weight rstd"},
    {2, {7, 4096}, WEIGHT, "[7, 4096] weight"},
    {2, {2, 20011}, WEIGHT | RSTD, "[2, 20011] weight rstd"},
    {2, {4096, 2048}, WEIGHT, "bench: TinyLlama, 4096 tokens"},
    {2, {4096, 2048}, WEIGHT | RESIDUAL | SUM | SUM_OVER_RESIDUAL, "bench: TinyLlama, 4096 tokens, residual"},
    {2, {16384, 4096}, WEIGHT, "bench: LLaMA 7B, 16384 tokens"},
};

static bool make(op_run *run) {
    const struct variant *v = &variants[run->variant];
    const int f = v->features;
    const int64_t dim = v->shape[v->ndim - 1];
    run->args.rms_norm = (clf_rms_norm_args){.eps = 1e-5f, .weight_offset = f & GEMMA ? 1 : 0};
    snprintf(run->text, sizeof run->text, "%s", v->text);
    const double high = f & ZEROS ? 0 : 2;
    const int x = op_input(run, "x", run->dtype, v->ndim, v->shape, -high, high);
    const int residual = f & RESIDUAL ? op_input(run, "residual", run->dtype, v->ndim, v->shape, -4, 4) : -1;
    if (f & WEIGHT) op_input(run, "weight", run->dtype, 1, &dim, -1, 1);
    if (f & WEIGHT_F32) op_input(run, "weight", CLF_F32, 1, &dim, -1, 1);
    if (f & REPEAT) op_repeat(run, x, 0);
    if (f & SUM_OVER_X)
        op_output_over(run, "sum", x);
    else if (f & SUM_OVER_RESIDUAL)
        op_output_over(run, "sum", residual);
    else if (f & SUM)
        op_output(run, "sum", run->dtype, v->ndim, v->shape);
    if (f & RSTD) op_output(run, "rstd", CLF_F32, v->ndim - 1, v->shape);
    if (f & OVER_X)
        op_output_over(run, "out", x);
    else if (f & OVER_RESIDUAL)
        op_output_over(run, "out", residual);
    else
        op_output(run, "out", run->dtype, v->ndim, v->shape);
    return true;
}

static clf_status call(op_run *run) {
    clf_rms_norm_args *a = &run->args.rms_norm;
    a->x = op_device(run, "x");
    a->residual = op_device(run, "residual");
    a->weight = op_device(run, "weight");
    a->sum = op_device(run, "sum");
    a->rstd = op_device(run, "rstd");
    a->out = op_device(run, "out");
    return clf_rms_norm(run->ctx, a);
}

static void reference(op_run *run) {
    const clf_rms_norm_args *a = &run->args.rms_norm;
    const op_tensor *t = op_find(run, "x");
    const int64_t dim = t->shape[t->ndim - 1], rows = dim ? op_elements(t) / dim : 0;
    const double *x = t->value, *residual = op_value(run, "residual"), *weight = op_value(run, "weight");
    double *sum = op_value(run, "sum"), *rstd = op_value(run, "rstd"), *out = op_value(run, "out");
    for (int64_t r = 0; r < rows; r++) {
        double squares = 0;
        for (int64_t i = r * dim; i < (r + 1) * dim; i++) {
            const double s = residual ? op_round(x[i] + residual[i], run->dtype) : x[i];
            squares += s * s;
            out[i] = s;
            if (sum) sum[i] = s;
        }
        const double scale = 1 / sqrt(squares / (double)dim + (double)a->eps);
        if (rstd) rstd[r] = scale;
        for (int64_t i = 0; i < dim; i++)
            out[r * dim + i] *= scale * ((weight ? weight[i] : 1) + (double)a->weight_offset);
    }
}

static double flops(const op_run *run) {
    return 4.0 * (double)op_elements(&run->t[0]);
}

static int rejects(clf_context *ctx) {
    enum { X, OUT, X16, WEIGHT3, BLOCK, FLAT, INTS, WIDE, EMPTY, TWO, N };
    static const clf_tensor_args list[N] = {
        [X] = {.ndim = 2, .shape = {2, 4}},
        [OUT] = {.ndim = 2, .shape = {2, 4}},
        [X16] = {.dtype = CLF_F16, .ndim = 2, .shape = {2, 4}},
        [WEIGHT3] = {.ndim = 1, .shape = {3}},
        [BLOCK] = {.dtype = CLF_Q8_0, .ndim = 1, .shape = {32}},
        [FLAT] = {.ndim = 0},
        [INTS] = {.dtype = CLF_I32, .ndim = 2, .shape = {2, 4}},
        [WIDE] = {.ndim = 2, .shape = {2, 8}},
        [EMPTY] = {.ndim = 2, .shape = {2, 0}},
        [TWO] = {.ndim = 1, .shape = {2}},
    };
    clf_tensor *t[N], *columns = NULL, *left = NULL, *shifted = NULL;
    if (!op_make(ctx, list, N, t)) return 1;
    const int64_t shape[] = {2, 4};
    int failures = 0;
    if (clf_tensor_view(&columns, t[WIDE], 2, shape, (int64_t[]){8, 2}, 0) != CLF_OK) failures++;
    if (clf_tensor_view(&left, t[WIDE], 2, shape, (int64_t[]){8, 1}, 0) != CLF_OK) failures++;
    if (clf_tensor_view(&shifted, t[WIDE], 2, shape, (int64_t[]){8, 1}, 2) != CLF_OK) failures++;

    const clf_rms_norm_args good = {.x = t[X], .eps = 1e-5f, .out = t[OUT]};
    const clf_status bad = CLF_INVALID_ARGUMENT;
    failures += op_rejected(ctx, clf_rms_norm(ctx, NULL), bad, "rms_norm: args is NULL");
    OP_REJECT(rms_norm, bad, "x is NULL", a.x = NULL);
    OP_REJECT(rms_norm, bad, "out is NULL", a.out = NULL);
    OP_REJECT(rms_norm, bad, "x: expected dtype f32, f16, bf16, got i32", a.x = t[INTS]);
    OP_REJECT(rms_norm, bad, "x: expected dtype f32, f16, bf16, got q8_0", a.x = t[BLOCK]);
    OP_REJECT(rms_norm, bad, "x: expected 1 to 4 dimensions, got 0", a.x = t[FLAT]);
    OP_REJECT(rms_norm, bad, "x: expected a contiguous last dimension", a.x = columns);
    OP_REJECT(rms_norm, bad, "residual: expected x's dtype f32, got f16", a.residual = t[X16]);
    OP_REJECT(rms_norm, bad, "residual: expected shape [2, 4], got [2, 8]", a.residual = t[WIDE]);
    OP_REJECT(rms_norm, bad, "weight: expected shape [4], got [3]", a.weight = t[WEIGHT3]);
    OP_REJECT(rms_norm, bad, "out: expected x's dtype f32, got f16", a.out = t[X16]);
    OP_REJECT(rms_norm, bad, "sum: expected shape [2, 4], got [2, 8]", a.sum = t[WIDE]);
    OP_REJECT(rms_norm, bad, "rstd: expected shape [2], got [2, 4]", a.rstd = t[X]);
    OP_REJECT(rms_norm, bad, "rstd: expected rows of x", a.x = t[EMPTY]; a.out = t[EMPTY]; a.rstd = t[TWO]);
    OP_REJECT(rms_norm, bad, "eps", a.eps = -1);
    OP_REJECT(rms_norm, bad, "eps", a.eps = NAN);
    OP_REJECT(rms_norm, bad, "weight_offset", a.weight_offset = INFINITY);
    OP_REJECT(rms_norm, bad, "out overlaps x", a.x = left; a.out = shifted);
    OP_REJECT(rms_norm, bad, "out overlaps residual", a.residual = t[OUT]; a.sum = t[X]);
    OP_REJECT(rms_norm, bad, "out overlaps sum", a.residual = left; a.sum = t[OUT]);
    clf_tensor_destroy(columns);
    clf_tensor_destroy(left);
    clf_tensor_destroy(shifted);
    op_unmake(t, N);
    return failures;
}

int main(int argc, char **argv) {
    static const op_case c = {.name = "rms_norm",
                              .variants = sizeof variants / sizeof *variants,
                              .bench_variants = 3,
                              .make = make,
                              .call = call,
                              .reference = reference,
                              .ulp = true,
                              .flops = flops,
                              .bytes = op_traffic,
                              .rejects = rejects};
    return op_main(argc, argv, &c);
}
