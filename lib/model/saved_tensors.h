/* saved_tensors.h: the tensors of a model as they are written: which, under what name, from what. */
#ifndef CLF_MODEL_SAVED_TENSORS_H
#define CLF_MODEL_SAVED_TENSORS_H

#include "model.h"
#include "gguf_from_folder.h"
#include "tensor_writer.h"

typedef struct clf_saved_tensor {
    clf_file_tensor out;         /* dtype, shape; data: of a tensor that no decoder needs, as the base has it */
    char name[CLF_NAME_SIZE];    /* out.name, where it isn't the base's */
    const clf_tensor *weight[3]; /* one, or the parts of a fused one in order; otherwise NULL */
    const clf_tiles *tiles[3];   /* where a weight is repacked; otherwise NULL */
    const clf_lora *lora[3];     /* beside each; NULL: none */
    bool reorder[3];             /* rows of queries and keys into the other order of rotary pairs */
    float offset;                /* added to each value: Gemma's norms */
    bool nf4;                    /* written as bitsandbytes' parts; out.dtype is what a reader is to compute in */
} clf_saved_tensor;

typedef struct clf_saved_tensors {
    int64_t count;
    clf_saved_tensor *tensor;
    clf_gguf_factors factors; /* data of two of them, where a folder becomes a GGUF */
} clf_saved_tensors;

/* Fills `out`, which must not be moved: lists what a model is made of, in the order of `base`, its file, for a file of
 * the one format or the other. Float tensors are written as `dtype` where one is given (not NULL; of CLF_NF4 the
 * layers' matrices alone), otherwise as the base has them; but vectors that come into a GGUF in F32, and ternary
 * matrices, which are TQ2_0 there as in the model. CLF_UNSUPPORTED for a matrix of blocks that isn't the base's any
 * more. Names and bytes are the base's. */
clf_status clf_saved_tensors_list(clf_saved_tensors *out, const clf_model *model, const clf_model_file *base,
                                  bool to_gguf, const clf_dtype *dtype, clf_error *err);
void clf_saved_tensors_free(clf_saved_tensors *tensors);
/* Describes all, then writes their data, a few MiB at a time. CLF_NOT_FINITE for an infinity or NaN. */
clf_status clf_saved_tensors_write(const clf_saved_tensors *tensors, const clf_model *model,
                                   const clf_tensor_writer *writer, clf_error *err);
/* Whether n values of a float dtype are finite. */
bool clf_all_finite(const void *values, clf_dtype dtype, int64_t n);

#endif
