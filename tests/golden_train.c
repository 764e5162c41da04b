/* golden_train.c: what PyTorch calls its parameters, and a run step by step: two micro-batches, clipping at 1, AdamW
 * with decay on everything, learning rates from the file. */
#include "golden_train.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LOSS_TOLERANCE   2e-6
#define NORM_TOLERANCE   1e-5
#define WEIGHT_TOLERANCE 3e-5

enum { NAME_SIZE = 128, MICRO_BATCHES = 2 };

/* Hugging Face's names of a block's tensors and ours; a fused one is the rows of several. */
static const struct {
    const char *theirs, *ours[3];
} names[] = {
    {"input_layernorm", {"attn_norm"}},
    {"self_attn.q_proj", {"attn_q"}},
    {"self_attn.k_proj", {"attn_k"}},
    {"self_attn.v_proj", {"attn_v"}},
    {"self_attn.o_proj", {"attn_output"}},
    {"self_attn.qkv_proj", {"attn_q", "attn_k", "attn_v"}},
    {"self_attn.q_norm", {"attn_q_norm"}},
    {"self_attn.k_norm", {"attn_k_norm"}},
    {"post_attention_layernorm", {"post_attention_norm"}},
    {"pre_feedforward_layernorm", {"ffn_norm"}},
    {"post_feedforward_layernorm", {"post_ffw_norm"}},
    {"mlp.gate_proj", {"ffn_gate"}},
    {"mlp.up_proj", {"ffn_up"}},
    {"mlp.gate_up_proj", {"ffn_gate", "ffn_up"}},
    {"mlp.down_proj", {"ffn_down"}},
};

static bool find(const clf_trainer *t, const char *name, clf_parameter_info *out) {
    for (int i = 0; i < clf_trainer_parameters(t); i++)
        if (clf_trainer_parameter(t, i, out) == CLF_OK && !strcmp(out->name, name)) return true;
    return false;
}

/* Our parameters that make up theirs; how many, 0 if unknown. */
static int translate(const clf_trainer *t, const char *theirs, clf_parameter_info out[3]) {
    if (!strcmp(theirs, "model.embed_tokens.weight")) return find(t, "token_embd.weight", out);
    if (!strcmp(theirs, "model.norm.weight")) return find(t, "output_norm.weight", out);
    if (!strcmp(theirs, "lm_head.weight")) return find(t, "output.weight", out);
    int layer, length;
    if (sscanf(theirs, "model.layers.%d.%n", &layer, &length) != 1) return 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const size_t n = strlen(names[i].theirs);
        if (strncmp(theirs + length, names[i].theirs, n) || theirs[(size_t)length + n] != '.') continue;
        const char *suffix = theirs + length + n;
        if (!strcmp(suffix, ".lora_A.weight")) suffix = ".weight.lora_a";
        if (!strcmp(suffix, ".lora_B.weight")) suffix = ".weight.lora_b";
        int parts = 0;
        for (; parts < 3 && names[i].ours[parts]; parts++) {
            char name[NAME_SIZE];
            snprintf(name, sizeof name, "blk.%d.%s%s", layer, names[i].ours[parts], suffix);
            if (find(t, name, &out[parts])) continue;
            snprintf(name, sizeof name, "blk.%d.ffn_norm%s", layer, suffix); /* where there are no post norms */
            if (strcmp(names[i].ours[parts], "post_attention_norm") || !find(t, name, &out[parts])) return 0;
        }
        return parts;
    }
    return 0;
}

/* Error of the weights or gradients that `want` names after its prefix; ∞, after saying why, if they can't be had. */
static double error_of(clf_context *ctx, const clf_trainer *t, const golden_tensor *want, size_t prefix,
                       bool gradient) {
    clf_parameter_info parts[3];
    const int n = translate(t, want->name + prefix, parts);
    float *got = calloc((size_t)want->elements, sizeof *got);
    double *expected = golden_doubles(want), error = INFINITY;
    int64_t at = 0;
    clf_status st = n && got && expected ? CLF_OK : CLF_NOT_FOUND;
    for (int i = 0; st == CLF_OK && i < n; i++) {
        const clf_tensor *part = gradient ? parts[i].gradient : parts[i].weight;
        const int64_t elements = clf_tensor_elements(part);
        st = at + elements <= want->elements ? clf_tensor_read(part, got + at, clf_tensor_bytes(part)) : CLF_FULL;
        at += elements;
    }
    if (st == CLF_OK && at == want->elements)
        error = golden_error(got, expected, at);
    else
        printf("\n  %s: %s %s", want->name, clf_status_string(st), clf_error_message(ctx));
    free(got);
    free(expected);
    return error;
}

/* The largest error among the file's tensors whose name begins with `prefix`. */
static double largest_error(clf_context *ctx, const clf_trainer *t, const golden_file *file, const char *prefix,
                            bool gradient, int *count) {
    double largest = 0;
    *count = 0;
    for (int i = 0; i < golden_count(file); i++) {
        const golden_tensor *want = golden_at(file, i);
        if (strncmp(want->name, prefix, strlen(prefix))) continue;
        const double error = error_of(ctx, t, want, strlen(prefix), gradient);
        largest = error > largest ? error : largest;
        ++*count;
    }
    return largest;
}

/* Ids and labels of a micro-batch: their label of a position is its own token, ours is the next one. */
typedef struct micro_batch {
    int32_t *ids, *labels, starts[65];
    clf_batch batch;
    int64_t targets;
} micro_batch;

static void release(micro_batch *m) {
    free(m->ids);
    free(m->labels);
}

static bool read_batch(micro_batch *m, const golden_file *file, const char *ids_name, const char *labels_name) {
    const golden_tensor *ids = golden_find(file, ids_name), *labels = golden_find(file, labels_name);
    *m = (micro_batch){0};
    if (!ids || !labels || ids->ndim != 2 || ids->shape[0] > 64 || labels->elements != ids->elements) return false;
    const int64_t rows = ids->shape[0], width = ids->shape[1];
    m->ids = golden_ints(ids);
    m->labels = golden_ints(labels);
    if (!m->ids || !m->labels) return false;
    for (int64_t r = 0; r < rows; r++) {
        int32_t *l = m->labels + r * width;
        memmove(l, l + 1, (size_t)(width - 1) * sizeof *l);
        l[width - 1] = CLF_LABEL_NONE;
        for (int64_t i = 0; i < width; i++) m->targets += l[i] != CLF_LABEL_NONE;
        m->starts[r + 1] = (int32_t)((r + 1) * width);
    }
    m->batch =
        (clf_batch){.ids = m->ids, .labels = m->labels, .tokens = rows * width, .starts = m->starts, .sequences = rows};
    return true;
}

bool golden_gradients(clf_context *ctx, clf_model *model, const golden_file *expect, double *error) {
    micro_batch m;
    clf_trainer *t = NULL;
    int count = 0;
    *error = INFINITY;
    clf_status st = read_batch(&m, expect, "input_ids", "labels") ? CLF_OK : CLF_NOT_FOUND;
    if (st == CLF_OK)
        st = clf_trainer_create(&t, &(clf_trainer_args){.model = model,
                                                        .mode = CLF_TRAIN_FULL,
                                                        .tokens = m.batch.tokens,
                                                        .optimizer = CLF_OPTIMIZER_SGD,
                                                        .checkpointing = 1});
    if (st == CLF_OK) st = clf_trainer_accumulate(t, &m.batch, m.targets, NULL);
    if (st == CLF_OK)
        *error = largest_error(ctx, t, expect, "grad.", true, &count);
    else
        printf("gradients: %s %s ", clf_status_string(st), clf_error_message(ctx));
    clf_trainer_destroy(t);
    release(&m);
    return st == CLF_OK && count > 0;
}

/* Largest relative errors of a run. */
typedef struct run {
    double loss, norm, weights;
    int count;
} run;

static clf_status take_step(clf_trainer *t, const golden_file *file, int step, run *r) {
    micro_batch m[MICRO_BATCHES] = {{0}};
    int64_t targets = 0;
    double sum = 0, loss;
    clf_status st = CLF_OK;
    for (int i = 0; i < MICRO_BATCHES; i++) {
        char ids[32], labels[32];
        snprintf(ids, sizeof ids, "ids.%d.%d", step, i);
        snprintf(labels, sizeof labels, "labels.%d.%d", step, i);
        if (!read_batch(&m[i], file, ids, labels)) st = CLF_NOT_FOUND;
        targets += m[i].targets;
    }
    for (int i = 0; st == CLF_OK && i < MICRO_BATCHES; i++) {
        st = clf_trainer_accumulate(t, &m[i].batch, targets, &loss);
        sum += loss;
    }
    clf_update update;
    if (st == CLF_OK) st = clf_trainer_update(t, (float)golden_value(golden_find(file, "lrs"), step), &update);
    if (st == CLF_OK) {
        const double want = golden_value(golden_find(file, "losses"), step),
                     norm = golden_value(golden_find(file, "grad_norms"), step);
        r->loss = fmax(r->loss, fabs(sum / (double)targets / want - 1));
        r->norm = fmax(r->norm, fabs(update.gradient_norm / norm - 1));
    }
    for (int i = 0; i < MICRO_BATCHES; i++) release(&m[i]);
    return st;
}

static clf_status run_all(clf_context *ctx, clf_model *model, bool adapter, const golden_file *file, run *r) {
    const clf_parameter_group everything = {.name = "*", .weight_decay = 0.1F};
    clf_trainer *t;
    clf_status st = clf_trainer_create(&t, &(clf_trainer_args){.model = model,
                                                               .mode = adapter ? CLF_TRAIN_LORA : CLF_TRAIN_FULL,
                                                               .tokens = 64,
                                                               .beta2 = 0.95F,
                                                               .groups = &everything,
                                                               .n_groups = 1,
                                                               .clip = 1});
    const golden_tensor *losses = golden_find(file, "losses");
    for (int s = 0; st == CLF_OK && s < losses->elements; s++) st = take_step(t, file, s, r);
    if (st == CLF_OK) r->weights = largest_error(ctx, t, file, "final.", false, &r->count);
    clf_trainer_destroy(t);
    return st;
}

bool golden_train(const char *device, const char *folder) {
    char message[512] = "", start[4096], adapter[4096], expect[4096];
    snprintf(start, sizeof start, "%s/start", folder);
    snprintf(adapter, sizeof adapter, "%s/adapter_start", folder);
    snprintf(expect, sizeof expect, "%s/expect.safetensors", folder);
    const bool has_adapter = access(adapter, R_OK) == 0;
    printf("%-40s %-18s ", folder, device);
    golden_file *file = golden_open(expect);
    if (!file || !golden_find(file, "losses") || !golden_find(file, "lrs") || !golden_find(file, "grad_norms")) {
        printf("%s: expected losses, lrs, grad_norms FAILED\n", expect);
        golden_close(file);
        return false;
    }
    clf_context *ctx;
    clf_model *model = NULL;
    run r = {0};
    clf_status st =
        clf_context_create(&ctx, &(clf_context_args){.device = device, .error = message, .error_size = sizeof message});
    if (st == CLF_OK) {
        st = clf_model_load(&model, &(clf_model_args){.path = start,
                                                      .adapter = has_adapter ? adapter : NULL,
                                                      .mmap = true,
                                                      .contexts = &ctx,
                                                      .n_contexts = 1});
        if (st == CLF_OK) st = run_all(ctx, model, has_adapter, file, &r);
        if (st != CLF_OK) snprintf(message, sizeof message, "%s", clf_error_message(ctx));
    }
    const bool ok = st == CLF_OK && r.loss <= LOSS_TOLERANCE && r.norm <= NORM_TOLERANCE &&
                    r.weights <= WEIGHT_TOLERANCE && r.count > 0;
    if (st == CLF_OK)
        printf("loss %.2e  norm %.2e  %d weights %.2e ", r.loss, r.norm, r.count, r.weights);
    else
        printf("%s: %s ", clf_status_string(st), message);
    printf(ok ? "\n" : "FAILED\n");
    clf_model_destroy(model);
    clf_context_destroy(ctx);
    golden_close(file);
    return ok;
}
