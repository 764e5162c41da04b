/* rms_norm.c: out = s / √(mean(s²) + eps) · (weight_offset + weight), s = x + residual rounded to their dtype, in that
 * dtype or as Q8_0; and backward, at the end.
 *
 * A thread takes whole rows and goes over each twice: squares, then results; the second time the row is in the cache.
 * Each pass fetches half of the row at `next`, the following one, so that the memory is never idle.
 * With a residual the first pass stores s, in `sum` or, if that isn't wanted, in `out`, where the second finds it.
 * Squares are added in float within a chunk and in double across chunks, so that the error doesn't grow with dim. Each
 * pass is compiled for each dtype and so on; no weight is a vector of ones that the loop doesn't step over. */
#include "../lib/core/checked.h"
#include "cpu.h"
#include "team.h"
#include "encode.h"

enum { ACCUMULATORS = 4, CHUNK = 64, PIECE = 512 };

/* Σ s², and s stored where there is a residual. */
INLINE double squares(const char *x, const char *residual, const char *next, char *s, int64_t dim, clf_dtype dtype,
                      bool add) {
    const size_t bytes = cpu_bytes(dtype);
    double total = 0;
    for (int64_t start = 0; start < dim; start += CHUNK * VL) {
        const int64_t end = start + CHUNK * VL < dim ? start + CHUNK * VL : dim;
        vf acc[ACCUMULATORS];
        UNROLL for (int k = 0; k < ACCUMULATORS; k++) acc[k] = v_set1(0);
        int64_t i = start;
        for (; i + ACCUMULATORS * VL <= end; i += ACCUMULATORS * VL) UNROLL for (int k = 0; k < ACCUMULATORS; k++) {
                const size_t at = (size_t)(i + k * VL) * bytes;
                cpu_fetch(next + at / 2, VL * bytes / 2);
                vf v = v_load_as(x + at, dtype);
                if (add) {
                    v = v_round_as(v_add(v, v_load_as(residual + at, dtype)), dtype);
                    v_store_as(s + at, v, dtype);
                }
                acc[k] = v_fma(v, v, acc[k]);
            }
        for (; i < end; i += VL) {
            const int n = end - i < VL ? (int)(end - i) : VL;
            const size_t at = (size_t)i * bytes;
            vf v = v_load_as_n(x + at, n, dtype);
            if (add) {
                v = v_round_as(v_add(v, v_load_as_n(residual + at, n, dtype)), dtype);
                v_store_as_n(s + at, v, n, dtype);
            }
            acc[0] = v_fma(v, v, acc[0]);
        }
        total += (double)v_hsum(v_add(v_add(acc[0], acc[1]), v_add(acc[2], acc[3])));
    }
    return total;
}

/* out = s · rstd · (offset + weight); `step` 0: all weights are the first VL. */
INLINE void scale(const char *s, const char *next, float rstd, float offset, const char *weight, int step, char *out,
                  int64_t dim, clf_dtype dtype, clf_dtype weight_dtype, clf_dtype out_dtype, bool stream) {
    const size_t bytes = cpu_bytes(dtype), weight_bytes = (size_t)step * cpu_bytes(weight_dtype),
                 out_bytes = cpu_bytes(out_dtype);
    const vf r = v_set1(rstd), o = v_set1(rstd * offset);
    int64_t i = 0;
    for (; i + VL <= dim; i += VL) {
        cpu_fetch(next + (size_t)(dim + i) * bytes / 2, VL * bytes / 2);
        const vf w = v_fma(v_load_as(weight + (size_t)i * weight_bytes, weight_dtype), r, o);
        const vf v = v_mul(v_load_as(s + (size_t)i * bytes, dtype), w);
        if (stream)
            v_stream_as(out + (size_t)i * out_bytes, v, out_dtype);
        else
            v_store_as(out + (size_t)i * out_bytes, v, out_dtype);
    }
    if (i < dim) {
        const int n = (int)(dim - i);
        const vf w = v_fma(v_load_as_n(weight + (size_t)i * weight_bytes, n, weight_dtype), r, o);
        v_store_as_n(out + (size_t)i * out_bytes, v_mul(v_load_as_n(s + (size_t)i * bytes, n, dtype), w), n, out_dtype);
    }
}

/* Blocks of Q8_0 from n floats; those that can't be have a NaN as scale. */
static void encode(const float *x, int64_t n, char *out) {
    const int64_t values = clf_dtype_block_values(CLF_Q8_0);
    const size_t bytes = clf_dtype_block_bytes(CLF_Q8_0);
    if (cpu_encode_row(CLF_Q8_0, x, n, NULL, out) == n) return;
    for (int64_t i = 0; i < n; i += values, out += bytes) {
        if (cpu_encode_row(CLF_Q8_0, x + i, values, NULL, out) == values) continue;
        memset(out, 0, bytes);
        memcpy(out, &(uint16_t){0x7e00}, sizeof(uint16_t));
    }
}

/* The same as Q8_0, piece by piece by way of floats. */
INLINE void scale_encoded(const char *s, const char *next, float rstd, float offset, const char *weight, int step,
                          char *out, int64_t dim, clf_dtype dtype, clf_dtype weight_dtype) {
    const size_t bytes = cpu_bytes(dtype), weight_bytes = (size_t)step * cpu_bytes(weight_dtype);
    float piece[PIECE];
    for (int64_t i = 0; i < dim; i += PIECE) {
        const int64_t n = dim - i < PIECE ? dim - i : PIECE;
        scale(s + (size_t)i * bytes, next + (size_t)i * bytes / 2, rstd, offset, weight + (size_t)i * weight_bytes,
              step, (char *)piece, n, dtype, weight_dtype, CLF_F32, false);
        encode(piece, n, out + clf_dtype_bytes(CLF_Q8_0, i));
    }
}

/* Row r, while row `following` is fetched. */
static void row(const clf_rms_norm_args *a, int64_t r, int64_t following, bool stream) {
    const clf_dtype dtype = a->x->dtype, weight_dtype = a->weight ? a->weight->dtype : CLF_F32;
    const int64_t dim = clf_last(a->x);
    const char *x = clf_row(a->x, r), *residual = a->residual ? clf_row(a->residual, r) : NULL;
    const char *s = x, *next = clf_row(a->x, following);
    char *out = clf_row(a->out, r), *sum = a->sum ? clf_row(a->sum, r) : out;
    double total;
    if (residual) {
        CPU_FOR_DTYPE(DTYPE, dtype, total = squares(x, residual, next, sum, dim, DTYPE, true));
        s = sum;
    } else {
        CPU_FOR_DTYPE(DTYPE, dtype, total = squares(x, NULL, next, NULL, dim, DTYPE, false));
        if (a->sum && sum != x) memcpy(sum, x, (size_t)dim * cpu_bytes(dtype));
    }
    const float rstd = (float)(1 / sqrt(total / (double)dim + (double)a->eps));
    if (a->rstd) *(float *)cpu_element(a->rstd, r) = rstd;

    float ones[VL];
    for (int i = 0; i < VL; i++) ones[i] = 1;
    const char *weight = a->weight ? clf_data(a->weight) : (const char *)ones;
    const int step = a->weight != NULL;
    if (a->out->dtype == CLF_Q8_0 && weight_dtype == CLF_F32)
        CPU_FOR_DTYPE(DTYPE, dtype,
                      scale_encoded(s, next, rstd, a->weight_offset, weight, step, out, dim, DTYPE, CLF_F32));
    else if (a->out->dtype == CLF_Q8_0)
        CPU_FOR_DTYPE(DTYPE, dtype,
                      scale_encoded(s, next, rstd, a->weight_offset, weight, step, out, dim, DTYPE, DTYPE));
    else if (weight_dtype == CLF_F32)
        CPU_FOR_DTYPE(DTYPE, dtype,
                      CPU_FOR_BOOL(STREAM, stream,
                                   scale(s, next, rstd, a->weight_offset, weight, step, out, dim, DTYPE, CLF_F32, DTYPE,
                                         STREAM)));
    else
        CPU_FOR_DTYPE(
            DTYPE, dtype,
            CPU_FOR_BOOL(STREAM, stream,
                         scale(s, next, rstd, a->weight_offset, weight, step, out, dim, DTYPE, DTYPE, DTYPE, STREAM)));
}

static void rows_of(const clf_rms_norm_args *a, int64_t n, bool stream, int t, int team) {
    int64_t begin, end;
    cpu_share(n, t, team, &begin, &end);
    for (int64_t r = begin; r < end; r++) row(a, r, r + 1 < end ? r + 1 : r, stream);
    v_stream_end();
}

clf_status CPU_FN(rms_norm)(clf_context *ctx, const clf_rms_norm_args *a) {
    const int64_t n = clf_rows(a->x), tensors = 2 + (a->residual != NULL) + (a->sum != NULL);
    const int threads = cpu_threads(ctx, n, tensors * n * clf_last(a->x) * (int64_t)cpu_bytes(a->x->dtype));
    const bool stream = a->out->dtype != CLF_Q8_0 && cpu_streams(a->out, a->x, a->residual) && (a->sum || !a->residual);
    CPU_TEAM(threads, t, team, rows_of(a, n, stream, t, team));
    return CLF_OK;
}

/* Backward, with n = x · rstd and m = d_out · (weight_offset + weight):
 *
 *     d_x = rstd · (m − n · mean(m · n)) + residual,   d_weight += Σ d_out · n over the rows
 *
 * A thread goes over each of its rows twice again, for Σ m · x and for the results, fetching the next row meanwhile.
 * What it adds to d_weight is summed in float over CHUNK rows and in double across them; the threads' sums are added in
 * their order. */
typedef struct gradients {
    const char *x, *d_out, *residual, *weight, *next_x, *next_d_out;
    char *d_x;
    float *sums; /* of d_weight over CHUNK rows; NULL: not wanted */
    float rstd, offset;
    int step; /* of weight: 0: all are the first VL */
    clf_dtype weight_dtype;
    int64_t dim;
    bool stream;
} gradients;

/* Elements i … i + n − 1, n = VL or less. */
INLINE vf load(const char *p, int64_t i, int n, clf_dtype dtype) {
    const char *at = p + (size_t)i * cpu_bytes(dtype);
    return n == VL ? v_load_as(at, dtype) : v_load_as_n(at, n, dtype);
}

INLINE vf weighted(const gradients *g, int64_t i, int n, vf d) {
    return v_mul(d, v_add(load(g->weight, i * g->step, n, g->weight_dtype), v_set1(g->offset)));
}

/* Σ m · x. */
INLINE double product(const gradients *g, clf_dtype dtype) {
    const size_t bytes = cpu_bytes(dtype);
    double total = 0;
    for (int64_t start = 0; start < g->dim; start += CHUNK * VL) {
        const int64_t end = start + CHUNK * VL < g->dim ? start + CHUNK * VL : g->dim;
        vf acc[2] = {v_set1(0), v_set1(0)};
        int64_t i = start;
        for (; i + 2 * VL <= end; i += 2 * VL) UNROLL for (int k = 0; k < 2; k++) {
                const int64_t at = i + k * VL;
                cpu_fetch(g->next_x + (size_t)at * bytes / 2, VL * bytes / 2);
                cpu_fetch(g->next_d_out + (size_t)at * bytes / 2, VL * bytes / 2);
                if (g->residual) cpu_fetch(g->residual + (size_t)at * bytes, VL * bytes);
                acc[k] = v_fma(weighted(g, at, VL, load(g->d_out, at, VL, dtype)), load(g->x, at, VL, dtype), acc[k]);
            }
        for (; i < end; i += VL) {
            const int n = end - i < VL ? (int)(end - i) : VL;
            acc[0] = v_fma(weighted(g, i, n, load(g->d_out, i, n, dtype)), load(g->x, i, n, dtype), acc[0]);
        }
        total += (double)v_hsum(v_add(acc[0], acc[1]));
    }
    return total;
}

/* d_x = m · rstd − x · inner + residual, of n elements from i on, and the sums of d_weight. */
INLINE void finish(const gradients *g, int64_t i, int n, vf inner, clf_dtype dtype) {
    const vf r = v_set1(g->rstd), x = load(g->x, i, n, dtype), d = load(g->d_out, i, n, dtype);
    if (g->d_x) {
        vf v = v_nfma(x, inner, v_mul(weighted(g, i, n, d), r));
        if (g->residual) v = v_add(v, load(g->residual, i, n, dtype));
        char *to = g->d_x + (size_t)i * cpu_bytes(dtype);
        if (n < VL)
            v_store_as_n(to, v, n, dtype);
        else if (g->stream)
            v_stream_as(to, v, dtype);
        else
            v_store_as(to, v, dtype);
    }
    if (g->sums) {
        const vf sum = v_fma(v_mul(d, x), r, load((const char *)(g->sums + i), 0, n, CLF_F32));
        if (n < VL)
            v_store_n(g->sums + i, sum, n);
        else
            v_store(g->sums + i, sum);
    }
}

INLINE void results(const gradients *g, double product, clf_dtype dtype) {
    const size_t bytes = cpu_bytes(dtype);
    const double r = (double)g->rstd;
    const vf inner = v_set1((float)(r * r * r * product / (double)g->dim));
    int64_t i = 0;
    for (; i + VL <= g->dim; i += VL) {
        cpu_fetch(g->next_x + (size_t)(g->dim + i) * bytes / 2, VL * bytes / 2);
        cpu_fetch(g->next_d_out + (size_t)(g->dim + i) * bytes / 2, VL * bytes / 2);
        finish(g, i, VL, inner, dtype);
    }
    if (i < g->dim) finish(g, i, (int)(g->dim - i), inner, dtype);
}

static void row_backward(const clf_rms_norm_backward_args *a, int64_t r, int64_t following, float *sums, bool stream) {
    float ones[VL];
    for (int i = 0; i < VL; i++) ones[i] = 1;
    const gradients g = {.x = clf_row(a->x, r),
                         .d_out = clf_row(a->d_out, r),
                         .residual = a->residual ? clf_row(a->residual, r) : NULL,
                         .weight = a->weight ? clf_data(a->weight) : (const char *)ones,
                         .next_x = clf_row(a->x, following),
                         .next_d_out = clf_row(a->d_out, following),
                         .d_x = a->d_x ? clf_row(a->d_x, r) : NULL,
                         .sums = sums,
                         .rstd = *(const float *)cpu_element(a->rstd, r),
                         .offset = a->weight_offset,
                         .step = a->weight != NULL,
                         .weight_dtype = a->weight ? a->weight->dtype : CLF_F32,
                         .dim = clf_last(a->x),
                         .stream = stream};
    CPU_FOR_DTYPE(DTYPE, a->x->dtype, results(&g, a->d_x ? product(&g, DTYPE) : 0, DTYPE));
}

/* The sums of a thread's rows of d_weight. */
typedef struct column_sums {
    double *total; /* [dim] */
    float *chunk;  /* [dim]; NULL: not wanted */
} column_sums;

static void add_chunk(const column_sums *s, int64_t dim) {
    for (int64_t i = 0; s->chunk && i < dim; i++) s->total[i] += (double)s->chunk[i], s->chunk[i] = 0;
}

static void backward(const clf_rms_norm_backward_args *a, double *scratch, int threads) {
    const int64_t n = clf_rows(a->x), dim = clf_last(a->x);
    const bool stream =
        a->d_x && cpu_streams(a->d_x, a->x, a->d_out) && !(a->residual && a->residual->buffer == a->d_x->buffer);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        const int t = omp_get_thread_num(), team = omp_get_num_threads();
        column_sums s = {0};
        if (scratch) {
            s = (column_sums){scratch + t * dim, (float *)(scratch + threads * dim) + t * dim};
            memset(s.total, 0, (size_t)dim * sizeof *s.total);
            memset(s.chunk, 0, (size_t)dim * sizeof *s.chunk);
        }
        int64_t begin, end;
        cpu_share(n, t, team, &begin, &end);
        for (int64_t r = begin; r < end; r++) {
            row_backward(a, r, r + 1 < end ? r + 1 : r, s.chunk, stream);
            if ((r - begin) % CHUNK == CHUNK - 1) add_chunk(&s, dim);
        }
        v_stream_end();
        add_chunk(&s, dim);
        if (scratch) {
#pragma omp barrier
            float *out = clf_data(a->d_weight);
            cpu_share(dim, t, team, &begin, &end);
            for (int64_t i = begin; i < end; i++) {
                double sum = 0;
                for (int k = 0; k < team; k++) sum += scratch[k * dim + i];
                out[i] += (float)sum;
            }
        }
    }
}

clf_status CPU_FN(rms_norm_backward)(clf_context *ctx, const clf_rms_norm_backward_args *a) {
    const int64_t n = clf_rows(a->x), dim = clf_last(a->x), tensors = 3 + (a->residual != NULL);
    if (!n || (!a->d_x && !a->d_weight)) return CLF_OK;
    const int threads = cpu_threads(ctx, n, tensors * n * dim * (int64_t)cpu_bytes(a->x->dtype));
    clf_buffer *buffer = NULL;
    if (a->d_weight) {
        int64_t sums;
        CLF_CHECK(&ctx->error, clf_product_i64((int64_t[]){threads, dim, sizeof(double) + sizeof(float)}, 3, &sums),
                  CLF_OUT_OF_MEMORY, "rms_norm_backward: sums of %lld columns exceed 64 bits", (long long)dim);
        CLF_TRY(clf_buffer_create(&buffer, ctx, (uint64_t)sums, CLF_TAG_SCRATCH));
    }
    backward(a, buffer ? buffer->memory.host : NULL, threads);
    clf_buffer_release(buffer);
    return CLF_OK;
}
