/* attention_backward.c: attention's backward pass: who does which block of queries (attention_backward_block.c), and
 * what becomes of the threads' sums. Shares are fixed, and sums are added in the order of the threads: the same threads
 * give the same bits. */
#include "attention_backward.h"

#include "attention_tile.h"

static attention_scratch carve(const attention_backward *b, const clf_attention_backward_plan *plan, char *memory,
                               int thread) {
    enum { BLOCK = ATTENTION_BLOCK, STEP = ATTENTION_STEP, TILE = BLOCK * STEP };
    const int64_t pitch = b->a.pitch, v_pitch = b->a.v_pitch, keys = b->a.args->key->shape[2];
    const int64_t wide = CLF_ATTENTION_PANEL - 1, q = (pitch + wide) / (wide + 1) * (wide + 1) * BLOCK,
                  g = (v_pitch + wide) / (wide + 1) * (wide + 1) * BLOCK;
    attention_scratch t;
    t.sinks = (double *)(void *)(memory + (uint64_t)thread * (plan->scratch / (uint64_t)plan->threads));
    t.slopes = t.sinks + plan->head_sums;
    t.d_key = (float *)(t.slopes + plan->head_sums);
    t.d_value = t.d_key + keys * pitch;
    t.mask_sums = t.d_value + keys * v_pitch;
    t.q_columns = t.mask_sums + plan->mask_sums;
    t.q_panels = t.q_columns + q;
    t.g_columns = t.q_panels + q;
    t.g_panels = t.g_columns + g;
    t.d_query = t.g_panels + g;
    t.p = t.d_query + BLOCK * pitch;
    t.ds = t.p + TILE;
    t.bend = t.ds + TILE;
    t.bias = t.bend + TILE;
    t.keep = t.bias + TILE;
    t.k = t.keep + TILE;
    t.v = t.k + STEP * pitch;
    t.base = t.v + STEP * v_pitch;
    t.delta = t.base + BLOCK;
    return t;
}

static void clear_sums(const clf_attention_backward_plan *plan, const attention_scratch *t) {
    memset(t->d_key, 0, (plan->sums + plan->mask_sums) * sizeof *t->d_key);
}

/* Where blocks of queries are dealt out: there and back, since with causality later ones are longer. */
static bool mine(int64_t block, int thread, int threads) {
    const int64_t i = block % (2 * (int64_t)threads);
    return (i < threads ? i : 2 * threads - 1 - i) == thread;
}

/* The blocks of a unit that are this thread's of those that share it. With d_mask the same queries are always its own,
 * whatever the head. */
static void run_unit(const attention_backward *b, const clf_attention_backward_plan *plan, int64_t unit,
                     const attention_scratch *t, int thread, int threads) {
    const clf_attention_args *args = b->a.args;
    const int64_t kv_heads = args->key->shape[1], batch = unit / kv_heads, layout = args->layout_block;
    const int64_t first = args->query_starts ? 0 : batch, last = args->query_starts ? b->a.sequences : batch + 1;
    int64_t block = 0;
    for (int64_t h = 0; h < b->a.group; h++) {
        attention_block q = {.head = unit % kv_heads * b->a.group + h};
        if (b->args->d_mask) block = 0;
        for (int64_t s = first; s < last; s++) {
            q.s = attention_sequence_of(&b->a, s);
            for (q.query = 0; q.query < q.s.n_queries; q.query += q.rows) {
                const int64_t left = q.s.n_queries - q.query;
                q.rows = left < plan->rows ? (int)left : plan->rows;
                if (layout && q.rows > layout - q.query % layout) q.rows = (int)(layout - q.query % layout);
                if (mine(block++, thread, threads)) attention_backward_block(b, &q, t);
            }
        }
    }
}

/* Adds what lies `apart` floats apart, one of each thread, to the first. */
static void add_threads(float *sums, int64_t n, int64_t apart, int threads) {
    for (int thread = 1; thread < threads; thread++)
        for (int64_t i = 0; i < n; i++) sums[i] += sums[thread * apart + i];
}

/* Writes keys [begin, end) of a unit from sums of `threads` threads, of which t is the first. */
static void finish_keys(const attention_backward *b, int64_t unit, const attention_scratch *t, int64_t begin,
                        int64_t end, int64_t apart, int threads) {
    const clf_attention_backward_args *args = b->args;
    const int64_t kv_heads = b->a.args->key->shape[1], batch = unit / kv_heads, head = unit % kv_heads;
    for (int64_t j = begin; j < end; j++) {
        if (args->d_key) {
            float *sums = t->d_key + j * b->a.pitch;
            add_threads(sums, b->a.dim, apart, threads);
            tile_store(attention_at(args->d_key, batch, head, j), args->d_key->dtype, sums, b->a.dim, b->a.args->scale);
        }
        if (args->d_value) {
            float *sums = t->d_value + j * b->a.v_pitch;
            add_threads(sums, b->a.v_dim, apart, threads);
            tile_store(attention_at(args->d_value, batch, head, j), args->d_value->dtype, sums, b->a.v_dim, 1);
        }
    }
}

/* Adds the sums of d_mask over a unit's queries: keys [begin, end) of the mask. */
static void finish_mask(const attention_backward *b, int64_t unit, const attention_scratch *t, int64_t begin,
                        int64_t end, int64_t apart, int threads) {
    const clf_tensor *m = b->args->d_mask;
    const int64_t kv_heads = b->a.args->key->shape[1], keys = b->a.args->key->shape[2];
    for (int64_t h = 0; h < (m->shape[1] > 1 ? b->a.group : 1); h++) {
        const int64_t head = m->shape[1] > 1 ? unit % kv_heads * b->a.group + h : 0;
        float *to = (float *)(void *)attention_at(m, m->shape[0] > 1 ? unit / kv_heads : 0, head, 0);
        for (int64_t j = begin; j < end && j < m->shape[3]; j++) {
            float *sum = t->mask_sums + h * keys + j;
            add_threads(sum, 1, apart, threads);
            to[j] += *sum;
        }
    }
}

/* out[head] = the sums of all threads and batches. */
static void finish_heads(const clf_tensor *out, const double *sums, int64_t batches, int64_t apart, int threads) {
    for (int64_t h = 0; out && h < out->shape[0]; h++) {
        double sum = 0;
        for (int thread = 0; thread < threads; thread++)
            for (int64_t i = 0; i < batches; i++) sum += sums[thread * apart + i * out->shape[0] + h];
        ((float *)clf_data(out))[h * out->stride[0]] = (float)sum;
    }
}

/* Rows of no sequence have no gradient, and d_mask is added to. */
static void clear_outputs(const attention_backward *b) {
    const clf_tensor *starts = b->a.args->query_starts, *d_query = b->args->d_query, *d_mask = b->args->d_mask;
    if (starts && d_query) {
        const int64_t used = attention_index(starts, starts->shape[0] - 1), *shape = d_query->shape;
        for (int64_t i = 0; i < shape[1] * (shape[2] - used); i++) {
            char *row = attention_at(d_query, 0, i % shape[1], used + i / shape[1]);
            memset(row, 0, (size_t)shape[3] * cpu_bytes(d_query->dtype));
        }
    }
    for (int64_t i = 0; d_mask && i < clf_rows(d_mask); i++)
        memset(clf_row(d_mask, i), 0, (size_t)d_mask->shape[3] * sizeof(float));
}

clf_status CPU_FN(attention_backward)(clf_context *ctx, const clf_attention_backward_args *args) {
    const clf_attention_args *f = &args->forward;
    const clf_attention_shape shape = clf_attention_shape_of(f);
    const attention_backward b = {.a = attention_of(f),
                                  .args = args,
                                  .scores = args->d_query || args->d_key || args->d_mask || args->d_alibi_slopes,
                                  .mask_sums = args->d_mask && args->d_mask->shape[2] == 1};
    clf_attention_backward_plan plan;
    clf_buffer *buffer;
    CLF_CHECK(&ctx->error, clf_attention_backward_plan_make(&plan, &shape, args->d_mask, ctx->threads),
              CLF_OUT_OF_MEMORY, "attention_backward: sizes exceed 64 bits");
    CLF_TRY(clf_buffer_create(&buffer, ctx, plan.scratch, CLF_TAG_SCRATCH));
    const int64_t apart = (int64_t)(plan.scratch / (uint64_t)plan.threads / sizeof(float));
    const attention_scratch first = carve(&b, &plan, buffer->memory.host, 0);
    clear_outputs(&b);
    int threads = 1; /* those that come, not those asked for */

#pragma omp parallel num_threads(plan.threads)
    {
        const int thread = omp_get_thread_num();
        const attention_scratch t = carve(&b, &plan, buffer->memory.host, thread);
        memset(t.sinks, 0, 2 * plan.head_sums * sizeof *t.sinks);
#pragma omp single
        threads = omp_get_num_threads();
#pragma omp for schedule(dynamic)
        for (int64_t unit = 0; unit < plan.alone; unit++) {
            clear_sums(&plan, &t);
            run_unit(&b, &plan, unit, &t, 0, 1);
            finish_keys(&b, unit, &t, 0, shape.keys, 0, 1);
        }
        for (int64_t unit = plan.alone; unit < plan.units; unit++) {
            int64_t begin, end;
            cpu_share(shape.keys, thread, threads, &begin, &end);
            clear_sums(&plan, &t);
            run_unit(&b, &plan, unit, &t, thread, threads);
#pragma omp barrier
            finish_keys(&b, unit, &first, begin, end, apart, threads);
            if (b.mask_sums) finish_mask(&b, unit, &first, begin, end, apart, threads);
#pragma omp barrier
        }
    }
    finish_heads(args->d_sinks, first.sinks, shape.batch, apart / 2, threads);
    finish_heads(args->d_alibi_slopes, first.slopes, shape.batch, apart / 2, threads);
    clf_buffer_release(buffer);
    return CLF_OK;
}
