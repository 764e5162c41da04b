/* attention_variants.c: the runs of attention: named shapes × features, random combinations of everything, and big ones
 * for bench/. What nobody sees of keys and values is garbage, NaN and infinities. */
#include "attention_case.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    CAUSAL = 1 << 0,
    WINDOW = 1 << 1,
    SOFTCAP = 1 << 2,
    ALIBI = 1 << 3,
    MASK = 1 << 4,
    LENGTHS = 1 << 5,
    SINKS = 1 << 6,
    LSE = 1 << 7,
    SCALE = 1 << 8,
    RIGHT = 1 << 9,
    LAYOUT = 1 << 10,
    DROPOUT = 1 << 11,
    PACKED = 1 << 12,
    PAGED = 1 << 13,
    OLD_FEATURES = RIGHT - 1,
    ALL_FEATURES = PAGED * 2 - 1,
    SAME_KEYS = 1 << 14, /* the key is the same for all batches: stride 0 */
    LOWEST = 1 << 15,    /* the mask holds −FLT_MAX, not −inf, and for some rows nothing else */
    EXTREME = 1 << 16,   /* scores of some ±10⁴ */
    OUTLIER = 1 << 17,   /* a key that outweighs all others by far */
    NORMAL = 1 << 18,    /* values of N(0, 1) */
    SAMPLED = 1 << 19,   /* not all rows are compared */
    LIGHT = 1 << 20,
    ONE_BATCH = 1 << 21, /* the mask's dimensions that are 1; without any of them it is left to chance */
    ONE_HEAD = 1 << 22,
    ONE_QUERY = 1 << 23,
    ONE_KEY = 1 << 24,
    ONES = ONE_BATCH | ONE_HEAD | ONE_QUERY | ONE_KEY,
    MASKED = LSE | CAUSAL | SOFTCAP | MASK | LENGTHS | SINKS | DROPOUT
};

/* With PACKED and PAGED batch counts sequences; queries and keys are the most that one has. Keys listed as f32 have the
 * query's dtype. */
typedef struct variant {
    int64_t batch, heads, kv_heads, queries, keys, head_dim, v_dim;
    int features;
    clf_dtype key_dtype;
    const char *text;
} variant;

static const variant variants[] = {
    {1, 1, 1, 1, 1, 1, 1, LSE, CLF_F32, "one of everything"},
    {1, 2, 1, 0, 5, 8, 8, LSE, CLF_F32, "no query"},
    {2, 2, 1, 3, 0, 8, 8, LSE, CLF_F32, "no key"},
    {2, 2, 2, 3, 0, 8, 8, LSE | SINKS, CLF_F16, "no key, sinks"},
    {0, 2, 2, 3, 4, 8, 8, LSE, CLF_F32, "no batch"},
    {0, 2, 2, 3, 4, 8, 8, LSE | PACKED, CLF_F32, "no sequence, packed"},
    {0, 2, 2, 3, 4, 8, 8, LSE | PAGED, CLF_F32, "no sequence, paged"},
    {1, 2, 2, 20, 8, 16, 16, LSE | CAUSAL, CLF_F32, "more queries than keys"},
    {2, 4, 2, 3, 40, 64, 64, LSE | CAUSAL | SAME_KEYS, CLF_F16, "a few queries, keys repeat"},
    {1, 8, 1, 1, 200, 64, 64, LSE, CLF_F16, "decode, 8 heads on one"},
    {1, 4, 4, 1, 700, 128, 96, LSE, CLF_BF16, "decode, v_dim 96"},
    {1, 8, 2, 1, 300, 64, 96, LSE, CLF_Q8_0, "decode, q8_0 keys"},
    {1, 2, 2, 70, 90, 128, 32, LSE | CAUSAL, CLF_Q8_0, "70 queries, q8_0 keys"},
    {1, 1, 1, 1, 2500, 64, 64, LSE | CAUSAL, CLF_F32, "decode, keys split over threads"},
    {1, 2, 1, 9, 1500, 32, 48, LSE | CAUSAL | ALIBI, CLF_F32, "18 rows, keys split over threads"},
    {1, 3, 1, 5, 1300, 40, 24, LSE | WINDOW | CAUSAL | SINKS, CLF_F32, "15 rows, window, keys split over threads"},
    {1, 2, 1, 33, 33, 256, 256, LSE | CAUSAL, CLF_F16, "widest heads"},
    {2, 2, 2, 30, 70, 16, 16, LSE | MASK | LOWEST, CLF_F32, "rows of the lowest float"},
    {1, 2, 1, 3, 50, 16, 16, LSE | MASK | LOWEST, CLF_F32, "few rows of the lowest float"},
    {2, 6, 2, 97, 145, 24, 24, LSE | OLD_FEATURES, CLF_F32, "everything of one sequence a batch"},
    {3, 4, 1, 2, 145, 24, 24, LSE | OLD_FEATURES, CLF_F16, "the same, few rows"},
    {1, 4, 2, 300, 300, 64, 64, LSE | CAUSAL, CLF_F32, "300 by 300"},
    {3, 4, 2, 70, 70, 32, 32, LSE | CAUSAL | PACKED, CLF_F32, "packed, causal"},
    {4, 4, 2, 1, 90, 64, 64, LSE | CAUSAL | PAGED, CLF_F16, "paged decode"},
    {4, 4, 2, 30, 90, 40, 24, LSE | CAUSAL | PACKED | PAGED, CLF_F32, "packed queries, paged keys"},
    {1, 2, 2, 150, 150, 16, 16, LSE | CAUSAL | LAYOUT, CLF_F32, "layout, causal"},
    {2, 2, 1, 50, 60, 16, 16, LSE | WINDOW | RIGHT, CLF_F32, "windows on both sides"},
    {2, 2, 1, 50, 60, 16, 16, LSE | RIGHT, CLF_F32, "a window ahead"},
    {2, 4, 2, 40, 70, 16, 16, LSE | DROPOUT, CLF_F32, "dropout"},
    {1, 4, 2, 1, 170, 16, 16, LSE | DROPOUT, CLF_F32, "dropout, decode"},
    {3, 6, 2, 67, 145, 24, 24, ALL_FEATURES & ~PAGED & ~PACKED, CLF_F32, "everything but packed and paged"},
    {3, 6, 2, 67, 145, 24, 24, ALL_FEATURES & ~PAGED, CLF_F32, "everything, packed"},
    {3, 6, 2, 67, 145, 24, 24, ALL_FEATURES & ~PACKED, CLF_F32, "everything, paged"},
    {3, 6, 2, 67, 145, 24, 24, ALL_FEATURES, CLF_F32, "everything, packed and paged"},
    {5, 4, 1, 3, 145, 32, 64, ALL_FEATURES, CLF_Q8_0, "everything, few rows, q8_0"},
    {2, 2, 2, 40, 70, 16, 16, LSE | EXTREME, CLF_F32, "scores of 10⁴"},
    {2, 2, 1, 1, 200, 16, 16, LSE | EXTREME | CAUSAL, CLF_F32, "scores of 10⁴, decode"},
    {2, 2, 2, 40, 70, 16, 16, LSE | OUTLIER | CAUSAL, CLF_F32, "an outlier"},
    {1, 4, 1, 2, 300, 16, 16, LSE | OUTLIER, CLF_F32, "an outlier, few rows"},
    {1, 4, 4, 256, 256, 64, 64, LSE | NORMAL, CLF_F32, "N(0, 1)"},
    {1, 1, 1, 16384, 16384, 4, 4, LSE | CAUSAL | SAMPLED | LIGHT, CLF_F32, "16384 by 16384"},
    {1, 2, 1, 1, 16384, 8, 8, LSE | CAUSAL | LIGHT, CLF_F32, "decode after 16384"},
    {1, 8, 2, 1, 300, 64, 96, LSE, CLF_Q4_0, "decode, q4_0 keys"},
    {1, 2, 2, 70, 90, 128, 32, LSE | CAUSAL, CLF_Q4_0, "70 queries, q4_0 keys"},
    {5, 4, 1, 3, 145, 64, 32, ALL_FEATURES, CLF_Q4_0, "everything, few rows, q4_0"},
    {1, 4, 2, 40, 45, 256, 200, ALL_FEATURES & ~PAGED & ~PACKED, CLF_F32,
     "wide heads, everything but packed and paged"},
    {2, 4, 2, 70, 90, 40, 24, MASKED | ONE_BATCH | ONE_HEAD, CLF_F32, "a mask for all batches and heads"},
    {3, 4, 2, 70, 90, 40, 24, MASKED | ALIBI | LAYOUT | PACKED | ONE_HEAD, CLF_F32, "a mask for all heads, packed"},
    {3, 4, 2, 70, 90, 40, 24, MASKED | PACKED | ONE_QUERY, CLF_F32, "a mask for all queries, packed"},
    {2, 4, 2, 70, 90, 40, 24, (MASKED & ~DROPOUT) | ONE_HEAD | ONE_KEY, CLF_F32, "a mask for all keys"},
    {3, 4, 2, 70, 90, 40, 24, MASKED | PACKED | ONES, CLF_F32, "a mask of one element, packed"},
};
static const variant bench[] = {
    {1, 32, 4, 512, 512, 64, 64, CAUSAL, CLF_F16, "bench: TinyLlama, prefill of 512"},
    {1, 32, 4, 1, 2048, 64, 64, CAUSAL, CLF_F16, "bench: TinyLlama, decode after 2048"},
    {1, 32, 4, 1, 2048, 64, 64, CAUSAL, CLF_Q8_0, "bench: TinyLlama, decode after 2048, q8_0"},
    {1, 32, 4, 1, 2048, 64, 64, CAUSAL, CLF_Q4_0, "bench: TinyLlama, decode after 2048, q4_0"},
    {1, 32, 8, 1, 8192, 128, 128, CAUSAL, CLF_F16, "bench: LLaMA 3 8B, decode after 8192"},
    {1, 8, 8, 2048, 2048, 128, 128, CAUSAL, CLF_F32, "bench: 8 heads of 128, 2048 by 2048"},
};
enum { NAMED = sizeof variants / sizeof *variants, BENCH = sizeof bench / sizeof *bench, RANDOM = 120 };
const int attention_variants = NAMED + RANDOM + BENCH, attention_bench_variants = BENCH;

static int64_t pick(op_run *run, const int64_t *from, int n) {
    return from[op_random_int(run, n)];
}

static bool chance(op_run *run, double p) {
    return op_random(run) < p;
}

/* Odd sizes around those where kernels change their ways. Each third run keeps to what every table has had longest. */
static variant random_variant(op_run *run) {
    static const int64_t sizes[] = {1, 2, 3, 5, 7, 8, 13, 16, 17, 31, 33, 47, 49, 64, 65, 97, 127, 130};
    static const int64_t dims[] = {1, 2, 3, 8, 15, 16, 24, 33, 40, 63, 64, 65, 80, 96, 128, 129, 200, 256};
    static const int64_t groups[] = {1, 1, 2, 3, 4, 7, 8};
    variant v = {.batch = 1 + op_random_int(run, 3), .kv_heads = 1 + op_random_int(run, 3), .text = "random"};
    v.heads = v.kv_heads * pick(run, groups, 7);
    v.queries = pick(run, sizes, chance(run, 0.4) ? 4 : 18);
    v.keys = pick(run, sizes, 18);
    v.head_dim = pick(run, dims, 18);
    v.v_dim = chance(run, 0.6) ? v.head_dim : pick(run, dims, 18);
    const bool old = run->variant % 3 == 0;
    for (int bit = 1; bit <= PAGED; bit *= 2)
        if (chance(run, 0.4) && (!old || bit & OLD_FEATURES)) v.features |= bit;
    v.features |= LIGHT;
    v.key_dtype = (clf_dtype[]){CLF_F32, CLF_F16, CLF_BF16, run->dtype, run->dtype}[op_random_int(run, 5)];
    if (!old && !run->backward && chance(run, 0.25)) {
        v.key_dtype = chance(run, 0.5) ? CLF_Q8_0 : CLF_Q4_0;
        v.head_dim = (v.head_dim + 31) / 32 * 32;
        v.v_dim = (v.v_dim + 31) / 32 * 32;
    }
    return v;
}

/* ---- sequences ---- */

/* Lengths of 0 … most, and rows of no sequence after them; returns how many rows in all. */
static int64_t make_starts(op_run *run, const char *name, int64_t sequences, int64_t most) {
    const int64_t n = sequences + 1;
    double *starts = run->t[op_input(run, name, CLF_I32, 1, &n, 0, 1)].value;
    starts[0] = 0;
    for (int64_t s = 0; s < sequences; s++)
        starts[s + 1] = starts[s] + (double)(chance(run, 0.2) ? most : op_random_int(run, most + 1));
    return (int64_t)starts[sequences] + op_random_int(run, 4);
}

/* Lengths, and the blocks of each sequence out of a shuffled pool; now and then a block of another sequence's. Entries
 * past the length are no blocks at all. Returns the size of a block; *blocks is the pool's. */
static int64_t make_table(op_run *run, const variant *v, int64_t *blocks) {
    static const int64_t block_sizes[] = {1, 3, 16, 32, 64};
    const int64_t size = v->keys < 32 ? pick(run, block_sizes, 3) : pick(run, block_sizes + 2, 3);
    const int64_t most = (v->keys + size - 1) / size + op_random_int(run, 2), shape[2] = {v->batch, most};
    double *lengths = run->t[op_input(run, "key_lengths", CLF_I32, 1, &v->batch, 0, 1)].value;
    double *table = run->t[op_input(run, "block_table", CLF_I32, 2, shape, 0, 1)].value;
    *blocks = v->batch * most + 2;
    int64_t *free_blocks = malloc((size_t)*blocks * sizeof *free_blocks);
    if (!free_blocks) abort();
    for (int64_t i = 0; i < *blocks; i++) { /* inside-out shuffle */
        const int64_t j = op_random_int(run, i + 1);
        free_blocks[i] = free_blocks[j];
        free_blocks[j] = i;
    }
    for (int64_t s = 0; s < v->batch; s++) {
        lengths[s] = (double)(chance(run, 0.3) ? v->keys : op_random_int(run, v->keys + 1));
        for (int64_t i = 0; i < most; i++) {
            const bool used = (double)(i * size) < lengths[s], shared = s && chance(run, 0.1);
            const double own = (double)free_blocks[s * most + i], other = (double)free_blocks[i];
            const bool other_used = (double)(i * size) < lengths[0];
            table[s * most + i] = !used ? (chance(run, 0.5) ? -7 : 1e9) : shared && other_used ? other : own;
        }
    }
    free(free_blocks);
    return size;
}

/* Rows of blocks, some empty, of some 40 % of the columns; packed, perhaps not a row for all queries. */
static void make_layout(op_run *run, clf_attention_args *a, const variant *v, int64_t queries, int64_t keys) {
    static const int64_t sizes[] = {16, 32, 64, 128};
    a->layout_block = pick(run, sizes, v->keys < 100 ? 2 : 4);
    const int64_t most = v->features & PACKED ? v->queries : queries;
    int64_t rows = (most + a->layout_block - 1) / a->layout_block, entries = 0;
    if (v->features & PACKED && rows > 1) rows -= op_random_int(run, 2);
    const int64_t columns = (keys + a->layout_block - 1) / a->layout_block, n = rows + 1;
    double *starts = run->t[op_input(run, "layout_rows", CLF_I32, 1, &n, 0, 1)].value;
    double *list = malloc((size_t)(rows * columns + 1) * sizeof *list);
    if (!list) abort();
    starts[0] = 0;
    for (int64_t r = 0; r < rows; r++) {
        const double density = chance(run, 0.1) ? 0 : chance(run, 0.1) ? 1 : 0.4;
        for (int64_t c = 0; c < columns; c++)
            if (chance(run, density)) list[entries++] = (double)c;
        starts[r + 1] = (double)entries;
    }
    double *to = run->t[op_input(run, "layout_columns", CLF_I32, 1, &entries, 0, 1)].value;
    for (int64_t i = 0; i < entries; i++) to[i] = list[i];
    free(list);
}

static void make_mask(op_run *run, const variant *v, int64_t batch, int64_t queries, int64_t keys) {
    int64_t shape[4] = {batch, v->heads, queries, keys};
    for (int i = 0; i < 4; i++) {
        const bool one =
            v->features & ONES ? v->features & ONE_BATCH << i : !(v->features & LOWEST) && chance(run, 0.3);
        if (one) shape[i] = 1;
    }
    const clf_dtype dtype = chance(run, 0.5) ? CLF_F32 : run->dtype;
    const int index = op_input(run, "mask", v->features & LOWEST ? CLF_F32 : dtype, 4, shape, -2, 2);
    double *mask = run->t[index].value;
    const int64_t n = op_elements(&run->t[index]);
    for (int64_t i = 0; i < n; i++) {
        if (chance(run, 0.2)) mask[i] = v->features & LOWEST ? -0x1.fffffep127 : -INFINITY;
        if (v->features & LOWEST && i / v->keys % 3 == 1) mask[i] = -0x1.fffffep127;
    }
}

/* ---- values ---- */

/* The rows of key or value that some sequence sees, as far as lengths and tables say: [entries of the batch or
 * blocks][rows]. */
static void mark_seen(op_run *run, const op_tensor *key, int64_t n_q, bool *seen) {
    const double *lengths = op_value(run, "key_lengths"), *starts = op_value(run, "key_starts");
    const op_tensor *table = op_find(run, "block_table");
    const int64_t size = key->shape[2], n = table ? table->shape[0] : starts ? n_q : key->shape[0];
    for (int64_t s = 0; s < n; s++) {
        const int64_t first = starts ? (int64_t)starts[s] : 0, rows = starts ? (int64_t)starts[s + 1] - first : size;
        int64_t end = lengths && (table || lengths[s] < (double)rows) ? (int64_t)lengths[s] : rows;
        for (int64_t j = 0; j < end; j++) {
            if (table)
                seen[(int64_t)table->value[s * table->shape[1] + j / size] * size + j % size] = true;
            else
                seen[(starts ? 0 : s) * size + first + j] = true;
        }
    }
}

/* Garbage where nobody looks: keys, values. */
static void spoil(op_run *run, const char *name, int64_t sequences) {
    op_tensor *t = op_find(run, name);
    const int64_t heads = t->shape[1], rows = t->shape[2], dim = t->shape[3], all = t->shape[0] * rows;
    bool *seen = calloc((size_t)all + 1, 1);
    if (!seen) abort();
    mark_seen(run, t, sequences, seen);
    for (int64_t i = 0; i < t->shape[0] * heads * rows * dim; i++) {
        const int64_t row = i / dim % rows, entry = i / dim / rows / heads;
        if (seen[entry * rows + row]) continue;
        t->value[i] = i % 3 == 0 ? NAN : i % 3 == 1 ? INFINITY : -INFINITY;
        if (t->blocks) /* the block's scale */
            op_encode(CLF_F16, &t->value[i], 1, (char *)t->blocks + (size_t)(i / 32) * clf_dtype_block_bytes(t->dtype));
    }
    free(seen);
}

/* The same in the query rows of no sequence. */
static void spoil_rows(op_run *run, const char *name, int64_t sequences) {
    op_tensor *t = op_find(run, name);
    const double *starts = op_value(run, "query_starts");
    if (!t || !starts) return;
    const int64_t rows = t->shape[2], dim = t->shape[3];
    for (int64_t i = 0; i < op_elements(t); i++)
        if ((double)(i / dim % rows) >= starts[sequences]) t->value[i] = i % 2 ? NAN : INFINITY;
}

static void make_normal(op_run *run, op_tensor *t) {
    for (int64_t i = 0; i < op_elements(t); i++) {
        const double r = sqrt(-2 * log(1 - op_random(run))), angle = 6.283185307179586 * op_random(run);
        t->value[i] = op_round(r * cos(angle), t->dtype);
    }
}

/* out and lse, as inputs, and the gradients: each of float32 or its tensor's dtype, now and then none. */
static void make_gradients(op_run *run, const variant *v, const int64_t *out, const int64_t *lse) {
    op_input(run, "lse", CLF_F32, 3, lse, 0, 1);
    op_input(run, "out", run->dtype, 4, out, 0, 1);
    op_input(run, "d_out", run->dtype, 4, out, -1, 1);
    static const char *const names[][2] = {{"query", "d_query"}, {"key", "d_key"},
                                           {"value", "d_value"}, {"sinks", "d_sinks"},
                                           {"mask", "d_mask"},   {"alibi_slopes", "d_alibi_slopes"}};
    for (int i = 0; i < 6; i++) {
        const op_tensor *of = op_find(run, names[i][0]);
        const clf_dtype dtype = i >= 3 || chance(run, 0.4) ? CLF_F32 : of->dtype;
        const bool wanted = of && (!chance(run, 0.15) || (i == 4 && v->features & ONES));
        if (wanted) op_output(run, names[i][1], dtype, of->ndim, of->shape);
    }
}

static void describe(op_run *run, const variant *v) {
    static const char *const names[] = {"causal", "window", "softcap", "alibi",  "mask",    "lengths", "sinks",
                                        "lse",    "scale",  "right",   "layout", "dropout", "packed",  "paged"};
    int n = snprintf(run->text, sizeof run->text, "%s: [%d, %d/%d, %d, %d, %d/%d] k %s", v->text, (int)v->batch,
                     (int)v->heads, (int)v->kv_heads, (int)v->queries, (int)v->keys, (int)v->head_dim, (int)v->v_dim,
                     clf_dtype_name(v->key_dtype));
    for (int bit = 0; bit < 14; bit++)
        if (v->features >> bit & 1 && n > 0 && (size_t)n < sizeof run->text)
            n += snprintf(run->text + n, sizeof run->text - (size_t)n, " %s", names[bit]);
}

/* What a gradient isn't defined or made for: block dtypes, pages; and where every score is −FLT_MAX, lse doesn't tell
 * how many there are. */
static bool has_gradient(const variant *v) {
    return clf_dtype_block_values(v->key_dtype) == 1 && !(v->features & (PAGED | LOWEST));
}

static variant choose(op_run *run) {
    const int last = NAMED + RANDOM;
    if (run->variant < NAMED) {
        variant v = variants[run->variant];
        if (v.key_dtype == CLF_F32) v.key_dtype = run->dtype;
        return v;
    }
    if (run->variant >= last) return bench[run->variant - last];
    variant v = random_variant(run);
    if (run->backward) v.features &= ~PAGED;
    return v;
}

static void make_scalars(op_run *run, clf_attention_args *a, const variant *v) {
    const int f = v->features;
    a->causal = f & CAUSAL;
    if (f & WINDOW) a->window = 1 + op_random_int(run, v->keys + 3);
    if (f & RIGHT) a->window_right = 1 + op_random_int(run, v->keys / 2 + 3);
    if (f & LIGHT && chance(run, 0.05)) a->window = a->window_right = INT64_MAX; /* hides nothing */
    if (f & SOFTCAP) a->softcap = (float)(1 + 8 * op_random(run));
    if (f & SCALE) a->scale = (float)(0.05 + 0.3 * op_random(run));
    if (f & EXTREME) a->scale = (float)(1e4 / (2 * sqrt((double)v->head_dim)));
    if (f & DROPOUT) {
        a->dropout = (float)(0.05 + 0.9 * op_random(run));
        a->dropout_seed = (uint64_t)(op_random(run) * 0x1p63) * 2 + 1;
    }
}

bool attention_make(op_run *run) {
    const variant v = choose(run);
    const int f = v.features;
    if (run->backward && !has_gradient(&v)) return false;
    if (f & SAMPLED && (run->dtype != CLF_F32 || run->backward)) return false;
    clf_attention_args *a = attention_args(run);
    make_scalars(run, a, &v);
    run->light = f & LIGHT;

    /* Shapes depend on the sequences, but query, key and value come first: the sequences are made in a run of their own
     * and moved behind them. */
    op_run side = {.random = run->random, .variant = run->variant, .dtype = run->dtype};
    int64_t n_q = v.queries, entries = v.batch, n_k = v.keys, positions = v.keys;
    if (f & PACKED) n_q = make_starts(&side, "query_starts", v.batch, v.queries);
    if (f & PAGED)
        n_k = make_table(&side, &v, &entries);
    else if (f & PACKED)
        n_k = positions = make_starts(&side, "key_starts", v.batch, v.keys);
    if (f & PAGED) positions = op_find(&side, "block_table")->shape[1] * n_k;
    const int64_t batch = f & PACKED ? 1 : v.batch;
    if (f & PACKED && !(f & PAGED)) entries = 1;
    run->random = side.random;

    const int64_t q[] = {batch, v.heads, n_q, v.head_dim}, k[] = {entries, v.kv_heads, n_k, v.head_dim};
    const int64_t value[] = {entries, v.kv_heads, n_k, v.v_dim}, out[] = {batch, v.heads, n_q, v.v_dim};
    op_input(run, "query", run->dtype, 4, q, -2, 2);
    op_input(run, "key", v.key_dtype, 4, k, -2, 2);
    op_input(run, "value", v.key_dtype, 4, value, -2, 2);
    for (int i = 0; i < side.n_tensors; i++) run->t[run->n_tensors++] = side.t[i];
    for (int i = 0; i < 3 && f & NORMAL; i++) make_normal(run, &run->t[i]);
    if (f & SAME_KEYS) op_repeat(run, 1, 0);
    if (f & OUTLIER)
        for (int64_t d = 0; d < v.head_dim; d++) run->t[1].value[3 * v.head_dim + d] *= 1024;
    if (f & LAYOUT) make_layout(run, a, &v, n_q, positions);
    if (f & ALIBI) op_input(run, "alibi_slopes", CLF_F32, 1, &v.heads, 0, 0.5);
    if (f & MASK) make_mask(run, &v, batch, n_q, positions);
    if (f & LENGTHS && !(f & PAGED)) op_input(run, "key_lengths", CLF_I32, 1, &v.batch, -1, (double)v.keys + 3);
    if (f & SINKS) op_input(run, "sinks", CLF_F32, 1, &v.heads, -3, 3);
    if (!(f & SAME_KEYS)) spoil(run, "key", v.batch);
    if (!(f & SAME_KEYS)) spoil(run, "value", v.batch);
    spoil_rows(run, "query", v.batch);
    if (run->backward) {
        make_gradients(run, &v, out, out);
        spoil_rows(run, "d_out", v.batch);
    } else {
        if (f & LSE) op_output(run, "lse", CLF_F32, 3, out);
        op_output(run, "out", run->dtype, 4, out);
        for (int i = 0; i < run->n_tensors; i++) run->t[i].sampled = run->t[i].output && f & SAMPLED;
    }
    describe(run, &v);
    return true;
}
