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
