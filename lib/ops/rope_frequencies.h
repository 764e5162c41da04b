/* rope_frequencies.h: the frequencies of clf_rope(), shared by the tables.
 *
 * A frequency is kept as a 64-bit fraction of a turn per position. The angle at position p is the fraction of
 * p · turns[i] modulo 2^64: unsigned multiplication wraps exactly where the angle does, so large positions lose
 * nothing. */
#ifndef CLF_OPS_ROPE_FREQUENCIES_H
#define CLF_OPS_ROPE_FREQUENCIES_H

#include <clformer/ops.h>

enum { CLF_ROPE_MAX_DIMS = 1024 };

/* Writes (n_dims or head_dim)/2 frequencies, scaled as `args` (defaults resolved) says, and what sines and cosines are
 * multiplied by. */
void clf_rope_frequencies(const clf_rope_args *args, int64_t head_dim, uint64_t turns[], float *magnitude);

#endif
