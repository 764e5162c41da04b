/* add.c: out = a + b; b has a's shape or is one row. Pieces of rows are shared among threads. */
#include "cpu.h"

INLINE void piece(const char *a, const char *b, char *out, int64_t n, clf_dtype dtype, bool stream) {
    const size_t bytes = cpu_bytes(dtype);
    int64_t i = 0;
    for (; i + VL <= n; i += VL) {
        const size_t at = (size_t)i * bytes;
        const vf v = v_add(v_load_as(a + at, dtype), v_load_as(b + at, dtype));
        if (stream)
            v_stream_as(out + at, v, dtype);
        else
            v_store_as(out + at, v, dtype);
    }
    if (i < n) {
        const size_t at = (size_t)i * bytes;
        const int rest = (int)(n - i);
        v_store_as_n(out + at, v_add(v_load_as_n(a + at, rest, dtype), v_load_as_n(b + at, rest, dtype)), rest, dtype);
    }
}

clf_status CPU_FN(add)(clf_context *ctx, const clf_add_args *args) {
    const clf_tensor *a = args->a, *b = args->b, *out = args->out;
    const clf_dtype dtype = a->dtype;
    const bool same = b->ndim == a->ndim;
    const cpu_pieces work =
        cpu_cut(out, same && clf_is_contiguous(a) && clf_is_contiguous(b) && clf_is_contiguous(out));
    const size_t bytes = cpu_bytes(dtype);
    const int threads = cpu_threads(ctx, work.count, 3 * clf_elements(out) * (int64_t)bytes);
    const bool stream = cpu_streams(out, a, b);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        int64_t begin, end, row, at;
        cpu_share(work.count, omp_get_thread_num(), omp_get_num_threads(), &begin, &end);
        for (int64_t p = begin; p < end; p++) {
            const int64_t n = cpu_piece(&work, p, &row, &at);
            const size_t offset = (size_t)at * bytes;
            const char *x = (const char *)clf_row(a, row) + offset,
                       *y = (const char *)clf_row(b, same ? row : 0) + offset;
            char *z = (char *)clf_row(out, row) + offset;
            CPU_FOR_DTYPE(DTYPE, dtype, CPU_FOR_BOOL(STREAM, stream, piece(x, y, z, n, DTYPE, STREAM)));
        }
        v_stream_end();
    }
    return CLF_OK;
}
