/* quantize_tensor.c: one tensor, tile by tile: source → floats → its new dtype → floats again, which are compared with
 * the first. Tiles are as large as caches like them; the source's pages are let go of behind them. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../core/context.h"
#include "packed.h"
#include "quantize.h"
#include "source.h"

enum { TILE = 1 << 18 /* weights */ };

/* Rows that have to stay in one tile. */
static int64_t rows_together(const clf_quantize_item *item) {
    if (clf_dtype_is_interleaved(item->source->dtype) || clf_dtype_is_interleaved(item->out.dtype))
        return CLF_PANEL_ROWS;
    return item->head_dim ? item->head_dim : 1;
}
static int64_t columns_of(const clf_quantize_item *item) {
    if (item->out.ndim > 1) return item->out.shape[item->out.ndim - 1];
    return item->head_dim ? 1 : clf_file_elements(&item->out); /* a bias has rows of its matrix */
}

static clf_status make(clf_tensor *t, clf_context *ctx, int64_t n) {
    return clf_tensor_init(t, ctx, &(clf_tensor_args){.ndim = 1, .shape = {n}, .tag = CLF_TAG_SCRATCH});
}

clf_status clf_quantize_stream_begin(clf_quantize_stream *s, clf_context *ctx, clf_gguf_writer *writer,
                                     const clf_quantize_item *items, int64_t count) {
    *s = (clf_quantize_stream){.ctx = ctx, .writer = writer, .capacity = TILE};
    for (int64_t i = 0; i < count; i++) {
        const int64_t least = rows_together(&items[i]) * columns_of(&items[i]);
        if (least > s->capacity) s->capacity = least;
    }
    CLF_TRY(make(&s->weights, ctx, s->capacity));
    CLF_TRY(make(&s->written, ctx, s->capacity));
    return make(&s->decoded, ctx, s->capacity);
}

void clf_quantize_stream_end(clf_quantize_stream *s) {
    clf_tensor_release(&s->weights);
    clf_tensor_release(&s->written);
    clf_tensor_release(&s->decoded);
}

/* [rows, columns] of a dtype over memory that is somebody else's. */
static clf_status wrap(clf_tensor *t, clf_context *ctx, clf_dtype dtype, int64_t rows, int64_t columns,
                       const void *data) {
    return clf_tensor_init(
        t, ctx,
        &(clf_tensor_args){.dtype = dtype, .ndim = 2, .shape = {rows, columns}, .data = (void *)(uintptr_t)data});
}

/* One tile. */
typedef struct tile {
    const clf_quantize_item *item;
    int64_t first, rows, columns;
    const void *source;                       /* its rows */
    clf_tensor in, weights, written, decoded; /* [rows, columns] */
} tile;

static void release(tile *t) {
    clf_tensor_release(&t->in);
    clf_tensor_release(&t->weights);
    clf_tensor_release(&t->written);
    clf_tensor_release(&t->decoded);
}

static clf_status wrap_all(clf_quantize_stream *s, tile *t) {
    const clf_file_tensor *from = t->item->source;
    const bool aligned = from->dtype != CLF_F32 || (uintptr_t)t->source % sizeof(float) == 0;
    if (!aligned) /* by way of what isn't needed yet */
        t->source = memcpy(clf_data(&s->decoded), t->source, clf_dtype_bytes(from->dtype, t->rows * t->columns));
    CLF_TRY(wrap(&t->in, s->ctx, from->dtype, t->rows, t->columns, t->source));
    CLF_TRY(wrap(&t->weights, s->ctx, CLF_F32, t->rows, t->columns, clf_data(&s->weights)));
    CLF_TRY(wrap(&t->written, s->ctx, t->item->out.dtype, t->rows, t->columns, clf_data(&s->written)));
    return wrap(&t->decoded, s->ctx, CLF_F32, t->rows, t->columns, clf_data(&s->decoded));
}

static clf_status convert(clf_quantize_stream *s, const clf_tensor *x, const clf_tensor *importance, clf_tensor *out) {
    return clf_convert(s->ctx, &(clf_convert_args){.x = x, .importance = importance, .out = out});
}

/* The source's rows as floats, in the order in which they are written: of a head whose halves are paired, row i of the
 * first half and row i of the second become neighbours. */
static clf_status read_weights(clf_quantize_stream *s, tile *t) {
    const int64_t k = t->columns, half = t->item->head_dim / 2;
    if (half) {
        const int64_t shape[] = {t->rows / (2 * half), half, 2, k}, halves[] = {2 * half * k, k, half * k, 1};
        const clf_tensor in = clf_view_of(&t->in, 4, shape, halves, 0);
        clf_tensor out = clf_view_of(&t->weights, 4, shape, NULL, 0);
        CLF_TRY(convert(s, &in, NULL, &out));
    } else {
        CLF_TRY(convert(s, &t->in, NULL, &t->weights));
    }
    float *w = clf_data(&t->weights);
    if (t->item->offset != 0)
        for (int64_t i = 0; i < t->rows * k; i++) w[i] += t->item->offset;
    return CLF_OK;
}

static clf_status encode(clf_quantize_stream *s, tile *t) {
    const clf_importance_entry *i = t->item->importance;
    if (t->item->repacked) return convert(s, &t->in, NULL, &t->written);
    if (!i || !clf_dtype_is_block(t->item->out.dtype)) return convert(s, &t->weights, NULL, &t->written);
    clf_tensor importance = {0};
    clf_status st =
        clf_tensor_init(&importance, s->ctx, &(clf_tensor_args){.ndim = 1, .shape = {i->columns}, .data = i->mean});
    if (st == CLF_OK) st = convert(s, &t->weights, &importance, &t->written);
    clf_tensor_release(&importance);
    return st;
}

/* Names the first weight that isn't finite, as read or as written. */
static clf_status fail_not_finite(clf_quantize_stream *s, const tile *t, int64_t at) {
    const clf_file_tensor *out = &t->item->out;
    const int64_t row = t->first + at / t->columns, column = at % t->columns;
    const double weight = (double)((const float *)clf_data(&t->weights))[at];
    clf_error_clear(&s->ctx->error);
    if (isfinite(weight))
        return clf_fail(&s->ctx->error, CLF_NOT_FINITE, "tensor %s: [%" PRId64 ", %" PRId64 "]: %g is infinite as %s",
                        out->name, row, column, weight, clf_dtype_name(out->dtype));
    return clf_fail(&s->ctx->error, CLF_NOT_FINITE,
                    "tensor %s: [%" PRId64 ", %" PRId64 "]: expected a finite number, got %g", out->name, row, column,
                    weight);
}

static clf_status compare(clf_quantize_stream *s, const tile *t, const clf_tensor *got, clf_weight_error *error) {
    int64_t at;
    const bool finite =
        clf_weight_error_add(error, clf_data(&t->weights), clf_data(got), t->rows * t->columns, s->ctx->threads, &at);
    return finite ? CLF_OK : fail_not_finite(s, t, at);
}

/* An infinity or NaN is named here, as clf_convert() knows neither tensor nor row; where all weights are finite it is a
 * scale that a half can't hold, and its own message says which. */
static clf_status change(clf_quantize_stream *s, tile *t, clf_weight_error *error) {
    const float *w = clf_data(&t->weights);
    clf_status st = encode(s, t);
    if (st == CLF_NOT_FINITE)
        for (int64_t i = 0; i < t->rows * t->columns; i++)
            if (!isfinite(w[i])) return fail_not_finite(s, t, i);
    if (st == CLF_OK) st = convert(s, &t->written, NULL, &t->decoded);
    if (st != CLF_OK) return clf_fail_in(&s->ctx->error, "tensor %s", t->item->out.name);
    return compare(s, t, &t->decoded, error);
}

static clf_status write_tile(clf_quantize_stream *s, tile *t, int64_t index, clf_weight_error *error) {
    const clf_quantize_item *item = t->item;
    const bool same = item->source->dtype == item->out.dtype && !item->head_dim && item->offset == 0;
    CLF_TRY(wrap_all(s, t));
    CLF_TRY(read_weights(s, t));
    CLF_TRY(same ? compare(s, t, &t->weights, error) : change(s, t, error));
    return clf_gguf_write_data(s->writer, index, same ? t->source : clf_data(&t->written),
                               clf_dtype_bytes(item->out.dtype, t->rows * t->columns), &s->ctx->error);
}

/* Where the source's rows lie; packed ones are put together in `unpacked`. */
static clf_status find_rows(tile *t, void *unpacked, clf_error *err) {
    const clf_file_tensor *from = t->item->source;
    t->source =
        from->packed ? unpacked : (const char *)from->data + clf_dtype_bytes(from->dtype, t->first * t->columns);
    return from->packed ? clf_packed_rows(unpacked, from, t->first, t->rows, err) : CLF_OK;
}

clf_status clf_quantize_write(clf_quantize_stream *s, const clf_quantize_item *item, int64_t index,
                              clf_weight_error *error) {
    const clf_file_tensor *from = item->source;
    const int64_t columns = columns_of(item), rows = clf_file_elements(from) / columns, together = rows_together(item);
    const int64_t most = s->capacity / (columns * together) * together;
    void *unpacked = from->packed ? malloc(clf_dtype_bytes(from->dtype, most * columns)) : NULL;
    CLF_CHECK(&s->ctx->error, unpacked || !from->packed, CLF_OUT_OF_MEMORY, "tensor %s: out of host memory",
              from->name);
    clf_status st = CLF_OK;
    for (int64_t first = 0; first < rows && st == CLF_OK; first += most) {
        tile t = {.item = item, .first = first, .rows = rows - first < most ? rows - first : most, .columns = columns};
        st = find_rows(&t, unpacked, &s->ctx->error);
        if (st == CLF_OK) st = write_tile(s, &t, index, error);
        release(&t);
    }
    free(unpacked);
    clf_source_forget(from->data, from->nbytes);
    return st;
}
