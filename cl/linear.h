/* linear.h: one product of linear, as its launchers hand it to each other. */
#ifndef CLF_CL_LINEAR_H
#define CLF_CL_LINEAR_H

#include "cl.h"

/* out = activation(gate) · (scale · x · weightᵀ + bias) + residual. Backward, out = scale · x · weight + residual,
 * where x is the gradient of linear's out. */
typedef struct clf_cl_product {
    const clf_tensor *x, *weight, *bias, *residual, *out;
    const clf_tensor *tile_rows, *tile_columns, *row_scale; /* of block-sparse ternary weights; NULL: dense */
    const clf_memory *gate;                                 /* [rows, n] in float32; NULL: none */
    clf_activation activation;
    float scale;
    clf_linear_precision precision;
    clf_dtype ends_as; /* out's dtype; or that of what it is a part of, rounded later */
} clf_cl_product;

/* EPILOGUE_ARGS of linear_epilogue.cl. */
void clf_cl_epilogue(clf_cl_call *call, const clf_cl_product *p);

/* One product by the kernels of linear.cl and linear_backward.cl, whatever others there are. */
clf_status clf_cl_multiply(clf_context *ctx, const clf_cl_product *p);
clf_status clf_cl_multiply_down(clf_context *ctx, const clf_cl_product *p);
/* linear_tiles.c: one of block-sparse ternary weights. */
clf_status clf_cl_multiply_tiles(clf_context *ctx, const clf_cl_product *p);

#endif
