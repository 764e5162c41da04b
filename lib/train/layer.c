/* layer.c: the formula of layer.h and its derivative, side by side. */
#include "layer.h"

#include "../core/random.h"
#include "../model/architecture.h"

static int64_t larger(int64_t a, int64_t b) {
    return a > b ? a : b;
}

void clf_work_widths(int64_t width[CLF_WORK_COUNT], const clf_config *c, int64_t lora_rank, bool dropout) {
    const int64_t hidden = c->hidden_size, attended = clf_extent_of(CLF_EXTENT_ATTENTION, c),
                  qkv = clf_extent_of(CLF_EXTENT_QKV, c);
    width[CLF_WORK_NORMED] = width[CLF_WORK_D_NORMED] = width[CLF_WORK_D_HIDDEN] = hidden;
    width[CLF_WORK_WIDE] = larger(c->ffn_size, attended + qkv);
    width[CLF_WORK_INNER] = width[CLF_WORK_D_INNER] = CLF_LINEAR_MAX * lora_rank;
    width[CLF_WORK_DROPPED] = dropout ? larger(c->ffn_size, larger(hidden, attended)) : 0;
}

/* [T, width] at column block `*at` of a work tensor, which moves on: blocks lie one after another, each contiguous. */
static clf_tensor take(const clf_tensor *work, int64_t *at, int64_t width) {
    const int64_t n = work->shape[0];
    const clf_tensor t = clf_view_of(work, 2, (const int64_t[]){n, width}, NULL, n * *at);
    *at += width;
    return t;
}

/* [T, heads · dim] as [heads, T, dim], or with a batch of 1 before it. */
static clf_tensor heads_of(const clf_tensor *t, int ndim, int64_t heads) {
    const int64_t n = t->shape[0], width = t->shape[1], dim = width / heads;
    const int64_t shape[] = {1, heads, n, dim}, stride[] = {n * width, dim, width, 1};
    return clf_view_of(t, ndim, shape + 4 - ndim, stride + 4 - ndim, 0);
}

/* Norms */

/* [T, width] and its norms' statistics as rows of the norm: a norm per head where `heads` isn't 0. */
static clf_tensor norm_rows(const clf_tensor *t, int64_t heads) {
    const int64_t n = t->shape[0];
    return heads ? clf_view_of(t, 3, (const int64_t[]){n, heads, t->shape[1] / heads}, NULL, 0) : *t;
}
static clf_tensor norm_stat(const clf_tensor *stat, int64_t heads) {
    return clf_view_of(stat, heads ? 2 : 1, stat->shape, NULL, 0);
}

static clf_status norm(const clf_pass *p, const clf_layer *l, clf_weight id, int64_t heads, const clf_tensor *x,
                       const clf_tensor *stat, const clf_tensor *out) {
    const clf_tensor rows = norm_rows(x, heads);
    clf_tensor y = norm_rows(out, heads), rstd = stat ? norm_stat(stat, heads) : (clf_tensor){0};
    return clf_rms_norm(l->ctx, &(clf_rms_norm_args){.x = &rows,
                                                     .weight = &l->weight[id],
                                                     .weight_offset = p->model->config.norm_offset,
                                                     .eps = p->model->config.norm_eps,
                                                     .rstd = stat ? &rstd : NULL,
                                                     .out = &y});
}

static clf_status norm_backward(const clf_pass *p, const clf_layer *l, const clf_layer_gradients *g, clf_weight id,
                                int64_t heads, const clf_tensor *x, const clf_tensor *stat, const clf_tensor *d_out,
                                const clf_tensor *residual, const clf_tensor *d_x) {
    const clf_tensor rows = norm_rows(x, heads), d_rows = norm_rows(d_out, heads), rstd = norm_stat(stat, heads);
    clf_tensor d = norm_rows(d_x, heads);
    return clf_rms_norm_backward(l->ctx, &(clf_rms_norm_backward_args){.x = &rows,
                                                                       .weight = &l->weight[id],
                                                                       .weight_offset = p->model->config.norm_offset,
                                                                       .rstd = &rstd,
                                                                       .d_out = &d_rows,
                                                                       .residual = residual,
                                                                       .d_x = &d,
                                                                       .d_weight = g->weight[id]});
}

/* Products with adapters */

/* Each adapter of each block drops other elements, the same ones in every pass over the micro-batch. */
static uint64_t dropout_seed(const clf_pass *p, const clf_layer *l, clf_weight id) {
    return clf_seed_of(p->seed, (uint64_t)(l - p->model->layers) * CLF_W_MATRICES + id);
}

static clf_status drop(const clf_pass *p, const clf_layer *l, clf_weight id, const clf_tensor *x,
                       const clf_tensor *residual, clf_tensor *out) {
    return clf_dropout(
        l->ctx,
        &(clf_dropout_args){
            .x = x, .residual = residual, .probability = p->dropout, .seed = dropout_seed(p, l, id), .out = out});
}

/* The adapted ones among `count` products from `first`. */
static int adapted(const clf_pass *p, const clf_layer *l, clf_weight first, int count, int at[CLF_LINEAR_MAX]) {
    int n = 0;
    for (int i = 0; i < count && !p->base_only; i++)
        if (l->lora[first + (clf_weight)i].a.buffer) at[n++] = i;
    return n;
}

/* What adapter `id` sees of x: x, or with dropout a part of it. */
static clf_status seen(const clf_pass *p, const clf_layer *l, clf_weight id, const clf_tensor *x, clf_tensor *out) {
    *out = *x;
    if (p->dropout == 0) return CLF_OK;
    int64_t at = 0;
    *out = take(&p->work[CLF_WORK_DROPPED], &at, x->shape[1]);
    return drop(p, l, id, x, NULL, out);
}

/* inner = seen(x)·Aᵀ */
static clf_status shrink(const clf_pass *p, const clf_layer *l, clf_weight id, const clf_tensor *x, clf_tensor *inner) {
    clf_tensor part;
    int64_t at = 0;
    *inner = take(&p->work[CLF_WORK_INNER], &at, l->lora[id].a.shape[0]);
    CLF_TRY(seen(p, l, id, x, &part));
    return clf_linear(l->ctx, &(clf_linear_args){.x = &part, .weight = {&l->lora[id].a}, .out = {inner}});
}

/* out[i] = x·W[first + i]ᵀ + bias (+ residual) + scale · (seen(x)·Aᵀ)·Bᵀ */
static clf_status project(const clf_pass *p, const clf_layer *l, clf_weight first, int count, const clf_tensor *x,
                          const clf_tensor *residual, clf_tensor *out) {
    clf_linear_args args = {.x = x, .residual = residual, .precision = CLF_LINEAR_EXACT};
    int at[CLF_LINEAR_MAX];
    for (int i = 0; i < count; i++) {
        args.weight[i] = &l->weight[first + (clf_weight)i];
        args.bias[i] = clf_weight_of(l, CLF_W_QUERY_BIAS + first + (clf_weight)i);
        args.out[i] = &out[i];
    }
    CLF_TRY(clf_linear(l->ctx, &args));
    const int n = adapted(p, l, first, count, at);
    for (int j = 0; j < n; j++) {
        const clf_weight id = first + (clf_weight)at[j];
        const clf_lora *lora = &l->lora[id];
        clf_tensor inner;
        CLF_TRY(shrink(p, l, id, x, &inner));
        CLF_TRY(clf_linear(l->ctx, &(clf_linear_args){.x = &inner,
                                                      .weight = {&lora->b},
                                                      .residual = &out[at[j]],
                                                      .scale = lora->scale,
                                                      .out = {&out[at[j]]}}));
    }
    return CLF_OK;
}

/* Adapter `id` for d_out: with d_inner = scale · d_out·B, d_A += d_innerᵀ·seen(x) and d_B += scale · d_outᵀ·inner where
 * x is given; d_x += dropout(d_inner·A) where d_x is. */
static clf_status adapter_backward(const clf_pass *p, const clf_layer *l, const clf_layer_gradients *g, clf_weight id,
                                   const clf_tensor *x, const clf_tensor *d_out, clf_tensor *d_x) {
    const clf_lora *lora = &l->lora[id];
    int64_t at = 0;
    clf_tensor inner, part, d_inner = take(&p->work[CLF_WORK_D_INNER], &at, lora->a.shape[0]);
    if (x) CLF_TRY(shrink(p, l, id, x, &inner));
    CLF_TRY(clf_linear_backward(l->ctx, &(clf_linear_backward_args){.x = x ? &inner : NULL,
                                                                    .weight = {&lora->b},
                                                                    .d_out = {d_out},
                                                                    .scale = lora->scale,
                                                                    .d_x = &d_inner,
                                                                    .d_weight = {x ? g->b[id] : NULL}}));
    if (x) {
        CLF_TRY(seen(p, l, id, x, &part));
        CLF_TRY(clf_linear_backward(
            l->ctx, &(clf_linear_backward_args){.x = &part, .d_out = {&d_inner}, .d_weight = {g->a[id]}}));
    }
    if (!d_x) return CLF_OK;
    if (p->dropout == 0)
        return clf_linear_backward(l->ctx, &(clf_linear_backward_args){
                                               .weight = {&lora->a}, .d_out = {&d_inner}, .residual = d_x, .d_x = d_x});
    at = 0;
    part = take(&p->work[CLF_WORK_DROPPED], &at, d_x->shape[1]);
    CLF_TRY(clf_linear_backward(l->ctx,
                                &(clf_linear_backward_args){.weight = {&lora->a}, .d_out = {&d_inner}, .d_x = &part}));
    return drop(p, l, id, &part, d_x, d_x);
}

/* Whether anything of these products is trained, so that their x is needed. */
static bool trained(const clf_layer_gradients *g, clf_weight first, int count) {
    for (clf_weight id = first; id < first + (clf_weight)count; id++)
        if (g->weight[id] || g->weight[CLF_W_QUERY_BIAS + id] || g->a[id]) return true;
    return false;
}

/* Gradients of project(): by the weights where x is given, by x where d_x is. */
static clf_status project_backward(const clf_pass *p, const clf_layer *l, const clf_layer_gradients *g,
                                   clf_weight first, int count, const clf_tensor *x, const clf_tensor *d_out,
                                   clf_tensor *d_x) {
    clf_linear_backward_args args = {.x = x, .d_x = d_x};
    int at[CLF_LINEAR_MAX];
    bool any = d_x != NULL;
    for (int i = 0; i < count; i++) {
        const clf_weight id = first + (clf_weight)i;
        args.weight[i] = &l->weight[id];
        args.d_out[i] = &d_out[i];
        if (!x) continue;
        args.d_weight[i] = g->weight[id];
        args.d_bias[i] = g->weight[CLF_W_QUERY_BIAS + id];
        any |= args.d_weight[i] || args.d_bias[i];
    }
    if (any) CLF_TRY(clf_linear_backward(l->ctx, &args));
    const int n = adapted(p, l, first, count, at);
    for (int j = 0; j < n; j++) CLF_TRY(adapter_backward(p, l, g, first + (clf_weight)at[j], x, &d_out[at[j]], d_x));
    return CLF_OK;
}

/* Attention */

static clf_status rotate(const clf_pass *p, bool windowed, bool inverse, const clf_tensor *t, int64_t heads) {
    clf_tensor x = heads_of(t, 3, heads);
    clf_rope_args args = p->rope[windowed];
    args.x = args.out = &x;
    args.positions = &p->positions;
    args.inverse = inverse;
    return clf_rope(x.ctx, &args);
}

/* Tensors of one attention call, as it takes them. */
typedef struct attention {
    clf_tensor query, key, value, lse, out;
    clf_attention_args args;
} attention;

static void prepare(attention *a, const clf_pass *p, const clf_saved_set *s, bool windowed) {
    const clf_config *c = &p->model->config;
    const clf_tensor *lse = &s->stat[CLF_STAT_LSE];
    a->query = heads_of(&s->act[CLF_SAVED_QUERY], 4, c->n_heads);
    a->key = heads_of(&s->act[CLF_SAVED_KEY], 4, c->n_kv_heads);
    a->value = heads_of(&s->act[CLF_SAVED_VALUE], 4, c->n_kv_heads);
    a->out = heads_of(&s->act[CLF_SAVED_ATTENDED], 4, c->n_heads);
    a->lse = clf_view_of(lse, 3, (const int64_t[]){1, c->n_heads, lse->shape[0]}, NULL, 0);
    const clf_tensor *starts = p->starts.buffer ? &p->starts : NULL;
    a->args = (clf_attention_args){.query = &a->query,
                                   .key = &a->key,
                                   .value = &a->value,
                                   .scale = c->attention_scale,
                                   .softcap = c->attention_softcap,
                                   .causal = true,
                                   .window = windowed ? c->window : 0,
                                   .query_starts = starts,
                                   .key_starts = starts,
                                   .lse = &a->lse,
                                   .out = &a->out};
}

/* Halves of a block */

static clf_status attention_forward(const clf_pass *p, int index, const clf_saved_set *s) {
    const clf_config *c = &p->model->config;
    const clf_layer *l = &p->model->layers[index];
    const clf_tensor *x = &s->act[CLF_SAVED_INPUT], *h = &p->work[CLF_WORK_NORMED];
    const bool windowed = c->windowed[index] != 0;
    CLF_TRY(norm(p, l, CLF_W_ATTENTION_NORM, 0, x, &s->stat[CLF_STAT_ATTENTION_NORM], h));
    clf_tensor qkv[] = {s->act[c->qk_norm ? CLF_SAVED_RAW_QUERY : CLF_SAVED_QUERY],
                        s->act[c->qk_norm ? CLF_SAVED_RAW_KEY : CLF_SAVED_KEY], s->act[CLF_SAVED_VALUE]};
    CLF_TRY(project(p, l, CLF_W_QUERY, 3, h, NULL, qkv));
    if (c->qk_norm) {
        CLF_TRY(
            norm(p, l, CLF_W_QUERY_NORM, c->n_heads, &qkv[0], &s->stat[CLF_STAT_QUERY_NORM], &s->act[CLF_SAVED_QUERY]));
        CLF_TRY(
            norm(p, l, CLF_W_KEY_NORM, c->n_kv_heads, &qkv[1], &s->stat[CLF_STAT_KEY_NORM], &s->act[CLF_SAVED_KEY]));
    }
    CLF_TRY(rotate(p, windowed, false, &s->act[CLF_SAVED_QUERY], c->n_heads));
    CLF_TRY(rotate(p, windowed, false, &s->act[CLF_SAVED_KEY], c->n_kv_heads));
    attention a;
    prepare(&a, p, s, windowed);
    CLF_TRY(clf_attention(l->ctx, &a.args));

    clf_tensor middle = s->act[CLF_SAVED_MIDDLE], branch = s->act[CLF_SAVED_ATTENTION_BRANCH];
    if (!c->post_norms) return project(p, l, CLF_W_OUTPUT, 1, &s->act[CLF_SAVED_ATTENDED], x, &middle);
    CLF_TRY(project(p, l, CLF_W_OUTPUT, 1, &s->act[CLF_SAVED_ATTENDED], NULL, &branch));
    CLF_TRY(norm(p, l, CLF_W_POST_ATTENTION_NORM, 0, &branch, &s->stat[CLF_STAT_POST_ATTENTION_NORM], h));
    return clf_add(l->ctx, &(clf_add_args){.a = x, .b = h, .out = &middle});
}

static clf_status attention_backward(const clf_pass *p, int index, const clf_saved_set *s, const clf_layer_gradients *g,
                                     bool input_wanted) {
    const clf_config *c = &p->model->config;
    const clf_layer *l = &p->model->layers[index];
    const bool windowed = c->windowed[index] != 0;
    clf_tensor h = p->work[CLF_WORK_NORMED], d_h = p->work[CLF_WORK_D_NORMED], d_x = p->work[CLF_WORK_D_HIDDEN];
    if (c->post_norms)
        CLF_TRY(norm_backward(p, l, g, CLF_W_POST_ATTENTION_NORM, 0, &s->act[CLF_SAVED_ATTENTION_BRANCH],
                              &s->stat[CLF_STAT_POST_ATTENTION_NORM], &d_x, NULL, &d_h));
    const clf_tensor *d_branch = c->post_norms ? &d_h : &d_x, *attended = &s->act[CLF_SAVED_ATTENDED];
    const clf_tensor *wide = &p->work[CLF_WORK_WIDE];
    int64_t at = 0;
    clf_tensor d_attended = take(wide, &at, attended->shape[1]), d_qkv[3];
    for (int i = 0; i < 3; i++) d_qkv[i] = take(wide, &at, s->act[CLF_SAVED_QUERY + i].shape[1]);
    CLF_TRY(project_backward(p, l, g, CLF_W_OUTPUT, 1, trained(g, CLF_W_OUTPUT, 1) ? attended : NULL, d_branch,
                             &d_attended));

    attention a;
    prepare(&a, p, s, windowed);
    const clf_tensor d_out = heads_of(&d_attended, 4, c->n_heads);
    clf_tensor d_query = heads_of(&d_qkv[0], 4, c->n_heads), d_key = heads_of(&d_qkv[1], 4, c->n_kv_heads),
               d_value = heads_of(&d_qkv[2], 4, c->n_kv_heads);
    CLF_TRY(clf_attention_backward(
        l->ctx, &(clf_attention_backward_args){
                    .forward = a.args, .d_out = &d_out, .d_query = &d_query, .d_key = &d_key, .d_value = &d_value}));
    CLF_TRY(rotate(p, windowed, true, &d_qkv[0], c->n_heads));
    CLF_TRY(rotate(p, windowed, true, &d_qkv[1], c->n_kv_heads));
    if (c->qk_norm) {
        CLF_TRY(norm_backward(p, l, g, CLF_W_QUERY_NORM, c->n_heads, &s->act[CLF_SAVED_RAW_QUERY],
                              &s->stat[CLF_STAT_QUERY_NORM], &d_qkv[0], NULL, &d_qkv[0]));
        CLF_TRY(norm_backward(p, l, g, CLF_W_KEY_NORM, c->n_kv_heads, &s->act[CLF_SAVED_RAW_KEY],
                              &s->stat[CLF_STAT_KEY_NORM], &d_qkv[1], NULL, &d_qkv[1]));
    }

    const clf_tensor *x = &s->act[CLF_SAVED_INPUT];
    const bool wanted = trained(g, CLF_W_QUERY, 3);
    if (wanted) CLF_TRY(norm(p, l, CLF_W_ATTENTION_NORM, 0, x, NULL, &h));
    if (wanted || input_wanted)
        CLF_TRY(project_backward(p, l, g, CLF_W_QUERY, 3, wanted ? &h : NULL, d_qkv, input_wanted ? &d_h : NULL));
    if (!input_wanted) return CLF_OK;
    return norm_backward(p, l, g, CLF_W_ATTENTION_NORM, 0, x, &s->stat[CLF_STAT_ATTENTION_NORM], &d_h, &d_x, &d_x);
}

static clf_status ffn_forward(const clf_pass *p, int index, const clf_saved_set *s, clf_tensor *out) {
    const clf_config *c = &p->model->config;
    const clf_layer *l = &p->model->layers[index];
    const clf_tensor *middle = &s->act[CLF_SAVED_MIDDLE], *h = &p->work[CLF_WORK_NORMED];
    clf_tensor gate_up[] = {s->act[CLF_SAVED_GATE], s->act[CLF_SAVED_UP]}, branch = s->act[CLF_SAVED_FFN_BRANCH];
    CLF_TRY(norm(p, l, CLF_W_FFN_NORM, 0, middle, &s->stat[CLF_STAT_FFN_NORM], h));
    CLF_TRY(project(p, l, CLF_W_GATE, 2, h, NULL, gate_up));
    if (!out && !c->post_norms) return CLF_OK;
    int64_t at = 0;
    clf_tensor ffn = take(&p->work[CLF_WORK_WIDE], &at, c->ffn_size);
    CLF_TRY(clf_glu(l->ctx,
                    &(clf_glu_args){.gate = &gate_up[0], .up = &gate_up[1], .activation = c->activation, .out = &ffn}));
    if (!c->post_norms) return project(p, l, CLF_W_DOWN, 1, &ffn, middle, out);
    CLF_TRY(project(p, l, CLF_W_DOWN, 1, &ffn, NULL, &branch));
    CLF_TRY(norm(p, l, CLF_W_POST_FFN_NORM, 0, &branch, &s->stat[CLF_STAT_POST_FFN_NORM], h));
    return out ? clf_add(l->ctx, &(clf_add_args){.a = middle, .b = h, .out = out}) : CLF_OK;
}

static clf_status ffn_backward(const clf_pass *p, int index, const clf_saved_set *s, const clf_layer_gradients *g) {
    const clf_config *c = &p->model->config;
    const clf_layer *l = &p->model->layers[index];
    const clf_tensor *middle = &s->act[CLF_SAVED_MIDDLE];
    clf_tensor h = p->work[CLF_WORK_NORMED], d_h = p->work[CLF_WORK_D_NORMED], d_x = p->work[CLF_WORK_D_HIDDEN];
    if (c->post_norms)
        CLF_TRY(norm_backward(p, l, g, CLF_W_POST_FFN_NORM, 0, &s->act[CLF_SAVED_FFN_BRANCH],
                              &s->stat[CLF_STAT_POST_FFN_NORM], &d_x, NULL, &d_h));
    const clf_tensor *d_branch = c->post_norms ? &d_h : &d_x;
    int64_t at = 0;
    clf_tensor ffn = take(&p->work[CLF_WORK_WIDE], &at, c->ffn_size);
    clf_tensor gate_up[] = {s->act[CLF_SAVED_GATE], s->act[CLF_SAVED_UP]};
    const bool down = trained(g, CLF_W_DOWN, 1), wanted = trained(g, CLF_W_GATE, 2);
    CLF_TRY(project_backward(p, l, g, CLF_W_DOWN, 1, NULL, d_branch, &ffn)); /* d_ffn; then ffn over it */
    CLF_TRY(clf_glu_backward(l->ctx, &(clf_glu_backward_args){.gate = &gate_up[0],
                                                              .up = &gate_up[1],
                                                              .activation = c->activation,
                                                              .d_out = &ffn,
                                                              .d_gate = &gate_up[0],
                                                              .d_up = &gate_up[1],
                                                              .out = down ? &ffn : NULL}));
    if (down) CLF_TRY(project_backward(p, l, g, CLF_W_DOWN, 1, &ffn, d_branch, NULL));
    if (wanted) CLF_TRY(norm(p, l, CLF_W_FFN_NORM, 0, middle, NULL, &h));
    CLF_TRY(project_backward(p, l, g, CLF_W_GATE, 2, wanted ? &h : NULL, gate_up, &d_h));
    return norm_backward(p, l, g, CLF_W_FFN_NORM, 0, middle, &s->stat[CLF_STAT_FFN_NORM], &d_h, &d_x, &d_x);
}

clf_status clf_layer_forward(const clf_pass *p, int index, const clf_saved_set *saved, clf_tensor *out) {
    CLF_TRY(attention_forward(p, index, saved));
    return ffn_forward(p, index, saved, out);
}

clf_status clf_layer_backward(const clf_pass *p, int index, const clf_saved_set *saved,
                              const clf_layer_gradients *gradients, bool input_wanted) {
    CLF_TRY(ffn_backward(p, index, saved, gradients));
    return attention_backward(p, index, saved, gradients, input_wanted);
}
