/* encode_search.h: blocks whose scales are searched for. */
#ifndef CLF_CPU_ENCODE_SEARCH_H
#define CLF_CPU_ENCODE_SEARCH_H

#include "cpu.h"

#define cpu_encode_search CLF_PASTE(clf_cpu_encode_search, _, CLF_ISA)

/* As cpu_encode_row(), of finite values: Q4_0, Q4_1, Q5_0, Q5_1, the K-quants, IQ4_NL, IQ4_XS. */
int64_t cpu_encode_search(clf_dtype dtype, const float *x, int64_t n, const float *importance, void *out);

#endif
