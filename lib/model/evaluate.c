/* evaluate.c: perplexity, and the divergence of a model from its base, over a text in chunks. Rows of logits are made
 * some MiB at a time, of both models side by side; their vocabularies are gone through by the threads of the models'
 * contexts, sums over tokens by one, in order. */
#include <clformer/quantize.h>

#include <math.h>
#include <omp.h>
#include <stdlib.h>

#include "chunks.h"
#include "session.h"
#include "verdict.h"

typedef struct side {
    clf_session *session;
    float *logits; /* [rows, vocab] */
} side;

typedef struct sum {
    double values, squares;
} sum;

typedef struct evaluating {
    const clf_evaluate_args *args;
    clf_error *err; /* of the model's first context */
    clf_chunks chunks;
    side model, base;
    int64_t rows; /* of logits at a time */
    int threads;
    clf_verdict *verdicts; /* [rows] */
    double *kl;            /* of each token */
    sum nll, base_nll, difference, divergence, dp, same_top;
    clf_evaluation *out;
} evaluating;

/* Those of the model's CPU context; for a model without one, OpenMP's. */
static int host_threads(const clf_model *m) {
    int most = 0;
    for (int i = 0; i < m->n_contexts; i++)
        if (m->contexts[i]->backend->host && m->contexts[i]->threads > most) most = m->contexts[i]->threads;
    return most ? most : omp_get_max_threads();
}

/* Brings the base's message to where callers look. */
static clf_status of_base(const evaluating *e, clf_status st) {
    return clf_model_failed(e->args->model, e->args->base->contexts[0], st);
}

static clf_status open_session(side *s, const evaluating *e, clf_model *m) {
    const int64_t context = e->chunks.context;
    const clf_session_args args = {.model = m, .context_length = context, .kv_dtype = e->args->kv_dtype};
    CLF_TRY(clf_session_create(&s->session, &args));
    return clf_decoder_reserve(&s->session->decoder, s->session->decoder.chunk);
}

static clf_status open_sides(evaluating *e) {
    const int64_t vocab = e->args->model->config.vocab_size;
    CLF_TRY(open_session(&e->model, e, e->args->model));
    e->rows = e->model.session->decoder.logits.shape[0];
    e->threads = host_threads(e->args->model);
    const size_t bytes = (size_t)(e->rows * vocab) * sizeof(float);
    const int64_t judged = e->chunks.context - 1 - e->chunks.context / 2;
    bool enough = (e->model.logits = malloc(bytes)) && (e->verdicts = malloc((size_t)e->rows * sizeof *e->verdicts));
    if (e->args->base) {
        CLF_TRY(of_base(e, open_session(&e->base, e, e->args->base)));
        enough = enough && (e->base.logits = malloc(bytes)) &&
                 (e->kl = malloc((size_t)(e->chunks.count * judged) * sizeof *e->kl));
    }
    CLF_CHECK(e->err, enough, CLF_OUT_OF_MEMORY, "evaluate: out of host memory");
    return CLF_OK;
}

static void close_sides(evaluating *e) {
    side *const sides[] = {&e->model, &e->base};
    for (int i = 0; i < 2; i++) {
        clf_session_destroy(sides[i]->session);
        free(sides[i]->logits);
    }
    free(e->verdicts);
    free(e->kl);
    clf_chunks_release(&e->chunks);
}

static void add(sum *s, double value) {
    s->values += value;
    s->squares += value * value;
}

/* Rows [first, first + n) that both decoders have; `right` are the tokens that came after them. */
static clf_status judge(evaluating *e, int64_t first, int64_t n, const int32_t *right) {
    const int64_t vocab = e->args->model->config.vocab_size;
    const float *logits = e->model.logits, *base = e->base.logits;
    clf_verdict *verdicts = e->verdicts;
    CLF_TRY(clf_decoder_logits(&e->model.session->decoder, first, n, e->model.logits));
    if (base) CLF_TRY(of_base(e, clf_decoder_logits(&e->base.session->decoder, first, n, e->base.logits)));
#pragma omp parallel for schedule(static) num_threads(e->threads) if (e->threads > 1)
    for (int64_t i = 0; i < n; i++)
        verdicts[i] = clf_verdict_of(logits + i * vocab, base ? base + i * vocab : NULL, vocab, right[i]);
    for (int64_t i = 0; i < n; i++) {
        const clf_verdict *v = &verdicts[i];
        CLF_CHECK(e->err, isfinite(v->nll), CLF_NOT_FINITE, "evaluate: chunk %lld: logits are not finite",
                  (long long)e->out->chunks);
        add(&e->nll, v->nll);
        if (base) {
            CLF_CHECK(e->err, isfinite(v->base_nll), CLF_NOT_FINITE,
                      "evaluate: chunk %lld: the base's logits are not finite", (long long)e->out->chunks);
            add(&e->base_nll, v->base_nll);
            add(&e->difference, v->nll - v->base_nll);
            add(&e->divergence, v->kl);
            add(&e->dp, v->dp);
            add(&e->same_top, v->same_top);
            e->out->kl_max = fmax(e->out->kl_max, v->kl);
            e->kl[e->out->tokens] = v->kl;
        }
        e->out->tokens++;
    }
    return CLF_OK;
}

/* The last token predicts none that is known. */
static clf_status evaluate_chunk(evaluating *e, const int32_t *ids) {
    const int64_t n = e->chunks.context - 1, half = e->chunks.context / 2, most = e->model.session->args.chunk;
    CLF_TRY(clf_session_clear(e->model.session));
    if (e->args->base) CLF_TRY(of_base(e, clf_session_clear(e->base.session)));
    for (int64_t done = 0, m; done < n; done += m) {
        m = n - done < most ? n - done : most;
        const int64_t judged = done + m - half, want = judged < 0 ? 0 : judged < m ? judged : m;
        CLF_TRY(clf_session_append(e->model.session, ids + done, m, want));
        if (e->args->base) CLF_TRY(of_base(e, clf_session_append(e->base.session, ids + done, m, want)));
        for (int64_t row = m - want, k; row < m; row += k) {
            k = m - row < e->rows ? m - row : e->rows;
            CLF_TRY(judge(e, row, k, ids + done + row + 1));
        }
    }
    return CLF_OK;
}

static clf_estimated estimated(const sum *s, int64_t n) {
    const double mean = s->values / (double)n, variance = fmax(s->squares / (double)n - mean * mean, 0);
    return (clf_estimated){.mean = mean, .error = n > 1 ? sqrt(variance / (double)(n - 1)) : 0};
}

static void summarize(const evaluating *e) {
    clf_evaluation *out = e->out;
    const int64_t n = out->tokens;
    out->nll = estimated(&e->nll, n);
    out->perplexity = exp(out->nll.mean);
    out->perplexity_error = out->perplexity * out->nll.error;
    if (!e->args->base) return;
    out->base_nll = estimated(&e->base_nll, n);
    out->nll_difference = estimated(&e->difference, n);
    out->kl = estimated(&e->divergence, n);
    out->same_top = estimated(&e->same_top, n);
    out->rms_dp = sqrt(e->dp.squares / (double)n);
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Of n > 0 sorted values, between neighbours in proportion. */
static double quantile(const double *sorted, int64_t n, double share) {
    const double at = share * (double)(n - 1);
    const int64_t i = (int64_t)at, next = i + 1 < n ? i + 1 : i;
    return sorted[i] + (at - (double)i) * (sorted[next] - sorted[i]);
}

static clf_status evaluate(evaluating *e) {
    const clf_evaluate_args *a = e->args;
    clf_status st = CLF_OK;
    CLF_TRY(open_sides(e));
    const int64_t count = a->chunks && a->chunks < e->chunks.count ? a->chunks : e->chunks.count;
    for (int64_t i = 0; i < count && st == CLF_OK; i++) {
        CLF_TRY(evaluate_chunk(e, clf_chunks_at(&e->chunks, i)));
        e->out->chunks++;
        summarize(e);
        if (a->progress && !a->progress(a->user, e->out, count))
            st = clf_fail(e->err, CLF_CANCELLED, "evaluate: cancelled after %lld chunks", (long long)i + 1);
    }
    if (!a->base) return st;
    qsort(e->kl, (size_t)e->out->tokens, sizeof *e->kl, ascending);
    e->out->kl_median = quantile(e->kl, e->out->tokens, 0.5);
    e->out->kl_999 = quantile(e->kl, e->out->tokens, 0.999);
    return st;
}

static clf_status check(evaluating *e) {
    const clf_evaluate_args *a = e->args;
    const int64_t context = a->context ? a->context : CLF_CHUNK_CONTEXT;
    CLF_CHECK(e->err, context >= 3, CLF_INVALID_ARGUMENT, "evaluate: context: expected 3 or more, got %lld",
              (long long)context);
    CLF_CHECK(e->err, a->chunks >= 0, CLF_INVALID_ARGUMENT, "evaluate: chunks: expected 0 or more, got %lld",
              (long long)a->chunks);
    CLF_CHECK(e->err, a->n / 2 >= context, CLF_INVALID_ARGUMENT,
              "evaluate: n: expected at least two chunks of %lld tokens, got %lld", (long long)context,
              (long long)a->n);
    CLF_CHECK(e->err, !a->base || a->base->config.vocab_size == a->model->config.vocab_size, CLF_INVALID_ARGUMENT,
              "evaluate: base: expected the model's vocabulary of %d, got %d", a->model->config.vocab_size,
              a->base->config.vocab_size);
    return clf_chunks_init(&e->chunks, "evaluate", a->model, a->ids, a->n, context);
}

clf_status clf_evaluate(clf_evaluation *out, const clf_evaluate_args *args) {
    if (out) *out = (clf_evaluation){0};
    if (!out || !args || !args->model) return CLF_INVALID_ARGUMENT;
    CLF_TRY(clf_model_enter(args->model));
    evaluating e = {.args = args, .err = &args->model->contexts[0]->error, .out = out};
    if (args->base) CLF_TRY(of_base(&e, clf_model_enter(args->base)));
    clf_status st = check(&e);
    if (st == CLF_OK) st = evaluate(&e);
    close_sides(&e);
    return st;
}
