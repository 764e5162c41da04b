/* metrics.h: what a run tells: a line a step in DIR/metrics.jsonl, a line on the terminal, a curve in DIR/loss.svg. */
#ifndef FINETUNE_METRICS_H
#define FINETUNE_METRICS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

typedef struct metrics {
    FILE *file; /* DIR/metrics.jsonl, locked: one run at a time writes there */
    const char *folder;
    int64_t steps, first; /* of the run; where this process began */
    double began;         /* when, in seconds */
    bool shown, no_curve; /* a progress line stands on the terminal; no gnuplot */
} metrics;

double seconds_now(void);

/* Opens and locks. Returns NULL, or what is wrong. */
const char *metrics_open(metrics *m, const char *folder);
void metrics_close(metrics *m);
/* Bytes written and synced; −1: they couldn't be. */
int64_t metrics_place(metrics *m);
/* Forgets what is after `place`. false: it wasn't all there. */
bool metrics_return_to(metrics *m, int64_t place);
/* Appends one object, which it takes. false: it couldn't be written. */
bool metrics_write(metrics *m, json_t *line);

/* What the progress line of a step shows. */
typedef struct progress {
    int64_t step;
    double epoch, loss, learning_rate, gradient_norm, tokens_per_second;
    uint64_t memory;
} progress;

/* On a terminal a line that each step replaces, otherwise one now and then. */
void metrics_show(metrics *m, const progress *p);
/* A line of its own on stderr, behind the progress. */
void metrics_say(metrics *m, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Draws loss.svg from metrics.jsonl by gnuplot. */
void metrics_draw(metrics *m);

#endif
