/* warp.h: operations of a warp for OpenCL C kernels, in two bodies with one meaning.
 *
 *   PTX         each operation is one instruction (NVIDIA, sm_80 and later)
 *   emulation   work-items meet in local memory, so that the very kernels run on a CPU through PoCL, where their
 *               results are checked and their synchronisation is tracked
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

#if !EMULATE /* ------------------------------------------------------------------------------------------------- PTX  \
              */

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

#else /* -------------------------------------------------------------------------------------------------- emulation  \
       */

/* When a copy lands:  0 at once;  1 at the matching wait_group;  2 at the first block_barrier after it, the earliest
 * moment at which other work-items may look. Until then its place holds NaN. */
#ifndef EMULATE_COPY
#define EMULATE_COPY 2
#endif
/* 1: track every 16-byte chunk of local memory, and turn what is read or written out of order into NaN: chunks read
 * before they are written, while a copy is in flight or before the barrier; chunks overwritten between the same two
 * block_barriers in which another warp reads or writes them; bank conflicts. It does not need the warps to run in an
 * unlucky order, but relies on the work-items of a group sharing one thread, as PoCL's do. */
#ifndef EMULATE_ORDER
#define EMULATE_ORDER 0
#endif
/* 1: print the first fault of each work-item. */
#ifndef EMULATE_EXPLAIN
#define EMULATE_EXPLAIN 0
#endif
/* 1: work-items take their places in reverse, so the last warp and lane run first. */
#ifndef EMULATE_REVERSE
#define EMULATE_REVERSE 0
#endif

#define UNROLL /* rolled: each collective is a barrier, and barriers are what the compiler's time goes to */

#define WARP_NAN       0x7fff7fffu /* two of them, NaN in both formats */
#define WARP_BAD_ROW   0xffffffffu
#define WARP_EXCHANGE  192        /* words that a collective passes between the lanes of a warp, at most: mma */
#define WARP_COPIES    128        /* copies that a work-item may have in flight, a power of two */
#define WARP_GROUPS    8          /* groups likewise */
#define WARP_NEVER     0x7fffffff /* `ready` of a chunk that nobody has written */
#define WARP_IN_FLIGHT 0x7ffffffe

typedef struct {    /* of a 16-byte chunk; an epoch is the time between two block_barriers */
    int ready;      /* the first epoch in which it may be read */
    int read_epoch; /* when it was last read */
    uint readers;   /* by these warps (a bit each) */
    int visible;    /* wgmma may read it too */
} warp_chunk;

typedef struct {
    int lane, index;
    uint local_base;

    __local uint *exchange[2]; /* used in turn: then one barrier a collective is enough */
    int turn;
    __local uchar *memory;
    uint bytes;
    __local warp_chunk *chunk;
    int epoch;

    struct { /* ring of copies: [landed, waited) may land, [waited, started) are in flight */
        const __global uchar *from;
        uint to;
        int bytes;
    } copy[WARP_COPIES];
    int landed, waited, started;
    int visible; /* to wgmma: up to there */
    int group_end[WARP_GROUPS], groups;
    int told; /* faults printed */
} warp;

#if EMULATE_ORDER
#define WARP_CHUNKS(w, bytes) __local warp_chunk w##_chunk[(bytes) / 16]
#else
#define WARP_CHUNKS(w, bytes) __local warp_chunk w##_chunk[1]
#endif

#define WARP_BEGIN(w, memory, bytes, n_warps)                                                                          \
    __local uint w##_exchange[2][n_warps][WARP_EXCHANGE];                                                              \
    WARP_CHUNKS(w, bytes);                                                                                             \
    warp w##_state;                                                                                                    \
    warp *const w = &w##_state;                                                                                        \
    warp_begin(w, (__local uchar *)(memory), bytes, n_warps, w##_exchange[0][get_local_id(0) >> 5],                    \
               w##_exchange[1][get_local_id(0) >> 5], w##_chunk)

WARP_FN void warp_begin(warp *w, __local uchar *memory, uint bytes, int n_warps, __local uint *exchange0,
                        __local uint *exchange1, __local warp_chunk *chunk) {
    const int id = EMULATE_REVERSE ? n_warps * 32 - 1 - (int)get_local_id(0) : (int)get_local_id(0);
    w->lane = id & 31;
    w->index = id >> 5;
    w->local_base = 0;
    w->exchange[0] = exchange0;
    w->exchange[1] = exchange1;
    w->turn = 0;
    w->memory = memory;
    w->bytes = bytes;
    w->chunk = chunk;
    w->epoch = 0;
    w->landed = w->waited = w->started = w->visible = w->groups = w->told = 0;
    for (uint i = id; i < bytes / 4; i += n_warps * 32) ((__local uint *)memory)[i] = WARP_NAN;
#if EMULATE_ORDER
    for (uint i = id; i < bytes / 16; i += n_warps * 32) {
        chunk[i].ready = WARP_NEVER;
        chunk[i].read_epoch = -1;
        chunk[i].readers = 0;
        chunk[i].visible = 0;
    }
#endif
    barrier(CLK_LOCAL_MEM_FENCE);
}

WARP_FN void warp_fault(warp *w, __constant char *what, uint address) {
#if EMULATE_EXPLAIN
    if (w->told++) return;
    printf("group %d,%d,%d warp %d lane %d epoch %d: %s, local byte %u\n", (int)get_group_id(0), (int)get_group_id(1),
           (int)get_group_id(2), w->index, w->lane, w->epoch, what, address);
#endif
}

WARP_FN uint fresh(uint x) {
    return x;
}

WARP_FN void settle(float *c) {}

WARP_FN __local uint *warp_exchange(warp *w) {
    w->turn ^= 1;
    return w->exchange[w->turn];
}

/* Copies that may land do. */
WARP_FN void warp_land(warp *w) {
    for (; w->landed < w->waited; w->landed++) {
        const int i = w->landed & (WARP_COPIES - 1);
        if (w->copy[i].bytes < 0) continue; /* a fault: NaN stays */
        __local uchar *to = w->memory + w->copy[i].to;
        if (w->copy[i].bytes == 16)
            *(__local uint4 *)to = *(const __global uint4 *)w->copy[i].from;
        else
            for (int j = 0; j < 16; j++) to[j] = j < w->copy[i].bytes ? w->copy[i].from[j] : 0;
    }
}

WARP_FN void block_barrier(warp *w) {
    warp_land(w);
    w->epoch++;
    barrier(CLK_LOCAL_MEM_FENCE);
}

WARP_FN void cp_async16(warp *w, uint to, const __global void *from, int bytes) {
    const bool aligned = !(to & 15) && (bytes == 0 || !((uint)(size_t)from & 15));
    if (!aligned || to + 16 > w->bytes || bytes < 0 || bytes > 16 || w->started - w->landed >= WARP_COPIES) {
        warp_fault(w, "copy misaligned, out of range, or one too many", to);
        if (to + 16 <= w->bytes) *(__local uint4 *)(w->memory + (to & ~15u)) = (uint4)(WARP_NAN);
        return;
    }
#if EMULATE_ORDER
    __local warp_chunk *chunk = w->chunk + to / 16;
    if (chunk->ready == WARP_IN_FLIGHT || chunk->ready == w->epoch + 1) {
        warp_fault(w, "copy over a copy", to);
        bytes = -1;
    } else if (chunk->read_epoch == w->epoch && (chunk->readers & ~(1u << w->index))) {
        warp_fault(w, "copy over what another warp may still read", to);
        bytes = -1;
    }
    chunk->ready = WARP_IN_FLIGHT;
    chunk->visible = 0;
#endif
    *(__local uint4 *)(w->memory + to) = (uint4)(WARP_NAN);
    const int i = w->started++ & (WARP_COPIES - 1);
    w->copy[i].to = to;
    w->copy[i].from = (const __global uchar *)from;
    w->copy[i].bytes = bytes;
#if EMULATE_COPY == 0
    w->waited = w->started;
    warp_land(w);
#endif
}

WARP_FN void cp_async_commit(warp *w) {
    w->group_end[w->groups++ & (WARP_GROUPS - 1)] = w->started;
}

WARP_FN void cp_async_wait_group(warp *w, int n) {
    if (w->groups <= n) return;
    const int end = w->group_end[(w->groups - 1 - n) & (WARP_GROUPS - 1)];
#if EMULATE_ORDER
    for (int i = w->waited; i < end; i++) w->chunk[w->copy[i & (WARP_COPIES - 1)].to / 16].ready = w->epoch + 1;
#endif
    w->waited = max(w->waited, end);
#if EMULATE_COPY == 1
    warp_land(w);
#endif
}

/* The address of a row of 16 bytes, or WARP_BAD_ROW if it must not be read now. */
WARP_FN uint warp_row(warp *w, uint address) {
    if ((address & 15) || address + 16 > w->bytes) {
        warp_fault(w, "row misaligned or out of range", address);
        return WARP_BAD_ROW;
    }
#if EMULATE_ORDER
    __local warp_chunk *chunk = w->chunk + address / 16;
    if (chunk->ready > w->epoch) {
        warp_fault(w, chunk->ready == WARP_NEVER ? "row never written" : "row read before wait_group and barrier",
                   address);
        return WARP_BAD_ROW;
    }
    if (chunk->read_epoch != w->epoch) {
        chunk->read_epoch = w->epoch;
        chunk->readers = 0;
    }
    chunk->readers |= 1u << w->index;
#endif
    return address;
}

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

/* Whether `bytes` may be written at `to` now: aligned, and nobody else reads or brings that chunk in this epoch. */
WARP_FN bool warp_may_put(warp *w, uint to, uint bytes) {
    if (to % bytes || to + bytes > w->bytes) {
        warp_fault(w, "put misaligned or out of range", to);
        return false;
    }
#if EMULATE_ORDER
    __local warp_chunk *chunk = w->chunk + to / 16;
    const bool flies = chunk->ready == WARP_IN_FLIGHT, twice = bytes == 16 && chunk->ready == w->epoch + 1;
    const bool read = chunk->read_epoch == w->epoch && (chunk->readers & ~(1u << w->index));
    if (flies || twice || read) warp_fault(w, read ? "put over what another warp may still read" : "put twice", to);
    chunk->ready = flies || twice || read ? WARP_NEVER : w->epoch + 1;
    chunk->visible = 0;
#endif
    return true;
}

WARP_FN void local_put16(warp *w, uint to, uint4 v) {
    if (warp_may_put(w, to, 16)) *(__local uint4 *)(w->memory + to) = v;
}

WARP_FN void local_put(warp *w, uint to, float x) {
    if (warp_may_put(w, to, 4)) *(__local float *)(w->memory + to) = x;
}

WARP_FN void local_put2(warp *w, uint to, float x, float y) {
    if (warp_may_put(w, to, 8)) *(__local float2 *)(w->memory + to) = (float2)(x, y);
}

WARP_FN float local_get(warp *w, uint from) {
    return warp_row(w, from & ~15u) == WARP_BAD_ROW ? as_float(WARP_NAN) : *(__local float *)(w->memory + from);
}

WARP_FN float2 local_get2(warp *w, uint from) {
    if (warp_row(w, from & ~15u) == WARP_BAD_ROW) return as_float(WARP_NAN);
    return *(__local float2 *)(w->memory + from);
}

#if WGMMA
WARP_FN void wgmma_visible(warp *w) {
#if EMULATE_ORDER
    for (; w->visible < w->waited; w->visible++) w->chunk[w->copy[w->visible & (WARP_COPIES - 1)].to / 16].visible = 1;
#endif
}

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

#endif /* ------------------------------------------------------------------------------------------------------ both  \
        */

/* An operand as a number. */
WARP_FN float unpack(ushort bits) {
#if OPERAND_F16
    return half_value(bits);
#else
    return as_float((uint)bits << 16);
#endif
}
