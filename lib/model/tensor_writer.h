/* tensor_writer.h: either writer of tensors, so that what is written needn't know the format. */
#ifndef CLF_MODEL_TENSOR_WRITER_H
#define CLF_MODEL_TENSOR_WRITER_H

#include "gguf_write.h"
#include "safetensors_write.h"

typedef struct clf_tensor_writer {
    clf_gguf_writer *gguf; /* one of the two */
    clf_safetensors_writer *safetensors;
} clf_tensor_writer;

static inline clf_status clf_write_tensor(const clf_tensor_writer *w, const clf_file_tensor *t, clf_error *err) {
    return w->gguf ? clf_gguf_write_tensor(w->gguf, t, err) : clf_safetensors_write_tensor(w->safetensors, t, err);
}

static inline clf_status clf_write_data(const clf_tensor_writer *w, int64_t index, const void *data, uint64_t bytes,
                                        clf_error *err) {
    return w->gguf ? clf_gguf_write_data(w->gguf, index, data, bytes, err)
                   : clf_safetensors_write_data(w->safetensors, index, data, bytes, err);
}

static inline clf_status clf_write_finish(const clf_tensor_writer *w, clf_error *err) {
    return w->gguf ? clf_gguf_writer_finish(w->gguf, err) : clf_safetensors_writer_finish(w->safetensors, err);
}

/* Discards what wasn't finished. */
static inline void clf_write_end(clf_tensor_writer *w) {
    clf_gguf_writer_destroy(w->gguf);
    clf_safetensors_writer_destroy(w->safetensors);
    *w = (clf_tensor_writer){0};
}

#endif
