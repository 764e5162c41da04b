/* op_test.c: the runner. Each variant of a case, in each dtype, is computed once in double and compared with what every
 * usable device makes of it: contiguous and strided, with 1 and 2 threads, twice each with different poison around and
 * under the results. A call must give the same bits both times, change nothing but its outputs' elements, and be as
 * near the reference as the case says. */
#include "op_case.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEVICES = 32, MAX_CONTEXTS = 2, MAX_LACKS = 256 };

typedef struct device {
    char name[64];
    clf_context *ctx[MAX_CONTEXTS]; /* 1 thread, 2 threads; one where threads mean nothing */
    int n;
} device;

/* Runs that a backend refused for something it is known to lack. */
typedef struct lack {
    const char *backend, *what;
    int runs;
} lack;

typedef struct runner {
    const op_case *c;
    const char *asked[MAX_DEVICES];
    int n_asked, variant; /* variant −1: all */
    int like;             /* those whose tensors have the dtypes of this variant's; −1: all */
    int passes;           /* bit 0: forward, bit 1: backward */
    int dtype;            /* −1: the case's */
    uint64_t seed;
    double most_cost; /* bytes and operations; costlier variants are left out */
    bool list, verbose;
    device devices[MAX_DEVICES];
    int n_devices, passed, failed, skipped;
    lack lacks[MAX_LACKS];
    int n_lacks;
    op_run *run; /* being checked */
} runner;

static const uint32_t poisons[2] = {0xffffffff, 0x7fc1ffc1}; /* NaN in f32, f16 and bf16; as integers never right */

/* ---- comparison ---- */

/* A 16-bit float's place among all of them, ±0 being one. */
static int place16(double v, clf_dtype dtype) {
    uint16_t u;
    op_encode(dtype, &v, 1, &u);
    return u & 0x8000 ? -(int)(u & 0x7fff) : (int)u;
}

/* Whether 16-bit `got` is `value` rounded, but for `slack`: near the middle between two of them, as sums of few 16-bit
 * terms often are, either is. */
static bool rounds_to(double got, double value, double slack, clf_dtype dtype) {
    return got >= op_round(value - slack, dtype) && got <= op_round(value + slack, dtype);
}

/* Writes what is wrong with `got` for output t into `text`; empty if nothing is. Returns the rms-relative error. */
static double compare(const runner *r, const op_run *run, const op_tensor *t, const double *got, char *text,
                      size_t size) {
    const bool is16 = t->dtype == CLF_F16 || t->dtype == CLF_BF16, ulp = r->c->ulp && is16;
    const int64_t n = op_elements(t);
    double error = 0, norm = 0;
    text[0] = 0;
    for (int64_t i = 0; i < n; i++) {
        const double want = op_round(t->value[i], t->dtype);
        if (isfinite(want)) norm += want * want;
    }
    const double tolerance = r->c->exact ? 0 : r->c->tolerance ? r->c->tolerance(run, t) : op_tolerance(run, t);
    const double least = tolerance > 0 ? 5e-7 / tolerance * t->magnitude : 0;
    norm = fmax(norm, least * least * (double)n);
    const double cancelled = fmax(1e-6 * sqrt(norm / (double)(n ? n : 1)), 5e-7 * t->magnitude);
    for (int64_t i = 0; i < n; i++) {
        const double want = op_round(t->value[i], t->dtype);
        const double difference = got[i] - want;
        bool right = true;
        if (t->sampled && isnan(want))
            right = !isnan(got[i]);
        else if (isnan(want) || isnan(got[i]))
            right = isnan(want) && isnan(got[i]);
        else if (r->c->exact)
            right = got[i] == want;
        else if (ulp) /* where terms cancel, float32 arithmetic leaves more than a unit of the little that remains */
            right = abs(place16(got[i], t->dtype) - place16(want, t->dtype)) <= 1 ||
                    fabs(got[i] - t->value[i]) <= cancelled;
        else if (isinf(want) || isinf(got[i]))
            right = got[i] == want;
        if (!right) {
            snprintf(text, size, "%s[%lld]: expected %.9g, got %.9g", t->name, (long long)i, t->value[i], got[i]);
            return INFINITY;
        }
        if (is16 && !ulp && rounds_to(got[i], t->value[i], cancelled, t->dtype)) continue;
        if (isfinite(difference)) error += difference * difference;
    }
    error = norm > 0 ? sqrt(error / norm) : error > 0 ? INFINITY : 0;
    if (!(error <= tolerance)) snprintf(text, size, "%s: error %.3g, tolerance %.3g", t->name, error, tolerance);
    return error;
}

/* ---- one call ---- */

/* The storages of a run, read back. */
typedef struct snapshot {
    uint8_t *data[OP_MAX_TENSORS];
} snapshot;

static void snapshot_free(snapshot *s) {
    for (int i = 0; i < OP_MAX_TENSORS; i++) {
        free(s->data[i]);
        s->data[i] = NULL;
    }
}

static clf_status snapshot_take(snapshot *s, const op_run *run) {
    for (int i = 0; i < run->n_tensors; i++) {
        const op_tensor *t = &run->t[i];
        if (t->alias >= 0) continue;
        const size_t bytes = clf_tensor_bytes(t->storage);
        s->data[i] = malloc(bytes);
        if (!s->data[i]) return CLF_OUT_OF_MEMORY;
        const clf_status st = clf_tensor_read(t->storage, s->data[i], bytes);
        if (st != CLF_OK) return st;
    }
    return CLF_OK;
}

/* Whether input i is also an output's place. */
static bool written(const op_run *run, int i) {
    if (run->t[i].output) return true;
    for (int k = 0; k < run->n_tensors; k++)
        if (run->t[k].alias == i) return true;
    return false;
}

/* Finds a byte that changed and isn't an element of an output: the elements are overwritten in both snapshots by way of
 * the device, which alone knows where they lie. */
static clf_status check_untouched(const op_run *run, const snapshot *before, const snapshot *after, char *text,
                                  size_t size) {
    for (int i = 0; i < run->n_tensors; i++) {
        const op_tensor *t = &run->t[i];
        if (t->alias >= 0) continue;
        const size_t all = clf_tensor_bytes(t->storage), bytes = op_bytes(t);
        uint8_t *expected = malloc(all + 1), *elements = malloc(bytes + 1);
        clf_status st = expected && elements ? CLF_OK : CLF_OUT_OF_MEMORY;
        if (st == CLF_OK) memcpy(expected, before->data[i], all);
        if (st == CLF_OK && written(run, i)) { /* what was there before, with the output's elements over it */
            st = clf_tensor_read(t->tensor, elements, bytes);
            if (st == CLF_OK) st = clf_tensor_write(t->storage, before->data[i], all);
            if (st == CLF_OK) st = clf_tensor_write(t->tensor, elements, bytes);
            if (st == CLF_OK) st = clf_tensor_read(t->storage, expected, all);
        }
        for (size_t b = 0; st == CLF_OK && b < all && !*text; b++)
            if (expected[b] != after->data[i][b])
                snprintf(text, size, "%s: byte %zu of its storage was changed%s", t->name, b,
                         written(run, i) ? ", outside its elements" : "");
        free(expected);
        free(elements);
        if (st != CLF_OK) return st;
    }
    return CLF_OK;
}

/* Fills, calls, checks what was left alone, and reads the outputs' bytes into `out`. */
static clf_status call_once(const runner *r, op_run *run, uint32_t poison, uint8_t **out, char *text, size_t size) {
    snapshot before = {0}, after = {0};
    clf_status st = op_fill(run, poison);
    if (st == CLF_OK) st = snapshot_take(&before, run);
    if (st == CLF_OK) {
        st = op_call(r->c, run);
        if (st == CLF_OK) st = clf_sync(run->ctx);
        if (st != CLF_OK) snprintf(text, size, "%s: %s", clf_status_string(st), clf_error_message(run->ctx));
    }
    if (st == CLF_OK) st = snapshot_take(&after, run);
    for (int i = 0; i < run->n_tensors && st == CLF_OK; i++)
        if (run->t[i].output) st = clf_tensor_read(run->t[i].tensor, out[i], op_bytes(&run->t[i]));
    if (st == CLF_OK) st = check_untouched(run, &before, &after, text, size);
    if (st != CLF_OK && !*text) snprintf(text, size, "harness: %s", clf_status_string(st));
    snapshot_free(&before);
    snapshot_free(&after);
    return st;
}

/* Places the run on ctx, calls twice, compares. `text` says what is wrong; errors[i] becomes the largest of tensor i.
 */
static clf_status check_placed(const runner *r, op_run *run, clf_context *ctx, bool strided, double *errors, char *text,
                               size_t size) {
    uint8_t *out[2][OP_MAX_TENSORS] = {{0}};
    double *got = NULL;
    run->tensor_cores = false;
    clf_status st = op_place(run, ctx, strided);
    if (st != CLF_OK) snprintf(text, size, "harness: %s: %s", clf_status_string(st), clf_error_message(ctx));
    for (int k = 0; k < 2 && st == CLF_OK && !*text; k++) {
        for (int i = 0; i < run->n_tensors && st == CLF_OK; i++)
            if (run->t[i].output && !(out[k][i] = malloc(op_bytes(&run->t[i]) + 1))) st = CLF_OUT_OF_MEMORY;
        if (st == CLF_OK) st = call_once(r, run, poisons[k], out[k], text, size);
    }
    for (int i = 0; i < run->n_tensors && st == CLF_OK && !*text; i++) {
        const op_tensor *t = &run->t[i];
        if (!t->output) continue;
        const int64_t n = op_elements(t);
        got = malloc(((size_t)n + 1) * sizeof *got);
        if (!got) {
            st = CLF_OUT_OF_MEMORY;
            break;
        }
        op_decode(t->dtype, out[0][i], n, got);
        const double error = compare(r, run, t, got, text, size);
        if (error > errors[i]) errors[i] = error;
        if (!*text && memcmp(out[0][i], out[1][i], op_bytes(t)))
            snprintf(text, size, "%s: two calls gave different bits", t->name);
        free(got);
    }
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < OP_MAX_TENSORS; i++) free(out[k][i]);
    op_unplace(run);
    if (st != CLF_OK && !*text) snprintf(text, size, "harness: %s", clf_status_string(st));
    return st;
}

/* ---- all of them ---- */

static void count_lack(runner *r, const char *backend, const char *what) {
    int i = 0;
    while (i < r->n_lacks && (strcmp(r->lacks[i].backend, backend) != 0 || strcmp(r->lacks[i].what, what) != 0)) i++;
    if (i == MAX_LACKS) return;
    if (i == r->n_lacks) r->lacks[r->n_lacks++] = (lack){backend, what, 0};
    r->lacks[i].runs++;
}

static void check_on(runner *r, op_run *run, const device *d) {
    char text[640] = "";
    double errors[OP_MAX_TENSORS] = {0};
    r->run = run;
    run->ctx = d->ctx[0];
    const char *backend = clf_context_backend(run->ctx), *lacking = r->c->lacks ? r->c->lacks(run, backend) : NULL;
    const bool may_lack = r->c->lacks ? lacking != NULL : strncmp(backend, "cpu", 3) != 0;
    const int turn = (run->variant + (int)run->dtype) % (2 * d->n);
    for (int k = 0; k < 2 * d->n; k++) {
        if (run->light && k != turn) continue;
        clf_context *ctx = d->ctx[k / 2];
        const bool strided = k % 2;
        const clf_status st = check_placed(r, run, ctx, strided, errors, text, sizeof text);
        if (st == CLF_UNSUPPORTED && may_lack) {
            if (lacking) count_lack(r, backend, lacking);
            if (!lacking || r->verbose)
                printf("skip %s, %s, variant %d%s (%s): %s\n", d->name, clf_dtype_name(run->dtype), run->variant,
                       run->backward ? ", backward" : "", run->text, text);
            r->skipped++;
            return;
        }
        if (lacking && !*text)
            snprintf(text, sizeof text, "listed as lacking %s, but has it: the list is old", lacking);
        if (*text) {
            printf("FAIL test-%s --device %s --dtype %s --variant %d --seed %llu  (%s%s; %s, %d thread%s): %s\n",
                   r->c->name, d->name, clf_dtype_name(run->dtype), run->variant, (unsigned long long)r->seed,
                   run->text, run->backward ? ", backward" : "", strided ? "strided" : "contiguous",
                   clf_context_threads(ctx), clf_context_threads(ctx) == 1 ? "" : "s", text);
            r->failed++;
            return;
        }
    }
    if (r->verbose) {
        printf("pass %s, %s, variant %d%s (%s):", d->name, clf_dtype_name(run->dtype), run->variant,
               run->backward ? ", backward" : "", run->text);
        for (int i = 0; i < run->n_tensors; i++)
            if (run->t[i].output) printf(" %s %.2g", run->t[i].name, errors[i]);
        printf("\n");
    }
    r->passed++;
}

static double cost_of(const op_run *run, const op_case *c) {
    return op_traffic(run) + (c->flops ? c->flops(run) : 0);
}

/* Bit d: a tensor has dtype d. */
static uint64_t dtypes_of(const op_run *run) {
    uint64_t dtypes = 0;
    for (int i = 0; i < run->n_tensors; i++) dtypes |= UINT64_C(1) << run->t[i].dtype;
    return dtypes;
}

/* The dtypes that runs must have, of each pass; 0: any. A pass that variant r->like hasn't got is left out. */
static int choose_passes(const runner *r, clf_dtype dtype, uint64_t wanted[2]) {
    int passes = r->passes;
    wanted[0] = wanted[1] = 0;
    for (int backward = 0; r->like >= 0 && backward <= (r->c->call_backward != NULL); backward++) {
        op_run run;
        if (!(passes >> backward & 1)) continue;
        if (op_begin(&run, r->c, r->like, dtype, backward, r->seed))
            wanted[backward] = dtypes_of(&run);
        else
            passes &= ~(1 << backward);
        op_end(&run);
    }
    return passes;
}

static void check_variants(runner *r, clf_dtype dtype) {
    const op_case *c = r->c;
    const int first = r->variant < 0 ? 0 : r->variant;
    const int last = r->variant < 0 ? c->variants - c->bench_variants - 1 : r->variant;
    uint64_t wanted[2];
    const int passes = choose_passes(r, dtype, wanted);
    for (int variant = first; variant <= last; variant++)
        for (int backward = 0; backward <= (c->call_backward != NULL); backward++) {
            op_run run;
            if (!(passes >> backward & 1)) continue;
            if (op_begin(&run, c, variant, dtype, backward, r->seed) && cost_of(&run, c) <= r->most_cost &&
                (!wanted[backward] || dtypes_of(&run) == wanted[backward])) {
                if (r->list) {
                    printf("%s --dtype %s --variant %d%s: %s\n", c->name, clf_dtype_name(dtype), variant,
                           backward ? ", backward" : "", run.text);
                } else {
                    backward ? c->reference_backward(&run) : c->reference(&run);
                    if (backward && c->loss && dtype == CLF_F32)
                        r->failed += op_check_slopes(c, variant, r->seed, &r->passed);
                    for (int i = 0; i < r->n_devices; i++) check_on(r, &run, &r->devices[i]);
                    r->run = NULL;
                }
            }
            op_end(&run);
        }
}

static void check_rejects(runner *r) {
    for (int i = 0; i < r->n_devices; i++) {
        const int failures = r->c->rejects(r->devices[i].ctx[0]);
        if (failures)
            r->failed += failures;
        else
            r->passed++;
        if (r->verbose) printf("%s %s, wrong arguments\n", failures ? "FAIL" : "pass", r->devices[i].name);
    }
}

/* Which kernels had a call shows in the log alone. */
static void hear(void *user, clf_log_level level, const char *line) {
    const runner *r = user;
    (void)level;
    if (r->run && strstr(line, ": tensor cores, ")) r->run->tensor_cores = true;
    if (r->verbose) printf("log %s\n", line);
}

/* Opens a device with 1 and 2 threads, or counts why not. */
static void open_device(runner *r, const char *name) {
    device *d = &r->devices[r->n_devices];
    *d = (device){.n = 0};
    snprintf(d->name, sizeof d->name, "%s", name);
    for (int threads = 1; threads <= MAX_CONTEXTS; threads++) {
        char error[400];
        const clf_context_args args = {.device = name,
                                       .threads = threads,
                                       .error = error,
                                       .error_size = sizeof error,
                                       .log = hear,
                                       .log_user = r,
                                       .log_level = CLF_LOG_DEBUG};
        const clf_status st = clf_context_create(&d->ctx[d->n], &args);
        if (st != CLF_OK) {
            printf("%s %s: %s\n", st == CLF_NOT_FOUND ? "skip" : "FAIL", name, error);
            *(st == CLF_NOT_FOUND ? &r->skipped : &r->failed) += 1;
            for (int i = 0; i < d->n; i++) clf_context_destroy(d->ctx[i]);
            return;
        }
        d->n++;
        if (clf_context_threads(d->ctx[0]) != 1 || strncmp(clf_context_backend(d->ctx[0]), "cpu", 3)) break;
    }
    r->n_devices++;
}

static void open_devices(runner *r) {
    clf_device_info info[MAX_DEVICES];
    int n = 0;
    for (int i = 0; i < r->n_asked; i++) open_device(r, r->asked[i]);
    if (r->n_asked) return;
    if (clf_devices(info, MAX_DEVICES, &n) != CLF_OK) n = 0;
    for (int i = 0; i < n && i < MAX_DEVICES; i++) {
        if (info[i].usable) {
            open_device(r, info[i].name);
        } else {
            printf("skip %s: %s\n", info[i].name, info[i].reason);
            r->skipped++;
        }
    }
}

static int usage(const char *program) {
    fprintf(stderr,
            "usage: %s [--device D]... [--dtype T] [--variant N] [--like N] [--forward | --backward] [--seed N] "
            "[--most-cost C] [--list] [--verbose]\n",
            program);
    return 2;
}

static bool parse(runner *r, int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        const char *flag = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        char *end = NULL;
        clf_dtype dtype;
        if (!strcmp(flag, "--list")) {
            r->list = true;
            continue;
        }
        if (!strcmp(flag, "--verbose")) {
            r->verbose = true;
            continue;
        }
        if (!strcmp(flag, "--forward") || !strcmp(flag, "--backward")) {
            r->passes = flag[2] == 'f' ? 1 : 2;
            continue;
        }
        if (!value) return false;
        i++;
        if (!strcmp(flag, "--device") && r->n_asked < MAX_DEVICES)
            r->asked[r->n_asked++] = value;
        else if (!strcmp(flag, "--dtype") && clf_dtype_from_name(&dtype, value) == CLF_OK)
            r->dtype = (int)dtype;
        else if (!strcmp(flag, "--variant"))
            r->variant = (int)strtol(value, &end, 10);
        else if (!strcmp(flag, "--like"))
            r->like = (int)strtol(value, &end, 10);
        else if (!strcmp(flag, "--seed"))
            r->seed = strtoull(value, &end, 10);
        else if (!strcmp(flag, "--most-cost"))
            r->most_cost = strtod(value, &end);
        else
            return false;
        if (end && (*end || end == value)) return false;
    }
    return r->variant >= -1 && r->variant < r->c->variants && r->like >= -1 && r->like < r->c->variants;
}

int op_main(int argc, char **argv, const op_case *c) {
    static runner r;
    r = (runner){.c = c, .variant = -1, .like = -1, .passes = 3, .dtype = -1, .seed = 42, .most_cost = INFINITY};
    if (!parse(&r, argc, argv)) return usage(argv[0]);
    if (!r.list) open_devices(&r);
    const uint32_t dtypes = c->dtypes ? c->dtypes : 1u << CLF_F32 | 1u << CLF_F16 | 1u << CLF_BF16;
    for (int d = 0; d < CLF_DTYPE_COUNT; d++)
        if (r.dtype < 0 ? dtypes >> d & 1 : d == r.dtype) check_variants(&r, (clf_dtype)d);
    if (c->rejects && !r.list && r.variant < 0 && r.like < 0 && r.passes == 3 && r.dtype < 0) check_rejects(&r);
    for (int i = 0; i < r.n_lacks; i++)
        printf("skip %s: %d runs need %s\n", r.lacks[i].backend, r.lacks[i].runs, r.lacks[i].what);
    for (int i = 0; i < r.n_devices; i++)
        for (int k = 0; k < r.devices[i].n; k++) clf_context_destroy(r.devices[i].ctx[k]);
    if (r.list) return 0;
    printf("%d passed, %d failed, %d skipped\n", r.passed, r.failed, r.skipped);
    return r.failed ? 1 : r.passed ? 0 : 77;
}
