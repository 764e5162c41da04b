/* backend.h: a backend is a const table of functions, one slot per op. The registry knows them all, best first; nothing
 * else in lib/ names one. `abi` guards the OpenCL module, which is loaded at run time. */
#ifndef CLF_CORE_BACKEND_H
#define CLF_CORE_BACKEND_H

#include <clformer/context.h>
#include <clformer/ops.h>

#include "status.h"

/* Device memory: a host address (CPU tables) or a handle of the backend's (cl_mem). */
typedef struct clf_memory {
    void *host;
    void *handle;
    size_t size;
} clf_memory;

struct clf_opencl_tune_args; /* opencl.h */

typedef struct clf_backend {
    uint32_t abi;      /* CLF_BACKEND_ABI of the build that made it */
    const char *name;  /* "cpu-avx2", "opencl" */
    bool host;         /* tensors are host memory: views, DLPack and wrapping work */
    clf_dtype ternary; /* T1 or T2, whichever is faster: what a model's ternary matrices become; zero: they stay */

    /* Writes up to `capacity` devices, best first, and their number to *count. Never fails for want of a device: an
     * entry that isn't usable says why. */
    void (*devices)(clf_device_info *infos, int capacity, int *count);
    /* Opens device `index` into ctx->device_state; messages into ctx->error. */
    clf_status (*open)(clf_context *ctx, int index);
    void (*close)(clf_context *ctx);

    /* Raw memory, for the pool only: no rounding, no statistics. At least 64-byte aligned. */
    clf_status (*alloc)(clf_context *ctx, size_t bytes, clf_memory *out);
    void (*free)(clf_context *ctx, clf_memory *memory);
    /* Bytes between the host and memory + offset, in order with the ops; read returns when the data is there, write
     * when `data` may be changed. */
    clf_status (*write)(clf_context *ctx, const clf_memory *memory, size_t offset, const void *data, size_t bytes);
    clf_status (*read)(clf_context *ctx, const clf_memory *memory, size_t offset, void *data, size_t bytes);
    /* Zeroes `bytes` from memory + offset on, in order with the ops. */
    clf_status (*clear)(clf_context *ctx, const clf_memory *memory, size_t offset, size_t bytes);
    clf_status (*sync)(clf_context *ctx);

    /* For transfer.h, NULL in the tables of host memory: host memory that the device reaches by itself (.host), its
     * release, once copies are done; copies that begin after the ops so far and that no one waits for; that later ops
     * begin after them. */
    clf_status (*host_alloc)(clf_context *ctx, size_t bytes, clf_memory *out);
    void (*host_free)(clf_context *ctx, clf_memory *memory);
    clf_status (*start_write)(clf_context *ctx, const clf_memory *memory, size_t offset, const void *data,
                              size_t bytes);
    clf_status (*start_read)(clf_context *ctx, const clf_memory *memory, size_t offset, void *data, size_t bytes);
    clf_status (*join)(clf_context *ctx);

    /* For opencl.h, NULL in other tables: platform, device, context and queue; the use of foreign memory of at least
     * `bytes` (its cl_mem is retained), until disown; the choice of tile sizes. */
    void (*native)(clf_context *ctx, void *handles[4]);
    clf_status (*adopt)(clf_context *ctx, void *handle, size_t bytes, clf_memory *out);
    void (*disown)(void *handle);
    clf_status (*tune)(clf_context *ctx, const struct clf_opencl_tune_args *args);

#define CLF_OP(op) clf_status (*op)(clf_context *, const clf_##op##_args *);
#include "../ops/ops.def"
#undef CLF_OP
} clf_backend;

/* The OpenCL module's one symbol: const clf_backend clf_backend_opencl. */
#define CLF_MODULE_SYMBOL "clf_backend_opencl"

/* The tables linked into the library, best first, NULL at the end; those whose instruction set this CPU lacks are in
 * it. */
extern const clf_backend *const clf_cpu_backends[];
/* Whether this CPU and OS run the table; if not, *reason says what is missing. */
bool clf_cpu_usable(const clf_backend *backend, const char **reason);

/* Finds the table and device that `device` names. */
clf_status clf_registry_find(const char *device, const clf_backend **backend, int *index, clf_error *err);

#endif
