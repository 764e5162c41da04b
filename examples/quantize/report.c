/* report.c: a line for each tensor, then totals and the tensors that suffered most. */
#include "report.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static double weights_of(const clf_quantized_tensor *t) {
    double n = 1;
    for (int i = 0; i < t->ndim; i++) n *= (double)t->shape[i];
    return n;
}

static void print_error(const clf_quantized_tensor *t) {
    if (t->relative_error > 0)
        printf("  error %.5f (%.1f dB), at most %.2e, cosine %.6f", t->relative_error, -20 * log10(t->relative_error),
               t->max_error, t->cosine);
    else
        printf("  exact");
    if (t->fell_back) printf(", rows aren't whole blocks");
    if (t->to == CLF_TQ1_0 || t->to == CLF_TQ2_0 || t->to == CLF_Q2_0)
        printf(", %.1f %% zeros, natively ternary: %s", 100 * t->zeros, t->ternary ? "yes" : "no");
    printf("\n");
}

static void print_tensor(const clf_quantized_tensor *t) {
    char shape[64] = "", types[32];
    for (int i = 0; i < t->ndim; i++) {
        const size_t n = strlen(shape);
        snprintf(shape + n, sizeof shape - n, "%s%" PRId64, i ? " x " : "", t->shape[i]);
    }
    snprintf(types, sizeof types, "%s -> %s", clf_dtype_name(t->from), clf_dtype_name(t->to));
    printf("[%*d/%d] %-26s %14s  %-15s %8.2f MiB %6.3f bits", t->count < 1000 ? 3 : 5, t->index + 1, t->count, t->name,
           shape, types, (double)t->bytes / 1048576, 8 * (double)t->bytes / weights_of(t));
    print_error(t);
    fflush(stdout);
}

/* Enters a tensor among the worst, if it is. */
static void enter(report *r, const clf_quantized_tensor *t) {
    int at = r->n_worst;
    while (at > 0 && r->worst[at - 1].relative_error < t->relative_error) at--;
    if (at == WORST) return;
    if (r->n_worst < WORST) r->n_worst++;
    for (int i = r->n_worst - 1; i > at; i--) {
        r->worst[i] = r->worst[i - 1];
        memcpy(r->names[i], r->names[i - 1], sizeof r->names[i]);
    }
    r->worst[at] = *t;
    snprintf(r->names[at], sizeof r->names[at], "%s", t->name);
}

static bool enter_fallen(report *r, const char *name) {
    if (r->n_fell_back == r->capacity) {
        const int more = r->capacity ? 2 * r->capacity : 16;
        char(*p)[64] = realloc(r->fell_back, (size_t)more * sizeof *p);
        if (!p) return !(r->out_of_memory = true);
        r->fell_back = p;
        r->capacity = more;
    }
    snprintf(r->fell_back[r->n_fell_back++], 64, "%s", name);
    return true;
}

bool report_tensor(void *user, const clf_quantized_tensor *t) {
    report *r = user;
    if (!r->quiet) print_tensor(t);
    if (t->relative_error > 0) enter(r, t);
    return !t->fell_back || enter_fallen(r, t->name);
}

void report_totals(const report *r, const clf_quantize_result *result, double seconds) {
    char before[32], after[32];
    printf("\n%s -> %s, %.3f bits per weight, of %.1f million weights",
           clf_format_bytes(before, 32, result->source_bytes), clf_format_bytes(after, 32, result->bytes),
           8 * (double)result->bytes / (double)result->parameters, (double)result->parameters / 1e6);
    printf("\n%.1f s, %.2f GB/s of the source", seconds, (double)result->source_bytes / seconds / 1e9);
    if (result->relative_error > 0)
        printf("\nrelative error of all that was quantised: %.5f (%.1f dB)", result->relative_error,
               -20 * log10(result->relative_error));
    if (r->n_worst) printf("\nworst:");
    for (int i = 0; i < r->n_worst; i++)
        printf("\n  %-26s %-8s %.5f (%.1f dB)", r->names[i], clf_dtype_name(r->worst[i].to), r->worst[i].relative_error,
               -20 * log10(r->worst[i].relative_error));
    if (r->n_fell_back) printf("\nin f16, for their rows aren't whole blocks:");
    for (int i = 0; i < r->n_fell_back; i++) printf("\n  %s", r->fell_back[i]);
    printf("\n");
}

void report_end(report *r) {
    free(r->fell_back);
}
