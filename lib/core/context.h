/* context.h: the state behind a clf_context. */
#ifndef CLF_CORE_CONTEXT_H
#define CLF_CORE_CONTEXT_H

#include <stdatomic.h>
#include <sys/types.h>

#include <clformer/context.h>

#include "backend.h"
#include "memory.h"
#include "status.h"

#define CLF_CONTEXT_MAGIC 0x636c6678 /* "clfx" */

struct clf_context {
    uint32_t magic; /* CLF_CONTEXT_MAGIC while it lives */
    const clf_backend *backend;
    int device_index;
    void *device_state; /* the backend's own */
    char device_name[192];
    int threads;
    struct clf_placement *placement; /* where the threads are; NULL on other devices */
    clf_pool pool;
    clf_log_callback log;
    void *log_user;
    clf_log_level log_level;
    char *cache_dir; /* NULL: no cache */
    clf_error error;
    atomic_flag entered; /* a thread is inside */
    pid_t pid;           /* creator: a forked child must not use a device's context */
    char *mark;          /* a page that is empty in such a child; NULL where the system has none */
};

/* A module is of this build if what it shares with the library has the same sizes. */
#define CLF_BACKEND_ABI ((uint32_t)sizeof(clf_backend) << 16 ^ (uint32_t)sizeof(clf_context))

/* Begins a public call: refuses NULL, foreign, forked and busy contexts; clears the error. Each success needs one
 * leave. */
clf_status clf_enter(clf_context *ctx);
/* Ends it; returns `status`, logging a failure. */
clf_status clf_leave(clf_context *ctx, clf_status status);

__attribute__((format(printf, 3, 4))) void clf_log(clf_context *ctx, clf_log_level level, const char *format, ...);

#endif
