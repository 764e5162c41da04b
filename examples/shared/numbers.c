/* numbers.c: see numbers.h. */
#include "numbers.h"

#include <errno.h>
#include <stdlib.h>

int64_t whole_number(struct argp_state *state, const char *name, const char *arg, int64_t min, int64_t max) {
    char *end;
    errno = 0;
    const long long value = strtoll(arg, &end, 10);
    if (end == arg || *end || errno || value < min || value > max)
        argp_error(state, "--%s: expected a whole number from %lld to %lld, got '%s'", name, (long long)min,
                   (long long)max, arg);
    return value;
}

double number(struct argp_state *state, const char *name, const char *arg, double min, double max) {
    char *end;
    const double value = strtod(arg, &end);
    if (end == arg || *end || !(value >= min && value <= max))
        argp_error(state, "--%s: expected a number from %g to %g, got '%s'", name, min, max, arg);
    return value;
}
