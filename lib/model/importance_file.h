/* importance_file.h: an importance matrix in a file: for the columns of each matrix, how large the activations are that
 * meet them. Two formats, both llama.cpp's.
 *
 *     GGUF    general.type "imatrix"; imatrix.datasets [strings], imatrix.chunk_count u32, imatrix.chunk_size u32; for
 *             the matrix NAME ("blk.0.attn_q.weight") of k columns and m experts (1 in a dense model) two F32 tensors,
 *             in C order: NAME.in_sum2 [m, k], sums of squares, and NAME.counts [m, 1], of how many tokens each
 *     .dat    i32 entries; each: i32 length, name, i32 calls, i32 k, f32 sums[k] to be divided by calls; then
 *             i32 chunks, i32 length, name of the dataset, which may be missing; little-endian */
#ifndef CLF_MODEL_IMPORTANCE_FILE_H
#define CLF_MODEL_IMPORTANCE_FILE_H

#include "model_file.h"

#define CLF_IMPORTANCE_TYPE       "imatrix"             /* general.type */
#define CLF_IMPORTANCE_DATASETS   "imatrix.datasets"    /* strings */
#define CLF_IMPORTANCE_CHUNKS     "imatrix.chunk_count" /* u32 */
#define CLF_IMPORTANCE_CHUNK_SIZE "imatrix.chunk_size"  /* u32: tokens */
#define CLF_IMPORTANCE_SUMS       ".in_sum2"            /* after the matrix's name */
#define CLF_IMPORTANCE_COUNTS     ".counts"             /* likewise */

typedef struct clf_importance_file clf_importance_file;

/* One matrix's. */
typedef struct clf_importance_entry {
    char *name; /* of the matrix */
    int64_t columns;
    float *mean; /* [columns], finite and ≥ 0: mean squares; all 1 where nothing was counted */
} clf_importance_entry;

/* CLF_BAD_FILE for what is neither format, is truncated, or holds a negative number, an infinity or NaN;
 * CLF_UNSUPPORTED for experts. */
clf_status clf_importance_file_open(clf_importance_file **out, const char *path, clf_error *err);
void clf_importance_file_close(clf_importance_file *file); /* NULL is accepted */
/* That every entry belongs to a matrix of the model, with its columns: CLF_INVALID_ARGUMENT naming the first that
 * doesn't. */
clf_status clf_importance_file_check(const clf_importance_file *file, const clf_model_file *model, clf_error *err);
/* [columns] of the matrix called so, or NULL. */
const clf_importance_entry *clf_importance_file_find(const clf_importance_file *file, const char *name);

#endif
