/* placement.h: which CPU each thread of a context runs on. */
#ifndef CLF_CORE_PLACEMENT_H
#define CLF_CORE_PLACEMENT_H

#include "context.h"

struct clf_placement {
    int n_nodes;               /* NUMA nodes among the places */
    char reason[160];          /* in words */
    clf_thread_place places[]; /* [ctx->threads] */
};

/* Plans ctx->threads and their places, and binds the threads; `threads` 0: as the environment or the machine says. */
clf_status clf_placement_create(clf_context *ctx, int threads);
void clf_placement_destroy(clf_context *ctx);

/* NUMA nodes that the context's threads are on. On more than one, weights are copied (backend->write places them)
 * rather than mapped. */
static inline int clf_placement_nodes(const clf_context *ctx) {
    return ctx->placement ? ctx->placement->n_nodes : 1;
}

#endif
