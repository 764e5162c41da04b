/* linear_ternary.h: T2 and T1 by int8 activations.
 *
 *     y[m][r] = Σ_b scale[r][b] · d[m][b] · (Σ_k code · q − Σ_k q)                    b: blocks of 256 k
 *
 * A panel's 16 rows lie along the vector lanes, four k a lane, and x is broadcast by fours: no sum crosses lanes, and
 * few and many rows of x share a layout. One row of x meets the words as they lie (a panel is one stream); more meet a
 * block's codes expanded to bytes, in tiles of T_PANELS panels × T_TOKENS rows whose sums stay in registers.
 *
 * No sum overflows: of a block, codes ≤ 3 and |q| ≤ 127. In int32: 256 · 3 · 127 < 2^17. In int16 (i_short), where a
 * lane has half of a row's k: sums may wrap on the way, but begin at −Σq and end at Σ w·q, |·| ≤ 128 · 2 · 127 < 2^15.
 */
#ifndef CLF_CPU_LINEAR_TERNARY_H
#define CLF_CPU_LINEAR_TERNARY_H

#include "linear.h"
#include "linear_ternary_x.h"
#if defined(__AVX512VNNI__) && defined(__AVX512VBMI__)
#include "linear_ternary_vnni.h"
#endif

enum {
    T_VECTORS = T_ROWS / VL, /* a word */
    T_PANELS = VL == 16 ? 2 : 1,
    T_TOKENS = VL == 16  ? 8
               : VL == 1 ? 1
                         : 4
};

/* sum + codes · x in the form that sums are kept in over a block, and as int32 */
INLINE vi ternary_dot(vi sum, vi codes, vi x) {
    return i_short_steps(4) ? i_short_add(sum, i_short(codes, x)) : i_dot_u7(sum, codes, x);
}
INLINE vi ternary_sum(vi sum) {
    return i_short_steps(4) ? i_widen_add(i_set1(0), sum) : sum;
}
INLINE vi ternary_four(const int8_t *q) {
    return i_broadcast((const uint8_t *)q);
}

/* c[t][16 i + r] (+)= block b of panel i by row m + t of x; w: the panels' codes. c's rows are `stride` apart. */
INLINE void ternary_tile(const uint8_t *w, const uint8_t *const *scales, const ternary_x *x, int64_t b, int64_t m,
                         float *c, int64_t stride, const int P, const int T) {
    enum { ALL = T_PANELS * T_VECTORS };
    const int64_t at = b * x->rows + m;
    const int8_t *q = x->q[at];
    const int V = P * T_VECTORS;
    vi sum[ALL][T_TOKENS];
    UNROLL
    for (int t = 0; t < T; t++) UNROLL
    for (int v = 0; v < V; v++) sum[v][t] = i_set1(x->bias[at + t]);
    for (int s = 0; s < T_STEPS; s++) {
        vi codes[ALL];
        UNROLL
        for (int v = 0; v < V; v++)
            codes[v] = i_load(w + v / T_VECTORS * sizeof(ternary_codes) + s * T_WORD + v % T_VECTORS * VL * 4);
        UNROLL
        for (int t = 0; t < T; t++) {
            const vi four = ternary_four(q + t * T_BLOCK + 4 * s);
            UNROLL
            for (int v = 0; v < V; v++) {
                sum[v][t] = ternary_dot(sum[v][t], codes[v], four);
                I_PIN(sum[v][t]);
            }
        }
    }
    UNROLL
    for (int v = 0; v < V; v++) {
        const vf scale = v_load_as(scales[v / T_VECTORS] + v % T_VECTORS * VL * 2, CLF_F16);
        UNROLL
        for (int t = 0; t < T; t++) {
            float *to = c + t * stride + v * VL;
            const vf part = v_mul(scale, v_set1(x->d[at + t]));
            v_store(to, v_fma(i_to_float(ternary_sum(sum[v][t])), part, b ? v_load(to) : v_set1(0)));
        }
    }
}

/* As ternary_tile() for up to T_PANELS panels and T_TOKENS rows, a body for each number of them. */
static inline void ternary_tile_of(const uint8_t *w, const uint8_t *const *scales, const ternary_x *x, int64_t b,
                                   int64_t m, float *c, int64_t stride, int64_t panels, int64_t tokens) {
#define TILE(T)                                                                                                        \
    case T:                                                                                                            \
        if (panels >= T_PANELS)                                                                                        \
            ternary_tile(w, scales, x, b, m, c, stride, T_PANELS, T);                                                  \
        else                                                                                                           \
            ternary_tile(w, scales, x, b, m, c, stride, 1, T);                                                         \
        break
    switch (tokens < T_TOKENS ? tokens : T_TOKENS) {
        TILE(1);
#if defined(__AVX2__) || defined(__ARM_NEON)
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

/* A block of a panel as bytes; the one after it is fetched meanwhile. */
INLINE void ternary_open(clf_dtype dtype, const uint8_t *words, ternary_codes out) {
    const size_t bytes = ternary_block_bytes(dtype);
    for (size_t i = 0; i < bytes; i += 64) __builtin_prefetch(words + bytes + i, 0, 2);
#if defined(__AVX512VNNI__) && defined(__AVX512VBMI__)
    if (dtype == CLF_T1) {
        expand_t1(words, out);
        return;
    }
#endif
    ternary_expand(dtype, words, out);
}

/* Rows of the weights [row, row + count), at most BLOCK_R, by the first `tokens` rows of x, into c [tokens][stride]. */
static void ternary_block(const product *p, const ternary_x *x, int64_t tokens, int64_t row, int64_t count, float *c,
                          int64_t stride) {
    enum { PANELS = 6 }; /* as bytes, with a tile's rows of x, in L1 */
    ternary_codes w[PANELS];
    const uint8_t *scales[PANELS];
    for (int64_t m = 0; p->k == 0 && m < tokens; m++) memset(c + m * stride, 0, (size_t)count * sizeof *c);
    for (int64_t r = 0; r < count; r += PANELS * T_ROWS) {
        const int64_t panels = count - r < PANELS * T_ROWS ? (count - r) / T_ROWS : PANELS;
        for (int64_t b = 0; b < p->k / T_BLOCK; b++) {
            for (int64_t i = 0; i < panels; i++) {
                const char *panel = product_row(p, row + r + i * T_ROWS);
                ternary_open(p->dtype, ternary_words(p->dtype, panel, p->k, b), w[i]);
                scales[i] = ternary_scales(panel, b);
            }
            for (int64_t m = 0; m < tokens; m += T_TOKENS)
                for (int64_t i = 0; i < panels; i += T_PANELS)
                    ternary_tile_of(w[i][0], scales + i, x, b, m, c + m * stride + r + i * T_ROWS, stride, panels - i,
                                    tokens - m);
        }
    }
}

/* A panel of T2 by one row of x. */
INLINE void panel_vector(const char *panel, int64_t k, const ternary_x *x, float *y) {
    enum { AHEAD = 4096 };
    const uint8_t *w = ternary_words(CLF_T2, panel, k, 0);
    const vi three = i_set1(0x03030303);
    vf f[T_VECTORS];
    UNROLL
    for (int v = 0; v < T_VECTORS; v++) f[v] = v_set1(0);
    for (int64_t b = 0; b < k / T_BLOCK; b++) {
        const int8_t *q = x->q[b * x->rows];
        vi sum[T_VECTORS];
        UNROLL
        for (int v = 0; v < T_VECTORS; v++) sum[v] = i_set1(x->bias[b * x->rows]);
        for (int j = 0; j < T2_WORDS; j++, w += T_WORD, q += 16) {
            const vi x0 = ternary_four(q), x1 = ternary_four(q + 4);
            const vi x2 = ternary_four(q + 8), x3 = ternary_four(q + 12);
            __builtin_prefetch(w + AHEAD);
            UNROLL
            for (int v = 0; v < T_VECTORS; v++) {
                const vi codes = i_load(w + v * VL * 4);
                sum[v] = ternary_dot(sum[v], i_and(codes, three), x0);
                sum[v] = ternary_dot(sum[v], i_and(i_right(codes, 2), three), x1);
                sum[v] = ternary_dot(sum[v], i_and(i_right(codes, 4), three), x2);
                sum[v] = ternary_dot(sum[v], i_and(i_right(codes, 6), three), x3);
                I_PIN(sum[v]);
            }
        }
        UNROLL
        for (int v = 0; v < T_VECTORS; v++) {
            const vf scale = v_load_as(ternary_scales(panel, b) + v * VL * 2, CLF_F16);
            f[v] = v_fma(i_to_float(ternary_sum(sum[v])), v_mul(scale, v_set1(x->d[b * x->rows])), f[v]);
        }
    }
    UNROLL
    for (int v = 0; v < T_VECTORS; v++) v_store(y + v * VL, f[v]);
}

/* y[m][r] = w[r] · x[m] for few rows of x and the weights' rows [begin, end), whole panels; y rows are `stride` apart.
 */
static void ternary_few(const product *p, const ternary_x *x, int64_t rows, int64_t begin, int64_t end, float *y,
                        int64_t stride) {
    for (int64_t r = begin; r < end; r += T_ROWS) {
        const char *panel = product_row(p, r);
#if defined(__AVX512VNNI__) && defined(__AVX512VBMI__)
        if (rows == 1 && p->dtype == CLF_T1)
            panel_vector_t1(panel, p->k, x, y + r);
        else if (rows == 1)
            panel_vector_t2(panel, p->k, x, y + r);
#else
        if (rows == 1 && p->dtype == CLF_T2) panel_vector(panel, p->k, x, y + r);
#endif
        else
            ternary_block(p, x, rows, r, T_ROWS, y + r, stride);
    }
}

#endif
