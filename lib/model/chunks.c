/* chunks.c: a text in chunks. */
#include "chunks.h"

#include <stdlib.h>
#include <string.h>

#include "tokenizer.h"

clf_status clf_chunks_init(clf_chunks *c, const char *what, const clf_model *m, const int32_t *ids, int64_t n,
                           int64_t context) {
    clf_error *err = &m->contexts[0]->error;
    const int32_t vocab = m->config.vocab_size;
    *c =
        (clf_chunks){.text = ids, .context = context, .count = n / context, .first = clf_tokenizer_first(m->tokenizer)};
    CLF_CHECK(err, ids || !n, CLF_INVALID_ARGUMENT, "%s: ids is NULL", what);
    for (int64_t i = 0; i < n; i++)
        CLF_CHECK(err, ids[i] >= 0 && ids[i] < vocab, CLF_INVALID_ARGUMENT, "%s: ids[%lld]: expected 0 to %d, got %d",
                  what, (long long)i, vocab - 1, ids[i]);
    c->ids = malloc((size_t)context * sizeof *c->ids);
    CLF_CHECK(err, c->ids, CLF_OUT_OF_MEMORY, "%s: out of host memory", what);
    return CLF_OK;
}

void clf_chunks_release(clf_chunks *c) {
    free(c->ids);
    *c = (clf_chunks){0};
}

const int32_t *clf_chunks_at(const clf_chunks *c, int64_t index) {
    memcpy(c->ids, c->text + index * c->context, (size_t)c->context * sizeof *c->ids);
    if (c->first >= 0) c->ids[0] = c->first;
    return c->ids;
}
