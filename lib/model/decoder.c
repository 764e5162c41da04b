/* decoder.c: the forward pass of decoder.h, written as its formula reads. */
#include "decoder.h"

#include "architecture.h"
#include "attention_layer.h"
#include "importance.h"

enum { LOGIT_BYTES = 16 << 20 };

void clf_decoder_widths(int64_t width[CLF_ACT_COUNT], const clf_config *c, int64_t lora_rank) {
    width[CLF_ACT_HIDDEN] = width[CLF_ACT_NORMED] = c->hidden_size;
    width[CLF_ACT_QUERY] = clf_extent_of(CLF_EXTENT_QUERY, c);
    width[CLF_ACT_KEY] = clf_extent_of(CLF_EXTENT_KEY, c);
    width[CLF_ACT_VALUE] = clf_extent_of(CLF_EXTENT_VALUE, c);
    width[CLF_ACT_ATTENDED] = clf_extent_of(CLF_EXTENT_ATTENTION, c);
    width[CLF_ACT_FFN] = c->ffn_size;
    width[CLF_ACT_BRANCH] = c->post_norms ? c->hidden_size : 0;
    width[CLF_ACT_UP] = lora_rank ? c->ffn_size : 0;
    width[CLF_ACT_INNER] = lora_rank;
}

static clf_rope_args rope_args(const clf_rope_config *r, int64_t context_length) {
    const bool is_long = r->scaling == CLF_ROPE_SCALING_LONGROPE && context_length > r->original_context;
    return (clf_rope_args){.n_dims = r->n_dims,
                           .pairing = r->pairing,
                           .base = r->base,
                           .scaling = r->scaling,
                           .factor = r->factor,
                           .original_context = r->original_context,
                           .low_freq_factor = r->low_freq_factor,
                           .high_freq_factor = r->high_freq_factor,
                           .beta_fast = r->beta_fast,
                           .beta_slow = r->beta_slow,
                           .attention_factor = r->attention_factor,
                           .freq_factors = !r->has_freq_factors ? NULL
                                           : is_long            ? r->long_freq_factors
                                                                : r->freq_factors};
}

void clf_decoder_ropes(clf_rope_args out[2], const clf_config *c, int64_t context_length) {
    out[0] = rope_args(&c->rope, context_length);
    out[1] = rope_args(c->has_rope_local ? &c->rope_local : &c->rope, context_length);
}

static clf_status create(clf_decoder *d, clf_tensor *t, clf_context *ctx, clf_dtype dtype, int64_t rows,
                         int64_t width) {
    const clf_tensor_args args = {.dtype = dtype, .ndim = 2, .shape = {rows, width}, .tag = CLF_TAG_ACTIVATIONS};
    return clf_model_failed(d->model, ctx, clf_tensor_init(t, ctx, &args));
}

static clf_status create_all(clf_decoder *d) {
    const clf_model *m = d->model;
    int64_t width[CLF_ACT_COUNT];
    clf_decoder_widths(width, &m->config, m->lora_rank);
    for (int i = 0; i < m->config.n_layers; i++) {
        const clf_layer *l = &m->layers[i];
        for (int a = 0; a < CLF_ACT_COUNT; a++)
            if (width[a] && !d->act[l->place][a].buffer)
                CLF_TRY(create(d, &d->act[l->place][a], l->ctx, d->compute, d->chunk, width[a]));
    }
    CLF_TRY(create(d, &d->ids, m->layers[0].ctx, CLF_I32, 1, d->chunk));
    return clf_decoder_reserve(d, 1);
}

clf_status clf_decoder_init(clf_decoder *d, const clf_model *model, clf_dtype compute, int64_t chunk,
                            int64_t context_length) {
    const clf_config *c = &model->config;
    *d = (clf_decoder){.model = model, .compute = compute, .chunk = chunk};
    clf_decoder_ropes(d->rope, c, context_length);
    const clf_status st = create_all(d);
    if (st != CLF_OK) clf_decoder_release(d);
    return st;
}

void clf_decoder_release(clf_decoder *d) {
    for (int p = 0; p < CLF_MAX_PLACES; p++)
        for (int a = 0; a < CLF_ACT_COUNT; a++) clf_tensor_release(&d->act[p][a]);
    clf_tensor_release(&d->ids);
    clf_tensor_release(&d->logits);
}

clf_status clf_decoder_reserve(clf_decoder *d, int64_t rows) {
    const int64_t vocab = d->model->config.vocab_size, most = LOGIT_BYTES / (int64_t)sizeof(float) / vocab;
    if (rows > most) rows = most;
    if (rows > d->chunk) rows = d->chunk;
    if (rows < 1) rows = 1;
    if (d->logits.buffer && d->logits.shape[0] >= rows) return CLF_OK;
    clf_tensor t = {0};
    CLF_TRY(create(d, &t, d->model->layers[d->model->config.n_layers - 1].ctx, CLF_F32, rows, vocab));
    clf_tensor_release(&d->logits);
    d->logits = t;
    return CLF_OK;
}

clf_tensor clf_decoder_rows(const clf_tensor *t, int64_t first, int64_t n) {
    return clf_view_of(t, 2, (const int64_t[]){n, t->shape[1]}, NULL, first * t->shape[1]);
}

clf_status clf_decoder_norm(const clf_config *c, const clf_tensor *weight, const clf_tensor *x, clf_tensor *residual,
                            clf_tensor *out) {
    return clf_rms_norm(x->ctx, &(clf_rms_norm_args){.x = x,
                                                     .residual = residual,
                                                     .weight = weight,
                                                     .weight_offset = c->norm_offset,
                                                     .eps = c->norm_eps,
                                                     .sum = residual,
                                                     .out = out});
}

static clf_status adapt(const clf_decoder *d, const clf_layer *l, clf_weight id, const clf_tensor *x, clf_tensor *y) {
    if (!l->lora[id].a.buffer) return CLF_OK;
    return clf_lora_apply(l->ctx, &l->lora[id], x, &d->act[l->place][CLF_ACT_INNER], y);
}

/* Weight `id` as product i. */
static void set_weight(clf_linear_args *args, int i, const clf_layer *l, clf_weight id) {
    args->weight[i] = &l->weight[id];
    args->bias[i] = clf_weight_of(l, CLF_W_QUERY_BIAS + id);
    if (!clf_tiles_are_there(&l->tiles[id])) return;
    args->tile_rows[i] = &l->tiles[id].rows;
    args->tile_columns[i] = &l->tiles[id].columns;
    args->row_scale[i] = &l->tiles[id].scale;
}

clf_status clf_decoder_project(const clf_decoder *d, const clf_layer *l, clf_weight first, int count,
                               const clf_tensor *x, const clf_tensor *residual, clf_tensor *out) {
    clf_linear_args args = {.x = x, .residual = residual};
    CLF_TRY(clf_importance_meet(d->importance, l, first, x));
    for (int i = 0; i < count; i++) {
        set_weight(&args, i, l, first + (clf_weight)i);
        args.out[i] = &out[i];
    }
    CLF_TRY(clf_linear(l->ctx, &args));
    for (int i = 0; i < count; i++) CLF_TRY(adapt(d, l, first + (clf_weight)i, x, &out[i]));
    return CLF_OK;
}

/* ffn = act(x·Wg) · (x·Wu); in one pass, unless an adapter needs the two apart. */
static clf_status gated(const clf_decoder *d, const clf_layer *l, const clf_tensor *x, clf_tensor *ffn) {
    const clf_activation activation = d->model->config.activation;
    if (!l->lora[CLF_W_GATE].a.buffer && !l->lora[CLF_W_UP].a.buffer) {
        CLF_TRY(clf_importance_meet(d->importance, l, CLF_W_GATE, x));
        clf_linear_args args = {.x = x, .glu = activation, .out = {ffn}};
        set_weight(&args, 0, l, CLF_W_GATE);
        set_weight(&args, 1, l, CLF_W_UP);
        return clf_linear(l->ctx, &args);
    }
    clf_tensor out[] = {*ffn, clf_decoder_rows(&d->act[l->place][CLF_ACT_UP], 0, x->shape[0])};
    CLF_TRY(clf_decoder_project(d, l, CLF_W_GATE, 2, x, NULL, out));
    return clf_glu(l->ctx, &(clf_glu_args){.gate = ffn, .up = &out[1], .activation = activation, .out = ffn});
}

/* One block over n tokens; only the last `want` of them go beyond the keys and values. */
static clf_status block(const clf_decoder *d, const clf_kv_cache *cache, int index, int64_t n, int64_t want) {
    const clf_config *c = &d->model->config;
    const clf_layer *l = &d->model->layers[index];
    const clf_tensor *act = d->act[l->place];
    clf_tensor x = clf_decoder_rows(&act[CLF_ACT_HIDDEN], 0, n), h = clf_decoder_rows(&act[CLF_ACT_NORMED], 0, n);
    CLF_TRY(clf_decoder_norm(c, &l->weight[CLF_W_ATTENTION_NORM], &x, NULL, &h));
    x = clf_decoder_rows(&x, n - want, want);
    clf_tensor ffn = clf_decoder_rows(&act[CLF_ACT_FFN], 0, want);
    if (!c->post_norms) {
        CLF_TRY(clf_attention_layer(d, cache, index, &h, want, &x, &x));
        if (!want) return CLF_OK;
        h = clf_decoder_rows(&h, 0, want);
        CLF_TRY(clf_decoder_norm(c, &l->weight[CLF_W_FFN_NORM], &x, NULL, &h));
        CLF_TRY(gated(d, l, &h, &ffn));
        return clf_decoder_project(d, l, CLF_W_DOWN, 1, &ffn, &x, &x);
    }
    clf_tensor branch = clf_decoder_rows(&act[CLF_ACT_BRANCH], 0, want);
    CLF_TRY(clf_attention_layer(d, cache, index, &h, want, NULL, &branch));
    if (!want) return CLF_OK;
    h = clf_decoder_rows(&h, 0, want);
    CLF_TRY(clf_decoder_norm(c, &l->weight[CLF_W_POST_ATTENTION_NORM], &branch, NULL, &branch));
    CLF_TRY(clf_decoder_norm(c, &l->weight[CLF_W_FFN_NORM], &branch, &x, &h));
    CLF_TRY(gated(d, l, &h, &ffn));
    CLF_TRY(clf_decoder_project(d, l, CLF_W_DOWN, 1, &ffn, NULL, &branch));
    CLF_TRY(clf_decoder_norm(c, &l->weight[CLF_W_POST_FFN_NORM], &branch, NULL, &branch));
    return clf_add(l->ctx, &(clf_add_args){.a = &x, .b = &branch, .out = &x});
}

/* x[n, hidden] of the tokens, on the first block's context. */
static clf_status embed(clf_decoder *d, const int32_t *token_ids, int64_t n) {
    const clf_model *m = d->model;
    const clf_layer *first = &m->layers[0];
    clf_tensor ids = clf_view_of(&d->ids, 1, &n, NULL, 0),
               x = clf_decoder_rows(&d->act[first->place][CLF_ACT_HIDDEN], 0, n);
    CLF_TRY(clf_tensor_write(&ids, token_ids, (size_t)n * sizeof *token_ids));
    return clf_embedding(
        first->ctx,
        &(clf_embedding_args){.weight = &m->embedding, .ids = &ids, .scale = m->config.embedding_scale, .out = &x});
}

/* Logits of n rows from `first` on to the host, some rows at a time. */
static clf_status head(const clf_decoder *d, int64_t first, int64_t n, float *logits) {
    const clf_model *m = d->model;
    const clf_config *c = &m->config;
    const clf_layer *last = &m->layers[c->n_layers - 1];
    const clf_tensor *act = d->act[last->place];
    const int64_t vocab = c->vocab_size, most = d->logits.shape[0];
    for (int64_t done = 0; done < n; done += most) {
        const int64_t rows = n - done < most ? n - done : most;
        const clf_tensor x = clf_decoder_rows(&act[CLF_ACT_HIDDEN], first + done, rows);
        clf_tensor h = clf_decoder_rows(&act[CLF_ACT_NORMED], 0, rows), out = clf_decoder_rows(&d->logits, 0, rows);
        CLF_TRY(clf_decoder_norm(c, &m->output_norm, &x, NULL, &h));
        CLF_TRY(clf_linear(last->ctx, &(clf_linear_args){.x = &h, .weight = {&m->output}, .out = {&out}}));
        if (c->logit_softcap > 0)
            CLF_TRY(clf_softcap(last->ctx, &(clf_softcap_args){.x = &out, .cap = c->logit_softcap, .out = &out}));
        CLF_TRY(clf_tensor_read(&out, logits + done * vocab, (size_t)(rows * vocab) * sizeof *logits));
    }
    return CLF_OK;
}

clf_status clf_decoder_forward(clf_decoder *d, const clf_kv_cache *cache, const int32_t *ids, int64_t n, int64_t want) {
    const clf_model *m = d->model;
    const int n_layers = m->config.n_layers;
    CLF_TRY(clf_model_failed(m, m->layers[0].ctx, embed(d, ids, n)));
    for (int i = 0; i < n_layers; i++) {
        const clf_layer *l = &m->layers[i];
        if (i && l->place != l[-1].place) {
            const clf_tensor from = clf_decoder_rows(&d->act[l[-1].place][CLF_ACT_HIDDEN], 0, n);
            clf_tensor to = clf_decoder_rows(&d->act[l->place][CLF_ACT_HIDDEN], 0, n);
            CLF_TRY(clf_model_failed(m, l->ctx, clf_tensor_copy(&to, &from)));
        }
        CLF_TRY(clf_model_failed(m, l->ctx, block(d, cache, i, n, i == n_layers - 1 ? want : n)));
    }
    return CLF_OK;
}

clf_status clf_decoder_logits(const clf_decoder *d, int64_t first, int64_t n, float *logits) {
    const clf_model *m = d->model;
    return clf_model_failed(m, m->layers[m->config.n_layers - 1].ctx, head(d, first, n, logits));
}
