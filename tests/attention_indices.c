/* attention_indices.c: index tensors of attention that hold anything, on a device where the host cannot check them:
 * they hide keys or move sequences about, but nothing outside the tensors is read (around keys, values and queries lie
 * NaNs, which would show) or written (around outputs lie guards). The same wrong numbers give the same bits. EVERY=n
 * takes each n-th case: under oclgrind. Skipped where there is no OpenCL device. */
#include <limits.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <clformer/clformer.h>

enum { HEADS = 4, KV_HEADS = 2, N_Q = 37, N_K = 45, DIM = 8, SEQUENCES = 3, BLOCKS = 5, PAGE = 16, MOST = 4, EDGE = 2 };
#define GUARD 1234.5f

static clf_context *ctx;
static uint32_t state;

static uint32_t next(void) {
    state = state * 1664525u + 1013904223u;
    return state >> 8;
}

static void ok(clf_status st) {
    if (st != CLF_OK) fail_msg("%s: %s", clf_status_string(st), clf_error_message(ctx));
}

/* A tensor within a larger one, `around` being all of that. */
typedef struct inner {
    clf_tensor *all, *t;
    int64_t rows, edge; /* of the larger one; of them before and after */
    int64_t width;
} inner;

/* [a, b, c, d] of numbers between −1 and 1 or, for an output, of guards; EDGE · a rows of `around` on both sides. */
static inner make(int64_t a, int64_t b, int64_t c, int64_t d, float around, bool output) {
    const int64_t shape[4] = {a, b, c, d}, inside = a * b * c;
    inner n = {.rows = inside + 2 * EDGE * 16, .edge = EDGE * 16, .width = d};
    float *x = test_malloc((size_t)(n.rows * d) * sizeof *x);
    for (int64_t i = 0; i < n.rows * d; i++) {
        const bool is_in = i / d >= n.edge && i / d < n.edge + inside;
        x[i] = is_in && !output ? (float)(next() % 2001) / 1000 - 1 : around;
    }
    ok(clf_tensor_create(&n.all, ctx, &(clf_tensor_args){.ndim = 2, .shape = {n.rows, d}}));
    ok(clf_tensor_write(n.all, x, (size_t)(n.rows * d) * sizeof *x));
    ok(clf_tensor_view(&n.t, n.all, 4, shape, NULL, n.edge * d));
    test_free(x);
    return n;
}

/* Whether all of it is finite, and the guards are whole; adds its bits to *hash. */
static void check(const inner *n, const char *what, uint64_t *hash) {
    const int64_t count = n->rows * n->width;
    float *x = test_malloc((size_t)count * sizeof *x);
    ok(clf_tensor_read(n->all, x, (size_t)count * sizeof *x));
    for (int64_t i = 0; i < count; i++) {
        const bool is_in = i / n->width >= n->edge && i / n->width < n->rows - n->edge;
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        if (is_in) *hash = *hash * 0x100000001b3u ^ bits;
        if (!is_in && x[i] != GUARD) fail_msg("%s: written beyond its end, element %lld", what, (long long)i);
        if (is_in && (isnan(x[i]) || x[i] == INFINITY || x[i] == GUARD))
            fail_msg("%s: element %lld is %g", what, (long long)i, (double)x[i]);
    }
    test_free(x);
}

static void drop(inner *n) {
    clf_tensor_destroy(n->t);
    clf_tensor_destroy(n->all);
}

/* Numbers of which most are wrong. */
static clf_tensor *indices(int ndim, int64_t rows, int64_t columns, int64_t sensible) {
    static const int32_t wrong[] = {INT_MIN, INT_MAX, -1, INT_MIN / 2, INT_MAX / 2, 1000, 46, -16, 1 << 20, 65536};
    clf_tensor *t;
    int32_t x[64];
    const int64_t n = rows * (ndim > 1 ? columns : 1);
    assert_true(n <= 64);
    for (int64_t i = 0; i < n; i++)
        x[i] = next() % 3 ? (int32_t)(next() % (uint32_t)(sensible + 1)) : wrong[next() % 10];
    ok(clf_tensor_create(&t, ctx, &(clf_tensor_args){.dtype = CLF_I32, .ndim = ndim, .shape = {rows, columns}}));
    ok(clf_tensor_write(t, x, (size_t)n * sizeof *x));
    return t;
}

enum { PACKED = 1, PAGED = 2, LAYOUT = 4, LENGTHS = 8, FEW = 16, WINDOWS = 32, KINDS = 64 };

/* A call of the kinds in `kind`, with seed; its bits. */
static uint64_t run(int kind, uint32_t seed) {
    state = seed;
    const bool packed = kind & PACKED, paged = kind & PAGED;
    const int64_t batch = packed ? 1 : SEQUENCES, n_q = kind & FEW ? SEQUENCES : N_Q;
    const int64_t entries = paged ? BLOCKS : batch, n_k = paged ? PAGE : N_K;
    inner q = make(batch, HEADS, n_q, DIM, NAN, false), k = make(entries, KV_HEADS, n_k, DIM, NAN, false);
    inner v = make(entries, KV_HEADS, n_k, DIM, NAN, false), out = make(batch, HEADS, n_q, DIM, GUARD, true);
    inner d_out = make(batch, HEADS, n_q, DIM, NAN, false), dq = make(batch, HEADS, n_q, DIM, GUARD, true);
    inner dk = make(entries, KV_HEADS, n_k, DIM, GUARD, true), dv = make(entries, KV_HEADS, n_k, DIM, GUARD, true);
    inner mask = make(1, HEADS, n_q, paged ? MOST * PAGE : n_k, NAN, false);
    inner dm = make(1, HEADS, n_q, paged ? MOST * PAGE : n_k, GUARD, true);
    clf_tensor *lse;
    ok(clf_tensor_create(&lse, ctx, &(clf_tensor_args){.ndim = 3, .shape = {batch, HEADS, n_q}}));
    clf_attention_args a = {.query = q.t, .key = k.t, .value = v.t, .mask = mask.t, .lse = lse, .out = out.t};
    clf_tensor *list[6] = {0};
    if (packed) a.query_starts = list[0] = indices(1, SEQUENCES + 1, 0, n_q);
    if (packed && !paged) a.key_starts = list[1] = indices(1, SEQUENCES + 1, 0, n_k);
    if (paged || kind & LENGTHS) a.key_lengths = list[2] = indices(1, SEQUENCES, 0, paged ? MOST * PAGE : n_k);
    if (paged) a.block_table = list[3] = indices(2, SEQUENCES, MOST, BLOCKS);
    if (kind & LAYOUT) {
        a.layout_block = 16;
        a.layout_rows = list[4] = indices(1, (n_q + 15) / 16 + 1, 0, 9);
        a.layout_columns = list[5] = indices(1, 9, 0, 4);
    }
    if (kind & WINDOWS) a.window = 9, a.window_right = 5, a.causal = next() % 2;
    ok(clf_attention(ctx, &a));
    uint64_t hash = 0;
    check(&out, "out", &hash);
    if (!paged) {
        ok(clf_attention_backward(
            ctx, &(clf_attention_backward_args){
                     .forward = a, .d_out = d_out.t, .d_query = dq.t, .d_key = dk.t, .d_value = dv.t, .d_mask = dm.t}));
        check(&dq, "d_query", &hash);
        check(&dk, "d_key", &hash);
        check(&dv, "d_value", &hash);
        check(&dm, "d_mask", &hash);
    }
    for (int i = 0; i < 6; i++) clf_tensor_destroy(list[i]);
    clf_tensor_destroy(lse);
    inner *const all[] = {&q, &k, &v, &out, &d_out, &dq, &dk, &dv, &mask, &dm};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) drop(all[i]);
    return hash;
}

static void wrong_indices_touch_nothing(void **unused) {
    (void)unused;
    const char *text = getenv("EVERY"); /* only each so many-th case, where each takes long */
    const int rounds = 4, every = text ? atoi(text) : 1;
    int n = 0;
    for (int round = 0; round < rounds; round++)
        for (int kind = 0; kind < KINDS; kind++) {
            if (!(kind & (PACKED | PAGED | LAYOUT | LENGTHS)) || n++ % every) continue;
            const uint32_t seed = (uint32_t)(round * KINDS + kind);
            const uint64_t first = run(kind, seed);
            if (run(kind, seed) != first) fail_msg("kind %d, seed %u: other bits the second time", kind, seed);
        }
}

int main(void) {
    char message[512];
    if (clf_context_create(
            &ctx, &(clf_context_args){.device = "opencl", .error = message, .error_size = sizeof message}) != CLF_OK) {
        printf("skipped: %s\n", message);
        return 77;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(wrong_indices_touch_nothing)};
    const int failures = cmocka_run_group_tests(tests, NULL, NULL);
    clf_context_destroy(ctx);
    return failures;
}
