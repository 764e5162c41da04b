/* gguf_state.h: the state behind a clf_gguf. Offsets count from the file's start. */
#ifndef CLF_MODEL_GGUF_STATE_H
#define CLF_MODEL_GGUF_STATE_H

#include "gguf.h"
#include "name_index.h"
#include "source.h"

typedef struct clf_gguf_value {
    clf_string key;
    clf_gguf_type type;    /* ARRAY: of `element` */
    clf_gguf_type element; /* of an array; otherwise `type` */
    uint64_t count;        /* of elements; 1 unless an array */
    uint64_t offset;       /* of the first element's bytes; a string's: of its length */
    uint64_t *strings;     /* [count] array of strings: offset of each one's length; NULL otherwise */
} clf_gguf_value;

enum {
    CLF_GGUF_NAME = 64, /* a tensor's name with its end; ggml's limit */
    CLF_GGUF_MAX_KEY = 65535
};

typedef struct clf_gguf_tensor_entry {
    clf_file_tensor tensor;
    char name[CLF_GGUF_NAME];
} clf_gguf_tensor_entry;

struct clf_gguf {
    clf_source source;
    uint32_t version;
    int64_t n_values;
    clf_gguf_value *values;
    clf_name_index keys;
    int64_t n_tensors;
    clf_gguf_tensor_entry *tensors;
    clf_name_index tensor_names;
};

/* Bytes of a scalar; 0 for strings, arrays and unknown types. */
uint64_t clf_gguf_type_bytes(uint32_t type);
const char *clf_gguf_type_name(uint32_t type);
/* 1 to `max` bytes of UTF-8 without control characters. */
bool clf_gguf_is_name(const char *name, uint64_t length, uint64_t max);
/* The value of a key, or NULL. */
const clf_gguf_value *clf_gguf_value_of(const clf_gguf *gguf, const char *key);

#endif
