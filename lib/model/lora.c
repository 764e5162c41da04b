/* lora.c: adapters beside the matrices they adapt. */
#include "lora.h"

#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

#include "adapter_file.h"
#include "model.h"

/* A tensor of `src`, in F32 on ctx: our own memory, for it may be trained. */
static clf_status load_f32(clf_tensor *t, clf_context *ctx, const clf_file_tensor *src) {
    const clf_tensor_args args = {
        .dtype = CLF_F32, .ndim = 2, .shape = {src->shape[0], src->shape[1]}, .tag = CLF_TAG_WEIGHTS};
    CLF_TRY(clf_tensor_init(t, ctx, &args));
    const int64_t n = clf_elements(t);
    float *values = malloc((size_t)n * sizeof *values);
    CLF_CHECK(&ctx->error, values, CLF_OUT_OF_MEMORY, "adapter: out of host memory");
    clf_weight_to_f32(values, src->dtype, src->data, n);
    const clf_status st = clf_tensor_write(t, values, (size_t)n * sizeof *values);
    free(values);
    return st;
}

static clf_status load_pair(clf_model *m, int layer, clf_weight id, const clf_adapter_pair *pair, uint64_t *hash) {
    clf_layer *l = &m->layers[layer];
    CLF_TRY(clf_model_failed(m, l->ctx, load_f32(&l->lora[id].a, l->ctx, &pair->a)));
    CLF_TRY(clf_model_failed(m, l->ctx, load_f32(&l->lora[id].b, l->ctx, &pair->b)));
    l->lora[id].scale = pair->scale;
    if (pair->a.shape[0] > m->lora_rank) m->lora_rank = pair->a.shape[0];
    *hash = XXH3_64bits_withSeed(pair->a.data, (size_t)pair->a.nbytes, *hash);
    *hash = XXH3_64bits_withSeed(pair->b.data, (size_t)pair->b.nbytes, *hash);
    return CLF_OK;
}

/* Puts `src` in the place of a matrix of the base. */
static clf_status replace(clf_model *m, clf_tensor *matrix, const clf_file_tensor *src, uint64_t *hash) {
    clf_tensor whole = {0};
    const clf_status st = clf_model_failed(m, matrix->ctx, load_f32(&whole, matrix->ctx, src));
    if (st != CLF_OK) return clf_tensor_release(&whole), st;
    clf_tensor_release(matrix);
    *matrix = whole;
    *hash = XXH3_64bits_withSeed(src->data, (size_t)src->nbytes, *hash);
    return CLF_OK;
}

/* Embedding and output matrix, where the adapter has them as a whole. */
static clf_status load_whole(clf_model *m, const clf_adapter_file *file, uint64_t *hash) {
    const clf_file_tensor *embedding = clf_adapter_file_embedding(file), *output = clf_adapter_file_output(file);
    const bool shared = m->output.buffer == m->embedding.buffer;
    if (embedding) CLF_TRY(replace(m, &m->embedding, embedding, hash));
    if (embedding && shared)
        clf_model_tie(m);
    else if (embedding && m->config.tied_output) /* on another context */
        CLF_TRY(replace(m, &m->output, embedding, hash));
    if (output) CLF_TRY(replace(m, &m->output, output, hash));
    m->embedding_trained = embedding != NULL;
    m->output_trained = output != NULL;
    return CLF_OK;
}

clf_status clf_lora_load(clf_model *m, const char *path, uint64_t *hash) {
    clf_adapter_file *file;
    CLF_TRY(clf_adapter_file_open(&file, path, false, &m->config, &m->contexts[0]->error));
    clf_status st = load_whole(m, file, hash);
    for (int layer = 0; layer < m->config.n_layers; layer++)
        for (int id = 0; id < CLF_W_MATRICES && st == CLF_OK; id++) {
            char name[CLF_WEIGHT_NAME_SIZE];
            const clf_adapter_pair *pair = clf_adapter_file_find(file, clf_weight_name(name, layer, (clf_weight)id));
            if (pair) st = load_pair(m, layer, (clf_weight)id, pair, hash);
        }
    clf_adapter_file_close(file);
    return st;
}

void clf_lora_release(clf_lora *lora) {
    clf_tensor_release(&lora->a);
    clf_tensor_release(&lora->b);
}

clf_status clf_lora_apply(clf_context *ctx, const clf_lora *lora, const clf_tensor *x, const clf_tensor *inner,
                          clf_tensor *y) {
    clf_tensor z = clf_view_of(inner, 2, (const int64_t[]){x->shape[0], lora->a.shape[0]}, NULL, 0);
    CLF_TRY(clf_linear(ctx, &(clf_linear_args){.x = x, .weight = {&lora->a}, .out = {&z}}));
    return clf_linear(
        ctx, &(clf_linear_args){.x = &z, .weight = {&lora->b}, .residual = y, .scale = lora->scale, .out = {y}});
}
