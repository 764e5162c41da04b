/* numbers.h: numbers of the command line. A bad one ends the program with a message that names the option. */
#ifndef EXAMPLES_NUMBERS_H
#define EXAMPLES_NUMBERS_H

#include <argp.h>
#include <stdint.h>

/* `arg` of --name, from `min` to `max`. */
int64_t whole_number(struct argp_state *state, const char *name, const char *arg, int64_t min, int64_t max);
double number(struct argp_state *state, const char *name, const char *arg, double min, double max);

#endif
