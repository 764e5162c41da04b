/* merge.c: puts a LoRA adapter into its model's weights, or writes the adapter alone in the other format. What a
 * program needs is all here: a context, a model with an adapter, one call that saves. */
#include <argp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <clformer/clformer.h>

#include "shared/print_log.h"

enum { ALONE = 1000 };

static const struct argp_option flags[] = {
    {"dtype", 't', "DTYPE", 0,
     "f32, f16 or bf16 for all weights, or nf4, in a folder, for those of layers (default: each as the model has it)",
     0},
    {"adapter", ALONE, 0, 0, "Write the adapter alone, in the format that OUTPUT's name says", 0},
    {"base", 'b', "NAME", 0, "With --adapter: what a PEFT folder calls its base model (default: MODEL)", 0},
    {"device", 'd', "NAME", 0, "Where to compute: auto, cpu, opencl … (default cpu)", 0},
    {0}};

typedef struct options {
    const char *dtype, *base, *device, *path[3]; /* model, adapter, output */
    int n_paths;
    bool alone;
} options;

static error_t parse(int key, char *arg, struct argp_state *state) {
    options *o = state->input;
    switch (key) {
    case 't': o->dtype = arg; return 0;
    case 'b': o->base = arg; return 0;
    case 'd': o->device = arg; return 0;
    case ALONE: o->alone = true; return 0;
    case ARGP_KEY_ARG:
        if (o->n_paths == 3) argp_error(state, "unexpected '%s'", arg);
        o->path[o->n_paths++] = arg;
        return 0;
    case ARGP_KEY_END:
        if (o->n_paths < 3) argp_usage(state);
        if (o->alone && o->dtype) argp_error(state, "--dtype: an adapter is written in f32");
        if (!o->alone && o->base) argp_error(state, "--base goes with --adapter");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static int fail(const char *what, const char *why) {
    fprintf(stderr, "clformer-merge: %s: %s\n", what, why);
    return EXIT_FAILURE;
}

static int run(const options *o, clf_context *ctx) {
    clf_model *model;
    const clf_model_args args = {.keep_layout = true,
                                 .path = o->path[0],
                                 .adapter = o->path[1],
                                 .mmap = true,
                                 .contexts = &ctx,
                                 .n_contexts = 1};
    if (clf_model_load(&model, &args) != CLF_OK) return fail(o->path[0], clf_error_message(ctx));
    const clf_status st =
        o->alone ? clf_model_save_adapter(model, &(clf_adapter_save_args){.path = o->path[2],
                                                                          .base_model = o->base ? o->base : o->path[0]})
                 : clf_model_save(model, &(clf_model_save_args){.path = o->path[2], .dtype = o->dtype});
    clf_model_destroy(model);
    return st == CLF_OK ? EXIT_SUCCESS : fail(o->path[2], clf_error_message(ctx));
}

int main(int argc, char **argv) {
    const struct argp argp = {flags,
                              parse,
                              "MODEL ADAPTER OUTPUT",
                              "Merges a LoRA adapter into a model.\vMODEL is a GGUF file or a Hugging Face folder, "
                              "ADAPTER a PEFT folder or a "
                              "GGUF adapter. OUTPUT is a GGUF file if its name ends in .gguf, and otherwise a folder.",
                              NULL,
                              NULL,
                              NULL};
    options o = {.device = "cpu"};
    argp_program_version = "clformer-merge " CLF_VERSION_STRING;
    argp_parse(&argp, argc, argv, 0, NULL, &o);
    char message[512];
    clf_context *ctx;
    const clf_context_args args = {.device = o.device, .log = print_log, .error = message, .error_size = 512};
    if (clf_context_create(&ctx, &args) != CLF_OK) return fail(o.device, message);
    const int code = run(&o, ctx);
    clf_context_destroy(ctx);
    return code;
}
