/* attention.c: clf_attention() in double. Named variants first, then random combinations of everything; `--golden DIR`
 * runs the golden cases instead (attention_golden.c). */
#include "op_case.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "attention_golden.h"

enum {
    CAUSAL = 1,
    WINDOW = 2,
    SOFTCAP = 4,
    ALIBI = 8,
    MASK = 16,
    LENGTHS = 32,
    SINKS = 64,
    LSE = 128,
    SCALE = 256,
    SAME_KEYS = 512, /* the key is the same for all batches: stride 0 */
    LOWEST = 1024,   /* the mask holds −FLT_MAX, not −inf, and for some rows nothing else */
    ALL_FEATURES = 511
};

typedef struct variant {
    int64_t batch, heads, kv_heads, queries, keys, head_dim, v_dim;
    int features;
    clf_dtype key_dtype;
    const char *text;
} variant;

static const variant variants[] = {
    {1, 1, 1, 1, 1, 1, 1, LSE, CLF_F32, "one of everything"},
    {1, 2, 1, 0, 5, 8, 8, LSE, CLF_F32, "no query"},
    {2, 2, 1, 3, 0, 8, 8, LSE, CLF_F32, "no key"},
    {2, 2, 2, 3, 0, 8, 8, LSE | SINKS, CLF_F16, "no key, sinks"},
    {0, 2, 2, 3, 4, 8, 8, LSE, CLF_F32, "no batch"},
    {1, 2, 2, 20, 8, 16, 16, LSE | CAUSAL, CLF_F32, "more queries than keys"},
    {2, 4, 2, 3, 40, 64, 64, LSE | CAUSAL | SAME_KEYS, CLF_F16, "a few queries, keys repeat"},
    {1, 8, 1, 1, 200, 64, 64, LSE, CLF_F16, "decode, 8 heads on one"},
    {1, 4, 4, 1, 700, 128, 96, LSE, CLF_BF16, "decode, v_dim 96"},
    {1, 1, 1, 1, 2500, 64, 64, LSE | CAUSAL, CLF_F32, "decode, keys split over threads"},
    {1, 2, 1, 9, 1500, 32, 48, LSE | CAUSAL | ALIBI, CLF_F32, "18 rows, keys split over threads"},
    {1, 3, 1, 5, 1300, 40, 24, LSE | WINDOW | CAUSAL | SINKS, CLF_F32, "15 rows, window, keys split over threads"},
    {1, 2, 1, 33, 33, 256, 256, LSE | CAUSAL, CLF_F16, "widest heads"},
    {2, 2, 2, 30, 70, 16, 16, LSE | MASK | LOWEST, CLF_F32, "rows of the lowest float"},
    {1, 2, 1, 3, 50, 16, 16, LSE | MASK | LOWEST, CLF_F32, "few rows of the lowest float"},
    {2, 6, 2, 97, 145, 24, 24, LSE | ALL_FEATURES, CLF_F32, "everything"},
    {3, 4, 1, 2, 145, 24, 24, LSE | ALL_FEATURES, CLF_F16, "everything, few rows"},
    {1, 4, 2, 300, 300, 64, 64, LSE | CAUSAL, CLF_F32, "300 by 300"},
};
static const variant bench[] = {
    {1, 32, 4, 512, 512, 64, 64, CAUSAL, CLF_F16, "bench: TinyLlama, prefill of 512"},
    {1, 32, 4, 1, 2048, 64, 64, CAUSAL, CLF_F16, "bench: TinyLlama, decode after 2048"},
    {1, 32, 8, 1, 8192, 128, 128, CAUSAL, CLF_F16, "bench: LLaMA 3 8B, decode after 8192"},
    {1, 8, 8, 2048, 2048, 128, 128, CAUSAL, CLF_F32, "bench: 8 heads of 128, 2048 by 2048"},
};
enum { NAMED = sizeof variants / sizeof *variants, BENCH = sizeof bench / sizeof *bench, RANDOM = 45 };

static int64_t pick(op_run *run, const int64_t *from, int n) {
    return from[op_random_int(run, n)];
}

/* Odd sizes around those where kernels change their ways. */
static variant random_variant(op_run *run) {
    static const int64_t sizes[] = {1, 2, 3, 5, 7, 8, 13, 16, 17, 31, 33, 47, 49, 64, 65, 97, 127, 130};
    static const int64_t dims[] = {1, 2, 3, 8, 15, 16, 24, 33, 40, 63, 64, 65, 80, 96, 128, 129, 200, 256};
    static const int64_t groups[] = {1, 1, 2, 3, 4, 7, 8};
    variant v = {.batch = 1 + op_random_int(run, 3), .kv_heads = 1 + op_random_int(run, 3), .text = "random"};
    v.heads = v.kv_heads * pick(run, groups, 7);
    v.queries = pick(run, sizes, op_random(run) < 0.4 ? 4 : 18);
    v.keys = pick(run, sizes, 18);
    v.head_dim = pick(run, dims, 18);
    v.v_dim = op_random(run) < 0.6 ? v.head_dim : pick(run, dims, 18);
    for (int bit = 1; bit <= SCALE; bit *= 2)
        if (op_random(run) < 0.4) v.features |= bit;
    v.key_dtype = (clf_dtype[]){CLF_F32, CLF_F16, CLF_BF16}[op_random_int(run, 3)];
    return v;
}

static void make_mask(op_run *run, const variant *v) {
    int64_t shape[4] = {v->batch, v->heads, v->queries, v->keys};
    for (int i = 0; i < 4; i++)
        if (!(v->features & LOWEST) && op_random(run) < 0.3) shape[i] = 1;
    const clf_dtype dtype = op_random(run) < 0.5 ? CLF_F32 : run->dtype;
    const int index = op_input(run, "mask", v->features & LOWEST ? CLF_F32 : dtype, 4, shape, -2, 2);
    double *mask = run->t[index].value;
    const int64_t n = op_elements(&run->t[index]);
    for (int64_t i = 0; i < n; i++) {
        if (op_random(run) < 0.2) mask[i] = v->features & LOWEST ? -0x1.fffffep127 : -INFINITY;
        if (v->features & LOWEST && i / v->keys % 3 == 1) mask[i] = -0x1.fffffep127;
    }
}

static bool make(op_run *run) {
    const int last = NAMED + RANDOM;
    const variant v = run->variant < NAMED  ? variants[run->variant]
                      : run->variant < last ? random_variant(run)
                                            : bench[run->variant - last];
    const int f = v.features;
    clf_attention_args *a = &run->args.attention;
    *a = (clf_attention_args){.causal = f & CAUSAL};
    if (f & WINDOW) a->window = 1 + op_random_int(run, v.keys + 3);
    if (f & SOFTCAP) a->softcap = (float)(1 + 8 * op_random(run));
    if (f & SCALE) a->scale = (float)(0.05 + 0.3 * op_random(run));
    const int64_t q[] = {v.batch, v.heads, v.queries, v.head_dim}, k[] = {v.batch, v.kv_heads, v.keys, v.head_dim};
    const int64_t value[] = {v.batch, v.kv_heads, v.keys, v.v_dim}, out[] = {v.batch, v.heads, v.queries, v.v_dim};
    op_input(run, "query", run->dtype, 4, q, -2, 2);
    const int key = op_input(run, "key", v.key_dtype, 4, k, -2, 2);
    if (f & SAME_KEYS) op_repeat(run, key, 0);
    op_input(run, "value", v.key_dtype, 4, value, -2, 2);
    if (f & ALIBI) op_input(run, "alibi_slopes", CLF_F32, 1, &v.heads, 0, 0.5);
    if (f & MASK) make_mask(run, &v);
    if (f & LENGTHS) op_input(run, "key_lengths", CLF_I32, 1, &v.batch, -1, (double)v.keys + 3);
    if (f & SINKS) op_input(run, "sinks", CLF_F32, 1, &v.heads, -3, 3);
    if (f & LSE) op_output(run, "lse", CLF_F32, 3, out);
    op_output(run, "out", run->dtype, 4, out);
    snprintf(run->text, sizeof run->text, "%s: [%d, %d/%d, %d, %d, %d/%d] k %s%s%s%s%s%s%s%s%s%s", v.text, (int)v.batch,
             (int)v.heads, (int)v.kv_heads, (int)v.queries, (int)v.keys, (int)v.head_dim, (int)v.v_dim,
             clf_dtype_name(v.key_dtype), f & CAUSAL ? " causal" : "", f & WINDOW ? " window" : "",
             f & SOFTCAP ? " softcap" : "", f & ALIBI ? " alibi" : "", f & MASK ? " mask" : "",
             f & LENGTHS ? " lengths" : "", f & SINKS ? " sinks" : "", f & LSE ? " lse" : "",
             f & SCALE ? " scale" : "");
    return true;
}

static clf_status call(op_run *run) {
    clf_attention_args *a = &run->args.attention;
    a->query = op_device(run, "query");
    a->key = op_device(run, "key");
    a->value = op_device(run, "value");
    a->alibi_slopes = op_device(run, "alibi_slopes");
    a->mask = op_device(run, "mask");
    a->key_lengths = op_device(run, "key_lengths");
    a->sinks = op_device(run, "sinks");
    a->lse = op_device(run, "lse");
    a->out = op_device(run, "out");
    return clf_attention(run->ctx, a);
}

/* A run's inputs, looked up once. */
typedef struct inputs {
    const clf_attention_args *args;
    const op_tensor *q, *k, *v, *mask;
    const double *slopes, *lengths, *sinks;
    int64_t heads, group, queries, keys;
} inputs;

/* The score of one query and key, −inf where hidden. */
static double score(const inputs *in, int64_t b, int64_t h, int64_t i, int64_t j) {
    const clf_attention_args *a = in->args;
    const int64_t position = i + in->keys - in->queries, dim = in->q->shape[3];
    if (a->causal && j > position) return -INFINITY;
    if (a->window && j <= position - a->window) return -INFINITY;
    if (in->lengths && (double)j >= in->lengths[b]) return -INFINITY;
    const double *x = in->q->value + ((b * in->heads + h) * in->queries + i) * dim;
    const double *y = in->k->value + ((b * in->k->shape[1] + h / in->group) * in->keys + j) * dim;
    double s = 0;
    for (int64_t d = 0; d < dim; d++) s += x[d] * y[d];
    s *= a->scale != 0 ? (double)a->scale : 1 / sqrt((double)dim);
    if (a->softcap != 0) s = (double)a->softcap * tanh(s / (double)a->softcap);
    if (in->slopes) s -= in->slopes[h] * fabs((double)(position - j));
    if (in->mask) {
        const int64_t at[4] = {b, h, i, j}, *shape = in->mask->shape;
        int64_t index = 0;
        for (int n = 0; n < 4; n++) index = index * shape[n] + (shape[n] == 1 ? 0 : at[n]);
        s += in->mask->value[index];
    }
    return s;
}

static void reference(op_run *run) {
    inputs in = {.args = &run->args.attention,
                 .q = op_find(run, "query"),
                 .k = op_find(run, "key"),
                 .v = op_find(run, "value"),
                 .mask = op_find(run, "mask"),
                 .slopes = op_value(run, "alibi_slopes"),
                 .lengths = op_value(run, "key_lengths"),
                 .sinks = op_value(run, "sinks")};
    in.heads = in.q->shape[1];
    in.group = in.k->shape[1] ? in.heads / in.k->shape[1] : 1;
    in.queries = in.q->shape[2];
    in.keys = in.k->shape[2];
    const int64_t dim = in.v->shape[3];
    double *lse = op_value(run, "lse"), *out = op_value(run, "out");
    double *p = malloc(((size_t)in.keys + 1) * sizeof *p);
    if (!p) abort();
    for (int64_t row = 0; row < in.q->shape[0] * in.heads * in.queries; row++) {
        const int64_t b = row / in.queries / in.heads, h = row / in.queries % in.heads;
        const double *values = in.v->value + (b * in.v->shape[1] + h / in.group) * in.keys * dim;
        double max = in.sinks ? in.sinks[h] : -INFINITY;
        for (int64_t j = 0; j < in.keys; j++) {
            p[j] = score(&in, b, h, row % in.queries, j);
            max = fmax(max, p[j]);
        }
        const double base = isinf(max) ? 0 : max;
        double sum = in.sinks ? exp(in.sinks[h] - base) : 0, *o = out + row * dim;
        for (int64_t d = 0; d < dim; d++) o[d] = 0;
        for (int64_t j = 0; j < in.keys; j++) {
            const double e = exp(p[j] - base);
            sum += e;
            for (int64_t d = 0; d < dim && e != 0; d++) o[d] += e * values[j * dim + d];
        }
        if (lse) lse[row] = base + log(sum);
        for (int64_t d = 0; d < dim && sum != 0; d++) o[d] /= sum;
    }
    free(p);
}

static double tolerance(const op_run *run, const op_tensor *t) {
    (void)run;
    return t->dtype == CLF_F32 ? 2e-6 : t->dtype == CLF_F16 ? 4e-4 : 1.5e-3;
}

/* Query and key pairs that causality leaves. */
static double flops(const op_run *run) {
    const int64_t *q = run->t[0].shape, *v = run->t[2].shape;
    double keys = (double)(q[2] * v[2]); /* seen by all queries of a head */
    if (run->args.attention.causal) {
        const int64_t n = q[2] < v[2] ? q[2] : v[2]; /* the last n queries see n − 1 keys fewer … none fewer */
        keys = (double)n * ((double)v[2] - (double)(n - 1) / 2);
    }
    return 2 * (double)(q[0] * q[1]) * keys * (double)(q[3] + v[3]);
}

static int rejects(clf_context *ctx) {
    enum {
        Q,
        K,
        V,
        OUT,
        Q16,
        K16,
        V16,
        INTS,
        FLAT,
        Q5,
        K_HEADS,
        K_DIM,
        K_KEYS,
        V_BATCH,
        V_KEYS,
        OUT_DIM,
        WIDE,
        MASK_,
        MASK_KEYS,
        HEADS,
        HEADS16,
        HEADS_LONG,
        LENGTHS_,
        LENGTHS_LONG,
        LSE_,
        LSE_DIM,
        NO_DIM,
        BIG,
        N
    };
    static const clf_tensor_args shapes[N] = {
        [Q] = {.ndim = 4, .shape = {2, 4, 3, 8}},
        [K] = {.ndim = 4, .shape = {2, 2, 5, 8}},
        [V] = {.ndim = 4, .shape = {2, 2, 5, 6}},
        [OUT] = {.ndim = 4, .shape = {2, 4, 3, 6}},
        [Q16] = {.dtype = CLF_F16, .ndim = 4, .shape = {2, 4, 3, 8}},
        [K16] = {.dtype = CLF_F16, .ndim = 4, .shape = {2, 2, 5, 8}},
        [V16] = {.dtype = CLF_BF16, .ndim = 4, .shape = {2, 2, 5, 6}},
        [INTS] = {.dtype = CLF_I32, .ndim = 4, .shape = {2, 4, 3, 8}},
        [FLAT] = {.ndim = 3, .shape = {8, 3, 8}},
        [Q5] = {.ndim = 4, .shape = {2, 5, 3, 8}},
        [K_HEADS] = {.ndim = 4, .shape = {2, 3, 5, 8}},
        [K_DIM] = {.ndim = 4, .shape = {2, 2, 5, 9}},
        [K_KEYS] = {.ndim = 4, .shape = {2, 2, 6, 8}},
        [V_BATCH] = {.ndim = 4, .shape = {1, 2, 5, 6}},
        [V_KEYS] = {.ndim = 4, .shape = {2, 2, 4, 6}},
        [OUT_DIM] = {.ndim = 4, .shape = {2, 4, 3, 8}},
        [WIDE] = {.ndim = 4, .shape = {2, 4, 6, 16}},
        [MASK_] = {.ndim = 4, .shape = {1, 1, 3, 5}},
        [MASK_KEYS] = {.ndim = 4, .shape = {1, 1, 3, 4}},
        [HEADS] = {.ndim = 1, .shape = {4}},
        [HEADS16] = {.dtype = CLF_F16, .ndim = 1, .shape = {4}},
        [HEADS_LONG] = {.ndim = 1, .shape = {5}},
        [LENGTHS_] = {.dtype = CLF_I32, .ndim = 1, .shape = {2}},
        [LENGTHS_LONG] = {.dtype = CLF_I32, .ndim = 1, .shape = {3}},
        [LSE_] = {.ndim = 3, .shape = {2, 4, 3}},
        [LSE_DIM] = {.ndim = 3, .shape = {2, 4, 2}},
        [NO_DIM] = {.ndim = 4, .shape = {2, 4, 3, 0}},
        [BIG] = {.ndim = 4, .shape = {2, 4, 3, 257}},
    };
    clf_tensor *t[N], *columns, *rows_over;
    for (int i = 0; i < N; i++)
        if (clf_tensor_create(&t[i], ctx, &shapes[i]) != CLF_OK) return 1;
    if (clf_tensor_view(&columns, t[WIDE], 4, shapes[Q].shape, (int64_t[]){384, 96, 16, 2}, 0) != CLF_OK) return 1;
    if (clf_tensor_view(&rows_over, t[WIDE], 4, shapes[OUT].shape, (int64_t[]){384, 96, 3, 1}, 0) != CLF_OK) return 1;
    const clf_attention_args good = {.query = t[Q], .key = t[K], .value = t[V], .out = t[OUT]};
    int failures = 0;
#define REJECT(part, ...)                                                                                              \
    do {                                                                                                               \
        clf_attention_args a = good;                                                                                   \
        __VA_ARGS__;                                                                                                   \
        failures += op_rejected(ctx, clf_attention(ctx, &a), CLF_INVALID_ARGUMENT, part);                              \
    } while (0)
    failures += op_rejected(ctx, clf_attention(ctx, NULL), CLF_INVALID_ARGUMENT, "attention: args is NULL");
    REJECT("query is NULL", a.query = NULL);
    REJECT("key is NULL", a.key = NULL);
    REJECT("value is NULL", a.value = NULL);
    REJECT("out is NULL", a.out = NULL);
    REJECT("query: expected dtype f32, f16, bf16, got i32", a.query = t[INTS]);
    REJECT("query: expected 4 to 4 dimensions, got 3", a.query = t[FLAT]);
    REJECT("query: expected a contiguous last dimension", a.query = columns);
    REJECT("query: expected a head_dim of 1 to 256, got 0", a.query = t[NO_DIM]);
    REJECT("query: expected a head_dim of 1 to 256, got 257", a.query = t[BIG]);
    REJECT("value: expected a v_dim of 1 to 256, got 257", a.value = t[BIG]);
    REJECT("value: expected key's dtype f16, got f32", a.key = t[K16]);
    REJECT("value: expected key's dtype f16, got bf16", a.key = t[K16]; a.value = t[V16]);
    REJECT("kv_heads that divide query's 4 heads, got 3", a.key = t[K_HEADS]);
    REJECT("kv_heads that divide query's 5 heads, got 2", a.query = t[Q5]);
    REJECT("key: expected shape [2, 2, 5, 8], got [2, 2, 5, 9]", a.key = t[K_DIM]);
    REJECT("value: expected shape [2, 2, 6, 6], got [2, 2, 5, 6]", a.key = t[K_KEYS]);
    REJECT("value: expected shape [2, 2, 5, 6], got [1, 2, 5, 6]", a.value = t[V_BATCH]);
    REJECT("value: expected shape [2, 2, 5, 6], got [2, 2, 4, 6]", a.value = t[V_KEYS]);
    REJECT("scale", a.scale = NAN);
    REJECT("scale", a.scale = INFINITY);
    REJECT("softcap", a.softcap = -1);
    REJECT("softcap", a.softcap = NAN);
    REJECT("window: expected 0 or more, got -1", a.window = -1);
    REJECT("alibi_slopes: expected dtype f32, got f16", a.alibi_slopes = t[HEADS16]);
    REJECT("alibi_slopes: expected shape [4], got [5]", a.alibi_slopes = t[HEADS_LONG]);
    REJECT("mask: expected dtype f32, got f16", a.mask = t[Q16]);
    REJECT("mask: expected 4 to 4 dimensions, got 3", a.mask = t[LSE_]);
    REJECT("mask: expected shape [1, 1, 3, 5], got [1, 1, 3, 4]", a.mask = t[MASK_KEYS]);
    REJECT("key_lengths: expected dtype i32, got f32", a.key_lengths = t[HEADS]);
    REJECT("key_lengths: expected shape [2], got [3]", a.key_lengths = t[LENGTHS_LONG]);
    REJECT("sinks: expected dtype f32, got f16", a.sinks = t[HEADS16]);
    REJECT("sinks: expected shape [4], got [5]", a.sinks = t[HEADS_LONG]);
    REJECT("lse: expected 3 to 3 dimensions, got 4", a.lse = t[WIDE]);
    REJECT("lse: expected shape [2, 4, 3], got [2, 4, 2]", a.lse = t[LSE_DIM]);
    REJECT("out: expected dtype f32, got f16", a.out = t[Q16]);
    REJECT("out: expected shape [2, 4, 3, 6], got [2, 4, 3, 8]", a.out = t[OUT_DIM]);
    REJECT("out: elements overlap", a.out = rows_over);
    REJECT("out overlaps query", a.query = t[Q]; a.value = t[K]; a.out = t[Q]);
#undef REJECT
    clf_tensor_destroy(columns);
    clf_tensor_destroy(rows_over);
    for (int i = 0; i < N; i++) clf_tensor_destroy(t[i]);
    return failures;
}

int main(int argc, char **argv) {
    static const op_case c = {.name = "attention",
                              .variants = NAMED + RANDOM + BENCH,
                              .bench_variants = BENCH,
                              .make = make,
                              .call = call,
                              .reference = reference,
                              .tolerance = tolerance,
                              .flops = flops,
                              .bytes = op_traffic,
                              .rejects = rejects};
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], "--golden")) return attention_golden(argc, argv);
    return op_main(argc, argv, &c);
}
