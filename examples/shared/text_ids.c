/* text_ids.c: a text file as a model's tokens. */
#include "text_ids.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* All bytes of `f`, to be freed; NULL with errno. */
static char *read_all(FILE *f, size_t *length) {
    char *text = NULL;
    size_t capacity = 0;
    *length = 0;
    do {
        char *grown = realloc(text, capacity = 2 * capacity + 65536);
        if (!grown) return free(text), NULL;
        text = grown;
        *length += fread(text + *length, 1, capacity - *length, f);
    } while (*length == capacity);
    if (ferror(f)) return free(text), NULL;
    return text;
}

int32_t *text_ids(const clf_tokenizer *t, const char *path, size_t *count, const char **why) {
    size_t length;
    if (!t) return *why = "the model has no tokenizer", NULL;
    FILE *f = strcmp(path, "-") ? fopen(path, "rb") : stdin;
    char *text = f ? read_all(f, &length) : NULL;
    if (!text) *why = strerror(errno);
    if (f && f != stdin) fclose(f);
    if (!text) return NULL;
    clf_status st = clf_tokenize(t, text, length, CLF_TOKENIZE_ADD_SPECIAL, NULL, 0, count);
    int32_t *ids = st == CLF_OK || st == CLF_FULL ? malloc((*count + 1) * sizeof *ids) : NULL;
    if (st == CLF_FULL)
        st = ids ? clf_tokenize(t, text, length, CLF_TOKENIZE_ADD_SPECIAL, ids, *count, count) : CLF_OUT_OF_MEMORY;
    free(text);
    if (st == CLF_OK && ids) return ids;
    *why = clf_status_string(st == CLF_OK ? CLF_OUT_OF_MEMORY : st);
    return free(ids), NULL;
}
