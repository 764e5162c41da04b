/* warp.h: operations of a warp for OpenCL C kernels, in two bodies with one meaning.
 *
 *   PTX         warp_ptx.h: each operation is one instruction (NVIDIA, sm_80 and later)
 *   emulation   warp_emulated.h: work-items meet in local memory, so that the very kernels run on a CPU through PoCL,
 *               where their results are checked and their synchronisation is tracked (warp_memory.h)
 *
 * EMULATE=1 asks for the emulation. OPERAND_F16: the 16-bit operands are halves; else they are bfloat16. WGMMA=1: the
 * products of four warps, of sm_90a alone; WGMMA_MARKED=1: the instructions that only sm_90a has are comments marked
 * "//@", for a compiler that makes PTX for sm_90, in which ptx.c then takes the marks away.
 *
 * Local memory is addressed in bytes by a uint, `local_base` + offset: a shared-memory address in the first body, an
 * offset into the tile memory in the second. A kernel opens with WARP_BEGIN(w, memory, bytes, n_warps), which declares
 * `warp *w`. Its rules:
 *   - operations marked (all) are reached by every work-item of the group, equally often: trip counts and branches
 *     around them depend on arguments, group ids and what a whole group reads alike; no early return. This is the price
 *     of the emulation, whose barriers are the group's;
 *   - local memory is written by cp_async16 and local_put… only, and read by ldmatrix, wgmma and local_get… only;
 *   - what cp_async16 brings may be read after commit, a matching wait_group and a block_barrier; by wgmma, if
 *     wgmma_visible() stands between the last two. What local_put… writes, after a block_barrier, not by wgmma;
 *   - groups of 32 consecutive local ids are the warps; the group's size is a multiple of 32;
 *   - loops over registers carry UNROLL and have bounds known where they stand: macros, not function parameters, or the
 *     arrays stay in memory. Addresses inside long loops come from fresh(), or each occupies a register throughout;
 *   - never -cl-finite-math-only or -cl-fast-relaxed-math: they delete the tests for infinity. */
#define WARP_FN static inline __attribute__((always_inline))

/* acc[16 × 8·n] = 0. A macro: a loop in a function is unrolled before the function is inlined. */
#define CLEAR(acc, n)                                                                                                  \
    UNROLL for (int j_ = 0; j_ < (n); j_++)(acc)[j_][0] = (acc)[j_][1] = (acc)[j_][2] = (acc)[j_][3] = 0

#if EMULATE
#include "nvidia/warp_memory.h"

#include "nvidia/warp_emulated.h"
#else
#include "nvidia/warp_ptx.h"
#endif

/* An operand as a number. */
WARP_FN float unpack(ushort bits) {
#if OPERAND_F16
    return half_value(bits);
#else
    return as_float((uint)bits << 16);
#endif
}
