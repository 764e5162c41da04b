/* linear_backward.c: d_x = scale · Σ d_out[i] · W[i] (+ residual), d_weight[i] += scale · d_out[i]ᵀ · x, d_bias[i] += Σ
 * d_out[i] over the rows. Products are linear_matrix.h's; threads take units of them as they come, columns of a bias by
 * their number. */
#include "linear_matrix.h"

enum { BIAS_ROWS = 64 /* of d_out that are summed in float32 */ };

typedef struct job {
    const clf_linear_backward_args *args;
    matrix m;
    clf_tensor *out; /* d_x, or a d_weight */
} job;

static void finish_d_x(const void *context, int64_t row, int64_t column, int64_t count, const float *y) {
    const job *j = context;
    const clf_tensor *out = j->out, *residual = j->args->residual;
    const size_t size = cpu_bytes(out->dtype);
    const vf scale = v_set1(j->args->scale);
    char *to = (char *)clf_row(out, row) + (size_t)column * size;
    const char *add = residual ? (const char *)clf_row(residual, row) + (size_t)column * size : NULL;
    CPU_FOR_DTYPE(
        DTYPE, out->dtype, for (int64_t i = 0; i < count; i += VL) {
            const int n = count - i < VL ? (int)(count - i) : VL;
            vf v = v_mul(v_load_n(y + i, n), scale);
            if (add) v = v_add(v, v_load_as_n(add + (size_t)i * size, n, DTYPE));
            v_store_as_n(to + (size_t)i * size, v, n, DTYPE);
        });
}

static void finish_d_weight(const void *context, int64_t row, int64_t column, int64_t count, const float *y) {
    const job *j = context;
    const vf scale = v_set1(j->args->scale);
    float *to = (float *)clf_row(j->out, row) + column;
    for (int64_t i = 0; i < count; i += VL) {
        const int n = count - i < VL ? (int)(count - i) : VL;
        v_store_n(to + i, v_fma(v_load_n(y + i, n), scale, v_load_n(to + i, n)), n);
    }
}

static clf_status multiply(clf_context *ctx, job *j,
                           void (*finish)(const void *, int64_t, int64_t, int64_t, const float *)) {
    matrix *m = &j->m;
    if (m->rows == 0 || m->columns == 0) return CLF_OK;
    int64_t work = 0;
    for (int i = 0; i < m->n; i++) work += m->terms[i] * (m->rows + m->columns);
    work = work > m->rows * m->columns ? work : m->rows * m->columns;
    matrix_plan(m, ctx->threads);
    const int64_t units = m->units_r * m->units_l;
    const int threads = cpu_threads(ctx, units, work * (int64_t)sizeof(float));
    clf_buffer *scratch;
    CLF_TRY(clf_buffer_create(&scratch, ctx, (size_t)threads * MATRIX_SCRATCH, CLF_TAG_SCRATCH));
    int64_t taken = 0;
#pragma omp parallel num_threads(threads)
    {
        const matrix_scratch s = matrix_scratch_of(scratch->memory.host, omp_get_thread_num());
        matrix_run(m, &taken, &s, finish, j);
    }
    clf_buffer_release(scratch);
    return CLF_OK;
}

/* Columns of d_out by VL: BIAS_ROWS at a time in float32, those in double. */
static void add_bias(clf_context *ctx, const clf_tensor *d_out, const clf_tensor *d_bias) {
    const int64_t rows = clf_rows(d_out), n = clf_last(d_out), panels = (n + VL - 1) / VL;
    const clf_dtype dtype = d_out->dtype;
    float *out = clf_data(d_bias);
    const int threads = cpu_threads(ctx, panels, rows * n * (int64_t)cpu_bytes(dtype));
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t panel = 0; panel < panels; panel++) {
        const int64_t at = panel * VL;
        const int count = n - at < VL ? (int)(n - at) : VL;
        double sum[VL] = {0};
        for (int64_t m0 = 0; m0 < rows; m0 += BIAS_ROWS) {
            float part[VL];
            vf v = v_set1(0);
            for (int64_t m = m0; m < rows && m < m0 + BIAS_ROWS; m++) {
                const char *p = (const char *)clf_row(d_out, m) + (size_t)at * cpu_bytes(dtype);
                CPU_FOR_DTYPE(DTYPE, dtype, v = v_add(v, v_load_as_n(p, count, DTYPE)));
            }
            v_store(part, v);
            for (int i = 0; i < VL; i++) sum[i] += (double)part[i];
        }
        for (int i = 0; i < count; i++) out[at + i] += (float)sum[i];
    }
}

clf_status CPU_FN(linear_backward)(clf_context *ctx, const clf_linear_backward_args *args) {
    int n = 0;
    while (n < CLF_LINEAR_MAX && args->d_out[n]) n++;
    for (int i = 0; i < n; i++) {
        const clf_tensor *d = args->d_out[i], *d_weight = args->d_weight[i];
        if (args->d_bias[i]) add_bias(ctx, d, args->d_bias[i]);
        if (!d_weight) continue;
        job j = {.args = args, .out = args->d_weight[i]};
        j.m = (matrix){.rows = d_weight->shape[0],
                       .columns = d_weight->shape[1],
                       .n = 1,
                       .a = {operand_of(d, true)},
                       .b = {operand_of(args->x, true)},
                       .terms = {clf_rows(d)},
                       .out = d_weight};
        CLF_TRY(multiply(ctx, &j, finish_d_weight));
    }
    if (!args->d_x) return CLF_OK;
    job j = {.args = args, .out = args->d_x};
    j.m = (matrix){.rows = clf_rows(args->d_x), .columns = clf_last(args->d_x), .n = n, .out = args->d_x};
    for (int i = 0; i < n; i++) {
        j.m.a[i] = operand_of(args->d_out[i], false);
        j.m.b[i] = operand_of(args->weight[i], true);
        j.m.terms[i] = clf_last(args->d_out[i]);
    }
    return multiply(ctx, &j, finish_d_x);
}
