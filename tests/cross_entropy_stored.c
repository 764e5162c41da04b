/* cross_entropy_stored.c: clf_linear_cross_entropy() with a d_weight of zeros, whose memory holds the logits, against
 * the same call with one that holds something, and so is added to. */
#include "model_case.h"

#include "../lib/core/random.h"

typedef struct shape {
    int64_t rows, k, vocab;
} shape;

typedef struct features {
    bool gaps, all, over_x, no_d_x; /* rows without a label; softcap, smoothing, z-loss and row weights together */
    clf_dtype x, weight;
    int threads;
} features;

enum { MOST_ROWS = 150, DEVICES = 16 };

typedef struct results {
    float loss[MOST_ROWS], lse[MOST_ROWS], *d_x, *d_weight;
} results;

static clf_tensor *make(clf_context *ctx, clf_dtype dtype, int64_t rows, int64_t columns) {
    clf_tensor *t;
    const clf_tensor_args args = {.dtype = dtype, .ndim = columns ? 2 : 1, .shape = {rows, columns}};
    assert_ok(ctx, clf_tensor_create(&t, ctx, &args));
    return t;
}

/* Random values in [-high, high). */
static clf_tensor *make_random(clf_context *ctx, clf_dtype dtype, int64_t rows, int64_t columns, double high,
                               uint64_t seed) {
    const int64_t n = rows * (columns ? columns : 1);
    clf_tensor *t = make(ctx, CLF_F32, rows, columns), *as;
    float *v = clf_tensor_data(t);
    for (int64_t i = 0; i < n; i++) v[i] = (float)(high * (0x1p-63 * (double)clf_splitmix64(&seed) - 1));
    if (dtype == CLF_F32) return t;
    as = make(ctx, dtype, rows, columns);
    assert_ok(ctx, clf_convert(ctx, &(clf_convert_args){.x = t, .out = as}));
    clf_tensor_destroy(t);
    return as;
}

static float *floats_of(clf_context *ctx, const clf_tensor *t, int64_t rows, int64_t columns) {
    clf_tensor *as = make(ctx, CLF_F32, rows, columns);
    float *v = malloc((size_t)(rows * columns) * sizeof *v);
    assert_non_null(v);
    assert_ok(ctx, clf_convert(ctx, &(clf_convert_args){.x = t, .out = as}));
    memcpy(v, clf_tensor_data(as), (size_t)(rows * columns) * sizeof *v);
    clf_tensor_destroy(as);
    return v;
}

static results compute(clf_context *ctx, shape s, features f, float begin) {
    results out = {0};
    clf_tensor *x = make_random(ctx, f.x, s.rows, s.k, 1, 1);
    clf_tensor *w = make_random(ctx, f.weight, s.vocab, s.k, 8 / sqrt((double)s.k), 2);
    clf_tensor *row_weights = make_random(ctx, CLF_F32, s.rows, 0, 1, 3);
    clf_tensor *labels = make(ctx, CLF_I32, s.rows, 0), *loss = make(ctx, CLF_F32, s.rows, 0);
    clf_tensor *lse = make(ctx, CLF_F32, s.rows, 0), *d_weight = make(ctx, CLF_F32, s.vocab, s.k), *d_x = NULL;
    if (!f.no_d_x) d_x = f.over_x ? x : make(ctx, f.x, s.rows, s.k);
    for (int64_t i = 0; i < s.rows; i++) { /* the first, the last, all over */
        const int64_t label = i == 1 ? 0 : i == 2 ? s.vocab - 1 : i * 7919 % s.vocab;
        ((int32_t *)clf_tensor_data(labels))[i] = f.gaps && i % 3 == 0 ? CLF_LABEL_NONE : (int32_t)label;
    }
    float *const sums = clf_tensor_data(d_weight);
    memset(sums, 0, (size_t)(s.vocab * s.k) * sizeof *sums);
    sums[s.vocab * s.k - 1] = begin;

    assert_ok(ctx,
              clf_linear_cross_entropy(ctx, &(clf_linear_cross_entropy_args){.x = x,
                                                                             .weight = w,
                                                                             .labels = labels,
                                                                             .row_weights = f.all ? row_weights : NULL,
                                                                             .softcap = f.all ? 5 : 0,
                                                                             .label_smoothing = f.all ? 0.1F : 0,
                                                                             .z_loss = f.all ? 0.01F : 0,
                                                                             .d_loss = 3,
                                                                             .loss = loss,
                                                                             .lse = lse,
                                                                             .d_x = d_x,
                                                                             .d_weight = d_weight}));
    memcpy(out.loss, clf_tensor_data(loss), (size_t)s.rows * sizeof(float));
    memcpy(out.lse, clf_tensor_data(lse), (size_t)s.rows * sizeof(float));
    if (d_x) out.d_x = floats_of(ctx, d_x, s.rows, s.k);
    out.d_weight = floats_of(ctx, d_weight, s.vocab, s.k);
    clf_tensor *const made[] = {x, w, row_weights, labels, loss, lse, d_weight, d_x == x ? NULL : d_x};
    for (size_t i = 0; i < sizeof made / sizeof *made; i++) clf_tensor_destroy(made[i]);
    return out;
}

/* rms of a − b ÷ rms of b */
static void assert_close(const float *a, const float *b, int64_t n, double bound) {
    double error = 0, size = 0;
    for (int64_t i = 0; i < n; i++) {
        error += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        size += (double)b[i] * (double)b[i];
    }
    if (!(size > 0 && sqrt(error / size) <= bound))
        fail_msg("relative error %g of at most %g", sqrt(error / size), bound);
}

static void compare(const char *device, shape s, features f) {
    char message[256];
    clf_context *ctx;
    const clf_context_args args = {
        .device = device, .threads = f.threads ? f.threads : 1, .error = message, .error_size = sizeof message};
    if (clf_context_create(&ctx, &args) != CLF_OK) fail_msg("%s: %s", device, message);
    const float begin = 1.0F / 1024;
    results stored = compute(ctx, s, f, 0), again = compute(ctx, s, f, 0), added = compute(ctx, s, f, begin);
    assert_memory_not_equal(stored.d_weight, added.d_weight,
                            (size_t)((s.vocab - 1) * s.k) * sizeof(float)); /* other sums */
    assert_memory_equal(stored.d_weight, again.d_weight, (size_t)(s.vocab * s.k) * sizeof(float));
    added.d_weight[s.vocab * s.k - 1] -= begin;
    assert_close(stored.loss, added.loss, s.rows, 1e-6);
    assert_close(stored.lse, added.lse, s.rows, 1e-6);
    if (stored.d_x)
        assert_close(stored.d_x, added.d_x, s.rows * s.k, f.x == CLF_F32 ? 2e-6 : f.x == CLF_F16 ? 2e-4 : 2e-3);
    assert_close(stored.d_weight, added.d_weight, s.vocab * s.k, 2e-6);
    results *const all[] = {&stored, &again, &added};
    for (int i = 0; i < 3; i++) {
        free(all[i]->d_x);
        free(all[i]->d_weight);
    }
    clf_context_destroy(ctx);
}

/* Every CPU table. */
static void both_forms_agree(void **state) {
    (void)state;
    static const shape wide = {21, 1000, 6001}, tall = {MOST_ROWS, 64, 60000};
    clf_device_info devices[DEVICES];
    int n;
    assert_int_equal(clf_devices(devices, DEVICES, &n), CLF_OK);
    for (int i = 0; i < n; i++) {
        if (!devices[i].usable || strncmp(devices[i].name, "cpu", 3) != 0) continue;
        compare(devices[i].name, wide, (features){.x = CLF_F32});
        compare(devices[i].name, wide, (features){.all = true, .over_x = true});
        compare(devices[i].name, wide, (features){.x = CLF_BF16, .weight = CLF_F16, .gaps = true, .all = true});
        compare(devices[i].name, wide, (features){.gaps = true, .over_x = true});
        compare(devices[i].name, wide, (features){.no_d_x = true});
        compare(devices[i].name, tall, (features){.over_x = true}); /* 64 rows stored, 86 added */
    }
}

static void any_number_of_threads(void **state) {
    (void)state;
    for (int threads = 2; threads <= 3; threads++)
        compare("cpu", (shape){40, 1024, 16000}, (features){.all = true, .threads = threads});
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(both_forms_agree), cmocka_unit_test(any_number_of_threads)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
