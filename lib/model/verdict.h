/* verdict.h: what logits say of the token that came next:
 *
 *     nll = log Σ exp(l) − l[token]
 *     kl  = Σ p_base·log(p_base / p) = Σ exp(b)(b − l) / Σ exp(b) + log Σ exp(l) − log Σ exp(b)
 *
 * In double; sums of exp are taken after subtracting the largest logit. */
#ifndef CLF_MODEL_VERDICT_H
#define CLF_MODEL_VERDICT_H

#include <stdbool.h>
#include <stdint.h>

typedef struct clf_verdict {
    double nll;      /* not finite if a logit isn't, unless it is -inf */
    double base_nll; /* with `base`; the rest too */
    double kl;
    double dp;     /* p − p_base of the token */
    bool same_top; /* both find the same id likeliest, the first of equal ones */
} clf_verdict;

/* Logits are [vocab]; base may be NULL. */
clf_verdict clf_verdict_of(const float *logits, const float *base, int64_t vocab, int32_t token);

#endif
