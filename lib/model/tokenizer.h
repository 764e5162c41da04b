/* tokenizer.h: making a tokenizer from what a model file brings. */
#ifndef CLF_MODEL_TOKENIZER_H
#define CLF_MODEL_TOKENIZER_H

#include <clformer/model.h>

#include "gguf.h"

/* From a GGUF's tokenizer.ggml.* keys. CLF_NOT_FOUND when it has none ("none" or absent). */
clf_status clf_tokenizer_from_gguf(clf_tokenizer **out, const clf_gguf *gguf, clf_error *err);
/* From a folder's tokenizer.json or tokenizer.model (and tokenizer_config.json, special_tokens_map.json where present).
 * CLF_NOT_FOUND when there is none. */
clf_status clf_tokenizer_from_folder(clf_tokenizer **out, const char *path, clf_error *err);
/* The id that every text begins with where special ones are added; -1: none. NULL is accepted. */
int32_t clf_tokenizer_first(const clf_tokenizer *tokenizer);

#endif
