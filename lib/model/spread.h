/* spread.h: which context each block goes to. */
#ifndef CLF_MODEL_SPREAD_H
#define CLF_MODEL_SPREAD_H

#include <clformer/model.h>

#include "model_file.h"

/* Fills place[n_layers] with indices into args->contexts: in order, as many blocks on each as args->layers and its
 * memory limit allow (weights, keys and values, activations); the last takes the rest. */
clf_status clf_spread(int *place, const clf_model_args *args, const clf_model_file *file, clf_error *err);

#endif
