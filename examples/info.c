/* clformer-info: which devices there are and why one was chosen, where threads would run, and what a model is and
 * needs. */
#include <argp.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <clformer/clformer.h>

#include "shared/print_log.h"

static const struct argp_option options[] = {
    {"model", 'm', "PATH", 0, "Describe this GGUF file or Hugging Face folder", 0},
    {"ctx", 'c', "N", 0, "Context length for the memory estimate (default: as a session's)", 0},
    {"kv", 'k', "DTYPE", 0, "KV cache dtype: f32, f16, bf16, q8_0, q4_0 (default f16)", 0},
    {"device", 'd', "NAME", 0, "Device for --placement (default cpu)", 0},
    {"threads", 't', "N", 0, "CPU threads", 0},
    {"placement", 'p', 0, 0, "Print where each CPU thread runs", 0},
    {0}};

typedef struct settings {
    const char *model, *device;
    int64_t context_length;
    clf_dtype kv;
    int threads;
    bool placement;
} settings;

static error_t parse(int key, char *text, struct argp_state *state) {
    settings *s = state->input;
    switch (key) {
    case 'm': s->model = text; break;
    case 'd': s->device = text; break;
    case 'p': s->placement = true; break;
    case 'c':
        s->context_length = strtoll(text, NULL, 10);
        if (s->context_length <= 0) argp_error(state, "--ctx: expected a positive number, got '%s'", text);
        break;
    case 't':
        s->threads = atoi(text);
        if (s->threads <= 0) argp_error(state, "--threads: expected a positive number, got '%s'", text);
        break;
    case 'k':
        if (clf_dtype_from_name(&s->kv, text) != CLF_OK)
            argp_error(state, "--kv: expected f32, f16, bf16, q8_0 or q4_0, got '%s'", text);
        break;
    case ARGP_KEY_ARG: argp_error(state, "unexpected argument '%s'", text); break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static int fail(const char *what, const char *message) {
    fprintf(stderr, "clformer-info: %s: %s\n", what, message);
    return EXIT_FAILURE;
}

static void print_bytes(const char *what, uint64_t bytes) {
    char text[32];
    printf("  %-12s %12s\n", what, clf_format_bytes(text, sizeof text, bytes));
}

static int print_devices(void) {
    clf_device_info info[32];
    int n;
    if (clf_devices(info, 32, &n) != CLF_OK) return fail("devices", "cannot be listed");
    printf("clformer %s\n\nDevices (* is what \"auto\" takes):\n", clf_version());
    for (int i = 0; i < n && i < 32; i++) {
        char text[32] = "";
        if (info[i].memory) clf_format_bytes(text, sizeof text, info[i].memory);
        printf("%c %-16s %-9s %s%s%s%s%s\n", info[i].chosen ? '*' : ' ', info[i].name,
               info[i].usable ? "usable" : "absent", info[i].what, info[i].what[0] && text[0] ? ", " : "", text,
               (info[i].what[0] || text[0]) && info[i].reason[0] ? "; " : "", info[i].reason);
    }
    return EXIT_SUCCESS;
}

static int print_placement(const settings *s) {
    char message[512];
    clf_context *ctx;
    const clf_context_args args = {.device = s->device ? s->device : "cpu",
                                   .threads = s->threads,
                                   .log = print_log,
                                   .error = message,
                                   .error_size = sizeof message};
    if (clf_context_create(&ctx, &args) != CLF_OK) return fail("device", message);
    int n;
    clf_context_placement(ctx, NULL, 0, &n);
    clf_thread_place *places = calloc((size_t)n + 1, sizeof *places);
    if (!places) return clf_context_destroy(ctx), fail("placement", "out of memory");
    clf_context_placement(ctx, places, n, &n);
    printf("%s: %s\n", clf_context_device(ctx), clf_context_placement_reason(ctx));
    for (int i = 0; i < n; i++)
        printf("thread %d: cpu %d, core %d, node %d%s\n", i, places[i].cpu, places[i].core, places[i].node,
               places[i].bound ? ", bound" : "");
    free(places);
    clf_context_destroy(ctx);
    return EXIT_SUCCESS;
}

static int print_model(const settings *s) {
    char message[512];
    clf_model_info info;
    clf_model_estimate e;
    const clf_model_estimate_args args = {.path = s->model,
                                          .context_length = s->context_length,
                                          .kv_dtype = s->kv,
                                          .threads = s->threads,
                                          .error = message,
                                          .error_size = sizeof message};
    if (clf_estimate_model(&e, &info, &args) != CLF_OK) return fail("model", message);
    printf("%s%s%s (%s, %s)\n", info.name, info.name[0] ? ": " : "", info.architecture, info.format,
           clf_dtype_name(info.weight_dtype));
    printf("  %" PRId64 " weights, %d layers, width %d, gated unit %d, %d heads of %d over %d, vocabulary %d\n",
           info.parameters, info.n_layers, info.hidden_size, info.ffn_size, info.n_heads, info.head_dim,
           info.n_kv_heads, info.vocab_size);
    printf("  trained for %" PRId64 " positions", info.trained_context);
    if (info.window) printf(", sliding window %" PRId64, info.window);
    printf("\nMemory (%s cache):\n", clf_dtype_name(s->kv));
    print_bytes("weights", e.weights);
    print_bytes("KV cache", e.kv_cache);
    print_bytes("activations", e.activations);
    print_bytes("scratch", e.scratch);
    print_bytes("together", e.weights + e.kv_cache + e.activations + e.scratch);

    const int64_t n = s->context_length ? s->context_length : info.trained_context;
    clf_attention_layer_bytes a;
    const clf_attention_layer_memory_args layer = {.hidden_size = info.hidden_size,
                                                   .n_heads = info.n_heads,
                                                   .n_kv_heads = info.n_kv_heads,
                                                   .head_dim = info.head_dim,
                                                   .tokens = n,
                                                   .context_length = n,
                                                   .weight_dtype = info.weight_dtype,
                                                   .kv_dtype = s->kv,
                                                   .threads = s->threads};
    if (clf_attention_layer_memory(&a, &layer) != CLF_OK) return fail(s->model, "attention cannot be estimated");
    printf("Attention of one layer over %" PRId64 " positions at once, beyond its input and output:\n", n);
    print_bytes("flash", a.kv_cache + a.activations + a.scratch);
    print_bytes("unfused", a.kv_cache + a.activations + a.naive_scratch);
    return EXIT_SUCCESS;
}

int main(int argc, char **argv) {
    settings s = {.kv = CLF_F16};
    argp_program_version = "clformer-info " CLF_VERSION_STRING;
    const struct argp argp = {.options = options,
                              .parser = parse,
                              .doc =
                                  "Shows devices, thread placement and models.\vWithout options it lists the devices."};
    argp_parse(&argp, argc, argv, 0, NULL, &s);
    if (s.model) return print_model(&s);
    return s.placement ? print_placement(&s) : print_devices();
}
