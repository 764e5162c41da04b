/* model_case.h: what the tests of models share: contexts, golden models, sessions, closeness. */
#ifndef CLF_TESTS_MODEL_CASE_H
#define CLF_TESTS_MODEL_CASE_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <clformer/clformer.h>

enum { VOCAB = 96 }; /* of the golden models */

static inline clf_context *open_context(const char *device, uint64_t memory_limit) {
    char message[512] = "";
    clf_context *ctx;
    const clf_context_args args = {.device = device,
                                   .threads = 1, /* tiny models: teams would only wait for each other */
                                   .memory_limit = memory_limit,
                                   .error = message,
                                   .error_size = sizeof message};
    if (clf_context_create(&ctx, &args) != CLF_OK) fail_msg("%s: %s", device, message);
    return ctx;
}

#define assert_ok(ctx, expr)                                                                                           \
    do {                                                                                                               \
        const clf_status assert_ok_status = (expr);                                                                    \
        if (assert_ok_status != CLF_OK)                                                                                \
            fail_msg("%s: %s: %s", #expr, clf_status_string(assert_ok_status), clf_error_message(ctx));                \
    } while (0)

static inline clf_model *load_model(clf_context *const *contexts, int n, const char *path) {
    clf_model *model;
    assert_ok(
        contexts[0],
        clf_model_load(&model, &(clf_model_args){.path = path, .mmap = true, .contexts = contexts, .n_contexts = n}));
    return model;
}

static inline clf_session *open_session(clf_context *ctx, const clf_session_args *args) {
    clf_session *s;
    assert_ok(ctx, clf_session_create(&s, args));
    return s;
}

/* n token ids from a seed. */
static inline void make_ids(int32_t *ids, int64_t n, uint32_t seed) {
    for (int64_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        ids[i] = (int32_t)((seed >> 8) % VOCAB);
    }
}

/* √(Σ(a−b)²/Σb²) */
static inline double difference(const float *a, const float *b, int64_t n) {
    double above = 0, below = 0;
    for (int64_t i = 0; i < n; i++) {
        above += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        below += (double)b[i] * b[i];
    }
    return below > 0 ? sqrt(above / below) : sqrt(above);
}

#endif
