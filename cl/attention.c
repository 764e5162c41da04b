/* attention.c: the launchers of attention.cl and attention_few.cl. */
#include "../lib/ops/attention.h"
#include "attention_rules.h"
#include "attention_tile.h"
#include "nvidia/nvidia.h"

/* As in attention_few.cl. */
enum { FEW_ITEMS = 128, FEW_KEYS = 64, FEW_PITCH = 68, FEW_LANES = 16, FEW_ROWS = 8, MERGE_ITEMS = 64 };
/* Queries of a sequence up to which tiles of them would be too empty; keys that a part of them has at least; groups
 * that keep a compute unit busy. */
enum {
    FEW_QUERIES = CLF_ATTENTION_DEVICE_QUERIES,
    PART_KEYS = CLF_ATTENTION_DEVICE_PART,
    GROUPS_A_UNIT = 4,
    MOST_PARTS = CLF_ATTENTION_DEVICE_PARTS
};

static void set_inputs(clf_cl_call *call, const clf_cl_attention_rules *r) {
    const clf_attention_args *a = r->args;
    clf_cl_attention_set(call, r);
    clf_cl_memory(call, &a->query->buffer->memory);
    clf_cl_memory(call, &a->key->buffer->memory);
    clf_cl_memory(call, &a->value->buffer->memory);
}

static void set_outputs(clf_cl_call *call, const clf_attention_args *a) {
    clf_cl_memory(call, &a->out->buffer->memory);
    clf_cl_memory(call, a->lse ? &a->lse->buffer->memory : NULL);
}

static clf_status run_tiles(clf_context *ctx, const clf_cl_attention_rules *r) {
    const clf_attention_args *a = r->args;
    const int width = clf_cl_attention_width(a->value->shape[3]);
    const clf_cl_attention_tile t = clf_cl_attention_tile_of(ctx, CLF_CL_FORWARD, width);
    clf_cl_call call;
    CLF_TRY(clf_cl_begin(&call, ctx, "attention", "attention",
                         "-DCHUNKS=%d -DQUERIES=%d -DKEYS=%d -DITEMS=%d -DDEPTH=%d", clf_cl_attention_chunks(width),
                         t.queries, t.keys, t.items, t.depth));
    set_inputs(&call, r);
    set_outputs(&call, a);
    clf_cl_local(&call, clf_cl_attention_local(CLF_CL_FORWARD, t));
    const size_t heads = (size_t)(a->query->shape[0] * a->query->shape[1]);
    return clf_cl_run(&call, (size_t[3]){clf_cl_attention_tiles(r, a->query->shape[2], t.queries), heads, 1},
                      (size_t)t.items);
}

/* How a call of few queries is cut. */
typedef struct few {
    int rows, row_heads, row_queries;
    size_t tiles, heads, parts;
} few;

static few cut(const clf_context *ctx, const clf_cl_attention_rules *r) {
    const clf_attention_args *a = r->args;
    const int64_t group = r->call.group, *q = a->query->shape, shared = group * q[2];
    few f = {.row_heads = group < FEW_ROWS ? (int)group : FEW_ROWS, .rows = 1};
    while (f.rows < FEW_ROWS && f.rows < shared) f.rows *= 2;
    f.row_queries = f.rows / f.row_heads;
    f.tiles = clf_cl_attention_tiles(r, q[2], f.row_queries);
    f.heads = (size_t)(q[0] * a->key->shape[1]) * clf_cl_divide_up(group, f.row_heads);
    const int64_t groups = (int64_t)(f.tiles * f.heads), wanted = (int64_t)clf_cl(ctx)->units * GROUPS_A_UNIT;
    const int64_t most = r->call.n_k / PART_KEYS < MOST_PARTS ? r->call.n_k / PART_KEYS : MOST_PARTS;
    f.parts = groups && groups < wanted ? clf_cl_divide_up(wanted, groups) : 1;
    if ((int64_t)f.parts > most) f.parts = most ? (size_t)most : 1;
    return f;
}

static clf_status run_parts(clf_context *ctx, const clf_cl_attention_rules *r, const few *f, const clf_buffer *parts) {
    clf_cl_call call;
    CLF_TRY(clf_cl_begin(&call, ctx, "attention_few", "attention_few", "-DROWS=%d", f->rows));
    set_inputs(&call, r);
    set_outputs(&call, r->args);
    clf_cl_int(&call, f->row_heads);
    clf_cl_int(&call, f->row_queries);
    clf_cl_memory(&call, parts ? &parts->memory : NULL);
    clf_cl_local(&call, sizeof(cl_float) * (size_t)(FEW_KEYS * FEW_PITCH + 2 * FEW_KEYS +
                                                    f->rows * (FEW_KEYS + CLF_ATTENTION_DIM + FEW_LANES + 2)));
    return clf_cl_run(&call, (size_t[3]){f->tiles, f->heads, f->parts}, FEW_ITEMS);
}

static clf_status merge(clf_context *ctx, const clf_cl_attention_rules *r, const few *f, const clf_buffer *parts) {
    const int64_t *q = r->args->query->shape;
    clf_cl_call call;
    CLF_TRY(clf_cl_begin(&call, ctx, "attention_few", "attention_merge", "-DROWS=%d", f->rows));
    clf_cl_attention_set(&call, r);
    set_outputs(&call, r->args);
    clf_cl_int(&call, (int64_t)f->parts);
    clf_cl_memory(&call, &parts->memory);
    return clf_cl_run(&call, (size_t[3]){(size_t)q[2], (size_t)(q[0] * q[1]), 1}, MERGE_ITEMS);
}

static clf_status run_few(clf_context *ctx, const clf_cl_attention_rules *r) {
    const clf_attention_args *a = r->args;
    const few f = cut(ctx, r);
    if (f.parts == 1) return run_parts(ctx, r, &f, NULL);
    const int64_t *q = a->query->shape;
    const size_t rows = (size_t)(q[0] * q[1] * q[2]), floats = (size_t)a->value->shape[3] + 2;
    clf_buffer *parts;
    CLF_TRY(clf_buffer_create(&parts, ctx, rows * f.parts * floats * sizeof(cl_float), CLF_TAG_SCRATCH));
    clf_status st = run_parts(ctx, r, &f, parts);
    if (st == CLF_OK) st = merge(ctx, r, &f, parts);
    clf_buffer_release(parts);
    return st;
}

static clf_status run_portable(clf_context *ctx, const clf_attention_args *args) {
    const int64_t *q = args->query->shape;
    if (!q[0] || !q[1] || !q[2]) return CLF_OK;
    const int64_t sequences = args->query_starts ? clf_attention_sequences(args) : 1;
    clf_cl_attention_rules r;
    clf_status st = clf_cl_attention_open(&r, ctx, args);
    if (st == CLF_OK) st = q[2] <= FEW_QUERIES * sequences ? run_few(ctx, &r) : run_tiles(ctx, &r);
    clf_cl_attention_close(&r);
    return st;
}

clf_status clf_attention_opencl(clf_context *ctx, const clf_attention_args *args) {
    bool taken;
    CLF_TRY(clf_nvidia_attention(&taken, ctx, args));
    return taken ? CLF_OK : run_portable(ctx, args);
}
