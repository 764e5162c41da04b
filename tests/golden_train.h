/* golden_train.h: gradients and whole training runs against PyTorch's. */
#ifndef CLF_TESTS_GOLDEN_TRAIN_H
#define CLF_TESTS_GOLDEN_TRAIN_H

#include <clformer/clformer.h>

#include "golden.h"

/* The largest error among all "grad.NAME" of the file, over input_ids and labels; what fails is printed. Trains `model`
 * as a whole, which therefore is no longer the file's. */
bool golden_gradients(clf_context *ctx, clf_model *model, const golden_file *expect, double *error);
/* The run in `folder` (start, adapter_start, expect.safetensors) on one device: a line, and whether all is close. */
bool golden_train(const char *device, const char *folder);

#endif
