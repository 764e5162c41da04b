/* attention_memory.c: what clf_attention_memory() says against what the pool counts, forward and backward: the same on
 * the CPU, no less on an OpenCL device, where there is one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <clformer/clformer.h>

static clf_tensor *tensor(clf_context *ctx, clf_dtype dtype, int64_t a, int64_t b, int64_t c, int64_t d) {
    clf_tensor *t;
    const clf_tensor_args args = {.dtype = dtype, .ndim = 4, .shape = {a, b, c, d}};
    assert_int_equal(clf_tensor_create(&t, ctx, &args), CLF_OK);
    char *zeros = test_calloc(clf_tensor_bytes(t), 1);
    assert_int_equal(clf_tensor_write(t, zeros, clf_tensor_bytes(t)), CLF_OK);
    test_free(zeros);
    return t;
}

/* Runs attention of this shape on a fresh context and compares inputs, output and scratch. False: no such device. */
static bool compare(const clf_attention_memory_args *a, const char *device) {
    clf_attention_bytes e;
    assert_int_equal(clf_attention_memory(&e, a), CLF_OK);
    clf_context *ctx;
    const bool host = !strcmp(device, "cpu");
    if (clf_context_create(&ctx, &(clf_context_args){.device = device, .threads = a->threads}) != CLF_OK) {
        assert_false(host);
        return false;
    }
    const int64_t v_dim = a->v_dim ? a->v_dim : a->head_dim;
    clf_tensor *q = tensor(ctx, a->dtype, a->batch, a->heads, a->queries, a->head_dim);
    clf_tensor *k = tensor(ctx, a->dtype, a->batch, a->kv_heads, a->keys, a->head_dim);
    clf_tensor *v = tensor(ctx, a->dtype, a->batch, a->kv_heads, a->keys, v_dim);
    clf_tensor *out = tensor(ctx, a->dtype, a->batch, a->heads, a->queries, v_dim), *lse;
    const clf_tensor_args shape = {.ndim = 3, .shape = {a->batch, a->heads, a->queries}};
    assert_int_equal(clf_tensor_create(&lse, ctx, &shape), CLF_OK);
    assert_int_equal(e.inputs, clf_tensor_bytes(q) + clf_tensor_bytes(k) + clf_tensor_bytes(v));
    assert_int_equal(e.output, clf_tensor_bytes(out) + clf_tensor_bytes(lse));
    assert_int_equal(e.naive_scratch,
                     2 * (uint64_t)(a->batch * a->heads * a->queries * a->keys) * clf_dtype_block_bytes(a->dtype));
    const clf_attention_args args = {.query = q, .key = k, .value = v, .lse = lse, .out = out, .causal = true};
    clf_memory_stats s;
    if (!host) assert_int_equal(clf_attention(ctx, &args), CLF_OK); /* the first call tries tensor cores out */
    assert_int_equal(clf_memory_reset_peak(ctx), CLF_OK);
    assert_int_equal(clf_attention(ctx, &args), CLF_OK);
    assert_int_equal(clf_memory_get_stats(ctx, &s), CLF_OK);
    if (host)
        assert_int_equal(s.tag_peak[CLF_TAG_SCRATCH], e.flash_scratch);
    else
        assert_in_range(s.tag_peak[CLF_TAG_SCRATCH], e.device_scratch ? 1 : 0, e.device_scratch);
    assert_int_equal(s.tag_asked[CLF_TAG_SCRATCH], 0);

    clf_tensor *d_q = tensor(ctx, a->dtype, a->batch, a->heads, a->queries, a->head_dim);
    clf_tensor *d_k = tensor(ctx, a->dtype, a->batch, a->kv_heads, a->keys, a->head_dim);
    clf_tensor *d_v = tensor(ctx, a->dtype, a->batch, a->kv_heads, a->keys, v_dim);
    clf_tensor *d_out = tensor(ctx, a->dtype, a->batch, a->heads, a->queries, v_dim);
    assert_int_equal(e.saved, e.output);
    assert_int_equal(e.naive_saved * 2, e.naive_scratch);
    const clf_attention_backward_args backward = {
        .forward = args, .d_out = d_out, .d_query = d_q, .d_key = d_k, .d_value = d_v};
    if (!host) assert_int_equal(clf_attention_backward(ctx, &backward), CLF_OK);
    assert_int_equal(clf_memory_trim(ctx), CLF_OK);
    assert_int_equal(clf_memory_reset_peak(ctx), CLF_OK);
    assert_int_equal(clf_attention_backward(ctx, &backward), CLF_OK);
    assert_int_equal(clf_memory_get_stats(ctx, &s), CLF_OK);
    if (host)
        assert_int_equal(s.tag_peak[CLF_TAG_SCRATCH], e.backward_scratch);
    else
        assert_in_range(s.tag_peak[CLF_TAG_SCRATCH], e.device_backward_scratch ? 1 : 0, e.device_backward_scratch);
    assert_int_equal(s.tag_asked[CLF_TAG_SCRATCH], 0);
    clf_tensor_destroy(d_q);
    clf_tensor_destroy(d_k);
    clf_tensor_destroy(d_v);
    clf_tensor_destroy(d_out);
    clf_tensor_destroy(q);
    clf_tensor_destroy(k);
    clf_tensor_destroy(v);
    clf_tensor_destroy(out);
    clf_tensor_destroy(lse);
    clf_context_destroy(ctx);
    return true;
}

static void scratch_is_what_was_estimated(void **state) {
    (void)state;
    static const clf_attention_memory_args cases[] = {
        {1, 1, 1, 1, 1, 1, 0, CLF_F32, 1, 0, 0},         {1, 32, 4, 1, 2048, 64, 0, CLF_F16, 2, 0, 0},
        {1, 32, 4, 300, 300, 64, 0, CLF_F16, 2, 0, 0},   {2, 4, 4, 77, 130, 40, 24, CLF_F32, 3, 0, 0},
        {1, 2, 1, 50, 3000, 128, 256, CLF_F32, 4, 0, 0}, {1, 1, 1, 1, 4000, 128, 0, CLF_BF16, 2, 0, 0},
        {1, 8, 8, 512, 512, 128, 0, CLF_F32, 0, 0, 0},   {1, 2, 2, 0, 5, 16, 0, CLF_F32, 2, 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        clf_attention_memory_args a = cases[i];
        if (!a.threads) a.threads = 1;
        assert_true(compare(&a, "cpu"));
    }
}

/* Keys are split for one query of one head, not for 50 queries. */
static void a_device_keeps_to_its_bound(void **state) {
    (void)state;
    static const clf_attention_memory_args cases[] = {{1, 1, 1, 1, 4000, 128, 0, CLF_F32, 0, 0, 0},
                                                      {1, 4, 2, 2, 1024, 64, 40, CLF_F32, 0, 0, 0},
                                                      {1, 2, 1, 50, 300, 40, 24, CLF_F32, 0, 0, 0},
                                                      {1, 4, 2, 1, 1024, 64, 64, CLF_F16, 0, 0, 0},
                                                      {2, 1, 1, 0, 300, 16, 16, CLF_F16, 0, 0, 0}};
    clf_attention_bytes e;
    assert_int_equal(clf_attention_memory(&e, &cases[0]), CLF_OK);
    assert_int_equal(e.device_scratch, 4000 / 256 * (128 + 2) * sizeof(float));
    assert_int_equal(e.device_backward_scratch, sizeof(float));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (!compare(&cases[i], "opencl")) skip();
}

/* On (emulated) tensor cores groups share the tiles of a small mask: their parts are scratch beyond the bound. */
static void a_repeated_mask_takes_its_parts(void **state) {
    (void)state;
    enum { HEADS = 4, QUERIES = 70, KEYS = 90, DIM = 64, MOST = 4 << 20 };
    const clf_attention_memory_args a = {1, HEADS, HEADS, QUERIES, KEYS, DIM, 0, CLF_BF16, 0, 0, 0};
    clf_attention_bytes e;
    clf_context *ctx;
    assert_int_equal(clf_attention_memory(&e, &a), CLF_OK);
    setenv("CLFORMER_OPENCL_TENSOR_CORES", "emulate", 1);
    if (clf_context_create(&ctx, &(clf_context_args){.device = "opencl"}) != CLF_OK) skip();
    clf_tensor *q = tensor(ctx, CLF_BF16, 1, HEADS, QUERIES, DIM), *k = tensor(ctx, CLF_BF16, 1, HEADS, KEYS, DIM);
    clf_tensor *out = tensor(ctx, CLF_BF16, 1, HEADS, QUERIES, DIM), *lse;
    assert_int_equal(clf_tensor_create(&lse, ctx, &(clf_tensor_args){.ndim = 3, .shape = {1, HEADS, QUERIES}}), CLF_OK);
    clf_tensor *mask = tensor(ctx, CLF_F32, 1, 1, QUERIES, KEYS), *d_mask = tensor(ctx, CLF_F32, 1, 1, QUERIES, KEYS);
    const clf_attention_backward_args args = {
        .forward = {.query = q, .key = k, .value = k, .mask = mask, .lse = lse, .out = out},
        .d_out = q,
        .d_mask = d_mask};
    assert_int_equal(clf_attention(ctx, &args.forward), CLF_OK);
    assert_int_equal(clf_attention_backward(ctx, &args), CLF_OK); /* tries them out */
    assert_int_equal(clf_memory_reset_peak(ctx), CLF_OK);
    assert_int_equal(clf_attention_backward(ctx, &args), CLF_OK);
    clf_memory_stats s;
    assert_int_equal(clf_memory_get_stats(ctx, &s), CLF_OK);
    assert_in_range(s.tag_peak[CLF_TAG_SCRATCH], e.device_backward_scratch + 1, e.device_backward_scratch + MOST);
    assert_int_equal(s.tag_asked[CLF_TAG_SCRATCH], 0);
    clf_tensor *const all[] = {q, k, out, lse, mask, d_mask};
    for (int i = 0; i < 6; i++) clf_tensor_destroy(all[i]);
    clf_context_destroy(ctx);
    unsetenv("CLFORMER_OPENCL_TENSOR_CORES");
}

static void long_contexts_need_no_more_scratch(void **state) {
    (void)state;
    clf_attention_memory_args a = {1, 32, 8, 4096, 4096, 128, 0, CLF_F16, 0, 0, 0};
    clf_attention_bytes near, far;
    assert_int_equal(clf_attention_memory(&near, &a), CLF_OK);
    a.queries = a.keys = 131072;
    assert_int_equal(clf_attention_memory(&far, &a), CLF_OK);
    assert_int_equal(far.flash_scratch, near.flash_scratch);
    assert_int_equal(far.device_scratch, 0);
    assert_int_equal(far.naive_scratch, near.naive_scratch * 1024);
    assert_int_equal(far.saved, near.saved * 32);
    assert_true(far.backward_scratch <= near.backward_scratch * 32);
}

static clf_tensor *ints(clf_context *ctx, int ndim, int64_t a, int64_t b, const int32_t *values) {
    clf_tensor *t;
    const clf_tensor_args args = {.dtype = CLF_I32, .ndim = ndim, .shape = {a, b}};
    assert_int_equal(clf_tensor_create(&t, ctx, &args), CLF_OK);
    assert_int_equal(clf_tensor_write(t, values, clf_tensor_bytes(t)), CLF_OK);
    return t;
}

/* Packed queries over paged keys of a layout, decoding and prefill side by side: the lengths make no difference. */
static void sequences_keep_to_the_estimate(void **state) {
    (void)state;
    enum { HEADS = 4, KV_HEADS = 2, DIM = 64, ROWS = 300, SEQUENCES = 3, PAGES = 50, PAGE = 16, LAYOUT = 32 };
    static const int32_t starts[][SEQUENCES + 1] = {{0, 298, 299, 300}, {0, 100, 200, 300}, {0, 1, 2, 3}};
    static const int32_t lengths[][SEQUENCES] = {{800, 1, 7}, {100, 100, 100}, {800, 10, 800}};
    int32_t pages[SEQUENCES * PAGES] = {0}, rows[ROWS / LAYOUT + 2], columns[(ROWS / LAYOUT + 1) * 2];
    for (int i = 0; i <= ROWS / LAYOUT + 1; i++) rows[i] = 2 * i;
    for (int i = 0; i < (ROWS / LAYOUT + 1) * 2; i++) columns[i] = i % 2 ? i / 2 + 1 : 0;
    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++)
        for (int threads = 1; threads <= 4; threads += 3) {
            clf_context *ctx;
            assert_int_equal(clf_context_create(&ctx, &(clf_context_args){.device = "cpu", .threads = threads}),
                             CLF_OK);
            clf_tensor *t[] = {tensor(ctx, CLF_F32, 1, HEADS, ROWS, DIM),
                               tensor(ctx, CLF_F32, 1, KV_HEADS, PAGE, DIM),
                               tensor(ctx, CLF_F32, 1, KV_HEADS, PAGE, DIM),
                               tensor(ctx, CLF_F32, 1, HEADS, ROWS, DIM),
                               ints(ctx, 1, SEQUENCES + 1, 0, starts[i]),
                               ints(ctx, 1, SEQUENCES, 0, lengths[i]),
                               ints(ctx, 2, SEQUENCES, PAGES, pages),
                               ints(ctx, 1, ROWS / LAYOUT + 2, 0, rows),
                               ints(ctx, 1, (ROWS / LAYOUT + 1) * 2, 0, columns)};
            clf_attention_args args = {.query = t[0],
                                       .key = t[1],
                                       .value = t[2],
                                       .out = t[3],
                                       .query_starts = t[4],
                                       .key_lengths = t[5],
                                       .block_table = t[6],
                                       .causal = true};
            clf_attention_memory_args shape = {.batch = 1,
                                               .heads = HEADS,
                                               .kv_heads = KV_HEADS,
                                               .queries = ROWS,
                                               .keys = PAGES * PAGE,
                                               .head_dim = DIM,
                                               .threads = threads,
                                               .sequences = SEQUENCES};
            for (int layout = 0; layout < 2; layout++) {
                args.layout_rows = layout ? t[7] : NULL;
                args.layout_columns = layout ? t[8] : NULL;
                args.layout_block = shape.layout_block = layout ? LAYOUT : 0;
                clf_attention_bytes e;
                clf_memory_stats s;
                assert_int_equal(clf_attention_memory(&e, &shape), CLF_OK);
                assert_int_equal(clf_memory_reset_peak(ctx), CLF_OK);
                assert_int_equal(clf_attention(ctx, &args), CLF_OK);
                assert_int_equal(clf_memory_get_stats(ctx, &s), CLF_OK);
                assert_int_equal(s.tag_peak[CLF_TAG_SCRATCH], e.flash_scratch);
            }
            for (size_t n = 0; n < sizeof t / sizeof *t; n++) clf_tensor_destroy(t[n]);
            clf_context_destroy(ctx);
        }
}

static void refuses(void **state) {
    (void)state;
    const clf_attention_memory_args good = {1, 4, 2, 8, 8, 16, 16, CLF_F32, 1, 0, 0};
    clf_attention_bytes e;
    assert_int_equal(clf_attention_memory(NULL, &good), CLF_INVALID_ARGUMENT);
    assert_int_equal(clf_attention_memory(&e, NULL), CLF_INVALID_ARGUMENT);
#define REFUSE(field, value)                                                                                           \
    do {                                                                                                               \
        clf_attention_memory_args a = good;                                                                            \
        a.field = value;                                                                                               \
        assert_int_equal(clf_attention_memory(&e, &a), CLF_INVALID_ARGUMENT);                                          \
        assert_int_equal(e.inputs, 0);                                                                                 \
    } while (0)
    REFUSE(batch, -1);
    REFUSE(queries, -5);
    REFUSE(threads, -1);
    REFUSE(sequences, -1);
    REFUSE(layout_block, -1);
    REFUSE(kv_heads, 3);
    REFUSE(kv_heads, 0);
    REFUSE(head_dim, 257);
    REFUSE(v_dim, 300);
    REFUSE(dtype, CLF_I32);
    REFUSE(dtype, CLF_Q4_0);
    REFUSE(keys, INT64_MAX);
    REFUSE(queries, INT64_MAX / 4);
    REFUSE(batch, (int64_t)1 << 61);
#undef REFUSE
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scratch_is_what_was_estimated),   cmocka_unit_test(a_device_keeps_to_its_bound),
        cmocka_unit_test(a_repeated_mask_takes_its_parts), cmocka_unit_test(long_contexts_need_no_more_scratch),
        cmocka_unit_test(sequences_keep_to_the_estimate),  cmocka_unit_test(refuses)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
