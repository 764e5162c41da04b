/* attention_golden.c: clf_attention() against the double-precision results of PyTorch. A case of cases.json names its
 * features; its file holds q, k, v in float32, o and lse in float64, and alibi_slopes, mask, k_lengths, sinks where
 * they are used. */
#include "attention_golden.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <clformer/clformer.h>

#include "golden.h"

#define TOLERANCE 2e-6

enum { MAX_DEVICES = 32, MAX_INPUTS = 7 };

typedef struct totals {
    int passed, failed, skipped;
} totals;

/* The tensor called `name` on the device, or NULL where the file has none. */
static clf_status upload(clf_tensor **out, clf_context *ctx, const golden_file *file, const char *name) {
    const golden_tensor *g = golden_find(file, name);
    *out = NULL;
    if (!g) return CLF_OK;
    clf_tensor_args args = {.dtype = strcmp(g->dtype, "I32") ? CLF_F32 : CLF_I32, .ndim = g->ndim};
    for (int i = 0; i < g->ndim && i < CLF_MAX_DIMS; i++) args.shape[i] = g->shape[i];
    const clf_status st = clf_tensor_create(out, ctx, &args);
    return st == CLF_OK ? clf_tensor_write(*out, g->data, g->bytes) : st;
}

/* Reads `t` and compares it with the file's `name`. */
static clf_status compare(const clf_tensor *t, const golden_file *file, const char *name, double *error) {
    const golden_tensor *g = golden_find(file, name);
    const size_t bytes = clf_tensor_bytes(t);
    float *got = malloc(bytes + 1);
    double *want = g ? golden_doubles(g) : NULL;
    clf_status st = got && want ? CLF_OK : CLF_NOT_FOUND;
    if (st == CLF_OK) st = g->elements == clf_tensor_elements(t) ? clf_tensor_read(t, got, bytes) : CLF_BAD_FILE;
    if (st == CLF_OK) *error = golden_error(got, want, g->elements);
    free(got);
    free(want);
    return st;
}

/* Calls the op on the file's inputs; the errors of o and lse. */
static clf_status run(clf_context *ctx, const golden_file *file, const json_t *features, double error[2]) {
    static const char *const names[MAX_INPUTS] = {"q", "k", "v", "alibi_slopes", "mask", "k_lengths", "sinks"};
    clf_tensor *in[MAX_INPUTS] = {0}, *out = NULL, *lse = NULL;
    clf_status st = CLF_OK;
    for (int i = 0; i < MAX_INPUTS && st == CLF_OK; i++) st = upload(&in[i], ctx, file, names[i]);
    if (st == CLF_OK && in[0] && in[2]) {
        clf_tensor_args shape = {.ndim = 4};
        for (int i = 0; i < 3; i++) shape.shape[i] = clf_tensor_size(in[0], i);
        shape.shape[3] = clf_tensor_size(in[2], 3);
        st = clf_tensor_create(&out, ctx, &shape);
        shape.ndim = 3;
        if (st == CLF_OK) st = clf_tensor_create(&lse, ctx, &shape);
    }
    if (st == CLF_OK)
        st = clf_attention(
            ctx, &(clf_attention_args){.query = in[0],
                                       .key = in[1],
                                       .value = in[2],
                                       .alibi_slopes = in[3],
                                       .mask = in[4],
                                       .key_lengths = in[5],
                                       .sinks = in[6],
                                       .scale = (float)json_number_value(json_object_get(features, "scale")),
                                       .softcap = (float)json_number_value(json_object_get(features, "softcap")),
                                       .window = json_integer_value(json_object_get(features, "window")),
                                       .causal = json_is_true(json_object_get(features, "causal")),
                                       .lse = lse,
                                       .out = out});
    if (st == CLF_OK) st = compare(out, file, "o", &error[0]);
    if (st == CLF_OK) st = compare(lse, file, "lse", &error[1]);
    for (int i = 0; i < MAX_INPUTS; i++) clf_tensor_destroy(in[i]);
    clf_tensor_destroy(out);
    clf_tensor_destroy(lse);
    return st;
}

static void run_device(const char *device, const char *dir, json_t *cases, totals *sum) {
    clf_context *ctx;
    char message[512];
    if (clf_context_create(
            &ctx, &(clf_context_args){.device = device, .error = message, .error_size = sizeof message}) != CLF_OK) {
        printf("%-16s cannot be opened: %s\n", device, message);
        sum->failed++;
        return;
    }
    const char *name;
    json_t *features;
    json_object_foreach(cases, name, features) {
        char path[4096];
        double error[2] = {0};
        snprintf(path, sizeof path, "%s/%s.safetensors", dir, name);
        golden_file *file = golden_open(path);
        const clf_status st = file ? run(ctx, file, features, error) : CLF_NOT_FOUND;
        const bool good = st == CLF_OK && error[0] <= TOLERANCE && error[1] <= TOLERANCE;
        if (st == CLF_UNSUPPORTED) {
            printf("%-16s %-22s skipped: %s\n", device, name, clf_error_message(ctx));
            sum->skipped++;
        } else if (st != CLF_OK) {
            printf("%-16s %-22s FAILED: %s: %s\n", device, name, clf_status_string(st), clf_error_message(ctx));
            sum->failed++;
        } else {
            printf("%-16s %-22s o %.2e  lse %.2e%s\n", device, name, error[0], error[1], good ? "" : "  FAILED");
            sum->passed += good;
            sum->failed += !good;
        }
        golden_close(file);
    }
    clf_context_destroy(ctx);
}

int attention_golden(int argc, char **argv) {
    const char *dir = NULL, *devices[MAX_DEVICES];
    clf_device_info infos[MAX_DEVICES];
    int n = 0, found = 0;
    for (int i = 1; i < argc; i++) {
        const bool device = !strcmp(argv[i], "--device");
        if ((!device && strcmp(argv[i], "--golden")) || i + 1 == argc || n == MAX_DEVICES) {
            fprintf(stderr, "usage: %s --golden DIR [--device D]...\n", argv[0]);
            return 2;
        }
        if (device)
            devices[n++] = argv[++i];
        else
            dir = argv[++i];
    }
    if (!n && clf_devices(infos, MAX_DEVICES, &found) == CLF_OK)
        for (int i = 0; i < found && i < MAX_DEVICES; i++)
            if (infos[i].usable) devices[n++] = infos[i].name;

    char path[4096];
    snprintf(path, sizeof path, "%s/cases.json", dir);
    json_error_t why;
    json_t *cases = json_load_file(path, 0, &why);
    if (!json_is_object(cases) || !json_object_size(cases)) {
        fprintf(stderr, "%s: %s\n", path, cases ? "no cases" : why.text);
        json_decref(cases);
        return 2;
    }
    totals sum = {0};
    for (int i = 0; i < n; i++) run_device(devices[i], dir, cases, &sum);
    json_decref(cases);
    printf("%d passed, %d failed, %d skipped\n", sum.passed, sum.failed, sum.skipped);
    return sum.failed ? 1 : sum.passed ? 0 : 77;
}
