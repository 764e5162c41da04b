/* encode_pack.h: codes of values into the bits of a block, as decode.c tells where they lie. */
#ifndef CLF_CPU_ENCODE_PACK_H
#define CLF_CPU_ENCODE_PACK_H

#include "cpu.h"

/* False: too large for a half, or NaN. */
static inline bool put_half(uint8_t *b, float v) {
    const uint16_t u = clf_f32_to_f16(v);
    memcpy(b, &u, sizeof u);
    return (u & 0x7c00) != 0x7c00;
}

/* The low four bits of 2n codes: n bytes of codes j (low) and n + j (high) */
INLINE void put_nibbles(uint8_t *restrict b, const uint8_t *restrict q, int n) {
    for (int j = 0; j < n; j++) b[j] = (uint8_t)((q[j] & 15) | q[n + j] << 4);
}

/* The fifth bits of 32 codes, in order */
INLINE void put_fifth(uint8_t *restrict b, const uint8_t *restrict q) {
    uint32_t high = 0;
    for (int j = 0; j < 32; j++) high |= (uint32_t)(q[j] >> 4) << j;
    memcpy(b, &high, sizeof high);
}

/* Two bits, from `shift` on, of 256 codes: pair p of byte j of each 32 is code 32p + j of 128. */
INLINE void put_pairs(uint8_t *restrict b, const uint8_t *restrict q, int shift) {
    for (int h = 0; h < 2; h++)
        for (int j = 0; j < 32; j++) {
            const uint8_t *v = q + 128 * h + j;
            b[32 * h + j] = (uint8_t)((v[0] >> shift & 3) | (v[32] >> shift & 3) << 2 | (v[64] >> shift & 3) << 4 |
                                      (v[96] >> shift & 3) << 6);
        }
}

/* Bit `shift` of 256 codes: bit g of byte j is code 32g + j. */
INLINE void put_bits(uint8_t *restrict b, const uint8_t *restrict q, int shift) {
    for (int j = 0; j < 32; j++) b[j] = 0;
    for (int g = 0; g < 8; g++)
        for (int j = 0; j < 32; j++) b[j] = (uint8_t)(b[j] | (q[32 * g + j] >> shift & 1) << g);
}

#endif
