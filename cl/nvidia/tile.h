/* tile.h: tiles of 16-bit operands in local memory: how they lie, arrive, and become operands of mma and wgmma.
 *
 * A tile is cut into pages of 64 columns. A row of a page is 128 bytes, eight chunks of 16; chunk c of row r lies at
 * place c ^ (r & 7), so that the eight rows which ldmatrix takes at once come from different banks. All row offsets
 * that an operand needs are multiples of 8, so a lane computes its place once (operand_a, operand_b) and each fragment
 * then costs an XOR and an addition of constants. Widths are multiples of 16. */
#define N_THREADS (32 * N_WARPS)

#define PAGE_BYTES(rows)        ((rows)*128)
#define TILE_BYTES(rows, width) (((width) + 63) / 64 * PAGE_BYTES(rows))

/* Where chunk c of row r of a tile's first page lies. */
WARP_FN uint tile_chunk(uint tile, int r, int c) {
    return tile + r * 128 + ((c ^ (r & 7)) << 4);
}

/* Where a lane reads for ldmatrix, in the 16×16 block at the tile's corner: rows are m, columns are k of the A operand;
 * or, by ldmatrix_x4_trans, rows are k, columns are n of B. */
WARP_FN uint operand_a(int lane) {
    return (lane & 15) * 128 + (((lane >> 4) ^ (lane & 7)) << 4);
}

/* The same: rows are n, columns are k of the B operand, {b0, b1} of rows 0–7, then of rows 8–15. */
WARP_FN uint operand_b(int lane) {
    return ((lane & 7) + ((lane >> 4) << 3)) * 128 + ((((lane >> 3) & 1) ^ (lane & 7)) << 4);
}

/* The same place in the 16×16 block at (block_row, block_column) of a tile. */
WARP_FN uint fragment(uint tile, int rows, int block_row, int block_column, uint operand) {
    return tile + (block_column >> 2) * PAGE_BYTES(rows) + block_row * 2048 +
           (operand ^ (((2 * block_column) & 7) << 4));
}

/* Panels: rows of 64 bytes, four chunks; chunk c of row r lies at place c ^ (r >> 1 & 3), so that the eight rows which
 * ldmatrix takes at once come from different banks here too. */
WARP_FN uint panel_chunk(uint panel, int r, int c) {
    return panel + r * 64 + ((c ^ (r >> 1 & 3)) << 4);
}

/* As operand_a and operand_b, in the panel's first 16 rows and 32 bytes. */
WARP_FN uint panel_a(int lane) {
    return (lane & 15) * 64 + (((lane >> 4) ^ (lane >> 1 & 3)) << 4);
}

WARP_FN uint panel_b(int lane) {
    return ((lane & 7) + ((lane >> 4) << 3)) * 64 + (((lane >> 3 & 1) ^ (lane >> 1 & 3)) << 4);
}

/* The same place in 16 rows from 16·block_row on, of the row's first or second half. */
WARP_FN uint panel_fragment(uint panel, int block_row, int second, uint operand) {
    return panel + block_row * 1024 + (operand ^ (second << 5));
}

/* wgmma's operand B by descriptor: where it begins, two distances between its parts, and 1 for the swizzle of 128
 * bytes, which is the one above if tiles begin at multiples of 1024 (PTX manual, "matrix descriptor"). */
WARP_FN ulong descriptor(uint address, uint leading, uint stride) {
    return (ulong)(address >> 4 & 0x3fff) | (ulong)(leading >> 4) << 16 | (ulong)(stride >> 4) << 32 | (ulong)1 << 62;
}

/* Rows are n, columns 16·block_column … are k: eight rows are 1024 bytes. */
WARP_FN ulong operand_rows(uint tile, int rows, int block_column) {
    return descriptor(tile + (block_column >> 2) * PAGE_BYTES(rows) + (block_column & 3) * 32, 0, 1024);
}

/* Transposed: rows 16·block_row … are k, columns are n, 64 of them a page. */
WARP_FN ulong operand_columns(uint tile, int rows, int block_row) {
    return descriptor(tile + block_row * 2048, PAGE_BYTES(rows), 1024);
}

/* The accumulators of columns 16k … 16k + 15, packed in pairs for each row half, as an A operand. */
WARP_FN void as_operand_a(uint *a, uint (*packed)[2], int k) {
    a[0] = packed[2 * k][0];
    a[1] = packed[2 * k][1];
    a[2] = packed[2 * k + 1][0];
    a[3] = packed[2 * k + 1][1];
}

/* Starts the copies of `rows` rows into a tile of `width` columns: row r comes from ADDRESS(first + r), an expression
 * of type const global ushort *. Rows from `end` on and columns from n_columns, a multiple of 8, on become zero, and
 * their source is not read; ADDRESS is taken of rows below `end` only. */
#define TILE_LOAD(w, tile, rows, width, ADDRESS, first, end, n_columns)                                                \
    do {                                                                                                               \
        const int id_ = (int)fresh((uint)((w)->index * 32 + (w)->lane)), chunk_ = id_ & 7;                             \
        UNROLL for (int i_ = 0; i_ < ((rows) + N_THREADS / 8 - 1) / (N_THREADS / 8); i_++) {                           \
            const int r_ = (id_ >> 3) + i_ * (N_THREADS / 8);                                                          \
            if ((rows) % (N_THREADS / 8) != 0 && r_ >= (rows)) continue;                                               \
            const bool in_ = (first) + r_ < (end);                                                                     \
            const __global ushort *from_ = ADDRESS(in_ ? (first) + r_ : (first)) + chunk_ * 8;                         \
            const uint to_ = tile_chunk(tile, r_, chunk_);                                                             \
            UNROLL for (int page_ = 0; page_ < ((width) + 63) / 64;                                                    \
                        page_++) if (page_ * 64 + 64 <= (width) || page_ * 64 + chunk_ * 8 < (width))                  \
                cp_async16(w, to_ + page_ * PAGE_BYTES(rows), from_ + page_ * 64,                                      \
                           in_ && page_ * 64 + chunk_ * 8 < (n_columns) ? 16 : 0);                                     \
        }                                                                                                              \
    } while (0)

/* {low, high} to two neighbouring elements. */
WARP_FN void store_pair(__global ushort *to, float low, float high) {
    *(__global uint *)to = pack(low, high);
}
