/* attention.c: attention forward, with the log-sum-exp (arXiv:2205.14135): units of work, threads, and what ends a row:
 *
 *   out[row] / (sum + 2^(sink − max))      lse = max · ln 2 + ln (sum + 2^(sink − max))
 *
 * Two forms do the units: attention_few.c where reading keys and values is the cost, attention_panels.c where the
 * products are. */
#include "attention_forward.h"

typedef struct forward {
    attention a;
    clf_attention_plan plan;
} forward;

/* Keys [begin, end) that rows [row, row + rows) see between them. */
static void keys_of(const attention *a, attention_unit *u) {
    int64_t last;
    attention_sees(a, &u->s, attention_query(a, u->row), &u->begin, &last);
    attention_sees(a, &u->s, attention_query(a, u->row + u->rows - 1), &last, &u->end);
}

static attention_unit unit_of(const forward *f, int64_t block) {
    const int64_t per_group = (f->plan.rows - 1) / f->plan.block + 1, kv_heads = f->a.args->key->shape[1];
    const int64_t group = block / per_group, row = block % per_group * f->plan.block;
    const int64_t left = f->plan.rows - row;
    attention_unit u = {.s = attention_sequence_of(&f->a, group / kv_heads), .kv_head = group % kv_heads, .row = row};
    u.rows = (int)(left < f->plan.block ? left : f->plan.block);
    keys_of(&f->a, &u);
    return u;
}

static attention_partial partial_at(const forward *f, float *scratch) {
    const int64_t rows = (int64_t)f->plan.partial / (f->a.v_pitch + 2);
    return (attention_partial){scratch, scratch + rows * f->a.v_pitch, scratch + rows * (f->a.v_pitch + 1)};
}

/* An empty result with the keys [begin, end) of the unit added. */
static void run_unit(const forward *f, attention_unit u, int64_t begin, int64_t end, float *scratch, float *work) {
    const attention_partial out = partial_at(f, scratch);
    const int64_t rows = (int64_t)f->plan.partial / (f->a.v_pitch + 2);
    memset(scratch, 0, f->plan.partial * sizeof *scratch);
    for (int64_t r = 0; r < rows; r++) out.max[r] = -INFINITY;
    u.begin = begin;
    u.end = end;
    if (f->plan.few)
        attention_few(&f->a, &u, &out, work);
    else
        attention_panels(&f->a, &u, &out, work);
}

/* Adds a later part of the keys to an earlier one. */
static void merge(const forward *f, int rows, const attention_partial *into, const attention_partial *part) {
    for (int r = 0; r < rows; r++) {
        float *out = into->out + r * f->a.v_pitch;
        const float *add = part->out + r * f->a.v_pitch;
        const float max = part->max[r] > into->max[r] ? part->max[r] : into->max[r];
        const float base = max < -FLT_MAX ? 0 : max;
        const vf x = v_exp2(v_set1(into->max[r] - base)), y = v_exp2(v_set1(part->max[r] - base));
        for (int64_t d = 0; d < f->a.v_pitch; d += VL)
            v_store(out + d, v_fma(x, v_load(out + d), v_mul(y, v_load(add + d))));
        float sum[VL];
        v_store(sum, v_fma(x, v_set1(into->sum[r]), v_mul(y, v_set1(part->sum[r]))));
        into->sum[r] = *sum;
        into->max[r] = max;
    }
}

static void finish(const forward *f, const attention_unit *u, const attention_partial *part) {
    const clf_attention_args *args = f->a.args;
    const clf_dtype dtype = args->out->dtype;
    for (int r = 0; r < u->rows; r++) {
        const int64_t head = attention_head(&f->a, u, u->row + r);
        double max = (double)part->max[r], sum = (double)part->sum[r], shrink = 1;
        if (args->sinks) {
            const float *sinks = clf_data(args->sinks);
            const double sink = (double)sinks[head * args->sinks->stride[0]] * LOG2_E, top = sink > max ? sink : max;
            if (top > (double)-INFINITY) {
                shrink = exp2(max - top);
                sum = sum * shrink + exp2(sink - top);
                max = top;
            }
        }
        const vf scale = v_set1(sum == 0 ? 0 : (float)(shrink / sum));
        const float *x = part->out + r * f->a.v_pitch;
        char *out = attention_row_at(&f->a, u, args->out, u->row + r);
        const size_t bytes = dtype == CLF_F32 ? 4 : 2;
        int d = 0;
        for (; d + VL <= f->a.v_dim; d += VL) v_store_as(out + (size_t)d * bytes, v_mul(v_load(x + d), scale), dtype);
        if (d < f->a.v_dim) v_store_as_n(out + (size_t)d * bytes, v_mul(v_load(x + d), scale), f->a.v_dim - d, dtype);
        if (args->lse) {
            double lse = max / LOG2_E + log(sum); /* max is cut off at the lowest float */
            if (sum == 0) lse = -(double)INFINITY;
            if (max == -(double)FLT_MAX) lse = max;
            *(float *)(void *)attention_row_at(&f->a, u, args->lse, u->row + r) = (float)lse;
        }
    }
}

/* Split `i` of n of a unit's keys, at multiples of 64 from its first. */
static int64_t split_at(const attention_unit *u, int64_t i, int64_t n) {
    if (i == n) return u->end;
    return u->begin + (u->end - u->begin) / 64 * i / n * 64;
}

clf_status CPU_FN(attention)(clf_context *ctx, const clf_attention_args *args) {
    const int64_t *q = args->query->shape, *k = args->key->shape;
    const clf_attention_shape shape = {q[0], q[1], k[1], q[2], k[2], q[3], args->value->shape[3]};
    forward f = {.a = attention_of(args)};
    clf_buffer *buffer;
    CLF_CHECK(&ctx->error, clf_attention_plain(args), CLF_UNSUPPORTED,
              "attention: %s has no packed or paged sequences, layouts, window_right, dropout or q8_0 keys",
              ctx->backend->name);
    CLF_CHECK(&ctx->error, clf_attention_plan_make(&f.plan, &shape, ctx->threads), CLF_OUT_OF_MEMORY,
              "attention: sizes exceed 64 bits");
    if (!f.plan.blocks) return CLF_OK;
    CLF_TRY(clf_buffer_create(&buffer, ctx, f.plan.scratch, CLF_TAG_SCRATCH));
    const int64_t splits = f.plan.splits, blocks = f.plan.blocks, partial = (int64_t)f.plan.partial;
    float *const partials = buffer->memory.host;
    float *const work = partials + (splits > 1 ? blocks * splits : f.plan.threads) * partial;

#pragma omp parallel num_threads(f.plan.threads)
    {
        const int thread = omp_get_thread_num();
        float *own = work + thread * (int64_t)f.plan.work;
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < blocks * splits; i++) { /* the last blocks first: causal ones are longest there */
            const attention_unit u = unit_of(&f, blocks - 1 - i / splits);
            float *scratch = partials + (splits > 1 ? i : thread) * partial;
            run_unit(&f, u, split_at(&u, i % splits, splits), split_at(&u, i % splits + 1, splits), scratch, own);
            if (splits > 1) continue;
            const attention_partial part = partial_at(&f, scratch);
            finish(&f, &u, &part);
        }
#pragma omp for schedule(static)
        for (int64_t i = 0; i < (splits > 1 ? blocks : 0); i++) {
            const attention_unit u = unit_of(&f, blocks - 1 - i);
            const attention_partial first = partial_at(&f, partials + i * splits * partial);
            for (int64_t n = 1; n < splits; n++) {
                const attention_partial part = partial_at(&f, partials + (i * splits + n) * partial);
                merge(&f, u.rows, &first, &part);
            }
            finish(&f, &u, &first);
        }
    }
    clf_buffer_release(buffer);
    return CLF_OK;
}
