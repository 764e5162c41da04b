/* rules.h: what a query of clf_attention() sees, and its scores, for the forward and the backward kernels. The macros
 * name the kernels' arguments, of RULES.
 *
 * Options: SCORES 1: softcap, ALiBi, a mask, or a scale that isn't positive; 0: a score is a positive scale · q·k, and
 * accumulators keep q·k itself · LAYOUT 1: block-sparse · DROPOUT 1. */
#define LOG2_E 1.44269504f
#define LN_2   0.69314718f

/* Arguments: a tensor's memory, offset and strides of four dimensions; a vector of i32. */
#define IN(t)   __global const void *t, const long t##_at, const long4 t##_stride
#define OUT(t)  __global void *t, const long t##_at, const long4 t##_stride
#define INTS(t) __global const int *t, const long t##_at, const long t##_stride

#define INT_AT(t, i) t[t##_at + (i)*t##_stride]

/* What kernels take after the tensors. `left`, `right`: keys that a query sees to either side of its position, itself
 * included. n_q, n_k: rows of an entry of the batch. `dropout`: a p is kept if its random word reaches it. */
#define RULES                                                                                                          \
    IN(mask), const int mask_f32, __global const float *alibi, const long alibi_at, const float scale,                 \
        const float softcap, const int left, const int right, INTS(lengths), INTS(query_starts), INTS(key_starts),     \
        const int sequences, INTS(layout_rows), INTS(layout_columns), const int n_layout_rows,                         \
        const int n_layout_columns, const int layout_block, const uint dropout, const ulong seed, const int n_q,       \
        const int n_k, const int heads, const int group, const int head_dim, const int v_dim

/* A sequence: which entry of the batch has it, where its rows begin there, its queries and keys, and the key from which
 * on they are hidden. */
typedef struct {
    int index, entry;
    int q_first, k_first;
    int n_q, n_k;
    int end;
} sequence;

/* Query position → the keys [from, to) that it sees but for the layout. */
#define SEEN_FROM(position) max(0, (position)-left + 1)
#define SEEN_TO(position)   min(s.end, (position) + right)

/* Sequence `i`, of packed rows; the one past the last has the rows that are nobody's, and no key. Starts that lead out
 * of the tensors hide what they lead to. */
#define PACKED_SEQUENCE(s, i)                                                                                          \
    do {                                                                                                               \
        const bool real_ = (i) < sequences;                                                                            \
        s.index = (i), s.entry = 0;                                                                                    \
        s.q_first = clamp(INT_AT(query_starts, i), 0, n_q);                                                            \
        s.n_q = (real_ ? clamp(INT_AT(query_starts, (i) + 1), s.q_first, n_q) : n_q) - s.q_first;                      \
        s.k_first = real_ && key_starts ? clamp(INT_AT(key_starts, i), 0, n_k) : 0;                                    \
        s.n_k = real_ && key_starts ? clamp(INT_AT(key_starts, (i) + 1), s.k_first, n_k) - s.k_first : 0;              \
        s.end = real_ && lengths ? clamp(INT_AT(lengths, i), 0, s.n_k) : s.n_k;                                        \
    } while (0)

#define BATCH_SEQUENCE(s, i)                                                                                           \
    do {                                                                                                               \
        s.index = s.entry = (i);                                                                                       \
        s.q_first = s.k_first = 0;                                                                                     \
        s.n_q = n_q, s.n_k = n_k;                                                                                      \
        s.end = lengths ? clamp(INT_AT(lengths, i), 0, n_k) : n_k;                                                     \
    } while (0)

/* ---- scores ---- */

WARP_FN float tanh_of(float x) {
    return 1 - 2 * rcp(1 + ex2(2 * LOG2_E * x));
}

/* The score of q·k before the mask; *slope: its derivative by scale · q·k. */
WARP_FN float score_of(float dot, float scale, float softcap, float alibi_slope, int distance, float *slope) {
    float x = scale * dot;
    *slope = 1;
    if (softcap != 0) {
        const float t = tanh_of(x * rcp(softcap));
        x = softcap * t;
        *slope = 1 - t * t;
    }
    return x - alibi_slope * fabs((float)distance);
}

WARP_FN float mask_value(__global const void *mask, long at, int is_f32) {
    return is_f32 ? ((__global const float *)mask)[at] : unpack(((__global const ushort *)mask)[at]);
}

/* exp(s − base), s being a score or, without SCORES, one ÷ scale; factor: log2 e, without SCORES times scale. */
WARP_FN float weight(float s, float base, float factor) {
#if SCORES
    return ex2((s - base) * factor); /* the lowest float as a mask must not overflow */
#else
    return ex2(fma(s, factor, -base * factor));
#endif
}

/* ---- block-sparse layouts ---- */

#if LAYOUT
/* The first entry of row r, of those for columns ≥ column; *high: one past the row's last entry. */
WARP_FN int layout_find(INTS(layout_rows), INTS(layout_columns), int n_layout_rows, int n_layout_columns, int r,
                        int column, int *high) {
    *high = 0;
    if (r < 0 || r >= n_layout_rows) return 0;
    int low = clamp(INT_AT(layout_rows, r), 0, n_layout_columns),
        top = clamp(INT_AT(layout_rows, r + 1), low, n_layout_columns);
    *high = top;
    while (low < top) {
        const int middle = low + (top - low) / 2;
        if (INT_AT(layout_columns, middle) < column)
            low = middle + 1;
        else
            top = middle;
    }
    return low;
}
#define LAYOUT_FIND(r, column, high)                                                                                   \
    layout_find(layout_rows, layout_rows_at, layout_rows_stride, layout_columns, layout_columns_at,                    \
                layout_columns_stride, n_layout_rows, n_layout_columns, r, column, high)

/* Whether queries of block row r see the keys of block column `column`. */
#define LAYOUT_HAS(has, r, column)                                                                                     \
    do {                                                                                                               \
        int high_;                                                                                                     \
        const int at_ = LAYOUT_FIND(r, column, &high_);                                                                \
        has = at_ < high_ && INT_AT(layout_columns, at_) == (column);                                                  \
    } while (0)
#endif

/* ---- dropout ---- */

/* Words 0 and 1, or 2 and 3, of Philox4×32-10 of a quad of keys, a query, a head and a sequence. */
WARP_FN uint2 philox(ulong seed, uint quad, uint query, uint head, uint index, bool second) {
    uint a = quad, b = query, c = head, d = index, k0 = (uint)seed, k1 = (uint)(seed >> 32);
    UNROLL for (int round = 0; round < 10; round++) {
        const ulong p = (ulong)a * 0xD2511F53u, r = (ulong)c * 0xCD9E8D57u;
        a = (uint)(r >> 32) ^ b ^ k0;
        b = (uint)r;
        c = (uint)(p >> 32) ^ d ^ k1;
        d = (uint)p;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return second ? (uint2)(c, d) : (uint2)(a, b);
}
