/* attention.h: what the launchers of attention.cl and attention_backward.cl share: tiles, which are used once they have
 * given their known answers, and the arguments of rules.h. */
#ifndef CLF_CL_NVIDIA_ATTENTION_H
#define CLF_CL_NVIDIA_ATTENTION_H

#include "../../lib/ops/attention.h"
#include "nvidia.h"

typedef enum clf_nvidia_use { CLF_NVIDIA_FORWARD, CLF_NVIDIA_DECODE, CLF_NVIDIA_BACKWARD } clf_nvidia_use;

/* What multiplies, and for wgmma, how a program for sm_90a is come by. */
typedef enum clf_nvidia_products {
    CLF_NVIDIA_MMA,
    CLF_NVIDIA_WGMMA,
    CLF_NVIDIA_WGMMA_ARCH,
    CLF_NVIDIA_WGMMA_PTX
} clf_nvidia_products;

/* A line of tiles.def. */
typedef struct clf_nvidia_tile {
    clf_nvidia_use use;
    int dim, least_sm, most_sm, features;
    int warps, row_tiles, keys, k_stages, q_in_registers;
    clf_nvidia_products products;
} clf_nvidia_tile;

typedef struct clf_nvidia_plan {
    const clf_nvidia_tile *tile;
    int width, v_width; /* head_dim and v_dim, rounded up */
    bool bf16;          /* of the operands; else f16 */
    bool scores;        /* SCORES of rules.h */
    int64_t group, sequences, keys;
    int64_t tiles, splits; /* of the forward kernel */
    size_t local;
} clf_nvidia_plan;

/* Rows, keys and windows below it leave 32-bit sums room. */
enum { CLF_NVIDIA_MANY = 1 << 29 };

/* plan.c. *found = false: not a call for these kernels on this device. A tile met for the first time is tried out. */
clf_status clf_nvidia_plan_find(clf_nvidia_plan *plan, bool *found, clf_context *ctx, const clf_attention_args *args,
                                bool backward);

/* Work-groups that keep the device busy. */
int64_t clf_nvidia_groups(const clf_context *ctx);

/* Whether 16-byte copies can read the rows of a 16-bit tensor. */
bool clf_nvidia_aligned(const clf_tensor *t);

/* As RULES in rules.h. */
void clf_nvidia_rules(clf_cl_call *call, const clf_attention_args *args, const clf_nvidia_plan *plan);

#endif
