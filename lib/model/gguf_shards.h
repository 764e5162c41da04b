/* gguf_shards.h: a GGUF model in one file or several. */
#ifndef CLF_MODEL_GGUF_SHARDS_H
#define CLF_MODEL_GGUF_SHARDS_H

#include "gguf.h"

typedef struct clf_gguf_shards {
    clf_gguf **shard; /* [count], the first has the model's keys */
    int count;
} clf_gguf_shards;

/* Opens the file, or, where its name ends in -00002-of-00005.gguf, all its shards, whichever of them it is; or a GGUF
 * in memory. On failure what was opened is left to clf_gguf_shards_close(). */
clf_status clf_gguf_shards_open(clf_gguf_shards *out, const clf_model_file_args *args, clf_error *err);
/* A zeroed one is accepted. */
void clf_gguf_shards_close(clf_gguf_shards *shards);

#endif
