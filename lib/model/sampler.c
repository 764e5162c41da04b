/* sampler.c: from logits to a token. The filters of clf_sampler_args apply in their order; what is left is drawn from
 * with weights exp(logit / temperature). Equal logits rank by id, so a seed determines every choice. Random numbers:
 * xoshiro256** seeded by splitmix64 (Blackman and Vigna, prng.di.unimi.it). */
#include <clformer/model.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../core/random.h"

enum { DEFAULT_WINDOW = 64, MAX_WINDOW = 1 << 20 };

typedef struct candidate {
    float logit;
    int32_t id;
} candidate;

struct clf_sampler {
    clf_sampler_args args; /* bias arrays are copies */
    uint64_t random[4];
    int32_t *recent; /* [window], a ring */
    int32_t *sorted; /* [window] */
    int64_t seen;    /* tokens accepted so far */
    candidate *candidates;
    int32_t capacity;
};

static uint64_t rotate_left(uint64_t x, int k) {
    return x << k | x >> (64 - k);
}

/* Uniform in [0, 1). */
static double uniform(uint64_t s[4]) {
    const uint64_t result = rotate_left(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate_left(s[3], 45);
    return (double)(result >> 11) * 0x1p-53;
}

static bool in_range(float value, float low, float high) {
    return value >= low && value <= high; /* false for NaN */
}

static bool check_args(const clf_sampler_args *a) {
    bool ok = in_range(a->repetition_penalty, 0, 1e6f) && in_range(a->presence_penalty, -1e6f, 1e6f) &&
              in_range(a->frequency_penalty, -1e6f, 1e6f) && in_range(a->top_p, 0, 1) && in_range(a->min_p, 0, 1) &&
              in_range(a->temperature, 0, 1e6f) && a->penalty_window >= 0 && a->penalty_window <= MAX_WINDOW &&
              a->top_k >= 0 && (!a->n_bias || (a->bias && a->bias_ids && a->n_bias < SIZE_MAX / 8));
    for (size_t i = 0; ok && i < a->n_bias; i++) ok = a->bias[i] < INFINITY && a->bias_ids[i] >= 0;
    return ok;
}

static void *copy_of(const void *data, size_t bytes) {
    void *copy = malloc(bytes ? bytes : 1);
    if (copy && bytes) memcpy(copy, data, bytes);
    return copy;
}

clf_status clf_sampler_create(clf_sampler **out, const clf_sampler_args *args) {
    static const clf_sampler_args greedy;
    if (!args) args = &greedy;
    if (!out) return CLF_INVALID_ARGUMENT;
    *out = NULL;
    if (!check_args(args)) return CLF_INVALID_ARGUMENT;
    clf_sampler *s = calloc(1, sizeof *s);
    if (!s) return CLF_OUT_OF_MEMORY;
    s->args = *args;
    if (!s->args.repetition_penalty) s->args.repetition_penalty = 1;
    if (!s->args.top_p) s->args.top_p = 1;
    if (!s->args.penalty_window) s->args.penalty_window = DEFAULT_WINDOW;
    const size_t window = (size_t)s->args.penalty_window;
    s->args.bias_ids = copy_of(args->bias_ids, args->n_bias * sizeof *args->bias_ids);
    s->args.bias = copy_of(args->bias, args->n_bias * sizeof *args->bias);
    s->recent = malloc(window * sizeof *s->recent);
    s->sorted = malloc(window * sizeof *s->sorted);
    uint64_t seed = args->seed;
    for (int i = 0; i < 4; i++) s->random[i] = clf_splitmix64(&seed);
    if (!s->args.bias_ids || !s->args.bias || !s->recent || !s->sorted) {
        clf_sampler_destroy(s);
        return CLF_OUT_OF_MEMORY;
    }
    *out = s;
    return CLF_OK;
}

void clf_sampler_destroy(clf_sampler *s) {
    if (!s) return;
    free((void *)(uintptr_t)s->args.bias_ids);
    free((void *)(uintptr_t)s->args.bias);
    free(s->recent);
    free(s->sorted);
    free(s->candidates);
    free(s);
}

void clf_sampler_accept(clf_sampler *s, int32_t id) {
    if (s) s->recent[s->seen++ % s->args.penalty_window] = id;
}

static int by_value(const void *a, const void *b) {
    const int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

static void apply_penalties(clf_sampler *s, float *logits, int32_t n) {
    const clf_sampler_args *a = &s->args;
    if (a->repetition_penalty == 1 && !a->presence_penalty && !a->frequency_penalty) return;
    const int64_t count = s->seen < a->penalty_window ? s->seen : a->penalty_window;
    memcpy(s->sorted, s->recent, (size_t)count * sizeof *s->sorted);
    qsort(s->sorted, (size_t)count, sizeof *s->sorted, by_value);
    for (int64_t i = 0, end; i < count; i = end) {
        const int32_t id = s->sorted[i];
        for (end = i + 1; end < count && s->sorted[end] == id;) end++;
        if (id < 0 || id >= n) continue;
        float *l = &logits[id];
        *l = *l > 0 ? *l / a->repetition_penalty : *l * a->repetition_penalty;
        *l -= a->presence_penalty + a->frequency_penalty * (float)(end - i);
    }
}

static bool ranks_before(candidate a, candidate b) {
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

/* Lets c[i] sink to its place in the heap c[0 … n), the best at the root. */
static void sift_down(candidate *c, int32_t i, int32_t n) {
    const candidate sinking = c[i];
    for (int32_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && ranks_before(c[child + 1], c[child])) child++;
        if (!ranks_before(c[child], sinking)) break;
        c[i] = c[child];
    }
    c[i] = sinking;
}

static double weight(candidate c, float max, float temperature) {
    return exp(((double)c.logit - max) / temperature);
}

static double total_weight(const candidate *c, int32_t n, float max, float temperature) {
    double total = 0;
    for (int32_t i = 0; i < n; i++) total += weight(c[i], max, temperature);
    return total;
}

/* Brings the best candidates to the front, in order, until there are k or they weigh `mass`; returns how many. */
static int32_t take_best(candidate *c, int32_t n, int32_t k, double mass, float max) {
    int32_t taken = 0;
    double sum = 0;
    for (int32_t i = n / 2; i-- > 0;) sift_down(c, i, n);
    while (taken < k && (sum < mass || !taken)) {
        const candidate best = c[0];
        const int32_t rest = n - ++taken;
        c[0] = c[rest];
        sift_down(c, 0, rest);
        c[rest] = best;
        sum += weight(best, max, 1);
    }
    memmove(c, c + n - taken, (size_t)taken * sizeof *c);
    for (int32_t i = 0, j = taken - 1; i < j; i++, j--) {
        const candidate swap = c[i];
        c[i] = c[j];
        c[j] = swap;
    }
    return taken;
}

static int32_t keep_likely(candidate *c, int32_t n, float min_p, float max) {
    int32_t kept = 0;
    for (int32_t i = 0; i < n; i++)
        if (weight(c[i], max, 1) >= min_p) c[kept++] = c[i];
    return kept;
}

static int32_t draw(clf_sampler *s, const float *logits, int32_t n, float max) {
    const clf_sampler_args *a = &s->args;
    candidate *c = s->candidates;
    int32_t m = 0;
    for (int32_t i = 0; i < n; i++)
        if (logits[i] > -INFINITY) c[m++] = (candidate){logits[i], i};
    if (a->top_k && a->top_k < m) m = take_best(c, m, a->top_k, INFINITY, max);
    if (a->top_p < 1) m = take_best(c, m, m, a->top_p * total_weight(c, m, max, 1), max);
    if (a->min_p > 0) m = keep_likely(c, m, a->min_p, max);
    double left = uniform(s->random) * total_weight(c, m, max, a->temperature);
    for (int32_t i = 0; i < m; i++)
        if ((left -= weight(c[i], max, a->temperature)) < 0) return c[i].id;
    return c[m - 1].id; /* rounding */
}

clf_status clf_sampler_next(clf_sampler *s, float *logits, int32_t n, int32_t *id) {
    if (!s || !logits || n < 1 || !id) return CLF_INVALID_ARGUMENT;
    for (size_t i = 0; i < s->args.n_bias; i++)
        if (s->args.bias_ids[i] >= n) return CLF_INVALID_ARGUMENT;
    for (size_t i = 0; i < s->args.n_bias; i++) logits[s->args.bias_ids[i]] += s->args.bias[i];
    apply_penalties(s, logits, n);
    int32_t best = 0;
    bool nan = false;
    for (int32_t i = 0; i < n; i++) {
        nan |= isnan(logits[i]);
        if (logits[i] > logits[best]) best = i;
    }
    const float max = logits[best];
    if (nan || max == -INFINITY) return CLF_INVALID_ARGUMENT;
    *id = best;
    if (s->args.temperature > 0 && max < INFINITY) {
        if (n > s->capacity) {
            candidate *c = realloc(s->candidates, (size_t)n * sizeof *c);
            if (!c) return CLF_OUT_OF_MEMORY;
            s->candidates = c;
            s->capacity = n;
        }
        *id = draw(s, logits, n, max);
    }
    clf_sampler_accept(s, *id);
    return CLF_OK;
}
