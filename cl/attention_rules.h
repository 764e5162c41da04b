/* attention_rules.h: an attention call as attention_rules.cl sees it, and the tiles of its kernels. */
#ifndef CLF_CL_ATTENTION_RULES_H
#define CLF_CL_ATTENTION_RULES_H

#include "cl.h"

typedef struct clf_cl_view {
    cl_long at, batch, head, row;
} clf_cl_view;

/* As attention_call in attention_rules.cl. */
typedef struct clf_cl_attention {
    clf_cl_view query, key, value, out, lse, mask;
    cl_long mask_key;
    cl_long alibi_at, sinks_at, lengths_at, table_at, table_stride, rows_at, columns_at;
    cl_long window, window_right;
    cl_float scale, softcap, kept;
    cl_uint drop;
    cl_uint2 seed;
    cl_uint n_q, n_k;
    cl_uint head_dim, v_dim, heads, group;
    cl_int q_dtype, kv_dtype, mask_dtype;
    cl_int causal, packed;
    cl_uint sequences;
    cl_uint page, pages;
    cl_uint block, row_blocks, entries;
} clf_cl_attention;

/* A call with what its kernels need besides. */
typedef struct clf_cl_attention_rules {
    const clf_attention_args *args;
    clf_cl_attention call;
    clf_buffer *starts; /* packed: the starts of queries and keys as kernels read them */
} clf_cl_attention_rules;

/* Fills *r, for a call that the door let pass; clf_cl_attention_close() frees what it holds, of an empty one too. */
clf_status clf_cl_attention_open(clf_cl_attention_rules *r, clf_context *ctx, const clf_attention_args *args);
void clf_cl_attention_close(clf_cl_attention_rules *r);

/* Sets RULES, the first arguments of every kernel. */
void clf_cl_attention_set(clf_cl_call *call, const clf_cl_attention_rules *r);
clf_cl_view clf_cl_view_of(const clf_tensor *t);

/* Tiles of `size` queries, or keys, of all sequences of one entry of the batch. */
size_t clf_cl_attention_tiles(const clf_cl_attention_rules *r, int64_t rows, int size);

#endif
