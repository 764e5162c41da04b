/* attention.c: the launcher of nvidia/attention.cl. It takes calls whose queries, keys and values share a 16-bit dtype,
 * with head_dim and v_dim in steps of 8 and rows aligned to 16 bytes. */
#include "attention.h"

#include <math.h>
#include <stdio.h>

enum {
    DECODE_ROWS = 16,    /* of a key/value head: up to so many, keys are split over groups */
    GROUPS_PER_UNIT = 4, /* that keep a compute unit busy */
    MAX_SPLITS = 64,
    MANY = 1 << 29 /* rows, keys and windows below it leave 32-bit sums room */
};

typedef clf_nvidia_tile tile;
typedef clf_nvidia_plan plan;

static const tile tiles[] = {
#define CLF_TILE(use, ...) {CLF_NVIDIA_##use, __VA_ARGS__},
#include "tiles.def"
#undef CLF_TILE
};

/* Widths that programs are built for: those of models, and multiples of 64. */
static int width_of(int64_t dim) {
    static const int widths[] = {64, 80, 96, 128, 192, 256};
    int i = 0;
    while (widths[i] < dim) i++;
    return widths[i];
}

static size_t tile_bytes(int rows, int width) {
    return (size_t)((width + 63) / 64 * rows * 128);
}

/* As LOCAL_BYTES in attention.cl and attention_backward.cl. */
static size_t local_bytes(const tile *t, int width, int v_width) {
    const int rows = 16 * t->row_tiles * t->warps;
    const size_t q = tile_bytes(rows, width);
    const size_t kv = (size_t)t->k_stages * tile_bytes(t->keys, width) + tile_bytes(t->keys, v_width);
    if (t->use == CLF_NVIDIA_BACKWARD) return q + tile_bytes(rows, v_width) + kv;
    return t->q_in_registers ? (q > kv ? q : kv) : q + kv;
}

bool clf_nvidia_aligned(const clf_tensor *t) {
    if (clf_cl_offset(t) % 8 || t->shape[3] % 8) return false;
    for (int i = 0; i < 3; i++)
        if (t->shape[i] > 1 && t->stride[i] % 8) return false;
    return true;
}

static bool find_tile(plan *p, const clf_cl_state *s, clf_nvidia_use use, bool features) {
    cl_ulong local = 0;
    if (clGetDeviceInfo(s->device, CL_DEVICE_LOCAL_MEM_SIZE, sizeof local, &local, NULL)) return false;
    for (size_t i = 0; i < sizeof tiles / sizeof *tiles; i++) {
        const tile *t = &tiles[i];
        p->local = local_bytes(t, p->width, p->v_width);
        p->tile = t;
        if (t->use == use && p->width <= t->dim && p->v_width <= t->dim && s->capability >= t->least_sm &&
            s->capability <= t->most_sm && (t->features || !features) && p->local <= local)
            return true;
    }
    return false;
}

bool clf_nvidia_plan_make(plan *p, const clf_context *ctx, const clf_attention_args *a, bool backward) {
    const clf_tensor *q = a->query, *k = a->key;
    if ((q->dtype != CLF_F16 && q->dtype != CLF_BF16) || k->dtype != q->dtype) return false;
    if (!clf_nvidia_aligned(q) || !clf_nvidia_aligned(k) || !clf_nvidia_aligned(a->value) ||
        !clf_nvidia_aligned(a->out))
        return false;
    *p = (plan){.width = width_of(q->shape[3]),
                .v_width = width_of(a->value->shape[3]),
                .scores = a->softcap != 0 || a->alibi_slopes || a->mask || !(a->scale > 0),
                .group = q->shape[1] / k->shape[1],
                .sequences = clf_attention_sequences(a),
                .keys = clf_attention_keys(a),
                .splits = 1};
    if (q->shape[2] >= MANY / p->group || p->keys >= MANY || p->sequences >= MANY) return false;
    if (a->layout_columns && (a->layout_columns->shape[0] >= MANY || a->layout_rows->shape[0] >= MANY)) return false;

    const clf_cl_state *s = clf_cl(ctx);
    const int64_t rows = q->shape[2] * p->group;
    const bool features = p->scores || a->block_table || a->layout_rows || a->dropout != 0;
    if (backward) return find_tile(p, s, CLF_NVIDIA_BACKWARD, features);
    const bool decode = rows <= DECODE_ROWS * (a->query_starts ? p->sequences : 1);
    if (!find_tile(p, s, decode ? CLF_NVIDIA_DECODE : CLF_NVIDIA_FORWARD, features)) return false;
    p->tiles = (int64_t)clf_cl_divide_up(rows, 16 * p->tile->row_tiles * p->tile->warps);
    if (a->query_starts) p->tiles += p->sequences + 1; /* each may end in a tile of its own */
    if (decode) {
        cl_uint units = 8; /* of an emulated device: tests split alike everywhere */
        if (s->tensor_cores == CLF_CL_TENSOR_CORES_PTX)
            clGetDeviceInfo(s->device, CL_DEVICE_MAX_COMPUTE_UNITS, sizeof units, &units, NULL);
        const int64_t all = p->tiles * k->shape[1] * q->shape[0];
        const int64_t wanted = GROUPS_PER_UNIT * (int64_t)units / (all ? all : 1), most = p->keys / (2 * p->tile->keys);
        p->splits = wanted < most ? wanted : most;
        p->splits = p->splits < 1 ? 1 : p->splits > MAX_SPLITS ? MAX_SPLITS : p->splits;
    }
    return true;
}

void clf_nvidia_rules(clf_cl_call *call, const clf_attention_args *a, const plan *p) {
    const int64_t right = a->window_right ? a->window_right : MANY;
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
    clf_cl_int(call, a->window && a->window < MANY ? a->window : MANY);
    clf_cl_int(call, a->causal ? 1 : right < MANY ? right : MANY);
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
    char common[96], options[320];
    clf_nvidia_options(ctx, a->query->dtype, common, sizeof common);
    snprintf(options, sizeof options,
             "%s -DHEAD_DIM=%d -DV_DIM=%d -DN_WARPS=%d -DROW_TILES=%d -DBLOCK_K=%d -DK_STAGES=%d -DQ_IN_REGISTERS=%d "
             "-DSCORES=%d -DPAGED=%d -DLAYOUT=%d -DDROPOUT=%d",
             common, p->width, p->v_width, t->warps, t->row_tiles, t->keys, t->k_stages, t->q_in_registers, p->scores,
             a->block_table != NULL, a->layout_rows != NULL, a->dropout != 0);
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
    plan p = {0};
    *taken = false;
    CLF_TRY(clf_nvidia_find(ctx));
    if (clf_cl(ctx)->tensor_cores == CLF_CL_TENSOR_CORES_OFF) return CLF_OK;
    *taken = !clf_elements(args->out) || clf_nvidia_plan_make(&p, ctx, args, false);
    if (!*taken || !clf_elements(args->out)) return CLF_OK;
    clf_log(ctx, CLF_LOG_DEBUG, "attention: tensor cores, %d×%d, %lld splits", 16 * p.tile->row_tiles * p.tile->warps,
            p.tile->keys, (long long)p.splits);
    return run(ctx, args, &p);
}
