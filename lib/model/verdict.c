/* verdict.c: see verdict.h. */
#include "verdict.h"

#include <math.h>
#include <stddef.h>

static int64_t argmax(const float *x, int64_t n) {
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    return best;
}

/* log Σ exp(x), the largest given. */
static double log_sum(const float *x, int64_t n, double largest) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += exp(x[i] - largest);
    return largest + log(sum);
}

/* log Σ exp(b), and the mean of b − l under the distribution of b. */
static double log_sum_and_gap(const float *base, const float *logits, int64_t n, double largest, double *gap) {
    double sum = 0, weighted = 0;
    for (int64_t i = 0; i < n; i++) {
        const double e = exp(base[i] - largest);
        sum += e;
        if (e > 0) weighted += e * ((double)base[i] - logits[i]); /* 0 · ∞ is no part of it */
    }
    *gap = weighted / sum;
    return largest + log(sum);
}

clf_verdict clf_verdict_of(const float *logits, const float *base, int64_t vocab, int32_t token) {
    const int64_t top = argmax(logits, vocab);
    const double sum = log_sum(logits, vocab, logits[top]);
    clf_verdict v = {.nll = sum - logits[token]};
    if (!base) return v;
    const int64_t base_top = argmax(base, vocab);
    double gap;
    const double base_sum = log_sum_and_gap(base, logits, vocab, base[base_top], &gap);
    v.base_nll = base_sum - base[token];
    v.kl = fmax(gap + (sum - base_sum), 0); /* never below, but for rounding */
    v.dp = exp(-v.nll) - exp(-v.base_nll);
    v.same_top = top == base_top;
    return v;
}
