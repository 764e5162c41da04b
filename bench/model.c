/* model.c: a whole model through the public API: loading, the first token, prefill, decoding, and the memory that is
 * the process's own. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

/* Tokens that exist in any vocabulary of real models, spread over it. */
static void fill_ids(int32_t *ids, int64_t n, int32_t vocab) {
    for (int64_t i = 0; i < n; i++) ids[i] = (int32_t)(3 + i * 7919 % (vocab > 4 ? vocab - 4 : 1));
}

/* Resident bytes of this process that are no mapped file's; 0 where the system doesn't tell. */
static double private_bytes(void) {
    FILE *f = fopen("/proc/self/status", "r");
    char line[256];
    double total = 0;
    while (f && fgets(line, sizeof line, f)) {
        unsigned long long kib;
        if (sscanf(line, "RssAnon: %llu kB", &kib) == 1 || sscanf(line, "RssShmem: %llu kB", &kib) == 1)
            total += 1024.0 * (double)kib;
    }
    if (f) fclose(f);
    return total;
}

typedef struct figures {
    double load, first, prefill, decode; /* seconds: loading, load and one token, all of the prompt, one token */
    double own, own_kv;                  /* private bytes; of which KV cache */
} figures;

static clf_status measure_first(const bench_settings *s, clf_context *ctx, clf_model **model, float **logits,
                                figures *f) {
    const int32_t id = 3;
    clf_session *session = NULL;
    const double start = bench_now();
    clf_status st =
        clf_model_load(model, &(clf_model_args){.path = s->model, .mmap = true, .contexts = &ctx, .n_contexts = 1});
    f->load = bench_now() - start;
    if (st == CLF_OK)
        st = clf_session_create(&session,
                                &(clf_session_args){.model = *model, .context_length = 16, .kv_dtype = s->kv_dtype});
    clf_model_info info = {0};
    if (st == CLF_OK) st = clf_model_get_info(*model, &info);
    if (st == CLF_OK) {
        *logits = malloc((size_t)info.vocab_size * sizeof **logits);
        st = *logits ? clf_session_eval(session, &id, 1, CLF_LOGITS_LAST, *logits) : CLF_OUT_OF_MEMORY;
    }
    f->first = bench_now() - start;
    clf_session_destroy(session);
    return st;
}

/* Prefill from nothing, each time; the last one goes on to `context` tokens. */
static clf_status measure_prefill(const bench_settings *s, clf_session *session, const int32_t *ids, float *logits,
                                  figures *f) {
    bench_times t = {0};
    clf_status st = CLF_OK;
    for (double start = bench_now(); st == CLF_OK && s->prefill && (t.n < 3 || bench_now() - start < s->seconds);) {
        st = clf_session_clear(session);
        const double begin = bench_now();
        if (st == CLF_OK) st = clf_session_eval(session, ids, s->prefill, CLF_LOGITS_LAST, logits);
        bench_times_add(&t, bench_now() - begin);
    }
    f->prefill = bench_median(&t);
    bench_times_free(&t);
    const int64_t done = s->prefill;
    if (st == CLF_OK && s->context > done)
        st = clf_session_eval(session, ids + done, s->context - done, CLF_LOGITS_LAST, logits);
    return st;
}

static clf_status measure_decode(const bench_settings *s, clf_session *session, const int32_t *ids, float *logits,
                                 figures *f) {
    bench_times t = {0};
    clf_status st = CLF_OK;
    for (int64_t i = 0; i < s->decode && st == CLF_OK; i++) {
        const double begin = bench_now();
        st = clf_session_eval(session, &ids[i % 97], 1, CLF_LOGITS_LAST, logits);
        bench_times_add(&t, bench_now() - begin);
    }
    f->decode = bench_median(&t);
    bench_times_free(&t);
    return st;
}

static void report(const bench_settings *s, const clf_model_info *info, const figures *f, const bench_roofs *roofs,
                   json_t *json) {
    const double weights = (double)info->weight_bytes;
    const double speed = f->decode > 0 ? weights / f->decode * 1e-9 : 0,
                 of_roof = roofs->read > 0 ? speed / roofs->read : 0;
    printf("%s: %s, %.1f M weights, %s, %.1f MB\n", s->model, info->architecture, (double)info->parameters * 1e-6,
           clf_dtype_name(info->weight_dtype), weights * 1e-6);
    printf("loaded in %.3f s, first token after %.3f s\n", f->load, f->first);
    if (s->prefill) printf("prefill of %lld: %.1f tokens/s\n", (long long)s->prefill, (double)s->prefill / f->prefill);
    if (s->decode)
        printf("decode after %lld: %.2f tokens/s, weights %.2f GB/s, %.0f %% of read\n",
               (long long)(s->context > s->prefill ? s->context : s->prefill), 1 / f->decode, speed, 100 * of_roof);
    printf("private memory %.1f MB, KV cache %.1f MB of it\n", f->own * 1e-6, f->own_kv * 1e-6);
    json_object_set_new(
        json, "model",
        json_pack("{s:s, s:s, s:s, s:I, s:I, s:f, s:f, s:I, s:f, s:I, s:I, s:f, s:f, s:f, s:f, s:f}", "path", s->model,
                  "architecture", info->architecture, "weight_dtype", clf_dtype_name(info->weight_dtype), "parameters",
                  (json_int_t)info->parameters, "weight_bytes", (json_int_t)info->weight_bytes, "load_s", f->load,
                  "first_token_s", f->first, "prefill", (json_int_t)s->prefill, "prefill_tokens_per_s",
                  f->prefill > 0 ? (double)s->prefill / f->prefill : 0.0, "context", (json_int_t)s->context, "decode",
                  (json_int_t)s->decode, "decode_tokens_per_s", f->decode > 0 ? 1 / f->decode : 0.0, "weights_gbps",
                  speed, "of_read_roof", of_roof, "private_bytes", f->own, "kv_bytes", f->own_kv));
}

bool bench_model(const bench_settings *s, clf_context *ctx, const bench_roofs *roofs, json_t *json) {
    clf_model *model = NULL;
    clf_session *session = NULL;
    clf_model_info info = {0};
    float *logits = NULL;
    figures f = {0};
    const int64_t longest = s->context > s->prefill ? s->context : s->prefill;
    int32_t *ids = malloc(((size_t)longest + 97) * sizeof *ids);
    clf_status st = ids ? measure_first(s, ctx, &model, &logits, &f) : CLF_OUT_OF_MEMORY;
    if (st == CLF_OK) st = clf_model_get_info(model, &info);
    if (st == CLF_OK) {
        fill_ids(ids, longest + 97, info.vocab_size);
        const clf_session_args args = {
            .model = model, .context_length = longest + s->decode + 1, .kv_dtype = s->kv_dtype};
        st = clf_session_create(&session, &args);
    }
    if (st == CLF_OK) st = measure_prefill(s, session, ids, logits, &f);
    if (st == CLF_OK) st = measure_decode(s, session, ids, logits, &f);
    clf_memory_stats stats = {0};
    if (st == CLF_OK) st = clf_memory_get_stats(ctx, &stats);
    f.own = private_bytes();
    f.own_kv = (double)stats.tag_asked[CLF_TAG_KV_CACHE];
    if (st == CLF_OK)
        report(s, &info, &f, roofs, json);
    else
        fprintf(stderr, "%s: %s: %s\n", s->model, clf_status_string(st), clf_error_message(ctx));
    clf_session_destroy(session);
    clf_model_destroy(model);
    free(logits);
    free(ids);
    return st == CLF_OK;
}
