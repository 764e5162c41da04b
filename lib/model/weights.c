/* weights.c: weights by number. On contexts of host memory matrices stay where the file has them, unless threads run on
 * several NUMA nodes: then they are copied, by the threads that will read them, each to its own node. Ternary matrices
 * are repacked by the table itself, where it has a layout for them, they fit it and memory allows. */
#include "weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../core/context.h"
#include "../core/placement.h"
#include "nf4.h"
#include "packed.h"

static const char *const names[CLF_W_COUNT] = {
    [CLF_W_QUERY] = "attn_q.weight",
    [CLF_W_KEY] = "attn_k.weight",
    [CLF_W_VALUE] = "attn_v.weight",
    [CLF_W_OUTPUT] = "attn_output.weight",
    [CLF_W_GATE] = "ffn_gate.weight",
    [CLF_W_UP] = "ffn_up.weight",
    [CLF_W_DOWN] = "ffn_down.weight",
    [CLF_W_QUERY_BIAS] = "attn_q.bias",
    [CLF_W_KEY_BIAS] = "attn_k.bias",
    [CLF_W_VALUE_BIAS] = "attn_v.bias",
    [CLF_W_OUTPUT_BIAS] = "attn_output.bias",
    [CLF_W_GATE_BIAS] = "ffn_gate.bias",
    [CLF_W_UP_BIAS] = "ffn_up.bias",
    [CLF_W_DOWN_BIAS] = "ffn_down.bias",
    [CLF_W_ATTENTION_NORM] = "attn_norm.weight",
    [CLF_W_QUERY_NORM] = "attn_q_norm.weight",
    [CLF_W_KEY_NORM] = "attn_k_norm.weight",
    [CLF_W_POST_ATTENTION_NORM] = "post_attention_norm.weight",
    [CLF_W_FFN_NORM] = "ffn_norm.weight",
    [CLF_W_POST_FFN_NORM] = "post_ffw_norm.weight",
};

const char *clf_weight_name(char name[CLF_WEIGHT_NAME_SIZE], int layer, clf_weight id) {
    snprintf(name, CLF_WEIGHT_NAME_SIZE, "blk.%d.%s", layer, names[id]);
    return name;
}

clf_weight clf_weight_named(const char *stem, const char *suffix) {
    const size_t n = strlen(stem);
    int id = 0;
    while (id < CLF_W_COUNT && (strncmp(names[id], stem, n) || strcmp(names[id] + n, suffix))) id++;
    return (clf_weight)id;
}

const clf_file_tensor *clf_weight_find(const clf_model_file *file, int layer, clf_weight id) {
    char name[CLF_WEIGHT_NAME_SIZE];
    return clf_model_file_find(file, clf_weight_name(name, layer, id));
}

const clf_file_tensor *clf_weight_find_output(const clf_model_file *file) {
    return clf_model_file_find(file, clf_model_file_config(file)->tied_output ? "token_embd.weight" : "output.weight");
}

bool clf_weight_in_place(const clf_file_tensor *src) {
    return !src->packed && src->loaded == src->dtype &&
           (src->dtype != CLF_F32 || (uintptr_t)src->data % sizeof(float) == 0);
}

clf_dtype clf_weight_becomes(const clf_file_tensor *src, const clf_backend *backend) {
    const bool other_panels = clf_dtype_is_interleaved(src->dtype) && !backend->host; /* hosts use them in place */
    if (!backend->ternary || !(src->repacks || other_panels)) return src->loaded;
    return src->dtype == CLF_TQ1_0 ? backend->ternary : CLF_T2;
}

void clf_weight_to_f32(float *out, clf_dtype dtype, const void *data, int64_t n) {
    if (dtype == CLF_F32) {
        memcpy(out, data, (size_t)n * sizeof *out);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        uint16_t v;
        memcpy(&v, (const char *)data + (size_t)i * sizeof v, sizeof v);
        out[i] = dtype == CLF_F16 ? clf_f16_to_f32(v) : clf_bf16_to_f32(v);
    }
}

/* Makes `t` of another ternary dtype. Not by clf_convert(): what doesn't fit is no failure to log. */
static clf_status convert(clf_tensor *t, const clf_tensor *x, clf_dtype dtype) {
    clf_context *ctx = x->ctx;
    clf_tensor_args args = {.dtype = dtype, .ndim = 2, .tag = CLF_TAG_WEIGHTS};
    memcpy(args.shape, x->shape, sizeof args.shape);
    CLF_TRY(clf_tensor_init(t, ctx, &args));
    const clf_status st = ctx->backend->convert(ctx, &(clf_convert_args){.x = x, .out = t});
    if (st != CLF_OK) clf_tensor_release(t);
    return st;
}

/* Whether tiles pay in one of some panels, evenly spread over a matrix in rows: then it is worth a closer look. */
static bool may_have_tiles(const clf_tensor *rows, clf_dtype best) {
    enum { SAMPLES = 16 };
    const int64_t panels = rows->shape[0] / CLF_PANEL_ROWS, k = rows->shape[1];
    bool pay = false;
    for (int64_t s = 0; s < SAMPLES && !pay; s++) {
        const int64_t first = panels * s / SAMPLES * CLF_PANEL_ROWS;
        const clf_tensor some = clf_view_of(rows, 2, (int64_t[]){CLF_PANEL_ROWS, k}, NULL, first * k);
        clf_tensor panel;
        if (convert(&panel, &some, CLF_T2) != CLF_OK) return false;
        pay = clf_tiles_pay(&panel, clf_dtype_bytes(best, clf_elements(&panel)));
        clf_tensor_release(&panel);
    }
    return pay;
}

/* Of a matrix in rows; false if it isn't to be. */
static bool make_tiles(clf_tensor *t, clf_tiles *tiles, const clf_tensor *rows, clf_dtype best) {
    clf_tensor panels;
    if (!may_have_tiles(rows, best) || convert(&panels, rows, CLF_T2) != CLF_OK) return false;
    const bool made = clf_tiles_pay(&panels, clf_dtype_bytes(best, clf_elements(&panels))) &&
                      clf_tiles_make(t, tiles, &panels) == CLF_OK;
    clf_tensor_release(&panels);
    return made;
}

clf_status clf_weight_unpack(clf_tensor *t, const clf_tensor *weight, const clf_tiles *tiles, int64_t k,
                             clf_dtype dtype) {
    clf_tensor panels = *weight;
    if (clf_tiles_are_there(tiles))
        CLF_TRY(clf_tiles_to_panels(&panels, weight, tiles, k));
    else
        clf_buffer_retain(panels.buffer);
    const clf_status st = convert(t, &panels, dtype);
    clf_tensor_release(&panels);
    return st;
}

static clf_status load(clf_tensor *t, clf_context *ctx, const clf_file_tensor *src, bool stays) {
    clf_tensor_args args = {.dtype = src->loaded, .ndim = src->ndim, .tag = CLF_TAG_WEIGHTS};
    memcpy(args.shape, src->shape, sizeof args.shape);
    if (stays && clf_weight_in_place(src)) args.data = (void *)(uintptr_t)src->data;
    CLF_TRY(clf_tensor_init(t, ctx, &args));
    if (args.data) return CLF_OK;
    if (args.dtype == src->dtype) return clf_tensor_write(t, src->data, (size_t)src->nbytes);

    const int64_t n = clf_elements(t);
    float *values = malloc((size_t)n * sizeof *values);
    CLF_CHECK(&ctx->error, values, CLF_OUT_OF_MEMORY, "model: %s: out of host memory", src->name);
    clf_weight_to_f32(values, src->dtype, src->data, n);
    clf_status st = CLF_OK;
    if (args.dtype == CLF_NF4) { /* over the values: blocks are smaller */
        st = clf_nf4_quantize(values, values, n, &ctx->error);
        if (st != CLF_OK) clf_fail_in(&ctx->error, "model: %s", src->name);
    }
    if (st == CLF_OK) st = clf_tensor_write(t, values, clf_dtype_bytes(args.dtype, n));
    free(values);
    return st;
}

/* To tiles if they pay, which is known of CPUs, to the table's layout if the matrix fits it, else to T2. */
static clf_status repack(clf_tensor *t, clf_tiles *tiles, clf_context *ctx, const clf_file_tensor *src) {
    const clf_dtype best = ctx->backend->ternary;
    const bool host = ctx->backend->host;
    clf_tensor rows;
    CLF_TRY(load(&rows, ctx, src, host));
    clf_status st = host && tiles && make_tiles(t, tiles, &rows, best) ? CLF_OK : convert(t, &rows, best);
    if (st != CLF_OK && best != CLF_T2) st = convert(t, &rows, CLF_T2);
    clf_tensor_release(&rows);
    return st;
}

/* What packed parts mean, as a tensor of the file. */
static clf_status load_packed(clf_tensor *t, clf_context *ctx, const clf_file_tensor *src) {
    clf_file_tensor plain = *src;
    plain.packed = NULL;
    plain.nbytes = clf_dtype_bytes(src->dtype, clf_file_elements(src));
    void *rows = malloc((size_t)plain.nbytes + 1);
    plain.data = rows;
    CLF_CHECK(&ctx->error, rows, CLF_OUT_OF_MEMORY, "model: %s: out of host memory", src->name);
    clf_status st = clf_packed_rows(rows, src, 0, src->shape[0], &ctx->error);
    if (st == CLF_OK) st = load(t, ctx, &plain, false);
    free(rows);
    return st;
}

clf_status clf_weight_load(clf_tensor *t, clf_tiles *tiles, clf_context *ctx, const clf_file_tensor *src) {
    if (src->packed) return load_packed(t, ctx, src);
    if (clf_weight_becomes(src, ctx->backend) != src->loaded) {
        const clf_status st = repack(t, tiles, ctx, src);
        clf_error_clear(&ctx->error); /* the matrix may stay as it is */
        if (st == CLF_OK) return CLF_OK;
    }
    return load(t, ctx, src, ctx->backend->host && clf_placement_nodes(ctx) == 1);
}
