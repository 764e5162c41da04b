/* nf4.c: values to NF4. */
#include "nf4.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../core/dtype.h"

enum { MAP = 256, NESTED = 256 };

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

/* Rounds the magnitudes to what their 8-bit codes stand for. */
static void nest(float *magnitude, int64_t n) {
    float map[MAP];
    double sum = 0;
    make_map(map);
    for (int64_t i = 0; i < n; i++) sum += (double)magnitude[i];
    const float mean = (float)(sum / (double)n);
    for (int64_t begin = 0; begin < n; begin += NESTED) {
        const int64_t end = n - begin < NESTED ? n : begin + NESTED;
        float largest = 0;
        for (int64_t i = begin; i < end; i++) largest = fmaxf(largest, fabsf(magnitude[i] - mean));
        for (int64_t i = begin; i < end; i++)
            magnitude[i] = (largest > 0 ? map[nearest(map, MAP, (magnitude[i] - mean) / largest)] * largest : 0) + mean;
    }
}

/* Codes of one block: how many midpoints between neighbours lie below. */
static void encode(uint8_t *codes, const float *x, float largest) {
    const float inverse = largest > 0 ? 1 / largest : 0;
    uint8_t q[CLF_NF4_VALUES] = {0};
    for (int m = 0; m < 15; m++) {
        const float middle = (clf_nf4_values[m] + clf_nf4_values[m + 1]) / 2;
        for (int j = 0; j < CLF_NF4_VALUES; j++) q[j] = (uint8_t)(q[j] + (x[j] * inverse > middle));
    }
    for (int s = 0; s < 2; s++)
        for (int j = 0; j < 16; j++) codes[16 * s + j] = (uint8_t)(q[32 * s + j] | q[32 * s + j + 16] << 4);
}

clf_status clf_nf4_quantize(void *out, const float *x, int64_t n, clf_error *err) {
    const int64_t blocks = n / CLF_NF4_VALUES;
    float *magnitude = malloc((size_t)(blocks ? blocks : 1) * sizeof *magnitude);
    CLF_CHECK(err, magnitude, CLF_OUT_OF_MEMORY, "nf4: out of host memory");
    uint8_t *to = out;
    for (int64_t b = 0; b < blocks; b++) {
        const float *from = x + b * CLF_NF4_VALUES;
        float largest = 0;
        for (int j = 0; j < CLF_NF4_VALUES; j++) {
            if (!isfinite(from[j])) {
                const int64_t at = b * CLF_NF4_VALUES + j;
                free(magnitude);
                return clf_fail(err, CLF_NOT_FINITE, "nf4: value %lld is %g", (long long)at, (double)from[j]);
            }
            largest = fmaxf(largest, fabsf(from[j]));
        }
        magnitude[b] = largest;
        encode(to + b * CLF_NF4_BYTES + sizeof(float), from, largest);
    }
    if (blocks) nest(magnitude, blocks);
    for (int64_t b = 0; b < blocks; b++) memcpy(to + b * CLF_NF4_BYTES, &magnitude[b], sizeof *magnitude);
    free(magnitude);
    return CLF_OK;
}
