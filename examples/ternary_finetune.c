/* ternary_finetune.c: the loop of ternary training, visible: the blocks' matrices are used as γ·{−1, 0, 1}, their
 * inputs as int8, and the gradient goes straight through to float weights, which are what learns (BitNet b1.58,
 * arXiv:2402.17764). A model that was trained without that knows nothing when it is rounded; after some steps it does
 * again. The result is a GGUF whose matrices take 2.06 bits a weight, and says what was trained. */
#include <argp.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <clformer/clformer.h>

#include "default_model/default_model.h"

enum { CONTEXT = 256, ROWS = 4, WARM_UP = 10, REPORTS = 10 };

static clf_context *ctx;

/* Ends the program with the message if a call failed. */
static void need(clf_status status, const char *message) {
    if (status == CLF_OK) return;
    fprintf(stderr, "%s: %s\n", clf_status_string(status), message);
    exit(1);
}

/* One batch, one update; the mean loss. Rates are higher than elsewhere: a weight must cross γ/2 before anything comes
 * of it. */
static double step(clf_trainer *trainer, clf_dataset *dataset, int64_t index, int64_t steps) {
    clf_batch batch;
    double sum;
    const clf_schedule_args schedule = {.schedule = CLF_SCHEDULE_COSINE, .steps = steps, .warmup_steps = WARM_UP};
    need(clf_dataset_next(dataset, ROWS, &batch), clf_dataset_error(dataset));
    const double targets = (double)batch.targets;
    need(clf_trainer_accumulate(trainer, &batch, batch.targets, &sum), clf_error_message(ctx));
    need(clf_trainer_update(trainer, (float)(2e-3 * clf_schedule_multiplier(&schedule, index)), NULL),
         clf_error_message(ctx));
    return sum / targets;
}

static clf_model *load(const char *path, bool to_train) {
    clf_model *model;
    clf_model_args args = {.path = path, .mmap = true, .keep_layout = to_train, .contexts = &ctx, .n_contexts = 1};
    if (!path) args.data = clf_default_model, args.data_size = clf_default_model_size();
    need(clf_model_load(&model, &args), clf_error_message(ctx));
    return model;
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

static const char *words[4];

static error_t parse(int key, char *text, struct argp_state *state) {
    if (key == ARGP_KEY_ARG && state->arg_num < sizeof words / sizeof *words)
        words[state->arg_num] = text;
    else if (key == ARGP_KEY_END && state->arg_num < 2)
        argp_error(state, "expected a file of training data and the name of the GGUF to write");
    else if (key != ARGP_KEY_END)
        return ARGP_ERR_UNKNOWN;
    return 0;
}

int main(int argc, char **argv) {
    static const struct argp argp = {
        NULL, parse, "DATA.jsonl OUT.gguf [MODEL.gguf [STEPS]]", "Makes a model ternary by training.", NULL,
        NULL, NULL};
    argp_parse(&argp, argc, argv, 0, NULL, NULL);
    const int64_t steps = words[3] ? strtoll(words[3], NULL, 10) : 120;
    char message[512] = "";
    need(clf_context_create(&ctx, &(clf_context_args){.error = message, .error_size = sizeof message}), message);
    clf_model *model = load(words[2], true);

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
    const clf_trainer_args training = {
        .model = model, .mode = CLF_TRAIN_FULL, .ternary = true, .tokens = ROWS * CONTEXT, .beta2 = 0.98F, .clip = 1};
    need(clf_trainer_create(&trainer, &training), clf_error_message(ctx));
    say(model, "Once upon a time"); /* rounded, and nothing learnt yet */
    for (int64_t i = 1; i <= steps; i++) {
        const double loss = step(trainer, dataset, i, steps);
        if (i % ((steps + REPORTS - 1) / REPORTS) == 0 || i == 1 || i == steps)
            printf("step %3lld  loss %.4f  perplexity %.2f\n", (long long)i, loss, exp(loss));
    }
    need(clf_model_save(model, &(clf_model_save_args){.path = words[1]}), clf_error_message(ctx));
    clf_trainer_destroy(trainer);
    clf_dataset_destroy(dataset);
    clf_model_destroy(model);

    clf_model *ternary = load(words[1], false); /* as anyone would */
    say(ternary, "Once upon a time");
    clf_model_destroy(ternary);
    clf_context_destroy(ctx);
    return 0;
}
