/* simd.c: the vector vocabulary, compiled once per instruction set as cpu/ is; exits with 77 where the machine lacks
 * it. The scalar one checks lib/core/dtype.h against the definition of the formats; the others are compared with it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>

#include "../cpu/activation.h"
#include "../cpu/philox.h"
#include "../cpu/simd.h"

static uint32_t bits_of(float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}
static float float_of(uint32_t u) {
    float f;
    memcpy(&f, &u, 4);
    return f;
}

/* The nearest float of the format, by definition: a sign, `exponent` bits, `mantissa` bits. Ties to even. */
static uint16_t nearest(float f, int exponent, int mantissa) {
    const int bias = (1 << (exponent - 1)) - 1;
    const uint16_t sign = (uint16_t)(bits_of(f) >> 16 & 0x8000), top = (uint16_t)(((1 << exponent) - 1) << mantissa);
    const double v = fabs((double)f);
    int e;
    frexp(v, &e);
    const int unit = e - 1 - mantissa > 1 - bias - mantissa ? e - 1 - mantissa : 1 - bias - mantissa;
    const double steps = nearbyint(ldexp(v, -unit)); /* up to 2^(mantissa + 1), then the exponent grows by itself */
    if (isinf(v) || ldexp(steps, unit) >= ldexp(1, bias + 1)) return sign | top;
    return (uint16_t)(sign | (((unit - (1 - bias - mantissa)) << mantissa) + (int)steps));
}

static float decoded(uint16_t h, int exponent, int mantissa) {
    const int e = h >> mantissa & ((1 << exponent) - 1), m = h & ((1 << mantissa) - 1);
    const int bias = (1 << (exponent - 1)) - 1;
    const double v = e ? ldexp(m + (1 << mantissa), e - bias - mantissa) : ldexp(m, 1 - bias - mantissa);
    if (e == (1 << exponent) - 1) return m ? NAN : h & 0x8000 ? -INFINITY : INFINITY;
    return (float)(h & 0x8000 ? -v : v);
}

static bool is_nan16(uint16_t h, int mantissa) {
    return (h & 0x7fff) > (0x7fff & ~((1 << mantissa) - 1));
}

static void test_dtype_from_16(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        const float f = clf_f16_to_f32((uint16_t)h), b = clf_bf16_to_f32((uint16_t)h);
        if (is_nan16((uint16_t)h, 10)) {
            assert_true(isnan(f));
            assert_true(is_nan16(clf_f32_to_f16(f), 10));
        } else {
            assert_int_equal(bits_of(f), bits_of(decoded((uint16_t)h, 5, 10)));
            assert_int_equal(clf_f32_to_f16(f), h);
        }
        if (is_nan16((uint16_t)h, 7)) {
            assert_true(isnan(b));
            assert_true(is_nan16(clf_f32_to_bf16(b), 7));
        } else {
            assert_int_equal(bits_of(b), bits_of(decoded((uint16_t)h, 8, 7)));
            assert_int_equal(clf_f32_to_bf16(b), h);
        }
    }
}

static void check_to_16(float f) {
    if (isnan(f)) {
        assert_true(is_nan16(clf_f32_to_f16(f), 10));
        assert_true(is_nan16(clf_f32_to_bf16(f), 7));
        return;
    }
    assert_int_equal(clf_f32_to_f16(f), nearest(f, 5, 10));
    assert_int_equal(clf_f32_to_bf16(f), nearest(f, 8, 7));
}

/* Floats where rounding turns: the middle of neighbours of both formats, and the floats beside it. */
static float turn(uint32_t i) {
    const uint32_t h = i / 3 % 65536, next = h + ((h & 0x7fff) < 0x7fff);
    const bool bf16 = i / 3 >= 65536;
    const float low = bf16 ? clf_bf16_to_f32((uint16_t)h) : clf_f16_to_f32((uint16_t)h);
    const float high = bf16 ? clf_bf16_to_f32((uint16_t)next) : clf_f16_to_f32((uint16_t)next);
    const float middle = isinf(high) ? (bf16 ? low : copysignf(65520, low)) : (float)(((double)low + (double)high) / 2);
    return float_of(bits_of(middle) + i % 3 - 1);
}
enum { TURNS = 2 * 3 * 65536 };

static uint32_t random_bits(uint32_t *state) {
    *state = *state * 1664525 + 1013904223;
    return *state ^ *state >> 15;
}

static void test_dtype_to_16(void **state) {
    (void)state;
    uint32_t seed = 1;
    for (uint32_t i = 0; i < TURNS; i++) check_to_16(turn(i));
    for (int i = 0; i < 1000000; i++) check_to_16(float_of(random_bits(&seed)));
}

/* This instruction set's conversions against dtype.h's. */
static void test_conversions(void **state) {
    (void)state;
    float f[VL];
    uint16_t h[VL];
    uint32_t seed = 2;
    for (uint32_t i = 0; i + VL <= 65536; i += VL) {
        for (uint32_t k = 0; k < VL; k++) h[k] = (uint16_t)(i + k);
        v_store(f, v_load_f16(h));
        for (uint32_t k = 0; k < VL; k++)
            if (!is_nan16(h[k], 10))
                assert_int_equal(bits_of(f[k]), bits_of(clf_f16_to_f32(h[k])));
            else
                assert_true(isnan(f[k]));
        v_store(f, v_load_bf16(h));
        for (uint32_t k = 0; k < VL; k++) assert_int_equal(bits_of(f[k]), (uint32_t)h[k] << 16);
    }
    for (uint32_t i = 0; i < TURNS + 1000000; i += VL) {
        for (uint32_t k = 0; k < VL; k++) f[k] = i + k < TURNS ? turn(i + k) : float_of(random_bits(&seed));
        v_store_f16(h, v_load(f));
        for (uint32_t k = 0; k < VL; k++)
            if (isnan(f[k]))
                assert_true(is_nan16(h[k], 10));
            else
                assert_int_equal(h[k], clf_f32_to_f16(f[k]));
        v_store_bf16(h, v_load(f));
        for (uint32_t k = 0; k < VL; k++)
            if (isnan(f[k]))
                assert_true(is_nan16(h[k], 7));
            else
                assert_int_equal(h[k], clf_f32_to_bf16(f[k]));
    }
}

/* Partial loads and stores touch n elements, no more; the rest reads as 0. */
static void test_partial(void **state) {
    (void)state;
    static const clf_dtype dtypes[] = {CLF_F32, CLF_F16, CLF_BF16};
    for (int d = 0; d < 3; d++)
        for (int n = 0; n <= VL; n++) {
            float in[VL], out[VL];
            uint8_t from[4 * VL] = {0}, to[4 * VL];
            const size_t bytes = d ? 2 : 4;
            for (int k = 0; k < VL; k++) in[k] = (float)(k + 1);
            v_store_as(from, v_load(in), dtypes[d]);
            v_store(out, v_load_as_n(from, n, dtypes[d]));
            for (int k = 0; k < VL; k++) assert_true(out[k] == (k < n ? in[k] : 0));
            memset(to, 0xee, sizeof to);
            v_store_as_n(to, v_load(in), n, dtypes[d]);
            for (size_t b = 0; b < sizeof to; b++) assert_int_equal(to[b], b < (size_t)n * bytes ? from[b] : 0xee);
            v_store(out, v_round_as(v_load(in), dtypes[d]));
            assert_memory_equal(out, in, sizeof in);
        }
}

/* Spans: SPANS runs of SPAN lanes. */
static void test_spans(void) {
    enum { MOST = 16 };
    float in[MOST][VL], out[MOST][VL];
    vf a[MOST];
    for (int i = 0; i < SPAN || i < SPANS; i++) {
        for (int k = 0; k < VL; k++) in[i][k] = (float)(100 * i + k * 7 % 16);
        a[i] = v_load(in[i]);
    }
    v_store(out[0], v_load_span(in[0]));
    for (int k = 0; k < VL; k++) assert_true(out[0][k] == in[0][k % SPAN]);
    v_store(out[0], v_spans_sum(a[0]));
    v_store(out[1], v_spans_max(a[0]));
    v_store(out[2], v_span_sums(a));
    for (int k = 0; k < VL; k++) {
        float sum = 0, most = -INFINITY, lanes = 0;
        for (int s = 0; s < SPANS; s++)
            sum += in[0][s * SPAN + k % SPAN], most = fmaxf(most, in[0][s * SPAN + k % SPAN]);
        for (int l = 0; l < SPAN; l++) lanes += in[k % SPAN][k / SPAN * SPAN + l];
        assert_true(out[0][k] == sum);
        assert_true(out[1][k] == most);
        assert_true(out[2][k] == lanes);
    }
    v_regroup(a);
    for (int i = 0; i < SPANS; i++) {
        v_store(out[i], a[i]);
        for (int k = 0; k < VL; k++) assert_true(out[i][k] == in[k / SPAN][i * SPAN + k % SPAN]);
    }
}

static void test_arithmetic(void **state) {
    (void)state;
    float a[VL], b[VL], c[VL], r[VL], sum = 0, most = -INFINITY;
    for (int k = 0; k < VL; k++) {
        a[k] = (float)(k * 7 % 5) - 2, b[k] = (float)(k * 3 % 7) - 3, c[k] = (float)k;
        sum += b[k];
        most = fmaxf(most, b[k]);
    }
    const vf x = v_load(a), y = v_load(b), z = v_load(c);
#define EACH(expression, want)                                                                                         \
    v_store(r, expression);                                                                                            \
    for (int k = 0; k < VL; k++) assert_true(r[k] == (want))
    EACH(v_add(x, y), a[k] + b[k]);
    EACH(v_sub(x, y), a[k] - b[k]);
    EACH(v_mul(x, y), a[k] * b[k]);
    EACH(v_div(x, v_add(z, v_set1(1))), a[k] / (c[k] + 1));
    EACH(v_fma(x, y, z), a[k] * b[k] + c[k]);
    EACH(v_nfma(x, y, z), c[k] - a[k] * b[k]);
    EACH(v_max(x, y), fmaxf(a[k], b[k]));
    EACH(v_min(x, y), fminf(a[k], b[k]));
    EACH(v_abs(x), fabsf(a[k]));
    EACH(v_ge_or(x, y, z, v_set1(-1)), a[k] >= b[k] ? c[k] : -1);
    EACH(v_swap(z), VL == 1 ? 0 : (float)(k ^ 1));
    EACH(v_sqrt(z), sqrtf(c[k]));
#undef EACH
    for (int n = 0; n < 256; n++) { /* every byte in every lane */
        uint8_t bytes[VL + 2], copy[VL + 2] = {0};
        for (int k = 0; k < VL; k++) bytes[k + 1] = (uint8_t)(n + k);
        bytes[0] = bytes[VL + 1] = 0;
        v_store(r, v_load_u8(bytes + 1));
        for (int k = 0; k < VL; k++) assert_true(r[k] == bytes[k + 1]);
        v_store_u8(copy + 1, v_load(r));
        assert_memory_equal(copy, bytes, VL + 2);
        for (int high = 0; high < 2; high++) {
            v_store(r, v_load_u4(bytes + 1, high));
            for (int k = 0; k < VL; k++) assert_true(r[k] == (high ? bytes[k + 1] >> 4 : bytes[k + 1] & 15));
        }
    }
    assert_true(v_hsum(y) == sum);
    assert_true(v_hmax(y) == most);
    test_spans();

    /* a NaN is never greater or equal, and passes min and max as the second operand */
    v_store(r, v_ge_or(v_set1(NAN), v_set1(0), v_set1(1), v_set1(2)));
    assert_true(r[0] == 2);
    v_store(r, v_max(v_set1(0), v_set1(NAN)));
    assert_true(isnan(r[0]));
    v_store(r, v_min(v_set1(0), v_set1(NAN)));
    assert_true(isnan(r[0]));
}

static double silu(double x) {
    return x / (1 + exp(-x));
}
static double gelu(double x) {
    return x * 0.5 * erfc(-x * 0.70710678118654752440);
}
static double gelu_tanh(double x) {
    return x / (1 + exp(-2 * 0.79788456080286535588 * (x + 0.044715 * x * x * x)));
}

/* Largest relative error on `points` floats of [low, high], a third of them a thousand times smaller. */
static void check_function(const char *name, vf (*f)(vf), double (*exact)(double), double low, double high,
                           double tolerance) {
    enum { POINTS = 300000 };
    double worst = 0;
    for (int i = 0; i < POINTS; i += VL) {
        float x[VL], y[VL];
        for (int k = 0; k < VL; k++) {
            x[k] = (float)(low + (high - low) * (i + k) / POINTS);
            if ((i + k) % 3 == 0) x[k] *= 1e-3f;
        }
        v_store(y, f(v_load(x)));
        for (int k = 0; k < VL; k++) {
            const double want = exact((double)x[k]);
            if (want != 0) worst = fmax(worst, fabs((double)y[k] - want) / fabs(want));
        }
    }
    if (worst > tolerance) fail_msg("%s: relative error %g, expected at most %g", name, worst, tolerance);
}

static vf exp2_of(vf x) {
    return v_exp2(x);
}
static vf exp_of(vf x) {
    return v_exp_within(x);
}
static vf tanh_of(vf x) {
    return v_tanh(x);
}
static vf silu_of(vf x) {
    return v_activate(CLF_ACTIVATION_SILU, x);
}
static vf gelu_of(vf x) {
    return v_activate(CLF_ACTIVATION_GELU, x);
}
static vf gelu_tanh_of(vf x) {
    return v_activate(CLF_ACTIVATION_GELU_TANH, x);
}

static double silu_slope(double x) {
    return (1 + x / (1 + exp(x))) / (1 + exp(-x));
}
static double gelu_slope(double x) {
    return 0.5 * erfc(-x * 0.70710678118654752440) + x * 0.39894228040143267794 * exp(-0.5 * x * x);
}
static double gelu_tanh_slope(double x) {
    const double u = 2 * 0.79788456080286535588 * (x + 0.044715 * x * x * x);
    return (1 + x * 2 * 0.79788456080286535588 * (1 + 3 * 0.044715 * x * x) / (1 + exp(u))) / (1 + exp(-u));
}

/* Errors of the gates' slopes, which pass 0 once: absolute, and relative below `below`, beyond that place. */
static void check_slope(clf_activation activation, double (*exact)(double), double below, double relative) {
    for (int i = 0; i < 40000; i += VL) {
        float x[VL], y[VL];
        vf slope;
        for (int k = 0; k < VL; k++) x[k] = (float)(-8 + 20. * (i + k) / 40000);
        v_activate_slope(activation, v_load(x), &slope);
        v_store(y, slope);
        for (int k = 0; k < VL; k++) {
            const double want = exact((double)x[k]), error = fabs((double)y[k] - want);
            if (error > 3e-7 || ((double)x[k] < below && error > relative * fabs(want)))
                fail_msg("slope %d at %g: expected %.9g, got %.9g", (int)activation, (double)x[k], want, (double)y[k]);
        }
    }
    const float ends[] = {INFINITY, -INFINITY, 1e30f, -1e30f};
    for (int i = 0; i < 4; i++) {
        float y[VL];
        vf slope;
        v_activate_slope(activation, v_set1(ends[i]), &slope);
        v_store(y, slope);
        assert_true(fabs((double)y[0] - (i % 2 == 0)) < 1e-30);
    }
}

static void test_functions(void **state) {
    (void)state;
    check_slope(CLF_ACTIVATION_SILU, silu_slope, -2, 1e-6);
    check_slope(CLF_ACTIVATION_GELU, gelu_slope, -4, 2e-5);
    check_slope(CLF_ACTIVATION_GELU_TANH, gelu_tanh_slope, -4, 2e-5);
    check_function("exp2", exp2_of, exp2, -126, 127, 1.2e-7);
    check_function("exp", exp_of, exp, -87, 88, 1.2e-7);
    check_function("tanh", tanh_of, tanh, -20, 20, 2e-7);
    check_function("silu", silu_of, silu, -80, 80, 3e-7);
    check_function("gelu", gelu_of, gelu, -4, 10, 3e-6);
    check_function("gelu, tail", gelu_of, gelu, -9, -4, 2e-5);
    check_function("gelu_tanh", gelu_tanh_of, gelu_tanh, -4, 10, 3e-6);
    check_function("gelu_tanh, tail", gelu_tanh_of, gelu_tanh, -8, -4, 2e-5);

    float r[VL];
    v_store(r, v_exp2(v_set1(-INFINITY)));
    assert_true(r[0] == 0);
    v_store(r, v_exp2(v_set1(-127)));
    assert_true(r[0] == 0);
    vf (*const gates[])(vf) = {silu_of, gelu_of, gelu_tanh_of};
    for (int g = 0; g < 3; g++) {
        v_store(r, gates[g](v_set1(-INFINITY)));
        assert_true(r[0] <= 0 && r[0] > -1e-30f);
        v_store(r, gates[g](v_set1(-1e4f)));
        assert_true(r[0] <= 0 && r[0] > -1e-30f);
        v_store(r, gates[g](v_set1(INFINITY)));
        assert_true(r[0] == INFINITY);
        v_store(r, gates[g](v_set1(1e4f)));
        assert_true(r[0] == 1e4f);
        v_store(r, gates[g](v_set1(float_of(0xffffffff))));
        assert_true(isnan(r[0]));
    }
    v_store(r, v_tanh(v_set1(-INFINITY)));
    assert_true(r[0] == -1);
    v_store(r, v_tanh(v_set1(float_of(0xffffffff))));
    assert_true(isnan(r[0]));
}

static void test_transpose(void **state) {
    (void)state;
    vf a[VL];
    for (int i = 0; i < VL; i++) {
        float row[VL];
        for (int j = 0; j < VL; j++) row[j] = (float)(i * VL + j);
        a[i] = v_load(row);
    }
    v_transpose(a);
    for (int i = 0; i < VL; i++) {
        float row[VL];
        v_store(row, a[i]);
        for (int j = 0; j < VL; j++) assert_true(row[j] == (float)(j * VL + i));
    }
}

/* Whether this machine runs what the file was compiled for. */
static bool runs_here(void) {
#if defined(SIMD_avx2)
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); /* F16C came before them */
#elif defined(SIMD_avx512)
    return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512cd");
#elif defined(SIMD_avx512_bf16)
    return __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vbmi2");
#else
    return true;
#endif
}

/* The known answers that come with the paper's own program, in one lane each; other lanes hold other counters. */
static void test_philox(void **state) {
    (void)state;
    static const struct {
        uint32_t counter[4];
        uint64_t seed;
        uint32_t word[4];
    } known[] = {
        {{0, 0, 0, 0}, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         0xffffffffffffffff,
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         0x299f31d0a4093822,
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t n = 0; n < sizeof known / sizeof *known; n++)
        for (int lane = 0; lane < VL; lane++) {
            vu c[4];
            for (int i = 0; i < 4; i++) {
                uint32_t lanes[VL];
                for (int l = 0; l < VL; l++) lanes[l] = known[n].counter[i] + (uint32_t)(l - lane) * 77;
                c[i] = vu_load(lanes);
            }
            philox(c, known[n].seed);
            for (int i = 0; i < 4; i++) { /* kept from the very word on, not from the next one */
                float kept[VL];
                v_store(kept, vu_keep(c[i], vu_set1(known[n].word[i]), v_set1(2)));
                assert_true(kept[lane] == 2);
                v_store(kept, vu_keep(c[i], vu_set1(known[n].word[i] + 1), v_set1(2)));
                assert_true(kept[lane] == 0);
            }
        }
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dtype_from_16), cmocka_unit_test(test_dtype_to_16), cmocka_unit_test(test_conversions),
        cmocka_unit_test(test_partial),       cmocka_unit_test(test_arithmetic),  cmocka_unit_test(test_transpose),
        cmocka_unit_test(test_functions),     cmocka_unit_test(test_philox),
    };
    if (!runs_here()) {
        printf("skip: this CPU lacks the instruction set\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
