/* gguf_from_folder.h: what a GGUF says that a Hugging Face folder says in config.json and its tokenizer's files:
 * gguf_config.c and tokenizer_gguf.c turned round. What was written is read back, and must mean the same. */
#ifndef CLF_MODEL_GGUF_FROM_FOLDER_H
#define CLF_MODEL_GGUF_FROM_FOLDER_H

#include "gguf_write.h"
#include "model_file.h"

/* Writes general.*, the architecture's keys and tokenizer.*, but those that were written before. CLF_UNSUPPORTED for
 * what GGUF has no key for, and for a tokenizer that would cut texts otherwise. Normal forms of Unicode have no key and
 * are left out, as converters do. */
clf_status clf_gguf_write_keys_of_folder(clf_gguf_writer *writer, const clf_model_file *folder, clf_error *err);

/* Frequencies of rotary embeddings are tensors there. */
typedef struct clf_gguf_factors {
    clf_file_tensor tensor[2]; /* their data are in `values` */
    int count;
    float values[2][CLF_MAX_ROPE_PAIRS];
} clf_gguf_factors;
/* Fills `out`, which must not be moved afterwards. */
void clf_gguf_factors_of(clf_gguf_factors *out, const clf_config *config);

/* LLaMA 3's for a pair, by its wavelength λ: `factor` where λ > context/low, 1 where λ < context/high, a ramp of their
 * inverses between. */
float clf_llama3_factor(const clf_rope_config *rope, int pair);

/* tokenizer.ggml.* and tokenizer.chat_template; without a tokenizer in the folder, the ids of the configuration alone.
 */
clf_status clf_gguf_write_tokenizer_of(clf_gguf_writer *writer, const char *folder, const clf_config *config,
                                       clf_error *err);

#endif
