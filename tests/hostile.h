/* hostile.h: what the tests of hostile files share: bytes to build files of, a folder for them, and the rule that each
 * must be refused with a status and a message, in little time and memory. Numbers are those of the project's list of
 * hostile inputs. With "--seeds DIR" the files are also written there, as seeds for fuzzing. */
#ifndef CLF_TESTS_HOSTILE_H
#define CLF_TESTS_HOSTILE_H

#include "folder_case.h"

#include <ctype.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

#include "../lib/model/gguf.h"
#include "../lib/model/safetensors.h"

enum { MAX_SECONDS = 20, MAX_MEMORY_MIB = 3072 }; /* under sanitizers on a busy machine */

typedef struct bytes {
    uint8_t *data;
    size_t size, capacity;
} bytes;

static inline void put(bytes *b, const void *data, size_t size) {
    if (b->size + size > b->capacity) {
        b->capacity = 2 * (b->size + size) + 64;
        b->data = realloc(b->data, b->capacity);
        assert_non_null(b->data);
    }
    if (size) memcpy(b->data + b->size, data, size);
    b->size += size;
}
static inline void put_u8(bytes *b, uint8_t v) {
    put(b, &v, 1);
}
static inline void put_u32(bytes *b, uint32_t v) {
    put(b, &v, 4);
}
static inline void put_u64(bytes *b, uint64_t v) {
    put(b, &v, 8);
}
static inline void put_f32(bytes *b, float v) {
    put(b, &v, 4);
}
static inline void put_zeros(bytes *b, size_t n) {
    while (n--) put_u8(b, 0);
}
static inline void put_string(bytes *b, const char *s) {
    put_u64(b, strlen(s));
    put(b, s, strlen(s));
}

static const char *seeds;

static inline void save(const char *path, const void *data, size_t size) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    if (size) assert_int_equal(fwrite(data, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
}

static inline void save_seed(int item, const char *what, const bytes *b) {
    char path[600];
    if (!seeds || b->size > 4096) return;
    snprintf(path, sizeof path, "%s/%02d-%s", seeds, item, what);
    for (char *p = path + strlen(seeds) + 1; *p; p++)
        if (!isalnum((unsigned char)*p)) *p = '-';
    save(path, b->data, b->size);
}

static inline double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* What came of it is what was expected; `start` is when it began. */
static inline void expect(int item, const char *what, clf_status got, const clf_error *err, clf_status status,
                          const char *part, double start) {
    const double took = seconds() - start;
    if (got != status) fail_msg("%d, %s: expected status %d, got %d: %s", item, what, status, got, err->message);
    if (status != CLF_OK && (!err->message[0] || !strstr(err->message, part)))
        fail_msg("%d, %s: expected a message with \"%s\", got \"%s\"", item, what, part, err->message);
    if (took > MAX_SECONDS) fail_msg("%d, %s: took %.1f s", item, what, took);
}

/* A teardown in the place of remove_folder(). */
static inline int remove_and_weigh(void **state) {
    struct rusage usage;
    const int removed = remove_folder(state);
    getrusage(RUSAGE_SELF, &usage);
    print_message("largest resident size: %ld MiB\n", usage.ru_maxrss >> 10);
    return removed || usage.ru_maxrss >> 10 > MAX_MEMORY_MIB;
}

#endif
