/* options.c: the flags of clformer-finetune, and the comparison of what they say with a checkpoint's. */
#define _GNU_SOURCE
#include "options.h"

#include <argp.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../shared/numbers.h"

enum {
    DATA = 256,
    STEPS,
    EPOCHS,
    BATCH,
    ACCUMULATE,
    CONTEXT,
    PACK,
    NO_PACK,
    BAD_LINES,
    LEARNING_RATE,
    WARMUP,
    SCHEDULE,
    MIN_RATE,
    OPTIMIZER,
    WEIGHT_DECAY,
    CLIP,
    BETA1,
    BETA2,
    LORA_RANK,
    LORA_ALPHA,
    LORA_DROPOUT,
    TARGETS,
    WHOLE,
    RSLORA,
    ADAPTER,
    FULL,
    TERNARY,
    QUANTIZE,
    DPO,
    CHECKPOINTING,
    OFFLOAD,
    PRECISION,
    LOSS_SCALE,
    RESUME,
    SEED,
    EVAL,
    EVAL_EVERY,
    SAVE_EVERY,
    KEEP,
    MERGE,
    THREADS,
    MEMORY_LIMIT,
    CONFIG,
    CONFIG_ENDS,
    DRY_RUN
};

static const struct argp_option flags[] = {
    {NULL, 0, NULL, 0, "What is trained, on what", 1},
    {"model", 'm', "PATH", 0, "GGUF file or Hugging Face folder (default: a small embedded one)", 1},
    {"data", DATA, "FILE", 0, "JSON lines, text or tokens (docs/finetuning.md); may be repeated", 1},
    {"output", 'o', "DIR", 0, "where checkpoints, metrics and the result go (default: finetune)", 1},
    {"steps", STEPS, "N", 0, "updates (default: as --epochs says)", 1},
    {"epochs", EPOCHS, "E", 0, "times that all data are seen (default 3)", 1},
    {"context", CONTEXT, "N", 0, "tokens of a row (default 512, or what the model was trained for, if less)", 1},
    {"batch", BATCH, "N", 0, "rows evaluated at once (default 1; 2 with --dpo)", 1},
    {"accumulate", ACCUMULATE, "N", 0, "batches of an update (default 4)", 1},
    {"pack", PACK, NULL, 0, "several samples in a row, which don't see each other (default)", 1},
    {"no-pack", NO_PACK, NULL, 0, "a sample in a row, padded", 1},
    {"bad-lines", BAD_LINES, "skip|stop", 0, "what a line that can't be read does (default stop)", 1},
    {"dpo", DPO, "BETA", 0, "learn from chosen and rejected answers, with this strength (usually 0.1)", 1},
    {"seed", SEED, "N", 0, "of order, new adapters and dropout (default 1)", 1},
    {NULL, 0, NULL, 0, "What of the model", 2},
    {"lora-rank", LORA_RANK, "R", 0, "rank of the adapter (default 16)", 2},
    {"lora-alpha", LORA_ALPHA, "A", 0, "its scale is A / R (default: R)", 2},
    {"lora-dropout", LORA_DROPOUT, "P", 0, "dropout of its input (default 0)", 2},
    {"rslora", RSLORA, NULL, 0, "its scale is A / sqrt(R)", 2},
    {"targets", TARGETS, "LIST", 0, "matrices with an adapter (default q,k,v,o,gate,up,down)", 2},
    {"whole", WHOLE, "LIST", 0, "embedding, output, or both with a comma: trained as they are, beside the adapter", 2},
    {"adapter", ADAPTER, "PATH", 0, "go on with this adapter: a PEFT folder or a GGUF adapter", 2},
    {"full", FULL, NULL, 0, "train every weight instead of an adapter", 2},
    {"ternary", TERNARY, NULL, 0,
     "train every weight, the blocks' matrices for use as -1, 0 or 1 times a scale of each, their inputs as int8", 2},
    {"quantize", QUANTIZE, "nf4", 0, "keep the frozen matrices in 4 bits (QLoRA; default: as they are)", 2},
    {"merge", MERGE, "DTYPE", OPTION_ARG_OPTIONAL,
     "write the merged model too, all weights in f32, f16 or bf16 (default: each as the model has it)", 2},
    {NULL, 0, NULL, 0, "How", 3},
    {"learning-rate", LEARNING_RATE, "RATE", 0,
     "highest rate (default 2e-4, with --full 2e-5, with --ternary 1e-3; lion a tenth, sgd a hundred times that)", 3},
    {"warmup", WARMUP, "N", 0, "steps until it is reached (default: a twentieth of all)", 3},
    {"schedule", SCHEDULE, "NAME", 0, "constant, linear or cosine (default cosine)", 3},
    {"min-rate", MIN_RATE, "SHARE", 0, "what it goes down to, as a share of the highest (default 0)", 3},
    {"optimizer", OPTIMIZER, "NAME", 0, "adamw, adamw8bit, sgd or lion (default adamw)", 3},
    {"weight-decay", WEIGHT_DECAY, "X", 0, "of matrices (default 0)", 3},
    {"clip", CLIP, "NORM", 0, "gradients are scaled down to this norm (default 1; 0: not)", 3},
    {"beta1", BETA1, "X", 0, "the optimizer's (default 0.9)", 3},
    {"beta2", BETA2, "X", 0, "the optimizer's (default 0.999; lion 0.99)", 3},
    {"precision", PRECISION, "DTYPE", 0, "of activations: f32, bf16 or f16 (default f32)", 3},
    {"loss-scale", LOSS_SCALE, "X", 0, "dynamic, or a number (default: dynamic with f16, otherwise 1)", 3},
    {"checkpointing", CHECKPOINTING, "N", 0,
     "keep the inputs of every Nth block and compute the rest again: none, sqrt, or a number (default none)", 3},
    {"offload", OFFLOAD, NULL, 0, "with --checkpointing: these inputs wait in the host's memory (OpenCL devices)", 3},
    {NULL, 0, NULL, 0, "Along the way", 4},
    {"eval", EVAL, "SHARE", 0, "share of the samples that is kept out and evaluated (default 0)", 4},
    {"eval-every", EVAL_EVERY, "N", 0, "steps between evaluations (default: a tenth of all)", 4},
    {"save-every", SAVE_EVERY, "N", 0, "steps between checkpoints (default: a tenth of all)", 4},
    {"keep", KEEP, "N", 0, "how many checkpoints are kept (default 3)", 4},
    {"resume", RESUME, "FILE", OPTION_ARG_OPTIONAL,
     "go on from a checkpoint (default: the newest; auto: if that is damaged, the one before it)", 4},
    {"dry-run", DRY_RUN, NULL, 0, "say what memory it takes and how fast it will be, and do nothing", 4},
    {NULL, 0, NULL, 0, "Where", 5},
    {"device", 'd', "D", 0, "auto, cpu, cpu-avx2, opencl, opencl:1 … (clformer-info lists them)", 5},
    {"threads", THREADS, "N", 0, "CPU threads (default: one per core)", 5},
    {"memory-limit", MEMORY_LIMIT, "BYTES", 0, "most memory on the device, as in 8G (default: what it has)", 5},
    {"config", CONFIG, "FILE", 0, "a JSON object of these options by name; the command line wins", 5},
    {"config-ends", CONFIG_ENDS, NULL, OPTION_HIDDEN, NULL, 5},
    {0}};

/* The place of `arg` among `count` names. */
static int choice(struct argp_state *state, const char *name, const char *arg, const char *const *names, int count) {
    char all[128] = "";
    for (int i = 0; i < count; i++) {
        if (!strcmp(arg, names[i])) return i;
        snprintf(all + strlen(all), sizeof all - strlen(all), "%s%s", i ? ", " : "", names[i]);
    }
    argp_error(state, "--%s: expected one of %s, got '%s'", name, all, arg);
    return 0;
}

static clf_dtype float_dtype(struct argp_state *state, const char *name, const char *arg) {
    static const char *const names[] = {"f32", "bf16", "f16"};
    static const clf_dtype dtypes[] = {CLF_F32, CLF_BF16, CLF_F16};
    return dtypes[choice(state, name, arg, names, 3)];
}

static uint64_t bytes(struct argp_state *state, const char *name, const char *arg) {
    static const char units[] = "KMGT";
    char *end;
    const double value = strtod(arg, &end);
    const char *unit = *end ? strchr(units, *end) : NULL;
    const double total = ldexp(value, unit ? 10 * (int)(unit - units + 1) : 0);
    if (end == arg || (*end && (!unit || end[1])) || !(total >= 1 && total < 0x1p60))
        argp_error(state, "--%s: expected bytes, as in 500M or 8G, got '%s'", name, arg);
    return (uint64_t)total;
}

static const char *const projections[] = {"q", "k", "v", "o", "gate", "up", "down"};

/* Which of n names a list with commas has: bits. */
static int several(struct argp_state *state, const char *option, const char *arg, const char *const *names, int n) {
    int found = 0;
    char *list = strdup(arg), *rest = list;
    if (!list) argp_failure(state, EXIT_FAILURE, ENOMEM, "--%s", option);
    for (const char *name; (name = strsep(&rest, ","));) found |= 1 << choice(state, option, name, names, n);
    free(list);
    return found;
}

static void set_whole(clf_trainer_args *t, const char *arg, struct argp_state *state) {
    static const char *const names[] = {"embedding", "output"};
    const int whole = several(state, "whole", arg, names, 2);
    t->train_embedding = whole & 1;
    t->train_output = whole & 2;
}

static const struct argp_option *flag_of(int key) {
    const struct argp_option *f = flags;
    while (f->key != key) f++;
    return f;
}

/* Notes the option for the run's own configuration file. */
static void note(options *o, int key, const char *arg) {
    if (key == RESUME || key == DRY_RUN || key == CONFIG || key == CONFIG_ENDS) return;
    const char *name = flag_of(key)->name;
    if (key == PACK || key == NO_PACK)
        json_object_set_new(o->given, "pack", json_boolean(key == PACK));
    else if (key != DATA)
        json_object_set_new(o->given, name, arg ? json_string(arg) : json_true());
    if (key == STEPS) json_object_del(o->given, "epochs");
    if (key == EPOCHS) json_object_del(o->given, "steps");
}

static void add_data(options *o, const char *arg, struct argp_state *state) {
    if (o->n_config_data) o->n_data = o->n_config_data = 0;
    if (o->n_data == MAX_DATA) argp_error(state, "--data: expected at most %d files", MAX_DATA);
    o->data[o->n_data++] = arg;
}

static void set_optimizer(options *o, const char *arg, struct argp_state *state) {
    static const char *const names[] = {"adamw", "adamw8bit", "sgd", "lion"};
    static const clf_optimizer optimizers[] = {CLF_OPTIMIZER_ADAMW, CLF_OPTIMIZER_ADAMW, CLF_OPTIMIZER_SGD,
                                               CLF_OPTIMIZER_LION};
    const int i = choice(state, "optimizer", arg, names, 4);
    o->trainer.optimizer = optimizers[i];
    o->trainer.optimizer_8bit = i == 1;
}

static void set_loss_scale(options *o, const char *arg, struct argp_state *state) {
    const bool dynamic = !strcmp(arg, "dynamic");
    o->loss_scale.loss_scale = dynamic ? CLF_LOSS_SCALE_DYNAMIC : CLF_LOSS_SCALE_STATIC;
    o->loss_scale.initial = dynamic ? 0 : (float)number(state, "loss-scale", arg, 1e-6, 1e30);
    o->scale_given = true;
}

static int checkpointing(struct argp_state *state, const char *arg) {
    if (!strcmp(arg, "none")) return CLF_CHECKPOINT_NONE;
    if (!strcmp(arg, "sqrt")) return CLF_CHECKPOINT_SQRT;
    return (int)whole_number(state, "checkpointing", arg, 0, 1 << 20);
}

static void set_resume(options *o, const char *arg) {
    o->resume = !arg ? RESUME_NEWEST : strcmp(arg, "auto") ? RESUME_FILE : RESUME_AUTO;
    o->resume_file = arg;
}

/* What can only be said when all options are known. */
static void settle(options *o, struct argp_state *state) {
    clf_trainer_args *t = &o->trainer;
    const bool lora = t->lora.rank || t->lora.alpha > 0 || t->lora.targets || t->lora.rank_stabilized;
    if (!o->n_data && !o->dry_run) argp_error(state, "--data: expected a file to learn from");
    const bool whole = t->train_embedding || t->train_output;
    if (t->mode == CLF_TRAIN_FULL && (lora || t->lora.dropout > 0 || o->adapter || whole))
        argp_error(state, "--full and --ternary train every weight: no --lora-…, --targets, --rslora, --whole or "
                          "--adapter");
    if (t->mode == CLF_TRAIN_FULL && o->quantize == CLF_NF4)
        argp_error(state, "--full and --ternary: weights of 4 bits can't be trained: no --quantize");
    if (o->adapter && lora)
        argp_error(state, "--adapter says its rank, scale and targets itself: no --lora-rank, --lora-alpha, --targets, "
                          "--rslora");
    if (o->dpo > 0 && (t->mode == CLF_TRAIN_FULL || whole))
        argp_error(state, "--dpo: the model without its adapter is the reference: no --full, --ternary or --whole");
    if (t->offload_checkpoints && t->checkpointing == CLF_CHECKPOINT_NONE)
        argp_error(state, "--offload: without --checkpointing there is nothing that could wait on the host");
    if (!o->batch) o->batch = o->dpo > 0 ? 2 : 1;
    if (o->dpo > 0 && o->batch % 2) argp_error(state, "--batch: with --dpo expected an even number");
    if (o->steps <= 0 && o->epochs <= 0) o->epochs = 3;
    if (o->learning_rate < 0) {
        o->learning_rate = t->ternary ? 1e-3 : t->mode == CLF_TRAIN_FULL ? 2e-5 : 2e-4;
        if (t->optimizer == CLF_OPTIMIZER_LION) o->learning_rate /= 10;
        if (t->optimizer == CLF_OPTIMIZER_SGD) o->learning_rate *= 100;
    }
    if (!o->scale_given)
        o->loss_scale.loss_scale = t->compute == CLF_F16 ? CLF_LOSS_SCALE_DYNAMIC : CLF_LOSS_SCALE_NONE;
    if (t->optimizer == CLF_OPTIMIZER_SGD && t->beta1 == 0) t->beta1 = 0.9F;
    t->seed = t->seed ? t->seed : 1;
    json_t *data = json_array();
    for (size_t i = 0; i < o->n_data; i++) json_array_append_new(data, json_string(o->data[i]));
    json_object_set_new(o->given, "data", data);
}

static error_t parse(int key, char *arg, struct argp_state *state) {
    static const char *const schedules[] = {"constant", "linear", "cosine"}, *const bad_lines[] = {"stop", "skip"},
                             *const quantized[] = {"nf4"};
    options *o = state->input;
    clf_trainer_args *t = &o->trainer;
    if ((key > ' ' && key < 127) || (key >= DATA && key <= DRY_RUN)) note(o, key, arg);
    switch (key) {
    case 'm': o->model = arg; return 0;
    case DATA: add_data(o, arg, state); return 0;
    case 'o': o->output = arg; return 0;
    case 'd': o->device = arg; return 0;
    case STEPS:
        o->steps = whole_number(state, "steps", arg, 1, INT32_MAX);
        o->epochs = 0;
        return 0;
    case EPOCHS:
        o->epochs = number(state, "epochs", arg, 1e-6, 1e6);
        o->steps = 0;
        return 0;
    case CONTEXT: o->context = whole_number(state, "context", arg, 2, 1 << 20); return 0;
    case BATCH: o->batch = whole_number(state, "batch", arg, 1, 1 << 16); return 0;
    case ACCUMULATE: o->accumulate = whole_number(state, "accumulate", arg, 1, 1 << 20); return 0;
    case PACK: o->pack = true; return 0;
    case NO_PACK: o->pack = false; return 0;
    case BAD_LINES: o->skip_bad_lines = choice(state, "bad-lines", arg, bad_lines, 2); return 0;
    case DPO: o->dpo = (float)number(state, "dpo", arg, 1e-6, 1e6); return 0;
    case SEED: t->seed = (uint64_t)whole_number(state, "seed", arg, 1, INT64_MAX); return 0;
    case LORA_RANK: t->lora.rank = (int)whole_number(state, "lora-rank", arg, 1, 1 << 16); return 0;
    case LORA_ALPHA: t->lora.alpha = (float)number(state, "lora-alpha", arg, 1e-6, 1e6); return 0;
    case LORA_DROPOUT: t->lora.dropout = (float)number(state, "lora-dropout", arg, 0, 0.99); return 0;
    case RSLORA: t->lora.rank_stabilized = true; return 0;
    case TARGETS: t->lora.targets = several(state, "targets", arg, projections, 7); return 0;
    case WHOLE: set_whole(t, arg, state); return 0;
    case ADAPTER: o->adapter = arg; return 0;
    case FULL: t->mode = CLF_TRAIN_FULL; return 0;
    case TERNARY:
        t->mode = CLF_TRAIN_FULL;
        t->ternary = true;
        return 0;
    case QUANTIZE:
        choice(state, "quantize", arg, quantized, 1);
        o->quantize = CLF_NF4;
        return 0;
    case MERGE:
        if (arg) float_dtype(state, "merge", arg);
        o->merge_dtype = arg;
        o->merge = true;
        return 0;
    case LEARNING_RATE: o->learning_rate = number(state, "learning-rate", arg, 0, 1e3); return 0;
    case WARMUP: o->warmup = whole_number(state, "warmup", arg, 0, INT32_MAX); return 0;
    case SCHEDULE: o->schedule.schedule = (clf_schedule)choice(state, "schedule", arg, schedules, 3); return 0;
    case MIN_RATE: o->schedule.minimum = number(state, "min-rate", arg, 0, 1); return 0;
    case OPTIMIZER: set_optimizer(o, arg, state); return 0;
    case WEIGHT_DECAY: t->weight_decay = (float)number(state, "weight-decay", arg, 0, 1e3); return 0;
    case CLIP: t->clip = (float)number(state, "clip", arg, 0, 1e30); return 0;
    case BETA1: t->beta1 = (float)number(state, "beta1", arg, 1e-6, 0.999999); return 0;
    case BETA2: t->beta2 = (float)number(state, "beta2", arg, 1e-6, 0.999999); return 0;
    case PRECISION: t->compute = float_dtype(state, "precision", arg); return 0;
    case LOSS_SCALE: set_loss_scale(o, arg, state); return 0;
    case OFFLOAD: t->offload_checkpoints = true; return 0;
    case CHECKPOINTING: t->checkpointing = checkpointing(state, arg); return 0;
    case EVAL: o->eval = number(state, "eval", arg, 0, 0.9); return 0;
    case EVAL_EVERY: o->eval_every = whole_number(state, "eval-every", arg, 1, INT32_MAX); return 0;
    case SAVE_EVERY: o->save_every = whole_number(state, "save-every", arg, 1, INT32_MAX); return 0;
    case KEEP: o->keep = whole_number(state, "keep", arg, 1, INT32_MAX); return 0;
    case RESUME: set_resume(o, arg); return 0;
    case DRY_RUN: o->dry_run = true; return 0;
    case THREADS: o->threads = (int)whole_number(state, "threads", arg, 0, 4096); return 0;
    case MEMORY_LIMIT: o->memory_limit = bytes(state, "memory-limit", arg); return 0;
    case CONFIG: return 0;
    case CONFIG_ENDS: o->n_config_data = o->n_data; return 0;
    case ARGP_KEY_ARG:
        if (o->resume != RESUME_NEWEST) argp_error(state, "unexpected '%s'; data go after --data", arg);
        set_resume(o, arg);
        return 0;
    case ARGP_KEY_END: settle(o, state); return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

void options_parse(options *o, int argc, char **argv) {
    const struct argp argp = {flags, parse, NULL, "Fine-tunes a language model: a low-rank adapter, or every weight.",
                              NULL,  NULL,  NULL};
    *o = (options){.output = "finetune",
                   .accumulate = 4,
                   .keep = 3,
                   .warmup = -1,
                   .learning_rate = -1,
                   .pack = true,
                   .schedule = {.schedule = CLF_SCHEDULE_COSINE},
                   .trainer = {.clip = 1},
                   .given = json_object()};
    o->words = config_expand(argc, argv);
    argp_parse(&argp, o->words.count, o->words.all, 0, NULL, o);
}

void options_free(options *o) {
    json_decref(o->given);
    config_free(&o->words);
}

/* Comparing with a checkpoint's */

json_t *options_decisive(const options *o) {
    const clf_trainer_args *t = &o->trainer;
    static const char *const optimizers[] = {
        [CLF_OPTIMIZER_ADAMW] = "adamw", [CLF_OPTIMIZER_SGD] = "sgd", [CLF_OPTIMIZER_LION] = "lion"};
    static const char *const schedules[] = {"constant", "linear", "cosine"};
    json_t *j =
        json_pack("{s:b, s:b, s:I, s:I, s:I, s:b, s:f, s:I, s:f, s:s, s:f, s:I}", "full", t->mode == CLF_TRAIN_FULL,
                  "ternary", t->ternary, "context", (json_int_t)o->context, "batch", (json_int_t)o->batch, "accumulate",
                  (json_int_t)o->accumulate, "pack", o->pack, "dpo", (double)o->dpo, "seed", (json_int_t)t->seed,
                  "learning-rate", o->learning_rate, "schedule", schedules[o->schedule.schedule], "min-rate",
                  o->schedule.minimum, "warmup", (json_int_t)o->warmup);
    json_t *more =
        json_pack("{s:s, s:f, s:f, s:f, s:f, s:s, s:i, s:f, s:f}", "optimizer",
                  t->optimizer_8bit ? "adamw8bit" : optimizers[t->optimizer], "weight-decay", (double)t->weight_decay,
                  "clip", (double)t->clip, "beta1", (double)t->beta1, "beta2", (double)t->beta2, "precision",
                  clf_dtype_name(t->compute), "loss-scale", (int)o->loss_scale.loss_scale, "loss-scale-start",
                  (double)o->loss_scale.initial, "eval", o->eval);
    json_t *lora = json_pack(
        "{s:i, s:f, s:f, s:b, s:i, s:i, s:s}", "lora-rank", t->lora.rank, "lora-alpha", (double)t->lora.alpha,
        "lora-dropout", (double)t->lora.dropout, "rslora", t->lora.rank_stabilized, "targets", t->lora.targets, "whole",
        t->train_embedding | t->train_output << 1, "quantize", o->quantize == CLF_NF4 ? "nf4" : "none");
    const bool ok = j && more && lora && !json_object_update(j, more) && !json_object_update(j, lora);
    json_decref(more);
    json_decref(lora);
    if (ok) return j;
    json_decref(j);
    return NULL;
}

void options_difference(const json_t *then, const json_t *now, char *text, size_t size) {
    const char *name;
    json_t *value;
    *text = 0;
    json_object_foreach((json_t *)(uintptr_t)now, name, value) {
        const json_t *old = json_object_get(then, name);
        if (json_equal(old, value)) continue;
        char *was = json_dumps(old, JSON_ENCODE_ANY | JSON_REAL_PRECISION(7)),
             *is = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(7));
        snprintf(text, size, "it was made with --%s %s, this run has %s", name, was ? was : "unknown", is ? is : "?");
        free(was);
        free(is);
        return;
    }
}
