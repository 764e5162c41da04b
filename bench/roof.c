/* roof.c: the machine's roofs, each the best of the instruction sets: bandwidth with 256 MiB a tensor, beyond any cache
 * of a machine like this; rates in registers. The tensors come from the context's pool, so they are aligned and backed
 * by huge pages as those of the ops are. Bytes are what the loop reads and writes: the lines that a plain store reads
 * before it changes them are not counted. */
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <string.h>

#include "bench.h"
#include "roof_isa.h"

#define ISA(name) extern const roof_isa roof_##name;
ROOF_ISAS
#undef ISA
#define ISA(name) &roof_##name,
static const roof_isa *const isas[] = {ROOF_ISAS};
#undef ISA

const roof_isa *bench_isa(const char *backend) {
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++)
        if (!strncmp(backend, "cpu-", 4) && !strcmp(backend + 4, isas[i]->name)) return isas[i];
    return NULL;
}

enum { WARM = 2, REPEATS = 21, AGAIN = 9 };

static const int64_t length = (int64_t)64 << 20; /* floats a tensor */

typedef enum loop { READ, COPY, COPY_STREAM, TRIAD, TRIAD_STREAM, FMA, INT8, LOOPS } loop;

static const struct {
    const char *name, *unit;
    double bytes; /* a float of `length`; 0: a rate */
} loops[LOOPS] = {
    [READ] = {"read", "GB/s", 4},
    [COPY] = {"copy", "GB/s", 8},
    [COPY_STREAM] = {"copy, streamed", "GB/s", 8},
    [TRIAD] = {"triad", "GB/s", 12},
    [TRIAD_STREAM] = {"triad, streamed", "GB/s", 12},
    [FMA] = {"float multiply-add", "GFLOP/s", 0},
    [INT8] = {"int8 multiply-add", "Gop/s", 0},
};

/* One thread's share; returns the operations of a rate loop. */
static double run_share(const roof_isa *isa, loop what, float *const x[3], int64_t begin, int64_t n, int64_t rounds,
                        float *sink) {
    double done = 0;
    switch (what) {
    case READ: *sink += isa->read(x[0] + begin, n); break;
    case COPY: isa->copy(x[2] + begin, x[0] + begin, n); break;
    case COPY_STREAM: isa->copy_stream(x[2] + begin, x[0] + begin, n); break;
    case TRIAD: isa->triad(x[2] + begin, x[0] + begin, x[1] + begin, n); break;
    case TRIAD_STREAM: isa->triad_stream(x[2] + begin, x[0] + begin, x[1] + begin, n); break;
    case FMA: *sink += isa->fma(rounds, &done); break;
    case INT8: *sink += (float)isa->int8(rounds, &done); break;
    case LOOPS: break;
    }
    return done * (double)rounds;
}

/* Seconds of one run by all threads; *work gets what they did together, in bytes or operations. */
static double run(const roof_isa *isa, loop what, float *const x[3], int threads, int64_t rounds, double *work) {
    const double start = bench_now();
    double total = 0;
    float sink = 0;
#pragma omp parallel num_threads(threads) reduction(+ : total, sink)
    {
        const int64_t blocks = length / 1024, t = omp_get_thread_num(), n = omp_get_num_threads();
        const int64_t begin = blocks * t / n * 1024, end = blocks * (t + 1) / n * 1024;
        total += run_share(isa, what, x, begin, end - begin, rounds, &sink);
    }
    const double seconds = bench_now() - start;
    volatile float keep = sink;
    (void)keep;
    *work = loops[what].bytes > 0 ? loops[what].bytes * (double)length : total;
    return seconds;
}

/* Median of the rates, in 1e9 a second. */
static double rate(const roof_isa *isa, loop what, float *const x[3], int threads, int repeats) {
    bench_times t = {0};
    double work = 0;
    int64_t rounds = 1 << 16;
    for (double least = 0; loops[what].bytes == 0 && least < 0.02 && rounds < (int64_t)1 << 40; rounds *= 2) {
        least = INFINITY; /* of a few runs: on a busy machine one alone may have waited */
        for (int i = 0; i < 3; i++) least = fmin(least, run(isa, what, x, threads, rounds, &work));
    }
    for (int i = 0; i < WARM; i++) run(isa, what, x, threads, rounds, &work);
    for (int i = 0; i < repeats; i++) bench_times_add(&t, run(isa, what, x, threads, rounds, &work));
    const double median = bench_median(&t);
    bench_times_free(&t);
    return median > 0 ? work / median * 1e-9 : 0;
}

static bool allocate(clf_context *ctx, clf_tensor *tensors[3], float *x[3]) {
    const clf_tensor_args args = {.ndim = 1, .shape = {length}};
    for (int i = 0; i < 3; i++) {
        if (clf_tensor_create(&tensors[i], ctx, &args) != CLF_OK) return false;
        x[i] = clf_tensor_data(tensors[i]);
    }
#pragma omp parallel for num_threads(clf_context_threads(ctx)) schedule(static)
    for (int64_t i = 0; i < length; i++) x[0][i] = x[1][i] = x[2][i] = 1; /* touched by the thread that will read it */
    return true;
}

/* Keeps the rate if it is the best of its roof, and for bandwidths which loop it was. */
static void keep_best(bench_roofs *roofs, size_t isa, loop what, double value) {
    double *best = what == READ   ? &roofs->read
                   : what == FMA  ? &roofs->fma
                   : what == INT8 ? &roofs->int8
                                  : &roofs->read_write;
    if (value <= *best) return;
    *best = value;
    if (loops[what].bytes > 0) roofs->fastest[what != READ] = (bench_loop){(int)isa, what};
}

void bench_roof_again(clf_context *ctx, bench_roofs *roofs) {
    clf_tensor *tensors[3] = {0};
    float *x[3] = {0};
    double now[2] = {0};
    const bool ok = roofs->read > 0 && allocate(ctx, tensors, x);
    for (int i = 0; ok && i < 2; i++) {
        const bench_loop *l = &roofs->fastest[i];
        now[i] = rate(isas[l->isa], (loop)l->loop, x, clf_context_threads(ctx), AGAIN);
    }
    for (int i = 0; i < 3; i++) clf_tensor_destroy(tensors[i]);
    if (ok) roofs->read = now[0], roofs->read_write = now[1];
}

bool bench_roof(clf_context *ctx, bench_roofs *roofs, json_t *json) {
    const int threads = clf_context_threads(ctx);
    clf_tensor *tensors[3] = {0};
    float *x[3] = {0};
    const bool ok = allocate(ctx, tensors, x);
    json_t *each = json_object();
    if (ok) printf("%-22s", "roofs");
    for (size_t i = 0; ok && i < sizeof isas / sizeof *isas; i++) printf("%14s", isas[i]->name);
    if (ok) puts("");
    for (int what = 0; ok && what < LOOPS; what++) {
        json_t *values = json_object();
        printf("%-22s", loops[what].name);
        for (size_t i = 0; i < sizeof isas / sizeof *isas; i++) {
            if (!isas[i]->usable()) {
                printf("%14s", "-");
                continue;
            }
            const double value = rate(isas[i], (loop)what, x, threads, REPEATS);
            keep_best(roofs, i, (loop)what, value);
            json_object_set_new(values, isas[i]->name, json_real(value));
            printf("%14.1f", value);
            fflush(stdout);
        }
        printf("  %s\n", loops[what].unit);
        json_object_set_new(each, loops[what].name, values);
    }
    for (int i = 0; i < 3; i++) clf_tensor_destroy(tensors[i]);
    clf_memory_trim(ctx);
    json_object_set_new(json, "read", json_real(roofs->read));
    json_object_set_new(json, "read_write", json_real(roofs->read_write));
    json_object_set_new(json, "fma", json_real(roofs->fma));
    json_object_set_new(json, "int8", json_real(roofs->int8));
    json_object_set_new(json, "by_instruction_set", each);
    if (!ok) fprintf(stderr, "roofs: %s\n", clf_error_message(ctx));
    return ok;
}
