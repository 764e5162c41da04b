/* adapter_file.h: a LoRA adapter on disk (arXiv:2106.09685), as PEFT or llama.cpp write it, for one base model:
 * y += scale · B·(A·x) beside y = W·x. Names are GGUF's. What the base has split or ordered otherwise is done here: a
 * fused matrix's B becomes one per part, and rows of B for queries and keys go into the base's order of rotary pairs.
 * Embedding and output matrix may be there as a whole, in place of the base's (PEFT's modules_to_save). */
#ifndef CLF_MODEL_ADAPTER_FILE_H
#define CLF_MODEL_ADAPTER_FILE_H

#include "model_file.h"

typedef struct clf_adapter_pair {
    const char *name;  /* of the adapted matrix [n, k]: "blk.3.attn_q.weight" */
    clf_file_tensor a; /* [r, k] F32, F16 or BF16 */
    clf_file_tensor b; /* [n, r] likewise */
    float scale;
} clf_adapter_pair;

typedef struct clf_adapter_file clf_adapter_file;

/* `path` is a PEFT folder (adapter_config.json, adapter_model.safetensors) or a GGUF adapter; `base` is the model's
 * configuration. @return CLF_UNSUPPORTED for what is no plain LoRA of the layers' seven matrices, or differs where the
 * base ties embedding and output; CLF_BAD_FILE where shapes or the architecture don't fit the base, which the message
 * says */
clf_status clf_adapter_file_open(clf_adapter_file **out, const char *path, bool mmap, const clf_config *base,
                                 clf_error *err);
void clf_adapter_file_close(clf_adapter_file *file); /* NULL is accepted; the pairs' data go with it */
int64_t clf_adapter_file_count(const clf_adapter_file *file);
const clf_adapter_pair *clf_adapter_file_at(const clf_adapter_file *file, int64_t index);
/* The pair of a matrix, or NULL. */
const clf_adapter_pair *clf_adapter_file_find(const clf_adapter_file *file, const char *name);
/* [vocab, hidden] in place of the base's embedding or untied output matrix; NULL: the base's own. */
const clf_file_tensor *clf_adapter_file_embedding(const clf_adapter_file *file);
const clf_file_tensor *clf_adapter_file_output(const clf_adapter_file *file);

#endif
