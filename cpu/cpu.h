/* cpu.h: what every file of this room shares. Each OP.c is compiled once per instruction set with -DCLF_ISA=avx2 and so
 * on; CPU_FN(rms_norm) is then clf_rms_norm_avx2. Headers hold only static functions, so no vector code leaks into
 * scalar objects. */
#ifndef CLF_CPU_H
#define CLF_CPU_H

#include <omp.h>

#include <clformer/ops.h>

#include "../lib/core/context.h"
#include "../lib/core/tensor.h"
#include "simd.h"

#define CLF_PASTE_(a, b, c) a##b##c
#define CLF_PASTE(a, b, c)  CLF_PASTE_(a, b, c)
#define CPU_FN(op)          CLF_PASTE(clf_##op, _, CLF_ISA)

/* Runs the statement with DTYPE the constant that `dtype`, a float dtype, is: one compiled body each. */
#define CPU_FOR_DTYPE(DTYPE, dtype, ...)                                                                               \
    do {                                                                                                               \
        if ((dtype) == CLF_F32) {                                                                                      \
            const clf_dtype DTYPE = CLF_F32;                                                                           \
            __VA_ARGS__;                                                                                               \
        } else if ((dtype) == CLF_F16) {                                                                               \
            const clf_dtype DTYPE = CLF_F16;                                                                           \
            __VA_ARGS__;                                                                                               \
        } else {                                                                                                       \
            const clf_dtype DTYPE = CLF_BF16;                                                                          \
            __VA_ARGS__;                                                                                               \
        }                                                                                                              \
    } while (0)

#define CLF_OP(op) __attribute__((weak)) clf_status CPU_FN(op)(clf_context * ctx, const clf_##op##_args *args);
#include "../lib/ops/ops.def"
#undef CLF_OP

/* Rows [*begin, *end) of thread `t` of `n`: even shares, the same for the same n, so results don't depend on timing. */
static inline void cpu_share(int64_t rows, int t, int n, int64_t *begin, int64_t *end) {
    *begin = rows * t / n;
    *end = rows * (t + 1) / n;
}

/* Threads for an op of `rows` shares and `bytes` of traffic: one for a small op, else all of the context's. Nothing
 * between: OpenMP runtimes end and recreate threads when the team's size changes, which costs more than an idle share
 * and loses their places. */
static inline int cpu_threads(const clf_context *ctx, int64_t rows, int64_t bytes) {
    return rows > 1 && bytes > 32768 ? ctx->threads : 1;
}

/* Bytes an element of a float dtype, a constant where dtype is. */
static inline size_t cpu_bytes(clf_dtype dtype) {
    return dtype == CLF_F32 ? 4 : 2;
}

/* Address of element `i`, counted in C order. */
static inline void *cpu_element(const clf_tensor *t, int64_t i) {
    const int64_t last = clf_last(t);
    return (char *)clf_row(t, i / last) + clf_dtype_bytes(t->dtype, i % last);
}

#endif
