/* permutation.c: the Feistel network of permutation.h; F is the finalizer of SplitMix64. */
#include "permutation.h"

static uint64_t mix(uint64_t x) {
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return x ^ x >> 31;
}

clf_permutation clf_permutation_of(uint64_t seed, uint64_t stream, uint64_t n) {
    clf_permutation p = {.n = n, .bits = 4}; /* a smaller domain has too few orders to reach all of them */
    while (p.bits < 31 && (uint64_t)1 << 2 * p.bits < n) p.bits++;
    for (int i = 0; i < CLF_PERMUTATION_ROUNDS; i++) p.keys[i] = mix(mix(mix(seed) ^ stream) + (uint64_t)i);
    return p;
}

uint64_t clf_permute(const clf_permutation *p, uint64_t i) {
    const uint64_t mask = ((uint64_t)1 << p->bits) - 1;
    do {
        uint64_t l = i >> p->bits, r = i & mask;
        for (int k = 0; k < CLF_PERMUTATION_ROUNDS; k++) {
            const uint64_t next = l ^ (mix(r ^ p->keys[k]) & mask);
            l = r;
            r = next;
        }
        i = l << p->bits | r;
    } while (i >= p->n);
    return i;
}
