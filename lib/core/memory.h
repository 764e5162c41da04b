/* memory.h: the pool. Every byte that a context holds on its device comes from here: size classes (four a power of two,
 * 64-byte multiples), freed blocks kept for reuse, a hard limit on what is held, statistics by tag. Ops take their
 * scratch one after another and in many sizes: the largest block of it serves all. */
#ifndef CLF_CORE_MEMORY_H
#define CLF_CORE_MEMORY_H

#include <stdatomic.h>

#include <clformer/memory.h>

#include "backend.h"

enum { CLF_POOL_CLASSES = 4 * 64 };

/* Storage of tensors, counted. Made by clf_buffer_create (pool) or clf_buffer_wrap (somebody's host memory). */
typedef struct clf_buffer {
    atomic_int references;
    clf_context *ctx;
    clf_memory memory; /* .size: the class's */
    size_t asked;
    clf_memory_tag tag;
    int size_class;              /* -1: wrapped */
    void (*release)(void *user); /* of wrapped memory; may be NULL */
    void *user;
    struct clf_buffer *next; /* in the free list */
} clf_buffer;

typedef struct clf_pool {
    clf_buffer *free_list[CLF_POOL_CLASSES];
    clf_buffer *scratch; /* the largest block of scratch, while it is free; NULL: it isn't, or there is none */
    clf_memory_stats stats;
} clf_pool;

clf_status clf_buffer_create(clf_buffer **out, clf_context *ctx, size_t bytes, clf_memory_tag tag);
clf_status clf_buffer_wrap(clf_buffer **out, clf_context *ctx, void *data, size_t bytes, void (*release)(void *),
                           void *user);
void clf_buffer_retain(clf_buffer *buffer);
void clf_buffer_release(clf_buffer *buffer); /* NULL is accepted */
/* Bytes that the pool takes from the device for `bytes`. */
uint64_t clf_pool_block(uint64_t bytes);
/* Frees what is kept for reuse. */
void clf_pool_trim(clf_context *ctx);

#endif
