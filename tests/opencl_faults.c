/* opencl_faults.c: the OpenCL backend where something fails: compilers that refuse, every call of OpenCL in turn, those
 * of copies beside the ops too, lost devices. Skipped where no OpenCL platform is. */
#define _DEFAULT_SOURCE
#include "opencl_case.h"

#include <clformer/train.h>

static void collect(void *user, clf_log_level level, const char *line) {
    char *text = user;
    if (level == CLF_LOG_ERROR && strlen(text) + strlen(line) < 4000) strcat(text, line);
}

static void reports_what_the_compiler_said(void **unused) {
    (void)unused;
    char message[512], log[4096] = "";
    clf_context *ctx;
    fail_state->break_sources = true;
    assert_int_equal(clf_context_create(&ctx, &(clf_context_args){.device = "opencl:0",
                                                                  .cache_dir = "off",
                                                                  .error = message,
                                                                  .error_size = sizeof message,
                                                                  .log = collect,
                                                                  .log_user = log}),
                     CLF_DEVICE_ERROR);
    fail_state->break_sources = false;
    assert_null(ctx);
    assert_says(message, "compiler refused");
    assert_says(log, "broken on purpose");
}

/* Opens and works while call `at` of OpenCL answers `error`; leaves the number of calls till then in the layer. */
static clf_status work_failing(int at, cl_int error, const char *cache) {
    char message[512];
    clf_context *ctx;
    fail_state->calls = 0;
    fail_state->error = error;
    fail_state->at = at;
    clf_status st = try_open(&ctx, "opencl:0", cache, message);
    if (st != CLF_OK) {
        assert_null(ctx);
        assert_true(strlen(message) > 10);
    } else {
        st = work(ctx);
        if (st != CLF_OK) {
            assert_true(strlen(clf_error_message(ctx)) > 10);
            ok(ctx, work(ctx)); /* the next calls work */
        }
    }
    const int calls = fail_state->calls;
    fail_state->at = 0;
    clf_context_destroy(ctx);
    fail_state->calls = calls;
    return st;
}

/* Each step-th call fails, until there is none left to fail. Most failures show; an allocation may succeed at the
 * second attempt, and a binary that can't be loaded is built from source. */
static void fail_each(cl_int error, int step, const char *cache) {
    int tried = 0, failed = 0;
    for (int at = 1;; at += step) {
        const clf_status st = work_failing(at, error, cache);
        if (st != CLF_OK) assert_int_equal(st, CLF_OUT_OF_MEMORY);
        if (fail_state->calls < at) break;
        tried++;
        failed += st != CLF_OK;
    }
    assert_true(tried > 15);
    assert_true(failed >= tried * 3 / 4);
}

static void survives_each_failing_call(void **unused) {
    (void)unused;
    int sources, binaries;
    cached_work(folder, &sources, &binaries);
    static const cl_int errors[] = {CL_OUT_OF_RESOURCES, CL_MEM_OBJECT_ALLOCATION_FAILURE, CL_OUT_OF_HOST_MEMORY};
    for (int e = 0; e < 3; e++) fail_each(errors[e], 1, folder);
    fail_each(CL_OUT_OF_RESOURCES, 5, "off"); /* with the self test's many calls */
}

enum { TOKENS = 40, MOST_GRADIENTS = 1 << 16 };

/* A step of fine-tuning whose checkpoints are offloaded; its gradients are put into `out`, and let go of. */
static clf_status take_step(clf_context *ctx, clf_trainer *t, float *out) {
    int32_t ids[TOKENS], labels[TOKENS];
    for (int i = 0; i < TOKENS; i++) ids[i] = i * 7 % 23, labels[i] = (i * 7 + 7) % 23;
    const clf_batch batch = {.ids = ids, .labels = labels, .tokens = TOKENS};
    const clf_status st = clf_trainer_accumulate(t, &batch, TOKENS, NULL);
    if (st != CLF_OK) return st;
    memset(out, 0, MOST_GRADIENTS * sizeof *out);
    size_t n = 0;
    for (int i = 0; i < clf_trainer_parameters(t); i++) {
        clf_parameter_info p;
        ok(ctx, clf_trainer_parameter(t, i, &p));
        const size_t bytes = clf_tensor_bytes(p.gradient);
        assert_true(n + bytes / sizeof *out <= MOST_GRADIENTS);
        ok(ctx, clf_tensor_read(p.gradient, out + n, bytes));
        n += bytes / sizeof *out;
    }
    ok(ctx, clf_trainer_update(t, 0, NULL));
    return CLF_OK;
}

/* Whatever of the copies fails, and however late they are, the step says so, and the next one's gradients have the bits
 * of one that met nothing. */
static void survives_each_failing_copy(void **unused) {
    (void)unused;
    static float want[MOST_GRADIENTS], got[MOST_GRADIENTS];
    clf_context *ctx = open_device("opencl:0", NULL);
    clf_model *model;
    clf_trainer *t;
    ok(ctx,
       clf_model_load(&model, &(clf_model_args){.path = "golden/models/gemma3", .contexts = &ctx, .n_contexts = 1}));
    const clf_trainer_args args = {
        .model = model, .tokens = TOKENS, .lora = {.rank = 2}, .checkpointing = 1, .offload_checkpoints = true};
    fail_state->only_copies = true;
    fail_state->error = CL_OUT_OF_RESOURCES;
    int created = 0, failed = 0;
    for (;; created++) {
        fail_state->calls = 0;
        fail_state->at = created + 1;
        const clf_status st = clf_trainer_create(&t, &args);
        if (fail_state->calls < fail_state->at) break;
        assert_int_equal(st, CLF_OUT_OF_MEMORY);
        assert_null(t);
        assert_says(clf_error_message(ctx), "offload_checkpoints: out of host memory");
    }
    fail_state->at = 0;
    fail_state->copies = 0;
    ok(ctx, take_step(ctx, t, want));
    assert_int_equal(created, 3); /* six blocks: the inputs of three wait */
    assert_int_equal(fail_state->copies, 2 * 3);
    fail_state->late_copies = true;
    ok(ctx, take_step(ctx, t, got));
    assert_memory_equal(got, want, sizeof got);
    for (;; failed++) {
        fail_state->calls = 0;
        fail_state->at = failed + 1;
        const clf_status st = take_step(ctx, t, got);
        const bool hit = fail_state->calls >= fail_state->at;
        fail_state->at = 0;
        if (!hit) break;
        assert_int_equal(st, CLF_OUT_OF_MEMORY);
        ok(ctx, take_step(ctx, t, got));
        assert_memory_equal(got, want, sizeof got);
    }
    assert_true(failed >= 6 * 4); /* each copy: a marker, two flushes, itself; and barriers */
    fail_state->only_copies = fail_state->late_copies = false;
    clf_trainer_destroy(t);
    clf_model_destroy(model);
    clf_context_destroy(ctx);
}

static void leaves_a_lost_device_alone(void **unused) {
    (void)unused;
    clf_context *ctx = open_device("opencl:0", NULL);
    ok(ctx, work(ctx));
    clf_tensor *t;
    float value = 1;
    ok(ctx, clf_tensor_create(&t, ctx, &(clf_tensor_args){.ndim = 1, .shape = {1}}));
    ok(ctx, clf_tensor_write(t, &value, sizeof value));
    fail_state->calls = 0;
    fail_state->error = -9999;
    fail_state->at = 1;
    assert_int_equal(clf_tensor_read(t, &value, sizeof value), CLF_DEVICE_ERROR);
    assert_says(clf_error_message(ctx), "lost");
    fail_state->at = 0;
    fail_state->calls = 0;
    assert_int_equal(clf_tensor_read(t, &value, sizeof value), CLF_DEVICE_ERROR);
    assert_says(clf_error_message(ctx), "lost");
    assert_int_equal(clf_rms_norm(ctx, &(clf_rms_norm_args){.x = t, .out = t}), CLF_DEVICE_ERROR);
    assert_int_equal(clf_sync(ctx), CLF_DEVICE_ERROR);
    clf_tensor_destroy(t);
    clf_context_destroy(ctx);
    assert_int_equal(fail_state->calls, 0); /* no call reached it */
}

int main(void) {
    const int skipped = open_layer();
    if (skipped) return skipped;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reports_what_the_compiler_said),
        cmocka_unit_test_setup_teardown(survives_each_failing_call, make_folder, remove_folder),
        cmocka_unit_test(survives_each_failing_copy),
        cmocka_unit_test(leaves_a_lost_device_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
