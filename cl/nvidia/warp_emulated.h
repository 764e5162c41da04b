/* warp_emulated.h: the operations of warp.h by work-items that meet in local memory; what they do is said in
 * warp_ptx.h, local memory is that of warp_memory.h. */
#define UNROLL /* rolled: each collective is a barrier, and barriers are what the compiler's time goes to */

WARP_FN uint fresh(uint x) {
    return x;
}

WARP_FN void settle(float *c) {}

/* Shares the row addresses of an ldmatrix among the lanes of the warp. */
WARP_FN __local uint *warp_rows(warp *w, uint address) {
    __local uint *rows = warp_exchange(w);
    rows[w->lane] = warp_row(w, address);
    barrier(CLK_LOCAL_MEM_FENCE);
#if EMULATE_ORDER /* the eight rows of a matrix must lie in different banks of 16 bytes */
    for (int i = w->lane & ~7; i < w->lane; i++)
        if (rows[i] != address && ((rows[i] ^ address) & 0x70) == 0) {
            warp_fault(w, "bank conflict", address);
            rows[w->lane] = WARP_BAD_ROW; /* seen by later lanes only, which is enough to spoil the result */
        }
#endif
    return rows;
}

WARP_FN void ldmatrix_x4(warp *w, uint *r, uint address) {
    const int g = w->lane >> 2, t = w->lane & 3;
    const __local uint *rows = warp_rows(w, address);
    for (int j = 0; j < 4; j++) {
        const uint row = rows[8 * j + g];
        r[j] = row == WARP_BAD_ROW ? WARP_NAN : *(__local uint *)(w->memory + row + 4 * t);
    }
}

WARP_FN void ldmatrix_x4_trans(warp *w, uint *r, uint address) {
    const int g = w->lane >> 2, t = w->lane & 3;
    const __local uint *rows = warp_rows(w, address);
    for (int j = 0; j < 4; j++) {
        const uint row0 = rows[8 * j + 2 * t], row1 = rows[8 * j + 2 * t + 1];
        if (row0 == WARP_BAD_ROW || row1 == WARP_BAD_ROW)
            r[j] = WARP_NAN;
        else
            r[j] = *(__local ushort *)(w->memory + row0 + 2 * g) | (uint) * (__local ushort *)(w->memory + row1 + 2 * g)
                                                                       << 16;
    }
}

WARP_FN float half_value(ushort bits) {
    return vload_half(0, (const half *)&bits);
}

/* Sixteen operands, two in a word, as numbers: those of even index, then those of odd index. */
#if OPERAND_F16
WARP_FN float16 warp_numbers(const __local uint *words) {
    const float16 v = vload_half16(0, (const __local half *)words);
    return (float16)(v.even, v.odd);
}
#else
WARP_FN float16 warp_numbers(const __local uint *words) {
    const uint8 v = vload8(0, words);
    return (float16)(as_float8(v << 16), as_float8(v & 0xffff0000u));
}
#endif

WARP_FN float warp_dot(float16 a, float16 b) {
    const float16 p = a * b;
    const float8 q = p.lo + p.hi;
    const float4 r = q.lo + q.hi;
    return (r.x + r.y) + (r.z + r.w);
}

/* Shares an A operand among the lanes of the warp: 16 rows of 8 words, after a barrier. */
WARP_FN __local uint *warp_operand_a(warp *w, const uint *a) {
    const int g = w->lane >> 2, t = w->lane & 3;
    __local uint *x = warp_exchange(w);
    x[8 * g + t] = a[0];
    x[8 * (g + 8) + t] = a[1];
    x[8 * g + t + 4] = a[2];
    x[8 * (g + 8) + t + 4] = a[3];
    return x;
}

WARP_FN void mma_m16n8k16(warp *w, float *c, const uint *a, uint b0, uint b1) {
    const int g = w->lane >> 2, t = w->lane & 3;
    __local uint *x = warp_operand_a(w, a); /* then b by columns: 8 of 8 words */
    x[8 * (g + 16) + t] = b0;
    x[8 * (g + 16) + t + 4] = b1;
    barrier(CLK_LOCAL_MEM_FENCE);
    const float16 row0 = warp_numbers(x + 8 * g), row1 = warp_numbers(x + 8 * (g + 8));
    const float16 column0 = warp_numbers(x + 8 * (16 + 2 * t)), column1 = warp_numbers(x + 8 * (17 + 2 * t));
    c[0] += warp_dot(row0, column0);
    c[1] += warp_dot(row0, column1);
    c[2] += warp_dot(row1, column0);
    c[3] += warp_dot(row1, column1);
}

WARP_FN int warp_dot_bytes(const __local uint *a, const __local uint *b) { /* 16 of them */
    const int16 p =
        convert_int16(vload16(0, (const __local char *)a)) * convert_int16(vload16(0, (const __local char *)b));
    const int8 q = p.lo + p.hi;
    const int4 r = q.lo + q.hi;
    return (r.x + r.y) + (r.z + r.w);
}

WARP_FN void mma_m16n8k32(warp *w, int *c, const uint *a, uint b0, uint b1) {
    const int g = w->lane >> 2, t = w->lane & 3;
    __local uint *x = warp_operand_a(w, a); /* of 32 bytes a row here too */
    x[8 * (g + 16) + t] = b0;
    x[8 * (g + 16) + t + 4] = b1;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int i = 0; i < 4; i++) {
        const __local uint *row = x + 8 * (g + i / 2 * 8), *column = x + 8 * (16 + 2 * t + i % 2);
        c[i] += warp_dot_bytes(row, column) + warp_dot_bytes(row + 4, column + 4);
    }
}

WARP_FN void mma_m16n8k16_bytes(warp *w, int *c, const uint *a, uint b) {
    const int g = w->lane >> 2, t = w->lane & 3;
    __local uint *x = warp_exchange(w);
    x[4 * g + t] = a[0];
    x[4 * (g + 8) + t] = a[1];
    x[4 * (g + 16) + t] = b;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int i = 0; i < 4; i++) c[i] += warp_dot_bytes(x + 4 * (g + i / 2 * 8), x + 4 * (16 + 2 * t + i % 2));
}

WARP_FN int dp4a(uint a, uint b, int c) {
    const int4 p = convert_int4(as_char4(a)) * convert_int4(as_char4(b));
    return c + (p.x + p.y) + (p.z + p.w);
}

#if WGMMA
#define wgmma_begin(w)     (void)0
#define wgmma_end(w, c, n) (void)0

/* Element (k, n) of b, found as the PTX manual says for descriptors with swizzles of 128 bytes. */
WARP_FN float warp_element(warp *w, ulong b, int k, int n, bool transposed) {
    const uint start = (uint)(b & 0x3fff) << 4, leading = (uint)(b >> 16 & 0x3fff) << 4;
    const uint stride = (uint)(b >> 32 & 0x3fff) << 4;
    uint at = transposed ? start + n / 64 * leading + k / 8 * stride + k % 8 * 128 + n % 64 * 2
                         : start + n / 8 * stride + n % 8 * 128 + k * 2;
    at ^= (at >> 7 & 7) << 4;
    bool good = b >> 62 == 1 && warp_row(w, at & ~15u) != WARP_BAD_ROW;
#if EMULATE_ORDER
    if (good && !w->chunk[at / 16].visible) {
        warp_fault(w, "read by wgmma before wgmma_visible", at);
        good = false;
    }
#endif
    if (!good) return as_float(WARP_NAN);
    const ushort bits = *(__local ushort *)(w->memory + at);
    return OPERAND_F16 ? half_value(bits) : as_float((uint)bits << 16);
}

WARP_FN void wgmma(warp *w, int n, float (*c)[4], const uint *a, ulong b, int accumulate, bool transposed) {
    const int t = w->lane & 3;
    const __local uint *x = warp_operand_a(w, a);
    barrier(CLK_LOCAL_MEM_FENCE);
    const float16 row0 = warp_numbers(x + 8 * (w->lane >> 2)), row1 = warp_numbers(x + 8 * ((w->lane >> 2) + 8));
    for (int j = 0; j < n / 8; j++)
        for (int e = 0; e < 2; e++) {
            float column[16];
            for (int k = 0; k < 16; k++)
                column[(k >> 1) + (k & 1) * 8] = warp_element(w, b, k, 8 * j + 2 * t + e, transposed);
            c[j][e] = (accumulate ? c[j][e] : 0) + warp_dot(row0, vload16(0, column));
            c[j][2 + e] = (accumulate ? c[j][2 + e] : 0) + warp_dot(row1, vload16(0, column));
        }
}
#endif

WARP_FN float warp_shfl_xor(warp *w, float x, int mask) {
    __local uint *all = warp_exchange(w);
    all[w->lane] = as_uint(x);
    barrier(CLK_LOCAL_MEM_FENCE);
    return as_float(all[w->lane ^ mask]);
}

WARP_FN float ex2(float x) {
    return exp2(x);
}

WARP_FN float lg2(float x) {
    return log2(x);
}

WARP_FN float rcp(float x) {
    return 1 / x;
}

#if OPERAND_F16
WARP_FN uint warp_operand(float x) {
    ushort bits;
    vstore_half_rte(x, 0, (half *)&bits);
    return bits;
}
#else
WARP_FN uint warp_operand(float x) {
    const uint u = as_uint(x);
    return isnan(x) ? 0x7fffu : (u + 0x7fffu + ((u >> 16) & 1)) >> 16;
}
#endif

WARP_FN uint pack(float low, float high) {
    return warp_operand(low) | warp_operand(high) << 16;
}
