/* encode.c: floats as blocks. A format is a function of one block that returns whether its scales fit a half; its
 * loops are over 16 or more elements, which compilers vectorise, and every sum has an order of its own, so that all
 * tables give the same bytes. The fields of a block are told in decode.c.
 *
 * Formats without a search round to the nearest of evenly spaced values, as ggml's reference does to the byte: the
 * scale in float, the codes by its inverse, and only then the scale as a half. A block whose scale has no finite
 * inverse is 0 as a half, whatever the codes. */
#include "encode.h"

typedef uint8_t byte;

static bool put_half(byte *b, float v) {
    const uint16_t u = clf_f32_to_f16(v);
    memcpy(b, &u, sizeof u);
    return (u & 0x7c00) != 0x7c00;
}

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
    return most > -least ? most : most < -least ? least : first_of(x, most);
}

/* ⌊(x − zero)·id + offset⌋, at most `top` */
INLINE void codes(const float *restrict x, int n, float zero, float id, float offset, int top, byte *restrict q) {
    for (int j = 0; j < n; j++) {
        const int v = (int)((x[j] - zero) * id + offset);
        q[j] = (byte)(v < top ? v : top);
    }
}

/* The low four bits of 32 codes */
INLINE void put_nibbles(byte *restrict b, const byte *restrict q) {
    for (int j = 0; j < 16; j++) b[j] = (byte)((q[j] & 15) | q[j + 16] << 4);
}

/* and their fifth bits. */
INLINE void put_fifth(byte *restrict b, const byte *restrict q) {
    uint32_t high = 0;
    for (int j = 0; j < 32; j++) high |= (uint32_t)(q[j] >> 4) << j;
    memcpy(b, &high, sizeof high);
}

/* The extreme is code 0 */
static bool q4_0(const float *restrict x, byte *restrict b) {
    const float d = extreme(x, 32) / -8;
    byte q[32];
    if (!put_half(b, d)) return false;
    codes(x, 32, 0, inverse(d), 8.5f, 15, q);
    put_nibbles(b + 2, q);
    return true;
}

static bool q5_0(const float *restrict x, byte *restrict b) {
    const float d = extreme(x, 32) / -16;
    byte q[32];
    if (!put_half(b, d)) return false;
    codes(x, 32, 0, inverse(d), 16.5f, 31, q);
    put_fifth(b + 2, q);
    put_nibbles(b + 6, q);
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
    put_nibbles(b + 4, q);
    return true;
}

static bool q5_1(const float *restrict x, byte *restrict b) {
    byte q[32];
    if (!from_minimum(x, 31, b, q)) return false;
    put_fifth(b + 4, q);
    put_nibbles(b + 8, q);
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
    for (int h = 0; h < 2; h++)
        for (int j = 0; j < 32; j++) {
            const byte *v = q + 128 * h + j;
            b[32 * h + j] = (byte)(v[0] | v[32] << 2 | v[64] << 4 | v[96] << 6);
        }
    return true;
}

static bool q2_0(const float *restrict x, byte *restrict b) {
    byte q[64];
    if (!ternary(x, 64, b, q)) return false;
    for (int j = 0; j < 16; j++)
        b[2 + j] = (byte)(q[4 * j] | q[4 * j + 1] << 2 | q[4 * j + 2] << 4 | q[4 * j + 3] << 6);
    return true;
}

/* e2m1 codes of x by the scale d, a value half-way between two getting the smaller one; returns Σ(x − value)² */
static float e2m1_codes(const float *restrict x, float d, byte *restrict codes) {
    static const float middle[7] = {0.25f, 0.75f, 1.25f, 1.75f, 2.5f, 3.5f, 5};
    static const float step[7] = {0.5f, 0.5f, 0.5f, 0.5f, 1, 1, 2};
    float value[32] = {0}, lanes[8] = {0};
    int q[32] = {0};
    for (int k = 0; k < 7; k++)
        for (int j = 0; j < 32; j++) {
            const bool above = fabsf(x[j]) > middle[k] * d;
            q[j] += above;
            value[j] += above ? step[k] * d : 0;
        }
    for (int j = 0; j < 32; j++) codes[j] = (byte)(q[j] | (x[j] < 0 && q[j] ? 8 : 0));
    for (int j = 0; j < 32; j++) lanes[j % 8] += (fabsf(x[j]) - value[j]) * (fabsf(x[j]) - value[j]);
    return ((lanes[0] + lanes[4]) + (lanes[1] + lanes[5])) + ((lanes[2] + lanes[6]) + (lanes[3] + lanes[7]));
}

/* The largest magnitude has e2m1's largest exponent, or, if that loses less, the one below it. */
static bool mxfp4(const float *restrict x, byte *restrict b) {
    int exponent;
    byte codes[2][32];
    const float m = frexpf(largest(x, 32), &exponent);
    exponent = m > 0 && exponent > -124 ? exponent + 124 : 0;
    const float d = ldexpf(1, exponent - 127);
    const bool next = e2m1_codes(x, 2 * d, codes[1]) < e2m1_codes(x, d, codes[0]);
    b[0] = (byte)(exponent + next);
    put_nibbles(b + 1, codes[next]);
    return true;
}

/* Codes count the middles of neighbouring values that lie below. */
static bool nf4(const float *restrict x, byte *restrict b) {
    const float d = largest(x, 64), id = inverse(d);
    int q[64] = {0};
    byte codes[64];
    memcpy(b, &d, sizeof d);
    for (int k = 0; k < 15; k++) {
        const float middle = (clf_nf4_values[k] + clf_nf4_values[k + 1]) / 2;
        for (int j = 0; j < 64; j++) q[j] += x[j] * id > middle;
    }
    for (int j = 0; j < 64; j++) codes[j] = (byte)q[j];
    put_nibbles(b + 4, codes);
    put_nibbles(b + 20, codes + 32);
    return true;
}

static bool (*const blocks[CLF_DTYPE_COUNT])(const float *, byte *) = {
    [CLF_Q4_0] = q4_0,   [CLF_Q4_1] = q4_1,   [CLF_Q5_0] = q5_0, [CLF_Q5_1] = q5_1,   [CLF_Q8_0] = q8_0,
    [CLF_TQ1_0] = tq1_0, [CLF_TQ2_0] = tq2_0, [CLF_Q2_0] = q2_0, [CLF_MXFP4] = mxfp4, [CLF_NF4] = nf4,
};

/* The first of n values that isn't finite, or n. */
static int64_t finite(const float *x, int64_t n) {
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

int64_t cpu_encode_row(clf_dtype dtype, const float *x, int64_t n, const float *importance, void *out) {
    (void)importance;
    const int values = clf_dtype_block_values(dtype);
    const size_t bytes = clf_dtype_block_bytes(dtype);
    const int64_t good = finite(x, n);
    byte *b = out;
    for (int64_t i = 0; i + values <= good; i += values, b += bytes)
        if (!blocks[dtype](x + i, b)) return i;
    return good;
}
