/* A user's C program: one op through the installed library. */
#include <clformer/clformer.h>
#include <math.h>
#include <stdio.h>

int main(void) {
    char error[256];
    clf_context *ctx;
    clf_tensor *x;
    float v[4] = {1, 2, 3, 4};
    if (clf_context_create(&ctx, &(clf_context_args){.device = "cpu", .error = error, .error_size = sizeof error}) !=
        CLF_OK)
        return puts(error), 1;
    clf_tensor_create(&x, ctx, &(clf_tensor_args){.ndim = 1, .shape = {4}});
    clf_tensor_write(x, v, sizeof v);
    if (clf_rms_norm(ctx, &(clf_rms_norm_args){.x = x, .eps = 1e-5f, .out = x}) != CLF_OK)
        return puts(clf_error_message(ctx)), 1;
    clf_tensor_read(x, v, sizeof v);
    clf_tensor_destroy(x);
    clf_context_destroy(ctx);
    return fabsf(v[3] - 4 / sqrtf(7.5f)) < 1e-5f ? 0 : 1;
}
