/* text_ids.c: a text file as a model's tokens. */
#include "text_ids.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "read_file.h"

int32_t *text_ids(const clf_tokenizer *t, const char *path, size_t *count, const char **why) {
    size_t length;
    if (!t) return *why = "the model has no tokenizer", NULL;
    char *text = read_file(path, &length);
    if (!text) return *why = strerror(errno), NULL;
    clf_status st = clf_tokenize(t, text, length, CLF_TOKENIZE_ADD_SPECIAL, NULL, 0, count);
    int32_t *ids = st == CLF_OK || st == CLF_FULL ? malloc((*count + 1) * sizeof *ids) : NULL;
    if (st == CLF_FULL)
        st = ids ? clf_tokenize(t, text, length, CLF_TOKENIZE_ADD_SPECIAL, ids, *count, count) : CLF_OUT_OF_MEMORY;
    free(text);
    if (st == CLF_OK && ids) return ids;
    *why = clf_status_string(st == CLF_OK ? CLF_OUT_OF_MEMORY : st);
    return free(ids), NULL;
}
