/* ternary.c: TQ1_0, TQ2_0 and Q2_0 to T2 and T1 and back on every table, without loss; what doesn't fit is refused;
 * views are whole panels; other ops refuse the interleaved dtypes. Planes: read, written, counted, pruned. */
#include "model_case.h"

#include "op_case.h"

enum { ROWS = 48, COLUMNS = 1536, ELEMENTS = ROWS * COLUMNS, MAX_DEVICES = 16 };

static clf_tensor *make(clf_context *ctx, clf_dtype dtype, const void *bytes) {
    clf_tensor *t;
    assert_ok(ctx, clf_tensor_create(&t, ctx, &(clf_tensor_args){.dtype = dtype, .ndim = 2, .shape = {ROWS, COLUMNS}}));
    if (bytes) assert_ok(ctx, clf_tensor_write(t, bytes, clf_tensor_bytes(t)));
    return t;
}

static clf_status convert(clf_context *ctx, const clf_tensor *x, clf_tensor *out) {
    return clf_convert(ctx, &(clf_convert_args){.x = x, .out = out});
}

/* Random blocks; every byte occurs. TQ2_0 and Q2_0 have all four codes, or three. */
static void random_blocks(op_run *run, clf_dtype dtype, bool four, uint8_t *out) {
    op_random_blocks(run, dtype, ELEMENTS, 1, out);
    const size_t block = clf_dtype_block_bytes(dtype);
    const size_t blocks = ELEMENTS / (size_t)clf_dtype_block_values(dtype);
    if (dtype == CLF_Q2_0) /* one scale for 256 */
        for (size_t b = 0; b < blocks; b++) memcpy(out + b * block, out + b / 4 * 4 * block, 2);
    for (size_t b = 0; b < blocks && !four && dtype != CLF_TQ1_0; b++) {
        uint8_t *codes = out + b * block + (dtype == CLF_Q2_0 ? 2 : 0);
        for (size_t i = 0; i < block - 2; i++) codes[i] &= (uint8_t) ~(codes[i] >> 1 & 0x55); /* 3 becomes 2 */
    }
}

static void check_values(clf_context *ctx, const clf_tensor *t, const double *want) {
    static uint8_t bytes[ELEMENTS];
    static double got[ELEMENTS];
    assert_ok(ctx, clf_tensor_read(t, bytes, clf_tensor_bytes(t)));
    if (op_interleaved(clf_tensor_dtype(t)))
        op_decode_interleaved(clf_tensor_dtype(t), bytes, ROWS, COLUMNS, got);
    else
        op_decode(clf_tensor_dtype(t), bytes, ELEMENTS, got);
    assert_memory_equal(got, want, sizeof got);
}

/* `dtype` to `layout`, back to both block dtypes, on to the other layout. */
static void round_trip(clf_context *ctx, clf_dtype dtype, clf_dtype layout, bool four) {
    static uint8_t bytes[ELEMENTS], again[ELEMENTS];
    static double want[ELEMENTS];
    op_run run = {.random = (uint64_t)dtype};
    random_blocks(&run, dtype, four, bytes);
    op_decode(dtype, bytes, ELEMENTS, want);
    clf_tensor *x = make(ctx, dtype, bytes), *panels = make(ctx, layout, NULL);
    if (four && layout == CLF_T1) {
        assert_int_equal(convert(ctx, x, panels), CLF_INVALID_ARGUMENT);
        assert_non_null(strstr(clf_error_message(ctx), "rows 0 to 15: t1 can't hold the value 2"));
    } else {
        static const clf_dtype others[] = {CLF_TQ2_0, CLF_TQ1_0, CLF_T2, CLF_T1, CLF_Q2_0};
        assert_ok(ctx, convert(ctx, x, panels));
        check_values(ctx, panels, want);
        for (int i = 0; i < 5; i++) {
            clf_tensor *back = make(ctx, others[i], NULL);
            if (four && i % 2) {
                assert_int_equal(convert(ctx, panels, back), CLF_INVALID_ARGUMENT);
            } else {
                assert_ok(ctx, convert(ctx, panels, back));
                check_values(ctx, back, want);
                assert_ok(ctx, clf_tensor_read(back, again, clf_tensor_bytes(back)));
                if (others[i] == dtype) assert_memory_equal(again, bytes, clf_tensor_bytes(back));
            }
            clf_tensor_destroy(back);
        }
    }
    clf_tensor_destroy(panels);
    clf_tensor_destroy(x);
}

static void refusals(clf_context *ctx) {
    static uint8_t bytes[ELEMENTS];
    op_run run = {.random = 1};
    random_blocks(&run, CLF_Q2_0, false, bytes);
    bytes[18 * 5] ^= 1; /* the second scale of the second 256 */
    clf_tensor *x = make(ctx, CLF_Q2_0, bytes), *panels = make(ctx, CLF_T2, NULL), *plain = make(ctx, CLF_F32, NULL);
    assert_int_equal(convert(ctx, x, panels), CLF_INVALID_ARGUMENT);
    assert_int_equal(convert(ctx, plain, panels), CLF_INVALID_ARGUMENT);
    assert_non_null(strstr(clf_error_message(ctx), "x: expected dtype"));

    clf_tensor *view = NULL, *bad = NULL;
    const int64_t one[2] = {16, COLUMNS}, half[2] = {8, COLUMNS}, narrow[2] = {16, 256};
    assert_ok(ctx, clf_tensor_view(&view, panels, 2, one, NULL, 16 * COLUMNS));
    assert_int_equal(clf_tensor_view(&bad, panels, 2, one, NULL, 8 * COLUMNS), CLF_INVALID_ARGUMENT);
    assert_int_equal(clf_tensor_view(&bad, panels, 2, half, NULL, 0), CLF_INVALID_ARGUMENT);
    assert_int_equal(clf_tensor_view(&bad, panels, 2, narrow, (int64_t[]){COLUMNS, 1}, 0), CLF_INVALID_ARGUMENT);
    assert_int_equal(clf_tensor_view(&bad, panels, 2, one, (int64_t[]){2 * COLUMNS, 1}, 0), CLF_INVALID_ARGUMENT);
    assert_int_equal(clf_tensor_view(&bad, panels, 1, (int64_t[]){256}, NULL, 0), CLF_INVALID_ARGUMENT);
    clf_tensor_destroy(view);
    assert_int_equal(
        clf_tensor_create(&bad, ctx, &(clf_tensor_args){.dtype = CLF_T2, .ndim = 2, .shape = {24, COLUMNS}}),
        CLF_INVALID_ARGUMENT);

    clf_tensor *ids, *out;
    assert_ok(ctx, clf_tensor_create(&ids, ctx, &(clf_tensor_args){.dtype = CLF_I32, .ndim = 1, .shape = {2}}));
    assert_ok(ctx, clf_tensor_create(&out, ctx, &(clf_tensor_args){.ndim = 2, .shape = {2, COLUMNS}}));
    assert_ok(ctx, clf_tensor_clear(ids));
    assert_int_equal(clf_embedding(ctx, &(clf_embedding_args){.weight = panels, .ids = ids, .out = out}),
                     CLF_INVALID_ARGUMENT);
    clf_tensor_destroy(out);
    clf_tensor_destroy(ids);
    clf_tensor_destroy(plain);
    clf_tensor_destroy(panels);
    clf_tensor_destroy(x);
}

static void tables(void **state) {
    (void)state;
    static const clf_dtype from[] = {CLF_TQ1_0, CLF_TQ2_0, CLF_Q2_0};
    clf_device_info info[MAX_DEVICES];
    int n = 0;
    assert_int_equal(clf_devices(info, MAX_DEVICES, &n), CLF_OK);
    for (int d = 0; d < n && d < MAX_DEVICES; d++) {
        if (!info[d].usable) continue;
        clf_context *ctx = open_context(info[d].name, 0);
        for (int i = 0; i < 12; i++)
            if (from[i % 3] != CLF_TQ1_0 || i < 6) round_trip(ctx, from[i % 3], i / 3 % 2 ? CLF_T1 : CLF_T2, i >= 6);
        refusals(ctx);
        clf_context_destroy(ctx);
    }
}

/* Planes of a random matrix, by way of every dtype that holds it; edits; pruning. */
static void planes(void **state) {
    (void)state;
    static const clf_dtype through[] = {CLF_F32, CLF_F16, CLF_TQ2_0, CLF_TQ1_0, CLF_Q2_0, CLF_T2, CLF_T1};
    clf_context *ctx = open_context("cpu", 0);
    clf_planes *p, *q;
    clf_planes_counts counts;
    op_run run = {.random = 9};
    assert_int_equal(clf_planes_create(&p, ROWS, COLUMNS), CLF_OK);
    int64_t positive = 0, negative = 0;
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < COLUMNS; c++) {
            const int v = (int)op_random_int(&run, 3) - 1;
            assert_int_equal(clf_planes_set(p, r, c, v), CLF_OK);
            positive += v > 0, negative += v < 0;
        }
    for (int i = 0; i < ROWS * COLUMNS / CLF_PLANES_BLOCK; i++) clf_planes_scales(p)[i] = 0.5f + (float)(i % 8) / 16;
    assert_int_equal(clf_planes_count(p, &counts), CLF_OK);
    assert_true(counts.positive == positive && counts.negative == negative &&
                counts.zero == ELEMENTS - positive - negative);
    for (size_t d = 0; d < sizeof through / sizeof *through; d++) {
        clf_tensor *t = make(ctx, through[d], NULL);
        assert_ok(ctx, clf_planes_write(p, t));
        assert_ok(ctx, clf_planes_read(&q, t));
        for (int i = 0; i < ELEMENTS; i++)
            assert_int_equal(clf_planes_get(q, i / COLUMNS, i % COLUMNS), clf_planes_get(p, i / COLUMNS, i % COLUMNS));
        assert_memory_equal(clf_planes_scales(q), clf_planes_scales(p), ELEMENTS / CLF_PLANES_BLOCK * sizeof(float));
        clf_planes_destroy(q);
        clf_tensor_destroy(t);
    }
    static float shares[ROWS / 16 * COLUMNS / 16];
    enum { TILES = ROWS / 16 * COLUMNS / 16 };
    clf_planes_scales(p)[0] = 0.01f; /* so that the first tiles' weights are least */
    assert_int_equal(clf_planes_prune(p, 16, 16, 0.75), CLF_OK);
    assert_int_equal(clf_planes_sparsity(p, 16, 16, shares), CLF_OK);
    int empty = 0;
    for (int i = 0; i < TILES; i++) {
        assert_true(shares[i] > 0.99f || shares[i] < 0.6f);
        empty += shares[i] > 0.99f;
    }
    assert_int_equal(empty, TILES * 3 / 4);
    assert_int_equal(clf_planes_prune(p, 1, 1, 1), CLF_OK);
    assert_int_equal(clf_planes_count(p, &counts), CLF_OK);
    assert_true(counts.zero == ELEMENTS && !counts.positive && !counts.negative);

    assert_int_equal(clf_planes_set(p, 0, COLUMNS, 1), CLF_INVALID_ARGUMENT);
    assert_int_equal(clf_planes_set(p, 0, 0, 2), CLF_INVALID_ARGUMENT);
    assert_int_equal(clf_planes_get(p, -1, 0), 0);
    assert_int_equal(clf_planes_prune(p, 0, 1, 0.5), CLF_INVALID_ARGUMENT);
    assert_int_equal(clf_planes_prune(p, 1, 1, NAN), CLF_INVALID_ARGUMENT);
    assert_int_equal(clf_planes_create(&q, INT64_MAX / 2, 3), CLF_INVALID_ARGUMENT);
    clf_tensor *t = make(ctx, CLF_F32, NULL);
    static float values[ELEMENTS];
    values[1000] = 1, values[1001] = 0.5f;
    assert_ok(ctx, clf_tensor_write(t, values, sizeof values));
    assert_int_equal(clf_planes_read(&q, t), CLF_INVALID_ARGUMENT);
    assert_non_null(strstr(clf_error_message(ctx), "row 0, column 1001"));
    clf_tensor_destroy(t);
    clf_planes_destroy(p);
    clf_context_destroy(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(tables), cmocka_unit_test(planes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
