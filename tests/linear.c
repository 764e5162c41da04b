/* linear.c: clf_linear() and clf_linear_backward() in double. Backward, a gate's two products are two of a list.
 *
 * CLF_LINEAR_FAST may round x to int8 or not. So x is made such that rounding loses nothing: whole multiples of a power
 * of two per 32 values, the largest 127 of them. Then one reference and one tolerance hold for every device. What the
 * CPU tables make of any other x is checked by linear_rejects.c. */
#include "linear_case.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Whole multiples of 2^-7, 2^-6 or 2^-5, the same one for `span` values, the first of each 32 being 127 of them. */
static void make_roundable(op_run *run, op_tensor *x, int span) {
    const int64_t n = op_elements(x);
    double unit = 1;
    for (int64_t i = 0; i < n; i++) {
        if (i % span == 0) unit = ldexp(1, (int)op_random_int(run, 3) - 7);
        x->value[i] = unit * (i % 32 ? (double)(op_random_int(run, 255) - 127) : 127);
    }
}

/* Rows of x that are 127 or −127 throughout, or by turns; of the weights' rows a third have the largest code, 3 or 2,
 * throughout, a third code 0, a third code 2. `words` are those after the scales of a panel, or tiles. */
static void make_extreme_x(op_tensor *x) {
    const int64_t k = x->shape[x->ndim - 1];
    for (int64_t i = 0; i < op_elements(x); i++) {
        const int64_t m = i / k;
        x->value[i] = m % 3 == 0 ? 127 : m % 3 == 1 || i % 2 ? -127 : 127;
    }
}

static uint8_t extreme_byte(clf_dtype dtype, int64_t i) {
    const int twos = dtype != CLF_T1 ? 0xaa : i / 64 % 13 < 12 ? 242 : 80;
    const int64_t row = i % 64 / 4 % 3;
    return (uint8_t)(row == 0 ? (dtype == CLF_T1 ? twos : 0xff) : row == 1 ? 0 : twos);
}

static void make_extreme_panels(op_tensor *w) {
    const int64_t k = w->shape[1], n = w->shape[0], words = k / 256 * (w->dtype == CLF_T1 ? 13 : 16) * 64;
    uint8_t *p = w->blocks;
    for (int64_t panel = 0; panel < n / 16; panel++, p += words) {
        p += k / 256 * 32;
        for (int64_t i = 0; i < words; i++) p[i] = extreme_byte(w->dtype, i);
    }
    op_decode_interleaved(w->dtype, w->blocks, n, k, w->value);
}

/* Rows of the lowest, the highest and other codes throughout; scales stay. */
static void make_extreme_blocks(op_tensor *w) {
    static const struct quants {
        clf_dtype dtype;
        int from, count; /* bytes of a block that hold its codes */
    } list[] = {{CLF_Q8_0, 2, 32},  {CLF_Q4_0, 2, 16},   {CLF_Q4_1, 4, 16},    {CLF_Q5_0, 2, 20},
                {CLF_Q5_1, 4, 20},  {CLF_Q3_K, 0, 96},   {CLF_Q4_K, 16, 128},  {CLF_Q5_K, 16, 160},
                {CLF_Q6_K, 0, 192}, {CLF_IQ4_NL, 2, 16}, {CLF_IQ4_XS, 8, 128}, {CLF_TQ1_0, 0, 52},
                {CLF_TQ2_0, 0, 64}, {CLF_Q2_0, 2, 16},   {CLF_MXFP4, 1, 16},   {CLF_NF4, 4, 32}};
    static const uint8_t bytes[] = {0xff, 0, 0x77, 0x80, 0x81, 0x7f};
    const int64_t k = w->shape[1];
    for (int f = 0; f < COUNT(list); f++) {
        if (list[f].dtype != w->dtype) continue;
        const int64_t block = (int64_t)clf_dtype_block_bytes(w->dtype),
                      row = k / clf_dtype_block_values(w->dtype) * block;
        for (int64_t r = 0; r < w->shape[0]; r++)
            for (int64_t at = 0; at < row; at += block)
                memset((char *)w->blocks + r * row + at + list[f].from, bytes[r % COUNT(bytes)], (size_t)list[f].count);
        op_decode(w->dtype, w->blocks, w->shape[0] * k, w->value);
    }
}

static const char *const names[3][3] = {{"w0", "w1", "w2"}, {"b0", "b1", "b2"}, {"out0", "out1", "out2"}};
static const char *const lists[3][3] = {
    {"rows0", "rows1", "rows2"}, {"columns0", "columns1", "columns2"}, {"scale0", "scale1", "scale2"}};

/* A block-sparse weight [n, k] and its lists; random tiles are there. */
static void make_tiles(op_run *run, const char *name, int i, int64_t n, int64_t k, int f) {
    const int64_t rows = n / 16 + 1, groups = k / 16;
    int64_t count = 0;
    const int r = op_input(run, lists[0][i], CLF_I32, 1, &rows, 0, 1);
    op_input(run, lists[2][i], CLF_F32, 1, &n, -1, 1);
    bool *there = calloc((size_t)(n / 16 * groups + 1), sizeof *there);
    if (!there) abort();
    for (int64_t t = 0; t < n / 16 * groups; t++) {
        if (t % groups == 0) run->t[r].value[t / groups] = (double)count;
        there[t] = f & FULL || (!(f & EMPTY) && op_random_int(run, 10) < 3);
        count += there[t];
    }
    for (int64_t t = groups ? n / 16 : 0; t < rows; t++) run->t[r].value[t] = (double)count;
    const int c = op_input(run, lists[1][i], CLF_I32, 1, &count, 0, 1);
    const int64_t bytes = 64 * count;
    const int w = op_input(run, name, CLF_U8, 1, &bytes, 0, 256);
    for (int64_t b = 0; f & EXTREME && b < bytes; b++) run->t[w].value[b] = extreme_byte(CLF_U8, b);
    for (int64_t t = n / 16 * groups; t-- > 0;)
        if (there[t]) run->t[c].value[--count] = (double)(t % groups);
    free(there);
}

/* Weight i as [*n, k]: its values, or what its tiles hold, to be freed where *made. */
static double *dense_of(op_run *run, int i, int64_t k, int64_t *n, bool *made) {
    const op_tensor *w = op_find(run, names[0][i]), *rows = op_find(run, lists[0][i]);
    *made = rows;
    *n = rows ? 16 * (rows->shape[0] - 1) : w->shape[0];
    if (!rows) return w->value;
    const double *columns = op_value(run, lists[1][i]), *scale = op_value(run, lists[2][i]);
    double *dense = calloc((size_t)(*n * k + 1), sizeof *dense);
    if (!dense) abort();
    for (int64_t t = 0; t < *n / 16; t++)
        for (int64_t e = (int64_t)rows->value[t]; e < (int64_t)rows->value[t + 1]; e++)
            for (int b = 0; b < 64; b++)
                for (int p = 0; p < 4; p++) {
                    const int64_t r = 16 * t + b / 4, column = 16 * (int64_t)columns[e] + 4 * p + b % 4;
                    dense[r * k + column] = scale[r] * (((int)w->value[64 * e + b] >> 2 * p & 3) - 1);
                }
    return dense;
}

static const char *const gradients[4][3] = {{"d_out0", "d_out1", "d_out2"},
                                            {"d_w0", "d_w1", "d_w2"},
                                            {"d_b0", "d_b1", "d_b2"},
                                            {"before w0", "before w1", "before w2"}};

static int products_of(int f) {
    return f & THREE ? 3 : f & (SILU | GELU | TANH | TWO) ? 2 : 1;
}

static int64_t rows_of(const linear_variant *v) {
    int64_t rows = 1;
    for (int i = 0; i + 1 < v->ndim; i++) rows *= v->rows[i];
    return rows;
}

/* x, weights and biases are there for the loss, whether they are passed or not. */
static bool make_backward(op_run *run, const linear_variant *v) {
    const int f = v->features, products = products_of(f);
    int64_t x[CLF_MAX_DIMS] = {0}, out[CLF_MAX_DIMS];
    for (int i = 0; i + 1 < v->ndim; i++) x[i] = out[i] = v->rows[i];
    x[v->ndim - 1] = v->k;
    run->args.linear_backward = (clf_linear_backward_args){.scale = f & SCALE ? -0.7f : 0};
    snprintf(run->text, sizeof run->text, "%s%lld rows, w %s [%lld, %lld]%s%s%s%s%s%s%s",
             run->variant >= linear_variants - linear_bench_variants ? "bench: TinyLlama, " : "", (long long)rows_of(v),
             clf_dtype_name(v->dtype), (long long)v->n, (long long)v->k, f & D_WEIGHT ? "" : " d_x",
             f & D_X ? "" : " d_weight", f & (BIAS | BIAS_F32) ? " d_bias" : "",
             f & (RESIDUAL | OVER_RESIDUAL) ? " residual" : "", f & OUT_F32 ? " d_x f32" : "",
             f & SCALE ? " scale" : "",
             products == 3   ? " qkv"
             : products == 2 ? " two"
                             : "");
    const clf_dtype d_x = f & OUT_F32 ? CLF_F32 : run->dtype;
    const int xi = op_input(run, "x", f & BIAS_F32 ? CLF_F32 : run->dtype, v->ndim, x, -1, 1);
    if (f & REPEAT) op_repeat(run, xi, 0);
    for (int i = 0; i < products; i++) {
        const int64_t n = f & THREE && i ? v->n / 2 : v->n, w[2] = {n, v->k};
        const clf_dtype dtype = i < 2 ? v->dtype : clf_dtype_block_values(v->dtype) > 1 ? CLF_Q6_K : CLF_BF16;
        out[v->ndim - 1] = n;
        op_input(run, names[0][i], dtype, 2, w, -1, 1);
        const int d = op_input(run, gradients[0][i], run->dtype, v->ndim, out, -1, 1);
        if (f & REPEAT) op_repeat(run, d, 0);
        if (!(f & D_X)) op_output_over(run, gradients[1][i], op_input(run, gradients[3][i], CLF_F32, 2, w, -1, 1));
        if (f & (BIAS | BIAS_F32)) {
            op_input(run, names[1][i], CLF_F32, 1, &n, -1, 1);
            op_output_over(
                run, gradients[2][i],
                op_input(run, (const char *[]){"before b0", "before b1", "before b2"}[i], CLF_F32, 1, &n, -1, 1));
        }
    }
    if (f & D_WEIGHT) return true;
    const bool residual = f & (RESIDUAL | OVER_RESIDUAL);
    const int r = residual ? op_input(run, "residual", d_x, v->ndim, x, -4, 4) : 0;
    if (f & OVER_RESIDUAL)
        op_output_over(run, "d_x", r);
    else
        op_output(run, "d_x", d_x, v->ndim, x);
    return true;
}

static bool make(op_run *run) {
    const linear_variant v = linear_variant_of(run->variant);
    const int f = v.features, gated = f & (SILU | GELU | TANH);
    if (f & (run->backward ? FORWARD : BACKWARD)) return false;
    if (run->backward) return make_backward(run, &v);
    int64_t x[CLF_MAX_DIMS] = {0}, out[CLF_MAX_DIMS];
    for (int i = 0; i + 1 < v.ndim; i++) x[i] = out[i] = v.rows[i];
    x[v.ndim - 1] = v.k;
    run->args.linear = (clf_linear_args){.glu = f & SILU   ? CLF_ACTIVATION_SILU
                                                : f & GELU ? CLF_ACTIVATION_GELU
                                                : f & TANH ? CLF_ACTIVATION_GELU_TANH
                                                           : CLF_ACTIVATION_NONE,
                                         .precision = f & EXACT ? CLF_LINEAR_EXACT : CLF_LINEAR_FAST,
                                         .scale = f & SCALE ? 1.5f : 0};
    const int products = products_of(f), outs = gated ? 1 : products;
    const int64_t rows = rows_of(&v);
    snprintf(run->text, sizeof run->text, "%s%lld rows, w %s [%lld, %lld]%s%s%s%s%s%s%s%s",
             run->variant >= linear_variants - linear_bench_variants ? "bench: TinyLlama, " : "", (long long)rows,
             clf_dtype_name(v.dtype), (long long)v.n, (long long)v.k, f & (BIAS | BIAS_F32) ? " bias" : "",
             gated ? " gated" : "", f & (RESIDUAL | OVER_RESIDUAL) ? " residual" : "", f & OUT_F32 ? " out f32" : "",
             f & EXACT ? " exact" : "", products == 3 ? " qkv" : "", f & REPEAT ? " x repeats" : "",
             f & SCALE ? " scale" : "");
    const int xi = op_input(run, "x", run->dtype, v.ndim, x, -1, 1);
    if (!(f & ANY_X))
        make_roundable(run, &run->t[xi], v.dtype == CLF_U8 ? (int)v.k : op_interleaved(v.dtype) ? 256 : 32);
    if (f & EXTREME) make_extreme_x(&run->t[xi]);
    if (f & REPEAT) op_repeat(run, xi, 0);
    int residual = -1;
    for (int i = 0; i < products; i++) {
        const int64_t n = f & THREE && i ? v.n / 2 : v.n;
        const clf_dtype dtype = i < 2 ? v.dtype : clf_dtype_block_values(v.dtype) > 1 ? CLF_Q6_K : CLF_BF16;
        const clf_dtype out_dtype = f & OUT_F32 ? CLF_F32 : run->dtype;
        if (dtype == CLF_U8) {
            make_tiles(run, names[0][i], i, n, v.k, f);
        } else {
            const int w = op_input(run, names[0][i], dtype, 2, (int64_t[]){n, v.k}, -1, 1);
            if (f & EXTREME) (op_interleaved(dtype) ? make_extreme_panels : make_extreme_blocks)(&run->t[w]);
        }
        if (f & (BIAS | BIAS_F32)) op_input(run, names[1][i], f & BIAS ? run->dtype : CLF_F32, 1, &n, -2, 2);
        if (i >= outs) continue;
        out[v.ndim - 1] = n;
        if (f & (RESIDUAL | OVER_RESIDUAL)) residual = op_input(run, "residual", out_dtype, v.ndim, out, -4, 4);
        if (f & OVER_RESIDUAL)
            op_output_over(run, names[2][i], residual);
        else
            op_output(run, names[2][i], out_dtype, v.ndim, out);
    }
    return true;
}

static clf_status call(op_run *run) {
    clf_linear_args *a = &run->args.linear;
    a->x = op_device(run, "x");
    a->residual = op_device(run, "residual");
    for (int i = 0; i < CLF_LINEAR_MAX; i++) {
        a->weight[i] = op_device(run, names[0][i]);
        a->tile_rows[i] = op_device(run, lists[0][i]);
        a->tile_columns[i] = op_device(run, lists[1][i]);
        a->row_scale[i] = op_device(run, lists[2][i]);
        a->bias[i] = op_device(run, names[1][i]);
        a->out[i] = op_device(run, names[2][i]);
    }
    return clf_linear(run->ctx, a);
}

static double activate(clf_activation a, double x) {
    if (a == CLF_ACTIVATION_SILU) return x / (1 + exp(-x));
    if (a == CLF_ACTIVATION_GELU) return 0.5 * x * erfc(-x * sqrt(0.5));
    return 0.5 * x * (1 + tanh(sqrt(2 / acos(-1)) * (x + 0.044715 * x * x * x)));
}

static void reference(op_run *run) {
    const clf_linear_args *a = &run->args.linear;
    const op_tensor *xt = op_find(run, "x");
    const linear_variant v = linear_variant_of(run->variant);
    const int64_t k = v.k, rows = rows_of(&v);
    const double scale = a->scale == 0 ? 1 : (double)a->scale;
    const double *residual = op_value(run, "residual");
    for (int i = 0; i < CLF_LINEAR_MAX; i++) {
        if (!op_find(run, names[0][i]) || (a->glu && i)) break;
        bool made, up_made = false;
        int64_t n;
        double *w = dense_of(run, i, k, &n, &made), *up = a->glu ? dense_of(run, 1, k, &n, &up_made) : NULL;
        const double *bias = op_value(run, names[1][i]), *up_bias = a->glu ? op_value(run, "b1") : NULL;
        double *out = op_value(run, names[2][i]);
        for (int64_t m = 0; m < rows; m++)
            for (int64_t r = 0; r < n; r++) {
                double sum = bias ? bias[r] : 0, u = up_bias ? up_bias[r] : 0;
                for (int64_t j = 0; j < k; j++) sum += scale * xt->value[m * k + j] * w[r * k + j];
                for (int64_t j = 0; up && j < k; j++) u += scale * xt->value[m * k + j] * up[r * k + j];
                if (up) sum = activate(a->glu, sum) * u;
                out[m * n + r] = sum + (residual ? residual[m * n + r] : 0);
            }
        if (made) free(w);
        if (up_made) free(up);
    }
}

static clf_status call_backward(op_run *run) {
    const int f = linear_variant_of(run->variant).features;
    clf_linear_backward_args *a = &run->args.linear_backward;
    a->x = f & D_X ? NULL : op_device(run, "x");
    a->residual = op_device(run, "residual");
    a->d_x = op_device(run, "d_x");
    for (int i = 0; i < CLF_LINEAR_MAX; i++) {
        a->weight[i] = f & D_WEIGHT ? NULL : op_device(run, names[0][i]);
        a->d_out[i] = op_device(run, gradients[0][i]);
        a->d_weight[i] = op_device(run, gradients[1][i]);
        a->d_bias[i] = op_device(run, gradients[2][i]);
    }
    return clf_linear_backward(run->ctx, a);
}

/* What is summed into out's element i, its square into *squares. */
static void add(double *out, double term, double *squares) {
    *out += term;
    *squares += term * term;
}

static void set_magnitude(op_tensor *t, double squares) {
    const int64_t n = t ? op_elements(t) : 0;
    if (n) t->magnitude = sqrt(squares / (double)n);
}

static void reference_backward(op_run *run) {
    const linear_variant v = linear_variant_of(run->variant);
    const int64_t rows = rows_of(&v), k = v.k;
    const float given = run->args.linear_backward.scale;
    const double scale = given == 0 ? 1 : (double)given, *x = op_value(run, "x"), *residual = op_value(run, "residual");
    double *d_x = op_value(run, "d_x"), x_squares = 0;
    for (int64_t i = 0; d_x && i < rows * k; i++) {
        d_x[i] = 0;
        if (residual) add(&d_x[i], residual[i], &x_squares);
    }
    for (int i = 0; i < products_of(v.features); i++) {
        const op_tensor *w = op_find(run, names[0][i]);
        op_tensor *tw = op_find(run, gradients[1][i]), *tb = op_find(run, gradients[2][i]);
        const int64_t n = w->shape[0];
        const double *d_out = op_value(run, gradients[0][i]);
        double *d_w = tw ? tw->value : NULL, *d_b = tb ? tb->value : NULL, w_squares = 0, b_squares = 0;
        if (d_w) memcpy(d_w, run->t[tw->alias].value, (size_t)(n * k) * sizeof *d_w);
        if (d_b) memcpy(d_b, run->t[tb->alias].value, (size_t)n * sizeof *d_b);
        for (int64_t m = 0; m < rows; m++)
            for (int64_t r = 0; r < n; r++) {
                const double d = d_out[m * n + r];
                if (d_b) add(&d_b[r], d, &b_squares);
                for (int64_t j = 0; d_w && j < k; j++) add(&d_w[r * k + j], scale * d * x[m * k + j], &w_squares);
                for (int64_t j = 0; d_x && j < k; j++)
                    add(&d_x[m * k + j], scale * d * w->value[r * k + j], &x_squares);
            }
        set_magnitude(tw, w_squares);
        set_magnitude(tb, b_squares);
    }
    set_magnitude(op_find(run, "d_x"), x_squares);
}

/* Σ d_out · out, and residual · x, whose slope reaches x otherwise. */
static double loss(op_run *run) {
    const linear_variant v = linear_variant_of(run->variant);
    const int64_t rows = rows_of(&v), k = v.k;
    const float given = run->args.linear_backward.scale;
    const double scale = given == 0 ? 1 : (double)given, *x = op_value(run, "x"), *residual = op_value(run, "residual");
    double sum = 0;
    for (int64_t i = 0; residual && i < rows * k; i++) sum += residual[i] * x[i];
    for (int i = 0; i < products_of(v.features); i++) {
        const op_tensor *w = op_find(run, names[0][i]);
        const double *d_out = op_value(run, gradients[0][i]), *bias = op_value(run, names[1][i]);
        for (int64_t m = 0; m < rows; m++)
            for (int64_t r = 0; r < w->shape[0]; r++) {
                double out = bias ? bias[r] : 0;
                for (int64_t j = 0; j < k; j++) out += scale * x[m * k + j] * w->value[r * k + j];
                sum += d_out[m * w->shape[0] + r] * out;
            }
    }
    return sum;
}

static double tolerance(const op_run *run, const op_tensor *t) {
    (void)run;
    return t->dtype == CLF_F16 ? 4e-4 : t->dtype == CLF_BF16 ? 1.5e-3 : 2e-6;
}

static const char *lacks(const op_run *run, const char *backend) { /* nothing: no table may refuse a run */
    (void)run, (void)backend;
    return NULL;
}

static double flops(const op_run *run) {
    const linear_variant v = linear_variant_of(run->variant);
    const double products = v.features & THREE ? 2 : products_of(v.features);
    const double passes = run->backward && !(v.features & (D_X | D_WEIGHT)) ? 2 : 1;
    return 2 * passes * products * (double)rows_of(&v) * (double)v.n * (double)v.k;
}

int main(int argc, char **argv) {
    static op_case c = {.name = "linear",
                        .make = make,
                        .call = call,
                        .reference = reference,
                        .call_backward = call_backward,
                        .reference_backward = reference_backward,
                        .loss = loss,
                        .tolerance = tolerance,
                        .flops = flops,
                        .bytes = op_traffic,
                        .lacks = lacks,
                        .rejects = linear_rejects};
    c.variants = linear_variants;
    c.bench_variants = linear_bench_variants;
    return op_main(argc, argv, &c);
}
