/* linear.h: what the files of clf_linear() share. Everything is static: each instruction set has its own. */
#ifndef CLF_CPU_LINEAR_H
#define CLF_CPU_LINEAR_H

#include "codes.h"
#include "cpu.h"
#include "quantize_x.h"

enum { CHUNK = 256 /* k that are decoded at a time: whole blocks of every dtype */ };

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

/* Values [k0, k0 + count) of a row, as floats; k0 a multiple of CHUNK, count ≤ CHUNK, whole blocks. */
INLINE void product_decode(const product *p, int64_t row, int64_t k0, int count, float *out) {
    const char *from = product_row(p, row) + clf_dtype_bytes(p->dtype, k0);
    if (clf_dtype_is_float(p->dtype)) {
        const size_t size = p->dtype == CLF_F32 ? 4 : 2;
        int i = 0;
        for (; i + VL <= count; i += VL) v_store(out + i, v_load_as(from + (size_t)i * size, p->dtype));
        if (i < count) v_store_n(out + i, v_load_as_n(from + (size_t)i * size, count - i, p->dtype), count - i);
        return;
    }
    uint8_t code[CHUNK];
    float scale[CHUNK / 16], min[CHUNK / 32] = {0};
    const code_format f = code_format_of(p->dtype);
    code_row(p->dtype, from, count, code, scale, min);
    for (int i = 0; i < count; i++) {
        const int c = f.offset || p->dtype != CLF_Q8_0 ? code[i] - f.offset : (int8_t)code[i];
        out[i] = scale[i / f.group] * (float)c - min[i / 32];
    }
}

#endif
