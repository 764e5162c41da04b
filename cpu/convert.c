/* convert.c: copies that change dtype and layout. A piece of a row is gathered if its elements aren't neighbours, then
 * copied (same dtype), or decoded to floats and stored or encoded as blocks, or, towards I32, converted without floats
 * in between. What can't be encoded ends a thread's share; the first such place is reported. */
#include <limits.h>

#include "convert_ternary.h"
#include "decode.h"
#include "encode.h"

typedef uint8_t byte;

enum { PIECE = 1024 }; /* a multiple of every block */

INLINE void store(const float *from, char *out, int64_t n, clf_dtype dtype) {
    int64_t i = 0;
    for (; i + VL <= n; i += VL) v_store_as(out + (size_t)i * cpu_bytes(dtype), v_load(from + i), dtype);
    if (i < n) v_store_as_n(out + (size_t)i * cpu_bytes(dtype), v_load_n(from + i, (int)(n - i)), (int)(n - i), dtype);
}

static int32_t saturate(int64_t v) {
    return v > INT32_MAX ? INT32_MAX : v < INT32_MIN ? INT32_MIN : (int32_t)v;
}

/* Towards zero; NaN is 0. */
static int32_t truncate(double v) {
    if (!(v > -2147483649.0)) return isnan(v) ? 0 : INT32_MIN;
    return v < 2147483648.0 ? (int32_t)v : INT32_MAX;
}

#define EACH(type, expression)                                                                                         \
    for (int64_t i = 0; i < n; i++) {                                                                                  \
        type v;                                                                                                        \
        memcpy(&v, from + (size_t)i * sizeof v, sizeof v);                                                             \
        out[i] = expression;                                                                                           \
    }                                                                                                                  \
    return

static void integers(clf_dtype dtype, const byte *from, int64_t n, int32_t *out) {
    float values[PIECE];
    switch (dtype) {
    case CLF_I64: EACH(int64_t, saturate(v));
    case CLF_I16: EACH(int16_t, v);
    case CLF_I8: EACH(int8_t, v);
    case CLF_U8: EACH(uint8_t, v);
    case CLF_BOOL: EACH(uint8_t, v != 0);
    case CLF_F64: EACH(double, truncate(v));
    default: break;
    }
    cpu_decode_row(dtype, from, n, values);
    for (int64_t i = 0; i < n; i++) out[i] = truncate((double)values[i]);
}

/* n neighbouring elements, at most PIECE unless dtypes are the same; returns how many were converted. */
static int64_t convert(clf_dtype dtype, const byte *from, int64_t n, const float *importance, clf_dtype out_dtype,
                       char *out) {
    float values[PIECE];
    if (dtype == out_dtype) {
        memcpy(out, from, clf_dtype_bytes(dtype, n));
    } else if (out_dtype == CLF_I32) {
        integers(dtype, from, n, (int32_t *)out);
    } else {
        cpu_decode_row(dtype, from, n, values);
        if (clf_dtype_is_block(out_dtype)) return cpu_encode_row(out_dtype, values, n, importance, out);
        CPU_FOR_DTYPE(DTYPE, out_dtype, store(values, out, n, DTYPE));
    }
    return n;
}

/* n ≤ PIECE elements, `stride` elements apart, as neighbours */
static void gather(const byte *from, int64_t stride, size_t size, int64_t n, byte *out) {
    for (int64_t i = 0; i < n; i++) memcpy(out + (size_t)i * size, from + (size_t)(i * stride) * size, size);
}

/* x's element `at`, counted in C order, as a float */
static float value_at(const clf_tensor *x, int64_t at) {
    const int values = clf_dtype_block_values(x->dtype);
    const int64_t column = at % clf_last(x), stride = x->ndim ? x->stride[x->ndim - 1] : 1;
    const char *row = clf_row(x, at / clf_last(x));
    float block[256];
    cpu_decode_row(x->dtype, row + clf_dtype_bytes(x->dtype, column / values * values * stride), values, block);
    return block[column % values];
}

static clf_status not_encoded(clf_context *ctx, const clf_convert_args *a, int64_t at) {
    const long long row = at / clf_last(a->x), column = at % clf_last(a->x);
    const float value = value_at(a->x, at);
    if (!isfinite(value))
        return clf_fail(&ctx->error, CLF_NOT_FINITE,
                        "convert: x: expected finite values, got %g in row %lld, column %lld", (double)value, row,
                        column);
    return clf_fail(&ctx->error, CLF_NOT_FINITE,
                    "convert: x: values too large for the half scale of %s, in row %lld, columns %lld to %lld",
                    clf_dtype_name(a->out->dtype), row, column, column + clf_dtype_block_values(a->out->dtype) - 1);
}

static clf_status check_importance(clf_context *ctx, const clf_tensor *t) {
    const float *v = clf_data(t);
    for (int64_t i = 0; i < clf_last(t); i++)
        CLF_CHECK(&ctx->error, isfinite(v[i]) && v[i] >= 0, CLF_INVALID_ARGUMENT,
                  "convert: importance: expected finite values, 0 or above, got %g in column %lld", (double)v[i],
                  (long long)i);
    return CLF_OK;
}

typedef struct conversion {
    const clf_tensor *x, *out;
    const float *importance; /* of a row's columns, or NULL */
    int64_t stride;          /* of x's last dimension */
    cpu_pieces work;
} conversion;

/* Thread t's pieces; returns the first element that couldn't be encoded, in C order, or INT64_MAX. */
static int64_t convert_share(const conversion *c, int t, int team) {
    const clf_tensor *x = c->x, *out = c->out;
    byte gathered[PIECE * 8];
    int64_t begin, end, row, at;
    cpu_share(c->work.count, t, team, &begin, &end);
    for (int64_t p = begin; p < end; p++) {
        const int64_t n = cpu_piece(&c->work, p, &row, &at);
        const int64_t step = c->stride == 1 && x->dtype == out->dtype ? n : PIECE; /* a copy needs no buffer */
        for (int64_t i = at; i < at + n; i += step) {
            const int64_t m = at + n - i < step ? at + n - i : step;
            const byte *from = (const byte *)clf_row(x, row) + clf_dtype_bytes(x->dtype, i * c->stride);
            char *to = (char *)clf_row(out, row) + clf_dtype_bytes(out->dtype, i);
            if (c->stride != 1) {
                gather(from, c->stride, clf_dtype_block_bytes(x->dtype), m, gathered);
                from = gathered;
            }
            const float *importance = c->importance ? c->importance + i : NULL;
            const int64_t done = convert(x->dtype, from, m, importance, out->dtype, to);
            if (done < m) return row * c->work.dim + i + done;
        }
    }
    return INT64_MAX;
}

clf_status CPU_FN(convert)(clf_context *ctx, const clf_convert_args *a) {
    const clf_tensor *x = a->x, *out = a->out;
    if (clf_dtype_is_interleaved(x->dtype) || clf_dtype_is_interleaved(out->dtype))
        return cpu_convert_ternary(ctx, x, out);
    if (a->importance) CLF_TRY(check_importance(ctx, a->importance));
    const conversion c = {
        .x = x,
        .out = out,
        .importance = a->importance ? clf_data(a->importance) : NULL,
        .stride = clf_last(out) > 1 && x->ndim && !clf_is_contiguous(x) ? x->stride[x->ndim - 1] : 1,
        .work = cpu_cut(out, clf_is_contiguous(x) && clf_is_contiguous(out) && !a->importance),
    };
    const int threads = cpu_threads(ctx, c.work.count, 2 * (int64_t)clf_dtype_bytes(out->dtype, clf_elements(out)));
    int64_t failed = INT64_MAX;
    if (threads == 1) { /* no team: team.h */
        failed = convert_share(&c, 0, 1);
    } else {
#pragma omp parallel num_threads(threads) reduction(min : failed)
        failed = convert_share(&c, omp_get_thread_num(), omp_get_num_threads());
    }
    return failed == INT64_MAX ? CLF_OK : not_encoded(ctx, a, failed);
}
