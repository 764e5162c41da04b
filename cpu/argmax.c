/* argmax.c: index of the greatest element of each row, or of its first NaN. The first pass over a row finds the value,
 * the second the first place that holds it. */
#include "cpu.h"

/* First i with x[i] ≥ bound (or, for nan, x[i] NaN); dim if there is none. */
INLINE int64_t first(const char *x, int64_t dim, float bound, clf_dtype dtype, bool nan) {
    float lane[VL];
    for (int64_t i = 0; i < dim; i += VL) {
        const int n = dim - i < VL ? (int)(dim - i) : VL;
        const vf v = v_load_as_n(x + (size_t)i * cpu_bytes(dtype), n, dtype);
        const vf hit = v_ge_or(v, nan ? v : v_set1(bound), v_set1(nan ? 0.f : 1.f), v_set1(nan ? 1.f : 0.f));
        if (v_hmax(hit) == 0) continue;
        v_store(lane, hit);
        for (int k = 0; k < n; k++)
            if (lane[k] != 0) return i + k;
    }
    return dim;
}

INLINE int64_t argmax(const char *x, int64_t dim, clf_dtype dtype) {
    vf most = v_set1(-INFINITY), nan = v_set1(0);
    int64_t i = 0;
    for (; i + VL <= dim; i += VL) {
        const vf v = v_load_as(x + (size_t)i * cpu_bytes(dtype), dtype);
        most = v_max(v, most);
        nan = v_ge_or(v, v, nan, v_set1(1));
    }
    float greatest = v_hmax(most);
    bool has_nan = v_hmax(nan) != 0;
    for (; i < dim; i++) {
        float lane[VL];
        v_store(lane, v_load_as_n(x + (size_t)i * cpu_bytes(dtype), 1, dtype));
        if (lane[0] > greatest) greatest = lane[0];
        has_nan |= isnan(lane[0]);
    }
    return has_nan ? first(x, dim, 0, dtype, true) : first(x, dim, greatest, dtype, false);
}

clf_status CPU_FN(argmax)(clf_context *ctx, const clf_argmax_args *a) {
    const int64_t rows = clf_rows(a->x), dim = clf_last(a->x);
    const int threads = cpu_threads(ctx, rows, rows * dim * (int64_t)cpu_bytes(a->x->dtype));
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        int64_t begin, end;
        cpu_share(rows, omp_get_thread_num(), omp_get_num_threads(), &begin, &end);
        for (int64_t r = begin; r < end; r++) {
            const char *x = clf_row(a->x, r);
            int64_t index;
            CPU_FOR_DTYPE(DTYPE, a->x->dtype, index = argmax(x, dim, DTYPE));
            *(int32_t *)cpu_element(a->out, r) = (int32_t)index;
        }
    }
    return CLF_OK;
}
