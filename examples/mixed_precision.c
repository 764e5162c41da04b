/* mixed_precision.c: the same training in float32, bfloat16 and float16: activations and the matrices they meet in 16
 * bits, master weights, gradients and optimizer state in 32. float16's small gradients would become zero, so its loss
 * is multiplied by a scale, which halves when a gradient overflows: that step is skipped, the first ones on purpose
 * here. */
#include <argp.h>
#include <stdio.h>
#include <stdlib.h>

#include <clformer/clformer.h>

#include "default_model/default_model.h"

enum { CONTEXT = 128, ROWS = 2 };

static void need(clf_status status, const char *message) {
    if (status == CLF_OK) return;
    fprintf(stderr, "%s: %s\n", clf_status_string(status), message);
    exit(1);
}

typedef struct precision {
    const char *name;
    clf_dtype compute;
    clf_loss_scale_args loss_scale;
} precision;

/* What a run came to. */
typedef struct outcome {
    double loss;
    int64_t skipped;
    float scale;
    clf_memory_stats memory;
} outcome;

static void train(clf_context *ctx, clf_trainer *trainer, clf_dataset *dataset, const precision *p, int64_t steps,
                  outcome *out) {
    clf_loss_scale_state scale = clf_loss_scale_start(&p->loss_scale);
    const clf_schedule_args schedule = {.schedule = CLF_SCHEDULE_COSINE, .steps = steps, .warmup_steps = steps / 10};
    while (clf_trainer_step(trainer) < steps) {
        clf_batch batch;
        clf_update update;
        double sum;
        need(clf_dataset_next(dataset, ROWS, &batch), clf_dataset_error(dataset));
        need(clf_trainer_set_loss_scale(trainer, scale.scale), clf_error_message(ctx));
        need(clf_trainer_accumulate(trainer, &batch, batch.targets, &sum), clf_error_message(ctx));
        const double rate = 2e-3 * clf_schedule_multiplier(&schedule, clf_trainer_step(trainer) + 1);
        need(clf_trainer_update(trainer, (float)rate, &update), clf_error_message(ctx));
        if (!clf_loss_scale_update(&p->loss_scale, &scale, !update.skipped)) {
            printf("  overflow in %s: the step is skipped, the scale is %g now\n", update.culprit, (double)scale.scale);
            out->skipped++;
        }
        out->loss = sum / (double)batch.targets;
    }
    out->scale = scale.scale;
    need(clf_memory_get_stats(ctx, &out->memory), clf_error_message(ctx));
}

static outcome run(const precision *p, const char *data_path, const char *model_path, int64_t steps) {
    char message[512] = "";
    clf_context *ctx;
    clf_model *model;
    clf_dataset *dataset;
    clf_trainer *trainer;
    outcome out = {0};
    need(clf_context_create(&ctx, &(clf_context_args){.error = message, .error_size = sizeof message}), message);
    clf_model_args model_args = {
        .path = model_path, .mmap = true, .keep_layout = true, .contexts = &ctx, .n_contexts = 1};
    if (!model_path) model_args.data = clf_default_model, model_args.data_size = clf_default_model_size();
    need(clf_model_load(&model, &model_args), clf_error_message(ctx));
    const clf_dataset_args data = {.path = data_path,
                                   .tokenizer = clf_model_tokenizer(model),
                                   .context = CONTEXT,
                                   .pack = true,
                                   .seed = 1,
                                   .error = message,
                                   .error_size = sizeof message};
    need(clf_dataset_create(&dataset, &data), message);
    const clf_trainer_args training = {
        .model = model, .mode = CLF_TRAIN_FULL, .tokens = ROWS * CONTEXT, .compute = p->compute, .clip = 1, .seed = 1};
    need(clf_trainer_create(&trainer, &training), clf_error_message(ctx));
    train(ctx, trainer, dataset, p, steps, &out);
    clf_trainer_destroy(trainer);
    clf_dataset_destroy(dataset);
    clf_model_destroy(model);
    clf_context_destroy(ctx);
    return out;
}

static const char *words[3];

static error_t parse(int key, char *text, struct argp_state *state) {
    if (key == ARGP_KEY_ARG && state->arg_num < sizeof words / sizeof *words)
        words[state->arg_num] = text;
    else if (key == ARGP_KEY_NO_ARGS)
        argp_error(state, "expected a file of training data");
    else
        return ARGP_ERR_UNKNOWN;
    return 0;
}

int main(int argc, char **argv) {
    static const precision all[] = {
        {"f32", CLF_F32, {.loss_scale = CLF_LOSS_SCALE_NONE}},
        {"bf16", CLF_BF16, {.loss_scale = CLF_LOSS_SCALE_NONE}},
        {"f16", CLF_F16, {.loss_scale = CLF_LOSS_SCALE_DYNAMIC, .initial = 0x1p26F, .interval = 20}},
    };
    static const struct argp argp = {NULL, parse, "DATA.jsonl [MODEL [STEPS]]", "Trains in f32, bf16 and f16.", NULL,
                                     NULL, NULL};
    argp_parse(&argp, argc, argv, 0, NULL, NULL);
    const int64_t steps = words[2] ? strtoll(words[2], NULL, 10) : 20;
    outcome results[3];
    for (int i = 0; i < 3; i++) {
        printf("%s\n", all[i].name);
        results[i] = run(&all[i], words[0], words[1], steps);
    }
    printf("\n%-5s %8s %12s %14s %8s\n", "", "loss", "activations", "loss scale", "skipped");
    for (int i = 0; i < 3; i++) {
        char bytes[32];
        clf_format_bytes(bytes, sizeof bytes, results[i].memory.tag_peak[CLF_TAG_ACTIVATIONS]);
        printf("%-5s %8.4f %12s %14g %8lld\n", all[i].name, results[i].loss, bytes, (double)results[i].scale,
               (long long)results[i].skipped);
    }
    return 0;
}
