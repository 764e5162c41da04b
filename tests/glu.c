/* glu.c: clf_glu() in double. */
#include "op_case.h"

#include <math.h>
#include <stdio.h>

enum { OVER_GATE = 1, OVER_UP = 2, REPEAT = 4, EXTREME = 8, WIDE = 16 };

static const struct variant {
    int ndim;
    int64_t shape[4];
    int features;
    const char *text;
} variants[] = {
    {0, {0}, 0, "scalar"},
    {1, {1}, OVER_GATE, "[1] over gate"},
    {1, {3}, 0, "[3]"},
    {2, {4, 0}, 0, "[4, 0]"},
    {2, {3, 15}, OVER_GATE, "[3, 15] over gate"},
    {3, {2, 3, 16}, OVER_UP, "[2, 3, 16] over up"},
    {4, {2, 2, 3, 17}, REPEAT, "[2, 2, 3, 17], up repeats"},
    {2, {16, 64}, EXTREME, "[16, 64] NaN, infinities, large"},
    {2, {3, 4099}, WIDE, "[3, 4099] gate to ±12"},
    {2, {5, 5632}, 0, "[5, 5632]"},
    {2, {4096, 5632}, 0, "bench: TinyLlama, 4096 tokens"},
    {2, {8192, 11008}, 0, "bench: LLaMA 7B, 8192 tokens"},
};
enum { SHAPES = sizeof variants / sizeof *variants, BENCH = 2 };
static const clf_activation activations[] = {CLF_ACTIVATION_SILU, CLF_ACTIVATION_GELU, CLF_ACTIVATION_GELU_TANH};
static const char *const names[] = {"silu", "gelu", "gelu_tanh"};

static bool make(op_run *run) {
    const struct variant *v = &variants[run->variant / 3];
    run->args.glu.activation = activations[run->variant % 3];
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
    if (v->features & OVER_GATE)
        op_output_over(run, "out", gate);
    else if (v->features & OVER_UP)
        op_output_over(run, "out", up);
    else
        op_output(run, "out", run->dtype, v->ndim, v->shape);
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

static double flops(const op_run *run) {
    return 20.0 * (double)op_elements(&run->t[0]);
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
    int failures = 0;
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
                              .ulp = true,
                              .flops = flops,
                              .bytes = op_traffic,
                              .rejects = rejects};
    return op_main(argc, argv, &c);
}
