/* decode.h: rows of any dtype as floats: what embedding, convert and linear share. */
#ifndef CLF_CPU_DECODE_H
#define CLF_CPU_DECODE_H

#include "cpu.h"

#define cpu_decode_row CLF_PASTE(clf_cpu_decode_row, _, CLF_ISA)

/* out[0 … n − 1] from n elements of `dtype`; block dtypes: whole blocks. Each result is rounded once, so that all
 * tables give the same bits. Nothing needs alignment. */
void cpu_decode_row(clf_dtype dtype, const void *from, int64_t n, float *out);

#endif
