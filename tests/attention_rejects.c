/* attention_rejects.c: wrong arguments of clf_attention() and clf_attention_backward(). Each call has one thing wrong
 * with it; the message must name the op, the argument, what was expected and what came. */
#include "attention_case.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* Tensors made on the way, until the end. */
typedef struct tensors {
    clf_context *ctx;
    clf_tensor *list[256];
    int n;
} tensors;

/* NULL if it can't be made, which the call then complains of. */
static clf_tensor *keep(tensors *s, clf_tensor *t) {
    if (!t || s->n == (int)(sizeof s->list / sizeof *s->list)) {
        printf("FAIL rejects: tensor %d: %s\n", s->n, clf_error_message(s->ctx));
        return NULL;
    }
    return s->list[s->n++] = t;
}

static clf_tensor *make(tensors *s, clf_dtype dtype, int ndim, const int64_t *shape) {
    clf_tensor_args args = {.dtype = dtype, .ndim = ndim};
    clf_tensor *t = NULL;
    memcpy(args.shape, shape, (size_t)ndim * sizeof *shape);
    clf_tensor_create(&t, s->ctx, &args);
    return keep(s, t);
}

static clf_tensor *make_ints(tensors *s, int n, const int32_t *values) {
    clf_tensor *t = make(s, CLF_I32, 1, &(int64_t){n});
    if (t && n) clf_tensor_write(t, values, (size_t)n * sizeof *values);
    return t;
}

static clf_tensor *view(tensors *s, const clf_tensor *t, int ndim, const int64_t *shape, const int64_t *stride,
                        int64_t offset) {
    clf_tensor *v = NULL;
    if (t) clf_tensor_view(&v, t, ndim, shape, stride, offset);
    return keep(s, v);
}

#define SIZES(...)                                                                                                     \
    (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]) {                                           \
        __VA_ARGS__                                                                                                    \
    }
#define TENSOR(dtype, ...)   make(s, dtype, SIZES(__VA_ARGS__))
#define F32(...)             TENSOR(CLF_F32, __VA_ARGS__)
#define F16(...)             TENSOR(CLF_F16, __VA_ARGS__)
#define I32(...)             TENSOR(CLF_I32, __VA_ARGS__)
#define INTS(...)            make_ints(s, (int)(sizeof((int32_t[]){__VA_ARGS__}) / sizeof(int32_t)), (int32_t[]){__VA_ARGS__})
#define REJECT(part, ...)    OP_REJECT(attention, CLF_INVALID_ARGUMENT, "attention: " part, __VA_ARGS__)
#define UNSUPPORT(part, ...) OP_REJECT(attention, CLF_UNSUPPORTED, "attention: " part, __VA_ARGS__)
#define REFUSE(part, ...)    OP_REJECT(attention_backward, CLF_INVALID_ARGUMENT, "attention_backward: " part, __VA_ARGS__)

/* Batch 2, heads 4 over 2, 3 queries, 5 keys, dims 8 and 6. */
static clf_attention_args good_call(tensors *s) {
    return (clf_attention_args){
        .query = F32(2, 4, 3, 8), .key = F32(2, 2, 5, 8), .value = F32(2, 2, 5, 6), .out = F32(2, 4, 3, 6)};
}

static int reject_tensors(clf_context *ctx, tensors *s) {
    const clf_attention_args good = good_call(s);
    int failures = op_rejected(ctx, clf_attention(ctx, NULL), CLF_INVALID_ARGUMENT, "attention: args is NULL");
    REJECT("query is NULL", a.query = NULL);
    REJECT("key is NULL", a.key = NULL);
    REJECT("value is NULL", a.value = NULL);
    REJECT("out is NULL", a.out = NULL);
    REJECT("query: expected dtype f32, f16, bf16, got i32", a.query = I32(2, 4, 3, 8));
    REJECT("query: expected 4 to 4 dimensions, got 3", a.query = F32(8, 3, 8));
    REJECT("query: expected a contiguous last dimension, got stride 2",
           a.query = view(s, F32(2, 4, 3, 16), SIZES(2, 4, 3, 8), (int64_t[]){192, 48, 16, 2}, 0));
    REJECT("query: expected a head_dim of 1 to 256, got 0", a.query = F32(2, 4, 3, 0));
    REJECT("value: expected a v_dim of 1 to 256, got 0", a.value = F32(2, 2, 5, 0));
    UNSUPPORT("query: expected a head_dim of 1 to 256, got 257", a.query = F32(2, 4, 3, 257));
    UNSUPPORT("value: expected a v_dim of 1 to 256, got 257", a.value = F32(2, 2, 5, 257));
    REJECT("key: expected dtype f32, f16, bf16, q4_0, q8_0, got i32", a.key = I32(2, 2, 5, 8));
    REJECT("value: expected key's dtype f16, got f32", a.key = F16(2, 2, 5, 8));
    REJECT("value: expected key's dtype f16, got bf16", a.key = F16(2, 2, 5, 8),
           a.value = TENSOR(CLF_BF16, 2, 2, 5, 6));
    REJECT("value: expected key's dtype f32, got q8_0", a.value = TENSOR(CLF_Q8_0, 2, 2, 5, 32));
    UNSUPPORT("key: expected dtype f32, f16, bf16, q4_0, q8_0, got q5_0", a.key = TENSOR(CLF_Q5_0, 2, 2, 5, 32));
    UNSUPPORT("value: expected dtype f32, f16, bf16, q4_0, q8_0, got iq4_nl",
              a.value = TENSOR(CLF_IQ4_NL, 2, 2, 5, 32));
    REJECT("key: expected kv_heads that divide query's 4 heads, got 3", a.key = F32(2, 3, 5, 8));
    REJECT("key: expected kv_heads that divide query's 5 heads, got 2", a.query = F32(2, 5, 3, 8));
    REJECT("key: expected kv_heads that divide query's 4 heads, got 0", a.key = F32(2, 0, 5, 8));
    REJECT("key: expected shape [2, 2, 5, 8], got [2, 2, 5, 9]", a.key = F32(2, 2, 5, 9));
    REJECT("key: expected shape [2, 2, 5, 8], got [3, 2, 5, 8]", a.key = F32(3, 2, 5, 8));
    REJECT("value: expected shape [2, 2, 6, 6], got [2, 2, 5, 6]", a.key = F32(2, 2, 6, 8));
    REJECT("value: expected shape [2, 2, 5, 6], got [1, 2, 5, 6]", a.value = F32(1, 2, 5, 6));
    REJECT("value: expected shape [2, 2, 5, 6], got [2, 2, 4, 6]", a.value = F32(2, 2, 4, 6));
    REJECT("value: expected shape [2, 2, 5, 6], got [2, 4, 5, 6]", a.value = F32(2, 4, 5, 6));
    REJECT("scale: expected -3.40282e+38 to 3.40282e+38, got nan", a.scale = NAN);
    REJECT("scale: expected -3.40282e+38 to 3.40282e+38, got inf", a.scale = INFINITY);
    REJECT("softcap: expected 0 to 3.40282e+38, got -1", a.softcap = -1);
    REJECT("softcap: expected 0 to 3.40282e+38, got nan", a.softcap = NAN);
    REJECT("softcap: expected 0 to 3.40282e+38, got inf", a.softcap = INFINITY);
    REJECT("dropout: expected 0 or more and less than 1, got 1", a.dropout = 1);
    REJECT("dropout: expected 0 or more and less than 1, got -0.5", a.dropout = -0.5f);
    REJECT("dropout: expected 0 or more and less than 1, got nan", a.dropout = NAN);
    REJECT("window: expected 0 or more, got -1", a.window = -1);
    REJECT("window_right: expected 0 or more, got -9223372036854775808", a.window_right = INT64_MIN);
    REJECT("alibi_slopes: expected dtype f32, got f16", a.alibi_slopes = F16(4));
    REJECT("alibi_slopes: expected shape [4], got [5]", a.alibi_slopes = F32(5));
    REJECT("alibi_slopes: expected 1 to 1 dimensions, got 2", a.alibi_slopes = F32(4, 1));
    REJECT("mask: expected dtype f32, got f16", a.mask = F16(1, 1, 3, 5));
    REJECT("mask: expected 4 to 4 dimensions, got 3", a.mask = F32(4, 3, 5));
    REJECT("mask: expected shape [1, 1, 3, 5], got [1, 1, 3, 4]", a.mask = F32(1, 1, 3, 4));
    REJECT("mask: expected shape [2, 4, 3, 5], got [3, 2, 3, 5]", a.mask = F32(3, 2, 3, 5));
    REJECT("mask: expected shape [2, 1, 3, 1], got [2, 1, 0, 1]", a.mask = F32(2, 1, 0, 1));
    REJECT("key_lengths: expected dtype i32, got f32", a.key_lengths = F32(2));
    REJECT("key_lengths: expected shape [2], got [3]", a.key_lengths = INTS(1, 2, 3));
    REJECT("sinks: expected dtype f32, got f16", a.sinks = F16(4));
    REJECT("sinks: expected shape [4], got [2]", a.sinks = F32(2));
    REJECT("lse: expected dtype f32, got f16", a.lse = F16(2, 4, 3));
    REJECT("lse: expected 3 to 3 dimensions, got 4", a.lse = F32(2, 4, 3, 1));
    REJECT("lse: expected shape [2, 4, 3], got [2, 4, 2]", a.lse = F32(2, 4, 2));
    REJECT("out: expected dtype f32, got f16", a.out = F16(2, 4, 3, 6));
    REJECT("out: expected shape [2, 4, 3, 6], got [2, 4, 3, 8]", a.out = F32(2, 4, 3, 8));
    REJECT("out: elements overlap (stride 3 of dimension 2)",
           a.out = view(s, F32(400), SIZES(2, 4, 3, 6), (int64_t[]){192, 48, 3, 1}, 0));
    REJECT("out: elements overlap (stride 0 of dimension 1)",
           a.out = view(s, F32(400), SIZES(2, 4, 3, 6), (int64_t[]){18, 0, 6, 1}, 0));
    REJECT("out overlaps query", a.out = view(s, a.query, SIZES(2, 4, 3, 6), NULL, 0));
    REJECT("out overlaps mask", a.mask = a.out = F32(2, 4, 3, 5), a.value = F32(2, 2, 5, 5));
    REJECT("lse overlaps out", a.lse = view(s, a.out, SIZES(2, 4, 3), NULL, 0));
    REJECT("lse overlaps sinks", a.lse = F32(2, 4, 3), a.sinks = view(s, a.lse, SIZES(4), NULL, 3));
    return failures;
}

/* Packed, paged, layouts: what their shapes must be. */
static int reject_sequences(clf_context *ctx, tensors *s) {
    const clf_attention_args two = good_call(s);
    clf_attention_args good = {.query = F32(1, 4, 6, 8),
                               .key = F32(1, 2, 10, 8),
                               .value = F32(1, 2, 10, 6),
                               .out = F32(1, 4, 6, 6),
                               .query_starts = INTS(0, 2, 6),
                               .key_starts = INTS(0, 5, 10)};
    int failures = 0;
    REJECT("query: expected a batch of 1 with query_starts, got 2", a = two, a.query_starts = good.query_starts,
           a.key_starts = good.key_starts);
    REJECT("query_starts: needs key_starts or a block_table", a.key_starts = NULL);
    REJECT("key_starts: needs query_starts", a.query_starts = NULL);
    REJECT("query_starts: expected dtype i32, got f32", a.query_starts = F32(3));
    REJECT("query_starts: expected 1 to 1 dimensions, got 2", a.query_starts = I32(1, 3));
    REJECT("query_starts: expected 1 or more entries, got 0", a.query_starts = I32(0));
    REJECT("key_starts: expected dtype i32, got i64", a.key_starts = TENSOR(CLF_I64, 3));
    REJECT("key_starts: expected shape [3], got [4]", a.key_starts = INTS(0, 5, 10, 10));
    REJECT("key_lengths: expected shape [2], got [1]", a.key_lengths = INTS(3));
    REJECT("mask: expected shape [1, 1, 6, 10], got [1, 1, 6, 5]", a.mask = F32(1, 1, 6, 5));
    REJECT("out overlaps query", a.out = view(s, a.query, SIZES(1, 4, 6, 6), NULL, 0));

    good = two;
    good.key = F32(7, 2, 4, 8); /* 7 blocks of 4 */
    good.value = F32(7, 2, 4, 6);
    good.block_table = I32(2, 3);
    good.key_lengths = INTS(0, 0);
    REJECT("block_table: needs key_lengths", a.key_lengths = NULL);
    REJECT("block_table: expected dtype i32, got f32", a.block_table = F32(2, 3));
    REJECT("block_table: expected 2 to 2 dimensions, got 1", a.block_table = I32(6));
    REJECT("block_table: expected shape [2, 3], got [3, 3]", a.block_table = I32(3, 3));
    REJECT("block_table: expected a contiguous last dimension, got stride 2",
           a.block_table = view(s, I32(20), SIZES(2, 3), (int64_t[]){6, 2}, 0));
    REJECT("key_starts: expected NULL with a block_table", a.key_starts = INTS(0, 1, 2),
           a.query_starts = INTS(0, 1, 2));
    REJECT("value: expected shape [7, 2, 4, 6], got [6, 2, 4, 6]", a.value = F32(6, 2, 4, 6));
    REJECT("value: expected shape [7, 2, 4, 6], got [7, 2, 5, 6]", a.value = F32(7, 2, 5, 6));
    REJECT("mask: expected shape [1, 1, 3, 12], got [1, 1, 3, 4]", a.mask = F32(1, 1, 3, 4));

    good = two;
    good.layout_rows = INTS(0, 1);
    good.layout_columns = INTS(0);
    good.layout_block = 16;
    REJECT("layout_columns is NULL", a.layout_columns = NULL);
    REJECT("layout_rows is NULL", a.layout_rows = NULL);
    REJECT("layout_block: expected 0 without layout_rows, got 16", a.layout_rows = NULL, a.layout_columns = NULL);
    REJECT("layout_block: expected 16, 32, 64 or 128, got 0", a.layout_block = 0);
    REJECT("layout_block: expected 16, 32, 64 or 128, got 48", a.layout_block = 48);
    REJECT("layout_block: expected 16, 32, 64 or 128, got -16", a.layout_block = -16);
    REJECT("layout_rows: expected dtype i32, got f32", a.layout_rows = F32(2));
    REJECT("layout_rows: expected shape [2], got [3]", a.layout_rows = INTS(0, 1, 1));
    REJECT("layout_columns: expected dtype i32, got f32", a.layout_columns = F32(1));
    REJECT("layout_columns: expected 1 to 1 dimensions, got 2", a.layout_columns = I32(1, 1));
    return failures;
}

/* What index tensors hold, where the host can read them; where it can't, the call must come back all the same, having
 * hidden keys. */
static int reject_contents(clf_context *ctx, tensors *s) {
    const clf_attention_args two = good_call(s);
    clf_attention_args good = {.query = F32(1, 4, 6, 8),
                               .key = F32(1, 2, 10, 8),
                               .value = F32(1, 2, 10, 6),
                               .out = F32(1, 4, 6, 6),
                               .query_starts = INTS(0, 2, 6),
                               .key_starts = INTS(0, 5, 10)};
    const bool host = clf_tensor_data(good.out) != NULL;
    int failures = 0;
#define WRONG(part, ...)                                                                                               \
    do {                                                                                                               \
        if (host) {                                                                                                    \
            REJECT(part, __VA_ARGS__);                                                                                 \
            break;                                                                                                     \
        }                                                                                                              \
        clf_attention_args a = good;                                                                                   \
        __VA_ARGS__;                                                                                                   \
        const clf_status st = clf_attention(ctx, &a), end = clf_sync(ctx);                                             \
        if (end == CLF_OK && (st == CLF_OK || st == CLF_UNSUPPORTED)) break;                                           \
        printf("FAIL rejects (%s): " part ": %s: %s\n", clf_context_backend(ctx), clf_status_string(st ? st : end),    \
               clf_error_message(ctx));                                                                                \
        failures++;                                                                                                    \
    } while (0)
    WRONG("query_starts[0]: expected 0 to 0, got 1", a.query_starts = INTS(1, 2, 6));
    WRONG("query_starts[1]: expected 0 to 6, got -1", a.query_starts = INTS(0, -1, 6));
    WRONG("query_starts[2]: expected 5 to 6, got 4", a.query_starts = INTS(0, 5, 4));
    WRONG("query_starts[2]: expected 2 to 6, got 7", a.query_starts = INTS(0, 2, 7));
    WRONG("query_starts[1]: expected 0 to 6, got 2147483647", a.query_starts = INTS(0, INT32_MAX, INT32_MIN));
    WRONG("key_starts[0]: expected 0 to 0, got -2147483648", a.key_starts = INTS(INT32_MIN, 5, 10));
    WRONG("key_starts[1]: expected 0 to 10, got 11", a.key_starts = INTS(0, 11, 11));
    WRONG("key_starts[2]: expected 5 to 10, got 3", a.key_starts = INTS(0, 5, 3));

    good = two;
    good.key = F32(7, 2, 4, 8);
    good.value = F32(7, 2, 4, 6);
    clf_tensor *table = I32(2, 3);
    good.block_table = table;
    good.key_lengths = INTS(5, 12);
#define TABLE(...) clf_tensor_write(table, (int32_t[]){__VA_ARGS__}, 6 * sizeof(int32_t))
    WRONG("block_table[1][2]: expected 0 to 6, got 7", TABLE(0, 1, 99, 6, 5, 7));
    WRONG("block_table[0][1]: expected 0 to 6, got -1", TABLE(0, -1, 0, 1, 2, 3));
    WRONG("block_table[0][0]: expected 0 to 6, got 2147483647", TABLE(INT32_MAX, 1, 0, 1, 2, INT32_MIN));
    TABLE(0, 1, 99, 6, 5, 4);
    WRONG("key_lengths[1]: expected 0 to 12, got 13", a.key_lengths = INTS(5, 13));
    WRONG("key_lengths[0]: expected 0 to 12, got -1", a.key_lengths = INTS(-1, 12));
    WRONG("key_lengths[0]: expected 0 to 12, got 2147483647", a.key_lengths = INTS(INT32_MAX, 12));

    good = two;
    good.key = F32(2, 2, 50, 8); /* 4 blocks of keys, 2 of queries */
    good.value = F32(2, 2, 50, 6);
    good.query = F32(2, 4, 20, 8);
    good.out = F32(2, 4, 20, 6);
    good.layout_rows = INTS(0, 2, 3);
    good.layout_columns = INTS(0, 2, 1);
    good.layout_block = 16;
    WRONG("layout_rows[0]: expected 0 to 0, got 1", a.layout_rows = INTS(1, 2, 3));
    WRONG("layout_rows[2]: expected 2 to 3, got 1", a.layout_rows = INTS(0, 2, 1));
    WRONG("layout_rows[2]: expected 2 to 3, got 4", a.layout_rows = INTS(0, 2, 4));
    WRONG("layout_rows[1]: expected 0 to 3, got 2147483647", a.layout_rows = INTS(0, INT32_MAX, 3));
    WRONG("layout_columns[1], of row 0: expected 1 to 3, got 0", a.layout_columns = INTS(0, 0, 1));
    WRONG("layout_columns[2], of row 1: expected 0 to 3, got 4", a.layout_columns = INTS(0, 2, 4));
    WRONG("layout_columns[0], of row 0: expected 0 to 3, got -2147483648", a.layout_columns = INTS(INT32_MIN, 2, 3));
    WRONG("layout_columns[1], of row 0: expected 3 to 3, got 2147483647", a.layout_columns = INTS(2, INT32_MAX, 3));
#undef WRONG
#undef TABLE
    return failures;
}

static int reject_backward(clf_context *ctx, tensors *s) {
    clf_attention_backward_args good = {.forward = good_call(s)};
    good.forward.lse = F32(2, 4, 3);
    good.d_out = F32(2, 4, 3, 6);
    good.d_query = F32(2, 4, 3, 8);
    good.d_key = F32(2, 2, 5, 8);
    good.d_value = F32(2, 2, 5, 6);
    const clf_attention_args *f = &good.forward;
    int failures =
        op_rejected(ctx, clf_attention_backward(ctx, NULL), CLF_INVALID_ARGUMENT, "attention_backward: args is NULL");
    REFUSE("query is NULL", a.forward.query = NULL);
    REFUSE("out is NULL", a.forward.out = NULL);
    REFUSE("lse is NULL", a.forward.lse = NULL);
    REFUSE("d_out is NULL", a.d_out = NULL);
    REFUSE("key: expected shape [2, 2, 5, 8], got [2, 2, 5, 9]", a.forward.key = F32(2, 2, 5, 9));
    REFUSE("window: expected 0 or more, got -3", a.forward.window = -3);
    REFUSE("dropout: expected 0 or more and less than 1, got 1.5", a.forward.dropout = 1.5f);
    REFUSE("d_out: expected dtype f32, got f16", a.d_out = F16(2, 4, 3, 6));
    REFUSE("d_out: expected shape [2, 4, 3, 6], got [2, 4, 3, 8]", a.d_out = F32(2, 4, 3, 8));
    REFUSE("d_query: expected dtype f32, got f16", a.d_query = F16(2, 4, 3, 8));
    REFUSE("d_query: expected shape [2, 4, 3, 8], got [2, 4, 4, 8]", a.d_query = F32(2, 4, 4, 8));
    REFUSE("d_query: expected 4 to 4 dimensions, got 3", a.d_query = F32(8, 3, 8));
    REFUSE("d_key: expected dtype f32, f16, got bf16", a.forward.key = F16(2, 2, 5, 8),
           a.forward.value = F16(2, 2, 5, 6), a.d_key = TENSOR(CLF_BF16, 2, 2, 5, 8));
    REFUSE("d_key: expected shape [2, 2, 5, 8], got [2, 4, 5, 8]", a.d_key = F32(2, 4, 5, 8));
    REFUSE("d_value: expected shape [2, 2, 5, 6], got [2, 2, 5, 8]", a.d_value = F32(2, 2, 5, 8));
    REFUSE("d_value: expected dtype f32, got f16", a.d_value = F16(2, 2, 5, 6));
    REFUSE("d_sinks: expected NULL without sinks", a.d_sinks = F32(4));
    REFUSE("d_mask: expected NULL without mask", a.d_mask = F32(1, 1, 3, 5));
    REFUSE("d_alibi_slopes: expected NULL without alibi_slopes", a.d_alibi_slopes = F32(4));
    REFUSE("d_sinks: expected dtype f32, got f16", a.forward.sinks = F32(4), a.d_sinks = F16(4));
    REFUSE("d_sinks: expected shape [4], got [3]", a.forward.sinks = F32(4), a.d_sinks = F32(3));
    REFUSE("d_mask: expected shape [1, 4, 1, 5], got [2, 4, 3, 5]", a.forward.mask = F32(1, 4, 1, 5),
           a.d_mask = F32(2, 4, 3, 5));
    REFUSE("d_mask: expected dtype f32, got f16", a.forward.mask = F32(1, 1, 3, 5), a.d_mask = F16(1, 1, 3, 5));
    REFUSE("d_alibi_slopes: expected shape [4], got [5]", a.forward.alibi_slopes = F32(4), a.d_alibi_slopes = F32(5));
    REFUSE("d_query: elements overlap (stride 0 of dimension 0)",
           a.d_query = view(s, F32(96), SIZES(2, 4, 3, 8), (int64_t[]){0, 24, 8, 1}, 0));
    REFUSE("d_query: expected a contiguous last dimension, got stride 3",
           a.d_query = view(s, F32(600), SIZES(2, 4, 3, 8), (int64_t[]){288, 72, 24, 3}, 0));
    REFUSE("d_query overlaps query", a.forward.query = a.d_query);
    REFUSE("d_value overlaps out", a.d_value = view(s, f->out, SIZES(2, 2, 5, 6), NULL, 20));
    REFUSE("d_value overlaps d_out", a.d_value = view(s, a.d_out, SIZES(2, 2, 5, 6), NULL, 20));
    REFUSE("d_key overlaps key", a.forward.key = a.d_key);
    REFUSE("d_key overlaps d_query", a.d_key = view(s, a.d_query, SIZES(2, 2, 5, 8), NULL, 0));
    REFUSE("d_value overlaps d_key", a.d_value = view(s, a.d_key, SIZES(2, 2, 5, 6), NULL, 0));
    REFUSE("d_sinks overlaps lse", a.forward.sinks = F32(4), a.d_sinks = view(s, f->lse, SIZES(4), NULL, 0));
    REFUSE("d_sinks overlaps d_value", a.forward.sinks = F32(4), a.d_sinks = view(s, a.d_value, SIZES(4), NULL, 7));
    REFUSE("d_alibi_slopes overlaps d_sinks", a.forward.sinks = F32(4), a.forward.alibi_slopes = F32(4),
           a.d_sinks = F32(4), a.d_alibi_slopes = a.d_sinks);
    OP_REJECT(attention_backward, CLF_UNSUPPORTED, "attention_backward: key: expected dtype f32, f16, bf16, got q8_0",
              a.forward.query = F32(2, 4, 3, 32), a.forward.key = TENSOR(CLF_Q8_0, 2, 2, 5, 32),
              a.forward.value = TENSOR(CLF_Q8_0, 2, 2, 5, 32), a.forward.out = F32(2, 4, 3, 32));
    OP_REJECT(attention_backward, CLF_UNSUPPORTED,
              "attention_backward: block_table: expected NULL, paged keys have no gradient",
              a.forward.block_table = I32(2, 0), a.forward.key_lengths = INTS(0, 0));
    return failures;
}

int attention_rejects(clf_context *ctx) {
    int (*const parts[])(clf_context *, tensors *) = {reject_tensors, reject_sequences, reject_contents,
                                                      reject_backward};
    int failures = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        tensors s = {.ctx = ctx};
        failures += parts[i](ctx, &s);
        while (s.n) clf_tensor_destroy(s.list[--s.n]);
    }
    return failures;
}
