/* nvidia.c: whether the kernels on tensor cores are used on a device: where it says that it has them and warp_ops.cl,
 * which does each operation of warp.h once, answers as the PTX manual's tables say. */
#include "nvidia.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COMPUTE_CAPABILITY_MAJOR = 0x4000, COMPUTE_CAPABILITY_MINOR = 0x4001 }; /* of cl_nv_device_attribute_query */
enum { LEAST_SM = 80, ITEMS = 64, WORDS = 35, SOURCE = ITEMS * 8, LOCAL_BYTES = 2048 };

/* 86 for 8.6; 0 where the device has no such thing. */
static int capability_of(const clf_cl_state *s) {
    char extensions[4096];
    cl_uint major = 0, minor = 0;
    if (clGetDeviceInfo(s->device, CL_DEVICE_EXTENSIONS, sizeof extensions, extensions, NULL)) return 0;
    if (!strstr(extensions, "cl_nv_device_attribute_query")) return 0;
    if (clGetDeviceInfo(s->device, COMPUTE_CAPABILITY_MAJOR, sizeof major, &major, NULL)) return 0;
    if (clGetDeviceInfo(s->device, COMPUTE_CAPABILITY_MINOR, sizeof minor, &minor, NULL)) return 0;
    return (int)(10 * major + minor);
}

void clf_nvidia_options(const clf_context *ctx, clf_dtype dtype, char *text, size_t size) {
    const char *mode =
        clf_cl(ctx)->tensor_cores == CLF_CL_TENSOR_CORES_EMULATED ? "-DEMULATE=1 -DEMULATE_ORDER=1" : "-DEMULATE=0";
    snprintf(text, size, "%s -DOPERAND_F16=%d", mode, dtype == CLF_F16);
}

void clf_nvidia_f32s(clf_cl_call *call, const clf_tensor *t) {
    clf_cl_memory(call, t ? &t->buffer->memory : NULL);
    clf_cl_long(call, t ? clf_cl_offset(t) : 0);
}

void clf_nvidia_ints(clf_cl_call *call, const clf_tensor *t) {
    clf_cl_memory(call, t ? &t->buffer->memory : NULL);
    clf_cl_long(call, t ? clf_cl_offset(t) : 0);
    clf_cl_long(call, t ? t->stride[0] : 0);
}

/* ---- known answers ---- */

static uint16_t operand(clf_dtype dtype, float x) {
    return dtype == CLF_F16 ? clf_f32_to_f16(x) : clf_f32_to_bf16(x);
}

static double number(clf_dtype dtype, uint16_t bits) {
    return (double)(dtype == CLF_F16 ? clf_f16_to_f32(bits) : clf_bf16_to_f32(bits));
}

static float as_float(uint32_t bits) {
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* Byte i of row r of the source. */
static int byte_at(uint16_t (*m)[8], int r, int i) {
    return (int8_t)(m[r][i / 2] >> i % 2 * 8 & 255);
}

/* The operations on bytes and with local memory, from word 23 on. */
static const char *wrong_on_bytes(int id, uint16_t (*m)[8], const uint32_t *x) {
    const int g = id % 32 / 4, t = id % 4, start[4] = {id, -id, 2 * id, 1}, other = (id ^ 32) & 32;
    for (int j = 0; j < 4; j++) {
        const int r = g + j / 2 * 8, n = 2 * t + j % 2;
        int sum = start[j], half_sum = start[j];
        for (int k = 0; k < 32; k++)
            sum += byte_at(m, r / 8 * 8 + k / 16 * 16 + r % 8, k % 16) * byte_at(m, k / 16 * 8 + n, k % 16);
        for (int k = 0; k < 16; k++) half_sum += byte_at(m, r, k) * byte_at(m, 16 + n, k);
        if ((int32_t)x[23 + j] != sum) return "mma of bytes";
        if ((int32_t)x[27 + j] != half_sum) return "half an mma of bytes";
    }
    int sum = id;
    for (int i = 0; i < 4; i++) sum += byte_at(m, g, 4 * t + i) * byte_at(m, 8 + g, 4 * t + i);
    if ((int32_t)x[31] != sum) return "dp4a";
    if (as_float(x[32]) != (float)(id ^ 32) || as_float(x[33]) != (float)-(id ^ 32)) return "local words";
    const int rows = 4 * (other + g) + 48, words[4] = {rows, 4, 8, 3 * rows};
    return (int)x[34] == words[t] ? NULL : "local rows";
}

/* Which operation gave item `id` of a wrong answer; NULL: none. m: the source of its warp, as 4 matrices of 8 × 8. */
static const char *wrong_operation(clf_dtype dtype, int id, uint16_t (*m)[8], const uint32_t *x, float second) {
    const int g = id % 32 / 4, t = id % 4;
    for (int j = 0; j < 4; j++) {
        if (x[j] != (m[8 * j + g][2 * t] | (uint32_t)m[8 * j + g][2 * t + 1] << 16)) return "cp.async, ldmatrix";
        if (x[4 + j] != (m[8 * j + 2 * t][g] | (uint32_t)m[8 * j + 2 * t + 1][g] << 16)) return "ldmatrix.trans";
        /* A[16×16] = matrices {0, 2; 1, 3}; B[k][n] = matrices {0; 1}, row k, column n */
        const int r = g + j / 2 * 8, n = 2 * t + j % 2, start[4] = {id, -id, 2 * id, 1};
        double sum = start[j];
        for (int k = 0; k < 16; k++)
            sum += number(dtype, m[r / 8 * 8 + k / 8 * 16 + r % 8][k % 8]) * number(dtype, m[k][n]);
        if ((double)as_float(x[8 + j]) != sum) return "mma";
    }
    for (int i = 0; i < 5; i++)
        if (as_float(x[12 + i]) != (float)(id ^ 1 << i)) return "shfl";
    if (x[17] != (operand(dtype, 1.00390625f) | (uint32_t)operand(dtype, -3) << 16)) return "cvt";
    if (x[18] != (operand(dtype, 1.01171875f) | (uint32_t)operand(dtype, (float)id) << 16)) return "cvt";
    if (!(fabs((double)as_float(x[19]) / ldexp(1, id - 32) - 1) < 1e-6) || x[20] != 0) return "ex2";
    if (!(fabs((double)as_float(x[21]) - (id & 15)) < 1e-5)) return "lg2";
    if (!(fabs((double)(as_float(x[22]) * second) - 1) < 1e-6)) return "rcp";
    return wrong_on_bytes(id, m, x);
}

static clf_status test_operations(clf_context *ctx, clf_dtype dtype) {
    uint16_t source[ITEMS][8];
    uint32_t out[ITEMS][WORDS];
    char options[96];
    clf_buffer *in = NULL, *result = NULL;
    clf_cl_call call;
    clf_status st;
    for (int i = 0; i < SOURCE; i++) /* small integers, but never 0 where rcp looks */
        source[i / 8][i % 8] = operand(dtype, (float)(i * 37 % 17 - 8 + (i % 8 == 1 && i * 37 % 17 == 8)));
    clf_nvidia_options(ctx, dtype, options, sizeof options);
    CLF_TRY_GOTO(st, clf_buffer_create(&in, ctx, sizeof source, CLF_TAG_SCRATCH));
    CLF_TRY_GOTO(st, clf_buffer_create(&result, ctx, sizeof out, CLF_TAG_SCRATCH));
    CLF_TRY_GOTO(st, clf_cl_write(ctx, &in->memory, 0, source, sizeof source));
    CLF_TRY_GOTO(st, clf_cl_begin(&call, ctx, "nvidia/warp_ops", "warp_ops", "%s", options));
    clf_cl_memory(&call, &in->memory);
    clf_cl_memory(&call, &result->memory);
    clf_cl_local(&call, LOCAL_BYTES);
    CLF_TRY_GOTO(st, clf_cl_run(&call, (size_t[3]){1, 1, 1}, ITEMS));
    CLF_TRY_GOTO(st, clf_cl_read(ctx, &result->memory, 0, out, sizeof out));
    for (int id = 0; id < ITEMS && st == CLF_OK; id++) {
        uint16_t m[32][8];
        memcpy(m, source[id / 32 * 32], sizeof m);
        for (int i = 3; i < 32; i += 4) /* what the partial copies leave out is zero; 12 bytes of item 11, … */
            for (int j = (i % 16 + 1) / 2; j < 8; j++) m[i][j] = 0;
        const char *wrong = wrong_operation(dtype, id, m, out[id], (float)number(dtype, source[id][1]));
        if (wrong)
            st = clf_fail(&ctx->error, CLF_DEVICE_ERROR, "tensor cores: %s (%s) gives item %d a wrong answer", wrong,
                          clf_dtype_name(dtype), id);
    }
fail:
    clf_buffer_release(in);
    clf_buffer_release(result);
    return st;
}

static clf_status test(clf_context *ctx) {
    const clf_cl_state *s = clf_cl(ctx);
    const char *const texts[] = {"tensor cores", s->identity, s->build_options, CLF_NVIDIA_WARP,
                                 clf_cl_source_text("nvidia/warp_ops")};
    const clf_cl_key key = clf_cl_key_of((int)(sizeof texts / sizeof *texts), texts);
    if (clf_cl_cache_passed(ctx, key)) return CLF_OK;
    CLF_TRY(test_operations(ctx, CLF_F16));
    CLF_TRY(test_operations(ctx, CLF_BF16));
    clf_cl_cache_pass(ctx, key);
    return CLF_OK;
}

clf_status clf_nvidia_find(clf_context *ctx) {
    clf_cl_state *s = clf_cl(ctx);
    if (s->tensor_cores != CLF_CL_TENSOR_CORES_UNKNOWN) return CLF_OK;
    static const char *const products[] = {"mma", "wgmma", "wgmma-arch", "wgmma-ptx"}; /* as clf_nvidia_products */
    const char *setting = getenv("CLFORMER_OPENCL_TENSOR_CORES");
    const bool emulate = setting && !strncmp(setting, "emulate", 7);
    s->capability = emulate ? LEAST_SM : capability_of(s);
    if (emulate && setting[7] == ':') s->capability = (int)strtol(setting + 8, NULL, 10);
    s->only_products = -1;
    for (int i = 0; i < 4 && setting; i++)
        if (!strcmp(setting, products[i])) s->only_products = i;
    if ((setting && !strcmp(setting, "off")) || s->capability < LEAST_SM) {
        s->tensor_cores = CLF_CL_TENSOR_CORES_OFF;
        return CLF_OK;
    }
    s->tensor_cores = emulate ? CLF_CL_TENSOR_CORES_EMULATED : CLF_CL_TENSOR_CORES_PTX;
    const clf_status st = test(ctx);
    if (st == CLF_OK) {
        clf_log(ctx, CLF_LOG_INFO, "tensor cores of sm_%d%s: known answers are right", s->capability,
                emulate ? ", emulated" : "");
        return CLF_OK;
    }
    s->tensor_cores = CLF_CL_TENSOR_CORES_OFF;
    if (emulate || s->lost || st == CLF_OUT_OF_MEMORY) return st;
    clf_log(ctx, CLF_LOG_WARNING, "%s; the portable kernels are used", ctx->error.message);
    clf_error_clear(&ctx->error);
    return CLF_OK;
}
