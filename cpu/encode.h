/* encode.h: rows of floats as blocks: the mirror of decode.h. */
#ifndef CLF_CPU_ENCODE_H
#define CLF_CPU_ENCODE_H

#include "cpu.h"

#define cpu_encode_row CLF_PASTE(clf_cpu_encode_row, _, CLF_ISA)

/* Blocks of `dtype` from n floats, whole blocks; `importance` [n] weighs the squares of their errors, NULL: evenly. All
 * tables give the same bytes. Returns n, or the first element that isn't finite, or the first of the first block whose
 * scale a half can't hold: then `out` is of no use. Nothing needs alignment. */
int64_t cpu_encode_row(clf_dtype dtype, const float *x, int64_t n, const float *importance, void *out);

#endif
