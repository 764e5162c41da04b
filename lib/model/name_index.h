/* name_index.h: from a name to its number, hashed (open addressing, XXH3). The index points at names, it doesn't copy
 * them: they must stay where they are. */
#ifndef CLF_MODEL_NAME_INDEX_H
#define CLF_MODEL_NAME_INDEX_H

#include "../core/status.h"

typedef struct clf_name_slot {
    const char *name; /* NULL: free */
    uint64_t length;
    int64_t number;
} clf_name_slot;

typedef struct clf_name_index {
    clf_name_slot *slot;
    uint64_t capacity, count; /* a power of two, at least twice the count */
} clf_name_index;

/* Adds a name. If it is already there, *earlier is its number and nothing changes; otherwise *earlier is -1. */
clf_status clf_name_index_add(clf_name_index *index, const char *name, uint64_t length, int64_t number,
                              int64_t *earlier, clf_error *err);
/* Its number, or -1. */
int64_t clf_name_index_find(const clf_name_index *index, const char *name, uint64_t length);
/* A zeroed index is empty; this makes it so again. */
void clf_name_index_free(clf_name_index *index);

#endif
