/* source.c: opening, mapping and reading files. A file that is read gets an address range of its size without memory
 * behind it (MAP_NORESERVE); reading fills parts of it, so that pointers into it stay valid while more is read. */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS, MAP_NORESERVE, madvise() */
#include "source.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { READ_AHEAD = 1 << 16 }; /* parsers ask for a few bytes at a time */

static clf_status fail_errno(clf_error *err, const char *what, int error) {
    const clf_status status = error == ENOENT || error == ENOTDIR ? CLF_NOT_FOUND
                              : error == ENOMEM                   ? CLF_OUT_OF_MEMORY
                                                                  : CLF_IO_ERROR;
    char text[128] = "";
    if (strerror_r(error, text, sizeof text)) text[0] = 0;
    return clf_fail(err, status, "%s: %s", what, text);
}

clf_status clf_source_wrap(clf_source *s, const void *data, uint64_t size, clf_error *err) {
    *s = (clf_source){0};
    CLF_CHECK(err, data || !size, CLF_INVALID_ARGUMENT, "data: expected %llu bytes, got NULL",
              (unsigned long long)size);
    s->data = data;
    s->size = size;
    return CLF_OK;
}

clf_status clf_source_open(clf_source *s, const char *path, bool map, clf_error *err) {
    *s = (clf_source){0};
    CLF_CHECK(err, path && *path, CLF_INVALID_ARGUMENT, "path: expected a file name, got %s", path ? "\"\"" : "NULL");
    clf_status st = CLF_OK;
    struct stat info;
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) return fail_errno(err, path, errno);
    if (fstat(fd, &info)) {
        st = fail_errno(err, path, errno);
        goto fail;
    }
    if (!S_ISREG(info.st_mode)) {
        st = clf_fail(err, CLF_BAD_FILE, "%s: expected a regular file, got %s", path,
                      S_ISDIR(info.st_mode) ? "a folder" : "something else");
        goto fail;
    }
    s->size = (uint64_t)info.st_size;
    s->device = (uint64_t)info.st_dev;
    s->inode = (uint64_t)info.st_ino;
    if (s->size > SIZE_MAX / 2) {
        st = clf_fail(err, CLF_UNSUPPORTED, "%s: %llu bytes do not fit in the address space", path,
                      (unsigned long long)s->size);
        goto fail;
    }
    if (s->size) {
        void *p = map ? mmap(NULL, (size_t)s->size, PROT_READ, MAP_PRIVATE, fd, 0)
                      : mmap(NULL, (size_t)s->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                             -1, 0);
        if (p == MAP_FAILED) {
            st = fail_errno(err, path, errno);
            goto fail;
        }
        s->data = p;
        s->mapped = s->size;
    }
    if (map)
        close(fd);
    else
        s->fd = fd, s->reading = true;
    return CLF_OK;

fail:
    close(fd);
    *s = (clf_source){0};
    return st;
}

static clf_status fill(clf_source *s, uint64_t begin, uint64_t end, clf_error *err) {
    const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    if (pages > 0 && page > 0 && (end - begin) / (uint64_t)page > (uint64_t)pages)
        return clf_fail(err, CLF_OUT_OF_MEMORY, "reading needs %llu bytes, this machine has %llu",
                        (unsigned long long)(end - begin), (unsigned long long)pages * (unsigned long long)page);
    while (begin < end) {
        const size_t chunk = end - begin < (1u << 30) ? (size_t)(end - begin) : 1 << 30;
        const ssize_t got = pread(s->fd, (uint8_t *)(uintptr_t)s->data + begin, chunk, (off_t)begin);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return fail_errno(err, "read", errno);
        if (!got)
            return clf_fail(err, CLF_IO_ERROR, "read: the file became shorter than %llu bytes",
                            (unsigned long long)end);
        begin += (uint64_t)got;
    }
    return CLF_OK;
}

clf_status clf_source_need(clf_source *s, uint64_t begin, uint64_t end, clf_error *err) {
    CLF_CHECK(err, begin <= end && end <= s->size, CLF_BAD_FILE,
              "the file ends too early: expected %llu bytes, got %llu", (unsigned long long)end,
              (unsigned long long)s->size);
    if (!s->reading || end <= s->prefix) return CLF_OK;
    if (begin > s->prefix) return fill(s, begin, end, err);
    const uint64_t ahead = s->size - end < READ_AHEAD ? s->size : end + READ_AHEAD;
    CLF_TRY(fill(s, s->prefix, ahead, err));
    s->prefix = ahead;
    return CLF_OK;
}

void clf_source_ask_large(const clf_source *s) {
#if defined(MADV_HUGEPAGE)
    if (s->mapped && !s->reading) madvise((void *)(uintptr_t)s->data, (size_t)s->size, MADV_HUGEPAGE);
#else
    (void)s;
#endif
}

void clf_source_forget(const void *data, uint64_t bytes) {
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), at = (uintptr_t)data;
    const uintptr_t begin = (at + page - 1) / page * page, end = (at + bytes) / page * page;
    if (begin < end) madvise((void *)begin, end - begin, MADV_DONTNEED); /* a failure only leaves them there */
}

bool clf_source_is_at(const clf_source *s, const char *path) {
    struct stat info;
    return s->inode && !stat(path, &info) && s->device == (uint64_t)info.st_dev && s->inode == (uint64_t)info.st_ino;
}

void clf_source_seal(clf_source *s) {
    if (s->reading) close(s->fd);
    s->reading = false;
}

void clf_source_close(clf_source *s) {
    clf_source_seal(s);
    if (s->mapped) munmap((void *)(uintptr_t)s->data, (size_t)s->mapped);
    *s = (clf_source){0};
}
