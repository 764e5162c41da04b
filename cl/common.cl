/* common.cl: what all kernels share; first in every program, after the dtypes (enum: F32, F16, BF16 …). OpenCL C 1.2
 * without extensions: halves are read and written with vload_half and vstore_half, bfloat16 is a ushort. `dtype` is a
 * macro where a program is built for one dtype, and an argument (a branch that all items take alike) where it isn't. */

#define PASTE_(a, b) a##b
#define PASTE(a, b)  PASTE_(a, b)

float bf16_value(ushort bits) {
    return as_float((uint)bits << 16);
}

/* To nearest even; NaN stays NaN. */
ushort bf16_bits(float value) {
    const uint u = as_uint(value);
    return isnan(value) ? (ushort)(u >> 16 | 0x40) : (ushort)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

/* Element i of float memory. */
float load(global const void *p, long i, int dtype) {
    if (dtype == F32) return ((global const float *)p)[i];
    if (dtype == F16) return vload_half(i, (global const half *)p);
    return bf16_value(((global const ushort *)p)[i]);
}

void store(global void *p, long i, float value, int dtype) {
    if (dtype == F32)
        ((global float *)p)[i] = value;
    else if (dtype == F16)
        vstore_half_rte(value, i, (global half *)p);
    else
        ((global ushort *)p)[i] = bf16_bits(value);
}

/* `value` as it would be read back after store(). */
float rounded(float value, int dtype) {
    if (dtype == F32) return value;
    if (dtype == BF16) return bf16_value(bf16_bits(value));
    ushort bits;
    vstore_half_rte(value, 0, (half *)&bits);
    return vload_half(0, (const half *)&bits);
}

/* Elements i … i + 15, zero from i + n on. */
float16 load16(global const void *p, long i, long n, int dtype) {
    if (n >= 16) {
        if (dtype == F32) return vload16(0, (global const float *)p + i);
        if (dtype == F16) return vload_half16(0, (global const half *)p + i);
        return as_float16(convert_uint16(vload16(0, (global const ushort *)p + i)) << 16);
    }
    float v[16];
    for (int j = 0; j < 16; j++) v[j] = j < n ? load(p, i + j, dtype) : 0;
    return vload16(0, v);
}

/* The first n of them. */
void store16(global void *p, long i, long n, float16 value, int dtype) {
    float v[16];
    vstore16(value, 0, v);
    for (int j = 0; j < 16; j++)
        if (j < n) store(p, i + j, v[j], dtype);
}

float sum16(float16 v) {
    const float8 a = v.lo + v.hi;
    const float4 b = a.lo + a.hi;
    return (b.x + b.z) + (b.y + b.w);
}

/* A tensor argument: memory, offset of the first element, strides of four dimensions; and the offset of a row of it,
 * rows being counted in C order over shape's first three dimensions. */
#define IN(t)     global const void *t, long t##_at, long4 t##_stride
#define OUT(t)    global void *t, long t##_at, long4 t##_stride
#define ROW(t, r) (t##_at + row_offset(r, shape, t##_stride))

long row_offset(uint row, uint4 shape, long4 stride) {
    if (row < shape.z) return row * stride.z; /* most often, and without a division */
    const uint outer = row / shape.z;
    return row % shape.z * stride.z + outer % shape.y * stride.y + outer / shape.y * stride.x;
}

/* Element-wise kernels: each group has MAP_COLUMNS columns of one row; `shape`, n (columns) and chunks (groups a row)
 * are the last arguments. */
#define MAP_COLUMNS   1024
#define MAP_ARGS      uint4 shape, long n, uint chunks
#define MAP_ROW       (get_group_id(0) / chunks)
#define MAP_BEGIN     ((long)(get_group_id(0) % chunks) * MAP_COLUMNS)
#define FOR_COLUMNS(i)                                                                                                 \
    for (long i = MAP_BEGIN + get_local_id(0); i < min(n, MAP_BEGIN + MAP_COLUMNS); i += get_local_size(0))

/* Sum over the group, whose size is a power of two; scratch has a float for each item. */
float group_sum(float value, local float *scratch) {
    const uint item = get_local_id(0);
    barrier(CLK_LOCAL_MEM_FENCE);
    scratch[item] = value;
    for (uint n = get_local_size(0) / 2; n; n /= 2) {
        barrier(CLK_LOCAL_MEM_FENCE);
        if (item < n) scratch[item] += scratch[item + n];
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    return scratch[0];
}

float group_max(float value, local float *scratch) {
    const uint item = get_local_id(0);
    barrier(CLK_LOCAL_MEM_FENCE);
    scratch[item] = value;
    for (uint n = get_local_size(0) / 2; n; n /= 2) {
        barrier(CLK_LOCAL_MEM_FENCE);
        if (item < n) scratch[item] = fmax(scratch[item], scratch[item + n]);
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    return scratch[0];
}

/* As clf_activation: 0 none, 1 SiLU, 2 GELU, 3 GELU's tanh approximation. All but none are x times a number from 0 to
 * 1; where that is 0, so is the product, even for x = -inf. And its derivative. */
float activate_slope(float x, int activation, float *slope) {
    *slope = 1;
    if (activation == 0) return x;
    const float bounded = clamp(x, -100.0f, 100.0f); /* the slope's limits are those of infinite x */
    float gate;
    if (activation == 2) {
        gate = 0.5f * erfc(-0.70710678f * x);
        *slope = gate + bounded * 0.39894228f * exp(-0.5f * bounded * bounded);
    } else { /* the logistic function; ½(1 + tanh u/2) is that of u */
        const float u = activation == 1 ? x : 1.5957691f * (x + 0.044715f * x * x * x), e = exp(-fabs(u));
        const float du = activation == 1 ? 1 : 1.5957691f * (1 + 0.134145f * bounded * bounded);
        gate = (u < 0 ? e : 1) / (1 + e);
        *slope = gate * (1 + bounded * du * ((u < 0 ? 1 : e) / (1 + e)));
    }
    if (isnan(x)) *slope = x;
    return gate == 0 ? -0.0f : x * gate;
}

float activate(float x, int activation) {
    float slope;
    return activate_slope(x, activation, &slope);
}
