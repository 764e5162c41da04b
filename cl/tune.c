/* tune.c: which tile sizes of attention's kernels are fastest on a device: each of the list that it can have, if it
 * gives the known answers, is timed on one shape a pass and width. */
#define _POSIX_C_SOURCE 200809L
#include <clformer/opencl.h>

#include <stdlib.h>
#include <time.h>

#include "attention_tile.h"

enum { HEADS = 16, MIN_RUNS = 3, MOST_RUNS = 20, GPU_LENGTH = 2048, CPU_LENGTH = 256 };
static const double least_seconds = 0.3;
static const char *const pass_names[CLF_CL_PASSES] = {"forward", "backward"};

enum { QUERY, KEY, VALUE, OUT, D_OUT, D_QUERY, D_KEY, D_VALUE, LSE, TENSORS };

/* A call of `length` queries and keys, all values 0.5. */
typedef struct problem {
    clf_tensor t[TENSORS];
    clf_attention_backward_args args; /* .forward is the forward call */
} problem;

static void close_problem(problem *p) {
    for (int i = 0; i < TENSORS; i++) clf_buffer_release(p->t[i].buffer);
}

static clf_status open_problem(problem *p, clf_context *ctx, int64_t length, int64_t dim) {
    *p = (problem){.args.forward.causal = true};
    const size_t floats = (size_t)(HEADS * length * dim);
    float *values = malloc(floats * sizeof *values);
    CLF_CHECK(&ctx->error, values, CLF_OUT_OF_MEMORY, "out of host memory");
    for (size_t i = 0; i < floats; i++) values[i] = 0.5f;
    clf_status st = CLF_OK;
    for (int i = 0; i < TENSORS && st == CLF_OK; i++) {
        const int64_t shape[4] = {1, HEADS, length, dim};
        st = clf_cl_test_tensor(&p->t[i], ctx, CLF_F32, i == LSE ? 3 : 4, shape, values);
    }
    free(values);
    clf_attention_args *a = &p->args.forward;
    a->query = &p->t[QUERY], a->key = &p->t[KEY], a->value = &p->t[VALUE];
    a->out = &p->t[OUT], a->lse = &p->t[LSE];
    a->scale = 0.1f;
    p->args.d_out = &p->t[D_OUT];
    p->args.d_query = &p->t[D_QUERY], p->args.d_key = &p->t[D_KEY], p->args.d_value = &p->t[D_VALUE];
    return st;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static clf_status run_once(clf_context *ctx, clf_cl_attention_pass pass, const problem *p, double *seconds) {
    const double start = now();
    if (pass == CLF_CL_FORWARD)
        CLF_TRY(clf_attention_opencl(ctx, &p->args.forward));
    else
        CLF_TRY(clf_attention_backward_opencl(ctx, &p->args));
    CLF_TRY(clf_cl_sync(ctx));
    *seconds = now() - start;
    return CLF_OK;
}

/* The least of some runs, after one that is not counted: what disturbs only makes them longer. */
static clf_status measure(clf_context *ctx, clf_cl_attention_pass pass, const problem *p, double *best) {
    double seconds = 0, sum = 0;
    CLF_TRY(run_once(ctx, pass, p, &seconds));
    *best = 1e30;
    for (int n = 0; n < MIN_RUNS || (n < MOST_RUNS && sum < least_seconds); n++) {
        CLF_TRY(run_once(ctx, pass, p, &seconds));
        sum += seconds;
        if (seconds < *best) *best = seconds;
    }
    return CLF_OK;
}

/* Tries the list for one pass and width; leaves the fastest in the state. */
static clf_status tune(clf_context *ctx, clf_cl_attention_pass pass, int width, int64_t length, int most) {
    uint8_t *used = &clf_cl(ctx)->attention_tiles[pass][width];
    const uint8_t before = *used;
    const int dim = 64 * clf_cl_attention_chunks(width);
    double fastest = 1e30;
    uint8_t best = before;
    problem p;
    clf_status st = open_problem(&p, ctx, length, dim);
    for (int i = 0, tried = 0; i < CLF_CL_TILES && tried < most && st == CLF_OK; i++) {
        clf_cl_attention_tile t;
        double seconds = 0;
        if (!clf_cl_attention_tile_at(&t, ctx, pass, i)) continue;
        tried++;
        *used = (uint8_t)i;
        st = clf_cl_attention_test(ctx, pass, CLF_F32, CLF_CL_TEST_QUERIES, dim, true);
        if (st == CLF_OK) st = measure(ctx, pass, &p, &seconds);
        if (st == CLF_OK) {
            clf_log(ctx, CLF_LOG_INFO,
                    "attention %s, up to %d columns: %3d queries × %2d keys, %3d items, depth %d: %.3f ms",
                    pass_names[pass], dim, t.queries, t.keys, t.items, t.depth, 1e3 * seconds);
            if (seconds < fastest) fastest = seconds, best = (uint8_t)i;
        } else if (!clf_cl(ctx)->lost && st != CLF_OUT_OF_MEMORY) { /* this one isn't for this device */
            clf_log(ctx, CLF_LOG_INFO, "attention %s, up to %d columns: %d × %d is out: %s", pass_names[pass], dim,
                    t.queries, t.keys, ctx->error.message);
            clf_error_clear(&ctx->error);
            st = CLF_OK;
        }
    }
    *used = st == CLF_OK ? best : before;
    close_problem(&p);
    return st;
}

clf_status clf_cl_tune(clf_context *ctx, const clf_opencl_tune_args *args) {
    CLF_TRY(clf_cl_alive(ctx));
    const int64_t length = args->length ? args->length : clf_cl(ctx)->is_gpu ? GPU_LENGTH : CPU_LENGTH;
    const int most = args->most ? args->most : CLF_CL_TILES;
    for (int pass = 0; pass < CLF_CL_PASSES; pass++)
        for (int width = 0; width < CLF_CL_WIDTHS; width++)
            if (!args->head_dim || width == clf_cl_attention_width(args->head_dim))
                CLF_TRY(tune(ctx, (clf_cl_attention_pass)pass, width, length, most));
    clf_cl_attention_tiles_store(ctx);
    return CLF_OK;
}
