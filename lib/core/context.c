/* context.c: opening and closing a device; entering and leaving public calls. Settings: argument, then environment,
 * then default. */
#define _GNU_SOURCE
#include "context.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <unistd.h>

#include "placement.h"

static clf_log_level env_log_level(void) {
    const char *text = getenv("CLFORMER_LOG");
    if (!text || !*text) return CLF_LOG_WARNING;
    return isdigit((unsigned char)*text) ? (clf_log_level)atoi(text) : CLF_LOG_WARNING;
}

/* "8G", "512M", "1073741824": bytes. */
static clf_status parse_bytes(clf_error *err, const char *name, const char *text, uint64_t *out) {
    char *end;
    const double value = strtod(text, &end);
    const char *const suffixes = "KMGT";
    double factor = 1;
    const char *s = *end ? strchr(suffixes, toupper((unsigned char)*end)) : NULL;
    if (s) {
        for (const char *p = suffixes; p <= s; p++) factor *= 1024;
        end++;
        if (!strcasecmp(end, "iB") || !strcasecmp(end, "B")) end += strlen(end);
    }
    CLF_CHECK(err, end != text && !*end && value > 0 && value * factor < 0x1p63, CLF_INVALID_ARGUMENT,
              "%s: expected a size such as 8G, got '%s'", name, text);
    *out = (uint64_t)(value * factor);
    return CLF_OK;
}

static clf_status set_cache_dir(clf_context *ctx, const char *dir) {
    if (!dir || !*dir) dir = getenv("CLFORMER_CACHE_DIR");
    const char *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int n = 0;
    if (dir && *dir) {
        if (!strcmp(dir, "off")) return CLF_OK;
        n = asprintf(&ctx->cache_dir, "%s", dir);
    } else if (xdg && *xdg == '/') {
        n = asprintf(&ctx->cache_dir, "%s/clformer", xdg);
    } else if (home && *home == '/') {
        n = asprintf(&ctx->cache_dir, "%s/.cache/clformer", home);
    }
    if (n < 0) ctx->cache_dir = NULL;
    CLF_CHECK(&ctx->error, n >= 0, CLF_OUT_OF_MEMORY, "out of host memory");
    return CLF_OK;
}

static clf_status start(clf_context *ctx, int threads) {
    ctx->threads = 1;
    if (ctx->backend->host) CLF_TRY(clf_placement_create(ctx, threads));
    return ctx->backend->open(ctx, ctx->device_index);
}

static clf_status open_device(clf_context *ctx, const clf_context_args *args) {
    clf_error *err = &ctx->error;
    ctx->log = args->log;
    ctx->log_user = args->log_user;
    ctx->log_level = args->log_level ? args->log_level : env_log_level();
    ctx->pool.stats.limit = args->memory_limit ? args->memory_limit : UINT64_MAX;
    const char *limit = getenv("CLFORMER_MEM_LIMIT");
    if (!args->memory_limit && limit && *limit)
        CLF_TRY(parse_bytes(err, "CLFORMER_MEM_LIMIT", limit, &ctx->pool.stats.limit));
    CLF_CHECK(err, args->threads >= 0 && args->threads <= 4096, CLF_INVALID_ARGUMENT,
              "context: threads: expected 0 to 4096, got %d", args->threads);
    CLF_TRY(set_cache_dir(ctx, args->cache_dir));
    const char *device = args->device;
    if (!device || !*device) device = getenv("CLFORMER_DEVICE");
    if (!device || !*device) device = "auto";
    CLF_TRY(clf_registry_find(device, &ctx->backend, &ctx->device_index, err));
    clf_status st = start(ctx, args->threads);
    if (st != CLF_OK && !ctx->backend->host && !strcasecmp(device, "auto")) { /* a GPU that fails its self test, say */
        clf_log(ctx, CLF_LOG_WARNING, "%s; the CPU is taken instead", err->message);
        clf_error_clear(err);
        CLF_TRY(clf_registry_find("cpu", &ctx->backend, &ctx->device_index, err));
        st = start(ctx, args->threads);
    }
    CLF_TRY(st);
    clf_log(ctx, CLF_LOG_INFO, "opened %s", ctx->device_name);
    return CLF_OK;
}

/* A look at the mark takes the place of getpid(), a system call, at every op: a fifth of a microsecond. */
static void mark_process(clf_context *ctx) {
    ctx->pid = getpid();
#if defined(MADV_WIPEONFORK)
    char *page = mmap(NULL, 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) return;
    if (madvise(page, 1, MADV_WIPEONFORK) == 0)
        *(ctx->mark = page) = 1;
    else
        munmap(page, 1);
#endif
}

static bool is_of_this_process(const clf_context *ctx) {
    return ctx->mark ? *ctx->mark : ctx->pid == getpid();
}

static void close_device(clf_context *ctx, bool opened) {
    if (opened) {
        ctx->backend->sync(ctx);
        clf_pool_trim(ctx);
        ctx->backend->close(ctx);
    }
    clf_placement_destroy(ctx);
    if (ctx->mark) munmap(ctx->mark, 1);
    free(ctx->cache_dir);
    ctx->magic = 0;
    free(ctx);
}

clf_status clf_context_create(clf_context **out, const clf_context_args *args) {
    static const clf_context_args defaults;
    if (!args) args = &defaults;
    if (args->error && args->error_size) *args->error = 0;
    if (!out) return CLF_INVALID_ARGUMENT;
    *out = NULL;
    clf_context *ctx = calloc(1, sizeof *ctx);
    clf_status st = CLF_OUT_OF_MEMORY;
    const char *message = "out of host memory";
    if (ctx) {
        ctx->magic = CLF_CONTEXT_MAGIC;
        mark_process(ctx);
        atomic_flag_clear(&ctx->entered);
        st = open_device(ctx, args);
        message = ctx->error.message;
    }
    if (st != CLF_OK && args->error && args->error_size) snprintf(args->error, args->error_size, "%s", message);
    if (st == CLF_OK)
        *out = ctx;
    else if (ctx)
        close_device(ctx, false);
    return st;
}

void clf_context_destroy(clf_context *ctx) {
    if (ctx && ctx->magic == CLF_CONTEXT_MAGIC) close_device(ctx, is_of_this_process(ctx));
}

clf_status clf_enter(clf_context *ctx) {
    if (!ctx || ctx->magic != CLF_CONTEXT_MAGIC) return CLF_INVALID_ARGUMENT;
    if (atomic_flag_test_and_set_explicit(&ctx->entered, memory_order_acquire)) return CLF_BUSY;
    clf_error_clear(&ctx->error);
    if (!is_of_this_process(ctx))
        return clf_leave(ctx, clf_fail(&ctx->error, CLF_DEVICE_ERROR,
                                       "context: created before fork(); the child must create its own"));
    return CLF_OK;
}

clf_status clf_leave(clf_context *ctx, clf_status status) {
    if (status != CLF_OK) {
        ctx->error.status = status;
        if (!ctx->error.message[0]) clf_fail(&ctx->error, status, "%s", clf_status_string(status));
        clf_log(ctx, CLF_LOG_ERROR, "%s", ctx->error.message);
    }
    atomic_flag_clear_explicit(&ctx->entered, memory_order_release);
    return status;
}

clf_status clf_sync(clf_context *ctx) {
    CLF_TRY(clf_enter(ctx));
    return clf_leave(ctx, ctx->backend->sync(ctx));
}

const char *clf_error_message(const clf_context *ctx) {
    return ctx && ctx->magic == CLF_CONTEXT_MAGIC ? ctx->error.message : "not a context";
}
const char *clf_context_device(const clf_context *ctx) {
    return ctx->device_name;
}
const char *clf_context_backend(const clf_context *ctx) {
    return ctx->backend->name;
}
int clf_context_threads(const clf_context *ctx) {
    return ctx->threads;
}
