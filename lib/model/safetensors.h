/* safetensors.h: named tensors of a .safetensors file, or of a folder's shards. */
#ifndef CLF_MODEL_SAFETENSORS_H
#define CLF_MODEL_SAFETENSORS_H

#include "model_file.h"

typedef struct clf_safetensors clf_safetensors;

/* `args->path` is a file, or a folder with model.safetensors or model.safetensors.index.json; or `args->data` is a file
 * in memory. */
clf_status clf_safetensors_open(clf_safetensors **out, const clf_model_file_args *args, clf_error *err);
void clf_safetensors_close(clf_safetensors *st); /* NULL is accepted; tensors' data go with it */
int64_t clf_safetensors_count(const clf_safetensors *st);
/* NULL where there is none. */
const clf_file_tensor *clf_safetensors_at(const clf_safetensors *st, int64_t index);
const clf_file_tensor *clf_safetensors_find(const clf_safetensors *st, const char *name);
/* Whether the file at `path` is one of its files. */
bool clf_safetensors_reads(const clf_safetensors *st, const char *path);
/* A string of __metadata__, or NULL. */
const char *clf_safetensors_metadata(const clf_safetensors *st, const char *key);
/* "BF16" for CLF_BF16; NULL for what the format lacks. */
const char *clf_safetensors_dtype_name(clf_dtype dtype);

#endif
