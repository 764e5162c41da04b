/* convert_ternary.c: the launcher of convert_ternary.cl. It waits where something may not fit: what the kernel found is
 * the call's status. */
#include "cl.h"

enum { LOCAL = 64, BLOCK = 256 };

static bool is_base_3(const clf_tensor *t) {
    return t->dtype == CLF_T1 || t->dtype == CLF_TQ1_0;
}

static clf_status run(clf_context *ctx, const clf_tensor *x, const clf_tensor *out, const clf_memory *bad) {
    const int64_t k = x->shape[1], items = x->shape[0] * (k / BLOCK);
    clf_cl_call call;
    CLF_TRY(clf_cl_begin(&call, ctx, "convert_ternary", "convert_ternary", "-DW=%s -DTO=%s%s", clf_cl_dtype(x->dtype),
                         clf_cl_dtype(out->dtype), clf_dtype_is_interleaved(x->dtype) ? " -DPANELS" : ""));
    const clf_tensor *const both[] = {x, out};
    for (int i = 0; i < 2; i++) {
        clf_cl_memory(&call, &both[i]->buffer->memory);
        clf_cl_long(&call, clf_cl_offset(both[i]));
        clf_cl_long(&call, clf_cl_row_stride(both[i]));
    }
    clf_cl_int(&call, k);
    clf_cl_long(&call, items);
    clf_cl_int(&call, is_base_3(out) && !is_base_3(x));
    clf_cl_memory(&call, bad);
    return clf_cl_run(&call, (size_t[3]){clf_cl_divide_up(items, LOCAL), 1, 1}, LOCAL);
}

clf_status clf_cl_convert_ternary(clf_context *ctx, const clf_tensor *x, const clf_tensor *out) {
    if (x->dtype != CLF_Q2_0 && (is_base_3(x) || !is_base_3(out))) return run(ctx, x, out, NULL);
    int32_t row = INT32_MAX;
    clf_buffer *bad;
    CLF_TRY(clf_buffer_create(&bad, ctx, sizeof row, CLF_TAG_SCRATCH));
    clf_status st = clf_cl_write(ctx, &bad->memory, 0, &row, sizeof row);
    if (st == CLF_OK) st = run(ctx, x, out, &bad->memory);
    if (st == CLF_OK) st = clf_cl_read(ctx, &bad->memory, 0, &row, sizeof row);
    clf_buffer_release(bad);
    CLF_TRY(st);
    const int first = row / CLF_PANEL_ROWS * CLF_PANEL_ROWS;
    CLF_CHECK(&ctx->error, row == INT32_MAX, CLF_INVALID_ARGUMENT,
              "convert: x: rows %d to %d: %s can't hold the value 2, or several scales for 256 values", first,
              first + CLF_PANEL_ROWS - 1, clf_dtype_name(out->dtype));
    return CLF_OK;
}
