/* linear.c: out[i] = scale · x · weight[i]ᵀ + bias[i], optionally gated, optionally plus a residual.
 *
 * Three ways. Up to DOT_ROWS rows of x: dot products against each row of the weights where they lie (linear_dot.h),
 * bound by reading the weights. More: tiles over packed x (linear_gemm.h), bound by arithmetic. Matrices of floats with
 * a side of up to NARROW, an adapter's: tiles over packed weights, as packing x would take longer than the product. In
 * the first two, rows of dtypes that have integer codes (code_has()) meet x rounded to int8 unless CLF_LINEAR_EXACT is
 * asked, and so do T2 and T1, whose rows are interleaved and which have kernels of their own for both
 * (linear_ternary.h); all else is float. x of Q8_0 is such codes already. Threads take even shares of the weights'
 * rows, fixed by their number; bias, gate and residual are applied while a row's results are in cache. */
#include "linear_job.h"
#include "team.h"

enum {
    NARROW = 64,
    NARROW_COLUMNS = 256,   /* of out whose sums are in L1 */
    PACKED_BYTES = 8 << 20, /* most of x that is packed at a time, … */
    PACKED_ROWS = 512       /* … and most rows: CHUNK terms of them, and a block's results, are in L2 */
};

/* Room for the forms of all rows. */
static forms plan_forms(const job *j, char *base, size_t *used) {
    forms f = {0};
    plan_ternary(j, &f, j->rows, base, used);
    float *values = x_is_read(j) ? NULL : cpu_carve(base, used, (size_t)(j->rows * j->k_padded) * sizeof *values);
    for (int64_t m = 0; m < j->rows; m++) {
        f.rows[m].f = values ? values + m * j->k_padded : clf_row(j->args->x, m);
        if (!j->codes) continue;
        const size_t k = (size_t)(j->k + 2 * QX - 1) / (2 * QX) * (2 * QX);
        f.rows[m].q.q = cpu_carve(base, used, k);
        f.rows[m].q.d = cpu_carve(base, used, k / QX * sizeof(float));
        f.rows[m].q.sum = cpu_carve(base, used, k / 16 * sizeof(int16_t));
    }
    return f;
}

/* Thread t's part: rows of x in their forms, all by itself if there is one only, and its share of each product's rows.
 */
static void dot_part(const job *j, int t, int n_threads) {
    const bool shared = j->rows > 1;
    int64_t begin = 0, end = 1;
    check_lists(j, t, n_threads);
    const forms x = plan_forms(j, j->own + (shared ? 0 : (size_t)t * j->own_bytes), &(size_t){0});
    if (shared) cpu_share(j->rows, t, n_threads, &begin, &end);
    for (int64_t m = begin; m < end; m++) {
        float *f = x.rows[m].f;
        if (reads_floats(j) && !x_is_read(j)) read_x(j->args->x, m, j->k, j->k_padded, f);
        if (j->codes) quantize_row(j->blocks ? clf_row(j->args->x, m) : (const char *)f, j->blocks, j->k, x.rows[m].q);
        if (j->ternary) ternary_quantize(f, j->k, m, &x.ternary);
        if (j->sparse) sparse_quantize(f, j->k, m, &x.sparse);
    }
    if (shared && n_threads > 1) {
#pragma omp barrier
    }
    if (!lists_are_right(j, n_threads)) return;
    for (int i = 0; i < j->n_products; i++) {
        const product *p = &j->p[i];
        share(j, p->n, 1, t, n_threads, &begin, &end);
        if (p->sparse)
            sparse_block(p, &x.sparse, j->rows, begin, end - begin, j->y[i] + begin, p->n);
        else if (p->ternary)
            ternary_few(p, &x.ternary, j->rows, begin, end, j->y[i], p->n);
        else
            dot_product(p, x.rows, j->rows, begin, end, j->y[i], p->n);
        if (is_plain(j, i) || (j->args->glu && i + 1 < j->n_products)) continue;
        for (int64_t m = 0; m < j->rows; m++) {
            const int64_t at = m * p->n + begin;
            if (j->args->glu)
                finish(j, 0, m, begin, end - begin, j->y[0] + at, j->y[1] + at);
            else
                finish(j, i, m, begin, end - begin, j->y[i] + at, NULL);
        }
    }
}

/* Packs this thread's panels of the `rows` rows from m0 on. */
static void pack(const job *j, int64_t m0, int64_t rows, int t, int n_threads) {
    const int64_t panels = panels_of(rows);
    const bool floats = j->args->x->dtype == CLF_F32;
    float *own = j->pack_rows + t * VL * j->k;
    int64_t begin, end;
    cpu_share(panels, t, n_threads, &begin, &end);
    for (int64_t panel = begin; panel < end; panel++) {
        const float *lane[VL];
        const char *coded[VL];
        for (int64_t i = 0; i < VL; i++) {
            const int64_t m = panel * VL + i;
            lane[i] = m >= rows ? NULL : floats ? clf_row(j->args->x, m0 + m) : own + i * j->k;
            coded[i] = lane[i] && j->blocks ? clf_row(j->args->x, m0 + m) : (const char *)lane[i];
            if (m < rows && !floats && reads_floats(j)) read_x(j->args->x, m0 + m, j->k, j->k, own + i * j->k);
        }
        if (j->floats) pack_float(lane, panels, panel, j->k, j->packed);
        if (j->codes) pack_codes(coded, j->blocks, panels, panel, j->k, j->packed_codes);
        for (int64_t i = 0; i < VL && lane[i]; i++) {
            if (j->ternary) ternary_quantize(lane[i], j->k, panel * VL + i, &j->x.ternary);
            if (j->sparse) sparse_quantize(lane[i], j->k, panel * VL + i, &j->x.sparse);
        }
    }
}

/* Weights' rows [row, row + count) of the products first … last against the packed rows of x. */
static void run_block(const job *j, int first, int last, int64_t m0, int64_t rows, int64_t row, int64_t count,
                      float *c) {
    const int64_t panels = panels_of(rows), plane = BLOCK_R * j->block_m;
    for (int i = first; i <= last; i++) {
        float *to = c + (i - first) * plane;
        if (j->k == 0)
            memset(to, 0, (size_t)plane * sizeof *to);
        else if (j->p[i].sparse)
            sparse_block(&j->p[i], &j->x.sparse, rows, row, count, to, BLOCK_R);
        else if (j->p[i].ternary)
            ternary_block(&j->p[i], &j->x.ternary, rows, row, count, to, BLOCK_R);
        else if (j->p[i].codes)
            block_codes(&j->p[i], j->packed_codes, panels, row, count, to);
        else
            block_float(&j->p[i], j->packed, panels, row, count, to);
    }
    float y[2][VL][BLOCK_R]; /* VL rows of x at a time, transposed; kernels of ternary weights give them so */
    for (int64_t m = 0; m < rows; m += VL) {
        const float *of[2] = {y[0][0], y[1][0]};
        for (int i = 0; i <= last - first; i++) {
            const bool so = j->p[first + i].ternary || j->p[first + i].sparse;
            if (so) of[i] = c + i * plane + m * BLOCK_R;
            for (int64_t r = 0; r < count && !so; r += VL) {
                vf v[VL];
                for (int at = 0; at < VL; at++) v[at] = v_load(c + i * plane + (r + at) * panels * VL + m);
                v_transpose(v);
                for (int lane = 0; lane < VL; lane++) v_store(y[i][lane] + r, v[lane]);
            }
        }
        for (int lane = 0; lane < VL && m + lane < rows; lane++) {
            if (m + VL + lane < rows) fetch_out(j, first, m0 + m + VL + lane, row, count);
            finish(j, first, m0 + m + lane, row, count, of[0] + lane * BLOCK_R,
                   last > first ? of[1] + lane * BLOCK_R : NULL);
        }
    }
}

static void run_gemm(const job *j) {
    const bool gated = j->args->glu != CLF_ACTIVATION_NONE;
#pragma omp parallel num_threads(j->threads)
    {
        const int t = omp_get_thread_num(), n_threads = omp_get_num_threads();
        float *c = j->c + t * (gated ? 2 : 1) * BLOCK_R * j->block_m;
        check_lists(j, t, n_threads);
        for (int64_t m0 = 0; m0 < j->rows; m0 += j->block_m) {
            const int64_t rows = j->rows - m0 < j->block_m ? j->rows - m0 : j->block_m;
            pack(j, m0, rows, t, n_threads);
#pragma omp barrier
            for (int i = 0; i < j->n_outs && lists_are_right(j, n_threads); i++) {
                const int64_t n = j->p[i].n;
                int64_t begin, end;
                share(j, n, TILE_R, t, n_threads, &begin, &end);
                for (int64_t row = begin; row < end; row += BLOCK_R)
                    run_block(j, i, gated ? 1 : i, m0, rows, row, end - row < BLOCK_R ? end - row : BLOCK_R, c);
            }
#pragma omp barrier
        }
    }
}

/* Packs this thread's panels of the weights; returns where the next product's begin. */
static float *pack_weights(const job *j, const product *p, float *packed, int t, int n_threads) {
    const int64_t panels = panels_of(p->n);
    float *own = j->pack_rows + t * VL * j->k;
    int64_t begin, end;
    cpu_share(panels, t, n_threads, &begin, &end);
    for (int64_t panel = begin; panel < end; panel++) {
        const float *lane[VL];
        for (int64_t i = 0; i < VL; i++) {
            const int64_t row = panel * VL + i;
            lane[i] = row < p->n ? own + i * j->k : NULL;
            if (lane[i]) cpu_decode_row(p->dtype, product_row(p, row), j->k, own + i * j->k);
        }
        pack_float(lane, panels, panel, j->k, packed);
    }
    return packed + panels * VL * j->k;
}

/* out[i] of `rows` ≤ TILE_R rows of x from m on: lanes are columns of out. */
static void run_narrow_tile(const job *j, int i, const float *packed, int64_t m, int rows) {
    const clf_tensor *x = j->args->x;
    const int64_t n = j->p[i].n, panels = panels_of(n);
    float a[TILE_R][CHUNK], c[TILE_R][NARROW_COLUMNS];
    for (int64_t n0 = 0; n0 < n; n0 += NARROW_COLUMNS) {
        const int64_t columns = n - n0 < NARROW_COLUMNS ? n - n0 : NARROW_COLUMNS, first = n0 / VL;
        for (int64_t k0 = 0; k0 < j->k; k0 += CHUNK) {
            const int count = j->k - k0 < CHUNK ? (int)(j->k - k0) : CHUNK;
            const size_t from = clf_dtype_bytes(x->dtype, k0);
            for (int r = 0; r < rows && (n0 == 0 || j->k > CHUNK); r++)
                cpu_decode_row(x->dtype, (const char *)clf_row(x, m + r) + from, count, a[r]);
            for (int64_t v = 0; v < panels_of(columns); v += TILE_V)
                tile_float(rows, panels_of(columns) - v, (const float(*)[CHUNK])a,
                           packed + packed_at(panels, j->k, k0, first + v), (int64_t)count * VL, count, c[0] + v * VL,
                           NARROW_COLUMNS, k0 == 0);
        }
        for (int r = 0; r < rows; r++) finish(j, i, m + r, n0, columns, c[r], NULL);
    }
}

static void run_narrow(const job *j) {
#pragma omp parallel num_threads(j->threads)
    {
        const int t = omp_get_thread_num(), n_threads = omp_get_num_threads();
        float *packed = j->packed;
        int64_t begin, end;
        for (int i = 0; i < j->n_products; i++) packed = pack_weights(j, &j->p[i], packed, t, n_threads);
#pragma omp barrier
        cpu_share(j->rows, t, n_threads, &begin, &end);
        for (int64_t m = begin; m < end; m += TILE_R) {
            packed = j->packed;
            for (int i = 0; i < j->n_products; packed += panels_of(j->p[i++].n) * VL * j->k)
                run_narrow_tile(j, i, packed, m, end - m < TILE_R ? (int)(end - m) : TILE_R);
        }
    }
}

static size_t plan_dot(job *j, char *base) {
    size_t used = 0;
    j->k_padded = (j->k + VL - 1) / VL * VL;
    j->own_bytes = 0;
    plan_forms(j, NULL, &j->own_bytes);
    j->own = cpu_carve(base, &used, (j->rows > 1 ? 1 : (size_t)j->threads) * j->own_bytes);
    for (int i = 0; i < j->n_products; i++)
        j->y[i] = is_plain(j, i) ? clf_data(j->args->out[i])
                                 : cpu_carve(base, &used, (size_t)(j->rows * j->p[i].n) * sizeof(float));
    return used;
}

static size_t plan_gemm(job *j, char *base) {
    size_t used = 0;
    const int64_t most = PACKED_BYTES / (int64_t)sizeof(float) / (j->k ? j->k : 1) / VL * VL, least = TILE_V * VL;
    int64_t blocks = (j->rows + PACKED_ROWS - 1) / PACKED_ROWS;
    if (most < PACKED_ROWS) blocks = most < least ? (j->rows + least - 1) / least : (j->rows + most - 1) / most;
    j->block_m = ((j->rows + blocks - 1) / blocks + VL - 1) / VL * VL;
    const size_t values = (size_t)(j->block_m * j->k), threads = (size_t)j->threads;
    const size_t planes = j->args->glu == CLF_ACTIVATION_NONE ? 1 : 2;
    plan_ternary(j, &j->x, j->block_m, base, &used);
    if (j->floats) j->packed = cpu_carve(base, &used, values * sizeof(float));
    if (j->codes) j->packed_codes = cpu_carve(base, &used, values / (QX * VL) * sizeof(code_panel));
    j->pack_rows = cpu_carve(base, &used, threads * VL * (size_t)j->k * sizeof(float));
    j->c = cpu_carve(base, &used, threads * planes * BLOCK_R * (size_t)j->block_m * sizeof(float));
    return used;
}

static size_t plan_narrow(job *j, char *base) {
    size_t used = 0;
    int64_t panels = 0;
    for (int i = 0; i < j->n_products; i++) panels += panels_of(j->p[i].n);
    j->packed = cpu_carve(base, &used, (size_t)(panels * VL * j->k) * sizeof(float));
    j->pack_rows = cpu_carve(base, &used, (size_t)(j->threads * VL * j->k) * sizeof(float));
    return used;
}

/* Whether all products are narrow, of floats and of few terms or few columns, and their weights packed take no more
 * than x would. */
static bool is_narrow(const job *j) {
    if (j->rows <= DOT_ROWS || j->k == 0 || j->args->glu != CLF_ACTIVATION_NONE) return false;
    for (int i = 0; i < j->n_products; i++) {
        const product *p = &j->p[i];
        if (clf_dtype_is_block(p->dtype) || p->tile_rows || (j->k > NARROW && p->n > NARROW)) return false;
    }
    job narrow = *j, other = *j;
    return plan_narrow(&narrow, NULL) <= plan_gemm(&other, NULL);
}

/* Product i; returns the bytes of its weights. */
static int64_t describe(product *p, const clf_linear_args *args, int i, int64_t k) {
    const clf_tensor *w = args->weight[i];
    const bool fast = args->precision == CLF_LINEAR_FAST;
    if (args->tile_rows[i]) {
        *p = (product){.data = clf_data(w),
                       .dtype = CLF_T2,
                       .n = clf_last(args->row_scale[i]),
                       .k = k,
                       .tile_rows = clf_data(args->tile_rows[i]),
                       .tile_columns = clf_data(args->tile_columns[i]),
                       .row_scale = clf_data(args->row_scale[i]),
                       .tiles = clf_last(w) / T_WORD,
                       .sparse = fast && k <= SPARSE_MOST_K};
        return p->tiles * T_WORD;
    }
    *p = (product){.data = clf_data(w),
                   .row_bytes = clf_dtype_bytes(w->dtype, w->stride[0]),
                   .dtype = w->dtype,
                   .n = w->shape[0],
                   .k = k,
                   .codes = fast && code_has(w->dtype),
                   .ternary = fast && clf_dtype_is_interleaved(w->dtype)};
    return (int64_t)clf_dtype_bytes(w->dtype, p->n * p->k);
}

clf_status CPU_FN(linear)(clf_context *ctx, const clf_linear_args *args) {
    list_check lists = {0};
    job j = {
        .args = args, .rows = 1, .k = clf_last(args->x), .blocks = clf_dtype_is_block(args->x->dtype), .check = &lists};
    for (int i = 0; i + 1 < args->x->ndim; i++) j.rows *= args->x->shape[i];
    int64_t bytes = 0, n = 0;
    for (; j.n_products < CLF_LINEAR_MAX && args->weight[j.n_products]; j.n_products++) {
        const int64_t weight_bytes = describe(&j.p[j.n_products], args, j.n_products, j.k);
        const product *p = &j.p[j.n_products];
        *(p->sparse ? &j.sparse : p->ternary ? &j.ternary : p->codes ? &j.codes : &j.floats) = true;
        j.lists |= p->tile_rows != NULL;
        bytes += weight_bytes;
        if (p->n > n) n = p->n;
    }
    j.n_outs = args->glu == CLF_ACTIVATION_NONE ? j.n_products : 1;
    if (j.rows == 0 || n == 0) return CLF_OK;
    j.threads = cpu_threads(ctx, n, bytes * j.rows);
    const bool dot = j.rows <= DOT_ROWS;
    size_t (*plan)(job *, char *) = dot ? plan_dot : is_narrow(&j) ? plan_narrow : plan_gemm;
    clf_buffer *scratch;
    CLF_TRY(clf_buffer_create(&scratch, ctx, plan(&j, NULL), CLF_TAG_SCRATCH));
    plan(&j, scratch->memory.host);
    if (dot)
        CPU_TEAM(j.threads, t, n_threads, dot_part(&j, t, n_threads));
    else if (plan == plan_narrow)
        run_narrow(&j);
    else
        run_gemm(&j);
    clf_buffer_release(scratch);
    CLF_CHECK(
        &ctx->error, !lists.bad, CLF_INVALID_ARGUMENT,
        "linear: tile_rows or tile_columns: expected ascending rows up to the number of tiles, columns below %lld",
        (long long)(j.k / 16));
    return CLF_OK;
}
