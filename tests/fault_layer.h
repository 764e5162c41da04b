/* fault_layer.h: allocations and file calls of the library that fail when asked to; cmake/tests/faults.cmake has the
 * linker put them in the place of the system's. _GNU_SOURCE is defined; included once in a program. */
#ifndef CLF_TESTS_FAULT_LAYER_H
#define CLF_TESTS_FAULT_LAYER_H

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Calls until one fails; the next `failing` ones do. Negative: none does. */
static atomic_int countdown, hits, outstanding;
static bool lasting;

static bool fails(void) {
    const int left = atomic_fetch_sub(&countdown, 1);
    if (left > 0 || (left < 0 && !lasting)) return false;
    atomic_fetch_add(&hits, 1);
    errno = ENOMEM;
    return true;
}

static void inject(int after) {
    atomic_store(&hits, 0);
    atomic_store(&countdown, after);
}
static void inject_nothing(void) {
    atomic_store(&countdown, 1 << 30);
}

static void *counted(void *p) {
    if (p) atomic_fetch_add(&outstanding, 1);
    return p;
}

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__real_aligned_alloc(size_t alignment, size_t n);
void __real_free(void *p);
int __real_open(const char *path, int flags, ...);
int __real_fstat(int fd, struct stat *info);
void *__real_mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset);
ssize_t __real_pread(int fd, void *data, size_t n, off_t offset);
ssize_t __real_read(int fd, void *data, size_t n);
ssize_t __real_pwrite(int fd, const void *data, size_t n, off_t offset);
int __real_ftruncate(int fd, off_t size);
char *__real_strdup(const char *s);
char *__real_strndup(const char *s, size_t n);
int __real_fsync(int fd);
int __real_rename(const char *from, const char *to);

void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_aligned_alloc(size_t alignment, size_t n);
int __wrap_asprintf(char **out, const char *format, ...) __attribute__((format(printf, 2, 3)));
void __wrap_free(void *p);
int __wrap_open(const char *path, int flags, ...);
int __wrap_fstat(int fd, struct stat *info);
void *__wrap_mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset);
ssize_t __wrap_pread(int fd, void *data, size_t n, off_t offset);
ssize_t __wrap_read(int fd, void *data, size_t n);
ssize_t __wrap_pwrite(int fd, const void *data, size_t n, off_t offset);
int __wrap_ftruncate(int fd, off_t size);
char *__wrap_strdup(const char *s);
char *__wrap_strndup(const char *s, size_t n);
int __wrap_fsync(int fd);
int __wrap_rename(const char *from, const char *to);

void *__wrap_malloc(size_t n) {
    return fails() ? NULL : counted(__real_malloc(n));
}
void *__wrap_calloc(size_t n, size_t size) {
    return fails() ? NULL : counted(__real_calloc(n, size));
}
void *__wrap_realloc(void *p, size_t n) {
    if (fails()) return NULL;
    return p ? __real_realloc(p, n) : counted(__real_realloc(p, n));
}
void *__wrap_aligned_alloc(size_t alignment, size_t n) {
    return fails() ? NULL : counted(__real_aligned_alloc(alignment, n));
}
int __wrap_asprintf(char **out, const char *format, ...) {
    if (fails()) return -1;
    va_list list;
    va_start(list, format);
    const int n = vasprintf(out, format, list);
    va_end(list);
    if (n >= 0) counted(*out);
    return n;
}
void __wrap_free(void *p) {
    if (p) atomic_fetch_sub(&outstanding, 1);
    __real_free(p);
}
int __wrap_open(const char *path, int flags, ...) {
    return fails() ? -1 : __real_open(path, flags, 0600);
}
int __wrap_fstat(int fd, struct stat *info) {
    return fails() ? -1 : __real_fstat(fd, info);
}
void *__wrap_mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset) {
    return fails() ? MAP_FAILED : __real_mmap(at, n, protection, flags, fd, offset);
}
ssize_t __wrap_pread(int fd, void *data, size_t n, off_t offset) {
    return fails() ? -1 : __real_pread(fd, data, n, offset);
}
ssize_t __wrap_read(int fd, void *data, size_t n) {
    return fails() ? -1 : __real_read(fd, data, n);
}
ssize_t __wrap_pwrite(int fd, const void *data, size_t n, off_t offset) {
    return fails() ? -1 : __real_pwrite(fd, data, n, offset);
}
int __wrap_ftruncate(int fd, off_t size) {
    return fails() ? -1 : __real_ftruncate(fd, size);
}
char *__wrap_strdup(const char *s) {
    return fails() ? NULL : counted(__real_strdup(s));
}
char *__wrap_strndup(const char *s, size_t n) {
    return fails() ? NULL : counted(__real_strndup(s, n));
}
int __wrap_fsync(int fd) {
    return fails() ? -1 : __real_fsync(fd);
}
int __wrap_rename(const char *from, const char *to) {
    return fails() ? -1 : __real_rename(from, to);
}

#endif
