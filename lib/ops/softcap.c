/* softcap.c: what clf_softcap() accepts. */
#include <float.h>

#include "check.h"

#define OP "softcap"

static clf_status check(clf_context *ctx, clf_softcap_args *a) {
    CLF_TRY(clf_check_tensor(ctx, OP, "x", a->x, CLF_DTYPES_FLOAT, 0, CLF_MAX_DIMS));
    CLF_TRY(clf_check_finite(ctx, OP, "cap", (double)a->cap, FLT_MIN, FLT_MAX));
    CLF_TRY(clf_check_like(ctx, OP, "out", a->out, "x", a->x));
    return clf_check_output(ctx, OP, "out", a->out, "x", a->x, true);
}

CLF_DOOR(softcap)
