/* encode.c: floats as blocks. A format is a function of one block that returns whether its scales fit a half; its
 * loops are over 16 or more elements, which compilers vectorise, and every sum has an order of its own, so that all
 * tables give the same bytes. The fields of a block are told in decode.c.
 *
 * Formats without a search round to the nearest of evenly spaced values, as ggml's reference does to the byte: the
 * scale in float, the codes by its inverse, and only then the scale as a half. A block whose scale has no finite
 * inverse is 0 as a half, whatever the codes. */
#include "encode.h"

#include "encode_pack.h"
#include "encode_search.h"

typedef uint8_t byte;

/* 1/d, or 0 if that is infinite. */
INLINE float inverse(float d) {
    const float r = 1 / d;
    return isinf(r) ? 0 : r;
}

/* To the nearest whole number, halves away from 0, for |v| < 2^22: less than a half is added, so that the sum never
 * rounds up to the next number. */
INLINE int round_away(float v) {
    return (int)(v + copysignf(0x1.fffffep-2f, v));
}

/* Bits of a float's magnitude, which order as magnitudes do. */
INLINE int32_t magnitude_bits(const float *x) {
    int32_t u;
    memcpy(&u, x, sizeof u);
    return u & INT32_MAX;
}

INLINE float largest(const float *restrict x, int n) {
    int32_t bits = 0;
    for (int j = 0; j < n; j++) {
        const int32_t u = magnitude_bits(x + j);
        bits = u > bits ? u : bits;
    }
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* Floats as integers of the same order, −0 below 0; its own inverse. */
INLINE int32_t ordered(int32_t u) {
    return u ^ (u >> 31 & INT32_MAX);
}

INLINE void range(const float *restrict x, int n, float *least, float *most) {
    int32_t low = INT32_MAX, high = INT32_MIN;
    for (int j = 0; j < n; j++) {
        int32_t u;
        memcpy(&u, x + j, sizeof u);
        u = ordered(u);
        low = u < low ? u : low;
        high = u > high ? u : high;
    }
    low = ordered(low), high = ordered(high);
    memcpy(least, &low, sizeof low);
    memcpy(most, &high, sizeof high);
}

/* The first of n values that has this magnitude; there is one. */
static float first_of(const float *x, float magnitude) {
    while (fabsf(*x) != magnitude) x++;
    return *x;
}

/* The value of largest magnitude, the first one. */
INLINE float extreme(const float *restrict x, int n) {
    float least, most;
    range(x, n, &least, &most);
    return most == -least ? first_of(x, most) : most > -least ? most : least;
}

/* ⌊(x − zero)·id + offset⌋, at most `top` */
INLINE void codes(const float *restrict x, int n, float zero, float id, float offset, int top, byte *restrict q) {
    for (int j = 0; j < n; j++) {
        const int v = (int)((x[j] - zero) * id + offset);
        q[j] = (byte)(v < top ? v : top);
    }
}

/* The extreme is code 0 */
static bool q4_0(const float *restrict x, byte *restrict b) {
    const float d = extreme(x, 32) / -8;
    byte q[32];
    if (!put_half(b, d)) return false;
    codes(x, 32, 0, inverse(d), 8.5f, 15, q);
    put_nibbles(b + 2, q, 16);
    return true;
}

static bool q5_0(const float *restrict x, byte *restrict b) {
    const float d = extreme(x, 32) / -16;
    byte q[32];
    if (!put_half(b, d)) return false;
    codes(x, 32, 0, inverse(d), 16.5f, 31, q);
    put_fifth(b + 2, q);
    put_nibbles(b + 6, q, 16);
    return true;
}

/* Codes 0 … top from the least value to the largest; of zeros the first gives the minimum its sign. */
INLINE bool from_minimum(const float *restrict x, int top, byte *restrict b, byte *restrict q) {
    float least, most;
    range(x, 32, &least, &most);
    const float d = (most - least) / (float)top, zero = least == 0 ? first_of(x, 0) : least;
    if (!put_half(b, d) || !put_half(b + 2, zero)) return false;
    codes(x, 32, zero, inverse(d), 0.5f, top, q);
    return true;
}

static bool q4_1(const float *restrict x, byte *restrict b) {
    byte q[32];
    if (!from_minimum(x, 15, b, q)) return false;
    put_nibbles(b + 4, q, 16);
    return true;
}

static bool q5_1(const float *restrict x, byte *restrict b) {
    byte q[32];
    if (!from_minimum(x, 31, b, q)) return false;
    put_fifth(b + 4, q);
    put_nibbles(b + 8, q, 16);
    return true;
}

static bool q8_0(const float *restrict x, byte *restrict b) {
    const float d = largest(x, 32) / 127, id = inverse(d);
    if (!put_half(b, d)) return false;
    for (int j = 0; j < 32; j++) b[2 + j] = (byte)round_away(x[j] * id);
    return true;
}

/* Ternary: 0, 1, 2 for −d, 0, d, the largest magnitude. */
INLINE bool ternary(const float *restrict x, int n, byte *restrict half, byte *restrict q) {
    const float d = largest(x, n), id = inverse(d);
    if (!put_half(half, d)) return false;
    for (int j = 0; j < n; j++) q[j] = (byte)(round_away(x[j] * id) + 1);
    return true;
}

/* Five base-3 digits a byte, a fraction of 243 rounded up; four digits: the last is 0 */
INLINE void put_trits(byte *restrict b, const byte *restrict q, int n, int digits) {
    for (int j = 0; j < n; j++) {
        unsigned v = 0;
        for (int t = 0; t < 5; t++) v = 3 * v + (t < digits ? q[t * n + j] : 0);
        b[j] = (byte)((256 * v + 242) / 243);
    }
}

static bool tq1_0(const float *restrict x, byte *restrict b) {
    byte q[256];
    if (!ternary(x, 256, b + 52, q)) return false;
    put_trits(b, q, 32, 5);
    put_trits(b + 32, q + 160, 16, 5);
    put_trits(b + 48, q + 240, 4, 4);
    return true;
}

static bool tq2_0(const float *restrict x, byte *restrict b) {
    byte q[256];
    if (!ternary(x, 256, b + 64, q)) return false;
    put_pairs(b, q, 0);
    return true;
}

static bool q2_0(const float *restrict x, byte *restrict b) {
    byte q[64];
    if (!ternary(x, 64, b, q)) return false;
    for (int j = 0; j < 16; j++)
        b[2 + j] = (byte)(q[4 * j] | q[4 * j + 1] << 2 | q[4 * j + 2] << 4 | q[4 * j + 3] << 6);
    return true;
}

/* e2m1 codes of x by the scale d, a value half-way between two getting the smaller one; returns Σ(x − value)². */
INLINE float e2m1_codes(const float *restrict x, float d, byte *restrict codes) {
    static const float level[8] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
    const vf zero = v_set1(0);
    float square[32];
    for (int j = 0; j < 32; j += VL) {
        const vf v = v_load(x + j), a = v_abs(v);
        vf nearest = zero, code = zero;
        UNROLL for (int k = 1; k < 8; k++) {
            const vf middle = v_set1((level[k - 1] + level[k]) / 2 * d);
            nearest = v_ge_or(middle, a, nearest, v_set1(level[k] * d));
            code = v_ge_or(middle, a, code, v_set1((float)k));
        }
        const vf e = v_sub(a, nearest), negative = v_ge_or(zero, code, code, v_add(code, v_set1(8)));
        v_store(square + j, v_mul(e, e));
        v_store_u8(codes + j, v_ge_or(v, zero, code, negative));
    }
    for (int n = 16; n; n /= 2)
        for (int j = 0; j < n; j++) square[j] += square[j + n];
    return square[0];
}

/* The largest magnitude has e2m1's largest exponent, or, if that loses less, the one below it. */
static bool mxfp4(const float *restrict x, byte *restrict b) {
    byte codes[2][32];
    const float m = largest(x, 32);
    const int exponent = magnitude_bits(&m) >> 23, e = exponent > 2 ? exponent - 2 : 0;
    const float d = ldexpf(1, e - 127);
    const bool next = e2m1_codes(x, 2 * d, codes[1]) < e2m1_codes(x, d, codes[0]);
    b[0] = (byte)(e + next);
    put_nibbles(b + 1, codes[next], 16);
    return true;
}

/* The nearest value, by the middles of neighbours: codes count those below. */
static bool nf4(const float *restrict x, byte *restrict b) {
    const float d = largest(x, 64);
    const vf id = v_set1(inverse(d));
    byte codes[64];
    memcpy(b, &d, sizeof d);
    for (int j = 0; j < 64; j += VL) {
        const vf v = v_mul(v_load(x + j), id);
        vf code = v_set1(0);
        UNROLL for (int k = 1; k < 16; k++) {
            const vf middle = v_set1((clf_nf4_values[k - 1] + clf_nf4_values[k]) / 2);
            code = v_ge_or(middle, v, code, v_set1((float)k));
        }
        v_store_u8(codes + j, code);
    }
    put_nibbles(b + 4, codes, 16);
    put_nibbles(b + 20, codes + 32, 16);
    return true;
}

static bool (*const blocks[CLF_DTYPE_COUNT])(const float *, byte *) = {
    [CLF_Q4_0] = q4_0,   [CLF_Q4_1] = q4_1,   [CLF_Q5_0] = q5_0, [CLF_Q5_1] = q5_1,   [CLF_Q8_0] = q8_0,
    [CLF_TQ1_0] = tq1_0, [CLF_TQ2_0] = tq2_0, [CLF_Q2_0] = q2_0, [CLF_MXFP4] = mxfp4, [CLF_NF4] = nf4,
};

/* How many of n values come before the first that is not finite. */
static int64_t count_finite(const float *x, int64_t n) {
    enum { INFINITE = 0x7f800000 };
    int32_t bits = 0;
    for (int64_t i = 0; i < n; i++) {
        const int32_t u = magnitude_bits(x + i);
        bits = u > bits ? u : bits;
    }
    for (int64_t i = 0; bits >= INFINITE && i < n; i++)
        if (magnitude_bits(x + i) >= INFINITE) return i;
    return n;
}

/* Whether an importance changes what is written: of formats without a search, where one is possible. */
static bool weighs(clf_dtype dtype) {
    return dtype == CLF_Q4_0 || dtype == CLF_Q4_1 || dtype == CLF_Q5_0 || dtype == CLF_Q5_1;
}

int64_t cpu_encode_row(clf_dtype dtype, const float *x, int64_t n, const float *importance, void *out) {
    const int values = clf_dtype_block_values(dtype);
    const size_t bytes = clf_dtype_block_bytes(dtype);
    const int64_t good = count_finite(x, n), whole = good / values * values;
    byte *b = out;
    int64_t done = 0;
    if (!blocks[dtype] || (importance && weighs(dtype)))
        done = cpu_encode_search(dtype, x, whole, importance, out);
    else
        while (done < whole && blocks[dtype](x + done, b)) done += values, b += bytes;
    return done < whole ? done : good;
}
