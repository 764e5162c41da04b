/* safetensors_write.h: writing a safetensors file. Every tensor's description first, then their data in any order, so
 * that a model larger than memory can be written tensor by tensor. Nothing is at `path` until finish succeeds. */
#ifndef CLF_MODEL_SAFETENSORS_WRITE_H
#define CLF_MODEL_SAFETENSORS_WRITE_H

#include "safetensors.h"

typedef struct clf_safetensors_writer clf_safetensors_writer;

clf_status clf_safetensors_writer_create(clf_safetensors_writer **out, const char *path, clf_error *err);
/* Discards the file unless it was finished. NULL is accepted. */
void clf_safetensors_writer_destroy(clf_safetensors_writer *writer);
/* A pair of __metadata__, UTF-8. transformers wants "format": "pt". */
clf_status clf_safetensors_write_metadata(clf_safetensors_writer *writer, const char *key, const char *value,
                                          clf_error *err);
/* Describes the next tensor: name, dtype (no blocks) and shape of `t` count. */
clf_status clf_safetensors_write_tensor(clf_safetensors_writer *writer, const clf_file_tensor *t, clf_error *err);
/* The next `bytes` of tensor `index`, so that one may be written in pieces. No description can follow the first data.
 */
clf_status clf_safetensors_write_data(clf_safetensors_writer *writer, int64_t index, const void *data, uint64_t bytes,
                                      clf_error *err);
/* Completes the file. CLF_INVALID_ARGUMENT if a tensor's data are missing. */
clf_status clf_safetensors_writer_finish(clf_safetensors_writer *writer, clf_error *err);

#endif
