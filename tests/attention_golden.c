/* attention_golden.c: clf_attention() and its gradients against the double-precision results of PyTorch. A case of
 * cases.json names its features; its file holds q, k, v, do in float32, o, lse, dq, dk, dv in float64, and
 * alibi_slopes, mask, k_lengths, sinks where they are used. It is a list of runs like any other: in 16 bits the inputs
 * are rounded and the reference is ours, which is checked against the files first. */
#include "attention_golden.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "attention_case.h"
#include "golden.h"

enum { MAX_ARGUMENTS = 64 };

/* What make() reads: the directory and its cases. */
static const char *dir;
static json_t *cases;

/* As the files and as the op call the tensors. */
static const char *const inputs[][2] = {{"q", "query"},    {"k", "key"},
                                        {"v", "value"},    {"alibi_slopes", "alibi_slopes"},
                                        {"mask", "mask"},  {"k_lengths", "key_lengths"},
                                        {"sinks", "sinks"}};
static const char *const results[][2] = {
    {"o", "out"}, {"lse", "lse"}, {"dq", "d_query"}, {"dk", "d_key"}, {"dv", "d_value"}};
enum { INPUTS = sizeof inputs / sizeof *inputs, RESULTS = sizeof results / sizeof *results };

static golden_file *open_case(int variant, const char **name, json_t **features) {
    char path[4096];
    void *at = json_object_iter(cases);
    for (int i = 0; i < variant; i++) at = json_object_iter_next(cases, at);
    *name = json_object_iter_key(at);
    *features = json_object_iter_value(at);
    snprintf(path, sizeof path, "%s/%s.safetensors", dir, *name);
    golden_file *file = golden_open(path);
    if (!file) exit(2);
    return file;
}

/* Writes a tensor of the file into one of the run, rounded to its dtype. */
static void load(op_tensor *t, const golden_tensor *g) {
    if (g->elements != op_elements(t)) {
        fprintf(stderr, "%s: expected %lld elements, got %lld\n", g->name, (long long)op_elements(t),
                (long long)g->elements);
        exit(2);
    }
    for (int64_t i = 0; i < g->elements; i++) {
        const double x = golden_value(g, i);
        t->value[i] = t->dtype == CLF_I32 || t->output ? x : op_round(x, t->dtype);
    }
}

static void add_input(op_run *run, const golden_file *file, const char *name, const char *as, clf_dtype dtype) {
    const golden_tensor *g = golden_find(file, name);
    if (!g) return;
    load(&run->t[op_input(run, as, strcmp(g->dtype, "I32") ? dtype : CLF_I32, g->ndim, g->shape, 0, 1)], g);
}

static bool make(op_run *run) {
    const char *name;
    json_t *features;
    golden_file *file = open_case(run->variant, &name, &features);
    clf_attention_args *a = attention_args(run);
    a->scale = (float)json_number_value(json_object_get(features, "scale"));
    a->softcap = (float)json_number_value(json_object_get(features, "softcap"));
    a->window = json_integer_value(json_object_get(features, "window"));
    a->causal = json_is_true(json_object_get(features, "causal"));
    for (int i = 0; i < INPUTS; i++) add_input(run, file, inputs[i][0], inputs[i][1], i < 3 ? run->dtype : CLF_F32);
    const int64_t *q = run->t[0].shape, out[] = {q[0], q[1], q[2], run->t[2].shape[3]};
    if (run->backward) {
        add_input(run, file, "o", "out", run->dtype);
        add_input(run, file, "lse", "lse", CLF_F32);
        add_input(run, file, "do", "d_out", run->dtype);
        for (int i = 0; i < 3; i++) op_output(run, results[2 + i][1], run->dtype, 4, run->t[i].shape);
    } else {
        op_output(run, "out", run->dtype, 4, out);
        op_output(run, "lse", CLF_F32, 3, out);
    }
    snprintf(run->text, sizeof run->text, "%s", name);
    golden_close(file);
    return true;
}

/* Outputs' values from the file. */
static void load_outputs(op_run *run) {
    const char *name;
    json_t *features;
    golden_file *file = open_case(run->variant, &name, &features);
    for (int i = 0; i < RESULTS; i++) {
        op_tensor *t = op_find(run, results[i][1]);
        if (t && t->output) load(t, golden_find(file, results[i][0]));
    }
    golden_close(file);
}

static void reference(op_run *run) {
    attention_case.reference(run);
    if (run->dtype == CLF_F32) load_outputs(run);
}

static void reference_backward(op_run *run) {
    attention_case.reference_backward(run);
    if (run->dtype == CLF_F32) load_outputs(run);
}

static double tolerance(const op_run *run, const op_tensor *t) {
    if (t->dtype != CLF_F32) return t->dtype == CLF_F16 ? 4e-4 : 1.5e-3;
    return strncmp(clf_context_backend(run->ctx), "cpu", 3) ? 2e-6 : 1e-6;
}

/* Our own reference against a file: the rms-relative error of the worst result, and what may be: the op takes the scale
 * in float32. */
static double reference_error(op_run *run, double *allowed) {
    const char *name;
    json_t *features;
    golden_file *file = open_case(run->variant, &name, &features);
    const double scale = json_number_value(json_object_get(features, "scale"));
    double worst = 0;
    *allowed = (double)(float)scale == scale ? 1e-12 : 1e-7;
    attention_reference(run);
    if (run->backward) attention_reference_backward(run);
    for (int i = 0; i < RESULTS; i++) {
        const op_tensor *t = op_find(run, results[i][1]);
        double error = 0, norm = 0;
        for (int64_t n = t ? op_elements(t) : 0; n-- > 0;) {
            const double want = golden_value(golden_find(file, results[i][0]), n), got = t->value[n];
            if (isinf(want) && got == want) continue;
            error += (got - want) * (got - want);
            norm += want * want;
        }
        worst = isnan(error) ? INFINITY : fmax(worst, sqrt(error / (norm + 1e-300)));
    }
    golden_close(file);
    return worst;
}

static int check_reference(const op_case *c) {
    int failures = 0;
    for (int variant = 0; variant < c->variants; variant++)
        for (int backward = 0; backward < 2; backward++) {
            op_run run;
            op_begin(&run, c, variant, CLF_F32, backward, 0);
            double allowed;
            const double error = reference_error(&run, &allowed);
            if (!(error <= allowed)) {
                printf("FAIL the reference of %s%s: error %.3g\n", run.text, backward ? ", backward" : "", error);
                failures++;
            }
            op_end(&run);
        }
    return failures;
}

int attention_golden(int argc, char **argv) {
    static op_case c;
    static char verbose[] = "--verbose";
    char path[4096], *rest[MAX_ARGUMENTS + 2];
    int n = 0;
    for (int i = 0; i < argc && n < MAX_ARGUMENTS; i++) {
        if (!strcmp(argv[i], "--golden") && i + 1 < argc)
            dir = argv[++i];
        else
            rest[n++] = argv[i];
    }
    rest[n++] = verbose;
    rest[n] = NULL;
    if (!dir) {
        fprintf(stderr, "usage: %s --golden DIR [--device D]...\n", argv[0]);
        return 2;
    }
    snprintf(path, sizeof path, "%s/cases.json", dir);
    json_error_t why;
    cases = json_load_file(path, 0, &why);
    if (!json_is_object(cases) || !json_object_size(cases)) {
        fprintf(stderr, "%s: %s\n", path, cases ? "no cases" : why.text);
        json_decref(cases);
        return 2;
    }
    c = attention_case;
    c.variants = (int)json_object_size(cases);
    c.make = make;
    c.reference = reference;
    c.reference_backward = reference_backward;
    c.tolerance = tolerance;
    c.rejects = NULL;
    const int failures = check_reference(&c), code = op_main(n, rest, &c);
    json_decref(cases);
    return failures ? 1 : code;
}
