/* simple_attention.c: one call of attention, forward and backward, on any device; what came out is checked against the
 * formula, and the time and the memory are shown beside those of the formula. Shows the op part of the API: a context,
 * tensors, ops, statistics. */
#include <argp.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <clformer/clformer.h>

enum { QUERY, KEY, VALUE, D_OUT, OUT, LSE, D_QUERY, D_KEY, D_VALUE, TENSORS };

typedef struct settings {
    const char *device;
    int64_t heads, kv_heads, length, dim;
} settings;

/* Numbers in −1 … 1, the same each time. */
static void fill(float *x, size_t n, uint32_t seed) {
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525 + 1013904223;
        x[i] = (float)(int32_t)seed / 2147483648.0f;
    }
}

static double now(void) {
    struct timespec t;
    timespec_get(&t, TIME_UTC);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Row `i` of head `h` as the formula says: softmax(q·kᵀ / √d, causal) · v, in double. */
static void formula(const settings *s, const float *q, const float *k, const float *v, int64_t h, int64_t i,
                    double *out) {
    const int64_t kv = h / (s->heads / s->kv_heads);
    double sum = 0;
    for (int64_t d = 0; d < s->dim; d++) out[d] = 0;
    for (int64_t j = 0; j <= i; j++) {
        double score = 0;
        for (int64_t d = 0; d < s->dim; d++)
            score += (double)q[(h * s->length + i) * s->dim + d] * (double)k[(kv * s->length + j) * s->dim + d];
        const double p = exp(score / sqrt((double)s->dim));
        sum += p;
        for (int64_t d = 0; d < s->dim; d++) out[d] += p * (double)v[(kv * s->length + j) * s->dim + d];
    }
    for (int64_t d = 0; d < s->dim; d++) out[d] /= sum;
}

/* Largest difference from the formula over some rows, the first and the last among them. */
static double largest_error(const settings *s, float *const host[], const float *out) {
    double *row = malloc((size_t)s->dim * sizeof *row), worst = 0;
    if (!row) return HUGE_VAL;
    for (int64_t h = 0; h < s->heads; h++)
        for (int n = 0; n < 4; n++) {
            const int64_t i = (s->length - 1) * n / 3;
            formula(s, host[QUERY], host[KEY], host[VALUE], h, i, row);
            for (int64_t d = 0; d < s->dim; d++)
                worst = fmax(worst, fabs((double)out[(h * s->length + i) * s->dim + d] - row[d]));
        }
    free(row);
    return worst;
}

/* Makes the tensors and fills the inputs; host[] keeps their numbers. */
static clf_status make(clf_context *ctx, const settings *s, clf_tensor **t, float **host) {
    for (int i = 0; i < TENSORS; i++) {
        const bool of_keys = i == KEY || i == VALUE || i == D_KEY || i == D_VALUE;
        const clf_tensor_args args = {.ndim = i == LSE ? 3 : 4,
                                      .shape = {1, of_keys ? s->kv_heads : s->heads, s->length, i == LSE ? 0 : s->dim}};
        clf_status st = clf_tensor_create(&t[i], ctx, &args);
        if (st != CLF_OK) return st;
        if (i > D_OUT) continue;
        const size_t bytes = clf_tensor_bytes(t[i]);
        if (!(host[i] = malloc(bytes))) return CLF_OUT_OF_MEMORY;
        fill(host[i], bytes / sizeof(float), (uint32_t)i + 1);
        if ((st = clf_tensor_write(t[i], host[i], bytes)) != CLF_OK) return st;
    }
    return CLF_OK;
}

static clf_status run(clf_context *ctx, const settings *s, clf_tensor **t, float **host) {
    clf_status st = make(ctx, s, t, host);
    if (st != CLF_OK) return st;
    const clf_attention_args forward = {
        .query = t[QUERY], .key = t[KEY], .value = t[VALUE], .causal = true, .lse = t[LSE], .out = t[OUT]};
    double seconds[2] = {0};
    for (int warm = 0; warm < 2; warm++) { /* the first calls also build kernels and start threads */
        double start = now();
        if ((st = clf_attention(ctx, &forward)) != CLF_OK || (st = clf_sync(ctx)) != CLF_OK) return st;
        seconds[0] = now() - start;
        start = now();
        st = clf_attention_backward(ctx, &(clf_attention_backward_args){.forward = forward,
                                                                        .d_out = t[D_OUT],
                                                                        .d_query = t[D_QUERY],
                                                                        .d_key = t[D_KEY],
                                                                        .d_value = t[D_VALUE]});
        if (st != CLF_OK || (st = clf_sync(ctx)) != CLF_OK) return st;
        seconds[1] = now() - start;
    }
    const size_t bytes = clf_tensor_bytes(t[OUT]);
    float *out = malloc(bytes);
    if (!out) return CLF_OUT_OF_MEMORY;
    st = clf_tensor_read(t[OUT], out, bytes);
    if (st == CLF_OK) {
        const double products = (double)s->heads * (double)s->length * (double)s->length * (double)s->dim;
        printf("%d heads over %d, %d positions of %d, causal, f32, on %s\n", (int)s->heads, (int)s->kv_heads,
               (int)s->length, (int)s->dim, clf_context_device(ctx));
        printf("  forward   %8.3f ms  %7.1f GFLOP/s\n", 1e3 * seconds[0], 2 * products / seconds[0] / 1e9);
        printf("  backward  %8.3f ms  %7.1f GFLOP/s\n", 1e3 * seconds[1], 5 * products / seconds[1] / 1e9);
        printf("  largest difference from the formula: %.1e\n", largest_error(s, host, out));
    }
    free(out);
    return st;
}

static void print_memory(clf_context *ctx, const settings *s) {
    clf_memory_stats stats;
    clf_attention_bytes bytes;
    char taken[32], naive[32];
    const clf_attention_memory_args shape = {.batch = 1,
                                             .heads = s->heads,
                                             .kv_heads = s->kv_heads,
                                             .queries = s->length,
                                             .keys = s->length,
                                             .head_dim = s->dim};
    if (clf_memory_get_stats(ctx, &stats) != CLF_OK || clf_attention_memory(&bytes, &shape) != CLF_OK) return;
    printf("  scratch   %s; storing scores and probabilities would take %s\n",
           clf_format_bytes(taken, sizeof taken, stats.tag_peak[CLF_TAG_SCRATCH]),
           clf_format_bytes(naive, sizeof naive, bytes.naive_scratch));
}

static const struct argp_option options[] = {
    {"device", 'd', "NAME", 0, "as clformer-info lists them", 0}, {"heads", 'n', "N", 0, "query heads (8)", 0},
    {"kv-heads", 'k', "N", 0, "key and value heads (2)", 0},      {"length", 'l', "N", 0, "positions (1024)", 0},
    {"dim", 'w', "N", 0, "width of a head, at most 256 (64)", 0}, {0}};

static error_t parse(int key, char *arg, struct argp_state *state) {
    settings *s = state->input;
    int64_t *const field = key == 'n' ? &s->heads : key == 'k' ? &s->kv_heads : key == 'l' ? &s->length : &s->dim;
    char *end;
    switch (key) {
    case 'd': s->device = arg; return 0;
    case 'n':
    case 'k':
    case 'l':
    case 'w':
        *field = strtol(arg, &end, 10);
        if (*end || end == arg || *field < 1 || *field > 1 << 20)
            argp_error(state, "expected 1 to 1048576, got %s", arg);
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

int main(int argc, char **argv) {
    settings s = {.heads = 8, .kv_heads = 2, .length = 1024, .dim = 64};
    const struct argp argp = {.options = options,
                              .parser = parse,
                              .doc = "Runs attention forward and backward once, and checks it against the formula."};
    argp_parse(&argp, argc, argv, 0, NULL, &s);
    char error[512];
    clf_context *ctx;
    if (clf_context_create(&ctx, &(clf_context_args){.device = s.device, .error = error, .error_size = sizeof error})) {
        fprintf(stderr, "clformer-simple_attention: %s\n", error);
        return EXIT_FAILURE;
    }
    clf_tensor *t[TENSORS] = {0};
    float *host[TENSORS] = {0};
    const clf_status st = run(ctx, &s, t, host);
    if (st == CLF_OK)
        print_memory(ctx, &s);
    else
        fprintf(stderr, "clformer-simple_attention: %s: %s\n", clf_status_string(st), clf_error_message(ctx));
    for (int i = 0; i < TENSORS; i++) {
        clf_tensor_destroy(t[i]);
        free(host[i]);
    }
    clf_context_destroy(ctx);
    return st == CLF_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}
