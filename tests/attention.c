/* attention.c: clf_attention() and clf_attention_backward() as an op_case: the calls, how exact they must be, and what
 * tables lack. The runs are made in attention_variants.c, the reference is in attention_reference.c. `--golden DIR`
 * runs the golden cases instead (attention_golden.c), `--grid` the shapes of another library's tests
 * (attention_grid.c). */
#include "attention_case.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "attention_golden.h"

/* The one list of what tables lack: nothing. A run that is refused fails. */
static const char *lacks(const op_run *run, const char *backend) {
    (void)run, (void)backend;
    return NULL;
}

static void point(op_run *run, clf_attention_args *a) {
    a->query = op_device(run, "query");
    a->key = op_device(run, "key");
    a->value = op_device(run, "value");
    a->alibi_slopes = op_device(run, "alibi_slopes");
    a->mask = op_device(run, "mask");
    a->key_lengths = op_device(run, "key_lengths");
    a->query_starts = op_device(run, "query_starts");
    a->key_starts = op_device(run, "key_starts");
    a->block_table = op_device(run, "block_table");
    a->layout_rows = op_device(run, "layout_rows");
    a->layout_columns = op_device(run, "layout_columns");
    a->sinks = op_device(run, "sinks");
    a->lse = op_device(run, "lse");
    a->out = op_device(run, "out");
}

static clf_status call(op_run *run) {
    point(run, &run->args.attention);
    return clf_attention(run->ctx, &run->args.attention);
}

static clf_status call_backward(op_run *run) {
    clf_attention_backward_args *b = &run->args.attention_backward;
    point(run, &b->forward);
    b->d_out = op_device(run, "d_out");
    b->d_query = op_device(run, "d_query");
    b->d_key = op_device(run, "d_key");
    b->d_value = op_device(run, "d_value");
    b->d_sinks = op_device(run, "d_sinks");
    b->d_mask = op_device(run, "d_mask");
    b->d_alibi_slopes = op_device(run, "d_alibi_slopes");
    return clf_attention_backward(run->ctx, b);
}

/* out and lse, which the call gets, are the reference's own, rounded: only the gradients' errors count. */
static void reference_backward(op_run *run) {
    attention_reference(run);
    for (int i = 0; i < 2; i++) {
        op_tensor *t = op_find(run, i ? "lse" : "out");
        for (int64_t n = op_elements(t); n-- > 0;) t->value[n] = op_round(t->value[n], t->dtype);
    }
    attention_reference_backward(run);
}

/* The largest |lse|, that is, score that counts. */
static double largest_score(const op_run *run) {
    const op_tensor *lse = op_find(run, "lse");
    double most = 0;
    for (int64_t i = lse ? op_elements(lse) : 0; i-- > 0;)
        if (fabs(lse->value[i]) < 1e30) most = fmax(most, fabs(lse->value[i]));
    return most;
}

/* A gradient's terms, whose rounding counts on tensor cores, by what remains of them. */
static double cancelled(const op_tensor *t) {
    double squares = 0;
    for (int64_t i = op_elements(t); i-- > 0;) squares += isfinite(t->value[i]) ? t->value[i] * t->value[i] : 0;
    return squares > 0 ? t->magnitude / sqrt(squares / (double)op_elements(t)) : 0;
}

/* On tensor cores each bfloat16 probability is off by up to 2⁻⁹, which a few rows of few keys don't average out. A
 * score of a thousand is known to within its float32's last place, and so is the probability's exponent. In absolute
 * terms the error may be 1e-6, which outputs of N(0, 1) values keep to by far. Backward a score's own error counts,
 * which grows as √head_dim: the sum that probabilities are divided by is no longer of the same scores, it comes from
 * lse. */
static double tolerance(const op_run *run, const op_tensor *t) {
    const bool rounds_p = run->tensor_cores && t->ndim == 4 && strcmp(t->name, "d_mask"); /* sums before rounding */
    const bool loose = run->backward || op_elements(t) < 1000 || op_find(run, "key")->shape[2] < 64;
    const double rounded = (loose ? 3.5e-3 : 2.5e-3) / (run->dtype == CLF_F16 ? 8 : 1) * fmax(1, cancelled(t));
    const double place = run->backward ? 0x1p-22 * sqrt(fmax(1, (double)run->t[0].shape[3] / 64)) : 0x1p-23;
    const double base = rounds_p ? rounded : t->dtype == CLF_F32 ? 2e-6 : t->dtype == CLF_F16 ? 4e-4 : 1.5e-3;
    return strcmp(t->name, "lse") ? fmax(base, place * largest_score(run)) : base;
}

/* Query and key pairs that causality leaves; the gradient multiplies five times instead of two. */
static double flops(const op_run *run) {
    const op_tensor *table = op_find(run, "block_table");
    const int64_t *q = run->t[0].shape, *v = run->t[2].shape;
    const int64_t n_k = table ? table->shape[1] * v[2] : v[2], n = q[2] < n_k ? q[2] : n_k;
    double keys = (double)q[2] * (double)n_k; /* seen by all queries of a head */
    if (run->args.attention.causal)           /* the last n queries see n − 1 keys fewer … none fewer */
        keys = (double)n * ((double)n_k - (double)(n - 1) / 2);
    return (run->backward ? 5 : 2) * (double)(q[0] * q[1]) * keys * (double)(q[3] + v[3]);
}

const op_case attention_case = {.name = "attention",
                                .make = attention_make,
                                .call = call,
                                .reference = attention_reference,
                                .tolerance = tolerance,
                                .flops = flops,
                                .bytes = op_traffic,
                                .lacks = lacks,
                                .call_backward = call_backward,
                                .reference_backward = reference_backward,
                                .rejects = attention_rejects};

int main(int argc, char **argv) {
    static op_case c;
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], "--golden")) return attention_golden(argc, argv);
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], "--grid")) return attention_grid(argc, argv);
    c = attention_case;
    c.variants = attention_variants;
    c.bench_variants = attention_bench_variants;
    return op_main(argc, argv, &c);
}
