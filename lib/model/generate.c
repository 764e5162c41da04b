/* generate.c: prompt, then token by token: choose, show, append. Every token made is appended to the session, so that a
 * later call goes on from it; an end token is not counted as made. Text that may be the beginning of a stop string
 * is held back until it is known not to be. */
#define _POSIX_C_SOURCE 200809L
#include "session.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct generation {
    clf_session *session;
    const clf_generate_args *args;
    clf_sampler *sampler, *own_sampler; /* the latter where the caller has none */
    clf_detokenizer *detokenizer;       /* NULL: a model without a tokenizer makes no text */
    float *logits;                      /* [vocab], for the sampler to change */
    char *held;                         /* text not shown yet */
    size_t length, capacity;
    clf_generate_result result;
} generation;

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static clf_error *error_of(const clf_session *s) {
    return &s->model->contexts[0]->error;
}

static clf_status check(const clf_session *s, const clf_generate_args *a) {
    clf_error *err = error_of(s);
    CLF_CHECK(err, a, CLF_INVALID_ARGUMENT, "generate: args is NULL");
    CLF_CHECK(err, a->n_prompt >= 0 && (a->prompt || !a->n_prompt), CLF_INVALID_ARGUMENT,
              "generate: prompt: expected n_prompt ≥ 0 tokens, got %lld", (long long)a->n_prompt);
    CLF_CHECK(err, a->n_prompt || s->has_logits, CLF_INVALID_ARGUMENT,
              "generate: no prompt, and the last eval left no logits to go on from");
    CLF_CHECK(err, a->tokens >= 0, CLF_INVALID_ARGUMENT, "generate: tokens: expected 0 or more, got %lld",
              (long long)a->tokens);
    CLF_CHECK(err, !a->n_stop || (a->stop && s->model->tokenizer), CLF_INVALID_ARGUMENT,
              "generate: stop strings need a list of them and a model with a tokenizer");
    for (size_t i = 0; i < a->n_stop; i++)
        CLF_CHECK(err, a->stop[i] && *a->stop[i], CLF_INVALID_ARGUMENT, "generate: stop[%zu] is empty", i);
    return CLF_OK;
}

static clf_status begin(generation *g) {
    clf_error *err = error_of(g->session);
    const clf_model *m = g->session->model;
    g->logits = malloc((size_t)m->config.vocab_size * sizeof *g->logits);
    CLF_CHECK(err, g->logits, CLF_OUT_OF_MEMORY, "generate: out of host memory");
    g->sampler = g->args->sampler;
    if (!g->sampler) {
        CLF_CHECK(err, clf_sampler_create(&g->own_sampler, NULL) == CLF_OK, CLF_OUT_OF_MEMORY,
                  "generate: out of host memory");
        g->sampler = g->own_sampler;
    }
    if (!m->tokenizer) return CLF_OK;
    clf_status st = clf_detokenizer_create(&g->detokenizer, m->tokenizer, false);
    CLF_CHECK(err, st == CLF_OK, st, "generate: out of host memory");
    /* what the text goes on from: a word that follows keeps its space, a character its first half */
    const int32_t *before = g->args->n_prompt ? g->args->prompt : &g->session->last_id;
    const int64_t n = g->args->n_prompt ? g->args->n_prompt : 1;
    for (int64_t i = 0; i < n; i++) {
        const char *text;
        size_t length;
        st = clf_detokenizer_push(g->detokenizer, before[i], &text, &length);
        CLF_CHECK(err, st == CLF_OK, st, "generate: prompt[%lld]: token %d: %s", (long long)i, before[i],
                  clf_status_string(st));
    }
    return CLF_OK;
}

static void end(generation *g) {
    clf_detokenizer_destroy(g->detokenizer);
    clf_sampler_destroy(g->own_sampler);
    free(g->logits);
    free(g->held);
}

static clf_status hold(generation *g, const char *text, size_t length) {
    if (g->capacity - g->length < length) {
        const size_t capacity = 2 * (g->length + length) + 64;
        char *grown = realloc(g->held, capacity);
        CLF_CHECK(error_of(g->session), grown, CLF_OUT_OF_MEMORY, "generate: out of host memory");
        g->held = grown;
        g->capacity = capacity;
    }
    if (length) memcpy(g->held + g->length, text, length);
    g->length += length;
    return CLF_OK;
}

/* Where in the held text the stop string begins that is complete first; the longest of those. -1: none is. */
static ptrdiff_t find_stop(const generation *g) {
    ptrdiff_t at = -1;
    for (size_t end = 1; end <= g->length && at < 0; end++)
        for (size_t i = 0; i < g->args->n_stop; i++) {
            const size_t n = strlen(g->args->stop[i]);
            if (n > end || memcmp(g->held + end - n, g->args->stop[i], n)) continue;
            if (at < 0 || end - n < (size_t)at) at = (ptrdiff_t)(end - n);
        }
    return at;
}

/* Bytes of held text that can't be the beginning of a stop string. */
static size_t showable(const generation *g) {
    for (size_t at = 0; at < g->length; at++)
        for (size_t i = 0; i < g->args->n_stop; i++) /* a whole one isn't there: the rest is shorter */
            if (!strncmp(g->args->stop[i], g->held + at, g->length - at)) return at;
    return g->length;
}

/* Gives the first `length` bytes of held text to the caller; false: it wants no more. */
static bool show(generation *g, size_t length, int32_t id) {
    const bool go_on = !g->args->text || g->args->text(g->args->user, length ? g->held : "", length, id);
    g->length -= length;
    if (length) memmove(g->held, g->held + length, g->length);
    return go_on;
}

/* Shows what token `id` adds; *more becomes false where the text ends with it. */
static clf_status tell(generation *g, int32_t id, bool *more) {
    const char *text = "";
    size_t length = 0;
    if (g->detokenizer) {
        const clf_status st = clf_detokenizer_push(g->detokenizer, id, &text, &length);
        CLF_CHECK(error_of(g->session), st == CLF_OK, st, "generate: token %d has no text", id);
    }
    CLF_TRY(hold(g, text, length));
    const ptrdiff_t stop = find_stop(g);
    if (!show(g, stop < 0 ? showable(g) : (size_t)stop, id)) g->result.reason = CLF_STOP_CALLBACK;
    if (stop >= 0) g->result.reason = CLF_STOP_STRING;
    *more = g->result.reason == CLF_STOP_LENGTH;
    return CLF_OK;
}

/* Shows what was held back for a stop string or a character that didn't come. */
static clf_status flush(generation *g) {
    if (g->result.reason == CLF_STOP_STRING || g->result.reason == CLF_STOP_CALLBACK || !g->detokenizer) return CLF_OK;
    const char *text;
    size_t length;
    const clf_status st = clf_detokenizer_finish(g->detokenizer, &text, &length);
    CLF_CHECK(error_of(g->session), st == CLF_OK, st, "generate: the text cannot be finished");
    CLF_TRY(hold(g, text, length));
    const ptrdiff_t stop = find_stop(g);
    if (stop >= 0) g->result.reason = CLF_STOP_STRING;
    if (g->length) show(g, stop >= 0 ? (size_t)stop : g->length, -1);
    return CLF_OK;
}

static bool is_end(const clf_model *m, int32_t id) {
    return m->tokenizer ? clf_tokenizer_is_end(m->tokenizer, id) : id == m->config.eos;
}

static clf_status make_tokens(generation *g) {
    clf_session *s = g->session;
    const clf_generate_args *a = g->args;
    const size_t vocab = (size_t)s->model->config.vocab_size;
    for (bool more = true; more && (!a->tokens || g->result.tokens < a->tokens);) {
        if (!s->args.evict && s->cache.rows == s->cache.capacity) {
            g->result.reason = CLF_STOP_FULL;
            break;
        }
        int32_t id;
        memcpy(g->logits, s->logits, vocab * sizeof *g->logits);
        const clf_status st = clf_sampler_next(g->sampler, g->logits, (int32_t)vocab, &id);
        CLF_CHECK(error_of(s), st == CLF_OK, st, "generate: the sampler cannot choose: %s",
                  st == CLF_OUT_OF_MEMORY ? "out of host memory" : "a logit is NaN, or all are forbidden");
        if (!a->ignore_end && is_end(s->model, id)) {
            g->result.reason = CLF_STOP_END;
            break;
        }
        CLF_TRY(tell(g, id, &more));
        CLF_TRY(clf_session_eval(s, &id, 1, CLF_LOGITS_LAST, s->logits));
        g->result.tokens++;
    }
    return flush(g);
}

static clf_status run(generation *g) {
    const clf_generate_args *a = g->args;
    CLF_TRY(begin(g));
    const double start = seconds();
    if (a->n_prompt) CLF_TRY(clf_session_eval(g->session, a->prompt, a->n_prompt, CLF_LOGITS_LAST, g->session->logits));
    for (int64_t i = 0; i < a->n_prompt; i++) clf_sampler_accept(g->sampler, a->prompt[i]);
    const double made_prompt = seconds();
    g->result.prompt_seconds = made_prompt - start;
    const clf_status st = make_tokens(g);
    g->result.seconds = seconds() - made_prompt;
    return st;
}

clf_status clf_generate(clf_session *session, const clf_generate_args *args, clf_generate_result *result) {
    if (result) *result = (clf_generate_result){0};
    CLF_TRY(clf_session_enter(session));
    CLF_TRY(check(session, args));
    generation g = {.session = session, .args = args, .result = {.reason = CLF_STOP_LENGTH}};
    const clf_status st = run(&g);
    end(&g);
    if (result) *result = g.result;
    return st;
}
