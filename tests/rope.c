/* rope.c: clf_rope() in double, angles in long double. */
#include "op_case.h"

#include <math.h>
#include <stdio.h>

enum { IDS = 1, BATCH_IDS = 2, OVER_X = 4, INVERSE = 8, REPEAT = 16, FACTORS = 32 };

static const struct variant {
    int ndim;
    int64_t shape[4];
    int features, n_dims;
    clf_rope_scaling scaling;
    double base, factor;
    int64_t position; /* the offset; ids are below 2^30 where it is 0 */
    const char *text;
} variants[] = {
    {3, {1, 1, 2}, 0, 0, CLF_ROPE_SCALING_NONE, 0, 0, 0, "[1, 1, 2]"},
    {3, {2, 3, 2}, OVER_X, 0, CLF_ROPE_SCALING_NONE, 0, 0, 7, "[2, 3, 2] over x, from 7"},
    {3, {2, 0, 8}, 0, 0, CLF_ROPE_SCALING_NONE, 0, 0, 0, "[2, 0, 8]"},
    {3, {3, 4, 0}, 0, 0, CLF_ROPE_SCALING_NONE, 0, 0, 0, "[3, 4, 0]"},
    {4, {0, 2, 3, 8}, BATCH_IDS, 0, CLF_ROPE_SCALING_NONE, 0, 0, 0, "[0, 2, 3, 8] batch ids"},
    {3, {3, 5, 6}, IDS, 0, CLF_ROPE_SCALING_NONE, 0, 0, 0, "[3, 5, 6] ids"},
    {3, {2, 9, 15}, 0, 14, CLF_ROPE_SCALING_NONE, 0, 0, 0, "[2, 9, 15] partial 14"},
    {4, {2, 3, 5, 34}, BATCH_IDS | OVER_X, 0, CLF_ROPE_SCALING_NONE, 500000, 0, 3, "[2, 3, 5, 34] batch ids over x"},
    {4, {2, 3, 9, 64}, IDS | INVERSE, 0, CLF_ROPE_SCALING_NONE, 0, 0, 0, "[2, 3, 9, 64] ids, inverse"},
    {3, {2, 5, 80}, 0, 32, CLF_ROPE_SCALING_NONE, 0, 0, 2147483640, "[2, 5, 80] partial 32, near 2^31"},
    {3, {2, 9, 64}, 0, 0, CLF_ROPE_SCALING_NONE, 1e6, 0, 131072, "[2, 9, 64] base 1e6, from 131072"},
    {3, {2, 6, 62}, IDS, 0, CLF_ROPE_SCALING_LINEAR, 0, 4, 0, "[2, 6, 62] ids, linear 4"},
    {3, {2, 9, 128}, IDS, 0, CLF_ROPE_SCALING_LLAMA3, 500000, 8, 0, "[2, 9, 128] ids, llama3 8"},
    {3, {2, 9, 128}, IDS, 0, CLF_ROPE_SCALING_YARN, 0, 16, 0, "[2, 9, 128] ids, yarn 16"},
    {3, {2, 9, 96}, IDS, 64, CLF_ROPE_SCALING_YARN, 1e6, 4, 0, "[2, 9, 96] ids, yarn 4, partial 64"},
    {3, {2, 9, 96}, IDS | FACTORS, 0, CLF_ROPE_SCALING_LONGROPE, 0, 0, 0, "[2, 9, 96] ids, longrope"},
    {3, {2, 9, 48}, FACTORS | OVER_X, 0, CLF_ROPE_SCALING_NONE, 0, 0, 0, "[2, 9, 48] factors over x"},
    {4, {2, 3, 7, 40}, REPEAT, 0, CLF_ROPE_SCALING_NONE, 0, 0, 0, "[2, 3, 7, 40] x repeats along heads"},
    {3, {3, 70, 256}, IDS, 0, CLF_ROPE_SCALING_NONE, 0, 0, 0, "[3, 70, 256] ids"},
    {3, {32, 4096, 64}, 0, 0, CLF_ROPE_SCALING_NONE, 0, 0, 0, "bench: TinyLlama, 4096 tokens"},
    {3, {32, 16384, 128}, 0, 0, CLF_ROPE_SCALING_NONE, 0, 0, 0, "bench: LLaMA 7B, 16384 tokens"},
};
enum { SHAPES = sizeof variants / sizeof *variants, BENCH = 2 };

static bool make(op_run *run) {
    const struct variant *v = &variants[run->variant / 2];
    const int f = v->features;
    clf_rope_args *a = &run->args.rope;
    *a = (clf_rope_args){.position = v->position,
                         .n_dims = v->n_dims,
                         .pairing = run->variant % 2 ? CLF_ROPE_INTERLEAVED : CLF_ROPE_HALVES,
                         .base = v->base,
                         .scaling = v->scaling,
                         .factor = (float)v->factor,
                         .original_context = v->scaling == CLF_ROPE_SCALING_YARN ? 4096 : 8192,
                         .attention_factor = v->scaling == CLF_ROPE_SCALING_LONGROPE ? 1.19f : 0,
                         .inverse = f & INVERSE};
    const int64_t seq = v->shape[v->ndim - 2], ids[] = {v->shape[0], seq};
    for (int i = 0; i < 512; i++) run->host[i] = (float)(1 + 10 * op_random(run));
    snprintf(run->text, sizeof run->text, "%s, %s", v->text, run->variant % 2 ? "interleaved" : "halves");
    const int x = op_input(run, "x", run->dtype, v->ndim, v->shape, -2, 2);
    if (f & REPEAT) op_repeat(run, x, 1);
    if (f & IDS) op_input(run, "positions", CLF_I32, 1, ids + 1, 0, 0x1p30);
    if (f & BATCH_IDS) op_input(run, "positions", CLF_I32, 2, ids, 0, 4096);
    if (f & OVER_X)
        op_output_over(run, "out", x);
    else
        op_output(run, "out", run->dtype, v->ndim, v->shape);
    return true;
}

static clf_status call(op_run *run) {
    const int f = variants[run->variant / 2].features;
    clf_rope_args a = run->args.rope;
    a.x = op_device(run, "x");
    a.positions = op_device(run, "positions");
    a.freq_factors = f & FACTORS ? run->host : NULL;
    a.out = op_device(run, "out");
    return clf_rope(run->ctx, &a);
}

static double scaled(const clf_rope_args *a, int n, int i, double frequency) {
    const double pi = 3.14159265358979323846, context = (double)a->original_context, factor = (double)a->factor;
    const double base = a->base != 0 ? a->base : 10000;
    if (a->scaling == CLF_ROPE_SCALING_LINEAR) return frequency / factor;
    if (a->scaling == CLF_ROPE_SCALING_LLAMA3) { /* low 1, high 4 */
        const double wave = 2 * pi / frequency;
        if (wave < context / 4) return frequency;
        if (wave > context / 1) return frequency / factor;
        const double smooth = (context / wave - 1) / (4 - 1);
        return (1 - smooth) * frequency / factor + smooth * frequency;
    }
    if (a->scaling == CLF_ROPE_SCALING_YARN) { /* beta 32, 1 */
        const double fast = floor(n * log(context / (32 * 2 * pi)) / (2 * log(base)));
        const double slow = ceil(n * log(context / (1 * 2 * pi)) / (2 * log(base)));
        const double low = fast > 0 ? fast : 0, high = slow < n - 1 ? slow : n - 1;
        double ramp = (i - low) / (high - low);
        ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
        return frequency / factor * ramp + frequency * (1 - ramp);
    }
    return frequency;
}

static void reference(op_run *run) {
    const clf_rope_args *a = &run->args.rope;
    const op_tensor *x = op_find(run, "x"), *positions = op_find(run, "positions");
    const bool factors = variants[run->variant / 2].features & FACTORS;
    const int64_t dim = x->shape[x->ndim - 1], seq = x->shape[x->ndim - 2], heads = x->shape[x->ndim - 3];
    const int n = a->n_dims ? a->n_dims : (int)dim;
    double magnitude = a->scaling == CLF_ROPE_SCALING_YARN ? 0.1 * log((double)a->factor) + 1 : 1;
    if (a->scaling == CLF_ROPE_SCALING_LONGROPE) magnitude = (double)a->attention_factor;
    double *out = op_value(run, "out");
    for (int64_t r = 0; dim && r < op_elements(x) / dim; r++) {
        const double *from = x->value + r * dim;
        const int64_t s = r % seq, batch = r / seq / heads;
        int64_t position = a->position + s;
        if (positions) position = a->position + (int64_t)positions->value[positions->ndim == 2 ? batch * seq + s : s];
        for (int64_t i = n; i < dim; i++) out[r * dim + i] = from[i];
        for (int i = 0; i < n / 2; i++) {
            double frequency = scaled(a, n, i, pow(a->base != 0 ? a->base : 10000, -2.0 * i / n));
            if (factors) frequency /= (double)run->host[i];
            const long double angle = (long double)position * (long double)frequency;
            const double c = magnitude * (double)cosl(angle), si = magnitude * (double)sinl(angle);
            const double sine = a->inverse ? -si : si;
            const int first = a->pairing == CLF_ROPE_INTERLEAVED ? 2 * i : i;
            const int second = a->pairing == CLF_ROPE_INTERLEAVED ? 2 * i + 1 : i + n / 2;
            out[r * dim + first] = from[first] * c - from[second] * sine;
            out[r * dim + second] = from[second] * c + from[first] * sine;
        }
    }
}

static double flops(const op_run *run) {
    return 3.0 * (double)op_elements(&run->t[0]);
}

static int rejects(clf_context *ctx) {
    enum { X, OUT, FLAT, POSITIONS, LONGS, BIG, HUGE_OUT, HALF, N };
    static const clf_tensor_args list[N] = {
        [X] = {.ndim = 3, .shape = {2, 3, 8}},
        [OUT] = {.ndim = 3, .shape = {2, 3, 8}},
        [FLAT] = {.ndim = 2, .shape = {3, 8}},
        [POSITIONS] = {.dtype = CLF_I32, .ndim = 1, .shape = {4}},
        [LONGS] = {.dtype = CLF_I64, .ndim = 1, .shape = {3}},
        [BIG] = {.ndim = 3, .shape = {1, 1, 1026}},
        [HUGE_OUT] = {.ndim = 3, .shape = {1, 1, 1026}},
        [HALF] = {.dtype = CLF_F16, .ndim = 3, .shape = {2, 3, 8}},
    };
    clf_tensor *t[N], *odd = NULL;
    if (!op_make(ctx, list, N, t)) return 1;
    int failures = 0;
    if (clf_tensor_view(&odd, t[X], 3, (int64_t[]){2, 3, 7}, NULL, 0) != CLF_OK) failures++;
    const clf_rope_args good = {.x = t[X], .out = t[OUT]};
    const clf_status bad = CLF_INVALID_ARGUMENT;
    failures += op_rejected(ctx, clf_rope(ctx, NULL), bad, "rope: args is NULL");
    OP_REJECT(rope, bad, "x is NULL", a.x = NULL);
    OP_REJECT(rope, bad, "out is NULL", a.out = NULL);
    OP_REJECT(rope, bad, "x: expected 3 to 4 dimensions, got 2", a.x = t[FLAT]);
    OP_REJECT(rope, bad, "n_dims: expected an even number", a.x = odd; a.out = odd);
    OP_REJECT(rope, bad, "n_dims: expected an even number up to head_dim 8, got 10", a.n_dims = 10);
    OP_REJECT(rope, bad, "n_dims: expected an even number", a.n_dims = 3);
    OP_REJECT(rope, bad, "n_dims: expected an even number", a.n_dims = -2);
    OP_REJECT(rope, CLF_UNSUPPORTED, "n_dims: expected at most 1024, got 1026", a.x = t[BIG]; a.out = t[HUGE_OUT]);
    OP_REJECT(rope, bad, "positions: expected shape [3], got [4]", a.positions = t[POSITIONS]);
    OP_REJECT(rope, bad, "positions: expected dtype i32, got i64", a.positions = t[LONGS]);
    OP_REJECT(rope, bad, "position: expected 0 or more, got -1", a.position = -1);
    OP_REJECT(rope, bad, "pairing", a.pairing = (clf_rope_pairing)2);
    OP_REJECT(rope, bad, "scaling", a.scaling = (clf_rope_scaling)9);
    OP_REJECT(rope, bad, "base", a.base = 1);
    OP_REJECT(rope, bad, "base", a.base = -10000);
    OP_REJECT(rope, bad, "factor", a.factor = -2);
    OP_REJECT(rope, bad, "original_context", a.scaling = CLF_ROPE_SCALING_YARN; a.factor = 4);
    OP_REJECT(rope, bad, "original_context", a.scaling = CLF_ROPE_SCALING_LLAMA3; a.factor = 4);
    OP_REJECT(rope, bad, "high_freq_factor", a.scaling = CLF_ROPE_SCALING_LLAMA3; a.original_context = 8192;
              a.high_freq_factor = 0.5f);
    OP_REJECT(rope, bad, "beta_fast", a.scaling = CLF_ROPE_SCALING_YARN; a.original_context = 4096; a.beta_fast = 0.5f);
    OP_REJECT(rope, bad, "attention_factor", a.attention_factor = INFINITY);
    OP_REJECT(rope, bad, "freq_factors[1]", a.freq_factors = ((const float[]){1, 0, 1, 1}));
    OP_REJECT(rope, bad, "out: expected x's dtype f32, got f16", a.out = t[HALF]);
    clf_tensor_destroy(odd);
    op_unmake(t, N);
    return failures;
}

int main(int argc, char **argv) {
    static const op_case c = {.name = "rope",
                              .variants = 2 * SHAPES,
                              .bench_variants = 2 * BENCH,
                              .make = make,
                              .call = call,
                              .reference = reference,
                              .ulp = true,
                              .flops = flops,
                              .bytes = op_traffic,
                              .rejects = rejects};
    return op_main(argc, argv, &c);
}
