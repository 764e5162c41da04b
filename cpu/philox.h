/* philox.h: Philox4×32-10 (Salmon et al., SC 2011), the random words of dropout, a counter in every lane; and the few
 * words for vectors of 32-bit integers that it takes: vu is VL of them. */
#ifndef CLF_CPU_PHILOX_H
#define CLF_CPU_PHILOX_H

#include "simd.h"

/* vu_mul(x, m, &high): the low halves of x · m, m the same in all lanes; vu_keep: x where word ≥ least, else 0. */
#if defined(__AVX512F__)
typedef __m512i vu;
INLINE vu vu_set1(uint32_t a) {
    return _mm512_set1_epi32((int)a);
}
INLINE vu vu_load(const uint32_t *p) {
    return _mm512_loadu_si512(p);
}
INLINE vu vu_xor(vu a, vu b) {
    return _mm512_xor_si512(a, b);
}
INLINE vu vu_mul(vu x, vu m, vu *high) {
    const vu even = _mm512_mul_epu32(x, m), odd = _mm512_mul_epu32(_mm512_srli_epi64(x, 32), m);
    *high = _mm512_mask_blend_epi32(0xaaaa, _mm512_srli_epi64(even, 32), odd);
    return _mm512_mask_blend_epi32(0xaaaa, even, _mm512_slli_epi64(odd, 32));
}
INLINE vf vu_keep(vu word, vu least, vf x) {
    return _mm512_maskz_mov_ps(_mm512_cmpge_epu32_mask(word, least), x);
}
#elif defined(__AVX2__)
typedef __m256i vu;
INLINE vu vu_set1(uint32_t a) {
    return _mm256_set1_epi32((int)a);
}
INLINE vu vu_load(const uint32_t *p) {
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}
INLINE vu vu_xor(vu a, vu b) {
    return _mm256_xor_si256(a, b);
}
INLINE vu vu_mul(vu x, vu m, vu *high) {
    const vu even = _mm256_mul_epu32(x, m), odd = _mm256_mul_epu32(_mm256_srli_epi64(x, 32), m);
    *high = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
    return _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
}
INLINE vf vu_keep(vu word, vu least, vf x) {
    return _mm256_and_ps(_mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_max_epu32(word, least), word)), x);
}
#elif defined(__ARM_NEON) && defined(__aarch64__) && !defined(CLF_SIMD_OFF)
typedef uint32x4_t vu;
INLINE vu vu_set1(uint32_t a) {
    return vdupq_n_u32(a);
}
INLINE vu vu_load(const uint32_t *p) {
    return vld1q_u32(p);
}
INLINE vu vu_xor(vu a, vu b) {
    return veorq_u32(a, b);
}
INLINE vu vu_mul(vu x, vu m, vu *high) {
    const vu low = vreinterpretq_u32_u64(vmull_u32(vget_low_u32(x), vget_low_u32(m)));
    const vu upper = vreinterpretq_u32_u64(vmull_u32(vget_high_u32(x), vget_low_u32(m)));
    *high = vuzp2q_u32(low, upper);
    return vuzp1q_u32(low, upper);
}
INLINE vf vu_keep(vu word, vu least, vf x) {
    return vreinterpretq_f32_u32(vandq_u32(vcgeq_u32(word, least), vreinterpretq_u32_f32(x)));
}
#else
typedef uint32_t vu;
INLINE vu vu_set1(uint32_t a) {
    return a;
}
INLINE vu vu_load(const uint32_t *p) {
    return *p;
}
INLINE vu vu_xor(vu a, vu b) {
    return a ^ b;
}
INLINE vu vu_mul(vu x, vu m, vu *high) {
    const uint64_t product = (uint64_t)x * m;
    *high = (uint32_t)(product >> 32);
    return (uint32_t)product;
}
INLINE vf vu_keep(vu word, vu least, vf x) {
    return word >= least ? x : 0;
}
#endif

/* The four words of counter c, in place of it. */
INLINE void philox(vu c[4], uint64_t seed) {
    const vu m0 = vu_set1(0xd2511f53), m1 = vu_set1(0xcd9e8d57);
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    UNROLL for (int round = 0; round < 10; round++, k0 += 0x9e3779b9, k1 += 0xbb67ae85) {
        vu high0, high1;
        const vu low0 = vu_mul(c[0], m0, &high0), low1 = vu_mul(c[2], m1, &high1);
        c[0] = vu_xor(vu_xor(high1, c[1]), vu_set1(k0));
        c[2] = vu_xor(vu_xor(high0, c[3]), vu_set1(k1));
        c[1] = low1;
        c[3] = low0;
    }
}

#endif
