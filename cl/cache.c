/* cache.c: compiled programs on disk. A file is named by its key and begins with a header: magic, size, and a hash of
 * key and payload, which is verified before a driver sees a byte, since drivers crash on damaged binaries. Files are
 * written under a temporary name and renamed, so that readers see whole files only. The directory is ours alone (mode
 * 0700): a hash is no signature. Where anything of this fails there is no cache, and no error. */
#define _GNU_SOURCE
#include "cl.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

enum { FORMAT = 1 };
static const size_t max_payload = (size_t)256 << 20;

typedef struct header {
    char magic[8];
    uint64_t size;
    clf_cl_key hash;
} header;

static const char magic[8] = {'c', 'l', 'f', 'c', 'l', 0, 0, FORMAT};

clf_cl_key clf_cl_key_of(int n, const char *const *parts) {
    XXH3_state_t *state = XXH3_createState();
    if (!state) return (clf_cl_key){0};
    XXH3_128bits_reset(state);
    for (int i = 0; i < n; i++) XXH3_128bits_update(state, parts[i], strlen(parts[i]) + 1); /* with the final zero */
    const XXH128_hash_t h = XXH3_128bits_digest(state);
    XXH3_freeState(state);
    return (clf_cl_key){h.low64, h.high64};
}

clf_cl_key clf_cl_key_with(clf_cl_key key, const void *data, size_t size) {
    const XXH128_hash_t h = XXH3_128bits_withSeed(data, size, key.low ^ key.high);
    return (clf_cl_key){h.low64 ^ key.low, h.high64 ^ key.high};
}

/* Opens the directory, made if need be; −1 unless it is a directory of ours that nobody else can enter. */
static int open_directory(const clf_context *ctx) {
    char path[4096];
    if (!ctx->cache_dir) return -1;
    const int n = snprintf(path, sizeof path, "%s/opencl", ctx->cache_dir);
    if (n < 0 || (size_t)n >= sizeof path) return -1;
    for (char *p = strchr(path + 1, '/'); p; p = strchr(p + 1, '/')) {
        *p = 0;
        mkdir(path, 0700);
        *p = '/';
    }
    mkdir(path, 0700);
    const int directory = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;
    if (directory >= 0 && (fstat(directory, &st) || st.st_uid != geteuid() || st.st_mode & 077)) {
        close(directory);
        return -1;
    }
    return directory;
}

static void name_of(char *name, size_t size, clf_cl_key key) {
    snprintf(name, size, "%016llx%016llx", (unsigned long long)key.high, (unsigned long long)key.low);
}

static bool read_all(int file, void *data, size_t size) {
    for (size_t done = 0; done < size;) {
        const ssize_t n = read(file, (char *)data + done, size - done);
        if (n <= 0) return false;
        done += (size_t)n;
    }
    return true;
}

static bool write_all(int file, const void *data, size_t size) {
    for (size_t done = 0; done < size;) {
        const ssize_t n = write(file, (const char *)data + done, size - done);
        if (n <= 0) return false;
        done += (size_t)n;
    }
    return true;
}

/* The payload of an open file, if header, size and hash agree. */
static bool read_verified(int file, clf_cl_key key, void **data, size_t *size) {
    header h;
    struct stat st;
    if (fstat(file, &st) || !S_ISREG(st.st_mode) || !read_all(file, &h, sizeof h)) return false;
    if (memcmp(h.magic, magic, sizeof magic) || h.size == 0 || h.size > max_payload) return false;
    if ((uint64_t)st.st_size != sizeof h + h.size) return false;
    void *payload = malloc(h.size);
    if (!payload) return false;
    const bool whole = read_all(file, payload, h.size);
    const clf_cl_key hash = whole ? clf_cl_key_with(key, payload, h.size) : (clf_cl_key){0};
    if (!whole || hash.low != h.hash.low || hash.high != h.hash.high) return free(payload), false;
    *data = payload;
    *size = h.size;
    return true;
}

bool clf_cl_cache_load(clf_context *ctx, clf_cl_key key, void **data, size_t *size) {
    char name[40];
    const int directory = open_directory(ctx);
    if (directory < 0) return false;
    name_of(name, sizeof name, key);
    const int file = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    const bool good = file >= 0 && read_verified(file, key, data, size);
    if (file >= 0) {
        close(file);
        if (!good) unlinkat(directory, name, 0);
    }
    close(directory);
    return good;
}

void clf_cl_cache_store(clf_context *ctx, clf_cl_key key, const void *data, size_t size) {
    char name[40], temporary[96];
    if (!size || size > max_payload) return;
    const int directory = open_directory(ctx);
    if (directory < 0) return;
    name_of(name, sizeof name, key);
    /* unique among live processes and their contexts */
    snprintf(temporary, sizeof temporary, "%s.%ld.%p", name, (long)getpid(), (void *)ctx);
    const int file = openat(directory, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (file >= 0) {
        header h = {.size = size, .hash = clf_cl_key_with(key, data, size)};
        memcpy(h.magic, magic, sizeof magic);
        bool good = write_all(file, &h, sizeof h) && write_all(file, data, size);
        good = close(file) == 0 && good;
        if (!good || renameat(directory, temporary, directory, name)) unlinkat(directory, temporary, 0);
    }
    close(directory);
}

static const char passed[] = "passed";

bool clf_cl_cache_passed(clf_context *ctx, clf_cl_key key) {
    void *data;
    size_t size;
    if (!clf_cl_cache_load(ctx, key, &data, &size)) return false;
    const bool known = size == sizeof passed && !memcmp(data, passed, size);
    free(data);
    return known;
}

void clf_cl_cache_pass(clf_context *ctx, clf_cl_key key) {
    clf_cl_cache_store(ctx, key, passed, sizeof passed);
}
