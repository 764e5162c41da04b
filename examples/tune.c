/* clformer-tune: chooses the tile sizes of the OpenCL attention kernels for a device, by measuring them there. The
 * choice is kept in the cache directory and used from then on. */
#include <argp.h>
#include <stdio.h>
#include <stdlib.h>

#include <clformer/clformer.h>
#include <clformer/opencl.h>

static const struct argp_option options[] = {
    {"device", 'd', "NAME", 0, "Device, opencl or opencl:N (default opencl)", 0},
    {"head-dim", 'w', "N", 0, "Tune for heads this wide only (default: all widths)", 0},
    {"length", 'n', "N", 0, "Queries and keys of the timed calls (default 2048 on a GPU, 256 elsewhere)", 0},
    {"most", 'm', "N", 0, "Tile sizes tried for each kernel and width (default: all)", 0},
    {0}};

typedef struct settings {
    const char *device;
    clf_opencl_tune_args tune;
} settings;

static int number(const char *text, const char *name, int most, struct argp_state *state) {
    char *end;
    const long n = strtol(text, &end, 10);
    if (*end || n < 1 || n > most) argp_error(state, "--%s: expected 1 to %d, got '%s'", name, most, text);
    return (int)n;
}

static error_t parse(int key, char *text, struct argp_state *state) {
    settings *s = state->input;
    switch (key) {
    case 'd': s->device = text; break;
    case 'w': s->tune.head_dim = number(text, "head-dim", 256, state); break;
    case 'n': s->tune.length = number(text, "length", 1 << 16, state); break;
    case 'm': s->tune.most = number(text, "most", 1000, state); break;
    case ARGP_KEY_ARG: argp_error(state, "unexpected argument '%s'", text); break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static void print(void *user, clf_log_level level, const char *line) {
    (void)user;
    FILE *to = level <= CLF_LOG_WARNING ? stderr : stdout;
    fprintf(to, "%s\n", line);
    fflush(to);
}

int main(int argc, char **argv) {
    settings s = {.device = "opencl"};
    argp_parse(&(struct argp){options, parse, NULL, "Chooses attention's tile sizes for an OpenCL device.", 0, 0, 0},
               argc, argv, 0, NULL, &s);
    char message[512];
    clf_context *ctx;
    const clf_context_args args = {
        .device = s.device, .log = print, .log_level = CLF_LOG_INFO, .error = message, .error_size = sizeof message};
    if (clf_context_create(&ctx, &args) != CLF_OK) {
        fprintf(stderr, "clformer-tune: %s\n", message);
        return EXIT_FAILURE;
    }
    printf("%s\n", clf_context_device(ctx));
    const clf_status st = clf_opencl_tune(ctx, &s.tune);
    if (st != CLF_OK) fprintf(stderr, "clformer-tune: %s: %s\n", clf_status_string(st), clf_error_message(ctx));
    clf_context_destroy(ctx);
    return st == CLF_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}
