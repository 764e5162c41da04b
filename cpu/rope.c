/* rope.c: rotates pairs of elements: y₀ = x₀c − x₁s, y₁ = x₁c + x₀s, with c and s the cosine and sine of position ·
 * frequency, times the magnitude. Pairs are (i, i + n/2), or neighbours (2i, 2i + 1); elements from n on are copied.
 *
 * Threads share the positions. Cosines and sines are made once for all heads: of one position at a time where its heads
 * lie together, else of as many as TABLE holds, so that each head's rows for them are walked together. While a run of
 * rows is turned, the next one is fetched: runs are too short for the hardware to foresee. Angles are 64-bit fractions
 * of a turn, reduced by wrapping (see rope_frequencies.h) and by quarter turns, so the float polynomials see what is
 * left, at most an eighth of a turn. */
#include "../lib/ops/rope_frequencies.h"
#include "cpu.h"
#include "team.h"

enum { PAIRS = CLF_ROPE_MAX_DIMS / 2, TABLE = 16384, POSITIONS = 64 };

/* Cosines and sines of at most POSITIONS positions, TABLE floats. Neighbours have each twice, the first sine negated: y
 * = x·c + swapped x·s; so each position takes n floats of c and n of s. */
typedef struct rotation {
    float *c, *s;
} rotation;

/* Cosine and sine of position · turns[i], i < n, each times `magnitude`; `sign` −1 turns back. Minimax polynomials on
 * an eighth of a turn; plain loops over equal types, which compilers vectorise. */
static void sincos(const uint64_t *restrict turns, uint64_t position, int n, float magnitude, float sign,
                   float *restrict c, float *restrict s) {
    float angle[PAIRS];
    uint32_t quarter[PAIRS];
    for (int i = 0; i < n; i++) {
        const uint64_t u = position * turns[i] + ((uint64_t)1 << 61); /* so that quarters are rounded to nearest */
        /* the 52 bits below the quarter as the mantissa of a double in [2^52, 2^53) */
        const uint64_t bits = (u << 2 >> 12) | (uint64_t)0x433 << 52;
        double d;
        memcpy(&d, &bits, sizeof d);
        angle[i] = (float)((d - 0x1.8p52) * (6.283185307179586 * 0x1p-54));
        quarter[i] = (uint32_t)(u >> 62);
    }
    for (int i = 0; i < n; i++) {
        const float r = angle[i], z = r * r;
        const float sine = r + r * z * (-0.166666552f + z * (0.008332178f + z * -0.000195172674f));
        const float cosine = 1 - (0.5f * z - z * z * (0.0416666456f + z * (-0.00138873677f + z * 2.44384155e-05f)));
        const float p = quarter[i] & 1 ? sine : cosine, q = quarter[i] & 1 ? cosine : sine;
        c[i] = (quarter[i] + 1) & 2 ? -magnitude * p : magnitude * p;
        s[i] = quarter[i] & 2 ? -magnitude * sign * q : magnitude * sign * q;
    }
}

/* c, s of n/2 pairs in the layout of neighbours, in place */
static void spread(rotation *r, int n) {
    for (int i = n / 2 - 1; i >= 0; i--) {
        r->c[2 * i] = r->c[2 * i + 1] = r->c[i];
        r->s[2 * i + 1] = r->s[i];
        r->s[2 * i] = -r->s[2 * i + 1];
    }
}

INLINE void put(char *p, vf v, clf_dtype dtype, bool stream) {
    if (stream)
        v_stream_as(p, v, dtype);
    else
        v_store_as(p, v, dtype);
}

/* pairs (i, i + n/2) */
INLINE void halves(const char *x, const char *next, const rotation *r, int n, char *y, clf_dtype dtype, bool stream) {
    const size_t bytes = cpu_bytes(dtype), half = (size_t)(n / 2) * bytes;
    int i = 0;
    for (; i + VL <= n / 2; i += VL) {
        const size_t at = (size_t)i * bytes;
        const vf a = v_load_as(x + at, dtype), b = v_load_as(x + half + at, dtype);
        const vf c = v_load(r->c + i), s = v_load(r->s + i);
        cpu_fetch(next + at, VL * bytes);
        cpu_fetch(next + half + at, VL * bytes);
        put(y + at, v_nfma(b, s, v_mul(a, c)), dtype, stream);
        put(y + half + at, v_fma(b, c, v_mul(a, s)), dtype, stream);
    }
    if (i < n / 2) {
        const size_t at = (size_t)i * bytes;
        const int rest = n / 2 - i;
        const vf a = v_load_as_n(x + at, rest, dtype), b = v_load_as_n(x + half + at, rest, dtype);
        const vf c = v_load_n(r->c + i, rest), s = v_load_n(r->s + i, rest);
        v_store_as_n(y + at, v_nfma(b, s, v_mul(a, c)), rest, dtype);
        v_store_as_n(y + half + at, v_fma(b, c, v_mul(a, s)), rest, dtype);
    }
}

/* pairs (2i, 2i + 1); a vector of one element swaps by address */
INLINE void neighbours(const char *x, const char *next, const rotation *r, int n, char *y, clf_dtype dtype,
                       bool stream) {
    const size_t bytes = cpu_bytes(dtype);
    int i = 0;
    if (VL == 1) {
        for (; i < n; i += 2) {
            const vf a = v_load_as(x + (size_t)i * bytes, dtype), b = v_load_as(x + (size_t)(i + 1) * bytes, dtype);
            const vf c = v_load(r->c + i), s = v_load(r->s + i + 1);
            v_store_as(y + (size_t)i * bytes, v_nfma(b, s, v_mul(a, c)), dtype);
            v_store_as(y + (size_t)(i + 1) * bytes, v_fma(b, c, v_mul(a, s)), dtype);
        }
        return;
    }
    for (; i + VL <= n; i += VL) {
        const vf v = v_load_as(x + (size_t)i * bytes, dtype);
        cpu_fetch(next + (size_t)i * bytes, VL * bytes);
        put(y + (size_t)i * bytes, v_fma(v, v_load(r->c + i), v_mul(v_swap(v), v_load(r->s + i))), dtype, stream);
    }
    if (i < n) {
        const int rest = n - i;
        const vf v = v_load_as_n(x + (size_t)i * bytes, rest, dtype);
        const vf c = v_load_n(r->c + i, rest), s = v_load_n(r->s + i, rest);
        v_store_as_n(y + (size_t)i * bytes, v_fma(v, c, v_mul(v_swap(v), s)), rest, dtype);
    }
}

/* Rows of x that follow each other in memory: `count` of them, with one rotation or (r_step 1) one each. `next` is the
 * first row of the run that follows, fetched meanwhile. */
typedef struct run {
    const char *x, *next;
    char *y;
    size_t x_step, y_step; /* bytes */
    const rotation *r;
    int r_step;
    int64_t count, dim;
    int n;
} run;

INLINE void turn(const run *t, clf_rope_pairing pairing, clf_dtype dtype, bool stream) {
    const size_t done = (size_t)t->n * cpu_bytes(dtype), all = (size_t)t->dim * cpu_bytes(dtype);
    const char *x = t->x, *next = t->next;
    char *y = t->y;
    const rotation *r = t->r;
    for (int64_t k = 0; k < t->count; k++, x += t->x_step, next += t->x_step, y += t->y_step, r += t->r_step) {
        if (pairing == CLF_ROPE_INTERLEAVED)
            neighbours(x, next, r, t->n, y, dtype, stream);
        else
            halves(x, next, r, t->n, y, dtype, stream);
        if (all > done && x != y) memcpy(y + done, x + done, all - done);
    }
}

static void turn_run(const clf_rope_args *a, const run *t, bool stream) {
    if (a->pairing == CLF_ROPE_INTERLEAVED)
        CPU_FOR_DTYPE(DTYPE, a->x->dtype, CPU_FOR_BOOL(STREAM, stream, turn(t, CLF_ROPE_INTERLEAVED, DTYPE, STREAM)));
    else
        CPU_FOR_DTYPE(DTYPE, a->x->dtype, CPU_FOR_BOOL(STREAM, stream, turn(t, CLF_ROPE_HALVES, DTYPE, STREAM)));
}

/* Position of step `s` of batch `b`. */
static uint64_t position_of(const clf_rope_args *a, int64_t b, int64_t s) {
    const clf_tensor *p = a->positions;
    if (!p) return (uint64_t)(a->position + s);
    const int64_t i = p->ndim == 2 ? b * p->stride[0] + s : s;
    return (uint64_t)a->position + (uint64_t)((const int32_t *)clf_data(p))[i];
}

/* Steps [begin, end) of batch b, for all heads. */
static void rotate(const clf_rope_args *a, const uint64_t *turns, float magnitude, float *table, int64_t b,
                   int64_t begin, int64_t end, bool stream) {
    const clf_tensor *x = a->x, *out = a->out;
    const int batch = x->ndim - 3, n = a->n_dims; /* batch: 1 if there is that dimension */
    const size_t bytes = cpu_bytes(x->dtype);
    rotation r[POSITIONS];
    for (int64_t s = begin; s < end; s++) {
        rotation *t = &r[s - begin];
        t->c = table + (s - begin) * 2 * n;
        t->s = t->c + n;
        sincos(turns, position_of(a, b, s), n / 2, magnitude, a->inverse ? -1.f : 1.f, t->c, t->s);
        if (a->pairing == CLF_ROPE_INTERLEAVED) spread(t, n);
    }
    const int64_t heads = x->shape[batch], steps = end - begin;
    const size_t x_head = (size_t)x->stride[batch] * bytes, x_step = (size_t)x->stride[batch + 1] * bytes;
    const size_t y_head = (size_t)out->stride[batch] * bytes, y_step = (size_t)out->stride[batch + 1] * bytes;
    const char *from =
        (const char *)clf_data(x) + (size_t)(batch ? b * x->stride[0] : 0) * bytes + (size_t)begin * x_step;
    char *to = (char *)clf_data(out) + (size_t)(batch ? b * out->stride[0] : 0) * bytes + (size_t)begin * y_step;
    run t = {.dim = clf_last(x), .n = n};
    if (x_head < x_step) { /* walk as the memory lies: all heads of a step */
        for (int64_t s = 0; s < steps; s++) {
            t.x = from + (size_t)s * x_step, t.next = t.x + x_step, t.x_step = x_head;
            t.y = to + (size_t)s * y_step, t.y_step = y_head;
            t.r = &r[s], t.r_step = 0, t.count = heads;
            turn_run(a, &t, stream);
        }
    } else { /* or the steps of a head */
        for (int64_t h = 0; h < heads; h++) {
            t.x = from + (size_t)h * x_head, t.x_step = x_step;
            t.next = h + 1 < heads ? t.x + x_head : from + (size_t)steps * x_step;
            t.y = to + (size_t)h * y_head, t.y_step = y_step;
            t.r = r, t.r_step = 1, t.count = steps;
            turn_run(a, &t, stream);
        }
    }
}

/* The call's steps in pieces of `step` of a batch, `count` pieces in all. */
typedef struct pieces {
    int64_t seq, step, per_batch, count;
    bool stream;
} pieces;

static void rotate_share(const clf_rope_args *a, const pieces *p, const uint64_t *turns, float magnitude, int t,
                         int team) {
    float table[TABLE];
    int64_t begin, end;
    cpu_share(p->count, t, team, &begin, &end);
    for (int64_t i = begin; i < end; i++) {
        const int64_t first = i % p->per_batch * p->step, last = first + p->step < p->seq ? first + p->step : p->seq;
        rotate(a, turns, magnitude, table, i / p->per_batch, first, last, p->stream);
    }
    v_stream_end();
}

clf_status CPU_FN(rope)(clf_context *ctx, const clf_rope_args *a) {
    const int batch = a->x->ndim - 3, n = a->n_dims;
    const int64_t batches = batch ? a->x->shape[0] : 1, seq = a->x->shape[batch + 1];
    const bool heads_inside = a->x->stride[batch] < a->x->stride[batch + 1];
    const int64_t room = n ? TABLE / (2 * n) : POSITIONS, most = heads_inside ? 1 : POSITIONS;
    pieces p = {.seq = seq, .step = room < most ? room : most};
    p.per_batch = (seq + p.step - 1) / p.step;
    p.count = clf_elements(a->x) ? batches * p.per_batch : 0;
    p.stream = cpu_streams(a->out, a->x, NULL) && (size_t)n * cpu_bytes(a->x->dtype) % 128 == 0;
    const int threads = cpu_threads(ctx, p.count, 2 * (int64_t)clf_dtype_bytes(a->x->dtype, clf_elements(a->x)));
    uint64_t turns[PAIRS];
    float magnitude;
    clf_rope_frequencies(a, clf_last(a->x), turns, &magnitude);
    CPU_TEAM(threads, t, team, rotate_share(a, &p, turns, magnitude, t, team));
    return CLF_OK;
}
