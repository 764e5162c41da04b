/* rms_norm.c: out = s / √(mean(s²) + eps) · (weight_offset + weight), s = x + residual rounded to their dtype.
 *
 * A thread takes whole rows and goes over each twice: squares, then results; the second time the row is in the cache.
 * Each pass fetches half of the row at `next`, the following one, so that the memory is never idle.
 * With a residual the first pass stores s, in `sum` or, if that isn't wanted, in `out`, where the second finds it.
 * Squares are added in float within a chunk and in double across chunks, so that the error doesn't grow with dim. Each
 * pass is compiled for each dtype and so on; no weight is a vector of ones that the loop doesn't step over. */
#include "cpu.h"

enum { ACCUMULATORS = 4, CHUNK = 64 };

/* Σ s², and s stored where there is a residual. */
INLINE double squares(const char *x, const char *residual, const char *next, char *s, int64_t dim, clf_dtype dtype,
                      bool add) {
    const size_t bytes = cpu_bytes(dtype);
    double total = 0;
    for (int64_t start = 0; start < dim; start += CHUNK * VL) {
        const int64_t end = start + CHUNK * VL < dim ? start + CHUNK * VL : dim;
        vf acc[ACCUMULATORS];
        UNROLL for (int k = 0; k < ACCUMULATORS; k++) acc[k] = v_set1(0);
        int64_t i = start;
        for (; i + ACCUMULATORS * VL <= end; i += ACCUMULATORS * VL) UNROLL for (int k = 0; k < ACCUMULATORS; k++) {
                const size_t at = (size_t)(i + k * VL) * bytes;
                cpu_fetch(next + at / 2, VL * bytes / 2);
                vf v = v_load_as(x + at, dtype);
                if (add) {
                    v = v_round_as(v_add(v, v_load_as(residual + at, dtype)), dtype);
                    v_store_as(s + at, v, dtype);
                }
                acc[k] = v_fma(v, v, acc[k]);
            }
        for (; i < end; i += VL) {
            const int n = end - i < VL ? (int)(end - i) : VL;
            const size_t at = (size_t)i * bytes;
            vf v = v_load_as_n(x + at, n, dtype);
            if (add) {
                v = v_round_as(v_add(v, v_load_as_n(residual + at, n, dtype)), dtype);
                v_store_as_n(s + at, v, n, dtype);
            }
            acc[0] = v_fma(v, v, acc[0]);
        }
        total += (double)v_hsum(v_add(v_add(acc[0], acc[1]), v_add(acc[2], acc[3])));
    }
    return total;
}

/* out = s · rstd · (offset + weight); `step` 0: all weights are the first VL. */
INLINE void scale(const char *s, const char *next, float rstd, float offset, const char *weight, int step, char *out,
                  int64_t dim, clf_dtype dtype, clf_dtype weight_dtype, bool stream) {
    const size_t bytes = cpu_bytes(dtype), weight_bytes = (size_t)step * cpu_bytes(weight_dtype);
    const vf r = v_set1(rstd), o = v_set1(rstd * offset);
    int64_t i = 0;
    for (; i + VL <= dim; i += VL) {
        cpu_fetch(next + (size_t)(dim + i) * bytes / 2, VL * bytes / 2);
        const vf w = v_fma(v_load_as(weight + (size_t)i * weight_bytes, weight_dtype), r, o);
        const vf v = v_mul(v_load_as(s + (size_t)i * bytes, dtype), w);
        if (stream)
            v_stream_as(out + (size_t)i * bytes, v, dtype);
        else
            v_store_as(out + (size_t)i * bytes, v, dtype);
    }
    if (i < dim) {
        const int n = (int)(dim - i);
        const vf w = v_fma(v_load_as_n(weight + (size_t)i * weight_bytes, n, weight_dtype), r, o);
        v_store_as_n(out + (size_t)i * bytes, v_mul(v_load_as_n(s + (size_t)i * bytes, n, dtype), w), n, dtype);
    }
}

/* Row r, while row `following` is fetched. */
static void row(const clf_rms_norm_args *a, int64_t r, int64_t following, bool stream) {
    const clf_dtype dtype = a->x->dtype, weight_dtype = a->weight ? a->weight->dtype : CLF_F32;
    const int64_t dim = clf_last(a->x);
    const char *x = clf_row(a->x, r), *residual = a->residual ? clf_row(a->residual, r) : NULL;
    const char *s = x, *next = clf_row(a->x, following);
    char *out = clf_row(a->out, r), *sum = a->sum ? clf_row(a->sum, r) : out;
    double total;
    if (residual) {
        CPU_FOR_DTYPE(DTYPE, dtype, total = squares(x, residual, next, sum, dim, DTYPE, true));
        s = sum;
    } else {
        CPU_FOR_DTYPE(DTYPE, dtype, total = squares(x, NULL, next, NULL, dim, DTYPE, false));
        if (a->sum && sum != x) memcpy(sum, x, (size_t)dim * cpu_bytes(dtype));
    }
    const float rstd = (float)(1 / sqrt(total / (double)dim + (double)a->eps));
    if (a->rstd) *(float *)cpu_element(a->rstd, r) = rstd;

    float ones[VL];
    for (int i = 0; i < VL; i++) ones[i] = 1;
    const char *weight = a->weight ? clf_data(a->weight) : (const char *)ones;
    const int step = a->weight != NULL;
    if (weight_dtype == CLF_F32)
        CPU_FOR_DTYPE(
            DTYPE, dtype,
            CPU_FOR_BOOL(STREAM, stream,
                         scale(s, next, rstd, a->weight_offset, weight, step, out, dim, DTYPE, CLF_F32, STREAM)));
    else
        CPU_FOR_DTYPE(
            DTYPE, dtype,
            CPU_FOR_BOOL(STREAM, stream,
                         scale(s, next, rstd, a->weight_offset, weight, step, out, dim, DTYPE, DTYPE, STREAM)));
}

clf_status CPU_FN(rms_norm)(clf_context *ctx, const clf_rms_norm_args *a) {
    const int64_t n = clf_rows(a->x), tensors = 2 + (a->residual != NULL) + (a->sum != NULL);
    const int threads = cpu_threads(ctx, n, tensors * n * clf_last(a->x) * (int64_t)cpu_bytes(a->x->dtype));
    const bool stream = cpu_streams(a->out, a->x, a->residual) && (a->sum || !a->residual);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        int64_t begin, end;
        cpu_share(n, omp_get_thread_num(), omp_get_num_threads(), &begin, &end);
        for (int64_t r = begin; r < end; r++) row(a, r, r + 1 < end ? r + 1 : r, stream);
        v_stream_end();
    }
    return CLF_OK;
}
