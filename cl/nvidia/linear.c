/* linear.c: which calls of linear the kernels of linear.cl and linear_bytes.cl take, and their launch. A kernel is used
 * for a weight's dtype once it has given what the portable kernels give.
 *
 *     x       weight           rows   kernel
 *     any     blocks, FAST     1–8    decode: x as bytes, dp4a
 *     16-bit  x's dtype        16–    gemm
 *     16-bit  blocks           9–     gemm, codes as operands; DOWN and NF4: values as one or two operands
 *     f32     blocks, FAST     9–     gemm of bytes
 *     any     T2, tiles, FAST         linear_ternary.c
 *
 * x in f32 with CLF_LINEAR_EXACT, or with weights of 16 bits, would have to be rounded for tensor cores: it is left. */
#include "linear.h"

#include <stdio.h>

enum {
    DECODE_ROWS = 8,
    LEAST_ROWS = 16,
    MANY = 1 << 30,
    MOST_LOCAL = 48 * 1024,
    ROUND_LOCAL = 64,
    DECODE_WARPS = 4,
    DECODE_COLUMNS = 2
};

typedef clf_nvidia_linear_tile tile;
#define tiles clf_nvidia_linear_tiles
const tile tiles[] = {
#define CLF_LINEAR_TILE(m, n, warp_m, warp_n) {m, n, warp_m, warp_n},
#include "linear_tiles.def"
#undef CLF_LINEAR_TILE
};
enum { TILES = sizeof tiles / sizeof *tiles };
_Static_assert(TILES * 2 * LINEAR_USES * CLF_DTYPE_COUNT == CLF_CL_LINEAR_TRIALS,
               "trials: tiles, alignment, uses, dtypes");

/* Of a block dtype: values that share a scale, 16 or 32 (or more); whether it has minima; whether a scale has at most
 * 20 bits and a small exponent, as gemm of bytes wants; and for decode, how many parts of 16 values have their codes in
 * the same bytes, and how far apart they are. */
typedef struct facts {
    int run;
    bool minima, bytes;
    int unit, distance;
} facts;
static const facts facts_of[CLF_DTYPE_COUNT] = {
    [CLF_Q4_0] = {32, false, true, 2, 1},   [CLF_Q4_1] = {32, true, true, 2, 1},
    [CLF_Q5_0] = {32, false, true, 2, 1},   [CLF_Q5_1] = {32, true, true, 2, 1},
    [CLF_Q8_0] = {32, false, true, 2, 1},   [CLF_Q2_K] = {16, true, true, 4, 2},
    [CLF_Q3_K] = {16, false, true, 4, 2},   [CLF_Q4_K] = {32, true, true, 2, 2},
    [CLF_Q5_K] = {32, true, true, 2, 2},    [CLF_Q6_K] = {16, false, true, 4, 2},
    [CLF_IQ4_NL] = {32, false, true, 2, 1}, [CLF_IQ4_XS] = {32, false, true, 2, 1},
    [CLF_TQ1_0] = {32, false, true, 2, 1},  [CLF_TQ2_0] = {32, false, true, 4, 2},
    [CLF_MXFP4] = {32, false, false, 2, 1}, [CLF_NVFP4] = {16, false, true, 2, 1},
    [CLF_Q1_0] = {32, false, true, 2, 1},   [CLF_Q2_0] = {32, false, true, 2, 1},
};

typedef clf_nvidia_linear_plan plan;

/* Rows at multiples of 16 bytes, of as many; t has 16-bit elements. */
static bool aligned(const clf_tensor *t) {
    if (clf_cl_offset(t) % 8 || clf_last(t) % 8) return false;
    for (int i = 0; i + 1 < t->ndim; i++)
        if (t->shape[i] > 1 && t->stride[i] % 8) return false;
    return true;
}

/* As LOCAL_BYTES in linear.cl. */
static size_t local_bytes(const plan *p, const facts *f) {
    const tile *t = &tiles[p->tile];
    const bool bytes = p->use == LINEAR_BYTES;
    const int runs = (bytes ? 64 : 32) / p->run, by_column = p->codes ? (1 + f->minima) * runs * t->n * 4 : 0;
    const int by_row = bytes ? (2 + f->minima * runs) * t->m * 4 : 0;
    const int stage = t->m * 64 + p->parts * t->n * 64 + by_column + by_row;
    const int stages = stage * 3 > MOST_LOCAL ? 2 : 3;
    const int result = t->m / t->warp_m * (t->n / t->warp_n) * 16 * (t->warp_n + 8) * 4;
    return (size_t)(stage * stages > result ? stage * stages : result);
}

static void set_tile(plan *p, const clf_cl_product *product, int index) {
    const facts *f = &facts_of[product->weight->dtype];
    p->tile = index;
    p->codes = f->run && !clf_nvidia_linear_down_use(p->use);
    p->run = p->codes && f->run == 16 ? 16 : 32;
    const bool values = clf_dtype_is_block(product->weight->dtype) && !p->codes;
    p->parts = values && (p->use == LINEAR_BF16 || p->use == LINEAR_DOWN_BF16) ? 2 : 1;
    p->local = local_bytes(p, f);
}

/* The first whose groups are enough for the device; the emulated one is small, so that tests meet both. */
int clf_nvidia_linear_tile_for(const clf_context *ctx, const plan *p) {
    const size_t units = clf_cl(ctx)->tensor_cores == CLF_CL_TENSOR_CORES_PTX ? clf_cl(ctx)->units : 2;
    int i = 0;
    while (i + 1 < TILES && clf_cl_divide_up(p->m, tiles[i].m) * clf_cl_divide_up(p->n, tiles[i].n) < units) i++;
    return i;
}

static bool make(plan *p, const clf_context *ctx, const clf_cl_product *product, bool down) {
    const clf_tensor *x = product->x, *w = product->weight;
    const bool blocks = clf_dtype_is_block(w->dtype), fast = product->precision == CLF_LINEAR_FAST,
               f16 = x->dtype == CLF_F16;
    const facts *f = &facts_of[w->dtype];
    if (clf_nvidia_linear_is_ternary(product)) return !down && clf_nvidia_ternary_make(p, ctx, product);
    if (blocks && !f->run && w->dtype != CLF_NF4) return false;
    *p = (plan){.m = clf_rows(product->out), .n = clf_last(product->out), .k = clf_last(x)};
    if (!p->m || !p->n || !p->k || p->m >= MANY || p->n >= MANY || p->k >= MANY) return false;
    if (!down && blocks && fast && f->run && p->m <= DECODE_ROWS) {
        p->use = LINEAR_DECODE;
        return true;
    }
    if (p->m < (blocks ? DECODE_ROWS + 1 : LEAST_ROWS)) return false;
    if (x->dtype != CLF_F32 && (blocks || w->dtype == x->dtype))
        p->use = down ? (f16 ? LINEAR_DOWN_F16 : LINEAR_DOWN_BF16) : f16 ? LINEAR_F16 : LINEAR_BF16;
    else if (!down && blocks && fast && f->bytes)
        p->use = LINEAR_BYTES;
    else
        return false;
    set_tile(p, product, clf_nvidia_linear_tile_for(ctx, p));
    /* values that are rounded to operands aren't float32's any more */
    if (blocks && !p->codes && product->ends_as == CLF_F32) return false;
    p->aligned = p->use == LINEAR_BYTES || (aligned(x) && (blocks || aligned(w)));
    return true;
}

static const char *const blocks_option[2] = {"", " -DBLOCKS"};

/* ---- x as bytes ---- */

typedef struct rounded {
    clf_buffer *buffer; /* bytes, then two arrays of floats in buffers of their own */
    clf_buffer *scales, *sums;
    int64_t padded_m;
} rounded;

static void drop_rounded(rounded *r) {
    clf_buffer_release(r->buffer);
    clf_buffer_release(r->scales);
    clf_buffer_release(r->sums);
}

/* `run`: of the sums; 0: none. */
static clf_status round_rows(rounded *r, clf_context *ctx, const clf_cl_product *product, const plan *p, int run) {
    char common[96];
    clf_cl_call call;
    *r = (rounded){.padded_m = (p->m + 3) / 4 * 4};
    const size_t floats = (size_t)r->padded_m * sizeof(float);
    CLF_TRY(clf_buffer_create(&r->buffer, ctx, (size_t)(p->m * p->k), CLF_TAG_SCRATCH));
    CLF_TRY(clf_buffer_create(&r->scales, ctx, floats * (size_t)(p->k / 32), CLF_TAG_SCRATCH));
    if (run) CLF_TRY(clf_buffer_create(&r->sums, ctx, floats * (size_t)(p->k / run), CLF_TAG_SCRATCH));
    clf_nvidia_options(ctx, CLF_BF16, common, sizeof common);
    CLF_TRY(clf_cl_begin(&call, ctx, "nvidia/linear_bytes", "round_rows", "%s -DWIDE=0 -DW=F32", common));
    clf_cl_tensor(&call, product->x);
    clf_cl_int(&call, product->x->dtype);
    clf_cl_shape(&call, product->x);
    clf_cl_int(&call, p->m);
    clf_cl_int(&call, p->k);
    clf_cl_memory(&call, &r->buffer->memory);
    clf_cl_memory(&call, &r->scales->memory);
    clf_cl_memory(&call, run ? &r->sums->memory : NULL);
    clf_cl_int(&call, r->padded_m);
    clf_cl_int(&call, run);
    return clf_cl_run(&call, (size_t[3]){clf_cl_divide_up(p->m * (p->k / 32), ROUND_LOCAL), 1, 1}, ROUND_LOCAL);
}

static void set_weight(clf_cl_call *call, const clf_cl_product *product, const plan *p) {
    clf_cl_memory(call, &product->weight->buffer->memory);
    clf_cl_long(call, clf_cl_offset(product->weight));
    clf_cl_long(call, clf_cl_row_stride(product->weight));
    clf_cl_int(call, p->k);
    clf_cl_epilogue(call, product);
}

/* ---- launches ---- */

static clf_status run_decode(clf_context *ctx, const clf_cl_product *product, const plan *p) {
    const clf_tensor *w = product->weight;
    const facts *f = &facts_of[w->dtype];
    const bool wide =
        (w->dtype == CLF_Q4_K || w->dtype == CLF_Q5_K) && clf_cl_offset(w) % 16 == 0 && clf_cl_row_stride(w) % 16 == 0;
    int rows = 1;
    while (rows < p->m) rows *= 2;
    char common[96];
    rounded x = {0};
    clf_cl_call call;
    clf_status st;
    CLF_TRY_GOTO(st, round_rows(&x, ctx, product, p, 0));
    clf_nvidia_options(ctx, CLF_BF16, common, sizeof common);
    CLF_TRY_GOTO(st, clf_cl_begin(&call, ctx, "nvidia/linear_bytes", "decode",
                                  "%s -DW=%s -DBLOCKS -DMINIMA=%d -DROWS=%d -DUNIT=%d -DDISTANCE=%d -DWIDE=%d", common,
                                  clf_cl_dtype(w->dtype), f->minima, rows, f->unit, f->distance, wide));
    clf_cl_memory(&call, &x.buffer->memory);
    clf_cl_memory(&call, &x.scales->memory);
    clf_cl_int(&call, x.padded_m);
    set_weight(&call, product, p);
    clf_cl_local(&call, 16);
    st = clf_cl_run(&call, (size_t[3]){clf_cl_divide_up(p->n, DECODE_WARPS * DECODE_COLUMNS), 1, 1}, 32 * DECODE_WARPS);
fail:
    drop_rounded(&x); /* the queue is in order */
    return st;
}

static clf_status run_gemm(clf_context *ctx, const clf_cl_product *product, const plan *p) {
    const clf_dtype dtype = product->weight->dtype;
    const facts *f = &facts_of[dtype];
    const tile *t = &tiles[p->tile];
    const bool bytes = p->use == LINEAR_BYTES;
    char common[96];
    rounded x = {0};
    clf_cl_call call;
    clf_status st;
    if (bytes) CLF_TRY_GOTO(st, round_rows(&x, ctx, product, p, f->minima ? p->run : 0));
    clf_nvidia_options(ctx, product->x->dtype, common, sizeof common);
    CLF_TRY_GOTO(st,
                 clf_cl_begin(&call, ctx, "nvidia/linear", "gemm",
                              "%s -DW=%s%s -DDOWN=%d -DINT8=%d -DCODES=%d -DRUN=%d -DMINIMA=%d -DPARTS=%d -DALIGNED=%d "
                              "-DBLOCK_M=%d -DBLOCK_N=%d -DWARP_M=%d -DWARP_N=%d",
                              common, clf_cl_dtype(dtype), blocks_option[clf_dtype_is_block(dtype)],
                              clf_nvidia_linear_down_use(p->use), bytes, p->codes, p->run, f->minima, p->parts,
                              p->aligned, t->m, t->n, t->warp_m, t->warp_n));
    if (bytes) {
        clf_cl_memory(&call, &x.buffer->memory);
        clf_cl_memory(&call, &x.scales->memory);
        clf_cl_memory(&call, x.sums ? &x.sums->memory : NULL);
        clf_cl_int(&call, x.padded_m);
    } else {
        clf_cl_tensor(&call, product->x);
    }
    set_weight(&call, product, p);
    clf_cl_local(&call, p->local);
    st = clf_cl_run(&call, (size_t[3]){clf_cl_divide_up(p->n, t->n), clf_cl_divide_up(p->m, t->m), 1},
                    (size_t)(t->m / t->warp_m * (t->n / t->warp_n) * 32));
fail:
    drop_rounded(&x);
    return st;
}

clf_status clf_nvidia_linear_run(clf_context *ctx, const clf_cl_product *product, const plan *p) {
    if (clf_nvidia_linear_is_ternary(product)) return clf_nvidia_ternary_run(ctx, product, p);
    return p->use == LINEAR_DECODE ? run_decode(ctx, product, p) : run_gemm(ctx, product, p);
}

static clf_status take(bool *taken, clf_context *ctx, const clf_cl_product *product, bool down) {
    clf_cl_state *s = clf_cl(ctx);
    plan p;
    *taken = false;
    CLF_TRY(clf_nvidia_find(ctx));
    if (s->tensor_cores == CLF_CL_TENSOR_CORES_OFF || !make(&p, ctx, product, down)) return CLF_OK;
    uint8_t *trial = &s->linear_trials[((p.tile * 2 + p.aligned) * LINEAR_USES + (int)p.use) * CLF_DTYPE_COUNT +
                                       (int)product->weight->dtype];
    if (*trial == CLF_CL_UNTRIED) CLF_TRY(clf_nvidia_linear_try(trial, ctx, product, &p));
    if (*trial == CLF_CL_WRONG) return CLF_OK;
    clf_log(ctx, CLF_LOG_DEBUG, "linear%s: tensor cores, %s, tile %d, %s", down ? "_backward" : "",
            clf_nvidia_linear_use_name(p.use), p.tile, clf_dtype_name(product->weight->dtype));
    *taken = true;
    return clf_nvidia_linear_run(ctx, product, &p);
}

clf_status clf_nvidia_linear(bool *taken, clf_context *ctx, const clf_cl_product *p) {
    return take(taken, ctx, p, false);
}

clf_status clf_nvidia_linear_down(bool *taken, clf_context *ctx, const clf_cl_product *p) {
    return take(taken, ctx, p, true);
}
