/* attention_test.c: known answers of attention: queries and keys that are orthogonal, so that all scores are 0, and
 * values that count the keys. With n_i keys seen by query i, and d_out = 1:
 *
 *   out_i = (n_i - 1) / 2     lse_i = log n_i     d_v_j = sum_i 1 / n_i
 *   ds_ij = v_dim (j - out_i) / n_i     d_q_i = scale sum_j ds_ij k_j     d_k_j = scale sum_i ds_ij q_i
 */
#include <math.h>
#include <stdlib.h>

#include "attention_tile.h"

enum { N_Q = 40, N_K = 70 };
static const double scale = 0.25;

enum { QUERY, KEY, VALUE, OUT, D_OUT, D_QUERY, D_KEY, D_VALUE, LSE, TENSORS };

typedef struct test {
    int n_q, dim;
    clf_tensor t[TENSORS];
    float *host[TENSORS];
} test;

static int seen(const test *t, int i) {
    return i + 1 + N_K - t->n_q;
}

static float query_at(const test *t, int i, int d) {
    return d >= t->dim / 2 ? (float)(i % 3 + 1) : 0;
}

static float key_at(const test *t, int j, int d) {
    return d < t->dim / 2 ? (float)(j % 5) : 0;
}

static clf_status open_test(test *t, clf_context *ctx, int n_q, int dim) {
    *t = (test){.n_q = n_q, .dim = dim};
    clf_status st = CLF_OK;
    for (int i = 0; i < TENSORS && st == CLF_OK; i++) {
        const bool by_key = i == KEY || i == VALUE || i == D_KEY || i == D_VALUE;
        const int64_t shape[4] = {1, 1, by_key ? N_K : n_q, dim};
        float *x = t->host[i] = malloc((size_t)(N_K * dim) * sizeof *x);
        CLF_CHECK(&ctx->error, x, CLF_OUT_OF_MEMORY, "out of host memory");
        for (int n = 0; n < N_K * dim; n++) {
            const int row = n / dim, d = n % dim;
            x[n] = i == QUERY ? query_at(t, row, d) : i == KEY ? key_at(t, row, d) : i == VALUE ? (float)row : 1;
        }
        st = clf_cl_test_tensor(&t->t[i], ctx, CLF_F32, i == LSE ? 3 : 4, shape, x);
    }
    return st;
}

static void close_test(test *t) {
    for (int i = 0; i < TENSORS; i++) {
        clf_buffer_release(t->t[i].buffer);
        free(t->host[i]);
    }
}

/* Reads tensor `i` and compares it with want(t, row, column). */
static clf_status compare(clf_context *ctx, test *t, int i, const char *name,
                          double (*want)(const test *t, int row, int column)) {
    const clf_tensor *tensor = &t->t[i];
    const int n = (int)clf_elements(tensor), width = i == LSE ? 1 : t->dim;
    CLF_TRY(clf_cl_read(ctx, &tensor->buffer->memory, 0, t->host[i], (size_t)n * sizeof(float)));
    for (int e = 0; e < n; e++) {
        const double expected = want(t, e / width, e % width), got = (double)t->host[i][e];
        if (!(fabs(got - expected) <= 1e-5 * fabs(expected) + 1e-4)) return clf_cl_wrong(ctx, name, e, expected, got);
    }
    return CLF_OK;
}

static double want_out(const test *t, int row, int column) {
    (void)column;
    return (seen(t, row) - 1) / 2.0;
}

static double want_lse(const test *t, int row, int column) {
    (void)column;
    return log(seen(t, row));
}

static double score_gradient(const test *t, int i, int j) {
    return j < seen(t, i) ? t->dim * (j - want_out(t, i, 0)) / seen(t, i) : 0;
}

static double want_d_query(const test *t, int row, int column) {
    double sum = 0;
    for (int j = 0; j < N_K; j++) sum += score_gradient(t, row, j) * (double)key_at(t, j, column);
    return scale * sum;
}

static double want_d_key(const test *t, int row, int column) {
    double sum = 0;
    for (int i = 0; i < t->n_q; i++) sum += score_gradient(t, i, row) * (double)query_at(t, i, column);
    return scale * sum;
}

static double want_d_value(const test *t, int row, int column) {
    double sum = 0;
    (void)column;
    for (int i = 0; i < t->n_q; i++) sum += row < seen(t, i) ? 1.0 / seen(t, i) : 0;
    return sum;
}

static clf_status forward(clf_context *ctx, test *t, clf_attention_args *args) {
    *args = (clf_attention_args){.query = &t->t[QUERY],
                                 .key = &t->t[KEY],
                                 .value = &t->t[VALUE],
                                 .scale = (float)scale,
                                 .causal = true,
                                 .lse = &t->t[LSE],
                                 .out = &t->t[OUT]};
    CLF_TRY(clf_attention_opencl(ctx, args));
    CLF_TRY(compare(ctx, t, OUT, "attention", want_out));
    return compare(ctx, t, LSE, "attention's lse", want_lse);
}

static clf_status backward(clf_context *ctx, test *t, const clf_attention_args *args) {
    CLF_TRY(clf_attention_backward_opencl(ctx, &(clf_attention_backward_args){.forward = *args,
                                                                              .d_out = &t->t[D_OUT],
                                                                              .d_query = &t->t[D_QUERY],
                                                                              .d_key = &t->t[D_KEY],
                                                                              .d_value = &t->t[D_VALUE]}));
    CLF_TRY(compare(ctx, t, D_QUERY, "attention's d_query", want_d_query));
    CLF_TRY(compare(ctx, t, D_KEY, "attention's d_key", want_d_key));
    return compare(ctx, t, D_VALUE, "attention's d_value", want_d_value);
}

static clf_status run(clf_context *ctx, clf_cl_attention_pass pass, int n_q, int dim) {
    test t;
    clf_attention_args args;
    clf_status st = open_test(&t, ctx, n_q, dim);
    if (st == CLF_OK) st = forward(ctx, &t, &args);
    if (st == CLF_OK && pass == CLF_CL_BACKWARD) st = backward(ctx, &t, &args);
    close_test(&t);
    return st;
}

clf_status clf_cl_attention_test(clf_context *ctx, clf_cl_attention_pass pass, int dim) {
    if (pass == CLF_CL_FORWARD) CLF_TRY(run(ctx, pass, 1, dim));
    return run(ctx, pass, N_Q, dim);
}
