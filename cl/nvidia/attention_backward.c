/* attention_backward.c: the launchers of nvidia/attention_backward.cl and nvidia/attention_backward_mask.cl. */
#include "attention.h"

#include <stdio.h>

/* GRADIENTS: what a pass over the keys makes. */
enum { D_KEY = 1, D_VALUE = 2 };

typedef struct buffers {
    clf_buffer *rows, *slopes, *parts; /* parts: of d_mask */
} buffers;

static bool takes(const clf_attention_backward_args *b) {
    const clf_tensor *const aligned[] = {b->d_out, b->d_query, b->d_key, b->d_value};
    if (!clf_elements(b->forward.out) || !clf_elements(b->forward.key)) return false;
    for (int i = 0; i < 4; i++)
        if (aligned[i] && !clf_nvidia_aligned(aligned[i])) return false;
    return true;
}

/* The options of backward.h. */
static void write_options(char *text, size_t size, const clf_context *ctx, const clf_attention_args *a,
                          const clf_nvidia_plan *p) {
    char common[96];
    clf_nvidia_options(ctx, a->query->dtype, common, sizeof common);
    snprintf(text, size, "%s -DHEAD_DIM=%d -DV_DIM=%d -DN_WARPS=%d -DSTEP=%d -DSCORES=%d -DLAYOUT=%d -DDROPOUT=%d",
             common, p->width, p->v_width, p->tile->warps, p->tile->keys, p->scores, a->layout_rows != NULL,
             a->dropout != 0);
}

static clf_status begin(clf_cl_call *call, clf_context *ctx, const clf_attention_backward_args *b,
                        const clf_nvidia_plan *p, const char *kernel, int gradients) {
    char options[256];
    write_options(options, sizeof options, ctx, &b->forward, p);
    return clf_cl_begin(call, ctx, "nvidia/attention_backward", kernel, "%s -DGRADIENTS=%d", options, gradients);
}

/* What the last pass over the keys makes: dK and dV where registers hold both, else dV, after a pass for dK. The other
 * kernels are the same in either program and are taken from this one. */
static int last_gradients(const clf_nvidia_plan *p) {
    return p->tile->dim <= 128 ? D_KEY | D_VALUE : D_VALUE;
}

static void set_gradient(clf_cl_call *call, const clf_tensor *t) {
    clf_cl_tensor(call, t);
    clf_cl_int(call, t && t->dtype == CLF_F32);
}

/* {what P's exponent takes off, D} of each query. */
static clf_status run_rows(clf_context *ctx, const clf_attention_backward_args *b, const clf_nvidia_plan *p,
                           const buffers *m) {
    const int64_t *q = b->forward.query->shape;
    clf_cl_call call;
    CLF_TRY(begin(&call, ctx, b, p, "attention_backward_rows", last_gradients(p)));
    clf_cl_tensor(&call, b->forward.out);
    clf_cl_tensor(&call, b->d_out);
    clf_cl_tensor(&call, b->forward.lse);
    clf_cl_memory(&call, &m->rows->memory);
    clf_cl_int(&call, q[2]);
    clf_cl_int(&call, q[1]);
    clf_cl_int(&call, b->forward.value->shape[3]);
    return clf_cl_run(&call, (size_t[3]){clf_cl_divide_up(q[2], 64), (size_t)q[1], (size_t)q[0]}, 64);
}

static void set_inputs(clf_cl_call *call, const clf_attention_backward_args *b, const buffers *m) {
    clf_cl_tensor(call, b->forward.query);
    clf_cl_tensor(call, b->forward.key);
    clf_cl_tensor(call, b->forward.value);
    clf_cl_tensor(call, b->d_out);
    clf_cl_memory(call, &m->rows->memory);
}

/* Tiles for n rows an entry of the batch; packed, each sequence may end in a tile of its own. */
static size_t tiles_of(const clf_attention_args *a, const clf_nvidia_plan *p, int64_t n, int tile) {
    return clf_cl_divide_up(n, tile) + (a->query_starts ? (size_t)p->sequences + 1 : 0);
}

static clf_status run_tiles(clf_cl_call *call, const clf_attention_args *a, const clf_nvidia_plan *p, size_t x,
                            size_t y, size_t z) {
    clf_nvidia_rules(call, a, p);
    clf_cl_local(call, p->local);
    return clf_cl_run(call, (size_t[3]){x, y, z}, (size_t)(32 * p->tile->warps));
}

static clf_status run_keys(clf_context *ctx, const clf_attention_backward_args *b, const clf_nvidia_plan *p,
                           const buffers *m, int gradients) {
    const int64_t *k = b->forward.key->shape;
    clf_cl_call call;
    if (!(gradients & D_KEY && b->d_key) && !(gradients & D_VALUE && b->d_value)) return CLF_OK;
    CLF_TRY(begin(&call, ctx, b, p, "attention_backward_keys", gradients));
    set_inputs(&call, b, m);
    set_gradient(&call, b->d_key);
    set_gradient(&call, b->d_value);
    return run_tiles(&call, &b->forward, p, tiles_of(&b->forward, p, k[2], 16 * p->tile->warps), (size_t)k[1],
                     (size_t)b->forward.query->shape[0]);
}

static clf_status run_queries(clf_context *ctx, const clf_attention_backward_args *b, const clf_nvidia_plan *p,
                              const buffers *m) {
    const int64_t *q = b->forward.query->shape;
    clf_cl_call call;
    if (!b->d_query && !b->d_alibi_slopes) return CLF_OK;
    CLF_TRY(begin(&call, ctx, b, p, "attention_backward_queries", last_gradients(p)));
    set_inputs(&call, b, m);
    set_gradient(&call, b->d_query);
    clf_cl_memory(&call, m->slopes ? &m->slopes->memory : NULL);
    return run_tiles(&call, &b->forward, p, tiles_of(&b->forward, p, q[2], 16 * p->tile->warps), (size_t)q[1],
                     (size_t)q[0]);
}

static clf_status begin_mask(clf_cl_call *call, clf_context *ctx, const clf_attention_args *a, const clf_nvidia_plan *p,
                             const char *kernel) {
    char options[256];
    write_options(options, sizeof options, ctx, a, p);
    return clf_cl_begin(call, ctx, "nvidia/attention_backward_mask", kernel, "%s", options);
}

/* Groups that share a tile of a mask with `tiles`: enough to keep the device busy, if it is repeated so often and the
 * parts stay small. */
static int64_t mask_splits(const clf_context *ctx, const clf_attention_backward_args *b, const clf_nvidia_plan *p,
                           size_t tiles) {
    const clf_attention_args *a = &b->forward;
    const int64_t *shape = b->d_mask->shape, *q = a->query->shape;
    const int64_t most[] = {
        clf_nvidia_groups(ctx) / (int64_t)tiles,
        CLF_ATTENTION_MASK_PARTS / clf_elements(b->d_mask),
        (shape[0] == 1 ? q[0] : 1) * (shape[1] == 1 ? q[1] : 1) *
            (shape[2] == 1 ? (int64_t)tiles_of(a, p, q[2], 16 * p->tile->warps) : 1),
    };
    const int64_t n = most[0] < most[1] ? most[0] : most[1];
    return n < 1 || most[2] < 1 ? 1 : n < most[2] ? n : most[2];
}

static clf_status run_mask(clf_context *ctx, const clf_attention_backward_args *b, const clf_nvidia_plan *p,
                           buffers *m) {
    const clf_attention_args *a = &b->forward;
    clf_cl_call call;
    if (!b->d_mask || !clf_elements(b->d_mask)) return CLF_OK;
    const int64_t *shape = b->d_mask->shape;
    const size_t x = shape[2] == 1 ? 1 : tiles_of(a, p, shape[2], 16 * p->tile->warps);
    const size_t y = shape[3] == 1 ? 1 : tiles_of(a, p, shape[3], p->tile->keys);
    const size_t z = (size_t)(shape[0] * shape[1]);
    const int64_t splits = mask_splits(ctx, b, p, x * y * z), elements = clf_elements(b->d_mask);
    clf_tensor to = *b->d_mask;
    if (splits > 1) {
        CLF_TRY(clf_buffer_create(&m->parts, ctx, (size_t)(splits * elements) * sizeof(float), CLF_TAG_SCRATCH));
        to.buffer = m->parts;
        to.offset = 0;
        to.stride[3] = 1;
        for (int i = 3; i > 0; i--) to.stride[i - 1] = to.stride[i] * shape[i];
    }
    CLF_TRY(begin_mask(&call, ctx, a, p, "attention_backward_mask"));
    set_inputs(&call, b, m);
    clf_cl_tensor(&call, &to);
    for (int i = 0; i < 4; i++) clf_cl_int(&call, shape[i]);
    clf_cl_int(&call, a->query->shape[0]);
    clf_cl_int(&call, splits);
    CLF_TRY(run_tiles(&call, a, p, x, y, z * (size_t)splits));
    if (splits == 1) return CLF_OK;
    CLF_TRY(begin_mask(&call, ctx, a, p, "attention_mask_join"));
    clf_cl_memory(&call, &m->parts->memory);
    clf_cl_int(&call, splits);
    clf_cl_shape(&call, b->d_mask);
    clf_cl_tensor(&call, b->d_mask);
    return clf_cl_run(&call, (size_t[3]){clf_cl_divide_up(elements, 64), 1, 1}, 64);
}

static clf_status run_heads(clf_context *ctx, const clf_attention_backward_args *b, const clf_nvidia_plan *p,
                            const buffers *m) {
    const int64_t *q = b->forward.query->shape;
    clf_cl_call call;
    if (!b->d_sinks && !b->d_alibi_slopes) return CLF_OK;
    CLF_TRY(begin(&call, ctx, b, p, "attention_backward_heads", last_gradients(p)));
    clf_cl_memory(&call, &m->rows->memory);
    clf_cl_memory(&call, m->slopes ? &m->slopes->memory : NULL);
    clf_nvidia_f32s(&call, b->forward.sinks);
    clf_nvidia_f32s(&call, b->d_sinks);
    clf_nvidia_f32s(&call, b->d_alibi_slopes);
    clf_cl_int(&call, q[0]);
    clf_cl_int(&call, q[2]);
    clf_cl_int(&call, q[1]);
    clf_cl_local(&call, 256 * sizeof(float));
    return clf_cl_run(&call, (size_t[3]){(size_t)q[1], 1, 1}, 128);
}

clf_status clf_nvidia_attention_backward(clf_context *ctx, clf_attention_backward_args *args) {
    const int64_t *q = args->forward.query->shape;
    const size_t rows = (size_t)(q[0] * q[1] * q[2]);
    clf_nvidia_plan p;
    buffers m = {0};
    clf_status st;
    bool found = takes(args);
    if (found) CLF_TRY(clf_nvidia_plan_find(&p, &found, ctx, &args->forward, true));
    if (!found) return CLF_OK;
    CLF_TRY_GOTO(st, clf_buffer_create(&m.rows, ctx, rows * 2 * sizeof(float), CLF_TAG_SCRATCH));
    if (args->d_alibi_slopes)
        CLF_TRY_GOTO(st, clf_buffer_create(&m.slopes, ctx, rows * sizeof(float), CLF_TAG_SCRATCH));
    CLF_TRY_GOTO(st, run_rows(ctx, args, &p, &m));
    if (last_gradients(&p) != (D_KEY | D_VALUE)) CLF_TRY_GOTO(st, run_keys(ctx, args, &p, &m, D_KEY));
    CLF_TRY_GOTO(st, run_keys(ctx, args, &p, &m, last_gradients(&p)));
    CLF_TRY_GOTO(st, run_queries(ctx, args, &p, &m));
    CLF_TRY_GOTO(st, run_mask(ctx, args, &p, &m));
    CLF_TRY_GOTO(st, run_heads(ctx, args, &p, &m));
    *args = (clf_attention_backward_args){.forward = args->forward, .d_out = args->d_out}; /* none is left */
fail:
    clf_buffer_release(m.rows);
    clf_buffer_release(m.slopes);
    clf_buffer_release(m.parts);
    return st;
}
