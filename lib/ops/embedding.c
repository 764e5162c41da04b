/* embedding.c: what clf_embedding() and clf_embedding_backward() accept. Ids are the table's to check: only it can see
 * them. */
#include <float.h>
#include <string.h>

#include "check.h"

#define OP "embedding"

/* ids and scale, and `rows`, a float tensor with a row of `dim` for each id. */
static clf_status check_rows(clf_context *ctx, const char *op, const clf_tensor *ids, float *scale, const char *name,
                             const clf_tensor *rows, int64_t dim) {
    CLF_TRY(clf_check_tensor(ctx, op, "ids", ids, CLF_DTYPE_BIT(CLF_I32), 0, CLF_MAX_DIMS - 1));
    CLF_TRY(clf_check_finite(ctx, op, "scale", (double)*scale, -FLT_MAX, FLT_MAX));
    if (*scale == 0) *scale = 1;
    int64_t shape[CLF_MAX_DIMS];
    memcpy(shape, ids->shape, (size_t)ids->ndim * sizeof *shape);
    shape[ids->ndim] = dim;
    CLF_TRY(clf_check_tensor(ctx, op, name, rows, CLF_DTYPES_FLOAT, 1, CLF_MAX_DIMS));
    return clf_check_shape(ctx, op, name, rows, ids->ndim + 1, shape);
}

static clf_status check(clf_context *ctx, clf_embedding_args *a) {
    const uint32_t plain = CLF_DTYPES_FLOAT | CLF_DTYPES_BLOCK;
    CLF_TRY(clf_check_tensor(ctx, OP, "weight", a->weight, plain, 2, 2));
    CLF_TRY(check_rows(ctx, OP, a->ids, &a->scale, "out", a->out, clf_last(a->weight)));
    CLF_TRY(clf_check_output(ctx, OP, "out", a->out, "weight", a->weight, false));
    return clf_check_output(ctx, OP, "out", a->out, "ids", a->ids, false);
}

CLF_DOOR(embedding)

#undef OP
#define OP "embedding_backward"

static clf_status check_backward(clf_context *ctx, clf_embedding_backward_args *b) {
    CLF_TRY(clf_check_tensor(ctx, OP, "d_weight", b->d_weight, CLF_DTYPE_BIT(CLF_F32), 2, 2));
    CLF_TRY(check_rows(ctx, OP, b->ids, &b->scale, "d_out", b->d_out, clf_last(b->d_weight)));
    CLF_TRY(clf_check_output(ctx, OP, "d_weight", b->d_weight, "d_out", b->d_out, false));
    return clf_check_output(ctx, OP, "d_weight", b->d_weight, "ids", b->ids, false);
}

CLF_DOOR_CHECKED(embedding_backward, check_backward)
