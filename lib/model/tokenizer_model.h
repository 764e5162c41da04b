/* tokenizer_model.h: SentencePiece's tokenizer.model. */
#ifndef CLF_MODEL_TOKENIZER_MODEL_H
#define CLF_MODEL_TOKENIZER_MODEL_H

#include "tokenizer_data.h"

/* The bytes of a file as a tokenizer, not finished yet: BPE (begin-of-sequence is added) or unigram (end-of-sequence
 * is). CLF_UNSUPPORTED for the word and character models. */
clf_status clf_tokenizer_from_model(clf_tokenizer **out, const char *data, size_t size, clf_error *err);

#endif
