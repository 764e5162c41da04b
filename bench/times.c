/* times.c: the clock, and medians. */
#include <stdlib.h>
#include <time.h>

#include "bench.h"

double bench_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

bool bench_times_add(bench_times *t, double seconds) {
    if (t->n == t->capacity) {
        const int capacity = t->capacity ? 2 * t->capacity : 64;
        double *grown = realloc(t->seconds, (size_t)capacity * sizeof *grown);
        if (!grown) return false;
        t->seconds = grown;
        t->capacity = capacity;
    }
    t->seconds[t->n++] = seconds;
    return true;
}

static int compare(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_median(bench_times *t) {
    if (!t->n) return 0;
    qsort(t->seconds, (size_t)t->n, sizeof *t->seconds, compare);
    return (t->seconds[(t->n - 1) / 2] + t->seconds[t->n / 2]) / 2;
}

void bench_times_free(bench_times *t) {
    free(t->seconds);
    *t = (bench_times){0};
}
