/* attention.c: attention forward, with the log-sum-exp (arXiv:2205.14135): turns, units of work, threads, and what ends
 * a row:
 *
 *   out[row] / (sum + 2^(sink − max))      lse = max · ln 2 + ln (sum + 2^(sink − max))
 *
 * Two forms do the units: attention_few.c where reading keys and values is the cost, attention_panels.c where the
 * products are. Which parts of the keys a unit has depends on the lengths and the number of threads, never on timing.
 */
#include "attention_forward.h"
#include "team.h"

#include <stdlib.h>

typedef struct forward {
    attention a;
    clf_attention_plan plan;
    clf_attention_turn *turns;
    clf_attention_share *shares;
    float *waiting, *own; /* unfinished results that wait for others; of each thread: partial, work */
    int64_t units;
} forward;

static bool is_few(const forward *f, const attention_sequence *s) {
    return f->a.group * s->n_queries <= CLF_ATTENTION_FEW;
}

/* Rows and floats of a result of the sequence's. */
static int64_t result_rows(const forward *f, const attention_sequence *s) {
    return is_few(f, s) ? CLF_ATTENTION_FEW : f->plan.block;
}
static int64_t result_floats(const forward *f, const attention_sequence *s) {
    return result_rows(f, s) * (f->a.v_pitch + 2);
}
static attention_partial result_at(const forward *f, const attention_sequence *s, float *at) {
    const int64_t rows = result_rows(f, s);
    return (attention_partial){at, at + rows * f->a.v_pitch, at + rows * (f->a.v_pitch + 1)};
}
static attention_partial waiting_at(const forward *f, const clf_attention_turn *t, const attention_sequence *s,
                                    int64_t unit, int64_t part) {
    return result_at(f, s, f->waiting + t->waiting + (unit * t->parts + part) * result_floats(f, s));
}

/* The longest first, so that what comes last is short. */
static int by_cost(const void *x, const void *y) {
    const clf_attention_turn *a = x, *b = y;
    if (a->cost != b->cost) return a->cost < b->cost ? 1 : -1;
    return (a->sequence > b->sequence) - (a->sequence < b->sequence);
}

/* Keys of a part of few rows, where sequences differ: no part costs more than a quarter of a thread's share. */
static int64_t part_of_few(const forward *f, int64_t cost) {
    const int64_t share = cost / CLF_ATTENTION_FEW / (4 * (int64_t)f->plan.threads) + 1;
    return share < CLF_ATTENTION_PART ? CLF_ATTENTION_PART : share;
}

static int64_t make_turns(forward *f) {
    const clf_attention_args *args = f->a.args;
    const int64_t kv_heads = args->key->shape[1];
    const bool alike = !args->query_starts && !args->key_lengths;
    int64_t cost = 0;
    for (int64_t i = 0; i < f->plan.turns; i++) {
        const attention_sequence s = attention_sequence_of(&f->a, i);
        const int64_t rows = f->a.group * s.n_queries, least = CLF_ATTENTION_FEW;
        clf_attention_turn *t = &f->turns[i];
        *t = (clf_attention_turn){.sequence = i, .blocks = clf_attention_blocks(&f->plan, rows)};
        t->cost = kv_heads * (rows < least ? least : rows) * s.seen;
        cost += t->cost;
    }
    qsort(f->turns, (size_t)f->plan.turns, sizeof *f->turns, by_cost);
    int64_t waiting = 0;
    for (int64_t i = 0; i < f->plan.turns; i++) {
        clf_attention_turn *t = &f->turns[i];
        const attention_sequence s = attention_sequence_of(&f->a, t->sequence);
        const int64_t units = kv_heads * t->blocks, part = part_of_few(f, cost);
        t->parts = f->plan.splits;
        if (is_few(f, &s)) t->parts = alike ? clf_attention_splits(units * f->plan.turns, s.seen, f->plan.threads) : 0;
        if (is_few(f, &s) && !alike) t->parts = s.seen > part && f->plan.threads > 1 ? (s.seen + part - 1) / part : 1;
        t->units = f->units;
        t->waiting = waiting;
        f->units += units * t->parts;
        if (t->parts > 1) waiting += units * t->parts * result_floats(f, &s);
    }
    return cost;
}

/* Shares of the same cost, of `cost` in all. */
static void make_shares(forward *f, int64_t cost) {
    const int threads = f->plan.threads;
    const double each = (double)cost / threads;
    double before = 0; /* of the turns before */
    int i = 1;         /* the share that begins next */
    f->shares[0].next = 0;
    for (int64_t k = 0; k < f->plan.turns; k++) {
        const clf_attention_turn *t = &f->turns[k];
        const int64_t end = k + 1 < f->plan.turns ? t[1].units : f->units;
        for (double from; i < threads && (from = each * i - before) < (double)t->cost; i++)
            f->shares[i].next = t->units + (int64_t)((double)(end - t->units) * from / (double)t->cost);
        before += (double)t->cost;
    }
    for (; i < threads; i++) f->shares[i].next = f->units;
    for (i = 0; i < threads; i++) f->shares[i].end = i + 1 < threads ? f->shares[i + 1].next : f->units;
}

/* The next unit of the share that nobody has taken; false at its end. */
static bool take(clf_attention_share *s, int64_t *unit) {
#pragma omp atomic capture
    *unit = s->next++;
    return *unit < s->end;
}

/* Keys [begin, end) that the unit's rows see between them. */
static void keys_of(const attention *a, attention_unit *u) {
    int64_t last;
    attention_sees(a, &u->s, attention_query(a, u->row), &u->begin, &last);
    attention_sees(a, &u->s, attention_query(a, u->row + u->rows - 1), &last, &u->end);
}

/* Unit `i` of a turn with all its keys; the last blocks come first, since causal ones are longest there. */
static attention_unit unit_of(const forward *f, const clf_attention_turn *t, int64_t i) {
    const clf_attention_plan *p = &f->plan;
    attention_unit u = {.s = attention_sequence_of(&f->a, t->sequence), .kv_head = i / t->blocks};
    const int64_t block = t->blocks - 1 - i % t->blocks, each = (p->stretch - 1) / p->block + 1;
    u.row = block / each * p->stretch + block % each * p->block;
    int64_t end = block % each + 1 < each ? u.row + p->block : (block / each + 1) * p->stretch;
    if (end > f->a.group * u.s.n_queries) end = f->a.group * u.s.n_queries;
    u.rows = (int)(end - u.row);
    keys_of(&f->a, &u);
    return u;
}

static const clf_attention_turn *turn_of(const forward *f, int64_t unit) {
    int64_t low = 0, high = f->plan.turns; /* the last whose units begin at or before it */
    while (high - low > 1) {
        const int64_t middle = (low + high) / 2;
        if (f->turns[middle].units <= unit)
            low = middle;
        else
            high = middle;
    }
    return &f->turns[low];
}

/* Split `i` of n of a unit's keys, at multiples of 64 from its first. */
static int64_t split_at(const attention_unit *u, int64_t i, int64_t n) {
    if (i == n) return u->end;
    return u->begin + (u->end - u->begin) / 64 * i / n * 64;
}

/* An empty result with part `i` of n of the unit's keys added. */
static void run_unit(const forward *f, const attention_unit *unit, const attention_unit *after, int64_t i, int64_t n,
                     const attention_partial *out, float *work) {
    attention_unit u = *unit;
    u.begin = split_at(unit, i, n);
    u.end = split_at(unit, i + 1, n);
    const int padded = (u.rows + CLF_ATTENTION_LANES - 1) / CLF_ATTENTION_LANES * CLF_ATTENTION_LANES;
    for (int r = 0; r < padded; r++) {
        out->max[r] = -INFINITY;
        out->sum[r] = 0;
        memset(out->out + r * f->a.v_pitch, 0, (size_t)f->a.v_pitch * sizeof(float));
    }
    if (is_few(f, &u.s))
        attention_few(&f->a, &u, out, work);
    else
        attention_panels(&f->a, &u, after, out, work);
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

static void finish_row(const forward *f, const float *x, float scale, char *out) {
    const clf_dtype dtype = f->a.args->out->dtype;
    const int bytes = (int)cpu_bytes(dtype), dim = f->a.v_dim;
    int d = 0;
    for (; d + VL <= dim; d += VL) v_store_as(out + d * bytes, v_mul(v_load(x + d), v_set1(scale)), dtype);
    if (d < dim) v_store_as_n(out + d * bytes, v_mul(v_load(x + d), v_set1(scale)), dim - d, dtype);
}

static void finish(const forward *f, const attention_unit *u, const attention_partial *part) {
    const clf_attention_args *args = f->a.args;
    attention_row at = attention_row_of(&f->a, u, u->row);
    for (int r = 0; r < u->rows; r++, attention_row_next(&at)) {
        double max = (double)part->max[r], sum = (double)part->sum[r], shrink = 1;
        if (args->sinks) {
            const float *sinks = clf_data(args->sinks);
            const double sink = (double)sinks[at.head * args->sinks->stride[0]] * LOG2_E, top = sink > max ? sink : max;
            if (top > (double)-INFINITY) {
                shrink = exp2(max - top);
                sum = sum * shrink + exp2(sink - top);
                max = top;
            }
        }
        const double scale = sum == 0 ? 0 : shrink / sum / (1 - (double)args->dropout);
        finish_row(f, part->out + r * f->a.v_pitch, (float)scale, attention_row_at(u, args->out, &at));
        if (args->lse) {
            double lse = max / LOG2_E + log(sum); /* max is cut off at the lowest float */
            if (sum == 0) lse = -(double)INFINITY;
            if (max == -(double)FLT_MAX) lse = max;
            *(float *)(void *)attention_row_at(u, args->lse, &at) = (float)lse;
        }
    }
}

/* Rows of packed queries that belong to no sequence. */
static void clear_rest(const forward *f) {
    const clf_attention_args *args = f->a.args;
    const int64_t *shape = args->out->shape;
    for (int64_t i = args->query_starts ? attention_index(args->query_starts, f->a.sequences) : shape[2]; i < shape[2];
         i++)
        for (int64_t h = 0; h < shape[1]; h++) {
            memset(attention_at(args->out, 0, h, i), 0, clf_dtype_bytes(args->out->dtype, shape[3]));
            if (args->lse) *(float *)(void *)attention_at(args->lse, 0, h, i) = -INFINITY;
        }
}

static void run_share(const forward *f, clf_attention_share *share, float *own) {
    for (int64_t i; take(share, &i);) {
        const clf_attention_turn *turn = turn_of(f, i);
        const int64_t unit = (i - turn->units) / turn->parts, part = (i - turn->units) % turn->parts;
        const attention_unit u = unit_of(f, turn, unit);
        const attention_partial out = turn->parts > 1 ? waiting_at(f, turn, &u.s, unit, part) : result_at(f, &u.s, own);
        attention_unit after = {.rows = 0};
        if (f->a.args->layout_rows && unit + 1 < turn->blocks * f->a.args->key->shape[1])
            after = unit_of(f, turn, unit + 1);
        run_unit(f, &u, &after, part, turn->parts, &out, own + f->plan.partial);
        if (turn->parts == 1) finish(f, &u, &out);
    }
}

/* What thread t does. Where one alone was planned it may belong to a team that isn't ours: it must wait for nobody. */
static void run_turns(const forward *f, int t) {
    const clf_attention_plan *p = &f->plan;
    for (int i = 0; i < p->threads; i++)
        run_share(f, &f->shares[(t + i) % p->threads], f->own + t * (p->partial + p->work));
    if (p->threads == 1) return; /* no turn has parts */
#pragma omp barrier
    for (const clf_attention_turn *turn = f->turns; turn < f->turns + p->turns; turn++) {
        if (turn->parts == 1) continue;
#pragma omp for schedule(static) nowait
        for (int64_t unit = 0; unit < turn->blocks * f->a.args->key->shape[1]; unit++) {
            const attention_unit u = unit_of(f, turn, unit);
            const attention_partial first = waiting_at(f, turn, &u.s, unit, 0);
            for (int64_t i = 1; i < turn->parts; i++) {
                const attention_partial part = waiting_at(f, turn, &u.s, unit, i);
                merge(f, u.rows, &first, &part);
            }
            finish(f, &u, &first);
        }
    }
}

clf_status CPU_FN(attention)(clf_context *ctx, const clf_attention_args *args) {
    const clf_attention_shape shape = clf_attention_shape_of(args);
    forward f = {.a = attention_of(args)};
    clear_rest(&f);
    if (!f.a.sequences) return CLF_OK;
    CLF_CHECK(&ctx->error, clf_attention_plan_make(&f.plan, &shape, ctx->threads), CLF_OUT_OF_MEMORY,
              "attention: sizes exceed 64 bits");
    if (!f.plan.scratch) return CLF_OK;
    clf_buffer *buffer;
    CLF_TRY(clf_buffer_create(&buffer, ctx, f.plan.scratch, CLF_TAG_SCRATCH));
    f.shares = buffer->memory.host;
    f.waiting = (float *)(void *)(f.shares + f.plan.threads);
    f.own = f.waiting + f.plan.waiting;
    f.turns = (clf_attention_turn *)(void *)(f.own + f.plan.threads * (f.plan.partial + f.plan.work));
    make_shares(&f, make_turns(&f));
    CPU_TEAM(f.plan.threads, t, n, run_turns(&f, t));
    clf_buffer_release(buffer);
    return CLF_OK;
}
