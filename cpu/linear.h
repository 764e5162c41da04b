/* linear.h: what the files of clf_linear() share. Everything is static: each instruction set has its own. */
#ifndef CLF_CPU_LINEAR_H
#define CLF_CPU_LINEAR_H

#include "codes.h"
#include "decode.h"
#include "linear_tile.h"
#include "quantize_x.h"

enum {
    DOT_STREAMS = 4, /* far-apart rows of the weights that a thread reads at a time */
    PREFETCH = 384   /* bytes ahead: best of 128 … 1024 on Zen 4, by 10–15 % */
};

/* One product x · wᵀ, w [n, k]. */
typedef struct product {
    const char *data;
    size_t row_bytes;
    clf_dtype dtype;
    int64_t n, k;
    bool codes; /* x is rounded to int8; else everything is float */
} product;

INLINE const char *product_row(const product *p, int64_t row) {
    return p->data + (size_t)row * p->row_bytes;
}

/* Values [k0, k0 + count) of a row, as floats; k0 a multiple of CHUNK, whole blocks. */
INLINE void product_decode(const product *p, int64_t row, int64_t k0, int count, float *out) {
    cpu_decode_row(p->dtype, product_row(p, row) + clf_dtype_bytes(p->dtype, k0), count, out);
}

#endif
