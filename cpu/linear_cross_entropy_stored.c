/* linear_cross_entropy_stored.c: the loss of z = softcap(x · Wᵀ) and its gradients by x and by the weights, each
 * product made once, for a d_weight that holds zeros alone. Its memory has room for the z of k rows of x, and holds
 * them, [vocab] columns of n, until its own sums are made:
 *
 *     zᵀ = W · xᵀ,  maxima and sums of exp(z)
 *     COLUMNS at a time, the last first:  dz from z,  d_x += dz · w,  their rows of d_weight = dzᵀ · x
 *
 * As n ≤ k, a row of d_weight takes no memory of a column before it. So the weights come from memory twice for each 256
 * rows of x. Products are linear_matrix.h's, units of them go to threads as they come; threads share the columns in the
 * sums, which are added in the threads' order: the same threads give the same bits. */
#include "linear_cross_entropy.h"
#include "linear_matrix.h"

enum {
    SUMMED = 64,  /* columns whose exp(z) are summed in float32 */
    COLUMNS = 256 /* whose dz are there at a time */
};

typedef struct job {
    const clf_linear_cross_entropy_args *args;
    int64_t n, k, vocab, pitch;        /* pitch: n in whole vectors */
    int threads;                       /* those planned for */
    bool own_x, own_d_x;               /* rows of x are read, those of d_x summed, where they lie */
    float *z;                          /* [vocab][n] in d_weight */
    int64_t *active;                   /* the rows that have a label */
    char *matrix;                      /* [threads] scratch of products */
    float *x, *d_x;                    /* [n][k], unless own */
    float *dz, *dz_t;                  /* [pitch][COLUMNS], [COLUMNS][pitch] */
    float *most;                       /* [threads][n] */
    double *sum, *z_sum;               /* [threads][n]: of exp(z − most), of z */
    float *label_z;                    /* [pitch] */
    float *lse, *scale, *spread, *hit; /* [pitch]: dz = scale · exp(z − lse) − spread − hit at the label */
} job;

static size_t plan(job *j, char *base) {
    size_t used = 0;
    const size_t n = (size_t)j->n, pitch = (size_t)j->pitch, threads = (size_t)j->threads;
    const size_t matrix_bytes = n * (size_t)j->k * sizeof(float);
    j->active = cpu_carve(base, &used, n * sizeof *j->active);
    j->matrix = cpu_carve(base, &used, threads * MATRIX_SCRATCH);
    if (!j->own_x) j->x = cpu_carve(base, &used, matrix_bytes);
    if (!j->own_d_x) j->d_x = cpu_carve(base, &used, matrix_bytes);
    j->dz = cpu_carve(base, &used, pitch * COLUMNS * sizeof *j->dz);
    j->dz_t = cpu_carve(base, &used, pitch * COLUMNS * sizeof *j->dz_t);
    j->most = cpu_carve(base, &used, threads * n * sizeof *j->most);
    j->sum = cpu_carve(base, &used, threads * n * sizeof *j->sum);
    j->z_sum = cpu_carve(base, &used, threads * n * sizeof *j->z_sum);
    float **const of_rows[] = {&j->label_z, &j->lse, &j->scale, &j->spread, &j->hit};
    for (int i = 0; i < 5; i++) *of_rows[i] = cpu_carve(base, &used, pitch * sizeof(float));
    return used;
}

/* ---- the loss ---- */

static void store_z(const void *context, int64_t row, int64_t column, int64_t count, const float *y) {
    const job *j = context;
    const vf cap = v_set1(j->args->softcap);
    float *to = j->z + row * j->n + column;
    for (int64_t i = 0; i < count; i += VL) {
        const int left = count - i < VL ? (int)(count - i) : VL;
        const vf z = v_load_n(y + i, left);
        v_store_n(to + i, j->args->softcap != 0 ? v_mul(cap, v_tanh(v_div(z, cap))) : z, left);
    }
}

/* Of columns [v0, v1), VL rows from r on. */
static void sum_panel(const job *j, int64_t v0, int64_t v1, int64_t r, float *most, double *sum, double *z_sum) {
    const int left = j->n - r < VL ? (int)(j->n - r) : VL;
    const vf log2e = v_set1(1.44269504f), before = v_load_n(most + r, left);
    vf top = before, sums = v_set1(0), zs = v_set1(0);
    float factor[VL], part[VL];
    for (int64_t v = v0; v < v1; v++) top = v_max(v_load_n(j->z + v * j->n + r, left), top);
    for (int64_t v = v0; v < v1; v++) {
        const vf z = v_load_n(j->z + v * j->n + r, left);
        sums = v_add(sums, v_exp2(v_mul(v_sub(z, top), log2e)));
        zs = v_add(zs, z);
    }
    v_store_n(most + r, top, left);
    v_store(factor, v_exp2(v_mul(v_sub(before, top), log2e)));
    v_store(part, sums);
    for (int i = 0; i < left; i++) sum[r + i] = sum[r + i] * (double)factor[i] + (double)part[i];
    v_store(part, zs);
    for (int i = 0; i < left; i++) z_sum[r + i] += (double)part[i];
}

/* Thread t's columns. */
static void sum_share(const job *j, int t, int threads) {
    float *most = j->most + t * j->n;
    double *sum = j->sum + t * j->n, *z_sum = j->z_sum + t * j->n;
    int64_t begin, end;
    cpu_share(j->vocab, t, threads, &begin, &end);
    for (int64_t r = 0; r < j->n; r++) {
        most[r] = -INFINITY;
        sum[r] = z_sum[r] = 0;
    }
    for (int64_t v = begin; v < end; v += SUMMED)
        for (int64_t r = 0; r < j->n; r += VL)
            sum_panel(j, v, v + SUMMED < end ? v + SUMMED : end, r, most, sum, z_sum);
}

/* All sums of row r are there. */
static void end_sums(const job *j, int64_t r, int threads) {
    const int64_t row = j->active[r], label = ((const int32_t *)clf_data(j->args->labels))[row];
    float most = -INFINITY;
    double sum = 0, z = 0;
    for (int t = 0; t < threads; t++)
        if (j->most[t * j->n + r] > most) most = j->most[t * j->n + r];
    for (int t = 0; t < threads; t++) {
        sum += j->sum[t * j->n + r] * exp((double)j->most[t * j->n + r] - (double)most);
        z += j->z_sum[t * j->n + r];
    }
    j->label_z[r] = j->z[label * j->n + r];
    const double lse = (double)most + log(sum);
    const row_gradient g = end_row(j->args, row, lse, (double)j->label_z[r], z / (double)j->vocab);
    j->lse[r] = (float)lse;
    j->scale[r] = (float)g.scale;
    j->spread[r] = (float)g.spread;
    j->hit[r] = (float)g.hit;
}

/* ---- the gradients ---- */

/* dz of `count` columns from v0 on, VL rows from r on, in both orders. */
static void to_gradient(const job *j, int64_t v0, int count, int64_t r) {
    const bool capped = j->args->softcap != 0;
    const int left = j->n - r < VL ? (int)(j->n - r) : VL;
    const vf cap = v_set1(j->args->softcap), one = v_set1(1), log2e = v_set1(1.44269504f);
    const vf lse = v_load(j->lse + r), scale = v_load(j->scale + r), spread = v_load(j->spread + r);
    for (int v = 0; v < count; v += VL) {
        vf dz[VL];
        for (int i = 0; i < VL; i++) {
            dz[i] = v_set1(0);
            if (v + i >= count) continue;
            const vf z = v_load_n(j->z + (v0 + v + i) * j->n + r, left);
            dz[i] = v_sub(v_mul(scale, v_exp2(v_mul(v_sub(z, lse), log2e))), spread);
            if (capped) {
                const vf share = v_div(z, cap);
                dz[i] = v_mul(dz[i], v_mul(v_sub(one, share), v_add(one, share)));
            }
            v_store(j->dz_t + (v + i) * j->pitch + r, dz[i]);
        }
        v_transpose(dz);
        for (int i = 0; i < VL; i++) v_store(j->dz + (r + i) * COLUMNS + v, dz[i]);
    }
    for (int64_t row = r; row < r + left; row++) {
        const int64_t label = ((const int32_t *)clf_data(j->args->labels))[j->active[row]] - v0;
        if (label < 0 || label >= count) continue;
        const float share = capped ? j->label_z[row] / j->args->softcap : 0;
        j->dz[row * COLUMNS + label] -= j->hit[row] * (1 - share * share);
        j->dz_t[label * j->pitch + row] = j->dz[row * COLUMNS + label];
    }
}

/* A product's results are added. */
static void add_d_x(const void *context, int64_t row, int64_t column, int64_t count, const float *y) {
    const job *j = context;
    float *to = (j->own_d_x ? (float *)clf_row(j->args->d_x, j->active[row]) : j->d_x + row * j->k) + column;
    for (int64_t i = 0; i < count; i += VL) {
        const int left = count - i < VL ? (int)(count - i) : VL;
        v_store_n(to + i, v_add(v_load_n(to + i, left), v_load_n(y + i, left)), left);
    }
}

static void begin_d_x(const job *j, int64_t r) {
    float *to = j->own_d_x ? clf_row(j->args->d_x, j->active[r]) : j->d_x + r * j->k;
    memset(to, 0, (size_t)j->k * sizeof *to);
}

static void end_d_x(const job *j, int64_t r) {
    const clf_tensor *out = j->args->d_x;
    char *to = clf_row(out, j->active[r]);
    CPU_FOR_DTYPE(
        DTYPE, out->dtype, for (int64_t i = 0; i < j->k; i += VL) {
            const int left = j->k - i < VL ? (int)(j->k - i) : VL;
            v_store_as_n(to + (size_t)i * cpu_bytes(DTYPE), v_load_n(j->d_x + r * j->k + i, left), left, DTYPE);
        });
}

/* Some rows of d_weight. */
typedef struct rows_of {
    float *first;
    int64_t k;
} rows_of;

static void store_rows(const void *context, int64_t row, int64_t column, int64_t count, const float *y) {
    const rows_of *to = context;
    memcpy(to->first + row * to->k + column, y, (size_t)count * sizeof *y);
}

/* ---- all threads ---- */

/* Units of a product, those that no thread has taken. */
static void multiply(const job *j, const matrix *m, int64_t *taken,
                     void (*finish)(const void *, int64_t, int64_t, int64_t, const float *), const void *context) {
    const matrix_scratch s = matrix_scratch_of(j->matrix, omp_get_thread_num());
    matrix_run(m, taken, &s, finish, context);
}

/* A matrix of float32 in scratch. */
static clf_tensor matrix_at(clf_buffer *scratch, const float *data, int64_t rows, int64_t columns, int64_t pitch) {
    return (clf_tensor){.dtype = CLF_F32,
                        .ndim = 2,
                        .shape = {rows, columns},
                        .stride = {pitch, 1},
                        .buffer = scratch,
                        .offset = (size_t)((const char *)data - (const char *)scratch->memory.host)};
}

/* The weights' rows [v0, v0 + count). */
static clf_tensor weight_rows(const job *j, int64_t v0, int count) {
    clf_tensor w = *j->args->weight;
    w.shape[0] = count;
    w.offset += clf_dtype_bytes(w.dtype, v0 * w.stride[0]);
    return w;
}

static void run(const job *j, clf_buffer *scratch) {
    const int64_t n = j->n, k = j->k;
    const clf_tensor *d_x = j->args->d_x;
    const clf_tensor x = j->own_x ? *j->args->x : matrix_at(scratch, j->x, n, k, k);
    const clf_tensor dz = matrix_at(scratch, j->dz, n, COLUMNS, COLUMNS);
    const clf_tensor dz_t = matrix_at(scratch, j->dz_t, COLUMNS, n, j->pitch);
    matrix logits = {.rows = j->vocab,
                     .columns = n,
                     .n = 1,
                     .a = {operand_of(j->args->weight, false)},
                     .b = {operand_of(&x, false)},
                     .terms = {k}};
    int64_t taken[3] = {0}; /* units, of each of the products */
    matrix_plan(&logits, j->threads);
#pragma omp parallel num_threads(j->threads)
    {
        const int t = omp_get_thread_num(), threads = omp_get_num_threads();
        if (!j->own_x) {
#pragma omp for schedule(static)
            for (int64_t r = 0; r < n; r++)
                cpu_decode_row(j->args->x->dtype, clf_row(j->args->x, j->active[r]), k, j->x + r * k);
        }
        multiply(j, &logits, &taken[0], store_z, j);
#pragma omp barrier
        sum_share(j, t, threads);
#pragma omp barrier
#pragma omp for schedule(static)
        for (int64_t r = 0; r < n; r++) {
            end_sums(j, r, threads);
            if (d_x) begin_d_x(j, r);
        }
        for (int64_t v1 = j->vocab, v0; v1 > 0; v1 = v0) {
            v0 = v1 > COLUMNS ? v1 - COLUMNS : 0;
            const int count = (int)(v1 - v0);
            const clf_tensor w = weight_rows(j, v0, count);
            matrix by_w = {.rows = count,
                           .columns = k,
                           .n = 1,
                           .a = {operand_of(&dz_t, false)},
                           .b = {operand_of(&x, true)},
                           .terms = {n}};
            matrix by_x = {.rows = n,
                           .columns = k,
                           .n = 1,
                           .a = {operand_of(&dz, false)},
                           .b = {operand_of(&w, true)},
                           .terms = {count}};
            matrix_plan(&by_w, threads);
            matrix_plan(&by_x, threads);
            if (t == 0) taken[1] = taken[2] = 0;
#pragma omp for schedule(static)
            for (int64_t r = 0; r < n; r += VL) to_gradient(j, v0, count, r);
            multiply(j, &by_w, &taken[1], store_rows, &(rows_of){(float *)clf_data(j->args->d_weight) + v0 * k, k});
            if (d_x) multiply(j, &by_x, &taken[2], add_d_x, j);
#pragma omp barrier
        }
        if (d_x && !j->own_d_x) {
#pragma omp for schedule(static)
            for (int64_t r = 0; r < n; r++) end_d_x(j, r);
        }
    }
}

/* ---- whether it can be done ---- */

/* Whether all bits of n values are 0. */
static bool is_zero(const float *values, int64_t n, int threads) {
    bool zero = true;
#pragma omp parallel for schedule(static) num_threads(threads) reduction(&& : zero)
    for (int64_t first = 0; first < n; first += CPU_PIECE) {
        const int64_t end = zero ? (n - first < CPU_PIECE ? n : first + CPU_PIECE) : first;
        uint32_t bits = 0;
        for (int64_t i = first; i < end; i++) {
            uint32_t of;
            memcpy(&of, values + i, sizeof of);
            bits |= of;
        }
        zero = zero && bits == 0;
    }
    return zero;
}

/* Whether the first n rows of x have a label each. */
static bool all_have_labels(const clf_linear_cross_entropy_args *args, int64_t n) {
    const int32_t *labels = clf_data(args->labels);
    for (int64_t r = 0; r < n; r++)
        if (labels[r] == CLF_LABEL_NONE) return false;
    return true;
}

clf_status linear_cross_entropy_stored(clf_context *ctx, const clf_linear_cross_entropy_args *args, int64_t n,
                                       int64_t *done) {
    const clf_tensor *w = args->d_weight;
    job j = {.args = args, .k = w->shape[1], .vocab = w->shape[0]};
    j.n = n < j.k ? n : j.k;
    j.threads = cpu_threads(ctx, j.vocab, j.vocab * (j.k + 1) * n);
    j.pitch = (j.n + VL - 1) / VL * VL;
    j.own_x = all_have_labels(args, j.n);
    j.own_d_x = !args->d_x || (args->d_x->dtype == CLF_F32 && (!j.own_x || clf_data(args->d_x) != clf_data(args->x)));
    j.z = clf_data(w);
    *done = 0;
    const int64_t width = args->x->shape[0] > j.k ? args->x->shape[0] : j.k;
    const size_t bytes = plan(&j, NULL);
    if (bytes > (size_t)(width * j.vocab) * sizeof(float) / CROSS_ENTROPY_SHARE || !clf_is_contiguous(w) ||
        !is_zero(j.z, j.vocab * j.k, j.threads))
        return CLF_OK;
    clf_buffer *scratch;
    CLF_TRY(clf_buffer_create(&scratch, ctx, bytes, CLF_TAG_SCRATCH));
    plan(&j, scratch->memory.host);
    list_rows(args, 0, j.n, j.active);
    run(&j, scratch);
    clf_buffer_release(scratch);
    *done = j.n;
    return CLF_OK;
}
