/** @file opencl.h
 *  OpenCL interoperation: the handles behind a context and its tensors, and tensors over memory objects of the caller.
 *  Not included by clformer.h. The handle types are those of CL/cl.h, declared here so that this header needs none of
 *  OpenCL's.
 *
 *  Work of the caller's own on the context's queue runs in order with the library's; work on another queue must be
 *  ordered by clf_sync() and the caller's clFinish(). */
#ifndef CLFORMER_OPENCL_H
#define CLFORMER_OPENCL_H

#include "base.h"
#include "tensor.h"

struct _cl_platform_id;
struct _cl_device_id;
struct _cl_context;
struct _cl_command_queue;
struct _cl_mem;

/** What an OpenCL context of the library uses; it keeps owning all of it. */
typedef struct clf_opencl_handles {
    struct _cl_platform_id *platform; /**< cl_platform_id */
    struct _cl_device_id *device;     /**< cl_device_id */
    struct _cl_context *context;      /**< cl_context */
    struct _cl_command_queue *queue;  /**< cl_command_queue, in order */
} clf_opencl_handles;

/** The handles of `ctx`. @return CLF_UNSUPPORTED unless it is an OpenCL context */
CLF_API clf_status clf_opencl_get_handles(clf_context *ctx, clf_opencl_handles *out);

/** The memory object (cl_mem) that holds `t`, and the byte in it where `t`'s first element lies; valid while `t` lives.
 *  The object is larger than `t`, and may hold other tensors. @return CLF_UNSUPPORTED unless `t` lives on an OpenCL
 *  context */
CLF_API clf_status clf_opencl_get_memory(const clf_tensor *t, struct _cl_mem **memory, size_t *offset);

/** Creates a contiguous tensor over `memory` (cl_mem), a buffer of the context's cl_context, from byte `offset` on, a
 *  multiple of 16. The tensor retains the memory object until it is destroyed. `args->data` must be NULL; `args->tag`
 * is not used: the statistics count wrapped memory as `mapped`.
 *  @return CLF_UNSUPPORTED unless `ctx` is an OpenCL context, CLF_INVALID_ARGUMENT if the memory object is too small,
 *  belongs to another cl_context or is none */
CLF_API clf_status clf_opencl_wrap(clf_tensor **out, clf_context *ctx, const clf_tensor_args *args,
                                   struct _cl_mem *memory, size_t offset);

/** Arguments of clf_opencl_tune(). */
typedef struct clf_opencl_tune_args {
    int head_dim;   /**< tunes for heads as wide as this (up to 64, 128 or 256 columns share their tiles); 0: all */
    int64_t length; /**< queries and keys of the calls that are timed; 0: 2048 on a GPU, 256 elsewhere */
    int most;       /**< tile sizes tried for each kernel and width; 0: all */
} clf_opencl_tune_args;

/** Finds the fastest tile sizes of the portable attention kernels on the device of `ctx`, which takes seconds to
 *  minutes, most of it compiling. Each is used only after it gave known answers. The choice holds for `ctx` and is kept
 *  in its cache directory for later contexts on the same device and driver, where it is tested before its first use;
 *  what was measured goes to the log as CLF_LOG_INFO. `args` may be NULL: all defaults. clformer-tune calls this.
 *  @return CLF_UNSUPPORTED unless `ctx` is an OpenCL context, CLF_INVALID_ARGUMENT for values out of range */
CLF_API clf_status clf_opencl_tune(clf_context *ctx, const clf_opencl_tune_args *args);

#endif
