/* glu.c: out = activation(gate) · up. Pieces of rows are shared among threads; one body for each activation, dtype and
 * way of storing. */
#include "activation.h"
#include "cpu.h"

INLINE void piece(const char *gate, const char *up, char *out, int64_t n, clf_dtype dtype, clf_activation activation,
                  bool stream) {
    const size_t bytes = cpu_bytes(dtype);
    int64_t i = 0;
    for (; i + VL <= n; i += VL) {
        const size_t at = (size_t)i * bytes;
        const vf v = v_mul(v_activate(activation, v_load_as(gate + at, dtype)), v_load_as(up + at, dtype));
        if (stream)
            v_stream_as(out + at, v, dtype);
        else
            v_store_as(out + at, v, dtype);
    }
    if (i < n) {
        const size_t at = (size_t)i * bytes;
        const int rest = (int)(n - i);
        const vf g = v_activate(activation, v_load_as_n(gate + at, rest, dtype));
        v_store_as_n(out + at, v_mul(g, v_load_as_n(up + at, rest, dtype)), rest, dtype);
    }
}

typedef struct operands {
    const char *gate, *up;
    char *out;
    int64_t n;
    clf_dtype dtype;
    bool stream;
} operands;

INLINE void activated(const operands *o, clf_activation activation) {
    CPU_FOR_DTYPE(DTYPE, o->dtype,
                  CPU_FOR_BOOL(STREAM, o->stream, piece(o->gate, o->up, o->out, o->n, DTYPE, activation, STREAM)));
}

clf_status CPU_FN(glu)(clf_context *ctx, const clf_glu_args *a) {
    const clf_tensor *gate = a->gate, *up = a->up, *out = a->out;
    const cpu_pieces work = cpu_cut(out, clf_is_contiguous(gate) && clf_is_contiguous(up) && clf_is_contiguous(out));
    const size_t bytes = cpu_bytes(gate->dtype);
    const int threads = cpu_threads(ctx, work.count, 3 * clf_elements(out) * (int64_t)bytes);
    const bool stream = cpu_streams(out, gate, up);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        int64_t begin, end, row, at;
        cpu_share(work.count, omp_get_thread_num(), omp_get_num_threads(), &begin, &end);
        for (int64_t p = begin; p < end; p++) {
            const int64_t n = cpu_piece(&work, p, &row, &at);
            const size_t offset = (size_t)at * bytes;
            const operands o = {.gate = (const char *)clf_row(gate, row) + offset,
                                .up = (const char *)clf_row(up, row) + offset,
                                .out = (char *)clf_row(out, row) + offset,
                                .n = n,
                                .dtype = gate->dtype,
                                .stream = stream};
            switch (a->activation) {
            case CLF_ACTIVATION_SILU: activated(&o, CLF_ACTIVATION_SILU); break;
            case CLF_ACTIVATION_GELU: activated(&o, CLF_ACTIVATION_GELU); break;
            default: activated(&o, CLF_ACTIVATION_GELU_TANH); break;
            }
        }
        v_stream_end();
    }
    return CLF_OK;
}
