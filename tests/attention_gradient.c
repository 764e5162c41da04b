/* attention_gradient.c: the reference of attention's gradients against finite differences of its forward, for every run
 * that the op's test makes; and Philox against its authors' answers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "attention_case.h"
#include "philox.h"

/* kat_vectors of Random123 1.14, philox4x32 10: counter, key, answer. */
static void philox_gives_the_known_answers(void **state) {
    (void)state;
    static const uint32_t known[3][10] = {
        {0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
        {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x408f276d, 0x41c83b0e, 0xa20bc7c6,
         0x6d5451fd},
        {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09, 0x94fdcceb, 0x5001e420,
         0x24126ea1},
    };
    for (int i = 0; i < 3; i++) {
        uint32_t got[4];
        philox_words(known[i], known[i] + 4, got);
        assert_memory_equal(got, known[i] + 6, sizeof got);
    }
}

/* Σ d_out · out of the inputs as they are. */
static double loss(op_run *run) {
    attention_reference(run);
    const op_tensor *out = op_find(run, "out");
    const double *d_out = op_value(run, "d_out");
    double sum = 0;
    for (int64_t i = 0; i < op_elements(out); i++)
        if (isfinite(d_out[i])) sum += d_out[i] * out->value[i]; /* rows of no sequence hold garbage */
    return sum;
}

/* Moves each element by h or −h; keeps the garbage that nobody sees, and −inf. */
static void move(op_tensor *x, const double *at, const signed char *sign, double h) {
    for (int64_t i = 0; i < op_elements(x); i++) x->value[i] = isfinite(at[i]) ? at[i] + h * sign[i] : at[i];
}

/* The slope of the loss along a random diagonal, by differences (Richardson's, of fourth order) and by the gradient. */
static void check_diagonal(op_run *run, op_tensor *x, const op_tensor *d) {
    const int64_t n = op_elements(x);
    const double h = 1e-4 / sqrt(1 + (double)n / 100);
    double *at = malloc(((size_t)n + 1) * sizeof *at), along = 0, square = 0, difference[2];
    signed char *sign = malloc((size_t)n + 1);
    assert_non_null(at);
    assert_non_null(sign);
    memcpy(at, x->value, (size_t)n * sizeof *at);
    for (int64_t i = 0; i < n; i++) {
        sign[i] = op_random(run) < 0.5 ? -1 : 1;
        if (!isfinite(at[i]))
            assert_true(d->value[i] == 0);
        else
            along += sign[i] * d->value[i];
        square += d->value[i] * d->value[i];
    }
    for (int i = 0; i < 2; i++) {
        move(x, at, sign, h * (i + 1));
        const double above = loss(run);
        move(x, at, sign, -h * (i + 1));
        difference[i] = (above - loss(run)) / (2 * h * (i + 1));
    }
    memcpy(x->value, at, (size_t)n * sizeof *at);
    const double slope = (4 * difference[0] - difference[1]) / 3;
    const double scale = fmax(sqrt(square), sqrt((double)n) * d->magnitude) + 1e-3;
    if (!(fabs(slope - along) <= 1e-6 * scale))
        fail_msg("variant %d (%s): %s: expected a slope of %.9g, got %.9g (scale %.3g)", run->variant, run->text,
                 d->name, slope, along, scale);
    free(at);
    free(sign);
}

static void gradients_are_slopes(void **state) {
    (void)state;
    static const op_case c = {.make = attention_make};
    static const char *const names[][2] = {{"query", "d_query"}, {"key", "d_key"},
                                           {"value", "d_value"}, {"sinks", "d_sinks"},
                                           {"mask", "d_mask"},   {"alibi_slopes", "d_alibi_slopes"}};
    int checked[6] = {0};
    for (int v = 0; v < attention_variants - attention_bench_variants; v++) {
        op_run run;
        const bool made = op_begin(&run, &c, v, CLF_F32, true, 7);
        const op_tensor *q = made ? op_find(&run, "query") : NULL, *k = made ? op_find(&run, "key") : NULL;
        const bool small = made && (double)op_elements(q) * (double)k->shape[2] < 1e6 && !strstr(run.text, "10⁴") &&
                           !strstr(run.text, "outlier");
        if (small) {
            attention_reference(&run);
            attention_reference_backward(&run);
            for (int i = 0; i < 6; i++) {
                op_tensor *x = op_find(&run, names[i][0]), *d = op_find(&run, names[i][1]);
                if (!x || !d) continue;
                check_diagonal(&run, x, d);
                checked[i]++;
            }
        }
        op_end(&run);
    }
    for (int i = 0; i < 6; i++) assert_true(checked[i] > 10);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(philox_gives_the_known_answers),
                                       cmocka_unit_test(gradients_are_slopes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
