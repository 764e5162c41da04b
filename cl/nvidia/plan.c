/* plan.c: which tile takes a call of attention, forward or backward: the first line of tiles.def that fits the call and
 * the device and has given its known answers. Queries, keys and values share a 16-bit dtype; head_dim and v_dim come in
 * steps of 8, rows are aligned to 16 bytes. */
#include "attention.h"

#include <assert.h>
#include <stdio.h>

enum {
    DECODE_ROWS = CLF_ATTENTION_TENSOR_ROWS, /* of a key/value head: up to so many, keys are split over groups */
    GROUPS_PER_UNIT = 4,                     /* that keep a compute unit busy */
    MAX_SPLITS = CLF_ATTENTION_TENSOR_PARTS,
    TRIAL_QUERIES = 80 /* two tiles of rows, three steps of keys */
};

typedef clf_nvidia_tile tile;
typedef clf_nvidia_plan plan;

static const tile tiles[] = {
#define CLF_TILE(use, dim, least, most, features, warps, row_tiles, keys, stages, q, products)                         \
    {CLF_NVIDIA_##use, dim, least, most, features, warps, row_tiles, keys, stages, q, CLF_NVIDIA_##products},
#include "tiles.def"
#undef CLF_TILE
};
_Static_assert(sizeof tiles / sizeof *tiles <= CLF_CL_TRIALS, "more tiles than trials");

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

static bool fits(const plan *p, const clf_cl_state *s, const tile *t) {
    if (p->width > t->dim || s->capability < t->least_sm || s->capability > t->most_sm) return false;
    if (t->products == CLF_NVIDIA_MMA) return p->v_width <= t->dim;
    /* an instruction has so many columns, no fewer */
    return p->v_width == t->dim && (s->only_products < 0 || t->products == (clf_nvidia_products)s->only_products);
}

/* The first tile that was not found wrong; during a trial, the tile on trial. */
static bool find_tile(plan *p, const clf_cl_state *s, clf_nvidia_use use, bool features) {
    cl_ulong local = 0;
    if (clGetDeviceInfo(s->device, CL_DEVICE_LOCAL_MEM_SIZE, sizeof local, &local, NULL)) return false;
    for (size_t i = 0; i < sizeof tiles / sizeof *tiles; i++) {
        const tile *t = &tiles[i];
        p->local = local_bytes(t, p->width, p->v_width);
        p->tile = t;
        if (t->use == use && fits(p, s, t) && (t->features || !features) && p->local <= local &&
            (s->on_trial ? i == (size_t)s->on_trial - 1 : s->trials[p->bf16][i] != CLF_CL_WRONG))
            return true;
    }
    return false;
}

int64_t clf_nvidia_groups(const clf_context *ctx) {
    const clf_cl_state *s = clf_cl(ctx);
    const cl_uint emulated = 8; /* tests split alike everywhere */
    return GROUPS_PER_UNIT * (int64_t)(s->tensor_cores == CLF_CL_TENSOR_CORES_PTX ? s->units : emulated);
}

static bool make(plan *p, const clf_context *ctx, const clf_attention_args *a, bool backward) {
    const clf_tensor *q = a->query, *k = a->key;
    if ((q->dtype != CLF_F16 && q->dtype != CLF_BF16) || k->dtype != q->dtype) return false;
    if (!clf_nvidia_aligned(q) || !clf_nvidia_aligned(k) || !clf_nvidia_aligned(a->value) ||
        !clf_nvidia_aligned(a->out))
        return false;
    *p = (plan){.width = width_of(q->shape[3]),
                .v_width = width_of(a->value->shape[3]),
                .bf16 = q->dtype == CLF_BF16,
                .scores = a->softcap != 0 || a->alibi_slopes || a->mask || !(a->scale > 0),
                .group = q->shape[1] / k->shape[1],
                .sequences = clf_attention_sequences(a),
                .keys = clf_attention_keys(a),
                .splits = 1};
    if (q->shape[2] >= CLF_NVIDIA_MANY / p->group || p->keys >= CLF_NVIDIA_MANY || p->sequences >= CLF_NVIDIA_MANY)
        return false;
    if (a->layout_columns &&
        (a->layout_columns->shape[0] >= CLF_NVIDIA_MANY || a->layout_rows->shape[0] >= CLF_NVIDIA_MANY))
        return false;

    const clf_cl_state *s = clf_cl(ctx);
    const int64_t rows = q->shape[2] * p->group;
    const bool features = p->scores || a->block_table || a->layout_rows || a->dropout != 0;
    if (backward) return find_tile(p, s, CLF_NVIDIA_BACKWARD, features);
    const bool decode = rows <= DECODE_ROWS * (a->query_starts ? p->sequences : 1);
    if (!find_tile(p, s, decode ? CLF_NVIDIA_DECODE : CLF_NVIDIA_FORWARD, features)) return false;
    p->tiles = (int64_t)clf_cl_divide_up(rows, 16 * p->tile->row_tiles * p->tile->warps);
    if (a->query_starts) p->tiles += p->sequences + 1; /* each may end in a tile of its own */
    if (decode) {
        const int64_t all = p->tiles * k->shape[1] * q->shape[0];
        const int64_t wanted = clf_nvidia_groups(ctx) / (all ? all : 1), most = p->keys / (2 * p->tile->keys);
        assert(2 * p->tile->keys >= CLF_ATTENTION_TENSOR_PART);
        p->splits = wanted < most ? wanted : most;
        p->splits = p->splits < 1 ? 1 : p->splits > MAX_SPLITS ? MAX_SPLITS : p->splits;
    }
    return true;
}

/* ---- trials ---- */

/* The cache's key for a tile being right, or wrong: of all that this depends on. */
static clf_cl_key key_of(const clf_context *ctx, const tile *t, clf_dtype dtype, clf_cl_trial result) {
    const clf_cl_state *s = clf_cl(ctx);
    char name[160], options[96];
    clf_nvidia_options(ctx, dtype, options, sizeof options);
    snprintf(name, sizeof name, "tile %d: %d %d %d %d %d %d %d %d %d %s", result, t->use, t->dim, t->features, t->warps,
             t->row_tiles, t->keys, t->k_stages, t->q_in_registers, t->products, options);
    const char *const texts[] = {name,
                                 s->identity,
                                 s->build_options,
                                 CLF_NVIDIA_WARP,
                                 clf_cl_source_text("nvidia/tile"),
                                 clf_cl_source_text("nvidia/rules"),
                                 clf_cl_source_text("nvidia/attention"),
                                 clf_cl_source_text("nvidia/backward"),
                                 clf_cl_source_text("nvidia/attention_backward"),
                                 clf_cl_source_text("nvidia/attention_backward_mask")};
    return clf_cl_key_of((int)(sizeof texts / sizeof *texts), texts);
}

/* The known answers of a whole call, as wide as the tile goes. One that fails in whatever way is not used; of wgmma,
 * which a driver may well refuse, no user need hear. */
static clf_status try_out(clf_context *ctx, const tile *t, clf_dtype dtype) {
    clf_cl_state *s = clf_cl(ctx);
    static const char *const uses[] = {"forward", "decode", "backward"};
    static const char *const products[] = {"mma", "wgmma", "wgmma, -cl-nv-arch sm_90a", "wgmma, edited PTX"};
    uint8_t *result = &s->trials[dtype == CLF_BF16][t - tiles];
    const bool refusable = t->products != CLF_NVIDIA_MMA;
    for (int known = CLF_CL_RIGHT; known <= (refusable ? CLF_CL_WRONG : CLF_CL_RIGHT); known++)
        if (clf_cl_cache_passed(ctx, key_of(ctx, t, dtype, (clf_cl_trial)known)))
            return *result = (uint8_t)known, CLF_OK;
    s->on_trial = (int)(t - tiles) + 1;
    const bool backward = t->use == CLF_NVIDIA_BACKWARD;
    clf_status st = clf_cl_attention_test(ctx, backward ? CLF_CL_BACKWARD : CLF_CL_FORWARD, dtype,
                                          t->use == CLF_NVIDIA_DECODE ? 1 : TRIAL_QUERIES, t->dim, t->features);
    s->on_trial = 0;
    *result = st == CLF_OK ? CLF_CL_RIGHT : CLF_CL_WRONG;
    if (st == CLF_OK || (refusable && st == CLF_DEVICE_ERROR && !s->lost))
        clf_cl_cache_pass(ctx, key_of(ctx, t, dtype, (clf_cl_trial)*result));
    clf_log(ctx, st == CLF_OK || refusable ? CLF_LOG_DEBUG : CLF_LOG_WARNING,
            "trial of attention's tile %s %d, %d×%d, %s, %s: %s", uses[t->use], t->dim, 16 * t->row_tiles * t->warps,
            t->keys, products[t->products], clf_dtype_name(dtype),
            st == CLF_OK ? "known answers are right" : ctx->error.message);
    if (st == CLF_OK || s->tensor_cores == CLF_CL_TENSOR_CORES_EMULATED || s->lost) return st;
    clf_error_clear(&ctx->error);
    return CLF_OK;
}

clf_status clf_nvidia_plan_find(plan *p, bool *found, clf_context *ctx, const clf_attention_args *a, bool backward) {
    clf_cl_state *s = clf_cl(ctx);
    CLF_TRY(clf_nvidia_find(ctx));
    *found = s->tensor_cores != CLF_CL_TENSOR_CORES_OFF && clf_elements(a->out) && make(p, ctx, a, backward);
    while (*found && !s->on_trial && s->trials[p->bf16][p->tile - tiles] == CLF_CL_UNTRIED) {
        CLF_TRY(try_out(ctx, p->tile, a->query->dtype));
        *found = make(p, ctx, a, backward);
    }
    CLF_CHECK(&ctx->error, *found || !s->on_trial, CLF_DEVICE_ERROR, "it does not fit the device");
    if (*found && !s->on_trial)
        clf_log(ctx, CLF_LOG_DEBUG, "attention%s: tensor cores, %d×%d%s, %lld splits", backward ? "_backward" : "",
                16 * p->tile->row_tiles * p->tile->warps, p->tile->keys,
                p->tile->products == CLF_NVIDIA_MMA ? "" : " by wgmma", (long long)p->splits);
    return CLF_OK;
}
