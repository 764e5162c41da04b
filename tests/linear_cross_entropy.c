/* linear_cross_entropy.c: clf_linear_cross_entropy() in double: forward, the losses alone; backward, losses and
 * gradients. */
#include "op_case.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
    SOME = 1, /* a third of the labels are CLF_LABEL_NONE */
    NONE = 2, /* all of them */
    CAP = 4,
    SMOOTH = 8,
    Z_LOSS = 16,
    WEIGHTS = 32, /* of rows */
    D_LOSS = 64,
    OVER_X = 128, /* d_x in place of x */
    FROZEN = 256, /* no d_weight */
    NO_D_X = 512,
    NO_LSE = 1024,
    SHARP = 2048, /* logits of some 40: one probability is all */
    SURE = 4096   /* row 0's label has almost all of the probability */
};

typedef struct variant {
    int64_t rows, k, vocab;
    clf_dtype dtype;
    int features;
} variant;

static const variant variants[] = {
    {1, 1, 1, CLF_F32, 0},
    {0, 8, 5, CLF_F32, 0},
    {3, 0, 7, CLF_F32, 0},
    {2, 0, 30, CLF_F32, SMOOTH | FROZEN},
    {5, 7, 3, CLF_F16, NO_LSE},
    {4, 33, 50, CLF_F32, NONE},
    {9, 33, 50, CLF_BF16, SOME},
    {17, 32, 24, CLF_F32, WEIGHTS | D_LOSS},
    {30, 64, 100, CLF_F32, OVER_X | SOME},
    {30, 64, 100, CLF_F32, CAP | SOME},
    {30, 65, 100, CLF_F16, SMOOTH | OVER_X},
    {31, 64, 101, CLF_F32, Z_LOSS | NO_D_X},
    {70, 100, 333, CLF_F32, CAP | SMOOTH | Z_LOSS | WEIGHTS | D_LOSS | SOME | OVER_X},
    {70, 100, 333, CLF_BF16, CAP | SMOOTH | Z_LOSS | WEIGHTS | D_LOSS | SOME | FROZEN},
    {33, 96, 77, CLF_Q8_0, FROZEN | SOME},
    {40, 256, 130, CLF_Q4_K, FROZEN | OVER_X},
    {25, 256, 49, CLF_Q6_K, WEIGHTS},
    {50, 64, 1000, CLF_F32, SOME | SMOOTH},
    {12, 1300, 60, CLF_F32, D_LOSS},
    {40, 128, 500, CLF_F32, SHARP},
    {40, 128, 500, CLF_F32, SHARP | CAP | Z_LOSS},
    {20, 64, 300, CLF_F32, SURE},
    {13, 40, 2000, CLF_F16, NO_D_X | FROZEN},
    {300, 48, 700, CLF_F32, SOME | OVER_X},
    {300, 48, 700, CLF_F32, SOME | OVER_X | FROZEN},
    {70, 100, 333, CLF_F32, CAP | SMOOTH | Z_LOSS | WEIGHTS | D_LOSS | SOME | OVER_X | FROZEN},
    {130, 72, 600, CLF_F32, SMOOTH | FROZEN},
    {40, 128, 500, CLF_F32, SHARP | FROZEN},
    {40, 128, 500, CLF_F32, SHARP | CAP | Z_LOSS | FROZEN},
    {20, 64, 300, CLF_F32, SURE | FROZEN},
    {9, 33, 50, CLF_BF16, SOME | FROZEN},
    {512, 2048, 32000, CLF_F32, 0},
    {512, 2048, 32000, CLF_F32, FROZEN},
    {512, 2048, 32000, CLF_BF16, FROZEN},
    {512, 2048, 32000, CLF_Q6_K, FROZEN},
    {2048, 2048, 32000, CLF_F32, 0},
    {512, 896, 151936, CLF_BF16, FROZEN},
};
enum { BENCH = 6, VARIANTS = sizeof variants / sizeof *variants };

static bool make(op_run *run) {
    const variant *v = &variants[run->variant];
    const int f = v->features;
    clf_linear_cross_entropy_args *a = &run->args.linear_cross_entropy;
    *a = (clf_linear_cross_entropy_args){.softcap = f & CAP ? (f & SHARP ? 30.f : 3.f) : 0,
                                         .label_smoothing = f & SMOOTH ? 0.1f : 0,
                                         .z_loss = f & Z_LOSS ? 0.01f : 0,
                                         .d_loss = f & D_LOSS ? 64.f / 7 : 0};
    snprintf(run->text, sizeof run->text, "%s%lld rows, w %s [%lld, %lld]%s%s%s%s%s%s%s%s%s%s%s",
             run->variant >= VARIANTS - BENCH ? "bench: " : "", (long long)v->rows, clf_dtype_name(v->dtype),
             (long long)v->vocab, (long long)v->k,
             f & SOME   ? " some labels"
             : f & NONE ? " no labels"
                        : "",
             f & CAP ? " softcap" : "", f & SMOOTH ? " smoothing" : "", f & Z_LOSS ? " z-loss" : "",
             f & WEIGHTS ? " row weights" : "", f & D_LOSS ? " d_loss" : "", f & OVER_X ? " d_x over x" : "",
             f & FROZEN ? " frozen" : "", f & NO_D_X ? " no d_x" : "", f & SHARP ? " sharp" : "",
             f & SURE ? " sure" : "");
    const double high = (f & SHARP ? 50 : 3) / sqrt((double)v->k + 1);
    const int x = op_input(run, "x", run->dtype, 2, (int64_t[]){v->rows, v->k}, -1, 1);
    const int w = op_input(run, "w", v->dtype, 2, (int64_t[]){v->vocab, v->k}, -high, high);
    const int labels = op_input(run, "labels", CLF_I32, 1, &v->rows, 0, 1);
    for (int64_t i = 0; i < v->rows; i++) {
        const bool none = f & NONE || (f & SOME && op_random_int(run, 3) == 0);
        run->t[labels].value[i] = (double)(none ? CLF_LABEL_NONE : op_random_int(run, v->vocab));
    }
    if (f & SURE) { /* z of the label some 20 above the others */
        const int64_t label = (int64_t)run->t[labels].value[0];
        for (int64_t i = 0; i < v->k; i++)
            run->t[x].value[i] = op_round(20 * run->t[w].value[label * v->k + i], run->dtype);
    }
    if (f & WEIGHTS) op_input(run, "row_weights", CLF_F32, 1, &v->rows, 0, 2);
    op_output(run, "loss", CLF_F32, 1, &v->rows);
    if (!(f & NO_LSE)) op_output(run, "lse", CLF_F32, 1, &v->rows);
    if (!run->backward) return true;
    if (!(f & NO_D_X)) {
        if (f & OVER_X)
            op_output_over(run, "d_x", x);
        else
            op_output(run, "d_x", run->dtype, 2, (int64_t[]){v->rows, v->k});
    }
    if (!(f & FROZEN))
        op_output_over(run, "d_w", op_input(run, "before w", CLF_F32, 2, (int64_t[]){v->vocab, v->k}, -1, 1));
    return true;
}

static clf_status call(op_run *run) {
    clf_linear_cross_entropy_args *a = &run->args.linear_cross_entropy;
    a->x = op_device(run, "x");
    a->weight = op_device(run, "w");
    a->labels = op_device(run, "labels");
    a->row_weights = op_device(run, "row_weights");
    a->loss = op_device(run, "loss");
    a->lse = op_device(run, "lse");
    a->d_x = op_device(run, "d_x");
    a->d_weight = op_device(run, "d_w");
    return clf_linear_cross_entropy(run->ctx, a);
}

/* A row's logits, their lse; returns the loss. */
static double row_loss(op_run *run, int64_t row, double *z, double *lse) {
    const variant *v = &variants[run->variant];
    const clf_linear_cross_entropy_args *a = &run->args.linear_cross_entropy;
    const double *x = op_value(run, "x") + row * v->k, *w = op_value(run, "w"), cap = (double)a->softcap;
    const double smoothing = (double)a->label_smoothing;
    double most = -INFINITY, sum = 0, mean = 0;
    for (int64_t i = 0; i < v->vocab; i++) {
        z[i] = 0;
        for (int64_t j = 0; j < v->k; j++) z[i] += x[j] * w[i * v->k + j];
        if (cap != 0) z[i] = cap * tanh(z[i] / cap);
        most = fmax(most, z[i]);
        mean += z[i] / (double)v->vocab;
    }
    for (int64_t i = 0; i < v->vocab; i++) sum += exp(z[i] - most);
    *lse = most + log(sum);
    const int64_t label = (int64_t)op_value(run, "labels")[row];
    return *lse - (1 - smoothing) * z[label] - smoothing * mean + (double)a->z_loss * *lse * *lse;
}

static double row_scale(op_run *run, int64_t row) {
    const double *weights = op_value(run, "row_weights"), d_loss = (double)run->args.linear_cross_entropy.d_loss;
    return (weights ? weights[row] : 1) * (d_loss == 0 ? 1 : d_loss);
}

enum { MOST_VOCAB = 1 << 18 };
static double z[MOST_VOCAB];

/* host[0] becomes the largest |lse|, for tolerance(). */
static void reference(op_run *run) {
    const variant *v = &variants[run->variant];
    op_tensor *loss = op_find(run, "loss"), *lse_out = op_find(run, "lse");
    double squares = 0;
    for (int64_t row = 0; row < v->rows; row++) {
        double lse = 0;
        const bool none = op_value(run, "labels")[row] == CLF_LABEL_NONE;
        loss->value[row] = none ? 0 : row_loss(run, row, z, &lse);
        if (lse_out) lse_out->value[row] = lse;
        run->host[0] = fmaxf(run->host[0], (float)fabs(lse));
        squares += lse * lse;
    }
    if (v->rows) loss->magnitude = 2 * sqrt(squares / (double)v->rows);
    if (lse_out) lse_out->magnitude = loss->magnitude;
}

static void reference_backward(op_run *run) {
    const variant *v = &variants[run->variant];
    const clf_linear_cross_entropy_args *a = &run->args.linear_cross_entropy;
    const double smoothing = (double)a->label_smoothing, cap = (double)a->softcap;
    const double *x = op_value(run, "x"), *w = op_value(run, "w"), *labels = op_value(run, "labels");
    op_tensor *tx = op_find(run, "d_x"), *tw = op_find(run, "d_w");
    double *d_x = tx ? tx->value : NULL, *d_w = tw ? tw->value : NULL, x_squares = 0, w_squares = 0;
    reference(run);
    if (d_x) memset(d_x, 0, (size_t)(v->rows * v->k) * sizeof *d_x);
    if (d_w) memcpy(d_w, run->t[tw->alias].value, (size_t)(v->vocab * v->k) * sizeof *d_w);
    for (int64_t row = 0; row < v->rows; row++) {
        double lse;
        if (labels[row] == CLF_LABEL_NONE) continue;
        row_loss(run, row, z, &lse);
        for (int64_t i = 0; i < v->vocab; i++) {
            const double bend = cap != 0 ? 1 - z[i] / cap * (z[i] / cap) : 1, g = row_scale(run, row) * bend;
            const double p = g * exp(z[i] - lse) * (1 + 2 * (double)a->z_loss * lse);
            const double hit = g * ((double)i == labels[row] ? 1 - smoothing : 0);
            const double spread = g * smoothing / (double)v->vocab, d = p - hit - spread;
            const double terms = p * p + hit * hit + spread * spread;
            for (int64_t j = 0; d_x && j < v->k; j++) {
                d_x[row * v->k + j] += d * w[i * v->k + j];
                x_squares += terms * w[i * v->k + j] * w[i * v->k + j];
            }
            for (int64_t j = 0; d_w && j < v->k; j++) {
                d_w[i * v->k + j] += d * x[row * v->k + j];
                w_squares += terms * x[row * v->k + j] * x[row * v->k + j];
            }
        }
    }
    if (d_x && v->rows > 0 && v->k > 0) tx->magnitude = sqrt(x_squares / (double)(v->rows * v->k));
    if (d_w && v->k > 0) tw->magnitude = sqrt(w_squares / (double)(v->vocab * v->k));
}

static double loss(op_run *run) {
    double sum = 0, lse;
    for (int64_t row = 0; row < variants[run->variant].rows; row++)
        if (op_value(run, "labels")[row] != CLF_LABEL_NONE) sum += row_scale(run, row) * row_loss(run, row, z, &lse);
    return sum;
}

/* A logit of magnitude S is known to within S · 2⁻²⁴, which exp carries over. */
static double tolerance(const op_run *run, const op_tensor *t) {
    const double sharp = ldexp((double)run->host[0], -23);
    if (t->dtype == CLF_F16) return fmax(4e-4, sharp);
    if (t->dtype == CLF_BF16) return 1.5e-3;
    return fmax(strncmp(t->name, "d_", 2) ? 1e-6 : 2e-6, sharp);
}

static double flops(const op_run *run) {
    const variant *v = &variants[run->variant];
    const int f = v->features, products = run->backward ? 1 + !(f & NO_D_X) + !(f & FROZEN) : 1;
    return 2.0 * products * (double)v->rows * (double)v->k * (double)v->vocab;
}

static int rejects_labels(clf_context *ctx, const clf_linear_cross_entropy_args *good, clf_tensor *labels) {
    static const int32_t wrong[] = {6, -1, -99};
    int failures = 0;
    for (int i = 0; i < 3; i++) {
        const int32_t ids[2] = {0, wrong[i]};
        if (clf_tensor_write(labels, ids, sizeof ids) != CLF_OK) return failures + 1;
        failures += op_rejected(ctx, clf_linear_cross_entropy(ctx, good), CLF_INVALID_ARGUMENT,
                                "labels: element 1: expected 0 to 5 or CLF_LABEL_NONE");
    }
    return failures;
}

static int rejects(clf_context *ctx) {
    enum { X, W, LABELS, LOSS, DX, DW, W64, INTS, THREE, F16, N };
    static const clf_tensor_args list[N] = {[X] = {.ndim = 2, .shape = {2, 32}},
                                            [W] = {.ndim = 2, .shape = {6, 32}},
                                            [LABELS] = {.dtype = CLF_I32, .ndim = 1, .shape = {2}},
                                            [LOSS] = {.ndim = 1, .shape = {2}},
                                            [DX] = {.ndim = 2, .shape = {2, 32}},
                                            [DW] = {.ndim = 2, .shape = {6, 32}},
                                            [W64] = {.ndim = 2, .shape = {6, 64}},
                                            [INTS] = {.dtype = CLF_I32, .ndim = 2, .shape = {2, 32}},
                                            [THREE] = {.ndim = 1, .shape = {3}},
                                            [F16] = {.dtype = CLF_F16, .ndim = 2, .shape = {2, 32}}};
    clf_tensor *t[N];
    if (!op_make(ctx, list, N, t)) return 1;
    const clf_status bad = CLF_INVALID_ARGUMENT;
    const clf_linear_cross_entropy_args good = {
        .x = t[X], .weight = t[W], .labels = t[LABELS], .loss = t[LOSS], .d_x = t[DX], .d_weight = t[DW]};
    int failures = op_rejected(ctx, clf_linear_cross_entropy(ctx, NULL), bad, "linear_cross_entropy: args is NULL");
    OP_REJECT(linear_cross_entropy, bad, "x is NULL", a.x = NULL);
    OP_REJECT(linear_cross_entropy, bad, "x: expected dtype", a.x = t[INTS]);
    OP_REJECT(linear_cross_entropy, bad, "x: expected 2 to 2 dimensions", a.x = t[LOSS]);
    OP_REJECT(linear_cross_entropy, bad, "weight is NULL", a.weight = NULL);
    OP_REJECT(linear_cross_entropy, bad, "weight: expected rows of 32 as x has, got 64", a.weight = t[W64]);
    OP_REJECT(linear_cross_entropy, bad, "labels is NULL", a.labels = NULL);
    OP_REJECT(linear_cross_entropy, bad, "labels: expected dtype i32", a.labels = t[LOSS]);
    OP_REJECT(linear_cross_entropy, bad, "loss is NULL", a.loss = NULL);
    OP_REJECT(linear_cross_entropy, bad, "loss: expected shape [2], got [3]", a.loss = t[THREE]);
    OP_REJECT(linear_cross_entropy, bad, "lse: expected shape [2], got [3]", a.lse = t[THREE]);
    OP_REJECT(linear_cross_entropy, bad, "lse overlaps loss", a.lse = t[LOSS]);
    OP_REJECT(linear_cross_entropy, bad, "row_weights: expected shape [2], got [3]", a.row_weights = t[THREE]);
    OP_REJECT(linear_cross_entropy, bad, "loss overlaps row_weights", a.row_weights = t[LOSS]);
    OP_REJECT(linear_cross_entropy, bad, "softcap", a.softcap = -1);
    OP_REJECT(linear_cross_entropy, bad, "label_smoothing", a.label_smoothing = 1.5f);
    OP_REJECT(linear_cross_entropy, bad, "z_loss", a.z_loss = -1);
    OP_REJECT(linear_cross_entropy, bad, "d_loss", a.d_loss = NAN);
    OP_REJECT(linear_cross_entropy, bad, "d_x: expected x's dtype f32, got f16", a.d_x = t[F16]);
    OP_REJECT(linear_cross_entropy, bad, "d_x: expected shape [2, 32], got [6, 32]", a.d_x = t[DW]);
    OP_REJECT(linear_cross_entropy, bad, "d_weight: expected shape [6, 32], got [2, 32]", a.d_weight = t[DX]);
    OP_REJECT(linear_cross_entropy, bad, "d_weight overlaps weight", a.d_weight = t[W]);
    if (!strncmp(clf_context_backend(ctx), "cpu", 3)) failures += rejects_labels(ctx, &good, t[LABELS]);
    op_unmake(t, N);
    return failures;
}

int main(int argc, char **argv) {
    static const op_case c = {.name = "linear_cross_entropy",
                              .variants = VARIANTS,
                              .bench_variants = BENCH,
                              .make = make,
                              .call = call,
                              .reference = reference,
                              .call_backward = call,
                              .reference_backward = reference_backward,
                              .loss = loss,
                              .tolerance = tolerance,
                              .flops = flops,
                              .bytes = op_traffic,
                              .rejects = rejects};
    return op_main(argc, argv, &c);
}
