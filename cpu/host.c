/* host.c: host memory, and which CPU tables there are and run here. Compiled once, without vector flags. */
#define _DEFAULT_SOURCE /* madvise() */
#include "host.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

clf_status clf_host_open(clf_context *ctx, int index) {
    (void)index;
    snprintf(ctx->device_name, sizeof ctx->device_name, "%s, %d thread%s", ctx->backend->name, ctx->threads,
             ctx->threads == 1 ? "" : "s");
    return CLF_OK;
}

void clf_host_close(clf_context *ctx) {
    (void)ctx;
}

clf_status clf_host_alloc(clf_context *ctx, size_t bytes, clf_memory *out) {
    (void)ctx;
    /* large blocks on huge-page boundaries, and the kernel asked for huge pages, as many as are filled: most give them
     * to those who ask only */
    enum { HUGE_PAGE = 2 << 20 };
    const bool large = bytes >= HUGE_PAGE;
    const size_t alignment = large ? HUGE_PAGE : 64, size = (bytes + alignment - 1) / alignment * alignment;
    out->host = aligned_alloc(alignment, size);
    out->size = bytes;
#if defined(MADV_HUGEPAGE)
    if (out->host && large) madvise(out->host, bytes / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE); /* refused: small pages */
#endif
    return out->host ? CLF_OK : CLF_OUT_OF_MEMORY;
}

void clf_host_free(clf_context *ctx, clf_memory *memory) {
    (void)ctx;
    free(memory->host);
    memory->host = NULL;
}

/* Copies `data`, or zeros where it is NULL. Large writes are shared out over the threads as ops share out rows, so that
 * each page of a weight is first touched, and thus placed on its NUMA node, by the thread that will read it. */
static void put(const clf_context *ctx, char *to, const char *from, size_t bytes) {
    const int threads = bytes >= (size_t)1 << 20 ? ctx->threads : 1;
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        const size_t t = (size_t)omp_get_thread_num(), n = (size_t)omp_get_num_threads();
        const size_t begin = bytes / n * t, end = t + 1 == n ? bytes : bytes / n * (t + 1);
        if (from)
            memcpy(to + begin, from + begin, end - begin);
        else
            memset(to + begin, 0, end - begin);
    }
}

clf_status clf_host_write(clf_context *ctx, const clf_memory *memory, size_t offset, const void *data, size_t bytes) {
    put(ctx, (char *)memory->host + offset, data, bytes);
    return CLF_OK;
}

clf_status clf_host_clear(clf_context *ctx, const clf_memory *memory, size_t offset, size_t bytes) {
    put(ctx, (char *)memory->host + offset, NULL, bytes);
    return CLF_OK;
}

clf_status clf_host_read(clf_context *ctx, const clf_memory *memory, size_t offset, void *data, size_t bytes) {
    (void)ctx;
    memcpy(data, (const char *)memory->host + offset, bytes);
    return CLF_OK;
}

clf_status clf_host_sync(clf_context *ctx) {
    (void)ctx;
    return CLF_OK;
}

/* The tables of this build, best first; the CPU must have the features named, the OS must save their registers. */
extern const clf_backend clf_backend_scalar;
#if defined(__x86_64__)
extern const clf_backend clf_backend_avx2, clf_backend_avx512, clf_backend_avx512_bf16;
const clf_backend *const clf_cpu_backends[] = {&clf_backend_avx512_bf16, &clf_backend_avx512, &clf_backend_avx2,
                                               &clf_backend_scalar, NULL};

/* __builtin_cpu_supports asks XGETBV too: it reports AVX only where the OS saves the registers. */
bool clf_cpu_usable(const clf_backend *backend, const char **reason) {
    *reason = "";
    if (backend == &clf_backend_scalar) return true;
    __builtin_cpu_init();
    *reason = "this CPU or OS lacks AVX2, FMA or F16C";
    unsigned eax, ebx, ecx = 0, edx; /* clang 14's builtin doesn't know f16c */
    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx & bit_F16C) || !__builtin_cpu_supports("avx2") ||
        !__builtin_cpu_supports("fma"))
        return false;
    if (backend == &clf_backend_avx2) return true;
    *reason = "this CPU or OS lacks AVX-512 F, BW, DQ, VL or CD";
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl") ||
        !__builtin_cpu_supports("avx512cd"))
        return false;
    if (backend == &clf_backend_avx512) return true;
    *reason = "this CPU lacks AVX-512 BF16, VNNI, VBMI or VBMI2";
    return __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni") &&
           __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vbmi2");
}
#elif defined(__aarch64__)
extern const clf_backend clf_backend_neon;
const clf_backend *const clf_cpu_backends[] = {&clf_backend_neon, &clf_backend_scalar, NULL};

bool clf_cpu_usable(const clf_backend *backend, const char **reason) {
    (void)backend;
    *reason = "";
    return true; /* every aarch64 has Advanced SIMD */
}
#else
const clf_backend *const clf_cpu_backends[] = {&clf_backend_scalar, NULL};

bool clf_cpu_usable(const clf_backend *backend, const char **reason) {
    (void)backend;
    *reason = "";
    return true;
}
#endif
