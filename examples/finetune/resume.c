/* resume.c: writing checkpoints and going on from them. */
#include <stdlib.h>
#include <string.h>

#include "checkpoints.h"
#include "run.h"

enum { EXTRA_SIZE = 1 << 16, WORDS = 512 };

/* The place as text */

static json_t *place_json(const place *p) {
    return json_pack("{s:I, s:I, s:I, s:f, s:f, s:I, s:I, s:[I,I,I,I,I]}", "step", (json_int_t)p->step, "evaluated",
                     (json_int_t)p->evaluated, "best_step", (json_int_t)p->best_step, "best_loss", p->best_loss,
                     "loss_scale", (double)p->scale.scale, "good_steps", (json_int_t)p->scale.good_steps, "metrics",
                     (json_int_t)p->metrics, "data", (json_int_t)p->data.fingerprint, (json_int_t)p->data.epoch,
                     (json_int_t)p->data.sample, (json_int_t)p->data.sequence, (json_int_t)p->data.used);
}

static bool place_from_json(place *p, json_t *j) {
    json_int_t step, evaluated, best_step, good_steps, logged, data[5];
    double best_loss, scale;
    if (json_unpack(j, "{s:I, s:I, s:I, s:F, s:F, s:I, s:I, s:[I,I,I,I,I]}", "step", &step, "evaluated", &evaluated,
                    "best_step", &best_step, "best_loss", &best_loss, "loss_scale", &scale, "good_steps", &good_steps,
                    "metrics", &logged, "data", &data[0], &data[1], &data[2], &data[3], &data[4]))
        return false;
    *p = (place){.step = step,
                 .evaluated = evaluated,
                 .best_step = best_step,
                 .best_loss = best_loss,
                 .scale = {.scale = (float)scale, .good_steps = good_steps},
                 .data = {.fingerprint = (uint64_t)data[0],
                          .epoch = (uint64_t)data[1],
                          .sample = (uint64_t)data[2],
                          .sequence = (uint64_t)data[3],
                          .used = (uint64_t)data[4]},
                 .metrics = logged};
    return true;
}

static char *extra_text(const run *r) {
    json_t *mine = options_decisive(&r->o), *at = place_json(&r->at);
    json_t *root = mine && at ? json_pack("{s:O, s:O, s:I, s:s}", "place", at, "options", mine, "steps",
                                          (json_int_t)r->steps, "device", clf_context_device(r->ctx))
                              : NULL;
    char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(mine);
    json_decref(at);
    json_decref(root);
    return text;
}

/* Writing */

const char *run_last_good(const run *r, char *text, size_t size) {
    char path[PATH_SIZE];
    checkpoint_path(path, r->o.output, r->saved);
    if (r->saved >= 0)
        snprintf(text, size, "the last good checkpoint is %s", path);
    else
        snprintf(text, size, "there is no checkpoint yet");
    return text;
}

int run_save(run *r) {
    char path[PATH_SIZE], good[PATH_SIZE + 64];
    r->at.metrics = metrics_place(&r->m);
    if (r->at.metrics < 0)
        return fail(r, "metrics.jsonl", "it can't be written; %s", run_last_good(r, good, sizeof good));
    checkpoint_path(path, r->o.output, r->at.step);
    char *extra = extra_text(r);
    if (!extra) return fail(r, path, "out of memory");
    const clf_status st = clf_trainer_save(r->trainer, path, extra);
    free(extra);
    if (st != CLF_OK)
        return fail(r, "checkpoint", "%s; %s", clf_error_message(r->ctx), run_last_good(r, good, sizeof good));
    r->saved = r->at.step;
    checkpoints_prune(r->o.output, r->at.step, r->o.keep);
    return 0;
}

/* Reading */

/* Why the options of `extra` can't go on here; "" if they can. Another number of steps can. */
static void check_options(run *r, const json_t *extra, char *why, size_t size) {
    json_t *now = options_decisive(&r->o);
    options_difference(json_object_get(extra, "options"), now, why, size);
    json_decref(now);
    const long long steps = json_integer_value(json_object_get(extra, "steps"));
    if (*why || !extra) return;
    if (steps != r->steps)
        metrics_say(&r->m, "the checkpoint's run was of %lld steps, this one is of %lld: rates differ from now on",
                    steps, (long long)r->steps);
    const char *device = json_string_value(json_object_get(extra, "device"));
    if (device && strcmp(device, clf_context_device(r->ctx)) != 0)
        metrics_say(&r->m, "the checkpoint was made on %s: on %s the last bits may differ", device,
                    clf_context_device(r->ctx));
}

/* Loads `path` into the trainer and r->at. false: `why` says what is wrong, `damaged` whether the file is. */
static bool load(run *r, const char *path, char *why, size_t size, bool *damaged) {
    char *extra = malloc(EXTRA_SIZE), difference[256] = "";
    const clf_status st = extra ? clf_trainer_load(r->trainer, path, extra, EXTRA_SIZE) : CLF_OUT_OF_MEMORY;
    json_t *root = st == CLF_OK ? json_loads(extra, 0, NULL) : checkpoint_peek(path);
    free(extra);
    const json_t *theirs = json_object_get(root, "options");
    place at;
    *why = 0;
    *damaged = false;
    if (theirs) check_options(r, root, difference, sizeof difference);
    if (*difference) {
        snprintf(why, size, "%s: %s", path, difference);
    } else if (st != CLF_OK) {
        snprintf(why, size, "%s", st == CLF_OUT_OF_MEMORY ? "out of memory" : clf_error_message(r->ctx));
        *damaged = st == CLF_BAD_FILE || st == CLF_UNSUPPORTED;
    } else if (!theirs || !place_from_json(&at, json_object_get(root, "place"))) {
        snprintf(why, size, "%s: it wasn't written by clformer-finetune", path);
    } else if (clf_dataset_seek(r->data, &at.data) != CLF_OK) {
        snprintf(why, size, "%s: %s", path, clf_dataset_error(r->data));
    } else if (clf_trainer_set_loss_scale(r->trainer, at.scale.scale) != CLF_OK) {
        snprintf(why, size, "%s: %s", path, clf_error_message(r->ctx));
    } else {
        r->at = at;
        r->saved = at.step;
    }
    json_decref(root);
    return !*why;
}

/* The newest checkpoint that can be read, and what the newer ones lack. */
static int resume_newest(run *r) {
    char path[PATH_SIZE], why[WORDS + PATH_SIZE], refused[WORDS + PATH_SIZE] = "";
    bool damaged;
    int64_t step = INT64_MAX;
    while ((step = checkpoint_before(r->o.output, step)) >= 0) {
        checkpoint_path(path, r->o.output, step);
        if (load(r, path, why, sizeof why, &damaged)) break;
        if (!damaged) return fail(r, "resume", "%s", why);
        if (r->o.resume == RESUME_AUTO)
            metrics_say(&r->m, "%s", why);
        else if (!*refused)
            snprintf(refused, sizeof refused, "%s", why);
    }
    if (*refused && step >= 0) return fail(r, "resume", "%s; the one before it is good: --resume=%s", refused, path);
    if (*refused) return fail(r, "resume", "%s; there is no older one that is good", refused);
    if (step < 0) metrics_say(&r->m, "no checkpoint in %s: from the beginning", r->o.output);
    return 0;
}

int run_resume(run *r) {
    char why[WORDS + PATH_SIZE];
    bool damaged;
    const char *output = r->o.output;
    if (r->o.resume == RESUME_NO && checkpoint_before(output, INT64_MAX) >= 0)
        return fail(r, output, "it has checkpoints already: --resume goes on from them, or choose another --output");
    if (r->o.resume == RESUME_FILE && !load(r, r->o.resume_file, why, sizeof why, &damaged))
        return fail(r, "resume", "%s", why);
    if (r->o.resume == RESUME_NEWEST || r->o.resume == RESUME_AUTO) {
        const int code = resume_newest(r);
        if (code) return code;
    }
    if (!metrics_return_to(&r->m, r->at.metrics))
        metrics_say(&r->m, "%s/metrics.jsonl has lost lines since the checkpoint", output);
    if (checkpoints_set_aside(output, r->at.step))
        metrics_say(&r->m, "newer checkpoints are set aside: .old is behind their names");
    if (r->o.resume != RESUME_NO && r->saved >= 0)
        metrics_say(&r->m, "going on after step %lld", (long long)r->at.step);
    return 0;
}
