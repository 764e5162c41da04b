/* layer.c: the formula of layer.h and its derivative, side by side. */
#include "layer.h"

#include "../model/architecture.h"
#include "project.h"

static int64_t larger(int64_t a, int64_t b) {
    return a > b ? a : b;
}

void clf_work_widths(int64_t width[CLF_WORK_COUNT], const clf_config *c, int64_t lora_rank, bool seen) {
    const int64_t hidden = c->hidden_size, attended = clf_extent_of(CLF_EXTENT_ATTENTION, c),
                  qkv = clf_extent_of(CLF_EXTENT_QKV, c);
    width[CLF_WORK_NORMED] = width[CLF_WORK_D_HIDDEN] = hidden;
    width[CLF_WORK_WIDE] = larger(larger(c->ffn_size, hidden), larger(attended, hidden) + qkv);
    width[CLF_WORK_INNER] = width[CLF_WORK_D_INNER] = CLF_LINEAR_MAX * lora_rank;
    width[CLF_WORK_SEEN] = seen ? larger(c->ffn_size, larger(hidden, attended)) : 0;
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
    CLF_TRY(clf_project(p, l, CLF_W_QUERY, 3, h, NULL, qkv));
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
    if (!c->post_norms) return clf_project(p, l, CLF_W_OUTPUT, 1, &s->act[CLF_SAVED_ATTENDED], x, &middle);
    CLF_TRY(clf_project(p, l, CLF_W_OUTPUT, 1, &s->act[CLF_SAVED_ATTENDED], NULL, &branch));
    CLF_TRY(norm(p, l, CLF_W_POST_ATTENTION_NORM, 0, &branch, &s->stat[CLF_STAT_POST_ATTENTION_NORM], h));
    return clf_add(l->ctx, &(clf_add_args){.a = x, .b = h, .out = &middle});
}

static clf_status attention_backward(const clf_pass *p, int index, const clf_saved_set *s, const clf_layer_gradients *g,
                                     bool input_wanted) {
    const clf_config *c = &p->model->config;
    const clf_layer *l = &p->model->layers[index];
    const bool windowed = c->windowed[index] != 0;
    clf_tensor h = p->work[CLF_WORK_NORMED], d_x = p->work[CLF_WORK_D_HIDDEN];
    if (c->post_norms)
        CLF_TRY(norm_backward(p, l, g, CLF_W_POST_ATTENTION_NORM, 0, &s->act[CLF_SAVED_ATTENTION_BRANCH],
                              &s->stat[CLF_STAT_POST_ATTENTION_NORM], &d_x, NULL, &h));
    const clf_tensor *d_branch = c->post_norms ? &h : &d_x, *attended = &s->act[CLF_SAVED_ATTENDED];
    const clf_tensor *wide = &p->work[CLF_WORK_WIDE];
    int64_t first = 0, at = 0;
    clf_tensor d_h = clf_work_take(wide, &first, c->hidden_size); /* over d_attended, when that is used up */
    clf_tensor d_attended = clf_work_take(wide, &at, attended->shape[1]), d_qkv[3];
    at = larger(at, first);
    for (int i = 0; i < 3; i++) d_qkv[i] = clf_work_take(wide, &at, s->act[CLF_SAVED_QUERY + i].shape[1]);
    CLF_TRY(clf_project_backward(p, l, g, CLF_W_OUTPUT, 1, clf_trained(g, CLF_W_OUTPUT, 1) ? attended : NULL, d_branch,
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
    const bool wanted = clf_trained(g, CLF_W_QUERY, 3);
    if (wanted) CLF_TRY(norm(p, l, CLF_W_ATTENTION_NORM, 0, x, NULL, &h));
    if (wanted || input_wanted)
        CLF_TRY(clf_project_backward(p, l, g, CLF_W_QUERY, 3, wanted ? &h : NULL, d_qkv, input_wanted ? &d_h : NULL));
    if (!input_wanted) return CLF_OK;
    return norm_backward(p, l, g, CLF_W_ATTENTION_NORM, 0, x, &s->stat[CLF_STAT_ATTENTION_NORM], &d_h, &d_x, &d_x);
}

static clf_status ffn_forward(const clf_pass *p, int index, const clf_saved_set *s, clf_tensor *out) {
    const clf_config *c = &p->model->config;
    const clf_layer *l = &p->model->layers[index];
    const clf_tensor *middle = &s->act[CLF_SAVED_MIDDLE], *h = &p->work[CLF_WORK_NORMED];
    clf_tensor gate_up[] = {s->act[CLF_SAVED_GATE], s->act[CLF_SAVED_UP]}, branch = s->act[CLF_SAVED_FFN_BRANCH];
    CLF_TRY(norm(p, l, CLF_W_FFN_NORM, 0, middle, &s->stat[CLF_STAT_FFN_NORM], h));
    CLF_TRY(clf_project(p, l, CLF_W_GATE, 2, h, NULL, gate_up));
    if (!out && !c->post_norms) return CLF_OK;
    int64_t at = 0;
    clf_tensor ffn = clf_work_take(&p->work[CLF_WORK_WIDE], &at, c->ffn_size);
    CLF_TRY(clf_glu(l->ctx,
                    &(clf_glu_args){.gate = &gate_up[0], .up = &gate_up[1], .activation = c->activation, .out = &ffn}));
    if (!c->post_norms) return clf_project(p, l, CLF_W_DOWN, 1, &ffn, middle, out);
    CLF_TRY(clf_project(p, l, CLF_W_DOWN, 1, &ffn, NULL, &branch));
    CLF_TRY(norm(p, l, CLF_W_POST_FFN_NORM, 0, &branch, &s->stat[CLF_STAT_POST_FFN_NORM], h));
    return out ? clf_add(l->ctx, &(clf_add_args){.a = middle, .b = h, .out = out}) : CLF_OK;
}

static clf_status ffn_backward(const clf_pass *p, int index, const clf_saved_set *s, const clf_layer_gradients *g) {
    const clf_config *c = &p->model->config;
    const clf_layer *l = &p->model->layers[index];
    const clf_tensor *middle = &s->act[CLF_SAVED_MIDDLE];
    clf_tensor h = p->work[CLF_WORK_NORMED], d_x = p->work[CLF_WORK_D_HIDDEN];
    if (c->post_norms)
        CLF_TRY(norm_backward(p, l, g, CLF_W_POST_FFN_NORM, 0, &s->act[CLF_SAVED_FFN_BRANCH],
                              &s->stat[CLF_STAT_POST_FFN_NORM], &d_x, NULL, &h));
    const clf_tensor *d_branch = c->post_norms ? &h : &d_x, *wide = &p->work[CLF_WORK_WIDE];
    int64_t at = 0, first = 0;
    clf_tensor ffn = clf_work_take(wide, &at, c->ffn_size),
               d_h = clf_work_take(wide, &first, c->hidden_size); /* over ffn, when that is used up */
    clf_tensor gate_up[] = {s->act[CLF_SAVED_GATE], s->act[CLF_SAVED_UP]};
    const bool down = clf_trained(g, CLF_W_DOWN, 1), wanted = clf_trained(g, CLF_W_GATE, 2);
    CLF_TRY(clf_project_backward(p, l, g, CLF_W_DOWN, 1, NULL, d_branch, &ffn)); /* d_ffn; then ffn over it */
    CLF_TRY(clf_glu_backward(l->ctx, &(clf_glu_backward_args){.gate = &gate_up[0],
                                                              .up = &gate_up[1],
                                                              .activation = c->activation,
                                                              .d_out = &ffn,
                                                              .d_gate = &gate_up[0],
                                                              .d_up = &gate_up[1],
                                                              .out = down ? &ffn : NULL}));
    if (down) CLF_TRY(clf_project_backward(p, l, g, CLF_W_DOWN, 1, &ffn, d_branch, NULL));
    if (wanted) CLF_TRY(norm(p, l, CLF_W_FFN_NORM, 0, middle, NULL, &h));
    CLF_TRY(clf_project_backward(p, l, g, CLF_W_GATE, 2, wanted ? &h : NULL, gate_up, &d_h));
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
