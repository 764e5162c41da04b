/* linear_trial.c: known answers of linear's kernels on tensor cores: a product of random weights of some dtype, over
 * edges of tiles, held to what the portable kernels make of it on the same device. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "linear.h"

typedef clf_nvidia_linear_plan plan;

enum { TRIAL_ROWS = 140, TRIAL_COLUMNS = 152 };
/* Block-sparse: of rows of tiles all but one have a third of their tiles. */
enum { TRIAL_PANELS = 9, TRIAL_GROUPS = 48, TRIAL_TILES = (TRIAL_PANELS - 1) * TRIAL_GROUPS / 3 };

/* Whole numbers of 2^-7, the first of each 32 being 127 of them: rounding to bytes keeps them. */
static float trial_x(uint32_t *state, int i) {
    *state = *state * 1664525 + 1013904223;
    return (float)(i % 32 ? (int)(*state >> 16) % 255 - 127 : 127) / 128;
}

/* Bytes that no format takes for something beyond 2 or for NaN: every exponent lacks its highest bit. */
static void fill_blocks(uint8_t *to, size_t bytes, clf_dtype dtype, uint32_t *state) {
    for (size_t i = 0; i < bytes; i++) {
        *state = *state * 1664525 + 1013904223;
        to[i] = (uint8_t)(*state >> 24 & 0xbf);
        if (dtype == CLF_MXFP4 && i % 17 == 0) to[i] = (uint8_t)(125 + to[i] % 4);
        if (dtype == CLF_NF4 && i % 36 == 3) to[i] = 0x3f; /* from 0.5 on */
    }
}

static void set_value(uint8_t *to, int64_t i, clf_dtype dtype, float x) {
    const uint16_t bits = dtype == CLF_F16 ? clf_f32_to_f16(x) : clf_f32_to_bf16(x);
    if (dtype == CLF_F32)
        memcpy(to + 4 * i, &x, 4);
    else
        memcpy(to + 2 * i, &bits, 2);
}

static double value_at(const uint8_t *from, int64_t i, clf_dtype dtype) {
    float x;
    uint16_t bits;
    memcpy(&x, from + (dtype == CLF_F32 ? 4 * i : 0), 4);
    memcpy(&bits, from + (dtype == CLF_F32 ? 0 : 2 * i), 2);
    return (double)(dtype == CLF_F32 ? x : dtype == CLF_F16 ? clf_f16_to_f32(bits) : clf_bf16_to_f32(bits));
}

/* Our answer and the portable kernels' to one product: each element may be off by a share of its column's largest: of
 * the same row of w, whose scales may be small. */
static clf_status compare(clf_context *ctx, const clf_cl_product *product, const plan *p, uint8_t *ours,
                          uint8_t *right) {
    const clf_tensor *out = product->out;
    const size_t bytes = clf_dtype_bytes(out->dtype, clf_elements(out));
    memset(ours, 0xff, bytes); /* NaN */
    CLF_TRY(clf_cl_write(ctx, &out->buffer->memory, 0, ours, bytes));
    CLF_TRY(clf_nvidia_linear_run(ctx, product, p));
    CLF_TRY(clf_cl_read(ctx, &out->buffer->memory, 0, ours, bytes));
    CLF_TRY(clf_nvidia_linear_down_use(p->use) ? clf_cl_multiply_down(ctx, product) : clf_cl_multiply(ctx, product));
    CLF_TRY(clf_cl_read(ctx, &out->buffer->memory, 0, right, bytes));
    const double share = out->dtype == CLF_F32 ? 1e-5 : out->dtype == CLF_F16 ? 0.002 : 0.01;
    const int64_t n = clf_last(out), m = clf_rows(out);
    for (int64_t column = 0; column < n; column++) {
        double most = 0;
        for (int64_t i = column; i < m * n; i += n) most = fmax(most, fabs(value_at(right, i, out->dtype)));
        for (int64_t i = column; i < m * n; i += n) {
            const double got = value_at(ours, i, out->dtype), expected = value_at(right, i, out->dtype);
            if (!(fabs(got - expected) <= share * most)) return clf_cl_wrong(ctx, "linear", (int)i, expected, got);
        }
    }
    return CLF_OK;
}

/* Where the tiles of a block-sparse weight of 16 · TRIAL_PANELS rows of 16 · TRIAL_GROUPS lie. */
typedef struct lists {
    clf_tensor rows, columns, scale;
} lists;

static clf_status make_lists(lists *l, clf_context *ctx) {
    int32_t rows[TRIAL_PANELS + 1] = {0}, columns[TRIAL_TILES], count = 0;
    float scale[TRIAL_PANELS * 16];
    for (int t = 0; t < TRIAL_PANELS; t++) {
        for (int g = t % 3; t != 2 && g < TRIAL_GROUPS; g += 3) columns[count++] = g;
        rows[t + 1] = count;
    }
    for (int r = 0; r < TRIAL_PANELS * 16; r++) scale[r] = (float)(1 + r % 7) / 8;
    CLF_TRY(clf_cl_test_tensor(&l->rows, ctx, CLF_I32, 1, (int64_t[]){TRIAL_PANELS + 1}, rows));
    CLF_TRY(clf_cl_test_tensor(&l->columns, ctx, CLF_I32, 1, (int64_t[]){TRIAL_TILES}, columns));
    return clf_cl_test_tensor(&l->scale, ctx, CLF_F32, 1, (int64_t[]){TRIAL_PANELS * 16}, scale);
}

/* A product like `like`, of such dtypes, over edges of tiles. */
static clf_status test(clf_context *ctx, const clf_cl_product *like, const plan *p) {
    const bool tiles = like->tile_rows != NULL;
    const clf_dtype x_dtype = p->use == LINEAR_DECODE ? CLF_F32 : like->x->dtype, w_dtype = like->weight->dtype;
    const int64_t block = clf_dtype_block_values(w_dtype), step = block > 32 ? block : 32;
    const int64_t m = p->use == LINEAR_DECODE ? 3 : TRIAL_ROWS, across = tiles ? TRIAL_GROUPS * 16
                                                                         : clf_nvidia_linear_down_use(p->use)
                                                                             ? (TRIAL_COLUMNS + step - 1) / step * step
                                                                             : 3 * step;
    const int64_t down = clf_nvidia_linear_is_ternary(like) ? TRIAL_PANELS * 16 : TRIAL_COLUMNS,
                  n = clf_nvidia_linear_down_use(p->use) ? across : down,
                  k = clf_nvidia_linear_down_use(p->use) ? down : across;
    const clf_dtype out_dtype =
        p->parts > 1 || (p->use < LINEAR_BYTES && clf_dtype_is_block(w_dtype) && !p->codes) ? x_dtype : CLF_F32;
    const size_t x_bytes = clf_dtype_bytes(x_dtype, m * k),
                 w_bytes = tiles ? TRIAL_TILES * 64 : clf_dtype_bytes(w_dtype, down * across),
                 out_bytes = (size_t)(m * n) * 4;
    uint8_t *host = malloc(x_bytes + w_bytes + 2 * out_bytes);
    clf_tensor x = {0}, w = {0}, out = {0};
    lists l = {0};
    uint32_t state = 1;
    clf_status st;
    CLF_CHECK(&ctx->error, host, CLF_OUT_OF_MEMORY, "out of host memory");
    for (int64_t i = 0; i < m * k; i++) set_value(host, i, x_dtype, trial_x(&state, (int)(i % k)));
    if (block > 1 || tiles)
        fill_blocks(host + x_bytes, w_bytes, w_dtype, &state);
    else
        for (int64_t i = 0; i < down * across; i++) set_value(host + x_bytes, i, w_dtype, trial_x(&state, 1));
    CLF_TRY_GOTO(st, clf_cl_test_tensor(&x, ctx, x_dtype, 2, (int64_t[]){m, k}, host));
    CLF_TRY_GOTO(st, clf_cl_test_tensor(&w, ctx, w_dtype, tiles ? 1 : 2,
                                        (int64_t[]){tiles ? (int64_t)w_bytes : down, across}, host + x_bytes));
    if (tiles) CLF_TRY_GOTO(st, make_lists(&l, ctx));
    CLF_TRY_GOTO(st, clf_cl_test_tensor(&out, ctx, out_dtype, 2, (int64_t[]){m, n}, NULL));
    const clf_cl_product product = {.x = &x,
                                    .weight = &w,
                                    .tile_rows = tiles ? &l.rows : NULL,
                                    .tile_columns = tiles ? &l.columns : NULL,
                                    .row_scale = tiles ? &l.scale : NULL,
                                    .out = &out,
                                    .scale = 1,
                                    .ends_as = out_dtype};
    plan trial = *p; /* all that is aligned may also be taken as it isn't */
    trial.m = m, trial.n = n, trial.k = k;
    CLF_TRY_GOTO(st, compare(ctx, &product, &trial, host + x_bytes + w_bytes, host + x_bytes + w_bytes + out_bytes));
fail:
    clf_buffer_release(x.buffer);
    clf_buffer_release(w.buffer);
    clf_buffer_release(out.buffer);
    clf_buffer_release(l.rows.buffer);
    clf_buffer_release(l.columns.buffer);
    clf_buffer_release(l.scale.buffer);
    free(host);
    return st;
}

static clf_cl_key key_of(const clf_context *ctx, const plan *p, clf_dtype dtype) {
    const clf_cl_state *s = clf_cl(ctx);
    char name[160], options[96];
    clf_nvidia_options(ctx, CLF_BF16, options, sizeof options);
    snprintf(name, sizeof name, "linear: %d, tile %d, aligned %d, %s, %s", p->use, p->tile, p->aligned,
             clf_cl_dtype(dtype), options);
    const char *const texts[] = {name,
                                 s->identity,
                                 s->build_options,
                                 CLF_NVIDIA_WARP,
                                 clf_cl_source_text("nvidia/tile"),
                                 clf_cl_source_text("common"),
                                 clf_cl_source_text("blocks"),
                                 clf_cl_source_text("nvidia/linear"),
                                 clf_cl_source_text("nvidia/linear_bytes"),
                                 clf_cl_source_text("nvidia/linear_result"),
                                 clf_cl_source_text("nvidia/linear_ternary")};
    return clf_cl_key_of((int)(sizeof texts / sizeof *texts), texts);
}

/* One that fails in whatever way is not used. */
clf_status clf_nvidia_linear_try(uint8_t *result, clf_context *ctx, const clf_cl_product *product, const plan *p) {
    clf_cl_state *s = clf_cl(ctx);
    const clf_dtype dtype = product->weight->dtype;
    const clf_cl_key key = key_of(ctx, p, dtype);
    if (clf_cl_cache_passed(ctx, key)) return *result = CLF_CL_RIGHT, CLF_OK;
    const clf_status st = test(ctx, product, p);
    *result = st == CLF_OK ? CLF_CL_RIGHT : CLF_CL_WRONG;
    if (st == CLF_OK) clf_cl_cache_pass(ctx, key);
    clf_log(ctx, st == CLF_OK ? CLF_LOG_DEBUG : CLF_LOG_WARNING, "trial of linear's kernel %s, tile %d, %s: %s",
            clf_nvidia_linear_use_name(p->use), p->tile, clf_dtype_name(dtype),
            st == CLF_OK ? "known answers are right" : ctx->error.message);
    if (st == CLF_OK || s->tensor_cores == CLF_CL_TENSOR_CORES_EMULATED || s->lost) return st;
    clf_error_clear(&ctx->error);
    return CLF_OK;
}
