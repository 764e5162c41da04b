/* attention_tile.c: tile sizes of attention's kernels. */
#include "attention_tile.h"

enum { COLUMNS = 64, RUN = 32 }; /* as in attention_tile.cl */

int clf_cl_attention_chunks(int64_t dim) {
    return dim <= COLUMNS ? 1 : dim <= 2 * COLUMNS ? 2 : 4;
}

clf_cl_attention_tile clf_cl_attention_tile_of(const clf_context *ctx, clf_cl_attention_pass pass, int chunks) {
    (void)ctx, (void)chunks;
    return pass == CLF_CL_FORWARD ? (clf_cl_attention_tile){64, 64, 256, 16} : (clf_cl_attention_tile){64, 32, 128, 16};
}

size_t clf_cl_attention_local(clf_cl_attention_pass pass, clf_cl_attention_tile t) {
    const int columns = t.depth * (t.queries + t.keys + 8), run = RUN * (COLUMNS + 4);
    const int by_key = t.keys * (t.queries + 4), by_query = t.queries * (t.keys + 4);
    int words = columns > run ? columns : run; /* the pool */
    words += 2 * (t.queries + t.keys);         /* places */
    words += t.items;                          /* layout bits of tiles */
    if (pass == CLF_CL_FORWARD)
        words += by_key + t.items + t.queries; /* probabilities, parts of sums, factors */
    else
        words += 2 * (by_key > by_query ? by_key : by_query) + 2 * t.queries; /* p and ds, lse and D */
    return (size_t)words * sizeof(cl_float);
}
