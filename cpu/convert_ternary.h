/* convert_ternary.h: clf_convert() to and from T2 and T1. */
#ifndef CLF_CPU_CONVERT_TERNARY_H
#define CLF_CPU_CONVERT_TERNARY_H

#include "cpu.h"

#define cpu_convert_ternary CLF_PASTE(clf_cpu_convert_ternary, _, CLF_ISA)

/* x or out is T2 or T1; lib/ops/convert.c says what the other may be. */
clf_status cpu_convert_ternary(clf_context *ctx, const clf_tensor *x, const clf_tensor *out);

#endif
