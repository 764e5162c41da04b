/* cl.h: what every file of this room shares: the state of an open device, errors, programs, and calls of kernels.
 *
 * An op's launcher (OP.c) reads
 *
 *     clf_cl_call call;
 *     CLF_TRY(clf_cl_begin(&call, ctx, "softcap", "softcap", "-DT=F16"));
 *     clf_cl_tensor(&call, x);
 *     clf_cl_float(&call, cap);
 *     return clf_cl_run(&call, (size_t[3]){groups, 1, 1}, 128);
 *
 * and its kernels (OP.cl, and what it includes) follow common.cl in one program. Programs are built when first used,
 * one for each op and set of options. */
#ifndef CLF_CL_H
#define CLF_CL_H

#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>

#include <clformer/ops.h>

#include "../lib/core/context.h"
#include "../lib/core/tensor.h"

/* The slots of the table; an op without a launcher is NULL there. */
#define CLF_OP(op)                                                                                                     \
    __attribute__((weak, visibility("hidden")))                                                                        \
    clf_status clf_##op##_opencl(clf_context *ctx, const clf_##op##_args *args);
#include "../lib/ops/ops.def"
#undef CLF_OP

enum { CLF_CL_KERNELS = 5, CLF_CL_ROPE_TABLES = 4 };

/* A built program and the kernels taken from it. */
typedef struct clf_cl_program {
    char *name, *options;
    cl_program program;
    struct {
        const char *name;
        cl_kernel kernel;
    } kernels[CLF_CL_KERNELS];
    struct clf_cl_program *next;
} clf_cl_program;

/* Rotary frequencies on the device, as rope.c keeps them. */
typedef struct clf_cl_rope_table {
    clf_buffer *buffer;
    uint64_t *turns; /* what the buffer holds */
    int64_t n;
} clf_cl_rope_table;

/* The portable kernels of attention with tile sizes of their own: passes by widths. */
typedef enum clf_cl_attention_pass { CLF_CL_FORWARD, CLF_CL_BACKWARD, CLF_CL_PASSES } clf_cl_attention_pass;
enum { CLF_CL_WIDTHS = 3 };

/* Whether the kernels of nvidia/ are used. */
typedef enum clf_cl_tensor_cores {
    CLF_CL_TENSOR_CORES_UNKNOWN,
    CLF_CL_TENSOR_CORES_OFF,
    CLF_CL_TENSOR_CORES_PTX,
    CLF_CL_TENSOR_CORES_EMULATED
} clf_cl_tensor_cores;

/* What became of a tile of nvidia/tiles.def: by dtype and line. */
typedef enum clf_cl_trial { CLF_CL_UNTRIED, CLF_CL_RIGHT, CLF_CL_WRONG } clf_cl_trial;
enum { CLF_CL_TRIALS = 24, CLF_CL_LINEAR_TRIALS = 2 * 2 * 6 * CLF_DTYPE_COUNT };

/* An open device: ctx->device_state. */
typedef struct clf_cl_state {
    cl_platform_id platform;
    cl_device_id device;
    cl_context context;
    cl_command_queue queue;     /* in order */
    cl_command_queue transfers; /* of transfer.c, in order too; NULL until it is wanted */
    cl_event arrival;           /* of the last copy there; NULL: none since the last join */
    char build_options[128];
    char identity[768]; /* platform, device and driver with their versions: part of every cache key */
    clf_cl_program *programs;
    clf_cl_rope_table rope[CLF_CL_ROPE_TABLES];
    int rope_next; /* the oldest */
    clf_cl_tensor_cores tensor_cores;
    int capability;                                        /* NVIDIA's, 86 for 8.6; 0 elsewhere */
    int only_products;                                     /* a clf_nvidia_products asked for; -1: all */
    uint8_t trials[2][CLF_CL_TRIALS];                      /* of tiles for f16, bf16 */
    uint8_t linear_trials[CLF_CL_LINEAR_TRIALS];           /* of linear's kernels, as nvidia/linear.c counts them */
    int on_trial;                                          /* 1 + the tile whose known answers are asked for; 0: none */
    cl_uint units;                                         /* compute units */
    uint8_t attention_tiles[CLF_CL_PASSES][CLF_CL_WIDTHS]; /* indices, see attention_tile.h */
    bool tuned;                                            /* they are the tuner's */
    bool is_gpu;
    bool used_blas; /* CLBlast holds programs of this context */
    bool lost;      /* the device failed for good: no call reaches it any more */
} clf_cl_state;

static inline clf_cl_state *clf_cl(const clf_context *ctx) {
    return ctx->device_state;
}

/* error.c: `error` as a status, with a message naming `what` failed. An error other than lack of memory that shows when
 * work finishes, or that says so itself, means the device is lost. */
typedef enum clf_cl_when { CLF_CL_AT_ONCE, CLF_CL_AT_FINISH } clf_cl_when;
const char *clf_cl_error_name(cl_int error);
clf_status clf_cl_check(clf_context *ctx, cl_int error, clf_cl_when when, const char *what);
/* Fails if the device was lost before. */
clf_status clf_cl_alive(clf_context *ctx);

/* device.c */
void clf_cl_devices(clf_device_info *infos, int capacity, int *count);
clf_status clf_cl_open(clf_context *ctx, int index);
void clf_cl_close(clf_context *ctx);

/* memory.c */
clf_status clf_cl_alloc(clf_context *ctx, size_t bytes, clf_memory *out);
void clf_cl_free(clf_context *ctx, clf_memory *memory);
clf_status clf_cl_write(clf_context *ctx, const clf_memory *memory, size_t offset, const void *data, size_t bytes);
clf_status clf_cl_read(clf_context *ctx, const clf_memory *memory, size_t offset, void *data, size_t bytes);
clf_status clf_cl_clear(clf_context *ctx, const clf_memory *memory, size_t offset, size_t bytes);
clf_status clf_cl_sync(clf_context *ctx);
void clf_cl_native(clf_context *ctx, void *handles[4]);
clf_status clf_cl_adopt(clf_context *ctx, void *handle, size_t bytes, clf_memory *out);
void clf_cl_disown(void *handle);

/* transfer.c */
clf_status clf_cl_host_alloc(clf_context *ctx, size_t bytes, clf_memory *out);
void clf_cl_host_free(clf_context *ctx, clf_memory *memory);
clf_status clf_cl_start_write(clf_context *ctx, const clf_memory *memory, size_t offset, const void *data,
                              size_t bytes);
clf_status clf_cl_start_read(clf_context *ctx, const clf_memory *memory, size_t offset, void *data, size_t bytes);
clf_status clf_cl_join(clf_context *ctx);

/* cache.c: what is kept on disk under a key; both do nothing where there is no cache. Load returns false unless the
 * very bytes stored are there; the caller frees *data. */
typedef struct clf_cl_key {
    uint64_t low, high;
} clf_cl_key;
clf_cl_key clf_cl_key_of(int n, const char *const *parts);
clf_cl_key clf_cl_key_with(clf_cl_key key, const void *data, size_t size); /* of `key` and these bytes */
bool clf_cl_cache_load(clf_context *ctx, clf_cl_key key, void **data, size_t *size);
void clf_cl_cache_store(clf_context *ctx, clf_cl_key key, const void *data, size_t size);
/* That what the key stands for passed its known answers. */
bool clf_cl_cache_passed(clf_context *ctx, clf_cl_key key);
void clf_cl_cache_pass(clf_context *ctx, clf_cl_key key);

/* self_test.c: known answers, once for each device, driver and version of the kernels. */
clf_status clf_cl_self_test(clf_context *ctx);
/* A contiguous tensor, filled from `data` unless it is NULL; its buffer is to be released, also after a failure. */
clf_status clf_cl_test_tensor(clf_tensor *t, clf_context *ctx, clf_dtype dtype, int ndim, const int64_t *shape,
                              const void *data);
clf_status clf_cl_wrong(clf_context *ctx, const char *what, int i, double expected, double got);

/* attention_test.c: known answers of one pass with n_q queries a head, with the tiles in use; `masks`: backward also of
 * a call with a mask, the mask's gradient alone. */
enum { CLF_CL_TEST_QUERIES = 40 }; /* enough for the kernels that take many */
clf_status clf_cl_attention_test(clf_context *ctx, clf_cl_attention_pass pass, clf_dtype dtype, int n_q, int dim,
                                 bool masks);

/* tune.c */
clf_status clf_cl_tune(clf_context *ctx, const struct clf_opencl_tune_args *args);

/* blas.c: product = x · weightᵀ by CLBlast, [m, n] in float32 without gaps; whether it is to be used for these. */
bool clf_cl_blas_takes(const clf_context *ctx, const clf_tensor *x, const clf_tensor *weight);
clf_status clf_cl_blas_multiply(clf_context *ctx, const clf_tensor *x, const clf_tensor *weight,
                                const clf_memory *product);
void clf_cl_blas_close(clf_context *ctx);

/* convert_ternary.c: clf_convert() to and from T2 and T1. */
clf_status clf_cl_convert_ternary(clf_context *ctx, const clf_tensor *x, const clf_tensor *out);

/* program.c: sources, embedded by the build: NAME.cl and NAME.h are {"NAME", their text}, those of nvidia/
 * {"nvidia/NAME", …}; NULL name at the end. */
typedef struct clf_cl_source {
    const char *name, *text;
} clf_cl_source;
extern const clf_cl_source clf_cl_sources[];
const char *clf_cl_source_text(const char *name); /* NULL: there is none */
void clf_cl_release_programs(clf_context *ctx);

/* call.c: one call of a kernel. Arguments are set in order; the first failure is kept and reported by clf_cl_run(). */
typedef struct clf_cl_call {
    clf_context *ctx;
    const char *name;
    cl_kernel kernel;
    cl_uint n;
    cl_int error;
} clf_cl_call;

/* Finds or builds `kernel` of NAME.cl with `options` ("-DT=F16", made by printf). */
__attribute__((format(printf, 5, 6))) clf_status clf_cl_begin(clf_cl_call *call, clf_context *ctx, const char *name,
                                                              const char *kernel, const char *options, ...);
void clf_cl_value(clf_cl_call *call, size_t size, const void *value);
void clf_cl_memory(clf_cl_call *call, const clf_memory *memory); /* `global void *`; NULL is a null pointer */
void clf_cl_int(clf_cl_call *call, int64_t value);               /* `int` or `uint`; must fit */
void clf_cl_long(clf_cl_call *call, int64_t value);
void clf_cl_float(clf_cl_call *call, float value);
void clf_cl_local(clf_cl_call *call, size_t bytes);
/* `global void *t, long t_at, long4 t_stride`, as common.cl's TENSOR: memory, element offset (bytes for block dtypes),
 * strides of four dimensions, missing ones leading. NULL: a null pointer and zeros. */
void clf_cl_tensor(clf_cl_call *call, const clf_tensor *t);
/* `uint4 shape`: of four dimensions. */
void clf_cl_shape(clf_cl_call *call, const clf_tensor *t);
/* Enqueues groups[0] × groups[1] × groups[2] work-groups of `local` items in a row; nothing if there are none. */
clf_status clf_cl_run(clf_cl_call *call, const size_t groups[3], size_t local);

/* Element-wise ops: the views, of one shape, with as few dimensions as their strides allow. */
void clf_cl_collapse(clf_tensor *views, int n);
/* Runs an element-wise kernel, whose last arguments (shape, n, chunks) this sets: each group has 1024 columns of one
 * row of `like`. */
clf_status clf_cl_run_map(clf_cl_call *call, const clf_tensor *like);

/* Offset of t's first element: in elements, for block dtypes in bytes. */
static inline int64_t clf_cl_offset(const clf_tensor *t) {
    return (int64_t)(clf_dtype_is_block(t->dtype) ? t->offset : t->offset / clf_dtype_block_bytes(t->dtype));
}

/* From one row of a matrix to the next, likewise. */
static inline int64_t clf_cl_row_stride(const clf_tensor *t) {
    return clf_dtype_is_block(t->dtype) ? (int64_t)clf_dtype_bytes(t->dtype, t->stride[0]) : t->stride[0];
}

static inline size_t clf_cl_divide_up(int64_t a, int64_t b) {
    return (size_t)((a + b - 1) / b);
}

/* The name that kernels know a dtype by: "F16". */
const char *clf_cl_dtype(clf_dtype dtype);

#endif
