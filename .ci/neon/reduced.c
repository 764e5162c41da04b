/* reduced.c: what this build leaves out for want of aarch64's hwloc and jansson: threads run where the system puts
 * them, and attention's golden files, which the other tables are checked against, are not read. */
#include <stdio.h>

#include "../../lib/core/placement.h"
#include "../../tests/attention_golden.h"

clf_status clf_placement_create(clf_context *ctx, int threads) {
    ctx->threads = threads ? threads : 1;
    return CLF_OK;
}

void clf_placement_destroy(clf_context *ctx) {
    (void)ctx;
}

clf_status clf_context_placement(const clf_context *ctx, clf_thread_place *places, int capacity, int *count) {
    (void)ctx, (void)places, (void)capacity;
    *count = 0;
    return CLF_OK;
}

const char *clf_context_placement_reason(const clf_context *ctx) {
    (void)ctx;
    return "built without hwloc";
}

int attention_golden(int argc, char **argv) {
    (void)argc, (void)argv;
    puts("built without jansson");
    return 77;
}
