/* checkpoints.c: names of checkpoints, which are there, which may go. */
#include "checkpoints.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void checkpoint_path(char path[PATH_SIZE], const char *folder, int64_t step) {
    snprintf(path, PATH_SIZE, "%s/checkpoint-%06lld.safetensors", folder, (long long)step);
}

/* The step in a checkpoint's name; −1: it is another file. */
static int64_t step_of(const char *name) {
    static const char prefix[] = "checkpoint-";
    if (strncmp(name, prefix, sizeof prefix - 1) != 0) return -1;
    const char *digits = name + sizeof prefix - 1;
    const size_t n = strspn(digits, "0123456789");
    return n >= 6 && n <= 18 && !strcmp(digits + n, ".safetensors") ? strtoll(digits, NULL, 10) : -1;
}

int64_t checkpoint_before(const char *folder, int64_t below) {
    int64_t newest = -1;
    DIR *d = opendir(folder);
    for (const struct dirent *e; d && (e = readdir(d));) {
        const int64_t step = step_of(e->d_name);
        if (step < below && step > newest) newest = step;
    }
    if (d) closedir(d);
    return newest;
}

void checkpoints_prune(const char *folder, int64_t step, int64_t keep) {
    char path[PATH_SIZE];
    for (int64_t kept = 0, at = step + 1; (at = checkpoint_before(folder, at)) >= 0;) {
        if (++kept <= keep) continue;
        checkpoint_path(path, folder, at);
        if (unlink(path)) return;
    }
}

int checkpoints_set_aside(const char *folder, int64_t step) {
    char path[PATH_SIZE], old[PATH_SIZE + 4];
    int count = 0;
    for (int64_t at = INT64_MAX; (at = checkpoint_before(folder, at)) > step; count++) {
        checkpoint_path(path, folder, at);
        snprintf(old, sizeof old, "%s.old", path);
        if (rename(path, old)) return count;
    }
    return count;
}

void checkpoints_clean(const char *folder) {
    char path[PATH_SIZE];
    DIR *d = opendir(folder);
    for (const struct dirent *e; d && (e = readdir(d));) {
        const size_t n = strlen(e->d_name);
        const bool begun = !strncmp(e->d_name, "checkpoint-", 11) || !strncmp(e->d_name, "model.gguf.", 11);
        if (!begun || n < 4 || strcmp(e->d_name + n - 4, ".tmp") != 0) continue;
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        unlink(path);
    }
    if (d) closedir(d);
}

/* A safetensors file begins with a 64-bit size and a JSON object of that size, little-endian. */
json_t *checkpoint_peek(const char *path) {
    unsigned char prefix[8];
    uint64_t size = 0;
    FILE *f = fopen(path, "rb");
    if (!f) return NULL;
    if (fread(prefix, 1, 8, f) == 8)
        for (int i = 8; i-- > 0;) size = size << 8 | prefix[i];
    char *header = size && size < 100 << 20 ? malloc(size) : NULL;
    json_t *root = header && fread(header, 1, size, f) == size ? json_loadb(header, size, 0, NULL) : NULL;
    const char *extra = json_string_value(json_object_get(json_object_get(root, "__metadata__"), "extra"));
    json_t *peeked = extra ? json_loads(extra, 0, NULL) : NULL;
    json_decref(root);
    free(header);
    fclose(f);
    return peeked;
}
