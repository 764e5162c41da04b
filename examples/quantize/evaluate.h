/* evaluate.h: what a quantised model does to a text. */
#ifndef CLFORMER_EXAMPLES_QUANTIZE_EVALUATE_H
#define CLFORMER_EXAMPLES_QUANTIZE_EVALUATE_H

#include <clformer/clformer.h>

/* Prints perplexity of `output` on a text file beside that of `input`, and how their predictions differ. False, with a
 * message at *why, which is valid until the next call on ctx. */
bool evaluate(clf_context *ctx, const char *input, const char *output, const char *text, const char **why);

#endif
