/** @file memory.h
 *  What a context's pool holds, and estimates made before anything is allocated. All figures are bytes. */
#ifndef CLFORMER_MEMORY_H
#define CLFORMER_MEMORY_H

#include "base.h"
#include "tensor.h"

/** Transfers of one direction. */
typedef struct clf_transfers {
    uint64_t count; /**< how many copies */
    uint64_t bytes; /**< how much in all */
} clf_transfers;

/** Statistics of one context's pool. Freed memory stays in the pool for reuse until clf_memory_trim(). */
typedef struct clf_memory_stats {
    uint64_t limit;                    /**< hard limit on `held`; UINT64_MAX: none */
    uint64_t held;                     /**< taken from the device, in use or kept for reuse */
    uint64_t in_use;                   /**< handed out, as size classes */
    uint64_t asked;                    /**< handed out, as asked for */
    uint64_t peak_held;                /**< most of `held` since creation or clf_memory_reset_peak() */
    uint64_t peak_asked;               /**< most of `asked` */
    uint64_t mapped;                   /**< host memory used without a copy (mapped weights); not in `held` */
    uint64_t allocations;              /**< blocks handed out so far */
    uint64_t reused;                   /**< of which came from the pool */
    double efficiency;                 /**< asked ÷ in_use; 1 when empty */
    uint64_t tag_asked[CLF_TAG_COUNT]; /**< `asked` by tag */
    uint64_t tag_peak[CLF_TAG_COUNT];  /**< peak of each */
    clf_transfers to_device;           /**< host to device */
    clf_transfers to_host;             /**< device to host */
    clf_transfers between;             /**< from another context's device to this one */
} clf_memory_stats;

/** Reads the statistics of `ctx`. */
CLF_API clf_status clf_memory_get_stats(const clf_context *ctx, clf_memory_stats *out);
/** Sets the peaks to the present figures. */
CLF_API clf_status clf_memory_reset_peak(clf_context *ctx);
/** Returns everything that is kept for reuse to the device. */
CLF_API clf_status clf_memory_trim(clf_context *ctx);
/** "weights", "kv cache" … */
CLF_API const char *clf_memory_tag_name(clf_memory_tag tag);

/** Shape of an attention call, for the estimate. Packed sequences: batch is 1, queries and keys are all rows. Paged
 * ones: keys is what a row of the block table has room for. */
typedef struct clf_attention_memory_args {
    int64_t batch;     /**< sequences */
    int64_t heads;     /**< query heads */
    int64_t kv_heads;  /**< key and value heads */
    int64_t queries;   /**< queries of a sequence */
    int64_t keys;      /**< keys of a sequence */
    int64_t head_dim;  /**< width of queries and keys */
    int64_t v_dim;     /**< width of values; 0: head_dim */
    clf_dtype dtype;   /**< of q, k, v and out */
    int threads;       /**< scratch is per thread; 0: 1 */
    int64_t sequences; /**< packed or paged: how many; scratch is what any lengths need at most; 0: batch, unpacked */
    int64_t layout_block; /**< with a block-sparse layout; 0: none */
} clf_attention_memory_args;

/** Memory of one attention call and its backward pass, inputs and output apart from scratch: exact on the CPU, a bound
 * for devices. */
typedef struct clf_attention_bytes {
    uint64_t inputs;        /**< q, k, v */
    uint64_t output;        /**< out and lse */
    uint64_t flash_scratch; /**< beyond inputs and output, blocked as clf_attention() does it on the CPU */
    uint64_t naive_scratch; /**< beyond them when scores and probabilities are stored: 2 · batch·heads·queries·keys */
    uint64_t saved;         /**< kept from the forward for the backward pass besides the inputs: out and lse */
    uint64_t naive_saved;   /**< likewise where probabilities are stored: batch·heads·queries·keys */
    /** On the CPU, what clf_attention_backward() takes beyond inputs, gradients and what is saved: it grows with the
     * keys. A d_mask that is summed over the queries takes heads / kv_heads · keys floats a thread more */
    uint64_t backward_scratch;
    /** What clf_attention() takes on a device (OpenCL) at most: nothing but for packed sequences' starts, unless there
     * are so few queries that keys are split; how often, the device's size decides. `threads` makes no difference. The
     * first call on tensor cores also tries them out, with scratch of its own */
    uint64_t device_scratch;
    /** What clf_attention_backward() takes there at most: it grows with the queries. d_alibi_slopes takes a float a
     * query and head more; on tensor cores, d_mask of a mask that is repeated, and too small to keep the device busy,
     * up to 4 MiB more */
    uint64_t device_backward_scratch;
} clf_attention_bytes;

/** States what clf_attention() and clf_attention_backward() take. @return CLF_INVALID_ARGUMENT for negative sizes or
 * products beyond 64 bits */
CLF_API clf_status clf_attention_memory(clf_attention_bytes *out, const clf_attention_memory_args *args);

#endif
