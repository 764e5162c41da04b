/* linear_tiles.cl: linear with block-sparse ternary weights: tiles of 16 rows × 16 k, of which the empty ones aren't there.
 *
 *     out[row, 16·t + r] = row_scale[16·t + r] · Σ_tiles e of t  Σ_j x[row, 16·columns[e] + j] · code(e, r, j)
 *
 * then the epilogue. A tile is 64 bytes, a word for each of its rows (blocks.cl: codes_of_word), so that the 16 items that
 * share a tile read it at once; four of them are read together. A group has 16 columns of out and ROWS rows of x. What
 * the lists say is checked here: a tile that lies outside of w or of x makes its columns NaN. */
#include "linear_epilogue.cl"

#define LANES 4 /* tiles at a time */

kernel __attribute__((reqd_work_group_size(16 * LANES, 1, 1))) void
linear_tiles(IN(x), int x_dtype, global const uchar *tiles, long tiles_at, int n_tiles, global const int *tile_rows,
             long rows_at, global const int *tile_columns, long columns_at, global const float *row_scale,
             long scale_at, uint k, EPILOGUE_ARGS, local float *scratch) {
    const uint item = get_local_id(0), r = item % 16, lane = item / 16, t = get_group_id(0), column = 16 * t + r;
    const uint row0 = get_group_id(1) * ROWS;
    const int from = tile_rows[rows_at + t], to = tile_rows[rows_at + t + 1];
    const bool good = from >= 0 && from <= to && to <= n_tiles;
    long x_row[ROWS];
    float16 sum[ROWS];
    for (int i = 0; i < ROWS; i++) {
        x_row[i] = ROW(x, min(row0 + i, m - 1));
        sum[i] = good ? 0 : NAN;
    }
    for (int e = from + (int)lane; good && e < to; e += LANES) {
        const uint word = as_uint(vload4(0, tiles + tiles_at + (long)e * 64 + 4 * r));
        const uint group = (uint)tile_columns[columns_at + e]; /* negative ones are large */
        const bool inside = group < k / 16;
        const float16 w = convert_float16(as_char16(codes_of_word(word)));
        for (int i = 0; i < ROWS; i++)
            sum[i] += inside ? w * load16(x, x_row[i] + 16 * group, 16, x_dtype) : NAN;
    }
    for (int i = 0; i < ROWS; i++) {
        barrier(CLK_LOCAL_MEM_FENCE);
        scratch[item] = sum16(sum[i]);
        barrier(CLK_LOCAL_MEM_FENCE);
        if (lane) continue;
        float v = 0;
        for (int j = 0; j < LANES; j++) v += scratch[j * 16 + r];
        finish(row0 + i, column, row_scale[scale_at + column] * v, EPILOGUE);
    }
}
