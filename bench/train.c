/* train.c: a step of fine-tuning through the public API: LoRA of rank 16 on all seven projections, or all weights; one
 * sequence of the given length, AdamW. Time, the pool's peak beside the plan made before loading, the process's peak.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

/* Most bytes that were resident, mapped files included; 0 where the system doesn't tell. */
static double peak_bytes(void) {
    FILE *f = fopen("/proc/self/status", "r");
    char line[256];
    unsigned long long kib = 0;
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "VmHWM: %llu kB", &kib) == 1) break;
    if (f) fclose(f);
    return 1024.0 * (double)kib;
}

static clf_trainer_args trainer_args(const bench_settings *s, clf_model *model) {
    return (clf_trainer_args){.model = model,
                              .mode = s->train_full ? CLF_TRAIN_FULL : CLF_TRAIN_LORA,
                              .lora = {.rank = 16, .alpha = 16},
                              .tokens = s->train_tokens,
                              .sequences = 1,
                              .checkpointing = s->checkpointing,
                              .compute = s->dtype < 0 ? CLF_F32 : (clf_dtype)s->dtype,
                              .optimizer_8bit = s->optimizer_8bit};
}

static clf_status time_steps(const bench_settings *s, clf_trainer *trainer, int32_t vocab, double *median,
                             double *loss) {
    const int64_t n = s->train_tokens;
    int32_t *ids = malloc((size_t)n * sizeof *ids), *labels = malloc((size_t)n * sizeof *labels);
    bench_times t = {0};
    clf_status st = ids && labels ? CLF_OK : CLF_OUT_OF_MEMORY;
    for (int64_t i = 0; st == CLF_OK && i < n; i++) ids[i] = (int32_t)(3 + i * 7919 % (vocab - 4));
    for (int64_t i = 0; st == CLF_OK && i < n; i++) labels[i] = i + 1 < n ? ids[i + 1] : CLF_LABEL_NONE;
    const clf_batch batch = {.ids = ids, .labels = labels, .tokens = n};
    for (double start = bench_now(); st == CLF_OK && (t.n < 4 || bench_now() - start < s->seconds);) {
        const double begin = bench_now();
        st = clf_trainer_accumulate(trainer, &batch, n - 1, loss);
        if (st == CLF_OK) st = clf_trainer_update(trainer, 1e-4F, NULL);
        bench_times_add(&t, bench_now() - begin);
    }
    if (t.n) t.seconds[0] = INFINITY; /* the first step warms up: sorted, it is the last */
    *median = bench_median(&t);
    bench_times_free(&t);
    free(ids);
    free(labels);
    return st;
}

bool bench_train(const bench_settings *s, clf_context *ctx, json_t *json) {
    char message[512] = "";
    const clf_trainer_estimate_args plan_args = {.path = s->train,
                                                 .quantize = s->quantize,
                                                 .trainer = trainer_args(s, NULL),
                                                 .threads = clf_context_threads(ctx),
                                                 .device = strncmp(clf_context_backend(ctx), "cpu", 3) != 0,
                                                 .error = message,
                                                 .error_size = sizeof message};
    clf_trainer_estimate plan;
    clf_model *model = NULL;
    clf_trainer *trainer = NULL;
    clf_model_info info = {0};
    clf_memory_stats stats = {0};
    double median = 0, loss = 0;
    clf_status st = clf_estimate_trainer(&plan, &plan_args);
    if (st != CLF_OK) return fprintf(stderr, "%s\n", message), false;
    st = clf_model_load(&model, &(clf_model_args){.path = s->train,
                                                  .mmap = true,
                                                  .keep_layout = true,
                                                  .contexts = &ctx,
                                                  .n_contexts = 1,
                                                  .quantize = s->quantize});
    if (st == CLF_OK) st = clf_model_get_info(model, &info);
    const clf_trainer_args args = trainer_args(s, model);
    if (st == CLF_OK) st = clf_trainer_create(&trainer, &args);
    if (st == CLF_OK) st = clf_memory_reset_peak(ctx);
    if (st == CLF_OK) st = time_steps(s, trainer, info.vocab_size, &median, &loss);
    if (st == CLF_OK) st = clf_memory_get_stats(ctx, &stats);
    clf_trainer_destroy(trainer);
    clf_model_destroy(model);
    if (st != CLF_OK) return fprintf(stderr, "%s: %s\n", s->train, clf_error_message(ctx)), false;

    const double rate = (double)s->train_tokens / median, counted = (double)(stats.peak_asked + stats.mapped);
    json_object_set_new(json, "train",
                        json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "step_s", median, "tokens_per_s", rate,
                                  "gflops", 1e-9 * plan.flops * rate, "loss", loss, "pool_bytes", counted, "plan_bytes",
                                  (double)plan.total, "saved_bytes", (double)plan.saved, "peak_bytes", peak_bytes()));
    printf("%-32s %8.3f s a step, %.1f tokens/s, %.1f GFLOP/s\n", s->train_full ? "all weights" : "LoRA", median, rate,
           1e-9 * plan.flops * rate);
    printf("%-32s %8.1f MB counted, %.1f planned (%+.1f %%), %.1f saved by blocks, process %.1f\n", "memory",
           1e-6 * counted, 1e-6 * (double)plan.total, 100 * ((double)plan.total / counted - 1),
           1e-6 * (double)plan.saved, 1e-6 * peak_bytes());
    return true;
}
