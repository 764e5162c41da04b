/* weights.h: the weights of one block by number, and how one gets from the file to a context. Names, shapes and
 * presence were checked when the file was opened. */
#ifndef CLF_MODEL_WEIGHTS_H
#define CLF_MODEL_WEIGHTS_H

#include "../core/tensor.h"
#include "model_file.h"
#include "tiles.h"

/* The seven matrices come first, so that an adapter is an array over them; then their biases in the same order. */
typedef enum clf_weight {
    CLF_W_QUERY,
    CLF_W_KEY,
    CLF_W_VALUE,
    CLF_W_OUTPUT,
    CLF_W_GATE,
    CLF_W_UP,
    CLF_W_DOWN,
    CLF_W_MATRICES,
    CLF_W_QUERY_BIAS = CLF_W_MATRICES,
    CLF_W_KEY_BIAS,
    CLF_W_VALUE_BIAS,
    CLF_W_OUTPUT_BIAS,
    CLF_W_GATE_BIAS,
    CLF_W_UP_BIAS,
    CLF_W_DOWN_BIAS,
    CLF_W_ATTENTION_NORM,
    CLF_W_QUERY_NORM,
    CLF_W_KEY_NORM,
    CLF_W_POST_ATTENTION_NORM,
    CLF_W_FFN_NORM,
    CLF_W_POST_FFN_NORM,
    CLF_W_COUNT
} clf_weight;

enum { CLF_WEIGHT_NAME_SIZE = 64 };
/* "blk.3.attn_q.weight", written to `name`, which is returned. */
const char *clf_weight_name(char name[CLF_WEIGHT_NAME_SIZE], int layer, clf_weight id);
/* The weight called so in a block ("attn_q", ".weight"); CLF_W_COUNT if none is. */
clf_weight clf_weight_named(const char *stem, const char *suffix);
/* Weight `id` of block `layer`; NULL where the model does without it. */
const clf_file_tensor *clf_weight_find(const clf_model_file *file, int layer, clf_weight id);
/* The matrix of a tied or untied output. */
const clf_file_tensor *clf_weight_find_output(const clf_model_file *file);

/* Whether a context of host memory uses the file's bytes as they lie. */
bool clf_weight_in_place(const clf_file_tensor *src);
/* What it becomes on contexts of a table, tiles aside. Whether a matrix that isn't base 3 in the file fits T1 can't be
 * told before it is read: the larger layout counts. */
clf_dtype clf_weight_becomes(const clf_file_tensor *src, const clf_backend *backend);
/* Makes `t` on ctx from `src`; `tiles` too where that pays (NULL: never). */
clf_status clf_weight_load(clf_tensor *t, clf_tiles *tiles, clf_context *ctx, const clf_file_tensor *src);
/* Makes `t`, rows of k of TQ1_0, TQ2_0, Q2_0 or a float dtype, from a repacked weight. */
clf_status clf_weight_unpack(clf_tensor *t, const clf_tensor *weight, const clf_tiles *tiles, int64_t k,
                             clf_dtype dtype);
/* n values of F32, F16 or BF16, at any alignment, as floats. */
void clf_weight_to_f32(float *out, clf_dtype dtype, const void *data, int64_t n);

#endif
