/* self_test.c: known answers. Drivers miscompile; a device that gets these wrong is refused. The cases take the paths
 * that differ most between devices: halves, blocks, local memory with barriers, exp and log. That a device passed is
 * kept in the cache under its identity and the kernels' sources. */
#include "attention_tile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

clf_status clf_cl_test_tensor(clf_tensor *t, clf_context *ctx, clf_dtype dtype, int ndim, const int64_t *shape,
                              const void *data) {
    int64_t n = 1;
    *t = (clf_tensor){.magic = CLF_TENSOR_MAGIC, .dtype = dtype, .ndim = ndim, .ctx = ctx};
    for (int i = ndim - 1; i >= 0; i--) {
        t->shape[i] = shape[i];
        t->stride[i] = n;
        n *= shape[i];
    }
    const size_t bytes = clf_dtype_bytes(dtype, n);
    CLF_TRY(clf_buffer_create(&t->buffer, ctx, bytes, CLF_TAG_SCRATCH));
    return data ? clf_cl_write(ctx, &t->buffer->memory, 0, data, bytes) : CLF_OK;
}

static clf_status make(clf_tensor *t, clf_context *ctx, clf_dtype dtype, int64_t rows, int64_t columns,
                       const void *data) {
    return clf_cl_test_tensor(t, ctx, dtype, 2, (int64_t[]){rows, columns}, data);
}

static clf_status read(const clf_tensor *t, float *out) {
    return clf_cl_read(t->ctx, &t->buffer->memory, 0, out, (size_t)clf_elements(t) * sizeof *out);
}

clf_status clf_cl_wrong(clf_context *ctx, const char *what, int i, double expected, double got) {
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
    CLF_TRY_GOTO(st, clf_linear_opencl(
                         ctx, &(clf_linear_args){
                                  .x = &tx, .scale = 1, .weight = {&tw}, .precision = CLF_LINEAR_EXACT, .out = {&ty}}));
    CLF_TRY_GOTO(st, read(&ty, y));
    for (int i = 0; i < m * N && st == CLF_OK; i++) {
        float expected = 0;
        for (int k = 0; k < K; k++) expected += x[i / N * K + k] * w[i % N * K + k];
        if (y[i] != expected) st = clf_cl_wrong(ctx, "linear", i, expected, y[i]);
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
            st = clf_cl_wrong(ctx, "add", i, (double)clf_f16_to_f32(expected[i]), (double)clf_f16_to_f32(got[i]));
fail:
    clf_buffer_release(ta.buffer);
    clf_buffer_release(tb.buffer);
    clf_buffer_release(ty.buffer);
    return st;
}

static clf_status run(clf_context *ctx) {
    CLF_TRY(test_add(ctx));
    CLF_TRY(test_linear(ctx, 1, false));
    CLF_TRY(test_linear(ctx, 18, false));
    CLF_TRY(test_linear(ctx, 18, true));
    CLF_TRY(clf_cl_attention_test(ctx, CLF_CL_FORWARD, CLF_F32, 1, 16, false));
    CLF_TRY(clf_cl_attention_test(ctx, CLF_CL_FORWARD, CLF_F32, CLF_CL_TEST_QUERIES, 16, false));
    for (int pass = 0; pass < CLF_CL_PASSES; pass++)
        for (int width = 0; width < CLF_CL_WIDTHS; width++)
            if (clf_cl_attention_tile_is_tuned(ctx, (clf_cl_attention_pass)pass, width))
                CLF_TRY(clf_cl_attention_test(ctx, (clf_cl_attention_pass)pass, CLF_F32, CLF_CL_TEST_QUERIES,
                                              64 * clf_cl_attention_chunks(width), true));
    return CLF_OK;
}

/* Of the device, the tiles and every source. */
static clf_cl_key key_of(const clf_cl_state *s) {
    char tiles[CLF_CL_PASSES * CLF_CL_WIDTHS + 1] = "";
    for (int i = 0; i < CLF_CL_PASSES * CLF_CL_WIDTHS; i++)
        tiles[i] = (char)('0' + s->attention_tiles[i / CLF_CL_WIDTHS][i % CLF_CL_WIDTHS]);
    clf_cl_key key = clf_cl_key_of(4, (const char *const[]){"self test", s->identity, s->build_options, tiles});
    for (const clf_cl_source *source = clf_cl_sources; source->name; source++)
        key = clf_cl_key_with(key, source->text, strlen(source->text));
    return key;
}

clf_status clf_cl_self_test(clf_context *ctx) {
    const clf_cl_key key = key_of(clf_cl(ctx));
    if (clf_cl_cache_passed(ctx, key)) return CLF_OK;
    const clf_status st = run(ctx);
    if (st != CLF_OK && clf_cl(ctx)->tuned && !clf_cl(ctx)->lost) {
        clf_log(ctx, CLF_LOG_WARNING, "tuned tiles are not used: %s", ctx->error.message);
        clf_error_clear(&ctx->error);
        clf_cl_attention_tiles_default(ctx);
        return clf_cl_self_test(ctx);
    }
    CLF_TRY(st);
    clf_cl_cache_pass(ctx, key);
    clf_log(ctx, CLF_LOG_INFO, "%s passed its self test", ctx->device_name);
    return CLF_OK;
}
