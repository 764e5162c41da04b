/* attention_tile.h: tile sizes of attention's kernels, which are data: those that make sense, in attention_tile.c, of
 * which each device uses one a kernel and width; the default, or what the tuner found. */
#ifndef CLF_CL_ATTENTION_TILE_H
#define CLF_CL_ATTENTION_TILE_H

#include "cl.h"

/* As attention_tile.cl asks: powers of two, items 2 or 4 × queries, queries · keys ÷ items 16 or 32. */
typedef struct clf_cl_attention_tile {
    int queries, keys, items, depth;
} clf_cl_attention_tile;

typedef enum clf_cl_attention_pass { CLF_CL_FORWARD, CLF_CL_BACKWARD, CLF_CL_PASSES } clf_cl_attention_pass;

/* By 64 columns, 1, 2 or 4, that hold `dim`. */
int clf_cl_attention_chunks(int64_t dim);
/* The tile in use. */
clf_cl_attention_tile clf_cl_attention_tile_of(const clf_context *ctx, clf_cl_attention_pass pass, int chunks);
/* Bytes of local memory that a pass takes with a tile. */
size_t clf_cl_attention_local(clf_cl_attention_pass pass, clf_cl_attention_tile t);

#endif
