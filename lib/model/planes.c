/* planes.c: ternary matrices as planes of bits. They come and go as floats, some rows at a time, so that every dtype
 * and device will do. */
#include <clformer/planes.h>

#include <math.h>
#include <stdlib.h>

#include "../core/checked.h"
#include "../core/context.h"
#include "../core/tensor.h"

enum { ROWS = CLF_PANEL_ROWS /* at a time: whole panels */ };

struct clf_planes {
    int64_t rows, columns, words, blocks; /* the latter two a row */
    uint64_t *positive, *negative;        /* [rows][words] */
    float *scale;                         /* [rows][blocks] */
};

clf_status clf_planes_create(clf_planes **out, int64_t rows, int64_t columns) {
    if (!out) return CLF_INVALID_ARGUMENT;
    *out = NULL;
    int64_t size;
    if (rows < 0 || columns < 0 || !clf_product_i64((int64_t[]){rows, columns, 4}, 3, &size))
        return CLF_INVALID_ARGUMENT;
    clf_planes *p = calloc(1, sizeof *p);
    if (!p) return CLF_OUT_OF_MEMORY;
    p->rows = rows, p->columns = columns;
    p->words = columns / 64 + (columns % 64 > 0);
    p->blocks = columns / CLF_PLANES_BLOCK + (columns % CLF_PLANES_BLOCK > 0);
    const size_t words = (size_t)(rows * p->words) + 1, scales = (size_t)(rows * p->blocks) + 1;
    p->positive = calloc(words, sizeof *p->positive);
    p->negative = calloc(words, sizeof *p->negative);
    p->scale = malloc(scales * sizeof *p->scale);
    if (!p->positive || !p->negative || !p->scale) {
        clf_planes_destroy(p);
        return CLF_OUT_OF_MEMORY;
    }
    for (size_t i = 0; i < scales; i++) p->scale[i] = 1;
    *out = p;
    return CLF_OK;
}

void clf_planes_destroy(clf_planes *p) {
    if (!p) return;
    free(p->positive);
    free(p->negative);
    free(p->scale);
    free(p);
}

int64_t clf_planes_rows(const clf_planes *p) {
    return p->rows;
}
int64_t clf_planes_columns(const clf_planes *p) {
    return p->columns;
}
const uint64_t *clf_planes_positive(const clf_planes *p) {
    return p->positive;
}
const uint64_t *clf_planes_negative(const clf_planes *p) {
    return p->negative;
}
float *clf_planes_scales(clf_planes *p) {
    return p->scale;
}

static bool is_inside(const clf_planes *p, int64_t row, int64_t column) {
    return p && row >= 0 && row < p->rows && column >= 0 && column < p->columns;
}

static int value_at(const clf_planes *p, int64_t row, int64_t column) {
    const int64_t word = row * p->words + column / 64;
    return (int)(p->positive[word] >> column % 64 & 1) - (int)(p->negative[word] >> column % 64 & 1);
}

static void set_at(clf_planes *p, int64_t row, int64_t column, int value) {
    const int64_t word = row * p->words + column / 64;
    const uint64_t bit = (uint64_t)1 << column % 64;
    p->positive[word] = value > 0 ? p->positive[word] | bit : p->positive[word] & ~bit;
    p->negative[word] = value < 0 ? p->negative[word] | bit : p->negative[word] & ~bit;
}

int clf_planes_get(const clf_planes *p, int64_t row, int64_t column) {
    return is_inside(p, row, column) ? value_at(p, row, column) : 0;
}

clf_status clf_planes_set(clf_planes *p, int64_t row, int64_t column, int value) {
    if (!is_inside(p, row, column) || value < -1 || value > 1) return CLF_INVALID_ARGUMENT;
    set_at(p, row, column, value);
    return CLF_OK;
}

static clf_status make(clf_tensor *t, clf_context *ctx, clf_dtype dtype, int64_t rows, int64_t columns) {
    const clf_tensor_args args = {.dtype = dtype, .ndim = 2, .shape = {rows, columns}, .tag = CLF_TAG_SCRATCH};
    return clf_tensor_init(t, ctx, &args);
}

/* Row `row` from its floats. */
static clf_status take_row(clf_planes *p, int64_t row, const float *values, clf_error *err) {
    for (int64_t b = 0; b < p->blocks; b++) {
        const int64_t first = b * CLF_PLANES_BLOCK;
        const int64_t end = p->columns - first < CLF_PLANES_BLOCK ? p->columns : first + CLF_PLANES_BLOCK;
        float scale = 0;
        for (int64_t c = first; c < end; c++) scale = fmaxf(scale, fabsf(values[c]));
        for (int64_t c = first; c < end; c++) {
            CLF_CHECK(err, isfinite(values[c]) && (values[c] == 0 || fabsf(values[c]) == scale), CLF_INVALID_ARGUMENT,
                      "planes: matrix: expected 0 or ±%g in row %lld, column %lld, got %g", (double)scale,
                      (long long)row, (long long)c, (double)values[c]);
            if (values[c] != 0) set_at(p, row, c, values[c] > 0 ? 1 : -1);
        }
        p->scale[row * p->blocks + b] = scale;
    }
    return CLF_OK;
}

static clf_status read_rows(clf_planes *p, const clf_tensor *matrix, float *values) {
    clf_tensor tile;
    for (int64_t r = 0; r < p->rows; r += ROWS) {
        const int64_t n = p->rows - r < ROWS ? p->rows - r : ROWS;
        const clf_tensor from =
            clf_view_of(matrix, 2, (int64_t[]){n, p->columns}, matrix->stride, r * matrix->stride[0]);
        CLF_TRY(make(&tile, matrix->ctx, CLF_F32, n, p->columns));
        clf_status st = clf_convert(matrix->ctx, &(clf_convert_args){.x = &from, .out = &tile});
        if (st == CLF_OK) st = clf_tensor_read(&tile, values, (size_t)(n * p->columns) * sizeof *values);
        clf_tensor_release(&tile);
        for (int64_t i = 0; i < n && st == CLF_OK; i++)
            st = take_row(p, r + i, values + i * p->columns, &matrix->ctx->error);
        CLF_TRY(st);
    }
    return CLF_OK;
}

static void give_row(const clf_planes *p, int64_t row, float *values) {
    for (int64_t c = 0; c < p->columns; c++)
        values[c] = (float)value_at(p, row, c) * p->scale[row * p->blocks + c / CLF_PLANES_BLOCK];
}

/* Rows as floats; as TQ2_0 on their way to T2 and T1, which are made from that. */
static clf_status write_tile(clf_context *ctx, const float *values, int64_t n, clf_tensor *to) {
    clf_tensor tile, rows = {0};
    CLF_TRY(make(&tile, ctx, CLF_F32, n, to->shape[1]));
    clf_status st = clf_tensor_write(&tile, values, (size_t)(n * to->shape[1]) * sizeof *values);
    const clf_tensor *from = &tile;
    if (st == CLF_OK && clf_dtype_is_interleaved(to->dtype)) {
        st = make(&rows, ctx, CLF_TQ2_0, n, to->shape[1]);
        if (st == CLF_OK) st = clf_convert(ctx, &(clf_convert_args){.x = from, .out = &rows});
        from = &rows;
    }
    if (st == CLF_OK) st = clf_convert(ctx, &(clf_convert_args){.x = from, .out = to});
    clf_tensor_release(&tile);
    clf_tensor_release(&rows);
    return st;
}

/* Room for some rows as floats, of a matrix of the planes' shape or any. */
static clf_status check(const clf_tensor *matrix, const clf_planes *p, float **values) {
    if (!matrix || matrix->magic != CLF_TENSOR_MAGIC) return CLF_INVALID_ARGUMENT;
    clf_error *err = &matrix->ctx->error;
    CLF_CHECK(err, matrix->ndim == 2, CLF_INVALID_ARGUMENT, "planes: matrix: expected 2 dimensions, got %d",
              matrix->ndim);
    CLF_CHECK(err, !p || (matrix->shape[0] == p->rows && matrix->shape[1] == p->columns), CLF_INVALID_ARGUMENT,
              "planes: matrix: expected [%lld, %lld], got [%lld, %lld]", p ? (long long)p->rows : 0,
              p ? (long long)p->columns : 0, (long long)matrix->shape[0], (long long)matrix->shape[1]);
    *values = malloc((size_t)(ROWS * matrix->shape[1] + 1) * sizeof **values);
    CLF_CHECK(err, *values, CLF_OUT_OF_MEMORY, "planes: out of host memory");
    return CLF_OK;
}

clf_status clf_planes_read(clf_planes **out, const clf_tensor *matrix) {
    float *values;
    if (!out) return CLF_INVALID_ARGUMENT;
    *out = NULL;
    CLF_TRY(check(matrix, NULL, &values));
    clf_planes *p;
    clf_status st = clf_planes_create(&p, matrix->shape[0], matrix->shape[1]);
    if (st == CLF_OK) {
        st = read_rows(p, matrix, values);
        if (st == CLF_OK)
            *out = p;
        else
            clf_planes_destroy(p);
    } else {
        clf_fail(&matrix->ctx->error, st, "planes: out of host memory");
    }
    free(values);
    return st;
}

clf_status clf_planes_write(const clf_planes *p, clf_tensor *matrix) {
    float *values;
    if (!p) return CLF_INVALID_ARGUMENT;
    CLF_TRY(check(matrix, p, &values));
    clf_status st = CLF_OK;
    for (int64_t r = 0; r < p->rows && st == CLF_OK; r += ROWS) {
        const int64_t n = p->rows - r < ROWS ? p->rows - r : ROWS;
        clf_tensor to = clf_view_of(matrix, 2, (int64_t[]){n, p->columns}, matrix->stride, r * matrix->stride[0]);
        for (int64_t i = 0; i < n; i++) give_row(p, r + i, values + i * p->columns);
        st = write_tile(matrix->ctx, values, n, &to);
    }
    free(values);
    return st;
}

clf_status clf_planes_count(const clf_planes *p, clf_planes_counts *out) {
    if (!p || !out) return CLF_INVALID_ARGUMENT;
    *out = (clf_planes_counts){0};
    for (int64_t i = 0; i < p->rows * p->words; i++) {
        out->positive += __builtin_popcountll(p->positive[i]);
        out->negative += __builtin_popcountll(p->negative[i]);
    }
    out->zero = p->rows * p->columns - out->positive - out->negative;
    return CLF_OK;
}

/* Chunk number `index`: its place, cut at the edges. */
typedef struct chunk {
    int64_t row, column, rows, columns;
} chunk;

static int64_t divide_up(int64_t a, int64_t b) {
    return a / b + (a % b > 0);
}

static chunk chunk_at(const clf_planes *p, int64_t rows, int64_t columns, int64_t index) {
    const int64_t across = divide_up(p->columns, columns), r = index / across * rows, c = index % across * columns;
    return (chunk){r, c, p->rows - r < rows ? p->rows - r : rows, p->columns - c < columns ? p->columns - c : columns};
}

/* Values that aren't zero, and Σ scale² over them. */
static int64_t weigh(const clf_planes *p, chunk at, double *weight) {
    int64_t count = 0;
    *weight = 0;
    for (int64_t r = at.row; r < at.row + at.rows; r++)
        for (int64_t c = at.column; c < at.column + at.columns; c++) {
            const double scale = (double)p->scale[r * p->blocks + c / CLF_PLANES_BLOCK];
            if (!value_at(p, r, c)) continue;
            count++;
            *weight += scale * scale;
        }
    return count;
}

clf_status clf_planes_sparsity(const clf_planes *p, int64_t rows, int64_t columns, float *out) {
    if (!p || !out || rows < 1 || columns < 1) return CLF_INVALID_ARGUMENT;
    const int64_t n = divide_up(p->rows, rows) * divide_up(p->columns, columns);
    for (int64_t i = 0; i < n; i++) {
        const chunk at = chunk_at(p, rows, columns, i);
        double weight;
        out[i] = 1 - (float)weigh(p, at, &weight) / (float)(at.rows * at.columns);
    }
    return CLF_OK;
}

typedef struct candidate {
    double weight;
    int64_t index;
} candidate;

static int lightest(const void *a, const void *b) {
    const candidate *x = a, *y = b;
    if (x->weight != y->weight) return x->weight < y->weight ? -1 : 1;
    return (x->index > y->index) - (x->index < y->index);
}

clf_status clf_planes_prune(clf_planes *p, int64_t rows, int64_t columns, double share) {
    if (!p || rows < 1 || columns < 1 || !(share >= 0 && share <= 1)) return CLF_INVALID_ARGUMENT;
    const int64_t n = divide_up(p->rows, rows) * divide_up(p->columns, columns);
    candidate *all = malloc((size_t)(n + 1) * sizeof *all);
    if (!all) return CLF_OUT_OF_MEMORY;
    for (int64_t i = 0; i < n; i++) {
        const int64_t count = weigh(p, chunk_at(p, rows, columns, i), &all[i].weight);
        if (!count) all[i].weight = -1; /* empty ones first, also where scales are zero */
        all[i].index = i;
    }
    qsort(all, (size_t)n, sizeof *all, lightest);
    for (int64_t i = 0; i < n && (double)i < share * (double)n; i++) {
        const chunk at = chunk_at(p, rows, columns, all[i].index);
        for (int64_t r = at.row; r < at.row + at.rows; r++)
            for (int64_t c = at.column; c < at.column + at.columns; c++) set_at(p, r, c, 0);
    }
    free(all);
    return CLF_OK;
}
