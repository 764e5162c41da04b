/* convert.c: what clf_convert() accepts. */
#include "check.h"

#define OP "convert"

static clf_status check(clf_context *ctx, clf_convert_args *a) {
    CLF_CHECK(&ctx->error, a->x, CLF_INVALID_ARGUMENT, OP ": x is NULL");
    clf_tensor any = *a->x; /* any strides: the last one is none of check_tensor's business here */
    if (any.magic == CLF_TENSOR_MAGIC && any.ndim) any.stride[any.ndim - 1] = 1;
    CLF_TRY(clf_check_tensor(ctx, OP, "x", &any, CLF_DTYPES_ANY, 0, CLF_MAX_DIMS));
    CLF_TRY(clf_check_tensor(ctx, OP, "out", a->out, CLF_DTYPES_FLOAT | CLF_DTYPE_BIT(CLF_I32), 0, CLF_MAX_DIMS));
    CLF_TRY(clf_check_shape(ctx, OP, "out", a->out, a->x->ndim, a->x->shape));
    return clf_check_output(ctx, OP, "out", a->out, "x", a->x, false);
}

CLF_DOOR(convert)
