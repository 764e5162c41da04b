/* weight_error.c: clf_weight_error, what quantising reports of each tensor, against sums in doubles. */
#define _GNU_SOURCE
#include "quantize_case.h"

#include "../lib/model/weight_error.h"

/* Against sums in doubles: lengths that don't divide, numbers whose squares are no floats. */
static void test_weight_error(void **state) {
    (void)state;
    enum { N = 5003 };
    static float w[N], got[N];
    for (int scale = 0; scale < 2; scale++)
        for (int threads = 1; threads <= 3; threads++) {
            uint32_t seed = 5;
            double w2 = 0, d2 = 0;
            int64_t where;
            quantize_fill(w, N, NORMAL, scale ? 1e30f : 1, &seed);
            for (int i = 0; i < N; i++) {
                got[i] = w[i] * (i % 3 ? 1 : 0.5f);
                const double d = (double)got[i] - (double)w[i];
                w2 += (double)w[i] * (double)w[i], d2 += d * d;
            }
            clf_weight_error e = {0};
            assert_true(clf_weight_error_add(&e, w, got, N, threads, &where));
            assert_int_equal(e.count, N);
            assert_int_equal(e.far, (N + 2) / 3);
            assert_true(near(clf_weight_error_relative(&e), sqrt(d2 / w2), 1e-6));
            got[N - 2] = NAN;
            assert_false(clf_weight_error_add(&e, w, got, N, threads, &where));
            assert_int_equal(where, N - 2);
            w[17] = -INFINITY;
            assert_false(clf_weight_error_add(&e, w, got, N, threads, &where));
            assert_int_equal(where, 17);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_weight_error)};
    return cmocka_run_group_tests_name("weight_error", tests, NULL, NULL);
}
