/* print_log.c: lines of the log. */
#include "print_log.h"

#include <stdio.h>

void print_log(void *user, clf_log_level level, const char *line) {
    (void)user;
    if (level > CLF_LOG_ERROR) fprintf(stderr, "%s\n", line);
}
