/* read_config.h: the two sources of a clf_config. */
#ifndef CLF_MODEL_READ_CONFIG_H
#define CLF_MODEL_READ_CONFIG_H

#include "architecture.h"
#include "gguf.h"

/* From a GGUF's keys. vocab_size is 0 where no key tells it: the embedding's rows then do. Frequency factors and
 * tied_output depend on tensors and are left to the caller, who calls clf_config_check() in the end. */
clf_status clf_config_from_gguf(clf_config *out, const clf_architecture **architecture, const clf_gguf *gguf,
                                clf_error *err);
/* From the text of a config.json, of transformers 4 or 5. Here too vocab_size may be 0. */
clf_status clf_config_from_json(clf_config *out, const clf_architecture **architecture, const char *text, size_t size,
                                clf_error *err);

#endif
