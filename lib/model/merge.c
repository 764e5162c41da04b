/* merge.c: merging with the ops that the decoder runs, so that it works on every device and for every dtype. */
#include "merge.h"

#include <stdlib.h>

#include "../core/context.h"

static clf_tensor rows_of(const clf_tensor *t, int64_t first, int64_t rows) {
    return clf_view_of(t, 2, (const int64_t[]){rows, t->shape[1]}, NULL, first * t->shape[1]);
}

static clf_status make(clf_tensor *t, clf_context *ctx, int64_t rows, int64_t columns) {
    return clf_tensor_init(
        t, ctx, &(clf_tensor_args){.dtype = CLF_F32, .ndim = 2, .shape = {rows, columns}, .tag = CLF_TAG_SCRATCH});
}

/* Aᵀ, by way of the host. */
static clf_status transpose(clf_tensor *out, const clf_tensor *a) {
    const int64_t r = a->shape[0], k = a->shape[1];
    CLF_TRY(make(out, a->ctx, k, r));
    const size_t bytes = (size_t)(r * k) * sizeof(float);
    float *from = malloc(bytes), *to = malloc(bytes);
    clf_status st = from && to ? clf_tensor_read(a, from, bytes)
                               : clf_fail(&a->ctx->error, CLF_OUT_OF_MEMORY, "adapter: out of host memory");
    if (st == CLF_OK) {
        for (int64_t i = 0; i < k; i++)
            for (int64_t j = 0; j < r; j++) to[i * r + j] = from[j * k + i];
        st = clf_tensor_write(out, to, bytes);
    }
    free(from);
    free(to);
    return st;
}

clf_status clf_merge_begin(clf_merge *m, const clf_tensor *weight, const clf_lora *lora, int64_t rows) {
    const int64_t k = weight->ndim > 1 ? clf_last(weight) : 1, n = clf_elements(weight) / k;
    *m = (clf_merge){.weight = clf_view_of(weight, 2, (const int64_t[]){n, k}, NULL, 0), .lora = lora};
    clf_status st = make(&m->tile, weight->ctx, rows, k);
    if (st == CLF_OK && lora) st = transpose(&m->a, &lora->a);
    if (st != CLF_OK) clf_merge_end(m);
    return st;
}

void clf_merge_end(clf_merge *m) {
    clf_tensor_release(&m->tile);
    clf_tensor_release(&m->a);
}

clf_status clf_merge_rows(clf_merge *m, int64_t first, int64_t rows, float *out) {
    clf_context *ctx = m->weight.ctx;
    const clf_tensor w = rows_of(&m->weight, first, rows);
    clf_tensor tile = rows_of(&m->tile, 0, rows);
    CLF_TRY(clf_convert(ctx, &(clf_convert_args){.x = &w, .out = &tile}));
    if (m->lora) {
        const clf_tensor b = rows_of(&m->lora->b, first, rows);
        CLF_TRY(clf_linear(
            ctx, &(clf_linear_args){
                     .x = &b, .weight = {&m->a}, .residual = &tile, .scale = m->lora->scale, .out = {&tile}}));
    }
    return clf_tensor_read(&tile, out, (size_t)clf_elements(&tile) * sizeof *out);
}
