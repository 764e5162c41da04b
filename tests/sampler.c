/* sampler.c: each filter by what it must leave, the distribution by chi-square, choices by seed. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <clformer/model.h>

enum { N = 6, DRAWS = 60000 };

static const float base[N] = {1.f, 3.f, 2.f, -1.f, 3.f, 0.f}; /* 1 and 4 are equal */

static clf_sampler *sampler(const clf_sampler_args *args) {
    clf_sampler *s;
    assert_int_equal(clf_sampler_create(&s, args), CLF_OK);
    return s;
}

/* How often each id is drawn, without penalties. */
static void histogram(const clf_sampler_args *args, int *count) {
    clf_sampler *s = sampler(args);
    memset(count, 0, N * sizeof *count);
    for (int i = 0; i < DRAWS; i++) {
        float logits[N];
        int32_t id;
        memcpy(logits, base, sizeof base);
        assert_int_equal(clf_sampler_next(s, logits, N, &id), CLF_OK);
        assert_in_range(id, 0, N - 1);
        count[id]++;
    }
    clf_sampler_destroy(s);
}

/* `count` was drawn with probabilities exp(base / temperature) over the ids in `kept`, a bit each. */
static void assert_drawn(const int *count, unsigned kept, double temperature) {
    double total = 0, chi2 = 0;
    int degrees = -1;
    for (int i = 0; i < N; i++)
        if (kept >> i & 1) total += exp(base[i] / temperature);
    for (int i = 0; i < N; i++) {
        const double expected = (kept >> i & 1) ? DRAWS * exp(base[i] / temperature) / total : 0;
        if (!(kept >> i & 1)) assert_int_equal(count[i], 0);
        if (expected > 0) chi2 += (count[i] - expected) * (count[i] - expected) / expected, degrees++;
    }
    assert_true(chi2 < degrees + 5 * sqrt(2.0 * (degrees > 0 ? degrees : 1))); /* far in the tail */
}

static void draws_follow_the_softmax(void **state) {
    (void)state;
    int count[N];
    const float temperatures[] = {0.5f, 1, 2};
    for (int i = 0; i < 3; i++) {
        histogram(&(clf_sampler_args){.temperature = temperatures[i], .seed = 11 + (uint64_t)i}, count);
        assert_drawn(count, 0x3f, temperatures[i]);
    }
}

static void filters_keep_what_they_should(void **state) {
    (void)state;
    int count[N];
    histogram(&(clf_sampler_args){.temperature = 1, .top_k = 1}, count);
    assert_drawn(count, 1 << 1, 1); /* of equals the first */
    histogram(&(clf_sampler_args){.temperature = 1, .top_k = 3}, count);
    assert_drawn(count, 1 << 1 | 1 << 4 | 1 << 2, 1);
    histogram(&(clf_sampler_args){.temperature = 1, .top_k = 100}, count);
    assert_drawn(count, 0x3f, 1);
    /* softmax(base): 1 and 4 have 0.389 each, 2 0.143, 0 0.053, 5 0.019, 3 0.007 */
    histogram(&(clf_sampler_args){.temperature = 1, .top_p = 0.3f}, count);
    assert_drawn(count, 1 << 1, 1);
    histogram(&(clf_sampler_args){.temperature = 1, .top_p = 0.6f}, count);
    assert_drawn(count, 1 << 1 | 1 << 4, 1);
    histogram(&(clf_sampler_args){.temperature = 1, .top_p = 0.9f}, count);
    assert_drawn(count, 1 << 1 | 1 << 4 | 1 << 2, 1);
    histogram(&(clf_sampler_args){.temperature = 2, .top_p = 0.9f}, count);
    assert_drawn(count, 1 << 1 | 1 << 4 | 1 << 2, 2); /* the temperature comes after */
    histogram(&(clf_sampler_args){.temperature = 1, .min_p = 0.3f}, count);
    assert_drawn(count, 1 << 1 | 1 << 4 | 1 << 2, 1); /* e^-1 = 0.37, e^-2 = 0.14 */
    histogram(&(clf_sampler_args){.temperature = 1, .top_k = 2, .top_p = 0.5f}, count);
    assert_drawn(count, 1 << 1, 1); /* top_p is of what top_k left: 0.5 is reached by the first */
}

static int32_t next(clf_sampler *s, const float *logits, int32_t n) {
    float copy[64];
    int32_t id;
    memcpy(copy, logits, (size_t)n * sizeof *copy);
    assert_int_equal(clf_sampler_next(s, copy, n, &id), CLF_OK);
    return id;
}

static void greedy_takes_the_first_of_equals(void **state) {
    (void)state;
    clf_sampler *s = sampler(NULL);
    for (int i = 0; i < 3; i++) assert_int_equal(next(s, base, N), 1);
    clf_sampler_destroy(s);
}

static void seeds_determine_choices(void **state) {
    (void)state;
    int same = 0;
    clf_sampler *a = sampler(&(clf_sampler_args){.temperature = 1, .seed = 5});
    clf_sampler *b = sampler(&(clf_sampler_args){.temperature = 1, .seed = 5});
    clf_sampler *c = sampler(&(clf_sampler_args){.temperature = 1, .seed = 6});
    for (int i = 0; i < 200; i++) {
        const int32_t id = next(a, base, N);
        assert_int_equal(id, next(b, base, N));
        same += id == next(c, base, N);
    }
    assert_true(same < 150);
    clf_sampler_destroy(a);
    clf_sampler_destroy(b);
    clf_sampler_destroy(c);
}

static void bias_and_penalties(void **state) {
    (void)state;
    const int32_t ids[] = {1, 4};
    const float bias[] = {-INFINITY, -2};
    clf_sampler *s = sampler(&(clf_sampler_args){.bias_ids = ids, .bias = bias, .n_bias = 2});
    assert_int_equal(next(s, base, N), 2);
    clf_sampler_destroy(s);

    s = sampler(&(clf_sampler_args){.repetition_penalty = 2});
    assert_int_equal(next(s, base, N), 1); /* then 1: 1.5 */
    assert_int_equal(next(s, base, N), 4);
    assert_int_equal(next(s, base, N), 2); /* 2 against 1.5, 1.5 */
    clf_sampler_destroy(s);
    const float negative[] = {-1, -1.5f};
    s = sampler(&(clf_sampler_args){.repetition_penalty = 2});
    assert_int_equal(next(s, negative, 2), 0); /* then -2 */
    assert_int_equal(next(s, negative, 2), 1);
    clf_sampler_destroy(s);

    const float close[] = {2, 1.75f};
    s = sampler(&(clf_sampler_args){.presence_penalty = 0.5f});
    assert_int_equal(next(s, close, 2), 0);
    assert_int_equal(next(s, close, 2), 1);
    assert_int_equal(next(s, close, 2), 0); /* both occurred: counted once each, however often */
    assert_int_equal(next(s, close, 2), 0);
    clf_sampler_destroy(s);
    s = sampler(&(clf_sampler_args){.frequency_penalty = 0.5f});
    for (int i = 0; i < 8; i++) assert_int_equal(next(s, close, 2), i & 1); /* taking turns */
    clf_sampler_destroy(s);
    s = sampler(&(clf_sampler_args){.frequency_penalty = 0.5f, .penalty_window = 1});
    clf_sampler_accept(s, 0);
    clf_sampler_accept(s, 0); /* beyond the window of one */
    assert_int_equal(next(s, close, 2), 1);
    assert_int_equal(next(s, close, 2), 0);
    clf_sampler_destroy(s);
}

static void what_is_wrong_is_refused(void **state) {
    (void)state;
    const int32_t ids[] = {7};
    const float bias[] = {1}, wrong[] = {NAN, INFINITY};
    const clf_sampler_args bad[] = {{.top_k = -1},
                                    {.top_p = 1.5f},
                                    {.top_p = NAN},
                                    {.min_p = -0.1f},
                                    {.temperature = -1},
                                    {.temperature = INFINITY},
                                    {.repetition_penalty = -1},
                                    {.presence_penalty = NAN},
                                    {.penalty_window = -1},
                                    {.penalty_window = 1 << 30},
                                    {.n_bias = 1},
                                    {.n_bias = 1, .bias_ids = ids, .bias = wrong},
                                    {.n_bias = 1, .bias_ids = ids, .bias = wrong + 1}};
    clf_sampler *s;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(clf_sampler_create(&s, &bad[i]), CLF_INVALID_ARGUMENT);
        assert_null(s);
    }
    assert_int_equal(clf_sampler_create(NULL, NULL), CLF_INVALID_ARGUMENT);

    int32_t id = -7;
    s = sampler(&(clf_sampler_args){.temperature = 1});
    float nan[] = {1, NAN, 2}, none[] = {-INFINITY, -INFINITY}, infinite[] = {1, INFINITY};
    assert_int_equal(clf_sampler_next(s, nan, 3, &id), CLF_INVALID_ARGUMENT);
    assert_int_equal(clf_sampler_next(s, none, 2, &id), CLF_INVALID_ARGUMENT);
    assert_int_equal(clf_sampler_next(s, nan, 0, &id), CLF_INVALID_ARGUMENT);
    assert_int_equal(id, -7);
    assert_int_equal(clf_sampler_next(s, infinite, 2, &id), CLF_OK);
    assert_int_equal(id, 1);
    clf_sampler_destroy(s);
    s = sampler(&(clf_sampler_args){.n_bias = 1, .bias_ids = ids, .bias = bias});
    assert_int_equal(clf_sampler_next(s, nan, 3, &id), CLF_INVALID_ARGUMENT); /* no such token */
    clf_sampler_destroy(s);
    clf_sampler_destroy(NULL);
    clf_sampler_accept(NULL, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(draws_follow_the_softmax),
        cmocka_unit_test(filters_keep_what_they_should),
        cmocka_unit_test(greedy_takes_the_first_of_equals),
        cmocka_unit_test(seeds_determine_choices),
        cmocka_unit_test(bias_and_penalties),
        cmocka_unit_test(what_is_wrong_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
