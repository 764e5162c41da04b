/* decode.c: rows of any dtype as floats. A block format is a function of one block, loops over 16 or 32 elements that
 * compilers vectorise; its comment gives the fields in order (d, m: halves). Products of a half and small integers are
 * exact in float, so each result is rounded once at most.
 *
 * Formats: ggml's; MXFP4 is OCP Microscaling v1.0, NVFP4 has e4m3 scales without sign. */
#include "decode.h"

typedef uint8_t byte;

static float half(const byte *b) {
    uint16_t u;
    memcpy(&u, b, 2);
    return clf_f16_to_f32(u);
}

/* d, qs[16]: low nibbles, then high */
static void q4_0(const byte *restrict b, float *restrict y) {
    const float d = half(b);
    for (int j = 0; j < 16; j++) {
        y[j] = d * (float)((b[2 + j] & 15) - 8);
        y[j + 16] = d * (float)((b[2 + j] >> 4) - 8);
    }
}

/* d, m, qs[16] */
static void q4_1(const byte *restrict b, float *restrict y) {
    const float d = half(b), m = half(b + 2);
    for (int j = 0; j < 16; j++) {
        y[j] = d * (float)(b[4 + j] & 15) + m;
        y[j + 16] = d * (float)(b[4 + j] >> 4) + m;
    }
}

/* qs[16] with a fifth bit of each element in qh[4], less `zero` */
static void five_bits(const byte *restrict qh, const byte *restrict qs, float d, float m, int zero, float *restrict y) {
    uint32_t high;
    memcpy(&high, qh, 4);
    for (int j = 0; j < 16; j++) {
        y[j] = d * (float)((int)((qs[j] & 15u) | (high >> j & 1) << 4) - zero) + m;
        y[j + 16] = d * (float)((int)((uint32_t)qs[j] >> 4 | (high >> (j + 16) & 1) << 4) - zero) + m;
    }
}

/* d, qh[4], qs[16] */
static void q5_0(const byte *restrict b, float *restrict y) {
    five_bits(b + 2, b + 6, half(b), 0, 16, y);
}

/* d, m, qh[4], qs[16] */
static void q5_1(const byte *restrict b, float *restrict y) {
    five_bits(b + 4, b + 8, half(b), half(b + 2), 0, y);
}

/* d, i8[32] */
static void q8_0(const byte *restrict b, float *restrict y) {
    const float d = half(b);
    for (int j = 0; j < 32; j++) y[j] = d * (float)(int8_t)b[2 + j];
}

/* scales[16] (low nibble scale, high nibble minimum), qs[64], d, dmin: bit pair p of 32 bytes is 32 elements */
static void q2_k(const byte *restrict b, float *restrict y) {
    const float d = half(b + 80), dmin = half(b + 82);
    for (int s = 0; s < 16; s++) {
        const byte *q = b + 16 + s / 8 * 32 + s % 2 * 16;
        const int shift = s % 8 / 2 * 2;
        const float scale = d * (float)(b[s] & 15), minimum = dmin * (float)(b[s] >> 4);
        for (int j = 0; j < 16; j++) y[16 * s + j] = scale * (float)(q[j] >> shift & 3) - minimum;
    }
}

/* hmask[32] (clear: −4), qs[64], scales[12], d: scale s has four low bits in the nibbles of bytes 0 … 7, two high ones
 * in bytes 8 … 11, and is less 32 */
static void q3_k(const byte *restrict b, float *restrict y) {
    const float d = half(b + 108);
    const byte *scales = b + 96;
    for (int s = 0; s < 16; s++) {
        const int low = scales[s % 8] >> s / 8 * 4 & 15, high = scales[8 + s % 4] >> s / 4 * 2 & 3;
        const byte *q = b + 32 + s / 8 * 32 + s % 2 * 16, *mask = b + s % 2 * 16;
        const int shift = s % 8 / 2 * 2, bit = s / 2;
        const float scale = d * (float)((low | high << 4) - 32);
        for (int j = 0; j < 16; j++)
            y[16 * s + j] = scale * (float)((q[j] >> shift & 3) - 4 + (mask[j] >> bit & 1) * 4);
    }
}

/* Six-bit scale and minimum j of eight in twelve bytes. */
static void scale_min(const byte *s, int j, float *scale, float *minimum) {
    if (j < 4) {
        *scale = (float)(s[j] & 63);
        *minimum = (float)(s[j + 4] & 63);
    } else {
        *scale = (float)((s[j + 4] & 15) | s[j - 4] >> 6 << 4);
        *minimum = (float)(s[j + 4] >> 4 | s[j] >> 6 << 4);
    }
}

/* d, dmin, scales[12], qs[128]: 32 bytes are 64 elements, low nibbles first */
static void q4_k(const byte *restrict b, float *restrict y) {
    const float d = half(b), dmin = half(b + 2);
    for (int g = 0; g < 8; g++) {
        const byte *q = b + 16 + g / 2 * 32;
        const int shift = g % 2 * 4;
        float scale, minimum;
        scale_min(b + 4, g, &scale, &minimum);
        scale *= d, minimum *= dmin;
        for (int j = 0; j < 32; j++) y[32 * g + j] = scale * (float)(q[j] >> shift & 15) - minimum;
    }
}

/* d, dmin, scales[12], qh[32] (bit g of byte j: element 32g + j), qs[128] */
static void q5_k(const byte *restrict b, float *restrict y) {
    const float d = half(b), dmin = half(b + 2);
    const byte *high = b + 16;
    for (int g = 0; g < 8; g++) {
        const byte *q = b + 48 + g / 2 * 32;
        const int shift = g % 2 * 4;
        float scale, minimum;
        scale_min(b + 4, g, &scale, &minimum);
        scale *= d, minimum *= dmin;
        for (int j = 0; j < 32; j++)
            y[32 * g + j] = scale * (float)((q[j] >> shift & 15) | (high[j] >> g & 1) << 4) - minimum;
    }
}

/* ql[128] (64 bytes are 128 elements), qh[64] (32 bytes are 128 bit pairs), i8 scales[16], d; q less 32 */
static void q6_k(const byte *restrict b, float *restrict y) {
    const float d = half(b + 208);
    for (int s = 0; s < 16; s++) {
        const int group = s % 8 / 2; /* 32 elements of 128 */
        const byte *low = b + s / 8 * 64 + group % 2 * 32 + s % 2 * 16;
        const byte *high = b + 128 + s / 8 * 32 + s % 2 * 16;
        const int shift = group / 2 * 4;
        const float scale = d * (float)(int8_t)b[192 + s];
        for (int j = 0; j < 16; j++)
            y[16 * s + j] = scale * (float)(((low[j] >> shift & 15) | (high[j] >> 2 * group & 3) << 4) - 32);
    }
}

static const float nonlinear[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

/* d, qs[16] */
static void iq4_nl(const byte *restrict b, float *restrict y) {
    const float d = half(b);
    for (int j = 0; j < 16; j++) {
        y[j] = d * nonlinear[b[2 + j] & 15];
        y[j + 16] = d * nonlinear[b[2 + j] >> 4];
    }
}

/* d, u16 high bit pairs of eight scales, scales' low nibbles[4], qs[128] of 16 bytes each 32 elements; scales less 32
 */
static void iq4_xs(const byte *restrict b, float *restrict y) {
    uint16_t high;
    memcpy(&high, b + 2, 2);
    for (int s = 0; s < 8; s++) {
        const byte *q = b + 8 + 16 * s;
        const float scale = half(b) * (float)(((b[4 + s / 2] >> s % 2 * 4 & 15) | (high >> 2 * s & 3) << 4) - 32);
        for (int j = 0; j < 16; j++) {
            y[32 * s + j] = scale * nonlinear[q[j] & 15];
            y[32 * s + j + 16] = scale * nonlinear[q[j] >> 4];
        }
    }
}

/* `digits` base-3 digits of each of n bytes, −1, 0, 1: the byte is a fraction of 243, tripling brings up the next */
static void trits(const byte *restrict q, int n, int digits, float d, float *restrict y) {
    for (int t = 0, power = 1; t < digits; t++, power *= 3)
        for (int j = 0; j < n; j++) y[t * n + j] = d * (float)(((byte)(q[j] * power) * 3 >> 8) - 1);
}

/* qs[48], qh[4], d */
static void tq1_0(const byte *restrict b, float *restrict y) {
    const float d = half(b + 52);
    trits(b, 32, 5, d, y);
    trits(b + 32, 16, 5, d, y + 160);
    trits(b + 48, 4, 4, d, y + 240);
}

/* qs[64] (bit pair p of 32 bytes is 32 elements), d */
static void tq2_0(const byte *restrict b, float *restrict y) {
    const float d = half(b + 64);
    for (int g = 0; g < 8; g++)
        for (int j = 0; j < 32; j++) y[32 * g + j] = d * (float)((b[g / 4 * 32 + j] >> g % 4 * 2 & 3) - 1);
}

static const float e2m1[16] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6, -0.f, -0.5f, -1, -1.5f, -2, -3, -4, -6};

/* e8m0, qs[16] */
static void mxfp4(const byte *restrict b, float *restrict y) {
    const float d = ldexpf(1, b[0] - 127);
    for (int j = 0; j < 16; j++) {
        y[j] = d * e2m1[b[1 + j] & 15];
        y[j + 16] = d * e2m1[b[1 + j] >> 4];
    }
}

/* e4m3[4] (bit 7 unused, 0x7f is 0), qs[32]: 8 bytes are 16 elements */
static void nvfp4(const byte *restrict b, float *restrict y) {
    for (int s = 0; s < 4; s++) {
        const byte *q = b + 4 + 8 * s;
        const int exponent = b[s] >> 3 & 15, mantissa = b[s] & 7;
        const float magnitude = exponent ? ldexpf((float)(8 + mantissa), exponent - 10) : (float)mantissa * 0x1p-9f;
        const float d = b[s] == 0x7f ? 0 : magnitude;
        for (int j = 0; j < 8; j++) {
            y[16 * s + j] = d * e2m1[q[j] & 15];
            y[16 * s + j + 8] = d * e2m1[q[j] >> 4];
        }
    }
}

/* d, bits[16]: set is +, clear − */
static void q1_0(const byte *restrict b, float *restrict y) {
    const float d = half(b);
    for (int j = 0; j < 128; j++) y[j] = d * (float)((b[2 + j / 8] >> j % 8 & 1) * 2 - 1);
}

/* d, qs[16]: four elements a byte */
static void q2_0(const byte *restrict b, float *restrict y) {
    const float d = half(b);
    for (int j = 0; j < 64; j++) y[j] = d * (float)((b[2 + j / 4] >> j % 4 * 2 & 3) - 1);
}

/* d as a float, 16 bytes for each 32 elements: quantiles of N(0, 1) */
static void nf4(const byte *restrict b, float *restrict y) {
    float d;
    memcpy(&d, b, sizeof d);
    for (int s = 0; s < 2; s++)
        for (int j = 0; j < 16; j++) {
            const byte q = b[4 + 16 * s + j];
            y[32 * s + j] = d * clf_nf4_values[q & 15];
            y[32 * s + j + 16] = d * clf_nf4_values[q >> 4];
        }
}

/* The block formats, from Q4_0 on. */
static void (*const blocks[CLF_DTYPE_COUNT])(const byte *, float *) = {
    [CLF_Q4_0] = q4_0,     [CLF_Q4_1] = q4_1,     [CLF_Q5_0] = q5_0,   [CLF_Q5_1] = q5_1,   [CLF_Q8_0] = q8_0,
    [CLF_Q2_K] = q2_k,     [CLF_Q3_K] = q3_k,     [CLF_Q4_K] = q4_k,   [CLF_Q5_K] = q5_k,   [CLF_Q6_K] = q6_k,
    [CLF_IQ4_NL] = iq4_nl, [CLF_IQ4_XS] = iq4_xs, [CLF_TQ1_0] = tq1_0, [CLF_TQ2_0] = tq2_0, [CLF_MXFP4] = mxfp4,
    [CLF_NVFP4] = nvfp4,   [CLF_Q1_0] = q1_0,     [CLF_Q2_0] = q2_0,   [CLF_NF4] = nf4,
};

INLINE void floats(const byte *from, int64_t n, float *out, clf_dtype dtype) {
    const size_t bytes = cpu_bytes(dtype);
    int64_t i = 0;
    for (; i + VL <= n; i += VL) v_store(out + i, v_load_as(from + (size_t)i * bytes, dtype));
    if (i < n) v_store_n(out + i, v_load_as_n(from + (size_t)i * bytes, (int)(n - i), dtype), (int)(n - i));
}

#define INTEGERS(type)                                                                                                 \
    for (int64_t i = 0; i < n; i++) {                                                                                  \
        type v;                                                                                                        \
        memcpy(&v, p + (size_t)i * sizeof v, sizeof v);                                                                \
        out[i] = (float)v;                                                                                             \
    }                                                                                                                  \
    return

void cpu_decode_row(clf_dtype dtype, const void *from, int64_t n, float *out) {
    const byte *p = from;
    switch (dtype) {
    case CLF_F32:
    case CLF_F16:
    case CLF_BF16: CPU_FOR_DTYPE(DTYPE, dtype, floats(p, n, out, DTYPE)); return;
    case CLF_F64: INTEGERS(double);
    case CLF_I64: INTEGERS(int64_t);
    case CLF_I32: INTEGERS(int32_t);
    case CLF_I16: INTEGERS(int16_t);
    case CLF_I8: INTEGERS(int8_t);
    case CLF_U8: INTEGERS(uint8_t);
    case CLF_BOOL:
        for (int64_t i = 0; i < n; i++) out[i] = p[i] != 0;
        return;
    default: break;
    }
    const int values = clf_dtype_block_values(dtype);
    const size_t bytes = clf_dtype_block_bytes(dtype);
    for (int64_t i = 0; i < n; i += values, p += bytes) blocks[dtype](p, out + i);
}
