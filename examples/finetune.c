/* finetune.c: fine-tunes a model on files of text, and keeps what a run is made of: checkpoints, metrics, the adapter
 * or the weights that come out. The loop is train() below; finetune_loop.c has it bare. */
#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "default_model/default_model.h"
#include "finetune/checkpoints.h"
#include "finetune/plan.h"
#include "finetune/run.h"
#include "shared/print_log.h"

enum { INTERRUPTED = 130, MAX_WARNINGS = 10, PARTS = 10 };

static volatile sig_atomic_t interrupted;

/* The first one asks for a checkpoint, the second one kills. */
static void on_interrupt(int signal_number) {
    signal(signal_number, SIG_DFL);
    interrupted = 1;
}

int fail(run *r, const char *what, const char *format, ...) {
    va_list args;
    va_start(args, format);
    if (r->m.shown) fputc('\n', stderr);
    r->m.shown = false;
    fprintf(stderr, "clformer-finetune: %s: ", what);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    return EXIT_FAILURE;
}

static int fail_status(run *r, const char *what, clf_status st) {
    const char *message = clf_error_message(r->ctx);
    fail(r, what, "%s", *message ? message : clf_status_string(st));
    if (st == CLF_OUT_OF_MEMORY) plan_suggest(r);
    return EXIT_FAILURE;
}

/* Opening */

/* The run's options, so that it can be gone on with from them alone. */
static int write_config(run *r) {
    char path[PATH_SIZE], begun[PATH_SIZE + 4];
    snprintf(path, sizeof path, "%s/config.json", r->o.output);
    snprintf(begun, sizeof begun, "%s.tmp", path);
    FILE *f = fopen(begun, "w");
    bool ok = f && !json_dumpf(r->o.given, f, JSON_INDENT(2)) && fputc('\n', f) != EOF;
    if (f && fclose(f)) ok = false;
    if (ok && !rename(begun, path)) return 0;
    const int error = errno;
    unlink(begun);
    return fail(r, path, "%s", strerror(error));
}

static int open_folder(run *r) {
    if (mkdir(r->o.output, 0777) && errno != EEXIST) return fail(r, r->o.output, "%s", strerror(errno));
    const char *why = metrics_open(&r->m, r->o.output);
    if (why) return fail(r, r->o.output, "%s", why);
    checkpoints_clean(r->o.output);
    return 0;
}

static int load_model(run *r) {
    char message[512] = "";
    const clf_context_args device = {.device = r->o.device,
                                     .threads = r->o.threads,
                                     .memory_limit = r->o.memory_limit,
                                     .log = print_log,
                                     .error = message,
                                     .error_size = sizeof message};
    if (clf_context_create(&r->ctx, &device) != CLF_OK) return fail(r, "device", "%s", message);
    if (plan_check_device(r)) return EXIT_FAILURE;
    clf_model_args args = {.path = r->o.model,
                           .keep_layout = true,
                           .mmap = true,
                           .contexts = &r->ctx,
                           .n_contexts = 1,
                           .quantize = r->o.quantize,
                           .adapter = r->o.adapter};
    if (!args.path) {
        args.data = clf_default_model;
        args.data_size = clf_default_model_size();
        if (!args.data_size) return fail(r, "model", "this build has no embedded model; give one with --model");
    }
    const clf_status st = clf_model_load(&r->model, &args);
    return st == CLF_OK ? 0 : fail_status(r, "model", st);
}

typedef struct warnings {
    const options *o;
    int count;
} warnings;

static bool on_bad_line(void *user, const char *message) {
    warnings *w = user;
    if (!w->o->skip_bad_lines) return false;
    if (w->count++ < MAX_WARNINGS) fprintf(stderr, "left out: %s\n", message);
    return true;
}

static int open_data(run *r, warnings *w) {
    char message[512] = "";
    w->o = &r->o;
    const clf_dataset_args args = {.paths = r->o.data,
                                   .n_paths = r->o.n_data,
                                   .tokenizer = clf_model_tokenizer(r->model),
                                   .context = r->o.context,
                                   .pack = r->o.pack,
                                   .preference = r->o.dpo > 0,
                                   .seed = r->o.trainer.seed,
                                   .bad_line = on_bad_line,
                                   .user = w,
                                   .error = message,
                                   .error_size = sizeof message};
    if (clf_dataset_create(&r->data, &args) != CLF_OK) return fail(r, "data", "%s", message);
    if (r->o.eval > 0 && clf_dataset_split(r->data, r->o.eval, &r->eval) != CLF_OK)
        return fail(r, "eval", "%s", clf_dataset_error(r->data));
    if (clf_dataset_scan(r->data, r->o.batch, &r->stats) != CLF_OK)
        return fail(r, "data", "%s", clf_dataset_error(r->data));
    return 0;
}

static void say_data(run *r) {
    const clf_dataset_stats *s = &r->stats;
    metrics_say(&r->m, "%s; %lld samples, %lld tokens, of which %lld are learnt; %lld batches an epoch",
                clf_context_device(r->ctx), (long long)s->samples, (long long)s->tokens, (long long)s->targets,
                (long long)s->batches);
    if (s->truncated)
        metrics_say(&r->m, "%lld samples are longer than %lld tokens (the longest: %lld): %lld tokens are cut off",
                    (long long)s->truncated, (long long)r->o.context, (long long)s->longest, (long long)s->lost);
    if (s->dropped) metrics_say(&r->m, "%lld samples have nothing to learn and are left out", (long long)s->dropped);
    if (s->skipped) metrics_say(&r->m, "%lld lines can't be read and are left out", (long long)s->skipped);
}

/* How long the run is, and what follows from that. */
static void settle_steps(run *r) {
    options *o = &r->o;
    const double batches = o->epochs * (double)r->stats.batches;
    r->steps = o->steps ? o->steps : (int64_t)fmax(1, ceil(batches / (double)o->accumulate));
    const int64_t part = r->steps > PARTS ? r->steps / PARTS : 1;
    if (!o->eval_every) o->eval_every = part;
    if (!o->save_every) o->save_every = part;
    o->schedule.steps = r->steps;
    o->schedule.warmup_steps = o->warmup >= 0 ? o->warmup : r->steps / 20;
}

static int create_trainer(run *r) {
    clf_trainer_args args = r->o.trainer;
    r->at =
        (place){.evaluated = -1, .scale = clf_loss_scale_start(&r->o.loss_scale), .data = clf_dataset_tell(r->data)};
    r->saved = -1;
    args.model = r->model;
    args.tokens = r->o.batch * r->o.context;
    args.loss_scale = r->at.scale.scale;
    const clf_status st = clf_trainer_create(&r->trainer, &args);
    return st == CLF_OK ? 0 : fail_status(r, "training", st);
}

static int open_all(run *r, warnings *w) {
    clf_model_info info;
    int code = open_folder(r);
    if (!code) code = load_model(r);
    if (code) return code;
    clf_model_get_info(r->model, &info);
    if (!r->o.context) r->o.context = plan_default_context(info.trained_context);
    code = open_data(r, w);
    if (code) return code;
    say_data(r);
    settle_steps(r);
    code = create_trainer(r);
    if (!code) code = run_resume(r);
    return code ? code : write_config(r);
}

static void close_all(run *r) {
    metrics_close(&r->m);
    clf_trainer_destroy(r->trainer);
    clf_dataset_destroy(r->eval);
    clf_dataset_destroy(r->data);
    clf_model_destroy(r->model);
    clf_context_destroy(r->ctx);
    options_free(&r->o);
}

/* The loop */

static int fail_pass(run *r, clf_status st) {
    char good[PATH_SIZE + 64];
    if (st != CLF_NOT_FINITE) return fail_status(r, "training", st);
    return fail(r, "training", "%s; %s", clf_error_message(r->ctx), run_last_good(r, good, sizeof good));
}

static void add_up(clf_preference *sum, const clf_preference *found) {
    sum->loss += found->loss;
    sum->margin += found->margin;
    sum->correct += found->correct;
}

/* One batch forward and backward. Its loss and, with --dpo, its answers are added. */
static clf_status learn(run *r, const clf_batch *b, int64_t targets, clf_preference *sum) {
    clf_preference found = {.pairs = 0};
    const clf_status st = r->o.dpo > 0 ? clf_trainer_accumulate_preference(r->trainer, b, targets, r->o.dpo, &found)
                                       : clf_trainer_accumulate(r->trainer, b, targets, &found.loss);
    if (st == CLF_OK) add_up(sum, &found);
    return st;
}

/* The same of a batch that is kept out. */
static clf_status judge(run *r, const clf_batch *b, clf_preference *sum) {
    clf_preference found = {.pairs = 0};
    const clf_status st = r->o.dpo > 0 ? clf_trainer_evaluate_preference(r->trainer, b, r->o.dpo, &found)
                                       : clf_trainer_evaluate(r->trainer, b, &found.loss);
    if (st == CLF_OK) add_up(sum, &found);
    return st;
}

/* What a step's losses are divided by: targets, or pairs. */
static int64_t weight_of(const run *r, const clf_batch *b) {
    return r->o.dpo > 0 ? b->sequences / 2 : b->targets;
}

typedef struct step_result {
    clf_preference sum;
    clf_update update;
    int64_t targets, tokens;
    double rate, seconds;
} step_result;

/* Overflow under a dynamic loss scale halves the scale, and the step is taken again; any other gradient that isn't
 * finite ends the run. */
static int judge_update(run *r, const clf_update *u) {
    char good[PATH_SIZE + 64];
    const bool dynamic = r->o.loss_scale.loss_scale == CLF_LOSS_SCALE_DYNAMIC;
    const float before = r->at.scale.scale;
    clf_loss_scale_update(&r->o.loss_scale, &r->at.scale, !u->skipped);
    if (u->skipped && (!dynamic || r->at.scale.scale < 1))
        return fail(r, "training", "step %lld: the gradient of %s is not finite%s; %s", (long long)r->at.step + 1,
                    u->culprit, dynamic ? ", whatever the loss scale" : "", run_last_good(r, good, sizeof good));
    if (u->skipped)
        metrics_say(&r->m, "step %lld: the gradient of %s overflows: loss scale %g → %g, and again",
                    (long long)r->at.step + 1, u->culprit, (double)before, (double)r->at.scale.scale);
    if (r->at.scale.scale == before) return 0;
    const clf_status st = clf_trainer_set_loss_scale(r->trainer, r->at.scale.scale);
    return st == CLF_OK ? 0 : fail_status(r, "training", st);
}

static int note_step(run *r, const step_result *s) {
    clf_memory_stats memory = {0};
    clf_memory_get_stats(r->ctx, &memory);
    const double loss = s->sum.loss / (double)s->targets, speed = (double)s->tokens / (s->seconds + 1e-9);
    const double epoch = (double)r->at.data.epoch + (double)r->at.data.sample / (double)r->stats.samples;
    json_t *line = json_pack("{s:I, s:f, s:f, s:f, s:f, s:I, s:I}", "step", (json_int_t)r->at.step, "epoch", epoch,
                             "loss", loss, "learning_rate", s->rate, "gradient_norm", s->update.gradient_norm, "tokens",
                             (json_int_t)s->tokens, r->o.dpo > 0 ? "pairs" : "targets", (json_int_t)s->targets);
    if (line && r->o.dpo > 0) {
        json_object_set_new(line, "margin", json_real(s->sum.margin / (double)s->targets));
        json_object_set_new(line, "correct", json_real((double)s->sum.correct / (double)s->targets));
    }
    if (line && r->o.loss_scale.loss_scale != CLF_LOSS_SCALE_NONE)
        json_object_set_new(line, "loss_scale", json_real((double)r->at.scale.scale));
    if (line) {
        json_object_set_new(line, "tokens_per_second", json_real(speed));
        json_object_set_new(line, "memory", json_integer((json_int_t)memory.peak_held));
    }
    if (!metrics_write(&r->m, line)) return fail(r, "metrics.jsonl", "%s", strerror(errno));
    metrics_show(&r->m, &(progress){.step = r->at.step,
                                    .epoch = epoch,
                                    .loss = loss,
                                    .learning_rate = s->rate,
                                    .gradient_norm = s->update.gradient_norm,
                                    .tokens_per_second = speed,
                                    .memory = memory.peak_held});
    return 0;
}

/* An update from --accumulate batches. A batch is the dataset's until the next one, so targets are counted first, then
 * the same batches are taken again. An interrupt leaves the step undone, and so does an overflow, but for the loss
 * scale: the next call takes the same batches. */
static int take_step(run *r) {
    step_result s = {.targets = 0};
    clf_batch b;
    const double began = seconds_now();
    for (int64_t i = 0; i < r->o.accumulate; i++) {
        if (clf_dataset_next(r->data, r->o.batch, &b) != CLF_OK)
            return fail(r, "data", "%s", clf_dataset_error(r->data));
        s.targets += weight_of(r, &b);
        s.tokens += b.tokens - b.padding;
    }
    const clf_dataset_position end = clf_dataset_tell(r->data);
    if (clf_dataset_seek(r->data, &r->at.data) != CLF_OK) return fail(r, "data", "%s", clf_dataset_error(r->data));
    for (int64_t i = 0; i < r->o.accumulate; i++) {
        if (interrupted) return 0;
        if (clf_dataset_next(r->data, r->o.batch, &b) != CLF_OK)
            return fail(r, "data", "%s", clf_dataset_error(r->data));
        const clf_status st = learn(r, &b, s.targets, &s.sum);
        if (st != CLF_OK) return fail_pass(r, st);
    }
    s.rate = r->o.learning_rate * clf_schedule_multiplier(&r->o.schedule, r->at.step + 1);
    const clf_status st = clf_trainer_update(r->trainer, (float)s.rate, &s.update);
    if (st != CLF_OK) return fail_status(r, "training", st);
    const int code = judge_update(r, &s.update);
    if (code) return code;
    if (s.update.skipped)
        return clf_dataset_seek(r->data, &r->at.data) == CLF_OK ? 0 : fail(r, "data", "%s", clf_dataset_error(r->data));
    r->at.step++;
    r->at.data = end;
    s.seconds = seconds_now() - began;
    return note_step(r, &s);
}

/* Perplexity, or what the pairs say. */
static int note_evaluation(run *r, const clf_preference *sum, int64_t targets) {
    const double loss = sum->loss / (double)targets, margin = sum->margin / (double)targets,
                 correct = (double)sum->correct / (double)targets;
    const long long step = (long long)r->at.step;
    json_t *line;
    if (r->o.dpo > 0) {
        metrics_say(&r->m, "step %lld: evaluation loss %.4f, margin %.4f, %.1f %% of %lld pairs correct", step, loss,
                    margin, 100 * correct, (long long)targets);
        line = json_pack("{s:I, s:f, s:f, s:f, s:I}", "step", (json_int_t)step, "eval_loss", loss, "eval_margin",
                         margin, "eval_correct", correct, "pairs", (json_int_t)targets);
    } else {
        metrics_say(&r->m, "step %lld: evaluation loss %.4f, perplexity %.3f", step, loss, exp(loss));
        line = json_pack("{s:I, s:f, s:f, s:I}", "step", (json_int_t)step, "eval_loss", loss, "perplexity", exp(loss),
                         "targets", (json_int_t)targets);
    }
    return metrics_write(&r->m, line) ? 0 : fail(r, "metrics.jsonl", "%s", strerror(errno));
}

/* The loss of the samples kept out, each target or pair counting once. */
static int evaluate(run *r) {
    clf_batch b = {.last = false};
    clf_preference sum = {.pairs = 0};
    int64_t targets = 0;
    if (clf_dataset_seek(r->eval, NULL) != CLF_OK) return fail(r, "eval", "%s", clf_dataset_error(r->eval));
    while (!b.last) {
        if (interrupted) return 0;
        if (clf_dataset_next(r->eval, r->o.batch, &b) != CLF_OK)
            return fail(r, "eval", "%s", clf_dataset_error(r->eval));
        const clf_status st = judge(r, &b, &sum);
        if (st != CLF_OK) return fail_pass(r, st);
        targets += weight_of(r, &b);
    }
    const double loss = sum.loss / (double)targets;
    r->at.evaluated = r->at.step;
    if (!r->at.step || loss < r->at.best_loss) {
        r->at.best_loss = loss;
        r->at.best_step = r->at.step;
    }
    return note_evaluation(r, &sum, targets);
}

static int stop_early(run *r) {
    const int code = r->saved == r->at.step ? 0 : run_save(r);
    if (code) return code;
    metrics_draw(&r->m);
    metrics_say(&r->m, "interrupted after step %lld; to go on: clformer-finetune --config %s/config.json --resume",
                (long long)r->at.step, r->o.output);
    return INTERRUPTED;
}

static int train(run *r) {
    r->m.steps = r->steps;
    r->m.first = r->at.step;
    r->m.began = seconds_now();
    for (;;) {
        const int64_t step = r->at.step;
        const bool last = step >= r->steps;
        int code = 0;
        if (r->eval && r->at.evaluated < step && (last || step % r->o.eval_every == 0)) code = evaluate(r);
        if (code) return code;
        if (interrupted) return stop_early(r);
        if (r->saved < step && (last || (step && step % r->o.save_every == 0))) {
            code = run_save(r);
            if (!code) metrics_draw(&r->m);
        }
        if (code || last) return code;
        code = take_step(r);
        if (code) return code;
    }
}

/* What comes out: the adapter, and the whole model where it is asked for. */
static int save_result(run *r) {
    char path[PATH_SIZE];
    clf_model_info info;
    clf_model_get_info(r->model, &info);
    if (r->o.trainer.mode == CLF_TRAIN_LORA) {
        snprintf(path, sizeof path, "%s/adapter", r->o.output);
        const clf_adapter_save_args args = {.path = path, .base_model = r->o.model};
        const clf_status st = clf_model_save_adapter(r->model, &args);
        if (st != CLF_OK) return fail_status(r, path, st);
        metrics_say(&r->m, "the adapter is in %s; to try it: clformer-generate%s%s --adapter %s", path,
                    r->o.model ? " --model " : "", r->o.model ? r->o.model : "", path);
    }
    if (r->o.trainer.mode != CLF_TRAIN_FULL && !r->o.merge) return 0;
    snprintf(path, sizeof path, "%s/model%s", r->o.output, strcmp(info.format, "gguf") ? "" : ".gguf");
    const clf_status st = clf_model_save(r->model, &(clf_model_save_args){.path = path, .dtype = r->o.merge_dtype});
    if (st != CLF_OK) return fail_status(r, path, st);
    metrics_say(&r->m, "the model is in %s; to try it: clformer-generate --model %s", path, path);
    return 0;
}

int main(int argc, char **argv) {
    run r = {.at = {.step = 0}};
    warnings w = {.count = 0};
    options_parse(&r.o, argc, argv);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is a full disk */
    signal(SIGINT, on_interrupt);
    signal(SIGTERM, on_interrupt);
    int code = r.o.dry_run ? plan_print(&r) : open_all(&r, &w);
    if (r.o.dry_run) return close_all(&r), code;
    if (!code) code = train(&r);
    if (!code && r.eval)
        metrics_say(&r.m, "the best evaluation was at step %lld: loss %.4f", (long long)r.at.best_step, r.at.best_loss);
    if (!code) code = save_result(&r);
    close_all(&r);
    return code;
}
