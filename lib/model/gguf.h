/* gguf.h: GGUF v2 and v3, read (gguf_write.h writes it). Every size that comes from the file goes through checked.h;
 * arrays of strings are indexed once, so that asking for element i is O(1). */
#ifndef CLF_MODEL_GGUF_H
#define CLF_MODEL_GGUF_H

#include "model_file.h"

typedef enum clf_gguf_type {
    CLF_GGUF_U8,
    CLF_GGUF_I8,
    CLF_GGUF_U16,
    CLF_GGUF_I16,
    CLF_GGUF_U32,
    CLF_GGUF_I32,
    CLF_GGUF_F32,
    CLF_GGUF_BOOL,
    CLF_GGUF_STRING,
    CLF_GGUF_ARRAY,
    CLF_GGUF_U64,
    CLF_GGUF_I64,
    CLF_GGUF_F64
} clf_gguf_type;

/* Bytes in the file, not terminated. */
typedef struct clf_string {
    const char *data;
    uint64_t length;
} clf_string;

clf_status clf_gguf_open(clf_gguf **out, const clf_model_file_args *args, clf_error *err);
void clf_gguf_close(clf_gguf *gguf); /* NULL is accepted; tensors' data and strings go with it */
int64_t clf_gguf_tensor_count(const clf_gguf *gguf);
/* NULL where there is none. */
const clf_file_tensor *clf_gguf_tensor(const clf_gguf *gguf, int64_t index);
const clf_file_tensor *clf_gguf_find(const clf_gguf *gguf, const char *name);

/* Whether the file at `path` is the one that it was read from. */
bool clf_gguf_reads(const clf_gguf *gguf, const char *path);
/* Whether a path ends in ".gguf", any case: what is to be written there is one. */
bool clf_is_gguf_name(const char *path);

/* Values by key. Each returns false, leaving *out alone, where the key is absent or its type doesn't convert without
 * loss; clf_gguf_has() tells the two apart. Integers of any width convert when the value fits, and to f64 when exact.
 */
bool clf_gguf_has(const clf_gguf *gguf, const char *key);
bool clf_gguf_get_u64(const clf_gguf *gguf, const char *key, uint64_t *out);
bool clf_gguf_get_i64(const clf_gguf *gguf, const char *key, int64_t *out);
bool clf_gguf_get_f64(const clf_gguf *gguf, const char *key, double *out);
bool clf_gguf_get_bool(const clf_gguf *gguf, const char *key, bool *out);
bool clf_gguf_get_string(const clf_gguf *gguf, const char *key, clf_string *out);
/* Arrays: element type and count; false if `key` is no array. */
bool clf_gguf_get_array(const clf_gguf *gguf, const char *key, clf_gguf_type *type, uint64_t *count);
/* Elements: false also where `index` is beyond the array. */
bool clf_gguf_array_string(const clf_gguf *gguf, const char *key, uint64_t index, clf_string *out);
bool clf_gguf_array_i64(const clf_gguf *gguf, const char *key, uint64_t index, int64_t *out);
bool clf_gguf_array_f64(const clf_gguf *gguf, const char *key, uint64_t index, double *out);
bool clf_gguf_array_bool(const clf_gguf *gguf, const char *key, uint64_t index, bool *out);

#endif
