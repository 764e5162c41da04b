/* session.c: one sequence: evaluated in chunks, rewound, forked. A failed call leaves the rows in use as they were. */
#include "session.h"

#include <stdlib.h>
#include <string.h>

enum { DEFAULT_CONTEXT = 4096, DEFAULT_CHUNK = 512, MAX_CONTEXT = 1 << 28 };

clf_status clf_session_enter(const clf_session *session) {
    return session ? clf_model_enter(session->model) : CLF_INVALID_ARGUMENT;
}

static clf_status check_args(clf_session_args *a, clf_error *err) {
    const int64_t trained = a->model->config.trained_context;
    if (!a->context_length) a->context_length = trained < DEFAULT_CONTEXT ? trained : DEFAULT_CONTEXT;
    if (!a->chunk) a->chunk = DEFAULT_CHUNK;
    CLF_CHECK(err, a->context_length >= 1 && a->context_length <= MAX_CONTEXT, CLF_INVALID_ARGUMENT,
              "session: context_length: expected 1 to %d, got %lld", MAX_CONTEXT, (long long)a->context_length);
    CLF_CHECK(err, a->chunk >= 1, CLF_INVALID_ARGUMENT, "session: chunk: expected 1 or more, got %lld",
              (long long)a->chunk);
    CLF_TRY(clf_kv_cache_check(&a->model->config, a->kv_dtype, "session", err));
    CLF_CHECK(err, a->compute == CLF_F32 || a->compute == CLF_F16 || a->compute == CLF_BF16, CLF_INVALID_ARGUMENT,
              "session: compute: expected f32, f16 or bf16, got %s", clf_dtype_name(a->compute));
    CLF_CHECK(err, a->keep >= 0 && (!a->keep || a->keep < a->context_length), CLF_INVALID_ARGUMENT,
              "session: keep: expected 0 to %lld, got %lld", (long long)a->context_length - 1, (long long)a->keep);
    if (a->chunk > a->context_length) a->chunk = a->context_length;
    return CLF_OK;
}

static clf_status init(clf_session *s, const clf_session_args *args) {
    s->model = args->model;
    s->args = *args;
    clf_error *err = &s->model->contexts[0]->error;
    CLF_TRY(check_args(&s->args, err));
    s->logits = malloc((size_t)s->model->config.vocab_size * sizeof *s->logits);
    CLF_CHECK(err, s->logits, CLF_OUT_OF_MEMORY, "session: out of host memory");
    CLF_TRY(clf_kv_cache_init(&s->cache, s->model, s->args.kv_dtype, s->args.context_length, s->args.keep));
    return clf_decoder_init(&s->decoder, s->model, s->args.compute, s->args.chunk, s->args.context_length);
}

clf_status clf_session_create(clf_session **out, const clf_session_args *args) {
    if (out) *out = NULL;
    if (!out || !args || !args->model) return CLF_INVALID_ARGUMENT;
    CLF_TRY(clf_model_enter(args->model));
    clf_session *s = calloc(1, sizeof *s);
    const clf_status st =
        s ? init(s, args)
          : clf_fail(&args->model->contexts[0]->error, CLF_OUT_OF_MEMORY, "session: out of host memory");
    if (st == CLF_OK)
        *out = s;
    else
        clf_session_destroy(s);
    return st;
}

void clf_session_destroy(clf_session *s) {
    if (!s) return;
    clf_kv_cache_release(&s->cache);
    clf_decoder_release(&s->decoder);
    free(s->logits);
    free(s);
}

static clf_status check_eval(const clf_session *s, const int32_t *ids, int64_t n, clf_logits which,
                             const float *logits) {
    clf_error *err = &s->model->contexts[0]->error;
    const int32_t vocab = s->model->config.vocab_size;
    CLF_CHECK(err, n >= 0 && (ids || !n), CLF_INVALID_ARGUMENT, "eval: ids: expected n ≥ 0 of them, got %lld",
              (long long)n);
    CLF_CHECK(err, (unsigned)which <= CLF_LOGITS_ALL, CLF_INVALID_ARGUMENT, "eval: which: expected 0 to 2, got %d",
              (int)which);
    CLF_CHECK(err, which == CLF_LOGITS_NONE || logits, CLF_INVALID_ARGUMENT, "eval: logits is NULL");
    CLF_CHECK(err, which != CLF_LOGITS_LAST || n, CLF_INVALID_ARGUMENT, "eval: no tokens, so no last one");
    for (int64_t i = 0; i < n; i++)
        CLF_CHECK(err, ids[i] >= 0 && ids[i] < vocab, CLF_INVALID_ARGUMENT, "eval: ids[%lld]: expected 0 to %d, got %d",
                  (long long)i, vocab - 1, ids[i]);
    const int64_t room = s->cache.capacity - s->cache.rows;
    CLF_CHECK(err, s->args.evict || n <= room, CLF_FULL, "eval: %lld tokens, but room for %lld of %lld", (long long)n,
              (long long)room, (long long)s->cache.capacity);
    return CLF_OK;
}

clf_status clf_session_append(clf_session *s, const int32_t *ids, int64_t n, int64_t want) {
    CLF_TRY(clf_decoder_forward(&s->decoder, &s->cache, ids, n, want));
    s->cache.rows += n;
    return CLF_OK;
}

/* Appends one chunk, evicting if it must. */
static clf_status eval_chunk(clf_session *s, const int32_t *ids, int64_t n, int64_t want, float *logits) {
    clf_kv_cache *cache = &s->cache;
    if (cache->rows + n > cache->capacity) CLF_TRY(clf_kv_cache_evict(cache, n, s->decoder.rope));
    CLF_TRY(clf_session_append(s, ids, n, want));
    return want ? clf_decoder_logits(&s->decoder, n - want, want, logits) : CLF_OK;
}

/* Takes back what was appended after `position`. What had to be evicted for it stays evicted. */
static void forget_after(clf_kv_cache *cache, int64_t position) {
    const int64_t appended = cache->rows + cache->evicted - position;
    const int64_t least = position < cache->keep ? position : cache->keep;
    cache->rows = cache->rows - appended > least ? cache->rows - appended : least;
    cache->evicted = position - cache->rows;
}

static clf_status eval(clf_session *s, const int32_t *ids, int64_t n, clf_logits which, float *logits) {
    clf_kv_cache *cache = &s->cache;
    const int64_t vocab = s->model->config.vocab_size;
    CLF_TRY(check_eval(s, ids, n, which, logits));
    if (which == CLF_LOGITS_ALL) CLF_TRY(clf_decoder_reserve(&s->decoder, n));
    CLF_TRY(clf_kv_cache_settle(cache, s->decoder.rope));
    const int64_t position = cache->rows + cache->evicted;
    int64_t most = s->args.chunk;
    if (s->args.evict && most > cache->capacity - cache->keep) most = cache->capacity - cache->keep;
    for (int64_t done = 0, m; done < n; done += m) {
        m = n - done < most ? n - done : most;
        const int64_t want = which == CLF_LOGITS_ALL ? m : which == CLF_LOGITS_LAST && done + m == n;
        float *to = which == CLF_LOGITS_ALL ? logits + done * vocab : logits;
        const clf_status st = eval_chunk(s, ids + done, m, want, to);
        if (st != CLF_OK) return forget_after(cache, position), st;
    }
    if (!n) return CLF_OK;
    s->has_logits = which != CLF_LOGITS_NONE;
    s->last_id = ids[n - 1];
    const float *last = which == CLF_LOGITS_ALL ? logits + (n - 1) * vocab : logits;
    if (s->has_logits && last != s->logits) memcpy(s->logits, last, (size_t)vocab * sizeof *last);
    return CLF_OK;
}

clf_status clf_session_eval(clf_session *s, const int32_t *ids, int64_t n, clf_logits which, float *logits) {
    CLF_TRY(clf_session_enter(s));
    return eval(s, ids, n, which, logits);
}

int64_t clf_session_position(const clf_session *s) {
    return s ? s->cache.rows + s->cache.evicted : 0;
}

int64_t clf_session_capacity(const clf_session *s) {
    return s ? s->cache.capacity : 0;
}

clf_status clf_session_rewind(clf_session *s, int64_t position) {
    CLF_TRY(clf_session_enter(s));
    clf_error *err = &s->model->contexts[0]->error;
    clf_kv_cache *cache = &s->cache;
    CLF_TRY(clf_kv_cache_settle(cache, s->decoder.rope));
    const int64_t end = cache->rows + cache->evicted, gap = cache->evicted ? cache->keep : end;
    CLF_CHECK(err, position >= 0 && position <= end, CLF_INVALID_ARGUMENT,
              "rewind: position: expected 0 to %lld, got %lld", (long long)end, (long long)position);
    CLF_CHECK(err, position <= gap || position >= gap + cache->evicted, CLF_INVALID_ARGUMENT,
              "rewind: position %lld: tokens %lld to %lld were evicted", (long long)position, (long long)gap,
              (long long)(gap + cache->evicted - 1));
    if (position == end) return CLF_OK;
    forget_after(cache, position);
    s->has_logits = false;
    return CLF_OK;
}

clf_status clf_session_clear(clf_session *s) {
    CLF_TRY(clf_session_enter(s));
    s->cache.rows = s->cache.evicted = s->cache.evicting = 0;
    s->has_logits = false;
    return CLF_OK;
}

clf_status clf_session_fork(clf_session **out, const clf_session *s) {
    if (out) *out = NULL;
    if (!out) return CLF_INVALID_ARGUMENT;
    CLF_TRY(clf_session_enter(s));
    clf_session *copy;
    CLF_TRY(clf_session_create(&copy, &s->args));
    const clf_status st = clf_kv_cache_copy(&copy->cache, &s->cache);
    if (st != CLF_OK) return clf_session_destroy(copy), st;
    copy->has_logits = s->has_logits;
    copy->last_id = s->last_id;
    memcpy(copy->logits, s->logits, (size_t)s->model->config.vocab_size * sizeof *s->logits);
    *out = copy;
    return CLF_OK;
}
