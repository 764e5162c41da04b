/* embedding.c: what clf_embedding() accepts. Ids are the table's to check: only it can see them. */
#include <float.h>
#include <string.h>

#include "check.h"

#define OP "embedding"

static clf_status check(clf_context *ctx, clf_embedding_args *a) {
    const uint32_t plain = CLF_DTYPES_FLOAT | CLF_DTYPES_BLOCK;
    CLF_TRY(clf_check_tensor(ctx, OP, "weight", a->weight, plain, 2, 2));
    CLF_TRY(clf_check_tensor(ctx, OP, "ids", a->ids, CLF_DTYPE_BIT(CLF_I32), 0, CLF_MAX_DIMS - 1));
    CLF_TRY(clf_check_finite(ctx, OP, "scale", (double)a->scale, -FLT_MAX, FLT_MAX));
    if (a->scale == 0) a->scale = 1;
    int64_t shape[CLF_MAX_DIMS];
    memcpy(shape, a->ids->shape, (size_t)a->ids->ndim * sizeof *shape);
    shape[a->ids->ndim] = clf_last(a->weight);
    CLF_TRY(clf_check_tensor(ctx, OP, "out", a->out, CLF_DTYPES_FLOAT, 1, CLF_MAX_DIMS));
    CLF_TRY(clf_check_shape(ctx, OP, "out", a->out, a->ids->ndim + 1, shape));
    CLF_TRY(clf_check_output(ctx, OP, "out", a->out, "weight", a->weight, false));
    return clf_check_output(ctx, OP, "out", a->out, "ids", a->ids, false);
}

CLF_DOOR(embedding)
