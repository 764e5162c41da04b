/* quantize.c: makes a model smaller and says what it cost. What a program needs is all here: a CPU context and one
 * call, which reports each tensor as it is written. */
#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <clformer/clformer.h>

#include "quantize/evaluate.h"
#include "quantize/report.h"
#include "shared/print_log.h"

enum { PURE = 1000, FORCE };

static const struct argp_option flags[] = {
    {"type", 't', "TYPE", 0,
     "q8_0, q4_0, q4_k_m, tq2_0, f16 …: a dtype, or a mix of them; t1, t2: ternary matrices repacked", 0},
    {"tensor", 'T', "PATTERN=DTYPE", 0,
     "Another dtype for the matrices whose names match, as in 'blk.*.ffn_down.weight=q6_k'; the first that matches "
     "counts",
     0},
    {"importance", 'i', "FILE", 0, "Importance matrix, of clformer-imatrix or llama-imatrix", 0},
    {"pure", PURE, 0, 0, "All matrices take the type; rows that aren't whole blocks are an error", 0},
    {"force", FORCE, 0, 0, "Ternary types also where they destroy the weights", 0},
    {"eval", 'e', "FILE", 0, "Perplexity on this text, and how far predictions are from INPUT's", 0},
    {"threads", 'j', "N", 0, "CPU threads (default: one per core)", 0},
    {"quiet", 'q', 0, 0, "Print only totals", 0},
    {0}};

typedef struct options {
    const char *path[2]; /* input, output */
    const char *text;    /* to evaluate on; NULL: none */
    int n_paths, threads;
    clf_quantize_args quantize;
    clf_quantize_override *overrides;
    report report;
} options;

/* "PATTERN=DTYPE", which is cut in two. */
static void add_override(options *o, char *text, struct argp_state *state) {
    char *equals = strrchr(text, '=');
    clf_dtype dtype = CLF_F32;
    if (!equals || equals == text || clf_dtype_from_name(&dtype, equals + 1) != CLF_OK) {
        argp_error(state, "--tensor: expected PATTERN=DTYPE, got '%s'", text);
        return;
    }
    *equals = 0;
    clf_quantize_override *p = realloc(o->overrides, ((size_t)o->quantize.n_overrides + 1) * sizeof *p);
    if (!p) {
        argp_failure(state, EXIT_FAILURE, 0, "out of memory");
        return;
    }
    o->overrides = p;
    p[o->quantize.n_overrides++] = (clf_quantize_override){text, dtype};
}

static error_t parse(int key, char *arg, struct argp_state *state) {
    options *o = state->input;
    switch (key) {
    case 't': o->quantize.type = arg; return 0;
    case 'T': add_override(o, arg, state); return 0;
    case 'i': o->quantize.importance = arg; return 0;
    case 'e': o->text = arg; return 0;
    case PURE: o->quantize.pure = true; return 0;
    case FORCE: o->quantize.force = true; return 0;
    case 'q': o->report.quiet = true; return 0;
    case 'j':
        o->threads = atoi(arg);
        if (o->threads <= 0) argp_error(state, "--threads: expected a positive number, got '%s'", arg);
        return 0;
    case ARGP_KEY_ARG:
        if (o->n_paths == 2) argp_error(state, "unexpected '%s'", arg);
        o->path[o->n_paths++] = arg;
        return 0;
    case ARGP_KEY_END:
        if (o->n_paths < 2) argp_usage(state);
        if (!o->quantize.type) argp_error(state, "--type: expected a type, such as q4_k_m");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static int fail(const char *what, const char *why) {
    fprintf(stderr, "clformer-quantize: %s: %s\n", what, why);
    return EXIT_FAILURE;
}

static int run(options *o, clf_context *ctx) {
    struct timespec begin, end;
    clf_quantize_result result;
    clf_quantize_args *args = &o->quantize;
    args->input = o->path[0];
    args->output = o->path[1];
    args->overrides = o->overrides;
    args->tensor = report_tensor;
    args->user = &o->report;
    if (o->text && strcmp(o->text, "-") && access(o->text, R_OK))
        return fail(o->text, strerror(errno)); /* before the work */
    clock_gettime(CLOCK_MONOTONIC, &begin);
    if (clf_quantize(ctx, args, &result) != CLF_OK)
        return fail(o->path[0], o->report.out_of_memory ? "out of memory" : clf_error_message(ctx));
    clock_gettime(CLOCK_MONOTONIC, &end);
    report_totals(&o->report, &result,
                  (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9);
    const char *why;
    return !o->text || evaluate(ctx, o->path[0], o->path[1], o->text, &why) ? EXIT_SUCCESS : fail(o->text, why);
}

int main(int argc, char **argv) {
    const struct argp argp = {flags,
                              parse,
                              "INPUT OUTPUT",
                              "Makes a smaller model and says what it cost.\vINPUT is a GGUF file or a Hugging Face "
                              "folder, OUTPUT is NAME.gguf.",
                              NULL,
                              NULL,
                              NULL};
    options o = {0};
    argp_program_version = "clformer-quantize " CLF_VERSION_STRING;
    argp_parse(&argp, argc, argv, 0, NULL, &o);
    char message[512];
    clf_context *ctx;
    const clf_context_args args = {
        .device = "cpu", .threads = o.threads, .log = print_log, .error = message, .error_size = 512};
    int code;
    if (clf_context_create(&ctx, &args) == CLF_OK) {
        code = run(&o, ctx);
        clf_context_destroy(ctx);
    } else {
        code = fail("cpu", message);
    }
    report_end(&o.report);
    free(o.overrides);
    return code;
}
