/* error.c: OpenCL's errors as statuses. */
#include "cl.h"

enum { NO_PLATFORM = -1001, NVIDIA_BAD_ACCESS = -9999 };

static const struct {
    cl_int error;
    const char *name;
} names[] = {
#define NAME(error)                                                                                                    \
    { error, #error }
    NAME(CL_DEVICE_NOT_FOUND),
    NAME(CL_DEVICE_NOT_AVAILABLE),
    NAME(CL_COMPILER_NOT_AVAILABLE),
    NAME(CL_MEM_OBJECT_ALLOCATION_FAILURE),
    NAME(CL_OUT_OF_RESOURCES),
    NAME(CL_OUT_OF_HOST_MEMORY),
    NAME(CL_PROFILING_INFO_NOT_AVAILABLE),
    NAME(CL_MEM_COPY_OVERLAP),
    NAME(CL_BUILD_PROGRAM_FAILURE),
    NAME(CL_MAP_FAILURE),
    NAME(CL_MISALIGNED_SUB_BUFFER_OFFSET),
    NAME(CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST),
    NAME(CL_COMPILE_PROGRAM_FAILURE),
    NAME(CL_LINKER_NOT_AVAILABLE),
    NAME(CL_LINK_PROGRAM_FAILURE),
    NAME(CL_INVALID_VALUE),
    NAME(CL_INVALID_DEVICE_TYPE),
    NAME(CL_INVALID_PLATFORM),
    NAME(CL_INVALID_DEVICE),
    NAME(CL_INVALID_CONTEXT),
    NAME(CL_INVALID_QUEUE_PROPERTIES),
    NAME(CL_INVALID_COMMAND_QUEUE),
    NAME(CL_INVALID_HOST_PTR),
    NAME(CL_INVALID_MEM_OBJECT),
    NAME(CL_INVALID_BINARY),
    NAME(CL_INVALID_BUILD_OPTIONS),
    NAME(CL_INVALID_PROGRAM),
    NAME(CL_INVALID_PROGRAM_EXECUTABLE),
    NAME(CL_INVALID_KERNEL_NAME),
    NAME(CL_INVALID_KERNEL_DEFINITION),
    NAME(CL_INVALID_KERNEL),
    NAME(CL_INVALID_ARG_INDEX),
    NAME(CL_INVALID_ARG_VALUE),
    NAME(CL_INVALID_ARG_SIZE),
    NAME(CL_INVALID_KERNEL_ARGS),
    NAME(CL_INVALID_WORK_DIMENSION),
    NAME(CL_INVALID_WORK_GROUP_SIZE),
    NAME(CL_INVALID_WORK_ITEM_SIZE),
    NAME(CL_INVALID_GLOBAL_OFFSET),
    NAME(CL_INVALID_EVENT_WAIT_LIST),
    NAME(CL_INVALID_EVENT),
    NAME(CL_INVALID_OPERATION),
    NAME(CL_INVALID_BUFFER_SIZE),
    NAME(CL_INVALID_GLOBAL_WORK_SIZE),
#undef NAME
    {NO_PLATFORM, "no OpenCL platform"},
    {NVIDIA_BAD_ACCESS, "illegal memory access"},
};

const char *clf_cl_error_name(cl_int error) {
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].error == error) return names[i].name;
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
