/* nf4.c: values to NF4. */
#include "nf4.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../core/dtype.h"

enum { MAP = CLF_NF4_MAP, NESTED = CLF_NF4_NESTED };

static int ascending(const void *a, const void *b) {
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* The signed dynamic map, rising: ± 10^(i − 6) · the middles of 2^i equal parts of [0.1, 1], for i = 0 … 6; 0 and 1
 * (training of 8-bit optimizers, arXiv:2110.02861). */
static void make_map(float map[MAP]) {
    int n = 0;
    for (int i = 0; i < 7; i++)
        for (int j = 0; j < 1 << i; j++) {
            const float low = (float)(0.1 + 0.9 * j / (1 << i)), high = (float)(0.1 + 0.9 * (j + 1) / (1 << i));
            const float value = (float)(pow(10, i - 6) * (((double)low + (double)high) / 2));
            map[n++] = value;
            map[n++] = -value;
        }
    map[n++] = 0;
    map[n++] = 1;
    qsort(map, MAP, sizeof *map, ascending);
}

/* Index of the nearest of `count` rising values; of two as near, the lower one. */
static int nearest(const float *values, int count, float x) {
    int low = 0, high = count - 1;
    while (high - low > 1) {
        const int middle = (low + high) / 2;
        if (values[middle] <= x)
            low = middle;
        else
            high = middle;
    }
    return x - values[low] <= values[high] - x ? low : high;
}

static float mean_of(const float *x, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)x[i];
    return (float)(sum / (double)n);
}

/* Codes of up to NESTED magnitudes, less their mean; returns what they are relative to. */
static float nest_group(uint8_t *code, const float *map, float mean, const float *magnitude, int64_t n) {
    float largest = 0;
    for (int64_t i = 0; i < n; i++) largest = fmaxf(largest, fabsf(magnitude[i] - mean));
    for (int64_t i = 0; i < n; i++)
        code[i] = (uint8_t)nearest(map, MAP, largest > 0 ? (magnitude[i] - mean) / largest : 0);
    return largest;
}

void clf_nf4_nest(uint8_t *code, float *nested, float *offset, float map[MAP], const float *magnitude, int64_t n) {
    make_map(map);
    *offset = mean_of(magnitude, n);
    for (int64_t begin = 0; begin < n; begin += NESTED)
        *nested++ = nest_group(code + begin, map, *offset, magnitude + begin, n - begin < NESTED ? n - begin : NESTED);
}

/* Rounds the magnitudes to what their 8-bit codes stand for. */
static void nest(float *magnitude, int64_t n) {
    float map[MAP];
    const float mean = mean_of(magnitude, n);
    make_map(map);
    for (int64_t begin = 0; begin < n; begin += NESTED) {
        uint8_t code[NESTED];
        const int64_t count = n - begin < NESTED ? n - begin : NESTED;
        const float largest = nest_group(code, map, mean, magnitude + begin, count);
        for (int64_t i = 0; i < count; i++) {
            const float product = map[code[i]] * largest;
            magnitude[begin + i] = product + mean;
        }
    }
}

static float largest_of(const float *x) {
    float largest = 0;
    for (int j = 0; j < CLF_NF4_VALUES; j++) largest = fmaxf(largest, fabsf(x[j]));
    return largest;
}

/* Codes of one block: how many midpoints between neighbours lie below. */
static void encode(uint8_t q[CLF_NF4_VALUES], const float *x, float largest) {
    const float inverse = largest > 0 ? 1 / largest : 0;
    memset(q, 0, CLF_NF4_VALUES);
    for (int m = 0; m < 15; m++) {
        const float middle = (clf_nf4_values[m] + clf_nf4_values[m + 1]) / 2;
        for (int j = 0; j < CLF_NF4_VALUES; j++) q[j] = (uint8_t)(q[j] + (x[j] * inverse > middle));
    }
}

void clf_nf4_codes(uint8_t *codes, float *magnitude, const float *x, int64_t n) {
    for (int64_t b = 0; b < n / CLF_NF4_VALUES; b++, x += CLF_NF4_VALUES) {
        uint8_t q[CLF_NF4_VALUES];
        encode(q, x, magnitude[b] = largest_of(x));
        for (int j = 0; j < CLF_NF4_VALUES; j += 2) *codes++ = (uint8_t)(q[j] << 4 | q[j + 1]);
    }
}

clf_status clf_nf4_quantize(void *out, const float *x, int64_t n, clf_error *err) {
    const int64_t blocks = n / CLF_NF4_VALUES;
    float *magnitude = malloc((size_t)(blocks ? blocks : 1) * sizeof *magnitude);
    CLF_CHECK(err, magnitude, CLF_OUT_OF_MEMORY, "nf4: out of host memory");
    uint8_t *to = out;
    for (int64_t b = 0; b < blocks; b++) {
        const float *from = x + b * CLF_NF4_VALUES;
        for (int j = 0; j < CLF_NF4_VALUES; j++) {
            if (isfinite(from[j])) continue;
            const int64_t at = b * CLF_NF4_VALUES + j;
            free(magnitude);
            return clf_fail(err, CLF_NOT_FINITE, "nf4: value %lld is %g", (long long)at, (double)from[j]);
        }
        uint8_t q[CLF_NF4_VALUES], *codes = to + b * CLF_NF4_BYTES + sizeof(float);
        encode(q, from, magnitude[b] = largest_of(from));
        for (int j = 0; j < 32; j++) codes[j] = (uint8_t)(q[j / 16 * 32 + j % 16] | q[j / 16 * 32 + j % 16 + 16] << 4);
    }
    if (blocks) nest(magnitude, blocks);
    for (int64_t b = 0; b < blocks; b++) memcpy(to + b * CLF_NF4_BYTES, &magnitude[b], sizeof *magnitude);
    free(magnitude);
    return CLF_OK;
}
