/* core.c: contexts, tensors, views, the pool, placement, DLPack, errors. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <clformer/clformer.h>

#include "../lib/core/checked.h"
#include "../lib/core/context.h"
#include "../lib/core/dlpack.h"
#include "../lib/core/dtype.h"
#include "../lib/core/tensor.h"

static clf_context *open_cpu(uint64_t limit) {
    clf_context *ctx;
    char message[256];
    const clf_status st = clf_context_create(
        &ctx,
        &(clf_context_args){.device = "cpu", .memory_limit = limit, .error = message, .error_size = sizeof message});
    if (st != CLF_OK) fail_msg("%s", message);
    return ctx;
}

static clf_tensor *make(clf_context *ctx, int64_t rows, int64_t columns) {
    clf_tensor *t;
    assert_int_equal(clf_tensor_create(&t, ctx, &(clf_tensor_args){.ndim = 2, .shape = {rows, columns}}), CLF_OK);
    return t;
}

static clf_memory_stats stats_of(clf_context *ctx) {
    clf_memory_stats s;
    assert_int_equal(clf_memory_get_stats(ctx, &s), CLF_OK);
    return s;
}

static void words(void **state) {
    (void)state;
    char text[32];
    assert_string_equal(clf_format_bytes(text, sizeof text, 0), "0 B");
    assert_string_equal(clf_format_bytes(text, sizeof text, 1023), "1023 B");
    assert_string_equal(clf_format_bytes(text, sizeof text, 1024), "1.00 KiB");
    assert_string_equal(clf_format_bytes(text, sizeof text, 1610612736), "1.50 GiB");
    assert_string_equal(clf_format_bytes(text, sizeof text, UINT64_MAX), "16.00 EiB");
    assert_string_equal(clf_format_bytes(text, 3, 1024), "1.");
    assert_string_equal(clf_status_string(CLF_FULL), "no room left");
    assert_string_equal(clf_status_string((clf_status)77), "unknown status");
    clf_dtype d;
    assert_int_equal(clf_dtype_from_name(&d, "Q4_K"), CLF_OK);
    assert_int_equal(d, CLF_Q4_K);
    assert_int_equal(clf_dtype_from_name(&d, "f15"), CLF_NOT_FOUND);
    assert_int_equal(clf_dtype_block_bytes(CLF_Q6_K), 210);
    assert_int_equal(clf_dtype_block_values((clf_dtype)99), 0);
    assert_string_equal(clf_dtype_name((clf_dtype)-1), "?");
    assert_string_equal(clf_version(), CLF_VERSION_STRING);
}

static void halves(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        const float f = clf_f16_to_f32((uint16_t)h), b = clf_bf16_to_f32((uint16_t)h);
        if (f == f)
            assert_int_equal(clf_f32_to_f16(f), h);
        else
            assert_true((clf_f32_to_f16(f) & 0x7fff) > 0x7c00);
        if (b == b)
            assert_int_equal(clf_f32_to_bf16(b), h);
        else
            assert_true((clf_f32_to_bf16(b) & 0x7fff) > 0x7f80);
    }
    /* halfway cases go to the even neighbour */
    assert_int_equal(clf_f32_to_f16(1.f + 0x1p-11f), 0x3c00);
    assert_int_equal(clf_f32_to_f16(1.f + 3 * 0x1p-11f), 0x3c02);
    assert_int_equal(clf_f32_to_f16(65519.99f), 0x7bff);
    assert_int_equal(clf_f32_to_f16(65520.f), 0x7c00);
    assert_int_equal(clf_f32_to_f16(0x1p-25f), 0);
    assert_int_equal(clf_f32_to_f16(0x1.8p-25f), 1);
    assert_int_equal(clf_f32_to_bf16(1.f + 0x1p-8f), 0x3f80);
    assert_int_equal(clf_f32_to_bf16(1.f + 3 * 0x1p-8f), 0x3f82);
}

static void arithmetic(void **state) {
    (void)state;
    uint64_t u = 7;
    int64_t n = 7;
    assert_false(clf_add_u64(UINT64_MAX, 1, &u));
    assert_false(clf_mul_u64(1ull << 32, 1ull << 32, &u));
    assert_false(clf_align_u64(UINT64_MAX - 5, 64, &u));
    assert_int_equal(u, 7);
    assert_true(clf_align_u64(65, 64, &u) && u == 128);
    assert_false(clf_product_i64((int64_t[]){1ll << 32, 1ll << 31}, 2, &n));
    assert_false(clf_product_i64((int64_t[]){0, -1}, 2, &n));
    assert_true(clf_product_i64((int64_t[]){1ll << 62, 1ll << 62, 0}, 3, &n) && n == 0);
}

static void unknown_devices(void **state) {
    (void)state;
    static const char *const names[] = {"gpu", "cpu-avx3", "opencl:-1", "opencl:x", "opencl:9999", "cpu-"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        clf_context *ctx = (clf_context *)&ctx;
        char message[128] = "";
        const clf_context_args args = {.device = names[i], .error = message, .error_size = sizeof message};
        assert_int_equal(clf_context_create(&ctx, &args), CLF_NOT_FOUND);
        assert_null(ctx);
        assert_true(strstr(message, "device") != NULL);
    }
    clf_context *ctx;
    assert_int_equal(clf_context_create(&ctx, &(clf_context_args){.device = "cpu", .threads = -1}),
                     CLF_INVALID_ARGUMENT);
    assert_int_equal(clf_context_create(NULL, NULL), CLF_INVALID_ARGUMENT);
    setenv("CLFORMER_MEM_LIMIT", "8Q", 1);
    assert_int_equal(clf_context_create(&ctx, &(clf_context_args){.device = "cpu"}), CLF_INVALID_ARGUMENT);
    setenv("CLFORMER_MEM_LIMIT", "1.5M", 1);
    assert_int_equal(clf_context_create(&ctx, &(clf_context_args){.device = "cpu"}), CLF_OK);
    assert_int_equal(stats_of(ctx).limit, 3 << 19);
    clf_context_destroy(ctx);
    unsetenv("CLFORMER_MEM_LIMIT");
    clf_context_destroy(NULL);
}

static void device_list(void **state) {
    (void)state;
    clf_device_info info[16];
    int n, chosen = 0;
    assert_int_equal(clf_devices(info, 16, &n), CLF_OK);
    assert_true(n >= 1 && n <= 16);
    for (int i = 0; i < n; i++) {
        chosen += info[i].chosen;
        if (!info[i].usable) assert_true(info[i].reason[0]);
    }
    assert_int_equal(chosen, 1);
    assert_string_equal(info[n - 1].name, "cpu-scalar");
    assert_true(info[n - 1].usable);
    int again;
    assert_int_equal(clf_devices(NULL, 0, &again), CLF_OK);
    assert_int_equal(again, n);
}

static void shapes(void **state) {
    (void)state;
    clf_context *ctx = open_cpu(0);
    clf_tensor *t = NULL;
    static const clf_tensor_args bad[] = {
        {.ndim = 5},
        {.ndim = -1},
        {.ndim = 1, .shape = {-1}},
        {.ndim = 3, .shape = {1ll << 31, 1ll << 31, 4}},
        {.ndim = 1, .shape = {1ll << 62}},
        {.dtype = CLF_Q4_K, .ndim = 1, .shape = {255}},
        {.dtype = CLF_Q8_0, .ndim = 0},
        {.dtype = CLF_DTYPE_COUNT, .ndim = 0},
        {.ndim = 0, .tag = CLF_TAG_COUNT},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(clf_tensor_create(&t, ctx, &bad[i]), CLF_INVALID_ARGUMENT);
        assert_null(t);
        assert_true(clf_error_message(ctx)[0]);
    }
    assert_int_equal(clf_tensor_create(&t, NULL, &bad[0]), CLF_INVALID_ARGUMENT);
    assert_int_equal(clf_tensor_create(&t, ctx, NULL), CLF_INVALID_ARGUMENT);

    assert_int_equal(clf_tensor_create(&t, ctx, &(clf_tensor_args){.dtype = CLF_Q4_K, .ndim = 2, .shape = {3, 512}}),
                     CLF_OK);
    assert_int_equal(clf_tensor_bytes(t), 3 * 2 * 144);
    clf_tensor_destroy(t);
    assert_int_equal(clf_tensor_create(&t, ctx, &(clf_tensor_args){.ndim = 3, .shape = {2, 0, 5}}), CLF_OK);
    assert_int_equal(clf_tensor_elements(t), 0);
    assert_int_equal(clf_tensor_write(t, NULL, 0), CLF_OK);
    clf_tensor_destroy(t);
    assert_int_equal(clf_tensor_create(&t, ctx, &(clf_tensor_args){.ndim = 0}), CLF_OK);
    assert_int_equal(clf_tensor_bytes(t), 4);
    assert_int_equal(clf_tensor_size(t, 0), -1);
    clf_tensor_destroy(t);
    clf_tensor_destroy(NULL);
    clf_context_destroy(ctx);
}

static void views(void **state) {
    (void)state;
    clf_context *ctx = open_cpu(0);
    clf_tensor *t = make(ctx, 4, 6), *v, *w;
    float data[24], back[24] = {0};
    for (int i = 0; i < 24; i++) data[i] = (float)i;
    assert_int_equal(clf_tensor_write(t, data, sizeof data), CLF_OK);
    assert_int_equal(clf_tensor_write(t, data, sizeof data - 4), CLF_INVALID_ARGUMENT);
    assert_int_equal(clf_tensor_write(t, NULL, sizeof data), CLF_INVALID_ARGUMENT);

    /* the transposed lower right 2 × 3 */
    assert_int_equal(clf_tensor_view(&v, t, 2, (int64_t[]){3, 2}, (int64_t[]){1, 6}, 15), CLF_OK);
    assert_int_equal(clf_tensor_read(v, back, 24), CLF_OK);
    assert_memory_equal(back, ((float[]){15, 21, 16, 22, 17, 23}), 24);
    /* a view of a view keeps the storage alive and counts from the view's first element */
    assert_int_equal(clf_tensor_view(&w, v, 1, (int64_t[]){2}, NULL, 1), CLF_OK);
    clf_tensor_destroy(t);
    clf_tensor_destroy(v);
    assert_int_equal(clf_tensor_read(w, back, 8), CLF_OK);
    assert_memory_equal(back, ((float[]){16, 17}), 8);
    const struct {
        int64_t shape[2], stride[2], offset;
    } bad[] = {{{1, 1}, {1, 1}, 8},
               {{2, 2}, {8, 1}, 0},
               {{1, 2}, {1, -1}, 0},
               {{1, 1}, {1, 1}, -1},
               {{2, 1}, {INT64_MAX, 1}, 0},
               {{-1, 1}, {1, 1}, 0},
               {{1ll << 40, 1ll << 40}, {0, 0}, 0}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(clf_tensor_view(&v, w, 2, bad[i].shape, bad[i].stride, bad[i].offset), CLF_INVALID_ARGUMENT);
        assert_null(v);
    }
    clf_tensor_destroy(w);

    assert_int_equal(clf_tensor_create(&t, ctx, &(clf_tensor_args){.dtype = CLF_Q8_0, .ndim = 2, .shape = {2, 64}}),
                     CLF_OK);
    assert_int_equal(clf_tensor_view(&v, t, 1, (int64_t[]){32}, NULL, 96), CLF_OK);
    clf_tensor_destroy(v);
    assert_int_equal(clf_tensor_view(&v, t, 1, (int64_t[]){32}, NULL, 16), CLF_INVALID_ARGUMENT);
    assert_int_equal(clf_tensor_view(&v, t, 2, (int64_t[]){2, 32}, (int64_t[]){48, 1}, 0), CLF_INVALID_ARGUMENT);
    clf_tensor_destroy(t);
    clf_context_destroy(ctx);
}

/* Zeros fill a contiguous tensor, also a view, and nothing beside it; other views are refused. */
static void clears(void **state) {
    (void)state;
    clf_context *ctx = open_cpu(0);
    enum { ROWS = 6, COLUMNS = 70000 }; /* more than a megabyte: by all threads */
    clf_tensor *t = make(ctx, ROWS, COLUMNS), *rows, *columns, *none;
    float *data = malloc(ROWS * COLUMNS * sizeof *data);
    assert_non_null(data);
    for (int i = 0; i < ROWS * COLUMNS; i++) data[i] = 1;
    assert_int_equal(clf_tensor_write(t, data, ROWS * COLUMNS * sizeof *data), CLF_OK);
    assert_int_equal(clf_tensor_view(&rows, t, 2, (int64_t[]){4, COLUMNS}, NULL, COLUMNS - 1), CLF_OK);
    assert_int_equal(clf_tensor_view(&columns, t, 2, (int64_t[]){ROWS, 3}, (int64_t[]){COLUMNS, 1}, 0), CLF_OK);
    assert_int_equal(clf_tensor_clear(columns), CLF_INVALID_ARGUMENT);
    assert_non_null(strstr(clf_error_message(ctx), "expected a contiguous one"));
    assert_int_equal(clf_tensor_clear(rows), CLF_OK);
    assert_int_equal(clf_tensor_read(t, data, ROWS * COLUMNS * sizeof *data), CLF_OK);
    for (int i = 0; i < ROWS * COLUMNS; i++)
        if (data[i] != (float)(i < COLUMNS - 1 || i >= 5 * COLUMNS - 1))
            fail_msg("element %d is %g", i, (double)data[i]);
    free(data);
    assert_int_equal(clf_tensor_view(&none, t, 2, (int64_t[]){0, 3}, NULL, 0), CLF_OK);
    assert_int_equal(clf_tensor_clear(none), CLF_OK);
    assert_int_equal(clf_tensor_clear(NULL), CLF_INVALID_ARGUMENT);
    clf_tensor_destroy(none);
    clf_tensor_destroy(rows);
    clf_tensor_destroy(columns);
    clf_tensor_destroy(t);
    clf_context_destroy(ctx);
}

static clf_tensor *make_scratch(clf_context *ctx, int64_t n) {
    clf_tensor *t;
    assert_int_equal(clf_tensor_create(&t, ctx, &(clf_tensor_args){.ndim = 1, .shape = {n}, .tag = CLF_TAG_SCRATCH}),
                     CLF_OK);
    return t;
}

/* Scratch of all sizes, one after another, is one block; two at once are two, which come back in any order. */
static void scratch_is_one_block(void **state) {
    (void)state;
    static const int64_t sizes[] = {1000, 30, 5000, 700, 20000, 1, 12000};
    clf_context *ctx = open_cpu(1 << 20);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) clf_tensor_destroy(make_scratch(ctx, sizes[i]));
    clf_memory_stats s = stats_of(ctx);
    assert_true(s.held >= 80000 && s.held <= 100000 && s.in_use == 0 && s.asked == 0);
    const uint64_t held = s.held;
    for (int round = 0; round < 4; round++) {
        clf_tensor *a = make_scratch(ctx, 20000), *b = make_scratch(ctx, 10000);
        s = stats_of(ctx);
        assert_int_equal(s.asked, 120000);
        assert_int_equal(s.in_use, s.held);
        assert_true(s.held >= held + 40000 && s.held <= held + 50000);
        clf_tensor_destroy(round % 2 ? a : b);
        clf_tensor_destroy(round % 2 ? b : a);
    }
    clf_tensor *other = make(ctx, 1, 20000); /* no scratch: none of the block */
    assert_true(stats_of(ctx).held > s.held);
    clf_tensor_destroy(other);
    assert_int_equal(clf_memory_trim(ctx), CLF_OK);
    assert_int_equal(stats_of(ctx).held, 0);
    clf_context_destroy(ctx);
}

static void pool(void **state) {
    (void)state;
    clf_context *ctx = open_cpu(1 << 20);
    clf_tensor *a = make(ctx, 100, 100), *b;
    clf_memory_stats s = stats_of(ctx);
    assert_int_equal(s.asked, 40000);
    assert_true(s.in_use >= 40000 && s.in_use <= 50000 && s.held == s.in_use);
    assert_true(s.efficiency > 0.8 && s.efficiency <= 1);
    assert_int_equal((uintptr_t)clf_tensor_data(a) % 64, 0);
    clf_tensor_destroy(a);
    s = stats_of(ctx);
    assert_true(s.asked == 0 && s.in_use == 0 && s.held > 0 && s.peak_asked == 40000 && s.efficiency == 1);
    a = make(ctx, 100, 99); /* same class: the same block again */
    assert_int_equal(stats_of(ctx).reused, 1);
    assert_int_equal(stats_of(ctx).held, s.held);

    /* beyond the limit: the message says what was required and what there was */
    assert_int_equal(clf_tensor_create(&b, ctx, &(clf_tensor_args){.ndim = 1, .shape = {1 << 19}}), CLF_OUT_OF_MEMORY);
    assert_non_null(strstr(clf_error_message(ctx), "required"));
    assert_non_null(strstr(clf_error_message(ctx), "available"));
    /* what is kept for reuse makes room */
    clf_tensor_destroy(a);
    b = make(ctx, 1, 1 << 18);
    assert_int_equal(stats_of(ctx).held, 1 << 20);
    clf_tensor_destroy(b);
    assert_int_equal(clf_memory_trim(ctx), CLF_OK);
    assert_int_equal(stats_of(ctx).held, 0);
    assert_int_equal(clf_memory_reset_peak(ctx), CLF_OK);
    assert_int_equal(stats_of(ctx).peak_held, 0);

    assert_int_equal(clf_tensor_create(&a, ctx, &(clf_tensor_args){.ndim = 1, .shape = {10}, .tag = CLF_TAG_KV_CACHE}),
                     CLF_OK);
    assert_int_equal(stats_of(ctx).tag_asked[CLF_TAG_KV_CACHE], 40);
    clf_tensor_destroy(a);
    assert_int_equal(stats_of(ctx).tag_asked[CLF_TAG_KV_CACHE], 0);
    assert_int_equal(stats_of(ctx).tag_peak[CLF_TAG_KV_CACHE], 40);

    float mine[4] = {1, 2, 3, 4};
    assert_int_equal(clf_tensor_create(&a, ctx, &(clf_tensor_args){.ndim = 1, .shape = {4}, .data = mine}), CLF_OK);
    assert_ptr_equal(clf_tensor_data(a), mine);
    assert_int_equal(stats_of(ctx).mapped, 16);
    clf_tensor_destroy(a);
    assert_int_equal(stats_of(ctx).mapped, 0);
    assert_int_equal(clf_tensor_create(&a, ctx, &(clf_tensor_args){.ndim = 1, .shape = {3}, .data = (char *)mine + 1}),
                     CLF_INVALID_ARGUMENT);
    clf_context_destroy(ctx);
}

/* Every class holds what was asked, wastes at most a quarter beyond 64 bytes, and grows with it. */
static void size_classes(void **state) {
    (void)state;
    clf_context *ctx = open_cpu(0);
    uint64_t before = 0;
    for (int64_t n = 1; n < 1 << 22; n += n / 7 + 1) {
        clf_tensor *t;
        assert_int_equal(clf_tensor_create(&t, ctx, &(clf_tensor_args){.dtype = CLF_U8, .ndim = 1, .shape = {n}}),
                         CLF_OK);
        const clf_memory_stats s = stats_of(ctx);
        assert_true(s.in_use >= (uint64_t)n && s.in_use >= before && s.in_use % 64 == 0);
        assert_true(n <= 64 || s.in_use * 4 <= (uint64_t)n * 5 + 256);
        before = s.in_use;
        clf_tensor_destroy(t);
    }
    clf_context_destroy(ctx);
}

static void copies_between_contexts(void **state) {
    (void)state;
    clf_context *a = open_cpu(0), *b = open_cpu(0);
    clf_tensor *x = make(a, 2, 3), *y = make(b, 2, 3), *z = make(b, 3, 2);
    const float data[6] = {1, 2, 3, 4, 5, 6};
    float back[6];
    clf_tensor_write(x, data, sizeof data);
    assert_int_equal(clf_tensor_copy(y, x), CLF_OK);
    assert_int_equal(clf_tensor_read(y, back, sizeof back), CLF_OK);
    assert_memory_equal(back, data, sizeof data);
    assert_int_equal(stats_of(b).between.count, 1);
    assert_int_equal(stats_of(b).between.bytes, 24);
    assert_int_equal(stats_of(a).between.count, 0);
    assert_int_equal(clf_tensor_copy(z, x), CLF_INVALID_ARGUMENT);
    /* an op refuses tensors of two contexts */
    assert_int_equal(clf_rms_norm(b, &(clf_rms_norm_args){.x = x, .out = y}), CLF_INVALID_ARGUMENT);
    assert_non_null(strstr(clf_error_message(b), "another context"));
    clf_tensor_destroy(x);
    clf_tensor_destroy(y);
    clf_tensor_destroy(z);
    clf_context_destroy(a);
    clf_context_destroy(b);
}

static void *second_thread(void *user) {
    return (void *)(intptr_t)clf_sync(user);
}

static void busy_and_forked(void **state) {
    (void)state;
    clf_context *ctx = open_cpu(0);
    assert_int_equal(clf_enter(ctx), CLF_OK);
    pthread_t thread;
    void *result;
    assert_int_equal(pthread_create(&thread, NULL, second_thread, ctx), 0);
    pthread_join(thread, &result);
    assert_int_equal((intptr_t)result, CLF_BUSY);
    assert_int_equal(clf_leave(ctx, CLF_OK), CLF_OK);
    assert_int_equal(clf_sync(ctx), CLF_OK);

    const pid_t child = fork();
    if (child == 0) _exit(clf_sync(ctx) == CLF_DEVICE_ERROR ? 0 : 1);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);

    int foreign[64] = {0};
    assert_int_equal(clf_sync((clf_context *)foreign), CLF_INVALID_ARGUMENT);
    assert_int_equal(clf_sync(NULL), CLF_INVALID_ARGUMENT);
    assert_string_equal(clf_error_message(NULL), "not a context");
    assert_int_equal(clf_tensor_read((clf_tensor *)foreign, foreign, 4), CLF_INVALID_ARGUMENT);
    clf_context_destroy(ctx);
}

static int logged;
static void count_lines(void *user, clf_log_level level, const char *line) {
    (void)user, (void)level;
    logged += line[0] != 0;
}

static void log_lines(void **state) {
    (void)state;
    clf_context *ctx;
    logged = 0;
    const clf_context_args args = {.device = "cpu", .log = count_lines, .log_level = CLF_LOG_INFO};
    assert_int_equal(clf_context_create(&ctx, &args), CLF_OK);
    assert_true(logged >= 1);
    const int before = logged;
    clf_tensor *t;
    assert_int_equal(clf_tensor_create(&t, ctx, &(clf_tensor_args){.ndim = 9}), CLF_INVALID_ARGUMENT);
    assert_int_equal(logged, before + 1);
    clf_context_destroy(ctx);
}

/* Not this machine: neither mask nor quota counts, nothing is bound, one thread on each of 28 cores, 14 a node. */
static void synthetic_placement(void **state) {
    (void)state;
    static const char *const asked[] = {"CLFORMER_NUM_THREADS", "OMP_NUM_THREADS", "OMP_PROC_BIND", "OMP_PLACES"};
    for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) unsetenv(asked[i]);
    setenv("HWLOC_SYNTHETIC", "numa:2 core:14 pu:2", 1);
    clf_context *ctx = open_cpu(0);
    unsetenv("HWLOC_SYNTHETIC");
    clf_thread_place places[64];
    int n, on_node[2] = {0};
    assert_int_equal(clf_context_placement(ctx, places, 64, &n), CLF_OK);
    assert_int_equal(n, 28);
    for (int i = 0; i < n; i++) {
        assert_true(places[i].node == 0 || places[i].node == 1);
        assert_false(places[i].bound);
        on_node[places[i].node]++;
        for (int j = 0; j < i; j++) assert_int_not_equal(places[i].core, places[j].core);
    }
    assert_int_equal(on_node[0], 14);
    clf_context_destroy(ctx);
}

static int deletions;
static void count_deletion(DLManagedTensor *self) {
    (void)self;
    deletions++;
}

static void dlpack(void **state) {
    (void)state;
    clf_context *ctx = open_cpu(0);
    float data[12] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, back[4];
    int64_t shape[2] = {2, 2}, stride[2] = {1, 4};
    DLManagedTensor dl = {.dl_tensor = {.data = data,
                                        .device = {DL_CPU, 0},
                                        .ndim = 2,
                                        .dtype = {DL_FLOAT, 32, 1},
                                        .shape = shape,
                                        .strides = stride,
                                        .byte_offset = 4},
                          .deleter = count_deletion};
    clf_tensor *t, *v, *w;
    deletions = 0;
    assert_int_equal(clf_tensor_from_dlpack(&t, ctx, &dl), CLF_OK);
    assert_int_equal(clf_tensor_view(&v, t, 1, (int64_t[]){1}, NULL, 5), CLF_OK);
    assert_int_equal(clf_tensor_view(&w, t, 1, (int64_t[]){1}, NULL, 6), CLF_INVALID_ARGUMENT);
    assert_int_equal(clf_tensor_view(&w, NULL, 1, shape, NULL, 0), CLF_INVALID_ARGUMENT);
    assert_null(w);
    assert_int_equal(clf_tensor_read(t, back, sizeof back), CLF_OK);
    assert_memory_equal(back, ((float[]){1, 5, 2, 6}), sizeof back);

    DLManagedTensor *out;
    assert_int_equal(clf_tensor_to_dlpack(&out, t), CLF_OK);
    clf_tensor_destroy(t);
    assert_ptr_equal(out->dl_tensor.data, &data[1]);
    assert_int_equal(out->dl_tensor.strides[1], 4);
    assert_int_equal(deletions, 0);
    out->deleter(out);
    assert_int_equal(deletions, 0); /* the view still holds it */
    clf_tensor_destroy(v);
    assert_int_equal(deletions, 1);
    clf_context_destroy(ctx);
}

static void dlpack_refused(void **state) {
    (void)state;
    clf_context *ctx = open_cpu(0);
    float data[4] = {0};
    int64_t shape[5] = {1, 1, 1, 1, 1}, negative[1] = {-1}, huge[1] = {INT64_MAX};
    const DLTensor good = {.data = data, .device = {DL_CPU, 0}, .ndim = 1, .dtype = {DL_FLOAT, 32, 1}, .shape = shape};
    DLTensor bad[7];
    for (int i = 0; i < 7; i++) bad[i] = good;
    bad[0].device.device_type = 2;
    bad[1].ndim = 5;
    bad[2].dtype.lanes = 4;
    bad[3].strides = negative;
    bad[4].shape = huge;
    bad[5].byte_offset = 1;
    bad[6].shape = NULL;
    deletions = 0;
    for (int i = 0; i < 7; i++) {
        clf_tensor *t;
        DLManagedTensor dl = {.dl_tensor = bad[i], .deleter = count_deletion};
        assert_int_not_equal(clf_tensor_from_dlpack(&t, ctx, &dl), CLF_OK);
        assert_null(t);
    }
    assert_int_equal(deletions, 0);
    clf_context_destroy(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words),
        cmocka_unit_test(halves),
        cmocka_unit_test(arithmetic),
        cmocka_unit_test(unknown_devices),
        cmocka_unit_test(device_list),
        cmocka_unit_test(shapes),
        cmocka_unit_test(views),
        cmocka_unit_test(clears),
        cmocka_unit_test(pool),
        cmocka_unit_test(scratch_is_one_block),
        cmocka_unit_test(size_classes),
        cmocka_unit_test(copies_between_contexts),
        cmocka_unit_test(busy_and_forked),
        cmocka_unit_test(log_lines),
        cmocka_unit_test(synthetic_placement),
        cmocka_unit_test(dlpack),
        cmocka_unit_test(dlpack_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
