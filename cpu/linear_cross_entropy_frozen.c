/* linear_cross_entropy_frozen.c: the loss of z = softcap(x · Wᵀ), and its gradient by x, each product made once.
 *
 * As attention does, with the rows of W as keys and values. A group of rows of x meets COLUMNS rows w at a time:
 *
 *     z = x · wᵀ,  most' = max(most, z),  p = exp(z − most'),  sum' = sum · exp(most − most') + Σ p
 *     o' = o · exp(most − most') + p · w
 *
 * and at the end, d_z being scale · exp(z − lse) − spread − hit at the label,
 *
 *     d_x = scale / sum · o − spread · Σ w − hit · w[label]
 *
 * with each w times its softcap's slope 1 − (z/c)². So the weights come from memory once for a group, and wait in the
 * cache between the two products. Threads share rows w in the first, rows of x after it, columns of w in the second. */
#include "linear_cross_entropy.h"
#include "linear_gemm.h"
#include "linear_matrix.h"

enum {
    COLUMNS = CHUNK, /* rows w at a time, terms of the second product */
    LEAST = 48,      /* rows of a group, whatever they take */
    MOST = 512,      /* CHUNK terms of them are in L2 */
    LANES = 128      /* columns of w that a thread packs at a time; those of a block, if they are more */
};

typedef struct job {
    const clf_linear_cross_entropy_args *args;
    int64_t *active; /* the rows that have a label */
    product w;
    int64_t n_active, first; /* rows; the group's first */
    int rows, w_sums;     /* of a group, a multiple of VL; of w for the smoothing: one, or with a softcap each row's */
    int64_t pitch, lanes; /* of o; packed at a time */
    int threads;          /* those planned for */
    float *x;             /* packed, [rows / VL] panels */
    float *z;             /* [COLUMNS][rows] */
    float *p;             /* [rows + w_sums][COLUMNS]: p, and 1 or the slopes, whose products are Σ w */
    float *o;             /* [rows + w_sums][pitch] */
    float *packed;        /* [threads][lanes / VL][COLUMNS][VL] */
    float *most, *factor; /* [rows], factor = exp(most − most') */
    float *label_z;       /* [rows] */
    double *sum, *z_sum;  /* [rows] */
} job;

static size_t plan(job *j, char *base) {
    size_t used = 0;
    const size_t rows = (size_t)j->rows, k = (size_t)j->w.k;
    const size_t all = j->args->d_x ? rows + (size_t)j->w_sums : 0;
    j->active = cpu_carve(base, &used, (size_t)j->n_active * sizeof *j->active);
    j->x = cpu_carve(base, &used, rows * k * sizeof *j->x);
    j->z = cpu_carve(base, &used, rows * COLUMNS * sizeof *j->z);
    j->p = cpu_carve(base, &used, all * COLUMNS * sizeof *j->p);
    j->o = cpu_carve(base, &used, (all ? all : rows) * (size_t)j->pitch * sizeof *j->o);
    if (all) j->packed = cpu_carve(base, &used, (size_t)(j->threads * j->lanes) * COLUMNS * sizeof *j->packed);
    j->most = cpu_carve(base, &used, rows * sizeof *j->most);
    j->factor = cpu_carve(base, &used, rows * sizeof *j->factor);
    j->label_z = cpu_carve(base, &used, rows * sizeof *j->label_z);
    j->sum = cpu_carve(base, &used, rows * sizeof *j->sum);
    j->z_sum = cpu_carve(base, &used, rows * sizeof *j->z_sum);
    return used;
}

static void set_rows(job *j, int rows) {
    j->rows = rows;
    j->w_sums = j->args->label_smoothing == 0 || !j->args->d_x ? 0 : j->args->softcap != 0 ? rows : 1;
}

/* The most rows that keep to CROSS_ENTROPY_SHARE, then evenly shared over the groups. */
static void choose_rows(job *j) {
    const double logits = (double)j->args->x->shape[0] * (double)j->w.n;
    job more = *j;
    for (int rows = LEAST; rows <= MOST; rows += VL) {
        set_rows(&more, rows);
        if (rows > LEAST && (double)plan(&more, NULL) > logits * sizeof(float) / CROSS_ENTROPY_SHARE) break;
        j->rows = rows;
    }
    const int64_t groups = (j->n_active + j->rows - 1) / j->rows, even = (j->n_active + groups - 1) / groups;
    set_rows(j, (int)((even + VL - 1) / VL * VL));
}

/* ---- a group, as one thread sees it ---- */

/* Packs panel `panel` of the group's x, by way of o, which is empty then. */
static void begin_panel(const job *j, int64_t panel, int rows) {
    const int first = (int)panel * VL;
    float *o = j->o + first * j->pitch;
    const float *lane[VL];
    for (int i = 0; i < VL; i++) {
        const int m = first + i;
        lane[i] = m < rows ? o + i * j->pitch : NULL;
        if (m < rows)
            cpu_decode_row(j->args->x->dtype, clf_row(j->args->x, j->active[j->first + m]), j->w.k, o + i * j->pitch);
        j->most[m] = -INFINITY;
        j->sum[m] = j->z_sum[m] = 0;
    }
    pack_float(lane, j->rows / VL, panel, j->w.k, j->x);
    memset(o, 0, (size_t)(VL * j->pitch) * sizeof *o);
}

/* VL columns' values for VL rows become those rows of p, from row m on. */
static void store_p(const job *j, vf *values, int64_t column, int m) {
    v_transpose(values);
    for (int i = 0; i < VL; i++) v_store(j->p + (m + i) * COLUMNS + column, values[i]);
}

/* z of VL rows from m on, of `count` columns from v0 on: maxima, sums, p. */
static void soften(const job *j, int m, int64_t v0, int64_t count) {
    const vf cap = v_set1(j->args->softcap), one = v_set1(1), log2e = v_set1(1.44269504f);
    const bool capped = j->args->softcap != 0;
    const int32_t *labels = clf_data(j->args->labels);
    float *z = j->z + m, sums[VL], z_sums[VL];
    const vf before = v_load(j->most + m);
    vf most = before, sum = v_set1(0), z_sum = v_set1(0);
    for (int64_t v = 0; v < count; v++) {
        vf at = v_load(z + v * j->rows);
        if (capped) v_store(z + v * j->rows, at = v_mul(cap, v_tanh(v_div(at, cap))));
        most = v_max(at, most);
        z_sum = v_add(z_sum, at);
    }
    for (int64_t v = 0; v < count; v += VL) {
        vf p[VL], slope[VL];
        for (int i = 0; i < VL; i++) {
            p[i] = slope[i] = v_set1(0);
            if (v + i >= count) continue;
            const vf at = v_load(z + (v + i) * j->rows);
            p[i] = v_exp2(v_mul(v_sub(at, most), log2e));
            slope[i] = one;
            sum = v_add(sum, p[i]);
            if (!capped) continue;
            const vf share = v_div(at, cap);
            slope[i] = v_mul(v_sub(one, share), v_add(one, share));
            p[i] = v_mul(p[i], slope[i]);
        }
        if (!j->args->d_x) continue;
        store_p(j, p, v, m);
        if (j->w_sums > 1)
            store_p(j, slope, v, j->rows + m);
        else if (j->w_sums && m == 0)
            for (int i = 0; i < VL; i++) j->p[j->rows * COLUMNS + v + i] = v + i < count;
    }
    const vf factor = v_exp2(v_mul(v_sub(before, most), log2e));
    v_store(j->most + m, most);
    v_store(j->factor + m, factor);
    v_store(sums, sum);
    v_store(z_sums, z_sum);
    for (int i = 0; i < VL; i++) {
        j->sum[m + i] = j->sum[m + i] * (double)j->factor[m + i] + (double)sums[i];
        j->z_sum[m + i] += (double)z_sums[i];
        if (j->first + m + i >= j->n_active) continue;
        const int64_t label = labels[j->active[j->first + m + i]] - v0;
        if (label >= 0 && label < count) j->label_z[m + i] = z[label * j->rows + i];
    }
}

/* Rows of p: of x, and those whose products are Σ w. */
static int rows_of_p(const job *j, int rows) {
    return j->w_sums > 1 ? j->rows + rows : j->w_sums ? j->rows + 1 : rows;
}

/* o = o · factor + p · w: tiles [begin, end) of `tiles` of the rows of p, columns [l0, l0 + lanes) of w. */
static void add_columns(const job *j, int64_t v0, int count, int64_t l0, int64_t lanes, int rows, int64_t begin,
                        int64_t end, int64_t tiles, float *packed) {
    const operand w = operand_of(j->args->weight, true);
    const int64_t all = rows_of_p(j, rows);
    matrix_pack_b(&w, l0, lanes, v0, count, packed);
    for (int64_t tile = begin; tile < end; tile++) {
        const int64_t m0 = all * tile / tiles, m1 = all * (tile + 1) / tiles;
        const float(*p)[CHUNK] = (const float(*)[CHUNK])(j->p + m0 * COLUMNS);
        float *o = j->o + m0 * j->pitch + l0;
        for (int64_t m = m0; m < m1 && m < rows; m++) {
            float *row = j->o + m * j->pitch + l0;
            if (j->factor[m] == 1) continue;
            for (int64_t l = 0; l < lanes; l += VL) v_store(row + l, v_mul(v_load(row + l), v_set1(j->factor[m])));
        }
        if (l0 + 2 * lanes <= j->w.k)
            matrix_fetch(&w, v0, l0 + lanes, operand_bytes(&w, lanes), (int)(count * (tile - begin) / (end - begin)),
                         (int)(count * (tile + 1 - begin) / (end - begin)));
        for (int64_t l = 0; l < lanes; l += TILE_V * VL)
            tile_float((int)(m1 - m0), (lanes - l + VL - 1) / VL, p, packed + l * count, (int64_t)count * VL, count,
                       o + l, j->pitch, false);
    }
}

/* Thread t's share of all tiles of all columns. */
static void add_share(const job *j, int64_t v0, int count, int rows, int t, int n) {
    const int64_t k = j->w.k, tiles = (rows_of_p(j, rows) + TILE_R - 1) / TILE_R;
    float *packed = j->packed + t * j->lanes * COLUMNS;
    int64_t begin, end;
    cpu_share((k + j->lanes - 1) / j->lanes * tiles, t, n, &begin, &end);
    for (int64_t done; begin < end; begin += done) {
        const int64_t l0 = begin / tiles * j->lanes, tile = begin % tiles;
        done = tiles - tile < end - begin ? tiles - tile : end - begin;
        add_columns(j, v0, count, l0, k - l0 < j->lanes ? k - l0 : j->lanes, rows, tile, tile + done, tiles, packed);
    }
}

/* Row m is known: its loss, and d_x. */
static void write_row(const job *j, int m) {
    const clf_linear_cross_entropy_args *a = j->args;
    const int64_t row = j->active[j->first + m], label = ((const int32_t *)clf_data(a->labels))[row];
    const double lse = (double)j->most[m] + log(j->sum[m]), label_z = (double)j->label_z[m];
    const row_gradient g = end_row(a, row, lse, label_z, j->z_sum[m] / (double)j->w.n);
    if (!a->d_x) return;
    const double share = a->softcap != 0 ? label_z / (double)a->softcap : 0;
    const vf scale = v_set1((float)(g.scale / j->sum[m])), hit = v_set1((float)(g.hit * (1 - share * share)));
    const vf spread = v_set1((float)g.spread);
    const float *o = j->o + m * j->pitch, *sum = o;
    if (j->w_sums) sum = j->o + (j->rows + (j->w_sums > 1 ? m : 0)) * j->pitch;
    const size_t size = cpu_bytes(a->d_x->dtype);
    char *to = clf_row(a->d_x, row);
    for (int64_t l0 = 0; l0 < j->w.k; l0 += CHUNK, o += CHUNK, sum += CHUNK) {
        const int count = j->w.k - l0 < CHUNK ? (int)(j->w.k - l0) : CHUNK;
        float w[CHUNK];
        product_decode(&j->w, label, l0, count, w);
        CPU_FOR_DTYPE(
            DTYPE, a->d_x->dtype, for (int l = 0; l < count; l += VL) {
                const int n = count - l < VL ? count - l : VL;
                vf v = v_nfma(hit, v_load_n(w + l, n), v_mul(scale, v_load(o + l)));
                if (j->w_sums) v = v_nfma(spread, v_load(sum + l), v);
                v_store_as_n(to + (size_t)(l0 + l) * size, v, n, DTYPE);
            });
    }
}

/* ---- all threads ---- */

static void run_group(const job *j) {
    const int64_t left = j->n_active - j->first;
    const int rows = left < j->rows ? (int)left : j->rows;
#pragma omp parallel num_threads(j->threads)
    {
        const int t = omp_get_thread_num(), n = omp_get_num_threads();
        int64_t begin, end;
        cpu_share(j->rows / VL, t, n, &begin, &end);
        for (int64_t panel = begin; panel < end; panel++) begin_panel(j, panel, rows);
        if (t == 0 && j->w_sums) memset(j->o + j->rows * j->pitch, 0, (size_t)(j->w_sums * j->pitch) * sizeof *j->o);
#pragma omp barrier
        for (int64_t v0 = 0; v0 < j->w.n; v0 += COLUMNS) {
            const int count = j->w.n - v0 < COLUMNS ? (int)(j->w.n - v0) : COLUMNS;
            cpu_share(count, t, n, &begin, &end);
            float *z = j->z + begin * j->rows;
            if (j->w.k == 0)
                memset(z, 0, (size_t)((end - begin) * j->rows) * sizeof *z);
            else
                block_float(&j->w, j->x, j->rows / VL, v0 + begin, end - begin, z);
#pragma omp barrier
            cpu_share(j->rows / VL, t, n, &begin, &end);
            for (int64_t panel = begin; panel < end; panel++) soften(j, (int)panel * VL, v0, count);
#pragma omp barrier
            if (j->args->d_x) add_share(j, v0, count, rows, t, n);
        }
#pragma omp barrier
        cpu_share(rows, t, n, &begin, &end);
        for (int64_t m = begin; m < end; m++) write_row(j, (int)m);
    }
}

clf_status linear_cross_entropy_frozen(clf_context *ctx, const clf_linear_cross_entropy_args *args, int64_t n) {
    const clf_tensor *w = args->weight;
    const int64_t k = w->shape[1], vocab = w->shape[0], values = clf_dtype_block_values(w->dtype);
    job j = {.args = args, .n_active = n};
    j.w = (product){.data = clf_data(w),
                    .row_bytes = clf_dtype_bytes(w->dtype, w->stride[0]),
                    .dtype = w->dtype,
                    .n = vocab,
                    .k = k};
    j.pitch = (k + VL - 1) / VL * VL;
    j.lanes = values > LANES ? values : LANES;
    j.threads = cpu_threads(ctx, vocab, vocab * (k + 1) * n);
    choose_rows(&j);
    clf_buffer *scratch;
    CLF_TRY(clf_buffer_create(&scratch, ctx, plan(&j, NULL), CLF_TAG_SCRATCH));
    plan(&j, scratch->memory.host);
    list_rows(args, 0, n, j.active);
    for (; j.first < n; j.first += j.rows) run_group(&j);
    clf_buffer_release(scratch);
    return CLF_OK;
}
