/* dropout.cl: out = x / (1 − probability) or 0, by chance, + residual, in float. An item has four elements that one
 * counter decides about; the first and last of a group's columns may be parts of such four. T: dtype. */
#include "philox.cl"

kernel void dropout(IN(x), IN(residual), OUT(out), uint2 seed, uint least, float kept, MAP_ARGS) {
    const uint row = MAP_ROW;
    const long x_row = ROW(x, row), residual_row = ROW(residual, row), out_row = ROW(out, row);
    const long end = min(n, MAP_BEGIN + MAP_COLUMNS), index = row * n; /* of the row's first element */
    for (long four = (index + MAP_BEGIN) / 4 + get_local_id(0); four * 4 < index + end; four += get_local_size(0)) {
        uint word[4];
        vstore4(philox((uint4)((uint)four, (uint)(four >> 32), 0, 0), seed), 0, word);
        for (int k = 0; k < 4; k++) {
            const long i = four * 4 + k - index;
            if (i < MAP_BEGIN || i >= end) continue;
            float v = word[k] >= least ? load(x, x_row + i, T) * kept : 0;
            if (residual) v += load(residual, residual_row + i, T);
            store(out, out_row + i, v, T);
        }
    }
}
