/* linear_case.h: the parts of linear's op_case. */
#ifndef CLF_TESTS_LINEAR_CASE_H
#define CLF_TESTS_LINEAR_CASE_H

#include "op_case.h"

#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

/* linear_rejects.c; the number of failures */
int linear_rejects(clf_context *ctx);

#endif
