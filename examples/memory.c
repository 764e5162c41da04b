/* memory.c: what fine-tuning takes, known before anything is loaded; the pool that counts it; and a limit that holds.
 * Prints the plan of several ways, takes one step of each that fits the limit, and shows what the pool counted beside
 * the plan; a way that doesn't fit is refused with a message, and nothing is lost. */
#include <argp.h>
#include <stdio.h>
#include <stdlib.h>

#include <clformer/clformer.h>

#include "default_model/default_model.h"

enum { TOKENS = 256 };

typedef struct way {
    const char *name;
    clf_trainer_args args;
} way;

static const way ways[] = {
    {"all weights", {.mode = CLF_TRAIN_FULL, .tokens = TOKENS}},
    {"all weights, 8-bit AdamW", {.mode = CLF_TRAIN_FULL, .tokens = TOKENS, .optimizer_8bit = true}},
    {"all weights, bf16", {.mode = CLF_TRAIN_FULL, .tokens = TOKENS, .compute = CLF_BF16}},
    {"LoRA", {.tokens = TOKENS}},
    {"LoRA, checkpointing", {.tokens = TOKENS, .checkpointing = 1}},
    {"LoRA, checkpointing, bf16", {.tokens = TOKENS, .checkpointing = 1, .compute = CLF_BF16}},
};

static clf_model_args model_args(const char *path, clf_context *const *ctx) {
    clf_model_args args = {.path = path, .mmap = true, .contexts = ctx, .n_contexts = 1};
    if (!path) args.data = clf_default_model, args.data_size = clf_default_model_size();
    return args;
}

/* One step of `w` on a context of its own; what the pool counted at most, or the reason why not. */
static clf_status step(const way *w, const char *path, uint64_t limit, uint64_t *counted, char *message, size_t size) {
    static int32_t ids[TOKENS], labels[TOKENS];
    clf_context *ctx;
    clf_model *model = NULL;
    clf_trainer *trainer = NULL;
    clf_memory_stats stats = {0};
    for (int i = 0; i < TOKENS; i++) ids[i] = 5 + i % 90, labels[i] = 5 + (i + 1) % 90;
    clf_status st =
        clf_context_create(&ctx, &(clf_context_args){.memory_limit = limit, .error = message, .error_size = size});
    if (st != CLF_OK) return st;
    const clf_model_args load = model_args(path, &ctx);
    st = clf_model_load(&model, &load);
    clf_trainer_args args = w->args;
    args.model = model;
    if (st == CLF_OK) st = clf_trainer_create(&trainer, &args);
    const clf_batch batch = {.ids = ids, .labels = labels, .tokens = TOKENS};
    if (st == CLF_OK) st = clf_trainer_accumulate(trainer, &batch, TOKENS, NULL);
    if (st == CLF_OK) st = clf_trainer_update(trainer, 1e-4F, NULL);
    if (st == CLF_OK) st = clf_memory_get_stats(ctx, &stats);
    if (st != CLF_OK) snprintf(message, size, "%s", clf_error_message(ctx));
    *counted = stats.peak_asked + stats.mapped;
    clf_trainer_destroy(trainer);
    clf_model_destroy(model);
    clf_context_destroy(ctx);
    return st;
}

static const char *words[2];

static error_t parse(int key, char *text, struct argp_state *state) {
    if (key == ARGP_KEY_ARG && state->arg_num < sizeof words / sizeof *words)
        words[state->arg_num] = text;
    else
        return ARGP_ERR_UNKNOWN;
    return 0;
}

int main(int argc, char **argv) {
    static const struct argp argp = {
        NULL, parse, "[MODEL [LIMIT-IN-MIB]]", "Plans of fine-tuning, and a step of each.", NULL, NULL, NULL};
    argp_parse(&argp, argc, argv, 0, NULL, NULL);
    const char *path = words[0];
    const uint64_t limit = words[1] ? strtoull(words[1], NULL, 10) << 20 : 36 << 20;
    char message[512] = "", a[32], b[32], c[32], d[32];
    clf_context *ctx;
    clf_status st = clf_context_create(&ctx, &(clf_context_args){.error = message, .error_size = sizeof message});
    const int threads = st == CLF_OK ? clf_context_threads(ctx) : 1;
    clf_context_destroy(ctx);
    printf("limit %s\n\n%-28s %10s %10s %10s %10s %10s\n", clf_format_bytes(a, sizeof a, limit), "one step of",
           "weights", "training", "activ.", "planned", "counted");
    for (size_t i = 0; st == CLF_OK && i < sizeof ways / sizeof *ways; i++) {
        clf_trainer_estimate plan;
        const clf_model_args model = model_args(path, NULL);
        st = clf_estimate_trainer(&plan, &(clf_trainer_estimate_args){.path = model.path,
                                                                      .data = model.data,
                                                                      .data_size = model.data_size,
                                                                      .trainer = ways[i].args,
                                                                      .threads = threads,
                                                                      .error = message,
                                                                      .error_size = sizeof message});
        if (st != CLF_OK) break;
        uint64_t counted = 0;
        const clf_status done = step(&ways[i], path, limit, &counted, message, sizeof message);
        printf("%-28s %10s %10s %10s %10s ", ways[i].name, clf_format_bytes(a, sizeof a, plan.weights),
               clf_format_bytes(b, sizeof b, plan.parameters + plan.gradients + plan.optimizer),
               clf_format_bytes(c, sizeof c, plan.activations), clf_format_bytes(d, sizeof d, plan.total));
        if (done == CLF_OK)
            printf("%10s\n", clf_format_bytes(a, sizeof a, counted));
        else
            printf("refused: %s\n", message);
    }
    if (st != CLF_OK) fprintf(stderr, "%s\n", message);
    return st == CLF_OK ? 0 : 1;
}
