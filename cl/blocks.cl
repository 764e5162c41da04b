/* blocks.cl: the block dtypes. decode_X(block, part) gives the 16 consecutive values from 16 · part on of a block; every
 * format has one scale (and minimum) for each such run. Each product is exact in float32, so that a value is rounded
 * once at most. Blocks are two-byte aligned, but MXFP4's of 17 bytes; NF4's by four. A program that uses them is built with -DW=Q4_K
 * and -DBLOCKS. */

float half_at(global const uchar *p) {
    return vload_half(0, (global const half *)p);
}

uchar16 bytes16(global const uchar *p) {
    return as_uchar16(vload8(0, (global const ushort *)p));
}

/* Low nibbles of 16 bytes for even parts, high ones for odd parts. */
uchar16 nibbles(uchar16 bytes, int part) {
    return part & 1 ? bytes >> (uchar16)4 : bytes & (uchar16)15;
}

/* Bit j of `bits` at value j. */
uchar16 bits16(uint bits) {
    const uint16 j = (uint16)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return convert_uchar16((uint16)bits >> j & (uint16)1);
}

float16 decode_Q4_0(global const uchar *b, int part) {
    return half_at(b) * (convert_float16(nibbles(bytes16(b + 2), part)) - 8);
}

float16 decode_Q4_1(global const uchar *b, int part) {
    return half_at(b) * convert_float16(nibbles(bytes16(b + 4), part)) + half_at(b + 2);
}

float16 decode_Q5_0(global const uchar *b, int part) {
    const uint high = ((global const ushort *)(b + 2))[part];
    return half_at(b) * (convert_float16(nibbles(bytes16(b + 6), part) | bits16(high) << (uchar16)4) - 16);
}

float16 decode_Q5_1(global const uchar *b, int part) {
    const uint high = ((global const ushort *)(b + 4))[part];
    return half_at(b) * convert_float16(nibbles(bytes16(b + 8), part) | bits16(high) << (uchar16)4) + half_at(b + 2);
}

float16 decode_Q8_0(global const uchar *b, int part) {
    return half_at(b) * convert_float16(as_char16(bytes16(b + 2 + 16 * part)));
}

/* Two bits of byte m of each half block of 32 bytes: values 32 · n + m take bits 2n and 2n + 1. */
uchar16 pairs(global const uchar *qs, int part) {
    const int shift = part / 2 % 4 * 2;
    return bytes16(qs + part / 8 * 32 + part % 2 * 16) >> (uchar16)shift & (uchar16)3;
}

float16 decode_Q2_K(global const uchar *b, int part) {
    const float d = half_at(b + 80) * (b[part] & 15), m = half_at(b + 82) * (b[part] >> 4);
    return d * convert_float16(pairs(b + 16, part)) - m;
}

float16 decode_Q3_K(global const uchar *b, int part) {
    global const uchar *s = b + 96;
    const int scale = (s[part % 8] >> part / 8 * 4 & 15) | (s[8 + part % 4] >> part / 4 * 2 & 3) << 4;
    const uchar16 high = bytes16(b + part % 2 * 16) >> (uchar16)(part / 2) & (uchar16)1;
    const float16 q = convert_float16(pairs(b + 32, part) | high << (uchar16)2) - 4;
    return half_at(b + 108) * (scale - 32) * q;
}

/* Six-bit scale (minimum 0) or minimum (1) of group j of 32. */
float scale_k(global const uchar *s, int j, int minimum) {
    if (j < 4) return s[j + 4 * minimum] & 63;
    return (s[j + 4] >> 4 * minimum & 15) | s[j - 4 + 4 * minimum] >> 6 << 4;
}

float16 affine_k(global const uchar *b, int part, uchar16 q) {
    const float d = half_at(b) * scale_k(b + 4, part / 2, 0), m = half_at(b + 2) * scale_k(b + 4, part / 2, 1);
    return d * convert_float16(q) - m;
}

float16 decode_Q4_K(global const uchar *b, int part) {
    return affine_k(b, part, nibbles(bytes16(b + 16 + part / 4 * 32 + part % 2 * 16), part / 2));
}

float16 decode_Q5_K(global const uchar *b, int part) {
    const uchar16 low = nibbles(bytes16(b + 48 + part / 4 * 32 + part % 2 * 16), part / 2);
    const uchar16 high = bytes16(b + 16 + part % 2 * 16) >> (uchar16)(part / 2) & (uchar16)1;
    return affine_k(b, part, low | high << (uchar16)4);
}

float16 decode_Q6_K(global const uchar *b, int part) {
    const int half_block = part / 8, group = part / 2 % 4;
    const uchar16 low = nibbles(bytes16(b + half_block * 64 + group % 2 * 32 + part % 2 * 16), group / 2);
    const uchar16 high = bytes16(b + 128 + half_block * 32 + part % 2 * 16) >> (uchar16)(2 * group) & (uchar16)3;
    const float d = half_at(b + 208) * as_char(b[192 + part]);
    return d * (convert_float16(low | high << (uchar16)4) - 32);
}

constant float iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
/* E2M1, doubled */
constant float fp4_values[16] = {0, 1, 2, 3, 4, 6, 8, 12, -0.f, -1, -2, -3, -4, -6, -8, -12};

float16 look_up(constant float *values, uchar16 index) {
    return (float16)(values[index.s0], values[index.s1], values[index.s2], values[index.s3], values[index.s4],
                     values[index.s5], values[index.s6], values[index.s7], values[index.s8], values[index.s9],
                     values[index.sa], values[index.sb], values[index.sc], values[index.sd], values[index.se],
                     values[index.sf]);
}

float16 decode_IQ4_NL(global const uchar *b, int part) {
    return half_at(b) * look_up(iq4_values, nibbles(bytes16(b + 2), part));
}

float16 decode_IQ4_XS(global const uchar *b, int part) {
    const int group = part / 2;
    const int high = ((global const ushort *)(b + 2))[0] >> 2 * group & 3;
    const int scale = (b[4 + group / 2] >> group % 2 * 4 & 15) | high << 4;
    return half_at(b) * (scale - 32) * look_up(iq4_values, nibbles(bytes16(b + 8 + group * 16), part));
}

/* Trit n (the first is the most significant) of bytes that hold ⌈v · 256 / 243⌉. */
float16 trits(uchar16 bytes, ushort16 power) {
    const ushort16 v = convert_ushort16(bytes) * power & (ushort16)255;
    return convert_float16(v * (ushort16)3 >> (ushort16)8) - 1;
}

constant ushort powers_of_3[5] = {1, 3, 9, 27, 81};

float16 decode_TQ1_0(global const uchar *b, int part) {
    const float d = half_at(b + 52);
    if (part < 10) return d * trits(bytes16(b + part % 2 * 16), (ushort16)powers_of_3[part / 2]);
    if (part < 15) return d * trits(bytes16(b + 32), (ushort16)powers_of_3[part - 10]);
    const uchar4 q = vload4(0, b + 48);
    return d * trits((uchar16)(q, q, q, q), (ushort16)(1, 1, 1, 1, 3, 3, 3, 3, 9, 9, 9, 9, 27, 27, 27, 27));
}

float16 decode_TQ2_0(global const uchar *b, int part) {
    return half_at(b + 64) * (convert_float16(pairs(b, part)) - 1);
}

float16 decode_MXFP4(global const uchar *b, int part) {
    const uint e = *b; /* 2^(e − 128): half the scale, the values being doubled */
    const float d = as_float(e < 2 ? 0x00200000u << e : (e - 1) << 23);
    return d * look_up(fp4_values, nibbles(vload16(0, b + 1), part));
}

float16 decode_NVFP4(global const uchar *b, int part) {
    const uint s = b[part], e = s >> 3 & 15, m = s & 7; /* UE4M3; half of it, as above */
    const float d = s == 0x7f || s == 0 ? 0 : e ? as_float((e + 119) << 23 | m << 20) : m * 0x1p-10f;
    const uchar8 q = vload8(0, b + 4 + 8 * part);
    return d * look_up(fp4_values, (uchar16)(q & (uchar8)15, q >> (uchar8)4));
}

float16 decode_Q1_0(global const uchar *b, int part) {
    const uint bits = ((global const ushort *)(b + 2))[part];
    return half_at(b) * (2 * convert_float16(bits16(bits)) - 1);
}

float16 decode_Q2_0(global const uchar *b, int part) {
    const uchar4 q = vload4(0, b + 2 + 4 * part);
    const uchar16 bytes = (uchar16)(q.xxxx, q.yyyy, q.zzzz, q.wwww);
    const uchar16 shift = (uchar16)(0, 2, 4, 6, 0, 2, 4, 6, 0, 2, 4, 6, 0, 2, 4, 6);
    return half_at(b) * (convert_float16(bytes >> shift & (uchar16)3) - 1);
}

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

float16 decode_NF4(global const uchar *b, int part) {
    return *(global const float *)b * look_up(nf4_values, nibbles(bytes16(b + 4 + part / 2 * 16), part));
}

/* Part p of a row of W that begins at byte `row`. */
#ifdef BLOCKS
float16 decode_part(global const void *p, long row, long part) {
    const int parts = PASTE(W, _values) / 16;
    global const uchar *block = (global const uchar *)p + row + part / parts * PASTE(W, _bytes);
    return PASTE(decode_, W)(block, (int)(part % parts));
}
#endif
