/* random.h: splitmix64 (Steele, Lea and Flood, OOPSLA 2014): a seed's sequence of words, and the way from one seed to
 * others. */
#ifndef CLF_CORE_RANDOM_H
#define CLF_CORE_RANDOM_H

#include <stdint.h>

static inline uint64_t clf_splitmix64(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* The seed of stream `index` of `seed`. */
static inline uint64_t clf_seed_of(uint64_t seed, uint64_t index) {
    uint64_t state = seed;
    state = clf_splitmix64(&state) ^ index;
    return clf_splitmix64(&state);
}

#endif
