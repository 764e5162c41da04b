/* team.h: a call on several threads, or on none but the caller's: a team of one, which OpenMP makes anew each time,
 * costs half a microsecond, as much as a small op. */
#ifndef CLF_CPU_TEAM_H
#define CLF_CPU_TEAM_H

#include <omp.h>

/* Runs the statement, a call, on `threads` threads, as the T-th of N. It holds no barrier unless N > 1. */
#define CPU_TEAM(threads, T, N, ...)                                                                                   \
    do {                                                                                                               \
        const int cpu_team_ = (threads);                                                                               \
        if (cpu_team_ == 1) {                                                                                          \
            const int T = 0, N = 1;                                                                                    \
            (void)N;                                                                                                   \
            __VA_ARGS__;                                                                                               \
        } else {                                                                                                       \
            _Pragma("omp parallel num_threads(cpu_team_)") {                                                           \
                const int T = omp_get_thread_num(), N = omp_get_num_threads();                                         \
                (void)N;                                                                                               \
                __VA_ARGS__;                                                                                           \
            }                                                                                                          \
        }                                                                                                              \
    } while (0)

#endif
