/* linear_ternary.c: which calls of linear with T2 and with block-sparse tiles the kernels of linear_ternary.cl take,
 * and their launch: with CLF_LINEAR_FAST, whatever dtype x has,
 *
 *     rows 1–8   decode, by dp4a
 *     9–         gemm of bytes on tensor cores */
#include "linear.h"

#include <stdio.h>

enum {
    DECODE_ROWS = 8,
    MOST_K = 1 << 22, /* sums of 3 · 127 · k stay below 2^31 */
    MANY = 1 << 30,
    PANEL = 16, /* rows of w */
    WORD = 64,  /* bytes */
    SPAN = 256, /* of x that share a scale; with tiles a row */
    DECODE_WARPS = 4,
    TILED_WARPS = 4 /* of gemm of tiles */
};

typedef clf_nvidia_linear_plan plan;

/* Of gemm of tiles: 128 rows, or 64 where there are no more. */
static clf_nvidia_linear_tile tiled(int index) {
    const int rows = index ? 16 : 32;
    return (clf_nvidia_linear_tile){TILED_WARPS * rows, PANEL, rows, PANEL};
}

/* As LOCAL_BYTES in linear_ternary.cl. */
static size_t local_bytes(const clf_nvidia_linear_tile *t, bool tiles) {
    const int warps = t->m / t->warp_m * (t->n / t->warp_n), result = warps * 16 * (t->warp_n + 8) * 4;
    const int stages = tiles ? 0 : 4 * (t->m * (64 + 4) + t->n * (16 + 2));
    return (size_t)(stages > result ? stages : result);
}

bool clf_nvidia_ternary_make(plan *p, const clf_context *ctx, const clf_cl_product *product) {
    const bool tiles = product->tile_rows != NULL;
    *p = (plan){
        .use = LINEAR_DECODE, .m = clf_rows(product->out), .n = clf_last(product->out), .k = clf_last(product->x)};
    if (!p->m || !p->n || !p->k || p->m >= MANY || p->n >= MANY || p->k > MOST_K) return false;
    if (product->precision != CLF_LINEAR_FAST || clf_cl_offset(product->weight) % 16) return false;
    p->aligned = true;
    if (p->m <= DECODE_ROWS) return true;
    p->use = LINEAR_BYTES;
    p->tile = tiles ? p->m <= tiled(1).m : clf_nvidia_linear_tile_for(ctx, p);
    return true;
}

typedef struct rounded {
    clf_buffer *bytes, *scales;
    int64_t padded_m;
} rounded;

static clf_status round_spans(rounded *r, clf_context *ctx, const clf_cl_product *product, const plan *p) {
    const int64_t span = product->tile_rows ? p->k : SPAN;
    const int items = product->tile_rows ? 256 : 64;
    char common[96];
    clf_cl_call call;
    *r = (rounded){.padded_m = (p->m + 3) / 4 * 4};
    CLF_TRY(clf_buffer_create(&r->bytes, ctx, (size_t)(p->m * p->k), CLF_TAG_SCRATCH));
    CLF_TRY(clf_buffer_create(&r->scales, ctx, (size_t)(r->padded_m * (p->k / span)) * sizeof(float), CLF_TAG_SCRATCH));
    clf_nvidia_options(ctx, CLF_BF16, common, sizeof common);
    CLF_TRY(clf_cl_begin(&call, ctx, "nvidia/linear_ternary", "round_spans", "%s -DTILES=0 -DITEMS=%d", common, items));
    clf_cl_tensor(&call, product->x);
    clf_cl_int(&call, product->x->dtype);
    clf_cl_shape(&call, product->x);
    clf_cl_int(&call, p->m);
    clf_cl_int(&call, span);
    clf_cl_memory(&call, &r->bytes->memory);
    clf_cl_memory(&call, &r->scales->memory);
    clf_cl_int(&call, r->padded_m);
    clf_cl_local(&call, (size_t)items * sizeof(float));
    return clf_cl_run(&call, (size_t[3]){(size_t)p->m, (size_t)(p->k / span), 1}, (size_t)items);
}

static void set_list(clf_cl_call *call, const clf_tensor *t) {
    clf_cl_memory(call, &t->buffer->memory);
    clf_cl_long(call, clf_cl_offset(t));
}

/* X_ARGS, W_ARGS and the rest. */
static void set_arguments(clf_cl_call *call, const clf_cl_product *product, const plan *p, const rounded *x) {
    clf_cl_memory(call, &x->bytes->memory);
    clf_cl_memory(call, &x->scales->memory);
    clf_cl_int(call, x->padded_m);
    set_list(call, product->weight);
    if (product->tile_rows) {
        clf_cl_int(call, clf_last(product->weight) / WORD);
        set_list(call, product->tile_rows);
        set_list(call, product->tile_columns);
        set_list(call, product->row_scale);
    }
    clf_cl_int(call, p->k);
    clf_cl_epilogue(call, product);
}

static clf_status run_decode(clf_context *ctx, const clf_cl_product *product, const plan *p, const rounded *x) {
    int rows = 1;
    while (rows < p->m) rows *= 2;
    char common[96];
    clf_cl_call call;
    clf_nvidia_options(ctx, CLF_BF16, common, sizeof common);
    CLF_TRY(clf_cl_begin(&call, ctx, "nvidia/linear_ternary", "decode", "%s -DTILES=%d -DROWS=%d", common,
                         product->tile_rows != NULL, rows));
    set_arguments(&call, product, p, x);
    clf_cl_local(&call, (size_t)(DECODE_WARPS * rows * PANEL) * sizeof(float));
    return clf_cl_run(&call, (size_t[3]){(size_t)(p->n / PANEL), 1, 1}, 32 * DECODE_WARPS);
}

static clf_status run_gemm(clf_context *ctx, const clf_cl_product *product, const plan *p, const rounded *x) {
    const bool tiles = product->tile_rows != NULL;
    const clf_nvidia_linear_tile t = tiles ? tiled(p->tile) : clf_nvidia_linear_tiles[p->tile];
    char common[96];
    clf_cl_call call;
    clf_nvidia_options(ctx, CLF_BF16, common, sizeof common);
    CLF_TRY(clf_cl_begin(&call, ctx, "nvidia/linear_ternary", "gemm",
                         "%s -DTILES=%d -DBLOCK_M=%d -DBLOCK_N=%d -DWARP_M=%d -DWARP_N=%d", common, tiles, t.m, t.n,
                         t.warp_m, t.warp_n));
    set_arguments(&call, product, p, x);
    clf_cl_local(&call, local_bytes(&t, tiles));
    return clf_cl_run(&call, (size_t[3]){clf_cl_divide_up(p->n, t.n), clf_cl_divide_up(p->m, t.m), 1},
                      (size_t)(t.m / t.warp_m * (t.n / t.warp_n) * 32));
}

clf_status clf_nvidia_ternary_run(clf_context *ctx, const clf_cl_product *product, const plan *p) {
    rounded x;
    clf_status st = round_spans(&x, ctx, product, p);
    if (st == CLF_OK) st = (p->use == LINEAR_DECODE ? run_decode : run_gemm)(ctx, product, p, &x);
    clf_buffer_release(x.bytes); /* the queue is in order */
    clf_buffer_release(x.scales);
    return st;
}
