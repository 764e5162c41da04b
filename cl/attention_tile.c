/* attention_tile.c: tile sizes of attention's kernels, and the choice of each device, which the cache keeps. What a
 * file there says is checked like anything else from outside; tiles other than the defaults must pass the self test. */
#include "attention_tile.h"

#include <stdlib.h>
#include <string.h>

enum { COLUMNS = 64, RUN = 32, MIN_ROWS = 4, MOST_ROWS = 8 }; /* as in attention_tile.cl */

/* Items 2 or 4 × queries, queries · keys ÷ items 16 or 32, all powers of two. */
static const clf_cl_attention_tile list[CLF_CL_TILES] = {
    {64, 64, 256, 16}, {64, 32, 128, 16}, {32, 64, 128, 16},  {32, 32, 64, 16},
    {64, 64, 128, 16}, {64, 64, 256, 32}, {128, 32, 256, 16}, {32, 32, 64, 32},
};
/* Defaults: 4 × 4 scores an item, and what any device has local memory for. */
static const uint8_t defaults[CLF_CL_PASSES] = {[CLF_CL_FORWARD] = 0, [CLF_CL_BACKWARD] = 1};

int clf_cl_attention_width(int64_t dim) {
    return dim <= COLUMNS ? 0 : dim <= 2 * COLUMNS ? 1 : 2;
}

int clf_cl_attention_chunks(int width) {
    return 1 << width;
}

clf_cl_attention_tile clf_cl_attention_tile_of(const clf_context *ctx, clf_cl_attention_pass pass, int width) {
    return list[clf_cl(ctx)->attention_tiles[pass][width]];
}

bool clf_cl_attention_tile_is_tuned(const clf_context *ctx, clf_cl_attention_pass pass, int width) {
    return clf_cl(ctx)->attention_tiles[pass][width] != defaults[pass];
}

size_t clf_cl_attention_local(clf_cl_attention_pass pass, clf_cl_attention_tile t) {
    const int columns = t.depth * (t.queries + t.keys + 8), run = RUN * (COLUMNS + 4);
    const int by_key = t.keys * (t.queries + 4), by_query = t.queries * (t.keys + 4);
    int words = columns > run ? columns : run; /* the pool */
    words += 2 * (t.queries + t.keys);         /* places */
    words += t.items;                          /* layout bits of tiles */
    if (pass == CLF_CL_FORWARD)
        words += by_key + t.items + t.queries; /* probabilities, parts of sums, factors */
    else
        words += 2 * (by_key > by_query ? by_key : by_query) + 2 * t.queries; /* p and ds, lse and D */
    return (size_t)words * sizeof(cl_float);
}

bool clf_cl_attention_tile_at(clf_cl_attention_tile *out, const clf_context *ctx, clf_cl_attention_pass pass,
                              int index) {
    cl_ulong local = 0;
    if (index < 0 || index >= CLF_CL_TILES) return false;
    const clf_cl_attention_tile t = *out = list[index];
    const int rows = (pass == CLF_CL_FORWARD ? t.queries : t.keys) * (COLUMNS / 4) / t.items; /* of outputs, an item */
    return rows >= MIN_ROWS && rows <= MOST_ROWS &&
           !clGetDeviceInfo(clf_cl(ctx)->device, CL_DEVICE_LOCAL_MEM_SIZE, sizeof local, &local, NULL) &&
           clf_cl_attention_local(pass, t) <= local;
}

static clf_cl_key key_of(const clf_context *ctx) {
    return clf_cl_key_of(2, (const char *const[]){"attention tiles", clf_cl(ctx)->identity});
}

void clf_cl_attention_tiles_default(clf_context *ctx) {
    clf_cl_state *s = clf_cl(ctx);
    for (int pass = 0; pass < CLF_CL_PASSES; pass++)
        memset(s->attention_tiles[pass], defaults[pass], sizeof s->attention_tiles[pass]);
    s->tuned = false;
}

void clf_cl_attention_tiles_load(clf_context *ctx) {
    clf_cl_state *s = clf_cl(ctx);
    void *data;
    size_t size;
    clf_cl_attention_tiles_default(ctx);
    if (!clf_cl_cache_load(ctx, key_of(ctx), &data, &size)) return;
    const uint8_t *tiles = data;
    bool good = size == sizeof s->attention_tiles;
    for (size_t i = 0; good && i < sizeof s->attention_tiles; i++) {
        clf_cl_attention_tile t;
        good = clf_cl_attention_tile_at(&t, ctx, (clf_cl_attention_pass)(i / CLF_CL_WIDTHS), tiles[i]);
    }
    if (good) memcpy(s->attention_tiles, tiles, sizeof s->attention_tiles);
    s->tuned = good;
    clf_log(ctx, good ? CLF_LOG_INFO : CLF_LOG_WARNING, "attention: tiles %s",
            good ? "as tuned" : "of the cache are none of this device's: defaults are used");
    free(data);
}

void clf_cl_attention_tiles_store(clf_context *ctx) {
    const clf_cl_state *s = clf_cl(ctx);
    clf_cl_cache_store(ctx, key_of(ctx), s->attention_tiles, sizeof s->attention_tiles);
}
