/* folder_case.h: a folder for the files of a test: empty before it, gone with all that is in it afterwards, also where
 * the test failed. make_folder() and remove_folder() are cmocka's setup and teardown, of a test or of a group. */
#ifndef CLF_TESTS_FOLDER_CASE_H
#define CLF_TESTS_FOLDER_CASE_H

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[256];
static char *in_folder_paths[32];
static int in_folder_count;

/* The path of a name in the folder; it stays until the folder goes. */
static inline const char *in_folder(const char *name) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    for (int i = 0; i < in_folder_count; i++)
        if (!strcmp(in_folder_paths[i], path)) return in_folder_paths[i];
    assert_true(in_folder_count < 32);
    return in_folder_paths[in_folder_count++] = strdup(path);
}

/* Of a folder; -1: it isn't there. */
static inline int entries_of(const char *path) {
    int n = -2; /* . and .. */
    DIR *d = opendir(path);
    if (!d) return -1;
    while (readdir(d)) n++;
    closedir(d);
    return n;
}

static inline int remove_all(const char *path) {
    char command[600];
    snprintf(command, sizeof command, "rm -rf '%s'", path);
    return system(command);
}

static inline int make_folder(void **state) {
    const char *base = getenv("TMPDIR");
    (void)state;
    snprintf(folder, sizeof folder, "%s/clformer-test-XXXXXX", base ? base : "/tmp");
    return mkdtemp(folder) ? 0 : -1;
}

static inline int remove_folder(void **state) {
    (void)state;
    while (in_folder_count) free(in_folder_paths[--in_folder_count]);
    return remove_all(folder);
}

#endif
