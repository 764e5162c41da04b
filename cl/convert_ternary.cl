/* convert_ternary.cl: between rows of TQ1_0, TQ2_0 and Q2_0 and panels of T2 and T1, without loss, and from panels to
 * floats, as cpu/convert_ternary.c. An item takes a block of 256 values of one row apart into codes, value + 1, a byte
 * each, and puts them together again; 16 items in a row have the 16 rows of a panel, whose words lie side by side.
 *
 * Codes are 16 parts of 16 values; word i of a part holds four, from 4i on, as words of T2 and T1 have them. What a
 * dtype can't hold (the value 2 in base 3, several scales for 256 values) makes *bad the first such row.
 *
 * Built with -DW=… for what is read, with -DPANELS if that is T2 or T1, and -DTO=… */

enum { PARTS = 16 };

/* less(codes, 1) again. */
uint4 plus_one(uint4 codes) {
    return (codes ^ 0x80808080u) - 0x7f7f7f7fu;
}

/* Block `block` of row `row`: codes, and the half that is their scale. */
#ifdef PANELS
ushort read_block(global const uchar *x, long stride, uint row, uint block, uint k, uint4 *codes, bool *fits) {
    global const uchar *panel = panel_of(x, row, k);
    for (int i = 0; i < PARTS; i++) codes[i] = plus_one(panel_codes(panel, row, block * PARTS + i, k));
    return *(global const ushort *)panel_scale(panel, row, block * PARTS);
}
#else
ushort read_block(global const uchar *x, long stride, uint row, uint block, uint k, uint4 *codes, bool *fits) {
    const int blocks = 256 / PASTE(W, _values), parts = PARTS / blocks;
    const int scale_at = W == Q2_0 ? 0 : PASTE(W, _bytes) - 2;
    global const uchar *b = x + row * stride + (long)block * blocks * PASTE(W, _bytes);
    const ushort scale = *(global const ushort *)(b + scale_at);
    for (int i = 0; i < PARTS; i++) {
        global const uchar *of = b + i / parts * PASTE(W, _bytes);
        codes[i] = plus_one(PASTE(codes_, W)(of, i % parts));
        *fits &= *(global const ushort *)(of + scale_at) == scale;
    }
    return scale;
}
#endif

uint word_of_part(uint4 codes) {
    return codes.x | codes.y << 2 | codes.z << 4 | codes.w << 6;
}

void write_panel(const uint4 *codes, ushort scale, global uchar *out, uint row, uint block, uint k) {
    global uchar *panel = out + (long)(row / 16) * (k / 256) * 16 * PASTE(TO, _bytes);
    global uint *words = (global uint *)(panel + k / 256 * 32) + row % 16;
    ((global ushort *)panel)[block * 16 + row % 16] = scale;
    if (TO == T2) {
        for (int i = 0; i < PARTS; i++) words[(block * PARTS + i) * 16] = word_of_part(codes[i]);
        return;
    }
    uint fours[65] = {0};
    for (int i = 0; i < PARTS; i++) vstore4(codes[i], i, fours);
    for (int i = 0; i < 13; i++) {
        uint word = fours[5 * i + 4]; /* no byte exceeds 242 */
        for (int p = 3; p >= 0; p--) word = 3 * word + fours[5 * i + p];
        words[(block * 13 + i) * 16] = word;
    }
}

/* Planes of two bits: of each half of a block's bytes. */
void write_TQ2_0(const uint4 *codes, ushort scale, global uchar *b) {
    for (int i = 0; i < 4; i++) {
        const uint4 *c = codes + i / 2 * 8 + i % 2;
        vstore8(as_ushort8(c[0] | c[2] << 2 | c[4] << 4 | c[6] << 6), i, (global ushort *)b);
    }
    *(global ushort *)(b + 64) = scale;
}

/* ⌈number · 256 / 243⌉ of each byte. */
uint4 fractions(uint4 numbers) {
    return as_uint4(convert_uchar16((convert_ushort16(as_uchar16(numbers)) * (ushort)256 + (ushort)242) / (ushort)243));
}

/* Digits, the first the most significant: of two runs of 16 bytes, of one, and of a word, which has four. */
void write_TQ1_0(const uint4 *codes, ushort scale, global uchar *b) {
    for (int i = 0; i < 3; i++) {
        const int from = i < 2 ? i : 10, apart = i < 2 ? 2 : 1;
        uint4 number = codes[from];
        for (int p = 1; p < 5; p++) number = 3 * number + codes[from + p * apart];
        vstore8(as_ushort8(fractions(number)), i, (global ushort *)b);
    }
    const uint4 last = codes[15];
    const uint4 number = 3 * (3 * (3 * (3 * (uint4)(last.x) + last.y) + last.z) + last.w);
    vstore2(as_ushort2(fractions(number).x), 12, (global ushort *)b);
    *(global ushort *)(b + 52) = scale;
}

/* Four values a byte. */
void write_Q2_0(const uint4 *codes, ushort scale, global uchar *b) {
    for (int s = 0; s < 4; s++, b += Q2_0_bytes) {
        *(global ushort *)b = scale;
        for (int i = 0; i < 4; i++) {
            const uint4 c = codes[4 * s + i];
            vstore4(convert_uchar4((c | c >> 6 | c >> 12 | c >> 18) & 255u), i, b + 2);
        }
    }
}

void write_floats(const uint4 *codes, ushort scale, global void *out, long at) {
    const float d = vload_half(0, (const half *)&scale);
    for (int i = 0; i < PARTS; i++)
        store16(out, at + 16 * i, 16, d * convert_float16(as_char16(less(codes[i], 1))), TO);
}

/* Strides and offsets are in bytes, but of floats in elements. */
kernel void convert_ternary(global const uchar *x, long x_at, long x_stride, global uchar *out, long out_at,
                            long out_stride, uint k, ulong items, int base_3, global int *bad) {
    const ulong item = get_global_id(0);
    if (item >= items) return;
    const uint blocks = k / 256, row = item / 16 / blocks * 16 + item % 16, block = item / 16 % blocks;
    uint4 codes[PARTS];
    bool fits = true;
    const ushort scale = read_block(x + x_at, x_stride, row, block, k, codes, &fits);
    uint4 three = 0;
    for (int i = 0; i < PARTS; i++) three |= codes[i] & codes[i] >> 1;
    if (base_3) fits &= !any((three & 0x01010101u) != 0u);
    if (!fits) {
        atomic_min(bad, (int)row);
        return;
    }
    global uchar *to = out + out_at + row * out_stride + (long)block * 256 / PASTE(TO, _values) * PASTE(TO, _bytes);
    if ((TO == T2) | (TO == T1))
        write_panel(codes, scale, out + out_at, row, block, k);
    else if (TO == TQ2_0)
        write_TQ2_0(codes, scale, to);
    else if (TO == TQ1_0)
        write_TQ1_0(codes, scale, to);
    else if (TO == Q2_0)
        write_Q2_0(codes, scale, to);
    else
        write_floats(codes, scale, out, out_at + row * out_stride + (long)block * 256);
}
