/* tiles.h: ternary matrices of which most is zero: the tiles of 16 rows × 16 columns that hold something, as
 * clf_linear() takes them. A matrix is kept so where that is faster than all of it, by the bytes that are read. */
#ifndef CLF_MODEL_TILES_H
#define CLF_MODEL_TILES_H

#include "../core/tensor.h"

/* Where a weight's tiles lie; the weight itself is their words. Zeroed: it has none. */
typedef struct clf_tiles {
    clf_tensor rows, columns, scale; /* I32 [n / 16 + 1], I32 [tiles], F32 [n] */
} clf_tiles;

static inline bool clf_tiles_are_there(const clf_tiles *tiles) {
    return tiles->rows.buffer != NULL;
}
void clf_tiles_release(clf_tiles *tiles);
/* Whether the tiles of a matrix of T2 on a context of host memory would be faster than `dense` bytes. Only matrices
 * with one scale a row can have them. */
bool clf_tiles_pay(const clf_tensor *panels, uint64_t dense);
/* Makes words and lists from such a matrix. */
clf_status clf_tiles_make(clf_tensor *words, clf_tiles *tiles, const clf_tensor *panels);
/* The matrix of rows of k again. */
clf_status clf_tiles_to_panels(clf_tensor *panels, const clf_tensor *words, const clf_tiles *tiles, int64_t k);

#endif
