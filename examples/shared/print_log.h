/* print_log.h: what the library has to say besides errors, on stderr. */
#ifndef EXAMPLES_PRINT_LOG_H
#define EXAMPLES_PRINT_LOG_H

#include <clformer/context.h>

/* A clf_log_callback. Errors are left out: the program that gets the status prints them. */
void print_log(void *user, clf_log_level level, const char *line);

#endif
