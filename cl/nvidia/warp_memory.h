/* warp_memory.h: local memory of the emulation: copies that land late, who may read and write what and when, and the
 * groups' barriers. */

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
#endif
