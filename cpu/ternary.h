/* ternary.h: the layouts T2 and T1 (base.h): where the parts of a panel of 16 rows lie, and its codes, value + 1:
 *
 *     codes of a block:  [256 / 4][16 rows][4]: step s holds each row's values at 4s … 4s + 3
 *
 * T2's code 3 is the value 2, which TQ2_0 and Q2_0 can hold. T1 has no more than three codes; bytes that no encoder
 * makes (above 242, in a block's last word above 80) mean nothing in particular. */
#ifndef CLF_CPU_TERNARY_H
#define CLF_CPU_TERNARY_H

#include "cpu.h"

enum {
    T_ROWS = CLF_PANEL_ROWS,
    T_BLOCK = 256, /* values a scale */
    T_WORD = 64,   /* bytes: four of each row */
    T_STEPS = T_BLOCK / 4,
    T2_WORDS = 16, /* a block */
    T1_WORDS = 13
};

typedef uint8_t ternary_codes[T_STEPS][T_WORD];

INLINE size_t ternary_block_bytes(clf_dtype dtype) {
    return (size_t)(dtype == CLF_T1 ? T1_WORDS : T2_WORDS) * T_WORD;
}
INLINE size_t ternary_panel_bytes(clf_dtype dtype, int64_t k) {
    return T_ROWS * clf_dtype_bytes(dtype, k);
}
/* The halves of a block. */
INLINE const uint8_t *ternary_scales(const void *panel, int64_t block) {
    return (const uint8_t *)panel + block * T_ROWS * 2;
}
INLINE const uint8_t *ternary_words(clf_dtype dtype, const void *panel, int64_t k, int64_t block) {
    return (const uint8_t *)panel + k / T_BLOCK * T_ROWS * 2 + (size_t)block * ternary_block_bytes(dtype);
}

/* The four planes of a T2 word. */
INLINE void ternary_planes(const uint8_t *word, uint8_t (*out)[T_WORD]) {
    for (int i = 0; i < T_WORD; i++) {
        const uint8_t v = word[i];
        out[0][i] = v & 3;
        out[1][i] = v >> 2 & 3;
        out[2][i] = v >> 4 & 3;
        out[3][i] = v >> 6;
    }
}

/* The first `digits` base-3 digits of a T1 word. v · 171 >> 9 is v / 3 for a byte. */
INLINE void ternary_digits(const uint8_t *word, int digits, uint8_t (*out)[T_WORD]) {
    uint8_t v[T_WORD];
    memcpy(v, word, T_WORD);
    for (int p = 0; p < digits; p++)
        for (int i = 0; i < T_WORD; i++) {
            const uint8_t third = (uint8_t)(v[i] * 171 >> 9);
            out[p][i] = (uint8_t)(v[i] - 3 * third);
            v[i] = third;
        }
}

/* A block's codes, from its words. */
INLINE void ternary_expand(clf_dtype dtype, const uint8_t *words, ternary_codes out) {
    if (dtype == CLF_T2)
        for (int j = 0; j < T2_WORDS; j++) ternary_planes(words + j * T_WORD, out + 4 * j);
    else
        for (int j = 0; j < T1_WORDS; j++) ternary_digits(words + j * T_WORD, j < T1_WORDS - 1 ? 5 : 4, out + 5 * j);
}

/* Block `block` of row r of a panel as floats. */
INLINE void ternary_decode(clf_dtype dtype, const void *panel, int64_t k, int r, int64_t block, float *out) {
    const uint8_t *words = ternary_words(dtype, panel, k, block);
    uint16_t half;
    memcpy(&half, ternary_scales(panel, block) + 2 * r, sizeof half);
    const float d = clf_f16_to_f32(half);
    const int digits = dtype == CLF_T1 ? 5 : 4, base = dtype == CLF_T1 ? 3 : 4;
    for (int step = 0; step < T_STEPS; step++) {
        const uint8_t *four = words + step / digits * T_WORD + 4 * r;
        int power = 1;
        for (int p = 0; p < step % digits; p++) power *= base;
        for (int i = 0; i < 4; i++) out[4 * step + i] = d * (float)(four[i] / power % base - 1);
    }
}

#endif
