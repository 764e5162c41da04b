/* evaluate.c: perplexity and divergence against the same formulas in double over logits that a session gives, on golden
 * models, and on one whose vocabulary is so wide that logits come in pieces; the cut into chunks; what is refused. */
#include "folder_case.h"
#include "model_case.h"

#include "../lib/model/gguf_write.h"
#include "../lib/model/verdict.h"
#include "tiny_gguf.h"

#define LLAMA   "golden/models/llama"
#define MISTRAL "golden/models/mistral"

enum { MOST = 1400 };

typedef struct fixture {
    clf_context *ctx;
    clf_model *llama, *mistral;
} fixture;

static int setup(void **state) {
    if (make_folder(state)) return -1;
    fixture *f = calloc(1, sizeof *f);
    f->ctx = open_context("cpu", 0);
    f->llama = load_model(&f->ctx, 1, LLAMA);
    f->mistral = load_model(&f->ctx, 1, MISTRAL);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    clf_model_destroy(f->llama);
    clf_model_destroy(f->mistral);
    clf_context_destroy(f->ctx);
    free(f);
    return remove_folder(state);
}

/* Logits of each token of one chunk, [n, vocab], to be freed. */
static float *logits_of(clf_context *ctx, clf_model *m, const int32_t *ids, int64_t n, int64_t vocab) {
    float *logits = malloc((size_t)(n * vocab) * sizeof *logits);
    clf_session *s = open_session(ctx, &(clf_session_args){.model = m, .context_length = n});
    assert_non_null(logits);
    assert_ok(ctx, clf_session_eval(s, ids, n, CLF_LOGITS_ALL, logits));
    clf_session_destroy(s);
    return logits;
}

static int64_t top_of(const float *x, int64_t n) {
    int64_t best = 0;
    for (int64_t i = 0; i < n; i++) best = x[i] > x[best] ? i : best;
    return best;
}

static double log_p(const float *x, int64_t n, int64_t at) {
    const double top = x[top_of(x, n)];
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += exp(x[i] - top);
    return x[at] - top - log(sum);
}

static clf_estimated estimate(const double *x, int n) {
    double mean = 0, squares = 0;
    for (int i = 0; i < n; i++) mean += x[i] / n;
    for (int i = 0; i < n; i++) squares += (x[i] - mean) * (x[i] - mean);
    return (clf_estimated){mean, sqrt(squares / (n - 1) / n)};
}

static int ascending(const void *a, const void *b) {
    return *(const double *)a < *(const double *)b ? -1 : 1;
}

/* The definitions, token by token. */
static clf_evaluation reference(clf_context *ctx, clf_model *m, clf_model *base, const int32_t *ids, int64_t n,
                                int64_t context, int64_t vocab) {
    static double nll[MOST], base_nll[MOST], difference_of[MOST], kl[MOST], same[MOST];
    clf_evaluation e = {.chunks = n / context};
    int tokens = 0;
    for (int64_t c = 0; c < n / context; c++) {
        const int32_t *chunk = ids + c * context;
        float *logits = logits_of(ctx, m, chunk, context, vocab), *others = logits_of(ctx, base, chunk, context, vocab);
        for (int64_t at = context / 2; at + 1 < context; at++, tokens++) {
            const float *l = logits + at * vocab, *b = others + at * vocab;
            assert_true(tokens < MOST);
            nll[tokens] = -log_p(l, vocab, chunk[at + 1]);
            base_nll[tokens] = -log_p(b, vocab, chunk[at + 1]);
            difference_of[tokens] = nll[tokens] - base_nll[tokens];
            kl[tokens] = 0;
            if (vocab == VOCAB)
                for (int64_t i = 0; i < vocab; i++) {
                    const double p = log_p(b, vocab, i);
                    kl[tokens] += exp(p) * (p - log_p(l, vocab, i));
                }
            same[tokens] = top_of(l, vocab) == top_of(b, vocab);
            e.rms_dp += pow(exp(-nll[tokens]) - exp(-base_nll[tokens]), 2);
        }
        free(logits);
        free(others);
    }
    e.tokens = tokens;
    e.nll = estimate(nll, tokens);
    e.perplexity = exp(e.nll.mean);
    e.perplexity_error = e.perplexity * e.nll.error;
    e.base_nll = estimate(base_nll, tokens);
    e.nll_difference = estimate(difference_of, tokens);
    e.kl = estimate(kl, tokens);
    e.same_top = estimate(same, tokens);
    e.rms_dp = sqrt(e.rms_dp / tokens);
    qsort(kl, (size_t)tokens, sizeof *kl, ascending);
    e.kl_median = tokens % 2 ? kl[tokens / 2] : (kl[tokens / 2] + kl[tokens / 2 - 1]) / 2;
    e.kl_max = kl[tokens - 1];
    const double at = 0.999 * (tokens - 1);
    e.kl_999 = kl[(int)at] + (at - (int)at) * (kl[(int)at + 1] - kl[(int)at]);
    return e;
}

static void assert_close(double got, double want, double tolerance, const char *what) {
    if (!(fabs(got - want) <= tolerance * fmax(fabs(want), 1e-3)))
        fail_msg("%s: %.12g, expected %.12g", what, got, want);
}

#define close_in(field) assert_close(got->field, want->field, tolerance, #field)
static void assert_same(const clf_evaluation *got, const clf_evaluation *want, double tolerance) {
    assert_int_equal(got->tokens, want->tokens);
    assert_int_equal(got->chunks, want->chunks);
    close_in(nll.mean), close_in(nll.error), close_in(perplexity), close_in(perplexity_error);
    close_in(base_nll.mean), close_in(base_nll.error), close_in(nll_difference.mean), close_in(nll_difference.error);
    close_in(same_top.mean), close_in(same_top.error), close_in(rms_dp);
}
static void assert_same_divergence(const clf_evaluation *got, const clf_evaluation *want, double tolerance) {
    close_in(kl.mean), close_in(kl.error), close_in(kl_median), close_in(kl_999), close_in(kl_max);
}

static void as_defined(void **state) {
    const fixture *f = *state;
    static const int64_t contexts[] = {3, 4, 17, 64, 700}; /* 700: more than are evaluated at once */
    static int32_t ids[MOST + 2];
    make_ids(ids, MOST + 2, 1);
    for (size_t i = 0; i < sizeof contexts / sizeof *contexts; i++) {
        const int64_t n = contexts[i] < 64 ? 10 * contexts[i] + 2 : MOST + 2, context = contexts[i];
        const clf_evaluation want = reference(f->ctx, f->llama, f->mistral, ids, n, context, VOCAB);
        clf_evaluation got;
        assert_ok(
            f->ctx,
            clf_evaluate(&got, &(clf_evaluate_args){
                                   .model = f->llama, .base = f->mistral, .ids = ids, .n = n, .context = context}));
        assert_same(&got, &want, 1e-5);
        assert_same_divergence(&got, &want, 1e-5);
        clf_evaluation alone;
        assert_ok(f->ctx, clf_evaluate(
                              &alone, &(clf_evaluate_args){.model = f->llama, .ids = ids, .n = n, .context = context}));
        assert_true(alone.nll.mean == got.nll.mean && alone.nll.error == got.nll.error);
        assert_true(alone.kl_max == 0 && alone.same_top.mean == 0 && alone.base_nll.mean == 0);
    }
}

static void a_model_is_like_itself(void **state) {
    const fixture *f = *state;
    static int32_t ids[MOST];
    clf_context *scalar = open_context("cpu-scalar", 0);
    clf_model *again = load_model(&scalar, 1, LLAMA);
    clf_evaluation e;
    make_ids(ids, MOST, 2);
    clf_evaluate_args args = {.model = f->llama, .base = f->llama, .ids = ids, .n = MOST, .context = 128};
    assert_ok(f->ctx, clf_evaluate(&e, &args));
    assert_true(e.nll.mean == e.base_nll.mean && e.nll_difference.mean == 0 && e.nll_difference.error == 0);
    assert_true(e.kl.mean == 0 && e.kl.error == 0 && e.kl_max == 0 && e.same_top.mean == 1 && e.same_top.error == 0 &&
                e.rms_dp == 0);
    args.base = again; /* by other arithmetic, on another context */
    assert_ok(f->ctx, clf_evaluate(&e, &args));
    assert_true(e.kl.mean < 1e-10 && e.same_top.mean > 0.99 && fabs(e.nll_difference.mean) < 1e-5 && e.rms_dp < 1e-5);
    args.kv_dtype = CLF_F16;
    args.base = NULL;
    const double nll = e.nll.mean;
    assert_ok(f->ctx, clf_evaluate(&e, &args));
    assert_true(e.nll.mean != nll && fabs(e.nll.mean - nll) < 1e-3);
    clf_model_destroy(again);
    clf_context_destroy(scalar);
}

/* One logit raised by log 3 above equal others: p = 3 / (n + 2). */
static void a_known_perturbation(void **state) {
    (void)state;
    enum { N = 50 };
    float base[N] = {0}, raised[N] = {0};
    raised[7] = (float)log(3);
    clf_verdict v = clf_verdict_of(raised, base, N, 7);
    assert_close(v.nll, log((N + 2) / 3.0), 1e-7, "nll");
    assert_close(v.base_nll, log(N), 1e-12, "base_nll");
    assert_close(v.kl, log((N + 2.0) / N) - log(3) / N, 1e-6, "kl");
    assert_close(v.dp, 3.0 / (N + 2) - 1.0 / N, 1e-6, "dp");
    assert_false(v.same_top);
    v = clf_verdict_of(base, raised, N, 7);
    assert_close(v.kl, 3 * log(3) / (N + 2) - log((N + 2.0) / N), 1e-6, "kl");
    for (int i = 0; i < N; i++) base[i] += 1e4f; /* shifts change nothing, nor do they overflow */
    assert_true(clf_verdict_of(base, NULL, N, 3).nll - log(N) < 1e-9);
    raised[0] = base[0] = -INFINITY;
    v = clf_verdict_of(raised, base, N, 7);
    assert_true(isfinite(v.nll) && isfinite(v.kl));
    assert_true(v.nll < clf_verdict_of(raised, NULL, N, 8).nll && isinf(clf_verdict_of(raised, NULL, N, 0).nll));
    raised[1] = NAN;
    assert_false(isfinite(clf_verdict_of(raised, NULL, N, 7).nll));
    raised[1] = INFINITY;
    assert_false(isfinite(clf_verdict_of(raised, NULL, N, 7).nll));
}

enum { WIDE = 40000, HIDDEN = 32 };

static const struct {
    const char *name;
    int ndim, rows, columns;
} wide_tensors[] = {{"token_embd.weight", 2, WIDE, HIDDEN},          {"output_norm.weight", 1, HIDDEN, 1},
                    {"blk.0.attn_norm.weight", 1, HIDDEN, 1},        {"blk.0.attn_q.weight", 2, HIDDEN, HIDDEN},
                    {"blk.0.attn_k.weight", 2, HIDDEN, HIDDEN},      {"blk.0.attn_v.weight", 2, HIDDEN, HIDDEN},
                    {"blk.0.attn_output.weight", 2, HIDDEN, HIDDEN}, {"blk.0.ffn_norm.weight", 1, HIDDEN, 1},
                    {"blk.0.ffn_gate.weight", 2, HIDDEN, HIDDEN},    {"blk.0.ffn_up.weight", 2, HIDDEN, HIDDEN},
                    {"blk.0.ffn_down.weight", 2, HIDDEN, HIDDEN}};
enum { WIDE_TENSORS = sizeof wide_tensors / sizeof *wide_tensors };

/* A model of random weights and a wide vocabulary; its norms are `norm`. */
static clf_model *wide_model(clf_context *ctx, uint32_t seed, float norm) {
    static float values[WIDE * HIDDEN];
    const char *path = in_folder("wide.gguf");
    clf_error err = {0};
    clf_gguf_writer *w;
    clf_model *m;
    static const char *const keys[] = {"embedding_length", "block_count", "feed_forward_length", "attention.head_count",
                                       "context_length"};
    static const uint32_t of_keys[] = {HIDDEN, 1, HIDDEN, 4, 512};
    clf_status st = clf_gguf_writer_create(&w, path, &err);
    if (st == CLF_OK) st = clf_gguf_write_string(w, "general.architecture", "llama", &err);
    for (int i = 0; st == CLF_OK && i < 5; i++) {
        char key[64];
        snprintf(key, sizeof key, "llama.%s", keys[i]);
        st = clf_gguf_write_u32(w, key, of_keys[i], &err);
    }
    if (st == CLF_OK) st = clf_gguf_write_f32(w, "llama.attention.layer_norm_rms_epsilon", 1e-5f, &err);
    for (int i = 0; st == CLF_OK && i < WIDE_TENSORS; i++)
        st = clf_gguf_write_tensor(w,
                                   &(clf_file_tensor){.name = wide_tensors[i].name,
                                                      .ndim = wide_tensors[i].ndim,
                                                      .shape = {wide_tensors[i].rows, wide_tensors[i].columns}},
                                   &err);
    for (int i = 0; st == CLF_OK && i < WIDE_TENSORS; i++) {
        const int n = wide_tensors[i].rows * wide_tensors[i].columns;
        for (int j = 0; j < n; j++) {
            seed = seed * 1664525u + 1013904223u;
            values[j] = wide_tensors[i].ndim == 1 ? norm : (float)(int32_t)seed / 4e9f;
        }
        st = clf_gguf_write_data(w, i, values, (uint64_t)n * sizeof *values, &err);
    }
    if (st == CLF_OK) st = clf_gguf_writer_finish(w, &err);
    clf_gguf_writer_destroy(w);
    if (st != CLF_OK) fail_msg("%s", err.message);
    const clf_model_args args = {.path = path, .contexts = &ctx, .n_contexts = 1};
    assert_ok(ctx, clf_model_load(&m, &args));
    return m;
}

static void logits_in_pieces(void **state) {
    const fixture *f = *state;
    enum { N = 2 * 400 };
    int32_t ids[N];
    for (int i = 0; i < N; i++) ids[i] = i * 49 % WIDE;
    clf_model *a = wide_model(f->ctx, 1, 1), *b = wide_model(f->ctx, 2, 1);
    const clf_evaluation want = reference(f->ctx, a, b, ids, N, 400, WIDE);
    clf_evaluation got;
    assert_ok(f->ctx,
              clf_evaluate(&got, &(clf_evaluate_args){.model = a, .base = b, .ids = ids, .n = N, .context = 400}));
    assert_same(&got, &want, 1e-5);
    clf_model_destroy(a);
    clf_model_destroy(b);
}

static void infinite_logits_are_told(void **state) {
    const fixture *f = *state;
    int32_t ids[64];
    make_ids(ids, 64, 3);
    clf_model *bad = wide_model(f->ctx, 1, INFINITY), *good = wide_model(f->ctx, 1, 1);
    clf_evaluation e;
    clf_evaluate_args args = {.model = bad, .ids = ids, .n = 64, .context = 32};
    assert_int_equal(clf_evaluate(&e, &args), CLF_NOT_FINITE);
    assert_string_equal(clf_error_message(f->ctx), "evaluate: chunk 0: logits are not finite");
    args.model = good;
    args.base = bad;
    assert_int_equal(clf_evaluate(&e, &args), CLF_NOT_FINITE);
    assert_non_null(strstr(clf_error_message(f->ctx), "the base's"));
    clf_model_destroy(bad);
    clf_model_destroy(good);
}

/* A tokenizer that adds <s> has it in the place of each chunk's first token; a model without one keeps the text's. */
static void chunks_begin_as_texts_do(void **state) {
    const fixture *f = *state;
    int32_t ids[40], others[40];
    make_ids(ids, 40, 4);
    make_ids(others, 40, 4);
    others[0] = others[20] = (ids[0] + 1) % VOCAB;
    tiny_gguf gguf = tiny_gguf_make();
    clf_model *tiny;
    const clf_model_args load = {.data = gguf.data, .data_size = gguf.size, .contexts = &f->ctx, .n_contexts = 1};
    assert_ok(f->ctx, clf_model_load(&tiny, &load));
    for (int i = 0; i < 2; i++) {
        clf_evaluation a, b;
        clf_evaluate_args args = {.model = i ? tiny : f->llama, .ids = ids, .n = 40, .context = 20};
        assert_ok(f->ctx, clf_evaluate(&a, &args));
        args.ids = others;
        assert_ok(f->ctx, clf_evaluate(&b, &args));
        assert_int_equal(a.nll.mean == b.nll.mean, i);
    }
    others[0] = others[20] = 1;
    const clf_evaluation want = reference(f->ctx, tiny, tiny, others, 40, 20, TINY_VOCAB);
    clf_evaluation got;
    assert_ok(f->ctx, clf_evaluate(
                          &got, &(clf_evaluate_args){.model = tiny, .base = tiny, .ids = ids, .n = 40, .context = 20}));
    assert_same(&got, &want, 1e-5);
    clf_model_destroy(tiny);
    free(gguf.data);
}

typedef struct watch {
    int64_t seen, until;
    clf_evaluation last;
} watch;

static bool on_chunk(void *user, const clf_evaluation *e, int64_t chunks) {
    watch *w = user;
    assert_int_equal(chunks, 7);
    assert_int_equal(e->chunks, ++w->seen);
    w->last = *e;
    return w->seen < w->until;
}

static void progress_and_cancelling(void **state) {
    const fixture *f = *state;
    int32_t ids[160];
    make_ids(ids, 160, 5);
    watch w = {.until = 100};
    clf_evaluation e, four;
    clf_evaluate_args args = {.model = f->llama,
                              .base = f->mistral,
                              .ids = ids,
                              .n = 160,
                              .context = 20,
                              .chunks = 7,
                              .progress = on_chunk,
                              .user = &w};
    assert_ok(f->ctx, clf_evaluate(&e, &args));
    assert_int_equal(w.seen, 7);
    assert_int_equal(e.chunks, 7);
    assert_int_equal(e.tokens, 7 * 9);
    assert_true(w.last.kl.mean == e.kl.mean && w.last.kl_999 == 0 && e.kl_999 > e.kl_median);
    w = (watch){.until = 4};
    assert_int_equal(clf_evaluate(&e, &args), CLF_CANCELLED);
    assert_string_equal(clf_error_message(f->ctx), "evaluate: cancelled after 4 chunks");
    args.chunks = 4;
    args.progress = NULL;
    assert_ok(f->ctx, clf_evaluate(&four, &args));
    assert_memory_equal(&e, &four, sizeof e);
}

static void wrong_arguments_are_refused(void **state) {
    const fixture *f = *state;
    int32_t ids[40];
    make_ids(ids, 40, 6);
    clf_evaluation e;
    clf_model *wide = wide_model(f->ctx, 1, 1);
    const clf_evaluate_args good = {.model = f->llama, .ids = ids, .n = 40, .context = 20};
    static const struct {
        int64_t n, context, chunks;
        const char *message;
    } wrong[] = {{39, 20, 0, "expected at least two chunks of 20 tokens, got 39"},
                 {40, 0, 0, "expected at least two chunks of 512 tokens, got 40"},
                 {-1, 20, 0, "got -1"},
                 {40, INT64_MAX, 0, "at least two chunks"},
                 {40, 2, 0, "context: expected 3 or more, got 2"},
                 {40, -3, 0, "context: expected 3 or more, got -3"},
                 {40, 20, -1, "chunks: expected 0 or more, got -1"}};
    assert_int_equal(clf_evaluate(NULL, &good), CLF_INVALID_ARGUMENT);
    assert_int_equal(clf_evaluate(&e, NULL), CLF_INVALID_ARGUMENT);
    assert_int_equal(clf_evaluate(&e, &(clf_evaluate_args){.ids = ids, .n = 40}), CLF_INVALID_ARGUMENT);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        clf_evaluate_args args = good;
        args.n = wrong[i].n;
        args.context = wrong[i].context;
        args.chunks = wrong[i].chunks;
        assert_int_equal(clf_evaluate(&e, &args), CLF_INVALID_ARGUMENT);
        if (!strstr(clf_error_message(f->ctx), wrong[i].message)) fail_msg("%s", clf_error_message(f->ctx));
    }
    clf_evaluate_args args = good;
    args.base = wide;
    assert_int_equal(clf_evaluate(&e, &args), CLF_INVALID_ARGUMENT);
    assert_string_equal(clf_error_message(f->ctx), "evaluate: base: expected the model's vocabulary of 96, got 40000");
    args = good;
    args.kv_dtype = CLF_I32;
    assert_int_equal(clf_evaluate(&e, &args), CLF_INVALID_ARGUMENT);
    args = good;
    args.ids = NULL;
    assert_int_equal(clf_evaluate(&e, &args), CLF_INVALID_ARGUMENT);
    ids[39] = VOCAB;
    assert_int_equal(clf_evaluate(&e, &good), CLF_INVALID_ARGUMENT);
    assert_string_equal(clf_error_message(f->ctx), "evaluate: ids[39]: expected 0 to 95, got 96");
    clf_model_destroy(wide);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_defined),
        cmocka_unit_test(a_model_is_like_itself),
        cmocka_unit_test(a_known_perturbation),
        cmocka_unit_test(logits_in_pieces),
        cmocka_unit_test(infinite_logits_are_told),
        cmocka_unit_test(chunks_begin_as_texts_do),
        cmocka_unit_test(progress_and_cancelling),
        cmocka_unit_test(wrong_arguments_are_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
