/* linear_cross_entropy.h: what the two forms of clf_linear_cross_entropy() share. */
#ifndef CLF_CPU_LINEAR_CROSS_ENTROPY_H
#define CLF_CPU_LINEAR_CROSS_ENTROPY_H

#include "cpu.h"

enum { CROSS_ENTROPY_SHARE = 21 /* scratch is at most a 21st of the logits */ };

/* dz of a row = scale · exp(z − lse) − spread − hit at the label, times the softcap's slope */
typedef struct row_gradient {
    double scale, spread, hit;
} row_gradient;

/* Row `row` is known: its loss and lse are written. */
static inline row_gradient end_row(const clf_linear_cross_entropy_args *a, int64_t row, double lse, double label_z,
                                   double mean_z) {
    const double smoothing = (double)a->label_smoothing, z_loss = (double)a->z_loss;
    const double weight = a->row_weights ? (double)((const float *)clf_data(a->row_weights))[row] : 1;
    const double g = (double)a->d_loss * weight;
    const double loss = lse - (1 - smoothing) * label_z - smoothing * mean_z + z_loss * lse * lse;
    ((float *)clf_data(a->loss))[row] = (float)loss;
    if (a->lse) ((float *)clf_data(a->lse))[row] = (float)lse;
    return (row_gradient){g * (1 + 2 * z_loss * lse), g * smoothing / (double)a->weight->shape[0], g * (1 - smoothing)};
}

/* Of the rows that have a label, `n` after the first `skip`. */
static inline void list_rows(const clf_linear_cross_entropy_args *a, int64_t skip, int64_t n, int64_t *rows) {
    const int32_t *labels = clf_data(a->labels);
    for (int64_t i = 0; n > 0; i++) {
        if (labels[i] == CLF_LABEL_NONE || skip-- > 0) continue;
        *rows++ = i;
        n--;
    }
}

/* Each computes rows that have a label, of which there are `n` > 0: frozen all, full all but the first `skip`, stored
 * the first `done`, none if what it takes is not there. */
#define linear_cross_entropy_full   CPU_FN(linear_cross_entropy_full)
#define linear_cross_entropy_frozen CPU_FN(linear_cross_entropy_frozen)
#define linear_cross_entropy_stored CPU_FN(linear_cross_entropy_stored)
clf_status linear_cross_entropy_full(clf_context *ctx, const clf_linear_cross_entropy_args *args, int64_t skip,
                                     int64_t n);
clf_status linear_cross_entropy_frozen(clf_context *ctx, const clf_linear_cross_entropy_args *args, int64_t n);
clf_status linear_cross_entropy_stored(clf_context *ctx, const clf_linear_cross_entropy_args *args, int64_t n,
                                       int64_t *done);

#endif
