/* attention.c: the launcher of attention.cl. */
#include "../lib/ops/attention.h"
#include "cl.h"
#include "nvidia/nvidia.h"

enum { QUERIES = 64, KEYS = 32, PITCH = QUERIES + 4, K_PITCH = KEYS + 4, LOCAL = 256, FEW_LOCAL = 128 };
/* Queries up to which each is better off with a group of its own. */
enum { FEW_QUERIES = 8 };

/* The mask with strides of 0 where it is broadcast. */
static clf_tensor broadcast(const clf_tensor *mask, const clf_attention_args *args) {
    const int64_t sizes[4] = {args->query->shape[0], args->query->shape[1], args->query->shape[2], args->key->shape[2]};
    clf_tensor t = *mask;
    for (int i = 0; i < 4; i++)
        if (t.shape[i] != sizes[i]) t.stride[i] = 0;
    return t;
}

static void set_vector(clf_cl_call *call, const clf_tensor *t) {
    clf_cl_memory(call, t ? &t->buffer->memory : NULL);
    clf_cl_long(call, t ? clf_cl_offset(t) : 0);
}

/* As RULES in attention.cl. */
static void set_rules(clf_cl_call *call, const clf_attention_args *args) {
    const clf_tensor *query = args->query, *mask = args->mask;
    clf_tensor mask_view;
    if (mask) mask_view = broadcast(mask, args);
    clf_cl_tensor(call, mask ? &mask_view : NULL);
    clf_cl_int(call, mask ? mask->dtype : CLF_F32);
    set_vector(call, args->alibi_slopes);
    set_vector(call, args->sinks);
    set_vector(call, args->key_lengths);
    clf_cl_long(call, args->key_lengths ? args->key_lengths->stride[0] : 0);
    clf_cl_tensor(call, args->lse);
    clf_cl_float(call, args->scale);
    clf_cl_float(call, args->softcap);
    clf_cl_int(call, args->causal);
    clf_cl_long(call, args->window);
    clf_cl_int(call, query->shape[2]);
    clf_cl_int(call, args->key->shape[2]);
    clf_cl_int(call, query->shape[3]);
    clf_cl_int(call, args->value->shape[3]);
    clf_cl_int(call, query->shape[1]);
    clf_cl_int(call, query->shape[1] / args->key->shape[1]);
}

clf_status clf_attention_opencl(clf_context *ctx, const clf_attention_args *args) {
    bool taken;
    CLF_TRY(clf_nvidia_attention(&taken, ctx, args));
    if (taken) return CLF_OK;
    CLF_CHECK(&ctx->error, clf_attention_plain(args), CLF_UNSUPPORTED,
              "attention: %s has no packed or paged sequences, layouts, window_right, dropout or q8_0 keys",
              ctx->backend->name);
    const clf_tensor *query = args->query;
    const int64_t n_q = query->shape[2], v_dim = args->value->shape[3];
    const size_t all_heads = (size_t)(query->shape[0] * query->shape[1]);
    const bool few = n_q <= FEW_QUERIES;
    const int chunks = v_dim <= 64 ? 1 : v_dim <= 128 ? 2 : 4;
    if (!n_q || !all_heads || !v_dim) return CLF_OK;
    clf_cl_call call;
    CLF_TRY(clf_cl_begin(&call, ctx, "attention", few ? "attention_few" : "attention", "-DCHUNKS=%d", chunks));
    clf_cl_tensor(&call, query);
    clf_cl_int(&call, query->dtype);
    clf_cl_tensor(&call, args->key);
    clf_cl_tensor(&call, args->value);
    clf_cl_int(&call, args->key->dtype);
    clf_cl_tensor(&call, args->out);
    set_rules(&call, args);
    if (few) {
        clf_cl_local(&call, 16 * FEW_LOCAL * sizeof(float));
        clf_cl_local(&call, FEW_LOCAL * sizeof(float));
        clf_cl_local(&call, 256 * sizeof(float));
        return clf_cl_run(&call, (size_t[3]){(size_t)n_q, all_heads, 1}, FEW_LOCAL);
    }
    clf_cl_local(&call, KEYS * (PITCH + K_PITCH) * sizeof(float));
    clf_cl_local(&call, KEYS * PITCH * sizeof(float));
    clf_cl_local(&call, 6 * QUERIES * sizeof(float));
    return clf_cl_run(&call, (size_t[3]){clf_cl_divide_up(n_q, QUERIES), all_heads, 1}, LOCAL);
}
