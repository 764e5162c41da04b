/* int8_activations.c: clf_rms_norm() writes Q8_0, clf_linear() takes it: on every CPU table against references in
 * double, the norm also against clf_convert(), byte for byte; what isn't finite; what is refused, all of it by other
 * devices. */
#include "model_case.h"

#include <math.h>

#include "../lib/core/context.h"
#include "../lib/core/dtype.h"
#include "../lib/core/tensor.h"
#include "op_case.h"

enum { MAX_DEVICES = 16, MOST = 40 * 2080, GUARD = 0xab };

static const double eps = 1e-5;

static clf_tensor *make(clf_context *ctx, clf_dtype dtype, int64_t rows, int64_t columns, const void *bytes) {
    clf_tensor *t;
    assert_ok(ctx, clf_tensor_create(&t, ctx, &(clf_tensor_args){.dtype = dtype, .ndim = 2, .shape = {rows, columns}}));
    if (bytes) assert_ok(ctx, clf_tensor_write(t, bytes, clf_tensor_bytes(t)));
    return t;
}

static clf_tensor *make_vector(clf_context *ctx, clf_dtype dtype, int64_t n, const void *bytes) {
    clf_tensor *t;
    assert_ok(ctx, clf_tensor_create(&t, ctx, &(clf_tensor_args){.dtype = dtype, .ndim = 1, .shape = {n}}));
    assert_ok(ctx, clf_tensor_write(t, bytes, clf_tensor_bytes(t)));
    return t;
}

/* n random values that `dtype` holds, in it and in double. */
static void *random_floats(op_run *run, clf_dtype dtype, int64_t n, double high, double *value) {
    static uint8_t bytes[8][MOST * sizeof(float)];
    static int next;
    uint8_t *to = bytes[next++ % 8];
    for (int64_t i = 0; i < n; i++) {
        const float v = (float)op_round((op_random(run) * 2 - 1) * high, dtype);
        value[i] = (double)v;
        const uint16_t half = dtype == CLF_F16 ? clf_f32_to_f16(v) : clf_f32_to_bf16(v);
        memcpy(to + (size_t)i * clf_dtype_block_bytes(dtype), dtype == CLF_F32 ? (const void *)&v : (const void *)&half,
               clf_dtype_block_bytes(dtype));
    }
    return to;
}

static double rms(const double *v, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += v[i] * v[i];
    return sqrt(sum / (double)n);
}

enum { RESIDUAL = 1, WEIGHT = 2, WEIGHT_F32 = 4, GEMMA = 8, STRIDED = 16 };

/* Half a step of the code, and what the scale loses as a half. */
static void check_codes(const double *got, const double *want, int64_t n) {
    for (int64_t b = 0; b < n; b += 32) {
        double most = 0;
        for (int i = 0; i < 32; i++) most = fmax(most, fabs(want[b + i]));
        for (int i = 0; i < 32; i++)
            assert_true(fabs(got[b + i] - want[b + i]) <= most * (0.5 / 127 + 0x1p-11 + 2e-6) + 1e-9);
    }
}

static void norm(clf_context *ctx, clf_dtype dtype, int64_t rows, int64_t dim, int features) {
    static double x[MOST], residual[MOST], weight[2080], want[MOST], got[MOST];
    static uint8_t bytes[2 * MOST * 2], again[2 * MOST * 2];
    op_run run = {.random = (uint64_t)(dim + features)};
    const int64_t n = rows * dim, apart = features & STRIDED ? 2 : 1;
    const clf_dtype weight_dtype = features & WEIGHT_F32 ? CLF_F32 : dtype;
    clf_tensor *tx = make(ctx, dtype, rows, dim, random_floats(&run, dtype, n, 2, x)), *tr = NULL, *tw = NULL;
    clf_tensor *sum = make(ctx, dtype, rows, dim, NULL), *all = make(ctx, CLF_Q8_0, rows, apart * dim, NULL), *out;
    if (features & RESIDUAL) tr = make(ctx, dtype, rows, dim, random_floats(&run, dtype, n, 4, residual));
    if (features & (WEIGHT | WEIGHT_F32))
        tw = make_vector(ctx, weight_dtype, dim, random_floats(&run, weight_dtype, dim, 1, weight));
    memset(bytes, GUARD, sizeof bytes);
    assert_ok(ctx, clf_tensor_write(all, bytes, clf_tensor_bytes(all)));
    assert_ok(ctx, clf_tensor_view(&out, all, 2, (int64_t[]){rows, dim}, (int64_t[]){apart * dim, 1}, 0));
    clf_rms_norm_args args = {.x = tx,
                              .residual = tr,
                              .weight = tw,
                              .weight_offset = features & GEMMA ? 1 : 0,
                              .eps = (float)eps,
                              .sum = tr ? sum : NULL,
                              .out = out};
    assert_ok(ctx, clf_rms_norm(ctx, &args));
    for (int64_t r = 0; r < rows; r++) {
        double *s = want + r * dim;
        for (int64_t i = 0; i < dim; i++)
            s[i] = tr ? op_round(x[r * dim + i] + residual[r * dim + i], dtype) : x[r * dim + i];
        const double mean = rms(s, dim), scale = 1 / sqrt(mean * mean + eps);
        for (int64_t i = 0; i < dim; i++) s[i] *= scale * ((tw ? weight[i] : 1) + (features & GEMMA ? 1 : 0));
    }
    assert_ok(ctx, clf_tensor_read(all, bytes, clf_tensor_bytes(all)));
    const size_t row = clf_dtype_bytes(CLF_Q8_0, dim);
    for (int64_t r = 0; r < rows; r++) {
        op_decode(CLF_Q8_0, bytes + r * apart * (int64_t)row, dim, got + r * dim);
        for (size_t i = row; i < row * (size_t)apart; i++)
            assert_int_equal(bytes[(size_t)(r * apart) * row + i], GUARD);
    }
    check_codes(got, want, n);
    if (dtype == CLF_F32 && apart == 1) {
        clf_tensor *floats = make(ctx, CLF_F32, rows, dim, NULL);
        args.out = floats;
        assert_ok(ctx, clf_rms_norm(ctx, &args));
        assert_ok(ctx, clf_convert(ctx, &(clf_convert_args){.x = floats, .out = out}));
        assert_ok(ctx, clf_tensor_read(out, again, clf_tensor_bytes(out)));
        assert_memory_equal(bytes, again, clf_tensor_bytes(out));
        clf_tensor_destroy(floats);
    }
    clf_tensor *const made[] = {tx, tr, tw, sum, out, all};
    for (int i = 0; i < 6; i++) clf_tensor_destroy(made[i]);
}

/* A row with a NaN, one with an infinity, and finite ones between; a block that no scale holds. */
static void not_finite(clf_context *ctx) {
    enum { ROWS = 5, DIM = 64 };
    float x[ROWS * DIM], w[DIM];
    double got[ROWS * DIM];
    uint8_t bytes[ROWS * DIM / 32 * 34];
    for (int i = 0; i < ROWS * DIM; i++) x[i] = (float)(i % 7 - 3);
    for (int i = 0; i < DIM; i++) w[i] = i == 40 ? 1e30f : 1;
    x[DIM + 3] = NAN;
    x[3 * DIM + 50] = INFINITY;
    clf_tensor *tx = make(ctx, CLF_F32, ROWS, DIM, x), *out = make(ctx, CLF_Q8_0, ROWS, DIM, NULL),
               *tw = make_vector(ctx, CLF_F32, DIM, w);
    for (int huge = 0; huge < 2; huge++) {
        assert_ok(ctx, clf_rms_norm(ctx, &(clf_rms_norm_args){
                                             .x = tx, .weight = huge ? tw : NULL, .eps = (float)eps, .out = out}));
        assert_ok(ctx, clf_tensor_read(out, bytes, sizeof bytes));
        op_decode(CLF_Q8_0, bytes, ROWS * DIM, got);
        for (int i = 0; i < ROWS * DIM; i++) {
            const int row = i / DIM;
            if (row == 1 || (huge && i % DIM >= 32))
                assert_true(isnan(got[i]));
            else if (row != 3)
                assert_true(isfinite(got[i]));
        }
        assert_true(isnan(got[3 * DIM + 50]));
    }
    clf_tensor_destroy(tx);
    clf_tensor_destroy(tw);
    clf_tensor_destroy(out);
}

/* Blocks of codes -50 to 50, which rounding again would make others. */
static void random_codes(op_run *run, int64_t n, uint8_t *bytes, double *value) {
    for (int64_t b = 0; b < n / 32; b++) {
        const uint16_t scale = clf_f32_to_f16((float)(0.01 + 0.05 * op_random(run)));
        memcpy(bytes + b * 34, &scale, sizeof scale);
        for (int i = 0; i < 32; i++) bytes[b * 34 + 2 + i] = (uint8_t)(int8_t)((int)op_random_int(run, 101) - 50);
    }
    op_decode(CLF_Q8_0, bytes, n, value);
}

enum { COLUMNS = 512, N = 48 };

/* want [rows, N] = x · wᵀ + bias; perhaps gated by itself. */
static void multiply(const double *x, const double *w, const double *bias, int64_t rows, bool gated, double *want) {
    for (int64_t m = 0; m < rows; m++)
        for (int64_t r = 0; r < N; r++) {
            double sum = bias ? bias[r] : 0;
            for (int64_t i = 0; i < COLUMNS; i++) sum += x[m * COLUMNS + i] * w[r * COLUMNS + i];
            want[m * N + r] = gated ? sum / (1 + exp(-sum)) * sum : sum;
        }
}

static void product(clf_context *ctx, clf_dtype dtype, int64_t rows, clf_linear_precision precision, int form) {
    static uint8_t codes[MOST], blocks[N * COLUMNS * 4], out_bytes[MOST];
    static double x[MOST], w[N * COLUMNS], bias[N], want[MOST], got[MOST];
    op_run run = {.random = (uint64_t)dtype + 100 * (uint64_t)rows};
    const clf_dtype out_dtype = form % 2 ? CLF_F16 : CLF_F32;
    const bool gated = form == 2;
    random_codes(&run, rows * COLUMNS, codes, x);
    if (op_interleaved(dtype)) {
        op_random_interleaved(&run, dtype, N, COLUMNS, 0.1, blocks);
        op_decode_interleaved(dtype, blocks, N, COLUMNS, w);
    } else if (clf_dtype_block_values(dtype) > 1) {
        op_random_blocks(&run, dtype, N * COLUMNS, 0.1, blocks);
        op_decode(dtype, blocks, N * COLUMNS, w);
    } else {
        memcpy(blocks, random_floats(&run, dtype, N * COLUMNS, 0.1, w), clf_dtype_bytes(dtype, N * COLUMNS));
    }
    clf_tensor *tx = make(ctx, CLF_Q8_0, rows, COLUMNS, codes), *tw = make(ctx, dtype, N, COLUMNS, blocks),
               *tb = make_vector(ctx, CLF_F16, N, random_floats(&run, CLF_F16, N, 1, bias)),
               *out = make(ctx, out_dtype, rows, N, NULL);
    clf_linear_args args = {.x = tx, .weight = {tw}, .bias = {tb}, .precision = precision, .out = {out}};
    if (gated) {
        args.weight[1] = tw;
        args.bias[1] = tb;
        args.glu = CLF_ACTIVATION_SILU;
    }
    assert_ok(ctx, clf_linear(ctx, &args));
    assert_ok(ctx, clf_tensor_read(out, out_bytes, clf_tensor_bytes(out)));
    op_decode(out_dtype, out_bytes, rows * N, got);
    multiply(x, w, bias, rows, gated, want);
    for (int64_t i = 0; i < rows * N; i++) got[i] -= want[i];
    const double error = rms(got, rows * N) / rms(want, rows * N);
    const bool again = op_interleaved(dtype) && precision == CLF_LINEAR_FAST; /* a scale for 256 */
    if (error > (again ? (gated ? 3e-2 : 1e-2) : out_dtype == CLF_F16 ? 4e-4 : 2e-6))
        fail_msg("%s, %lld rows, w %s, form %d: %g", ctx->backend->name, (long long)rows, clf_dtype_name(dtype), form,
                 error);
    clf_tensor *const made[] = {tx, tw, tb, out};
    for (int i = 0; i < 4; i++) clf_tensor_destroy(made[i]);
}

/* Code -128 throughout, against the weights' lowest code: sums as if it were -127. */
static void lowest(clf_context *ctx, int64_t rows) {
    static uint8_t codes[MOST], blocks[N * COLUMNS / 32 * 34];
    static float out[MOST];
    memset(codes, 0x80, sizeof codes);
    memset(blocks, 0x80, sizeof blocks);
    const uint16_t one = clf_f32_to_f16(1);
    for (int64_t b = 0; b < rows * COLUMNS / 32; b++) memcpy(codes + b * 34, &one, sizeof one);
    for (int64_t b = 0; b < N * COLUMNS / 32; b++) memcpy(blocks + b * 34, &one, sizeof one);
    clf_tensor *tx = make(ctx, CLF_Q8_0, rows, COLUMNS, codes), *tw = make(ctx, CLF_Q8_0, N, COLUMNS, blocks),
               *to = make(ctx, CLF_F32, rows, N, NULL);
    assert_ok(ctx, clf_linear(ctx, &(clf_linear_args){.x = tx, .weight = {tw}, .out = {to}}));
    assert_ok(ctx, clf_tensor_read(to, out, clf_tensor_bytes(to)));
    for (int64_t i = 0; i < rows * N; i++) assert_true(fabsf(out[i] - 127.f * 128 * COLUMNS) <= 1);
    clf_tensor_destroy(tx);
    clf_tensor_destroy(tw);
    clf_tensor_destroy(to);
}

static void rejects(clf_context *ctx) {
    enum { X, X_ODD, RESIDUAL_OF, CODES, WIDE, WEIGHT_OF, OUT, OUT_CODES, D_WEIGHT, TENSORS };
    static const clf_tensor_args list[TENSORS] = {[X] = {.ndim = 2, .shape = {2, 64}},
                                                  [X_ODD] = {.ndim = 2, .shape = {2, 65}},
                                                  [RESIDUAL_OF] = {.ndim = 2, .shape = {2, 64}},
                                                  [CODES] = {.dtype = CLF_Q8_0, .ndim = 2, .shape = {2, 64}},
                                                  [WIDE] = {.dtype = CLF_Q8_0, .ndim = 2, .shape = {2, 96}},
                                                  [WEIGHT_OF] = {.ndim = 2, .shape = {32, 64}},
                                                  [OUT] = {.ndim = 2, .shape = {2, 32}},
                                                  [OUT_CODES] = {.dtype = CLF_Q8_0, .ndim = 2, .shape = {2, 32}},
                                                  [D_WEIGHT] = {.ndim = 2, .shape = {32, 64}}};
    clf_tensor *t[TENSORS], *odd;
    assert_true(op_make(ctx, list, TENSORS, t));
    assert_int_equal(clf_tensor_create(&odd, ctx, &(clf_tensor_args){.dtype = CLF_Q8_0, .ndim = 2, .shape = {2, 65}}),
                     CLF_INVALID_ARGUMENT);
    int failures = 0;
    const clf_status bad = CLF_INVALID_ARGUMENT;
#define REFUSED(call, why) failures += op_rejected(ctx, call, bad, why)
    REFUSED(clf_rms_norm(ctx, &(clf_rms_norm_args){.x = t[X_ODD], .out = t[CODES]}),
            "out: expected shape [2, 65], got");
    REFUSED(clf_rms_norm(ctx, &(clf_rms_norm_args){.x = t[X], .out = t[WIDE]}), "out: expected shape [2, 64], got");
    REFUSED(clf_rms_norm(ctx, &(clf_rms_norm_args){.x = t[X], .residual = t[RESIDUAL_OF], .out = t[CODES]}),
            "sum is NULL: expected a place");
    REFUSED(clf_rms_norm(ctx, &(clf_rms_norm_args){.x = t[CODES], .out = t[CODES]}), "x: expected dtype f32, f16");
    REFUSED(clf_linear(ctx, &(clf_linear_args){.x = t[CODES], .weight = {t[WEIGHT_OF]}, .out = {t[OUT_CODES]}}),
            "out[0]: expected dtype f32, f16, bf16, got q8_0");
    REFUSED(clf_linear(ctx, &(clf_linear_args){.x = t[WIDE], .weight = {t[WEIGHT_OF]}, .out = {t[OUT]}}),
            "weight[0]: expected rows of 96");
    REFUSED(clf_linear_backward(
                ctx, &(clf_linear_backward_args){.x = t[CODES], .d_out = {t[OUT]}, .d_weight = {t[D_WEIGHT]}}),
            "x: expected dtype f32, f16, bf16");
#undef REFUSED
    assert_int_equal(failures, 0);
    op_unmake(t, TENSORS);
}

static void unsupported(clf_context *ctx) {
    clf_tensor *x = make(ctx, CLF_F32, 2, 64, NULL), *codes = make(ctx, CLF_Q8_0, 2, 64, NULL),
               *w = make(ctx, CLF_Q8_0, 32, 64, NULL), *out = make(ctx, CLF_F32, 2, 32, NULL);
    assert_int_equal(clf_rms_norm(ctx, &(clf_rms_norm_args){.x = x, .out = codes}), CLF_UNSUPPORTED);
    assert_non_null(strstr(clf_error_message(ctx), "out: opencl writes x's dtype, not q8_0"));
    assert_int_equal(clf_linear(ctx, &(clf_linear_args){.x = codes, .weight = {w}, .out = {out}}), CLF_UNSUPPORTED);
    assert_non_null(strstr(clf_error_message(ctx), "x: opencl takes f32, f16 and bf16, not q8_0"));
    clf_tensor *const made[] = {x, codes, w, out};
    for (int i = 0; i < 4; i++) clf_tensor_destroy(made[i]);
}

static void norms(clf_context *ctx) {
    static const clf_dtype dtypes[] = {CLF_F32, CLF_F16, CLF_BF16};
    static const int features[] = {0, WEIGHT, RESIDUAL | WEIGHT_F32 | GEMMA, WEIGHT_F32 | STRIDED, RESIDUAL | WEIGHT};
    static const int64_t shapes[][2] = {{1, 32}, {3, 96}, {40, 2080}, {0, 64}};
    for (int i = 0; i < 3 * 5 * 4; i++)
        norm(ctx, dtypes[i % 3], shapes[i / 15][0], shapes[i / 15][1], features[i / 3 % 5]);
    not_finite(ctx);
}

static void products(clf_context *ctx) {
    static const clf_dtype weights[] = {CLF_F32,    CLF_BF16,   CLF_Q8_0,  CLF_Q4_0,  CLF_Q4_1, CLF_Q5_0, CLF_Q5_1,
                                        CLF_Q2_K,   CLF_Q3_K,   CLF_Q4_K,  CLF_Q5_K,  CLF_Q6_K, CLF_NF4,  CLF_MXFP4,
                                        CLF_IQ4_NL, CLF_IQ4_XS, CLF_TQ1_0, CLF_TQ2_0, CLF_Q2_0, CLF_T2,   CLF_T1};
    static const int64_t rows[] = {1, 3, 8, 9, 40};
    for (size_t d = 0; d < sizeof weights / sizeof *weights; d++)
        for (int i = 0; i < 5 * 3; i++) {
            product(ctx, weights[d], rows[i / 3], CLF_LINEAR_FAST, i % 3);
            product(ctx, weights[d], rows[i / 3], CLF_LINEAR_EXACT, i % 3);
        }
    for (int i = 0; i < 5; i++) lowest(ctx, rows[i]);
}

static void tables(void **state) {
    (void)state;
    clf_device_info info[MAX_DEVICES];
    int n = 0;
    assert_int_equal(clf_devices(info, MAX_DEVICES, &n), CLF_OK);
    for (int d = 0; d < n && d < MAX_DEVICES; d++) {
        if (!info[d].usable) continue;
        clf_context *ctx = open_context(info[d].name, 0);
        rejects(ctx);
        if (ctx->backend->host) {
            norms(ctx);
            products(ctx);
        } else {
            unsupported(ctx);
        }
        print_message("%s\n", info[d].name);
        clf_context_destroy(ctx);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(tables)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
