/* dropout.c: out = x / (1 − probability) or 0, by chance, + residual. Pieces of rows are shared among threads. The
 * random words of a piece are made first, in the order of its elements, a vector of counters (GROUP elements) at a
 * time. */
#include "cpu.h"
#include "philox.h"

enum { GROUP = 4 * VL };

/* The words of elements first … first + GROUP − 1, first being a multiple of GROUP. Lane l counts for the four elements
 * that transposing its words within the spans brings into order. */
INLINE void make_words(uint64_t first, uint64_t seed, uint32_t *words) {
    uint32_t lane[VL];
    for (int l = 0; l < VL; l++) lane[l] = (uint32_t)(l % SPAN * SPANS + l / SPAN);
    const uint64_t counter = first / 4; /* a multiple of VL: no lane carries */
    vu c[4] = {vu_xor(vu_set1((uint32_t)counter), vu_load(lane)), vu_set1((uint32_t)(counter >> 32)), vu_set1(0),
               vu_set1(0)};
    vf bits[4];
    philox(c, seed);
    memcpy(bits, c, sizeof bits);
    v_transpose_spans(bits);
    memcpy(words, bits, sizeof bits);
}

typedef struct operands {
    const char *x, *residual; /* residual may be NULL */
    char *out;
    uint64_t index; /* of the first element */
    uint64_t seed;
    uint32_t least; /* words from it on keep */
    float kept;     /* 1 / (1 − probability) */
    int64_t n;
    bool stream;
} operands;

INLINE void part(const operands *o, int64_t i, int n, const uint32_t *word, clf_dtype dtype) {
    const size_t at = (size_t)i * cpu_bytes(dtype);
    const vf x = n == VL ? v_load_as(o->x + at, dtype) : v_load_as_n(o->x + at, n, dtype);
    vf v = v_mul(vu_keep(vu_load(word + i), vu_set1(o->least), x), v_set1(o->kept));
    if (o->residual)
        v = v_add(v, n == VL ? v_load_as(o->residual + at, dtype) : v_load_as_n(o->residual + at, n, dtype));
    if (n < VL)
        v_store_as_n(o->out + at, v, n, dtype);
    else if (o->stream)
        v_stream_as(o->out + at, v, dtype);
    else
        v_store_as(o->out + at, v, dtype);
}

INLINE void piece(const operands *o, clf_dtype dtype) {
    uint32_t words[CPU_PIECE + 3 * GROUP];
    const uint64_t skip = o->index % GROUP, first = o->index - skip;
    int64_t made = 0, i = 0;
    for (; made < (int64_t)skip + o->n + VL; made += GROUP) make_words(first + (uint64_t)made, o->seed, words + made);
    for (; i + VL <= o->n; i += VL) part(o, i, VL, words + skip, dtype);
    if (i < o->n) part(o, i, (int)(o->n - i), words + skip, dtype);
}

clf_status CPU_FN(dropout)(clf_context *ctx, const clf_dropout_args *a) {
    const clf_tensor *x = a->x, *residual = a->residual, *out = a->out;
    const cpu_pieces work =
        cpu_cut(out, clf_is_contiguous(x) && (!residual || clf_is_contiguous(residual)) && clf_is_contiguous(out));
    const size_t bytes = cpu_bytes(x->dtype);
    const int threads = cpu_threads(ctx, work.count, 3 * clf_elements(out) * (int64_t)bytes);
    const bool stream = cpu_streams(out, x, residual);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        int64_t begin, end, row, at;
        cpu_share(work.count, omp_get_thread_num(), omp_get_num_threads(), &begin, &end);
        for (int64_t p = begin; p < end; p++) {
            const int64_t n = cpu_piece(&work, p, &row, &at);
            const size_t offset = (size_t)at * bytes;
            const operands o = {.x = (const char *)clf_row(x, row) + offset,
                                .residual = residual ? (const char *)clf_row(residual, row) + offset : NULL,
                                .out = (char *)clf_row(out, row) + offset,
                                .index = (uint64_t)row * (uint64_t)work.dim + (uint64_t)at,
                                .seed = a->seed,
                                .least = (uint32_t)ceil((double)a->probability * 0x1p32),
                                .kept = (float)(1 / (1 - (double)a->probability)),
                                .n = n,
                                .stream = stream};
            CPU_FOR_DTYPE(DTYPE, x->dtype, piece(&o, DTYPE));
        }
        v_stream_end();
    }
    return CLF_OK;
}
