/* tiles.c: from T2 to lists of tiles and back. A tile is a word of T2, empty where all its codes are 1. */
#include "tiles.h"

#include "../core/context.h"

enum {
    BLOCK = 256,
    WORD = 64, /* bytes */
    HALVES = 2 * CLF_PANEL_ROWS,
    TILE_COST = 68,    /* bytes of a dense layout that are read in the time of a tile: its word and its column */
    TILE_ROW_COST = 96 /* and in that of what a row of tiles takes besides */
};

static const uint8_t *panel_of(const clf_tensor *panels, int64_t row) {
    return (const uint8_t *)clf_data(panels) + clf_dtype_bytes(CLF_T2, row * panels->shape[1]);
}
static const uint8_t *words_of(const clf_tensor *panels, int64_t row) {
    return panel_of(panels, row) + panels->shape[1] / BLOCK * HALVES;
}

static bool is_empty(const uint8_t *word) {
    uint64_t eight[WORD / 8], other = 0;
    memcpy(eight, word, sizeof eight);
    for (int i = 0; i < WORD / 8; i++) other |= eight[i] ^ 0x5555555555555555u;
    return !other;
}

static int64_t count_tiles(const clf_tensor *panels, int64_t row) {
    int64_t n = 0;
    for (int64_t g = 0; g < panels->shape[1] / 16; g++) n += !is_empty(words_of(panels, row) + g * WORD);
    return n;
}

static bool has_row_scales(const clf_tensor *panels) {
    for (int64_t r = 0; r < panels->shape[0]; r += CLF_PANEL_ROWS)
        for (int64_t b = 1; b < panels->shape[1] / BLOCK; b++)
            if (memcmp(panel_of(panels, r), panel_of(panels, r) + b * HALVES, HALVES)) return false;
    return panels->shape[1] > 0;
}

bool clf_tiles_pay(const clf_tensor *panels, uint64_t dense) {
    if (!has_row_scales(panels)) return false;
    uint64_t cost = 0;
    for (int64_t r = 0; r < panels->shape[0] && cost < dense; r += CLF_PANEL_ROWS)
        cost += TILE_ROW_COST + TILE_COST * (uint64_t)count_tiles(panels, r);
    return cost < dense;
}

void clf_tiles_release(clf_tiles *tiles) {
    clf_tensor_release(&tiles->rows);
    clf_tensor_release(&tiles->columns);
    clf_tensor_release(&tiles->scale);
}

static clf_status make(clf_tensor *t, clf_context *ctx, clf_dtype dtype, int64_t n, int64_t k) {
    const clf_tensor_args args = {.dtype = dtype, .ndim = k ? 2 : 1, .shape = {n, k}, .tag = CLF_TAG_WEIGHTS};
    return clf_tensor_init(t, ctx, &args);
}

static clf_status make_all(clf_tensor *words, clf_tiles *tiles, clf_context *ctx, int64_t n, int64_t count) {
    CLF_TRY(make(words, ctx, CLF_U8, count * WORD, 0));
    CLF_TRY(make(&tiles->rows, ctx, CLF_I32, n / CLF_PANEL_ROWS + 1, 0));
    CLF_TRY(make(&tiles->columns, ctx, CLF_I32, count, 0));
    return make(&tiles->scale, ctx, CLF_F32, n, 0);
}

clf_status clf_tiles_make(clf_tensor *words, clf_tiles *tiles, const clf_tensor *panels) {
    const int64_t n = panels->shape[0], k = panels->shape[1];
    int64_t count = 0;
    for (int64_t r = 0; r < n; r += CLF_PANEL_ROWS) count += count_tiles(panels, r);
    *words = (clf_tensor){0};
    *tiles = (clf_tiles){0};
    const clf_status st = count > INT32_MAX ? CLF_UNSUPPORTED : make_all(words, tiles, panels->ctx, n, count);
    if (st != CLF_OK) {
        clf_tensor_release(words);
        clf_tiles_release(tiles);
        return st;
    }
    int32_t *rows = clf_data(&tiles->rows), *columns = clf_data(&tiles->columns), at = 0;
    float *scale = clf_data(&tiles->scale);
    uint8_t *to = clf_data(words);
    for (int64_t r = 0; r < n; r++) {
        uint16_t half;
        memcpy(&half, panel_of(panels, r / CLF_PANEL_ROWS * CLF_PANEL_ROWS) + r % CLF_PANEL_ROWS * 2, sizeof half);
        scale[r] = clf_f16_to_f32(half);
    }
    for (int64_t r = 0; r < n; r += CLF_PANEL_ROWS) {
        rows[r / CLF_PANEL_ROWS] = at;
        for (int64_t g = 0; g < k / 16; g++) {
            const uint8_t *word = words_of(panels, r) + g * WORD;
            if (is_empty(word)) continue;
            memcpy(to + (size_t)at * WORD, word, WORD);
            columns[at++] = (int32_t)g;
        }
    }
    rows[n / CLF_PANEL_ROWS] = at;
    return CLF_OK;
}

clf_status clf_tiles_to_panels(clf_tensor *panels, const clf_tensor *words, const clf_tiles *tiles, int64_t k) {
    const int64_t n = tiles->scale.shape[0];
    CLF_TRY(make(panels, words->ctx, CLF_T2, n, k));
    const int32_t *rows = clf_data(&tiles->rows), *columns = clf_data(&tiles->columns);
    const float *scale = clf_data(&tiles->scale);
    const uint8_t *from = clf_data(words);
    for (int64_t r = 0; r < n; r += CLF_PANEL_ROWS) {
        uint8_t *panel = (uint8_t *)clf_data(panels) + clf_dtype_bytes(CLF_T2, r * k), *to = panel + k / BLOCK * HALVES;
        for (int64_t i = 0; i < k / BLOCK * CLF_PANEL_ROWS; i++) {
            const uint16_t half = clf_f32_to_f16(scale[r + i % CLF_PANEL_ROWS]);
            memcpy(panel + 2 * i, &half, sizeof half);
        }
        memset(to, 0x55, (size_t)(k / 16) * WORD);
        for (int32_t i = rows[r / CLF_PANEL_ROWS]; i < rows[r / CLF_PANEL_ROWS + 1]; i++)
            memcpy(to + (size_t)columns[i] * WORD, from + (size_t)i * WORD, WORD);
    }
    return CLF_OK;
}
