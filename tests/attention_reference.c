/* attention_reference.c: attention in double, pair by pair, from the definitions in ops.h.
 *
 *     s_ij = softcap(scale · q_i·k_j) − slope·|distance| + mask        of the pairs that are seen
 *     p_ij = exp(s_ij − lse_i),  lse_i = log(exp(sink) + Σ_j exp(s_ij)),  z_ij = 1 / (1 − dropout) if kept, else 0
 *     out_i = Σ_j p_ij z_ij v_j
 *
 * and backward, with D_i = d_out_i·out_i and ds_ij = p_ij (z_ij d_out_i·v_j − D_i):
 *
 *     d_v_j = Σ_i p_ij z_ij d_out_i     d_mask = Σ ds_ij      d_slope = −Σ ds_ij |distance|     d_sink = −Σ_i exp(sink
 * − lse_i) D_i d_q_i = Σ_j g_ij k_j,  d_k_j = Σ_i g_ij q_i,  g_ij = scale · ds_ij · (1 − tanh²)
 *
 * out and lse are the rounded ones that the call gets, so that gradients are held to what can be made of them. A pair
 * that isn't seen is never touched: its key may hold anything. */
#include "attention_reference.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "philox.h"

enum { SAMPLED_ROWS = 127 }; /* of a sampled output every so many are computed */

typedef struct problem {
    const clf_attention_args *args;
    const op_tensor *q, *k, *v, *mask, *table;
    const double *slopes, *lengths, *query_starts, *key_starts, *rows, *columns, *sinks;
    double *out, *lse;
    bool sampled;
    int64_t heads, group, queries, dim, v_dim, n_sequences, row_blocks;
    double scale;
} problem;

/* A sequence: its rows of query and key, and how many of its keys are not hidden by key_lengths. */
typedef struct sequence {
    int64_t index, batch, first_query, queries, first_key, keys, visible;
} sequence;

/* What a query makes of a key. */
typedef struct pair {
    bool seen;
    double score, cap_slope, distance;
    int64_t key, value, mask; /* where in `value` of the tensors its key row, value row and mask element are */
} pair;

/* 1 / (1 − dropout), or 0 for a pair that is dropped. */
static double kept(const clf_attention_args *a, int64_t s, int64_t h, int64_t i, int64_t j) {
    if (a->dropout == 0) return 1;
    const uint32_t key[2] = {(uint32_t)a->dropout_seed, (uint32_t)(a->dropout_seed >> 32)};
    uint32_t words[4];
    philox_words((uint32_t[]){(uint32_t)(j / 4), (uint32_t)i, (uint32_t)h, (uint32_t)s}, key, words);
    return (double)words[j % 4] >= (double)a->dropout * 0x1p32 ? 1 / (1 - (double)a->dropout) : 0;
}

static problem problem_of(op_run *run) {
    problem p = {.args = attention_args(run),
                 .q = op_find(run, "query"),
                 .k = op_find(run, "key"),
                 .v = op_find(run, "value"),
                 .mask = op_find(run, "mask"),
                 .table = op_find(run, "block_table"),
                 .slopes = op_value(run, "alibi_slopes"),
                 .lengths = op_value(run, "key_lengths"),
                 .query_starts = op_value(run, "query_starts"),
                 .key_starts = op_value(run, "key_starts"),
                 .rows = op_value(run, "layout_rows"),
                 .columns = op_value(run, "layout_columns"),
                 .sinks = op_value(run, "sinks"),
                 .out = op_value(run, "out"),
                 .lse = op_value(run, "lse"),
                 .sampled = op_find(run, "out")->sampled};
    p.heads = p.q->shape[1];
    p.group = p.k->shape[1] ? p.heads / p.k->shape[1] : 1;
    p.queries = p.q->shape[2];
    p.dim = p.q->shape[3];
    p.v_dim = p.v->shape[3];
    p.n_sequences = p.query_starts ? op_find(run, "query_starts")->shape[0] - 1 : p.q->shape[0];
    p.row_blocks = p.rows ? op_find(run, "layout_rows")->shape[0] - 1 : 0;
    p.scale = p.args->scale != 0 ? (double)p.args->scale : 1 / sqrt((double)p.dim);
    return p;
}

static sequence sequence_of(const problem *p, int64_t s) {
    sequence seq = {.index = s, .batch = s, .queries = p->queries, .keys = p->k->shape[2]};
    if (p->query_starts) {
        seq.batch = 0;
        seq.first_query = (int64_t)p->query_starts[s];
        seq.queries = (int64_t)p->query_starts[s + 1] - seq.first_query;
    }
    if (p->key_starts) {
        seq.first_key = (int64_t)p->key_starts[s];
        seq.keys = (int64_t)p->key_starts[s + 1] - seq.first_key;
    }
    if (p->table) seq.keys = (int64_t)p->lengths[s];
    seq.visible = p->lengths && p->lengths[s] < (double)seq.keys ? (int64_t)p->lengths[s] : seq.keys;
    return seq;
}

/* Whether the layout has the block that query i and key j lie in. */
static bool in_layout(const problem *p, int64_t i, int64_t j) {
    if (!p->rows) return true;
    const int64_t r = i / p->args->layout_block, c = j / p->args->layout_block;
    if (r >= p->row_blocks) return false;
    for (int64_t n = (int64_t)p->rows[r]; n < (int64_t)p->rows[r + 1]; n++)
        if ((int64_t)p->columns[n] == c) return true;
    return false;
}

static double dot(const double *x, const double *y, int64_t n) {
    double s[4] = {0};
    int64_t d = 0;
    for (; d + 4 <= n; d += 4)
        for (int i = 0; i < 4; i++) s[i] += x[d + i] * y[d + i];
    for (; d < n; d++) s[0] += x[d] * y[d];
    return s[0] + s[1] + (s[2] + s[3]);
}

static pair pair_of(const problem *p, const sequence *seq, int64_t h, int64_t i, int64_t j) {
    const clf_attention_args *a = p->args;
    const int64_t position = i + seq->keys - seq->queries;
    pair x = {.distance = fabs((double)(position - j))};
    if (j >= seq->visible || (a->causal && j > position)) return x;
    if ((a->window && position - j >= a->window) || (a->window_right && j - position >= a->window_right)) return x;
    if (!in_layout(p, i, j)) return x;
    int64_t entry = seq->batch, row = seq->first_key + j;
    if (p->table) {
        const int64_t size = p->k->shape[2];
        entry = (int64_t)p->table->value[seq->index * p->table->shape[1] + j / size];
        row = j % size;
    }
    const int64_t at_row = (entry * p->k->shape[1] + h / p->group) * p->k->shape[2] + row;
    x.key = at_row * p->dim;
    x.value = at_row * p->v_dim;
    double mask = 0;
    if (p->mask) {
        const int64_t at[4] = {seq->batch, h, seq->first_query + i, p->table ? j : row}, *shape = p->mask->shape;
        for (int n = 0; n < 4; n++) x.mask = x.mask * shape[n] + (shape[n] == 1 ? 0 : at[n]);
        mask = p->mask->value[x.mask];
        if (mask == -INFINITY) return x;
    }
    const int64_t query = ((seq->batch * p->heads + h) * p->queries + seq->first_query + i) * p->dim;
    double s = p->scale * dot(p->q->value + query, p->k->value + x.key, p->dim);
    x.cap_slope = 1;
    if (a->softcap != 0) {
        const double t = tanh(s / (double)a->softcap);
        s = (double)a->softcap * t;
        x.cap_slope = 1 - t * t;
    }
    if (p->slopes) s -= p->slopes[h] * x.distance;
    x.score = s + mask;
    x.seen = true;
    return x;
}

/* Index of query i of a sequence among all rows of out. */
static int64_t row_of(const problem *p, const sequence *seq, int64_t h, int64_t i) {
    return (seq->batch * p->heads + h) * p->queries + seq->first_query + i;
}

static void *allocate(int64_t n, size_t size) {
    void *x = calloc((size_t)n + 1, size);
    if (!x) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    return x;
}

/* One row of out and its lse; `pairs` has room for all keys. */
static void forward_row(const problem *p, const sequence *seq, int64_t h, int64_t i, pair *pairs) {
    const int64_t row = row_of(p, seq, h, i);
    double *out = p->out + row * p->v_dim, max = p->sinks ? p->sinks[h] : -INFINITY;
    for (int64_t j = 0; j < seq->keys; j++) {
        pairs[j] = pair_of(p, seq, h, i, j);
        if (pairs[j].seen) max = fmax(max, pairs[j].score);
    }
    double sum = p->sinks ? exp(p->sinks[h] - max) : 0;
    for (int64_t d = 0; d < p->v_dim; d++) out[d] = 0;
    for (int64_t j = 0; j < seq->keys; j++) {
        if (!pairs[j].seen) continue;
        const double e = exp(pairs[j].score - max), weight = e * kept(p->args, seq->index, h, i, j);
        sum += e;
        for (int64_t d = 0; d < p->v_dim; d++) out[d] += weight * p->v->value[pairs[j].value + d];
    }
    for (int64_t d = 0; d < p->v_dim && sum != 0; d++) out[d] /= sum;
    if (p->lse) p->lse[row] = sum != 0 ? max + log(sum) : -INFINITY;
}

/* Calls `row` for every query of every sequence and head. */
static void for_rows(const problem *p, void (*row)(const problem *, const sequence *, int64_t h, int64_t i, pair *)) {
    for (int64_t s = 0; s < p->n_sequences; s++) {
        const sequence seq = sequence_of(p, s);
        pair *pairs = allocate(seq.keys, sizeof *pairs);
        for (int64_t h = 0; h < p->heads; h++)
            for (int64_t i = 0; i < seq.queries; i++)
                if (!p->sampled || i % SAMPLED_ROWS == 0 || i + 1 == seq.queries) row(p, &seq, h, i, pairs);
        free(pairs);
    }
}

void attention_reference(op_run *run) {
    const problem p = problem_of(run);
    const int64_t rows = p.q->shape[0] * p.heads * p.queries;
    for (int64_t i = 0; i < rows * p.v_dim; i++) p.out[i] = p.sampled ? NAN : 0;
    for (int64_t i = 0; i < rows && p.lse; i++) p.lse[i] = p.sampled ? NAN : -INFINITY;
    for_rows(&p, forward_row);
}

/* ---- backward ---- */

/* A gradient: sums, and the squares of what they are summed from. */
typedef struct gradient {
    op_tensor *t;
    double *squares;
} gradient;

typedef struct backward {
    problem p; /* first: for_rows() hands it back */
    const double *d_out;
    gradient q, k, v, sinks, mask, slopes;
} backward;

static gradient gradient_of(op_run *run, const char *name) {
    gradient g = {.t = op_find(run, name)};
    if (!g.t) return g;
    g.squares = allocate(op_elements(g.t), sizeof *g.squares);
    for (int64_t i = 0; i < op_elements(g.t); i++) g.t->value[i] = 0;
    return g;
}

static void add(const gradient *g, int64_t i, double term, double magnitude) {
    if (!g->t) return;
    g->t->value[i] += term;
    g->squares[i] += magnitude * magnitude;
}

/* The magnitude of a gradient: the root mean square of its terms, added as if they were independent. */
static void finish(const gradient *g) {
    if (!g->t) return;
    const int64_t n = op_elements(g->t);
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += g->squares[i];
    g->t->magnitude = n ? sqrt(sum / (double)n) : 0;
    free(g->squares);
}

/* √Σ(x·y)²: what the rounding errors of a dot product are measured by. */
static double dot_magnitude(const double *x, const double *y, int64_t n) {
    double s = 0;
    for (int64_t d = 0; d < n; d++) s += x[d] * y[d] * (x[d] * y[d]);
    return sqrt(s);
}

static void backward_row(const problem *p, const sequence *seq, int64_t h, int64_t i, pair *pairs) {
    (void)pairs;
    const backward *b = (const backward *)p;
    const int64_t row = row_of(p, seq, h, i), query = row * p->dim;
    const double lse = p->lse[row], *out = p->out + row * p->v_dim, *d_out = b->d_out + row * p->v_dim;
    if (lse == -INFINITY) return;
    const double d = dot(d_out, out, p->v_dim), d_magnitude = dot_magnitude(d_out, out, p->v_dim);
    if (p->sinks) {
        const double ps = exp(p->sinks[h] - lse);
        add(&b->sinks, h, -ps * d, ps * d_magnitude);
    }
    for (int64_t j = 0; j < seq->keys; j++) {
        const pair x = pair_of(p, seq, h, i, j);
        if (!x.seen) continue;
        const double *key = p->k->value + x.key, *value = p->v->value + x.value;
        const double probability = exp(x.score - lse), z = kept(p->args, seq->index, h, i, j);
        const double ds = probability * (z * dot(d_out, value, p->v_dim) - d);
        /* what the probability errs by: twice its score, since few rows average little, and half a last place, 1/8 of
         * 2.5e-7, of each that its exponent is made of */
        const double score = 2 * fabs(p->scale) * x.cap_slope * dot_magnitude(p->q->value + query, key, p->dim);
        const double exponent = score + (fabs(x.score) + fabs(lse)) / 8;
        const double ds_magnitude =
            probability * (z * dot_magnitude(d_out, value, p->v_dim) + d_magnitude) + exponent * fabs(ds);
        const double g = p->scale * x.cap_slope * ds, g_magnitude = fabs(p->scale) * x.cap_slope * ds_magnitude;
        for (int64_t n = 0; n < p->v_dim; n++)
            add(&b->v, x.value + n, probability * z * d_out[n], probability * z * d_out[n] * (1 + exponent));
        for (int64_t n = 0; n < p->dim; n++) {
            add(&b->q, query + n, g * key[n], g_magnitude * key[n]);
            add(&b->k, x.key + n, g * p->q->value[query + n], g_magnitude * p->q->value[query + n]);
        }
        add(&b->mask, x.mask, ds, ds_magnitude);
        add(&b->slopes, h, -ds * x.distance, ds_magnitude * x.distance);
    }
}

void attention_reference_backward(op_run *run) {
    const backward b = {.p = problem_of(run),
                        .d_out = op_value(run, "d_out"),
                        .q = gradient_of(run, "d_query"),
                        .k = gradient_of(run, "d_key"),
                        .v = gradient_of(run, "d_value"),
                        .sinks = gradient_of(run, "d_sinks"),
                        .mask = gradient_of(run, "d_mask"),
                        .slopes = gradient_of(run, "d_alibi_slopes")};
    for_rows(&b.p, backward_row);
    const gradient *all[] = {&b.q, &b.k, &b.v, &b.sinks, &b.mask, &b.slopes};
    for (int i = 0; i < 6; i++) finish(all[i]);
}
