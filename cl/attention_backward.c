/* attention_backward.c: the launchers of attention_backward.cl. */
#include "../lib/ops/attention.h"
#include "attention_rules.h"
#include "attention_tile.h"
#include "nvidia/nvidia.h"

enum { ROW_ITEMS = 64, SUM_ITEMS = 256 };

/* As gradients in attention_backward.cl. */
typedef struct gradients {
    clf_cl_view d_out, d_query, d_key, d_value, d_mask;
    cl_long d_mask_key, d_sinks_at, d_alibi_at;
    cl_int query_dtype, key_dtype, value_dtype;
    cl_uint batch, mask_batch, mask_heads, mask_rows, mask_keys;
} gradients;

typedef struct backward {
    clf_context *ctx;
    const clf_attention_backward_args *args;
    clf_cl_attention_rules rules;
    gradients gradients;
    clf_buffer *d;         /* d_out · out by row */
    clf_buffer *distances; /* for d_alibi_slopes, by row */
    clf_cl_attention_tile tile;
    int width;
} backward;

static gradients gradients_of(const clf_attention_backward_args *b) {
    gradients g = {.d_out = clf_cl_view_of(b->d_out), .batch = (cl_uint)b->forward.query->shape[0]};
    if (b->d_query) g.d_query = clf_cl_view_of(b->d_query), g.query_dtype = (cl_int)b->d_query->dtype;
    if (b->d_key) g.d_key = clf_cl_view_of(b->d_key), g.key_dtype = (cl_int)b->d_key->dtype;
    if (b->d_value) g.d_value = clf_cl_view_of(b->d_value), g.value_dtype = (cl_int)b->d_value->dtype;
    if (b->d_sinks) g.d_sinks_at = clf_cl_offset(b->d_sinks);
    if (b->d_alibi_slopes) g.d_alibi_at = clf_cl_offset(b->d_alibi_slopes);
    if (b->d_mask) {
        const int64_t *shape = b->d_mask->shape;
        g.d_mask = clf_cl_view_of(b->d_mask);
        g.d_mask_key = b->d_mask->stride[3];
        g.mask_batch = (cl_uint)shape[0];
        g.mask_heads = (cl_uint)shape[1];
        g.mask_rows = (cl_uint)shape[2];
        g.mask_keys = (cl_uint)shape[3];
    }
    return g;
}

static void set_tensor(clf_cl_call *call, const clf_tensor *t) {
    clf_cl_memory(call, t ? &t->buffer->memory : NULL);
}

static void set_buffer(clf_cl_call *call, const clf_buffer *buffer) {
    clf_cl_memory(call, buffer ? &buffer->memory : NULL);
}

/* Begins a kernel and sets RULES and g. */
static clf_status begin(clf_cl_call *call, const backward *b, const char *kernel) {
    const clf_cl_attention_tile t = b->tile;
    CLF_TRY(clf_cl_begin(call, b->ctx, "attention_backward", kernel,
                         "-DCHUNKS=%d -DQUERIES=%d -DKEYS=%d -DITEMS=%d -DDEPTH=%d", clf_cl_attention_chunks(b->width),
                         t.queries, t.keys, t.items, t.depth));
    clf_cl_attention_set(call, &b->rules);
    clf_cl_value(call, sizeof b->gradients, &b->gradients);
    return CLF_OK;
}

/* Sets the rest of INPUTS. */
static void set_inputs(clf_cl_call *call, const backward *b) {
    const clf_attention_args *a = &b->args->forward;
    set_tensor(call, a->query);
    set_tensor(call, a->key);
    set_tensor(call, a->value);
    set_tensor(call, b->args->d_out);
    set_tensor(call, a->lse);
    set_buffer(call, b->d);
}

static clf_status run(clf_cl_call *call, const backward *b, size_t x, size_t y, size_t z) {
    clf_cl_local(call, clf_cl_attention_local(CLF_CL_BACKWARD, b->tile));
    return clf_cl_run(call, (size_t[3]){x, y, z}, (size_t)b->tile.items);
}

static clf_status run_products(const backward *b) {
    const clf_attention_args *a = &b->args->forward;
    clf_cl_call call;
    CLF_TRY(begin(&call, b, "attention_products"));
    set_tensor(&call, a->out);
    set_tensor(&call, b->args->d_out);
    set_buffer(&call, b->d);
    const int64_t *q = a->query->shape;
    return clf_cl_run(&call, (size_t[3]){clf_cl_divide_up(q[2], ROW_ITEMS), (size_t)(q[0] * q[1]), 1}, ROW_ITEMS);
}

static clf_status run_keys(const backward *b) {
    const int64_t *k = b->args->forward.key->shape;
    if ((!b->args->d_key && !b->args->d_value) || !k[0] || !k[1] || !k[2]) return CLF_OK;
    clf_cl_call call;
    CLF_TRY(begin(&call, b, "attention_backward_keys"));
    set_inputs(&call, b);
    set_tensor(&call, b->args->d_key);
    set_tensor(&call, b->args->d_value);
    clf_cl_int(&call, k[1]);
    return run(&call, b, clf_cl_attention_tiles(&b->rules, k[2], b->tile.keys), (size_t)(k[0] * k[1]), 1);
}

static clf_status run_queries(const backward *b) {
    const int64_t *q = b->args->forward.query->shape;
    if (!b->args->d_query && !b->args->d_alibi_slopes) return CLF_OK;
    clf_cl_call call;
    CLF_TRY(begin(&call, b, "attention_backward_queries"));
    set_inputs(&call, b);
    set_tensor(&call, b->args->d_query);
    set_buffer(&call, b->distances);
    return run(&call, b, clf_cl_attention_tiles(&b->rules, q[2], b->tile.queries), (size_t)(q[0] * q[1]), 1);
}

static clf_status run_mask(const backward *b) {
    if (!b->args->d_mask) return CLF_OK;
    const int64_t *shape = b->args->d_mask->shape;
    if (!shape[0] || !shape[1] || !shape[2] || !shape[3]) return CLF_OK;
    clf_cl_call call;
    CLF_TRY(begin(&call, b, "attention_backward_mask"));
    set_inputs(&call, b);
    set_tensor(&call, b->args->d_mask);
    return run(&call, b, shape[2] == 1 ? 1 : clf_cl_attention_tiles(&b->rules, shape[2], b->tile.queries),
               shape[3] == 1 ? 1 : clf_cl_attention_tiles(&b->rules, shape[3], b->tile.keys),
               (size_t)(shape[0] * shape[1]));
}

static clf_status run_sums(const backward *b) {
    const clf_attention_args *a = &b->args->forward;
    if (!b->args->d_sinks && !b->args->d_alibi_slopes) return CLF_OK;
    clf_cl_call call;
    CLF_TRY(begin(&call, b, "attention_sums"));
    set_tensor(&call, a->lse);
    set_buffer(&call, b->d);
    set_buffer(&call, b->distances);
    set_tensor(&call, b->args->d_sinks);
    set_tensor(&call, b->args->d_alibi_slopes);
    clf_cl_local(&call, SUM_ITEMS * sizeof(cl_float));
    return clf_cl_run(&call, (size_t[3]){(size_t)a->query->shape[1], 1, 1}, SUM_ITEMS);
}

static clf_status run_portable(clf_context *ctx, const clf_attention_backward_args *args) {
    const clf_attention_args *a = &args->forward;
    const int64_t *q = a->query->shape, widest = q[3] > a->value->shape[3] ? q[3] : a->value->shape[3];
    const size_t rows = (size_t)(q[0] * q[1] * q[2]) * sizeof(cl_float);
    backward b = {.ctx = ctx, .args = args, .gradients = gradients_of(args), .width = clf_cl_attention_width(widest)};
    b.tile = clf_cl_attention_tile_of(ctx, CLF_CL_BACKWARD, b.width);
    clf_status st;
    CLF_TRY_GOTO(st, clf_cl_attention_open(&b.rules, ctx, a));
    CLF_TRY_GOTO(st, clf_buffer_create(&b.d, ctx, rows, CLF_TAG_SCRATCH));
    if (args->d_alibi_slopes) CLF_TRY_GOTO(st, clf_buffer_create(&b.distances, ctx, rows, CLF_TAG_SCRATCH));
    CLF_TRY_GOTO(st, run_products(&b));
    CLF_TRY_GOTO(st, run_keys(&b));
    CLF_TRY_GOTO(st, run_queries(&b));
    CLF_TRY_GOTO(st, run_mask(&b));
    CLF_TRY_GOTO(st, run_sums(&b));
fail:
    clf_buffer_release(b.d);
    clf_buffer_release(b.distances);
    clf_cl_attention_close(&b.rules);
    return st;
}

clf_status clf_attention_backward_opencl(clf_context *ctx, const clf_attention_backward_args *args) {
    clf_attention_backward_args rest = *args; /* the gradients that tensor cores don't compute */
    CLF_TRY(clf_nvidia_attention_backward(ctx, &rest));
    const bool done =
        !rest.d_query && !rest.d_key && !rest.d_value && !rest.d_sinks && !rest.d_mask && !rest.d_alibi_slopes;
    return done ? CLF_OK : run_portable(ctx, &rest);
}
