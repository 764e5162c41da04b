/* builtins.h: the OpenCL C builtins that cl/nvidia uses, for clang's nvptx64, which comes with none. NVIDIA's own
 * compiler has them. */
#define BUILTIN __attribute__((overloadable, always_inline)) static inline
BUILTIN size_t ptx_local_id(uint dimension) {
    return __nvvm_read_ptx_sreg_tid_x();
}
BUILTIN size_t ptx_group_id(uint dimension) {
    return dimension == 0   ? __nvvm_read_ptx_sreg_ctaid_x()
           : dimension == 1 ? __nvvm_read_ptx_sreg_ctaid_y()
                            : __nvvm_read_ptx_sreg_ctaid_z();
}
#define get_local_id   ptx_local_id
#define get_group_id   ptx_group_id
#define barrier(x)     __asm__ volatile("bar.sync 0;" ::: "memory")
#define min(a, b)      ((a) < (b) ? (a) : (b))
#define max(a, b)      ((a) > (b) ? (a) : (b))
#define clamp(x, a, b) min(max(x, a), b)
#define fabs(a)        __builtin_fabsf(a)
#define fmax(a, b)     __builtin_fmaxf(a, b)
#define fma(a, b, c)   __builtin_fmaf(a, b, c)

/* What cl/common.cl and cl/blocks.cl use: halves, vectors, and stand-ins that cost about what the real functions do. */
#define get_global_id(d)  (get_group_id(d) * __nvvm_read_ptx_sreg_ntid_x() + get_local_id(d))
#define get_local_size(d) __nvvm_read_ptx_sreg_ntid_x()
#define isnan(x)          ((x) != (x))
BUILTIN float ptx_half_value(ushort bits) {
    float y;
    __asm__("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(bits));
    return y;
}
BUILTIN ushort ptx_half_bits(float x) {
    ushort y;
    __asm__("cvt.rn.f16.f32 %0, %1;" : "=h"(y) : "f"(x));
    return y;
}
BUILTIN float ptx_rint(float x) {
    float y;
    __asm__("cvt.rni.f32.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
BUILTIN float ptx_exp(float x) {
    float y;
    __asm__("ex2.approx.f32 %0, %1;" : "=f"(y) : "f"(1.44269504f * x));
    return y;
}
BUILTIN float ptx_erfc(float x) {
    const float t = 1 / (1 + 0.47047f * fabs(x));
    return t * (0.3480242f + t * (-0.0958798f + t * 0.7478556f)) * ptx_exp(-x * x);
}
#define rint ptx_rint
#define exp  ptx_exp
#define erfc ptx_erfc

#define HALF(space)                                                                                                    \
    BUILTIN float ptx_vload_half(size_t i, const space half *p) {                                                      \
        return ptx_half_value(((const space ushort *)p)[i]);                                                           \
    }                                                                                                                  \
    BUILTIN void ptx_vstore_half(float x, size_t i, space half *p) {                                                   \
        ((space ushort *)p)[i] = ptx_half_bits(x);                                                                     \
    }
HALF(__global)
HALF(__private)
#define VLOAD(space, type, n)                                                                                          \
    BUILTIN type##n ptx_vload##n(size_t i, const space type *p) {                                                      \
        type##n v;                                                                                                     \
        _Pragma("unroll") for (int j = 0; j < n; j++) v[j] = p[n * i + j];                                             \
        return v;                                                                                                      \
    }
VLOAD(__global, uchar, 4)
VLOAD(__global, uchar, 8)
VLOAD(__global, uchar, 16)
VLOAD(__global, ushort, 8)
VLOAD(__global, ushort, 16)
VLOAD(__global, float, 16)
VLOAD(__private, float, 16)
BUILTIN float16 ptx_vload_half16(size_t i, const __global half *p) {
    float16 v;
    _Pragma("unroll") for (int j = 0; j < 16; j++) v[j] = ptx_vload_half(16 * i + j, p);
    return v;
}
BUILTIN void ptx_vstore16(float16 v, size_t i, float *p) {
    _Pragma("unroll") for (int j = 0; j < 16; j++) p[16 * i + j] = v[j];
}
#define vload_half         ptx_vload_half
#define vload_half16       ptx_vload_half16
#define vstore_half_rte    ptx_vstore_half
#define vload4             ptx_vload4
#define vload8             ptx_vload8
#define vload16            ptx_vload16
#define vstore16           ptx_vstore16
#define convert_float16(v) __builtin_convertvector(v, float16)
#define convert_uint16(v)  __builtin_convertvector(v, uint16)
#define convert_uint4(v)   __builtin_convertvector(v, uint4)
