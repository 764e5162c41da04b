/* convert.cl: copies with a change of dtype and layout. Plain dtypes are 64-bit integers or floats on the way: exactly
 * those, but for F64 and wide integers on their way to 16 bits, which stop at a float32 "rounded to odd" (its last bit
 * says that something was cut off), so that the second rounding is the only one that counts. F64 is taken apart by hand:
 * devices without double read it too. Built with -DBLOCKS -DW=… rows of W become anything (convert_blocks) or are copied, with
 * -DENCODE=… floats become rows of it (convert_encode). */

/* Shifts right, to odd: a bit shifted out sets the last one; or to nearest even. n ≥ 1. */
ulong shifted(ulong m, int n, bool odd) {
    if (n > 63) return odd && m;
    const ulong q = m >> n, rest = m << (64 - n), tie = 1UL << 63;
    return odd ? q | (rest != 0) : q + (rest > tie || (rest == tie && (q & 1)));
}

float f64_value(ulong bits, bool odd) {
    const uint sign = (uint)(bits >> 63) << 31;
    const int e = (int)(bits >> 52 & 2047);
    const ulong m = bits & 0xfffffffffffffUL;
    if (e == 2047) return as_float(sign | (m ? 0x7fc00000u : 0x7f800000u));
    const int e32 = e - 1023 + 127;
    if (e32 >= 255) return as_float(sign | (odd ? 0x7f7fffffu : 0x7f800000u));
    const ulong full = m | (ulong)(e != 0) << 52;
    const uint q = (uint)shifted(full, e32 >= 1 ? 29 : 30 - e32, odd);
    return as_float(sign | ((uint)(e32 >= 1 ? e32 - 1 : 0) << 23) + q); /* q has the leading one: it adds to e */
}

int f64_truncated(ulong bits) {
    const int e = (int)(bits >> 52 & 2047) - 1023;
    const ulong full = (bits & 0xfffffffffffffUL) | 1UL << 52;
    if (e == 1024 && full != 1UL << 52) return 0;
    if (e < 0) return 0;
    if (e > 31) return bits >> 63 ? INT_MIN : INT_MAX;
    const long v = (long)(full >> (52 - e));
    return convert_int_sat(bits >> 63 ? -v : v);
}

float long_value(long v, bool odd) {
    if (!odd) return convert_float(v);
    const ulong u = v < 0 ? -(ulong)v : (ulong)v;
    const int n = 40 - (int)clz(u); /* bits beyond 24 */
    const float f = n > 0 ? convert_float(shifted(u, n, true)) * (float)(1UL << n) : convert_float(u);
    return v < 0 ? -f : f;
}

int truncated(float v) {
    return isnan(v) ? 0 : convert_int_sat_rtz(v);
}

long load_integer(global const void *x, long i, int dtype) {
    if (dtype == I32) return ((global const int *)x)[i];
    if (dtype == I64) return ((global const long *)x)[i];
    if (dtype == I16) return ((global const short *)x)[i];
    if (dtype == I8) return ((global const char *)x)[i];
    if (dtype == BOOL) return ((global const uchar *)x)[i] != 0;
    return ((global const uchar *)x)[i];
}

#ifdef BLOCKS
/* Whole rows of a block dtype (W); an item makes 16 columns. */
kernel void convert_blocks(global const void *x, ulong x_at, long4 x_stride, OUT(out), long out_step, int out_dtype,
                           uint4 shape, long n, uint parts, ulong items) {
    const ulong item = get_global_id(0);
    if (item >= items) return;
    const uint row = item / parts;
    const long part = item % parts;
    const long out_at_part = ROW(out, row) + 16 * part * out_step;
    const long x_row = row_offset(row, shape, x_stride) / PASTE(W, _values) * PASTE(W, _bytes);
    float v[16];
    vstore16(decode_part(x, x_at + x_row, part), 0, v);
    for (int j = 0; j < 16; j++) {
        const long i = out_at_part + j * out_step;
        if (out_dtype == I32)
            ((global int *)out)[i] = truncated(v[j]);
        else
            store(out, i, v[j], out_dtype);
    }
}

/* Rows of W as they are; an item copies a block. */
kernel void convert_copy(global const uchar *x, ulong x_at, long4 x_stride, global uchar *out, ulong out_at,
                         long4 out_stride, uint4 shape, uint blocks, ulong items) {
    const ulong item = get_global_id(0);
    if (item >= items) return;
    const uint row = item / blocks;
    const long block = item % blocks, values = PASTE(W, _values), bytes = PASTE(W, _bytes);
    x += x_at + (row_offset(row, shape, x_stride) / values + block) * bytes;
    out += out_at + (row_offset(row, shape, out_stride) / values + block) * bytes;
    for (int j = 0; j < PASTE(W, _bytes); j++) out[j] = x[j];
}
#elif defined(ENCODE)
#pragma OPENCL FP_CONTRACT OFF /* the same bytes as everywhere */

/* 1 / d, or 0 if that is infinite. */
float inverse(float d) {
    const float r = 1 / d;
    return isinf(r) ? 0 : r;
}

/* 32 values as ggml's reference quantisers have it. One that isn't finite makes the scale a NaN, and so all of them. */
void encode_Q8_0(const float *v, bool finite, global uchar *out) {
    float most = 0;
    for (int j = 0; j < 32; j++) most = fmax(most, fabs(v[j]));
    const float d = most / 127, id = inverse(d);
    vstore_half_rte(finite ? d : NAN, 0, (global half *)out);
    for (int j = 0; j < 32; j++) out[2 + j] = as_uchar(convert_char_sat(round(v[j] * id)));
}

void encode_Q4_0(const float *v, bool finite, global uchar *out) {
    float extreme = v[0]; /* the first of the largest magnitude becomes -8 */
    for (int j = 1; j < 32; j++) extreme = fabs(v[j]) > fabs(extreme) ? v[j] : extreme;
    const float d = extreme / -8, id = inverse(d);
    vstore_half_rte(finite ? d : NAN, 0, (global half *)out);
    uchar code[32];
    for (int j = 0; j < 32; j++) code[j] = min(convert_uchar_sat(v[j] * id + 8.5f), (uchar)15);
    for (int j = 0; j < 16; j++) out[2 + j] = code[j] | code[j + 16] << 4;
}

/* An item makes a block. */
kernel void convert_encode(IN(x), long x_step, int x_dtype, global uchar *out, ulong out_at, long4 out_stride,
                           uint4 shape, uint blocks, ulong items) {
    const ulong item = get_global_id(0);
    if (item >= items) return;
    const uint row = item / blocks;
    const long block = item % blocks, first = ROW(x, row) + 32 * block * x_step;
    float v[32];
    bool finite = true;
    for (int j = 0; j < 32; j++) {
        v[j] = load(x, first + j * x_step, x_dtype);
        finite &= isfinite(v[j]) != 0;
    }
    const long at = row_offset(row, shape, out_stride) / 32 + block;
    PASTE(encode_, ENCODE)(v, finite, out + out_at + at * PASTE(ENCODE, _bytes));
}
#else
kernel void convert_plain(IN(x), long x_step, int x_dtype, OUT(out), long out_step, int out_dtype, MAP_ARGS) {
    const uint row = MAP_ROW;
    const long x_row = ROW(x, row), out_row = ROW(out, row);
    const bool odd = out_dtype != F32;
    FOR_COLUMNS(c) {
        const long i = x_row + c * x_step, o = out_row + c * out_step;
        const bool is_float = x_dtype <= BF16;
        if (out_dtype == I32) {
            ((global int *)out)[o] = is_float         ? truncated(load(x, i, x_dtype))
                                     : x_dtype == F64 ? f64_truncated(((global const ulong *)x)[i])
                                                      : convert_int_sat(load_integer(x, i, x_dtype));
        } else {
            const float v = is_float         ? load(x, i, x_dtype)
                            : x_dtype == F64 ? f64_value(((global const ulong *)x)[i], odd)
                                             : long_value(load_integer(x, i, x_dtype), odd);
            store(out, o, v, out_dtype);
        }
    }
}
#endif
