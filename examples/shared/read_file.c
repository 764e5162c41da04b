/* read_file.c: in parts that grow, for what is read may be a pipe. */
#include "read_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *read_all(FILE *f, size_t *length) {
    char *text = NULL;
    size_t capacity = 0;
    *length = 0;
    do {
        char *grown = realloc(text, capacity = 2 * capacity + 65536);
        if (!grown) return free(text), NULL;
        text = grown;
        *length += fread(text + *length, 1, capacity - *length, f);
    } while (*length == capacity); /* a shorter read is the last, and leaves room for the end */
    text[*length] = 0;
    return text;
}

char *read_file(const char *path, size_t *length) {
    FILE *f = strcmp(path, "-") ? fopen(path, "rb") : stdin;
    if (!f) return NULL;
    char *text = read_all(f, length);
    const int error = !text || ferror(f) ? errno : 0;
    if (f != stdin) fclose(f);
    if (!error) return text;
    free(text);
    errno = error;
    return NULL;
}
