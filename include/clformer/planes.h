/** @file planes.h
 *  Ternary matrices on the host as two planes of bits, where they are +1 and where −1, with a scale for each row and
 * 256 columns: to look at, exchange and edit. Products take other forms of them (clf_linear()).
 *
 *  Planes are made of any matrix whose values are 0 and ± one number in each 256 columns of a row, whatever its dtype,
 * and written to any dtype that clf_convert() writes. */
#ifndef CLFORMER_PLANES_H
#define CLFORMER_PLANES_H

#include "tensor.h"

#define CLF_PLANES_BLOCK 256 /**< columns a scale; the last block of a row may be shorter */

typedef struct clf_planes clf_planes; /**< a ternary matrix */

/** All zero, with scales of 1. @return CLF_INVALID_ARGUMENT for negative sizes or sizes that overflow,
 * CLF_OUT_OF_MEMORY */
CLF_API clf_status clf_planes_create(clf_planes **out, int64_t rows, int64_t columns);
CLF_API void clf_planes_destroy(clf_planes *planes); /**< NULL is accepted */
/** From a matrix of a float or block dtype, or T2 or T1. Messages are its context's. @return CLF_INVALID_ARGUMENT, with
 * the first row and column, if a block isn't ternary */
CLF_API clf_status clf_planes_read(clf_planes **out, const clf_tensor *matrix);
/** To a matrix of the same shape. Without loss into F32, TQ1_0, TQ2_0, T2 and T1, and Q2_0, where scales are halves. A
 * block that is zero keeps no scale in TQ1_0, TQ2_0 and Q2_0. */
CLF_API clf_status clf_planes_write(const clf_planes *planes, clf_tensor *matrix);

CLF_API int64_t clf_planes_rows(const clf_planes *planes);    /**< number of rows */
CLF_API int64_t clf_planes_columns(const clf_planes *planes); /**< number of columns */
/** The plane where the matrix is positive: bit c % 64 of word c / 64 of a row is column c; a row is (columns + 63) / 64
 * words, unused bits 0. */
CLF_API const uint64_t *clf_planes_positive(const clf_planes *planes);
CLF_API const uint64_t *clf_planes_negative(const clf_planes *planes); /**< and negative */
/** −1, 0 or 1; 0 outside. */
CLF_API int clf_planes_get(const clf_planes *planes, int64_t row, int64_t column);
/** @return CLF_INVALID_ARGUMENT for a place outside, or a value that isn't −1, 0 or 1 */
CLF_API clf_status clf_planes_set(clf_planes *planes, int64_t row, int64_t column, int value);
/** The scales, [rows][(columns + 255) / 256], which may be changed. */
CLF_API float *clf_planes_scales(clf_planes *planes);

/** How many values are what. */
typedef struct clf_planes_counts {
    int64_t positive; /**< +1 */
    int64_t negative; /**< −1 */
    int64_t zero;     /**< 0 */
} clf_planes_counts;

/** Counts all. */
CLF_API clf_status clf_planes_count(const clf_planes *planes, clf_planes_counts *out);
/** The share of zeros of each chunk of so many rows and columns, row by row of chunks; those at the edges may be
 * smaller. `out` has ⌈rows / chunk_rows⌉ · ⌈columns / chunk_columns⌉ places. @return CLF_INVALID_ARGUMENT for NULL or a
 * chunk without rows or columns */
CLF_API clf_status clf_planes_sparsity(const clf_planes *planes, int64_t chunk_rows, int64_t chunk_columns, float *out);
/** Empties chunks, those with the least Σ scale² first, the earlier of two alike, until at least `share` of them are
 * empty. 1 by 1 prunes values, 16 by 16 makes what block-sparse products are fast with. @return CLF_INVALID_ARGUMENT as
 * above, or for a share outside 0 … 1; CLF_OUT_OF_MEMORY */
CLF_API clf_status clf_planes_prune(clf_planes *planes, int64_t chunk_rows, int64_t chunk_columns, double share);

#endif
