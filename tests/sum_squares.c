/* sum_squares.c: clf_sum_squares() in double. */
#include "op_case.h"

#include <math.h>
#include <stdio.h>

static const struct variant {
    int ndim;
    int64_t shape[4];
    double low, high; /* of the inputs */
    double special;   /* one element, unless 0 */
    bool odd;         /* out is an element of a row of 1 */
    const char *text;
} variants[] = {
    {0, {0}, -2, 2, 0, false, "scalar"},
    {1, {0}, -2, 2, 0, true, "[0]"},
    {1, {1}, -2, 2, 0, true, "[1]"},
    {2, {0, 5}, -2, 2, 0, false, "[0, 5]"},
    {2, {5, 0}, -2, 2, 0, false, "[5, 0]"},
    {2, {7, 15}, -1, 1, 0, true, "[7, 15]"},
    {3, {3, 5, 17}, 0, 1, 0, false, "[3, 5, 17]"},
    {4, {2, 3, 2, 1025}, -1, 1, 0, false, "[2, 3, 2, 1025]"},
    {2, {3, 33}, -1, 1, NAN, false, "[3, 33] NaN"},
    {2, {3, 4100}, -1, 1, INFINITY, false, "[3, 4100] ∞"},
    {2, {3, 31}, -1, 1, -INFINITY, false, "[3, 31] −∞"},
    {1, {4097}, 0.999, 1.001, 0, false, "[4097] all near 1"},
    {2, {2000, 3}, 0, 1, 0, false, "[2000, 3] many short rows"},
    {1, {1100003}, 0.9, 1, 0, false, "[1100003]"},
    {2, {4096, 4096}, -1, 1, 0, false, "bench: gradient of a 4096 × 4096 matrix"},
};

static bool make(op_run *run) {
    const struct variant *v = &variants[run->variant];
    snprintf(run->text, sizeof run->text, "%s", v->text);
    op_tensor *x = &run->t[op_input(run, "x", run->dtype, v->ndim, v->shape, v->low, v->high)];
    if (v->special != 0) x->value[op_random_int(run, op_elements(x))] = v->special;
    op_output(run, "out", CLF_F32, v->odd ? 2 : 0, (const int64_t[]){1, 1});
    return true;
}

static clf_status call(op_run *run) {
    return clf_sum_squares(run->ctx, &(clf_sum_squares_args){.x = op_device(run, "x"), .out = op_device(run, "out")});
}

static void reference(op_run *run) {
    const double *x = op_value(run, "x");
    double sum = 0;
    for (int64_t i = 0; i < op_elements(&run->t[0]); i++) sum += x[i] * x[i];
    *op_value(run, "out") = sum;
}

static double flops(const op_run *run) {
    return 2.0 * (double)op_elements(&run->t[0]);
}

static int rejects(clf_context *ctx) {
    enum { X, OUT, INTS, TWO, HALF, N };
    static const clf_tensor_args list[N] = {
        [X] = {.ndim = 2, .shape = {2, 4}},
        [OUT] = {.ndim = 0},
        [INTS] = {.dtype = CLF_I32, .ndim = 2, .shape = {2, 4}},
        [TWO] = {.ndim = 1, .shape = {2}},
        [HALF] = {.dtype = CLF_F16, .ndim = 0},
    };
    clf_tensor *t[N], *inside;
    if (!op_make(ctx, list, N, t)) return 1;
    int failures = 0;
    const clf_sum_squares_args good = {.x = t[X], .out = t[OUT]};
    const clf_status bad = CLF_INVALID_ARGUMENT;
    failures += op_rejected(ctx, clf_sum_squares(ctx, NULL), bad, "sum_squares: args is NULL");
    OP_REJECT(sum_squares, bad, "x is NULL", a.x = NULL);
    OP_REJECT(sum_squares, bad, "out is NULL", a.out = NULL);
    OP_REJECT(sum_squares, bad, "x: expected dtype f32, f16, bf16, got i32", a.x = t[INTS]);
    OP_REJECT(sum_squares, bad, "out: expected 1 element, got 2", a.out = t[TWO]);
    OP_REJECT(sum_squares, bad, "out: expected dtype f32, got f16", a.out = t[HALF]);
    if (clf_tensor_view(&inside, t[X], 0, NULL, NULL, 3) == CLF_OK) {
        OP_REJECT(sum_squares, bad, "out overlaps x", a.out = inside);
        clf_tensor_destroy(inside);
    } else {
        failures++;
    }
    op_unmake(t, N);
    return failures;
}

int main(int argc, char **argv) {
    static const op_case c = {.name = "sum_squares",
                              .variants = sizeof variants / sizeof *variants,
                              .bench_variants = 1,
                              .make = make,
                              .call = call,
                              .reference = reference,
                              .flops = flops,
                              .bytes = op_traffic,
                              .rejects = rejects};
    return op_main(argc, argv, &c);
}
