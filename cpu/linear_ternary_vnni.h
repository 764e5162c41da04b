/* linear_ternary_vnni.h: a panel of T2 or T1 by one row of x; AVX-512 VNNI and VBMI. A word is a vector: 16 rows, four
 * values each, which meet four of x in every lane.
 *
 * Nothing is shifted: a plane is masked where it lies, 4^p times too big, and has a sum of its own, which is shifted
 * back at a block's end; that is exact. Base-3 bytes: v less 81 or 162 where it is that large is an index below 81 to a
 * table of the four low digits as 2-bit codes; what was taken off is 81 times the fifth, whose sum, a multiple of 81,
 * is divided by multiplication with 81's inverse modulo 2^32. No sum of a block exceeds 256 · 192 · 127 < 2^23. */
#ifndef CLF_CPU_LINEAR_TERNARY_VNNI_H
#define CLF_CPU_LINEAR_TERNARY_VNNI_H

#include "linear_ternary_x.h"

enum { T_AHEAD = 4096 /* bytes to prefetch ahead: one stream fills a core's bandwidth with it */ };

INLINE __m512i four_of_x(const int8_t *q) {
    int32_t four;
    memcpy(&four, q, sizeof four);
    return _mm512_set1_epi32(four);
}

INLINE __m512i plane_mask(int p) {
    return _mm512_set1_epi8((char)(3 << 2 * p));
}

/* sum[p] += plane p of `codes` · x */
INLINE void dot_planes(__m512i *sum, __m512i codes, const int8_t *q) {
    UNROLL
    for (int p = 0; p < 4; p++)
        sum[p] = _mm512_dpbusd_epi32(sum[p], _mm512_and_si512(codes, plane_mask(p)), four_of_x(q + 4 * p));
}

INLINE __m512i sum_of_planes(const __m512i *sum) {
    return _mm512_add_epi32(_mm512_add_epi32(sum[0], _mm512_srai_epi32(sum[1], 2)),
                            _mm512_add_epi32(_mm512_srai_epi32(sum[2], 4), _mm512_srai_epi32(sum[3], 6)));
}

/* f + scales · d · (sum + bias) */
INLINE __m512 add_block(__m512 f, __m512i sum, const uint8_t *scales, float d, int32_t bias) {
    const __m512 scale = _mm512_mul_ps(v_load_as(scales, CLF_F16), _mm512_set1_ps(d));
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_add_epi32(sum, _mm512_set1_epi32(bias))), scale, f);
}

static void panel_vector_t2(const char *panel, int64_t k, const ternary_x *x, float *y) {
    const uint8_t *w = ternary_words(CLF_T2, panel, k, 0);
    __m512 f = _mm512_setzero_ps();
    for (int64_t b = 0; b < k / T_BLOCK; b++) {
        const int8_t *q = x->q[b * x->rows];
        __m512i even[4], odd[4];
        UNROLL
        for (int p = 0; p < 4; p++) even[p] = odd[p] = _mm512_setzero_si512();
        for (int j = 0; j < T2_WORDS; j += 2, w += 2 * T_WORD) {
            __builtin_prefetch(w + T_AHEAD);
            __builtin_prefetch(w + T_AHEAD + T_WORD);
            dot_planes(even, _mm512_loadu_si512(w), q + 16 * j);
            dot_planes(odd, _mm512_loadu_si512(w + T_WORD), q + 16 * j + 16);
        }
        UNROLL
        for (int p = 0; p < 4; p++) even[p] = _mm512_add_epi32(even[p], odd[p]);
        f = add_block(f, sum_of_planes(even), ternary_scales(panel, b), x->d[b * x->rows], x->bias[b * x->rows]);
    }
    _mm512_storeu_ps(y, f);
}

/* Entry v: v's four base-3 digits as 2-bit codes. */
#define THREE(v, step) v, v + step, v + 2 * step
#define NINE(v)        THREE(v, 1), THREE(v + 4, 1), THREE(v + 8, 1)
#define ALL(v)         NINE(v), NINE(v + 16), NINE(v + 32)
static const uint8_t digit_codes[128] = {ALL(0), ALL(64), ALL(128)};
#undef THREE
#undef NINE
#undef ALL

typedef struct digit_table {
    __m512i low, high;
} digit_table;

INLINE digit_table load_digit_table(void) {
    return (digit_table){_mm512_loadu_si512(digit_codes), _mm512_loadu_si512(digit_codes + 64)};
}

/* The four low digits of a word's bytes as 2-bit codes; *rest is 81 times the fifth. */
INLINE __m512i low_digits(digit_table table, __m512i v, __m512i *rest) {
    __m512i u = _mm512_min_epu8(v, _mm512_sub_epi8(v, _mm512_set1_epi8(81)));
    u = _mm512_min_epu8(u, _mm512_sub_epi8(v, _mm512_set1_epi8((char)162)));
    *rest = _mm512_sub_epi8(v, u);
    return _mm512_permutex2var_epi8(table.low, u, table.high);
}

static void panel_vector_t1(const char *panel, int64_t k, const ternary_x *x, float *y) {
    enum { INVERSE_81 = 2014922929 };
    const digit_table table = load_digit_table();
    const uint8_t *w = ternary_words(CLF_T1, panel, k, 0);
    __m512 f = _mm512_setzero_ps();
    for (int64_t b = 0; b < k / T_BLOCK; b++) {
        const int8_t *q = x->q[b * x->rows];
        __m512i sum[4], fifth = _mm512_setzero_si512(), rest;
        UNROLL
        for (int p = 0; p < 4; p++) sum[p] = _mm512_setzero_si512();
        for (int j = 0; j < T1_WORDS - 1; j++, w += T_WORD) {
            __builtin_prefetch(w + T_AHEAD);
            dot_planes(sum, low_digits(table, _mm512_loadu_si512(w), &rest), q + 20 * j);
            fifth = _mm512_dpbusd_epi32(fifth, rest, four_of_x(q + 20 * j + 16));
        }
        __builtin_prefetch(w + T_AHEAD);
        dot_planes(sum, _mm512_permutex2var_epi8(table.low, _mm512_loadu_si512(w), table.high), q + 240);
        w += T_WORD;
        const __m512i all =
            _mm512_add_epi32(sum_of_planes(sum), _mm512_mullo_epi32(fifth, _mm512_set1_epi32(INVERSE_81)));
        f = add_block(f, all, ternary_scales(panel, b), x->d[b * x->rows], x->bias[b * x->rows]);
    }
    _mm512_storeu_ps(y, f);
}

/* ternary_expand() of T1. */
INLINE void expand_t1(const uint8_t *w, ternary_codes out) {
    const digit_table table = load_digit_table();
    for (int j = 0; j < T1_WORDS; j++, w += T_WORD) {
        __m512i rest;
        const __m512i codes = low_digits(table, _mm512_loadu_si512(w), &rest), three = _mm512_set1_epi8(3);
        for (int p = 0; p < 4; p++)
            _mm512_storeu_si512(out[5 * j + p], _mm512_and_si512(_mm512_srli_epi16(codes, 2 * p), three));
        if (j < T1_WORDS - 1) /* 81 ends in bits 01, 162 in 10 */
            _mm512_storeu_si512(out[5 * j + 4], _mm512_and_si512(rest, three));
    }
}

#endif
