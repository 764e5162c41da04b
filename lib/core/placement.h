/* placement.h: which CPU each thread of a context runs on. */
#ifndef CLF_CORE_PLACEMENT_H
#define CLF_CORE_PLACEMENT_H

#include "context.h"

/* Plans ctx->threads and their places; `threads` 0: as the environment or the machine says. */
clf_status clf_placement_create(clf_context *ctx, int threads);
void clf_placement_destroy(clf_context *ctx);

#endif
