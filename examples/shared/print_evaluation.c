/* print_evaluation.c: an evaluation's figures, each with its standard error. */
#include "print_evaluation.h"

#include <math.h>
#include <stdio.h>

void print_evaluation(const clf_evaluation *e, bool base) {
    printf("%lld tokens judged in %lld chunks\n", (long long)e->tokens, (long long)e->chunks);
    printf("perplexity        %10.4f ± %.4f\n", e->perplexity, e->perplexity_error);
    printf("nll               %10.6f ± %.6f nats a token\n", e->nll.mean, e->nll.error);
    if (!base) return;
    const double base_perplexity = exp(e->base_nll.mean), ratio = exp(e->nll_difference.mean);
    printf("base: perplexity  %10.4f ± %.4f\n", base_perplexity, base_perplexity * e->base_nll.error);
    printf("perplexity ÷ base %10.6f ± %.6f (%+.4f %%)\n", ratio, ratio * e->nll_difference.error, 100 * (ratio - 1));
    printf("nll − base's      %10.6f ± %.6f, token by token\n", e->nll_difference.mean, e->nll_difference.error);
    printf("KL divergence     %10.6f ± %.6f; median %.6f, 99.9 %% %.6f, largest %.6f\n", e->kl.mean, e->kl.error,
           e->kl_median, e->kl_999, e->kl_max);
    printf("same top          %10.3f ± %.3f %%\n", 100 * e->same_top.mean, 100 * e->same_top.error);
    printf("rms Δp            %10.3f %%\n", 100 * e->rms_dp);
}
