/* sparsity.c: one ternary matrix by one row of x and by 256, in every form that clf_linear() takes it in, by the share
 * of it that is empty: whole tiles of 16 × 16, or single values. The same values throughout; bytes are what is read. A
 * small matrix is there as often as a model has layers, and each call takes the next: a model's is in no cache. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

enum { PANEL = 16, BLOCK = 256, WORD = 64, PREFILL = 256, MOST_COPIES = 22 };

typedef enum form { BF16, ROWS, T2, T1, TILES, FORMS } form;
static const char *const names[FORMS] = {"bf16", "tq2_0", "t2", "t1", "tiles"};
static const clf_dtype dtypes[FORMS] = {CLF_BF16, CLF_TQ2_0, CLF_T2, CLF_T1, CLF_U8};

typedef struct matrix {
    int64_t n, k, tiles;
    uint8_t *panels; /* T2 */
    int copies;
    clf_tensor *of[MOST_COPIES][FORMS], *rows[MOST_COPIES], *columns[MOST_COPIES], *scale[MOST_COPIES];
} matrix;

static uint64_t next(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    return *state ^= *state << 17;
}
static double uniform(uint64_t *state) {
    return (double)(next(state) >> 11) * 0x1p-53;
}

static clf_status make(clf_tensor **t, clf_context *ctx, clf_dtype dtype, int64_t n, int64_t k) {
    return clf_tensor_create(t, ctx, &(clf_tensor_args){.dtype = dtype, .ndim = k ? 2 : 1, .shape = {n, k}});
}

/* Panels with one scale. Values come from a table of words, so that a large matrix takes no minutes. */
static bool fill(matrix *m, double empty, bool tiles) {
    enum { TABLE = 4096 };
    static uint8_t words[TABLE][WORD];
    uint64_t state = 88172645463325252u;
    memset(words, 0, sizeof words);
    for (int w = 0; w < TABLE; w++)
        for (int i = 0; i < BLOCK; i++) {
            const int value = !tiles && uniform(&state) < empty ? 1
                              : tiles                           ? (int)(next(&state) % 3)
                                                                : (int)(next(&state) % 2) * 2;
            words[w][i / 4] |= (uint8_t)(value << i % 4 * 2);
        }
    const size_t halves = (size_t)(m->k / BLOCK) * PANEL * 2, body = (size_t)(m->k / 16) * WORD;
    m->panels = malloc((size_t)(m->n / PANEL) * (halves + body));
    if (!m->panels) return false;
    uint8_t *p = m->panels;
    for (int64_t r = 0; r < m->n / PANEL; r++) {
        for (size_t i = 0; i < halves; i += 2) memcpy(p + i, &(uint16_t){0x2400}, 2); /* 2^-6 */
        p += halves;
        for (int64_t g = 0; g < m->k / 16; g++, p += WORD) {
            if (tiles && uniform(&state) < empty)
                memset(p, 0x55, WORD);
            else
                memcpy(p, words[next(&state) % TABLE], WORD);
        }
    }
    return true;
}

static clf_status make_tiles(matrix *m, clf_context *ctx) {
    const size_t halves = (size_t)(m->k / BLOCK) * PANEL * 2, panel = halves + (size_t)(m->k / 16) * WORD;
    const int64_t most = m->n / PANEL * (m->k / 16);
    uint8_t empty[WORD], *words = malloc((size_t)most * WORD);
    int32_t *rows = malloc((size_t)(m->n / PANEL + 1) * sizeof *rows),
            *columns = malloc((size_t)most * sizeof *columns);
    float *scale = malloc((size_t)m->n * sizeof *scale);
    clf_status st = words && rows && columns && scale ? CLF_OK : CLF_OUT_OF_MEMORY;
    memset(empty, 0x55, sizeof empty);
    m->tiles = 0;
    for (int64_t r = 0; !st && r < m->n / PANEL; r++) {
        rows[r] = (int32_t)m->tiles;
        for (int64_t g = 0; g < m->k / 16; g++) {
            const uint8_t *word = m->panels + (size_t)r * panel + halves + (size_t)g * WORD;
            if (!memcmp(word, empty, WORD)) continue;
            memcpy(words + (size_t)m->tiles * WORD, word, WORD);
            columns[m->tiles++] = (int32_t)g;
        }
    }
    for (int64_t r = 0; !st && r < m->n; r++) scale[r] = 0x1p-6f;
    if (!st) rows[m->n / PANEL] = (int32_t)m->tiles;
    if (!st) st = make(&m->of[0][TILES], ctx, CLF_U8, m->tiles * WORD, 0);
    if (!st) st = clf_tensor_write(m->of[0][TILES], words, (size_t)m->tiles * WORD);
    if (!st) st = make(&m->rows[0], ctx, CLF_I32, m->n / PANEL + 1, 0);
    if (!st) st = clf_tensor_write(m->rows[0], rows, (size_t)(m->n / PANEL + 1) * sizeof *rows);
    if (!st) st = make(&m->columns[0], ctx, CLF_I32, m->tiles, 0);
    if (!st) st = clf_tensor_write(m->columns[0], columns, (size_t)m->tiles * sizeof *columns);
    if (!st) st = make(&m->scale[0], ctx, CLF_F32, m->n, 0);
    if (!st) st = clf_tensor_write(m->scale[0], scale, (size_t)m->n * sizeof *scale);
    free(words);
    free(rows);
    free(columns);
    free(scale);
    return st;
}

static clf_status make_forms(matrix *m, clf_context *ctx) {
    clf_status st = make(&m->of[0][T2], ctx, CLF_T2, m->n, m->k);
    if (!st) st = clf_tensor_write(m->of[0][T2], m->panels, clf_tensor_bytes(m->of[0][T2]));
    for (int f = 0; f < TILES && !st; f++) {
        if (f == T2) continue;
        st = make(&m->of[0][f], ctx, dtypes[f], m->n, m->k);
        if (!st) st = clf_convert(ctx, &(clf_convert_args){.x = m->of[0][T2], .out = m->of[0][f]});
    }
    return st ? st : make_tiles(m, ctx);
}

static clf_status copy(clf_tensor **to, clf_context *ctx, const clf_tensor *from) {
    const int64_t k = clf_tensor_ndim(from) == 2 ? clf_tensor_size(from, 1) : 0;
    clf_status st = make(to, ctx, clf_tensor_dtype(from), clf_tensor_size(from, 0), k);
    return st ? st : clf_tensor_copy(*to, from);
}

static clf_status make_copies(matrix *m, clf_context *ctx, int copies) {
    clf_status st = CLF_OK;
    m->copies = copies;
    for (int c = 1; c < copies && !st; c++) {
        for (int f = 0; f < FORMS && !st; f++) st = copy(&m->of[c][f], ctx, m->of[0][f]);
        if (!st) st = copy(&m->rows[c], ctx, m->rows[0]);
        if (!st) st = copy(&m->columns[c], ctx, m->columns[0]);
        if (!st) st = copy(&m->scale[c], ctx, m->scale[0]);
    }
    return st;
}

static void release(matrix *m) {
    for (int c = 0; c < MOST_COPIES; c++) {
        for (int f = 0; f < FORMS; f++) clf_tensor_destroy(m->of[c][f]);
        clf_tensor_destroy(m->rows[c]);
        clf_tensor_destroy(m->columns[c]);
        clf_tensor_destroy(m->scale[c]);
    }
    free(m->panels);
}

static double bytes_of(const matrix *m, form f) {
    return (double)clf_tensor_bytes(m->of[0][f]) + (f == TILES ? 4 * ((double)m->tiles + (double)m->n * 17 / 16) : 0);
}

/* Seconds of one call; 0 after a failure. */
static double measure(clf_context *ctx, const matrix *m, form f, int64_t tokens, double seconds) {
    clf_tensor *x = NULL, *out = NULL;
    bench_times times = {0};
    float *values = malloc((size_t)(tokens * m->k) * sizeof *values);
    clf_status st = values ? make(&x, ctx, CLF_F32, tokens, m->k) : CLF_OUT_OF_MEMORY;
    if (!st) st = make(&out, ctx, CLF_F32, tokens, m->n);
    for (int64_t i = 0; !st && i < tokens * m->k; i++) values[i] = (float)(i * 2654435761u % 255) - 127;
    if (!st) st = clf_tensor_write(x, values, clf_tensor_bytes(x));
    const int copies = tokens == 1 ? m->copies : 1;
    const double end = bench_now() + seconds;
    for (int i = 0; !st && (i < 5 || bench_now() < end); i++) {
        const double from = bench_now();
        for (int c = 0; c < copies && !st; c++) {
            clf_linear_args args = {.x = x, .weight = {m->of[c][f]}, .out = {out}};
            if (f == TILES) {
                args.tile_rows[0] = m->rows[c];
                args.tile_columns[0] = m->columns[c];
                args.row_scale[0] = m->scale[c];
            }
            st = clf_linear(ctx, &args);
        }
        if (!bench_times_add(&times, (bench_now() - from) / copies)) st = CLF_OUT_OF_MEMORY;
    }
    const double median = st ? 0 : bench_median(&times);
    if (st) fprintf(stderr, "%s: %s: %s\n", names[f], clf_status_string(st), clf_error_message(ctx));
    bench_times_free(&times);
    clf_tensor_destroy(x);
    clf_tensor_destroy(out);
    free(values);
    return median;
}

static bool run(const bench_settings *s, clf_context *ctx, int64_t n, int64_t k, double empty, bool tiles,
                json_t *list) {
    matrix m = {.n = n, .k = k};
    clf_status st = fill(&m, empty, tiles) ? make_forms(&m, ctx) : CLF_OUT_OF_MEMORY;
    if (!st) st = make_copies(&m, ctx, n <= 8192 ? MOST_COPIES : 1);
    if (st) fprintf(stderr, "sparsity: %s: %s\n", clf_status_string(st), clf_error_message(ctx));
    bool ok = !st;
    json_t *row = json_pack("{s:I, s:I, s:f, s:s, s:I}", "n", (json_int_t)n, "k", (json_int_t)k, "empty", empty, "of",
                            tiles ? "tiles" : "values", "tiles", (json_int_t)m.tiles);
    printf("%7lld x %5lld %5.1f %% of %s", (long long)n, (long long)k, 100 * empty, tiles ? "tiles " : "values");
    for (int f = 0; f < FORMS && ok; f++) {
        const double decode = measure(ctx, &m, (form)f, 1, s->seconds);
        const double prefill = n <= 8192 && decode > 0 ? measure(ctx, &m, (form)f, PREFILL, s->seconds) : 0;
        ok = decode > 0;
        printf("  %s %.1f us %.1f GB/s", names[f], 1e6 * decode, bytes_of(&m, (form)f) / decode * 1e-9);
        if (prefill > 0) printf(" (%.0f GMAC/s)", (double)(n * k) * PREFILL / prefill * 1e-9);
        json_object_set_new(
            row, names[f],
            json_pack("{s:f, s:f, s:f}", "bytes", bytes_of(&m, (form)f), "decode_s", decode, "prefill_s", prefill));
    }
    printf("\n");
    fflush(stdout);
    json_array_append_new(list, row);
    release(&m);
    return ok;
}

bool bench_sparsity(const bench_settings *s, clf_context *ctx, json_t *json) {
    static const int64_t shapes[][2] = {{5632, 2048}, {81920, 4096}};
    static const double shares[] = {0, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99};
    json_t *list = json_array();
    bool ok = true;
    for (int i = 0; i < 2 && ok; i++) {
        for (size_t e = 0; e < sizeof shares / sizeof *shares && ok; e++)
            ok = run(s, ctx, shapes[i][0], shapes[i][1], shares[e], true, list);
        for (size_t e = 4; i == 0 && e < sizeof shares / sizeof *shares && ok; e++)
            ok = run(s, ctx, shapes[i][0], shapes[i][1], shares[e], false, list);
    }
    json_object_set_new(json, "sparsity", list);
    return ok;
}
