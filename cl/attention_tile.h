/* attention_tile.h: tile sizes of attention's kernels, which are data: those that make sense are a list in
 * attention_tile.c, of which a device uses one for each pass and width: the default, or what the tuner found to be
 * fastest and the cache has kept. */
#ifndef CLF_CL_ATTENTION_TILE_H
#define CLF_CL_ATTENTION_TILE_H

#include "cl.h"

typedef struct clf_cl_attention_tile {
    int queries, keys, items, depth; /* as attention_tile.cl says */
} clf_cl_attention_tile;

enum { CLF_CL_TILES = 8 }; /* in the list */

/* By width: up to 64 columns, 128, 256. */
int clf_cl_attention_width(int64_t dim);
int clf_cl_attention_chunks(int width); /* of 64 columns: 1, 2, 4 */

/* The tile in use. */
clf_cl_attention_tile clf_cl_attention_tile_of(const clf_context *ctx, clf_cl_attention_pass pass, int width);
/* Whether it isn't the default. */
bool clf_cl_attention_tile_is_tuned(const clf_context *ctx, clf_cl_attention_pass pass, int width);
/* Number `index` of the list; false: the device or the pass can't have it. */
bool clf_cl_attention_tile_at(clf_cl_attention_tile *out, const clf_context *ctx, clf_cl_attention_pass pass,
                              int index);
/* Bytes of local memory that a pass takes with a tile. */
size_t clf_cl_attention_local(clf_cl_attention_pass pass, clf_cl_attention_tile t);

/* Chooses the tiles, for an open device: as tuned, if the cache has tiles that can be, else the defaults. */
void clf_cl_attention_tiles_load(clf_context *ctx);
void clf_cl_attention_tiles_default(clf_context *ctx);
void clf_cl_attention_tiles_store(clf_context *ctx);

#endif
