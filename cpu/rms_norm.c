/* rms_norm.c: out = s / √(mean(s²) + eps) · (weight_offset + weight), s = x + residual rounded to their dtype.
 *
 * A thread takes whole rows and goes over each twice: squares, then results; the second time the row is in the cache.
 * Squares are added in float within a chunk and in double across chunks, so that the error doesn't grow with dim. One
 * body, compiled for each dtype × residual or none × weight dtype or none. */
#include "cpu.h"

enum { NO_WEIGHT = CLF_DTYPE_COUNT, ACCUMULATORS = 4, CHUNK = 64 };

/* x, or x + residual as it is stored, VL elements or the first n. */
INLINE vf load(const char *x, const char *residual, int64_t i, int n, clf_dtype dtype, bool add) {
    const size_t at = (size_t)i * cpu_bytes(dtype);
    const vf v = n == VL ? v_load_as(x + at, dtype) : v_load_as_n(x + at, n, dtype);
    if (!add) return v;
    return v_round(v_add(v, n == VL ? v_load_as(residual + at, dtype) : v_load_as_n(residual + at, n, dtype)), dtype);
}

INLINE double sum_of_squares(const char *x, const char *residual, char *sum, int64_t dim, clf_dtype dtype, bool add) {
    double total = 0;
    for (int64_t start = 0; start < dim; start += CHUNK * VL) {
        const int64_t end = start + CHUNK * VL < dim ? start + CHUNK * VL : dim;
        vf acc[ACCUMULATORS];
        UNROLL for (int k = 0; k < ACCUMULATORS; k++) acc[k] = v_set1(0);
        int64_t i = start;
        for (; i + ACCUMULATORS * VL <= end; i += ACCUMULATORS * VL)
            UNROLL for (int k = 0; k < ACCUMULATORS; k++) {
                const vf s = load(x, residual, i + k * VL, VL, dtype, add);
                if (sum) v_store_as(sum + (size_t)(i + k * VL) * cpu_bytes(dtype), s, dtype);
                acc[k] = v_fma(s, s, acc[k]);
            }
        for (; i < end; i += VL) {
            const int n = end - i < VL ? (int)(end - i) : VL;
            const vf s = load(x, residual, i, n, dtype, add);
            if (sum) v_store_as_n(sum + (size_t)i * cpu_bytes(dtype), s, n, dtype);
            acc[0] = v_fma(s, s, acc[0]);
        }
        total += (double)v_hsum(v_add(v_add(acc[0], acc[1]), v_add(acc[2], acc[3])));
    }
    return total;
}

INLINE vf scaled(vf s, vf rstd, vf offset, const char *weight, int64_t i, int n, clf_dtype weight_dtype) {
    if (weight_dtype == NO_WEIGHT) return v_mul(s, rstd);
    const char *at = weight + (size_t)i * cpu_bytes(weight_dtype);
    const vf w = n == VL ? v_load_as(at, weight_dtype) : v_load_as_n(at, n, weight_dtype);
    return v_mul(v_mul(s, rstd), v_add(w, offset));
}

INLINE void rows(const clf_rms_norm_args *a, int64_t begin, int64_t end, clf_dtype dtype, bool add,
                 clf_dtype weight_dtype) {
    const int64_t dim = clf_last(a->x);
    const char *weight = weight_dtype == NO_WEIGHT ? NULL : clf_data(a->weight);
    for (int64_t r = begin; r < end; r++) {
        const char *x = clf_row(a->x, r), *residual = add ? clf_row(a->residual, r) : NULL;
        char *sum = a->sum ? clf_row(a->sum, r) : NULL, *out = clf_row(a->out, r);
        const double mean = sum_of_squares(x, residual, sum, dim, dtype, add) / (double)dim;
        const float rstd = (float)(1 / sqrt(mean + (double)a->eps));
        if (a->rstd) *(float *)cpu_element(a->rstd, r) = rstd;
        const vf scale = v_set1(weight_dtype == NO_WEIGHT ? rstd * a->weight_offset : rstd);
        const vf offset = v_set1(a->weight_offset);
        /* x may be gone: sum is allowed in its place */
        const bool again = add && !sum;
        const char *s = sum ? sum : x;
        int64_t i = 0;
        for (; i + VL <= dim; i += VL) {
            const vf v = load(s, residual, i, VL, dtype, again);
            v_store_as(out + (size_t)i * cpu_bytes(dtype), scaled(v, scale, offset, weight, i, VL, weight_dtype),
                       dtype);
        }
        if (i < dim) {
            const int n = (int)(dim - i);
            const vf v = load(s, residual, i, n, dtype, again);
            v_store_as_n(out + (size_t)i * cpu_bytes(dtype), scaled(v, scale, offset, weight, i, n, weight_dtype), n,
                         dtype);
        }
    }
}
