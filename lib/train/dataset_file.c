/* dataset_file.c: files that are read in parts and watched for changes. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../core/checked.h"
#include "dataset.h"
#include "tokens.h"

static clf_status fail_errno(clf_error *err, const char *path, int error) {
    char text[128] = "";
    if (strerror_r(error, text, sizeof text)) text[0] = 0;
    return clf_fail(err, error == ENOENT || error == ENOTDIR ? CLF_NOT_FOUND : CLF_IO_ERROR, "%s: %s", path, text);
}

static clf_dataset_format format_of_name(const char *path) {
    static const struct {
        const char *ending;
        clf_dataset_format format;
    } names[] = {{".jsonl", CLF_DATASET_JSONL}, {".ndjson", CLF_DATASET_JSONL}, {".json", CLF_DATASET_JSONL},
                 {".txt", CLF_DATASET_TEXT},    {".text", CLF_DATASET_TEXT},    {".md", CLF_DATASET_TEXT}};
    const size_t n = strlen(path);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const size_t m = strlen(names[i].ending);
        if (n > m && strcasecmp(path + n - m, names[i].ending) == 0) return names[i].format;
    }
    return CLF_DATASET_AUTO;
}

clf_status clf_data_file_open(clf_data_file *file, const char *path, clf_dataset_format format, clf_error *err) {
    struct stat info;
    char magic[CLF_TOKENS_MAGIC_SIZE] = "";
    *file = (clf_data_file){.fd = -1, .format = format};
    CLF_CHECK(err, path && *path, CLF_INVALID_ARGUMENT, "dataset: path: expected a file name, got %s",
              path ? "\"\"" : "NULL");
    if (!(file->path = clf_copy(path, strlen(path)))) return clf_fail(err, CLF_OUT_OF_MEMORY, "dataset: out of memory");
    file->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (file->fd < 0 || fstat(file->fd, &info)) return fail_errno(err, path, errno);
    CLF_CHECK(err, S_ISREG(info.st_mode), CLF_BAD_FILE, "%s: expected a regular file, got %s", path,
              S_ISDIR(info.st_mode) ? "a folder" : "something else");
    CLF_CHECK(err, info.st_size > 0, CLF_BAD_FILE, "%s: expected samples, got an empty file", path);
    file->size = (uint64_t)info.st_size;
    file->changed[0] = (int64_t)info.st_mtim.tv_sec;
    file->changed[1] = (int64_t)info.st_mtim.tv_nsec;
    if (format != CLF_DATASET_AUTO) return CLF_OK;
    if (file->size >= sizeof magic) CLF_TRY(clf_data_file_read(file, 0, magic, sizeof magic, err));
    file->format = memcmp(magic, CLF_TOKENS_MAGIC, sizeof magic) ? format_of_name(path) : CLF_DATASET_TOKENS;
    CLF_CHECK(err, file->format != CLF_DATASET_AUTO, CLF_BAD_FILE,
              "%s: expected a name that ends in .jsonl or .txt, a file of tokens, or a format", path);
    return CLF_OK;
}

void clf_data_file_close(clf_data_file *file) {
    if (file->fd >= 0) close(file->fd);
    free(file->path);
    free(file->begin);
    free(file->lines);
    *file = (clf_data_file){.fd = -1};
}

clf_status clf_data_file_read(const clf_data_file *file, uint64_t offset, void *data, uint64_t bytes, clf_error *err) {
    struct stat info;
    char *to = data;
    if (fstat(file->fd, &info)) return fail_errno(err, file->path, errno);
    bool same = info.st_size == (off_t)file->size && info.st_mtim.tv_sec == file->changed[0] &&
                info.st_mtim.tv_nsec == file->changed[1];
    while (same && bytes) {
        const size_t part = bytes < 1u << 30 ? (size_t)bytes : 1u << 30;
        const ssize_t n = pread(file->fd, to, part, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return fail_errno(err, file->path, errno);
        same = n > 0;
        to += n;
        offset += (uint64_t)n;
        bytes -= (uint64_t)n;
    }
    return same ? CLF_OK : clf_fail(err, CLF_BAD_FILE, "%s: the file has changed since it was opened", file->path);
}

bool clf_data_file_append(clf_data_file *file, uint64_t begin) {
    uint64_t *grown = clf_grown(file->begin, &file->capacity, file->count + 1, sizeof *grown);
    if (!grown) return false;
    file->begin = grown;
    grown[file->count++] = begin;
    return true;
}

clf_status clf_dataset_bad(const clf_dataset_args *args, clf_error *err) {
    if (err->status != CLF_BAD_FILE || !args->bad_line || !args->bad_line(args->user, err->message)) return err->status;
    clf_error_clear(err);
    return CLF_OK;
}
