/* glu.c: clf_glu() and clf_glu_backward() in double. Backward, outputs take the inputs' places in turns: OVER_GATE puts
 * d_gate over gate, d_up over up, out over d_out; OVER_UP d_gate over up, d_up over d_out, out over gate; OVER_D_OUT
 * d_gate over d_out and nothing else. */
#include "op_case.h"

#include <math.h>
#include <stdio.h>

enum { OVER_GATE = 1, OVER_UP = 2, REPEAT = 4, EXTREME = 8, WIDE = 16, OVER_D_OUT = 32, NO_OUT = 64 };

static const struct variant {
    int ndim;
    int64_t shape[4];
    int features;
    const char *text;
} variants[] = {
    {0, {0}, 0, "scalar"},
    {1, {1}, OVER_GATE, "[1] over gate"},
    {1, {3}, OVER_D_OUT, "[3]"},
    {2, {4, 0}, 0, "[4, 0]"},
    {2, {3, 15}, OVER_GATE, "[3, 15] over gate"},
    {3, {2, 3, 16}, OVER_UP, "[2, 3, 16] over up"},
    {4, {2, 2, 3, 17}, REPEAT, "[2, 2, 3, 17], up repeats"},
    {2, {16, 64}, EXTREME, "[16, 64] NaN, infinities, large"},
    {2, {3, 4099}, WIDE | NO_OUT, "[3, 4099] gate to ±12"},
    {2, {5, 5632}, OVER_UP, "[5, 5632]"},
    {2, {4096, 5632}, NO_OUT, "bench: TinyLlama, 4096 tokens"},
    {2, {8192, 11008}, 0, "bench: LLaMA 7B, 8192 tokens"},
    {2, {4096, 5632}, OVER_GATE, "bench: TinyLlama, 4096 tokens, in place"},
};
enum { SHAPES = sizeof variants / sizeof *variants, BENCH = 3 };
static const clf_activation activations[] = {CLF_ACTIVATION_SILU, CLF_ACTIVATION_GELU, CLF_ACTIVATION_GELU_TANH};
static const char *const names[] = {"silu", "gelu", "gelu_tanh"};

static void output(op_run *run, const char *name, int over) {
    if (over >= 0)
        op_output_over(run, name, over);
    else
        op_output(run, name, run->t[0].dtype, run->t[0].ndim, run->t[0].shape);
}

static void make_backward(op_run *run, int gate, int up, int features) {
    run->args.glu_backward.activation = activations[run->variant % 3];
    const int d_out = op_input(run, "d_out", run->dtype, run->t[0].ndim, run->t[0].shape, -1, 1);
    output(run, "d_gate", features & OVER_GATE ? gate : features & OVER_UP ? up : features & OVER_D_OUT ? d_out : -1);
    output(run, "d_up", features & OVER_GATE ? up : features & OVER_UP ? d_out : -1);
    if (!(features & NO_OUT)) output(run, "out", features & OVER_GATE ? d_out : features & OVER_UP ? gate : -1);
}

static bool make(op_run *run) {
    const struct variant *v = &variants[run->variant / 3];
    snprintf(run->text, sizeof run->text, "%s %s", v->text, names[run->variant % 3]);
    const double wide = v->features & WIDE ? 12 : 4;
    const int gate = op_input(run, "gate", run->dtype, v->ndim, v->shape, -wide, wide);
    const int up = op_input(run, "up", run->dtype, v->ndim, v->shape, -2, 2);
    if (v->features & REPEAT) op_repeat(run, up, 2);
    if (v->features & EXTREME) {
        static const double special[] = {NAN, INFINITY, -INFINITY, 1e4, -1e4, 100, -100, 0,
                                         -0., 6e-8,     -6e-8,     88,  -88,  20,  -20,  1e-3};
        for (int64_t i = 0; i < op_elements(&run->t[gate]); i++)
            run->t[gate].value[i] = op_round(special[i % 16], run->dtype);
    }
    if (run->backward) {
        make_backward(run, gate, up, v->features);
        return true;
    }
    run->args.glu.activation = activations[run->variant % 3];
    output(run, "out", v->features & OVER_GATE ? gate : v->features & OVER_UP ? up : -1);
    return true;
}

static clf_status call(op_run *run) {
    return clf_glu(run->ctx, &(clf_glu_args){.gate = op_device(run, "gate"),
                                             .up = op_device(run, "up"),
                                             .activation = run->args.glu.activation,
                                             .out = op_device(run, "out")});
}

static double activate(clf_activation activation, double x) {
    if (x == -INFINITY) return -0.; /* the limit */
    if (activation == CLF_ACTIVATION_SILU) return x / (1 + exp(-x));
    if (activation == CLF_ACTIVATION_GELU) return x * 0.5 * erfc(-x * 0.70710678118654752440);
    return x / (1 + exp(-2 * 0.79788456080286535588 * (x + 0.044715 * x * x * x)));
}

static void reference(op_run *run) {
    const double *gate = op_value(run, "gate"), *up = op_value(run, "up");
    double *out = op_value(run, "out");
    for (int64_t i = 0; i < op_elements(&run->t[0]); i++) out[i] = activate(run->args.glu.activation, gate[i]) * up[i];
}

static clf_status call_backward(op_run *run) {
    return clf_glu_backward(run->ctx, &(clf_glu_backward_args){.gate = op_device(run, "gate"),
                                                               .up = op_device(run, "up"),
                                                               .activation = run->args.glu_backward.activation,
                                                               .d_out = op_device(run, "d_out"),
                                                               .d_gate = op_device(run, "d_gate"),
                                                               .d_up = op_device(run, "d_up"),
                                                               .out = op_device(run, "out")});
}

static double slope(clf_activation activation, double x) {
    if (isinf(x)) return x > 0; /* the limits */
    if (activation == CLF_ACTIVATION_SILU) return (1 + x / (1 + exp(x))) / (1 + exp(-x));
    if (activation == CLF_ACTIVATION_GELU)
        return 0.5 * erfc(-x * 0.70710678118654752440) + x * 0.39894228040143267794 * exp(-0.5 * x * x);
    const double u = 2 * 0.79788456080286535588 * (x + 0.044715 * x * x * x);
    const double du = 2 * 0.79788456080286535588 * (1 + 3 * 0.044715 * x * x);
    return (1 + x * du / (1 + exp(u))) / (1 + exp(-u));
}

static void reference_backward(op_run *run) {
    const clf_activation activation = run->args.glu_backward.activation;
    const double *gate = op_value(run, "gate"), *up = op_value(run, "up"), *d_out = op_value(run, "d_out");
    double *d_gate = op_value(run, "d_gate"), *d_up = op_value(run, "d_up"), *out = op_value(run, "out");
    for (int64_t i = 0; i < op_elements(&run->t[0]); i++) {
        d_gate[i] = d_out[i] * up[i] * slope(activation, gate[i]);
        d_up[i] = d_out[i] * activate(activation, gate[i]);
        if (out) out[i] = activate(activation, gate[i]) * up[i];
    }
}

static double loss(op_run *run) {
    const double *gate = op_value(run, "gate"), *up = op_value(run, "up"), *d_out = op_value(run, "d_out");
    double sum = 0;
    for (int64_t i = 0; i < op_elements(&run->t[0]); i++)
        sum += d_out[i] * activate(run->args.glu_backward.activation, gate[i]) * up[i];
    return sum;
}

static double flops(const op_run *run) {
    return (run->backward ? 30.0 : 20.0) * (double)op_elements(&run->t[0]);
}

static int rejects_backward(clf_context *ctx) {
    enum { GATE, UP, D_OUT, D_GATE, D_UP, OUT, OTHER, HALF, N };
    clf_tensor_args list[N];
    for (int i = 0; i < N; i++) list[i] = (clf_tensor_args){.ndim = 2, .shape = {2, 4}};
    list[OTHER] = (clf_tensor_args){.ndim = 2, .shape = {4, 2}};
    list[HALF].dtype = CLF_F16;
    clf_tensor *t[N];
    if (!op_make(ctx, list, N, t)) return 1;
    int failures = 0;
    const clf_glu_backward_args good = {.gate = t[GATE],
                                        .up = t[UP],
                                        .activation = CLF_ACTIVATION_SILU,
                                        .d_out = t[D_OUT],
                                        .d_gate = t[D_GATE],
                                        .d_up = t[D_UP],
                                        .out = t[OUT]};
    const clf_status bad = CLF_INVALID_ARGUMENT;
    failures += op_rejected(ctx, clf_glu_backward(ctx, NULL), bad, "glu_backward: args is NULL");
    OP_REJECT(glu_backward, bad, "gate is NULL", a.gate = NULL);
    OP_REJECT(glu_backward, bad, "up is NULL", a.up = NULL);
    OP_REJECT(glu_backward, bad, "d_out is NULL", a.d_out = NULL);
    OP_REJECT(glu_backward, bad, "d_gate is NULL", a.d_gate = NULL);
    OP_REJECT(glu_backward, bad, "d_up is NULL", a.d_up = NULL);
    OP_REJECT(glu_backward, bad, "activation: expected silu", a.activation = CLF_ACTIVATION_NONE);
    OP_REJECT(glu_backward, bad, "d_out: expected gate's dtype f32, got f16", a.d_out = t[HALF]);
    OP_REJECT(glu_backward, bad, "d_gate: expected shape [2, 4], got [4, 2]", a.d_gate = t[OTHER]);
    OP_REJECT(glu_backward, bad, "out: expected gate's dtype f32, got f16", a.out = t[HALF]);
    OP_REJECT(glu_backward, bad, "d_up overlaps d_gate", a.d_up = t[D_GATE]);
    OP_REJECT(glu_backward, bad, "out overlaps d_gate", a.out = t[D_GATE]);
    OP_REJECT(glu_backward, bad, "out overlaps d_up", a.d_up = t[GATE]; a.out = t[GATE]);
    op_unmake(t, N);
    return failures;
}

static int rejects(clf_context *ctx) {
    enum { GATE, UP, OUT, OTHER, HALF, N };
    static const clf_tensor_args list[N] = {
        [GATE] = {.ndim = 2, .shape = {2, 4}},
        [UP] = {.ndim = 2, .shape = {2, 4}},
        [OUT] = {.ndim = 2, .shape = {2, 4}},
        [OTHER] = {.ndim = 2, .shape = {4, 2}},
        [HALF] = {.dtype = CLF_F16, .ndim = 2, .shape = {2, 4}},
    };
    clf_tensor *t[N];
    if (!op_make(ctx, list, N, t)) return 1;
    int failures = rejects_backward(ctx);
    const clf_glu_args good = {.gate = t[GATE], .up = t[UP], .activation = CLF_ACTIVATION_SILU, .out = t[OUT]};
    const clf_status bad = CLF_INVALID_ARGUMENT;
    failures += op_rejected(ctx, clf_glu(ctx, NULL), bad, "glu: args is NULL");
    OP_REJECT(glu, bad, "gate is NULL", a.gate = NULL);
    OP_REJECT(glu, bad, "up is NULL", a.up = NULL);
    OP_REJECT(glu, bad, "out is NULL", a.out = NULL);
    OP_REJECT(glu, bad, "activation: expected silu", a.activation = CLF_ACTIVATION_NONE);
    OP_REJECT(glu, bad, "activation: expected silu", a.activation = (clf_activation)99);
    OP_REJECT(glu, bad, "up: expected shape [2, 4], got [4, 2]", a.up = t[OTHER]);
    OP_REJECT(glu, bad, "up: expected gate's dtype f32, got f16", a.up = t[HALF]);
    OP_REJECT(glu, bad, "out: expected gate's dtype f32, got f16", a.out = t[HALF]);
    op_unmake(t, N);
    return failures;
}

int main(int argc, char **argv) {
    static const op_case c = {.name = "glu",
                              .variants = 3 * SHAPES,
                              .bench_variants = 3 * BENCH,
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
