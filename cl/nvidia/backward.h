/* backward.h: what the kernels of attention's gradients share: tiles in local memory, the products of a step, which
 * rows of which sequence a group has, and which steps a layout leaves out. Each warp has 16 rows of the group's own
 * BLOCK, against STEP others at a time.
 *
 * Options: those of warp.h and rules.h · HEAD_DIM, V_DIM: rounded up, multiples of 16 · N_WARPS · STEP. */
#define BLOCK (16 * N_WARPS)

/* Local memory: two tiles of BLOCK rows, which stay (K, V; or Q, dO), and two of STEP rows (Q, dO; or K, V). */
#define OWN_0       0
#define OWN_1       TILE_BYTES(BLOCK, HEAD_DIM)
#define OTHER_0     (OWN_1 + TILE_BYTES(BLOCK, V_DIM))
#define OTHER_1     (OTHER_0 + TILE_BYTES(STEP, HEAD_DIM))
#define LOCAL_BYTES (OTHER_1 + TILE_BYTES(STEP, V_DIM))

/* acc[16 × STEP] = own · otherᵀ over `width` columns, for this warp's 16 rows of its own tile. */
#define PRODUCT(acc, own, other, width)                                                                                \
    do {                                                                                                               \
        const uint base_ = fresh(w->local_base), lane_ = fresh(w->lane);                                               \
        const uint a_lane_ = operand_a(lane_), b_lane_ = operand_b(lane_);                                             \
        CLEAR(acc, STEP / 8);                                                                                          \
        UNROLL for (int k_ = 0; k_ < (width) / 16; k_++) {                                                             \
            uint a_[4];                                                                                                \
            ldmatrix_x4(w, a_, fragment(base_ + (own), BLOCK, w->index, k_, a_lane_));                                 \
            UNROLL for (int t_ = 0; t_ < STEP / 16; t_++) {                                                            \
                uint b_[4];                                                                                            \
                ldmatrix_x4(w, b_, fragment(base_ + (other), STEP, t_, k_, b_lane_));                                  \
                mma_m16n8k16(w, acc[2 * t_], a_, b_[0], b_[1]);                                                        \
                mma_m16n8k16(w, acc[2 * t_ + 1], a_, b_[2], b_[3]);                                                    \
            }                                                                                                          \
        }                                                                                                              \
    } while (0)

/* acc[16 × width] += packed[16 × STEP] · other[STEP × width]. */
#define ACCUMULATE(acc, packed, other, width)                                                                          \
    do {                                                                                                               \
        const uint base_ = fresh(w->local_base), a_lane_ = operand_a(fresh(w->lane));                                  \
        UNROLL for (int k_ = 0; k_ < STEP / 16; k_++) {                                                                \
            uint a_[4];                                                                                                \
            as_operand_a(a_, packed, k_);                                                                              \
            UNROLL for (int j_ = 0; j_ < (width) / 16; j_++) {                                                         \
                uint b_[4];                                                                                            \
                ldmatrix_x4_trans(w, b_, fragment(base_ + (other), STEP, k_, j_, a_lane_));                            \
                mma_m16n8k16(w, acc[2 * j_], a_, b_[0], b_[1]);                                                        \
                mma_m16n8k16(w, acc[2 * j_ + 1], a_, b_[2], b_[3]);                                                    \
            }                                                                                                          \
        }                                                                                                              \
    } while (0)

/* exp(s − lse), of what rows[] holds for the lse: without SCORES it is in base 2, as the product with s is. */
#if SCORES
#define PROBABILITY(s, row) ex2(((s) - (row)) * LOG2_E)
#else
#define PROBABILITY(s, row) ex2(fma(s, (scale)*LOG2_E, -(row)))
#endif

/* Whether the layout shows any of the keys [first_key, last_key] to any of the queries [first_query, last_query]. */
#if LAYOUT
WARP_FN bool layout_meets(INTS(layout_rows), INTS(layout_columns), int n_layout_rows, int n_layout_columns,
                          int layout_block, int first_query, int last_query, int first_key, int last_key) {
    bool meets = false;
    for (int r = first_query / layout_block; r <= last_query / layout_block; r++) {
        int high;
        const int at = LAYOUT_FIND(r, first_key / layout_block, &high);
        meets |= at < high && INT_AT(layout_columns, at) <= last_key / layout_block;
    }
    return meets;
}
#define LAYOUT_MEETS(first_query, last_query, first_key, last_key)                                                     \
    layout_meets(layout_rows, layout_rows_at, layout_rows_stride, layout_columns, layout_columns_at,                   \
                 layout_columns_stride, n_layout_rows, n_layout_columns, layout_block, first_query, last_query,        \
                 first_key, last_key)
#else
#define LAYOUT_MEETS(first_query, last_query, first_key, last_key) true
#endif

/* The rows of a 16-bit tensor from `first` on, of an entry of the batch and a head. */
#define ROWS_FROM(t, entry, head, first)                                                                               \
    ((const __global ushort *)t + t##_at + (entry)*t##_stride.x + (head)*t##_stride.y + (first)*t##_stride.z)

/* The sequence s of the group's tile of BLOCK queries, and that tile's number in it; the last ones have the rows that
 * are nobody's. Without packed rows, s is entry `i` of the batch. */
#define FIND_QUERIES(s, tile, i)                                                                                       \
    do {                                                                                                               \
        if (!query_starts) BATCH_SEQUENCE(s, i);                                                                       \
        for (int i_ = 0; query_starts; i_++) {                                                                         \
            PACKED_SEQUENCE(s, i_);                                                                                    \
            const int n_ = (s.n_q + BLOCK - 1) / BLOCK;                                                                \
            if (tile < n_ || i_ == sequences) break;                                                                   \
            tile -= n_;                                                                                                \
        }                                                                                                              \
    } while (0)

/* The same of a tile of `rows` keys. */
#define FIND_KEYS(s, tile, rows, i)                                                                                    \
    do {                                                                                                               \
        if (!query_starts) BATCH_SEQUENCE(s, i);                                                                       \
        for (int i_ = 0; query_starts; i_++) {                                                                         \
            PACKED_SEQUENCE(s, i_);                                                                                    \
            if (i_ == sequences) { /* keys of no sequence */                                                           \
                s.n_q = s.end = 0;                                                                                     \
                s.k_first = clamp(INT_AT(key_starts, i_), 0, n_k);                                                     \
                s.n_k = n_k - s.k_first;                                                                               \
            }                                                                                                          \
            const int n_ = (s.n_k + (rows)-1) / (rows);                                                                \
            if (tile < n_ || i_ == sequences) break;                                                                   \
            tile -= n_;                                                                                                \
        }                                                                                                              \
    } while (0)
