/* rms_norm.c: out = s / √(mean(s²) + eps) · (weight_offset + weight), s = x + residual rounded to their dtype.
 *
 * A thread takes whole rows and goes over each twice: squares, then results; the second time the row is in the cache.
 * Squares are added in float within a chunk and in double across chunks, so that the error doesn't grow with dim. One
 * body, compiled for each dtype × residual or none × weight dtype (CLF_DTYPE_COUNT: no weight). */
#include "cpu.h"

enum { ACCUMULATORS = 4, CHUNK = 64 };

/* x, or x + residual as it is stored, VL elements or the first n. */
INLINE vf load(const char *x, const char *residual, int64_t i, int n, clf_dtype dtype, bool add) {
    const size_t at = (size_t)i * cpu_bytes(dtype);
    const vf v = n == VL ? v_load_as(x + at, dtype) : v_load_as_n(x + at, n, dtype);
    if (!add) return v;
    return v_round_as(v_add(v, n == VL ? v_load_as(residual + at, dtype) : v_load_as_n(residual + at, n, dtype)),
                      dtype);
}

INLINE double sum_of_squares(const char *x, const char *residual, char *sum, int64_t dim, clf_dtype dtype, bool add) {
    double total = 0;
    for (int64_t start = 0; start < dim; start += CHUNK * VL) {
        const int64_t end = start + CHUNK * VL < dim ? start + CHUNK * VL : dim;
        vf acc[ACCUMULATORS];
        UNROLL for (int k = 0; k < ACCUMULATORS; k++) acc[k] = v_set1(0);
        int64_t i = start;
        for (; i + ACCUMULATORS * VL <= end; i += ACCUMULATORS * VL) UNROLL for (int k = 0; k < ACCUMULATORS; k++) {
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
    if (weight_dtype == CLF_DTYPE_COUNT) return v_mul(s, rstd);
    const char *at = weight + (size_t)i * cpu_bytes(weight_dtype);
    const vf w = n == VL ? v_load_as(at, weight_dtype) : v_load_as_n(at, n, weight_dtype);
    return v_mul(v_mul(s, rstd), v_add(w, offset));
}

INLINE void rows(const clf_rms_norm_args *a, int64_t begin, int64_t end, clf_dtype dtype, bool add,
                 clf_dtype weight_dtype) {
    const int64_t dim = clf_last(a->x);
    const char *weight = weight_dtype == CLF_DTYPE_COUNT ? NULL : clf_data(a->weight);
    for (int64_t r = begin; r < end; r++) {
        const char *x = clf_row(a->x, r), *residual = add ? clf_row(a->residual, r) : NULL;
        char *sum = a->sum ? clf_row(a->sum, r) : NULL, *out = clf_row(a->out, r);
        const double mean = sum_of_squares(x, residual, sum, dim, dtype, add) / (double)dim;
        const float rstd = (float)(1 / sqrt(mean + (double)a->eps));
        if (a->rstd) *(float *)cpu_element(a->rstd, r) = rstd;
        const vf scale = v_set1(weight_dtype == CLF_DTYPE_COUNT ? rstd * (1 + a->weight_offset) : rstd);
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

INLINE void share(const clf_rms_norm_args *a, int64_t begin, int64_t end, clf_dtype dtype, bool add) {
    if (!a->weight)
        rows(a, begin, end, dtype, add, CLF_DTYPE_COUNT);
    else if (a->weight->dtype == CLF_F32)
        rows(a, begin, end, dtype, add, CLF_F32);
    else
        rows(a, begin, end, dtype, add, dtype);
}

clf_status CPU_FN(rms_norm)(clf_context *ctx, const clf_rms_norm_args *a) {
    const int64_t n = clf_rows(a->x), tensors = 2 + (a->residual != NULL) + (a->sum != NULL);
    const int threads = cpu_threads(ctx, n, tensors * n * clf_last(a->x) * (int64_t)cpu_bytes(a->x->dtype));
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        int64_t begin, end;
        cpu_share(n, omp_get_thread_num(), omp_get_num_threads(), &begin, &end);
        CPU_FOR_DTYPE(DTYPE, a->x->dtype, if (a->residual) share(a, begin, end, DTYPE, true);
                      else share(a, begin, end, DTYPE, false));
    }
    return CLF_OK;
}
