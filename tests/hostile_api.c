/* hostile_api.c: arguments that no right program passes, numbered as in the list of hostile inputs: 63 handles, 64
 * empty, 65 counts beyond 32 bits, 66 strides and overlap, 67 mixed contexts and dtypes, 68 ids, 69 what isn't a
 * number, 70 K = 0, 72 two threads, 73 destroyed while work is queued. Each is a status and a message, on every device
 * there is; nothing is written. */
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <clformer/clformer.h>

enum { MAX_DEVICES = 16 };
static clf_context *contexts[MAX_DEVICES];
static int n_contexts;

static int open_devices(void **state) {
    (void)state;
    clf_device_info info[MAX_DEVICES];
    int n;
    if (clf_devices(info, MAX_DEVICES, &n) != CLF_OK) return -1;
    for (int i = 0; i < n && i < MAX_DEVICES; i++) {
        const clf_context_args args = {.device = info[i].name, .threads = 2};
        if (info[i].usable && clf_context_create(&contexts[n_contexts], &args) == CLF_OK)
            n_contexts++;
        else
            printf("skip %s: %s\n", info[i].name, info[i].reason);
    }
    return n_contexts ? 0 : -1;
}

static int close_devices(void **state) {
    (void)state;
    while (n_contexts) clf_context_destroy(contexts[--n_contexts]);
    return 0;
}

static clf_tensor *make(clf_context *ctx, clf_dtype dtype, int ndim, int64_t a, int64_t b) {
    clf_tensor *t;
    const clf_tensor_args args = {.dtype = dtype, .ndim = ndim, .shape = {a, b}};
    assert_int_equal(clf_tensor_create(&t, ctx, &args), CLF_OK);
    return t;
}

static clf_tensor *view(const clf_tensor *t, int64_t a, int64_t b, int64_t stride_a, int64_t stride_b, int64_t offset) {
    clf_tensor *v;
    assert_int_equal(clf_tensor_view(&v, t, 2, (int64_t[]){a, b}, (int64_t[]){stride_a, stride_b}, offset), CLF_OK);
    return v;
}

/* The call was refused as an invalid argument, by a message that begins with the op's name. */
static void refused(clf_context *ctx, clf_status status, const char *op) {
    assert_int_equal(status, CLF_INVALID_ARGUMENT);
    assert_int_equal(strncmp(clf_error_message(ctx), op, strlen(op)), 0);
}

static void handles_63(void **state) {
    (void)state;
    int64_t foreign[64] = {42};
    for (int i = 0; i < n_contexts; i++) {
        clf_context *ctx = contexts[i];
#define CLF_OP(op)                                                                                                     \
    assert_int_equal(clf_##op(NULL, &(clf_##op##_args){0}), CLF_INVALID_ARGUMENT);                                     \
    assert_int_equal(clf_##op((clf_context *)foreign, &(clf_##op##_args){0}), CLF_INVALID_ARGUMENT);                   \
    refused(ctx, clf_##op(ctx, NULL), #op);                                                                            \
    refused(ctx, clf_##op(ctx, &(clf_##op##_args){0}), #op);
#include "../lib/ops/ops.def"
#undef CLF_OP
        clf_tensor *x = make(ctx, CLF_F32, 1, 4, 0);
        refused(ctx, clf_add(ctx, &(clf_add_args){.a = (clf_tensor *)foreign, .b = x, .out = x}), "add");
        clf_tensor_destroy(x);
        clf_tensor_destroy((clf_tensor *)foreign);
    }
}

static void empty_64(void **state) {
    (void)state;
    for (int i = 0; i < n_contexts; i++) {
        clf_context *ctx = contexts[i];
        clf_tensor *x = make(ctx, CLF_F32, 2, 0, 8), *w = make(ctx, CLF_F32, 2, 4, 8), *y = make(ctx, CLF_F32, 2, 0, 4);
        clf_tensor *none = make(ctx, CLF_F32, 2, 3, 0), *ids = make(ctx, CLF_I32, 1, 3, 0);
        assert_int_equal(clf_rms_norm(ctx, &(clf_rms_norm_args){.x = x, .out = x}), CLF_OK);
        assert_int_equal(clf_linear(ctx, &(clf_linear_args){.x = x, .weight = {w}, .out = {y}}), CLF_OK);
        assert_int_equal(clf_add(ctx, &(clf_add_args){.a = none, .b = none, .out = none}), CLF_OK);
        refused(ctx, clf_argmax(ctx, &(clf_argmax_args){.x = none, .out = ids}), "argmax");
        clf_tensor_destroy(x), clf_tensor_destroy(w), clf_tensor_destroy(y), clf_tensor_destroy(none),
            clf_tensor_destroy(ids);
    }
}

/* A repeated row makes 2^33 elements of four bytes; ops that would need an output of that size refuse the one they get.
 */
static void counts_65(void **state) {
    (void)state;
    for (int i = 0; i < n_contexts; i++) {
        clf_context *ctx = contexts[i];
        clf_tensor *row = make(ctx, CLF_F32, 1, 8, 0), *out = make(ctx, CLF_F32, 2, 1, 8);
        clf_tensor *many = view(row, 1ll << 30, 8, 0, 1, 0);
        assert_int_equal(clf_tensor_elements(many), 1ll << 33);
        assert_int_equal(clf_tensor_bytes(many), 1ll << 35);
        refused(ctx, clf_rms_norm(ctx, &(clf_rms_norm_args){.x = many, .out = out}), "rms_norm");
        refused(ctx, clf_softcap(ctx, &(clf_softcap_args){.x = many, .cap = 1, .out = many}), "softcap");
        clf_tensor_destroy(many), clf_tensor_destroy(row), clf_tensor_destroy(out);
    }
}

static void overlap_66(void **state) {
    (void)state;
    for (int i = 0; i < n_contexts; i++) {
        clf_context *ctx = contexts[i];
        clf_tensor *t = make(ctx, CLF_F32, 1, 64, 0), *x = view(t, 4, 8, 8, 1, 0);
        clf_tensor *repeated = view(t, 4, 8, 0, 1, 32), *folded = view(t, 4, 8, 4, 1, 32),
                   *shifted = view(t, 4, 8, 8, 1, 4);
        clf_tensor *transposed = view(t, 4, 8, 1, 4, 32);
        refused(ctx, clf_add(ctx, &(clf_add_args){.a = x, .b = x, .out = repeated}), "add");
        refused(ctx, clf_add(ctx, &(clf_add_args){.a = x, .b = x, .out = folded}), "add");
        refused(ctx, clf_add(ctx, &(clf_add_args){.a = x, .b = x, .out = shifted}), "add");
        refused(ctx, clf_add(ctx, &(clf_add_args){.a = x, .b = x, .out = transposed}), "add");
        refused(ctx, clf_add(ctx, &(clf_add_args){.a = transposed, .b = x, .out = x}), "add");
        assert_int_equal(clf_add(ctx, &(clf_add_args){.a = x, .b = repeated, .out = x}), CLF_OK);
        clf_tensor *v;
        assert_int_equal(clf_tensor_view(&v, t, 1, (int64_t[]){4}, (int64_t[]){-1}, 8), CLF_INVALID_ARGUMENT);
        clf_tensor_destroy(x), clf_tensor_destroy(repeated), clf_tensor_destroy(folded), clf_tensor_destroy(shifted);
        clf_tensor_destroy(transposed), clf_tensor_destroy(t);
    }
}

static void mixed_67(void **state) {
    (void)state;
    for (int i = 0; i < n_contexts; i++) {
        clf_context *ctx = contexts[i];
        clf_tensor *x = make(ctx, CLF_F32, 1, 8, 0), *h = make(ctx, CLF_F16, 1, 8, 0), *n = make(ctx, CLF_I32, 1, 8, 0);
        clf_tensor *q = make(ctx, CLF_Q8_0, 1, 32, 0);
        refused(ctx, clf_add(ctx, &(clf_add_args){.a = x, .b = h, .out = x}), "add");
        refused(ctx, clf_add(ctx, &(clf_add_args){.a = n, .b = n, .out = n}), "add");
        refused(ctx, clf_glu(ctx, &(clf_glu_args){.gate = x, .up = x, .activation = CLF_ACTIVATION_SILU, .out = h}),
                "glu");
        refused(ctx, clf_rms_norm(ctx, &(clf_rms_norm_args){.x = q, .out = q}), "rms_norm");
        for (int j = 0; j < n_contexts; j++)
            if (j != i) refused(contexts[j], clf_add(contexts[j], &(clf_add_args){.a = x, .b = x, .out = x}), "add");
        clf_tensor_destroy(x), clf_tensor_destroy(h), clf_tensor_destroy(n), clf_tensor_destroy(q);
    }
}

/* CPU tables refuse the call; elsewhere ids lie on the device and the row is NaN. Nothing is read outside the weights.
 */
static void ids_68(void **state) {
    (void)state;
    static const int32_t bad[][2] = {{0, 5}, {-1, 0}, {INT32_MAX, 1}, {INT32_MIN, 1}};
    for (int i = 0; i < n_contexts; i++) {
        clf_context *ctx = contexts[i];
        clf_tensor *w = make(ctx, CLF_F32, 2, 5, 3), *ids = make(ctx, CLF_I32, 1, 2, 0),
                   *out = make(ctx, CLF_F32, 2, 2, 3);
        const float zeros[15] = {0}, sevens[6] = {7, 7, 7, 7, 7, 7};
        float back[6];
        clf_tensor_write(w, zeros, sizeof zeros);
        for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
            clf_tensor_write(ids, bad[k], sizeof bad[k]);
            clf_tensor_write(out, sevens, sizeof sevens);
            const clf_status st = clf_embedding(ctx, &(clf_embedding_args){.weight = w, .ids = ids, .out = out});
            assert_int_equal(st, clf_tensor_data(w) ? CLF_INVALID_ARGUMENT : CLF_OK);
            assert_int_equal(clf_tensor_read(out, back, sizeof back), CLF_OK);
            for (int row = 0; row < 2; row++) {
                const bool out_of_range = bad[k][row] < 0 || bad[k][row] >= 5;
                if (st != CLF_OK)
                    assert_memory_equal(back, sevens, sizeof sevens);
                else
                    assert_true(out_of_range ? isnan(back[3 * row]) : back[3 * row] == 0);
            }
        }
        clf_tensor_destroy(w), clf_tensor_destroy(ids), clf_tensor_destroy(out);
    }
}

static void numbers_69(void **state) {
    (void)state;
    for (int i = 0; i < n_contexts; i++) {
        clf_context *ctx = contexts[i];
        clf_tensor *x = make(ctx, CLF_F32, 1, 8, 0), *id = make(ctx, CLF_I32, 0, 0, 0);
        refused(ctx, clf_rms_norm(ctx, &(clf_rms_norm_args){.x = x, .eps = NAN, .out = x}), "rms_norm");
        refused(ctx, clf_rms_norm(ctx, &(clf_rms_norm_args){.x = x, .eps = -1, .out = x}), "rms_norm");
        refused(ctx, clf_softcap(ctx, &(clf_softcap_args){.x = x, .cap = INFINITY, .out = x}), "softcap");
        refused(ctx, clf_softcap(ctx, &(clf_softcap_args){.x = x, .cap = 0, .out = x}), "softcap");
        const float data[8] = {1, 2, NAN, 9, INFINITY, NAN, -INFINITY, 0x1p-140f};
        int32_t at;
        clf_tensor_write(x, data, sizeof data);
        assert_int_equal(clf_argmax(ctx, &(clf_argmax_args){.x = x, .out = id}), CLF_OK);
        assert_int_equal(clf_tensor_read(id, &at, sizeof at), CLF_OK);
        assert_int_equal(at, 2);
        clf_tensor_destroy(x), clf_tensor_destroy(id);
    }
}

static void no_terms_70(void **state) {
    (void)state;
    for (int i = 0; i < n_contexts; i++) {
        clf_context *ctx = contexts[i];
        clf_tensor *x = make(ctx, CLF_F32, 2, 2, 0), *w = make(ctx, CLF_F32, 2, 3, 0), *y = make(ctx, CLF_F32, 2, 2, 3);
        clf_tensor *b = make(ctx, CLF_F32, 1, 3, 0);
        float back[6], bias[3] = {1, 2, 3};
        clf_tensor_write(b, bias, sizeof bias);
        assert_int_equal(clf_linear(ctx, &(clf_linear_args){.x = x, .weight = {w}, .bias = {b}, .out = {y}}), CLF_OK);
        assert_int_equal(clf_tensor_read(y, back, sizeof back), CLF_OK);
        assert_memory_equal(back, ((float[]){1, 2, 3, 1, 2, 3}), sizeof back);
        clf_tensor_destroy(x), clf_tensor_destroy(w), clf_tensor_destroy(y), clf_tensor_destroy(b);
    }
}

typedef struct contender {
    clf_context *ctx;
    clf_tensor *x;
    int done, wrong;
} contender;

static void *contend(void *user) {
    contender *c = user;
    while (c->done < 200 && !c->wrong) {
        const clf_status st = clf_add(c->ctx, &(clf_add_args){.a = c->x, .b = c->x, .out = c->x});
        c->done += st == CLF_OK;
        c->wrong += st != CLF_OK && st != CLF_BUSY;
    }
    return NULL;
}

/* Each call is either done or refused as busy; both threads get through. */
static void two_threads_72(void **state) {
    (void)state;
    for (int i = 0; i < n_contexts; i++) {
        clf_context *ctx = contexts[i];
        contender c[2];
        pthread_t threads[2];
        const float zeros[4] = {0};
        for (int k = 0; k < 2; k++) {
            c[k] = (contender){.ctx = ctx, .x = make(ctx, CLF_F32, 1, 4, 0)};
            assert_int_equal(clf_tensor_write(c[k].x, zeros, sizeof zeros), CLF_OK);
        }
        for (int k = 0; k < 2; k++) assert_int_equal(pthread_create(&threads[k], NULL, contend, &c[k]), 0);
        for (int k = 0; k < 2; k++) pthread_join(threads[k], NULL);
        for (int k = 0; k < 2; k++) {
            assert_int_equal(c[k].wrong, 0);
            assert_int_equal(c[k].done, 200);
            clf_tensor_destroy(c[k].x);
        }
        assert_int_equal(clf_sync(ctx), CLF_OK);
    }
}

static void queued_73(void **state) {
    (void)state;
    for (int i = 0; i < n_contexts; i++) {
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)strcspn(clf_context_device(contexts[i]), ","),
                 clf_context_device(contexts[i]));
        clf_context *ctx;
        assert_int_equal(clf_context_create(&ctx, &(clf_context_args){.device = name}), CLF_OK);
        clf_tensor *x = make(ctx, CLF_F32, 2, 512, 512);
        for (int k = 0; k < 20; k++)
            assert_int_equal(clf_softcap(ctx, &(clf_softcap_args){.x = x, .cap = 1, .out = x}), CLF_OK);
        clf_tensor_destroy(x); /* its storage goes back to the pool while kernels may still write it */
        x = make(ctx, CLF_F32, 2, 512, 512);
        assert_int_equal(clf_softcap(ctx, &(clf_softcap_args){.x = x, .cap = 1, .out = x}), CLF_OK);
        clf_tensor_destroy(x);
        clf_context_destroy(ctx);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(handles_63), cmocka_unit_test(empty_64),    cmocka_unit_test(counts_65),
        cmocka_unit_test(overlap_66), cmocka_unit_test(mixed_67),    cmocka_unit_test(ids_68),
        cmocka_unit_test(numbers_69), cmocka_unit_test(no_terms_70), cmocka_unit_test(two_threads_72),
        cmocka_unit_test(queued_73),
    };
    return cmocka_run_group_tests(tests, open_devices, close_devices);
}
