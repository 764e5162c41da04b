/* embedding.c: clf_embedding(), exactly: the row as float32, times the scale, each rounded once. run->dtype is the
 * weight's. */
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
    {1, {512}, 32000, 8, 0, "bench: 512 tokens"},
};
static const clf_dtype outs[] = {CLF_F32, CLF_F16, CLF_BF16};
enum { SHAPES = sizeof variants / sizeof *variants, OUTS = 3, BENCH = 1 };

static bool make(op_run *run) {
    const struct variant *v = &variants[run->variant / OUTS];
    const clf_dtype out = outs[run->variant % OUTS];
    const int values = clf_dtype_block_values(run->dtype);
    const int64_t dim = v->blocks > 64 && values > 1 ? 64 * (256 / values) * values : v->blocks * values;
    run->args.embedding.scale = (float)v->scale;
    snprintf(run->text, sizeof run->text, "%s, out %s", v->text, clf_dtype_name(out));
    int64_t shape[4] = {0};
    memcpy(shape, v->shape, sizeof v->shape);
    shape[v->ndim] = dim;
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

static double flops(const op_run *run) {
    return (double)op_elements(op_find((op_run *)(uintptr_t)run, "out"));
}

static double bytes(const op_run *run) {
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
    int failures = 0;
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
                                        (((1u << CLF_DTYPE_COUNT) - 1) & (~0u << CLF_Q4_0)),
                              .make = make,
                              .call = call,
                              .reference = reference,
                              .exact = true,
                              .flops = flops,
                              .bytes = bytes,
                              .rejects = rejects};
    return op_main(argc, argv, &c);
}
