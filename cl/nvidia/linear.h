/* linear.h: a call of linear as the kernels of linear.cl, linear_bytes.cl and linear_ternary.cl get it. */
#ifndef CLF_CL_NVIDIA_LINEAR_H
#define CLF_CL_NVIDIA_LINEAR_H

#include "nvidia.h"

/* What multiplies: operands of 16 bits, the same for the gradient of x, bytes, and dp4a. */
typedef enum clf_nvidia_linear_use {
    LINEAR_F16,
    LINEAR_BF16,
    LINEAR_DOWN_F16,
    LINEAR_DOWN_BF16,
    LINEAR_BYTES,
    LINEAR_DECODE,
    LINEAR_USES
} clf_nvidia_linear_use;

typedef struct clf_nvidia_linear_plan {
    clf_nvidia_linear_use use;
    int tile; /* 0 for decode */
    int64_t m, n, k;
    bool codes, aligned; /* CODES, ALIGNED of linear.cl */
    int parts, run;      /* PARTS, RUN */
    size_t local;
} clf_nvidia_linear_plan;

static inline bool clf_nvidia_linear_down_use(clf_nvidia_linear_use use) {
    return use == LINEAR_DOWN_F16 || use == LINEAR_DOWN_BF16;
}

static inline const char *clf_nvidia_linear_use_name(clf_nvidia_linear_use use) {
    static const char *const names[LINEAR_USES] = {"f16", "bf16", "d·W f16", "d·W bf16", "bytes", "decode"};
    return names[use];
}

typedef struct clf_nvidia_linear_tile {
    int m, n, warp_m, warp_n;
} clf_nvidia_linear_tile;
extern const clf_nvidia_linear_tile clf_nvidia_linear_tiles[]; /* linear_tiles.def */
/* The tile for p's m and n. */
int clf_nvidia_linear_tile_for(const clf_context *ctx, const clf_nvidia_linear_plan *p);

clf_status clf_nvidia_linear_run(clf_context *ctx, const clf_cl_product *product, const clf_nvidia_linear_plan *p);

/* linear_ternary.c: products with T2 and with tiles. _make: whether its kernels take the call; *p: how. */
static inline bool clf_nvidia_linear_is_ternary(const clf_cl_product *product) {
    return product->tile_rows || product->weight->dtype == CLF_T2;
}
bool clf_nvidia_ternary_make(clf_nvidia_linear_plan *p, const clf_context *ctx, const clf_cl_product *product);
clf_status clf_nvidia_ternary_run(clf_context *ctx, const clf_cl_product *product, const clf_nvidia_linear_plan *p);

/* linear_trial.c: tries out the kernels that `p` says with weights of product's dtype; *result: a clf_cl_trial. Fails
 * only where a wrong answer mustn't be passed over. */
clf_status clf_nvidia_linear_try(uint8_t *result, clf_context *ctx, const clf_cl_product *product,
                                 const clf_nvidia_linear_plan *p);

#endif
