/* weight_error.h: how far written weights are from those they stand for. */
#ifndef CLF_MODEL_WEIGHT_ERROR_H
#define CLF_MODEL_WEIGHT_ERROR_H

#include "../core/status.h"

/* Sums over weights w and what was written, w′. */
typedef struct clf_weight_error {
    double w2;      /* Σ w² */
    double got2;    /* Σ w′² */
    double both;    /* Σ w·w′ */
    double error2;  /* Σ (w′ − w)² */
    double largest; /* of |w′ − w| */
    int64_t zeros;  /* of w′ */
    int64_t far;    /* w that are off by more than 2⁻¹⁰ of w′: more than a 16-bit scale rounds */
    int64_t count;  /* of weights */
} clf_weight_error;

/* Adds n weights, with so many threads; the same sums for the same n and threads. False, and nothing is added, if one
 * of w or got isn't finite: *where is the first such. */
bool clf_weight_error_add(clf_weight_error *e, const float *w, const float *got, int64_t n, int threads,
                          int64_t *where);
void clf_weight_error_join(clf_weight_error *e, const clf_weight_error *other);

/* √(Σ(w′ − w)² / Σw²); infinite where only w is zero */
double clf_weight_error_relative(const clf_weight_error *e);
/* Σw·w′ / (|w|·|w′|); 1 where both are zero */
double clf_weight_error_cosine(const clf_weight_error *e);

#endif
