/* perplexity.c: how well a model predicts a text, and with --base what a smaller or changed model lost. What a program
 * needs is all here: a context, models, a text's ids, one call. The figures go to stdout. */
#include <argp.h>
#include <stdio.h>
#include <stdlib.h>

#include <clformer/clformer.h>
#include <jansson.h>

#include "default_model/default_model.h"
#include "shared/numbers.h"
#include "shared/print_evaluation.h"
#include "shared/print_log.h"
#include "shared/text_ids.h"

enum { THREADS = 256, CHUNKS, KV, JSON, A_LINE = 8 };

typedef struct options {
    const char *model, *base, *file, *device;
    int64_t context, chunks;
    int threads;
    clf_dtype kv;
    bool json;
} options;

typedef struct program {
    options o;
    clf_context *ctx;
    clf_model *model, *base;
    int32_t *ids;
    size_t n;
} program;

static int fail(const char *what, const char *why) {
    fprintf(stderr, "clformer-perplexity: %s: %s\n", what, why);
    return EXIT_FAILURE;
}

static int load(program *p, clf_model **out, const char *path) {
    clf_model_args args = {.path = path, .mmap = true, .contexts = &p->ctx, .n_contexts = 1};
    if (!path) {
        args.data = clf_default_model;
        args.data_size = clf_default_model_size();
        if (!args.data_size) return fail("model", "this build has no embedded model; give one with --model");
    }
    return clf_model_load(out, &args) == CLF_OK ? 0 : fail(path ? path : "model", clf_error_message(p->ctx));
}

/* What is known so far, eight to a line. */
static bool on_chunk(void *user, const clf_evaluation *e, int64_t chunks) {
    const program *p = user;
    if (p->o.json) return true;
    printf("[%lld] %.4f%s", (long long)e->chunks, e->perplexity,
           e->chunks % A_LINE && e->chunks < chunks ? "  " : "\n");
    fflush(stdout);
    return !ferror(stdout);
}

static json_t *estimated(const clf_estimated *e) {
    return json_pack("{s:f, s:f}", "mean", e->mean, "error", e->error);
}

static int print_json(const program *p, const clf_evaluation *e) {
    json_t *root = json_pack("{s:s, s:I, s:I, s:o, s:f, s:f}", "device", clf_context_device(p->ctx), "tokens",
                             (json_int_t)e->tokens, "chunks", (json_int_t)e->chunks, "nll", estimated(&e->nll),
                             "perplexity", e->perplexity, "perplexity_error", e->perplexity_error);
    json_t *base = p->base ? json_pack("{s:o, s:o, s:o, s:f, s:f, s:f, s:o, s:f}", "base_nll", estimated(&e->base_nll),
                                       "nll_difference", estimated(&e->nll_difference), "kl", estimated(&e->kl),
                                       "kl_median", e->kl_median, "kl_999", e->kl_999, "kl_max", e->kl_max, "same_top",
                                       estimated(&e->same_top), "rms_dp", e->rms_dp)
                           : json_object();
    const bool ok = root && base && !json_object_update(root, base);
    if (ok) json_dumpf(root, stdout, JSON_INDENT(2));
    if (ok) putchar('\n');
    json_decref(base);
    json_decref(root);
    return ok ? 0 : fail("json", "out of memory");
}

static int run(program *p) {
    int code = load(p, &p->model, p->o.model);
    if (!code && p->o.base) code = load(p, &p->base, p->o.base);
    if (code) return code;
    const char *why;
    p->ids = text_ids(clf_model_tokenizer(p->model), p->o.file, &p->n, &why);
    if (!p->ids) return fail(p->o.file, why);
    clf_evaluation e;
    const clf_status st = clf_evaluate(&e, &(clf_evaluate_args){.model = p->model,
                                                                .base = p->base,
                                                                .ids = p->ids,
                                                                .n = (int64_t)p->n,
                                                                .context = p->o.context,
                                                                .chunks = p->o.chunks,
                                                                .kv_dtype = p->o.kv,
                                                                .progress = on_chunk,
                                                                .user = p});
    if (st != CLF_OK) return fail(p->o.file, clf_error_message(p->ctx));
    if (p->o.json) return print_json(p, &e);
    print_evaluation(&e, p->base != NULL);
    return 0;
}

static const struct argp_option flags[] = {
    {"model", 'm', "PATH", 0, "GGUF file or Hugging Face folder (default: a small embedded one)", 1},
    {"file", 'f', "FILE", 0, "the text; - is stdin", 1},
    {"base", 'b', "PATH", 0, "compare with this model, of the same vocabulary", 1},
    {"context", 'c', "N", 0, "tokens of a chunk (default 512)", 1},
    {"chunks", CHUNKS, "N", 0, "most chunks (default: all)", 1},
    {"kv-dtype", KV, "DTYPE", 0, "of the cache (default f16)", 1},
    {"json", JSON, NULL, 0, "print one JSON object", 1},
    {"device", 'd', "D", 0, "auto, cpu, cpu-avx2, opencl, opencl:1 … (clformer-info lists them)", 2},
    {"threads", THREADS, "N", 0, "CPU threads (default: one per core)", 2},
    {0}};

static error_t parse(int key, char *arg, struct argp_state *state) {
    options *o = state->input;
    switch (key) {
    case 'm': o->model = arg; return 0;
    case 'f': o->file = arg; return 0;
    case 'b': o->base = arg; return 0;
    case 'd': o->device = arg; return 0;
    case 'c': o->context = whole_number(state, "context", arg, 3, 1 << 28); return 0;
    case CHUNKS: o->chunks = whole_number(state, "chunks", arg, 1, INT32_MAX); return 0;
    case THREADS: o->threads = (int)whole_number(state, "threads", arg, 0, 4096); return 0;
    case JSON: o->json = true; return 0;
    case KV:
        if (clf_dtype_from_name(&o->kv, arg) != CLF_OK) argp_error(state, "--kv-dtype: there is no dtype '%s'", arg);
        return 0;
    case ARGP_KEY_ARG: argp_error(state, "unexpected '%s'; the text goes after --file", arg); return 0;
    case ARGP_KEY_END:
        if (!o->file) argp_error(state, "--file: expected a text");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

int main(int argc, char **argv) {
    const struct argp argp = {
        flags,
        parse,
        NULL,
        "Perplexity of a model on a text.\vThe text is cut into chunks, the second half of each is "
        "judged: figures compare with those of llama.cpp.",
        NULL,
        NULL,
        NULL};
    program p = {.o = {.kv = CLF_F16}};
    argp_program_version = "clformer-perplexity " CLF_VERSION_STRING;
    argp_parse(&argp, argc, argv, 0, NULL, &p.o);
    char message[512] = "";
    const clf_context_args args = {
        .device = p.o.device, .threads = p.o.threads, .log = print_log, .error = message, .error_size = sizeof message};
    if (clf_context_create(&p.ctx, &args) != CLF_OK) return fail("device", message);
    int code = run(&p);
    if (!code && (fflush(stdout) || ferror(stdout))) code = fail("stdout", "cannot write");
    free(p.ids);
    clf_model_destroy(p.base);
    clf_model_destroy(p.model);
    clf_context_destroy(p.ctx);
    return code;
}
