/* op_decode.c: bytes of every dtype as doubles and back: the tests' own decoder, written from the formats, one value at
 * a time, slow and plain.
 *
 * A block format is a function value(b, i): element i of the block at b. Where the fields lie is said at each; `d` is a
 * half unless said otherwise, bits count from the lowest. */
#include "op_case.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* 2^e, −1022 ≤ e ≤ 1023; and ⌊log₂|v|⌋ of a normal double. */
static double power(int e) {
    const uint64_t bits = (uint64_t)(e + 1023) << 52;
    double v;
    memcpy(&v, &bits, sizeof v);
    return v;
}
static int exponent_of(double v) {
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    return (int)(bits >> 52 & 2047) - 1023;
}

/* A float of `exponent` and `mantissa` bits below its sign; the largest exponent is infinity or NaN. */
static double decode_float(uint32_t bits, int exponent, int mantissa) {
    const int e = (int)(bits >> mantissa) & ((1 << exponent) - 1), bias = (1 << (exponent - 1)) - 1;
    const double m = (double)(bits & ((1u << mantissa) - 1)), sign = bits >> (exponent + mantissa) & 1 ? -1 : 1;
    if (e == (1 << exponent) - 1) return m != 0 ? NAN : sign * INFINITY;
    return sign * (e ? (m + (1 << mantissa)) * power(e - bias - mantissa) : m * power(1 - bias - mantissa));
}

/* The nearest such float, ties to even: overflow is infinity. */
static double round_float(double v, int exponent, int mantissa) {
    const int bias = (1 << (exponent - 1)) - 1;
    if (v == 0 || !isfinite(v)) return v;
    const int lowest = 1 - bias - mantissa,
              unit = exponent_of(v) - mantissa > lowest ? exponent_of(v) - mantissa : lowest;
    const double r = nearbyint(v * power(-unit)) * power(unit);
    return fabs(r) >= power(bias + 1) ? copysign(INFINITY, v) : r;
}

static uint32_t encode_float(double v, int exponent, int mantissa) {
    const int bias = (1 << (exponent - 1)) - 1;
    const uint32_t sign = (uint32_t)(signbit(v) != 0) << (exponent + mantissa);
    const uint32_t top = ((1u << exponent) - 1) << mantissa;
    v = round_float(fabs(v), exponent, mantissa);
    if (isnan(v)) return sign | top | 1u << (mantissa - 1);
    if (isinf(v)) return sign | top;
    if (v < power(1 - bias)) return sign | (uint32_t)(v * power(mantissa + bias - 1));
    const int e = exponent_of(v);
    return sign | (uint32_t)(e + bias) << mantissa | ((uint32_t)(v * power(mantissa - e)) & ((1u << mantissa) - 1));
}

double op_round(double value, clf_dtype dtype) {
    if (dtype == CLF_F16) return round_float(value, 5, 10);
    if (dtype == CLF_BF16) return round_float(value, 8, 7);
    return dtype == CLF_F32 ? (double)(float)value : value;
}

static double half(const uint8_t *b) {
    return decode_float((uint32_t)(b[0] | b[1] << 8), 5, 10);
}

/* `n` bits of a byte from bit `at`. */
static int bits(uint8_t byte, int at, int n) {
    return byte >> at & ((1 << n) - 1);
}

/* Element i of nibbles where byte j of each `half` bytes holds elements j (low) and j + half (high). */
static int nibble(const uint8_t *q, int i, int halves) {
    const int j = i % (2 * halves);
    return bits(q[i / (2 * halves) * halves + j % halves], j < halves ? 0 : 4, 4);
}

/* d, qs[16] */
static double q4_0(const uint8_t *b, int i) {
    return half(b) * (nibble(b + 2, i, 16) - 8);
}

/* d, m, qs[16] */
static double q4_1(const uint8_t *b, int i) {
    return half(b) * nibble(b + 4, i, 16) + half(b + 2);
}

/* d, qh[4] (bit i is bit 4 of element i), qs[16] */
static double q5_0(const uint8_t *b, int i) {
    return half(b) * ((nibble(b + 6, i, 16) | bits(b[2 + i / 8], i % 8, 1) << 4) - 16);
}

/* d, m, qh[4], qs[16] */
static double q5_1(const uint8_t *b, int i) {
    return half(b) * (nibble(b + 8, i, 16) | bits(b[4 + i / 8], i % 8, 1) << 4) + half(b + 2);
}

/* d, i8[32] */
static double q8_0(const uint8_t *b, int i) {
    return half(b) * (int8_t)b[2 + i];
}

/* Two bits of element i where each 32 bytes hold 128 elements: bit pair p of byte j is element 32p + j. */
static int pair(const uint8_t *q, int i) {
    return bits(q[i / 128 * 32 + i % 32], i % 128 / 32 * 2, 2);
}

/* scales[16] (low nibble scale, high nibble minimum, per 16), qs[64], d, dmin */
static double q2_k(const uint8_t *b, int i) {
    const uint8_t s = b[i / 16];
    return half(b + 80) * bits(s, 0, 4) * pair(b + 16, i) - half(b + 82) * bits(s, 4, 4);
}

/* hmask[32] (bit i/32 of byte i%32; clear means −4), qs[64], scales[12], d. Scale s of 16 is six bits less 32: low four
 * in nibbles of the first eight bytes, high two in bit pairs of the last four. */
static double q3_k(const uint8_t *b, int i) {
    const uint8_t *scales = b + 96;
    const int s = i / 16;
    const int scale = (bits(scales[s % 8], s < 8 ? 0 : 4, 4) | bits(scales[8 + s % 4], s / 4 * 2, 2) << 4) - 32;
    const int q = pair(b + 32, i) - (bits(b[i % 32], i / 32, 1) ? 0 : 4);
    return half(b + 108) * scale * q;
}

/* Six-bit scale and minimum j of eight in twelve bytes: the first four of each whole, the others split. */
static void scale_min(const uint8_t *s, int j, int *scale, int *minimum) {
    if (j < 4) {
        *scale = bits(s[j], 0, 6);
        *minimum = bits(s[j + 4], 0, 6);
    } else {
        *scale = bits(s[j + 4], 0, 4) | bits(s[j - 4], 6, 2) << 4;
        *minimum = bits(s[j + 4], 4, 4) | bits(s[j], 6, 2) << 4;
    }
}

/* d, dmin, scales[12], qs[128]: each 32 bytes are 64 elements */
static double q4_k(const uint8_t *b, int i) {
    int scale, minimum;
    scale_min(b + 4, i / 32, &scale, &minimum);
    return half(b) * scale * nibble(b + 16, i, 32) - half(b + 2) * minimum;
}

/* d, dmin, scales[12], qh[32] (bit i/32 of byte i%32), qs[128] */
static double q5_k(const uint8_t *b, int i) {
    int scale, minimum;
    scale_min(b + 4, i / 32, &scale, &minimum);
    const int q = nibble(b + 48, i, 32) | bits(b[16 + i % 32], i / 32, 1) << 4;
    return half(b) * scale * q - half(b + 2) * minimum;
}

/* ql[128] (each 64 bytes are 128 elements), qh[64], i8 scales[16], d */
static double q6_k(const uint8_t *b, int i) {
    const int q = (nibble(b, i, 64) | pair(b + 128, i) << 4) - 32;
    return half(b + 208) * (int8_t)b[192 + i / 16] * q;
}

static const int8_t nonlinear[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

/* d, qs[16] */
static double iq4_nl(const uint8_t *b, int i) {
    return half(b) * nonlinear[nibble(b + 2, i, 16)];
}

/* d, u16 high bit pairs of eight scales, their low nibbles[4], qs[128] of 16 bytes each 32 elements; scales less 32 */
static double iq4_xs(const uint8_t *b, int i) {
    const int s = i / 32, high = (b[2] | b[3] << 8) >> 2 * s & 3;
    const int scale = (bits(b[4 + s / 2], s % 2 * 4, 4) | high << 4) - 32;
    return half(b) * scale * nonlinear[nibble(b + 8, i, 16)];
}

/* Digit n (0 the first) of a byte of base-3 digits, as −1, 0, 1: the byte is a fraction of 243. */
static int trit(uint8_t byte, int n) {
    static const uint8_t power[5] = {1, 3, 9, 27, 81};
    return ((uint8_t)(byte * power[n]) * 3 >> 8) - 1;
}

/* qs[48], qh[4], d: 32 bytes × 5 digits, 16 × 5, 4 × 4; digit n of all bytes comes before digit n + 1 */
static double tq1_0(const uint8_t *b, int i) {
    const double d = half(b + 52);
    if (i < 160) return d * trit(b[i % 32], i / 32);
    if (i < 240) return d * trit(b[32 + (i - 160) % 16], (i - 160) / 16);
    return d * trit(b[48 + (i - 240) % 4], (i - 240) / 4);
}

/* qs[64], d */
static double tq2_0(const uint8_t *b, int i) {
    return half(b + 64) * (pair(b, i) - 1);
}

/* Sign, two bits of exponent, one of mantissa. */
static double e2m1(int q) {
    static const double magnitude[8] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
    return q & 8 ? -magnitude[q & 7] : magnitude[q & 7];
}

/* e8m0, qs[16] */
static double mxfp4(const uint8_t *b, int i) {
    return e2m1(nibble(b + 1, i, 16)) * power(b[0] - 127);
}

/* ue4m3[4], qs[32]: 8 bytes each 16 elements. 0x7f is 0; there is no infinity. */
static double nvfp4(const uint8_t *b, int i) {
    const uint8_t s = b[i / 16];
    const int e = bits(s, 3, 4), m = bits(s, 0, 3);
    const double scale = s == 0x7f ? 0 : e ? (8 + m) * power(e - 10) : m * power(-9);
    return scale * e2m1(nibble(b + 4, i, 8));
}

/* d, a sign bit each: set is + */
static double q1_0(const uint8_t *b, int i) {
    return bits(b[2 + i / 8], i % 8, 1) ? half(b) : -half(b);
}

/* d, qs[16], four elements a byte */
static double q2_0(const uint8_t *b, int i) {
    return half(b) * (bits(b[2 + i / 4], i % 4 * 2, 2) - 1);
}

/* d as a float, qs[32]: 16 bytes each 32 elements */
static double nf4(const uint8_t *b, int i) {
    static const double value[16] = {-1,
                                     -0.6961928009986877,
                                     -0.5250730514526367,
                                     -0.39491748809814453,
                                     -0.28444138169288635,
                                     -0.18477343022823334,
                                     -0.09105003625154495,
                                     0,
                                     0.07958029955625534,
                                     0.16093020141124725,
                                     0.24611230194568634,
                                     0.33791524171829224,
                                     0.44070982933044434,
                                     0.5626170039176941,
                                     0.7229568362236023,
                                     1};
    float d;
    memcpy(&d, b, sizeof d);
    return (double)d * value[nibble(b + 4, i, 16)];
}

/* The formats: where their halves lie (−1: none), and |value| for halves of 1. */
static const struct format {
    clf_dtype dtype;
    double (*value)(const uint8_t *block, int i);
    int d, d2;
    double largest;
} formats[] = {
    {CLF_Q4_0, q4_0, 0, -1, 8},      {CLF_Q4_1, q4_1, 0, 2, 16},       {CLF_Q5_0, q5_0, 0, -1, 16},
    {CLF_Q5_1, q5_1, 0, 2, 32},      {CLF_Q8_0, q8_0, 0, -1, 128},     {CLF_Q2_K, q2_k, 80, 82, 60},
    {CLF_Q3_K, q3_k, 108, -1, 128},  {CLF_Q4_K, q4_k, 0, 2, 1008},     {CLF_Q5_K, q5_k, 0, 2, 2016},
    {CLF_Q6_K, q6_k, 208, -1, 4096}, {CLF_IQ4_NL, iq4_nl, 0, -1, 127}, {CLF_IQ4_XS, iq4_xs, 0, -1, 4064},
    {CLF_TQ1_0, tq1_0, 52, -1, 1},   {CLF_TQ2_0, tq2_0, 64, -1, 2},    {CLF_MXFP4, mxfp4, -1, -1, 6},
    {CLF_NVFP4, nvfp4, -1, -1, 6},   {CLF_Q1_0, q1_0, 0, -1, 1},       {CLF_Q2_0, q2_0, 0, -1, 2},
    {CLF_NF4, nf4, -1, -1, 1},
};

static const struct format *format_of(clf_dtype dtype) {
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (formats[i].dtype == dtype) return &formats[i];
    fprintf(stderr, "op_decode: no %s\n", clf_dtype_name(dtype));
    abort();
}

/* The plain dtypes: the element at p as a double, and back. */
static double decode_plain(clf_dtype dtype, const uint8_t *p) {
    union {
        float f32;
        double f64;
        int32_t i32;
        int64_t i64;
        int16_t i16;
        uint16_t u16;
    } u;
    memcpy(&u, p, clf_dtype_block_bytes(dtype));
    switch (dtype) {
    case CLF_F32: return (double)u.f32;
    case CLF_F16: return decode_float(u.u16, 5, 10);
    case CLF_BF16: return decode_float(u.u16, 8, 7);
    case CLF_F64: return u.f64;
    case CLF_I32: return u.i32;
    case CLF_I64: return (double)u.i64;
    case CLF_I16: return u.i16;
    case CLF_I8: return (int8_t)*p;
    case CLF_BOOL: return *p != 0;
    default: return *p;
    }
}

static void encode_plain(clf_dtype dtype, double v, uint8_t *p) {
    switch (dtype) {
    case CLF_F32: memcpy(p, &(float){(float)v}, 4); break;
    case CLF_F16: memcpy(p, &(uint16_t){(uint16_t)encode_float(v, 5, 10)}, 2); break;
    case CLF_BF16: memcpy(p, &(uint16_t){(uint16_t)encode_float(v, 8, 7)}, 2); break;
    case CLF_F64: memcpy(p, &v, 8); break;
    case CLF_I32: memcpy(p, &(int32_t){(int32_t)v}, 4); break;
    case CLF_I64: memcpy(p, &(int64_t){(int64_t)v}, 8); break;
    case CLF_I16: memcpy(p, &(int16_t){(int16_t)v}, 2); break;
    case CLF_BOOL: *p = v != 0; break;
    default: *p = (uint8_t)(int)v; break;
    }
}

void op_decode(clf_dtype dtype, const void *blocks, int64_t n, double *out) {
    const uint8_t *p = blocks;
    const int values = clf_dtype_block_values(dtype);
    const size_t bytes = clf_dtype_block_bytes(dtype);
    const struct format *f = values > 1 ? format_of(dtype) : NULL;
    for (int64_t i = 0; i < n; i++) {
        const uint8_t *b = p + (size_t)(i / values) * bytes;
        out[i] = f ? f->value(b, (int)(i % values)) : decode_plain(dtype, b);
    }
}

void op_encode(clf_dtype dtype, const double *value, int64_t n, void *out) {
    const size_t bytes = clf_dtype_block_bytes(dtype);
    for (int64_t i = 0; i < n; i++) encode_plain(dtype, value[i], (uint8_t *)out + (size_t)i * bytes);
}

void op_random_blocks(op_run *run, clf_dtype dtype, int64_t n, double high, void *out) {
    const struct format *f = format_of(dtype);
    const size_t bytes = clf_dtype_block_bytes(dtype);
    uint8_t *b = out;
    for (int64_t i = 0; i < n / clf_dtype_block_values(dtype); i++, b += bytes) {
        for (size_t j = 0; j < bytes; j++) b[j] = (uint8_t)op_random_int(run, 256);
        for (int k = 0; k < 2; k++) {
            const int at = k ? f->d2 : f->d;
            if (at < 0) continue;
            const double sign = op_random_int(run, 4) ? 1 : -1;
            encode_plain(CLF_F16, sign * high / f->largest * (0.5 + 0.5 * op_random(run)), b + at);
        }
        if (dtype == CLF_TQ1_0) /* bytes that an encoder makes: ⌈digits · 256/243⌉, four digits in the last four */
            for (int j = 0; j < 52; j++) {
                const int64_t digits = j < 48 ? op_random_int(run, 243) : 3 * op_random_int(run, 81);
                b[j] = (uint8_t)((digits * 256 + 242) / 243);
            }
        if (dtype == CLF_NF4) encode_plain(CLF_F32, high * (0.5 + 0.5 * op_random(run)), b);
        if (dtype == CLF_MXFP4) b[0] = (uint8_t)(127 + ilogb(high / f->largest) - op_random_int(run, 3));
        if (dtype == CLF_NVFP4)
            for (int j = 0; j < 4; j++) { /* now and then the codes whose meaning is special */
                const uint8_t code = (uint8_t)(8 * (7 + ilogb(high / f->largest)) + op_random_int(run, 8));
                b[j] = op_random_int(run, 8) ? code : (uint8_t)(op_random_int(run, 2) ? 0x7f : op_random_int(run, 8));
            }
    }
}

bool op_interleaved(clf_dtype dtype) {
    return dtype == CLF_T2 || dtype == CLF_T1;
}

/* Panels of 16 rows: halves [k / 256][16], words of 64 bytes, four each row: T2's byte i of a word for 16 k is elements
 * 4p + i in bit pairs p; T1's of thirteen words for 256 k is elements 4p + i in base-3 digits p, the lowest first. */
void op_decode_interleaved(clf_dtype dtype, const void *panels, int64_t n, int64_t k, double *out) {
    const int block = (int)clf_dtype_block_bytes(dtype);
    for (int64_t r = 0; r < n; r++)
        for (int64_t i = 0; i < k; i++) {
            const uint8_t *panel = (const uint8_t *)panels + r / 16 * 16 * (k / 256) * block;
            const uint8_t *words = panel + k / 256 * 32;
            const int64_t in = i % 256, lane = 4 * (r % 16) + i % 4;
            int code;
            if (dtype == CLF_T2) {
                code = bits(words[i / 16 * 64 + lane], (int)(i % 16 / 4 * 2), 2);
            } else {
                code = words[(i / 256 * 13 + in / 20) * 64 + lane];
                for (int64_t p = 0; p < in % 20 / 4; p++) code /= 3;
                code %= 3;
            }
            out[r * k + i] = half(panel + i / 256 * 32 + r % 16 * 2) * (code - 1);
        }
}

void op_random_interleaved(op_run *run, clf_dtype dtype, int64_t n, int64_t k, double high, void *out) {
    uint8_t *p = out;
    const double largest = dtype == CLF_T2 ? 2 : 1;
    for (int64_t panel = 0; panel < n / 16; panel++) {
        for (int64_t i = 0; i < k / 256 * 16; i++, p += 2)
            encode_plain(CLF_F16, (op_random_int(run, 4) ? 1 : -1) * high / largest * (0.5 + 0.5 * op_random(run)), p);
        for (int64_t word = 0; word < k / 256 * (dtype == CLF_T2 ? 16 : 13); word++)
            for (int i = 0; i < 64; i++)
                *p++ = (uint8_t)op_random_int(run, dtype == CLF_T2 ? 256 : word % 13 < 12 ? 243 : 81);
    }
}
