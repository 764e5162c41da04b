/* device.c: which devices there are, and opening one. Each device of each platform is listed, GPUs with memory of their
 * own first, then other GPUs, then the rest, in the platforms' order; its place is N in "opencl:N". "auto" takes the
 * first usable GPU: on a CPU (PoCL) the native tables are better. */
#include "cl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <clformer/version.h>

#include "attention_tile.h"

enum { MAX_PLATFORMS = 16, MAX_DEVICES = 32 };
/* What the kernels need. */
enum { MIN_GROUP = 256, MIN_LOCAL = 32 << 10 };

typedef struct found {
    cl_platform_id platform;
    cl_device_id device;
    int rank; /* smaller is better */
} found;

static void text_of(cl_device_id device, cl_device_info what, char *text, size_t size) {
    if (clGetDeviceInfo(device, what, size, text, NULL)) *text = 0;
    text[size - 1] = 0;
}

static cl_ulong number_of(cl_device_id device, cl_device_info what) {
    cl_ulong value = 0; /* little-endian hosts: smaller answers fill its low bytes */
    return clGetDeviceInfo(device, what, sizeof value, &value, NULL) ? 0 : value;
}

static bool is_pocl(cl_platform_id platform) {
    char name[128] = "";
    return !clGetPlatformInfo(platform, CL_PLATFORM_NAME, sizeof name, name, NULL) &&
           strstr(name, "Portable Computing");
}

static int rank_of(cl_platform_id platform, cl_device_id device) {
    const cl_ulong type = number_of(device, CL_DEVICE_TYPE);
    if (!(type & CL_DEVICE_TYPE_GPU) || is_pocl(platform)) return 2;
    return number_of(device, CL_DEVICE_HOST_UNIFIED_MEMORY) ? 1 : 0;
}

static int find(found *list, cl_int *error) {
    cl_platform_id platforms[MAX_PLATFORMS];
    cl_uint n_platforms = 0;
    int n = 0;
    *error = clGetPlatformIDs(MAX_PLATFORMS, platforms, &n_platforms);
    if (*error) return 0;
    for (int rank = 0; rank < 3; rank++)
        for (cl_uint p = 0; p < n_platforms && p < MAX_PLATFORMS; p++) {
            cl_device_id devices[MAX_DEVICES];
            cl_uint n_devices = 0;
            if (clGetDeviceIDs(platforms[p], CL_DEVICE_TYPE_ALL, MAX_DEVICES, devices, &n_devices)) continue;
            for (cl_uint d = 0; d < n_devices && d < MAX_DEVICES && n < MAX_DEVICES; d++)
                if (rank_of(platforms[p], devices[d]) == rank) list[n++] = (found){platforms[p], devices[d], rank};
        }
    return n;
}

/* Why the kernels can't run there; NULL: they can. */
static const char *unusable(cl_device_id device) {
    char version[128], profile[64];
    int major = 0, minor = 0;
    text_of(device, CL_DEVICE_VERSION, version, sizeof version);
    text_of(device, CL_DEVICE_PROFILE, profile, sizeof profile);
    if (!number_of(device, CL_DEVICE_AVAILABLE)) return "the device is not available";
    if (!number_of(device, CL_DEVICE_COMPILER_AVAILABLE)) return "it has no compiler";
    if (!number_of(device, CL_DEVICE_ENDIAN_LITTLE)) return "it is big-endian";
    if (sscanf(version, "OpenCL %d.%d", &major, &minor) != 2 || major * 10 + minor < 12)
        return "it is older than OpenCL 1.2";
    if (strcmp(profile, "FULL_PROFILE")) return "it has only the embedded profile";
    if (number_of(device, CL_DEVICE_MAX_WORK_GROUP_SIZE) < MIN_GROUP) return "its work-groups are smaller than 256";
    if (number_of(device, CL_DEVICE_LOCAL_MEM_SIZE) < MIN_LOCAL) return "it has less than 32 KiB of local memory";
    return NULL;
}

void clf_cl_devices(clf_device_info *infos, int capacity, int *count) {
    found list[MAX_DEVICES];
    cl_int error;
    const int n = find(list, &error);
    *count = n ? n : 1;
    if (!n && capacity > 0) {
        infos[0] = (clf_device_info){.name = "opencl"};
        snprintf(infos[0].reason, sizeof infos[0].reason, "%s", error ? "no OpenCL platform" : "no OpenCL device");
    }
    bool chosen = false;
    for (int i = 0; i < n && i < capacity; i++) {
        clf_device_info *info = &infos[i];
        char name[100], platform[50] = "";
        const char *reason = unusable(list[i].device);
        text_of(list[i].device, CL_DEVICE_NAME, name, sizeof name);
        if (clGetPlatformInfo(list[i].platform, CL_PLATFORM_NAME, sizeof platform, platform, NULL)) *platform = 0;
        *info = (clf_device_info){.usable = !reason, .memory = number_of(list[i].device, CL_DEVICE_GLOBAL_MEM_SIZE)};
        info->chosen = !reason && !chosen && list[i].rank < 2;
        if (!reason) {
            reason = info->chosen       ? "the best GPU there is"
                     : list[i].rank < 2 ? "a better one is there"
                                        : "no GPU: the CPU tables are better";
        }
        chosen |= info->chosen;
        snprintf(info->name, sizeof info->name, "opencl:%d", i);
        snprintf(info->what, sizeof info->what, "%s (%s)", name, platform);
        snprintf(info->reason, sizeof info->reason, "%s", reason);
    }
}

/* What a compiled program depends on besides its source and options. */
static void set_identity(clf_cl_state *s) {
    char platform[128] = "", platform_version[192] = "", device[128], version[128], driver[128];
    if (clGetPlatformInfo(s->platform, CL_PLATFORM_NAME, sizeof platform, platform, NULL)) *platform = 0;
    if (clGetPlatformInfo(s->platform, CL_PLATFORM_VERSION, sizeof platform_version, platform_version, NULL))
        *platform_version = 0;
    text_of(s->device, CL_DEVICE_NAME, device, sizeof device);
    text_of(s->device, CL_DEVICE_VERSION, version, sizeof version);
    text_of(s->device, CL_DRIVER_VERSION, driver, sizeof driver);
    snprintf(s->identity, sizeof s->identity, "%s|%s|%s|%s|%s|%llu|%s", platform, platform_version, device, version,
             driver, (unsigned long long)number_of(s->device, CL_DEVICE_VENDOR_ID), CLF_VERSION_STRING);
}

static clf_status open_state(clf_context *ctx, clf_cl_state *s, int index) {
    found list[MAX_DEVICES];
    cl_int error;
    const int n = find(list, &error);
    CLF_CHECK(&ctx->error, n, CLF_NOT_FOUND, "device opencl:%d: %s", index,
              error ? clf_cl_error_name(error) : "no OpenCL device");
    CLF_CHECK(&ctx->error, index < n, CLF_NOT_FOUND, "device opencl:%d: there are %d", index, n);
    s->platform = list[index].platform;
    s->device = list[index].device;
    s->is_gpu = list[index].rank < 2;
    s->units = (cl_uint)number_of(s->device, CL_DEVICE_MAX_COMPUTE_UNITS);
    const char *reason = unusable(s->device);
    CLF_CHECK(&ctx->error, !reason, CLF_UNSUPPORTED, "device opencl:%d: %s", index, reason);

    char name[128];
    text_of(s->device, CL_DEVICE_NAME, name, sizeof name);
    snprintf(ctx->device_name, sizeof ctx->device_name, "opencl:%d, %s", index, name);
    set_identity(s);
    const bool correct = number_of(s->device, CL_DEVICE_SINGLE_FP_CONFIG) & CL_FP_CORRECTLY_ROUNDED_DIVIDE_SQRT;
    snprintf(s->build_options, sizeof s->build_options, "-cl-std=CL1.2%s",
             correct ? " -cl-fp32-correctly-rounded-divide-sqrt" : "");
    const cl_context_properties properties[] = {CL_CONTEXT_PLATFORM, (cl_context_properties)s->platform, 0};
    s->context = clCreateContext(properties, 1, &s->device, NULL, NULL, &error);
    CLF_TRY(clf_cl_check(ctx, error, CLF_CL_AT_ONCE, "clCreateContext"));
    s->queue = clCreateCommandQueue(s->context, s->device, 0, &error);
    CLF_TRY(clf_cl_check(ctx, error, CLF_CL_AT_ONCE, "clCreateCommandQueue"));
    const uint64_t memory = number_of(s->device, CL_DEVICE_GLOBAL_MEM_SIZE);
    if (memory && ctx->pool.stats.limit > memory) ctx->pool.stats.limit = memory;
    clf_cl_attention_tiles_load(ctx);
    return clf_cl_self_test(ctx);
}

clf_status clf_cl_open(clf_context *ctx, int index) {
    clf_cl_state *s = ctx->device_state = calloc(1, sizeof *s);
    CLF_CHECK(&ctx->error, s, CLF_OUT_OF_MEMORY, "out of host memory");
    const clf_status st = open_state(ctx, s, index);
    if (st != CLF_OK) clf_cl_close(ctx);
    return st;
}

void clf_cl_close(clf_context *ctx) {
    clf_cl_state *s = clf_cl(ctx);
    for (int i = 0; i < CLF_CL_ROPE_TABLES; i++) {
        clf_buffer_release(s->rope[i].buffer);
        free(s->rope[i].turns);
    }
    clf_pool_trim(ctx);
    clf_cl_blas_close(ctx);
    clf_cl_release_programs(ctx);
    if (!s->lost) { /* releasing what belongs to a lost device may hang */
        if (s->arrival) clReleaseEvent(s->arrival);
        if (s->transfers) clReleaseCommandQueue(s->transfers);
        if (s->queue) clReleaseCommandQueue(s->queue);
        if (s->context) clReleaseContext(s->context);
    }
    free(s);
    ctx->device_state = NULL;
}
