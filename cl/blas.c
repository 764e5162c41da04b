/* blas.c: float32 products by CLBlast, for linear.c. Which devices: CLBlast is tuned for GPUs; on PoCL (Zen 5, 2 cores)
 * linear.cl's own tiles are 1.3 to 2.3 times as fast at every size from 256³ to 1024³, so that it serves GPUs only.
 * CLFORMER_CLBLAST=0 or 1 overrides that. Its rounding error grows with √k (8e-7 at 2048), whence MAX_K. */
#include "cl.h"

#include <pthread.h>
#include <stdlib.h>

#ifdef CLF_CLBLAST
#include <clblast_c.h>

enum { MIN_M = 128, MIN_N = 128, MIN_K = 64, MAX_K = 8192 };

/* CLBlast keeps compiled programs in globals of its own, which before 1.6.1 aren't safe to fill from two threads. */
static pthread_mutex_t clblast_lock = PTHREAD_MUTEX_INITIALIZER;

/* Distance between the rows of t, if it is the same for all of them; else 0. */
static int64_t pitch_of(const clf_tensor *t) {
    clf_tensor rows = *t; /* without the last dimension */
    rows.ndim--;
    for (int i = rows.ndim - 2; i >= 0; i--)
        if (rows.shape[i] != 1 && rows.stride[i] != rows.shape[i + 1] * rows.stride[i + 1]) return 0;
    return rows.ndim > 0 ? rows.stride[rows.ndim - 1] : clf_last(t);
}

bool clf_cl_blas_takes(const clf_context *ctx, const clf_tensor *x, const clf_tensor *weight) {
    const int64_t m = clf_rows(x), n = weight->shape[0], k = clf_last(x);
    const char *setting = getenv("CLFORMER_CLBLAST");
    const bool forced = setting && *setting == '1', off = setting && *setting == '0';
    if (off || (!forced && !clf_cl(ctx)->is_gpu)) return false;
    return x->dtype == CLF_F32 && weight->dtype == CLF_F32 && m >= MIN_M && n >= MIN_N && k >= MIN_K && k <= MAX_K &&
           pitch_of(x) >= k && weight->stride[0] >= k;
}

clf_status clf_cl_blas_multiply(clf_context *ctx, const clf_tensor *x, const clf_tensor *weight,
                                const clf_memory *product) {
    clf_cl_state *s = clf_cl(ctx);
    const size_t m = (size_t)clf_rows(x), n = (size_t)weight->shape[0], k = (size_t)clf_last(x);
    CLF_TRY(clf_cl_alive(ctx));
    cl_command_queue queue = s->queue;
    pthread_mutex_lock(&clblast_lock);
    s->used_blas = true;
    const CLBlastStatusCode code = CLBlastSgemm(
        CLBlastLayoutRowMajor, CLBlastTransposeNo, CLBlastTransposeYes, m, n, k, 1, x->buffer->memory.handle,
        (size_t)clf_cl_offset(x), (size_t)pitch_of(x), weight->buffer->memory.handle, (size_t)clf_cl_offset(weight),
        (size_t)weight->stride[0], 0, product->handle, 0, n, &queue, NULL);
    pthread_mutex_unlock(&clblast_lock);
    return clf_cl_check(ctx, (cl_int)code, CLF_CL_AT_ONCE, "linear: CLBlastSgemm"); /* OpenCL's errors are passed on */
}

void clf_cl_blas_close(clf_context *ctx) {
    if (!clf_cl(ctx)->used_blas || clf_cl(ctx)->lost) return;
    pthread_mutex_lock(&clblast_lock);
    CLBlastClearCache(); /* it knows contexts by address, which the next one may get */
    pthread_mutex_unlock(&clblast_lock);
}

#else
bool clf_cl_blas_takes(const clf_context *ctx, const clf_tensor *x, const clf_tensor *weight) {
    (void)ctx, (void)x, (void)weight;
    return false;
}

clf_status clf_cl_blas_multiply(clf_context *ctx, const clf_tensor *x, const clf_tensor *weight,
                                const clf_memory *product) {
    (void)x, (void)weight, (void)product;
    return clf_fail(&ctx->error, CLF_UNSUPPORTED, "linear: built without CLBlast");
}

void clf_cl_blas_close(clf_context *ctx) {
    (void)ctx;
}
#endif
