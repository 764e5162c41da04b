/* trainer_offload.c: checkpointed inputs that wait in the host's memory: the same bits, less on the device, both as
 * planned; refused where nothing can be won, and nothing left behind where it doesn't fit. */
#define _GNU_SOURCE
#include "trainer_case.h"

#include "fault_layer.h"

static const char *const gemma = "golden/models/gemma3"; /* six blocks */
enum { BLOCKS = 6, HIDDEN = 32, WAITING = BLOCKS - 3 };

static const char *device; /* NULL: there is none with memory of its own */

static void need_device(void) {
    if (!device) {
        print_message("skipped: no OpenCL device\n");
        skip();
    }
}

static clf_memory_stats stats_of(const setting *s) {
    clf_memory_stats stats;
    assert_ok(s->ctx, clf_memory_get_stats(s->ctx, &stats));
    return stats;
}

static void same_bits(clf_trainer_args args) {
    static const way ways[] = {{CLF_CHECKPOINT_NONE, false}, {1, false}, {1, true}, {2, true},
                               {CLF_CHECKPOINT_SQRT, true},  {9, true}};
    same_bits_in(device, gemma, args, ways, sizeof ways / sizeof *ways);
}

static void no_bit_changes(void **state) {
    (void)state;
    need_device();
    same_bits((clf_trainer_args){.mode = CLF_TRAIN_FULL});
    same_bits((clf_trainer_args){.mode = CLF_TRAIN_FULL, .compute = CLF_BF16});
    same_bits((clf_trainer_args){.lora = {.rank = 3, .dropout = 0.2F}, .seed = 3});
}

/* Two forward passes of the blocks, of which the second one's inputs come back. */
static void preferences_see_the_right_inputs(void **state) {
    (void)state;
    need_device();
    float *want = values(), *got = values();
    const text t = make_text(11);
    const clf_batch b = whole(&t);
    int64_t n = 0;
    for (int offload = 0; offload < 2; offload++) {
        setting s = open_setting(
            device, gemma, (clf_trainer_args){.lora = {.rank = 4}, .checkpointing = 1, .offload_checkpoints = offload});
        clf_preference p;
        for (int step = 0; step < 3; step++) {
            assert_ok(s.ctx, clf_trainer_accumulate_preference(s.trainer, &b, SEQUENCES / 2, 0.5F, &p));
            if (step < 2) assert_ok(s.ctx, clf_trainer_update(s.trainer, 1e-2F, NULL));
        }
        n = collect(&s, true, offload ? got : want);
        close_setting(&s);
    }
    assert_memory_equal(got, want, (size_t)n * sizeof *got);
    free(want);
    free(got);
}

/* Each waiting input goes and comes once in a training pass, and not at all where no gradient is wanted. */
static void inputs_move_once(void **state) {
    (void)state;
    need_device();
    const text t = make_text(2);
    const clf_batch b = whole(&t);
    clf_memory_stats moved[2][3];
    for (int offload = 0; offload < 2; offload++) {
        setting s = open_setting(
            device, gemma, (clf_trainer_args){.lora = {.rank = 4}, .checkpointing = 1, .offload_checkpoints = offload});
        double loss;
        moved[offload][0] = stats_of(&s);
        assert_ok(s.ctx, clf_trainer_evaluate(s.trainer, &b, &loss));
        moved[offload][1] = stats_of(&s);
        assert_ok(s.ctx, clf_trainer_accumulate(s.trainer, &b, t.targets, &loss));
        moved[offload][2] = stats_of(&s);
        close_setting(&s);
    }
    const uint64_t all = WAITING * TOKENS * HIDDEN * sizeof(float);
    for (int pass = 0; pass < 2; pass++) {
        const clf_memory_stats *without = &moved[0][pass], *with = &moved[1][pass];
        const uint64_t out = with[1].to_host.bytes - with[0].to_host.bytes,
                       in = with[1].to_device.bytes - with[0].to_device.bytes;
        assert_int_equal(out, without[1].to_host.bytes - without[0].to_host.bytes + (pass ? all : 0));
        assert_int_equal(in, without[1].to_device.bytes - without[0].to_device.bytes + (pass ? all : 0));
    }
}

/* The plan is what the pool counts, and tells the host's share, which the device no longer holds. */
static void plans_are_kept(void **state) {
    (void)state;
    need_device();
    static const int ways[] = {1, 2, CLF_CHECKPOINT_SQRT};
    static const int waiting[] = {BLOCKS - 3, BLOCKS / 2 - 3, 0};
    for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
        uint64_t counted[2];
        clf_trainer_estimate said[2];
        for (int offload = 0; offload < 2; offload++) {
            clf_trainer_args args = {.lora = {.rank = 2},
                                     .tokens = 512,
                                     .sequences = SEQUENCES,
                                     .checkpointing = ways[w],
                                     .offload_checkpoints = offload};
            assert_int_equal(
                clf_estimate_trainer(&said[offload],
                                     &(clf_trainer_estimate_args){.path = gemma, .trainer = args, .device = true}),
                CLF_OK);
            setting s = open_setting(device, gemma, args);
            warm_up(&s, 2);
            counted[offload] = stats_of(&s).tag_peak[CLF_TAG_ACTIVATIONS];
            const double all = (double)stats_of(&s).peak_asked, planned = (double)said[offload].total;
            print_message("checkpointing %d%s: planned %+.2f %% of %.0f bytes; %llu on the host\n", ways[w],
                          offload ? ", offloaded" : "", 100 * (planned / all - 1), all,
                          (unsigned long long)said[offload].host);
            assert_true(fabs(planned / all - 1) < 0.1);
            close_setting(&s);
        }
        const uint64_t host = (uint64_t)waiting[w] * 512 * HIDDEN * sizeof(float);
        assert_int_equal(said[0].host, 0);
        assert_int_equal(said[1].host, host);
        assert_int_equal(said[0].activations - said[1].activations, host);
        assert_int_equal(counted[0] - counted[1], host);
    }
}

static void refused_where_nothing_is_won(void **state) {
    (void)state;
    clf_trainer *t;
    clf_trainer_estimate e;
    char message[256] = "";
    setting s = {.ctx = open_context("cpu", 0)};
    s.model = load_model(&s.ctx, 1, gemma);
    clf_trainer_args args = {.model = s.model, .tokens = 8, .checkpointing = 1, .offload_checkpoints = true};
    assert_int_equal(clf_trainer_create(&t, &args), CLF_UNSUPPORTED);
    assert_null(t);
    assert_non_null(strstr(clf_error_message(s.ctx), "offload_checkpoints: expected a device with memory of its own"));
    assert_int_equal(s.model->lora_rank, 0);
    args.checkpointing = CLF_CHECKPOINT_NONE;
    assert_int_equal(clf_trainer_create(&t, &args), CLF_INVALID_ARGUMENT);
    assert_non_null(strstr(clf_error_message(s.ctx), "offload_checkpoints: expected checkpointing"));
    assert_int_equal(clf_estimate_trainer(&e, &(clf_trainer_estimate_args){.path = gemma,
                                                                           .trainer = args,
                                                                           .error = message,
                                                                           .error_size = sizeof message}),
                     CLF_INVALID_ARGUMENT);
    assert_non_null(strstr(message, "offload_checkpoints"));
    close_setting(&s);
}

enum { MANY = 8192 }; /* tokens, so that their inputs are most of what is held */

/* Within a limit that is too low for all inputs, these fit; every allocation made to fail in turn leaves nothing. */
static void fits_or_leaves_nothing(void **state) {
    (void)state;
    need_device();
    clf_trainer_args args = {.lora = {.rank = 2}, .tokens = MANY, .sequences = SEQUENCES, .checkpointing = 1};
    uint64_t held[2];
    for (int offload = 0; offload < 2; offload++) {
        args.offload_checkpoints = offload;
        setting s = open_setting(device, gemma, args);
        warm_up(&s, 1);
        held[offload] = stats_of(&s).peak_held;
        close_setting(&s);
    }
    assert_true(held[1] < held[0]);

    setting s = {.ctx = open_context(device, (held[0] + held[1]) / 2)};
    s.model = args.model = load_model(&s.ctx, 1, gemma);
    const uint64_t before = stats_of(&s).in_use;
    const int outside = atomic_load(&outstanding);
    args.offload_checkpoints = false;
    assert_int_equal(clf_trainer_create(&s.trainer, &args), CLF_OUT_OF_MEMORY);
    assert_non_null(strstr(clf_error_message(s.ctx), "memory limit"));
    assert_int_equal(stats_of(&s).in_use, before);
    args.offload_checkpoints = true;
    int failures = 0;
    for (;; failures++) {
        inject(failures);
        const clf_status st = clf_trainer_create(&s.trainer, &args);
        const bool hit = atomic_load(&hits) > 0;
        inject_nothing();
        if (!hit) {
            assert_ok(s.ctx, st);
            break;
        }
        assert_int_equal(st, CLF_OUT_OF_MEMORY);
        assert_null(s.trainer);
        assert_true(*clf_error_message(s.ctx));
        assert_int_equal(stats_of(&s).in_use, before);
        assert_int_equal(s.model->lora_rank, 0);
        assert_ok(s.ctx, clf_memory_trim(s.ctx));
        assert_true(atomic_load(&outstanding) <= outside);
    }
    print_message("%d failures injected\n", failures);
    assert_true(failures > 20);
    warm_up(&s, 1);
    close_setting(&s);
}

static int find_device(void **state) {
    static clf_device_info infos[16];
    int n = 0;
    (void)state;
    inject_nothing();
    clf_devices(infos, 16, &n);
    for (int i = 0; i < n && i < 16 && !device; i++)
        if (infos[i].usable && strncmp(infos[i].name, "cpu", 3)) device = infos[i].name;
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_bit_changes),
        cmocka_unit_test(preferences_see_the_right_inputs),
        cmocka_unit_test(inputs_move_once),
        cmocka_unit_test(plans_are_kept),
        cmocka_unit_test(refused_where_nothing_is_won),
        cmocka_unit_test(fits_or_leaves_nothing),
    };
    const int failed = cmocka_run_group_tests(tests, find_device, NULL);
    return failed ? failed : device ? 0 : 77; /* all but what is refused on the CPU was skipped */
}
