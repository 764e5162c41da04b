/* encode_fit.h: scales of groups of values by search: sixteen groups at once, one in each lane, so that every sum is
 * one lane's, in one order, and all tables find the same.
 *
 * Minimised is Σ w·(x − y)², y = scale·level(q) or scale·q − minimum. For given codes q the best scale (and minimum)
 * are those of linear least squares. Candidates for the codes are the nearest ones by scales around that which maps the
 * largest magnitude (or the range) to the outermost level; the codes of the best are improved by its own scale. */
#ifndef CLF_CPU_ENCODE_FIT_H
#define CLF_CPU_ENCODE_FIT_H

#include "cpu.h"

enum { FIT_LANES = 16, FIT_MAX = 32 };

/* Element j of group g at [j · FIT_LANES + g]. */
typedef struct fit_groups {
    int size;
    float x[FIT_MAX * FIT_LANES], w[FIT_MAX * FIT_LANES];
} fit_groups;

/* The levels of a format: whole numbers low … high, or IQ4's sixteen. Candidates map the extreme to low·(1 ± k·step),
 * k = 0 … steps, and the same with the scale's sign changed. */
typedef struct fit_levels {
    float low, high;
    bool nonlinear;
    int steps;
    float step;
} fit_levels;

static const float fit_nonlinear[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

/* 1/d, or 0 where |d| is so small that nothing comes of it. */
INLINE vf fit_inverse(vf d) {
    return v_ge_or(v_abs(d), v_set1(0x1p-100f), v_div(v_set1(1), d), v_set1(0));
}

/* The nearest whole number, to even; |v| < 2^22 */
INLINE vf fit_round(vf v) {
    const vf magic = v_set1(0x1.8p23f);
    return v_sub(v_add(v, magic), magic);
}

/* The level nearest to v. */
INLINE vf fit_level(vf v, const fit_levels *l, bool nonlinear) {
    if (!nonlinear) return fit_round(v_min(v_max(v, v_set1(l->low)), v_set1(l->high)));
    vf y = v_set1(fit_nonlinear[0]);
    UNROLL for (int i = 1; i < 16; i++) {
        const vf middle = v_set1((fit_nonlinear[i - 1] + fit_nonlinear[i]) / 2);
        y = v_ge_or(v, middle, v_set1(fit_nonlinear[i]), y);
    }
    return y;
}

/* Its number, from 0. */
INLINE vf fit_code(vf v, const fit_levels *l) {
    if (!l->nonlinear) return v_sub(fit_level(v, l, false), v_set1(l->low));
    vf q = v_set1(0);
    UNROLL for (int i = 1; i < 16; i++) {
        const vf middle = v_set1((fit_nonlinear[i - 1] + fit_nonlinear[i]) / 2);
        q = v_ge_or(v, middle, v_set1((float)i), q);
    }
    return q;
}

/* Tries the levels by inverse scale `id`: keeps scale and gain, Σw·x² less the error, if better. */
INLINE void fit_try_scale(const fit_groups *f, const fit_levels *l, bool nonlinear, int g, vf id, vf *scale, vf *gain) {
    vf qx = v_set1(0), qq = v_set1(0);
    for (int j = 0; j < f->size; j++) {
        const vf x = v_load(f->x + j * FIT_LANES + g), w = v_load(f->w + j * FIT_LANES + g);
        const vf q = fit_level(v_mul(x, id), l, nonlinear), wq = v_mul(w, q);
        qx = v_add(qx, v_mul(wq, x));
        qq = v_add(qq, v_mul(wq, q));
    }
    const vf s = v_mul(qx, fit_inverse(qq)), better = v_mul(s, qx);
    *scale = v_ge_or(*gain, better, *scale, s);
    *gain = v_max(better, *gain);
}

/* Scales of y = scale·level. */
INLINE void fit_scales_of(const fit_groups *f, const fit_levels *l, bool nonlinear, float *scales) {
    for (int g = 0; g < FIT_LANES; g += VL) {
        vf most = v_set1(0), extreme = v_set1(0), scale = v_set1(0), gain = v_set1(0);
        for (int j = 0; j < f->size; j++) {
            const vf x = v_load(f->x + j * FIT_LANES + g), a = v_abs(x);
            extreme = v_ge_or(most, a, extreme, x);
            most = v_max(a, most);
        }
        const vf id = v_mul(v_set1(l->low), fit_inverse(extreme));
        for (int k = -l->steps; k <= l->steps; k++) {
            const vf t = v_mul(id, v_set1(1 + (float)k * l->step));
            fit_try_scale(f, l, nonlinear, g, t, &scale, &gain);
            fit_try_scale(f, l, nonlinear, g, v_sub(v_set1(0), t), &scale, &gain);
        }
        for (int k = 0; k < 2; k++) fit_try_scale(f, l, nonlinear, g, fit_inverse(scale), &scale, &gain);
        v_store(scales + g, scale);
    }
}

static void fit_scales(const fit_groups *f, const fit_levels *l, float *scales) {
    CPU_FOR_BOOL(NONLINEAR, l->nonlinear, fit_scales_of(f, l, NONLINEAR, scales));
}

/* Σ w·(x − scale·level)² by the nearest levels */
INLINE vf fit_error_of(const fit_groups *f, const fit_levels *l, bool nonlinear, int g, vf scale) {
    const vf id = fit_inverse(scale);
    vf sum = v_set1(0);
    for (int j = 0; j < f->size; j++) {
        const vf x = v_load(f->x + j * FIT_LANES + g), w = v_load(f->w + j * FIT_LANES + g);
        const vf e = v_sub(x, v_mul(scale, fit_level(v_mul(x, id), l, nonlinear)));
        sum = v_add(sum, v_mul(w, v_mul(e, e)));
    }
    return sum;
}

INLINE vf fit_error(const fit_groups *f, const fit_levels *l, int g, vf scale) {
    return l->nonlinear ? fit_error_of(f, l, true, g, scale) : fit_error_of(f, l, false, g, scale);
}

/* One step of fit_lines(): codes 0 … top by inverse scale `id` from `minimum`, then least squares. */
INLINE void fit_try_line(const fit_groups *f, float top, bool negative, int g, vf id, vf from, vf *scale, vf *minimum,
                         vf *least) {
    const vf zero = v_set1(0);
    vf ws = zero, xs = zero, qs = zero, qq = zero, qx = zero, xx = zero;
    for (int j = 0; j < f->size; j++) {
        const vf x = v_load(f->x + j * FIT_LANES + g), w = v_load(f->w + j * FIT_LANES + g);
        const vf q = fit_round(v_min(v_max(v_mul(v_sub(x, from), id), zero), v_set1(top)));
        const vf wx = v_mul(w, x), wq = v_mul(w, q);
        ws = v_add(ws, w);
        xs = v_add(xs, wx);
        xx = v_add(xx, v_mul(wx, x));
        qs = v_add(qs, wq);
        qq = v_add(qq, v_mul(wq, q));
        qx = v_add(qx, v_mul(wq, x));
    }
    const vf spread = v_mul(ws, qq), d = v_sub(spread, v_mul(qs, qs)), id2 = fit_inverse(d);
    const vf through = v_mul(qx, fit_inverse(qq)), mean = v_mul(xs, fit_inverse(ws));
    vf s = v_mul(v_sub(v_mul(ws, qx), v_mul(xs, qs)), id2), m = v_mul(v_sub(v_mul(qq, xs), v_mul(qs, qx)), id2);
    s = v_ge_or(v_mul(spread, v_set1(1e-6f)), d, through, s); /* one code for all: through 0, or, for code 0, level */
    m = v_ge_or(v_mul(spread, v_set1(1e-6f)), d, v_ge_or(zero, qq, mean, zero), m);
    if (negative) { /* the line ends at 0 or below */
        s = v_ge_or(zero, m, s, through);
        m = v_min(m, zero);
    }
    const vf error = v_sub(xx, v_add(v_mul(s, v_sub(v_add(qx, qx), v_add(v_mul(s, qq), v_mul(v_add(m, m), qs)))),
                                     v_mul(m, v_sub(v_add(xs, xs), v_mul(m, ws)))));
    *scale = v_ge_or(error, *least, *scale, s);
    *minimum = v_ge_or(error, *least, *minimum, m);
    *least = v_min(error, *least);
}

/* Scales ≥ 0 and minima (the value of code 0) of y = minimum + scale·q, q = 0 … top; with `negative` minima are ≤ 0.
 * Candidates map the range to top + k/10, k = −steps … steps. */
static void fit_lines(const fit_groups *f, float top, bool negative, int steps, float *scales, float *minima) {
    for (int g = 0; g < FIT_LANES; g += VL) {
        vf low = v_load(f->x + g), high = low, scale = v_set1(0), minimum, least = v_set1(INFINITY);
        for (int j = 1; j < f->size; j++) {
            const vf x = v_load(f->x + j * FIT_LANES + g);
            low = v_min(x, low);
            high = v_max(x, high);
        }
        if (negative) low = v_min(low, v_set1(0));
        minimum = low;
        const vf id = fit_inverse(v_sub(high, low));
        for (int k = -steps; k <= steps; k++)
            fit_try_line(f, top, negative, g, v_mul(id, v_set1(top + (float)k * 0.1f)), low, &scale, &minimum, &least);
        for (int k = 0; k < 2; k++)
            fit_try_line(f, top, negative, g, fit_inverse(scale), minimum, &scale, &minimum, &least);
        v_store(scales + g, scale);
        v_store(minima + g, minimum);
    }
}

/* Σ w·(x − minimum − scale·q)² by the nearest codes */
INLINE vf fit_line_error(const fit_groups *f, float top, int g, vf scale, vf minimum) {
    const vf id = fit_inverse(scale), zero = v_set1(0);
    vf sum = zero;
    for (int j = 0; j < f->size; j++) {
        const vf x = v_load(f->x + j * FIT_LANES + g), w = v_load(f->w + j * FIT_LANES + g);
        const vf r = v_sub(x, minimum), q = fit_round(v_min(v_max(v_mul(r, id), zero), v_set1(top)));
        const vf e = v_sub(r, v_mul(scale, q));
        sum = v_add(sum, v_mul(w, v_mul(e, e)));
    }
    return sum;
}

#endif
