/* program.c: programs, from the disk cache or from source. A program is the dtypes (an enum, with values and bytes a
 * block), common.cl, blocks.cl and NAME.cl, or warp.h, tile.h and nvidia/NAME.cl, with the embedded sources that it
 * includes in place of its lines #include "OTHER.cl", built with the device's options and the caller's. The cache's key
 * is the hash of all of it and of the device's identity. */
#include "cl.h"
#include "nvidia/nvidia.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* clformer's dtypes for OpenCL C: F32 …, F32_values …, F32_bytes … */
static const char dtypes[] = "enum {"
#define ENUM(name, text, gguf, values, bytes) #name ","
    CLF_DTYPES(ENUM) "};\nenum {"
#define BLOCK(name, text, gguf, values, bytes) #name "_values = " #values "," #name "_bytes = " #bytes ","
    CLF_DTYPES(BLOCK) "};\n";

static const char *const dtype_names[] = {
#define NAME(name, text, gguf, values, bytes) #name,
    CLF_DTYPES(NAME)};

const char *clf_cl_dtype(clf_dtype dtype) {
    return dtype_names[dtype];
}

const char *clf_cl_source_text(const char *name) {
    const clf_cl_source *s = clf_cl_sources;
    while (s->name && strcmp(s->name, name)) s++;
    return s->text;
}

/* Logs what the compiler said, whole lines, and puts the first of it into the message; a kernel on trial may be refused
 * without a stir. */
static clf_status build_failed(clf_context *ctx, cl_program program, const char *name, const char *options,
                               cl_int error) {
    const clf_cl_state *s = clf_cl(ctx);
    size_t size = 0;
    char *log = NULL;
    if (!clGetProgramBuildInfo(program, s->device, CL_PROGRAM_BUILD_LOG, 0, NULL, &size)) log = malloc(size + 1);
    if (log && clGetProgramBuildInfo(program, s->device, CL_PROGRAM_BUILD_LOG, size, log, NULL)) size = 0;
    if (log) log[size] = 0;
    const char *text = log ? log : "";
    if (error != CL_BUILD_PROGRAM_FAILURE) {
        clf_cl_check(ctx, error, CLF_CL_AT_ONCE, "clBuildProgram");
        clf_fail_in(&ctx->error, "%s.cl (%s)", name, options);
    } else {
        clf_fail(&ctx->error, CLF_DEVICE_ERROR, "%s.cl (%s): the device's compiler refused it: %.300s", name, options,
                 *text ? text : "(no log)");
    }
    char *rest = NULL;
    for (char *line = log ? strtok_r(log, "\n", &rest) : NULL; line; line = strtok_r(NULL, "\n", &rest))
        clf_log(ctx, s->on_trial ? CLF_LOG_DEBUG : CLF_LOG_ERROR, "%s.cl: %.900s", name, line);
    free(log);
    return ctx->error.status;
}

/* The program's binary, ended by 0; NULL: there is none. The caller frees it. */
static char *binary_of(cl_program program, size_t *size) {
    *size = 0;
    if (clGetProgramInfo(program, CL_PROGRAM_BINARY_SIZES, sizeof *size, size, NULL) || !*size) return NULL;
    char *binary = malloc(*size + 1);
    if (!binary) return NULL;
    binary[*size] = 0;
    if (!clGetProgramInfo(program, CL_PROGRAM_BINARIES, sizeof binary, &binary, NULL)) return binary;
    free(binary);
    return NULL;
}

static void store_binary(clf_context *ctx, cl_program program, clf_cl_key key) {
    size_t size;
    char *binary = ctx->cache_dir ? binary_of(program, &size) : NULL;
    if (binary) clf_cl_cache_store(ctx, key, binary, size);
    free(binary);
}

static cl_int build_binary(cl_program *out, clf_context *ctx, const void *binary, size_t size, const char *options) {
    const clf_cl_state *s = clf_cl(ctx);
    const unsigned char *bytes = binary;
    cl_int error, status = 0;
    *out = clCreateProgramWithBinary(s->context, 1, &s->device, &size, &bytes, &status, &error);
    if (error) return *out = NULL, error;
    return status ? status : clBuildProgram(*out, 1, &s->device, options, NULL, NULL);
}

/* From the cache; NULL if it isn't there or the driver won't have it. */
static cl_program load_binary(clf_context *ctx, clf_cl_key key, const char *options) {
    void *binary;
    size_t size;
    cl_program program;
    if (!clf_cl_cache_load(ctx, key, &binary, &size)) return NULL;
    const cl_int error = build_binary(&program, ctx, binary, size, options);
    free(binary);
    if (!error) return program;
    if (program) clReleaseProgram(program);
    return NULL;
}

/* The same program, edited for sm_90a. */
static cl_int build_90a(cl_program *program, clf_context *ctx, const char *options) {
    size_t size;
    char *ptx = binary_of(*program, &size), *edited = ptx ? clf_nvidia_ptx_90a(ptx) : NULL;
    cl_program other = NULL;
    const cl_int error = edited ? build_binary(&other, ctx, edited, strlen(edited), options) : CL_INVALID_BINARY;
    free(edited);
    free(ptx);
    if (other) {
        clReleaseProgram(*program);
        *program = other;
    }
    return error;
}

/* Adds `text` to *all; false where memory is lacking. */
static bool append(char **all, const char *text, size_t size) {
    const size_t used = *all ? strlen(*all) : 0;
    char *longer = realloc(*all, used + size + 1);
    if (!longer) return false;
    memcpy(longer + used, text, size);
    longer[used + size] = 0;
    *all = longer;
    return true;
}

/* Adds NAME.cl, what it includes in place of the lines that say so; one level, which is all there is. */
static bool append_source(char **all, const char *name) {
    static const char include[] = "\n#include \"";
    const char *text = clf_cl_source_text(name);
    for (const char *line = text; line && (line = strstr(text, include)); text = strchr(line + 1, '\n')) {
        char other[64];
        const char *at = line + sizeof include - 1;
        snprintf(other, sizeof other, "%.*s", (int)strcspn(at, "."), at);
        const char *inner = clf_cl_source_text(other);
        if (!inner || !append(all, text, (size_t)(line + 1 - text)) || !append(all, inner, strlen(inner))) return false;
    }
    return text && append(all, text, strlen(text));
}

static clf_status build_source(cl_program *out, clf_context *ctx, const char *name, const char *options,
                               const char *source) {
    const clf_cl_state *s = clf_cl(ctx);
    char all[768];
    snprintf(all, sizeof all, "%s %s", s->build_options, options);
    const clf_cl_key key = clf_cl_key_of(3, (const char *const[]){source, all, s->identity});
    if ((*out = load_binary(ctx, key, all))) return CLF_OK;
    cl_int error;
    cl_program program = clCreateProgramWithSource(s->context, 1, &source, NULL, &error);
    CLF_TRY(clf_cl_check(ctx, error, CLF_CL_AT_ONCE, "clCreateProgramWithSource"));
    error = clBuildProgram(program, 1, &s->device, all, NULL, NULL);
    if (!error && strstr(options, CLF_NVIDIA_MARKED)) error = build_90a(&program, ctx, all);
    if (error) {
        const clf_status st = build_failed(ctx, program, name, options, error);
        clReleaseProgram(program);
        return st;
    }
    store_binary(ctx, program, key);
    *out = program;
    return CLF_OK;
}

static clf_status build(cl_program *out, clf_context *ctx, const char *name, const char *options) {
    static const char *const shared[2][2] = {{"common", "blocks"}, {"nvidia/warp", "nvidia/tile"}};
    const bool nvidia = !strncmp(name, "nvidia/", 7);
    CLF_CHECK(&ctx->error, clf_cl_source_text(name), CLF_UNSUPPORTED, "%s: there is no %s.cl", name, name);
    char *source = NULL;
    bool whole = append(&source, dtypes, sizeof dtypes - 1);
    for (int i = 0; i < 2; i++) whole = whole && append_source(&source, shared[nvidia][i]);
    whole = whole && append_source(&source, name);
    const clf_status st = whole ? build_source(out, ctx, name, options, source)
                                : clf_fail(&ctx->error, CLF_OUT_OF_MEMORY, "out of host memory");
    free(source);
    return st;
}

/* Finds the program, or builds and keeps it. */
static clf_status get_program(clf_cl_program **out, clf_context *ctx, const char *name, const char *options) {
    clf_cl_state *s = clf_cl(ctx);
    for (clf_cl_program *p = s->programs; p; p = p->next)
        if (!strcmp(p->name, name) && !strcmp(p->options, options)) return *out = p, CLF_OK;
    const size_t name_size = strlen(name) + 1, options_size = strlen(options) + 1;
    clf_cl_program *p = calloc(1, sizeof *p + name_size + options_size);
    CLF_CHECK(&ctx->error, p, CLF_OUT_OF_MEMORY, "out of host memory");
    p->name = memcpy(p + 1, name, name_size);
    p->options = memcpy(p->name + name_size, options, options_size);
    const clf_status st = build(&p->program, ctx, name, options);
    if (st != CLF_OK) return free(p), st;
    p->next = s->programs;
    s->programs = p;
    return *out = p, CLF_OK;
}

clf_status clf_cl_begin(clf_cl_call *call, clf_context *ctx, const char *name, const char *kernel, const char *options,
                        ...) {
    char text[512];
    va_list list;
    va_start(list, options);
    vsnprintf(text, sizeof text, options, list);
    va_end(list);
    CLF_TRY(clf_cl_alive(ctx));
    clf_cl_program *p = NULL;
    CLF_TRY(get_program(&p, ctx, name, text));
    *call = (clf_cl_call){.ctx = ctx, .name = name};
    int i = 0;
    while (i < CLF_CL_KERNELS && p->kernels[i].name && strcmp(p->kernels[i].name, kernel)) i++;
    CLF_CHECK(&ctx->error, i < CLF_CL_KERNELS, CLF_UNSUPPORTED, "%s: too many kernels", name);
    if (!p->kernels[i].name) {
        cl_int error;
        p->kernels[i].kernel = clCreateKernel(p->program, kernel, &error);
        CLF_TRY(clf_cl_check(ctx, error, CLF_CL_AT_ONCE, kernel));
        p->kernels[i].name = kernel;
    }
    call->kernel = p->kernels[i].kernel;
    return CLF_OK;
}

void clf_cl_release_programs(clf_context *ctx) {
    clf_cl_state *s = clf_cl(ctx);
    for (clf_cl_program *p = s->programs, *next; p; p = next) {
        next = p->next;
        for (int i = 0; i < CLF_CL_KERNELS && p->kernels[i].name && !s->lost; i++)
            clReleaseKernel(p->kernels[i].kernel);
        if (!s->lost) clReleaseProgram(p->program);
        free(p);
    }
    s->programs = NULL;
}
