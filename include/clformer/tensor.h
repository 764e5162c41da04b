/** @file tensor.h
 *  A tensor is dtype, shape and strides over device memory. Shapes are in C order (the last dimension varies fastest);
 *  strides count elements. Views share storage, which lives until its last tensor is destroyed. */
#ifndef CLFORMER_TENSOR_H
#define CLFORMER_TENSOR_H

#include "base.h"

#define CLF_MAX_DIMS 4 /**< most dimensions a tensor has */

/** What memory is for; the statistics of memory.h are kept by it. */
typedef enum clf_memory_tag {
    CLF_TAG_OTHER,       /**< tensors created without a tag */
    CLF_TAG_WEIGHTS,     /**< model weights */
    CLF_TAG_KV_CACHE,    /**< keys and values of a session */
    CLF_TAG_ACTIVATIONS, /**< what flows between ops */
    CLF_TAG_SCRATCH,     /**< used inside one op */
    CLF_TAG_GRADIENTS,   /**< of weights */
    CLF_TAG_OPTIMIZER,   /**< optimizer state */
    CLF_TAG_COUNT        /**< how many there are */
} clf_memory_tag;

/** Arguments of clf_tensor_create(). */
typedef struct clf_tensor_args {
    clf_dtype dtype;             /**< zero is CLF_F32 */
    int ndim;                    /**< 0 (a scalar) to CLF_MAX_DIMS */
    int64_t shape[CLF_MAX_DIMS]; /**< the first `ndim` count; 0 is allowed and holds nothing. Rows of block dtypes are
                                      whole blocks */
    clf_memory_tag tag;          /**< for the statistics */
    void *data; /**< host memory to use without a copy: CPU contexts only (others: CLF_UNSUPPORTED), contiguous,
                     aligned to the element; must outlive the tensor. NULL: allocate, contents undefined */
} clf_tensor_args;

/** Creates a contiguous tensor on `ctx`.
 *  @return CLF_INVALID_ARGUMENT for a bad shape, CLF_OUT_OF_MEMORY with required and available bytes in the message */
CLF_API clf_status clf_tensor_create(clf_tensor **out, clf_context *ctx, const clf_tensor_args *args);
/** A view: `ndim`, `shape` and `stride` (in elements; NULL: contiguous) over `t`'s storage, beginning `offset` elements
 *  after `t`'s first one. @return CLF_INVALID_ARGUMENT if the view reaches outside the storage; block dtypes: the last
 *  dimension stays contiguous and everything falls on block boundaries */
CLF_API clf_status clf_tensor_view(clf_tensor **out, const clf_tensor *t, int ndim, const int64_t *shape,
                                   const int64_t *stride, int64_t offset);
/** Releases the tensor, and its storage with the last one. NULL is accepted. */
CLF_API void clf_tensor_destroy(clf_tensor *t);

/** Copies `bytes` from the host, where elements lie contiguously, into the tensor.
 *  @return CLF_INVALID_ARGUMENT unless `bytes` is exactly clf_tensor_bytes() */
CLF_API clf_status clf_tensor_write(clf_tensor *t, const void *data, size_t bytes);
/** Copies the tensor to the host, contiguously; waits for the device first. `bytes` as in clf_tensor_write(). */
CLF_API clf_status clf_tensor_read(const clf_tensor *t, void *data, size_t bytes);
/** Copies between tensors of one dtype and shape, also of different contexts; those are counted as transfers. */
CLF_API clf_status clf_tensor_copy(clf_tensor *dst, const clf_tensor *src);
/** Sets every element of a contiguous tensor to zero. */
CLF_API clf_status clf_tensor_clear(clf_tensor *t);

CLF_API clf_dtype clf_tensor_dtype(const clf_tensor *t);         /**< element type */
CLF_API int clf_tensor_ndim(const clf_tensor *t);                /**< number of dimensions */
CLF_API int64_t clf_tensor_size(const clf_tensor *t, int dim);   /**< size of dimension `dim`; -1 counts from the end */
CLF_API int64_t clf_tensor_stride(const clf_tensor *t, int dim); /**< stride of `dim` in elements */
CLF_API int64_t clf_tensor_elements(const clf_tensor *t);        /**< product of the shape */
CLF_API size_t clf_tensor_bytes(const clf_tensor *t);            /**< bytes of its elements laid contiguously */
CLF_API clf_context *clf_tensor_context(const clf_tensor *t);    /**< where it lives */
/** Host address of the first element on CPU contexts; NULL on others. */
CLF_API void *clf_tensor_data(const clf_tensor *t);

struct DLManagedTensor; /* dlpack.h, which the caller includes */

/** Takes a DLPack tensor of the host (kDLCPU) without a copy. On success the tensor owns `dl` and calls its deleter in
 * the end; on failure the caller still owns it. float32/16, bfloat16, int32/64, uint8 are accepted; at most
 * CLF_MAX_DIMS dimensions, no negative stride. CPU contexts only. */
CLF_API clf_status clf_tensor_from_dlpack(clf_tensor **out, clf_context *ctx, struct DLManagedTensor *dl);
/** Gives a DLPack tensor that shares `t`'s storage and keeps it alive until its deleter is called. CPU contexts only.
 */
CLF_API clf_status clf_tensor_to_dlpack(struct DLManagedTensor **out, const clf_tensor *t);

#endif
