/* rope_frequencies.c: frequencies of rotary embeddings, in double, once a call.
 *
 *     frequency i = base^(−2i/n) · scaling / freq_factors[i],  i < n/2
 *
 * LINEAR: 1/factor. LLAMA3, by wavelength λ = 2π/frequency: 1/factor where λ > context/low, 1 where λ < context/high,
 * between them s + (1 − s)/factor with s = (context/λ − low)/(high − low). YARN: m + (1 − m)/factor, where m falls from
 * 1 to 0 between the dimensions that turn beta_fast and beta_slow times within the context. */
#include "rope_frequencies.h"

#include <math.h>

static const double pi = 3.14159265358979323846;

static double llama3(const clf_rope_args *a, double frequency) {
    const double turns = (double)a->original_context * frequency / (2 * pi); /* context / λ */
    const double low = (double)a->low_freq_factor, high = (double)a->high_freq_factor, factor = (double)a->factor;
    if (turns < low) return 1 / factor;
    if (turns > high) return 1;
    const double s = (turns - low) / (high - low);
    return s + (1 - s) / factor;
}

/* The dimensions, of n/2, between which YARN's ramp falls. */
static void yarn_ramp(const clf_rope_args *a, double n, double *first, double *width) {
    const double context = (double)a->original_context / (2 * pi), per_turn = n / (2 * log(a->base));
    *first = fmax(floor(per_turn * log(context / (double)a->beta_fast)), 0);
    const double last = fmin(ceil(per_turn * log(context / (double)a->beta_slow)), n - 1);
    *width = last == *first ? 0.001 : last - *first;
}

void clf_rope_frequencies(const clf_rope_args *a, int64_t head_dim, uint64_t turns[], float *magnitude) {
    const int64_t n = a->n_dims ? a->n_dims : head_dim;
    const double factor = (double)a->factor, step = -2 * log(a->base) / (double)n;
    double first = 0, width = 1;
    if (a->scaling == CLF_ROPE_SCALING_YARN) yarn_ramp(a, (double)n, &first, &width);
    for (int64_t i = 0; i < n / 2; i++) {
        double frequency = exp(step * (double)i);
        const double kept = 1 - fmin(fmax(((double)i - first) / width, 0), 1);
        if (a->scaling == CLF_ROPE_SCALING_LINEAR) frequency /= factor;
        if (a->scaling == CLF_ROPE_SCALING_LLAMA3) frequency *= llama3(a, frequency);
        if (a->scaling == CLF_ROPE_SCALING_YARN) frequency *= kept + (1 - kept) / factor;
        if (a->freq_factors) frequency /= (double)a->freq_factors[i];
        const double t = frequency / (2 * pi);
        turns[i] = (uint64_t)ldexp(t - floor(t), 64);
    }
    *magnitude =
        a->scaling == CLF_ROPE_SCALING_YARN || a->scaling == CLF_ROPE_SCALING_LONGROPE ? a->attention_factor : 1;
}
