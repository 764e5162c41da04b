/* add.c: clf_add() in double. */
#include "op_case.h"

#include <math.h>
#include <stdio.h>

enum { ROW = 1, OVER_A = 2, OVER_B = 4, REPEAT = 8, EXTREME = 16 };

static const struct variant {
    int ndim;
    int64_t shape[4];
    int features;
    const char *text;
} variants[] = {
    {0, {0}, 0, "scalar"},
    {1, {1}, 0, "[1]"},
    {1, {3}, OVER_A, "[3] over a"},
    {2, {0, 3}, ROW, "[0, 3] + row"},
    {2, {3, 0}, ROW, "[3, 0] + row"},
    {2, {3, 1}, ROW, "[3, 1] + row"},
    {2, {3, 7}, OVER_B, "[3, 7] over b"},
    {2, {3, 15}, ROW | OVER_A, "[3, 15] + row, over a"},
    {3, {2, 3, 17}, REPEAT, "[2, 3, 17], b repeats"},
    {4, {2, 3, 2, 33}, ROW, "[2, 3, 2, 33] + row"},
    {2, {4, 64}, EXTREME, "[4, 64] NaN, infinities, large"},
    {2, {3, 4097}, 0, "[3, 4097]"},
    {2, {5, 9000}, ROW, "[5, 9000] + row"},
    {2, {4096, 2048}, 0, "bench: TinyLlama, 4096 tokens"},
    {2, {16384, 4096}, 0, "bench: LLaMA 7B, 16384 tokens"},
};

static bool make(op_run *run) {
    const struct variant *v = &variants[run->variant];
    const int64_t dim = v->ndim ? v->shape[v->ndim - 1] : 1;
    snprintf(run->text, sizeof run->text, "%s", v->text);
    const int a = op_input(run, "a", run->dtype, v->ndim, v->shape, -2, 2);
    const int b = v->features & ROW ? op_input(run, "b", run->dtype, 1, &dim, -3, 3)
                                    : op_input(run, "b", run->dtype, v->ndim, v->shape, -3, 3);
    if (v->features & REPEAT) op_repeat(run, b, 1);
    if (v->features & EXTREME) {
        static const double special[] = {NAN, INFINITY, -INFINITY, 1e4, -1e4, 0, -0., 6e-8};
        for (int64_t i = 0; i < op_elements(&run->t[a]); i++) {
            run->t[a].value[i] = op_round(special[i % 8], run->dtype);
            run->t[b].value[i] = op_round(special[i / 8 % 8], run->dtype);
        }
    }
    if (v->features & OVER_A)
        op_output_over(run, "out", a);
    else if (v->features & OVER_B)
        op_output_over(run, "out", b);
    else
        op_output(run, "out", run->dtype, v->ndim, v->shape);
    return true;
}

static clf_status call(op_run *run) {
    return clf_add(run->ctx,
                   &(clf_add_args){.a = op_device(run, "a"), .b = op_device(run, "b"), .out = op_device(run, "out")});
}

static void reference(op_run *run) {
    const op_tensor *a = op_find(run, "a"), *b = op_find(run, "b");
    double *out = op_value(run, "out");
    const int64_t period = op_elements(b);
    for (int64_t i = 0; i < op_elements(a); i++) out[i] = a->value[i] + b->value[i % period];
}

static double flops(const op_run *run) {
    return (double)op_elements(&run->t[0]);
}

static int rejects(clf_context *ctx) {
    enum { A, B, OUT, ROWS, OTHER, HALF, N };
    static const clf_tensor_args list[N] = {
        [A] = {.ndim = 2, .shape = {2, 4}},   [B] = {.ndim = 2, .shape = {2, 4}},
        [OUT] = {.ndim = 2, .shape = {2, 4}}, [ROWS] = {.ndim = 1, .shape = {4}},
        [OTHER] = {.ndim = 1, .shape = {2}},  [HALF] = {.dtype = CLF_F16, .ndim = 2, .shape = {2, 4}},
    };
    clf_tensor *t[N], *over = NULL;
    if (!op_make(ctx, list, N, t)) return 1;
    int failures = 0;
    const clf_add_args good = {.a = t[A], .b = t[B], .out = t[OUT]};
    const clf_status bad = CLF_INVALID_ARGUMENT;
    if (clf_tensor_view(&over, t[OUT], 1, (int64_t[]){4}, NULL, 0) != CLF_OK) failures++;
    failures += op_rejected(ctx, clf_add(ctx, NULL), bad, "add: args is NULL");
    OP_REJECT(add, bad, "a is NULL", a.a = NULL);
    OP_REJECT(add, bad, "b is NULL", a.b = NULL);
    OP_REJECT(add, bad, "out is NULL", a.out = NULL);
    OP_REJECT(add, bad, "b: expected shape [4], got [2]", a.b = t[OTHER]);
    OP_REJECT(add, bad, "b: expected dtype f32, got f16", a.b = t[HALF]);
    OP_REJECT(add, bad, "out: expected a's dtype f32, got f16", a.out = t[HALF]);
    OP_REJECT(add, bad, "out: expected shape [2, 4], got [4]", a.out = t[ROWS]);
    OP_REJECT(add, bad, "out overlaps b", a.b = over);
    clf_tensor_destroy(over);
    op_unmake(t, N);
    return failures;
}

int main(int argc, char **argv) {
    static const op_case c = {.name = "add",
                              .variants = sizeof variants / sizeof *variants,
                              .bench_variants = 2,
                              .make = make,
                              .call = call,
                              .reference = reference,
                              .ulp = true,
                              .flops = flops,
                              .bytes = op_traffic,
                              .rejects = rejects};
    return op_main(argc, argv, &c);
}
