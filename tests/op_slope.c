/* op_slope.c: a reference's gradients against finite differences of the loss that its case tells. All elements of an
 * input move together, each up or down by chance: the slope along such a diagonal is the sum of the gradients, each
 * with its sign. Differences are Richardson's, of fourth order. The run is of dtype F64: nothing in it is rounded. */
#include "op_case.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 200000 }; /* elements of a run that is checked */

static bool all_finite(const op_run *run) {
    int64_t n = 0;
    for (int k = 0; k < run->n_tensors; k++) {
        const op_tensor *t = &run->t[k];
        n += op_elements(t);
        for (int64_t i = 0; i < op_elements(t) && !t->output; i++)
            if (!isfinite(t->value[i])) return false;
    }
    return n <= MOST;
}

static double slope(op_run *run, const op_case *c, op_tensor *x, const signed char *sign, const double *at) {
    const int64_t n = op_elements(x);
    const double h = 1e-5 / sqrt(1 + (double)n / 100);
    double difference[2];
    for (int k = 0; k < 2; k++) {
        double loss[2];
        for (int side = 0; side < 2; side++) {
            for (int64_t i = 0; i < n; i++) x->value[i] = at[i] + (side ? -h : h) * (k + 1) * sign[i];
            loss[side] = c->loss(run);
        }
        difference[k] = (loss[0] - loss[1]) / (2 * h * (k + 1));
    }
    memcpy(x->value, at, (size_t)n * sizeof *at);
    return (4 * difference[0] - difference[1]) / 3;
}

static int check(op_run *run, const op_case *c, op_tensor *x, const op_tensor *d) {
    const int64_t n = op_elements(x);
    const op_tensor *before = d->alias >= 0 && !strncmp(run->t[d->alias].name, "before", 6) ? &run->t[d->alias] : NULL;
    double *at = malloc(((size_t)n + 1) * sizeof *at), along = 0, square = 0;
    signed char *sign = malloc((size_t)n + 1);
    bool ok = at && sign;
    if (ok) {
        memcpy(at, x->value, (size_t)n * sizeof *at);
        for (int64_t i = 0; i < n; i++) {
            const double g = d->value[i] - (before ? before->value[i] : 0);
            sign[i] = op_random(run) < 0.5 ? -1 : 1;
            along += sign[i] * g;
            square += g * g;
        }
        const double expected = slope(run, c, x, sign, at);
        const double scale = fmax(sqrt(square), sqrt((double)n) * d->magnitude) + 1e-3;
        ok = fabs(expected - along) <= 1e-6 * scale;
        if (!ok)
            printf("FAIL test-%s, reference, variant %d (%s): %s: expected a slope of %.9g, got %.9g (scale %.3g)\n",
                   c->name, run->variant, run->text, d->name, expected, along, scale);
    }
    free(at);
    free(sign);
    return !ok;
}

int op_check_slopes(const op_case *c, int variant, uint64_t seed, int *passed) {
    op_run run;
    int failures = 0;
    if (op_begin(&run, c, variant, CLF_F64, true, seed) && all_finite(&run)) {
        c->reference_backward(&run);
        for (int i = 0; i < run.n_tensors; i++) {
            const op_tensor *d = &run.t[i];
            op_tensor *x = d->output && !strncmp(d->name, "d_", 2) ? op_find(&run, d->name + 2) : NULL;
            if (!x || x->output) continue;
            const int wrong = check(&run, c, x, d);
            failures += wrong;
            *passed += !wrong;
        }
    }
    op_end(&run);
    return failures;
}
