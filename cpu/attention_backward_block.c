/* attention_backward_block.c: a block of queries of one head against the keys that it sees, a step at a time
 * (arXiv:2205.14135, algorithm 4). P is recomputed from lse; everything is transposed, with queries along the lanes:
 *
 *   P[j][i]  = 2^(k_j · q_i − base_i)             base = lse · log2 e
 *   dS[j][i] = P[j][i] (v_j · dO_i − delta_i)     delta = Σ_d dO · out
 *   d_value[j] += Σ_i P[j][i] dO_i      d_key[j] += Σ_i dS[j][i] q_i      d_query[i] += Σ_j dS[j][i] k_j
 *
 * A soft cap c makes dS · (1 − tanh²) of dS; what P is multiplied by in dropout multiplies v · dO and then P. The scale
 * is left to whoever writes d_query and d_key. */
#include "attention_backward_step.h"

/* Beyond it lse is so coarse that it may have lost the logarithm of the sum, as where a mask of −FLT_MAX is all that a
 * query sees: the sum is then taken again. */
static const float lse_coarse = 1024;

/* The next step of keys; false at the end. */
static bool next_step(const attention *a, const attention_block *q, const attention_sights *all,
                      const attention_scratch *t, attention_walk *walk, attention_step *s) {
    const clf_tensor *key = a->args->key, *value = a->args->value;
    const int64_t kv_head = q->head / a->group;
    s->n = (int)attention_walk_on(walk, STEP, &s->key);
    if (s->n == 0) return false;
    s->k =
        tile_rows(key, attention_key_at(key, &q->s, kv_head, s->key), s->n, a->dim, true, a->pitch, t->k, &s->k_stride);
    s->v = tile_rows(value, attention_key_at(value, &q->s, kv_head, s->key), s->n, a->v_dim, false, a->v_pitch, t->v,
                     &s->v_stride);
    step_look(s, q, all);
    for (int i = 0; a->biased && i < (q->rows + VL - 1) / VL * VL; i++) { /* lanes beyond the queries as the last one */
        const int64_t query = q->query + (i < q->rows ? i : q->rows - 1);
        attention_bias(a, &q->s, q->head, query, s->key, s->n, t->bias + i, BLOCK);
    }
    return true;
}

static attention_walk walk_of(const attention *a, const attention_block *q, const attention_sights *all) {
    return attention_walk_of(a, q->query, all->first[0], all->end[q->rows - 1]);
}

/* What dropout multiplies P by. */
static void fill_keep(const attention *a, const attention_block *q, const attention_step *s,
                      const attention_scratch *t) {
    const vf kept = v_set1(1 / (1 - a->args->dropout));
    const vu least = vu_set1(a->least), head = vu_set1((uint32_t)q->head);
    for (int i = 0; i < q->rows; i += VL) {
        uint32_t query[VL];
        for (int l = 0; l < VL; l++) query[l] = (uint32_t)(q->query + i + l);
        for (int64_t quad = s->key / 4; quad * 4 < s->key + s->n; quad++) {
            vu word[4];
            attention_dropout(a, &q->s, vu_load(query), head, quad, word);
            for (int k = 0; k < 4; k++) {
                const int64_t j = quad * 4 + k - s->key;
                if (j >= 0 && j < s->n) v_store(t->keep + j * BLOCK + i, vu_keep(word[k], least, kept));
            }
        }
    }
}

/* x *= y of a step's P or dS. */
static void multiply(const attention_block *q, const attention_step *s, float *x, const float *y) {
    for (int j = 0; j < s->n; j++)
        for (int i = j * BLOCK; i < j * BLOCK + q->rows; i += VL) v_store(x + i, v_mul(v_load(x + i), v_load(y + i)));
}

/* Adds −dS · distance to the head's sum. */
static void add_slopes(const attention_block *q, const attention_step *s, const attention_scratch *t, double *slope) {
    const int64_t ahead = q->query + q->s.n_keys - q->s.n_queries - s->key;
    for (int j = 0; j < s->n; j++)
        for (int i = 0; i < q->rows; i++) {
            const int64_t distance = ahead + i - j;
            *slope -= (double)t->ds[j * BLOCK + i] * (double)(distance < 0 ? -distance : distance);
        }
}

/* Adds dS to the mask's gradient, or to the sums of it over the queries. */
static void add_mask(const attention_backward *b, const attention_block *q, const attention_step *s,
                     const attention_scratch *t) {
    const clf_tensor *m = b->args->d_mask;
    const bool heads = m->shape[1] > 1, keys = m->shape[3] > 1;
    const int64_t key = q->s.key + s->key;
    for (int i = 0; i < q->rows; i++) {
        float *to = t->mask_sums + (heads ? q->head % b->a.group : 0) * b->a.args->key->shape[2];
        if (!b->mask_sums)
            to = (float *)(void *)attention_at(m, m->shape[0] > 1 ? q->s.batch : 0, heads ? q->head : 0,
                                               q->s.query + q->query + i);
        for (int j = 0; j < s->n; j++) to[keys ? key + j : 0] += t->ds[j * BLOCK + i];
    }
}

/* Sums again the rows whose lse is coarse: base becomes the maximum, weight 1 / sum. */
static void sum_again(const attention_backward *b, const attention_block *q, const attention_sights *all,
                      const attention_scratch *t, const float *lse, double sink, float *weight) {
    double max[BLOCK], sum[BLOCK];
    for (int i = 0; i < q->rows; i++) {
        max[i] = sink;
        sum[i] = sink > -(double)INFINITY ? 1 : 0;
    }
    attention_walk walk = walk_of(&b->a, q, all);
    attention_step s;
    while (next_step(&b->a, q, all, t, &walk, &s)) {
        step_scores(b, q, &s, t, true);
        for (int i = 0; i < q->rows; i++)
            for (int j = 0; fabsf(lse[i]) >= lse_coarse && j < s.n; j++) {
                const double x = (double)t->p[j * BLOCK + i];
                if (x > max[i]) {
                    sum[i] *= exp2(max[i] - x);
                    max[i] = x;
                }
                if (x > -(double)INFINITY) sum[i] += exp2(x - max[i]);
            }
    }
    for (int i = 0; i < q->rows; i++) {
        if (fabsf(lse[i]) < lse_coarse || sum[i] == 0) continue;
        t->base[i] = (float)max[i];
        weight[i] = (float)(1 / sum[i]);
    }
}

/* Σ_d dO · out, in double: its error is all keys'. dO in columns. */
static float delta_of(const clf_tensor *out, const char *row, const float *columns, int dim) {
    double sum[VL] = {0}, all = 0;
    CPU_FOR_DTYPE(DTYPE, out->dtype, {
        for (int d = 0; d < dim; d += VL) {
            const float *g = columns + (int64_t)(d / PANEL) * BLOCK * PANEL + d % PANEL;
            float o[VL];
            v_store(o, attention_load(row, d, dim - d, DTYPE));
            for (int l = 0; l < VL; l++) sum[l] += (double)g[l] * (double)o[l];
        }
    });
    for (int l = 0; l < VL; l++) all += sum[l];
    return (float)all;
}

/* Packs q and dO; sets base and delta. P is short of a row's weight, so dO is multiplied by it: 1 but for rows that
 * were summed again, and 0, whatever dO is, for those that see no key. */
static void prepare(const attention_backward *b, const attention_block *q, const attention_sights *all,
                    const attention_scratch *t, double sink) {
    const attention *a = &b->a;
    const clf_tensor *query = a->args->query, *out = a->args->out, *d_out = b->args->d_out;
    const int64_t batch = q->s.batch, first = q->s.query + q->query;
    const int padded = (q->rows + PANEL - 1) / PANEL * PANEL;
    float lse[BLOCK], weight[BLOCK];
    bool coarse = false;
    for (int i = 0; i < padded; i++) {
        weight[i] = t->base[i] = t->delta[i] = 0;
        const char *row = i < q->rows ? attention_at(query, batch, q->head, first + i) : NULL;
        tile_columns(t->q_columns, BLOCK, i, row, query->dtype, a->dim, row ? 1 : 0);
        if (!row) continue;
        lse[i] = *(const float *)(const void *)attention_at(a->args->lse, batch, q->head, first + i);
        if (lse[i] < -FLT_MAX) continue;
        weight[i] = 1;
        t->base[i] = (float)((double)lse[i] * LOG2_E);
        coarse = coarse || fabsf(lse[i]) >= lse_coarse;
    }
    tile_panels(t->q_panels, a->pitch, t->q_columns, BLOCK, padded, a->dim, a->scale);
    if (coarse) sum_again(b, q, all, t, lse, sink, weight);
    for (int i = 0; i < padded; i++) {
        const char *row = weight[i] != 0 ? attention_at(d_out, batch, q->head, first + i) : NULL;
        tile_columns(t->g_columns, BLOCK, i, row, d_out->dtype, a->v_dim, weight[i]);
        if (!row) continue;
        t->delta[i] = delta_of(out, attention_at(out, batch, q->head, first + i), t->g_columns + i * PANEL, a->v_dim);
    }
    tile_panels(t->g_panels, a->v_pitch, t->g_columns, BLOCK, padded, a->v_dim, 1);
}

void attention_backward_block(const attention_backward *b, const attention_block *q, const attention_scratch *t) {
    const attention *a = &b->a;
    const clf_attention_backward_args *args = b->args;
    const int64_t cell = q->s.batch * a->args->query->shape[1] + q->head;
    const clf_tensor *sinks = a->args->sinks;
    const double sink =
        sinks ? (double)((const float *)clf_data(sinks))[q->head * sinks->stride[0]] * LOG2_E : -(double)INFINITY;
    attention_sights all;
    for (int i = 0; i < q->rows; i++) attention_sees(a, &q->s, q->query + i, &all.first[i], &all.end[i]);
    prepare(b, q, &all, t, sink);
    memset(t->d_query, 0, (size_t)(BLOCK * a->pitch) * sizeof *t->d_query);

    attention_walk walk = walk_of(a, q, &all);
    attention_step s;
    while (next_step(a, q, &all, t, &walk, &s)) {
        const int64_t key = q->s.key + s.key;
        if (a->least) fill_keep(a, q, &s, t);
        step_scores(b, q, &s, t, false);
        if (args->d_alibi_slopes) add_slopes(q, &s, t, t->slopes + cell);
        if (args->d_mask) add_mask(b, q, &s, t);
        if (a->cap > 0 && b->scores) multiply(q, &s, t->ds, t->bend);
        if (a->least) multiply(q, &s, t->p, t->keep);
        if (args->d_value) step_add_keys(&s, t->p, t->g_columns, a->v_dim, t->d_value + key * a->v_pitch, a->v_pitch);
        if (args->d_key) step_add_keys(&s, t->ds, t->q_columns, a->dim, t->d_key + key * a->pitch, a->pitch);
        if (args->d_query) step_add_queries(a, q, &s, t);
    }

    for (int i = 0; i < q->rows; i++) {
        if (args->d_sinks) t->sinks[cell] -= exp2(sink - (double)t->base[i]) * (double)t->delta[i];
        if (!args->d_query) continue;
        char *to = attention_at(args->d_query, q->s.batch, q->head, q->s.query + q->query + i);
        tile_store(to, args->d_query->dtype, t->d_query + i * a->pitch, a->dim, a->args->scale);
    }
}
