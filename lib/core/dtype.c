/* dtype.c: what base.h says about dtypes, from CLF_DTYPES; and how sizes are written for people. */
#include "dtype.h"

#include <stdio.h>
#include <strings.h>

typedef struct dtype_row {
    const char *name;
    int gguf, values;
    size_t bytes;
} dtype_row;

static const dtype_row table[CLF_DTYPE_COUNT] = {
#define DTYPE_ROW(name, text, gguf, values, bytes) {text, gguf, values, bytes},
    CLF_DTYPES(DTYPE_ROW)};

const float clf_nf4_values[16] = {-1.0F,
                                  -0.6961928009986877F,
                                  -0.5250730514526367F,
                                  -0.39491748809814453F,
                                  -0.28444138169288635F,
                                  -0.18477343022823334F,
                                  -0.09105003625154495F,
                                  0.0F,
                                  0.07958029955625534F,
                                  0.16093020141124725F,
                                  0.24611230194568634F,
                                  0.33791524171829224F,
                                  0.44070982933044434F,
                                  0.5626170039176941F,
                                  0.7229568362236023F,
                                  1.0F};

static bool known(clf_dtype dtype) {
    return (unsigned)dtype < CLF_DTYPE_COUNT;
}

const char *clf_dtype_name(clf_dtype dtype) {
    return known(dtype) ? table[dtype].name : "?";
}
int clf_dtype_block_values(clf_dtype dtype) {
    return known(dtype) ? table[dtype].values : 0;
}
size_t clf_dtype_block_bytes(clf_dtype dtype) {
    return known(dtype) ? table[dtype].bytes : 0;
}

clf_status clf_dtype_from_name(clf_dtype *out, const char *name) {
    for (int i = 0; out && name && i < CLF_DTYPE_COUNT; i++)
        if (!strcasecmp(table[i].name, name)) return *out = (clf_dtype)i, CLF_OK;
    return CLF_NOT_FOUND;
}

bool clf_dtype_from_gguf(uint32_t type, clf_dtype *out) {
    for (int i = 0; i < CLF_DTYPE_COUNT; i++)
        if (table[i].gguf >= 0 && (uint32_t)table[i].gguf == type) return *out = (clf_dtype)i, true;
    return false;
}

int clf_dtype_to_gguf(clf_dtype dtype) {
    return known(dtype) ? table[dtype].gguf : -1;
}

char *clf_format_bytes(char *text, size_t size, uint64_t bytes) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    int unit = 0;
    double value = (double)bytes;
    while (value >= 1023.995 && unit < 6) value /= 1024, unit++;
    if (text && size) snprintf(text, size, unit ? "%.2f %s" : "%.0f %s", value, units[unit]);
    return text;
}
