/* simple_quantize.c: a model becomes a smaller one, and a text tells what that cost. Shows the quantising part of the
 * API: one call that reports each tensor, and one that judges a model beside another. clformer-quantize is the tool. */
#include <argp.h>
#include <stdio.h>
#include <stdlib.h>

#include <clformer/clformer.h>

#include "shared/text_ids.h"

static clf_context *ctx;

/* Ends the program with the message if a call failed. */
static void need(clf_status status, const char *message) {
    if (status == CLF_OK) return;
    fprintf(stderr, "%s: %s\n", clf_status_string(status), message);
    exit(1);
}

/* clf_quantize_args.tensor: called as each is written; false would stop it. */
static bool show_tensor(void *user, const clf_quantized_tensor *t) {
    int *changed = user;
    *changed += t->to != t->from;
    printf("%3d of %d  %-26s %-5s -> %-5s  error %.4f%s\n", t->index + 1, t->count, t->name, clf_dtype_name(t->from),
           clf_dtype_name(t->to), t->relative_error, t->fell_back ? ", rows aren't whole blocks" : "");
    return true;
}

static void quantize(const char *input, const char *output, const char *type) {
    clf_quantize_result result;
    int changed = 0;
    const clf_quantize_args args = {
        .input = input, .output = output, .type = type, .tensor = show_tensor, .user = &changed};
    need(clf_quantize(ctx, &args, &result), clf_error_message(ctx));
    char before[32], after[32];
    printf("\nsize              %s -> %s, %.2f bits a weight, %d tensors changed\n",
           clf_format_bytes(before, sizeof before, result.source_bytes),
           clf_format_bytes(after, sizeof after, result.bytes), 8 * (double)result.bytes / (double)result.parameters,
           changed);
}

static clf_model *load(const char *path) {
    clf_model *model;
    const clf_model_args args = {.path = path, .mmap = true, .contexts = &ctx, .n_contexts = 1};
    need(clf_model_load(&model, &args), clf_error_message(ctx));
    return model;
}

/* Perplexity of both, and how far the smaller one's predictions are from the other's. */
static void evaluate(const char *input, const char *output, const char *text) {
    clf_model *base = load(input), *model = load(output);
    const char *why = "";
    size_t n = 0;
    int32_t *ids = text_ids(clf_model_tokenizer(model), text, &n, &why); /* clf_tokenize() of a file */
    need(ids ? CLF_OK : CLF_INVALID_ARGUMENT, why);
    clf_evaluation e;
    const clf_evaluate_args args = {.model = model, .base = base, .ids = ids, .n = (int64_t)n, .context = 256};
    need(clf_evaluate(&e, &args), clf_error_message(ctx));
    printf("nats a token      %.4f -> %.4f, a difference of %+.4f ± %.4f\n", e.base_nll.mean, e.nll.mean,
           e.nll_difference.mean, e.nll_difference.error);
    printf("perplexity        %.3f ± %.3f after %lld tokens\n", e.perplexity, e.perplexity_error, (long long)e.tokens);
    printf("KL divergence     %.5f ± %.5f, the same likeliest token in %.1f %%\n", e.kl.mean, e.kl.error,
           100 * e.same_top.mean);
    free(ids);
    clf_model_destroy(model);
    clf_model_destroy(base);
}

static const char *words[4];

static error_t parse(int key, char *text, struct argp_state *state) {
    if (key == ARGP_KEY_ARG && state->arg_num < sizeof words / sizeof *words)
        words[state->arg_num] = text;
    else if (key == ARGP_KEY_END && state->arg_num < 3)
        argp_error(state, "expected a model, the name of the GGUF to write, and a text to judge by");
    else if (key != ARGP_KEY_END)
        return ARGP_ERR_UNKNOWN;
    return 0;
}

int main(int argc, char **argv) {
    static const struct argp argp = {
        NULL, parse, "MODEL OUT.gguf TEXT [TYPE]", "Makes a model smaller: q4_k_m, or TYPE.", NULL, NULL, NULL};
    argp_parse(&argp, argc, argv, 0, NULL, NULL);
    char message[512] = "";
    const clf_context_args args = {.device = "cpu", .error = message, .error_size = sizeof message};
    need(clf_context_create(&ctx, &args), message);
    quantize(words[0], words[1], words[3] ? words[3] : "q4_k_m");
    evaluate(words[0], words[1], words[2]);
    clf_context_destroy(ctx);
    return 0;
}
