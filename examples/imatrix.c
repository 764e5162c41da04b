/* imatrix.c: how much each column of a model's matrices matters, from a text, for clformer-quantize and llama-quantize.
 * What a program needs is all here: a context, a model, a text's ids, added a chunk at a time, one call that writes. */
#include <argp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <clformer/clformer.h>

#include "default_model/default_model.h"
#include "shared/numbers.h"
#include "shared/print_log.h"
#include "shared/text_ids.h"

enum { THREADS = 256, CHUNKS, DEFAULT_CONTEXT = 512 };

typedef struct options {
    const char *model, *file, *output, *device;
    int64_t context, chunks;
    int threads;
} options;

static int fail(const char *what, const char *why) {
    fprintf(stderr, "clformer-imatrix: %s: %s\n", what, why);
    return EXIT_FAILURE;
}

static int collect(const options *o, clf_context *ctx, clf_importance *importance, const int32_t *ids, int64_t n) {
    const int64_t whole = n / o->context, chunks = o->chunks && o->chunks < whole ? o->chunks : whole;
    const bool shown = isatty(STDERR_FILENO);
    for (int64_t i = 0; i < (chunks ? chunks : 1); i++) { /* a text without a whole chunk is refused */
        if (clf_importance_add(importance, ids + i * o->context, chunks ? o->context : n) != CLF_OK)
            return fail(o->file, clf_error_message(ctx));
        if (shown) fprintf(stderr, "\rchunk %lld of %lld", (long long)i + 1, (long long)chunks);
    }
    if (shown) fprintf(stderr, "\r                              \r");
    if (clf_importance_save(importance, o->output, o->file) != CLF_OK) return fail(o->output, clf_error_message(ctx));
    printf("%s: %lld chunks of %lld tokens\n", o->output, (long long)chunks, (long long)o->context);
    return EXIT_SUCCESS;
}

static int run(const options *o, clf_context *ctx) {
    clf_model_args args = {.path = o->model, .mmap = true, .contexts = &ctx, .n_contexts = 1};
    clf_model *model;
    if (!o->model) {
        args.data = clf_default_model;
        args.data_size = clf_default_model_size();
        if (!args.data_size) return fail("model", "this build has no embedded model; give one with --model");
    }
    if (clf_model_load(&model, &args) != CLF_OK) return fail(o->model ? o->model : "model", clf_error_message(ctx));
    size_t n;
    const char *why;
    clf_importance *importance = NULL;
    int32_t *ids = text_ids(clf_model_tokenizer(model), o->file, &n, &why);
    int code = ids ? EXIT_SUCCESS : fail(o->file, why);
    if (!code && clf_importance_create(&importance, model, o->context) != CLF_OK)
        code = fail("importance", clf_error_message(ctx));
    if (!code) code = collect(o, ctx, importance, ids, (int64_t)n);
    clf_importance_destroy(importance);
    free(ids);
    clf_model_destroy(model);
    return code;
}

static const struct argp_option flags[] = {
    {"model", 'm', "PATH", 0, "GGUF file or Hugging Face folder (default: a small embedded one)", 1},
    {"file", 'f', "FILE", 0, "the text; - is stdin", 1},
    {"output", 'o', "FILE", 0, "where the matrix goes: NAME.gguf", 1},
    {"context", 'c', "N", 0, "tokens of a chunk (default 512)", 1},
    {"chunks", CHUNKS, "N", 0, "most chunks (default: all)", 1},
    {"device", 'd', "D", 0, "auto, cpu, cpu-avx2, opencl, opencl:1 … (clformer-info lists them)", 2},
    {"threads", THREADS, "N", 0, "CPU threads (default: one per core)", 2},
    {0}};

static error_t parse(int key, char *arg, struct argp_state *state) {
    options *o = state->input;
    switch (key) {
    case 'm': o->model = arg; return 0;
    case 'f': o->file = arg; return 0;
    case 'o': o->output = arg; return 0;
    case 'd': o->device = arg; return 0;
    case 'c': o->context = whole_number(state, "context", arg, 1, 1 << 28); return 0;
    case CHUNKS: o->chunks = whole_number(state, "chunks", arg, 1, INT32_MAX); return 0;
    case THREADS: o->threads = (int)whole_number(state, "threads", arg, 0, 4096); return 0;
    case ARGP_KEY_ARG: argp_error(state, "unexpected '%s'; the text goes after --file", arg); return 0;
    case ARGP_KEY_END:
        if (!o->file || !o->output) argp_error(state, "expected --file and --output");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

int main(int argc, char **argv) {
    const struct argp argp = {flags, parse, NULL, "Importance matrix of a model, from a text it is meant for.",
                              NULL,  NULL,  NULL};
    options o = {.context = DEFAULT_CONTEXT};
    argp_program_version = "clformer-imatrix " CLF_VERSION_STRING;
    argp_parse(&argp, argc, argv, 0, NULL, &o);
    char message[512] = "";
    clf_context *ctx;
    const clf_context_args args = {
        .device = o.device, .threads = o.threads, .log = print_log, .error = message, .error_size = sizeof message};
    if (clf_context_create(&ctx, &args) != CLF_OK) return fail("device", message);
    int code = run(&o, ctx);
    if (!code && (fflush(stdout) || ferror(stdout))) code = fail("stdout", "cannot write");
    clf_context_destroy(ctx);
    return code;
}
