/* embedding.c: out[i] = scale · weight[ids[i]]. A row is decoded a piece at a time into floats, scaled, stored. */
#include "decode.h"

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

clf_status CPU_FN(embedding)(clf_context *ctx, const clf_embedding_args *a) {
    const int64_t rows = clf_elements(a->ids), vocab = a->weight->shape[0];
    for (int64_t i = 0; i < rows; i++) {
        const int32_t id = *(const int32_t *)cpu_element(a->ids, i);
        CLF_CHECK(&ctx->error, id >= 0 && id < vocab, CLF_INVALID_ARGUMENT,
                  "embedding: ids: element %lld: expected 0 to %lld, got %d", (long long)i, (long long)vocab - 1, id);
    }
    const int threads = cpu_threads(ctx, rows, 2 * clf_elements(a->out) * (int64_t)cpu_bytes(a->out->dtype));
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        int64_t begin, end;
        cpu_share(rows, omp_get_thread_num(), omp_get_num_threads(), &begin, &end);
        for (int64_t i = begin; i < end; i++) embed(a, i);
    }
    return CLF_OK;
}
