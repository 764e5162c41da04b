/* print_evaluation.h: what clf_evaluate() found, as people read it. */
#ifndef EXAMPLES_PRINT_EVALUATION_H
#define EXAMPLES_PRINT_EVALUATION_H

#include <clformer/quantize.h>

/* With `base`, beside another model. */
void print_evaluation(const clf_evaluation *evaluation, bool base);

#endif
