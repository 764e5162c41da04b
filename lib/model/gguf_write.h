/* gguf_write.h: writing GGUF v3. Keys first, then every tensor's description, then their data in any order, so that a
 * model larger than memory can be written tensor by tensor. Nothing is at `path` until finish succeeds. */
#ifndef CLF_MODEL_GGUF_WRITE_H
#define CLF_MODEL_GGUF_WRITE_H

#include "gguf.h"

typedef struct clf_gguf_writer clf_gguf_writer;

clf_status clf_gguf_writer_create(clf_gguf_writer **out, const char *path, clf_error *err);
/* Discards the file unless it was finished. NULL is accepted. */
void clf_gguf_writer_destroy(clf_gguf_writer *writer);

/* Keys: UTF-8 without control characters, each once. Without memory for one, finish fails too. */
clf_status clf_gguf_write_u32(clf_gguf_writer *writer, const char *key, uint32_t value, clf_error *err);
clf_status clf_gguf_write_f32(clf_gguf_writer *writer, const char *key, float value, clf_error *err);
clf_status clf_gguf_write_bool(clf_gguf_writer *writer, const char *key, bool value, clf_error *err);
clf_status clf_gguf_write_string(clf_gguf_writer *writer, const char *key, const char *value, clf_error *err);
/* `count` values of a type with a fixed size. */
clf_status clf_gguf_write_array(clf_gguf_writer *writer, const char *key, clf_gguf_type type, const void *values,
                                uint64_t count, clf_error *err);
clf_status clf_gguf_write_strings(clf_gguf_writer *writer, const char *key, const clf_string *values, uint64_t count,
                                  clf_error *err);
/* Tensors begin at multiples of a power of two, 32 otherwise; before the first is described. */
clf_status clf_gguf_write_alignment(clf_gguf_writer *writer, uint32_t alignment, clf_error *err);
/* All keys of another GGUF that were not written before, but general.alignment and those of shards (split.*): what is
 * to differ is written first. */
clf_status clf_gguf_write_keys_of(clf_gguf_writer *writer, const clf_gguf *from, clf_error *err);

/* A GGUF in memory of the keys so far and no tensors, to be freed: to read what was written. */
clf_status clf_gguf_writer_keys(const clf_gguf_writer *writer, void **data, size_t *size, clf_error *err);

/* Describes the next tensor: name, dtype and shape of `t` count. */
clf_status clf_gguf_write_tensor(clf_gguf_writer *writer, const clf_file_tensor *t, clf_error *err);
/* The next `bytes` of tensor `index`, so that one may be written in pieces. No key or description can follow the first
 * data. */
clf_status clf_gguf_write_data(clf_gguf_writer *writer, int64_t index, const void *data, uint64_t bytes,
                               clf_error *err);
/* Completes the file. CLF_INVALID_ARGUMENT if a tensor's data are missing. */
clf_status clf_gguf_writer_finish(clf_gguf_writer *writer, clf_error *err);

#endif
