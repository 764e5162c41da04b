/* fake_quantize.c: what clf_fake_quantize() accepts. */
#include "check.h"

#define OP "fake_quantize"

static clf_status check(clf_context *ctx, clf_fake_quantize_args *a) {
    CLF_TRY(clf_check_tensor(ctx, OP, "x", a->x, CLF_DTYPES_FLOAT, 1, CLF_MAX_DIMS));
    CLF_TRY(clf_check_like(ctx, OP, "out", a->out, "x", a->x));
    return clf_check_output(ctx, OP, "out", a->out, "x", a->x, true);
}

CLF_DOOR(fake_quantize)
