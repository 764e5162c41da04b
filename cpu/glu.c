/* glu.c: out = activation(gate) · up, and its gradients, at the end. Pieces of rows are shared among threads; one body
 * for each activation, dtype and way of storing. */
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

/* Backward: d_gate = d_out · up · activation′(gate), d_up = d_out · activation(gate), and out again, to the bit. A
 * vector of all inputs is read before any output is written, which may take their places. */
typedef struct gradients {
    const char *gate, *up, *d_out;
    char *d_gate, *d_up, *out; /* out may be NULL */
    int64_t n;
    clf_dtype dtype;
    bool stream;
} gradients;

/* Elements i … i + n − 1, n = VL or less. */
INLINE vf load(const char *p, int64_t i, int n, clf_dtype dtype) {
    const char *at = p + (size_t)i * cpu_bytes(dtype);
    return n == VL ? v_load_as(at, dtype) : v_load_as_n(at, n, dtype);
}

INLINE void store(char *p, int64_t i, vf v, int n, clf_dtype dtype, bool stream) {
    char *at = p + (size_t)i * cpu_bytes(dtype);
    if (n < VL)
        v_store_as_n(at, v, n, dtype);
    else if (stream)
        v_stream_as(at, v, dtype);
    else
        v_store_as(at, v, dtype);
}

INLINE void part_backward(const gradients *g, int64_t i, int n, clf_dtype dtype, clf_activation activation,
                          bool stream) {
    vf slope;
    const vf up = load(g->up, i, n, dtype), d = load(g->d_out, i, n, dtype);
    const vf active = v_activate_slope(activation, load(g->gate, i, n, dtype), &slope);
    store(g->d_gate, i, v_mul(v_mul(d, up), slope), n, dtype, stream);
    store(g->d_up, i, v_mul(d, active), n, dtype, stream);
    if (g->out) store(g->out, i, v_mul(active, up), n, dtype, stream);
}

INLINE void piece_backward(const gradients *g, clf_dtype dtype, clf_activation activation, bool stream) {
    int64_t i = 0;
    for (; i + VL <= g->n; i += VL) part_backward(g, i, VL, dtype, activation, stream);
    if (i < g->n) part_backward(g, i, (int)(g->n - i), dtype, activation, stream);
}

INLINE void activated_backward(const gradients *g, clf_activation activation) {
    CPU_FOR_DTYPE(DTYPE, g->dtype, CPU_FOR_BOOL(STREAM, g->stream, piece_backward(g, DTYPE, activation, STREAM)));
}

/* Whether an output is to be written past the caches: none of the inputs lies under it. */
static bool streams(const clf_tensor *out, const clf_glu_backward_args *a) {
    return !out || (cpu_streams(out, a->gate, a->up) && out->buffer != a->d_out->buffer);
}

clf_status CPU_FN(glu_backward)(clf_context *ctx, const clf_glu_backward_args *a) {
    const clf_tensor *const all[] = {a->gate, a->up, a->d_out, a->d_gate, a->d_up, a->out ? a->out : a->gate};
    const size_t bytes = cpu_bytes(a->gate->dtype);
    bool contiguous = true;
    for (int i = 0; i < 6; i++) contiguous = contiguous && clf_is_contiguous(all[i]);
    const cpu_pieces work = cpu_cut(a->gate, contiguous);
    const int threads = cpu_threads(ctx, work.count, 6 * clf_elements(a->gate) * (int64_t)bytes);
    const bool stream = streams(a->d_gate, a) && streams(a->d_up, a) && streams(a->out, a);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        int64_t begin, end, row, at;
        cpu_share(work.count, omp_get_thread_num(), omp_get_num_threads(), &begin, &end);
        for (int64_t p = begin; p < end; p++) {
            const int64_t n = cpu_piece(&work, p, &row, &at);
            const size_t offset = (size_t)at * bytes;
            const gradients g = {.gate = (const char *)clf_row(a->gate, row) + offset,
                                 .up = (const char *)clf_row(a->up, row) + offset,
                                 .d_out = (const char *)clf_row(a->d_out, row) + offset,
                                 .d_gate = (char *)clf_row(a->d_gate, row) + offset,
                                 .d_up = (char *)clf_row(a->d_up, row) + offset,
                                 .out = a->out ? (char *)clf_row(a->out, row) + offset : NULL,
                                 .n = n,
                                 .dtype = a->gate->dtype,
                                 .stream = stream};
            switch (a->activation) {
            case CLF_ACTIVATION_SILU: activated_backward(&g, CLF_ACTIVATION_SILU); break;
            case CLF_ACTIVATION_GELU: activated_backward(&g, CLF_ACTIVATION_GELU); break;
            default: activated_backward(&g, CLF_ACTIVATION_GELU_TANH); break;
            }
        }
        v_stream_end();
    }
    return CLF_OK;
}
