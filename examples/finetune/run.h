/* run.h: a run of clformer-finetune: what is open, where it stands, and how that is kept. */
#ifndef FINETUNE_RUN_H
#define FINETUNE_RUN_H

#include "metrics.h"
#include "options.h"

/* Where a run stands between two updates: all of it is in every checkpoint. */
typedef struct place {
    int64_t step, evaluated; /* done; the last one that was followed by an evaluation, −1: none */
    int64_t best_step;       /* of the lowest evaluation loss */
    double best_loss;
    clf_loss_scale_state scale;
    clf_dataset_position data;
    int64_t metrics; /* bytes of metrics.jsonl */
} place;

typedef struct run {
    options o;
    clf_context *ctx;
    clf_model *model;
    clf_dataset *data, *eval; /* NULL: nothing is evaluated */
    clf_dataset_stats stats;  /* of an epoch of `data` */
    clf_trainer *trainer;
    int64_t steps, saved; /* in all; the last one with a checkpoint, −1: none */
    place at;
    metrics m;
} run;

/* "clformer-finetune: what: why" on stderr. Returns EXIT_FAILURE. */
int fail(run *r, const char *what, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Both return 0 or, having said why, EXIT_FAILURE. */
int run_save(run *r);
/* Goes on from the checkpoint that --resume asks for, or begins; metrics are cut to its place. */
int run_resume(run *r);
/* Name of the newest checkpoint that `r` wrote or began with, in words. */
const char *run_last_good(const run *r, char *text, size_t size);

#endif
