/* name_index.c: a hash table of names. The seed is the table's address, so that a file cannot be made to collide. */
#include "name_index.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* The slot that holds the name, or the free one where it belongs. */
static clf_name_slot *probe(clf_name_slot *slot, uint64_t capacity, const char *name, uint64_t length) {
    uint64_t i = XXH3_64bits_withSeed(name, (size_t)length, (XXH64_hash_t)(uintptr_t)slot);
    for (;; i++) {
        clf_name_slot *s = &slot[i & (capacity - 1)];
        if (!s->name || (s->length == length && !memcmp(s->name, name, (size_t)length))) return s;
    }
}

static clf_status grow(clf_name_index *index, clf_error *err) {
    const uint64_t capacity = index->capacity ? 2 * index->capacity : 64;
    clf_name_slot *slot = calloc((size_t)capacity, sizeof *slot);
    CLF_CHECK(err, slot, CLF_OUT_OF_MEMORY, "out of memory for %llu names", (unsigned long long)capacity);
    for (uint64_t i = 0; i < index->capacity; i++)
        if (index->slot[i].name) *probe(slot, capacity, index->slot[i].name, index->slot[i].length) = index->slot[i];
    free(index->slot);
    index->slot = slot;
    index->capacity = capacity;
    return CLF_OK;
}

clf_status clf_name_index_add(clf_name_index *index, const char *name, uint64_t length, int64_t number,
                              int64_t *earlier, clf_error *err) {
    if (2 * index->count >= index->capacity) CLF_TRY(grow(index, err));
    clf_name_slot *s = probe(index->slot, index->capacity, name, length);
    *earlier = s->name ? s->number : -1;
    if (s->name) return CLF_OK;
    *s = (clf_name_slot){name, length, number};
    index->count++;
    return CLF_OK;
}

int64_t clf_name_index_find(const clf_name_index *index, const char *name, uint64_t length) {
    if (!index->capacity) return -1;
    const clf_name_slot *s = probe(index->slot, index->capacity, name, length);
    return s->name ? s->number : -1;
}

void clf_name_index_free(clf_name_index *index) {
    free(index->slot);
    *index = (clf_name_index){0};
}
