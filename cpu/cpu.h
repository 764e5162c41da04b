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

#define CLF_OP(op) clf_status CPU_FN(op)(clf_context * ctx, const clf_##op##_args *args);
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

/* Hands out 64-byte aligned parts of one buffer; with base NULL it only counts. */
static inline void *cpu_carve(char *base, size_t *used, size_t bytes) {
    void *p = base ? base + *used : NULL;
    *used += (bytes + 63) / 64 * 64;
    return p;
}

/* As CPU_FOR_DTYPE, for a condition. */
#define CPU_FOR_BOOL(FLAG, flag, ...)                                                                                  \
    do {                                                                                                               \
        if (flag) {                                                                                                    \
            const bool FLAG = true;                                                                                    \
            __VA_ARGS__;                                                                                               \
        } else {                                                                                                       \
            const bool FLAG = false;                                                                                   \
            __VA_ARGS__;                                                                                               \
        }                                                                                                              \
    } while (0)

/* Bytes an element of a float dtype, a constant where dtype is. */
static inline size_t cpu_bytes(clf_dtype dtype) {
    return dtype == CLF_F32 ? 4 : 2;
}

/* Address of element `i`, counted in C order. */
static inline void *cpu_element(const clf_tensor *t, int64_t i) {
    const int64_t last = clf_last(t);
    return (char *)clf_row(t, i / last) + clf_dtype_bytes(t->dtype, i % last);
}

/* Whether the op should write `out` past the caches: it is larger than they are, none of the inputs (NULL: none) lies
 * under it, and its rows begin where v_stream() may write. */
static inline bool cpu_streams(const clf_tensor *out, const clf_tensor *in, const clf_tensor *in2) {
    enum { LARGE = 32 << 20, ALIGNMENT = 64 };
    if (clf_elements(out) * (int64_t)cpu_bytes(out->dtype) < LARGE) return false;
    if (in->buffer == out->buffer || (in2 && in2->buffer == out->buffer)) return false;
    uintptr_t places = (uintptr_t)clf_data(out);
    for (int i = 0; i + 1 < out->ndim; i++) places |= (uintptr_t)out->stride[i] * cpu_bytes(out->dtype);
    return places % ALIGNMENT == 0;
}

/* Asks for `bytes` at p, for the second-level cache. A request every 16 bytes, four a line, was measured (Zen 4, huge
 * pages, 16 KB rows) a sixth faster than two a line, and a quarter faster than one. */
static inline __attribute__((always_inline)) void cpu_fetch(const char *p, size_t bytes) {
    UNROLL for (size_t b = 0; b < bytes; b += 16) __builtin_prefetch(p + b, 0, 2);
}

/* The work of an element-wise op in pieces of a row; tensors that are contiguous throughout count as one row. */
typedef struct cpu_pieces {
    int64_t dim, per_row, count;
} cpu_pieces;

enum { CPU_PIECE = 4096 }; /* elements: a multiple of every vector and block */

static inline cpu_pieces cpu_cut(const clf_tensor *t, bool contiguous) {
    const int64_t dim = contiguous ? clf_elements(t) : clf_last(t);
    const int64_t rows = contiguous ? 1 : clf_rows(t), per_row = (dim + CPU_PIECE - 1) / CPU_PIECE;
    return (cpu_pieces){dim, per_row, rows * per_row};
}

/* Piece i: its row, its first element there; returns how many elements it has. */
static inline int64_t cpu_piece(const cpu_pieces *p, int64_t i, int64_t *row, int64_t *at) {
    *row = i / p->per_row;
    *at = i % p->per_row * CPU_PIECE;
    return p->dim - *at < CPU_PIECE ? p->dim - *at : CPU_PIECE;
}

#endif
