/* convert.c: what clf_convert() accepts. */
#include "check.h"

#define OP "convert"

/* What can be written: these two block dtypes are only read. */
#define WRITTEN                                                                                                        \
    ((CLF_DTYPES_FLOAT | CLF_DTYPE_BIT(CLF_I32) | CLF_DTYPES_BLOCK) & ((1u << CLF_DTYPE_COUNT) - 1) &                  \
     ~(CLF_DTYPE_BIT(CLF_NVFP4) | CLF_DTYPE_BIT(CLF_Q1_0)))

static bool is_interleaved(const clf_tensor *t) {
    return t && t->magic == CLF_TENSOR_MAGIC && clf_dtype_is_interleaved(t->dtype);
}

/* To T2 or T1 from what they interleave, and back, and to floats. */
static clf_status check_interleaved(clf_context *ctx, const clf_convert_args *a) {
    const uint32_t rows = CLF_DTYPE_BIT(CLF_TQ1_0) | CLF_DTYPE_BIT(CLF_TQ2_0) | CLF_DTYPE_BIT(CLF_Q2_0);
    const uint32_t from = is_interleaved(a->out) ? rows | CLF_DTYPES_INTERLEAVED : CLF_DTYPES_INTERLEAVED;
    CLF_TRY(clf_check_tensor(ctx, OP, "x", a->x, from, 2, 2));
    CLF_TRY(clf_check_tensor(ctx, OP, "out", a->out, rows | CLF_DTYPES_INTERLEAVED | CLF_DTYPES_FLOAT, 2, 2));
    CLF_TRY(clf_check_shape(ctx, OP, "out", a->out, 2, a->x->shape));
    CLF_CHECK(&ctx->error, !a->importance, CLF_INVALID_ARGUMENT, OP ": importance: expected NULL, as nothing is lost");
    return clf_check_output(ctx, OP, "out", a->out, "x", a->x, false);
}

static clf_status check(clf_context *ctx, clf_convert_args *a) {
    CLF_CHECK(&ctx->error, a->x, CLF_INVALID_ARGUMENT, OP ": x is NULL");
    if (a->out && (is_interleaved(a->x) || is_interleaved(a->out))) return check_interleaved(ctx, a);
    clf_tensor any = *a->x; /* any strides: the last one is none of check_tensor's business here */
    if (any.magic == CLF_TENSOR_MAGIC && any.ndim) any.stride[any.ndim - 1] = 1;
    CLF_TRY(clf_check_tensor(ctx, OP, "x", &any, CLF_DTYPES_ANY, 0, CLF_MAX_DIMS));
    CLF_TRY(clf_check_tensor(ctx, OP, "out", a->out, WRITTEN, 0, CLF_MAX_DIMS));
    CLF_TRY(clf_check_shape(ctx, OP, "out", a->out, a->x->ndim, a->x->shape));
    if (a->importance) {
        CLF_CHECK(&ctx->error, clf_dtype_is_block(a->out->dtype), CLF_INVALID_ARGUMENT,
                  OP ": importance: expected out of a block dtype, got %s", clf_dtype_name(a->out->dtype));
        CLF_TRY(clf_check_tensor(ctx, OP, "importance", a->importance, CLF_DTYPE_BIT(CLF_F32), 1, 1));
        CLF_TRY(clf_check_shape(ctx, OP, "importance", a->importance, 1, (int64_t[]){clf_last(a->out)}));
        CLF_TRY(clf_check_output(ctx, OP, "out", a->out, "importance", a->importance, false));
    }
    return clf_check_output(ctx, OP, "out", a->out, "x", a->x, false);
}

CLF_DOOR(convert)
