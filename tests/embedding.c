/* embedding.c: clf_embedding(), exactly: the row as float32, times the scale, each rounded once. run->dtype is the
 * weight's. And clf_embedding_backward(), as exactly: products and sums rounded to float32, in the order of the ids;
 * those runs are of dtype F32, d_out's is that of out. */
#include "op_case.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const struct variant {
    int ndim;         /* of ids */
    int64_t shape[3]; /* of ids */
    int64_t vocab, blocks;
    double scale;
    const char *text;
} variants[] = {
    {0, {0}, 1, 1, 0, "ids scalar, weight [1, 1 block]"},
    {1, {1}, 3, 3, 0, "ids [1], weight [3, 3 blocks]"},
    {1, {0}, 5, 1, 0, "ids [0]"},
    {1, {4}, 5, 0, 0, "weight [5, 0]"},
    {1, {7}, 3, 4, 2.5, "ids [7], weight [3, 4 blocks] scaled"},
    {2, {3, 5}, 6, 5, -0.125, "ids [3, 5], weight [6, 5 blocks] scaled"},
    {3, {2, 3, 2}, 9, 2, 45.254833, "ids [2, 3, 2], weight [9, 2 blocks] scaled"},
    {1, {9}, 4, 16391, 0, "ids [9], weight [4, 16391], blocks: 16384"},
    {2, {3, 40}, 7, 37, 1.7, "ids [3, 40], weight [7, 37 blocks] scaled"},
    {1, {2048}, 32000, 2048, 0, "bench: 2048 tokens, weight [32000, 2048]"},
};
static const clf_dtype outs[] = {CLF_F32, CLF_F16, CLF_BF16};
enum { SHAPES = sizeof variants / sizeof *variants, OUTS = 3, BENCH = 1 };

/* The weight stands there for the loss, in the run of doubles that it is for. */
static bool make_backward(op_run *run, const int64_t *shape, int64_t dim) {
    const struct variant *v = &variants[run->variant / OUTS];
    const bool slopes = run->dtype == CLF_F64;
    const int64_t weight[] = {v->vocab, dim};
    if (run->dtype != CLF_F32 && !slopes) return false;
    run->args.embedding_backward.scale = (float)v->scale;
    op_input(run, "ids", CLF_I32, v->ndim, v->shape, 0, (double)v->vocab);
    op_input(run, "d_out", slopes ? CLF_F64 : outs[run->variant % OUTS], v->ndim + 1, shape, -1, 1);
    op_output_over(run, "d_weight", op_input(run, "before", slopes ? CLF_F64 : CLF_F32, 2, weight, -2, 2));
    if (slopes) op_input(run, "weight", CLF_F64, 2, weight, -1, 1);
    return true;
}

static bool make(op_run *run) {
    const struct variant *v = &variants[run->variant / OUTS];
    const clf_dtype out = outs[run->variant % OUTS];
    const int values = clf_dtype_block_values(run->dtype);
    const int64_t dim = v->vocab == 32000              ? v->blocks
                        : v->blocks > 64 && values > 1 ? 64 * (256 / values) * values
                                                       : v->blocks * values;
    snprintf(run->text, sizeof run->text, "%s, out %s", v->text, clf_dtype_name(out));
    int64_t shape[4] = {0};
    memcpy(shape, v->shape, sizeof v->shape);
    shape[v->ndim] = dim;
    if (run->backward) return make_backward(run, shape, dim);
    run->args.embedding.scale = (float)v->scale;
    op_input(run, "weight", run->dtype, 2, (int64_t[]){v->vocab, dim}, -1, 1);
    op_input(run, "ids", CLF_I32, v->ndim, v->shape, 0, (double)v->vocab);
    op_output(run, "out", out, v->ndim + 1, shape);
    return true;
}

static clf_status call(op_run *run) {
    return clf_embedding(run->ctx, &(clf_embedding_args){.weight = op_device(run, "weight"),
                                                         .ids = op_device(run, "ids"),
                                                         .scale = run->args.embedding.scale,
                                                         .out = op_device(run, "out")});
}

static void reference(op_run *run) {
    const op_tensor *weight = op_find(run, "weight"), *ids = op_find(run, "ids");
    const double scale = run->args.embedding.scale != 0 ? (double)run->args.embedding.scale : 1;
    const int64_t dim = weight->shape[1];
    double *out = op_value(run, "out");
    for (int64_t i = 0; i < op_elements(ids); i++)
        for (int64_t k = 0; k < dim; k++) {
            const double w = op_round(weight->value[(int64_t)ids->value[i] * dim + k], CLF_F32);
            out[i * dim + k] = op_round(scale * w, CLF_F32);
        }
}

static clf_status call_backward(op_run *run) {
    return clf_embedding_backward(run->ctx, &(clf_embedding_backward_args){.ids = op_device(run, "ids"),
                                                                           .scale = run->args.embedding_backward.scale,
                                                                           .d_out = op_device(run, "d_out"),
                                                                           .d_weight = op_device(run, "d_weight")});
}

static double backward_scale(const op_run *run) {
    const double scale = (double)run->args.embedding_backward.scale;
    return scale != 0 ? scale : 1;
}

static void reference_backward(op_run *run) {
    const op_tensor *ids = op_find(run, "ids"), *d_weight = op_find(run, "d_weight");
    const double *d_out = op_value(run, "d_out"), *before = op_value(run, "before"), scale = backward_scale(run);
    const int64_t dim = d_weight->shape[1];
    for (int64_t i = 0; i < op_elements(d_weight); i++) d_weight->value[i] = before[i];
    for (int64_t i = 0; i < op_elements(ids); i++)
        for (int64_t k = 0; k < dim; k++) {
            double *to = &d_weight->value[(int64_t)ids->value[i] * dim + k];
            *to = op_round(*to + op_round(scale * d_out[i * dim + k], run->dtype), run->dtype);
        }
}

static double loss(op_run *run) {
    const op_tensor *ids = op_find(run, "ids"), *weight = op_find(run, "weight");
    const double *d_out = op_value(run, "d_out");
    const int64_t dim = weight->shape[1];
    double sum = 0;
    for (int64_t i = 0; i < op_elements(ids); i++)
        for (int64_t k = 0; k < dim; k++)
            sum += d_out[i * dim + k] * backward_scale(run) * weight->value[(int64_t)ids->value[i] * dim + k];
    return sum;
}

static double flops(const op_run *run) {
    op_run *r = (op_run *)(uintptr_t)run;
    return run->backward ? 2. * (double)op_elements(op_find(r, "d_out")) : (double)op_elements(op_find(r, "out"));
}

/* Of the weights the rows that the ids name. */
static double bytes(const op_run *run) {
    if (run->backward)
        return (double)op_bytes(&run->t[0]) + (double)op_bytes(&run->t[1]) + 8. * (double)op_elements(&run->t[1]);
    return op_traffic(run) -
           (double)op_bytes(&run->t[0]) * (1 - (double)op_elements(&run->t[1]) / (double)run->t[0].shape[0]);
}

/* An id out of range: refused by a CPU table before anything is written, a row of NaN elsewhere. */
static int out_of_range(clf_context *ctx, clf_tensor *weight, clf_tensor *ids, clf_tensor *out, int32_t id) {
    const clf_embedding_args args = {.weight = weight, .ids = ids, .out = out};
    float before[8] = {7, 7, 7, 7, 7, 7, 7, 7}, after[8];
    const bool host = !strncmp(clf_context_backend(ctx), "cpu", 3);
    if (clf_tensor_write(ids, (int32_t[]){1, id}, 8) != CLF_OK) return 1;
    if (clf_tensor_write(out, before, sizeof before) != CLF_OK) return 1;
    const clf_status st = clf_embedding(ctx, &args);
    int failures = host ? op_rejected(ctx, st, CLF_INVALID_ARGUMENT, "ids: element 1: expected 0 to 4, got") : 0;
    if (clf_tensor_read(out, after, sizeof after) != CLF_OK) return failures + 1;
    for (int i = 0; i < 8; i++)
        if (host ? after[i] != before[i] : (i < 4) == (bool)isnan(after[i])) {
            printf("FAIL rejects (%s): id %d: out[%d] is %g\n", clf_context_backend(ctx), id, i, (double)after[i]);
            failures++;
        }
    return failures;
}

/* Likewise: elsewhere the row adds nothing. */
static int backward_out_of_range(clf_context *ctx, clf_tensor *d_weight, clf_tensor *ids, clf_tensor *d_out,
                                 int32_t id) {
    const clf_embedding_backward_args args = {.ids = ids, .d_out = d_out, .d_weight = d_weight};
    float before[20] = {0}, ones[8] = {1, 1, 1, 1, 1, 1, 1, 1}, after[20];
    const bool host = !strncmp(clf_context_backend(ctx), "cpu", 3);
    if (clf_tensor_write(ids, (int32_t[]){1, id}, 8) != CLF_OK) return 1;
    if (clf_tensor_write(d_out, ones, sizeof ones) != CLF_OK) return 1;
    if (clf_tensor_write(d_weight, before, sizeof before) != CLF_OK) return 1;
    const clf_status st = clf_embedding_backward(ctx, &args);
    int failures = host ? op_rejected(ctx, st, CLF_INVALID_ARGUMENT, "ids: element 1: expected 0 to 4, got") : 0;
    if (clf_tensor_read(d_weight, after, sizeof after) != CLF_OK) return failures + 1;
    for (int i = 0; i < 20; i++)
        if (after[i] != (!host && i / 4 == 1)) {
            printf("FAIL rejects (%s): id %d: d_weight[%d] is %g\n", clf_context_backend(ctx), id, i, (double)after[i]);
            failures++;
        }
    return failures;
}

static int rejects_backward(clf_context *ctx) {
    enum { D_WEIGHT, IDS, D_OUT, WRONG, LONGS, HALF, N };
    static const clf_tensor_args list[N] = {
        [D_WEIGHT] = {.ndim = 2, .shape = {5, 4}},
        [IDS] = {.dtype = CLF_I32, .ndim = 1, .shape = {2}},
        [D_OUT] = {.ndim = 2, .shape = {2, 4}},
        [WRONG] = {.ndim = 2, .shape = {4, 2}},
        [LONGS] = {.dtype = CLF_I64, .ndim = 1, .shape = {2}},
        [HALF] = {.dtype = CLF_F16, .ndim = 2, .shape = {5, 4}},
    };
    clf_tensor *t[N];
    if (!op_make(ctx, list, N, t)) return 1;
    int failures = 0;
    const clf_embedding_backward_args good = {.ids = t[IDS], .d_out = t[D_OUT], .d_weight = t[D_WEIGHT]};
    const clf_status bad = CLF_INVALID_ARGUMENT;
    failures += op_rejected(ctx, clf_embedding_backward(ctx, NULL), bad, "embedding_backward: args is NULL");
    OP_REJECT(embedding_backward, bad, "ids is NULL", a.ids = NULL);
    OP_REJECT(embedding_backward, bad, "d_out is NULL", a.d_out = NULL);
    OP_REJECT(embedding_backward, bad, "d_weight is NULL", a.d_weight = NULL);
    OP_REJECT(embedding_backward, bad, "ids: expected dtype i32, got i64", a.ids = t[LONGS]);
    OP_REJECT(embedding_backward, bad, "d_out: expected shape [2, 4], got [4, 2]", a.d_out = t[WRONG]);
    OP_REJECT(embedding_backward, bad, "d_weight: expected dtype f32, got f16", a.d_weight = t[HALF]);
    OP_REJECT(embedding_backward, bad, "d_weight overlaps d_out", a.d_weight = t[D_OUT]);
    OP_REJECT(embedding_backward, bad, "scale", a.scale = INFINITY);
    for (int i = 0; i < 3; i++)
        failures += backward_out_of_range(ctx, t[D_WEIGHT], t[IDS], t[D_OUT], (int32_t[]){5, -1, INT32_MAX}[i]);
    op_unmake(t, N);
    return failures;
}

static int rejects(clf_context *ctx) {
    enum { WEIGHT, IDS, OUT, WRONG, LONGS, FLAT, WORDS, N };
    static const clf_tensor_args list[N] = {
        [WEIGHT] = {.ndim = 2, .shape = {5, 4}},
        [IDS] = {.dtype = CLF_I32, .ndim = 1, .shape = {2}},
        [OUT] = {.ndim = 2, .shape = {2, 4}},
        [WRONG] = {.ndim = 2, .shape = {4, 2}},
        [LONGS] = {.dtype = CLF_I64, .ndim = 1, .shape = {2}},
        [FLAT] = {.ndim = 1, .shape = {4}},
        [WORDS] = {.dtype = CLF_I32, .ndim = 2, .shape = {2, 4}},
    };
    clf_tensor *t[N];
    if (!op_make(ctx, list, N, t)) return 1;
    int failures = rejects_backward(ctx);
    const float zeros[20] = {0};
    if (clf_tensor_write(t[WEIGHT], zeros, sizeof zeros) != CLF_OK) failures++;
    const clf_embedding_args good = {.weight = t[WEIGHT], .ids = t[IDS], .out = t[OUT]};
    const clf_status bad = CLF_INVALID_ARGUMENT;
    failures += op_rejected(ctx, clf_embedding(ctx, NULL), bad, "embedding: args is NULL");
    OP_REJECT(embedding, bad, "weight is NULL", a.weight = NULL);
    OP_REJECT(embedding, bad, "ids is NULL", a.ids = NULL);
    OP_REJECT(embedding, bad, "out is NULL", a.out = NULL);
    OP_REJECT(embedding, bad, "weight: expected dtype", a.weight = t[WORDS]);
    OP_REJECT(embedding, bad, "weight: expected 2 to 2 dimensions, got 1", a.weight = t[FLAT]);
    OP_REJECT(embedding, bad, "ids: expected dtype i32, got i64", a.ids = t[LONGS]);
    OP_REJECT(embedding, bad, "out: expected shape [2, 4], got [4, 2]", a.out = t[WRONG]);
    OP_REJECT(embedding, bad, "out: expected dtype f32, f16, bf16, got i32", a.out = t[WORDS]);
    OP_REJECT(embedding, bad, "scale", a.scale = NAN);
    failures += out_of_range(ctx, t[WEIGHT], t[IDS], t[OUT], 5);
    failures += out_of_range(ctx, t[WEIGHT], t[IDS], t[OUT], -1);
    failures += out_of_range(ctx, t[WEIGHT], t[IDS], t[OUT], INT32_MAX);
    op_unmake(t, N);
    return failures;
}

int main(int argc, char **argv) {
    static const op_case c = {.name = "embedding",
                              .variants = OUTS * SHAPES,
                              .bench_variants = OUTS * BENCH,
                              .dtypes = 1u << CLF_F32 | 1u << CLF_F16 | 1u << CLF_BF16 |
                                        (((1u << CLF_T2) - 1) & (~0u << CLF_Q4_0)),
                              .make = make,
                              .call = call,
                              .reference = reference,
                              .call_backward = call_backward,
                              .reference_backward = reference_backward,
                              .loss = loss,
                              .exact = true,
                              .flops = flops,
                              .bytes = bytes,
                              .rejects = rejects};
    return op_main(argc, argv, &c);
}
