/** @file context.h
 *  A context is one device: its queue, threads, memory budget and kernels. Contexts share nothing, so different threads
 *  may use different contexts; a context that two threads enter at once answers CLF_BUSY to the second. */
#ifndef CLFORMER_CONTEXT_H
#define CLFORMER_CONTEXT_H

#include "base.h"

/** Severity of a log line. */
typedef enum clf_log_level {
    CLF_LOG_ERROR = 1,   /**< something failed; the status says so too */
    CLF_LOG_WARNING = 2, /**< something works less well than it could */
    CLF_LOG_INFO = 3,    /**< what was chosen, and why */
    CLF_LOG_DEBUG = 4    /**< every op */
} clf_log_level;

/** Receives one line without a newline. Called on the thread that called the library. */
typedef void (*clf_log_callback)(void *user, clf_log_level level, const char *line);

/** Arguments of clf_context_create(). Where a field is zero, the environment variable named at it is read, then the
 *  default applies. */
typedef struct clf_context_args {
    const char *device;      /**< "auto", "cpu", a CPU table ("cpu-scalar", "cpu-avx2", "cpu-avx512", "cpu-avx512-bf16",
                                  "cpu-neon"), "opencl", "opencl:1"; NULL: CLFORMER_DEVICE, then "auto", which takes a
                                  GPU when OpenCL offers one and the best CPU table otherwise */
    int threads;             /**< CPU threads; 0: CLFORMER_NUM_THREADS, OMP_NUM_THREADS, then one per physical core */
    uint64_t memory_limit;   /**< most bytes held on the device; 0: CLFORMER_MEM_LIMIT ("8G"), then no limit but the
                                device's */
    clf_log_callback log;    /**< NULL: nothing is logged */
    void *log_user;          /**< passed to `log` */
    clf_log_level log_level; /**< least severe level passed on; 0: CLFORMER_LOG (0…4), then CLF_LOG_WARNING */
    const char
        *cache_dir;    /**< compiled kernels; NULL: CLFORMER_CACHE_DIR, then clformer/ in XDG_CACHE_HOME; "off": none */
    char *error;       /**< receives the message if creation fails; may be NULL */
    size_t error_size; /**< bytes at `error` */
} clf_context_args;

/** Opens a device. `args` may be NULL: all defaults.
 *  @return CLF_NOT_FOUND for an unknown or absent device, CLF_INVALID_ARGUMENT for a malformed setting,
 *  CLF_DEVICE_ERROR if the device fails its self test. `*out` is NULL on failure. */
CLF_API clf_status clf_context_create(clf_context **out, const clf_context_args *args);
/** Waits for the device, then frees everything. Tensors, models and sessions of the context must be destroyed before.
 *  NULL is accepted. */
CLF_API void clf_context_destroy(clf_context *ctx);
/** Waits until everything enqueued has finished. @return the first error of the enqueued work */
CLF_API clf_status clf_sync(clf_context *ctx);
/** The message of the last failure on this context: op, argument, expected, got. Valid until the next call; never NULL.
 */
CLF_API const char *clf_error_message(const clf_context *ctx);
/** The device in words: "cpu-avx2, 2 threads" or "opencl:0, NVIDIA H200". */
CLF_API const char *clf_context_device(const clf_context *ctx);
/** The table in use: "cpu-avx2", "opencl". */
CLF_API const char *clf_context_backend(const clf_context *ctx);
/** Number of CPU threads that ops use; 1 on other devices. */
CLF_API int clf_context_threads(const clf_context *ctx);

/** Where one thread of a CPU context runs. */
typedef struct clf_thread_place {
    int cpu;    /**< the system's number of the logical CPU planned for it; -1: none, the system decides */
    int core;   /**< number of its physical core; -1: unknown */
    int node;   /**< number of its NUMA node; -1: unknown */
    bool bound; /**< it is bound there; not the caller's own thread (entry 0), which keeps the mask its owner gave it */
} clf_thread_place;

/** Lists the places of a CPU context's threads: at most `capacity` entries; their number to `*count` (0 on other
 * devices). */
CLF_API clf_status clf_context_placement(const clf_context *ctx, clf_thread_place *places, int capacity, int *count);
/** Why the threads are where they are, in words: "2 cores, one thread each", "OMP_PROC_BIND is set: obeyed" … */
CLF_API const char *clf_context_placement_reason(const clf_context *ctx);

/** One device that clf_context_create() could open, or why it couldn't. */
typedef struct clf_device_info {
    char name[64];    /**< what to pass as `device`: "cpu-avx2", "opencl:0" */
    char what[160];   /**< the hardware, in words */
    char reason[160]; /**< why "auto" takes it or not; why it is unusable */
    bool usable;      /**< it can be opened */
    bool chosen;      /**< "auto" would take it */
    uint64_t memory;  /**< bytes of memory it has; 0: unknown */
} clf_device_info;

/** Lists devices, in the order of "auto". Writes at most `capacity` entries and the full number to `*count`.
 *  `infos` may be NULL when `capacity` is 0. */
CLF_API clf_status clf_devices(clf_device_info *infos, int capacity, int *count);

#endif
