/* attention_test.c: known answers of attention: two heads of one key/value head, causal, held to sums in double. The
 * scores are about ±3, so that a key or column in a wrong place shows. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "attention_tile.h"

enum { HEADS = 2, SPLIT_KEYS = 530 }; /* the latter for one query */

enum { QUERY, KEY, VALUE, OUT, D_OUT, D_QUERY, D_KEY, D_VALUE, LSE, MASK, D_MASK, TENSORS };
static const char *const names[TENSORS] = {"query", "key",     "value", "out",  "d_out", "d_query",
                                           "d_key", "d_value", "lse",   "mask", "d_mask"};

typedef struct test {
    clf_dtype dtype;
    int n_q, n_k, dim;
    bool masked; /* by a mask that both heads share; else it holds zeros, which nobody gets */
    double scale;
    clf_tensor t[TENSORS];
    double *value[TENSORS]; /* of the inputs, rounded; of the outputs, what is right */
    double *p, *ds;         /* of a row */
    void *host;             /* a tensor's bytes */
} test;

static clf_dtype dtype_of(const test *t, int i) {
    return i == LSE || i == MASK || i == D_MASK ? CLF_F32 : t->dtype;
}

static int elements(const test *t, int i) {
    const bool by_key = i == KEY || i == VALUE || i == D_KEY || i == D_VALUE;
    if (i == MASK || i == D_MASK) return t->n_q * t->n_k;
    return by_key ? t->n_k * t->dim : HEADS * t->n_q * (i == LSE ? 1 : t->dim);
}

static void set(void *to, int i, clf_dtype dtype, double x) {
    if (dtype == CLF_F32)
        ((float *)to)[i] = (float)x;
    else
        ((uint16_t *)to)[i] = dtype == CLF_F16 ? clf_f32_to_f16((float)x) : clf_f32_to_bf16((float)x);
}

static double get(const void *from, int i, clf_dtype dtype) {
    if (dtype == CLF_F32) return (double)((const float *)from)[i];
    const uint16_t bits = ((const uint16_t *)from)[i];
    return (double)(dtype == CLF_F16 ? clf_f16_to_f32(bits) : clf_bf16_to_f32(bits));
}

/* P, and dS from the out that is there, of row i of all heads; returns the lse. */
static double row(test *t, int i) {
    const int seen = i % t->n_q + 1 + t->n_k - t->n_q, dim = t->dim;
    const double *q = t->value[QUERY] + i * dim, *out = t->value[OUT] + i * dim, *d_out = t->value[D_OUT] + i * dim;
    const double *mask = t->value[MASK] + i % t->n_q * t->n_k;
    double top = -INFINITY, sum = 0;
    for (int j = 0; j < t->n_k; j++) {
        double dot = 0;
        for (int d = 0; d < dim; d++) dot += q[d] * t->value[KEY][j * dim + d];
        t->p[j] = j < seen ? t->scale * dot + mask[j] : -INFINITY;
        top = fmax(top, t->p[j]);
    }
    for (int j = 0; j < t->n_k; j++) sum += t->p[j] = exp(t->p[j] - top);
    for (int j = 0; j < t->n_k; j++) {
        t->p[j] /= sum;
        t->ds[j] = 0;
        for (int d = 0; d < dim; d++) t->ds[j] += t->p[j] * d_out[d] * (t->value[VALUE][j * dim + d] - out[d]);
    }
    return top + log(sum);
}

static void answer(test *t) {
    const int rows = HEADS * t->n_q, dim = t->dim;
    for (int i = 0; i < rows; i++) {
        t->value[LSE][i] = row(t, i);
        for (int j = 0; j < t->n_k; j++)
            for (int d = 0; d < dim; d++) t->value[OUT][i * dim + d] += t->p[j] * t->value[VALUE][j * dim + d];
        for (int d = 0; d < dim; d++) { /* the gradients are those of the out that the call gets */
            set(t->host, 0, t->dtype, t->value[OUT][i * dim + d]);
            t->value[OUT][i * dim + d] = get(t->host, 0, t->dtype);
        }
        row(t, i);
        for (int j = 0; j < t->n_k; j++) t->value[D_MASK][i % t->n_q * t->n_k + j] += t->ds[j];
        for (int j = 0; j < t->n_k; j++)
            for (int d = 0; d < dim; d++) {
                t->value[D_VALUE][j * dim + d] += t->p[j] * t->value[D_OUT][i * dim + d];
                t->value[D_QUERY][i * dim + d] += t->scale * t->ds[j] * t->value[KEY][j * dim + d];
                t->value[D_KEY][j * dim + d] += t->scale * t->ds[j] * t->value[QUERY][i * dim + d];
            }
    }
}

static clf_status open_test(test *t, clf_context *ctx) {
    int most = 0;
    for (int i = 0; i < TENSORS; i++) most = elements(t, i) > most ? elements(t, i) : most;
    t->p = calloc((size_t)t->n_k, sizeof *t->p);
    t->ds = calloc((size_t)t->n_k, sizeof *t->ds);
    t->host = malloc((size_t)most * sizeof(float));
    bool whole = t->p && t->ds && t->host;
    for (int i = 0; i < TENSORS; i++) whole = (t->value[i] = calloc((size_t)elements(t, i), sizeof(double))) && whole;
    CLF_CHECK(&ctx->error, whole, CLF_OUT_OF_MEMORY, "out of host memory");
    const int random[] = {QUERY, KEY, VALUE, D_OUT, MASK};
    uint32_t state = 1;
    for (int k = 0; k < 4 + t->masked; k++)
        for (int n = 0; n < elements(t, random[k]); n++) { /* eighths from −1 to 1, which every dtype has */
            state = state * 1664525 + 1013904223;
            t->value[random[k]][n] = (int)(state >> 16) % 17 / 8.0 - 1;
        }
    answer(t);
    for (int i = 0; i < TENSORS; i++) {
        const bool by_key = i == KEY || i == VALUE || i == D_KEY || i == D_VALUE;
        const bool of_mask = i == MASK || i == D_MASK;
        const int64_t shape[4] = {1, by_key || of_mask ? 1 : HEADS, by_key ? t->n_k : t->n_q,
                                  of_mask ? t->n_k : t->dim};
        for (int n = 0; n < elements(t, i); n++) set(t->host, n, dtype_of(t, i), t->value[i][n]);
        CLF_TRY(clf_cl_test_tensor(&t->t[i], ctx, dtype_of(t, i), i == LSE ? 3 : 4, shape, t->host));
    }
    return CLF_OK;
}

static void close_test(test *t) {
    for (int i = 0; i < TENSORS; i++) {
        clf_buffer_release(t->t[i].buffer);
        free(t->value[i]);
    }
    free(t->p), free(t->ds), free(t->host);
}

/* Reads output i back: each element may be off by a share of the largest. */
static clf_status compare(clf_context *ctx, test *t, int i) {
    const clf_dtype dtype = dtype_of(t, i);
    const double share = dtype == CLF_F32 ? 1e-5 : dtype == CLF_F16 ? 0.0025 : 0.02;
    const int n = elements(t, i);
    double most = 0;
    CLF_TRY(clf_cl_read(ctx, &t->t[i].buffer->memory, 0, t->host, clf_dtype_bytes(dtype, n)));
    for (int e = 0; e < n; e++) most = fmax(most, fabs(t->value[i][e]));
    for (int e = 0; e < n; e++) {
        const double expected = t->value[i][e], got = get(t->host, e, dtype);
        if (!(fabs(got - expected) <= share * most)) return clf_cl_wrong(ctx, names[i], e, expected, got);
    }
    return CLF_OK;
}

/* Output i as it was before the call: nothing that could be right. */
static clf_status spoil(clf_context *ctx, test *t, int i) {
    const size_t bytes = clf_dtype_bytes(dtype_of(t, i), elements(t, i));
    memset(t->host, 0xff, bytes); /* NaN */
    return clf_cl_write(ctx, &t->t[i].buffer->memory, 0, t->host, bytes);
}

static clf_status run(clf_context *ctx, test *t, clf_cl_attention_pass pass) {
    const clf_attention_args forward = {.query = &t->t[QUERY],
                                        .key = &t->t[KEY],
                                        .value = &t->t[VALUE],
                                        .scale = (float)t->scale,
                                        .mask = t->masked ? &t->t[MASK] : NULL,
                                        .causal = true,
                                        .lse = &t->t[LSE],
                                        .out = &t->t[OUT]};
    clf_attention_backward_args backward = {.forward = forward, .d_out = &t->t[D_OUT]};
    if (t->masked)
        backward.d_mask = &t->t[D_MASK];
    else
        backward.d_query = &t->t[D_QUERY], backward.d_key = &t->t[D_KEY], backward.d_value = &t->t[D_VALUE];
    static const int outputs[][3] = {{OUT, LSE, LSE}, {D_QUERY, D_KEY, D_VALUE}, {D_MASK, D_MASK, D_MASK}};
    const int *made = outputs[pass == CLF_CL_FORWARD ? 0 : t->masked ? 2 : 1];
    for (int i = 0; i < 3; i++) CLF_TRY(spoil(ctx, t, made[i]));
    if (pass == CLF_CL_FORWARD)
        CLF_TRY(clf_attention_opencl(ctx, &forward));
    else
        CLF_TRY(clf_attention_backward_opencl(ctx, &backward));
    for (int i = 0; i < 3; i++) CLF_TRY(compare(ctx, t, made[i]));
    return CLF_OK;
}

static clf_status test_call(clf_context *ctx, clf_cl_attention_pass pass, clf_dtype dtype, int n_q, int dim,
                            bool masked) {
    test t = {.dtype = dtype,
              .n_q = n_q,
              .n_k = n_q > 1 ? 2 * n_q - 10 : SPLIT_KEYS,
              .dim = dim,
              .masked = masked,
              .scale = 2 / sqrt(dim)};
    clf_status st = open_test(&t, ctx);
    if (st == CLF_OK) st = run(ctx, &t, pass);
    close_test(&t);
    return st;
}

clf_status clf_cl_attention_test(clf_context *ctx, clf_cl_attention_pass pass, clf_dtype dtype, int n_q, int dim,
                                 bool masks) {
    CLF_TRY(test_call(ctx, pass, dtype, n_q, dim, false));
    return masks && pass == CLF_CL_BACKWARD ? test_call(ctx, pass, dtype, n_q, dim, true) : CLF_OK;
}
