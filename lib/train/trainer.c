/* trainer.c: what a trainer is made of, and the update. */
#include "trainer.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../core/checked.h"
#include "../model/decoder.h"

clf_status clf_trainer_enter(const clf_trainer *t) {
    return t ? clf_model_enter(t->args.model) : CLF_INVALID_ARGUMENT;
}

/* Creation */

clf_status clf_trainer_check(clf_trainer_args *a, const clf_config *c, bool adapted, clf_error *err) {
    CLF_CHECK(err, (unsigned)a->mode <= CLF_TRAIN_FULL, CLF_INVALID_ARGUMENT, "trainer: mode: %d is none",
              (int)a->mode);
    CLF_CHECK(err, (unsigned)a->optimizer <= CLF_OPTIMIZER_LION, CLF_INVALID_ARGUMENT, "trainer: optimizer: %d is none",
              (int)a->optimizer);
    CLF_CHECK(err, a->compute == CLF_F32 || a->compute == CLF_F16 || a->compute == CLF_BF16, CLF_INVALID_ARGUMENT,
              "trainer: compute: expected f32, f16 or bf16, got %s", clf_dtype_name(a->compute));
    CLF_CHECK(err, a->tokens >= 1 && a->tokens <= CLF_MAX_BATCH_TOKENS, CLF_INVALID_ARGUMENT,
              "trainer: tokens: expected 1 to %d, got %lld", CLF_MAX_BATCH_TOKENS, (long long)a->tokens);
    if (!a->sequences) a->sequences = a->tokens > 1 ? a->tokens / 2 : 1;
    CLF_CHECK(err, a->sequences >= 1 && a->sequences <= a->tokens, CLF_INVALID_ARGUMENT,
              "trainer: sequences: expected 1 to %lld, got %lld", (long long)a->tokens, (long long)a->sequences);
    CLF_CHECK(err, a->checkpointing >= CLF_CHECKPOINT_SQRT, CLF_INVALID_ARGUMENT,
              "trainer: checkpointing: expected -1 or more, got %d", a->checkpointing);
    CLF_CHECK(err, !a->offload_checkpoints || a->checkpointing != CLF_CHECKPOINT_NONE, CLF_INVALID_ARGUMENT,
              "trainer: offload_checkpoints: expected checkpointing with it: without, no input is kept to wait");
    if (a->mode == CLF_TRAIN_FULL)
        CLF_CHECK(err, !adapted, CLF_INVALID_ARGUMENT,
                  "trainer: mode: a model with an adapter can't be trained as a whole");
    CLF_CHECK(err, !a->ternary || a->mode == CLF_TRAIN_FULL, CLF_INVALID_ARGUMENT,
              "trainer: ternary: expected CLF_TRAIN_FULL: beside an adapter the matrices aren't trained");
    const clf_lora_args *l = &a->lora;
    CLF_CHECK(err, !adapted || (!l->rank && l->alpha == 0 && !l->targets && !l->n_patterns && !l->rank_stabilized),
              CLF_INVALID_ARGUMENT, "trainer: lora: the model has an adapter already, which says rank and alpha");
    CLF_CHECK(err, l->rank >= 0 && l->rank <= c->hidden_size, CLF_INVALID_ARGUMENT,
              "trainer: lora: rank: expected 1 to %d, got %d", c->hidden_size, l->rank);
    CLF_CHECK(err, l->alpha >= 0 && l->alpha <= FLT_MAX, CLF_INVALID_ARGUMENT,
              "trainer: lora: alpha: expected 0 or more, got %g", (double)l->alpha);
    CLF_CHECK(err, l->dropout >= 0 && l->dropout < 1, CLF_INVALID_ARGUMENT,
              "trainer: lora: dropout: expected 0 to below 1, got %g", (double)l->dropout);
    CLF_CHECK(err, l->targets >= 0 && l->targets < 1 << CLF_W_MATRICES, CLF_INVALID_ARGUMENT,
              "trainer: lora: targets: %d has unknown flags", l->targets);
    for (int i = 0; i < l->n_patterns; i++)
        CLF_CHECK(err, l->patterns && l->patterns[i].name && l->patterns[i].rank >= 0 && l->patterns[i].alpha >= 0,
                  CLF_INVALID_ARGUMENT, "trainer: lora: patterns[%d]: expected a name, rank and alpha 0 or more", i);
    for (int i = 0; i < a->n_groups; i++)
        CLF_CHECK(err, a->groups && a->groups[i].name, CLF_INVALID_ARGUMENT, "trainer: groups[%d]: name is NULL", i);
    const float positive[] = {a->loss_scale, a->beta1, a->beta2, a->eps, a->weight_decay, a->clip};
    static const char *const names[] = {"loss_scale", "beta1", "beta2", "eps", "weight_decay", "clip"};
    for (size_t i = 0; i < sizeof positive / sizeof *positive; i++)
        CLF_CHECK(err, positive[i] >= 0 && positive[i] <= FLT_MAX, CLF_INVALID_ARGUMENT,
                  "trainer: %s: expected 0 or more, got %g", names[i], (double)positive[i]);
    CLF_CHECK(err, a->beta1 < 1 && a->beta2 < 1, CLF_INVALID_ARGUMENT,
              "trainer: beta1, beta2: expected below 1, got %g, %g", (double)a->beta1, (double)a->beta2);
    if (a->loss_scale == 0) a->loss_scale = 1;
    if (a->beta1 == 0 && a->optimizer != CLF_OPTIMIZER_SGD) a->beta1 = 0.9F;
    if (a->beta2 == 0) a->beta2 = a->optimizer == CLF_OPTIMIZER_LION ? 0.99F : 0.999F;
    if (a->eps == 0) a->eps = 1e-8F;
    return CLF_OK;
}

clf_groups clf_groups_of(const clf_trainer_args *a, int n_layers) {
    const int k = a->checkpointing == CLF_CHECKPOINT_SQRT   ? (int)ceil(sqrt((double)n_layers))
                  : a->checkpointing == CLF_CHECKPOINT_NONE ? n_layers
                                                            : a->checkpointing;
    clf_groups g = {.size = k < n_layers ? k : n_layers};
    g.count = (n_layers + g.size - 1) / g.size;
    const int kept = g.count > 2 ? g.count - 1 : g.count; /* the last group's takes the place of the first one's */
    g.inputs = a->offload_checkpoints && kept > CLF_INPUTS_AT_WORK ? CLF_INPUTS_AT_WORK : kept;
    g.on_host = kept - g.inputs;
    return g;
}

uint64_t clf_host_input_bytes(const clf_groups *g, const clf_trainer_args *a, const clf_config *c) {
    uint64_t bytes = clf_dtype_bytes(a->compute, a->tokens * c->hidden_size);
    return clf_mul_u64(bytes, (uint64_t)g->on_host, &bytes) ? bytes : UINT64_MAX;
}

static clf_status make(clf_tensor *t, clf_context *ctx, clf_dtype dtype, int ndim, int64_t rows, int64_t width) {
    return clf_tensor_init(
        t, ctx, &(clf_tensor_args){.dtype = dtype, .ndim = ndim, .shape = {rows, width}, .tag = CLF_TAG_ACTIVATIONS});
}

static clf_status make_activations(clf_trainer *t) {
    const clf_trainer_args *a = &t->args;
    const clf_config *c = &a->model->config;
    const int64_t n = a->tokens;
    int64_t width[CLF_WORK_COUNT];
    for (int i = 0; i < t->groups.inputs; i++) CLF_TRY(make(&t->inputs[i], t->ctx, a->compute, 2, n, c->hidden_size));
    for (int i = 0; i < t->groups.size; i++) {
        if (i) CLF_TRY(make(&t->sets[i].act[CLF_SAVED_INPUT], t->ctx, a->compute, 2, n, c->hidden_size));
        CLF_TRY(clf_saved_init(&t->sets[i], t->ctx, c, n, a->compute));
    }
    clf_work_widths(width, c, a->model->lora_rank, a->lora.dropout > 0 || a->ternary);
    for (int i = 0; i < CLF_WORK_COUNT; i++)
        if (width[i]) CLF_TRY(make(&t->pass.work[i], t->ctx, a->compute, 2, n, width[i]));
    CLF_TRY(make(&t->last_stat, t->ctx, CLF_F32, 1, n, 0));
    CLF_TRY(make(&t->loss, t->ctx, CLF_F32, 1, n, 0));
    CLF_TRY(make(&t->ids, t->ctx, CLF_I32, 1, n, 0));
    CLF_TRY(make(&t->labels, t->ctx, CLF_I32, 1, n, 0));
    CLF_TRY(make(&t->pass.positions, t->ctx, CLF_I32, 1, n, 0));
    CLF_TRY(make(&t->pass.starts, t->ctx, CLF_I32, 1, a->sequences + 1, 0));
    return make(&t->norms, t->ctx, CLF_F32, 1, t->parameters.count, 0);
}

static clf_status make_host_inputs(clf_trainer *t) {
    const uint64_t bytes = clf_host_input_bytes(&t->groups, &t->args, &t->args.model->config);
    const int n = t->groups.on_host;
    char size[32];
    if (!n) return CLF_OK;
    t->host_inputs = calloc((size_t)n, sizeof *t->host_inputs);
    clf_status st = t->host_inputs && bytes <= SIZE_MAX ? CLF_OK : CLF_OUT_OF_MEMORY;
    for (int i = 0; i < n && st == CLF_OK; i++)
        st = clf_transfer_alloc(&t->host_inputs[i], t->ctx, (size_t)bytes / (size_t)n);
    CLF_CHECK(&t->ctx->error, st != CLF_OUT_OF_MEMORY, st,
              "trainer: offload_checkpoints: out of host memory: required %llu bytes (%s)", (unsigned long long)bytes,
              clf_format_bytes(size, sizeof size, bytes));
    return st;
}

static clf_status init(clf_trainer *t, const clf_trainer_args *args) {
    clf_model *m = args->model;
    clf_error *err = &m->contexts[0]->error;
    t->args = *args;
    t->ctx = m->contexts[0];
    t->model = m->fingerprint;
    CLF_CHECK(err, m->n_contexts == 1, CLF_UNSUPPORTED, "trainer: model: expected on one context, got %d",
              m->n_contexts);
    for (int i = 0; i < m->config.n_layers; i++)
        for (int id = 0; id < CLF_W_MATRICES; id++) {
            char name[CLF_WEIGHT_NAME_SIZE];
            CLF_CHECK(err, !clf_weight_is_repacked(&m->layers[i], (clf_weight)id), CLF_UNSUPPORTED,
                      "trainer: model: %s is repacked for inference: expected a model loaded with keep_layout",
                      clf_weight_name(name, i, (clf_weight)id));
        }
    CLF_TRY(clf_trainer_check(&t->args, &m->config, m->lora_rank > 0, err));
    CLF_CHECK(
        err, !t->args.offload_checkpoints || !t->ctx->backend->host, CLF_UNSUPPORTED,
        "trainer: offload_checkpoints: expected a device with memory of its own, got %s, whose memory is the host's",
        t->ctx->backend->name);
    t->groups = clf_groups_of(&t->args, m->config.n_layers);
    t->sets = calloc((size_t)t->groups.size, sizeof *t->sets);
    t->inputs = calloc((size_t)t->groups.inputs, sizeof *t->inputs);
    CLF_CHECK(err, t->sets && t->inputs, CLF_OUT_OF_MEMORY, "trainer: out of host memory");
    CLF_TRY(clf_parameters_init(&t->parameters, &t->args));
    const int64_t most = t->args.tokens > t->parameters.count ? t->args.tokens : t->parameters.count;
    t->host_ids = malloc((size_t)t->args.tokens * sizeof *t->host_ids);
    t->host_values = malloc((size_t)most * sizeof *t->host_values);
    CLF_CHECK(err, t->host_ids && t->host_values, CLF_OUT_OF_MEMORY, "trainer: out of host memory");
    CLF_TRY(make_host_inputs(t));
    t->pass.model = m;
    t->pass.ternary = t->args.ternary;
    clf_decoder_ropes(t->pass.rope, &m->config, t->args.tokens);
    CLF_TRY(make_activations(t));
    const bool whole = t->args.mode == CLF_TRAIN_LORA, tied = m->config.tied_output;
    m->embedding_trained |= whole && t->parameters.d_embedding;
    m->output_trained |= whole && !tied && t->parameters.d_output;
    return CLF_OK;
}

clf_status clf_trainer_create(clf_trainer **out, const clf_trainer_args *args) {
    if (out) *out = NULL;
    if (!out || !args || !args->model) return CLF_INVALID_ARGUMENT;
    CLF_TRY(clf_model_enter(args->model));
    clf_trainer *t = calloc(1, sizeof *t);
    CLF_CHECK(&args->model->contexts[0]->error, t, CLF_OUT_OF_MEMORY, "trainer: out of host memory");
    const clf_status st = init(t, args);
    if (st == CLF_OK) {
        *out = t;
    } else {
        clf_parameters_undo(&t->parameters, args->model);
        clf_trainer_destroy(t);
    }
    return st;
}

void clf_trainer_destroy(clf_trainer *t) {
    if (!t) return;
    for (int i = 0; t->host_inputs && i < t->groups.on_host; i++) clf_transfer_free(t->ctx, &t->host_inputs[i]);
    clf_parameters_release(&t->parameters);
    for (int i = 0; t->sets && i < t->groups.size; i++) clf_saved_release(&t->sets[i]);
    for (int i = 0; t->inputs && i < t->groups.inputs; i++) clf_tensor_release(&t->inputs[i]);
    for (int i = 0; i < CLF_WORK_COUNT; i++) clf_tensor_release(&t->pass.work[i]);
    clf_tensor *const own[] = {&t->last_stat, &t->loss,           &t->ids,         &t->labels,
                               &t->norms,     &t->pass.positions, &t->pass.starts, &t->row_weights};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) clf_tensor_release(own[i]);
    free(t->sets);
    free(t->inputs);
    free(t->host_inputs);
    free(t->host_ids);
    free(t->host_values);
    free(t);
}

/* The update */

clf_status clf_trainer_clear_gradients(clf_trainer *t) {
    for (int i = 0; i < t->parameters.count; i++) CLF_TRY(clf_tensor_clear(&t->parameters.all[i].gradient));
    return CLF_OK;
}

static clf_status gradient_norm(clf_trainer *t, clf_update *result) {
    const clf_parameters *ps = &t->parameters;
    for (int i = 0; i < ps->count; i++) {
        clf_tensor out = clf_view_of(&t->norms, 0, NULL, NULL, i);
        CLF_TRY(clf_sum_squares(t->ctx, &(clf_sum_squares_args){.x = &ps->all[i].gradient, .out = &out}));
    }
    CLF_TRY(clf_tensor_read(&t->norms, t->host_values, (size_t)ps->count * sizeof(float)));
    double sum = 0;
    for (int i = 0; i < ps->count; i++) {
        sum += (double)t->host_values[i];
        if (!result->culprit && !isfinite(t->host_values[i])) result->culprit = ps->all[i].name;
    }
    result->gradient_norm = sqrt(sum) / (double)t->args.loss_scale;
    result->skipped = result->culprit != NULL;
    return CLF_OK;
}

static clf_status step_parameter(const clf_trainer *t, clf_parameter *p, float learning_rate, float scale) {
    const clf_trainer_args *a = &t->args;
    clf_tensor *const copy = p->used->buffer == p->master.buffer || p->ternary ? NULL : p->used;
    CLF_TRY(clf_optimizer_step(
        t->ctx, &(clf_optimizer_step_args){.optimizer = a->optimizer,
                                           .weight = &p->master,
                                           .gradient = &p->gradient,
                                           .copy = copy,
                                           .momentum = p->momentum.buffer ? &p->momentum : NULL,
                                           .variance = p->variance.buffer ? &p->variance : NULL,
                                           .momentum_scale = p->momentum_scale.buffer ? &p->momentum_scale : NULL,
                                           .variance_scale = p->variance_scale.buffer ? &p->variance_scale : NULL,
                                           .gradient_scale = scale,
                                           .learning_rate = learning_rate * p->learning_rate_scale,
                                           .beta1 = a->beta1,
                                           .beta2 = a->beta2,
                                           .eps = a->eps,
                                           .weight_decay = p->weight_decay,
                                           .step = t->step}));
    return p->ternary ? clf_parameter_refresh(p) : CLF_OK;
}

clf_status clf_trainer_update(clf_trainer *t, float learning_rate, clf_update *result) {
    CLF_TRY(clf_trainer_enter(t));
    clf_update unseen;
    if (!result) result = &unseen;
    *result = (clf_update){0};
    CLF_CHECK(&t->ctx->error, learning_rate >= 0 && learning_rate <= FLT_MAX, CLF_INVALID_ARGUMENT,
              "trainer: learning_rate: expected 0 or more, got %g", (double)learning_rate);
    CLF_TRY(gradient_norm(t, result));
    t->settled = t->micro_batch;
    clf_parameters *ps = &t->parameters;
    if (result->skipped) return clf_trainer_clear_gradients(t);
    const double limit = (double)t->args.clip / (result->gradient_norm + 1e-6);
    const double scale = (t->args.clip > 0 && limit < 1 ? limit : 1) / (double)t->args.loss_scale;
    t->step++;
    for (int i = 0; i < ps->count; i++) CLF_TRY(step_parameter(t, &ps->all[i], learning_rate, (float)scale));
    return CLF_OK;
}

int64_t clf_trainer_step(const clf_trainer *t) {
    return t ? t->step : 0;
}

clf_status clf_trainer_set_loss_scale(clf_trainer *t, float loss_scale) {
    CLF_TRY(clf_trainer_enter(t));
    CLF_CHECK(&t->ctx->error, loss_scale > 0 && loss_scale <= FLT_MAX, CLF_INVALID_ARGUMENT,
              "trainer: loss_scale: expected a positive number, got %g", (double)loss_scale);
    t->args.loss_scale = loss_scale;
    return CLF_OK;
}

int clf_trainer_parameters(const clf_trainer *t) {
    return t ? t->parameters.count : 0;
}

clf_status clf_trainer_parameter(const clf_trainer *t, int index, clf_parameter_info *out) {
    if (!t || !out || index < 0 || index >= t->parameters.count) return CLF_INVALID_ARGUMENT;
    const clf_parameter *p = &t->parameters.all[index];
    *out = (clf_parameter_info){.name = p->name, .weight = &p->master, .gradient = &p->gradient};
    return CLF_OK;
}
