/* embedding.c: out[i] = scale · weight[ids[i]]. A row is decoded a piece at a time into floats, scaled, stored.
 * Backward, d_weight[ids[i]] += scale · d_out[i]: threads own columns and go over all rows in their order, so equal ids
 * are added in order, to the same bits with any number of threads. */
#include "decode.h"
#include "team.h"

INLINE void store(const float *from, float scale, char *out, int64_t n, clf_dtype dtype) {
    const size_t bytes = cpu_bytes(dtype);
    const vf s = v_set1(scale);
    int64_t i = 0;
    for (; i + VL <= n; i += VL) v_store_as(out + (size_t)i * bytes, v_mul(v_load(from + i), s), dtype);
    if (i < n) {
        const int rest = (int)(n - i);
        v_store_as_n(out + (size_t)i * bytes, v_mul(v_load_n(from + i, rest), s), rest, dtype);
    }
}

static void embed(const clf_embedding_args *a, int64_t i) {
    enum { PIECE = 1024 }; /* a multiple of every block */
    float values[PIECE];
    const int64_t dim = clf_last(a->weight), id = *(const int32_t *)cpu_element(a->ids, i);
    const char *from = clf_row(a->weight, id);
    char *out = clf_row(a->out, i);
    for (int64_t at = 0; at < dim; at += PIECE) {
        const int64_t n = dim - at < PIECE ? dim - at : PIECE;
        cpu_decode_row(a->weight->dtype, from + clf_dtype_bytes(a->weight->dtype, at), n, values);
        char *to = out + clf_dtype_bytes(a->out->dtype, at);
        CPU_FOR_DTYPE(DTYPE, a->out->dtype, store(values, a->scale, to, n, DTYPE));
    }
}

static void embed_share(const clf_embedding_args *a, int64_t rows, int t, int n) {
    int64_t begin, end;
    cpu_share(rows, t, n, &begin, &end);
    for (int64_t i = begin; i < end; i++) embed(a, i);
}

static clf_status check_ids(clf_context *ctx, const char *op, const clf_tensor *ids, int64_t vocab) {
    for (int64_t i = 0; i < clf_elements(ids); i++) {
        const int32_t id = *(const int32_t *)cpu_element(ids, i);
        CLF_CHECK(&ctx->error, id >= 0 && id < vocab, CLF_INVALID_ARGUMENT,
                  "%s: ids: element %lld: expected 0 to %lld, got %d", op, (long long)i, (long long)vocab - 1, id);
    }
    return CLF_OK;
}

clf_status CPU_FN(embedding)(clf_context *ctx, const clf_embedding_args *a) {
    const int64_t rows = clf_elements(a->ids);
    CLF_TRY(check_ids(ctx, "embedding", a->ids, a->weight->shape[0]));
    const int threads = cpu_threads(ctx, rows, 2 * clf_elements(a->out) * (int64_t)cpu_bytes(a->out->dtype));
    CPU_TEAM(threads, t, n, embed_share(a, rows, t, n));
    return CLF_OK;
}

INLINE void add_scaled(const char *from, float scale, float *to, int64_t n, clf_dtype dtype) {
    const size_t bytes = cpu_bytes(dtype);
    const vf s = v_set1(scale);
    int64_t i = 0;
    for (; i + VL <= n; i += VL)
        v_store(to + i, v_add(v_load(to + i), v_mul(v_load_as(from + (size_t)i * bytes, dtype), s)));
    if (i < n) {
        const int rest = (int)(n - i);
        const vf v = v_mul(v_load_as_n(from + (size_t)i * bytes, rest, dtype), s);
        v_store_n(to + i, v_add(v_load_n(to + i, rest), v), rest);
    }
}

clf_status CPU_FN(embedding_backward)(clf_context *ctx, const clf_embedding_backward_args *a) {
    enum { BLOCK = 16 }; /* columns: a cache line of d_weight */
    const int64_t rows = clf_elements(a->ids), dim = clf_last(a->d_weight), blocks = (dim + BLOCK - 1) / BLOCK;
    const clf_dtype dtype = a->d_out->dtype;
    CLF_TRY(check_ids(ctx, "embedding_backward", a->ids, a->d_weight->shape[0]));
    const int threads = cpu_threads(ctx, blocks, 3 * clf_elements(a->d_out) * (int64_t)cpu_bytes(dtype));
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        int64_t begin, end;
        cpu_share(blocks, omp_get_thread_num(), omp_get_num_threads(), &begin, &end);
        const int64_t first = begin * BLOCK, n = (end * BLOCK < dim ? end * BLOCK : dim) - first;
        for (int64_t i = 0; n > 0 && i < rows; i++) {
            const int32_t id = *(const int32_t *)cpu_element(a->ids, i);
            const char *from = (const char *)clf_row(a->d_out, i) + (size_t)first * cpu_bytes(dtype);
            float *to = (float *)clf_row(a->d_weight, id) + first;
            CPU_FOR_DTYPE(DTYPE, dtype, add_scaled(from, a->scale, to, n, DTYPE));
        }
    }
    return CLF_OK;
}
