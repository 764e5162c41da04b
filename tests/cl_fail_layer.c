/* cl_fail_layer.c: an OpenCL layer (OPENCL_LAYERS) that makes chosen calls fail, and sees what reaches the driver. A
 * test opens the same file with dlopen and sets the state below. */
#include "cl_fail_layer.h"

#include <stdlib.h>
#include <string.h>

#include <CL/cl_layer.h>

static const cl_icd_dispatch *driver;
static cl_icd_dispatch layer;
static cl_fail_state state;

cl_fail_state *cl_fail(void) {
    return &state;
}

/* Counts a call; its error, if its turn has come. */
static cl_int due(bool of_copies) {
    if (state.only_copies && !of_copies) return CL_SUCCESS;
    return ++state.calls == state.at ? state.error : CL_SUCCESS;
}

#define RETURN_COPY(...)                                                                                               \
    do {                                                                                                               \
        const cl_int error_ = due(true);                                                                               \
        if (error_) return error_;                                                                                     \
        return __VA_ARGS__;                                                                                            \
    } while (0)
#define RETURN_ERROR(...)                                                                                              \
    do {                                                                                                               \
        const cl_int error_ = due(false);                                                                              \
        if (error_) return error_;                                                                                     \
        return __VA_ARGS__;                                                                                            \
    } while (0)
#define RETURN_OBJECT(error, ...)                                                                                      \
    do {                                                                                                               \
        const cl_int error_ = due(false);                                                                              \
        if (!error_) return __VA_ARGS__;                                                                               \
        if (error) *error = error_;                                                                                    \
        return NULL;                                                                                                   \
    } while (0)

static cl_context CL_API_CALL create_context(const cl_context_properties *properties, cl_uint n,
                                             const cl_device_id *devices,
                                             void(CL_CALLBACK *notify)(const char *, const void *, size_t, void *),
                                             void *user, cl_int *error) {
    RETURN_OBJECT(error, driver->clCreateContext(properties, n, devices, notify, user, error));
}

static cl_command_queue CL_API_CALL create_queue(cl_context context, cl_device_id device,
                                                 cl_command_queue_properties properties, cl_int *error) {
    RETURN_OBJECT(error, driver->clCreateCommandQueue(context, device, properties, error));
}

static cl_mem CL_API_CALL create_buffer(cl_context context, cl_mem_flags flags, size_t size, void *host,
                                        cl_int *error) {
    RETURN_OBJECT(error, driver->clCreateBuffer(context, flags, size, host, error));
}

static cl_program create_damaged(cl_context context, const char *source, cl_int *error) {
    char *text = strdup(source);
    if (!text) {
        *error = CL_OUT_OF_HOST_MEMORY;
        return NULL;
    }
    for (char *at = text; (at = strstr(at, state.find));) memcpy(at, state.replace, strlen(state.replace));
    cl_program program = driver->clCreateProgramWithSource(context, 1, (const char *[]){text}, NULL, error);
    free(text);
    return program;
}

static cl_program CL_API_CALL create_program(cl_context context, cl_uint n, const char **texts, const size_t *lengths,
                                             cl_int *error) {
    static const char broken[] = "#error broken on purpose\n";
    const char *text = broken;
    state.sources++;
    if (state.break_sources) return driver->clCreateProgramWithSource(context, 1, &text, NULL, error);
    if (state.find) return create_damaged(context, texts[0], error);
    RETURN_OBJECT(error, driver->clCreateProgramWithSource(context, n, texts, lengths, error));
}

static cl_program CL_API_CALL create_binary(cl_context context, cl_uint n, const cl_device_id *devices,
                                            const size_t *lengths, const unsigned char **binaries, cl_int *status,
                                            cl_int *error) {
    state.binaries++;
    RETURN_OBJECT(error, driver->clCreateProgramWithBinary(context, n, devices, lengths, binaries, status, error));
}

static cl_int CL_API_CALL build(cl_program program, cl_uint n, const cl_device_id *devices, const char *options,
                                void(CL_CALLBACK *notify)(cl_program, void *), void *user) {
    RETURN_ERROR(driver->clBuildProgram(program, n, devices, options, notify, user));
}

static cl_kernel CL_API_CALL create_kernel(cl_program program, const char *name, cl_int *error) {
    RETURN_OBJECT(error, driver->clCreateKernel(program, name, error));
}

static cl_int CL_API_CALL set_argument(cl_kernel kernel, cl_uint index, size_t size, const void *value) {
    RETURN_ERROR(driver->clSetKernelArg(kernel, index, size, value));
}

static cl_int CL_API_CALL enqueue(cl_command_queue queue, cl_kernel kernel, cl_uint dimensions, const size_t *offset,
                                  const size_t *global, const size_t *local, cl_uint n, const cl_event *list,
                                  cl_event *event) {
    RETURN_ERROR(driver->clEnqueueNDRangeKernel(queue, kernel, dimensions, offset, global, local, n, list, event));
}

/* Events that late copies wait for. */
enum { MOST_HELD = 8 };
static cl_event held[MOST_HELD];
static int n_held;

/* What a copy waits for: the event of its list, and if it is to be late another one. */
static cl_uint hold(cl_event all[2], cl_command_queue queue, const cl_event *list) {
    cl_context context;
    all[0] = *list;
    if (!state.late_copies || n_held == MOST_HELD ||
        driver->clGetCommandQueueInfo(queue, CL_QUEUE_CONTEXT, sizeof(cl_context), &context, NULL))
        return 1;
    all[1] = held[n_held] = driver->clCreateUserEvent(context, NULL);
    return all[1] ? n_held++, 2 : 1;
}

static void let_go(void) {
    while (n_held) {
        driver->clSetUserEventStatus(held[--n_held], CL_COMPLETE);
        driver->clReleaseEvent(held[n_held]);
    }
}

static cl_int CL_API_CALL enqueue_read(cl_command_queue queue, cl_mem buffer, cl_bool wait, size_t offset, size_t size,
                                       void *data, cl_uint n, const cl_event *list, cl_event *event) {
    state.copies += !wait;
    cl_event all[2];
    if (!wait && n == 1)
        RETURN_COPY(
            driver->clEnqueueReadBuffer(queue, buffer, wait, offset, size, data, hold(all, queue, list), all, event));
    RETURN_ERROR(driver->clEnqueueReadBuffer(queue, buffer, wait, offset, size, data, n, list, event));
}

static cl_int CL_API_CALL enqueue_write(cl_command_queue queue, cl_mem buffer, cl_bool wait, size_t offset, size_t size,
                                        const void *data, cl_uint n, const cl_event *list, cl_event *event) {
    state.copies += !wait;
    cl_event all[2];
    if (!wait && n == 1)
        RETURN_COPY(
            driver->clEnqueueWriteBuffer(queue, buffer, wait, offset, size, data, hold(all, queue, list), all, event));
    RETURN_ERROR(driver->clEnqueueWriteBuffer(queue, buffer, wait, offset, size, data, n, list, event));
}

static cl_int CL_API_CALL enqueue_fill(cl_command_queue queue, cl_mem buffer, const void *pattern, size_t pattern_size,
                                       size_t offset, size_t size, cl_uint n, const cl_event *list, cl_event *event) {
    RETURN_ERROR(driver->clEnqueueFillBuffer(queue, buffer, pattern, pattern_size, offset, size, n, list, event));
}

static cl_int CL_API_CALL marker(cl_command_queue queue, cl_uint n, const cl_event *list, cl_event *event) {
    RETURN_COPY(driver->clEnqueueMarkerWithWaitList(queue, n, list, event));
}

static cl_int CL_API_CALL barrier(cl_command_queue queue, cl_uint n, const cl_event *list, cl_event *event) {
    const cl_int error = due(true);
    if (error) return error;
    if (state.late_copies) driver->clFinish(queue);
    const cl_int answer = driver->clEnqueueBarrierWithWaitList(queue, n, list, event);
    let_go();
    return answer;
}

static cl_int CL_API_CALL flush(cl_command_queue queue) {
    RETURN_COPY(driver->clFlush(queue));
}

static void *CL_API_CALL map(cl_command_queue queue, cl_mem buffer, cl_bool wait, cl_map_flags flags, size_t offset,
                             size_t size, cl_uint n, const cl_event *list, cl_event *event, cl_int *error) {
    *error = due(true);
    return *error ? NULL : driver->clEnqueueMapBuffer(queue, buffer, wait, flags, offset, size, n, list, event, error);
}

static cl_int CL_API_CALL finish(cl_command_queue queue) {
    let_go();
    RETURN_ERROR(driver->clFinish(queue));
}

cl_int CL_API_CALL clGetLayerInfo(cl_layer_info name, size_t size, void *value, size_t *size_out) {
    const cl_layer_api_version version = CL_LAYER_API_VERSION_100;
    if (name != CL_LAYER_API_VERSION) return CL_INVALID_VALUE;
    if (value && size < sizeof version) return CL_INVALID_VALUE;
    if (value) *(cl_layer_api_version *)value = version;
    if (size_out) *size_out = sizeof version;
    return CL_SUCCESS;
}

cl_int CL_API_CALL clInitLayer(cl_uint n, const cl_icd_dispatch *target, cl_uint *n_out, const cl_icd_dispatch **out) {
    if (n < sizeof layer / sizeof layer.clGetPlatformIDs) return CL_INVALID_VALUE;
    driver = target;
    layer.clCreateContext = create_context;
    layer.clCreateCommandQueue = create_queue;
    layer.clCreateBuffer = create_buffer;
    layer.clCreateProgramWithSource = create_program;
    layer.clCreateProgramWithBinary = create_binary;
    layer.clBuildProgram = build;
    layer.clCreateKernel = create_kernel;
    layer.clSetKernelArg = set_argument;
    layer.clEnqueueNDRangeKernel = enqueue;
    layer.clEnqueueReadBuffer = enqueue_read;
    layer.clEnqueueWriteBuffer = enqueue_write;
    layer.clEnqueueFillBuffer = enqueue_fill;
    layer.clEnqueueMarkerWithWaitList = marker;
    layer.clEnqueueBarrierWithWaitList = barrier;
    layer.clFlush = flush;
    layer.clEnqueueMapBuffer = map;
    layer.clFinish = finish;
    *n_out = sizeof layer / sizeof layer.clGetPlatformIDs;
    *out = &layer;
    return CL_SUCCESS;
}
