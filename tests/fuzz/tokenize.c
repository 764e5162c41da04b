/* tokenize.c: any text over one golden tokenizer of each kind (the first byte chooses): ids in range, the same with
 * every capacity, and where nothing is normalized away the text comes back, U+FFFD for what isn't UTF-8. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include "../../lib/model/tokenizer_data.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { KINDS = 6 };
static clf_tokenizer *tokenizers[KINDS];

static void require(int condition) {
    if (!condition) abort();
}

/* U+2581 as spaces, which SentencePiece takes it for. */
static size_t unescape(char *text, size_t length) {
    size_t n = 0;
    for (size_t i = 0; i < length; i++) {
        const int mark = length - i >= 3 && memcmp(text + i, CLF_LOW_LINE, 3) == 0;
        text[n++] = mark ? ' ' : text[i];
        if (mark) i += 2;
    }
    return n;
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    static const char *const names[KINDS] = {"tokenizers/llama3-bpe", "tokenizers/qwen2-bpe", "tokenizers/llama2-spm",
                                             "tokenizers/gemma-spm",  "tokenizers/unigram",   "vocab/llama-spm.gguf"};
    (void)argc;
    (void)argv;
    for (int k = 0; k < KINDS; k++) {
        char path[4096];
        snprintf(path, sizeof path, CLF_GOLDEN "/%s", names[k]);
        clf_tokenizer_create(&tokenizers[k], &(clf_tokenizer_args){.path = path});
    }
    for (int k = 0; k < KINDS; k++) require(tokenizers[k] != NULL);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!size) return 0;
    const int kind = data[0] % KINDS, flags = data[0] / KINDS % 4;
    const clf_tokenizer *t = tokenizers[kind];
    const char *text = (const char *)data + 1;
    size_t n, again, length;
    size--;
    clf_status st = clf_tokenize(t, text, size, flags, NULL, 0, &n);
    require(st == CLF_OK || st == CLF_FULL);
    int32_t *ids = malloc((n + 1) * sizeof *ids);
    require(ids != NULL);
    require(clf_tokenize(t, text, size, flags, ids, n, &again) == CLF_OK && again == n);
    for (size_t i = 0; i < n; i++) require(ids[i] >= 0 && ids[i] < clf_tokenizer_size(t));
    st = clf_detokenize(t, ids, n, true, NULL, 0, &length);
    char *back = malloc(length + 1);
    require(back && st == CLF_FULL && clf_detokenize(t, ids, n, true, back, length + 1, &again) == CLF_OK);
    require(again == length && clf_utf8_valid(back, length));
    const bool normalizes = kind == 1 || kind == 4; /* NFC; NFKC */
    clf_text lossy = {0};
    require(clf_text_append_lossy(&lossy, text, size));
    if (kind >= 2) lossy.length = unescape(lossy.data, lossy.length);
    if (!normalizes && flags == 0)
        require(lossy.length == length && (!length || memcmp(lossy.data, back, length) == 0));
    free(lossy.data);
    free(back);
    free(ids);
    return 0;
}
