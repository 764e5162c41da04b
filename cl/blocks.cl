/* blocks.cl: the block dtypes. Of the 16 consecutive values from 16 · part on of a block, value i is
 *
 *     scale · code_i − minimum
 *
 * codes_X(block, part) gives the codes, int8 in four words, scale_X and, where the format has one, minimum_X the rest;
 * every format has one of each for such a run. Each product is exact in float32, so that a value is rounded once at
 * most. NF4's codes are indices of a table. Blocks are two-byte aligned, but MXFP4's of 17 bytes;
 * NF4's by four. A program that uses them is built with -DW=Q4_K and -DBLOCKS. */

float half_at(global const uchar *p) {
    return vload_half(0, (global const half *)p);
}

/* 16 bytes, two-byte aligned. A program may bring its own. */
#ifndef BYTES16
#define BYTES16(p) as_uint4(vload8(0, (global const ushort *)(p)))
#endif
uint4 bytes16(global const uchar *p) {
    return BYTES16(p);
}

/* The same at any address. */
uint4 bytes16_anywhere(global const uchar *p) {
    return as_uint4(vload16(0, p));
}

/* Bytes 0 … 127 less 0 … 127, each within its byte. */
uint4 less(uint4 bytes, uint n) {
    return (bytes + (128 - n) * 0x01010101u) ^ 0x80808080u;
}

/* Low nibbles of 16 bytes for even parts, high ones for odd parts. */
uint4 nibbles(uint4 bytes, int part) {
    return bytes >> (uint)(part % 2 * 4) & 0x0f0f0f0fu;
}

/* Bit j of `bits` at byte j. */
uint4 bits16(uint bits) {
    return ((uint4)(bits, bits >> 4, bits >> 8, bits >> 12) & 15u) * 0x00204081u & 0x01010101u;
}

/* values[index] of 16 indices, each a byte. */
uint4 look_up(constant char *values, uint4 index) {
    const uchar16 i = as_uchar16(index);
    return as_uint4((char16)(values[i.s0], values[i.s1], values[i.s2], values[i.s3], values[i.s4], values[i.s5],
                             values[i.s6], values[i.s7], values[i.s8], values[i.s9], values[i.sa], values[i.sb],
                             values[i.sc], values[i.sd], values[i.se], values[i.sf]));
}

#define SCALE_HALF(X, at)                                                                                              \
    float scale_##X(global const uchar *b, int part) {                                                                 \
        return half_at(b + at);                                                                                        \
    }
#define MINIMUM_HALF(X, at)                                                                                            \
    float minimum_##X(global const uchar *b, int part) {                                                               \
        return -half_at(b + at);                                                                                       \
    }

uint4 codes_Q4_0(global const uchar *b, int part) {
    return less(nibbles(bytes16(b + 2), part), 8);
}
SCALE_HALF(Q4_0, 0)

uint4 codes_Q4_1(global const uchar *b, int part) {
    return nibbles(bytes16(b + 4), part);
}
SCALE_HALF(Q4_1, 0)
MINIMUM_HALF(Q4_1, 2)

uint4 codes_Q5_0(global const uchar *b, int part) {
    const uint high = ((global const ushort *)(b + 2))[part];
    return less(nibbles(bytes16(b + 6), part) | bits16(high) << 4, 16);
}
SCALE_HALF(Q5_0, 0)

uint4 codes_Q5_1(global const uchar *b, int part) {
    const uint high = ((global const ushort *)(b + 4))[part];
    return nibbles(bytes16(b + 8), part) | bits16(high) << 4;
}
SCALE_HALF(Q5_1, 0)
MINIMUM_HALF(Q5_1, 2)

uint4 codes_Q8_0(global const uchar *b, int part) {
    return bytes16(b + 2 + 16 * part);
}
SCALE_HALF(Q8_0, 0)

/* Two bits of byte m of each half block of 32 bytes: values 32 · n + m take bits 2n and 2n + 1. */
uint4 pairs(global const uchar *qs, int part) {
    return bytes16(qs + part / 8 * 32 + part % 2 * 16) >> (uint)(part / 2 % 4 * 2) & 0x03030303u;
}

uint4 codes_Q2_K(global const uchar *b, int part) {
    return pairs(b + 16, part);
}
float scale_Q2_K(global const uchar *b, int part) {
    return half_at(b + 80) * (b[part] & 15);
}
float minimum_Q2_K(global const uchar *b, int part) {
    return half_at(b + 82) * (b[part] >> 4);
}

uint4 codes_Q3_K(global const uchar *b, int part) {
    const uint4 high = bytes16(b + part % 2 * 16) >> (uint)(part / 2) & 0x01010101u;
    return less(pairs(b + 32, part) | high << 2, 4);
}
float scale_Q3_K(global const uchar *b, int part) {
    global const uchar *s = b + 96;
    const int scale = (s[part % 8] >> part / 8 * 4 & 15) | (s[8 + part % 4] >> part / 4 * 2 & 3) << 4;
    return half_at(b + 108) * (scale - 32);
}

/* Six-bit scale (minimum 0) or minimum (1) of group j of 32. */
float scale_k(global const uchar *s, int j, int minimum) {
    if (j < 4) return s[j + 4 * minimum] & 63;
    return (s[j + 4] >> 4 * minimum & 15) | s[j - 4 + 4 * minimum] >> 6 << 4;
}

uint4 codes_Q4_K(global const uchar *b, int part) {
    return nibbles(bytes16(b + 16 + part / 4 * 32 + part % 2 * 16), part / 2);
}
float scale_Q4_K(global const uchar *b, int part) {
    return half_at(b) * scale_k(b + 4, part / 2, 0);
}
float minimum_Q4_K(global const uchar *b, int part) {
    return half_at(b + 2) * scale_k(b + 4, part / 2, 1);
}

uint4 codes_Q5_K(global const uchar *b, int part) {
    const uint4 low = nibbles(bytes16(b + 48 + part / 4 * 32 + part % 2 * 16), part / 2);
    const uint4 high = bytes16(b + 16 + part % 2 * 16) >> (uint)(part / 2) & 0x01010101u;
    return low | high << 4;
}
#define scale_Q5_K   scale_Q4_K
#define minimum_Q5_K minimum_Q4_K

uint4 codes_Q6_K(global const uchar *b, int part) {
    const int half_block = part / 8, group = part / 2 % 4;
    const uint4 low = nibbles(bytes16(b + half_block * 64 + group % 2 * 32 + part % 2 * 16), group / 2);
    const uint4 high = bytes16(b + 128 + half_block * 32 + part % 2 * 16) >> (uint)(2 * group) & 0x03030303u;
    return less(low | high << 4, 32);
}
float scale_Q6_K(global const uchar *b, int part) {
    return half_at(b + 208) * as_char(b[192 + part]);
}

constant char iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
/* E2M1, doubled */
constant char fp4_values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

uint4 codes_IQ4_NL(global const uchar *b, int part) {
    return look_up(iq4_values, nibbles(bytes16(b + 2), part));
}
SCALE_HALF(IQ4_NL, 0)

uint4 codes_IQ4_XS(global const uchar *b, int part) {
    return look_up(iq4_values, nibbles(bytes16(b + 8 + part / 2 * 16), part));
}
float scale_IQ4_XS(global const uchar *b, int part) {
    const int group = part / 2;
    const int high = ((global const ushort *)(b + 2))[0] >> 2 * group & 3;
    const int scale = (b[4 + group / 2] >> group % 2 * 4 & 15) | high << 4;
    return half_at(b) * (scale - 32);
}

/* Four trits, each the first (the most significant) of a byte that holds ⌈v · 256 / 243⌉ · 3^n, modulo 256. */
uint trits4(uint bytes, uint power) {
    const uint even = (bytes & 0x00ff00ffu) * power & 0x00ff00ffu,
               odd = (bytes >> 8 & 0x00ff00ffu) * power & 0x00ff00ffu;
    return (even * 3 >> 8 & 0x00ff00ffu) | (odd * 3 & 0xff00ff00u);
}

uint4 trits(uint4 bytes, uint4 power) {
    return less(
        (uint4)(trits4(bytes.x, power.x), trits4(bytes.y, power.y), trits4(bytes.z, power.z), trits4(bytes.w, power.w)),
        1);
}

constant uchar powers_of_3[5] = {1, 3, 9, 27, 81};

uint4 codes_TQ1_0(global const uchar *b, int part) {
    if (part < 10) return trits(bytes16(b + part % 2 * 16), powers_of_3[part / 2]);
    if (part < 15) return trits(bytes16(b + 32), powers_of_3[part - 10]);
    return trits(as_uint(vload4(0, b + 48)), (uint4)(1, 3, 9, 27));
}
SCALE_HALF(TQ1_0, 52)

uint4 codes_TQ2_0(global const uchar *b, int part) {
    return less(pairs(b, part), 1);
}
SCALE_HALF(TQ2_0, 64)

uint4 codes_MXFP4(global const uchar *b, int part) {
    return look_up(fp4_values, nibbles(bytes16_anywhere(b + 1), part));
}
float scale_MXFP4(global const uchar *b, int part) {
    const uint e = *b; /* 2^(e − 128): half the scale, the values being doubled */
    return as_float(e < 2 ? 0x00200000u << e : (e - 1) << 23);
}

uint4 codes_NVFP4(global const uchar *b, int part) {
    const uint2 q = as_uint2(vload8(0, b + 4 + 8 * part));
    return look_up(fp4_values, (uint4)(q, q >> 4) & 0x0f0f0f0fu);
}
float scale_NVFP4(global const uchar *b, int part) {
    const uint s = b[part], e = s >> 3 & 15, m = s & 7; /* UE4M3; half of it, as above */
    return s == 0x7f || s == 0 ? 0 : e ? as_float((e + 119) << 23 | m << 20) : m * 0x1p-10f;
}

uint4 codes_Q1_0(global const uchar *b, int part) {
    const uint bits = ((global const ushort *)(b + 2))[part];
    return less(bits16(bits) << 1, 1);
}
SCALE_HALF(Q1_0, 0)

/* Bits 2j and 2j + 1 of a byte at byte j. */
uint4 codes_Q2_0(global const uchar *b, int part) {
    const uint4 q = convert_uint4(vload4(0, b + 2 + 4 * part));
    return less((q | q << 6 | q << 12 | q << 18) & 0x03030303u, 1);
}
SCALE_HALF(Q2_0, 0)

/* Quantiles of N(0, 1) as QLoRA takes them. */
constant float nf4_values[16] = {-1.0f,
                                 -0.6961928009986877f,
                                 -0.5250730514526367f,
                                 -0.39491748809814453f,
                                 -0.28444138169288635f,
                                 -0.18477343022823334f,
                                 -0.09105003625154495f,
                                 0.0f,
                                 0.07958029955625534f,
                                 0.16093020141124725f,
                                 0.24611230194568634f,
                                 0.33791524171829224f,
                                 0.44070982933044434f,
                                 0.5626170039176941f,
                                 0.7229568362236023f,
                                 1.0f};

uint4 codes_NF4(global const uchar *b, int part) { /* indices of the above */
    return nibbles(bytes16(b + 4 + part / 2 * 16), part);
}
float scale_NF4(global const uchar *b, int part) {
    return *(global const float *)b;
}

float16 decode_NF4(global const uchar *b, int part) {
    const uchar16 i = as_uchar16(codes_NF4(b, part));
    return scale_NF4(b, part) * (float16)(nf4_values[i.s0], nf4_values[i.s1], nf4_values[i.s2], nf4_values[i.s3],
                                          nf4_values[i.s4], nf4_values[i.s5], nf4_values[i.s6], nf4_values[i.s7],
                                          nf4_values[i.s8], nf4_values[i.s9], nf4_values[i.sa], nf4_values[i.sb],
                                          nf4_values[i.sc], nf4_values[i.sd], nf4_values[i.se], nf4_values[i.sf]);
}

#define DECODE(X, minimum)                                                                                             \
    float16 decode_##X(global const uchar *b, int part) {                                                              \
        return scale_##X(b, part) * convert_float16(as_char16(codes_##X(b, part))) - (minimum);                        \
    }
DECODE(Q4_0, 0)
DECODE(Q4_1, minimum_Q4_1(b, part))
DECODE(Q5_0, 0)
DECODE(Q5_1, minimum_Q5_1(b, part))
DECODE(Q8_0, 0)
DECODE(Q2_K, minimum_Q2_K(b, part))
DECODE(Q3_K, 0)
DECODE(Q4_K, minimum_Q4_K(b, part))
DECODE(Q5_K, minimum_Q5_K(b, part))
DECODE(Q6_K, 0)
DECODE(IQ4_NL, 0)
DECODE(IQ4_XS, 0)
DECODE(TQ1_0, 0)
DECODE(TQ2_0, 0)
DECODE(MXFP4, 0)
DECODE(NVFP4, 0)
DECODE(Q1_0, 0)
DECODE(Q2_0, 0)

/* Sixteen codes of two bits: value 4p + i at bits 2p of byte i. */
uint4 codes_of_word(uint word) {
    return less((uint4)(word, word >> 2, word >> 4, word >> 6) & 0x03030303u, 1);
}

#ifdef PANELS
/* The panel of 16 rows with row `row` of a matrix of W, T2 or T1, of k columns. */
global const uchar *panel_of(global const uchar *p, uint row, uint k) {
    return p + (long)(row / 16) * (k / 256) * 16 * PASTE(W, _bytes);
}

/* Where the half is that scales part `part` of a row of a panel; and the part's codes. */
global const uchar *panel_scale(global const uchar *panel, uint row, uint part) {
    return panel + part / 16 * 32 + row % 16 * 2;
}

uint4 panel_codes(global const uchar *panel, uint row, uint part, uint k) {
    global const uchar *words = panel + k / 256 * 32 + row % 16 * 4;
    if (W == T2) return codes_of_word(as_uint(vload4(0, words + part * 64)));
    uint codes[4]; /* group 4 · part + i of four values is digit `group % 5` of a word, those of the last word `group % 4` */
    for (int i = 0; i < 4; i++) {
        const uint group = part % 16 * 4 + i, word = part / 16 * 13 + min(group / 5, 12u);
        const uchar power = powers_of_3[group < 60 ? group % 5 : group - 60];
        codes[i] = as_uint(vload4(0, words + word * 64) / power % (uchar)3);
    }
    return less(vload4(0, codes), 1);
}

float16 decode_panel_part(global const void *p, long at, uint row, uint part, uint k) {
    global const uchar *panel = panel_of((global const uchar *)p + at, row, k);
    return half_at(panel_scale(panel, row, part)) * convert_float16(as_char16(panel_codes(panel, row, part, k)));
}
#endif

/* The block of W that has part `part` of the row that begins at byte `row`; and that part of it. */
#ifdef BLOCKS
#define PARTS_OF_BLOCK      (PASTE(W, _values) / 16)
#define BLOCK_OF(row, part) ((row) + (part) / PARTS_OF_BLOCK * PASTE(W, _bytes))

float16 decode_part(global const void *p, long row, long part) {
    return PASTE(decode_, W)((global const uchar *)p + BLOCK_OF(row, part), (int)(part % PARTS_OF_BLOCK));
}
#endif
