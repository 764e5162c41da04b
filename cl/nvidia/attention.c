/* attention.c: the launcher of nvidia/attention.cl, and the arguments of rules.h. */
#include "attention.h"

#include <math.h>
#include <stdio.h>

typedef clf_nvidia_tile tile;
typedef clf_nvidia_plan plan;

void clf_nvidia_rules(clf_cl_call *call, const clf_attention_args *a, const plan *p) {
    const int64_t right = a->window_right ? a->window_right : CLF_NVIDIA_MANY;
    clf_tensor mask;
    if (a->mask) {
        mask = *a->mask;
        for (int i = 0; i < 4; i++)
            if (mask.shape[i] == 1) mask.stride[i] = 0;
    }
    clf_cl_tensor(call, a->mask ? &mask : NULL);
    clf_cl_int(call, a->mask && mask.dtype == CLF_F32);
    clf_nvidia_f32s(call, a->alibi_slopes);
    clf_cl_float(call, a->scale);
    clf_cl_float(call, a->softcap);
    clf_cl_int(call, a->window && a->window < CLF_NVIDIA_MANY ? a->window : CLF_NVIDIA_MANY);
    clf_cl_int(call, a->causal ? 1 : right < CLF_NVIDIA_MANY ? right : CLF_NVIDIA_MANY);
    clf_nvidia_ints(call, a->key_lengths);
    clf_nvidia_ints(call, a->query_starts);
    clf_nvidia_ints(call, a->key_starts);
    clf_cl_int(call, p->sequences);
    clf_nvidia_ints(call, a->layout_rows);
    clf_nvidia_ints(call, a->layout_columns);
    clf_cl_int(call, a->layout_rows ? a->layout_rows->shape[0] - 1 : 0);
    clf_cl_int(call, a->layout_columns ? a->layout_columns->shape[0] : 0);
    clf_cl_int(call, a->layout_rows ? a->layout_block : 1);
    clf_cl_int(call, (int64_t)ceil((double)a->dropout * 0x1p32));
    clf_cl_long(call, (int64_t)a->dropout_seed);
    clf_cl_int(call, a->query->shape[2]);
    clf_cl_int(call, p->keys);
    clf_cl_int(call, a->query->shape[1]);
    clf_cl_int(call, p->group);
    clf_cl_int(call, a->query->shape[3]);
    clf_cl_int(call, a->value->shape[3]);
}

static void set_output(clf_cl_call *call, const clf_attention_args *a) {
    clf_cl_tensor(call, a->out);
    clf_cl_tensor(call, a->lse);
    clf_nvidia_f32s(call, a->sinks);
}

/* Merges the splits' results. */
static clf_status join(clf_context *ctx, const clf_attention_args *a, const plan *p, const clf_memory *part_out,
                       const clf_memory *part_lse, int64_t rows, const char *options) {
    const int64_t *q = a->query->shape;
    clf_cl_call call;
    CLF_TRY(clf_cl_begin(&call, ctx, "nvidia/attention", "attention_join", "%s", options));
    clf_cl_memory(&call, part_out);
    clf_cl_memory(&call, part_lse);
    clf_cl_long(&call, rows);
    clf_cl_int(&call, p->splits);
    set_output(&call, a);
    clf_cl_int(&call, q[2]);
    clf_cl_int(&call, q[1]);
    clf_cl_int(&call, a->value->shape[3]);
    return clf_cl_run(&call, (size_t[3]){(size_t)q[2], (size_t)q[1], (size_t)q[0]}, 32);
}

static clf_status run(clf_context *ctx, const clf_attention_args *a, const plan *p) {
    const int64_t *q = a->query->shape, rows = q[0] * q[1] * q[2];
    const tile *t = p->tile;
    static const char *const products[] = {"-DWGMMA=0", "-DWGMMA=1", "-DWGMMA=1 -cl-nv-arch sm_90a",
                                           ("-DWGMMA=1 " CLF_NVIDIA_MARKED)};
    char common[96], options[384];
    clf_nvidia_options(ctx, a->query->dtype, common, sizeof common);
    snprintf(options, sizeof options,
             "%s %s -DHEAD_DIM=%d -DV_DIM=%d -DN_WARPS=%d -DROW_TILES=%d -DBLOCK_K=%d -DK_STAGES=%d "
             "-DQ_IN_REGISTERS=%d -DSCORES=%d -DPAGED=%d -DLAYOUT=%d -DDROPOUT=%d",
             common, products[t->products], p->width, p->v_width, t->warps, t->row_tiles, t->keys, t->k_stages,
             t->q_in_registers, p->scores, a->block_table != NULL, a->layout_rows != NULL, a->dropout != 0);
    clf_buffer *part_out = NULL, *part_lse = NULL;
    clf_cl_call call;
    clf_status st;
    if (p->splits > 1) {
        const size_t parts = (size_t)(p->splits * rows) * sizeof(float);
        CLF_TRY_GOTO(st, clf_buffer_create(&part_out, ctx, parts * (size_t)a->value->shape[3], CLF_TAG_SCRATCH));
        CLF_TRY_GOTO(st, clf_buffer_create(&part_lse, ctx, parts, CLF_TAG_SCRATCH));
    }
    CLF_TRY_GOTO(st, clf_cl_begin(&call, ctx, "nvidia/attention", "attention", "%s", options));
    clf_cl_tensor(&call, a->query);
    clf_cl_tensor(&call, a->key);
    clf_cl_tensor(&call, a->value);
    set_output(&call, a);
    clf_nvidia_rules(&call, a, p);
    clf_nvidia_f32s(&call, a->block_table);
    clf_cl_long(&call, a->block_table ? a->block_table->stride[0] : 0);
    clf_cl_int(&call, a->block_table && a->key->shape[2] ? a->key->shape[2] : 1);
    clf_cl_int(&call, a->block_table ? a->key->shape[0] : 0);
    clf_cl_memory(&call, part_out ? &part_out->memory : NULL);
    clf_cl_memory(&call, part_lse ? &part_lse->memory : NULL);
    clf_cl_long(&call, rows);
    clf_cl_int(&call, p->splits);
    clf_cl_local(&call, p->local);
    const size_t groups[3] = {(size_t)(p->tiles * p->splits), (size_t)a->key->shape[1], (size_t)q[0]};
    CLF_TRY_GOTO(st, clf_cl_run(&call, groups, (size_t)(32 * t->warps)));
    if (p->splits > 1) st = join(ctx, a, p, &part_out->memory, &part_lse->memory, rows, options);
fail:
    clf_buffer_release(part_out);
    clf_buffer_release(part_lse);
    return st;
}

clf_status clf_nvidia_attention(bool *taken, clf_context *ctx, const clf_attention_args *args) {
    plan p;
    CLF_TRY(clf_nvidia_plan_find(&p, taken, ctx, args, false));
    return *taken ? run(ctx, args, &p) : CLF_OK;
}
