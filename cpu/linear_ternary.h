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
    T_STREAMS = VL == 1 ? 1 : 2, /* far-apart panels that meet one row of x together */
    T_TOKENS = VL == 16  ? 8
               : VL == 1 ? 1
                         : 4
};

/* Such a sum as int32. */
INLINE vi ternary_sum(vi sum) {
    return i_short_steps(4) ? i_widen_add(i_set1(0), sum) : sum;
}
/* sum + fours / 4, where that is exact */
INLINE vi ternary_add_quarter(vi sum, vi fours) {
    return i_short_steps(4) ? i_short_add(sum, i_short_quarter(fours)) : i_add(sum, i_quarter(fours));
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

#if !defined(__AVX512VNNI__) || !defined(__AVX512VBMI__)
/* y[i][r] = P panels of T2, each a stream of its own, by one row of x. Planes 1 and 3 are masked where they lie, four
 * times too big, and have sums of their own, which join the others after QUARTER words: in int16 they reach
 * QUARTER · 2 · 2 · 12 · 127 < 2^15 by then. */
INLINE void panel_vectors(const char *const *panel, int64_t k, const ternary_x *x, float *const *y, const int P) {
    enum { AHEAD = 4096, QUARTER = 4, ALL = T_STREAMS * T_VECTORS };
    const vi low = i_set1(0x03030303), high = i_set1(0x0c0c0c0c);
    const int V = P * T_VECTORS;
    const uint8_t *w[T_STREAMS];
    vf f[ALL];
    UNROLL
    for (int i = 0; i < P; i++) w[i] = ternary_words(CLF_T2, panel[i], k, 0);
    UNROLL
    for (int v = 0; v < V; v++) f[v] = v_set1(0);
    for (int64_t b = 0; b < k / T_BLOCK; b++) {
        const int8_t *q = x->q[b * x->rows];
        vi sum[ALL];
        UNROLL
        for (int v = 0; v < V; v++) sum[v] = i_set1(x->bias[b * x->rows]);
        for (int j = 0; j < T2_WORDS; j += QUARTER) {
            vi fours[ALL];
            UNROLL
            for (int v = 0; v < V; v++) fours[v] = i_set1(0);
            for (int word = 0; word < QUARTER; word++, q += 16) {
                const vi x0 = ternary_four(q), x1 = ternary_four(q + 4);
                const vi x2 = ternary_four(q + 8), x3 = ternary_four(q + 12);
                UNROLL
                for (int v = 0; v < V; v++) {
                    const uint8_t *at = w[v / T_VECTORS];
                    if (v % T_VECTORS == 0) __builtin_prefetch(at + AHEAD);
                    const vi codes = i_load(at + v % T_VECTORS * VL * 4), right = i_right(codes, 4);
                    sum[v] = ternary_dot(sum[v], i_and(codes, low), x0);
                    fours[v] = ternary_dot(fours[v], i_and(codes, high), x1);
                    sum[v] = ternary_dot(sum[v], i_and(right, low), x2);
                    fours[v] = ternary_dot(fours[v], i_and(right, high), x3);
                    I_PIN(sum[v]);
                    I_PIN(fours[v]);
                }
                UNROLL
                for (int i = 0; i < P; i++) w[i] += T_WORD;
            }
            UNROLL
            for (int v = 0; v < V; v++) sum[v] = ternary_add_quarter(sum[v], fours[v]);
        }
        UNROLL
        for (int v = 0; v < V; v++) {
            const uint8_t *half = ternary_scales(panel[v / T_VECTORS], b) + v % T_VECTORS * VL * 2;
            const vf scale = v_mul(v_load_as(half, CLF_F16), v_set1(x->d[b * x->rows]));
            f[v] = v_fma(i_to_float(ternary_sum(sum[v])), scale, f[v]);
        }
    }
    UNROLL
    for (int v = 0; v < V; v++) v_store(y[v / T_VECTORS] + v % T_VECTORS * VL, f[v]);
}

/* Panels of T2 by one row of x, from the weights' row `begin` to `end`: T_STREAMS far-apart parts at a time. */
static void panels_vector(const product *p, const ternary_x *x, int64_t begin, int64_t end, float *y) {
    const int64_t apart = (end - begin) / T_ROWS / T_STREAMS * T_ROWS;
    for (int64_t r = begin; r < begin + apart; r += T_ROWS) {
        const char *panel[T_STREAMS];
        float *to[T_STREAMS];
        UNROLL
        for (int i = 0; i < T_STREAMS; i++) panel[i] = product_row(p, r + i * apart), to[i] = y + r + i * apart;
        panel_vectors(panel, p->k, x, to, T_STREAMS);
    }
    for (int64_t r = begin + T_STREAMS * apart; r < end; r += T_ROWS) {
        const char *panel = product_row(p, r);
        float *to = y + r;
        panel_vectors(&panel, p->k, x, &to, 1);
    }
}
#endif

/* y[m][r] = w[r] · x[m] for few rows of x and the weights' rows [begin, end), whole panels; y rows are `stride` apart.
 */
static void ternary_few(const product *p, const ternary_x *x, int64_t rows, int64_t begin, int64_t end, float *y,
                        int64_t stride) {
#if defined(__AVX512VNNI__) && defined(__AVX512VBMI__)
    for (int64_t r = begin; r < end && rows == 1; r += T_ROWS) {
        if (p->dtype == CLF_T1)
            panel_vector_t1(product_row(p, r), p->k, x, y + r);
        else
            panel_vector_t2(product_row(p, r), p->k, x, y + r);
    }
    if (rows == 1) return;
#else
    if (rows == 1 && p->dtype == CLF_T2) {
        panels_vector(p, x, begin, end, y);
        return;
    }
#endif
    for (int64_t r = begin; r < end; r += T_ROWS) ternary_block(p, x, rows, r, T_ROWS, y + r, stride);
}

#endif
