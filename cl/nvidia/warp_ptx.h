/* warp_ptx.h: the operations of warp.h as PTX, one instruction each (sm_80 and later; wgmma: sm_90a). What they do is
 * said here, and holds for the emulation too. */
#if !defined(__NVPTX__) && !defined(__NV_CL_C_VERSION)
#error "this compiler knows no inline PTX"
#endif

#define UNROLL _Pragma("unroll")

typedef struct {
    int lane, index; /* in the warp; of the warp in the group */
    uint local_base;
} warp;

#define WARP_BEGIN(w, memory, bytes, n_warps)                                                                          \
    warp w##_state = {(int)get_local_id(0) & 31, (int)get_local_id(0) >> 5, (uint)(size_t)(memory)};                   \
    warp *const w = &w##_state

/* x, but the compiler cannot know: taken inside a loop it keeps x + constant from being computed before the loop. */
WARP_FN uint fresh(uint x) {
    __asm__ volatile("" : "+r"(x));
    return x;
}

/* c[0] … c[3] are computed here, and not put off until many of them wait in registers for their parts. */
WARP_FN void settle(float *c) {
    __asm__ volatile("" : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]));
}

WARP_FN void block_barrier(warp *w) { /* (all) */
    barrier(CLK_LOCAL_MEM_FENCE);
}

/* Four 8×8 matrices of 16-bit elements. Lane i gives the address of row i&7 of matrix i>>3; r[j] of lane l becomes the
 * elements 2(l&3), 2(l&3)+1 of row l>>2 of matrix j. (all) */
WARP_FN void ldmatrix_x4(warp *w, uint *r, uint address) {
    __asm__ volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                     : "r"(address)
                     : "memory");
}

/* The same, each matrix transposed on the way. (all) */
WARP_FN void ldmatrix_x4_trans(warp *w, uint *r, uint address) {
    __asm__ volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                     : "r"(address)
                     : "memory");
}

#if OPERAND_F16
#define OPERAND "f16"
#else
#define OPERAND "bf16"
#endif

/* c[16×8] += a[16×16] · b[16×8]. With g = lane>>2, t = lane&3, low half = lower index:
 * a = (row g, k 2t), (g+8, 2t), (g, 2t+8), (g+8, 2t+8); b = (k 2t, column g), (2t+8, g);
 * c = (row g, column 2t), (g, 2t+1), (g+8, 2t), (g+8, 2t+1). (all) */
WARP_FN void mma_m16n8k16(warp *w, float *c, const uint *a, uint b0, uint b1) {
    __asm__ volatile("mma.sync.aligned.m16n8k16.row.col.f32." OPERAND "." OPERAND ".f32 "
                     "{%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
                     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* The same of signed bytes, four a word, and exact: c[16×8] += a[16×32] · b[32×8], k 4t … 4t + 3 where operands of 16
 * bits have k 2t, 2t + 1. (all) */
WARP_FN void mma_m16n8k32(warp *w, int *c, const uint *a, uint b0, uint b1) {
    __asm__ volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 "
                     "{%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
                     : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* Half of it: c[16×8] += a[16×16] · b[16×8] with a = (row g, k 4t), (g+8, 4t), b = (k 4t, column g). (all) */
WARP_FN void mma_m16n8k16_bytes(warp *w, int *c, const uint *a, uint b) {
    __asm__ volatile("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0,%1,%2,%3},{%4,%5},{%6},{%0,%1,%2,%3};"
                     : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
                     : "r"(a[0]), "r"(a[1]), "r"(b));
}

/* c + Σ of the products of four signed bytes. */
WARP_FN int dp4a(uint a, uint b, int c) {
    int y;
    __asm__("dp4a.s32.s32 %0, %1, %2, %3;" : "=r"(y) : "r"(a), "r"(b), "r"(c));
    return y;
}

/* To local memory at once; both sides aligned. */
WARP_FN void local_put16(warp *w, uint to, uint4 v) {
    __asm__ volatile("st.shared.v4.b32 [%0], {%1,%2,%3,%4};" ::"r"(to), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w)
                     : "memory");
}

WARP_FN void local_put(warp *w, uint to, float x) {
    __asm__ volatile("st.shared.f32 [%0], %1;" ::"r"(to), "f"(x) : "memory");
}

WARP_FN void local_put2(warp *w, uint to, float x, float y) {
    __asm__ volatile("st.shared.v2.f32 [%0], {%1,%2};" ::"r"(to), "f"(x), "f"(y) : "memory");
}

WARP_FN float local_get(warp *w, uint from) {
    float x;
    __asm__ volatile("ld.shared.f32 %0, [%1];" : "=f"(x) : "r"(from) : "memory");
    return x;
}

WARP_FN float2 local_get2(warp *w, uint from) {
    float2 v;
    __asm__ volatile("ld.shared.v2.f32 {%0,%1}, [%2];" : "=f"(v.x), "=f"(v.y) : "r"(from) : "memory");
    return v;
}

/* x of the lane whose number differs by the bits of mask. (all) */
WARP_FN float warp_shfl_xor(warp *w, float x, int mask) {
    uint y;
    __asm__ volatile("shfl.sync.bfly.b32 %0, %1, %2, 0x1f, 0xffffffff;" : "=r"(y) : "r"(as_uint(x)), "r"(mask));
    return as_float(y);
}

/* Starts a copy of 16 bytes, the first `bytes` from global memory and the rest zero; both sides aligned. */
WARP_FN void cp_async16(warp *w, uint to, const __global void *from, int bytes) {
    __asm__ volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}

/* Closes the group of the copies that this work-item has started since the last commit; may be empty. */
WARP_FN void cp_async_commit(warp *w) {
    __asm__ volatile("cp.async.commit_group;" ::: "memory");
}

/* Waits until at most the n newest of this work-item's groups are unfinished; n is a constant. */
#define cp_async_wait_group(w, n) __asm__ volatile("cp.async.wait_group %0;" ::"n"(n) : "memory")

WARP_FN float ex2(float x) { /* 2^x */
    float y;
    __asm__("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

WARP_FN float lg2(float x) {
    float y;
    __asm__("lg2.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

WARP_FN float rcp(float x) { /* 1/x */
    float y;
    __asm__("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* Two numbers as operands, rounded to nearest, ties to even. */
WARP_FN uint pack(float low, float high) {
    uint y;
    __asm__("cvt.rn." OPERAND "x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low));
    return y;
}

WARP_FN float half_value(ushort bits) {
    float y;
    __asm__("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(bits));
    return y;
}

/* ---- four warps together ---- */

#if WGMMA
#if WGMMA_MARKED
#define WGMMA_TEXT "//@"
#else
#define WGMMA_TEXT
#endif

/* wgmma will see what this work-item's copies have brought, those waited for. */
WARP_FN void wgmma_visible(warp *w) {
    __asm__ volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/* Comes before products whose accumulators or operands are registers written since the last wgmma_end. (all) */
WARP_FN void wgmma_begin(warp *w) {
    __asm__ volatile(WGMMA_TEXT "wgmma.fence.sync.aligned;" ::: "memory");
}

/* Waits for the products; c[16 × 8·n] of each of them may then be read. (all) */
#define wgmma_end(w, c, n)                                                                                             \
    do {                                                                                                               \
        __asm__ volatile(WGMMA_TEXT "wgmma.commit_group.sync.aligned;" ::: "memory");                                  \
        __asm__ volatile(WGMMA_TEXT "wgmma.wait_group.sync.aligned 0;" ::: "memory");                                  \
        UNROLL for (int j_ = 0; j_ < (n); j_++) __asm__ volatile("" : WGMMA_4(c, j_)::"memory");                       \
    } while (0)

/* Starts c[64 × n] = a[64 × 16] · b[16 × n], added to c if `accumulate`; n is 64 or 128. Each of four warps, the first
 * of them a multiple of four, has its 16 rows of a and c, as in mma_m16n8k16. b: a descriptor (tile.h), of columns in
 * rows of local memory, or, `transposed`, of rows. (all) */
#define wgmma(w, n, c, a, b, accumulate, transposed) WGMMA_N(n, c, a, b, accumulate, transposed)
#define WGMMA_N(n, c, a, b, accumulate, transposed)  WGMMA_N##n(c, a, b, accumulate, transposed)
#define WGMMA_N64(c, a, b, accumulate, transposed)                                                                     \
    __asm__ volatile(WGMMA_TEXT "{.reg .pred p; setp.ne.b32 p, %37, 0; "                                               \
                                "wgmma.mma_async.sync.aligned.m64n64k16.f32." OPERAND "." OPERAND " {" WGMMA_32        \
                                "}, {%32,%33,%34,%35}, %36, p, 1, 1, %38;}"                                            \
                     : WGMMA_16(c, 0), WGMMA_16(c, 4)                                                                  \
                     : WGMMA_IN(a, b, accumulate, transposed))
#define WGMMA_N128(c, a, b, accumulate, transposed)                                                                    \
    __asm__ volatile(WGMMA_TEXT "{.reg .pred p; setp.ne.b32 p, %69, 0; "                                               \
                                "wgmma.mma_async.sync.aligned.m64n128k16.f32." OPERAND "." OPERAND " {" WGMMA_32       \
                                "," WGMMA_64 "}, {%64,%65,%66,%67}, %68, p, 1, 1, %70;}"                               \
                     : WGMMA_16(c, 0), WGMMA_16(c, 4), WGMMA_16(c, 8), WGMMA_16(c, 12)                                 \
                     : WGMMA_IN(a, b, accumulate, transposed))
#define WGMMA_IN(a, b, accumulate, transposed)                                                                         \
    "r"((a)[0]), "r"((a)[1]), "r"((a)[2]), "r"((a)[3]), "l"(b), "r"(accumulate), "n"(transposed)
#define WGMMA_4(c, j)  "+f"((c)[j][0]), "+f"((c)[j][1]), "+f"((c)[j][2]), "+f"((c)[j][3])
#define WGMMA_16(c, j) WGMMA_4(c, j), WGMMA_4(c, j + 1), WGMMA_4(c, j + 2), WGMMA_4(c, j + 3)
#define WGMMA_32                                                                                                       \
    "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,"   \
    "%30,%31"
#define WGMMA_64                                                                                                       \
    "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59," \
    "%60,%61,%62,%63"
#endif
