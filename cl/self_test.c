/* self_test.c: known answers. Drivers miscompile; a device that gets these wrong is refused. The cases take the paths
 * that differ most between devices: halves, blocks, local memory with barriers, exp and log. That a device passed is
 * kept in the cache under its identity and the kernels' sources. */
#include "cl.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char passed[] = "passed";

/* A contiguous tensor of the test's, filled from `data` unless it is NULL. */
static clf_status make(clf_tensor *t, clf_context *ctx, clf_dtype dtype, int64_t rows, int64_t columns,
                       const void *data) {
    *t = (clf_tensor){.magic = CLF_TENSOR_MAGIC, .dtype = dtype, .ndim = 2, .ctx = ctx};
    t->shape[0] = rows, t->shape[1] = columns;
    t->stride[0] = columns, t->stride[1] = 1;
    const size_t bytes = clf_dtype_bytes(dtype, rows * columns);
    CLF_TRY(clf_buffer_create(&t->buffer, ctx, bytes, CLF_TAG_SCRATCH));
    return data ? clf_cl_write(ctx, &t->buffer->memory, 0, data, bytes) : CLF_OK;
}

static clf_status read(const clf_tensor *t, float *out) {
    return clf_cl_read(t->ctx, &t->buffer->memory, 0, out, (size_t)clf_elements(t) * sizeof *out);
}

static clf_status wrong(clf_context *ctx, const char *what, int i, double expected, double got) {
    return clf_fail(&ctx->error, CLF_DEVICE_ERROR,
                    "self test: %s: element %d: expected %.9g, got %.9g; this driver computes wrongly", what, i,
                    expected, got);
}

/* Small integers times small integers: exact in whatever order they are added. `block`: the weight in Q8_0. */
static clf_status test_linear(clf_context *ctx, int m, bool block) {
    enum { N = 70, K = 96, BLOCK = 34 };
    float *x = malloc(sizeof(float[32][K])), *w = malloc(sizeof(float[N][K])), *y = malloc(sizeof(float[32][N]));
    uint8_t *q = malloc(N * K / 32 * BLOCK);
    clf_tensor tx = {0}, tw = {0}, ty = {0};
    clf_status st = x && w && y && q ? CLF_OK : CLF_OUT_OF_MEMORY;
    if (st != CLF_OK) goto fail;
    for (int i = 0; i < m * K; i++) x[i] = (float)(i * 7 % 13 - 6);
    for (int i = 0; i < N * K; i++) {
        const int v = i * 5 % 17 - 8;
        w[i] = (float)v;
        q[i / 32 * BLOCK + 2 + i % 32] = (uint8_t)v;
        q[i / 32 * BLOCK] = 0, q[i / 32 * BLOCK + 1] = 0x3c; /* 1 as a half */
    }
    CLF_TRY_GOTO(st, make(&tx, ctx, CLF_F32, m, K, x));
    CLF_TRY_GOTO(st, make(&tw, ctx, block ? CLF_Q8_0 : CLF_F32, N, K, block ? (void *)q : (void *)w));
    CLF_TRY_GOTO(st, make(&ty, ctx, CLF_F32, m, N, NULL));
    CLF_TRY_GOTO(st, clf_linear_opencl(ctx, &(clf_linear_args){.x = &tx, .weight = {&tw}, .out = {&ty}}));
    CLF_TRY_GOTO(st, read(&ty, y));
    for (int i = 0; i < m * N && st == CLF_OK; i++) {
        float expected = 0;
        for (int k = 0; k < K; k++) expected += x[i / N * K + k] * w[i % N * K + k];
        if (y[i] != expected) st = wrong(ctx, "linear", i, expected, y[i]);
    }
fail:
    clf_buffer_release(tx.buffer);
    clf_buffer_release(tw.buffer);
    clf_buffer_release(ty.buffer);
    free(x), free(w), free(y), free(q);
    return st;
}

/* Halves: sums that are halfway between two halves, and subnormal ones, come out rounded to even. */
static clf_status test_add(clf_context *ctx) {
    enum { N = 4 };
    static const uint16_t a[N] = {0x6800, 0x6801, 0x0001, 0xbc00}, b[N] = {0x3c00, 0x3c00, 0x0002, 0x3c00};
    static const uint16_t expected[N] = {0x6800, 0x6802, 0x0003, 0x0000};
    uint16_t got[N] = {0};
    clf_tensor ta = {0}, tb = {0}, ty = {0};
    clf_status st;
    CLF_TRY_GOTO(st, make(&ta, ctx, CLF_F16, 1, N, a));
    CLF_TRY_GOTO(st, make(&tb, ctx, CLF_F16, 1, N, b));
    CLF_TRY_GOTO(st, make(&ty, ctx, CLF_F16, 1, N, NULL));
    CLF_TRY_GOTO(st, clf_add_opencl(ctx, &(clf_add_args){.a = &ta, .b = &tb, .out = &ty}));
    CLF_TRY_GOTO(st, clf_cl_read(ctx, &ty.buffer->memory, 0, got, sizeof got));
    for (int i = 0; i < N && st == CLF_OK; i++)
        if (got[i] != expected[i])
            st = wrong(ctx, "add", i, (double)clf_f16_to_f32(expected[i]), (double)clf_f16_to_f32(got[i]));
fail:
    clf_buffer_release(ta.buffer);
    clf_buffer_release(tb.buffer);
    clf_buffer_release(ty.buffer);
    return st;
}

/* Equal scores: each query's output is the mean of the values it sees, its LSE the logarithm of their number. */
static clf_status test_attention(clf_context *ctx, int n_q) {
    enum { N_K = 70, D = 16 };
    float q[40 * D] = {0}, k[N_K * D], v[N_K * D], out[40 * D], lse[40];
    clf_tensor tq = {0}, tk = {0}, tv = {0}, to = {0}, tl = {0};
    clf_tensor *const four[] = {&tq, &tk, &tv, &to};
    clf_status st;
    for (int i = 0; i < N_K * D; i++) k[i] = (float)(i % 5), v[i] = (float)(i / D);
    CLF_TRY_GOTO(st, make(&tq, ctx, CLF_F32, n_q, D, q));
    CLF_TRY_GOTO(st, make(&tk, ctx, CLF_F32, N_K, D, k));
    CLF_TRY_GOTO(st, make(&tv, ctx, CLF_F32, N_K, D, v));
    CLF_TRY_GOTO(st, make(&to, ctx, CLF_F32, n_q, D, NULL));
    CLF_TRY_GOTO(st, make(&tl, ctx, CLF_F32, 1, n_q, NULL));
    for (int i = 0; i < 4; i++) { /* [1, 1, n, D] */
        clf_tensor *t = four[i];
        t->shape[2] = t->shape[0], t->shape[3] = D, t->shape[0] = t->shape[1] = 1;
        t->stride[2] = D, t->stride[3] = 1, t->stride[0] = t->stride[1] = t->shape[2] * D;
        t->ndim = 4;
    }
    tl.shape[1] = 1, tl.shape[2] = n_q, tl.stride[1] = n_q, tl.stride[2] = 1, tl.ndim = 3;
    CLF_TRY_GOTO(
        st,
        clf_attention_opencl(
            ctx, &(clf_attention_args){
                     .query = &tq, .key = &tk, .value = &tv, .scale = 0.25f, .causal = true, .lse = &tl, .out = &to}));
    CLF_TRY_GOTO(st, read(&to, out));
    CLF_TRY_GOTO(st, read(&tl, lse));
    for (int i = 0; i < n_q * D && st == CLF_OK; i++) {
        const int seen = i / D + 1 + N_K - n_q;
        const double mean = (seen - 1) / 2.0, log_seen = log(seen);
        if (!(fabs((double)out[i] - mean) <= 1e-5 * mean)) st = wrong(ctx, "attention", i, mean, (double)out[i]);
        if (!(fabs((double)lse[i / D] - log_seen) <= 1e-5))
            st = wrong(ctx, "attention's lse", i / D, log_seen, (double)lse[i / D]);
    }
fail:
    for (int i = 0; i < 4; i++) clf_buffer_release(four[i]->buffer);
    clf_buffer_release(tl.buffer);
    return st;
}

static clf_status run(clf_context *ctx) {
    CLF_TRY(test_add(ctx));
    CLF_TRY(test_linear(ctx, 1, false));
    CLF_TRY(test_linear(ctx, 18, false));
    CLF_TRY(test_linear(ctx, 18, true));
    CLF_TRY(test_attention(ctx, 1));
    return test_attention(ctx, 40);
}

/* Of the device and every source. */
static clf_cl_key key_of(const clf_cl_state *s) {
    const char *parts[3 + 64] = {"self test", s->identity, s->build_options};
    int n = 3;
    for (const clf_cl_source *source = clf_cl_sources; source->name && n < 3 + 64; source++) parts[n++] = source->text;
    return clf_cl_key_of(n, parts);
}

clf_status clf_cl_self_test(clf_context *ctx) {
    const clf_cl_key key = key_of(clf_cl(ctx));
    void *data;
    size_t size;
    if (clf_cl_cache_load(ctx, key, &data, &size)) {
        const bool known = size == sizeof passed && !memcmp(data, passed, size);
        free(data);
        if (known) return CLF_OK;
    }
    CLF_TRY(run(ctx));
    clf_cl_cache_store(ctx, key, passed, sizeof passed);
    clf_log(ctx, CLF_LOG_INFO, "%s passed its self test", ctx->device_name);
    return CLF_OK;
}
