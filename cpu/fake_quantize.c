/* fake_quantize.c: rows rounded to int8 and back, two passes over a row:
 *
 *     d = amax / 127,   out = d · round(x · (127 / amax)) to nearest even        (float32 throughout)
 *
 * A NaN or an infinity makes d NaN. A number below 2^22 is rounded by adding and subtracting 1.5 · 2^23. */
#include "cpu.h"

INLINE void round_row(const char *x, char *out, int64_t dim, clf_dtype dtype) {
    const size_t bytes = cpu_bytes(dtype);
    vf most = v_set1(0), poison = v_set1(0);
    for (int64_t i = 0; i < dim; i += VL) {
        const vf v = v_load_as_n(x + (size_t)i * bytes, dim - i < VL ? (int)(dim - i) : VL, dtype);
        most = v_max(v_abs(v), most);
        poison = v_fma(v, v_set1(0), poison);
    }
    const float amax = v_hmax(most);
    const bool none = amax < 0x1p-100f;
    const vf d = v_set1((none ? 0 : amax / 127) + v_hsum(poison)), scale = v_set1(none ? 0 : 127 / amax);
    const vf magic = v_set1(0x1.8p23f);
    for (int64_t i = 0; i < dim; i += VL) {
        const int n = dim - i < VL ? (int)(dim - i) : VL;
        const vf v = v_load_as_n(x + (size_t)i * bytes, n, dtype);
        const vf level = v_sub(v_add(v_mul(v, scale), magic), magic);
        v_store_as_n(out + (size_t)i * bytes, v_mul(level, d), n, dtype);
    }
}

clf_status CPU_FN(fake_quantize)(clf_context *ctx, const clf_fake_quantize_args *a) {
    const int64_t rows = clf_rows(a->x), dim = clf_last(a->x);
    const int threads = cpu_threads(ctx, rows, 2 * rows * dim * (int64_t)cpu_bytes(a->x->dtype));
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        int64_t begin, end;
        cpu_share(rows, omp_get_thread_num(), omp_get_num_threads(), &begin, &end);
        for (int64_t r = begin; r < end; r++)
            CPU_FOR_DTYPE(DTYPE, a->x->dtype, round_row(clf_row(a->x, r), clf_row(a->out, r), dim, DTYPE));
    }
    return CLF_OK;
}
