/* parameters.c: what is trained, from the arguments to tensors. */
#include "parameters.h"

#include <fnmatch.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../core/random.h"
#include "../model/source.h"

enum { SMALL = 4096 }; /* elements: below, state stays F32 whatever is asked for */

static clf_status make(clf_tensor *t, clf_context *ctx, clf_dtype dtype, const clf_tensor *like, clf_memory_tag tag) {
    clf_tensor_args args = {.dtype = dtype, .ndim = like->ndim, .tag = tag};
    memcpy(args.shape, like->shape, sizeof args.shape);
    CLF_TRY(clf_tensor_init(t, ctx, &args));
    return clf_tensor_clear(t);
}

const clf_parameter_group *clf_parameter_group_of(const clf_trainer_args *args, const char *name) {
    for (int i = 0; i < args->n_groups; i++)
        if (fnmatch(args->groups[i].name, name, 0) == 0) return &args->groups[i];
    return NULL;
}

int clf_lora_rank(const clf_lora_args *lora, const char *name, float *scale) {
    int rank = lora->rank ? lora->rank : 16;
    float alpha = lora->alpha;
    for (int i = 0; i < lora->n_patterns; i++)
        if (fnmatch(lora->patterns[i].name, name, 0) == 0) {
            if (lora->patterns[i].rank) rank = lora->patterns[i].rank;
            if (lora->patterns[i].alpha != 0) alpha = lora->patterns[i].alpha;
            break;
        }
    if (alpha == 0) alpha = (float)rank;
    *scale = lora->rank_stabilized ? alpha / sqrtf((float)rank) : alpha / (float)rank;
    return rank;
}

bool clf_state_is_codes(const clf_trainer_args *args, int64_t elements) {
    return args->optimizer_8bit && elements >= SMALL;
}

int clf_state_count(const clf_trainer_args *args) {
    const bool momentum = args->optimizer != CLF_OPTIMIZER_SGD || args->beta1 > 0;
    return momentum + (args->optimizer == CLF_OPTIMIZER_ADAMW);
}

clf_dtype clf_ternary_dtype(int64_t columns) {
    return columns % clf_dtype_block_values(CLF_TQ2_0) ? CLF_F16 : CLF_TQ2_0;
}

static clf_status copy_master(clf_tensor *copy, const clf_tensor *master, bool ternary) {
    if (ternary) return clf_ternarize(copy->ctx, &(clf_ternarize_args){.x = master, .out = copy});
    return clf_convert(copy->ctx, &(clf_convert_args){.x = master, .out = copy});
}

clf_status clf_parameter_refresh(const clf_parameter *p) {
    return p->used->buffer == p->master.buffer ? CLF_OK : copy_master(p->used, &p->master, p->ternary);
}

/* Master weights in memory of our own: the model's may lie in its file, or be of another dtype. */
static clf_status own(clf_parameter *p, const clf_trainer_args *args) {
    clf_tensor *used = p->used;
    const clf_dtype dtype = p->ternary                                       ? clf_ternary_dtype(clf_last(used))
                            : used->ndim > 1 && args->mode == CLF_TRAIN_FULL ? args->compute
                                                                             : CLF_F32;
    const bool rounded = dtype != CLF_F32;
    clf_tensor master = {0}, copy = {0};
    clf_status st = make(&master, used->ctx, CLF_F32, used, CLF_TAG_WEIGHTS);
    if (st == CLF_OK) st = clf_convert(used->ctx, &(clf_convert_args){.x = used, .out = &master});
    if (st == CLF_OK && rounded) {
        st = make(&copy, used->ctx, dtype, used, CLF_TAG_WEIGHTS);
        if (st == CLF_OK) st = copy_master(&copy, &master, p->ternary);
    }
    if (st != CLF_OK) {
        clf_tensor_release(&master);
        clf_tensor_release(&copy);
        return st;
    }
    if (!rounded) {
        copy = master;
        clf_buffer_retain(copy.buffer);
    }
    p->master = master;
    if (args->model->mapped && used->buffer->size_class < 0) clf_source_forget(clf_data(used), clf_tensor_bytes(used));
    clf_tensor_release(used);
    *used = copy;
    return CLF_OK;
}

/* Momentum or variance. */
static clf_status make_state(clf_tensor *state, clf_tensor *scale, const clf_tensor *weight,
                             const clf_trainer_args *args) {
    clf_context *ctx = weight->ctx;
    const int64_t n = clf_elements(weight);
    const bool codes = clf_state_is_codes(args, n);
    CLF_TRY(make(state, ctx, codes ? CLF_U8 : CLF_F32, weight, CLF_TAG_OPTIMIZER));
    if (!codes) return CLF_OK;
    const clf_tensor blocks = {.ndim = 1, .shape = {(n + CLF_OPTIMIZER_BLOCK - 1) / CLF_OPTIMIZER_BLOCK}};
    return make(scale, ctx, CLF_F32, &blocks, CLF_TAG_OPTIMIZER);
}

typedef enum parameter_kind {
    ADAPTER, /* F32, of this trainer's own already */
    WEIGHT,
    TERNARY
} parameter_kind;

/* Adds the tensor `used`; *gradient tells where its gradient is. */
static clf_status add(clf_parameters *ps, const clf_trainer_args *args, const char *name, const char *suffix,
                      clf_tensor *used, parameter_kind kind, clf_tensor **gradient) {
    clf_parameter *p = &ps->all[ps->count];
    snprintf(p->name, sizeof p->name, "%s%s", name, suffix);
    const clf_parameter_group *group = clf_parameter_group_of(args, p->name);
    if (group && group->frozen) return CLF_OK;
    ps->count++;
    p->used = used;
    p->learning_rate_scale = group && group->learning_rate_scale != 0 ? group->learning_rate_scale : 1;
    p->weight_decay = group ? group->weight_decay : used->ndim > 1 ? args->weight_decay : 0;
    p->ternary = kind == TERNARY;
    if (kind == ADAPTER) {
        p->master = *used;
        clf_buffer_retain(p->master.buffer);
    } else {
        CLF_TRY(own(p, args));
    }
    CLF_TRY(make(&p->gradient, used->ctx, CLF_F32, used, CLF_TAG_GRADIENTS));
    *gradient = &p->gradient;
    const int states = clf_state_count(args);
    if (states > 0) CLF_TRY(make_state(&p->momentum, &p->momentum_scale, &p->master, args));
    if (states > 1) CLF_TRY(make_state(&p->variance, &p->variance_scale, &p->master, args));
    return CLF_OK;
}

/* A ~ U(±1/√k), as PEFT begins: He et al.'s uniform with a = √5. */
static clf_status fill_uniform(clf_tensor *t, uint64_t seed) {
    const int64_t n = clf_elements(t);
    const double bound = 1 / sqrt((double)clf_last(t));
    float *values = malloc((size_t)n * sizeof *values);
    CLF_CHECK(&t->ctx->error, values, CLF_OUT_OF_MEMORY, "trainer: out of host memory");
    for (int64_t i = 0; i < n; i++) values[i] = (float)(((double)(clf_splitmix64(&seed) >> 11) * 0x1p-52 - 1) * bound);
    const clf_status st = clf_tensor_write(t, values, (size_t)n * sizeof *values);
    free(values);
    return st;
}

static clf_status make_adapter(clf_layer *l, int layer, clf_weight id, const clf_trainer_args *args) {
    char name[CLF_WEIGHT_NAME_SIZE];
    clf_lora *made = &l->lora[id];
    const int rank = clf_lora_rank(&args->lora, clf_weight_name(name, layer, id), &made->scale);
    const clf_tensor a = {.ndim = 2, .shape = {rank, l->weight[id].shape[1]}},
                     b = {.ndim = 2, .shape = {l->weight[id].shape[0], rank}};
    CLF_TRY(make(&made->a, l->ctx, CLF_F32, &a, CLF_TAG_WEIGHTS));
    CLF_TRY(make(&made->b, l->ctx, CLF_F32, &b, CLF_TAG_WEIGHTS));
    if (rank > args->model->lora_rank) args->model->lora_rank = rank;
    return fill_uniform(&made->a, clf_seed_of(args->seed, (uint64_t)layer * CLF_W_MATRICES + id));
}

static clf_status add_adapters(clf_parameters *ps, const clf_trainer_args *args, int layer) {
    clf_layer *l = &args->model->layers[layer];
    const int targets = args->lora.targets ? args->lora.targets : (1 << CLF_W_MATRICES) - 1;
    for (int id = 0; id < CLF_W_MATRICES; id++) {
        char name[CLF_WEIGHT_NAME_SIZE];
        if (ps->begins && targets >> id & 1) CLF_TRY(make_adapter(l, layer, (clf_weight)id, args));
        if (!l->lora[id].a.buffer) continue;
        clf_weight_name(name, layer, (clf_weight)id);
        CLF_TRY(add(ps, args, name, ".lora_a", &l->lora[id].a, ADAPTER, &ps->layers[layer].a[id]));
        CLF_TRY(add(ps, args, name, ".lora_b", &l->lora[id].b, ADAPTER, &ps->layers[layer].b[id]));
    }
    return CLF_OK;
}

static clf_status add_weights(clf_parameters *ps, const clf_trainer_args *args, int layer) {
    clf_layer *l = &args->model->layers[layer];
    for (int id = 0; id < CLF_W_COUNT; id++) {
        char name[CLF_WEIGHT_NAME_SIZE];
        if (!l->weight[id].buffer) continue;
        clf_weight_name(name, layer, (clf_weight)id);
        const parameter_kind kind = args->ternary && id < CLF_W_MATRICES ? TERNARY : WEIGHT;
        CLF_TRY(add(ps, args, name, "", &l->weight[id], kind, &ps->layers[layer].weight[id]));
    }
    return CLF_OK;
}

static clf_status add_embedding(clf_parameters *ps, const clf_trainer_args *args) {
    clf_model *m = args->model;
    const bool tied = m->output.buffer == m->embedding.buffer;
    CLF_TRY(add(ps, args, "token_embd.weight", "", &m->embedding, WEIGHT, &ps->d_embedding));
    if (!tied || !ps->d_embedding) return CLF_OK;
    clf_model_tie(m);
    ps->d_output = ps->d_embedding;
    return CLF_OK;
}

clf_status clf_parameters_init(clf_parameters *ps, const clf_trainer_args *args) {
    clf_model *m = args->model;
    clf_error *err = &m->contexts[0]->error;
    const int n_layers = m->config.n_layers;
    const size_t most = 3 + (size_t)n_layers * (CLF_W_COUNT + 2 * CLF_W_MATRICES);
    const bool full = args->mode == CLF_TRAIN_FULL;
    ps->begins = !full && !m->lora_rank;
    ps->all = calloc(most, sizeof *ps->all);
    ps->layers = calloc((size_t)n_layers, sizeof *ps->layers);
    CLF_CHECK(err, ps->all && ps->layers, CLF_OUT_OF_MEMORY, "trainer: out of host memory");
    if (full || args->train_embedding || (args->train_output && m->config.tied_output))
        CLF_TRY(add_embedding(ps, args));
    for (int i = 0; i < n_layers; i++) CLF_TRY(full ? add_weights(ps, args, i) : add_adapters(ps, args, i));
    if (full) CLF_TRY(add(ps, args, "output_norm.weight", "", &m->output_norm, WEIGHT, &ps->d_output_norm));
    if ((full || args->train_output) && !m->config.tied_output)
        CLF_TRY(add(ps, args, "output.weight", "", &m->output, WEIGHT, &ps->d_output));
    CLF_CHECK(err, ps->count > 0, CLF_INVALID_ARGUMENT, "trainer: nothing to train: all parameters are frozen");
    return CLF_OK;
}

void clf_parameters_undo(clf_parameters *ps, clf_model *m) {
    const bool tied = m->output.buffer == m->embedding.buffer;
    for (int i = 0; i < ps->count; i++) {
        clf_parameter *p = &ps->all[i];
        if (!p->master.buffer || p->used->buffer == p->master.buffer) continue;
        clf_tensor_release(p->used);
        *p->used = p->master;
        clf_buffer_retain(p->used->buffer);
    }
    if (tied) clf_model_tie(m);
    if (!ps->begins) return;
    for (int i = 0; i < m->config.n_layers; i++)
        for (int id = 0; id < CLF_W_MATRICES; id++) clf_lora_release(&m->layers[i].lora[id]);
    m->lora_rank = 0;
}

void clf_parameters_release(clf_parameters *ps) {
    for (int i = 0; i < ps->count; i++) {
        clf_parameter *p = &ps->all[i];
        clf_tensor *const own[] = {&p->master,   &p->gradient,       &p->momentum,
                                   &p->variance, &p->momentum_scale, &p->variance_scale};
        for (size_t t = 0; t < sizeof own / sizeof *own; t++) clf_tensor_release(own[t]);
    }
    free(ps->all);
    free(ps->layers);
    *ps = (clf_parameters){0};
}
