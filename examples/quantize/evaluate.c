/* evaluate.c: both models, one text, clf_evaluate(). */
#include "evaluate.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "../shared/print_evaluation.h"
#include "../shared/text_ids.h"

static bool on_chunk(void *user, const clf_evaluation *e, int64_t chunks) {
    (void)user;
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\rchunk %lld of %lld, perplexity %.4f ", (long long)e->chunks, (long long)chunks,
                e->perplexity);
    if (isatty(STDERR_FILENO) && e->chunks == chunks) fprintf(stderr, "\r%60s\r", "");
    return true;
}

static bool compare(clf_context *ctx, clf_model *base, clf_model *model, const char *text, const char **why) {
    size_t n;
    clf_evaluation e;
    int32_t *ids = text_ids(clf_model_tokenizer(model), text, &n, why);
    if (!ids) return false;
    const clf_evaluate_args args = {
        .model = model, .base = base, .ids = ids, .n = (int64_t)n, .kv_dtype = CLF_F16, .progress = on_chunk};
    const bool ok = clf_evaluate(&e, &args) == CLF_OK;
    free(ids);
    if (ok) {
        printf("\n%s, ", text);
        print_evaluation(&e, true);
    }
    *why = clf_error_message(ctx);
    return ok;
}

bool evaluate(clf_context *ctx, const char *input, const char *output, const char *text, const char **why) {
    clf_model *base = NULL, *model = NULL;
    clf_model_args args = {.path = input, .mmap = true, .contexts = &ctx, .n_contexts = 1};
    bool ok = clf_model_load(&base, &args) == CLF_OK;
    args.path = output;
    ok = ok && clf_model_load(&model, &args) == CLF_OK;
    *why = clf_error_message(ctx);
    ok = ok && compare(ctx, base, model, text, why);
    clf_model_destroy(model);
    clf_model_destroy(base);
    return ok;
}
