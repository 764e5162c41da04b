/* plan.c: --dry-run, and plans that would fit. Memory is what clf_estimate_trainer() says; speed is that of a product
 * of matrices on this device, measured, times the share of it that training gets. */
#include "plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../default_model/default_model.h"
#include "../shared/print_log.h"

enum { DEFAULT_CONTEXT = 512, PROBE_ROWS = 512, PROBE_WIDTH = 1024, TEXT = 32 };

static const double probe_seconds = 0.3;
static const double share =
    0.7; /* of a product's speed, the rest being attention, norms, and the adapter's thin ones */

/* Ways to take less, from the least to the most that they change. Bits. */
typedef enum change {
    CHANGE_BATCH = 1,         /* one row at a time, as many a step */
    CHANGE_CHECKPOINTING = 2, /* of every block */
    CHANGE_OFFLOAD = 4,       /* of what that keeps */
    CHANGE_OPTIMIZER = 8,     /* 8-bit state */
    CHANGE_QUANTIZE = 16,     /* NF4 */
    CHANGE_ALL = 31
} change;

/* Whether device memory is the host's. */
static bool on_host(const run *r) {
    return !strncmp(clf_context_backend(r->ctx), "cpu", 3);
}

int plan_check_device(run *r) {
    if (!r->o.trainer.offload_checkpoints || !on_host(r)) return 0;
    return fail(r, "offload", "expected a device with memory of its own, as --device opencl: that of %s is the host's",
                clf_context_backend(r->ctx));
}

int64_t plan_default_context(int64_t trained) {
    return trained > 1 && trained < DEFAULT_CONTEXT ? trained : DEFAULT_CONTEXT;
}

static int64_t least_batch(const options *o) {
    return o->dpo > 0 ? 2 : 1;
}

/* Which of the changes change anything. */
static int possible(const run *r) {
    const options *o = &r->o;
    const clf_trainer_args *t = &o->trainer;
    int changes = 0;
    if (o->batch > least_batch(o)) changes |= CHANGE_BATCH;
    if (t->checkpointing != 1) changes |= CHANGE_CHECKPOINTING;
    if (!t->offload_checkpoints && !on_host(r)) changes |= CHANGE_OFFLOAD;
    if (t->optimizer == CLF_OPTIMIZER_ADAMW && !t->optimizer_8bit) changes |= CHANGE_OPTIMIZER;
    if (t->mode == CLF_TRAIN_LORA && o->quantize != CLF_NF4) changes |= CHANGE_QUANTIZE;
    return changes;
}

/* The plan with `changes`; *held is what counts for the device's limit: frozen weights that the CPU uses where they are
 * mapped don't. */
static clf_status estimate(const run *r, int changes, clf_trainer_estimate *out, uint64_t *held, char *error,
                           size_t size) {
    const options *o = &r->o;
    const int64_t batch = changes & CHANGE_BATCH ? least_batch(o) : o->batch;
    clf_trainer_estimate_args args = {.path = o->model,
                                      .quantize = changes & CHANGE_QUANTIZE ? CLF_NF4 : o->quantize,
                                      .adapter = o->adapter,
                                      .trainer = o->trainer,
                                      .threads = clf_context_threads(r->ctx),
                                      .device = !on_host(r),
                                      .error = error,
                                      .error_size = size};
    if (!args.path) {
        args.data = clf_default_model;
        args.data_size = clf_default_model_size();
    }
    args.trainer.tokens = batch * o->context;
    if (changes & CHANGE_CHECKPOINTING) args.trainer.checkpointing = 1;
    if (changes & CHANGE_OFFLOAD) args.trainer.offload_checkpoints = true;
    if (changes & CHANGE_OPTIMIZER) args.trainer.optimizer_8bit = true;
    const clf_status st = clf_estimate_trainer(out, &args);
    const bool mapped = on_host(r) && args.quantize != CLF_NF4;
    *held = out->total - (mapped ? out->weights : 0);
    return st;
}

/* The device's limit, or its memory. */
static uint64_t limit_of(const run *r) {
    clf_memory_stats stats = {.limit = UINT64_MAX};
    clf_device_info devices[16];
    int count = 0;
    clf_memory_get_stats(r->ctx, &stats);
    if (r->o.memory_limit) return r->o.memory_limit;
    if (stats.limit != UINT64_MAX) return stats.limit;
    clf_devices(devices, 16, &count);
    for (int i = 0; i < count && i < 16; i++)
        if (devices[i].memory && strstr(clf_context_device(r->ctx), devices[i].name) == clf_context_device(r->ctx))
            return devices[i].memory;
    return UINT64_MAX;
}

static void say_changes(run *r, int changes, uint64_t held) {
    char text[128] = "", memory[TEXT];
    const options *o = &r->o;
    if (changes & CHANGE_BATCH)
        snprintf(text, sizeof text, " --batch %lld --accumulate %lld", (long long)least_batch(o),
                 (long long)(o->accumulate * o->batch / least_batch(o)));
    metrics_say(&r->m, "this would fit:%s%s%s%s%s, which takes %s", text,
                changes & CHANGE_CHECKPOINTING ? " --checkpointing 1" : "",
                changes & CHANGE_OFFLOAD ? " --offload" : "",
                changes & CHANGE_OPTIMIZER ? " --optimizer adamw8bit" : "",
                changes & CHANGE_QUANTIZE ? " --quantize nf4" : "", clf_format_bytes(memory, TEXT, held));
}

void plan_suggest(run *r) {
    clf_trainer_estimate e;
    uint64_t held, least = UINT64_MAX;
    const uint64_t limit = limit_of(r);
    const int changes = possible(r);
    if (!r->o.context) r->o.context = DEFAULT_CONTEXT;
    char error[512], a[TEXT], b[TEXT];
    for (int i = 1; i <= CHANGE_ALL; i++) {
        const bool kept = i & CHANGE_CHECKPOINTING || r->o.trainer.checkpointing != CLF_CHECKPOINT_NONE;
        if ((i & changes) != i || (i & CHANGE_OFFLOAD && !kept)) continue;
        if (estimate(r, i, &e, &held, error, sizeof error) != CLF_OK) return;
        if (held <= limit) {
            say_changes(r, i, held);
            return;
        }
        if (held < least) least = held;
    }
    if (limit < UINT64_MAX && least < UINT64_MAX)
        metrics_say(&r->m, "%s is too little for this model: the least is %s; a smaller --context or --lora-rank helps",
                    clf_format_bytes(a, TEXT, limit), clf_format_bytes(b, TEXT, least));
}

/* Floating-point operations a second of x · Wᵀ; 0: unknown. */
static double measure_speed(clf_context *ctx, clf_dtype dtype) {
    clf_tensor *x = NULL, *w = NULL, *out = NULL;
    const clf_tensor_args rows = {.dtype = dtype, .ndim = 2, .shape = {PROBE_ROWS, PROBE_WIDTH}};
    const clf_tensor_args weight = {.dtype = dtype, .ndim = 2, .shape = {PROBE_WIDTH, PROBE_WIDTH}};
    bool ok = clf_tensor_create(&x, ctx, &rows) == CLF_OK && clf_tensor_create(&out, ctx, &rows) == CLF_OK &&
              clf_tensor_create(&w, ctx, &weight) == CLF_OK && clf_tensor_clear(x) == CLF_OK &&
              clf_tensor_clear(w) == CLF_OK;
    const clf_linear_args args = {.x = x, .weight = {w}, .out = {out}};
    ok = ok && clf_linear(ctx, &args) == CLF_OK && clf_sync(ctx) == CLF_OK;
    const double began = seconds_now();
    double times = 0, passed = 0;
    for (; ok && passed < probe_seconds; times++) {
        ok = clf_linear(ctx, &args) == CLF_OK && clf_sync(ctx) == CLF_OK;
        passed = seconds_now() - began;
    }
    clf_tensor_destroy(x);
    clf_tensor_destroy(w);
    clf_tensor_destroy(out);
    return ok ? times * 2 * PROBE_ROWS * PROBE_WIDTH * PROBE_WIDTH / passed : 0;
}

static void print_part(const char *name, uint64_t bytes) {
    char text[TEXT];
    printf("%-14s %12s\n", name, clf_format_bytes(text, TEXT, bytes));
}

int plan_print(run *r) {
    char message[512] = "", a[TEXT], b[TEXT];
    const clf_context_args device = {.device = r->o.device,
                                     .threads = r->o.threads,
                                     .log = print_log,
                                     .error = message,
                                     .error_size = sizeof message};
    clf_model_estimate unused;
    clf_model_info info = {.trained_context = 0};
    clf_trainer_estimate e, row; /* attention's part of the work goes by the row, not by the batch */
    uint64_t held, unheld;
    if (clf_context_create(&r->ctx, &device) != CLF_OK) return fail(r, "device", "%s", message);
    if (plan_check_device(r)) return EXIT_FAILURE;
    const clf_model_estimate_args model = {.path = r->o.model, .error = message, .error_size = sizeof message};
    if (r->o.model && clf_estimate_model(&unused, &info, &model) != CLF_OK) return fail(r, "model", "%s", message);
    if (!r->o.context) r->o.context = plan_default_context(info.trained_context);
    if (estimate(r, 0, &e, &held, message, sizeof message) != CLF_OK ||
        estimate(r, CHANGE_BATCH, &row, &unheld, message, sizeof message) != CLF_OK)
        return fail(r, "plan", "%s", message);
    const uint64_t limit = limit_of(r);
    const double speed = measure_speed(r->ctx, r->o.trainer.compute);
    printf("%s; %lld rows of %lld tokens at once, %lld times a step; %lld parameters are trained\n",
           clf_context_device(r->ctx), (long long)r->o.batch, (long long)r->o.context, (long long)r->o.accumulate,
           (long long)e.trained);
    print_part("frozen weights", e.weights);
    print_part("trained", e.parameters);
    print_part("gradients", e.gradients);
    print_part("optimizer", e.optimizer);
    print_part("activations", e.activations);
    print_part("scratch", e.scratch);
    print_part("total", e.total);
    if (held != e.total)
        printf("(frozen weights are used where the file is mapped: %s are allocated)\n",
               clf_format_bytes(a, TEXT, held));
    if (e.host)
        printf("(and %s of host memory: inputs of blocks that wait there)\n", clf_format_bytes(a, TEXT, e.host));
    if (e.recomputed > 0) printf("%.0f %% of the blocks are computed twice\n", 100 * e.recomputed);
    if (speed > 0)
        printf("about %.0f tokens/s (%.3g GFLOP a token; a product of matrices runs at %.3g GFLOP/s)\n",
               share * speed / row.flops, row.flops / 1e9, speed / 1e9);
    if (held <= limit) return 0;
    fflush(stdout);
    fail(r, "plan", "%s are more than the limit of %s", clf_format_bytes(a, TEXT, held),
         clf_format_bytes(b, TEXT, limit));
    plan_suggest(r);
    return EXIT_FAILURE;
}
