/* error.c: OpenCL's errors as statuses. */
#include "cl.h"

#define CL_ERRORS(X)                                                                                                   \
    X(CL_DEVICE_NOT_FOUND)                                                                                             \
    X(CL_DEVICE_NOT_AVAILABLE) X(CL_COMPILER_NOT_AVAILABLE) X(CL_MEM_OBJECT_ALLOCATION_FAILURE) X(CL_OUT_OF_RESOURCES) \
        X(CL_OUT_OF_HOST_MEMORY) X(CL_PROFILING_INFO_NOT_AVAILABLE) X(CL_MEM_COPY_OVERLAP) X(CL_BUILD_PROGRAM_FAILURE) \
            X(CL_MAP_FAILURE) X(CL_MISALIGNED_SUB_BUFFER_OFFSET) X(CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST)       \
                X(CL_COMPILE_PROGRAM_FAILURE) X(CL_LINKER_NOT_AVAILABLE) X(CL_LINK_PROGRAM_FAILURE)                    \
                    X(CL_INVALID_VALUE) X(CL_INVALID_DEVICE_TYPE) X(CL_INVALID_PLATFORM) X(CL_INVALID_DEVICE)          \
                        X(CL_INVALID_CONTEXT) X(CL_INVALID_QUEUE_PROPERTIES) X(CL_INVALID_COMMAND_QUEUE)               \
                            X(CL_INVALID_HOST_PTR) X(CL_INVALID_MEM_OBJECT) X(CL_INVALID_BINARY)                       \
                                X(CL_INVALID_BUILD_OPTIONS) X(CL_INVALID_PROGRAM) X(CL_INVALID_PROGRAM_EXECUTABLE)     \
                                    X(CL_INVALID_KERNEL_NAME) X(CL_INVALID_KERNEL_DEFINITION) X(CL_INVALID_KERNEL)     \
                                        X(CL_INVALID_ARG_INDEX) X(CL_INVALID_ARG_VALUE) X(CL_INVALID_ARG_SIZE)         \
                                            X(CL_INVALID_KERNEL_ARGS) X(CL_INVALID_WORK_DIMENSION)                     \
                                                X(CL_INVALID_WORK_GROUP_SIZE) X(CL_INVALID_WORK_ITEM_SIZE)             \
                                                    X(CL_INVALID_GLOBAL_OFFSET) X(CL_INVALID_EVENT_WAIT_LIST)          \
                                                        X(CL_INVALID_EVENT) X(CL_INVALID_OPERATION)                    \
                                                            X(CL_INVALID_BUFFER_SIZE) X(CL_INVALID_GLOBAL_WORK_SIZE)

enum { NO_PLATFORM = -1001, NVIDIA_BAD_ACCESS = -9999 };

const char *clf_cl_error_name(cl_int error) {
    switch (error) {
#define CASE(name)                                                                                                     \
    case name: return #name;
        CL_ERRORS(CASE)
    case NO_PLATFORM: return "no OpenCL platform";
    case NVIDIA_BAD_ACCESS: return "illegal memory access";
    }
    return "unknown error";
}

static bool is_memory(cl_int error) {
    return error == CL_MEM_OBJECT_ALLOCATION_FAILURE || error == CL_OUT_OF_RESOURCES ||
           error == CL_OUT_OF_HOST_MEMORY || error == CL_INVALID_BUFFER_SIZE;
}

static bool is_fatal(cl_int error) {
    return error == CL_DEVICE_NOT_AVAILABLE || error == CL_INVALID_CONTEXT || error == CL_INVALID_COMMAND_QUEUE ||
           error == CL_INVALID_DEVICE || error == NVIDIA_BAD_ACCESS;
}

clf_status clf_cl_check(clf_context *ctx, cl_int error, clf_cl_when when, const char *what) {
    if (error == CL_SUCCESS) return CLF_OK;
    const char *name = clf_cl_error_name(error);
    if (is_memory(error)) /* memory is taken lazily: what finishes may lack it too */
        return clf_fail(&ctx->error, CLF_OUT_OF_MEMORY, "%s: %s (%d)", what, name, error);
    if (when == CLF_CL_AT_FINISH || is_fatal(error)) {
        clf_cl(ctx)->lost = true;
        return clf_fail(&ctx->error, CLF_DEVICE_ERROR, "%s: %s (%d): the device is lost; open a new context", what,
                        name, error);
    }
    return clf_fail(&ctx->error, CLF_DEVICE_ERROR, "%s: %s (%d)", what, name, error);
}

clf_status clf_cl_alive(clf_context *ctx) {
    CLF_CHECK(&ctx->error, !clf_cl(ctx)->lost, CLF_DEVICE_ERROR,
              "%s was lost by an earlier failure; open a new context", ctx->device_name);
    return CLF_OK;
}
