/* linear_case.h: the parts of linear's op_case. */
#ifndef CLF_TESTS_LINEAR_CASE_H
#define CLF_TESTS_LINEAR_CASE_H

#include "op_case.h"

#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

enum {
    BIAS = 1,
    BIAS_F32 = 2,
    SILU = 4,
    GELU = 8,
    TANH = 16,
    RESIDUAL = 32,
    OVER_RESIDUAL = 64,
    OUT_F32 = 128,
    EXACT = 256,
    THREE = 512, /* query, key, value: key and value have fewer rows, value another dtype */
    TWO = 1024,
    REPEAT = 2048, /* x the same along its first dimension */
    ANY_X = 4096,  /* x isn't made for rounding: only where nothing rounds */
    SCALE = 8192,
    D_X = 16384,        /* backward: d_x alone, x isn't passed */
    D_WEIGHT = 32768,   /* d_weight and d_bias alone, the weights aren't passed */
    FORWARD = 1 << 16,  /* no backward */
    BACKWARD = 1 << 17, /* no forward */
    FULL = 1 << 19,     /* of block-sparse weights: every tile is there */
    EMPTY = 1 << 20,    /* or none */
    EXTREME = 1 << 18   /* the largest sums that codes and int8 activations make */
};

typedef struct linear_variant {
    int ndim;
    int64_t rows[3]; /* leading dimensions of x, ndim − 1 of them */
    int64_t n, k;
    clf_dtype dtype;
    int features;
} linear_variant;

/* linear_variants.c: shapes × features, then those for bench/. */
extern const int linear_variants, linear_bench_variants;
linear_variant linear_variant_of(int i);

/* linear_rejects.c; the number of failures */
int linear_rejects(clf_context *ctx);

#endif
