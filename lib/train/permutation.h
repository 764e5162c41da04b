/* permutation.h: 0 … n − 1 in an order that a seed decides, without storing it.
 *
 * A Feistel network over the smallest domain of 4^bits ≥ n: (l, r) → (r, l ^ F(key, r)), ROUNDS times, is a bijection
 * whatever F is; from an image outside 0 … n − 1 one goes on until it is inside, which is a bijection of what is
 * inside. */
#ifndef CLF_TRAIN_PERMUTATION_H
#define CLF_TRAIN_PERMUTATION_H

#include <stdint.h>

enum { CLF_PERMUTATION_ROUNDS = 6 };

typedef struct clf_permutation {
    uint64_t n;
    unsigned bits; /* of each half */
    uint64_t keys[CLF_PERMUTATION_ROUNDS];
} clf_permutation;

/* The order number `stream` of those that `seed` gives; n ≤ 2^62. */
clf_permutation clf_permutation_of(uint64_t seed, uint64_t stream, uint64_t n);
/* Where `i` < n goes. */
uint64_t clf_permute(const clf_permutation *p, uint64_t i);

#endif
