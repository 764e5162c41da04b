/* options.h: what the command line and the configuration file of clformer-finetune say. */
#ifndef FINETUNE_OPTIONS_H
#define FINETUNE_OPTIONS_H

#include <clformer/clformer.h>
#include <jansson.h>

#include "config.h"

enum { MAX_DATA = 64 };

typedef enum resume { RESUME_NO, RESUME_NEWEST, RESUME_AUTO, RESUME_FILE } resume;

typedef struct options {
    const char *model, *adapter, *data[MAX_DATA], *output, *device, *resume_file;
    size_t n_data, n_config_data; /* of which the configuration file named so many: the command line's replace them */
    int64_t steps, batch, accumulate, context, warmup, eval_every, save_every, keep; /* warmup −1: a twentieth */
    double epochs, learning_rate, eval;
    clf_schedule_args schedule;
    clf_loss_scale_args loss_scale;
    clf_trainer_args trainer; /* but for model, tokens and loss scale */
    clf_dtype quantize;
    float dpo;
    resume resume;
    int threads;
    uint64_t memory_limit;
    const char *merge_dtype; /* NULL: as the model has them */
    bool pack, skip_bad_lines, merge, dry_run, scale_given;
    words words;   /* what the strings point into */
    json_t *given; /* every option as it was given, by name: a configuration file that gives the same run */
} options;

/* Fills `o`, or says what is wrong and exits. */
void options_parse(options *o, int argc, char **argv);
void options_free(options *o);

/* What decides the weights that come out, by option name: a checkpoint goes on only where all of it is equal. NULL: out
 * of memory. */
json_t *options_decisive(const options *o);
/* The first difference of two such objects, in words; "" if there is none. */
void options_difference(const json_t *then, const json_t *now, char *text, size_t size);

#endif
