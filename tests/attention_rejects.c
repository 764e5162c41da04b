/* attention_rejects.c: wrong arguments of clf_attention() and clf_attention_backward(). */
#include "attention_case.h"

#include <math.h>

int attention_rejects(clf_context *ctx) {
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
