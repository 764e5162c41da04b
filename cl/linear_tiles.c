/* linear_tiles.c: the launcher of linear_tiles.cl. */
#include "linear.h"

enum { TILE = 16, TILE_BYTES = 64, ITEMS = 64, MOST_ROWS = 4 };

static void set_list(clf_cl_call *call, const clf_tensor *t) {
    clf_cl_memory(call, &t->buffer->memory);
    clf_cl_long(call, clf_cl_offset(t));
}

clf_status clf_cl_multiply_tiles(clf_context *ctx, const clf_cl_product *p) {
    const int64_t m = clf_rows(p->out), n = clf_last(p->out), rows = m > 1 ? MOST_ROWS : 1;
    clf_cl_call call;
    CLF_TRY(clf_cl_begin(&call, ctx, "linear_tiles", "linear_tiles", "-DW=F32 -DROWS=%d", (int)rows));
    clf_cl_tensor(&call, p->x);
    clf_cl_int(&call, p->x->dtype);
    set_list(&call, p->weight);
    clf_cl_int(&call, clf_last(p->weight) / TILE_BYTES);
    set_list(&call, p->tile_rows);
    set_list(&call, p->tile_columns);
    set_list(&call, p->row_scale);
    clf_cl_int(&call, clf_last(p->x));
    clf_cl_epilogue(&call, p);
    clf_cl_local(&call, ITEMS * sizeof(float));
    return clf_cl_run(&call, (size_t[3]){(size_t)(n / TILE), clf_cl_divide_up(m, rows), 1}, ITEMS);
}
