/* linear_sparse.h: block-sparse ternary weights by int8 activations. What is stored of a matrix are words of T2, tiles
 * of 16 rows × 16 k, as compressed rows of tiles; the rest is zero.
 *
 *     y[m][r] = scale[r] · d[m] · Σ_tiles (Σ_k code · q − Σ_k q)
 *
 * x is rounded to int8 with one scale a row, d = amax / 127, so that a row of tiles is one sum of integers whichever
 * tiles there are. A thread's tiles are one stream.
 *
 * No sum overflows: in int32 those of a plane that is masked where it lies are at most k / 4 · 192 · 127, below 2^31
 * for k ≤ SPARSE_MOST_K; in int16 (i_short) a tile adds 4 · 2 · 3 · 127 = 3048 at most, and they are widened after
 * eight. */
#ifndef CLF_CPU_LINEAR_SPARSE_H
#define CLF_CPU_LINEAR_SPARSE_H

#include "linear_ternary.h"
#include "quantize_x.h"

enum {
    SPARSE_MOST_K = 1 << 18,
    SPARSE_SHORT = 8, /* tiles whose products are summed in int16 */
    SPARSE_AHEAD = 4096
};

/* Rows of x in groups of 16 k: group g of row m is at [g · rows + m]. */
typedef struct sparse_x {
    int8_t (*q)[16];
    int16_t *sum; /* of q, less than 2^11 */
    float *d;     /* [rows] */
    int64_t rows;
} sparse_x;

/* `groups` ≤ 4 groups of a row, the first at place `at`; their sums are made together, four values a lane. */
INLINE void sparse_round(const float *x, vf scale, int64_t at, const sparse_x *to, const int groups) {
    const vf magic = v_set1(0x1.8p23f); /* x + magic: x rounded in the low bits */
    union {
        float f[64];
        uint32_t u[64];
    } t;
    int8_t apart[64], *q = to->rows == 1 && groups == 4 ? to->q[at] : apart;
    int32_t fours[16];
    UNROLL
    for (int i = 0; i < 16 * groups; i += VL) v_store(t.f + i, v_add(v_mul(v_load(x + i), scale), magic));
    if (groups < 4) memset(apart, 0, sizeof apart);
    for (int i = 0; i < 16 * groups; i++) q[i] = (int8_t)(uint8_t)t.u[i];
    UNROLL
    for (int i = 0; i < 16; i += VL) {
        const vi sum = i_dot_u7(i_set1(0), i_set1(0x01010101), i_load(q + 4 * i));
        memcpy(fours + i, &sum, sizeof sum);
    }
    for (int g = 0; g < groups; g++, at += to->rows) {
        const int32_t *f = fours + 4 * g;
        if (q == apart) memcpy(to->q[at], q + 16 * g, 16);
        to->sum[at] = (int16_t)(f[0] + f[1] + f[2] + f[3]);
    }
}

INLINE void sparse_quantize(const float *x, int64_t k, int64_t m, const sparse_x *to) {
    enum { CHAINS = 4 }; /* as each step of a maximum waits for the one before */
    vf amax[CHAINS], poison[CHAINS];
    UNROLL
    for (int c = 0; c < CHAINS; c++) amax[c] = poison[c] = v_set1(0);
    for (int64_t i = 0; i < k;) {
        UNROLL
        for (int c = 0; c < CHAINS && i < k; c++, i += VL) {
            const vf v = v_load(x + i);
            amax[c] = v_max(amax[c], v_abs(v));
            poison[c] = v_fma(v, v_set1(0), poison[c]);
        }
    }
    UNROLL
    for (int c = 1; c < CHAINS; c++) {
        amax[0] = v_max(amax[0], amax[c]);
        poison[0] = v_add(poison[0], poison[c]);
    }
    const float a = v_hmax(amax[0]);
    const bool zero = a < 0x1p-100f;
    to->d[m] = (zero ? 0 : a / 127) + v_hsum(poison[0]);
    const vf scale = v_set1(zero ? 0 : 127 / a);
    int64_t g = 0;
    for (; g + 4 <= k / 16; g += 4) sparse_round(x + 16 * g, scale, g * to->rows + m, to, 4);
    for (; g < k / 16; g++) sparse_round(x + 16 * g, scale, g * to->rows + m, to, 1);
}

/* Whether the lists of rows of tiles [begin, end) point into the matrix. */
static bool sparse_valid(const product *p, int64_t begin, int64_t end) {
    if (begin >= end) return true;
    int32_t descends = 0;
    for (int64_t t = begin; t < end; t++) descends |= p->tile_rows[t] > p->tile_rows[t + 1];
    if (descends || p->tile_rows[begin] < 0 || p->tile_rows[end] > p->tiles) return false;
    uint32_t most = 0;
    for (int64_t i = p->tile_rows[begin]; i < p->tile_rows[end]; i++) {
        const uint32_t column = (uint32_t)p->tile_columns[i];
        most = most > column ? most : column;
    }
    return p->tile_rows[begin] == p->tile_rows[end] || most < p->k / 16;
}

/* Row of tiles t by T rows of x from m on. */
INLINE void sparse_tile(const product *p, int64_t t, const sparse_x *x, int64_t m, float *c, int64_t stride,
                        const int T) {
    const vi three = i_set1(0x03030303);
    const int most = i_short_steps(4) ? SPARSE_SHORT : 1 << 30;
    vi total[T_VECTORS][T_TOKENS];
    int32_t bias[T_TOKENS];
    UNROLL
    for (int j = 0; j < T; j++) {
        bias[j] = 0;
        UNROLL
        for (int v = 0; v < T_VECTORS; v++) total[v][j] = i_set1(0);
    }
    const int64_t end = p->tile_rows[t + 1];
    for (int64_t i = p->tile_rows[t]; i < end;) {
        const int64_t stop = end - i < most ? end : i + most;
        vi sum[T_VECTORS][T_TOKENS];
        UNROLL
        for (int j = 0; j < T; j++) UNROLL
        for (int v = 0; v < T_VECTORS; v++) sum[v][j] = i_short_steps(4) ? i_set1(0) : total[v][j];
        for (; i < stop; i++) {
            const char *w = p->data + i * T_WORD;
            const int64_t at = p->tile_columns[i] * x->rows + m;
            const int8_t *q = x->q[at];
            __builtin_prefetch(w + SPARSE_AHEAD);
            UNROLL
            for (int j = 0; j < T; j++) bias[j] -= x->sum[at + j];
            UNROLL
            for (int v = 0; v < T_VECTORS; v++) {
                const vi codes = i_load(w + v * VL * 4);
                UNROLL
                for (int plane = 0; plane < 4; plane++) {
                    const vi four = i_and(plane ? i_right(codes, 2 * plane) : codes, three);
                    UNROLL
                    for (int j = 0; j < T; j++) {
                        sum[v][j] = ternary_dot(sum[v][j], four, ternary_four(q + 16 * j + 4 * plane));
                        I_PIN(sum[v][j]);
                    }
                }
            }
        }
        UNROLL
        for (int j = 0; j < T; j++) UNROLL
        for (int v = 0; v < T_VECTORS; v++)
            total[v][j] = i_short_steps(4) ? i_widen_add(total[v][j], sum[v][j]) : sum[v][j];
    }
    UNROLL
    for (int j = 0; j < T; j++) UNROLL
    for (int v = 0; v < T_VECTORS; v++) {
        const vf scale = v_mul(v_load(p->row_scale + t * T_ROWS + v * VL), v_set1(x->d[m + j]));
        v_store(c + j * stride + v * VL, v_mul(i_to_float(i_add(total[v][j], i_set1(bias[j]))), scale));
    }
}

static inline void sparse_tile_of(const product *p, int64_t t, const sparse_x *x, int64_t m, float *c, int64_t stride,
                                  int64_t tokens) {
#define TILE(T)                                                                                                        \
    case T: sparse_tile(p, t, x, m, c, stride, T); break
    switch (tokens < T_TOKENS ? tokens : T_TOKENS) {
        TILE(1);
#if defined(__AVX2__) || (defined(__ARM_NEON) && !defined(CLF_SIMD_OFF))
        TILE(2);
        TILE(3);
        TILE(4);
#endif
#if defined(__AVX512F__)
        TILE(5);
        TILE(6);
        TILE(7);
        TILE(8);
#endif
    default: break;
    }
#undef TILE
}

#if defined(__AVX512VNNI__) && defined(__AVX512VBMI__)
/* Row of tiles t by one row of x: planes are masked where they lie. */
INLINE void sparse_vector(const product *p, int64_t t, const sparse_x *x, float *y) {
    const int64_t end = p->tile_rows[t + 1];
    __m512i even[4], odd[4];
    int32_t bias = 0;
    UNROLL
    for (int plane = 0; plane < 4; plane++) even[plane] = odd[plane] = _mm512_setzero_si512();
    int64_t i = p->tile_rows[t];
    for (; i + 2 <= end; i += 2) {
        const char *w = p->data + i * T_WORD;
        const int64_t g0 = p->tile_columns[i] * x->rows, g1 = p->tile_columns[i + 1] * x->rows;
        __builtin_prefetch(w + SPARSE_AHEAD);
        __builtin_prefetch(w + SPARSE_AHEAD + T_WORD);
        bias -= x->sum[g0] + x->sum[g1];
        dot_planes(even, _mm512_loadu_si512(w), x->q[g0]);
        dot_planes(odd, _mm512_loadu_si512(w + T_WORD), x->q[g1]);
    }
    if (i < end) {
        const int64_t g = p->tile_columns[i] * x->rows;
        bias -= x->sum[g];
        dot_planes(even, _mm512_loadu_si512(p->data + i * T_WORD), x->q[g]);
    }
    UNROLL
    for (int plane = 0; plane < 4; plane++) even[plane] = _mm512_add_epi32(even[plane], odd[plane]);
    const __m512i sum = _mm512_add_epi32(sum_of_planes(even), _mm512_set1_epi32(bias));
    const __m512 scale = _mm512_mul_ps(_mm512_loadu_ps(p->row_scale + t * T_ROWS), _mm512_set1_ps(x->d[0]));
    _mm512_storeu_ps(y, _mm512_mul_ps(_mm512_cvtepi32_ps(sum), scale));
}
#endif

/* Weights' rows [row, row + count), whole rows of tiles, by the first `tokens` rows of x, into c [tokens][stride]. */
static void sparse_block(const product *p, const sparse_x *x, int64_t tokens, int64_t row, int64_t count, float *c,
                         int64_t stride) {
    for (int64_t r = 0; r < count; r += T_ROWS) {
        const int64_t t = (row + r) / T_ROWS;
#if defined(__AVX512VNNI__) && defined(__AVX512VBMI__)
        if (tokens == 1) {
            sparse_vector(p, t, x, c + r);
            continue;
        }
#endif
        for (int64_t m = 0; m < tokens; m += T_TOKENS)
            sparse_tile_of(p, t, x, m, c + m * stride + r, stride, tokens - m);
    }
}

#endif
