/* quantize.h: a model's tensors on their way into a file of other dtypes. */
#ifndef CLF_MODEL_QUANTIZE_H
#define CLF_MODEL_QUANTIZE_H

#include <clformer/quantize.h>

#include "../core/tensor.h"
#include "gguf_write.h"
#include "importance_file.h"
#include "weight_error.h"

/* What becomes of one tensor. */
typedef struct clf_quantize_item {
    const clf_file_tensor *source;
    clf_file_tensor out;                    /* name, dtype and shape as written */
    char name[CLF_NAME_SIZE];               /* out.name */
    const clf_importance_entry *importance; /* NULL: none */
    bool fell_back;                         /* to F16 */
    bool repacked;                          /* from one ternary dtype to another */
    int32_t head_dim; /* not 0: rows of queries or keys, from the order of a folder's rotary pairs into a llama GGUF's
                       */
    float offset;     /* added to each weight: Gemma's norms in a folder */
} clf_quantize_item;

/* Tensors are read, converted, compared and written a tile of rows at a time. */
typedef struct clf_quantize_stream {
    clf_context *ctx;
    clf_gguf_writer *writer;
    int64_t capacity;                     /* weights a tile may have */
    clf_tensor weights, written, decoded; /* F32 [capacity]: the source's; as written, of any dtype; and as floats */
} clf_quantize_stream;

/* Makes room for tiles of all items. clf_quantize_stream_end() undoes it, also after a failure. */
clf_status clf_quantize_stream_begin(clf_quantize_stream *stream, clf_context *ctx, clf_gguf_writer *writer,
                                     const clf_quantize_item *items, int64_t count);
void clf_quantize_stream_end(clf_quantize_stream *stream);
/* Writes tensor `index` of the file, adding its errors to `error`. CLF_NOT_FINITE for an infinity or NaN. */
clf_status clf_quantize_write(clf_quantize_stream *stream, const clf_quantize_item *item, int64_t index,
                              clf_weight_error *error);

#endif
