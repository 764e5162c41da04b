/* ternarize.c: out = γ · clip(round(x / γ), −1, 1), γ = mean|x| rounded to f16. First the sum, each thread's share in
 * pieces: floats within a piece, doubles across pieces, the threads' sums in their order. Then the codes: a weight is
 * ±γ where its magnitude is above γ/2, which a half's half is exactly. */
#include "cpu.h"

enum { PIECE = 4096, BLOCK = 256 /* weights of a TQ2_0 block: 64 bytes of codes, then γ */ };

/* A thread's sum, in a cache line of its own. */
typedef struct share {
    double sum;
    char rest[56];
} share;

INLINE double magnitudes(const float *x, int64_t n) {
    vf sum[2] = {v_set1(0), v_set1(0)};
    int64_t i = 0;
    for (; i + 2 * VL <= n; i += 2 * VL)
        UNROLL for (int k = 0; k < 2; k++) sum[k] = v_add(sum[k], v_abs(v_load(x + i + k * VL)));
    for (; i < n; i += VL) sum[0] = v_add(sum[0], v_abs(v_load_n(x + i, n - i < VL ? (int)(n - i) : VL)));
    return (double)v_hsum(v_add(sum[0], sum[1]));
}

INLINE void ternary_floats(const float *x, char *out, int64_t n, float scale, clf_dtype dtype) {
    const vf zero = v_set1(0), one = v_set1(1), turn = v_set1(scale / 2), below = v_set1(-scale / 2);
    for (int64_t i = 0; i < n; i += VL) {
        const int m = n - i < VL ? (int)(n - i) : VL;
        const vf v = v_load_n(x + i, m), code = v_sub(v_ge_or(turn, v, zero, one), v_ge_or(v, below, zero, one));
        v_store_as_n(out + (size_t)i * cpu_bytes(dtype), v_mul(code, v_set1(scale)), m, dtype);
    }
}

/* Bits 2n of byte m of half h: the code of weight 128h + 32n + m, plus 1. */
static void ternary_block(const float *x, uint8_t *out, float scale) {
    const float turn = scale / 2;
    const uint16_t half = clf_f32_to_f16(scale);
    for (int h = 0; h < 2; h++)
        for (int m = 0; m < 32; m++) {
            unsigned codes = 0;
            for (int n = 0; n < 4; n++) {
                const float v = x[128 * h + 32 * n + m];
                codes |= (unsigned)(1 + (v > turn) - (v < -turn)) << 2 * n;
            }
            out[32 * h + m] = (uint8_t)codes;
        }
    memcpy(out + 64, &half, sizeof half);
}

static void ternary(const clf_ternarize_args *a, float scale, int64_t at, int64_t n) {
    const float *x = (const float *)clf_data(a->x) + at;
    char *out = (char *)clf_data(a->out) + clf_dtype_bytes(a->out->dtype, at);
    if (a->out->dtype != CLF_TQ2_0)
        CPU_FOR_DTYPE(DTYPE, a->out->dtype, ternary_floats(x, out, n, scale, DTYPE));
    else
        for (int64_t i = 0; i < n; i += BLOCK)
            ternary_block(x + i, (uint8_t *)out + clf_dtype_bytes(CLF_TQ2_0, i), scale);
}

clf_status CPU_FN(ternarize)(clf_context *ctx, const clf_ternarize_args *a) {
    const int64_t n = clf_elements(a->x), pieces = (n + PIECE - 1) / PIECE;
    const float *x = clf_data(a->x);
    const int threads = cpu_threads(ctx, pieces, 8 * n);
    if (!n) return CLF_OK;
    clf_buffer *buffer;
    CLF_TRY(clf_buffer_create(&buffer, ctx, (size_t)threads * sizeof(share), CLF_TAG_SCRATCH));
    share *shares = buffer->memory.host;
    for (int t = 0; t < threads; t++) shares[t].sum = 0;
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        int64_t begin, end;
        const int t = omp_get_thread_num();
        double sum = 0;
        cpu_share(pieces, t, omp_get_num_threads(), &begin, &end);
        for (int64_t p = begin; p < end; p++)
            sum += magnitudes(x + p * PIECE, n - p * PIECE < PIECE ? n - p * PIECE : PIECE);
        shares[t].sum = sum;
#pragma omp barrier
        double total = 0;
        for (int s = 0; s < omp_get_num_threads(); s++) total += shares[s].sum;
        const float scale = clf_f16_to_f32(clf_f32_to_f16((float)(total / (double)n)));
        for (int64_t p = begin; p < end; p++)
            ternary(a, scale, p * PIECE, n - p * PIECE < PIECE ? n - p * PIECE : PIECE);
    }
    clf_buffer_release(buffer);
    return CLF_OK;
}
