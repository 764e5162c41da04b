/* folder_from_gguf.h: what a folder's files say of a model that came from a GGUF: hf_config.c and tokenizer_json.c
 * turned round. */
#ifndef CLF_MODEL_FOLDER_FROM_GGUF_H
#define CLF_MODEL_FOLDER_FROM_GGUF_H

#include <jansson.h>

#include "model.h"

/* The object, the caller's; `padding`: that token's id, -1: none; `dtype` is the matrices'. In the words of
 * transformers 4, which 5 takes too. It is read back and must mean the same: CLF_UNSUPPORTED for what no such folder
 * can say. */
clf_status clf_folder_config(json_t **out, const clf_model *model, int64_t padding, clf_dtype dtype, clf_error *err);
/* tokenizer.json, to be freed: likewise. */
clf_status clf_folder_tokenizer(char **out, const clf_tokenizer *tokenizer, clf_error *err);
/* tokenizer_config.json, to be freed: special tokens, chat template. */
clf_status clf_folder_tokenizer_config(char **out, const clf_tokenizer *tokenizer, int64_t context, clf_error *err);

#endif
