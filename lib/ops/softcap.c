/* softcap.c: what clf_softcap() and clf_softcap_backward() accept. */
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

#undef OP
#define OP "softcap_backward"

static clf_status check_backward(clf_context *ctx, clf_softcap_backward_args *b) {
    CLF_TRY(clf_check_tensor(ctx, OP, "out", b->out, CLF_DTYPES_FLOAT, 0, CLF_MAX_DIMS));
    CLF_TRY(clf_check_finite(ctx, OP, "cap", (double)b->cap, FLT_MIN, FLT_MAX));
    CLF_TRY(clf_check_like(ctx, OP, "d_out", b->d_out, "out", b->out));
    CLF_TRY(clf_check_like(ctx, OP, "d_x", b->d_x, "out", b->out));
    CLF_TRY(clf_check_output(ctx, OP, "d_x", b->d_x, "out", b->out, true));
    return clf_check_output(ctx, OP, "d_x", b->d_x, "d_out", b->d_out, true);
}

CLF_DOOR_CHECKED(softcap_backward, check_backward)
