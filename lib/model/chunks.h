/* chunks.h: a text cut as llama.cpp's tools cut it: chunks of `context` tokens, each evaluated from an empty cache,
 * with the id that begins every text in the place of its first where the tokenizer puts one. An incomplete last chunk
 * is left out. */
#ifndef CLF_MODEL_CHUNKS_H
#define CLF_MODEL_CHUNKS_H

#include "model.h"

enum { CLF_CHUNK_CONTEXT = 512 };

typedef struct clf_chunks {
    const int32_t *text;
    int64_t context, count;
    int32_t first; /* id; -1: the text's own */
    int32_t *ids;  /* [context] of one chunk */
} clf_chunks;

/* Checks n ids. `what` begins the messages. */
clf_status clf_chunks_init(clf_chunks *chunks, const char *what, const clf_model *model, const int32_t *ids, int64_t n,
                           int64_t context);
void clf_chunks_release(clf_chunks *chunks);
/* The ids of a chunk, until the next call. */
const int32_t *clf_chunks_at(const clf_chunks *chunks, int64_t index);

#endif
