/* embedding.c: the launcher of embedding.cl. */
#include "cl.h"

enum { LOCAL = 64 };

clf_status clf_embedding_opencl(clf_context *ctx, const clf_embedding_args *args) {
    const clf_tensor *weight = args->weight, *out = args->out;
    const int64_t n = clf_last(out), parts = (n + 15) / 16;
    clf_tensor ids = *args->ids; /* [...] as [..., 1]: rows like out's */
    ids.shape[ids.ndim] = 1;
    ids.stride[ids.ndim++] = 1;
    clf_cl_call call;
    CLF_TRY(clf_cl_begin(&call, ctx, "embedding", "embedding", "-DW=%s%s", clf_cl_dtype(weight->dtype),
                         clf_dtype_is_block(weight->dtype) ? " -DBLOCKS" : ""));
    clf_cl_memory(&call, &weight->buffer->memory);
    clf_cl_long(&call, clf_cl_offset(weight));
    clf_cl_long(&call, clf_cl_row_stride(weight));
    clf_cl_long(&call, weight->shape[0]);
    clf_cl_tensor(&call, &ids);
    clf_cl_float(&call, args->scale);
    clf_cl_tensor(&call, out);
    clf_cl_int(&call, out->dtype);
    clf_cl_shape(&call, out);
    clf_cl_long(&call, n);
    clf_cl_int(&call, parts);
    clf_cl_long(&call, clf_rows(out) * parts);
    return clf_cl_run(&call, (size_t[3]){clf_cl_divide_up(clf_rows(out) * parts, LOCAL), 1, 1}, LOCAL);
}
