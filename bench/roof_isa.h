/* roof_isa.h: loops that do nothing but what they measure, once per instruction set; and the softmax that attention
 * without flash needs. */
#ifndef CLF_BENCH_ROOF_ISA_H
#define CLF_BENCH_ROOF_ISA_H

#include <stdbool.h>
#include <stdint.h>

typedef struct roof_isa {
    const char *name;
    bool (*usable)(void);
    /* n floats, a multiple of 1024, 64-byte aligned; the result depends on every value. */
    float (*read)(const float *x, int64_t n);
    void (*copy)(float *out, const float *x, int64_t n);
    void (*copy_stream)(float *out, const float *x, int64_t n);           /* past the caches */
    void (*triad)(float *out, const float *x, const float *y, int64_t n); /* out = x + 3 y */
    void (*triad_stream)(float *out, const float *x, const float *y, int64_t n);
    /* `rounds` times as many operations as *done says for one. */
    float (*fma)(int64_t rounds, double *done);
    int32_t (*int8)(int64_t rounds, double *done);
    /* x[i] = exp(scale · (x[i] − max)) / Σ for the first n, 0 for the rest of `length`. */
    void (*softmax)(float *x, int64_t n, int64_t length, float scale);
} roof_isa;

#endif
