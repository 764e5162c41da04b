/* nf4_write.h: a matrix as bitsandbytes' NF4 with double quantisation in a safetensors file: the tensors that packed.h
 * lists. */
#ifndef CLF_MODEL_NF4_WRITE_H
#define CLF_MODEL_NF4_WRITE_H

#include "safetensors_write.h"

enum { CLF_NF4_PARTS = 6 };

/* One matrix on its way; zeroed before it begins. */
typedef struct clf_nf4_writing {
    clf_safetensors_writer *writer;
    clf_file_tensor matrix; /* [rows, columns], dtype: what the weights were */
    int64_t index;          /* of its first part in the file */
    int64_t blocks, done;   /* of 64 */
    float *magnitude;       /* [blocks] */
    uint8_t *codes;         /* of a tile */
} clf_nf4_writing;

/* Describes the parts of `t`, a matrix of whole blocks in every row. */
clf_status clf_nf4_describe(clf_safetensors_writer *writer, const clf_file_tensor *t, clf_error *err);
/* `most`: values at a time. */
clf_status clf_nf4_begin(clf_nf4_writing *w, clf_safetensors_writer *writer, const clf_file_tensor *t, int64_t index,
                         int64_t most, clf_error *err);
/* The next n values, whole rows. */
clf_status clf_nf4_write(clf_nf4_writing *w, const float *x, int64_t n, clf_error *err);
/* The parts that need all of them. */
clf_status clf_nf4_finish(clf_nf4_writing *w, clf_error *err);
void clf_nf4_end(clf_nf4_writing *w);

#endif
