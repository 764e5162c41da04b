/* opencl.c: what is specific to the OpenCL backend: probing, several devices, memory, CLBlast, interoperation. What ops
 * compute is checked by their own tests. Skipped where no OpenCL platform is. */
#define _DEFAULT_SOURCE
#include "opencl_case.h"

#include <sys/wait.h>

#include <clformer/opencl.h>

static char *program;

/* devices */

static void lists_devices(void **unused) {
    (void)unused;
    clf_device_info info[16];
    int n, found = 0;
    assert_int_equal(clf_devices(info, 16, &n), CLF_OK);
    for (int i = 0; i < n; i++) {
        if (strncmp(info[i].name, "opencl:", 7)) continue;
        found++;
        assert_true(info[i].what[0]);
        assert_true(info[i].reason[0]);
        if (strstr(info[i].what, "Portable Computing")) assert_false(info[i].chosen); /* never PoCL by itself */
    }
    assert_true(found >= 2); /* POCL_DEVICES, see main */
    int same;
    assert_int_equal(clf_devices(NULL, 0, &same), CLF_OK);
    assert_int_equal(same, n);
}

static void refuses_absent_devices(void **unused) {
    (void)unused;
    char message[512];
    clf_context *ctx;
    assert_int_equal(try_open(&ctx, "opencl:99", "off", message), CLF_NOT_FOUND);
    assert_null(ctx);
    assert_says(message, "opencl:99");
}

/* Runs this program again as `what`, without any platform. */
static void works_without_platform(void **unused) {
    (void)unused;
    const pid_t child = fork();
    if (!child) {
        setenv("OCL_ICD_VENDORS", "/nonexistent", 1);
        unsetenv("OPENCL_LAYERS");
        execl(program, program, "without-platform", (char *)NULL);
        _exit(99);
    }
    int status;
    waitpid(child, &status, 0);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static int without_platform(void) {
    clf_device_info info[16];
    int n;
    char message[512];
    clf_context *ctx;
    if (clf_devices(info, 16, &n) != CLF_OK || n < 2) return 1;
    if (strcmp(info[0].name, "opencl") || info[0].usable || !strstr(info[0].reason, "no OpenCL platform")) return 2;
    if (try_open(&ctx, "opencl", "off", message) != CLF_NOT_FOUND || ctx) return 3;
    if (try_open(&ctx, "auto", "off", message) != CLF_OK || strncmp(clf_context_backend(ctx), "cpu-", 4)) return 4;
    clf_context_destroy(ctx);
    return 0;
}

static void copies_between_devices(void **unused) {
    (void)unused;
    clf_context *a = open_device("opencl:0", NULL), *b = open_device("opencl:1", NULL), *c = open_device("cpu", NULL);
    assert_string_not_equal(clf_context_device(a), clf_context_device(b));
    const clf_tensor_args args = {.ndim = 2, .shape = {3, 5}};
    clf_tensor *ta, *tb, *tc;
    ok(a, clf_tensor_create(&ta, a, &args));
    ok(b, clf_tensor_create(&tb, b, &args));
    ok(c, clf_tensor_create(&tc, c, &args));
    float x[15], y[15] = {0};
    for (int i = 0; i < 15; i++) x[i] = (float)i;
    ok(a, clf_tensor_write(ta, x, sizeof x));
    ok(b, clf_tensor_copy(tb, ta));
    ok(c, clf_tensor_copy(tc, tb));
    ok(c, clf_tensor_read(tc, y, sizeof y));
    assert_memory_equal(x, y, sizeof x);
    clf_memory_stats stats;
    ok(b, clf_memory_get_stats(b, &stats));
    assert_int_equal(stats.between.count, 1);
    assert_int_equal(stats.between.bytes, sizeof x);
    assert_int_equal(clf_rms_norm(b, &(clf_rms_norm_args){.x = ta, .out = tb}), CLF_INVALID_ARGUMENT);
    assert_says(clf_error_message(b), "another context");
    clf_tensor_destroy(ta);
    clf_tensor_destroy(tb);
    clf_tensor_destroy(tc);
    clf_context_destroy(a);
    ok(b, work(b)); /* what is left goes on */
    clf_context_destroy(b);
    clf_context_destroy(c);
}

/* memory */

/* Zeros fill what the view covers, odd offsets and sizes included, and nothing beside it. */
static void clears(void **unused) {
    (void)unused;
    clf_context *ctx = open_device("opencl:0", NULL);
    enum { BYTES = 1000 };
    static const struct {
        int64_t offset, n;
    } parts[] = {{0, BYTES}, {1, 1}, {3, 402}, {4, 400}, {BYTES - 1, 1}, {5, 0}};
    clf_tensor *t, *part;
    uint8_t data[BYTES], back[BYTES];
    memset(data, 0xa5, BYTES);
    ok(ctx, clf_tensor_create(&t, ctx, &(clf_tensor_args){.dtype = CLF_U8, .ndim = 1, .shape = {BYTES}}));
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        ok(ctx, clf_tensor_view(&part, t, 1, &parts[i].n, NULL, parts[i].offset));
        ok(ctx, clf_tensor_write(t, data, BYTES));
        ok(ctx, clf_tensor_clear(part));
        ok(ctx, clf_tensor_read(t, back, BYTES));
        for (int64_t k = 0; k < BYTES; k++)
            assert_int_equal(back[k], k >= parts[i].offset && k < parts[i].offset + parts[i].n ? 0 : 0xa5);
        clf_tensor_destroy(part);
    }
    ok(ctx, clf_tensor_view(&part, t, 2, (int64_t[]){3, 4}, (int64_t[]){8, 1}, 0));
    assert_int_equal(clf_tensor_clear(part), CLF_INVALID_ARGUMENT);
    assert_says(clf_error_message(ctx), "expected a contiguous one");
    clf_tensor_destroy(part);
    clf_tensor_destroy(t);
    clf_context_destroy(ctx);
}

static void keeps_the_memory_limit(void **unused) {
    (void)unused;
    clf_context *ctx;
    clf_tensor *t;
    assert_int_equal(clf_context_create(&ctx, &(clf_context_args){.device = "opencl:0", .memory_limit = 1 << 20}),
                     CLF_OK);
    assert_int_equal(clf_tensor_create(&t, ctx, &(clf_tensor_args){.ndim = 1, .shape = {1 << 19}}), CLF_OUT_OF_MEMORY);
    assert_null(t);
    assert_says(clf_error_message(ctx), "required 2097152 bytes");
    assert_says(clf_error_message(ctx), "available");
    ok(ctx, clf_tensor_create(&t, ctx, &(clf_tensor_args){.ndim = 1, .shape = {1 << 17}}));
    clf_tensor_destroy(t);
    ok(ctx, work(ctx));
    clf_context_destroy(ctx);
}

static void refuses_what_the_device_cannot_hold(void **unused) {
    (void)unused;
    clf_context *ctx = open_device("opencl:0", NULL);
    clf_tensor *t;
    float host[4];
    assert_int_equal(clf_tensor_create(&t, ctx, &(clf_tensor_args){.ndim = 1, .shape = {(int64_t)1 << 44}}),
                     CLF_OUT_OF_MEMORY);
    assert_int_equal(clf_tensor_create(&t, ctx, &(clf_tensor_args){.ndim = 1, .shape = {4}, .data = host}),
                     CLF_UNSUPPORTED);
    ok(ctx, work(ctx));
    clf_context_destroy(ctx);
}

/* Attention's memory against that of the scores, and of its gradient. */
static void stores_no_scores(void **unused) {
    (void)unused;
    enum { LENGTH = 2048, DIM = 64, LSE = 8, TENSORS };
    clf_context *ctx = open_device("opencl:0", NULL);
    clf_tensor *t[TENSORS]; /* q k v out d_out dq dk dv lse */
    float *x = test_calloc(LENGTH * DIM, sizeof *x);
    ok(ctx, clf_memory_reset_peak(ctx));
    for (int i = 0; i < TENSORS; i++) {
        ok(ctx,
           clf_tensor_create(&t[i], ctx, &(clf_tensor_args){.ndim = i == LSE ? 3 : 4, .shape = {1, 1, LENGTH, DIM}}));
        ok(ctx, clf_tensor_write(t[i], x, (i == LSE ? 1 : DIM) * LENGTH * sizeof *x));
    }
    test_free(x);
    const clf_attention_args args = {
        .query = t[0], .key = t[1], .value = t[2], .causal = true, .out = t[3], .lse = t[LSE]};
    clf_memory_stats stats;
    const uint64_t matrix = (uint64_t)LENGTH * LENGTH * sizeof(float), own = (uint64_t)LENGTH * DIM * sizeof(float);
    ok(ctx, clf_attention(ctx, &args));
    ok(ctx, clf_memory_get_stats(ctx, &stats));
    assert_true(stats.peak_asked <= (2 * matrix + 4 * own) / 5); /* scores and probabilities */
    assert_int_equal(stats.tag_peak[CLF_TAG_SCRATCH], 0);
    ok(ctx, clf_attention_backward(
                ctx, &(clf_attention_backward_args){
                         .forward = args, .d_out = t[4], .d_query = t[5], .d_key = t[6], .d_value = t[7]}));
    ok(ctx, clf_memory_get_stats(ctx, &stats));
    assert_true(stats.peak_asked <= (2 * matrix + 8 * own) / 5);
    assert_int_equal(stats.tag_peak[CLF_TAG_SCRATCH], LENGTH * sizeof(float)); /* a float a query */
    for (int i = 0; i < TENSORS; i++) clf_tensor_destroy(t[i]);
    clf_context_destroy(ctx);
}

/* CLBlast, where the build has it: the same product with and without */

static void multiplies_alike_with_clblast(void **unused) {
    (void)unused;
    enum { M = 130, COLUMNS = 140, K = 70 };
    static float x[M * K], w[COLUMNS * K], bias[COLUMNS], y[2][M * COLUMNS];
    for (int i = 0; i < M * K; i++) x[i] = (float)(i * 7 % 13 - 6);
    for (int i = 0; i < COLUMNS * K; i++) w[i] = (float)(i * 5 % 17 - 8);
    for (int i = 0; i < COLUMNS; i++) bias[i] = (float)(i % 3);
    for (int blas = 0; blas < 2; blas++) {
        setenv("CLFORMER_CLBLAST", blas ? "1" : "0", 1);
        clf_context *ctx = open_device("opencl:0", NULL);
        clf_tensor *t[4];
        const int64_t shapes[4][2] = {{M, K}, {COLUMNS, K}, {COLUMNS}, {M, COLUMNS}};
        const float *const data[3] = {x, w, bias};
        for (int i = 0; i < 4; i++) {
            clf_tensor_args args = {.ndim = i == 2 ? 1 : 2, .shape = {shapes[i][0], shapes[i][1]}};
            ok(ctx, clf_tensor_create(&t[i], ctx, &args));
            if (i < 3) ok(ctx, clf_tensor_write(t[i], data[i], clf_tensor_bytes(t[i])));
        }
        ok(ctx, clf_linear(ctx, &(clf_linear_args){.x = t[0], .weight = {t[1]}, .bias = {t[2]}, .out = {t[3]}}));
        ok(ctx, clf_tensor_read(t[3], y[blas], sizeof y[blas]));
        for (int i = 0; i < 4; i++) clf_tensor_destroy(t[i]);
        clf_context_destroy(ctx);
    }
    unsetenv("CLFORMER_CLBLAST");
    assert_memory_equal(y[0], y[1], sizeof y[0]); /* whole numbers: exact in any order */
}

/* interoperation */

static void shares_memory_with_the_caller(void **unused) {
    (void)unused;
    clf_context *ctx = open_device("opencl:0", NULL), *cpu = open_device("cpu", NULL);
    clf_opencl_handles h;
    ok(ctx, clf_opencl_get_handles(ctx, &h));
    assert_int_equal(clf_opencl_get_handles(cpu, &h), CLF_UNSUPPORTED);
    float x[8] = {1, 2, 3, 4, 5, 6, 7, 8}, y[4];
    cl_int error;
    cl_mem mem = clCreateBuffer(h.context, CL_MEM_READ_WRITE | CL_MEM_COPY_HOST_PTR, sizeof x, x, &error);
    assert_int_equal(error, CL_SUCCESS);

    const clf_tensor_args four = {.ndim = 1, .shape = {4}}, five = {.ndim = 1, .shape = {5}};
    clf_tensor *t, *copy;
    assert_int_equal(clf_opencl_wrap(&t, ctx, &five, mem, 16), CLF_INVALID_ARGUMENT);
    assert_int_equal(clf_opencl_wrap(&t, ctx, &four, mem, 4), CLF_INVALID_ARGUMENT);
    assert_int_equal(clf_opencl_wrap(&t, cpu, &four, mem, 0), CLF_UNSUPPORTED);
    ok(ctx, clf_opencl_wrap(&t, ctx, &four, mem, 16));
    assert_int_equal(clReleaseMemObject(mem), CL_SUCCESS); /* the tensor holds it */

    clf_memory_stats stats;
    ok(ctx, clf_memory_get_stats(ctx, &stats));
    assert_int_equal(stats.mapped, 32);
    ok(ctx, clf_tensor_read(t, y, sizeof y));
    assert_memory_equal(y, x + 4, sizeof y);

    struct _cl_mem *got;
    size_t offset;
    ok(ctx, clf_opencl_get_memory(t, &got, &offset));
    assert_ptr_equal(got, mem);
    assert_int_equal(offset, 16);
    ok(ctx, clf_tensor_create(&copy, ctx, &four));
    ok(ctx, clf_tensor_copy(copy, t));
    ok(ctx, clf_opencl_get_memory(copy, &got, &offset));
    assert_int_equal(clEnqueueReadBuffer(h.queue, got, CL_TRUE, offset, sizeof y, y, 0, NULL, NULL), CL_SUCCESS);
    assert_memory_equal(y, x + 4, sizeof y);
    clf_tensor_destroy(t);
    clf_tensor_destroy(copy);
    ok(ctx, clf_memory_get_stats(ctx, &stats));
    assert_int_equal(stats.mapped, 0);
    clf_context_destroy(ctx);
    clf_context_destroy(cpu);
}

int main(int argc, char **argv) {
    program = argv[0];
    if (argc == 2 && !strcmp(argv[1], "without-platform")) return without_platform();
    const int skipped = open_layer();
    if (skipped) return skipped;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_devices),
        cmocka_unit_test(refuses_absent_devices),
        cmocka_unit_test(works_without_platform),
        cmocka_unit_test(copies_between_devices),
        cmocka_unit_test(clears),
        cmocka_unit_test(keeps_the_memory_limit),
        cmocka_unit_test(refuses_what_the_device_cannot_hold),
        cmocka_unit_test(stores_no_scores),
        cmocka_unit_test(multiplies_alike_with_clblast),
        cmocka_unit_test(shares_memory_with_the_caller),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
