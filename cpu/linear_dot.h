/* linear_dot.h: few rows of x, so that reading the weights decides: dot products of weights' rows with one row of x.
 *
 * A thread's rows are read as DOT_STREAMS far-apart streams, a row of each at a time, PREFETCH bytes ahead: one stream
 * can't fill a core's bandwidth. Float sums are kept per vector lane and folded every FOLD vectors. */
#ifndef CLF_CPU_LINEAR_DOT_H
#define CLF_CPU_LINEAR_DOT_H

#include "linear.h"
#if defined(__AVX512VNNI__) && defined(__AVX512VBMI__)
#include "linear_dot_vnni.h"
#elif defined(__AVX2__)
#include "linear_dot_avx2.h"
#endif

enum { FOLD = 64 };

/* One row of x: floats, and int8 where a product has codes. */
typedef struct dot_x {
    float *f; /* [k], zeros up to a multiple of VL */
    quantized_row q;
} dot_x;

/* out[s] = w[s] · x, w of float dtype. */
INLINE void dot_float(const char *const *w, clf_dtype dtype, const float *x, int64_t k, float *out, const int S) {
    const size_t size = dtype == CLF_F32 ? 4 : 2;
    vf total[DOT_STREAMS];
    UNROLL
    for (int s = 0; s < S; s++) total[s] = v_set1(0);
    for (int64_t k0 = 0; k0 < k; k0 += 2 * VL * FOLD) {
        const int64_t end = k - k0 < 2 * VL * FOLD ? k : k0 + 2 * VL * FOLD;
        vf even[DOT_STREAMS], odd[DOT_STREAMS];
        UNROLL
        for (int s = 0; s < S; s++) even[s] = odd[s] = v_set1(0);
        int64_t i = k0;
        for (; i + 2 * VL <= end; i += 2 * VL) {
            const vf x0 = v_load(x + i), x1 = v_load(x + i + VL);
            UNROLL
            for (int s = 0; s < S; s++) {
                const char *p = w[s] + (size_t)i * size;
                __builtin_prefetch(p + PREFETCH);
                even[s] = v_fma(v_load_as(p, dtype), x0, even[s]);
                odd[s] = v_fma(v_load_as(p + VL * size, dtype), x1, odd[s]);
            }
        }
        for (; i < end; i += VL) {
            const int n = end - i < VL ? (int)(end - i) : VL;
            UNROLL
            for (int s = 0; s < S; s++)
                even[s] = v_fma(v_load_as_n(w[s] + (size_t)i * size, n, dtype), v_load(x + i), even[s]);
        }
        UNROLL
        for (int s = 0; s < S; s++) total[s] = v_add(total[s], v_add(even[s], odd[s]));
    }
    UNROLL
    for (int s = 0; s < S; s++) out[s] = v_hsum(total[s]);
}

/* Any block dtype against float x: decoded chunk by chunk. */
INLINE float dot_decoded(const product *p, int64_t row, const float *x) {
    float w[CHUNK], total = 0;
    const char *const rows[1] = {(const char *)w};
    for (int64_t k = 0; k < p->k; k += CHUNK) {
        const int count = p->k - k < CHUNK ? (int)(p->k - k) : CHUNK;
        float part;
        product_decode(p, row, k, count, w);
        dot_float(rows, CLF_F32, x + k, count, &part, 1);
        total += part;
    }
    return total;
}

#if !defined(__AVX2__)
/* Codes against int8 x, in plain C. */
INLINE float dot_codes(const product *p, int64_t row, const quantized_row *x) {
    const code_format f = code_format_of(p->dtype);
    uint8_t code[CHUNK];
    float scale[CHUNK / 16], min[CHUNK / 32], total = 0;
    for (int64_t k = 0; k < p->k; k += CHUNK) {
        const int count = p->k - k < CHUNK ? (int)(p->k - k) : CHUNK;
        code_row(p->dtype, product_row(p, row) + clf_dtype_bytes(p->dtype, k), count, code, scale, min);
        float part = 0;
        for (int b = 0; b < count / 32; b++) {
            const int8_t *q = x->q + k + 32 * b;
            const int16_t *sum = x->sum + k / 16 + 2 * b;
            float products = 0;
            for (int g = 0; g < 32 / f.group; g++) {
                int32_t dot = -f.offset * (f.group == 32 ? sum[0] + sum[1] : sum[g]);
                const uint8_t *c = code + 32 * b + f.group * g;
                if (p->dtype == CLF_Q8_0 && !f.offset)
                    for (int i = 0; i < f.group; i++) dot += (int8_t)c[i] * q[f.group * g + i];
                else
                    for (int i = 0; i < f.group; i++) dot += c[i] * q[f.group * g + i];
                products += scale[(32 / f.group) * b + g] * (float)dot;
            }
            if (f.min) products -= min[b] * (float)(sum[0] + sum[1]);
            part += products * x->d[k / 32 + b];
        }
        total += part;
    }
    return total;
}
#else
/* Ternary rows against int8 x, a step of 32 values at a time. */
INLINE float dot_ternary_rows(const product *p, int64_t row, const quantized_row *x) {
    uint8_t code[CHUNK];
    float scale[CHUNK / 16];
    __m256 sum = _mm256_setzero_ps();
    for (int64_t k = 0; k < p->k; k += CHUNK) {
        const int count = p->k - k < CHUNK ? (int)(p->k - k) : CHUNK;
        const char *from = product_row(p, row) + clf_dtype_bytes(p->dtype, k);
        __builtin_prefetch(from + PREFETCH);
        code_row(p->dtype, from, count, code, scale, NULL);
        for (int b = 0; b < count / 32; b++) {
            const __m256i codes = _mm256_loadu_si256((const __m256i *)(code + 32 * b));
            const __m256i q = _mm256_loadu_si256((const __m256i *)(x->q + k + 32 * b));
            const __m256i dot = _mm256_madd_epi16(_mm256_maddubs_epi16(codes, q), _mm256_set1_epi16(1));
            const int16_t *s = x->sum + k / 16 + 2 * b;
            const __m256i bias = _mm256_zextsi128_si256(_mm_cvtsi32_si128(-s[0] - s[1]));
            const __m256 d = _mm256_set1_ps(scale[b] * x->d[k / 32 + b]);
            sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(_mm256_add_epi32(dot, bias)), d, sum);
        }
    }
    float lanes[8], total = 0;
    _mm256_storeu_ps(lanes, sum);
    for (int i = 0; i < 8; i++) total += lanes[i];
    return total;
}
#endif

INLINE void dot_rows(const product *p, const int64_t *row, const dot_x *x, float *out, const int S) {
    const char *w[DOT_STREAMS];
    UNROLL
    for (int s = 0; s < S; s++) w[s] = product_row(p, row[s]);
    if (p->dtype == CLF_F32)
        dot_float(w, CLF_F32, x->f, p->k, out, S);
    else if (p->dtype == CLF_F16)
        dot_float(w, CLF_F16, x->f, p->k, out, S);
    else if (p->dtype == CLF_BF16)
        dot_float(w, CLF_BF16, x->f, p->k, out, S);
    else if (!p->codes)
        for (int s = 0; s < S; s++) out[s] = dot_decoded(p, row[s], x->f);
#if defined(__AVX2__)
    else if (code_is_ternary(p->dtype))
        for (int s = 0; s < S; s++) out[s] = dot_ternary_rows(p, row[s], &x->q);
    else if (p->dtype == CLF_Q8_0)
        dot_q8_0(w, &x->q, p->k, out, S);
    else if (p->dtype == CLF_Q4_0)
        dot_q4_0(w, &x->q, p->k, out, S);
    else if (p->dtype == CLF_Q4_K)
        dot_q4_k(w, &x->q, p->k, out, S);
    else if (p->dtype == CLF_Q5_K)
        dot_q5_k(w, &x->q, p->k, out, S);
    else
        dot_q6_k(w, &x->q, p->k, out, S);
#else
    else
        for (int s = 0; s < S; s++) out[s] = dot_codes(p, row[s], &x->q);
#endif
}

/* y[m][r] = w[r] · x[m] for the weights' rows [begin, end); y rows are `stride` apart. */
static void dot_product(const product *p, const dot_x *x, int64_t rows, int64_t begin, int64_t end, float *y,
                        int64_t stride) {
    const int64_t apart = (end - begin) / DOT_STREAMS;
    for (int64_t r = begin; r < begin + apart; r++) {
        const int64_t row[DOT_STREAMS] = {r, r + apart, r + 2 * apart, r + 3 * apart};
        for (int64_t m = 0; m < rows; m++) {
            float out[DOT_STREAMS];
            dot_rows(p, row, x + m, out, DOT_STREAMS);
            for (int s = 0; s < DOT_STREAMS; s++) y[m * stride + row[s]] = out[s];
        }
    }
    for (int64_t r = begin + DOT_STREAMS * apart; r < end; r++)
        for (int64_t m = 0; m < rows; m++) dot_rows(p, &r, x + m, y + m * stride + r, 1);
}

#endif
