/* golden.h: reads safetensors files for tests, with jansson and nothing of the library's. All of a file is read and
 * checked at once; failures are printed on stderr. */
#ifndef CLF_TESTS_GOLDEN_H
#define CLF_TESTS_GOLDEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { GOLDEN_MAX_DIMS = 8 };

typedef struct golden_tensor {
    const char *name;
    const char *dtype; /* as the file spells it: "F32", "F64", "I32", "I64" … */
    int ndim;
    int64_t shape[GOLDEN_MAX_DIMS];
    int64_t elements; /* product of the shape */
    const void *data; /* little-endian, not necessarily aligned */
    size_t bytes;
} golden_tensor;

typedef struct golden_file golden_file;

/* NULL, after saying why, if the file can't be read or isn't safetensors. */
golden_file *golden_open(const char *path);
void golden_close(golden_file *file); /* NULL is accepted */

int golden_count(const golden_file *file);
const golden_tensor *golden_at(const golden_file *file, int index);          /* in the order of the header */
const golden_tensor *golden_find(const golden_file *file, const char *name); /* NULL if there is none */

/* Element `i` of an F32, F64, I32, I64 or BOOL tensor. */
double golden_value(const golden_tensor *t, int64_t i);
/* All elements, to be freed; NULL, after saying why, for other dtypes or without memory. */
double *golden_doubles(const golden_tensor *t);
float *golden_floats(const golden_tensor *t);
int32_t *golden_ints(const golden_tensor *t);

/* √(Σ(got−want)²/Σwant²); 0 where both are zero or the same infinity, ∞ if one is NaN or only one is infinite. */
double golden_error(const float *got, const double *want, int64_t n);

#endif
