/* sum_squares.c: out = Σ x². Each thread adds the pieces of its share, floats within a chunk and doubles across chunks
 * and pieces, so that the error doesn't grow with the number of elements; the threads' sums are added in their order.
 */
#include "cpu.h"

enum { ACCUMULATORS = 4, CHUNK = 64 };

/* A thread's sum, in a cache line of its own. */
typedef struct share {
    double sum;
    char rest[56];
} share;

INLINE double squares(const char *x, int64_t n, clf_dtype dtype) {
    const size_t bytes = cpu_bytes(dtype);
    double total = 0;
    for (int64_t start = 0; start < n; start += CHUNK * VL) {
        const int64_t end = start + CHUNK * VL < n ? start + CHUNK * VL : n;
        vf acc[ACCUMULATORS];
        UNROLL for (int k = 0; k < ACCUMULATORS; k++) acc[k] = v_set1(0);
        int64_t i = start;
        for (; i + ACCUMULATORS * VL <= end; i += ACCUMULATORS * VL) UNROLL for (int k = 0; k < ACCUMULATORS; k++) {
                const vf v = v_load_as(x + (size_t)(i + k * VL) * bytes, dtype);
                acc[k] = v_fma(v, v, acc[k]);
            }
        for (; i < end; i += VL) {
            const vf v = v_load_as_n(x + (size_t)i * bytes, end - i < VL ? (int)(end - i) : VL, dtype);
            acc[0] = v_fma(v, v, acc[0]);
        }
        total += (double)v_hsum(v_add(v_add(acc[0], acc[1]), v_add(acc[2], acc[3])));
    }
    return total;
}

clf_status CPU_FN(sum_squares)(clf_context *ctx, const clf_sum_squares_args *a) {
    const clf_tensor *x = a->x;
    const cpu_pieces work = cpu_cut(x, clf_is_contiguous(x));
    const size_t bytes = cpu_bytes(x->dtype);
    const int threads = cpu_threads(ctx, work.count, clf_elements(x) * (int64_t)bytes);
    clf_buffer *buffer;
    CLF_TRY(clf_buffer_create(&buffer, ctx, (size_t)threads * sizeof(share), CLF_TAG_SCRATCH));
    share *shares = buffer->memory.host;
    for (int t = 0; t < threads; t++) shares[t].sum = 0;
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        const int t = omp_get_thread_num();
        int64_t begin, end, row, at;
        double sum = 0;
        cpu_share(work.count, t, omp_get_num_threads(), &begin, &end);
        for (int64_t p = begin; p < end; p++) {
            const int64_t n = cpu_piece(&work, p, &row, &at);
            const char *from = (const char *)clf_row(x, row) + (size_t)at * bytes;
            CPU_FOR_DTYPE(DTYPE, x->dtype, sum += squares(from, n, DTYPE));
        }
        shares[t].sum = sum;
    }
    double total = 0;
    for (int t = 0; t < threads; t++) total += shares[t].sum;
    *(float *)clf_data(a->out) = (float)total;
    clf_buffer_release(buffer);
    return CLF_OK;
}
