/* attention.h: what the launchers of attention.cl and attention_backward.cl share: tiles, and the arguments of rules.h.
 */
#ifndef CLF_CL_NVIDIA_ATTENTION_H
#define CLF_CL_NVIDIA_ATTENTION_H

#include "../../lib/ops/attention.h"
#include "nvidia.h"

typedef enum clf_nvidia_use { CLF_NVIDIA_FORWARD, CLF_NVIDIA_DECODE, CLF_NVIDIA_BACKWARD } clf_nvidia_use;

/* A line of tiles.def. */
typedef struct clf_nvidia_tile {
    clf_nvidia_use use;
    int dim, least_sm, most_sm, features;
    int warps, row_tiles, keys, k_stages, q_in_registers;
} clf_nvidia_tile;

typedef struct clf_nvidia_plan {
    const clf_nvidia_tile *tile;
    int width, v_width; /* head_dim and v_dim, rounded up */
    bool scores;        /* SCORES of rules.h */
    int64_t group, sequences, keys;
    int64_t tiles, splits; /* of the forward kernel */
    size_t local;
} clf_nvidia_plan;

/* False: not a call for these kernels. */
bool clf_nvidia_plan_make(clf_nvidia_plan *plan, const clf_context *ctx, const clf_attention_args *args, bool backward);

/* Whether 16-byte copies can read the rows of a 16-bit tensor. */
bool clf_nvidia_aligned(const clf_tensor *t);

/* As RULES in rules.h. */
void clf_nvidia_rules(clf_cl_call *call, const clf_attention_args *args, const clf_nvidia_plan *plan);

#endif
