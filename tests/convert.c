/* convert.c: clf_convert(), exactly: every dtype to each of the four, every half, every place where rounding turns. */
#include "op_case.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
    TRANSPOSED = 1, /* x is a view whose last dimension is not contiguous */
    HALVES = 2,     /* every 16-bit pattern */
    TURNS = 4,      /* the floats at, just below and just above the middle of two neighbouring 16-bit floats */
    PATTERNS = 8,   /* random bits */
    INTEGERS = 16   /* values that integers are saturated at or truncated to */
};

static const struct variant {
    int ndim;
    int64_t shape[4]; /* the last times the block of x's dtype */
    int features;
    const char *text;
} variants[] = {
    {0, {0}, 0, "scalar"},
    {1, {1}, 0, "[1 block]"},
    {2, {3, 0}, 0, "[3, 0]"},
    {2, {3, 3}, 0, "[3, 3 blocks]"},
    {3, {2, 3, 5}, 0, "[2, 3, 5 blocks]"},
    {4, {2, 2, 3, 17}, 0, "[2, 2, 3, 17 blocks]"},
    {2, {7, 33}, TRANSPOSED, "[7, 33] transposed"},
    {3, {5, 3, 1100}, TRANSPOSED, "[5, 3, 1100] transposed"},
    {2, {3, 4099}, INTEGERS, "[3, 4099] around whole numbers and limits"},
    {2, {256, 256}, HALVES, "every 16-bit pattern"},
    {2, {384, 512}, TURNS, "rounding to 16 bits"},
    {2, {37, 1000}, PATTERNS, "random bits"},
    {2, {2048, 5632}, 0, "bench: [2048, 5632]"},
};
static const clf_dtype outs[] = {CLF_F32, CLF_F16, CLF_BF16, CLF_I32};
enum { SHAPES = sizeof variants / sizeof *variants, OUTS = 4, BENCH = 1 };

static double from_bits(clf_dtype dtype, uint64_t bits) {
    double v;
    op_decode(dtype, &bits, 1, &v);
    return v;
}

static double special(op_run *run, const struct variant *v, clf_dtype out, int64_t i, double value) {
    static const double edges[] = {0,     -0.,      0.5,         -0.5,        0.9999,       1.5,          -1.5,
                                   255,   -129,     2147483647., 2147483648., -2147483648., -2147483904., 1e10,
                                   -1e10, INFINITY, -INFINITY,   NAN,         16777217,     2147483520.,  -3};
    const uint32_t bits = (uint32_t)(op_random(run) * 0x1p32);
    if (v->features & HALVES) return from_bits(run->dtype, (uint64_t)i);
    if (v->features & PATTERNS) return from_bits(run->dtype, bits);
    if (v->features & TURNS) { /* patterns of `out` up to infinity, both signs, three floats each */
        const uint32_t turn = (uint32_t)(i / 3 % 32768), sign = i / 3 & 32768 ? 0x80000000u : 0;
        const double low = from_bits(out, turn), high = from_bits(out, turn + 1);
        if (isnan(low) || isnan(high)) return NAN;
        const float middle = (float)(isinf(high) ? 1.5 * low : (low + high) / 2);
        uint32_t u;
        memcpy(&u, &middle, 4);
        return from_bits(CLF_F32, (u + (uint32_t)(i % 3) - 1) | sign);
    }
    return i % 3 ? value : edges[i / 3 % (int64_t)(sizeof edges / sizeof *edges)];
}

/* The range of random values: what integers hold, doubles beyond what floats hold. */
static double range(clf_dtype d) {
    switch (d) {
    case CLF_I64: return 0x1p40;
    case CLF_I32: return 0x1p31;
    case CLF_I16: return 0x1p15;
    case CLF_I8: return 128;
    case CLF_U8: return 256;
    case CLF_BOOL: return 2;
    default: return 3;
    }
}

static bool make(op_run *run) {
    const struct variant *v = &variants[run->variant / OUTS];
    const clf_dtype d = run->dtype, out = outs[run->variant % OUTS];
    const int values = clf_dtype_block_values(d), f = v->features;
    if (values > 1 && (f || !v->ndim)) return false;
    if (op_interleaved(d) && (v->ndim != 2 || out == CLF_I32 || run->variant / OUTS == SHAPES - 1)) return false;
    if (f & HALVES && d != CLF_F16 && d != CLF_BF16) return false;
    if (f & TURNS && (d != CLF_F32 || (out != CLF_F16 && out != CLF_BF16))) return false;
    if (f & (PATTERNS | INTEGERS) && d != CLF_F32 && d != CLF_F16 && d != CLF_BF16) return false;
    int64_t shape[4], stored[4];
    memcpy(shape, v->shape, sizeof shape);
    if (v->ndim) shape[v->ndim - 1] *= values;
    if (op_interleaved(d)) shape[0] *= 16;
    memcpy(stored, shape, sizeof stored);
    if (f & TRANSPOSED) stored[0] = shape[v->ndim - 1], stored[v->ndim - 1] = shape[0];
    snprintf(run->text, sizeof run->text, "%s to %s", v->text, clf_dtype_name(out));
    const double high = range(d), low = d == CLF_U8 || d == CLF_BOOL ? 0 : -high;
    const int x = op_input(run, "x", d, v->ndim, stored, low, high);
    double *value = run->t[x].value;
    for (int64_t i = 0; i < op_elements(&run->t[x]); i++) {
        if (d == CLF_F64 && i % 5 == 0) value[i] *= 1e300;
        if (f & (HALVES | TURNS | PATTERNS | INTEGERS)) value[i] = op_round(special(run, v, out, i, value[i]), d);
    }
    op_output(run, "out", out, v->ndim, shape);
    return true;
}

static clf_status call(op_run *run) {
    const clf_tensor *x = op_device(run, "x");
    clf_tensor *view = NULL;
    if (variants[run->variant / OUTS].features & TRANSPOSED) {
        const int n = clf_tensor_ndim(x);
        int64_t shape[4], stride[4];
        for (int i = 0; i < n; i++) {
            const int from = i == 0 ? n - 1 : i == n - 1 ? 0 : i;
            shape[i] = clf_tensor_size(x, from);
            stride[i] = clf_tensor_stride(x, from);
        }
        const clf_status st = clf_tensor_view(&view, x, n, shape, stride, 0);
        if (st != CLF_OK) return st;
    }
    const clf_status st =
        clf_convert(run->ctx, &(clf_convert_args){.x = view ? view : x, .out = op_device(run, "out")});
    clf_tensor_destroy(view);
    return st;
}

static double to_integer(double v) {
    if (isnan(v)) return 0;
    v = trunc(v);
    return v > 2147483647. ? 2147483647. : v < -2147483648. ? -2147483648. : v;
}

static void reference(op_run *run) {
    const op_tensor *x = op_find(run, "x"), *out = op_find(run, "out");
    const bool transposed = variants[run->variant / OUTS].features & TRANSPOSED;
    const int64_t n = op_elements(out);
    const int64_t rows = out->ndim ? out->shape[0] : 1, dim = out->ndim ? out->shape[out->ndim - 1] : 1;
    const int64_t middle = transposed && out->ndim == 3 ? out->shape[1] : 1;
    for (int64_t i = 0; i < n; i++) {
        int64_t from = i; /* out[r, m, c] = x[c, m, r] */
        if (transposed) from = (i % dim * middle + i / dim % middle) * rows + i / dim / middle;
        const double v = x->value[from];
        if (out->dtype == CLF_I32) /* whole numbers and doubles directly, what else there is as a float */
            out->value[i] = to_integer(clf_dtype_block_values(x->dtype) > 1 ? op_round(v, CLF_F32) : v);
        else
            out->value[i] = op_round(op_round(v, CLF_F32), out->dtype);
    }
}

static double flops(const op_run *run) {
    return (double)op_elements(&run->t[0]);
}

static int rejects(clf_context *ctx) {
    enum { X, OUT, OTHER, BYTES, N };
    static const clf_tensor_args list[N] = {
        [X] = {.ndim = 2, .shape = {2, 4}},
        [OUT] = {.dtype = CLF_F16, .ndim = 2, .shape = {2, 4}},
        [OTHER] = {.ndim = 2, .shape = {4, 2}},
        [BYTES] = {.dtype = CLF_U8, .ndim = 2, .shape = {2, 4}},
    };
    clf_tensor *t[N], *columns = NULL;
    if (!op_make(ctx, list, N, t)) return 1;
    int failures = 0;
    const clf_convert_args good = {.x = t[X], .out = t[OUT]};
    const clf_status bad = CLF_INVALID_ARGUMENT;
    if (clf_tensor_view(&columns, t[OTHER], 2, (int64_t[]){2, 4}, (int64_t[]){1, 2}, 0) != CLF_OK) failures++;
    failures += op_rejected(ctx, clf_convert(ctx, NULL), bad, "convert: args is NULL");
    OP_REJECT(convert, bad, "x is NULL", a.x = NULL);
    OP_REJECT(convert, bad, "out is NULL", a.out = NULL);
    OP_REJECT(convert, bad, "out: expected dtype f32, f16, bf16, i32, q4_0", a.out = t[BYTES]);
    OP_REJECT(convert, bad, "out: expected shape [2, 4], got [4, 2]", a.out = t[OTHER]);
    OP_REJECT(convert, bad, "out: expected a contiguous last dimension", a.out = columns);
    OP_REJECT(convert, bad, "out overlaps x", a.out = t[X]);
    OP_REJECT(convert, bad, "out overlaps x", a.x = columns; a.out = t[OTHER]; a.x = t[OTHER]);
    clf_tensor_destroy(columns);
    op_unmake(t, N);
    return failures;
}

int main(int argc, char **argv) {
    static const op_case c = {.name = "convert",
                              .variants = OUTS * SHAPES,
                              .bench_variants = OUTS * BENCH,
                              .dtypes = (1u << CLF_DTYPE_COUNT) - 1,
                              .exact = true,
                              .make = make,
                              .call = call,
                              .reference = reference,
                              .flops = flops,
                              .bytes = op_traffic,
                              .rejects = rejects};
    return op_main(argc, argv, &c);
}
