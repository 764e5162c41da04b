/* output_file.c: writing a file under a temporary name. */
#include "output_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ATTEMPTS = 100 };

clf_status clf_fail_errno(clf_error *err, const char *what, const char *path, int error) {
    char text[128] = "";
    if (strerror_r(error, text, sizeof text)) text[0] = 0;
    const clf_status status = error == ENOENT || error == ENOTDIR ? CLF_NOT_FOUND
                              : error == ENOMEM                   ? CLF_OUT_OF_MEMORY
                                                                  : CLF_IO_ERROR;
    return clf_fail(err, status, "%s %s: %s", what, path, text);
}

static void release(clf_output_file *f) {
    free(f->path);
    free(f->temporary);
    *f = (clf_output_file){0};
}

clf_status clf_output_file_create(clf_output_file *f, const char *path, clf_error *err) {
    *f = (clf_output_file){0};
    CLF_CHECK(err, path && *path, CLF_INVALID_ARGUMENT, "path: expected a file name");
    const size_t size = strlen(path) + 1;
    f->path = malloc(size);
    f->temporary = malloc(size + 32);
    if (!f->path || !f->temporary) {
        release(f);
        return clf_fail(err, CLF_OUT_OF_MEMORY, "out of memory for a path");
    }
    memcpy(f->path, path, size);
    f->fd = -1;
    int error = EEXIST;
    for (int i = 0; i < ATTEMPTS && f->fd < 0 && error == EEXIST; i++) {
        snprintf(f->temporary, size + 32, "%s.%ld.%d.tmp", path, (long)getpid(), i);
        f->fd = open(f->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        error = errno;
    }
    if (f->fd >= 0) return CLF_OK;
    release(f);
    return clf_fail_errno(err, "create", path, error);
}

clf_status clf_output_file_write(clf_output_file *f, uint64_t offset, const void *data, uint64_t bytes,
                                 clf_error *err) {
    const char *p = data;
    while (bytes) {
        const size_t chunk = bytes < (1u << 30) ? (size_t)bytes : 1u << 30;
        const ssize_t n = pwrite(f->fd, p, chunk, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return clf_fail_errno(err, "write", f->path, n ? errno : ENOSPC);
        p += n;
        offset += (uint64_t)n;
        bytes -= (uint64_t)n;
    }
    return CLF_OK;
}

void clf_sync_folder_of(const char *path) {
    const char *slash = strrchr(path, '/');
    char *folder = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
    const int fd = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
    free(folder);
}

clf_status clf_output_file_finish(clf_output_file *f, uint64_t size, clf_error *err) {
    const char *failed = ftruncate(f->fd, (off_t)size) ? "resize" : fsync(f->fd) ? "sync" : NULL;
    int error = errno;
    if (close(f->fd) && !failed) failed = "close", error = errno;
    f->fd = -1;
    if (!failed && rename(f->temporary, f->path)) failed = "rename", error = errno;
    if (failed) {
        const clf_status st = clf_fail_errno(err, failed, f->path, error);
        unlink(f->temporary);
        release(f);
        return st;
    }
    clf_sync_folder_of(f->path);
    release(f);
    return CLF_OK;
}

void clf_output_file_discard(clf_output_file *f) {
    if (!f->temporary) return;
    close(f->fd);
    unlink(f->temporary);
    release(f);
}

clf_status clf_output_file_put(const char *path, const void *data, uint64_t bytes, clf_error *err) {
    clf_output_file f;
    CLF_TRY(clf_output_file_create(&f, path, err));
    const clf_status st = clf_output_file_write(&f, 0, data, bytes, err);
    if (st == CLF_OK) return clf_output_file_finish(&f, bytes, err);
    clf_output_file_discard(&f);
    return st;
}
