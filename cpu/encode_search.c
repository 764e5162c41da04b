/* encode_search.c: formats whose scales are searched for: the K-quants, IQ4, and with an importance matrix the
 * formats of one scale (and minimum) for 32 values. What is minimised, and how, is told in encode_fit.h.
 *
 * Sixteen groups are one batch. Where a block has whole-number scales of its groups, these are rounded by the block's
 * half first, and then of each and its neighbours those are taken that lose least. */
#include "encode_search.h"

#include "encode_fit.h"
#include "encode_pack.h"

typedef uint8_t byte;

/* A batch: in lane g what group g has. */
typedef struct batch {
    fit_groups groups;
    float d[FIT_LANES], dmin[FIT_LANES];                  /* the halves of its block */
    float scale[FIT_LANES], minimum[FIT_LANES];           /* searched for, then what the block says */
    float scale_code[FIT_LANES], minimum_code[FIT_LANES]; /* whole numbers */
    byte q[FIT_MAX * FIT_LANES];                          /* codes, of one group after the other */
} batch;

/* A format: values of a group, and groups of a block; levels (of lines: 0 … levels.high); the largest scale code (0:
 * scales are halves; of signed ones there is one more below 0); where the halves lie; how the rest is written. */
typedef struct format {
    int size, groups;
    fit_levels levels;
    bool line, negative; /* scale·q + minimum; minima are 0 or below, and subtracted */
    int codes, d, dmin;
    void (*pack)(byte *b, const byte *q, const float *scale, const float *minimum);
} format;

/* Weights of a group's values where all columns are alike, lane g of x and w: larger values count for more, as they do
 * in products. The weights' own error grows by up to 1 %, a model's falls, where levels are few (docs/quantisation.md).
 */
static void weigh(const float *x, float *w, int size) {
    float most = 0, sum = 0;
    for (int j = 0; j < size; j++) most = fmaxf(most, fabsf(x[j * FIT_LANES]));
    const float per = most > 0 && !isinf(1 / most) ? 1 / most : 0;
    for (int j = 0; j < size; j++) sum += x[j * FIT_LANES] * per * x[j * FIT_LANES] * per;
    const float typical = per > 0 ? sqrtf(sum / (float)size) : 1;
    for (int j = 0; j < size; j++) w[j * FIT_LANES] = 2 * typical + fabsf(x[j * FIT_LANES]) * per;
}

/* Values and weights of a batch, zeros past the end. Importance is taken by the largest; none counts a millionth. */
static void load(fit_groups *f, const float *x, int64_t n, const float *importance, bool few_levels) {
    float most = 0;
    for (int64_t i = 0; importance && i < n; i++) most = importance[i] > most ? importance[i] : most;
    const float per = most > 0 && !isinf(1 / most) ? 1 / most : 0;
    for (int g = 0; g < FIT_LANES; g++) {
        for (int j = 0; j < f->size; j++) {
            const int64_t i = g * f->size + j;
            f->x[j * FIT_LANES + g] = i < n ? x[i] : 0;
            f->w[j * FIT_LANES + g] = importance && i < n ? importance[i] * per + 1e-6f : 1;
        }
        if (few_levels && !importance) weigh(f->x + g, f->w + g, f->size);
    }
}

/* The half nearest to v / codes, or, where halves are so coarse that `codes` times it is short of v, the next one. */
static bool put_unit(byte *b, float v, int codes, float *unit) {
    bool fits = put_half(b, v / (float)codes);
    uint16_t u;
    memcpy(&u, b, sizeof u);
    if (fabsf(clf_f16_to_f32(u)) * ((float)codes + 0.5f) < fabsf(v)) u++;
    memcpy(b, &u, sizeof u);
    *unit = clf_f16_to_f32(u);
    return fits && isfinite(*unit);
}

/* The halves of the block at b whose first group is in lane g. */
static bool put_halves(const format *t, batch *a, int g, byte *b) {
    float d = a->scale[g], dmin = a->minimum[g];
    bool fits;
    if (t->codes) {
        for (int i = g; i < g + t->groups; i++) {
            d = fabsf(a->scale[i]) > fabsf(d) ? a->scale[i] : d;
            dmin = a->minimum[i] < dmin ? a->minimum[i] : dmin;
        }
        fits = put_unit(b + t->d, t->line ? d : -d, t->codes + !t->line, &d);
        fits = (!t->line || put_unit(b + t->dmin, -dmin, t->codes, &dmin)) && fits;
    } else {
        fits = put_unit(b + t->d, d, 1, &d);
        fits = (!t->line || put_unit(b + t->dmin, dmin, 1, &dmin)) && fits;
    }
    for (int i = g; i < g + t->groups; i++) a->d[i] = d, a->dmin[i] = dmin;
    return fits;
}

/* Scale codes, and what they stand for. */
static void round_scales(const format *t, batch *a) {
    const vf high = v_set1((float)t->codes), low = v_set1(t->line ? 0 : (float)(-t->codes - 1)), zero = v_set1(0);
    for (int g = 0; g < FIT_LANES; g += VL) {
        const vf d = v_load(a->d + g), dmin = v_load(a->dmin + g);
        const vf s = fit_round(v_mul(v_load(a->scale + g), fit_inverse(d)));
        const vf m = fit_round(v_mul(v_sub(zero, v_load(a->minimum + g)), fit_inverse(dmin)));
        vf least = v_set1(INFINITY), scale = zero, minimum = zero;
        for (int i = 0; i < (t->line ? 9 : 3); i++) {
            const vf si = v_min(v_max(v_add(s, v_set1((float)(i % 3 - 1))), low), high);
            const vf mi = t->line ? v_min(v_max(v_add(m, v_set1((float)(i / 3 - 1))), zero), high) : zero;
            const vf ds = v_mul(d, si), dm = v_sub(zero, v_mul(dmin, mi));
            const vf error = t->line ? fit_line_error(&a->groups, t->levels.high, g, ds, dm)
                                     : fit_error(&a->groups, &t->levels, g, ds);
            scale = v_ge_or(error, least, scale, si);
            minimum = v_ge_or(error, least, minimum, mi);
            least = v_min(error, least);
        }
        v_store(a->scale_code + g, scale);
        v_store(a->minimum_code + g, minimum);
        v_store(a->scale + g, v_mul(d, scale));
        v_store(a->minimum + g, v_sub(zero, v_mul(dmin, minimum)));
    }
}

static void find_codes(const format *t, batch *a) {
    byte q[FIT_MAX * FIT_LANES];
    for (int g = 0; g < FIT_LANES; g += VL) {
        const vf id = fit_inverse(v_load(a->scale + g)), minimum = v_load(a->minimum + g);
        for (int j = 0; j < t->size; j++) {
            const vf v = v_mul(v_sub(v_load(a->groups.x + j * FIT_LANES + g), minimum), id);
            v_store_u8(q + j * FIT_LANES + g, fit_code(v, &t->levels));
        }
    }
    for (int g = 0; g < FIT_LANES; g++)
        for (int j = 0; j < t->size; j++) a->q[g * t->size + j] = q[j * FIT_LANES + g];
}

/* Squares of larger values might not be finite; no half is the scale of one so large. */
static bool too_large(const float *x, int n) {
    bool large = false;
    for (int j = 0; j < n; j++) large |= fabsf(x[j]) > 0x1p40f;
    return large;
}

static int64_t encode(const format *t, size_t bytes, const float *x, int64_t n, const float *importance, byte *out) {
    batch a = {.groups.size = t->size};
    const int values = t->size * t->groups, all = t->size * FIT_LANES;
    for (int64_t at = 0; at < n; at += all) {
        const int64_t blocks = (n - at < all ? n - at : all) / values;
        load(&a.groups, x + at, blocks * values, importance ? importance + at : NULL,
             t->levels.nonlinear || t->levels.high < 16);
        if (t->line)
            fit_lines(&a.groups, t->levels.high, t->negative, t->levels.steps, a.scale, a.minimum);
        else
            fit_scales(&a.groups, &t->levels, a.scale);
        for (int64_t k = 0; k < blocks; k++) {
            const float *block = x + at + k * values;
            if (too_large(block, values) || !put_halves(t, &a, (int)k * t->groups, out + (size_t)k * bytes))
                return at + k * values;
        }
        if (t->codes) {
            round_scales(t, &a);
        } else {
            memcpy(a.scale, a.d, sizeof a.scale);
            memcpy(a.minimum, a.dmin, sizeof a.minimum);
        }
        find_codes(t, &a);
        for (int64_t k = 0; k < blocks; k++, out += bytes)
            t->pack(out, a.q + k * values, a.scale_code + k * t->groups, a.minimum_code + k * t->groups);
    }
    return n;
}

/* ---- what is left of each block ---- */

#define PACK(name) static void name(byte *b, const byte *q, const float *scale, const float *minimum)
#define UNUSED     (void)scale, (void)minimum

PACK(q4_0) {
    UNUSED;
    put_nibbles(b + 2, q, 16);
}
PACK(q4_1) {
    UNUSED;
    put_nibbles(b + 4, q, 16);
}
PACK(q5_0) {
    UNUSED;
    put_fifth(b + 2, q);
    put_nibbles(b + 6, q, 16);
}
PACK(q5_1) {
    UNUSED;
    put_fifth(b + 4, q);
    put_nibbles(b + 8, q, 16);
}
PACK(q2_k) {
    for (int g = 0; g < 16; g++) b[g] = (byte)((int)scale[g] | (int)minimum[g] << 4);
    put_pairs(b + 16, q, 0);
}
PACK(q3_k) {
    (void)minimum;
    put_bits(b, q, 2);
    put_pairs(b + 32, q, 0);
    memset(b + 96, 0, 12);
    for (int g = 0; g < 16; g++) {
        const int s = (int)scale[g] + 32;
        b[96 + g % 8] |= (byte)((s & 15) << g / 8 * 4);
        b[104 + g % 4] |= (byte)(s >> 4 << g / 4 * 2);
    }
}

/* Six-bit scales and minima of eight groups: the upper four's high bits are with the lower four's. */
static void six_bits(byte *b, const float *scale, const float *minimum) {
    for (int g = 0; g < 4; g++) {
        const int s = (int)scale[g + 4], m = (int)minimum[g + 4];
        b[g] = (byte)((int)scale[g] | s >> 4 << 6);
        b[g + 4] = (byte)((int)minimum[g] | m >> 4 << 6);
        b[g + 8] = (byte)((s & 15) | (m & 15) << 4);
    }
}
PACK(q4_k) {
    six_bits(b + 4, scale, minimum);
    for (int k = 0; k < 4; k++) put_nibbles(b + 16 + 32 * k, q + 64 * k, 32);
}
PACK(q5_k) {
    six_bits(b + 4, scale, minimum);
    put_bits(b + 16, q, 4);
    for (int k = 0; k < 4; k++) put_nibbles(b + 48 + 32 * k, q + 64 * k, 32);
}
PACK(q6_k) {
    (void)minimum;
    for (int h = 0; h < 2; h++) put_nibbles(b + 64 * h, q + 128 * h, 64);
    put_pairs(b + 128, q, 4);
    for (int g = 0; g < 16; g++) b[192 + g] = (byte)(int)scale[g];
}
PACK(iq4_xs) {
    (void)minimum;
    memset(b + 2, 0, 6);
    for (int g = 0; g < 8; g++) {
        const int s = (int)scale[g] + 32;
        b[2 + g / 4] |= (byte)(s >> 4 << g % 4 * 2);
        b[4 + g / 2] |= (byte)((s & 15) << g % 2 * 4);
        put_nibbles(b + 8 + 16 * g, q + 32 * g, 16);
    }
}

static const format formats[CLF_DTYPE_COUNT] = {
    [CLF_Q4_0] = {32, 1, {-8, 7, false, 9, 0.0125f}, false, false, 0, 0, 0, q4_0},
    [CLF_Q4_1] = {32, 1, {0, 15, false, 9, 0}, true, false, 0, 0, 2, q4_1},
    [CLF_Q5_0] = {32, 1, {-16, 15, false, 9, 0.00625f}, false, false, 0, 0, 0, q5_0},
    [CLF_Q5_1] = {32, 1, {0, 31, false, 9, 0}, true, false, 0, 0, 2, q5_1},
    [CLF_Q2_K] = {16, 16, {0, 3, false, 9, 0}, true, true, 15, 80, 82, q2_k},
    [CLF_Q3_K] = {16, 16, {-4, 3, false, 9, 0.025f}, false, false, 31, 108, 0, q3_k},
    [CLF_Q4_K] = {32, 8, {0, 15, false, 9, 0}, true, true, 63, 0, 2, q4_k},
    [CLF_Q5_K] = {32, 8, {0, 31, false, 9, 0}, true, true, 63, 0, 2, q5_k},
    [CLF_Q6_K] = {16, 16, {-32, 31, false, 9, 0.003f}, false, false, 127, 208, 0, q6_k},
    [CLF_IQ4_NL] = {32, 1, {-127, 113, true, 7, 0.008f}, false, false, 0, 0, 0, q4_0},
    [CLF_IQ4_XS] = {32, 8, {-127, 113, true, 7, 0.008f}, false, false, 31, 0, 0, iq4_xs},
};

int64_t cpu_encode_search(clf_dtype dtype, const float *x, int64_t n, const float *importance, void *out) {
    return encode(&formats[dtype], clf_dtype_block_bytes(dtype), x, n, importance, out);
}
