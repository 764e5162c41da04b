/* registry.c: the tables there are, and the choice among them. The CPU tables are linked in; the OpenCL table is a
 * module beside the library, loaded when a device is listed or opened, so that neither an OpenCL loader nor CLBlast is
 * needed to run. */
#define _GNU_SOURCE
#include "context.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#ifndef CLF_MODULE_NAME
#define CLF_MODULE_NAME "clformer-opencl.so"
#endif
#ifndef CLF_MODULE_DIR
#define CLF_MODULE_DIR ""
#endif

/* Opens the module: CLFORMER_MODULE_DIR, beside this library, clformer/ beside it, the installed place. It stays
 * loaded. */
static const clf_backend *load_opencl(const char **reason) {
    static _Thread_local char message[256];
    Dl_info self;
    char beside[PATH_MAX] = "", below[PATH_MAX + 16] = "";
    if (dladdr((void *)(uintptr_t)load_opencl, &self) && self.dli_fname) {
        const char *slash = strrchr(self.dli_fname, '/');
        if (slash) snprintf(beside, sizeof beside, "%.*s", (int)(slash - self.dli_fname), self.dli_fname);
        if (slash) snprintf(below, sizeof below, "%s/clformer", beside);
    }
    const char *const dirs[] = {getenv("CLFORMER_MODULE_DIR"), beside, below, CLF_MODULE_DIR};
    snprintf(message, sizeof message, "no %s beside the library", CLF_MODULE_NAME);
    *reason = message;
    for (size_t i = 0; i < sizeof dirs / sizeof *dirs; i++) {
        char path[PATH_MAX + 64];
        if (!dirs[i] || !*dirs[i]) continue;
        snprintf(path, sizeof path, "%s/%s", dirs[i], CLF_MODULE_NAME);
        void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        if (!module) {
            const char *why = dlerror();
            if (why && !strstr(why, "cannot open shared object file: No such file or directory"))
                snprintf(message, sizeof message, "%.250s", why);
            else if (why && !strstr(why, path))
                snprintf(message, sizeof message, "the module needs %.200s", why);
            continue;
        }
        const clf_backend *backend = dlsym(module, CLF_MODULE_SYMBOL);
        if (backend && backend->abi == CLF_BACKEND_ABI) return backend;
        snprintf(message, sizeof message, "%.200s is of another version", path);
        dlclose(module);
    }
    return NULL;
}

/* "opencl:2" is `name` "opencl" with index 2; "opencl" index 0. */
static bool parse_device(const char *device, const char *name, int *index) {
    const size_t n = strlen(name);
    if (strncasecmp(device, name, n)) return false;
    if (!device[n]) return *index = 0, true;
    char *end;
    if (device[n] != ':') return false;
    const long value = strtol(device + n + 1, &end, 10);
    if (end == device + n + 1 || *end || value < 0 || value > 1024) return false;
    *index = (int)value;
    return true;
}

static const clf_backend *best_cpu(void) {
    const char *reason;
    const clf_backend *const *b = clf_cpu_backends;
    while (!clf_cpu_usable(*b, &reason)) b++; /* the last, scalar, runs everywhere */
    return *b;
}

clf_status clf_registry_find(const char *device, const clf_backend **backend, int *index, clf_error *err) {
    const char *reason;
    *index = 0;
    if (!strcasecmp(device, "cpu")) return *backend = best_cpu(), CLF_OK;
    for (int i = 0; clf_cpu_backends[i]; i++)
        if (!strcasecmp(device, clf_cpu_backends[i]->name)) {
            CLF_CHECK(err, clf_cpu_usable(clf_cpu_backends[i], &reason), CLF_NOT_FOUND, "device %s: %s", device,
                      reason);
            return *backend = clf_cpu_backends[i], CLF_OK;
        }
    if (!strcasecmp(device, "auto")) {
        const clf_backend *opencl = load_opencl(&reason);
        clf_device_info info[8];
        int n = 0;
        if (opencl) opencl->devices(info, 8, &n);
        for (int i = 0; i < n && i < 8; i++)
            if (info[i].usable && info[i].chosen) return *backend = opencl, *index = i, CLF_OK;
        return *backend = best_cpu(), CLF_OK;
    }
    CLF_CHECK(err, parse_device(device, "opencl", index), CLF_NOT_FOUND,
              "unknown device '%s': expected auto, cpu, opencl, opencl:N or a CPU table such as cpu-avx2", device);
    *backend = load_opencl(&reason);
    CLF_CHECK(err, *backend, CLF_NOT_FOUND, "device %s: %s", device, reason);
    return CLF_OK;
}

clf_status clf_devices(clf_device_info *infos, int capacity, int *count) {
    if (!count || capacity < 0 || (capacity && !infos)) return CLF_INVALID_ARGUMENT;
    const char *reason;
    const clf_backend *opencl = load_opencl(&reason);
    int n = 0;
    if (opencl) {
        opencl->devices(infos, capacity, &n);
    } else if (capacity) {
        infos[0] = (clf_device_info){.name = "opencl"};
        snprintf(infos[0].reason, sizeof infos[0].reason, "%.*s", (int)sizeof infos[0].reason - 1, reason);
        n = 1;
    } else {
        n = 1;
    }
    bool chosen = false;
    for (int i = 0; i < n && i < capacity; i++) chosen |= infos[i].chosen;
    for (int i = 0; clf_cpu_backends[i]; i++, n++) {
        if (n >= capacity) continue;
        clf_device_info *d = &infos[n];
        *d = (clf_device_info){.usable = clf_cpu_usable(clf_cpu_backends[i], &reason)};
        snprintf(d->name, sizeof d->name, "%s", clf_cpu_backends[i]->name);
        d->chosen = d->usable && !chosen;
        chosen |= d->chosen;
        snprintf(d->reason, sizeof d->reason, "%s",
                 !d->usable  ? reason
                 : d->chosen ? "the best there is"
                             : "a better one is there");
    }
    *count = n;
    return CLF_OK;
}
