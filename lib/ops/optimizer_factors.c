/* optimizer_factors.c: the factors of a step, for every table. */
#include "optimizer_factors.h"

#include <math.h>

clf_optimizer_factors clf_optimizer_factors_of(const clf_optimizer_step_args *a) {
    const double beta1 = (double)a->beta1, beta2 = (double)a->beta2, rate = (double)a->learning_rate;
    clf_optimizer_factors f = {.gradient_scale = a->gradient_scale,
                               .beta1 = a->beta1,
                               .beta2 = a->beta2,
                               .eps = a->eps,
                               .rest1 = (float)(1 - beta1),
                               .rest2 = (float)(1 - beta2),
                               .decay = (float)(rate * (double)a->weight_decay),
                               .rate = a->learning_rate,
                               .dither = (uint32_t)a->step * CLF_DITHER_STEP};
    if (a->optimizer == CLF_OPTIMIZER_ADAMW) {
        f.rate = (float)(rate / (1 - pow(beta1, (double)a->step)));
        f.root = (float)(1 / sqrt(1 - pow(beta2, (double)a->step)));
    }
    return f;
}
