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
#if defined(__AVX2__)
#include "linear_dot_nibbles.h"
#include "linear_dot_q4_0.h"
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

#if defined(__AVX2__)
/* Bytes in 32-bit lanes, and clf_nf4_values of the lanes' low four bits. */
INLINE vi nf4_bytes(const char *p) {
#if defined(__AVX512F__)
    return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p));
#else
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p));
#endif
}
INLINE vf nf4_values(vi i) {
#if defined(__AVX512F__)
    return _mm512_permutexvar_ps(i, _mm512_loadu_ps(clf_nf4_values));
#else
    const __m256 low = _mm256_permutevar8x32_ps(_mm256_loadu_ps(clf_nf4_values), i);
    const __m256 high = _mm256_permutevar8x32_ps(_mm256_loadu_ps(clf_nf4_values + 8), i);
    return _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(i, 28)));
#endif
}

/* NF4's values are no integers' multiples: they meet x in float. */
INLINE void dot_nf4(const char *const *w, const float *x, int64_t k, float *out, const int S) {
    vf f[DOT_STREAMS];
    UNROLL
    for (int s = 0; s < S; s++) f[s] = v_set1(0);
    for (int64_t i = 0; i < k; i += 64) {
        UNROLL
        for (int s = 0; s < S; s++) {
            const char *p = w[s] + i / 64 * 36;
            __builtin_prefetch(p + PREFETCH);
            vf part = v_set1(0);
            UNROLL
            for (int h = 0; h < 2; h++) UNROLL
            for (int j = 0; j < 16; j += VL) {
                const vi bytes = nf4_bytes(p + 4 + 16 * h + j);
                const float *at = x + i + 32 * h + j;
                part = v_fma(nf4_values(bytes), v_load(at), part);
                part = v_fma(nf4_values(i_right(bytes, 4)), v_load(at + 16), part);
            }
            float d;
            memcpy(&d, p, sizeof d);
            f[s] = v_fma(part, v_set1(d), f[s]);
        }
    }
    UNROLL
    for (int s = 0; s < S; s++) out[s] = v_hsum(f[s]);
}
#endif

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
                if (f.bits == 8 && !f.offset)
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
/* Codes of any format against int8 x, 32 values a step: lanes 0 – 3 belong to the first 16, 4 – 7 to the others. */
INLINE float dot_codes_as(const product *p, int64_t row, const quantized_row *x, const clf_dtype dtype) {
    const code_format f = code_format_of(dtype);
    const int64_t chunk_bytes = (int64_t)clf_dtype_bytes(dtype, CHUNK);
    uint8_t code[CHUNK];
    float scale[CHUNK / 16], min[CHUNK / 32], mins = 0;
    __m256 sum = _mm256_setzero_ps();
    for (int64_t k = 0; k < p->k; k += CHUNK) {
        const int count = p->k - k < CHUNK ? (int)(p->k - k) : CHUNK;
        const char *from = product_row(p, row) + clf_dtype_bytes(dtype, k);
        for (int64_t at = 0; at < chunk_bytes; at += 64) __builtin_prefetch(from + PREFETCH + at);
        code_row(dtype, from, count, code, scale, min);
        for (int b = 0; b < count / 32; b++) {
            const __m256i codes = _mm256_loadu_si256((const __m256i *)(code + 32 * b));
            const __m256i q = _mm256_loadu_si256((const __m256i *)(x->q + k + 32 * b));
            const int16_t *s = x->sum + k / 16 + 2 * b;
            const int32_t first = s[0], second = s[1], all = first + second;
            __m256i dot;
            __m256 d;
            if (f.group == 32) {
                dot = _mm256_zextsi128_si256(_mm_cvtsi32_si128(-f.offset * all));
                d = _mm256_set1_ps(scale[b]);
            } else {
                dot = _mm256_inserti128_si256(_mm256_zextsi128_si256(_mm_cvtsi32_si128(-f.offset * first)),
                                              _mm_cvtsi32_si128(-f.offset * second), 1);
                d = _mm256_set_m128(_mm_set1_ps(scale[2 * b + 1]), _mm_set1_ps(scale[2 * b]));
            }
            dot = dot_32(dot, codes, q, f.bits == 8);
            const float xd = x->d[k / 32 + b];
            sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), _mm256_mul_ps(d, _mm256_set1_ps(xd)), sum);
            if (f.min) mins += min[b] * (xd * (float)all);
        }
    }
    return sum8(sum) - mins;
}

static float dot_codes(const product *p, int64_t row, const quantized_row *x) {
    switch (p->dtype) {
    case CLF_Q5_1: return dot_codes_as(p, row, x, CLF_Q5_1);
    case CLF_Q3_K: return dot_codes_as(p, row, x, CLF_Q3_K);
    case CLF_TQ1_0: return dot_codes_as(p, row, x, CLF_TQ1_0);
    case CLF_TQ2_0: return dot_codes_as(p, row, x, CLF_TQ2_0);
    default: return dot_codes_as(p, row, x, CLF_Q2_0);
    }
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
#if defined(__AVX2__)
    else if (p->dtype == CLF_NF4)
        dot_nf4(w, x->f, p->k, out, S);
#endif
    else if (!p->codes)
        for (int s = 0; s < S; s++) out[s] = dot_decoded(p, row[s], x->f);
#if defined(__AVX2__)
    else if (!code_is_tuned(p->dtype))
        for (int s = 0; s < S; s++) out[s] = dot_codes(p, row[s], &x->q);
    else if (p->dtype == CLF_Q4_1)
        dot_nibbles(w, &x->q, p->k, out, S, CLF_Q4_1);
    else if (p->dtype == CLF_IQ4_NL)
        dot_nibbles(w, &x->q, p->k, out, S, CLF_IQ4_NL);
    else if (p->dtype == CLF_IQ4_XS)
        dot_iq4_xs(w, &x->q, p->k, out, S);
    else if (p->dtype == CLF_MXFP4)
        dot_nibbles(w, &x->q, p->k, out, S, CLF_MXFP4);
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
