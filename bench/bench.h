/* bench.h: what the parts of clformer-bench share. A figure is a median of runs, next to the machine's roof, which is
 * measured in the same run: a fraction means more than a number of another machine. */
#ifndef CLF_BENCH_H
#define CLF_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include <clformer/clformer.h>

typedef struct bench_settings {
    const char *device;
    int threads;          /* 0: the context's default */
    double seconds;       /* of timed runs, each figure */
    const char *only[32]; /* ops; none: all */
    int n_only;
    int dtype;         /* of ops; −1: each case's first */
    int variant;       /* of ops, as `variant` in the JSON says; −1: all that are to be timed */
    bool roofs, ops;   /* what to measure */
    int64_t unfused;   /* positions of attention beside its unfused form; 0: not measured */
    bool sparsity;     /* ternary matrices by what is empty of them */
    const char *model; /* NULL: none */
    int64_t prefill, decode, context;
    clf_dtype kv_dtype;
    const char *train; /* model to be fine-tuned; NULL: none */
    int64_t train_tokens;
    int checkpointing;
    bool train_full, optimizer_8bit;
    clf_dtype quantize;
    const char *json; /* NULL: not written */
} bench_settings;

/* One of roof.c's loops. */
typedef struct bench_loop {
    int isa, loop;
} bench_loop;

/* What the machine does at best, in units of 1e9 a second, all threads together; 0: not measured. */
typedef struct bench_roofs {
    double read;           /* bytes read, nothing written */
    double read_write;     /* bytes read and written, the best of copies and triads */
    double fma;            /* float32 operations, two a multiply-add */
    double int8;           /* int8 operations, two a multiply-add into int32 */
    bench_loop fastest[2]; /* that read, and read and wrote, at best */
} bench_roofs;

/* Times of one thing. */
typedef struct bench_times {
    double *seconds; /* sorted by bench_times_sort() */
    int n, capacity;
} bench_times;

double bench_now(void);
bool bench_times_add(bench_times *t, double seconds);
double bench_median(bench_times *t); /* sorts */
void bench_times_free(bench_times *t);

/* Measures with the context's threads; each fills `json`, an object, and prints a table. False after printing what
 * failed.
 */
bool bench_roof(clf_context *ctx, bench_roofs *roofs, json_t *json);
/* The loops compiled for a backend of the CPU's; NULL for others. */
const struct roof_isa *bench_isa(const char *backend);
/* Measures the bandwidths again, by the loops that were fastest: other guests of a host take their part of the
 * memory's, and it may halve from one second to the next. Without roofs nothing happens. */
void bench_roof_again(clf_context *ctx, bench_roofs *roofs);
bool bench_ops(const bench_settings *s, clf_context *ctx, bench_roofs *roofs, json_t *json);
bool bench_unfused(const bench_settings *s, clf_context *ctx, json_t *json);
bool bench_sparsity(const bench_settings *s, clf_context *ctx, json_t *json);
bool bench_train(const bench_settings *s, clf_context *ctx, json_t *json);
bool bench_model(const bench_settings *s, clf_context *ctx, const bench_roofs *roofs, json_t *json);

#endif
