/* cases.h: main() of each tests/OP.c as it is called here; the build includes it before them. */
#ifndef CLF_BENCH_CASES_H
#define CLF_BENCH_CASES_H

#define CLF_OP(op) int bench_case_##op(int argc, char **argv);
#define CLF_OP_BACKWARD(op)
#include "../lib/ops/ops.def"
#undef CLF_OP

#endif
