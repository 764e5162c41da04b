/* output_folder.c: writing a folder under a temporary name. */
#define _GNU_SOURCE /* renameat2 */
#include "output_folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "output_file.h"

enum { ATTEMPTS = 100, MORE = 40 /* bytes after the path in a temporary name */ };

static void release(clf_output_folder *f) {
    free(f->path);
    free(f->temporary);
    *f = (clf_output_folder){0};
}

/* Removes a folder that holds nothing but `names`. */
static void remove_folder(const char *path, const char *const *names) {
    char file[PATH_MAX]; /* no allocation: this must not fail */
    for (; *names; names++)
        if (snprintf(file, sizeof file, "%s/%s", path, *names) < PATH_MAX) unlink(file);
    rmdir(path);
}

static bool is_listed(const char *name, const char *const *names) {
    if (!strcmp(name, ".") || !strcmp(name, "..")) return true;
    for (; *names; names++)
        if (!strcmp(name, *names)) return true;
    return false;
}

/* Refuses to replace what isn't ours. */
static clf_status check_old(const char *path, const char *const *names, clf_error *err) {
    DIR *d = opendir(path);
    if (!d) {
        CLF_CHECK(err, errno != ENOTDIR, CLF_INVALID_ARGUMENT, "%s: expected a folder, or nothing of that name", path);
        return errno == ENOENT ? CLF_OK : clf_fail_errno(err, "open", path, errno);
    }
    clf_status st = CLF_OK;
    for (const struct dirent *e; st == CLF_OK && (e = readdir(d));)
        if (!is_listed(e->d_name, names))
            st = clf_fail(err, CLF_INVALID_ARGUMENT,
                          "%s: holds %.80s, which is none of the files to write: expected a new or an empty folder",
                          path, e->d_name);
    closedir(d);
    return st;
}

clf_status clf_output_folder_create(clf_output_folder *f, const char *path, const char *const *names, clf_error *err) {
    *f = (clf_output_folder){.names = names};
    CLF_CHECK(err, path && *path, CLF_INVALID_ARGUMENT, "path: expected a folder's name");
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/') length--;
    f->path = strndup(path, length);
    f->temporary = malloc(length + MORE);
    if (!f->path || !f->temporary) {
        release(f);
        return clf_fail(err, CLF_OUT_OF_MEMORY, "out of memory for a path");
    }
    clf_status st = check_old(f->path, names, err);
    int error = EEXIST;
    for (int i = 0; st == CLF_OK && error == EEXIST && i < ATTEMPTS; i++) {
        snprintf(f->temporary, length + MORE, "%s.%ld.%d.tmp", f->path, (long)getpid(), i);
        error = mkdir(f->temporary, 0777) ? errno : 0;
    }
    if (st == CLF_OK && error) st = clf_fail_errno(err, "create", f->path, error);
    if (st != CLF_OK) release(f);
    return st;
}

/* Puts the new folder in the old one's place at once or, where the file system can't exchange two names, by way of a
 * third; the old one is then where the new one was, and is removed. Returns 0 or errno. */
static int replace(const clf_output_folder *f) {
    char *aside = NULL;
    if (renameat2(AT_FDCWD, f->temporary, AT_FDCWD, f->path, RENAME_EXCHANGE)) {
        const size_t size = strlen(f->path) + MORE;
        aside = malloc(size);
        if (!aside) return ENOMEM;
        snprintf(aside, size, "%s.%ld.old", f->path, (long)getpid());
        int error = rename(f->path, aside) ? errno : 0;
        if (!error && rename(f->temporary, f->path)) {
            error = errno;
            rename(aside, f->path);
        }
        if (error) return free(aside), error;
    }
    remove_folder(aside ? aside : f->temporary, f->names);
    free(aside);
    return 0;
}

clf_status clf_output_folder_finish(clf_output_folder *f, clf_error *err) {
    int error = rename(f->temporary, f->path) ? errno : 0; /* onto nothing, or an empty folder */
    clf_status st = CLF_OK;
    if (error == ENOTEMPTY || error == EEXIST) {
        st = check_old(f->path, f->names, err);
        error = st == CLF_OK ? replace(f) : 0;
    }
    if (error) st = clf_fail_errno(err, "rename", f->path, error);
    if (st == CLF_OK)
        clf_sync_folder_of(f->path);
    else
        remove_folder(f->temporary, f->names);
    release(f);
    return st;
}

void clf_output_folder_discard(clf_output_folder *f) {
    if (!f->temporary) return;
    remove_folder(f->temporary, f->names);
    release(f);
}
