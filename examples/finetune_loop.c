/* finetune_loop.c: the loop of fine-tuning, visible: a low-rank adapter beside a frozen model, blocks computed again in
 * the backward pass instead of kept, packed samples, warm-up and cosine, clipping. clformer-finetune does the same with
 * evaluation, checkpoints on disk and many settings. */
#include <argp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <clformer/clformer.h>

#include "default_model/default_model.h"

enum { CONTEXT = 128, ROWS = 2, MICRO_BATCHES = 2, WARM_UP = 4 };

static clf_context *ctx;

/* Ends the program with the message if a call failed. */
static void need(clf_status status, const char *message) {
    if (status == CLF_OK) return;
    fprintf(stderr, "%s: %s\n", clf_status_string(status), message);
    exit(1);
}

/* Gradients of some batches, normalised by the targets of all of them, then the update. */
static void step(clf_trainer *trainer, clf_dataset *dataset, int64_t index, int64_t steps) {
    /* A batch lasts until the next one is taken: targets are counted first, then the same batches come again. */
    clf_batch batch;
    const clf_dataset_position here = clf_dataset_tell(dataset);
    int64_t targets = 0;
    for (int i = 0; i < MICRO_BATCHES; i++) {
        need(clf_dataset_next(dataset, ROWS, &batch), clf_dataset_error(dataset));
        targets += batch.targets;
    }
    need(clf_dataset_seek(dataset, &here), clf_dataset_error(dataset));

    double loss = 0, sum;
    for (int i = 0; i < MICRO_BATCHES; i++) {
        need(clf_dataset_next(dataset, ROWS, &batch), clf_dataset_error(dataset));
        need(clf_trainer_accumulate(trainer, &batch, targets, &sum), clf_error_message(ctx));
        loss += sum / (double)targets;
    }
    const clf_schedule_args schedule = {
        .schedule = CLF_SCHEDULE_COSINE, .steps = steps, .warmup_steps = WARM_UP, .minimum = 0.1};
    const double rate = 5e-3 * clf_schedule_multiplier(&schedule, index);
    clf_update update;
    need(clf_trainer_update(trainer, (float)rate, &update), clf_error_message(ctx));
    printf("step %3lld  loss %.4f  gradient norm %.3f  learning rate %.1e\n", (long long)index, loss,
           update.gradient_norm, rate);
}

static bool show(void *user, const char *text, size_t length, int32_t id) {
    (void)user, (void)id;
    fwrite(text, 1, length, stdout);
    return true;
}

/* What the model makes of a beginning. */
static void say(clf_model *model, const char *prompt) {
    int32_t ids[64];
    size_t n;
    clf_session *session;
    need(clf_tokenize(clf_model_tokenizer(model), prompt, strlen(prompt), CLF_TOKENIZE_ADD_SPECIAL, ids, 64, &n),
         prompt);
    need(clf_session_create(&session, &(clf_session_args){.model = model}), clf_error_message(ctx));
    printf("\n> %s", prompt);
    need(clf_generate(session, &(clf_generate_args){.prompt = ids, .n_prompt = (int64_t)n, .tokens = 48, .text = show},
                      NULL),
         clf_error_message(ctx));
    printf("\n\n");
    clf_session_destroy(session);
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
    static const struct argp argp = {
        NULL, parse, "DATA.jsonl [MODEL [STEPS]]", "Fine-tunes a model by the plainest loop.", NULL, NULL, NULL};
    argp_parse(&argp, argc, argv, 0, NULL, NULL);
    const int64_t steps = words[2] ? strtoll(words[2], NULL, 10) : 30;
    char message[512] = "";
    need(clf_context_create(&ctx, &(clf_context_args){.error = message, .error_size = sizeof message}), message);

    clf_model *model;
    clf_model_args model_args = {.mmap = true, .keep_layout = true, .contexts = &ctx, .n_contexts = 1};
    if (words[1])
        model_args.path = words[1];
    else
        model_args.data = clf_default_model, model_args.data_size = clf_default_model_size();
    need(clf_model_load(&model, &model_args), clf_error_message(ctx));

    clf_dataset *dataset;
    const clf_dataset_args data = {.path = words[0],
                                   .tokenizer = clf_model_tokenizer(model),
                                   .context = CONTEXT,
                                   .pack = true,
                                   .seed = 1,
                                   .error = message,
                                   .error_size = sizeof message};
    need(clf_dataset_create(&dataset, &data), message);

    clf_trainer *trainer;
    const clf_trainer_args training = {.model = model,
                                       .lora = {.rank = 16, .alpha = 32},
                                       .tokens = ROWS * CONTEXT,
                                       .checkpointing = 1,
                                       .clip = 1,
                                       .seed = 1};
    need(clf_trainer_create(&trainer, &training), clf_error_message(ctx));
    say(model, "Once upon a time");
    for (int64_t i = 1; i <= steps; i++) step(trainer, dataset, i, steps);
    say(model, "Once upon a time"); /* the adapter is the model's now */

    clf_trainer_destroy(trainer);
    clf_dataset_destroy(dataset);
    clf_model_destroy(model);
    clf_context_destroy(ctx);
    return 0;
}
