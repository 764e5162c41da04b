/* unfused.c: what flash attention saves: clf_attention() beside attention in three steps that stores all scores,
 *
 *     S = q·kᵀ (clf_linear, each head)    P = softmax(S), in place, of what is seen    out = P·(vᵀ)ᵀ (clf_linear)
 *
 * with the library's own products, so that the difference is the fusion's. Time and the pool's peak, inputs and output
 * included. Away from the CPU there is no softmax op: the host does it there, and only the memory counts. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "roof_isa.h"

enum { HEADS = 8, DIM = 64 };
enum { QUERY, KEY, VALUE, OUT, SCORES, TURNED, TENSORS }; /* TURNED: [heads, dim, n] of the values */

typedef struct unfused {
    clf_context *ctx;
    int64_t n;
    clf_tensor *t[TENSORS];
    float *scores;         /* where the device's memory is not the host's */
    const roof_isa *loops; /* NULL: there */
} unfused;

static clf_status flash(unfused *u) {
    const clf_status st = clf_attention(
        u->ctx, &(clf_attention_args){
                    .query = u->t[QUERY], .key = u->t[KEY], .value = u->t[VALUE], .causal = true, .out = u->t[OUT]});
    return st == CLF_OK ? clf_sync(u->ctx) : st;
}

/* Head `h` of a tensor of heads, as [rows, columns]. */
static clf_status head(clf_tensor **out, const clf_tensor *t, int64_t h, int64_t rows, int64_t columns) {
    return clf_tensor_view(out, t, 2, (int64_t[]){rows, columns}, NULL, h * rows * columns);
}

/* out = x · wᵀ of one head. */
static clf_status product(unfused *u, int64_t h, int x, int64_t x_columns, int w, int64_t w_rows, int out) {
    clf_tensor *a = NULL, *b = NULL, *c = NULL;
    clf_status st = head(&a, u->t[x], h, u->n, x_columns);
    if (st == CLF_OK) st = head(&b, u->t[w], h, w_rows, x_columns);
    if (st == CLF_OK) st = head(&c, u->t[out], h, u->n, w_rows);
    if (st == CLF_OK) st = clf_linear(u->ctx, &(clf_linear_args){.x = a, .weight = {b}, .out = {c}});
    clf_tensor_destroy(a);
    clf_tensor_destroy(b);
    clf_tensor_destroy(c);
    return st;
}

static clf_status softmax(unfused *u) {
    const float scale = 1 / sqrtf(DIM);
    const int64_t n = u->n;
    if (u->loops) {
        float *x = clf_tensor_data(u->t[SCORES]);
        const int threads = clf_context_threads(u->ctx);
#pragma omp parallel for num_threads(threads) schedule(dynamic, 64)
        for (int64_t row = 0; row < HEADS * n; row++) u->loops->softmax(x + row * n, row % n + 1, n, scale);
        return CLF_OK;
    }
    const size_t bytes = clf_tensor_bytes(u->t[SCORES]);
    clf_status st = clf_tensor_read(u->t[SCORES], u->scores, bytes);
    for (int64_t row = 0; st == CLF_OK && row < HEADS * n; row++)
        bench_isa("cpu-scalar")->softmax(u->scores + row * n, row % n + 1, n, scale);
    return st == CLF_OK ? clf_tensor_write(u->t[SCORES], u->scores, bytes) : st;
}

/* Values with the positions along the rows. */
static clf_status turn(unfused *u) {
    clf_tensor *from;
    const int64_t shape[] = {HEADS, DIM, u->n}, stride[] = {DIM * u->n, 1, DIM};
    clf_status st = clf_tensor_view(&from, u->t[VALUE], 3, shape, stride, 0);
    if (st != CLF_OK) return st;
    st = clf_convert(u->ctx, &(clf_convert_args){.x = from, .out = u->t[TURNED]});
    clf_tensor_destroy(from);
    return st;
}

static clf_status three_steps(unfused *u) {
    clf_status st = CLF_OK;
    for (int64_t h = 0; h < HEADS && st == CLF_OK; h++) st = product(u, h, QUERY, DIM, KEY, u->n, SCORES);
    if (st == CLF_OK) st = softmax(u);
    if (st == CLF_OK) st = turn(u);
    for (int64_t h = 0; h < HEADS && st == CLF_OK; h++) st = product(u, h, SCORES, u->n, TURNED, DIM, OUT);
    return st == CLF_OK ? clf_sync(u->ctx) : st;
}

/* Makes tensors `from` … `to` − 1 with numbers in −1 … 1. */
static clf_status make(unfused *u, int from, int to) {
    uint32_t seed = 1;
    for (int i = from; i < to; i++) {
        clf_tensor_args args = {.ndim = 4, .shape = {1, HEADS, u->n, DIM}};
        if (i == SCORES) args.shape[3] = u->n;
        if (i == TURNED) args = (clf_tensor_args){.ndim = 3, .shape = {HEADS, DIM, u->n}};
        clf_status st = clf_tensor_create(&u->t[i], u->ctx, &args);
        if (st != CLF_OK) return st;
        if (i > VALUE) continue;
        const size_t bytes = clf_tensor_bytes(u->t[i]);
        float *x = malloc(bytes);
        if (!x) return CLF_OUT_OF_MEMORY;
        for (size_t j = 0; j < bytes / sizeof *x; j++) {
            seed = seed * 1664525 + 1013904223;
            x[j] = (float)(int32_t)seed / 2147483648.0f;
        }
        st = clf_tensor_write(u->t[i], x, bytes);
        free(x);
        if (st != CLF_OK) return st;
    }
    return CLF_OK;
}

static clf_status timed(unfused *u, clf_status (*run)(unfused *), bench_times *times) {
    const double start = bench_now();
    const clf_status st = run(u);
    if (st != CLF_OK) return st;
    return bench_times_add(times, bench_now() - start) ? CLF_OK : CLF_OUT_OF_MEMORY;
}

/* Largest difference of `out` from what it was. */
static clf_status differ(unfused *u, float **out, double *most) {
    const size_t bytes = clf_tensor_bytes(u->t[OUT]);
    float *now = malloc(bytes);
    if (!now) return CLF_OUT_OF_MEMORY;
    const clf_status st = clf_tensor_read(u->t[OUT], now, bytes);
    for (size_t i = 0; *out && i < bytes / sizeof *now; i++) *most = fmax(*most, fabs((double)(now[i] - (*out)[i])));
    free(*out);
    *out = now;
    return st;
}

static clf_status compare(unfused *u, double seconds, bench_times times[2], uint64_t peak[2], double *error) {
    clf_memory_stats stats;
    float *out = NULL;
    clf_status st = make(u, QUERY, SCORES);
    if (st == CLF_OK) st = flash(u);
    if (st == CLF_OK) st = clf_memory_get_stats(u->ctx, &stats);
    if (st == CLF_OK) st = differ(u, &out, error);
    peak[0] = stats.peak_asked;
    if (st == CLF_OK) st = make(u, SCORES, TENSORS);
    if (st == CLF_OK && !u->loops && !(u->scores = malloc(clf_tensor_bytes(u->t[SCORES])))) st = CLF_OUT_OF_MEMORY;
    if (st == CLF_OK) st = three_steps(u);
    if (st == CLF_OK) st = clf_memory_get_stats(u->ctx, &stats);
    if (st == CLF_OK) st = differ(u, &out, error);
    peak[1] = stats.peak_asked;
    free(out);
    const double start = bench_now();
    while (st == CLF_OK && u->loops && (times->n < 3 || bench_now() - start < 2 * seconds)) {
        st = timed(u, flash, &times[0]);
        if (st == CLF_OK) st = timed(u, three_steps, &times[1]);
    }
    return st;
}

bool bench_unfused(const bench_settings *s, clf_context *ctx, json_t *json) {
    unfused u = {.ctx = ctx, .n = s->unfused, .loops = bench_isa(clf_context_backend(ctx))};
    bench_times times[2] = {0};
    uint64_t peak[2] = {0};
    double error = 0;
    clf_memory_reset_peak(ctx);
    const clf_status st = compare(&u, s->seconds, times, peak, &error);
    if (st == CLF_OK) {
        const double fused = bench_median(&times[0]), stored = bench_median(&times[1]);
        const double share = (double)peak[0] / (double)peak[1];
        printf("attention, causal, %d heads of %d, %lld positions: ", HEADS, DIM, (long long)u.n);
        if (u.loops) printf("%.2f ms, unfused %.2f ms: %.2f times; ", 1e3 * fused, 1e3 * stored, stored / fused);
        printf("%.1f MB, unfused %.1f MB: %.1f %%; largest difference %.1e\n", (double)peak[0] / 1e6,
               (double)peak[1] / 1e6, 100 * share, error);
        json_object_set_new(json, "unfused",
                            json_pack("{s:I, s:f, s:f, s:I, s:I, s:f}", "positions", (json_int_t)u.n, "flash_s", fused,
                                      "unfused_s", stored, "flash_bytes", (json_int_t)peak[0], "unfused_bytes",
                                      (json_int_t)peak[1], "difference", error));
    } else {
        fprintf(stderr, "attention beside its unfused form: %s: %s\n", clf_status_string(st), clf_error_message(ctx));
    }
    for (int i = 0; i < TENSORS; i++) clf_tensor_destroy(u.t[i]);
    for (int i = 0; i < 2; i++) bench_times_free(&times[i]);
    free(u.scores);
    return st == CLF_OK && error < 1e-5;
}
