/* softcap.c: out = cap · tanh(x / cap), and backward d_x = d_out · (1 − (out / cap)²). Pieces of rows are shared among
 * threads. */
#include "cpu.h"

INLINE void piece(const char *x, char *out, int64_t n, float cap, clf_dtype dtype) {
    const size_t bytes = cpu_bytes(dtype);
    const vf c = v_set1(cap);
    int64_t i = 0;
    for (; i + VL <= n; i += VL) {
        const size_t at = (size_t)i * bytes;
        v_store_as(out + at, v_mul(c, v_tanh(v_div(v_load_as(x + at, dtype), c))), dtype);
    }
    if (i < n) {
        const size_t at = (size_t)i * bytes;
        const int rest = (int)(n - i);
        v_store_as_n(out + at, v_mul(c, v_tanh(v_div(v_load_as_n(x + at, rest, dtype), c))), rest, dtype);
    }
}

clf_status CPU_FN(softcap)(clf_context *ctx, const clf_softcap_args *a) {
    const clf_tensor *x = a->x, *out = a->out;
    const cpu_pieces work = cpu_cut(out, clf_is_contiguous(x) && clf_is_contiguous(out));
    const size_t bytes = cpu_bytes(x->dtype);
    const int threads = cpu_threads(ctx, work.count, 2 * clf_elements(out) * (int64_t)bytes);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        int64_t begin, end, row, at;
        cpu_share(work.count, omp_get_thread_num(), omp_get_num_threads(), &begin, &end);
        for (int64_t p = begin; p < end; p++) {
            const int64_t n = cpu_piece(&work, p, &row, &at);
            const size_t offset = (size_t)at * bytes;
            const char *from = (const char *)clf_row(x, row) + offset;
            char *to = (char *)clf_row(out, row) + offset;
            CPU_FOR_DTYPE(DTYPE, x->dtype, piece(from, to, n, a->cap, DTYPE));
        }
    }
    return CLF_OK;
}

/* (cap − |out|) / cap is exact but for the division, however near they are. */
INLINE vf slope(vf out, vf cap) {
    const vf s = v_abs(out);
    return v_mul(v_div(v_sub(cap, s), cap), v_add(v_set1(1), v_div(s, cap)));
}

INLINE void piece_backward(const char *out, const char *d_out, char *d_x, int64_t n, float cap, clf_dtype dtype) {
    const size_t bytes = cpu_bytes(dtype);
    const vf c = v_set1(cap);
    int64_t i = 0;
    for (; i + VL <= n; i += VL) {
        const size_t at = (size_t)i * bytes;
        v_store_as(d_x + at, v_mul(v_load_as(d_out + at, dtype), slope(v_load_as(out + at, dtype), c)), dtype);
    }
    if (i < n) {
        const size_t at = (size_t)i * bytes;
        const int rest = (int)(n - i);
        const vf d = v_load_as_n(d_out + at, rest, dtype);
        v_store_as_n(d_x + at, v_mul(d, slope(v_load_as_n(out + at, rest, dtype), c)), rest, dtype);
    }
}

clf_status CPU_FN(softcap_backward)(clf_context *ctx, const clf_softcap_backward_args *a) {
    const clf_tensor *out = a->out, *d_out = a->d_out, *d_x = a->d_x;
    const cpu_pieces work = cpu_cut(d_x, clf_is_contiguous(out) && clf_is_contiguous(d_out) && clf_is_contiguous(d_x));
    const size_t bytes = cpu_bytes(out->dtype);
    const int threads = cpu_threads(ctx, work.count, 3 * clf_elements(d_x) * (int64_t)bytes);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        int64_t begin, end, row, at;
        cpu_share(work.count, omp_get_thread_num(), omp_get_num_threads(), &begin, &end);
        for (int64_t p = begin; p < end; p++) {
            const int64_t n = cpu_piece(&work, p, &row, &at);
            const size_t offset = (size_t)at * bytes;
            const char *capped = (const char *)clf_row(out, row) + offset;
            const char *from = (const char *)clf_row(d_out, row) + offset;
            char *to = (char *)clf_row(d_x, row) + offset;
            CPU_FOR_DTYPE(DTYPE, out->dtype, piece_backward(capped, from, to, n, a->cap, DTYPE));
        }
    }
    return CLF_OK;
}
