/* loss_scale.c: the scale of the loss through overflows and good steps. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <clformer/clformer.h>

static void unscaled(void **state) {
    (void)state;
    const clf_loss_scale_args args = {.initial = 8};
    clf_loss_scale_state s = clf_loss_scale_start(&args);
    assert_true(s.scale == 1);
    assert_true(clf_loss_scale_update(&args, &s, true));
    assert_false(clf_loss_scale_update(&args, &s, false));
    assert_true(s.scale == 1 && s.good_steps == 0);
}

static void constant(void **state) {
    (void)state;
    const clf_loss_scale_args args = {.loss_scale = CLF_LOSS_SCALE_STATIC, .initial = 128};
    clf_loss_scale_state s = clf_loss_scale_start(&args);
    for (int i = 0; i < 5000; i++) assert_true(clf_loss_scale_update(&args, &s, true));
    assert_false(clf_loss_scale_update(&args, &s, false));
    assert_true(s.scale == 128);
}

static void dynamic(void **state) {
    (void)state;
    const clf_loss_scale_args args = {.loss_scale = CLF_LOSS_SCALE_DYNAMIC};
    clf_loss_scale_state s = clf_loss_scale_start(&args);
    assert_true(s.scale == 65536 && s.good_steps == 0);
    for (int i = 0; i < 1999; i++) assert_true(clf_loss_scale_update(&args, &s, true));
    assert_true(s.scale == 65536 && s.good_steps == 1999);
    assert_false(clf_loss_scale_update(&args, &s, false)); /* one overflow: half, and counting begins again */
    assert_true(s.scale == 32768 && s.good_steps == 0);
    for (int i = 0; i < 2000; i++) assert_true(clf_loss_scale_update(&args, &s, true));
    assert_true(s.scale == 65536 && s.good_steps == 0);
    for (int i = 0; i < 2; i++) assert_false(clf_loss_scale_update(&args, &s, false));
    assert_true(s.scale == 16384);
}

/* A copy of the state goes on as the original does. */
static void resumed(void **state) {
    (void)state;
    const clf_loss_scale_args args = {.loss_scale = CLF_LOSS_SCALE_DYNAMIC, .initial = 1024, .interval = 3};
    clf_loss_scale_state s = clf_loss_scale_start(&args), copy = s;
    for (int i = 0; i < 100; i++) {
        if (i == 41) copy = s;
        const bool finite = i % 7 != 0;
        clf_loss_scale_update(&args, &s, finite);
        if (i >= 41) clf_loss_scale_update(&args, &copy, finite);
    }
    assert_true(s.scale == copy.scale && s.good_steps == copy.good_steps);
    assert_true(s.scale ==
                1024.f * 0x1p28f / 0x1p15f); /* two doublings after each of 14 overflows; the last has one good step */
}

static void limits(void **state) {
    (void)state;
    const clf_loss_scale_args args = {.loss_scale = CLF_LOSS_SCALE_DYNAMIC, .interval = 1};
    clf_loss_scale_state s = clf_loss_scale_start(&args);
    for (int i = 0; i < 300; i++) clf_loss_scale_update(&args, &s, true);
    assert_true(s.scale == 0x1p127f && s.good_steps == 0);
    for (int i = 0; i < 600; i++) clf_loss_scale_update(&args, &s, false);
    assert_true(s.scale == FLT_MIN);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unscaled), cmocka_unit_test(constant), cmocka_unit_test(dynamic),
        cmocka_unit_test(resumed),  cmocka_unit_test(limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
