/* estimate.h: bytes that a model takes, from its description alone. Loading and evaluating use the same shapes. */
#ifndef CLF_MODEL_ESTIMATE_H
#define CLF_MODEL_ESTIMATE_H

#include "../core/backend.h"
#include "model_file.h"

typedef struct clf_weight_bytes {
    uint64_t all;    /* once loaded */
    uint64_t copied; /* of which a context of host memory can't use in place */
    uint64_t held;   /* all, in the pool's blocks */
} clf_weight_bytes;

/* On contexts of a table. */
clf_weight_bytes clf_estimate_block(const clf_model_file *file, int layer, const clf_backend *backend);
/* Of the embedding, and of the last norm and the output matrix; a tied one is counted with both. */
void clf_estimate_ends(clf_weight_bytes *embedding, clf_weight_bytes *output, const clf_model_file *file);
uint64_t clf_estimate_activations(const clf_config *config, clf_dtype compute, int64_t chunk);
/* What the CPU tables' clf_linear() takes for `rows` rows of width k times [n, k], n of all weights together, those of
 * block dtypes meeting x as codes. */
uint64_t clf_estimate_linear(int64_t rows, int64_t k, int64_t n, bool gated, bool codes, int threads);
/* clf_linear_backward()'s, whatever the shape. */
uint64_t clf_estimate_linear_backward(int threads);
/* clf_linear_cross_entropy()'s with a d_x in place of x, all rows being targets. */
typedef struct clf_cross_entropy_shape {
    int64_t rows, k, vocab;
    int64_t block_values;        /* of the weights' dtype */
    bool float_weights, float_x; /* F32 */
    bool d_weight, smoothing, softcap;
} clf_cross_entropy_shape;
uint64_t clf_estimate_linear_cross_entropy(const clf_cross_entropy_shape *shape, int threads);
/* The latter's in OpenCL. */
uint64_t clf_estimate_device_cross_entropy(int64_t rows, int64_t vocab);
/* The most that one op takes on a CPU table. */
uint64_t clf_estimate_scratch(const clf_model_file *file, int64_t chunk, int64_t context_length, int threads);

#endif
