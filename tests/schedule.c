/* schedule.c: the learning rate against Hugging Face's formulas, and against a run of PyTorch's AdamW. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include <clformer/clformer.h>

/* get_{constant_with_warmup,linear,cosine}_schedule… of transformers 5.23, as functions of current_step. */
static double hugging_face(clf_schedule schedule, int64_t current, int64_t warmup, int64_t steps, double minimum) {
    if (current < warmup) return (double)current / (double)(warmup > 1 ? warmup : 1);
    const double rest = (double)(steps - warmup > 1 ? steps - warmup : 1);
    if (schedule == CLF_SCHEDULE_CONSTANT) return 1;
    if (schedule == CLF_SCHEDULE_LINEAR) return fmax(0, (double)(steps - current) / rest);
    const double progress = (double)(current - warmup) / rest;
    return fmax(0, 0.5 * (1 + cos(acos(-1) * 2 * 0.5 * progress)) * (1 - minimum) + minimum);
}

static void same_as_hugging_face(void **state) {
    (void)state;
    for (int s = CLF_SCHEDULE_CONSTANT; s <= CLF_SCHEDULE_COSINE; s++)
        for (int64_t steps = 1; steps < 40; steps++)
            for (int64_t warmup = 0; warmup <= steps; warmup++)
                for (int64_t step = 1; step <= steps; step++) {
                    const double minimum = s == CLF_SCHEDULE_COSINE ? (double)(steps % 3) / 4 : 0;
                    const clf_schedule_args args = {
                        .schedule = (clf_schedule)s, .steps = steps, .warmup_steps = warmup, .minimum = minimum};
                    const double got = clf_schedule_multiplier(&args, step);
                    const double want = warmup ? hugging_face((clf_schedule)s, step, warmup, steps + 1, minimum)
                                               : hugging_face((clf_schedule)s, step - 1, 0, steps, minimum);
                    if (!(fabs(got - want) <= 1e-15))
                        fail_msg("schedule %d, step %d of %d, warm-up %d: expected %.17g, got %.17g", s, (int)step,
                                 (int)steps, (int)warmup, want, got);
                }
}

/* The rates that golden/make.py's training used: 12 steps, 3 of warm-up, cosine, 3e-3. */
static void same_as_golden(void **state) {
    (void)state;
    static const double rates[12] = {0.001,
                                     0.002,
                                     0.003,
                                     0.0029265847744427307,
                                     0.002713525491562421,
                                     0.0023816778784387098,
                                     0.0019635254915624212,
                                     0.0015,
                                     0.0010364745084375791,
                                     0.00061832212156129047,
                                     0.00028647450843757898,
                                     7.3415225557269708e-05};
    const clf_schedule_args args = {.schedule = CLF_SCHEDULE_COSINE, .steps = 12, .warmup_steps = 3};
    for (int t = 1; t <= 12; t++)
        assert_true(fabs(3e-3 * clf_schedule_multiplier(&args, t) / rates[t - 1] - 1) < 1e-12);
}

static void ends(void **state) {
    (void)state;
    clf_schedule_args args = {.schedule = CLF_SCHEDULE_LINEAR, .steps = 10, .minimum = 0.25};
    assert_true(clf_schedule_multiplier(&args, 1) == 1);
    assert_true(clf_schedule_multiplier(&args, 0) == 1); /* below 1 counts as 1 */
    assert_true(clf_schedule_multiplier(&args, INT64_MIN) == 1);
    assert_true(clf_schedule_multiplier(&args, 6) == 0.625);
    assert_true(clf_schedule_multiplier(&args, 11) == 0.25);
    assert_true(clf_schedule_multiplier(&args, INT64_MAX) == 0.25);
    args.schedule = CLF_SCHEDULE_COSINE;
    assert_true(clf_schedule_multiplier(&args, 6) == 0.625);
    assert_true(clf_schedule_multiplier(&args, 100) == 0.25);
    args.schedule = CLF_SCHEDULE_CONSTANT;
    assert_true(clf_schedule_multiplier(&args, 100) == 1);
    args = (clf_schedule_args){.schedule = CLF_SCHEDULE_LINEAR, .steps = 4, .warmup_steps = 8}; /* never warm */
    for (int t = 1; t <= 8; t++) assert_true(clf_schedule_multiplier(&args, t) == t / 8.0);
    assert_true(clf_schedule_multiplier(&args, 9) == 0);
    assert_true(clf_schedule_multiplier(&(clf_schedule_args){0}, 5) == 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_as_hugging_face),
        cmocka_unit_test(same_as_golden),
        cmocka_unit_test(ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
