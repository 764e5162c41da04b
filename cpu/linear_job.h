/* linear_job.h: one call of clf_linear(): its products, what forms of x they need, how threads share their rows and how
 * their results are written. */
#ifndef CLF_CPU_LINEAR_JOB_H
#define CLF_CPU_LINEAR_JOB_H

#include <sched.h>
#include <stdatomic.h>

#include "activation.h"
#include "linear_dot.h"
#include "linear_gemm.h"
#include "linear_sparse.h"

enum { DOT_ROWS = 8 };

/* Rows of x in the forms that the products need. */
typedef struct forms {
    dot_x rows[DOT_ROWS]; /* dot only */
    ternary_x ternary;
    sparse_x sparse;
} forms;

/* What threads found in the lists of tiles: how many have looked at theirs, and whether one isn't right. */
typedef struct list_check {
    _Alignas(64) atomic_int threads;
    atomic_bool bad;
} list_check;

/* One call. */
typedef struct job {
    const clf_linear_args *args;
    int n_products, n_outs;
    product p[CLF_LINEAR_MAX];
    int64_t rows, k;
    bool floats, codes, ternary, sparse; /* what forms of x the products need */
    bool blocks;                         /* x is Q8_0: codes as they lie; the other forms by way of floats */
    int threads;
    forms x;    /* of all rows, or of those packed */
    bool lists; /* a product has lists of tiles, which are to be checked */
    list_check *check;
    /* dot */
    int64_t k_padded;
    char *own; /* one row is rounded by each thread for itself, which nobody waits for: [threads][own_bytes] */
    size_t own_bytes;
    float *y[CLF_LINEAR_MAX]; /* [rows, n]; out itself where it is_plain() */
    /* gemm */
    int64_t block_m; /* rows of x that are packed at a time, a multiple of VL */
    float *packed;   /* narrow: all weights, one product after another */
    code_panel *packed_codes;
    float *pack_rows; /* [threads][VL, k] */
    float *c;         /* [threads][n_products / n_outs][BLOCK_R, block_m] */
} job;

/* Asks for out[i][m, n0 …], which is written soon. */
INLINE void fetch_out(const job *j, int i, int64_t m, int64_t n0, int64_t count) {
    const clf_tensor *out = j->args->out[i];
    const size_t size = cpu_bytes(out->dtype);
    const char *to = (const char *)clf_data(out) + (size_t)(clf_row_offset(out, m) + n0) * size;
    for (size_t at = 0; at < (size_t)count * size; at += 64) __builtin_prefetch(to + at, 1, 3);
}

/* Writes out[i][m, n0 …] from the products y (and up, for a gate). */
static void finish(const job *j, int i, int64_t m, int64_t n0, int64_t count, const float *y, const float *up) {
    const clf_linear_args *a = j->args;
    const clf_tensor *out = a->out[i], *res = a->residual;
    const clf_tensor *b0 = a->bias[i], *b1 = up ? a->bias[1] : NULL;
    const clf_dtype dtype = out->dtype;
    const size_t size = clf_dtype_block_bytes(dtype);
    const vf scale = v_set1(a->scale);
    char *to = (char *)clf_row(out, m) + (size_t)n0 * size;
    const char *add = res ? (const char *)clf_row(res, m) + (size_t)n0 * size : NULL;
    if (!b0 && !up) {
        CPU_FOR_DTYPE(
            DTYPE, dtype, for (int64_t at = 0; at < count; at += VL) {
                const int n = count - at < VL ? (int)(count - at) : VL;
                vf v = v_mul(v_load_n(y + at, n), scale);
                if (add) v = v_add(v, v_load_as_n(add + (size_t)at * cpu_bytes(DTYPE), n, DTYPE));
                v_store_as_n(to + (size_t)at * cpu_bytes(DTYPE), v, n, DTYPE);
            });
        return;
    }
    const char *bias0 = b0 ? (const char *)clf_data(b0) + (size_t)n0 * clf_dtype_block_bytes(b0->dtype) : NULL;
    const char *bias1 = b1 ? (const char *)clf_data(b1) + (size_t)n0 * clf_dtype_block_bytes(b1->dtype) : NULL;
    for (int64_t at = 0; at < count; at += VL) {
        const int n = count - at < VL ? (int)(count - at) : VL;
        vf v = v_mul(v_load_n(y + at, n), scale);
        if (b0) v = v_add(v, v_load_as_n(bias0 + (size_t)at * clf_dtype_block_bytes(b0->dtype), n, b0->dtype));
        if (up) {
            vf u = v_mul(v_load_n(up + at, n), scale);
            if (b1) u = v_add(u, v_load_as_n(bias1 + (size_t)at * clf_dtype_block_bytes(b1->dtype), n, b1->dtype));
            v = v_mul(v_activate(a->glu, v), u);
        }
        if (add) v = v_add(v, v_load_as_n(add + (size_t)at * size, n, dtype));
        v_store_as_n(to + (size_t)at * size, v, n, dtype);
    }
}

/* Row `m` of x as floats, zeros up to `padded`. */
static void read_x(const clf_tensor *x, int64_t m, int64_t k, int64_t padded, float *out) {
    const char *from = clf_row(x, m);
    const size_t size = clf_dtype_block_bytes(x->dtype);
    int64_t i = 0;
    if (clf_dtype_is_block(x->dtype)) {
        cpu_decode_row(x->dtype, from, k, out);
        i = k;
    }
    for (; i + VL <= k; i += VL) v_store(out + i, v_load_as(from + (size_t)i * size, x->dtype));
    if (i < k) v_store_n(out + i, v_load_as_n(from + (size_t)i * size, (int)(k - i), x->dtype), (int)(k - i));
    for (i = k; i < padded; i++) out[i] = 0;
}

/* Whether rows of x are wanted as floats: for themselves, or to be rounded. */
static bool reads_floats(const job *j) {
    return !j->blocks || j->floats || j->ternary || j->sparse;
}

/* Whether rows of x are such floats as they lie. */
static bool x_is_read(const job *j) {
    return j->args->x->dtype == CLF_F32 && j->k % VL == 0;
}

/* Whether out[i] is one row of floats that are nothing but the products, so that kernels write it themselves. */
static bool is_plain(const job *j, int i) {
    const clf_linear_args *a = j->args;
    return j->rows == 1 && a->glu == CLF_ACTIVATION_NONE && a->out[i]->dtype == CLF_F32 && a->scale == 1 &&
           !a->bias[i] && !a->residual;
}

/* Rows [*begin, *end) of n for thread t: whole panels where rows are interleaved, else whole `unit`s. */
static void share(const job *j, int64_t n, int64_t unit, int t, int n_threads, int64_t *begin, int64_t *end) {
    if (j->ternary || j->lists) unit = T_ROWS;
    cpu_share((n + unit - 1) / unit, t, n_threads, begin, end);
    *begin *= unit;
    *end = *end * unit < n ? *end * unit : n;
}

/* Of this thread's rows of tiles. */
static void check_lists(const job *j, int t, int n_threads) {
    if (!j->lists) return;
    for (int i = 0; i < j->n_products; i++) {
        int64_t begin, end;
        share(j, j->p[i].n, 1, t, n_threads, &begin, &end);
        if (j->p[i].tile_rows && !sparse_valid(&j->p[i], begin / T_ROWS, end / T_ROWS))
            atomic_store_explicit(&j->check->bad, true, memory_order_relaxed);
    }
    atomic_fetch_add_explicit(&j->check->threads, 1, memory_order_release);
}

/* Whether all lists are right, before anything is written. The others are waited for here and not at a barrier: they
 * have looked long before, at the beginning, so that this is a look as well. */
static bool lists_are_right(const job *j, int n_threads) {
    enum { PATIENCE = 1000 };
    if (!j->lists) return true;
    for (int i = 0; atomic_load_explicit(&j->check->threads, memory_order_acquire) < n_threads; i++)
        if (i > PATIENCE) sched_yield();
    return !atomic_load_explicit(&j->check->bad, memory_order_relaxed);
}

/* Room for `rows` rows of x for T2 and T1, and for tiles. */
static void plan_ternary(const job *j, forms *f, int64_t rows, char *base, size_t *used) {
    const size_t blocks = j->ternary ? (size_t)(rows * (j->k / T_BLOCK)) : 0;
    f->ternary.rows = f->sparse.rows = rows;
    f->ternary.q = cpu_carve(base, used, blocks * T_BLOCK);
    f->ternary.d = cpu_carve(base, used, blocks * sizeof(float));
    f->ternary.bias = cpu_carve(base, used, blocks * sizeof(int32_t));
    if (!j->sparse) return;
    f->sparse.q = cpu_carve(base, used, (size_t)(rows * j->k));
    f->sparse.sum = cpu_carve(base, used, (size_t)(rows * (j->k / 16)) * sizeof(int16_t));
    f->sparse.d = cpu_carve(base, used, (size_t)rows * sizeof(float));
}

#endif
