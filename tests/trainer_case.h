/* trainer_case.h: what the tests of trainers share: a trainer on a model of its own, batches of random text, and all
 * gradients or weights in a row. */
#ifndef CLF_TESTS_TRAINER_CASE_H
#define CLF_TESTS_TRAINER_CASE_H

#include "model_case.h"

#include "../lib/train/trainer.h"

enum { TOKENS = 60, SEQUENCES = 4, MAX_VALUES = 1 << 20 };

static const int32_t starts[SEQUENCES + 1] = {0, 7, 8, 33, TOKENS};

typedef struct setting {
    clf_context *ctx;
    clf_model *model;
    clf_trainer *trainer;
} setting;

static inline void close_setting(setting *s) {
    clf_trainer_destroy(s->trainer);
    clf_model_destroy(s->model);
    clf_context_destroy(s->ctx);
}

/* A trainer of `args` on a model of its own. */
static inline setting open_setting(const char *device, const char *path, clf_trainer_args args) {
    setting s = {.ctx = open_context(device, 0)};
    s.model = load_model(&s.ctx, 1, path);
    args.model = s.model;
    if (!args.tokens) args.tokens = TOKENS;
    assert_ok(s.ctx, clf_trainer_create(&s.trainer, &args));
    return s;
}

/* Tokens [first, first + n) of a text, each the label of the one before it in its sequence; every fifth is no target.
 */
typedef struct text {
    int32_t ids[TOKENS], labels[TOKENS];
    int64_t targets;
} text;

static inline text make_text(uint32_t seed) {
    text t = {.targets = 0};
    make_ids(t.ids, TOKENS, seed);
    for (int s = 0; s < SEQUENCES; s++)
        for (int i = starts[s]; i < starts[s + 1]; i++) {
            t.labels[i] = i + 1 < starts[s + 1] && i % 5 ? t.ids[i + 1] : CLF_LABEL_NONE;
            t.targets += t.labels[i] != CLF_LABEL_NONE;
        }
    return t;
}

static inline clf_batch whole(const text *t) {
    return (clf_batch){.ids = t->ids, .labels = t->labels, .tokens = TOKENS, .starts = starts, .sequences = SEQUENCES};
}

/* All gradients, or weights, one after another; how many. */
static inline int64_t collect(const setting *s, bool gradients, float *out) {
    int64_t n = 0;
    for (int i = 0; i < clf_trainer_parameters(s->trainer); i++) {
        clf_parameter_info p;
        assert_int_equal(clf_trainer_parameter(s->trainer, i, &p), CLF_OK);
        const clf_tensor *t = gradients ? p.gradient : p.weight;
        assert_true(n + clf_tensor_elements(t) <= MAX_VALUES);
        assert_ok(s->ctx, clf_tensor_read(t, out + n, clf_tensor_bytes(t)));
        n += clf_tensor_elements(t);
    }
    return n;
}

static inline float *values(void) {
    float *v = malloc(MAX_VALUES * sizeof *v);
    assert_non_null(v);
    return v;
}

/* B of a new adapter is zero, and so would be half of the gradients: some steps first. */
static inline void warm_up(const setting *s, int steps) {
    for (int i = 0; i < steps; i++) {
        const text t = make_text(100 + (uint32_t)i);
        const clf_batch b = whole(&t);
        assert_ok(s->ctx, clf_trainer_accumulate(s->trainer, &b, t.targets, NULL));
        assert_ok(s->ctx, clf_trainer_update(s->trainer, 1e-2F, NULL));
    }
}

/* A way to keep what the backward pass needs. */
typedef struct way {
    int checkpointing;
    bool offload;
} way;

/* Loss and gradients have the bits of the first way in all of them. */
static inline void same_bits_in(const char *device, const char *path, clf_trainer_args args, const way *ways,
                                size_t n_ways) {
    float *want = values(), *got = values();
    const text t = make_text(1);
    const clf_batch b = whole(&t);
    double loss = 0, again;
    for (size_t w = 0; w < n_ways; w++) {
        args.checkpointing = ways[w].checkpointing;
        args.offload_checkpoints = ways[w].offload;
        setting s = open_setting(device, path, args);
        warm_up(&s, 2);
        assert_ok(s.ctx, clf_trainer_accumulate(s.trainer, &b, t.targets, w ? &again : &loss));
        const int64_t n = collect(&s, true, w ? got : want);
        if (w) {
            assert_true(again == loss);
            assert_memory_equal(got, want, (size_t)n * sizeof *got);
        }
        close_setting(&s);
    }
    free(want);
    free(got);
}

#endif
