/* linear_rejects.c: what clf_linear() and clf_linear_backward() refuse, with lists of tiles that lead outside; and how
 * CLF_LINEAR_FAST rounds x on CPU tables. */
#include "linear_case.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* FAST with any x on a CPU table against EXACT with x rounded here as docs/numerics.md says: only sums may differ.
 * Returns the number of failures. */
static int rounds_as_documented(clf_context *ctx) {
    enum { N = 48, K = 512, MAX_ROWS = 20 };
    static const clf_dtype rounded[] = {CLF_Q8_0,  CLF_Q4_0, CLF_Q4_K,   CLF_Q5_K,   CLF_Q6_K,  CLF_Q4_1,
                                        CLF_Q5_1,  CLF_Q3_K, CLF_IQ4_NL, CLF_IQ4_XS, CLF_MXFP4, CLF_TQ1_0,
                                        CLF_TQ2_0, CLF_Q2_0, CLF_T2,     CLF_T1};
    static float x[MAX_ROWS * K], y[2][MAX_ROWS * N];
    op_run run = {.random = 7};
    int failures = 0;
    for (int i = 0; i < 2 * COUNT(rounded); i++) {
        const clf_dtype dtype = rounded[i / 2];
        const int64_t rows = i % 2 ? MAX_ROWS : 2;
        const size_t bytes = (size_t)rows * K * sizeof *x;
        const int w = op_input(&run, "w", dtype, 2, (int64_t[]){N, K}, -1, 1);
        clf_tensor *tx = NULL, *tw = NULL, *ty = NULL;
        clf_status st = clf_tensor_create(&tx, ctx, &(clf_tensor_args){.ndim = 2, .shape = {rows, K}});
        if (!st) st = clf_tensor_create(&tw, ctx, &(clf_tensor_args){.dtype = dtype, .ndim = 2, .shape = {N, K}});
        if (!st) st = clf_tensor_create(&ty, ctx, &(clf_tensor_args){.ndim = 2, .shape = {rows, N}});
        if (!st) st = clf_tensor_write(tw, run.t[w].blocks, op_bytes(&run.t[w]));
        for (int j = 0; j < rows * K; j++) x[j] = (float)((op_random(&run) - 0.5) * (j / 32 % 3 ? 1 : 1e-3));
        for (int exact = 0; exact < 2 && !st; exact++) {
            const int span = op_interleaved(dtype) ? 256 : 32;
            for (int j = 0; exact && j < rows * K; j += span) {
                float amax = 0;
                for (int e = 0; e < span; e++) amax = fmaxf(amax, fabsf(x[j + e]));
                const float d = amax / 127, scale = 127 / amax;
                for (int e = 0; e < span; e++) x[j + e] = d * rintf(x[j + e] * scale);
            }
            st = clf_tensor_write(tx, x, bytes);
            if (!st) st = clf_linear(ctx, &(clf_linear_args){.x = tx, .weight = {tw}, .precision = exact, .out = {ty}});
            if (!st) st = clf_tensor_read(ty, y[exact], (size_t)rows * N * sizeof **y);
        }
        double error = 0, norm = 0;
        for (int j = 0; j < rows * N; j++) {
            error += pow((double)y[0][j] - (double)y[1][j], 2);
            norm += pow((double)y[1][j], 2);
        }
        if (st || !(sqrt(error / norm) <= 2e-6)) {
            printf("FAIL %s: %s: x isn't rounded as documented: %s, error %.3g\n", clf_context_backend(ctx),
                   clf_dtype_name(dtype), clf_status_string(st), sqrt(error / norm));
            failures++;
        }
        clf_tensor_destroy(tx);
        clf_tensor_destroy(tw);
        clf_tensor_destroy(ty);
        op_end(&run);
    }
    return failures;
}

static int rejects_backward(clf_context *ctx) {
    enum { X, W, W2, D, D2, D16, DX, DW, DW2, DB, INTS, N };
    static const clf_tensor_args list[N] = {[X] = {.ndim = 2, .shape = {2, 32}},
                                            [W] = {.dtype = CLF_Q8_0, .ndim = 2, .shape = {4, 32}},
                                            [W2] = {.ndim = 2, .shape = {5, 32}},
                                            [D] = {.ndim = 2, .shape = {2, 4}},
                                            [D2] = {.ndim = 2, .shape = {2, 5}},
                                            [D16] = {.dtype = CLF_F16, .ndim = 2, .shape = {2, 4}},
                                            [DX] = {.ndim = 2, .shape = {2, 32}},
                                            [DW] = {.ndim = 2, .shape = {4, 32}},
                                            [DW2] = {.ndim = 2, .shape = {5, 32}},
                                            [DB] = {.ndim = 1, .shape = {4}},
                                            [INTS] = {.dtype = CLF_I32, .ndim = 2, .shape = {2, 32}}};
    clf_tensor *t[N];
    if (!op_make(ctx, list, N, t)) return 1;
    const clf_status bad = CLF_INVALID_ARGUMENT;
    const clf_linear_backward_args good = {
        .x = t[X], .weight = {t[W]}, .d_out = {t[D]}, .d_x = t[DX], .d_weight = {t[DW]}, .d_bias = {t[DB]}};
    int failures = op_rejected(ctx, clf_linear_backward(ctx, NULL), bad, "linear_backward: args is NULL");
    OP_REJECT(linear_backward, bad, "d_out[0] is NULL", a.d_out[0] = NULL);
    OP_REJECT(linear_backward, bad, "d_out[0]: expected shape [2, 32], got [5, 32]", a.d_out[0] = t[W2]);
    OP_REJECT(linear_backward, bad, "d_out[0]: expected dtype", a.d_out[0] = t[INTS]);
    OP_REJECT(linear_backward, bad, "d_out[1]: expected dtype f32, got f16", a.d_out[1] = t[D16]);
    OP_REJECT(linear_backward, bad, "x is NULL, which d_weight[0] is computed from", a.x = NULL);
    OP_REJECT(linear_backward, bad, "x: expected dtype", a.x = t[INTS]);
    OP_REJECT(linear_backward, bad, "weight[0] is NULL", a.weight[0] = NULL);
    OP_REJECT(linear_backward, bad, "weight[0]: expected shape [4, 32], got [5, 32]", a.weight[0] = t[W2]);
    OP_REJECT(linear_backward, bad, "weight[1] is NULL", a.d_out[1] = t[D2]);
    OP_REJECT(linear_backward, bad, "follows the end of the list", a.d_weight[1] = t[DW2]);
    OP_REJECT(linear_backward, bad, "d_x: expected shape [2, 32], got [4, 32]", a.d_x = t[DW]);
    OP_REJECT(linear_backward, bad, "d_x overlaps x", a.d_x = t[X]);
    OP_REJECT(linear_backward, bad, "d_weight[0]: expected shape [4, 32], got [5, 32]", a.d_weight[0] = t[DW2]);
    OP_REJECT(linear_backward, bad, "d_weight[0]: expected dtype f32, got i32", a.d_weight[0] = t[INTS]);
    OP_REJECT(linear_backward, bad, "d_weight[1] overlaps d_weight[0]", a.d_out[1] = t[D]; a.weight[1] = t[W];
              a.d_weight[1] = t[DW]);
    OP_REJECT(linear_backward, bad, "d_bias[0]: expected 1 to 1 dimensions, got 2", a.d_bias[0] = t[DW]);
    OP_REJECT(linear_backward, bad, "residual: expected NULL", a.d_x = NULL; a.residual = t[X]);
    OP_REJECT(linear_backward, bad, "residual: expected shape", a.residual = t[D]);
    OP_REJECT(linear_backward, bad, "scale", a.scale = NAN);
    op_unmake(t, N);
    return failures;
}

/* Lists that only the device can see, and that lead outside: rows of NaN. */
static bool gives_nan(clf_context *ctx, const clf_linear_args *args) {
    enum { MOST = 12 * 32 };
    float y[MOST];
    const int64_t n = clf_tensor_elements(args->out[0]);
    int nans = 0;
    if (n > MOST || clf_linear(ctx, args) != CLF_OK) return false;
    if (clf_tensor_read(args->out[0], y, (size_t)n * sizeof *y) != CLF_OK) return false;
    for (int i = 0; i < n; i++) nans += isnan(y[i]) != 0;
    if (!nans) printf("FAIL opencl: lists of tiles that lead outside give numbers\n");
    return nans > 0;
}

/* Fills `out` with sevens, or says whether it still holds them. */
static bool sevens(clf_tensor *out, bool fill) {
    float y[64];
    if (!fill && clf_tensor_read(out, y, sizeof y) != CLF_OK) return false;
    for (int i = 0; i < 64; i++) {
        if (!fill && y[i] != 7) return printf("FAIL refused lists of tiles wrote %g\n", (double)y[i]), false;
        y[i] = 7;
    }
    return !fill || clf_tensor_write(out, y, sizeof y) == CLF_OK;
}

static int rejects_tiles(clf_context *ctx) {
    enum { X, WORDS, ODD, ROWS, LONG, COLUMNS, SCALES, SCALE2, OUT, DENSE, T2, X12, OUT12, N };
    static const clf_tensor_args shapes[N] = {[X] = {.ndim = 2, .shape = {2, 64}},
                                              [WORDS] = {.dtype = CLF_U8, .ndim = 1, .shape = {3 * 64}},
                                              [ODD] = {.dtype = CLF_U8, .ndim = 1, .shape = {3 * 64 - 1}},
                                              [ROWS] = {.dtype = CLF_I32, .ndim = 1, .shape = {3}},
                                              [LONG] = {.dtype = CLF_I32, .ndim = 1, .shape = {4}},
                                              [COLUMNS] = {.dtype = CLF_I32, .ndim = 1, .shape = {3}},
                                              [SCALES] = {.ndim = 1, .shape = {32}},
                                              [SCALE2] = {.ndim = 1, .shape = {33}},
                                              [OUT] = {.ndim = 2, .shape = {2, 32}},
                                              [DENSE] = {.ndim = 2, .shape = {32, 64}},
                                              [T2] = {.dtype = CLF_T2, .ndim = 2, .shape = {32, 256}},
                                              [X12] = {.ndim = 2, .shape = {12, 64}},
                                              [OUT12] = {.ndim = 2, .shape = {12, 32}}};
    static const struct {
        int32_t rows[3], columns[3];
    } wrong[] = {{{0, 4, 3}, {0, 1, 2}},        {{0, 2, 4}, {0, 1, 2}}, {{2, 1, 3}, {0, 1, 2}},
                 {{-1, 1, 3}, {0, 1, 2}},       {{0, 2, 3}, {0, 1, 4}}, {{0, 2, 3}, {0, -1, 2}},
                 {{0, 2, 3}, {0, 1, INT32_MAX}}};
    clf_tensor *t[N];
    if (!op_make(ctx, shapes, N, t)) return 1;
    const clf_linear_args good = {.x = t[X],
                                  .weight = {t[WORDS]},
                                  .tile_rows = {t[ROWS]},
                                  .tile_columns = {t[COLUMNS]},
                                  .row_scale = {t[SCALES]},
                                  .out = {t[OUT]}};
    const clf_status bad = CLF_INVALID_ARGUMENT;
    int failures = 0;
    OP_REJECT(linear, bad, "weight[0]: expected tiles of 64 bytes, got 191", a.weight[0] = t[ODD]);
    OP_REJECT(linear, bad, "weight[0]: expected dtype u8, got f32", a.weight[0] = t[DENSE]);
    OP_REJECT(linear, bad, "tile_columns[0] is NULL", a.tile_columns[0] = NULL);
    OP_REJECT(linear, bad, "tile_columns[0]: expected shape [3], got [4]", a.tile_columns[0] = t[LONG]);
    OP_REJECT(linear, bad, "tile_rows[0]: expected shape [3], got [4]", a.tile_rows[0] = t[LONG]);
    OP_REJECT(linear, bad, "row_scale[0] is NULL", a.row_scale[0] = NULL);
    OP_REJECT(linear, bad, "row_scale[0]: expected a multiple of 16 rows, got 33", a.row_scale[0] = t[SCALE2]);
    OP_REJECT(linear, bad, "expected NULL, as tile_rows[0] is", a.weight[0] = t[DENSE]; a.tile_rows[0] = NULL);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        if (clf_tensor_write(t[ROWS], wrong[i].rows, sizeof wrong[i].rows) != CLF_OK) failures++;
        if (clf_tensor_write(t[COLUMNS], wrong[i].columns, sizeof wrong[i].columns) != CLF_OK) failures++;
        if (strncmp(clf_context_backend(ctx), "cpu", 3) != 0) {
            clf_linear_args many = good;
            many.x = t[X12];
            many.out[0] = t[OUT12];
            failures += !gives_nan(ctx, &good) + !gives_nan(ctx, &many);
            continue;
        }
        failures += !sevens(t[OUT], true);
        OP_REJECT(linear, bad, "tile_rows or tile_columns", (void)a);
        OP_REJECT(linear, bad, "tile_rows or tile_columns", a.precision = CLF_LINEAR_EXACT);
        failures += !sevens(t[OUT], false);
    }
    const clf_linear_backward_args backward = {.weight = {t[T2]}, .d_out = {t[OUT]}, .d_x = t[X]};
    failures += op_rejected(ctx, clf_linear_backward(ctx, &backward), bad, "weight[0]: expected dtype");
    op_unmake(t, N);
    return failures;
}

int linear_rejects(clf_context *ctx) {
    enum { X, W, W2, WIDE, OUT, OUT2, OUT16, BIAS4, BIAS16, INTS, FLAT, N };
    static const clf_tensor_args shapes[N] = {
        {.dtype = CLF_F32, .ndim = 2, .shape = {2, 32}}, {.dtype = CLF_Q8_0, .ndim = 2, .shape = {4, 32}},
        {.dtype = CLF_F16, .ndim = 2, .shape = {5, 32}}, {.dtype = CLF_Q8_0, .ndim = 2, .shape = {4, 64}},
        {.dtype = CLF_F32, .ndim = 2, .shape = {2, 4}},  {.dtype = CLF_F32, .ndim = 2, .shape = {2, 5}},
        {.dtype = CLF_F16, .ndim = 2, .shape = {2, 4}},  {.dtype = CLF_F32, .ndim = 1, .shape = {4}},
        {.dtype = CLF_F16, .ndim = 1, .shape = {4}},     {.dtype = CLF_I32, .ndim = 2, .shape = {2, 32}},
        {.dtype = CLF_F32, .ndim = 1, .shape = {32}}};
    clf_tensor *t[N], *inside;
    if (!op_make(ctx, shapes, N, t)) return 1;
    if (clf_tensor_view(&inside, t[X], 2, (int64_t[]){2, 4}, (int64_t[]){8, 1}, 2) != CLF_OK) return 1;
    const clf_linear_args good = {.x = t[X], .weight = {t[W]}, .out = {t[OUT]}};
    const clf_status bad = CLF_INVALID_ARGUMENT;
    int failures = op_rejected(ctx, clf_linear(ctx, NULL), bad, "linear: args is NULL");
    OP_REJECT(linear, bad, "x is NULL", a.x = NULL);
    OP_REJECT(linear, bad, "x: expected dtype", a.x = t[INTS]);
    OP_REJECT(linear, bad, "weight[0] is NULL", a.weight[0] = NULL);
    OP_REJECT(linear, bad, "weight[0]: expected 2 to 2 dimensions, got 1", a.weight[0] = t[FLAT]);
    OP_REJECT(linear, bad, "weight[0]: expected dtype", a.weight[0] = t[INTS]);
    OP_REJECT(linear, bad, "weight[0]: expected rows of 32 as x has, got 64", a.weight[0] = t[WIDE]);
    OP_REJECT(linear, bad, "weight[2] or bias[2] follows the end", a.weight[2] = t[W]);
    OP_REJECT(linear, bad, "bias[1] follows the end", a.bias[1] = t[BIAS4]);
    OP_REJECT(linear, bad, "bias[0]: expected dtype f32, got f16", a.bias[0] = t[BIAS16]);
    OP_REJECT(linear, bad, "bias[1]: expected shape [5], got [4]", a.weight[1] = t[W2]; a.bias[1] = t[BIAS4];
              a.out[1] = t[OUT2]);
    OP_REJECT(linear, bad, "out[0] is NULL", a.out[0] = NULL);
    OP_REJECT(linear, bad, "out[0]: expected dtype f32, got f16", a.out[0] = t[OUT16]);
    OP_REJECT(linear, bad, "out[0]: expected shape [2, 4], got [2, 5]", a.out[0] = t[OUT2]);
    OP_REJECT(linear, bad, "out[1] is NULL", a.weight[1] = t[W2]);
    OP_REJECT(linear, bad, "out[1]: expected NULL", a.out[1] = t[OUT2]);
    OP_REJECT(linear, bad, "out[1] is out[0]", a.weight[1] = t[W]; a.out[1] = t[OUT]);
    OP_REJECT(linear, bad, "out[0] overlaps x", a.out[0] = inside);
    OP_REJECT(linear, bad, "glu: expected two weights", a.glu = CLF_ACTIVATION_SILU);
    OP_REJECT(linear, bad, "glu: expected gate and up of one size", a.glu = CLF_ACTIVATION_SILU; a.weight[1] = t[W2]);
    OP_REJECT(linear, bad, "glu: expected a clf_activation", a.glu = (clf_activation)9);
    OP_REJECT(linear, bad, "scale", a.scale = INFINITY);
    OP_REJECT(linear, bad, "precision", a.precision = (clf_linear_precision)2);
    OP_REJECT(linear, bad, "residual: expected out[0]'s dtype f32, got f16", a.residual = t[OUT16]);
    OP_REJECT(linear, bad, "residual: expected shape", a.residual = t[OUT2]);
    OP_REJECT(linear, bad, "residual: expected one product or a gate", a.residual = t[OUT]; a.weight[1] = t[W2];
              a.out[1] = t[OUT2]);
    clf_tensor_destroy(inside);
    op_unmake(t, N);
    failures += rejects_backward(ctx);
    failures += rejects_tiles(ctx);
    if (!strncmp(clf_context_backend(ctx), "cpu", 3)) failures += rounds_as_documented(ctx);
    return failures;
}
