/* attention_rules.c: an attention call as attention_rules.cl sees it. */
#include "attention_rules.h"

#include <math.h>

#include "../lib/ops/attention.h"

enum { STARTS_LOCAL = 256 };
/* Rows up to which tiles are counted in an int. */
static const int64_t most_rows = INT32_MAX - (1 << 16);

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* A tensor with three or four dimensions; a mask's are 0 where it is repeated. */
clf_cl_view clf_cl_view_of(const clf_tensor *t) {
    if (!t) return (clf_cl_view){0};
    return (clf_cl_view){clf_cl_offset(t), t->stride[0], t->stride[1], t->stride[2]};
}

static cl_long offset_of(const clf_tensor *t) {
    return t ? clf_cl_offset(t) : 0;
}

static void set_mask(clf_cl_attention *c, const clf_tensor *mask) {
    if (!mask) return;
    clf_tensor t = *mask;
    for (int i = 0; i < 4; i++)
        if (t.shape[i] == 1) t.stride[i] = 0;
    c->mask = clf_cl_view_of(&t);
    c->mask_key = t.stride[3];
    c->mask_dtype = (cl_int)t.dtype;
}

/* Makes a rising copy of starts. */
static clf_status copy_starts(clf_context *ctx, const clf_tensor *starts, int64_t most, const clf_buffer *to,
                              int64_t at) {
    clf_cl_call call;
    CLF_TRY(clf_cl_begin(&call, ctx, "attention_starts", "attention_starts", "%s", ""));
    clf_cl_memory(&call, &starts->buffer->memory);
    clf_cl_long(&call, clf_cl_offset(starts));
    clf_cl_int(&call, starts->shape[0]);
    clf_cl_int(&call, most);
    clf_cl_memory(&call, &to->memory);
    clf_cl_long(&call, at);
    clf_cl_local(&call, STARTS_LOCAL * sizeof(cl_int));
    return clf_cl_run(&call, (size_t[3]){1, 1, 1}, STARTS_LOCAL);
}

static clf_status make_starts(clf_cl_attention_rules *r, clf_context *ctx) {
    const clf_attention_args *a = r->args;
    if (!a->query_starts) return CLF_OK;
    const int64_t n = a->query_starts->shape[0];
    CLF_TRY(clf_buffer_create(&r->starts, ctx, 2 * ((size_t)n + 1) * sizeof(cl_int), CLF_TAG_SCRATCH));
    CLF_TRY(copy_starts(ctx, a->query_starts, a->query->shape[2], r->starts, 0));
    return a->key_starts ? copy_starts(ctx, a->key_starts, a->key->shape[2], r->starts, n + 1) : CLF_OK;
}

clf_status clf_cl_attention_open(clf_cl_attention_rules *r, clf_context *ctx, const clf_attention_args *a) {
    *r = (clf_cl_attention_rules){.args = a};
    const int64_t *q = a->query->shape, *k = a->key->shape, keys = clf_attention_keys(a);
    const int64_t sequences = clf_attention_sequences(a);
    CLF_CHECK(&ctx->error, q[2] <= most_rows && k[2] <= most_rows && k[0] <= most_rows && sequences <= most_rows,
              CLF_UNSUPPORTED, "attention: %s takes up to %lld rows", ctx->backend->name, (long long)most_rows);
    clf_cl_attention *c = &r->call;
    *c = (clf_cl_attention){
        .query = clf_cl_view_of(a->query),
        .key = clf_cl_view_of(a->key),
        .value = clf_cl_view_of(a->value),
        .out = clf_cl_view_of(a->out),
        .alibi_at = offset_of(a->alibi_slopes),
        .sinks_at = offset_of(a->sinks),
        .lengths_at = offset_of(a->key_lengths),
        .table_at = offset_of(a->block_table),
        .rows_at = offset_of(a->layout_rows),
        .columns_at = offset_of(a->layout_columns),
        .window = least(a->window, (int64_t)1 << 32),
        .window_right = least(a->window_right, (int64_t)1 << 32),
        .scale = a->scale,
        .softcap = a->softcap,
        .kept = (cl_float)(1 / (1 - (double)a->dropout)),
        .drop = (cl_uint)ceil((double)a->dropout * 0x1p32),
        .seed = {{(cl_uint)a->dropout_seed, (cl_uint)(a->dropout_seed >> 32)}},
        .n_q = (cl_uint)q[2],
        .n_k = (cl_uint)least(keys, most_rows),
        .head_dim = (cl_uint)q[3],
        .v_dim = (cl_uint)a->value->shape[3],
        .heads = (cl_uint)q[1],
        .group = k[1] ? (cl_uint)(q[1] / k[1]) : 0,
        .q_dtype = (cl_int)a->query->dtype,
        .kv_dtype = (cl_int)a->key->dtype,
        .causal = a->causal,
        .packed = a->query_starts != NULL,
        .sequences = (cl_uint)sequences,
    };
    if (a->lse) c->lse = clf_cl_view_of(a->lse);
    set_mask(c, a->mask);
    if (a->block_table) {
        c->table_stride = a->block_table->stride[0];
        c->page = k[2] ? (cl_uint)k[2] : 1; /* n_k is 0 then */
        c->pages = (cl_uint)k[0];
    }
    if (a->layout_rows) {
        c->block = (cl_uint)a->layout_block;
        c->row_blocks = (cl_uint)least(a->layout_rows->shape[0] - 1, most_rows);
        c->entries = (cl_uint)least(a->layout_columns->shape[0], most_rows);
    }
    return make_starts(r, ctx);
}

void clf_cl_attention_close(clf_cl_attention_rules *r) {
    clf_buffer_release(r->starts);
}

static void set_memory(clf_cl_call *call, const clf_tensor *t) {
    clf_cl_memory(call, t ? &t->buffer->memory : NULL);
}

void clf_cl_attention_set(clf_cl_call *call, const clf_cl_attention_rules *r) {
    const clf_attention_args *a = r->args;
    clf_cl_value(call, sizeof r->call, &r->call);
    set_memory(call, a->mask);
    set_memory(call, a->alibi_slopes);
    set_memory(call, a->sinks);
    set_memory(call, a->key_lengths);
    clf_cl_memory(call, r->starts ? &r->starts->memory : NULL);
    set_memory(call, a->block_table);
    set_memory(call, a->layout_rows);
    set_memory(call, a->layout_columns);
}

size_t clf_cl_attention_tiles(const clf_cl_attention_rules *r, int64_t rows, int size) {
    return r->call.packed ? (size_t)(rows / size + r->call.sequences + 1) : clf_cl_divide_up(rows, size);
}
