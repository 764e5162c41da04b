/* ops.c: the op_cases that tests/ checks, timed. Each op's main() is compiled here under another name and hands over
 * its case by calling op_main(), which is ours; the checking one of op_test.c is called op_check(). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../tests/op_case.h"
#include "bench.h"
#include "cases.h"

enum { NOTHING_RAN = 77 };

int op_check(int argc, char **argv, const op_case *c);

static const op_case *taken;

int op_main(int argc, char **argv, const op_case *c) {
    (void)argc, (void)argv;
    taken = c;
    return 0;
}

static const struct {
    const char *name;
    int (*give)(int argc, char **argv);
} cases[] = {
#define CLF_OP(op) {#op, bench_case_##op},
#define CLF_OP_BACKWARD(op)
#include "../lib/ops/ops.def"
#undef CLF_OP
};

static const op_case *case_of(int index) {
    char name[] = "clformer-bench", *argv[] = {name, NULL};
    taken = NULL;
    cases[index].give(1, argv);
    return taken;
}

/* Runs the small variants of a case on the device, as its test does: in the dtype and the passes (bit 0: forward, bit
 * 1: backward) that are timed; where one variant is asked for, those whose tensors are of the same dtypes, if there are
 * any. */
static bool check(const op_case *c, const bench_settings *s, int passes, clf_dtype dtype) {
    char name[] = "clformer-bench", device[64], most[] = "2e6", type[32], like[16];
    char flags[][16] = {"--device", "--most-cost", "--dtype", "--forward", "--backward", "--like"};
    char *argv[] = {name, flags[0], device, flags[1], most, flags[2], type, NULL, NULL, NULL, NULL};
    int argc = 7;
    snprintf(device, sizeof device, "%s", s->device);
    snprintf(type, sizeof type, "%s", clf_dtype_name(dtype));
    snprintf(like, sizeof like, "%d", s->variant);
    if (passes < 3) argv[argc++] = flags[2 + passes];
    if (s->variant >= 0) {
        argv[argc++] = flags[5];
        argv[argc++] = like;
    }
    printf("%-10s checked: ", c->name);
    fflush(stdout);
    int code = op_check(argc, argv, c);
    if (code == NOTHING_RAN && s->variant >= 0) code = op_check(argc - 2, argv, c);
    return code == 0;
}

/* Reads twice the last-level cache of large machines, by all threads, so that nothing of the op is left in any; reads
 * only, so that the op doesn't pay for writing this back. */
static void clear_caches(const clf_context *ctx) {
    enum { BYTES = 128 << 20 };
    static unsigned char *waste;
    if (!waste && (waste = malloc(BYTES))) memset(waste, 1, BYTES); /* pages of its own, not the one of zeros */
    unsigned sum = 0;
#pragma omp parallel for num_threads(clf_context_threads(ctx)) reduction(+ : sum) schedule(static)
    for (int i = 0; i < BYTES / 64; i++) sum += waste ? waste[(size_t)i * 64] : 0;
    volatile unsigned keep = sum;
    (void)keep;
}

/* Times calls until `seconds` are over, at least five; false after printing. Small tensors are driven out of the caches
 * before each: in a model other layers' weights do that. */
static bool time_calls(const op_case *c, const char *name, op_run *run, double seconds, bench_times *t) {
    size_t bytes = 0;
    for (int i = 0; i < run->n_tensors; i++) bytes += op_bytes(&run->t[i]);
    for (double start = bench_now(); t->n < 5 || bench_now() - start < seconds;) {
        if (bytes < (size_t)256 << 20) clear_caches(run->ctx);
        const double begin = bench_now();
        clf_status st = op_call(c, run);
        if (st == CLF_OK) st = clf_sync(run->ctx);
        if (st != CLF_OK) {
            printf("%-10s %s: %s: %s\n", name, run->text, clf_status_string(st), clf_error_message(run->ctx));
            return st == CLF_UNSUPPORTED;
        }
        bench_times_add(t, bench_now() - begin);
    }
    return true;
}

static bool has_blocks(const op_run *run) {
    for (int i = 0; i < run->n_tensors; i++)
        if (clf_dtype_block_values(run->t[i].dtype) > 1) return true;
    return false;
}

/* Seconds that the machine's roofs allow; products with blocks may be made in int8. */
static double least(const bench_roofs *roofs, double read, double written, double flops, bool blocks) {
    const double bandwidth = written > 0.1 * (read + written) ? roofs->read_write : roofs->read;
    const double memory = bandwidth > 0 ? (read + written) / bandwidth * 1e-9 : 0;
    const double rate = blocks ? roofs->int8 : roofs->fma, arithmetic = rate > 0 ? flops / rate * 1e-9 : 0;
    return memory > arithmetic ? memory : arithmetic;
}

static json_t *describe_tensors(const op_run *run, double *read, double *written) {
    json_t *tensors = json_array();
    *read = *written = 0;
    for (int i = 0; i < run->n_tensors; i++) {
        const op_tensor *t = &run->t[i];
        json_t *shape = json_array();
        for (int d = 0; d < t->ndim; d++) json_array_append_new(shape, json_integer(t->shape[d]));
        json_array_append_new(tensors, json_pack("{s:s, s:s, s:o, s:b}", "name", t->name, "dtype",
                                                 clf_dtype_name(t->dtype), "shape", shape, "output", t->output));
        *(t->output ? written : read) += (double)op_bytes(t);
    }
    return tensors;
}

static bool time_variant(const op_case *c, const char *name, bool backward, int variant, clf_dtype dtype,
                         const bench_settings *s, clf_context *ctx, bench_roofs *roofs, json_t *results) {
    op_run run;
    bench_times t = {0};
    bool ok = true;
    if (op_begin(&run, c, variant, dtype, backward, 42)) {
        clf_status st = op_place(&run, ctx, false);
        if (st == CLF_OK) st = op_fill(&run, 0xffffffff);
        if (st == CLF_OK) st = op_call(c, &run); /* warm */
        if (st != CLF_OK && st != CLF_UNSUPPORTED) {
            printf("%-10s %s: %s: %s\n", name, run.text, clf_status_string(st), clf_error_message(ctx));
            ok = false;
        }
        if (st == CLF_OK) {
            bench_roof_again(ctx, roofs);
            const double read = roofs->read, read_write = roofs->read_write;
            ok = time_calls(c, name, &run, s->seconds, &t);
            bench_roof_again(ctx, roofs);
            roofs->read = fmax(read, roofs->read); /* before or after, the better */
            roofs->read_write = fmax(read_write, roofs->read_write);
        }
    }
    if (t.n) {
        double read, written;
        json_t *tensors = describe_tensors(&run, &read, &written);
        const double median = bench_median(&t), flops = c->flops ? c->flops(&run) : 0;
        const double bytes = c->bytes ? c->bytes(&run) : read + written;
        const double scale = read + written > 0 ? bytes / (read + written) : 1;
        const double share = least(roofs, read * scale, written * scale, flops, has_blocks(&run)) / median;
        printf("%-10s %-5s %10.3f ms %8.2f GB/s %8.1f GFLOP/s %5.0f %% of roof (%.1f)  %s\n", name,
               clf_dtype_name(dtype), median * 1e3, bytes / median * 1e-9, flops / median * 1e-9, share * 100,
               roofs->read_write, run.text);
        json_array_append_new(results,
                              json_pack("{s:s, s:i, s:s, s:s, s:o, s:f, s:f, s:i, s:f, s:f, s:f, s:f, s:f}", "op", name,
                                        "variant", variant, "text", run.text, "dtype", clf_dtype_name(dtype), "tensors",
                                        tensors, "median_s", median, "min_s", t.seconds[0], "runs", t.n, "gbps",
                                        bytes / median * 1e-9, "gflops", flops / median * 1e-9, "of_roof", share,
                                        "roof_read", roofs->read, "roof_read_write", roofs->read_write));
        fflush(stdout);
    }
    op_unplace(&run);
    op_end(&run);
    bench_times_free(&t);
    return ok;
}

static bool wanted(const bench_settings *s, const char *op) {
    for (int i = 0; i < s->n_only; i++)
        if (!strcmp(s->only[i], op)) return true;
    return s->n_only == 0;
}

bool bench_ops(const bench_settings *s, clf_context *ctx, bench_roofs *roofs, json_t *json) {
    json_t *results = json_array();
    bool ok = true;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char names[2][64]; /* of the op, and of its gradient */
        int passes = 0;
        for (int backward = 0; backward < 2; backward++) {
            snprintf(names[backward], sizeof names[backward], "%s%s", cases[i].name, backward ? "_backward" : "");
            if (wanted(s, names[backward])) passes |= 1 << backward;
        }
        if (!passes) continue;
        const op_case *c = case_of((int)i);
        if (!c->call_backward && !(passes &= 1)) continue;
        const uint32_t dtypes = c->dtypes ? c->dtypes : 1u << CLF_F32 | 1u << CLF_F16 | 1u << CLF_BF16;
        clf_dtype dtype = s->dtype < 0 ? CLF_F32 : (clf_dtype)s->dtype;
        while (s->dtype < 0 && !(dtypes >> dtype & 1)) dtype++; /* the first */
        const int first = s->variant < 0 ? c->variants - c->bench_variants : s->variant;
        const int last = s->variant < 0 ? c->variants - 1 : s->variant;
        if (!(dtypes >> dtype & 1)) continue;
        if (last >= c->variants) {
            printf("%-10s has no variant %d\n", c->name, last);
            ok = false;
            continue;
        }
        if (!check(c, s, passes, dtype)) {
            printf("%-10s not timed: it is wrong\n", c->name);
            ok = false;
            continue;
        }
        for (int backward = 0; backward <= (c->call_backward != NULL); backward++)
            for (int v = first; v <= last && passes >> backward & 1; v++)
                ok &= time_variant(c, names[backward], backward, v, dtype, s, ctx, roofs, results);
    }
    json_object_set_new(json, "ops", results);
    return ok;
}
