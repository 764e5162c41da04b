/* checked.h: the only size arithmetic on values from outside. Each returns false on overflow and leaves *out alone. */
#ifndef CLF_CORE_CHECKED_H
#define CLF_CORE_CHECKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline bool clf_add_u64(uint64_t a, uint64_t b, uint64_t *out) {
    uint64_t r;
    if (__builtin_add_overflow(a, b, &r)) return false;
    *out = r;
    return true;
}

static inline bool clf_mul_u64(uint64_t a, uint64_t b, uint64_t *out) {
    uint64_t r;
    if (__builtin_mul_overflow(a, b, &r)) return false;
    *out = r;
    return true;
}

/* Rounds up to a multiple of `alignment`, a power of two. */
static inline bool clf_align_u64(uint64_t a, uint64_t alignment, uint64_t *out) {
    uint64_t r;
    if (!clf_add_u64(a, alignment - 1, &r)) return false;
    *out = r & ~(alignment - 1);
    return true;
}

/* Product of n non-negative sizes; false if one is negative or the product exceeds INT64_MAX. */
static inline bool clf_product_i64(const int64_t *sizes, int n, int64_t *out) {
    int64_t r = 1;
    for (int i = 0; i < n; i++)
        if (sizes[i] < 0) return false;
    for (int i = 0; i < n; i++)
        if (sizes[i] == 0) return *out = 0, true;
    for (int i = 0; i < n; i++)
        if (__builtin_mul_overflow(r, sizes[i], &r)) return false;
    *out = r;
    return true;
}

#endif
