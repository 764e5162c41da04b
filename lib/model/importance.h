/* importance.h: what a decoder tells about the inputs of its matrices. */
#ifndef CLF_MODEL_IMPORTANCE_H
#define CLF_MODEL_IMPORTANCE_H

#include <clformer/quantize.h>

#include "model.h"

/* Adds the rows of x, which `first` and those after it with the same input are multiplied by, to its columns' sums of
 * squares. `importance` may be NULL. */
clf_status clf_importance_meet(clf_importance *importance, const clf_layer *layer, clf_weight first,
                               const clf_tensor *x);

#endif
