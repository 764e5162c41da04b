/* rope.c: the launcher of rope.cl. The frequencies of the last few kinds of call stay on the device. */
#include "cl.h"

#include <stdlib.h>
#include <string.h>

#include "../lib/ops/rope_frequencies.h"

enum { LOCAL = 64 };

/* `turns` on the device; found among the last ones, or written in place of the oldest. */
static clf_status get_table(const clf_memory **out, clf_context *ctx, const uint64_t *turns, int64_t n) {
    clf_cl_state *s = clf_cl(ctx);
    *out = NULL;
    if (!n) return CLF_OK;
    const size_t bytes = (size_t)n * sizeof *turns;
    for (int i = 0; i < CLF_CL_ROPE_TABLES; i++)
        if (s->rope[i].n == n && !memcmp(s->rope[i].turns, turns, bytes))
            return *out = &s->rope[i].buffer->memory, CLF_OK;
    uint64_t *copy = malloc(bytes);
    CLF_CHECK(&ctx->error, copy, CLF_OUT_OF_MEMORY, "out of host memory");
    clf_buffer *buffer;
    clf_status st = clf_buffer_create(&buffer, ctx, bytes, CLF_TAG_OTHER);
    if (st != CLF_OK) return free(copy), st;
    st = clf_cl_write(ctx, &buffer->memory, 0, turns, bytes);
    if (st != CLF_OK) return clf_buffer_release(buffer), free(copy), st;
    clf_cl_rope_table *table = &s->rope[s->rope_next];
    s->rope_next = (s->rope_next + 1) % CLF_CL_ROPE_TABLES;
    clf_buffer_release(table->buffer);
    free(table->turns);
    *table = (clf_cl_rope_table){buffer, memcpy(copy, turns, bytes), n};
    return *out = &table->buffer->memory, CLF_OK;
}

clf_status clf_rope_opencl(clf_context *ctx, const clf_rope_args *args) {
    const clf_tensor *x = args->x, *positions = args->positions;
    if (!clf_elements(x)) return CLF_OK;
    const int64_t n = clf_last(x), half_dims = (args->n_dims ? args->n_dims : n) / 2;
    uint64_t *turns = malloc((size_t)(half_dims + 1) * sizeof *turns);
    CLF_CHECK(&ctx->error, turns, CLF_OUT_OF_MEMORY, "out of host memory");
    float magnitude;
    clf_rope_frequencies(args, n, turns, &magnitude);
    const clf_memory *table = NULL;
    const clf_status st = get_table(&table, ctx, turns, half_dims);
    free(turns);
    CLF_TRY(st);

    cl_long2 stride = {{0, 0}}; /* batch, seq */
    if (positions) stride.s[1] = positions->stride[positions->ndim - 1];
    if (positions && positions->ndim == 2) stride.s[0] = positions->stride[0];
    clf_cl_call call;
    CLF_TRY(clf_cl_begin(&call, ctx, "rope", "rope", "-DT=%s", clf_cl_dtype(x->dtype)));
    clf_cl_tensor(&call, x);
    clf_cl_tensor(&call, args->out);
    clf_cl_memory(&call, positions ? &positions->buffer->memory : NULL);
    clf_cl_long(&call, positions ? clf_cl_offset(positions) : 0);
    clf_cl_value(&call, sizeof stride, &stride);
    clf_cl_long(&call, args->position);
    clf_cl_memory(&call, table);
    clf_cl_int(&call, half_dims);
    clf_cl_int(&call, args->pairing == CLF_ROPE_INTERLEAVED);
    clf_cl_float(&call, magnitude);
    clf_cl_int(&call, args->inverse);
    clf_cl_shape(&call, x);
    clf_cl_int(&call, n);
    return clf_cl_run(&call, (size_t[3]){(size_t)clf_rows(x), 1, 1}, LOCAL);
}
