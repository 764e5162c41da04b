/* add.c: what clf_add() accepts. */
#include "check.h"

#define OP "add"

static clf_status check(clf_context *ctx, clf_add_args *a) {
    CLF_TRY(clf_check_tensor(ctx, OP, "a", a->a, CLF_DTYPES_FLOAT, 0, CLF_MAX_DIMS));
    CLF_TRY(clf_check_tensor(ctx, OP, "b", a->b, CLF_DTYPE_BIT(a->a->dtype), 0, CLF_MAX_DIMS));
    const int64_t dim = clf_last(a->a);
    const bool row = a->b->ndim == 1 && a->a->ndim > 1;
    CLF_TRY(clf_check_shape(ctx, OP, "b", a->b, row ? 1 : a->a->ndim, row ? &dim : a->a->shape));
    CLF_TRY(clf_check_like(ctx, OP, "out", a->out, "a", a->a));
    CLF_TRY(clf_check_output(ctx, OP, "out", a->out, "a", a->a, true));
    return clf_check_output(ctx, OP, "out", a->out, "b", a->b, !row);
}

CLF_DOOR(add)
