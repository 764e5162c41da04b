/* rms_norm.c: clf_rms_norm() and clf_rms_norm_backward() in double. Features that say where outputs go mean, backward:
 * d_x over d_out (OVER_X), over the residual (OVER_RESIDUAL, SUM_OVER_RESIDUAL). */
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
    ZEROS = 2048,
    FROZEN = 4096,     /* backward: no d_weight */
    ONLY_WEIGHT = 8192 /* backward: no d_x */
};

static const struct variant {
    int ndim;
    int64_t shape[4];
    int features;
    const char *text;
} variants[] = {
    {1, {1}, 0, "[1]"},
    {1, {3}, WEIGHT | FROZEN, "[3] weight, no d_weight"},
    {2, {2, 0}, WEIGHT, "[2, 0] weight"},
    {2, {0, 5}, WEIGHT | RSTD, "[0, 5] weight rstd"},
    {2, {0, 8}, WEIGHT | SUM | RESIDUAL, "[0, 8] residual sum weight"},
    {2, {3, 1}, WEIGHT | RSTD, "[3, 1] weight rstd"},
    {3, {2, 3, 15}, WEIGHT_F32 | ONLY_WEIGHT, "[2, 3, 15] weight f32, no d_x"},
    {3, {2, 3, 16}, WEIGHT | RESIDUAL, "[2, 3, 16] residual weight"},
    {3, {2, 3, 17}, RESIDUAL | SUM | WEIGHT | RSTD, "[2, 3, 17] residual sum weight rstd"},
    {4, {2, 3, 2, 31}, RESIDUAL | SUM | WEIGHT_F32 | GEMMA, "[2, 3, 2, 31] residual sum weight f32 1+w"},
    {2, {3, 33}, GEMMA, "[3, 33] 1+w without weight"},
    {2, {3, 64}, WEIGHT | OVER_X | FROZEN, "[3, 64] weight, no d_weight, out over x"},
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
    {3, {2, 150, 37}, WEIGHT | RESIDUAL, "[2, 150, 37] residual weight"},
    {2, {2, 20011}, WEIGHT | RSTD, "[2, 20011] weight rstd"},
    {2, {4096, 2048}, WEIGHT, "bench: TinyLlama, 4096 tokens"},
    {2, {4096, 2048}, WEIGHT | RESIDUAL | SUM | SUM_OVER_RESIDUAL, "bench: TinyLlama, 4096 tokens, residual"},
    {2, {16384, 4096}, WEIGHT | FROZEN, "bench: LLaMA 7B, 16384 tokens"},
};

static const float eps = 1e-5f;

static double rstd_of(const double *row, int64_t dim) {
    double squares = 0;
    for (int64_t i = 0; i < dim; i++) squares += row[i] * row[i];
    return 1 / sqrt(squares / (double)dim + (double)eps);
}

/* After x, residual and weight. */
static void make_backward(op_run *run, int x, int residual) {
    const struct variant *v = &variants[run->variant];
    const int f = v->features;
    const int64_t dim = v->shape[v->ndim - 1];
    run->args.rms_norm_backward = (clf_rms_norm_backward_args){.weight_offset = f & GEMMA ? 1 : 0};
    const int rstd = op_input(run, "rstd", CLF_F32, v->ndim - 1, v->shape, 0, 1);
    for (int64_t r = 0; r < op_elements(&run->t[rstd]); r++) {
        const double exact = rstd_of(run->t[x].value + r * dim, dim);
        run->t[rstd].value[r] = run->dtype == CLF_F64 ? exact : op_round(exact, CLF_F32);
    }
    const int d_out = op_input(run, "d_out", run->dtype, v->ndim, v->shape, -1, 1);
    if (!(f & ONLY_WEIGHT)) {
        if (f & OVER_X)
            op_output_over(run, "d_x", d_out);
        else if (f & (OVER_RESIDUAL | SUM_OVER_RESIDUAL))
            op_output_over(run, "d_x", residual);
        else
            op_output(run, "d_x", run->dtype, v->ndim, v->shape);
    }
    if (!(f & FROZEN)) op_output_over(run, "d_weight", op_input(run, "before", CLF_F32, 1, &dim, -2, 2));
}

static bool make(op_run *run) {
    const struct variant *v = &variants[run->variant];
    const int f = v->features;
    const int64_t dim = v->shape[v->ndim - 1];
    snprintf(run->text, sizeof run->text, "%s", v->text);
    const double high = f & ZEROS ? 0 : 2;
    const int x = op_input(run, "x", run->dtype, v->ndim, v->shape, -high, high);
    const int residual = f & RESIDUAL ? op_input(run, "residual", run->dtype, v->ndim, v->shape, -4, 4) : -1;
    if (f & WEIGHT) op_input(run, "weight", run->dtype, 1, &dim, -1, 1);
    if (f & WEIGHT_F32) op_input(run, "weight", CLF_F32, 1, &dim, -1, 1);
    if (f & REPEAT) op_repeat(run, x, 0);
    if (run->backward) {
        make_backward(run, x, residual);
        return true;
    }
    run->args.rms_norm = (clf_rms_norm_args){.eps = eps, .weight_offset = f & GEMMA ? 1 : 0};
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

static clf_status call_backward(op_run *run) {
    clf_rms_norm_backward_args *a = &run->args.rms_norm_backward;
    a->x = op_device(run, "x");
    a->weight = op_device(run, "weight");
    a->rstd = op_device(run, "rstd");
    a->d_out = op_device(run, "d_out");
    a->residual = op_device(run, "residual");
    a->d_x = op_device(run, "d_x");
    a->d_weight = op_device(run, "d_weight");
    return clf_rms_norm_backward(run->ctx, a);
}

/* With n = x·rstd and m = d_out·(offset + weight). Terms cancel in d_x (wholly where dim is 1) and in d_weight. */
static void reference_backward(op_run *run) {
    const op_tensor *t = op_find(run, "x");
    const int64_t dim = t->shape[t->ndim - 1], rows = dim ? op_elements(t) / dim : 0;
    const double *x = t->value, *weight = op_value(run, "weight"), *rstd = op_value(run, "rstd");
    const double *d_out = op_value(run, "d_out"), *residual = op_value(run, "residual");
    const double *before = op_value(run, "before"), offset = (double)run->args.rms_norm_backward.weight_offset;
    op_tensor *d_x = op_find(run, "d_x"), *d_weight = op_find(run, "d_weight");
    double x_squares = 0, weight_squares = 0;
    for (int64_t i = 0; d_weight && i < dim; i++) {
        d_weight->value[i] = before[i];
        weight_squares += before[i] * before[i];
    }
    for (int64_t r = 0; r < rows; r++) {
        double mean = 0;
        for (int64_t i = 0; i < dim; i++) {
            const double n = x[r * dim + i] * rstd[r], d = d_out[r * dim + i];
            mean += d * (offset + (weight ? weight[i] : 1)) * n / (double)dim;
            if (d_weight) {
                d_weight->value[i] += d * n;
                weight_squares += d * n * d * n;
            }
        }
        for (int64_t k = r * dim; d_x && k < (r + 1) * dim; k++) {
            const double n = x[k] * rstd[r], m = d_out[k] * (offset + (weight ? weight[k % dim] : 1));
            const double added = residual ? residual[k] : 0;
            d_x->value[k] = rstd[r] * (m - n * mean) + added;
            x_squares += rstd[r] * rstd[r] * (m * m + n * mean * n * mean) + added * added;
        }
    }
    if (d_x && rows) d_x->magnitude = sqrt(x_squares / (double)(rows * dim));
    if (d_weight && dim) d_weight->magnitude = sqrt(weight_squares / (double)dim);
}

/* Σ d_out · out + Σ residual · x: the residual is a gradient that reaches x besides. */
static double loss(op_run *run) {
    const op_tensor *t = op_find(run, "x");
    const int64_t dim = t->shape[t->ndim - 1], rows = dim ? op_elements(t) / dim : 0;
    const double *x = t->value, *weight = op_value(run, "weight"), *d_out = op_value(run, "d_out");
    const double *residual = op_value(run, "residual");
    double sum = 0;
    for (int64_t r = 0; r < rows; r++) {
        const double rstd = rstd_of(x + r * dim, dim);
        for (int64_t i = 0; i < dim; i++) {
            const double w = (double)run->args.rms_norm_backward.weight_offset + (weight ? weight[i] : 1);
            sum += d_out[r * dim + i] * x[r * dim + i] * rstd * w;
            if (residual) sum += residual[r * dim + i] * x[r * dim + i];
        }
    }
    return sum;
}

static double flops(const op_run *run) {
    return (run->backward ? 12.0 : 4.0) * (double)op_elements(&run->t[0]);
}

static int rejects_backward(clf_context *ctx) {
    enum { X, D_OUT, D_X, SCALES, D_WEIGHT, X16, W16, THREE, OTHER, N };
    static const clf_tensor_args list[N] = {
        [X] = {.ndim = 2, .shape = {2, 4}},
        [D_OUT] = {.ndim = 2, .shape = {2, 4}},
        [D_X] = {.ndim = 2, .shape = {2, 4}},
        [SCALES] = {.ndim = 1, .shape = {2}},
        [D_WEIGHT] = {.ndim = 1, .shape = {4}},
        [X16] = {.dtype = CLF_F16, .ndim = 2, .shape = {2, 4}},
        [W16] = {.dtype = CLF_F16, .ndim = 1, .shape = {4}},
        [THREE] = {.ndim = 1, .shape = {3}},
        [OTHER] = {.ndim = 2, .shape = {4, 2}},
    };
    clf_tensor *t[N];
    if (!op_make(ctx, list, N, t)) return 1;
    int failures = 0;
    const clf_rms_norm_backward_args good = {
        .x = t[X], .rstd = t[SCALES], .d_out = t[D_OUT], .d_x = t[D_X], .d_weight = t[D_WEIGHT]};
    const clf_status bad = CLF_INVALID_ARGUMENT;
    failures += op_rejected(ctx, clf_rms_norm_backward(ctx, NULL), bad, "rms_norm_backward: args is NULL");
    OP_REJECT(rms_norm_backward, bad, "x is NULL", a.x = NULL);
    OP_REJECT(rms_norm_backward, bad, "rstd is NULL", a.rstd = NULL);
    OP_REJECT(rms_norm_backward, bad, "d_out is NULL", a.d_out = NULL);
    OP_REJECT(rms_norm_backward, bad, "rstd: expected shape [2], got [3]", a.rstd = t[THREE]);
    OP_REJECT(rms_norm_backward, bad, "d_out: expected x's dtype f32, got f16", a.d_out = t[X16]);
    OP_REJECT(rms_norm_backward, bad, "residual: expected shape [2, 4], got [4, 2]", a.residual = t[OTHER]);
    OP_REJECT(rms_norm_backward, bad, "weight: expected shape [4], got [3]", a.weight = t[THREE]);
    OP_REJECT(rms_norm_backward, bad, "weight_offset", a.weight_offset = NAN);
    OP_REJECT(rms_norm_backward, bad, "d_x: expected shape [2, 4], got [4, 2]", a.d_x = t[OTHER]);
    OP_REJECT(rms_norm_backward, bad, "d_x overlaps x", a.d_x = t[X]);
    OP_REJECT(rms_norm_backward, bad, "d_weight: expected dtype f32, got f16", a.d_weight = t[W16]);
    OP_REJECT(rms_norm_backward, bad, "d_weight: expected shape [4], got [3]", a.d_weight = t[THREE]);
    OP_REJECT(rms_norm_backward, bad, "d_weight overlaps weight", a.weight = t[D_WEIGHT]);
    op_unmake(t, N);
    return failures;
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
    int failures = rejects_backward(ctx);
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
    OP_REJECT(rms_norm, bad, "out: expected dtype f32, q8_0, got f16", a.out = t[X16]);
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
                              .call_backward = call_backward,
                              .reference_backward = reference_backward,
                              .loss = loss,
                              .ulp = true,
                              .flops = flops,
                              .bytes = op_traffic,
                              .rejects = rejects};
    return op_main(argc, argv, &c);
}
