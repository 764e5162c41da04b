/* golden_models.c: whole models against PyTorch. For each model (a folder with expect.safetensors in it, FILE.gguf with
 * FILE.expect.safetensors or expect.safetensors beside it, MODEL+ADAPTER with the adapter's expect.safetensors, or any
 * of them and :EXPECT) and each usable device: logits of every row of input_ids, and, where the file has them, the loss
 * over labels, the greedy tokens after the first 8 of row 0, and for folders the gradients of all parameters. With
 * --train, training runs. */
#include <argp.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <clformer/clformer.h>

#include "golden.h"
#include "golden_train.h"

#define LOGITS_TOLERANCE  5e-6
#define ADAPTED_TOLERANCE 1e-5 /* a random adapter's products are as large as the weights' */
#define F16_TOLERANCE     5e-3 /* activations rounded by each op; with an adapter four times that */
#define BF16_TOLERANCE    4e-2
#define LOSS_TOLERANCE    5e-6
#define GRAD_TOLERANCE    1e-5

enum { MAX_DEVICES = 32 };

typedef struct options {
    const char *devices[MAX_DEVICES];
    int n_devices;
    bool train; /* they are training runs */
    char **models;
    int n_models;
} options;

typedef struct expectation {
    golden_file *file;
    int64_t rows, tokens, vocab;
    int32_t *ids, *labels, *greedy;
    int64_t n_greedy; /* prompt and continuation */
    double *logits;
    double loss;
} expectation;

static void release(expectation *e) {
    free(e->ids);
    free(e->labels);
    free(e->greedy);
    free(e->logits);
    golden_close(e->file);
    *e = (expectation){0};
}

static bool read_expectation(expectation *e, const char *path) {
    e->file = golden_open(path);
    if (!e->file) return false;
    const golden_tensor *ids = golden_find(e->file, "input_ids"), *labels = golden_find(e->file, "labels"),
                        *logits = golden_find(e->file, "logits"), *loss = golden_find(e->file, "loss"),
                        *greedy = golden_find(e->file, "greedy_from_8");
    if (!ids || ids->ndim != 2 || !logits || logits->ndim != 3 || !labels != !loss ||
        (labels && labels->elements != ids->elements)) {
        fprintf(stderr, "%s: expected input_ids and logits; labels and loss; greedy_from_8\n", path);
        return false;
    }
    e->rows = ids->shape[0];
    e->tokens = ids->shape[1];
    e->vocab = logits->shape[2];
    e->ids = golden_ints(ids);
    e->logits = golden_doubles(logits);
    if (labels) {
        e->labels = golden_ints(labels);
        e->loss = golden_value(loss, 0);
    }
    if (greedy) {
        e->greedy = golden_ints(greedy);
        e->n_greedy = greedy->elements;
    }
    return e->ids && e->logits && !labels == !e->labels && !greedy == !e->greedy &&
           logits->elements == ids->elements * e->vocab;
}

/* Mean over targets of log Σ exp(logits) − logits[target]; the label of the next token is a position's target. */
static double loss_of(const expectation *e, const float *logits) {
    double sum = 0;
    int64_t targets = 0;
    for (int64_t r = 0; r < e->rows; r++)
        for (int64_t t = 0; t + 1 < e->tokens; t++) {
            const int32_t target = e->labels[r * e->tokens + t + 1];
            const float *l = logits + (r * e->tokens + t) * e->vocab;
            if (target == -100) continue;
            double max = l[0], total = 0;
            for (int64_t i = 1; i < e->vocab; i++) max = l[i] > max ? l[i] : max;
            for (int64_t i = 0; i < e->vocab; i++) total += exp(l[i] - max);
            sum += max + log(total) - l[target];
            targets++;
        }
    return targets ? sum / (double)targets : 0;
}

static int64_t argmax(const float *x, int64_t n) {
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    return best;
}

/* Logits of every row, each from an empty cache. */
static clf_status eval_rows(clf_session *s, const expectation *e, float *logits) {
    clf_status st = CLF_OK;
    for (int64_t r = 0; st == CLF_OK && r < e->rows; r++) {
        st = clf_session_clear(s);
        if (st == CLF_OK)
            st = clf_session_eval(s, e->ids + r * e->tokens, e->tokens, CLF_LOGITS_ALL,
                                  logits + r * e->tokens * e->vocab);
    }
    return st;
}

/* Error of the logits with activations of 16 bits. */
static clf_status measure_half(clf_model *model, const expectation *e, clf_dtype compute, float *logits,
                               double *error) {
    clf_session *s = NULL;
    clf_status st =
        clf_session_create(&s, &(clf_session_args){.model = model, .context_length = e->tokens, .compute = compute});
    if (st == CLF_OK) st = eval_rows(s, e, logits);
    if (st == CLF_OK) *error = golden_error(logits, e->logits, e->rows * e->tokens * e->vocab);
    clf_session_destroy(s);
    return st;
}

/* The whole check on one device, error[] of F32, F16 and BF16; false, after saying why, if a call fails. */
static bool measure(clf_context *ctx, clf_model *model, const expectation *e, double error[3], double *loss,
                    int64_t *equal) {
    clf_session *s = NULL;
    float *logits = malloc((size_t)(e->rows * e->tokens * e->vocab) * sizeof *logits);
    clf_model_info info;
    clf_status st = logits ? clf_model_get_info(model, &info) : CLF_OUT_OF_MEMORY;
    if (st == CLF_OK && info.vocab_size != e->vocab) {
        printf("vocabulary of %d, expected %lld ", info.vocab_size, (long long)e->vocab);
        free(logits);
        return false;
    }
    const int64_t longest = e->tokens > e->n_greedy ? e->tokens : e->n_greedy;
    if (st == CLF_OK) st = clf_session_create(&s, &(clf_session_args){.model = model, .context_length = longest});
    if (st == CLF_OK) st = eval_rows(s, e, logits);
    if (st == CLF_OK) {
        error[0] = golden_error(logits, e->logits, e->rows * e->tokens * e->vocab);
        if (e->labels) *loss = loss_of(e, logits);
        st = clf_session_clear(s);
    }
    *equal = 0;
    int32_t next = 0;
    for (int64_t i = 8; st == CLF_OK && i < e->n_greedy; i++) {
        st = i == 8 ? clf_session_eval(s, e->greedy, 8, CLF_LOGITS_LAST, logits)
                    : clf_session_eval(s, &next, 1, CLF_LOGITS_LAST, logits);
        next = (int32_t)argmax(logits, e->vocab);
        *equal += next == e->greedy[i];
    }
    if (st == CLF_OK) st = measure_half(model, e, CLF_F16, logits, &error[1]);
    if (st == CLF_OK) st = measure_half(model, e, CLF_BF16, logits, &error[2]);
    if (st != CLF_OK) printf("%s: %s ", clf_status_string(st), clf_error_message(ctx));
    clf_session_destroy(s);
    free(logits);
    return st == CLF_OK;
}

static bool check(const char *device, char *path, const expectation *e) {
    char message[512] = "";
    clf_context *ctx;
    clf_model *model = NULL;
    clf_status st =
        clf_context_create(&ctx, &(clf_context_args){.device = device, .error = message, .error_size = 512});
    printf("%-40s %-18s ", path, device);
    if (st == CLF_OK) {
        char *plus = strchr(path, '+');
        if (plus) *plus = 0;
        st = clf_model_load(
            &model,
            &(clf_model_args){
                .path = path, .adapter = plus ? plus + 1 : NULL, .mmap = true, .contexts = &ctx, .n_contexts = 1});
        if (plus) *plus = '+';
        if (st != CLF_OK) snprintf(message, sizeof message, "%s", clf_error_message(ctx));
    }
    double error[3] = {0}, loss = 0;
    int64_t equal = 0;
    bool ok = st == CLF_OK && measure(ctx, model, e, error, &loss, &equal);
    if (ok) {
        printf("logits %.2e  f16 %.1e  bf16 %.1e  ", error[0], error[1], error[2]);
        const bool adapted = strchr(path, '+');
        ok = error[0] <= (adapted ? ADAPTED_TOLERANCE : LOGITS_TOLERANCE) &&
             error[1] <= (adapted ? 4 : 1) * F16_TOLERANCE && error[2] <= (adapted ? 4 : 1) * BF16_TOLERANCE;
        if (e->labels) {
            printf("loss %.2e  ", fabs(loss - e->loss));
            ok &= fabs(loss - e->loss) <= LOSS_TOLERANCE;
        }
        if (e->greedy) {
            printf("greedy %lld/%lld ", (long long)equal, (long long)e->n_greedy - 8);
            ok &= equal == e->n_greedy - 8;
        }
        const size_t n = strlen(path);
        const bool folder = !strchr(path, '+') && !(n > 5 && !strcmp(path + n - 5, ".gguf")); /* not permuted */
        if (folder && e->labels && golden_find(e->file, "grad.model.norm.weight")) {
            double gradients;
            ok &= golden_gradients(ctx, model, e->file, &gradients) && gradients <= GRAD_TOLERANCE;
            printf("gradients %.2e ", gradients);
        }
    } else if (st != CLF_OK) {
        printf("%s: %s ", clf_status_string(st), message);
    }
    printf(ok ? "\n" : "FAILED\n");
    clf_model_destroy(model);
    clf_context_destroy(ctx);
    return ok;
}

/* Where the expectation of `model` lies; splits MODEL:EXPECT in place. */
static void expectation_path(char *model, char *out, size_t size) {
    char *colon = strrchr(model, ':');
    if (colon) {
        *colon = 0;
        snprintf(out, size, "%s", colon + 1);
        return;
    }
    const char *plus = strchr(model, '+');
    if (plus) model += plus + 1 - model;
    const size_t n = strlen(model);
    if (n <= 5 || strcmp(model + n - 5, ".gguf")) {
        snprintf(out, size, "%s/expect.safetensors", model);
        return;
    }
    snprintf(out, size, "%.*s.expect.safetensors", (int)(n - 5), model);
    if (access(out, R_OK) == 0) return;
    const char *slash = strrchr(model, '/');
    snprintf(out, size, "%.*sexpect.safetensors", slash ? (int)(slash - model + 1) : 0, model);
}

static error_t parse(int key, char *arg, struct argp_state *state) {
    options *o = state->input;
    switch (key) {
    case 'd':
        if (o->n_devices == MAX_DEVICES) argp_error(state, "too many devices");
        o->devices[o->n_devices++] = arg;
        return 0;
    case 't': o->train = true; return 0;
    case ARGP_KEY_ARGS:
        o->models = state->argv + state->next;
        o->n_models = state->argc - state->next;
        return 0;
    case ARGP_KEY_NO_ARGS: argp_usage(state); return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

int main(int argc, char **argv) {
    const struct argp_option flags[] = {{"device", 'd', "D", 0, "this device only; may be repeated", 0},
                                        {"train", 't', NULL, 0, "the arguments are training runs", 0},
                                        {0}};
    const struct argp argp = {
        flags, parse, "MODEL[+ADAPTER][:EXPECT]...", "Compares whole models with PyTorch's results.", NULL, NULL, NULL};
    options o = {0};
    argp_parse(&argp, argc, argv, 0, NULL, &o);
    int passed = 0, failed = 0, skipped = 0;
    static clf_device_info infos[MAX_DEVICES];
    if (!o.n_devices) {
        int n = 0;
        clf_devices(infos, MAX_DEVICES, &n);
        for (int i = 0; i < n && i < MAX_DEVICES; i++) {
            if (infos[i].usable)
                o.devices[o.n_devices++] = infos[i].name;
            else
                printf("%-40s %-18s skipped: %s\n", "all models", infos[i].name, infos[i].reason), skipped++;
        }
    }
    for (int m = 0; o.train && m < o.n_models; m++)
        for (int d = 0; d < o.n_devices; d++) *(golden_train(o.devices[d], o.models[m]) ? &passed : &failed) += 1;
    for (int m = 0; !o.train && m < o.n_models; m++) {
        char path[4096];
        expectation e = {0};
        expectation_path(o.models[m], path, sizeof path);
        const bool readable = read_expectation(&e, path);
        if (!readable) failed++;
        for (int d = 0; readable && d < o.n_devices; d++)
            *(check(o.devices[d], o.models[m], &e) ? &passed : &failed) += 1;
        release(&e);
    }
    printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
    return failed ? 1 : passed ? 0 : 77;
}
