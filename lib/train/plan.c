/* plan.c: what training takes, from a model's description alone: the same rules and shapes that the trainer uses. */
#include <stdio.h>

#include "../model/adapter_file.h"
#include "../model/architecture.h"
#include "../model/estimate.h"
#include "trainer.h"

/* What is added up. */
typedef struct plan {
    const clf_trainer_args *args;
    const clf_model_file *file;
    const clf_adapter_file *adapter; /* NULL: one is made */
    const clf_config *config;
    clf_trainer_estimate *out;
} plan;

/* A parameter of n elements: master weights, gradient, state; unless its group is frozen. */
static bool add_parameter(plan *p, const char *name, int64_t n) {
    const clf_parameter_group *group = clf_parameter_group_of(p->args, name);
    if (group && group->frozen) return false;
    const uint64_t f32 = clf_dtype_bytes(CLF_F32, n);
    const int64_t blocks = (n + CLF_OPTIMIZER_BLOCK - 1) / CLF_OPTIMIZER_BLOCK;
    const uint64_t state = clf_state_is_codes(p->args, n) ? (uint64_t)n + clf_dtype_bytes(CLF_F32, blocks) : f32;
    p->out->trained += n;
    p->out->parameters += f32;
    p->out->gradients += f32;
    p->out->optimizer += state * (uint64_t)clf_state_count(p->args);
    return true;
}

/* A weight of the model: frozen, or a parameter that takes its place, with the copy that is used; `matrix`: one of a
 * block's seven. */
static void add_weight(plan *p, const clf_file_tensor *t, bool trained, bool matrix) {
    const int64_t n = clf_file_elements(t);
    if (!trained || !add_parameter(p, t->name, n))
        p->out->weights += clf_dtype_bytes(t->loaded, n);
    else if (matrix && p->args->ternary)
        p->out->parameters += clf_dtype_bytes(clf_ternary_dtype(t->shape[t->ndim - 1]), n);
    else if (t->ndim > 1 && p->args->compute != CLF_F32 && p->args->mode == CLF_TRAIN_FULL)
        p->out->parameters += clf_dtype_bytes(p->args->compute, n);
}

/* The rank of the pair beside a matrix; 0: there is none. */
static int64_t rank_of(const plan *p, clf_weight id, const char *name) {
    const clf_lora_args *lora = &p->args->lora;
    const clf_adapter_pair *pair = p->adapter ? clf_adapter_file_find(p->adapter, name) : NULL;
    float scale;
    if (p->adapter) return pair ? pair->a.shape[0] : 0;
    return !lora->targets || lora->targets >> id & 1 ? clf_lora_rank(lora, name, &scale) : 0;
}

static int64_t add_adapters(plan *p, int layer) {
    int64_t largest = 0;
    for (int id = 0; id < CLF_W_MATRICES; id++) {
        const clf_file_tensor *t = clf_weight_find(p->file, layer, (clf_weight)id);
        char name[CLF_WEIGHT_NAME_SIZE + 8];
        const int64_t rank = rank_of(p, (clf_weight)id, t->name);
        if (!rank) continue;
        snprintf(name, sizeof name, "%s.lora_a", t->name);
        if (!add_parameter(p, name, rank * t->shape[1]))
            p->out->weights += clf_dtype_bytes(CLF_F32, rank * t->shape[1]);
        snprintf(name, sizeof name, "%s.lora_b", t->name);
        if (!add_parameter(p, name, rank * t->shape[0]))
            p->out->weights += clf_dtype_bytes(CLF_F32, rank * t->shape[0]);
        largest = rank > largest ? rank : largest;
    }
    return largest;
}

/* A matrix as it is loaded: floats where the adapter has it as a whole. */
static clf_file_tensor end_of(const clf_file_tensor *t, const clf_file_tensor *whole) {
    clf_file_tensor end = *t;
    if (whole) end.loaded = CLF_F32;
    return end;
}
static clf_file_tensor embedding_of(const plan *p) {
    return end_of(clf_model_file_find(p->file, "token_embd.weight"),
                  p->adapter ? clf_adapter_file_embedding(p->adapter) : NULL);
}
static clf_file_tensor output_of(const plan *p) {
    if (p->config->tied_output) return embedding_of(p);
    return end_of(clf_weight_find_output(p->file), p->adapter ? clf_adapter_file_output(p->adapter) : NULL);
}

/* All weights and adapters; the largest rank. */
static int64_t add_parameters(plan *p) {
    const clf_trainer_args *a = p->args;
    const bool full = a->mode == CLF_TRAIN_FULL, tied = p->config->tied_output;
    const clf_file_tensor embedding = embedding_of(p), output = output_of(p);
    int64_t rank = 0;
    add_weight(p, &embedding, full || a->train_embedding || (tied && a->train_output), false);
    add_weight(p, clf_model_file_find(p->file, "output_norm.weight"), full, false);
    if (!tied) add_weight(p, &output, full || a->train_output, false);
    for (int i = 0; i < p->config->n_layers; i++) {
        for (int id = 0; id < CLF_W_COUNT; id++) {
            const clf_file_tensor *t = clf_weight_find(p->file, i, (clf_weight)id);
            if (t) add_weight(p, t, full, id < CLF_W_MATRICES);
        }
        if (full) continue;
        const int64_t largest = add_adapters(p, i);
        rank = largest > rank ? largest : rank;
    }
    return rank;
}

static void add_activations(plan *p, int64_t rank) {
    const clf_trainer_args *a = p->args;
    const int64_t n = a->tokens;
    const int n_layers = p->config->n_layers;
    const clf_groups g = clf_groups_of(a, n_layers);
    int64_t width[CLF_WORK_COUNT], work = 0;
    clf_work_widths(width, p->config, rank, a->lora.dropout > 0 || a->ternary);
    for (int i = 0; i < CLF_WORK_COUNT; i++) work += width[i];
    /* inputs of groups, of the other blocks in a group */
    const int64_t rows = (g.inputs + g.size - 1) * (int64_t)p->config->hidden_size + work;
    p->out->saved = (uint64_t)g.size * clf_saved_bytes(p->config, n, a->compute);
    p->out->activations =
        p->out->saved + clf_dtype_bytes(a->compute, rows * n) + clf_dtype_bytes(CLF_F32, 5 * n + a->sequences + 1);
    p->out->recomputed = g.count > 1 ? (double)(n_layers - (n_layers - 1) % g.size - 1) / n_layers : 0;
    p->out->host = clf_host_input_bytes(&g, a, p->config);
}

/* Floating-point operations of a step, each multiplication and addition one, for a token: products by what is trained,
 * by what the gradient flows through, and again where blocks are computed twice. Scores are of sequences as long as the
 * batch. */
static void add_flops(plan *p) {
    const clf_config *c = p->config;
    const bool full = p->args->mode == CLF_TRAIN_FULL;
    double block = 0;
    for (int id = 0; id < CLF_W_MATRICES; id++)
        block += 2 * (double)clf_file_elements(clf_weight_find(p->file, 0, (clf_weight)id));
    const double scores = (double)c->n_heads * (c->head_dim + c->v_dim) * (double)p->args->tokens;
    const double head = 2 * (double)c->hidden_size * c->vocab_size;
    const double forward = c->n_layers * (block + scores),
                 backward = c->n_layers * ((full ? 2 : 1) * block + 2.5 * scores);
    p->out->flops = forward * (1 + p->out->recomputed) + backward + head * (full || p->args->train_output ? 3 : 2);
}

static uint64_t larger(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

/* The most that one op takes on a CPU table. */
static uint64_t cpu_scratch(const plan *p, const clf_attention_bytes *attention, int threads) {
    const clf_config *c = p->config;
    const clf_trainer_args *a = p->args;
    const int64_t attended = clf_extent_of(CLF_EXTENT_ATTENTION, c), qkv = clf_extent_of(CLF_EXTENT_QKV, c);
    const clf_dtype output = a->mode == CLF_TRAIN_FULL ? a->compute : output_of(p).loaded;
    const clf_cross_entropy_shape head = {.rows = a->tokens,
                                          .k = c->hidden_size,
                                          .vocab = c->vocab_size,
                                          .block_values = clf_dtype_block_values(output),
                                          .float_weights = output == CLF_F32,
                                          .float_x = a->compute == CLF_F32,
                                          .d_weight = a->mode == CLF_TRAIN_FULL || a->train_output ||
                                                      (c->tied_output && a->train_embedding),
                                          .smoothing = a->label_smoothing != 0,
                                          .softcap = c->logit_softcap != 0};
    const uint64_t takes[] = {
        clf_estimate_linear(a->tokens, c->hidden_size, qkv, false, false, threads),
        clf_estimate_linear(a->tokens, attended, c->hidden_size, false, false, threads),
        clf_estimate_linear(a->tokens, c->hidden_size, 2 * c->ffn_size, false, false, threads),
        clf_estimate_linear(a->tokens, c->ffn_size, c->hidden_size, false, false, threads),
        clf_estimate_linear_backward(threads),
        clf_estimate_linear_cross_entropy(&head, threads),
        attention->flash_scratch,
        attention->backward_scratch,
    };
    uint64_t most = 0;
    for (size_t i = 0; i < sizeof takes / sizeof *takes; i++) most = larger(most, takes[i]);
    return most;
}

/* In OpenCL: some rows of logits; and in 16 bits the gradient by an x of several products, while it is summed. */
static uint64_t device_scratch(const plan *p, const clf_attention_bytes *attention) {
    const clf_config *c = p->config;
    const int64_t n = p->args->tokens;
    const uint64_t logits = clf_estimate_device_cross_entropy(n, c->vocab_size);
    const uint64_t sum = p->args->compute == CLF_F32 ? 0 : clf_dtype_bytes(CLF_F32, n * c->hidden_size);
    return larger(larger(logits, sum), larger(attention->device_scratch, attention->device_backward_scratch));
}

static clf_status add_scratch(plan *p, int threads, bool device) {
    const clf_config *c = p->config;
    const clf_trainer_args *a = p->args;
    const clf_attention_memory_args shape = {.batch = 1,
                                             .heads = c->n_heads,
                                             .kv_heads = c->n_kv_heads,
                                             .queries = a->tokens,
                                             .keys = a->tokens,
                                             .head_dim = c->head_dim,
                                             .v_dim = c->v_dim,
                                             .dtype = a->compute,
                                             .threads = threads};
    clf_attention_bytes attention;
    CLF_TRY(clf_attention_memory(&attention, &shape));
    p->out->scratch = device ? device_scratch(p, &attention) : cpu_scratch(p, &attention, threads);
    return CLF_OK;
}

static clf_status estimate(clf_trainer_estimate *out, const clf_trainer_estimate_args *args, const clf_model_file *file,
                           const clf_adapter_file *adapter, clf_error *err) {
    clf_trainer_args a = args->trainer;
    const clf_config *c = clf_model_file_config(file);
    CLF_TRY(clf_trainer_check(&a, c, adapter != NULL, err));
    CLF_CHECK(err, !a.offload_checkpoints || args->device, CLF_UNSUPPORTED,
              "trainer: offload_checkpoints: expected a plan for a device with memory of its own");
    plan p = {.args = &a, .file = file, .adapter = adapter, .config = c, .out = out};
    const int64_t rank = add_parameters(&p);
    add_activations(&p, rank);
    add_flops(&p);
    CLF_TRY(add_scratch(&p, args->threads > 0 ? args->threads : 1, args->device));
    out->total = out->weights + out->parameters + out->gradients + out->optimizer + out->activations + out->scratch;
    return CLF_OK;
}

clf_status clf_estimate_trainer(clf_trainer_estimate *out, const clf_trainer_estimate_args *args) {
    if (!out || !args) return CLF_INVALID_ARGUMENT;
    *out = (clf_trainer_estimate){0};
    clf_error err = {0};
    clf_model_file *file = NULL;
    clf_adapter_file *adapter = NULL;
    const clf_model_file_args file_args = {.path = args->path,
                                           .data = args->data,
                                           .data_size = args->data_size,
                                           .mmap = true,
                                           .metadata_only = true,
                                           .quantize = args->quantize};
    clf_status st = clf_model_file_open(&file, &file_args, &err);
    if (st == CLF_OK && args->adapter)
        st = clf_adapter_file_open(&adapter, args->adapter, true, clf_model_file_config(file), &err);
    if (st == CLF_OK) st = estimate(out, args, file, adapter, &err);
    clf_adapter_file_close(adapter);
    clf_model_file_close(file);
    if (args->error && args->error_size) snprintf(args->error, args->error_size, "%s", st == CLF_OK ? "" : err.message);
    return st;
}
