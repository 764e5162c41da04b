/* attention_grid.c: the shapes that llama.cpp's test-backend-ops tries FLASH_ATTN_EXT with, all 5088 of them.
 * Head dimensions over 256 and block dtypes other than Q8_0 and Q4_0 must be refused with CLF_UNSUPPORTED; the others
 * must pass. The cheaper ones run by default, all with `--nightly`.
 *
 * What differs: rows of block dtypes are whole blocks (72 becomes 96), as there; the second precision at 128 is a query
 * of f16; a max_bias of 8 is its slopes, times distances; keys are of one dtype with values. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "attention_case.h"
#include "attention_golden.h"

enum { CASES = 5088, LEAST = 600, MAX_ARGUMENTS = 64 };
static const double cheap = 1.5e6; /* multiplications of what runs by default */

typedef struct grid_case {
    int head_dim, v_dim, kv_heads, group, batch, keys, queries;
    bool mask, sinks, slopes, half, permuted;
    float softcap;
    clf_dtype type;
} grid_case;

static grid_case cases[CASES];
static int n_cases;
static double limit;

static bool supported(const grid_case *g) {
    const bool blocks = g->type == CLF_Q8_0 || g->type == CLF_Q4_0;
    return (blocks || clf_dtype_block_values(g->type) == 1) && g->head_dim <= 256 && g->v_dim <= 256;
}

/* Multiplications, and the elements of key and value. */
static double work(const grid_case *g) {
    const double rows = (double)g->queries * g->group + 1;
    return rows * g->batch * g->kv_heads * g->keys * (g->head_dim + g->v_dim);
}

static void add_types(grid_case g) {
    static const clf_dtype types[] = {CLF_F16,  CLF_F32,  CLF_BF16, CLF_Q8_0,  CLF_Q5_1,
                                      CLF_Q5_0, CLF_Q4_1, CLF_Q4_0, CLF_IQ4_NL};
    const bool all = g.head_dim == 64 || g.head_dim == 72;
    const bool permuted = g.mask && !g.slopes && g.softcap == 0 && g.keys == 512;
    for (int t = 0; t < (all ? 9 : 1); t++)
        for (int p = 0; p <= permuted; p++) {
            if (n_cases == CASES) abort();
            cases[n_cases] = g;
            cases[n_cases].type = types[t];
            cases[n_cases++].permuted = p;
        }
}

/* Key lengths and numbers of queries, and at 128 both precisions. */
static void add_sizes(grid_case g) {
    static const int keys[] = {512, 113, 1024}, queries[] = {1, 3, 32, 75};
    for (int k = 0; k < (g.group == 1 ? 3 : 1); k++)
        for (int q = 0; q < 4; q++)
            for (int half = 0; half <= (g.head_dim == 128); half++) {
                g.keys = keys[k];
                g.queries = queries[q];
                g.half = half;
                add_types(g);
            }
}

/* Heads, groups and batches of these head dimensions. */
static void add_heads(grid_case g) {
    static const int groups[] = {1, 4, 8, 12, 16, 20, 32};
    for (int heads = 1; heads <= 4; heads += 3)
        for (int i = 0; i < 7; i++)
            for (int batch = 1; batch <= (g.head_dim <= 64 ? 3 : 1); batch += 2) {
                const int n = groups[i], d = g.head_dim;
                if (heads == 1 && d != 320 && d != 576) continue;
                if (n == 12 && d != 128) continue;
                if ((n == 8 || n == 16) && d != 192) continue;
                if (n == 20 && (d != 576 || heads != 1)) continue;
                if (n == 32 && (d != 320 || heads != 1)) continue;
                g.kv_heads = heads;
                g.group = n;
                g.batch = batch;
                add_sizes(g);
            }
}

static void list_cases(void) {
    static const int dims[][2] = {{40, 40},   {64, 64},   {72, 72},   {80, 80},   {96, 96},   {128, 128},
                                  {192, 128}, {192, 192}, {256, 256}, {320, 256}, {512, 512}, {576, 512}};
    for (int d = 0; d < 12; d++)
        for (int bits = 0; bits < 16; bits++) { /* mask, sinks, slopes, softcap */
            const grid_case g = {.head_dim = dims[d][0],
                                 .v_dim = dims[d][1],
                                 .mask = bits & 1,
                                 .sinks = bits & 2,
                                 .slopes = bits & 4,
                                 .softcap = bits & 8 ? 10 : 0};
            if ((g.slopes && !g.mask) || (g.softcap != 0 && g.head_dim != 128)) continue;
            add_heads(g);
        }
}

static int64_t whole(const grid_case *g, int dim) {
    const int values = clf_dtype_block_values(g->type);
    return (dim + values - 1) / values * values;
}

/* U[−1, 1); of blocks of 128 keys × 64 queries one in ten is −inf and one in ten 0. */
static void make_mask(op_run *run, const grid_case *g, clf_dtype dtype) {
    const int64_t shape[] = {g->batch, 1, g->queries, g->keys};
    double *mask = run->t[op_input(run, "mask", dtype, 4, shape, -1, 1)].value;
    for (int64_t row = 0; row < (int64_t)g->batch * g->queries; row += 64 - row % g->queries % 64)
        for (int64_t key = 0; key < g->keys; key += 128) {
            const int64_t choice = op_random_int(run, 10);
            if (choice > 1) continue;
            for (int64_t i = row;
                 i < (int64_t)g->batch * g->queries && i < row + 64 && i / g->queries == row / g->queries; i++)
                for (int64_t j = key; j < key + 128 && j < g->keys; j++) mask[i * g->keys + j] = choice ? -INFINITY : 0;
        }
}

static bool make(op_run *run) {
    const grid_case *g = &cases[run->variant];
    if (run->backward || work(g) > limit) return false;
    const int64_t heads = g->kv_heads * g->group, head_dim = whole(g, g->head_dim), v_dim = whole(g, g->v_dim);
    const int64_t q[] = {g->batch, heads, g->queries, head_dim}, k[] = {g->batch, g->kv_heads, g->keys, head_dim};
    const int64_t v[] = {g->batch, g->kv_heads, g->keys, v_dim}, out[] = {g->batch, heads, g->queries, v_dim};
    const clf_dtype dtype = g->half ? CLF_F16 : CLF_F32;
    run->light = true;
    run->args.attention = (clf_attention_args){.softcap = g->softcap, .scale = 1 / sqrtf((float)g->head_dim)};
    op_input(run, "query", dtype, 4, q, -1, 1);
    for (int i = 0; i < 2; i++) {
        const int t = op_input(run, i ? "value" : "key", g->type, 4, i ? v : k, -1, 1);
        if (!run->t[t].blocks) op_repeat(run, t, 0); /* the batches share keys */
    }
    if (g->mask) make_mask(run, g, dtype);
    if (g->sinks) op_input(run, "sinks", CLF_F32, 1, &heads, -10, 10);
    if (g->slopes) {
        double *slopes = run->t[op_input(run, "alibi_slopes", CLF_F32, 1, &heads, 0, 1)].value;
        for (int64_t h = 0; h < heads; h++)
            slopes[h] = op_round(pow(2, -8.0 * (double)(h + 1) / (double)heads), CLF_F32);
    }
    op_output(run, "lse", CLF_F32, 3, out);
    op_output(run, "out", dtype, 4, out);
    snprintf(run->text, sizeof run->text, "dims %d/%d, heads %d*%d, batch %d, keys %d %s, queries %d %s%s%s%s%s%s",
             g->head_dim, g->v_dim, g->kv_heads, g->group, g->batch, g->keys, clf_dtype_name(g->type), g->queries,
             clf_dtype_name(dtype), g->mask ? " mask" : "", g->sinks ? " sinks" : "", g->slopes ? " alibi" : "",
             g->softcap != 0 ? " softcap" : "", g->permuted ? " permuted" : "");
    return true;
}

static void reference(op_run *run) {
    if (supported(&cases[run->variant])) attention_reference(run); /* of the others nothing comes */
}

static const char *lacks(const op_run *run, const char *backend) {
    const grid_case *g = &cases[run->variant];
    if (supported(g)) return attention_case.lacks(run, backend);
    return g->head_dim > 256 || g->v_dim > 256 ? "a head_dim above 256" : "keys of block dtypes but q8_0, q4_0";
}

int attention_grid(int argc, char **argv) {
    static op_case c;
    char *rest[MAX_ARGUMENTS + 1];
    int n = 0, run = 0, unsupported = 0;
    limit = cheap;
    for (int i = 0; i < argc && n < MAX_ARGUMENTS; i++) {
        if (!strcmp(argv[i], "--nightly"))
            limit = INFINITY;
        else if (strcmp(argv[i], "--grid") != 0)
            rest[n++] = argv[i];
    }
    rest[n] = NULL;
    list_cases();
    for (int i = 0; i < n_cases; i++)
        if (work(&cases[i]) <= limit) supported(&cases[i]) ? run++ : unsupported++;
    printf("%d cases; %d run, %d are to be refused\n", n_cases, run, unsupported);
    if (n_cases != CASES || run < LEAST) {
        printf("FAIL: expected %d cases, %d or more of them run\n", CASES, LEAST);
        return 1;
    }
    c = attention_case;
    c.variants = CASES;
    c.dtypes = 1u << CLF_F32;
    c.make = make;
    c.reference = reference;
    c.lacks = lacks;
    c.rejects = NULL;
    c.call_backward = NULL;
    return op_main(n, rest, &c);
}
