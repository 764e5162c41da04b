/* model.c: loading: file, configuration, tokenizer, then each weight to its block's context. On contexts of host memory
 * weights stay where the file has them, so that a mapped model is ready before it was read. */
#include "model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "source.h"
#include "spread.h"
#include "tokenizer.h"

void clf_model_tie(clf_model *m) {
    clf_tensor_release(&m->output);
    m->output = m->embedding;
    clf_buffer_retain(m->output.buffer);
}

clf_status clf_model_enter(const clf_model *model) {
    for (int i = 0; i < model->n_contexts; i++) {
        CLF_TRY(clf_enter(model->contexts[i]));
        clf_leave(model->contexts[i], CLF_OK);
    }
    return CLF_OK;
}

clf_status clf_model_failed(const clf_model *model, const clf_context *where, clf_status status) {
    clf_context *first = model->contexts[0];
    if (status == CLF_OK || where == first) return status;
    clf_error_clear(&first->error);
    return clf_fail(&first->error, status, "%s", where->error.message);
}

void clf_model_describe(clf_model_info *out, const clf_model_file *file) {
    const clf_config *c = clf_model_file_config(file);
    *out = (clf_model_info){.vocab_size = c->vocab_size,
                            .trained_context = c->trained_context,
                            .n_layers = c->n_layers,
                            .hidden_size = c->hidden_size,
                            .ffn_size = c->ffn_size,
                            .n_heads = c->n_heads,
                            .n_kv_heads = c->n_kv_heads,
                            .head_dim = c->head_dim,
                            .window = c->window};
    snprintf(out->architecture, sizeof out->architecture, "%s", c->architecture);
    snprintf(out->name, sizeof out->name, "%s", c->name);
    snprintf(out->format, sizeof out->format, "%s", clf_model_file_format(file));
    int64_t of_dtype[CLF_DTYPE_COUNT] = {0};
    for (int64_t i = 0; i < clf_model_file_count(file); i++) {
        const clf_file_tensor *t = clf_model_file_at(file, i);
        const int64_t elements = clf_file_elements(t);
        out->parameters += elements;
        out->weight_bytes += t->packed ? clf_dtype_bytes(t->dtype, elements) : t->nbytes;
        of_dtype[t->dtype] += elements;
        if (of_dtype[t->dtype] > of_dtype[out->weight_dtype]) out->weight_dtype = t->dtype;
    }
}

/* What is told while loading. */
typedef struct loading {
    const clf_model_args *args;
    XXH3_state_t *hash;
    uint64_t done, total;
} loading;

static void advance(loading *l, uint64_t bytes) {
    l->done += bytes;
    if (l->args->progress)
        l->args->progress(l->args->progress_user, l->done < l->total ? (double)l->done / (double)l->total : 1);
}

/* Loads one weight. The fingerprint takes vectors whole and the beginning of matrices: enough to tell fine-tunes of one
 * model apart without reading all of it. */
static clf_status load_weight(clf_model *m, loading *l, clf_tensor *t, clf_tiles *tiles, clf_context *ctx,
                              const clf_file_tensor *src) {
    CLF_TRY(clf_model_failed(m, ctx, clf_weight_load(t, tiles, ctx, src)));
    const uint64_t sample = src->ndim > 1 && src->nbytes > 256 ? 256 : src->nbytes;
    XXH3_64bits_update(l->hash, src->shape, sizeof src->shape);
    XXH3_64bits_update(l->hash, src->data, (size_t)sample);
    if (m->mapped && !(ctx->backend->host && clf_data(t) == src->data)) clf_source_forget(src->data, src->nbytes);
    advance(l, src->nbytes);
    return CLF_OK;
}

static clf_status load_layer(clf_model *m, loading *l, int index) {
    clf_layer *layer = &m->layers[index];
    for (int id = 0; id < CLF_W_COUNT; id++) {
        const clf_file_tensor *src = clf_weight_find(m->file, index, (clf_weight)id);
        clf_tiles *tiles = id < CLF_W_MATRICES ? &layer->tiles[id] : NULL;
        if (src) CLF_TRY(load_weight(m, l, &layer->weight[id], tiles, layer->ctx, src));
    }
    return CLF_OK;
}

/* Embedding, last norm, output matrix; a tied output on the embedding's context is the same tensor. */
static clf_status load_ends(clf_model *m, loading *l) {
    clf_context *first = m->layers[0].ctx, *last = m->layers[m->config.n_layers - 1].ctx;
    CLF_TRY(load_weight(m, l, &m->embedding, NULL, first, clf_model_file_find(m->file, "token_embd.weight")));
    CLF_TRY(load_weight(m, l, &m->output_norm, NULL, last, clf_model_file_find(m->file, "output_norm.weight")));
    if (!m->config.tied_output || first != last)
        return load_weight(m, l, &m->output, NULL, last, clf_weight_find_output(m->file));
    clf_model_tie(m);
    return CLF_OK;
}

static clf_status load_tokenizer(clf_model *m) {
    clf_error *err = &m->contexts[0]->error;
    const clf_gguf *gguf = clf_model_file_gguf(m->file);
    const clf_status st = gguf ? clf_tokenizer_from_gguf(&m->tokenizer, gguf, err)
                               : clf_tokenizer_from_folder(&m->tokenizer, clf_model_file_path(m->file), err);
    if (st != CLF_NOT_FOUND) return st;
    clf_error_clear(err);
    return CLF_OK;
}

static clf_status load_weights(clf_model *m, loading *l) {
    const clf_config *c = &m->config;
    const double numbers[] = {c->hidden_size, c->ffn_size,    c->n_layers,        c->n_heads,        c->n_kv_heads,
                              c->head_dim,    c->v_dim,       c->vocab_size,      c->norm_eps,       c->norm_offset,
                              c->rope.base,   c->rope.factor, c->attention_scale, (double)c->window, c->rope.n_dims};
    XXH3_64bits_update(l->hash, c->architecture, strlen(c->architecture));
    XXH3_64bits_update(l->hash, numbers, sizeof numbers);
    if (l->args->quantize) XXH3_64bits_update(l->hash, &l->args->quantize, sizeof l->args->quantize);
    CLF_TRY(load_ends(m, l));
    for (int i = 0; i < c->n_layers; i++) CLF_TRY(load_layer(m, l, i));
    m->fingerprint = XXH3_64bits_digest(l->hash);
    return l->args->adapter ? clf_lora_load(m, l->args->adapter, &m->fingerprint) : CLF_OK;
}

static clf_status load(clf_model *m, const clf_model_args *args) {
    clf_error *err = &m->contexts[0]->error;
    const clf_model_file_args file_args = {.path = args->path,
                                           .data = args->data,
                                           .data_size = args->data_size,
                                           .mmap = args->mmap,
                                           .quantize = args->quantize,
                                           .keep_layout = args->keep_layout};
    CLF_TRY(clf_model_file_open(&m->file, &file_args, err));
    m->path = strdup(clf_model_file_path(m->file));
    CLF_CHECK(err, m->path, CLF_OUT_OF_MEMORY, "model: out of host memory");
    m->data = args->data;
    m->data_size = args->data_size;
    m->mapped = args->mmap && args->path;
    m->config = *clf_model_file_config(m->file);
    clf_model_describe(&m->info, m->file);
    CLF_TRY(load_tokenizer(m));

    const int n = m->config.n_layers;
    int place[CLF_MAX_LAYERS];
    CLF_TRY(clf_spread(place, args, m->file, err));
    m->layers = calloc((size_t)n, sizeof *m->layers);
    CLF_CHECK(err, m->layers, CLF_OUT_OF_MEMORY, "model: out of host memory");
    bool in_place = false;
    for (int i = 0; i < n; i++) {
        m->layers[i].place = place[i];
        m->layers[i].ctx = m->contexts[place[i]];
        m->info.layers_on[place[i]]++;
        in_place |= m->layers[i].ctx->backend->host;
    }
    loading l = {.args = args, .total = m->info.weight_bytes, .hash = XXH3_createState()};
    CLF_CHECK(err, l.hash, CLF_OUT_OF_MEMORY, "model: out of host memory");
    XXH3_64bits_reset(l.hash);
    const clf_status st = load_weights(m, &l);
    XXH3_freeState(l.hash);
    CLF_TRY(st);
    if (!in_place) {
        clf_model_file_close(m->file);
        m->file = NULL;
    }
    if (args->progress) args->progress(args->progress_user, 1);
    return CLF_OK;
}

clf_status clf_model_load(clf_model **out, const clf_model_args *args) {
    if (out) *out = NULL;
    if (!out || !args || !args->contexts || args->n_contexts < 1) return CLF_INVALID_ARGUMENT;
    for (int i = 0; i < args->n_contexts; i++) {
        CLF_TRY(clf_enter(args->contexts[i]));
        clf_leave(args->contexts[i], CLF_OK);
    }
    clf_error *err = &args->contexts[0]->error;
    CLF_CHECK(err, args->n_contexts <= CLF_MAX_PLACES, CLF_INVALID_ARGUMENT, "model: expected 1 to %d contexts, got %d",
              CLF_MAX_PLACES, args->n_contexts);
    CLF_CHECK(err, !args->path != !args->data, CLF_INVALID_ARGUMENT, "model: expected either path or data");
    clf_model *m = calloc(1, sizeof *m);
    CLF_CHECK(err, m, CLF_OUT_OF_MEMORY, "model: out of host memory");
    m->n_contexts = args->n_contexts;
    memcpy(m->contexts, args->contexts, (size_t)args->n_contexts * sizeof(*m->contexts));
    const clf_status st = load(m, args);
    if (st == CLF_OK)
        *out = m;
    else
        clf_model_destroy(m);
    return st;
}

void clf_model_destroy(clf_model *m) {
    if (!m) return;
    for (int i = 0; m->layers && i < m->config.n_layers; i++) {
        clf_layer *layer = &m->layers[i];
        for (int id = 0; id < CLF_W_COUNT; id++) clf_tensor_release(&layer->weight[id]);
        for (int id = 0; id < CLF_W_MATRICES; id++) {
            clf_tiles_release(&layer->tiles[id]);
            clf_lora_release(&layer->lora[id]);
        }
    }
    clf_tensor_release(&m->embedding);
    clf_tensor_release(&m->output_norm);
    clf_tensor_release(&m->output);
    free(m->layers);
    clf_tokenizer_destroy(m->tokenizer);
    clf_model_file_close(m->file);
    free(m->path);
    free(m);
}

clf_status clf_model_get_info(const clf_model *model, clf_model_info *out) {
    if (!model || !out) return CLF_INVALID_ARGUMENT;
    *out = model->info;
    return CLF_OK;
}

const clf_tokenizer *clf_model_tokenizer(const clf_model *model) {
    return model ? model->tokenizer : NULL;
}
