/* weight_error.c: errors of weights, summed in floats over a chunk, LANES at a time, and in doubles across chunks. A
 * chunk whose floats overflow is summed again in doubles. */
#include "weight_error.h"

#include <math.h>
#include <omp.h>

enum { LANES = 16, CHUNK = 1024, MAX_THREADS = 64 };

static void add_exactly(clf_weight_error *e, const float *w, const float *got, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        const double x = (double)w[i], y = (double)got[i], d = y - x;
        e->w2 += x * x;
        e->got2 += y * y;
        e->both += x * y;
        e->error2 += d * d;
        e->largest = fmax(e->largest, fabs(d));
    }
}

/* n: a multiple of LANES, at most CHUNK */
static void add_lanes(clf_weight_error *e, const float *w, const float *got, int64_t n) {
    float w2[LANES] = {0}, got2[LANES] = {0}, both[LANES] = {0}, error2[LANES] = {0}, largest[LANES] = {0};
    for (int64_t i = 0; i < n; i += LANES)
        for (int k = 0; k < LANES; k++) {
            const float x = w[i + k], y = got[i + k], d = y - x;
            w2[k] += x * x;
            got2[k] += y * y;
            both[k] += x * y;
            error2[k] += d * d;
            const float size = fabsf(d);
            largest[k] = size > largest[k] ? size : largest[k];
        }
    clf_weight_error sum = {0};
    for (int k = 0; k < LANES; k++) {
        sum.w2 += (double)w2[k];
        sum.got2 += (double)got2[k];
        sum.both += (double)both[k];
        sum.error2 += (double)error2[k];
        sum.largest = fmax(sum.largest, (double)largest[k]);
    }
    if (!isfinite(sum.w2 + sum.got2 + sum.error2)) {
        sum = (clf_weight_error){0};
        add_exactly(&sum, w, got, n);
    }
    clf_weight_error_join(e, &sum);
}

static void count(clf_weight_error *e, const float *w, const float *got, int64_t n) {
    int32_t zeros = 0, far = 0;
    for (int64_t i = 0; i < n; i++) {
        zeros += got[i] == 0;
        far += fabsf(got[i] - w[i]) > 0x1p-10f * fabsf(got[i]);
    }
    e->zeros += zeros;
    e->far += far;
    e->count += n;
}

static void add_share(clf_weight_error *e, const float *w, const float *got, int64_t n) {
    for (int64_t i = 0; i < n; i += CHUNK) {
        const int64_t m = n - i < CHUNK ? n - i : CHUNK, lanes = m / LANES * LANES;
        add_lanes(e, w + i, got + i, lanes);
        add_exactly(e, w + i + lanes, got + i + lanes, m - lanes);
        count(e, w + i, got + i, m);
    }
}

void clf_weight_error_join(clf_weight_error *e, const clf_weight_error *other) {
    e->w2 += other->w2;
    e->got2 += other->got2;
    e->both += other->both;
    e->error2 += other->error2;
    e->largest = fmax(e->largest, other->largest);
    e->zeros += other->zeros;
    e->far += other->far;
    e->count += other->count;
}

bool clf_weight_error_add(clf_weight_error *e, const float *w, const float *got, int64_t n, int threads,
                          int64_t *where) {
    clf_weight_error share[MAX_THREADS] = {{0}}, sum = {0};
    if (threads > MAX_THREADS) threads = MAX_THREADS;
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static, 1)
    for (int t = 0; t < threads; t++) {
        const int64_t begin = n * t / threads, end = n * (t + 1) / threads;
        add_share(&share[t], w + begin, got + begin, end - begin);
    }
    for (int t = 0; t < threads; t++) clf_weight_error_join(&sum, &share[t]);
    if (isfinite(sum.w2 + sum.got2)) return clf_weight_error_join(e, &sum), true;
    for (*where = 0; *where < n && isfinite(w[*where]) && isfinite(got[*where]);) ++*where;
    return false;
}

double clf_weight_error_relative(const clf_weight_error *e) {
    return e->error2 > 0 ? sqrt(e->error2 / e->w2) : 0;
}
double clf_weight_error_cosine(const clf_weight_error *e) {
    const double sizes = sqrt(e->w2) * sqrt(e->got2);
    return sizes > 0 ? e->both / sizes : e->w2 == e->got2;
}
