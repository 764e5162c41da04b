/* attention_reference.h: attention in double, forward and backward, written from the formula. */
#ifndef CLF_TESTS_ATTENTION_REFERENCE_H
#define CLF_TESTS_ATTENTION_REFERENCE_H

#include "op_case.h"

/* The arguments of the forward call, whichever function the run is of. */
static inline clf_attention_args *attention_args(op_run *run) {
    return run->backward ? &run->args.attention_backward.forward : &run->args.attention;
}

/* From the run's inputs, by their names in ops.h: writes "out" and, where declared, "lse". */
void attention_reference(op_run *run);
/* From the inputs, "out", "lse" and "d_out": writes the gradients that are declared, and their magnitudes. */
void attention_reference_backward(op_run *run);

#endif
