/* tokenizer_written.c: what those who write a tokenizer need: its merges in their order; and, when it was read back,
 * whether it still cuts texts as it did. */
#include <stdlib.h>
#include <string.h>

#include "tokenizer_data.h"

static int by_rank(const void *a, const void *b) {
    const clf_merge *x = a, *y = b;
    return (x->rank > y->rank) - (x->rank < y->rank);
}

clf_status clf_tokenizer_list_merges(const clf_tokenizer *t, clf_merge **out, size_t *count, clf_error *err) {
    const clf_merges *m = &t->merges;
    *out = malloc((m->count + 1) * sizeof **out);
    CLF_CHECK(err, *out, CLF_OUT_OF_MEMORY, "tokenizer: out of memory");
    *count = 0;
    for (size_t i = 0; m->slots && i <= m->mask; i++)
        if (m->slots[i].left >= 0) (*out)[(*count)++] = m->slots[i];
    qsort(*out, *count, sizeof **out, by_rank);
    return CLF_OK;
}

/* In normal form C: a GGUF knows no other. */
static const char *const hard[] = {
    "Hello, world! It's 3.14159 or 1,234,567; don't you think?",
    "  two  spaces,\ttabs\t\tand\n\nlines\r\n \n  ",
    "def f(x):\n    return {'a': [x**2, \"b\"]}  # ok\n",
    "CamelCase snake_case SCREAMING_CASE http://example.org/?q=1&r=%20",
    "na\xc3\xafve caf\xc3\xa9 \xc3\x85ngstr\xc3\xb6m \xc3\x9figgy \xce\xb1\xce\xb2\xce\xb3",
    "\xd0\x9f\xd1\x80\xd0\xb8\xd0\xb2\xd0\xb5\xd1\x82 \xe0\xb8\xaa\xe0\xb8\xa7",
    "\xe4\xbd\xa0\xe5\xa5\xbd\xe4\xb8\x96\xe7\x95\x8c \xe3\x81\x82\xe3\x81\x84 \xed\x95\x9c\xea\xb5\xad",
    "\xf0\x9f\x99\x82\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x92\xbb \xe2\x82\xac\xe2\x80\x94\xe2\x80\xa6 \x01\x7f",
    "aaaaaaaaaaaaaaaa ================ ................",
    "'s 'T 'RE 've 'LL I'D we'll",
    " ",
    "1 12 123 1234 12345 123456"};

clf_status clf_tokenizer_check_same(const clf_tokenizer *a, const clf_tokenizer *b, const char *file, clf_error *err) {
    for (size_t i = 0; i < sizeof hard / sizeof *hard; i++) {
        int32_t ids[2][512];
        size_t n[2] = {0};
        const clf_tokenizer *both[] = {a, b};
        for (int k = 0; k < 2; k++) {
            const clf_status st =
                clf_tokenize(both[k], hard[i], strlen(hard[i]), CLF_TOKENIZE_ADD_SPECIAL, ids[k], 512, &n[k]);
            CLF_CHECK(err, st == CLF_OK, st, "tokenizer: can't cut a text");
        }
        CLF_CHECK(err, n[0] == n[1] && !memcmp(ids[0], ids[1], n[0] * sizeof *ids[0]), CLF_UNSUPPORTED,
                  "tokenizer: as %s can describe it, it would cut texts otherwise, as \"%.40s\"", file, hard[i]);
    }
    return CLF_OK;
}
