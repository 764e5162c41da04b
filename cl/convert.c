/* convert.c: the launcher of convert.cl. */
#include "cl.h"

enum { LOCAL = 64 };

/* Stride of the last dimension, which a scalar has not. */
static int64_t step_of(const clf_tensor *t) {
    return t->ndim ? t->stride[t->ndim - 1] : 1;
}

static clf_status convert_plain(clf_context *ctx, const clf_tensor *x, const clf_tensor *out) {
    clf_tensor v[2] = {*x, *out};
    if (step_of(x) == 1 && step_of(out) == 1) clf_cl_collapse(v, 2);
    clf_cl_call call;
    CLF_TRY(clf_cl_begin(&call, ctx, "convert", "convert_plain", "%s", ""));
    for (int i = 0; i < 2; i++) {
        clf_cl_tensor(&call, &v[i]);
        clf_cl_long(&call, step_of(&v[i]));
        clf_cl_int(&call, v[i].dtype);
    }
    return clf_cl_run_map(&call, &v[0]);
}

/* Whole blocks as they are. */
static clf_status copy_blocks(clf_context *ctx, const clf_tensor *x, const clf_tensor *out) {
    const int64_t blocks = clf_last(out) / clf_dtype_block_values(out->dtype), items = clf_rows(out) * blocks;
    clf_cl_call call;
    CLF_TRY(clf_cl_begin(&call, ctx, "convert", "convert_copy", "-DW=%s -DBLOCKS", clf_cl_dtype(x->dtype)));
    clf_cl_tensor(&call, x);
    clf_cl_tensor(&call, out);
    clf_cl_shape(&call, x);
    clf_cl_int(&call, blocks);
    clf_cl_long(&call, items);
    return clf_cl_run(&call, (size_t[3]){clf_cl_divide_up(items, LOCAL), 1, 1}, LOCAL);
}

static clf_status encode(clf_context *ctx, const clf_convert_args *args) {
    const clf_tensor *x = args->x, *out = args->out;
    CLF_CHECK(&ctx->error, clf_dtype_is_float(x->dtype) && (out->dtype == CLF_Q8_0 || out->dtype == CLF_Q4_0),
              CLF_UNSUPPORTED, "convert: %s makes q8_0 and q4_0 of f32, f16, bf16; not %s of %s", ctx->backend->name,
              clf_dtype_name(out->dtype), clf_dtype_name(x->dtype));
    CLF_CHECK(&ctx->error, !args->importance, CLF_UNSUPPORTED, "convert: importance: %s does without it",
              ctx->backend->name);
    const int64_t blocks = clf_last(out) / 32, items = clf_rows(out) * blocks;
    clf_cl_call call;
    CLF_TRY(clf_cl_begin(&call, ctx, "convert", "convert_encode", "-DENCODE=%s", clf_cl_dtype(out->dtype)));
    clf_cl_tensor(&call, x);
    clf_cl_long(&call, step_of(x));
    clf_cl_int(&call, x->dtype);
    clf_cl_tensor(&call, out);
    clf_cl_shape(&call, x);
    clf_cl_int(&call, blocks);
    clf_cl_long(&call, items);
    return clf_cl_run(&call, (size_t[3]){clf_cl_divide_up(items, LOCAL), 1, 1}, LOCAL);
}

clf_status clf_convert_opencl(clf_context *ctx, const clf_convert_args *args) {
    const clf_tensor *x = args->x, *out = args->out;
    if (clf_dtype_is_interleaved(x->dtype) || clf_dtype_is_interleaved(out->dtype))
        return clf_cl_convert_ternary(ctx, x, out);
    if (clf_dtype_is_block(out->dtype)) return x->dtype == out->dtype ? copy_blocks(ctx, x, out) : encode(ctx, args);
    if (!clf_dtype_is_block(x->dtype)) return convert_plain(ctx, x, out);
    const int64_t n = clf_last(x), parts = n / 16;
    clf_cl_call call;
    CLF_TRY(clf_cl_begin(&call, ctx, "convert", "convert_blocks", "-DW=%s -DBLOCKS", clf_cl_dtype(x->dtype)));
    clf_cl_tensor(&call, x);
    clf_cl_tensor(&call, out);
    clf_cl_long(&call, step_of(out));
    clf_cl_int(&call, out->dtype);
    clf_cl_shape(&call, x);
    clf_cl_long(&call, n);
    clf_cl_int(&call, parts);
    clf_cl_long(&call, clf_rows(x) * parts);
    return clf_cl_run(&call, (size_t[3]){clf_cl_divide_up(clf_rows(x) * parts, LOCAL), 1, 1}, LOCAL);
}
