/* check.h: what every door needs. A door is
 *
 *     static clf_status check(clf_context *ctx, clf_add_args *args) { … }
 *     CLF_DOOR(add)
 *
 * check() refuses bad arguments with a message naming op, argument, expected and got, and replaces zeros by their
 * defaults in its copy of the arguments, which the table's function then gets. */
#ifndef CLF_OPS_CHECK_H
#define CLF_OPS_CHECK_H

#include <clformer/ops.h>

#include "../core/context.h"
#include "../core/tensor.h"

#define CLF_DOOR(op) CLF_DOOR_CHECKED(op, check)
#define CLF_DOOR_CHECKED(op, check)                                                                                    \
    clf_status clf_##op(clf_context *ctx, const clf_##op##_args *args) {                                               \
        CLF_TRY(clf_enter(ctx));                                                                                       \
        clf_status st = CLF_OK;                                                                                        \
        if (!args) {                                                                                                   \
            st = clf_fail(&ctx->error, CLF_INVALID_ARGUMENT, #op ": args is NULL");                                    \
        } else {                                                                                                       \
            clf_##op##_args resolved = *args;                                                                          \
            st = check(ctx, &resolved);                                                                                \
            if (st == CLF_OK && !ctx->backend->op)                                                                     \
                st = clf_fail(&ctx->error, CLF_UNSUPPORTED, #op ": %s does not have it", ctx->backend->name);          \
            if (st == CLF_OK) st = ctx->backend->op(ctx, &resolved);                                                   \
        }                                                                                                              \
        return clf_leave(ctx, st);                                                                                     \
    }

/* Sets of dtypes. */
#define CLF_DTYPE_BIT(d)       (1u << (d))
#define CLF_DTYPES_FLOAT       (CLF_DTYPE_BIT(CLF_F32) | CLF_DTYPE_BIT(CLF_F16) | CLF_DTYPE_BIT(CLF_BF16))
#define CLF_DTYPES_ANY         (~0u)
#define CLF_DTYPES_INTERLEAVED (CLF_DTYPE_BIT(CLF_T2) | CLF_DTYPE_BIT(CLF_T1))
#define CLF_DTYPES_BLOCK       (~0u << CLF_Q4_0 & ~CLF_DTYPES_INTERLEAVED) /* rows of blocks */

/* `t` is a tensor of this context, of one of `dtypes`, with min_ndim to max_ndim dimensions, the last contiguous. */
clf_status clf_check_tensor(clf_context *ctx, const char *op, const char *name, const clf_tensor *t, uint32_t dtypes,
                            int min_ndim, int max_ndim);
/* `t` has `like`'s dtype and shape. */
clf_status clf_check_like(clf_context *ctx, const char *op, const char *name, const clf_tensor *t,
                          const char *like_name, const clf_tensor *like);
/* `t` has exactly this shape. */
clf_status clf_check_shape(clf_context *ctx, const char *op, const char *name, const clf_tensor *t, int ndim,
                           const int64_t *shape);
/* `out` writes each element once (no stride 0) and doesn't overlap `in`; with `may_alias` it may be the very same view.
 * `in` NULL is fine. */
clf_status clf_check_output(clf_context *ctx, const char *op, const char *name, const clf_tensor *out,
                            const char *in_name, const clf_tensor *in, bool may_alias);
clf_status clf_check_finite(clf_context *ctx, const char *op, const char *name, double value, double min, double max);

#endif
