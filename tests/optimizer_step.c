/* optimizer_step.c: clf_optimizer_step() in double, the codes of 8-bit state included. */
#include "op_case.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COPY_F16 = 1, COPY_BF16 = 2, M8 = 4, V8 = 8, PLAIN = 16, NO_DECAY = 32, FIRST = 64, SMALL = 128, SCALED = 256 };
enum { EIGHT = M8 | V8 };

static const struct variant {
    clf_optimizer optimizer;
    int64_t n;
    int features;
    const char *text;
} variants[] = {
    {CLF_OPTIMIZER_ADAMW, 1, 0, "AdamW [1]"},
    {CLF_OPTIMIZER_ADAMW, 0, 0, "AdamW [0]"},
    {CLF_OPTIMIZER_ADAMW, 255, FIRST, "AdamW [255], first step"},
    {CLF_OPTIMIZER_ADAMW, 1000, COPY_F16 | SCALED, "AdamW [1000], f16 copy, scaled gradient"},
    {CLF_OPTIMIZER_ADAMW, 10007, COPY_BF16, "AdamW [10007], bf16 copy"},
    {CLF_OPTIMIZER_SGD, 771, NO_DECAY, "SGD [771], no decay"},
    {CLF_OPTIMIZER_SGD, 4096, PLAIN | COPY_BF16, "SGD [4096] without momentum, bf16 copy"},
    {CLF_OPTIMIZER_LION, 1025, COPY_F16, "Lion [1025], f16 copy"},
    {CLF_OPTIMIZER_ADAMW, 1, EIGHT, "AdamW [1], 8 bits"},
    {CLF_OPTIMIZER_ADAMW, 0, EIGHT, "AdamW [0], 8 bits"},
    {CLF_OPTIMIZER_ADAMW, 256, EIGHT | FIRST, "AdamW [256], 8 bits, first step"},
    {CLF_OPTIMIZER_ADAMW, 20003, EIGHT | COPY_BF16 | SCALED, "AdamW [20003], 8 bits, bf16 copy, scaled gradient"},
    {CLF_OPTIMIZER_ADAMW, 30001, EIGHT | SMALL, "AdamW [30001], 8 bits, all magnitudes"},
    {CLF_OPTIMIZER_ADAMW, 2000, M8, "AdamW [2000], 8-bit momentum"},
    {CLF_OPTIMIZER_ADAMW, 2000, V8, "AdamW [2000], 8-bit variance"},
    {CLF_OPTIMIZER_SGD, 5003, M8 | SMALL, "SGD [5003], 8 bits, all magnitudes"},
    {CLF_OPTIMIZER_LION, 5003, M8, "Lion [5003], 8 bits"},
    {CLF_OPTIMIZER_ADAMW, 16 << 20, 0, "bench: AdamW, 16 M weights"},
    {CLF_OPTIMIZER_ADAMW, 16 << 20, COPY_BF16, "bench: AdamW, 16 M weights, bf16 copy"},
    {CLF_OPTIMIZER_ADAMW, 16 << 20, EIGHT, "bench: AdamW, 16 M weights, 8 bits"},
};

/* ---- codes ---- */

enum { ZERO = 128 }; /* of momentum's */

static double momentum_of(double code) {
    return (code - ZERO) * fabs(code - ZERO) / (127 * 127);
}
static double variance_of(double code) {
    return pow(code / 255, 4);
}

/* ⌊root + u⌋ of least … most, root being known within `slack`; NaN where that may change it. */
static double rounded(double root, double slack, double u, double least, double most) {
    const double low = fmin(fmax(floor(root - slack + u), least), most);
    return low == fmin(fmax(floor(root + slack + u), least), most) ? low : NAN;
}

/* The code of x, known within `error`; NaN where that, or roots in floats, may change it. */
static double momentum_code(double x, double scale, double error) {
    const double root = scale > 0 ? 127 * sqrt(fabs(x) / scale) : 0, slack = root * fmin(error / fabs(x), 1) + 5e-5;
    return x == 0 ? ZERO : ZERO + copysign(1, x) * rounded(root, slack, 0.5, 0, 127);
}
static double variance_code(double x, double scale, double error, double u) {
    if (!(scale > 0) || x / scale < (double)FLT_MIN) return 0;
    const double root = 255 * pow(x / scale, 0.25);
    return rounded(root, root * error / x + 1e-4, u, 1, 255);
}

/* What rounds variance's code. */
static double dither(int64_t element, int64_t step) {
    return (double)(((uint32_t)step * 0x9e3779b9 + (uint32_t)element * 0x91e10da5) >> 16) * 0x1p-16;
}

/* ---- the case ---- */

static void make_state(op_run *run, const char *name, const char *scale_name, bool is8, const int64_t *shape,
                       double low, double high) {
    const struct variant *v = &variants[run->variant];
    const int64_t blocks = (v->n + CLF_OPTIMIZER_BLOCK - 1) / CLF_OPTIMIZER_BLOCK;
    const bool first = v->features & FIRST;
    const int state = op_input(run, name, is8 ? CLF_U8 : CLF_F32, 1, shape, is8 ? 0 : low, is8 ? 256 : high);
    for (int64_t i = 0; first && i < v->n; i++) run->t[state].value[i] = 0;
    if (is8) { /* where scales are 0 so is the state, whatever the codes */
        const int scale = op_input(run, scale_name, CLF_F32, 1, &blocks, first ? 0 : high / 2, first ? 0 : high);
        op_output_over(run, scale_name, scale);
    }
    op_output_over(run, name, state);
}

static bool make(op_run *run) {
    const struct variant *v = &variants[run->variant];
    const int f = v->features;
    const int64_t shape[] = {v->n};
    snprintf(run->text, sizeof run->text, "%s", v->text);
    run->args.optimizer_step = (clf_optimizer_step_args){.optimizer = v->optimizer,
                                                         .gradient_scale = f & SCALED ? 0.37f : 0,
                                                         .learning_rate = 3e-3f,
                                                         .beta1 = 0.9f,
                                                         .beta2 = v->optimizer == CLF_OPTIMIZER_LION ? 0.99f : 0.999f,
                                                         .eps = 1e-8f,
                                                         .weight_decay = f & NO_DECAY ? 0 : 0.1f,
                                                         .step = f & FIRST ? 1 : 7};
    const int weight = op_input(run, "weight", CLF_F32, 1, shape, -1, 1);
    const int gradient = op_input(run, "gradient", CLF_F32, 1, shape, -0.1, 0.1);
    for (int64_t i = 0; i < v->n && f & SMALL; i++) /* from 1e-12 on, and zeros */
        run->t[gradient].value[i] =
            op_random_int(run, 50) ? op_round(run->t[gradient].value[i] * pow(10, -11 * op_random(run)), CLF_F32) : 0;
    op_output_over(run, "weight", weight);
    op_output_over(run, "gradient", gradient);
    if (!(f & PLAIN)) make_state(run, "momentum", "momentum_scale", f & M8, shape, -0.1, 0.1);
    if (v->optimizer == CLF_OPTIMIZER_ADAMW) make_state(run, "variance", "variance_scale", f & V8, shape, 1e-6, 1e-2);
    for (int64_t i = 0; i < v->n && f & SMALL; i++) /* some momentum that is and stays 0 */
        if (run->t[gradient].value[i] == 0) op_value(run, "momentum")[i] = ZERO;
    if (f & (COPY_F16 | COPY_BF16)) op_output(run, "copy", f & COPY_F16 ? CLF_F16 : CLF_BF16, 1, shape);
    return true;
}

static clf_status call(op_run *run) {
    clf_optimizer_step_args a = run->args.optimizer_step;
    a.weight = op_device(run, "weight");
    a.gradient = op_device(run, "gradient");
    a.copy = op_device(run, "copy");
    a.momentum = op_device(run, "momentum");
    a.momentum_scale = op_device(run, "momentum_scale");
    a.variance = op_device(run, "variance");
    a.variance_scale = op_device(run, "variance_scale");
    return clf_optimizer_step(run->ctx, &a);
}

/* The tensor of this name that the call writes. */
static op_tensor *result(op_run *run, const char *name) {
    for (int i = 0; i < run->n_tensors; i++)
        if (run->t[i].output && !strcmp(run->t[i].name, name)) return &run->t[i];
    return NULL;
}

/* Element i of a state before the step. */
static double before(op_run *run, const char *name, const char *scale_name, double value_of(double), int64_t i) {
    const op_tensor *t = op_find(run, name);
    if (!t) return 0;
    if (t->dtype == CLF_F32) return t->value[i];
    return value_of(t->value[i]) * op_value(run, scale_name)[i / CLF_OPTIMIZER_BLOCK];
}

/* The state after it: `now`, each known within error[i], as floats or as codes and scales. */
static void after(op_run *run, const char *name, const char *scale_name, const double *now, const double *error) {
    op_tensor *t = result(run, name);
    if (!t) return;
    const int64_t n = op_elements(t), step = run->args.optimizer_step.step;
    for (int64_t begin = 0; begin < n; begin += CLF_OPTIMIZER_BLOCK) {
        const int64_t end = begin + CLF_OPTIMIZER_BLOCK < n ? begin + CLF_OPTIMIZER_BLOCK : n;
        double most = 0;
        for (int64_t i = begin; i < end; i++) most = fmax(most, fabs(now[i]));
        if (t->dtype == CLF_U8) result(run, scale_name)->value[begin / CLF_OPTIMIZER_BLOCK] = most;
        for (int64_t i = begin; i < end; i++)
            t->value[i] = t->dtype == CLF_F32         ? now[i]
                          : !strcmp(name, "momentum") ? momentum_code(now[i], most, error[i])
                                                      : variance_code(now[i], most, error[i], dither(i, step));
    }
    t->sampled = t->dtype == CLF_U8;
}

static void reference(op_run *run) {
    const clf_optimizer_step_args *a = &run->args.optimizer_step;
    const int64_t n = op_elements(&run->t[0]);
    const double beta1 = (double)a->beta1, beta2 = (double)a->beta2, rate = (double)a->learning_rate;
    const double scale = a->gradient_scale == 0 ? 1 : (double)a->gradient_scale;
    double *work = malloc(((size_t)n + 1) * 4 * sizeof *work);
    if (!work) exit(1);
    double *m_new = work, *v_new = work + n, *m_error = work + 2 * n, *v_error = work + 3 * n;
    op_tensor *copy = result(run, "copy");
    for (int64_t i = 0; i < n; i++) {
        const double g = op_value(run, "gradient")[i] * scale;
        const double m = before(run, "momentum", "momentum_scale", momentum_of, i);
        const double v = before(run, "variance", "variance_scale", variance_of, i);
        double change = g, w = op_value(run, "weight")[i];
        if (a->optimizer == CLF_OPTIMIZER_ADAMW) {
            m_new[i] = beta1 * m + (1 - beta1) * g;
            v_new[i] = beta2 * v + (1 - beta2) * g * g;
            change = m_new[i] / (1 - pow(beta1, (double)a->step)) /
                     (sqrt(v_new[i] / (1 - pow(beta2, (double)a->step))) + (double)a->eps);
        } else if (a->optimizer == CLF_OPTIMIZER_SGD) {
            m_new[i] = beta1 * m + g;
            if (result(run, "momentum")) change = m_new[i];
        } else {
            const double c = beta1 * m + (1 - beta1) * g;
            m_new[i] = beta2 * m + (1 - beta2) * g;
            change = (c > 0) - (c < 0);
        }
        m_error[i] = 4e-7 * (fabs(m) + fabs(g));
        v_error[i] = 4e-7 * v_new[i];
        w = w * (1 - rate * (double)a->weight_decay) - rate * change;
        result(run, "weight")->value[i] = w;
        result(run, "gradient")->value[i] = 0;
        if (copy) copy->value[i] = w;
    }
    after(run, "momentum", "momentum_scale", m_new, m_error);
    after(run, "variance", "variance_scale", v_new, v_error);
    free(work);
}

/* Codes are exact, but for those that reference() leaves open. */
static double tolerance(const op_run *run, const op_tensor *t) {
    return t->dtype == CLF_U8 ? 0 : op_tolerance(run, t);
}

static double flops(const op_run *run) {
    return 12.0 * (double)variants[run->variant].n;
}

static int rejects(clf_context *ctx) {
    enum { W, G, COPY, M, V, M8S, V8S, SCALES, SCALES2, SHORT, WIDE, HALF, N };
    static const clf_tensor_args list[N] = {
        [W] = {.ndim = 2, .shape = {3, 100}},
        [G] = {.ndim = 2, .shape = {3, 100}},
        [COPY] = {.dtype = CLF_BF16, .ndim = 2, .shape = {3, 100}},
        [M] = {.ndim = 2, .shape = {3, 100}},
        [V] = {.ndim = 2, .shape = {3, 100}},
        [M8S] = {.dtype = CLF_U8, .ndim = 2, .shape = {3, 100}},
        [V8S] = {.dtype = CLF_U8, .ndim = 2, .shape = {3, 100}},
        [SCALES] = {.ndim = 1, .shape = {2}},
        [SCALES2] = {.ndim = 1, .shape = {2}},
        [SHORT] = {.ndim = 1, .shape = {1}},
        [WIDE] = {.ndim = 2, .shape = {3, 128}},
        [HALF] = {.dtype = CLF_F16, .ndim = 2, .shape = {3, 100}},
    };
    clf_tensor *t[N], *gaps;
    if (!op_make(ctx, list, N, t)) return 1;
    int failures = 0;
    const clf_optimizer_step_args good = {.weight = t[W],
                                          .gradient = t[G],
                                          .momentum = t[M],
                                          .variance = t[V],
                                          .learning_rate = 1e-3f,
                                          .beta1 = 0.9f,
                                          .beta2 = 0.999f,
                                          .step = 1};
    const clf_status bad = CLF_INVALID_ARGUMENT;
    failures += op_rejected(ctx, clf_optimizer_step(ctx, NULL), bad, "optimizer_step: args is NULL");
    OP_REJECT(optimizer_step, bad, "optimizer: 3 is none", a.optimizer = (clf_optimizer)3);
    OP_REJECT(optimizer_step, bad, "weight is NULL", a.weight = NULL);
    OP_REJECT(optimizer_step, bad, "gradient is NULL", a.gradient = NULL);
    OP_REJECT(optimizer_step, bad, "weight: expected dtype f32, got f16", a.weight = t[HALF]);
    OP_REJECT(optimizer_step, bad, "gradient: expected shape [3, 100], got [3, 128]", a.gradient = t[WIDE]);
    OP_REJECT(optimizer_step, bad, "copy: expected dtype f16, bf16, got f32", a.copy = t[WIDE]);
    OP_REJECT(optimizer_step, bad, "momentum is NULL", a.momentum = NULL);
    OP_REJECT(optimizer_step, bad, "variance is NULL", a.variance = NULL);
    OP_REJECT(optimizer_step, bad, "momentum: expected dtype f32, u8, got f16", a.momentum = t[HALF]);
    OP_REJECT(optimizer_step, bad, "momentum_scale is NULL", a.momentum = t[M8S]);
    OP_REJECT(optimizer_step, bad, "momentum_scale: expected shape [2], got [1]", a.momentum = t[M8S],
              a.momentum_scale = t[SHORT]);
    OP_REJECT(optimizer_step, bad, "momentum_scale: expected NULL", a.momentum_scale = t[SCALES]);
    OP_REJECT(optimizer_step, bad, "momentum_scale: expected NULL", a.optimizer = CLF_OPTIMIZER_SGD, a.momentum = NULL,
              a.momentum_scale = t[SCALES]);
    OP_REJECT(optimizer_step, bad, "variance: expected NULL but for AdamW", a.optimizer = CLF_OPTIMIZER_LION);
    OP_REJECT(optimizer_step, bad, "variance: expected NULL but for AdamW", a.optimizer = CLF_OPTIMIZER_SGD);
    OP_REJECT(optimizer_step, bad, "gradient overlaps weight", a.gradient = t[W]);
    OP_REJECT(optimizer_step, bad, "variance_scale overlaps momentum_scale", a.momentum = t[M8S], a.variance = t[V8S],
              a.momentum_scale = t[SCALES], a.variance_scale = t[SCALES]);
    OP_REJECT(optimizer_step, bad, "gradient_scale", a.gradient_scale = INFINITY);
    OP_REJECT(optimizer_step, bad, "learning_rate", a.learning_rate = NAN);
    OP_REJECT(optimizer_step, bad, "learning_rate", a.learning_rate = -1);
    OP_REJECT(optimizer_step, bad, "beta1", a.beta1 = 1);
    OP_REJECT(optimizer_step, bad, "beta2", a.beta2 = -0.1f);
    OP_REJECT(optimizer_step, bad, "eps", a.eps = -1);
    OP_REJECT(optimizer_step, bad, "weight_decay", a.weight_decay = INFINITY);
    OP_REJECT(optimizer_step, bad, "step: expected 1 or more, got 0", a.step = 0);
    if (clf_tensor_view(&gaps, t[WIDE], 2, (int64_t[]){3, 100}, (int64_t[]){128, 1}, 0) == CLF_OK) {
        OP_REJECT(optimizer_step, bad, "weight: expected a contiguous tensor", a.weight = gaps);
        OP_REJECT(optimizer_step, bad, "gradient: expected a contiguous tensor", a.gradient = gaps);
        OP_REJECT(optimizer_step, bad, "variance: expected a contiguous tensor", a.variance = gaps);
        clf_tensor_destroy(gaps);
    } else {
        failures++;
    }
    op_unmake(t, N);
    return failures;
}

int main(int argc, char **argv) {
    static const op_case c = {.name = "optimizer_step",
                              .variants = sizeof variants / sizeof *variants,
                              .bench_variants = 3,
                              .dtypes = 1u << CLF_F32,
                              .make = make,
                              .call = call,
                              .reference = reference,
                              .tolerance = tolerance,
                              .ulp = true,
                              .flops = flops,
                              .bytes = op_traffic,
                              .rejects = rejects};
    return op_main(argc, argv, &c);
}
