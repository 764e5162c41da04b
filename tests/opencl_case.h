/* opencl_case.h: what the tests of the OpenCL backend share: the layer between us and the driver, contexts, an op whose
 * result is checked, and the directory of compiled programs. _DEFAULT_SOURCE is defined. */
#ifndef CLF_TESTS_OPENCL_CASE_H
#define CLF_TESTS_OPENCL_CASE_H

#include "folder_case.h"

#include <dlfcn.h>
#include <math.h>
#include <sys/stat.h>

#include <clformer/clformer.h>

#include "cl_fail_layer.h"

static cl_fail_state *fail_state; /* of the layer that the ICD loader has loaded */

static inline clf_status try_open(clf_context **ctx, const char *device, const char *cache, char message[512]) {
    return clf_context_create(
        ctx, &(clf_context_args){.device = device, .cache_dir = cache, .error = message, .error_size = 512});
}

static inline clf_context *open_device(const char *device, const char *cache) {
    char message[512];
    clf_context *ctx;
    if (try_open(&ctx, device, cache, message) != CLF_OK) fail_msg("%s: %s", device, message);
    return ctx;
}

#define ok(ctx, call)                                                                                                  \
    do {                                                                                                               \
        if ((call) != CLF_OK) fail_msg("%s: %s", #call, clf_error_message(ctx));                                       \
    } while (0)

static inline void assert_says(const char *message, const char *part) {
    if (!strstr(message, part)) fail_msg("expected '%s' in '%s'", part, message);
}

enum { N = 1000 };

/* RMSNorm of N numbers, through device memory; checks the result unless something failed. */
static inline clf_status work(clf_context *ctx) {
    float x[N], y[N];
    clf_tensor *tx = NULL, *ty = NULL;
    const clf_tensor_args args = {.ndim = 1, .shape = {N}};
    double squares = 0;
    for (int i = 0; i < N; i++) {
        x[i] = (float)i / 100 - 5;
        squares += (double)x[i] * (double)x[i];
    }
    clf_status st = clf_tensor_create(&tx, ctx, &args);
    if (st == CLF_OK) st = clf_tensor_create(&ty, ctx, &args);
    if (st == CLF_OK) st = clf_tensor_write(tx, x, sizeof x);
    if (st == CLF_OK) st = clf_rms_norm(ctx, &(clf_rms_norm_args){.x = tx, .out = ty});
    if (st == CLF_OK) st = clf_sync(ctx);
    if (st == CLF_OK) st = clf_tensor_read(ty, y, sizeof y);
    clf_tensor_destroy(tx);
    clf_tensor_destroy(ty);
    for (int i = 0; i < N && st == CLF_OK; i++)
        if (!(fabs((double)y[i] - (double)x[i] / sqrt(squares / N)) < 1e-6)) fail_msg("rms_norm: wrong at %d", i);
    clf_memory_stats stats;
    clf_memory_get_stats(ctx, &stats);
    assert_int_equal(stats.in_use, 0);
    return st;
}

/* the program cache */

/* Calls visit for each program in the cache; how many there are. */
static inline int for_programs(const char *cache, void (*visit)(const char *path, int arg), int arg) {
    char directory[300], path[512];
    int n = 0;
    snprintf(directory, sizeof directory, "%s/opencl", cache);
    DIR *d = opendir(directory);
    for (struct dirent *e; d && (e = readdir(d));) {
        if (*e->d_name == '.') continue;
        snprintf(path, sizeof path, "%s/%.200s", directory, e->d_name);
        if (visit) visit(path, arg);
        n++;
    }
    if (d) closedir(d);
    return n;
}

/* Opens, works, closes; programs made from source and from binaries meanwhile. */
static inline void cached_work(const char *cache, int *sources, int *binaries) {
    const int sources_before = fail_state->sources, binaries_before = fail_state->binaries;
    clf_context *ctx = open_device("opencl:0", cache);
    ok(ctx, work(ctx));
    clf_context_destroy(ctx);
    *sources = fail_state->sources - sources_before;
    *binaries = fail_state->binaries - binaries_before;
}

static inline bool has_device(void) {
    clf_device_info info[16];
    int n;
    if (clf_devices(info, 16, &n) != CLF_OK) return false;
    for (int i = 0; i < n && i < 16; i++)
        if (!strncmp(info[i].name, "opencl:", 7) && info[i].usable) return true;
    return false;
}

/* Puts the layer in, before anything else asks for devices; 77, and says why, where there is nothing to test. */
static inline int open_layer(void) {
    setenv("OPENCL_LAYERS", FAIL_LAYER, 1);
    setenv("POCL_DEVICES", "pthread pthread", 1);
    if (!has_device()) {
        printf("skipped: no OpenCL device\n");
        return 77;
    }
    void *layer = dlopen(FAIL_LAYER, RTLD_NOW | RTLD_NOLOAD);
    cl_fail_state *(*get_state)(void) = NULL;
    if (layer) *(void **)&get_state = dlsym(layer, "cl_fail");
    if (!get_state) {
        printf("skipped: the ICD loader takes no layers\n");
        return 77;
    }
    fail_state = get_state();
    return 0;
}

#endif
