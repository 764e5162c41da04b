/* roof_isa.c: the loops of roof_isa.h over simd.h, compiled once per instruction set with -DCLF_ISA=avx2 and so on. */
#include "roof_isa.h"

#include "../cpu/simd.h"

#define PASTE_(a, b) a##b
#define PASTE(a, b)  PASTE_(a, b)

enum { WIDE = 8, CHAINS = 12 }; /* vectors a step; chains that hide a multiply-add's latency */

static float read_all(const float *x, int64_t n) {
    vf sum[WIDE];
    UNROLL for (int i = 0; i < WIDE; i++) sum[i] = v_set1(0);
    for (int64_t i = 0; i < n; i += WIDE * VL)
        UNROLL for (int c = 0; c < WIDE; c++) sum[c] = v_add(sum[c], v_load(x + i + c * VL));
    float total = 0;
    UNROLL for (int i = 0; i < WIDE; i++) total += v_hsum(sum[i]);
    return total;
}

static void copy(float *out, const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i += WIDE * VL)
        UNROLL for (int c = 0; c < WIDE; c++) v_store(out + i + c * VL, v_load(x + i + c * VL));
}

static void copy_stream(float *out, const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i += WIDE * VL)
        UNROLL for (int c = 0; c < WIDE; c++) v_stream(out + i + c * VL, v_load(x + i + c * VL));
    v_stream_end();
}

static void triad(float *out, const float *x, const float *y, int64_t n) {
    const vf three = v_set1(3);
    for (int64_t i = 0; i < n; i += WIDE * VL)
        UNROLL for (int c = 0; c < WIDE; c++)
            v_store(out + i + c * VL, v_fma(three, v_load(y + i + c * VL), v_load(x + i + c * VL)));
}

static void triad_stream(float *out, const float *x, const float *y, int64_t n) {
    const vf three = v_set1(3);
    for (int64_t i = 0; i < n; i += WIDE * VL)
        UNROLL for (int c = 0; c < WIDE; c++)
            v_stream(out + i + c * VL, v_fma(three, v_load(y + i + c * VL), v_load(x + i + c * VL)));
    v_stream_end();
}

static float fma_rate(int64_t rounds, double *done) {
    vf a[CHAINS];
    const vf x = v_set1(0.999f), y = v_set1(1e-3f);
    UNROLL for (int i = 0; i < CHAINS; i++) a[i] = v_set1((float)i);
    for (int64_t k = 0; k < rounds; k++) UNROLL for (int i = 0; i < CHAINS; i++) a[i] = v_fma(a[i], x, y);
    float total = 0;
    UNROLL for (int i = 0; i < CHAINS; i++) total += v_hsum(a[i]);
    *done = 2.0 * CHAINS * VL;
    return total;
}

/* acc += a · b by four: VNNI's instruction, or the pairs of AVX2 and NEON that stand for it. */
#if defined(__AVX512VNNI__)
typedef __m512i vi;
#define VI_SET1(x)      _mm512_set1_epi8(x)
#define VI_DOT(s, a, b) _mm512_dpbusd_epi32(s, a, b)
#elif defined(__AVX512BW__)
typedef __m512i vi;
#define VI_SET1(x)      _mm512_set1_epi8(x)
#define VI_DOT(s, a, b) _mm512_add_epi32(s, _mm512_madd_epi16(_mm512_maddubs_epi16(a, b), _mm512_set1_epi16(1)))
#elif defined(__AVX2__)
typedef __m256i vi;
#define VI_SET1(x)      _mm256_set1_epi8(x)
#define VI_DOT(s, a, b) _mm256_add_epi32(s, _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), _mm256_set1_epi16(1)))
#elif defined(__ARM_NEON) && defined(__aarch64__) && !defined(CLF_SIMD_OFF)
typedef int32x4_t vi;
#define VI_SET1(x)      vreinterpretq_s32_s8(vdupq_n_s8(x))
static inline vi neon_dot(vi s, vi a, vi b) {
    const int8x16_t x = vreinterpretq_s8_s32(a), y = vreinterpretq_s8_s32(b);
    const int16x8_t low = vmull_s8(vget_low_s8(x), vget_low_s8(y));
    return vpadalq_s16(s, vmlal_s8(low, vget_high_s8(x), vget_high_s8(y)));
}
#define VI_DOT(s, a, b) neon_dot(s, a, b)
#else
typedef int32_t vi;
#define VI_SET1(x)      ((int8_t)(x))
#define VI_DOT(s, a, b) ((s) + (int32_t)(int8_t)(a) * (int8_t)(b))
#endif

static int32_t int8_rate(int64_t rounds, double *done) {
    vi sum[CHAINS], a = VI_SET1(1), b = VI_SET1(2);
    UNROLL for (int i = 0; i < CHAINS; i++) sum[i] = VI_SET1(0);
    for (int64_t k = 0; k < rounds; k++) {
        __asm__ volatile("" : "+m"(a), "+m"(b)); /* or the products would be the same every round */
        UNROLL for (int i = 0; i < CHAINS; i++) sum[i] = VI_DOT(sum[i], a, b);
    }
    int32_t total[CHAINS];
    UNROLL for (int i = 0; i < CHAINS; i++) memcpy(&total[i], &sum[i], sizeof total[i]);
    for (int i = 1; i < CHAINS; i++) total[0] += total[i];
    *done = 2.0 * CHAINS * (sizeof(vi) == sizeof(int32_t) ? 1 : sizeof(vi));
    return total[0];
}

static void softmax(float *x, int64_t n, int64_t length, float scale) {
    const int64_t whole = n / VL * VL;
    const vf unit = v_set1(scale * 1.44269504f);
    vf max = v_set1(-INFINITY), sum = v_set1(0);
    for (int64_t i = 0; i < whole; i += VL) max = v_max(max, v_load(x + i));
    float top = v_hmax(max), total = 0, e[VL];
    for (int64_t i = whole; i < n; i++) top = x[i] > top ? x[i] : top;
    max = v_set1(top);
    for (int64_t i = 0; i < whole; i += VL) {
        const vf p = v_exp2(v_mul(unit, v_sub(v_load(x + i), max)));
        v_store(x + i, p);
        sum = v_add(sum, p);
    }
    for (int64_t i = whole; i < n; i++) {
        v_store(e, v_exp2(v_mul(unit, v_set1(x[i] - top))));
        total += x[i] = *e;
    }
    const float share = 1 / (total + v_hsum(sum));
    for (int64_t i = 0; i < whole; i += VL) v_store(x + i, v_mul(v_set1(share), v_load(x + i)));
    for (int64_t i = whole; i < length; i++) x[i] = i < n ? x[i] * share : 0;
}

static bool usable(void) {
#if defined(__AVX2__)
    __builtin_cpu_init();
    bool ok = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#if defined(__AVX512F__)
    ok = ok && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#endif
#if defined(__AVX512VNNI__)
    ok = ok && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16") &&
         __builtin_cpu_supports("avx512vbmi2");
#endif
    return ok;
#else
    return true;
#endif
}

extern const roof_isa PASTE(roof_, CLF_ISA);
const roof_isa PASTE(roof_, CLF_ISA) = {CLF_ISA_NAME, usable,       read_all, copy,      copy_stream,
                                        triad,        triad_stream, fma_rate, int8_rate, softmax};
