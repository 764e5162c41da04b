/* placement.c: which CPU each thread of a context runs on. */
#include "placement.h"

#include <omp.h>
#include <stdlib.h>

clf_status clf_placement_create(clf_context *ctx, int threads) {
    const char *text = getenv("CLFORMER_NUM_THREADS");
    if (!threads && text && *text) {
        threads = atoi(text);
        CLF_CHECK(&ctx->error, threads > 0, CLF_INVALID_ARGUMENT, "CLFORMER_NUM_THREADS: expected 1 or more, got '%s'",
                  text);
    }
    ctx->threads = threads ? threads : omp_get_max_threads();
    return CLF_OK;
}

void clf_placement_destroy(clf_context *ctx) {
    (void)ctx;
}
