/* attention_case.h: the parts of attention's op_case. */
#ifndef CLF_TESTS_ATTENTION_CASE_H
#define CLF_TESTS_ATTENTION_CASE_H

#include "attention_reference.h"
#include "op_case.h"

/* attention_variants.c: shapes × features, named ones first, then random combinations, then those for bench/. */
extern const int attention_variants, attention_bench_variants;
bool attention_make(op_run *run);

/* attention.c: the case itself, for other lists of runs to change make and reference of. */
extern const op_case attention_case;

/* attention_rejects.c */
int attention_rejects(clf_context *ctx);

#endif
