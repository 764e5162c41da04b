/* gguf_write.c: writing GGUF. Keys and descriptions are collected as bytes; with the first data they are written and
 * every tensor's place is known. */
#include "gguf_write.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../core/checked.h"
#include "../core/output_file.h"
#include "../core/tensor.h"
#include "gguf_state.h"

enum { ALIGNMENT = 32 /* GGUF's default */ };

typedef struct bytes {
    uint8_t *data;
    uint64_t size, capacity;
    bool broken; /* something could not be appended */
} bytes;

typedef struct place {
    uint64_t offset, nbytes; /* from the data's start */
    uint64_t written;        /* so many bytes */
} place;

struct clf_gguf_writer {
    clf_output_file file;
    bytes pairs, infos;
    uint64_t n_pairs;
    int64_t n_tensors, capacity;
    place *places;
    char **names; /* owned, of keys and tensors: the indices point at them */
    int64_t n_names, names_capacity;
    clf_name_index keys, tensors;
    uint64_t alignment;
    uint64_t end;  /* of the data so far, padded */
    uint64_t data; /* where the data begin; 0: the header isn't written yet */
};

static clf_status append(bytes *b, const void *data, uint64_t size, clf_error *err) {
    uint64_t need;
    if (!clf_add_u64(b->size, size, &need) || need > SIZE_MAX / 2) need = 0;
    if (need > b->capacity) {
        const uint64_t more = need > 2 * b->capacity ? need + 256 : 2 * b->capacity;
        uint8_t *p = realloc(b->data, (size_t)more);
        if (p) {
            b->data = p;
            b->capacity = more;
        }
    }
    b->broken |= !need || need > b->capacity;
    CLF_CHECK(err, !b->broken, CLF_OUT_OF_MEMORY, "gguf: out of memory for %" PRIu64 " bytes", size);
    if (size) memcpy(b->data + b->size, data, (size_t)size);
    b->size = need;
    return CLF_OK;
}
static clf_status append_u32(bytes *b, uint32_t value, clf_error *err) {
    return append(b, &value, 4, err);
}
static clf_status append_u64(bytes *b, uint64_t value, clf_error *err) {
    return append(b, &value, 8, err);
}
static clf_status append_string(bytes *b, const void *data, uint64_t length, clf_error *err) {
    CLF_TRY(append_u64(b, length, err));
    return append(b, data, length, err);
}

clf_status clf_gguf_writer_create(clf_gguf_writer **out, const char *path, clf_error *err) {
    *out = NULL;
    clf_gguf_writer *w = calloc(1, sizeof *w);
    CLF_CHECK(err, w, CLF_OUT_OF_MEMORY, "gguf: out of memory");
    const clf_status st = clf_output_file_create(&w->file, path, err);
    w->alignment = ALIGNMENT;
    if (st == CLF_OK)
        *out = w;
    else
        free(w);
    return st;
}

void clf_gguf_writer_destroy(clf_gguf_writer *w) {
    if (!w) return;
    clf_output_file_discard(&w->file);
    for (int64_t i = 0; i < w->n_names; i++) free(w->names[i]);
    free(w->names);
    free(w->places);
    free(w->pairs.data);
    free(w->infos.data);
    clf_name_index_free(&w->keys);
    clf_name_index_free(&w->tensors);
    free(w);
}

/* Enters a name into an index, which must not have it. */
static clf_status enter(clf_gguf_writer *w, clf_name_index *index, const char *name, uint64_t max, int64_t number,
                        clf_error *err) {
    const uint64_t length = strlen(name);
    CLF_CHECK(err, !w->data, CLF_INVALID_ARGUMENT, "%s: keys and descriptions come before data", name);
    CLF_CHECK(err, clf_gguf_is_name(name, length, max), CLF_INVALID_ARGUMENT,
              "name \"%.60s\": expected 1 to %" PRIu64 " bytes of UTF-8 without control characters", name, max);
    CLF_CHECK(err, clf_name_index_find(index, name, length) < 0, CLF_INVALID_ARGUMENT, "%s: written twice", name);
    if (w->n_names == w->names_capacity) {
        const int64_t more = w->names_capacity ? 2 * w->names_capacity : 256;
        char **p = realloc(w->names, (size_t)more * sizeof *p);
        CLF_CHECK(err, p, CLF_OUT_OF_MEMORY, "gguf: out of memory for %" PRId64 " names", more);
        w->names = p;
        w->names_capacity = more;
    }
    char *copy = malloc((size_t)length + 1);
    CLF_CHECK(err, copy, CLF_OUT_OF_MEMORY, "gguf: out of memory for a name");
    memcpy(copy, name, (size_t)length + 1);
    w->names[w->n_names++] = copy;
    int64_t earlier;
    return clf_name_index_add(index, copy, length, number, &earlier, err);
}

/* Begins a pair: key, type, and an array's element type and count. */
static clf_status begin(clf_gguf_writer *w, const char *key, clf_gguf_type type, clf_gguf_type element, uint64_t count,
                        clf_error *err) {
    CLF_TRY(enter(w, &w->keys, key, CLF_GGUF_MAX_KEY, (int64_t)w->n_pairs, err));
    CLF_TRY(append_string(&w->pairs, key, strlen(key), err));
    CLF_TRY(append_u32(&w->pairs, type, err));
    w->n_pairs++;
    if (type != CLF_GGUF_ARRAY) return CLF_OK;
    CLF_TRY(append_u32(&w->pairs, element, err));
    return append_u64(&w->pairs, count, err);
}

static clf_status write_scalar(clf_gguf_writer *w, const char *key, clf_gguf_type type, const void *value,
                               clf_error *err) {
    CLF_TRY(begin(w, key, type, type, 1, err));
    return append(&w->pairs, value, clf_gguf_type_bytes(type), err);
}

clf_status clf_gguf_write_u32(clf_gguf_writer *w, const char *key, uint32_t value, clf_error *err) {
    return write_scalar(w, key, CLF_GGUF_U32, &value, err);
}
clf_status clf_gguf_write_f32(clf_gguf_writer *w, const char *key, float value, clf_error *err) {
    return write_scalar(w, key, CLF_GGUF_F32, &value, err);
}
clf_status clf_gguf_write_bool(clf_gguf_writer *w, const char *key, bool value, clf_error *err) {
    const uint8_t byte = value;
    return write_scalar(w, key, CLF_GGUF_BOOL, &byte, err);
}
clf_status clf_gguf_write_string(clf_gguf_writer *w, const char *key, const char *value, clf_error *err) {
    CLF_TRY(begin(w, key, CLF_GGUF_STRING, CLF_GGUF_STRING, 1, err));
    return append_string(&w->pairs, value, strlen(value), err);
}

clf_status clf_gguf_write_array(clf_gguf_writer *w, const char *key, clf_gguf_type type, const void *values,
                                uint64_t count, clf_error *err) {
    uint64_t size;
    CLF_CHECK(err, clf_gguf_type_bytes(type) && clf_mul_u64(count, clf_gguf_type_bytes(type), &size),
              CLF_INVALID_ARGUMENT, "%s: expected elements of a fixed size", key);
    CLF_TRY(begin(w, key, CLF_GGUF_ARRAY, type, count, err));
    return append(&w->pairs, values, size, err);
}

clf_status clf_gguf_write_strings(clf_gguf_writer *w, const char *key, const clf_string *values, uint64_t count,
                                  clf_error *err) {
    CLF_TRY(begin(w, key, CLF_GGUF_ARRAY, CLF_GGUF_STRING, count, err));
    for (uint64_t i = 0; i < count; i++) CLF_TRY(append_string(&w->pairs, values[i].data, values[i].length, err));
    return CLF_OK;
}

/* The bytes of a value as they lie in the other file. */
static clf_status copy_value(clf_gguf_writer *w, const char *key, const clf_gguf *from, const clf_gguf_value *v,
                             clf_error *err) {
    const uint8_t *data = from->source.data + v->offset;
    uint64_t size = v->count * clf_gguf_type_bytes(v->element), length = 0;
    if (v->element == CLF_GGUF_STRING) { /* with lengths, up to the last one's end */
        const uint64_t last = v->type == CLF_GGUF_ARRAY ? (v->count ? v->strings[v->count - 1] : v->offset) : v->offset;
        if (v->count) memcpy(&length, from->source.data + last, 8);
        size = v->count ? last + 8 + length - v->offset : 0;
    }
    CLF_TRY(begin(w, key, v->type, v->element, v->count, err));
    return append(&w->pairs, data, size, err);
}

clf_status clf_gguf_write_alignment(clf_gguf_writer *w, uint32_t alignment, clf_error *err) {
    w->alignment = alignment;
    return clf_gguf_write_u32(w, "general.alignment", alignment, err);
}

clf_status clf_gguf_write_keys_of(clf_gguf_writer *w, const clf_gguf *from, clf_error *err) {
    for (int64_t i = 0; i < from->n_values; i++) {
        const clf_gguf_value *v = &from->values[i];
        char *key = malloc((size_t)v->key.length + 1);
        CLF_CHECK(err, key, CLF_OUT_OF_MEMORY, "gguf: out of memory for a key");
        memcpy(key, v->key.data, (size_t)v->key.length);
        key[v->key.length] = 0;
        const bool skipped = clf_name_index_find(&w->keys, key, v->key.length) >= 0 ||
                             !strcmp(key, "general.alignment") || !strncmp(key, "split.", 6);
        const clf_status st = skipped ? CLF_OK : copy_value(w, key, from, v, err);
        free(key);
        CLF_TRY(st);
    }
    return CLF_OK;
}

clf_status clf_gguf_write_tensor(clf_gguf_writer *w, const clf_file_tensor *t, clf_error *err) {
    int64_t elements;
    const int type = clf_dtype_to_gguf(t->dtype), values = clf_dtype_block_values(t->dtype);
    CLF_CHECK(err, type >= 0, CLF_UNSUPPORTED, "tensor %s: GGUF has no %s", t->name, clf_dtype_name(t->dtype));
    CLF_CHECK(err,
              t->ndim >= 1 && t->ndim <= CLF_MAX_DIMS && clf_product_i64(t->shape, t->ndim, &elements) &&
                  elements > 0 && t->shape[t->ndim - 1] % values == 0,
              CLF_INVALID_ARGUMENT, "tensor %s: expected 1 to %d positive dimensions, rows of whole blocks", t->name,
              CLF_MAX_DIMS);
    CLF_CHECK(err, !clf_dtype_is_interleaved(t->dtype) || (t->ndim == 2 && t->shape[0] % CLF_PANEL_ROWS == 0),
              CLF_INVALID_ARGUMENT, "tensor %s: expected a matrix of a multiple of %d rows for %s", t->name,
              CLF_PANEL_ROWS, clf_dtype_name(t->dtype));
    if (w->n_tensors == w->capacity) {
        const int64_t more = w->capacity ? 2 * w->capacity : 256;
        place *p = realloc(w->places, (size_t)more * sizeof *p);
        CLF_CHECK(err, p, CLF_OUT_OF_MEMORY, "gguf: out of memory for %" PRId64 " tensors", more);
        w->places = p;
        w->capacity = more;
    }
    place p = {.offset = w->end};
    uint64_t end;
    CLF_CHECK(err,
              clf_mul_u64((uint64_t)(elements / values), clf_dtype_block_bytes(t->dtype), &p.nbytes) &&
                  clf_add_u64(p.offset, p.nbytes, &end) && clf_align_u64(end, w->alignment, &end),
              CLF_INVALID_ARGUMENT, "tensor %s: its size overflows", t->name);
    CLF_TRY(enter(w, &w->tensors, t->name, CLF_GGUF_NAME - 1, w->n_tensors, err));
    CLF_TRY(append_string(&w->infos, t->name, strlen(t->name), err));
    CLF_TRY(append_u32(&w->infos, (uint32_t)t->ndim, err));
    for (int i = t->ndim - 1; i >= 0; i--) CLF_TRY(append_u64(&w->infos, (uint64_t)t->shape[i], err));
    CLF_TRY(append_u32(&w->infos, (uint32_t)type, err));
    CLF_TRY(append_u64(&w->infos, p.offset, err));
    w->places[w->n_tensors++] = p;
    w->end = end;
    return CLF_OK;
}

static clf_status append_head(bytes *head, int64_t n_tensors, uint64_t n_pairs, clf_error *err) {
    CLF_TRY(append(head, "GGUF", 4, err));
    CLF_TRY(append_u32(head, 3, err));
    CLF_TRY(append_u64(head, (uint64_t)n_tensors, err));
    return append_u64(head, n_pairs, err);
}

clf_status clf_gguf_writer_keys(const clf_gguf_writer *w, void **data, size_t *size, clf_error *err) {
    bytes all = {0};
    clf_status st = append_head(&all, 0, w->n_pairs, err);
    if (st == CLF_OK) st = append(&all, w->pairs.data, w->pairs.size, err);
    if (st != CLF_OK) return free(all.data), st;
    *data = all.data;
    *size = (size_t)all.size;
    return CLF_OK;
}

static clf_status write_header(clf_gguf_writer *w, clf_error *err) {
    bytes head = {0};
    clf_status st;
    CLF_CHECK(err, !w->pairs.broken && !w->infos.broken, CLF_OUT_OF_MEMORY, "gguf: a key or description is missing");
    CLF_TRY_GOTO(st, append_head(&head, w->n_tensors, w->n_pairs, err));
    CLF_TRY_GOTO(st, clf_output_file_write(&w->file, 0, head.data, head.size, err));
    CLF_TRY_GOTO(st, clf_output_file_write(&w->file, head.size, w->pairs.data, w->pairs.size, err));
    CLF_TRY_GOTO(st, clf_output_file_write(&w->file, head.size + w->pairs.size, w->infos.data, w->infos.size, err));
    clf_align_u64(head.size + w->pairs.size + w->infos.size, w->alignment, &w->data);
fail:
    free(head.data);
    return st;
}

clf_status clf_gguf_write_data(clf_gguf_writer *w, int64_t index, const void *data, uint64_t size, clf_error *err) {
    CLF_CHECK(err, index >= 0 && index < w->n_tensors, CLF_INVALID_ARGUMENT,
              "tensor: expected an index below %" PRId64 ", got %" PRId64, w->n_tensors, index);
    place *p = &w->places[index];
    CLF_CHECK(err, size <= p->nbytes - p->written, CLF_INVALID_ARGUMENT,
              "tensor %" PRId64 ": expected at most %" PRIu64 " bytes, got %" PRIu64, index, p->nbytes - p->written,
              size);
    if (!w->data) CLF_TRY(write_header(w, err));
    CLF_TRY(clf_output_file_write(&w->file, w->data + p->offset + p->written, data, size, err));
    p->written += size;
    return CLF_OK;
}

clf_status clf_gguf_writer_finish(clf_gguf_writer *w, clf_error *err) {
    for (int64_t i = 0; i < w->n_tensors; i++)
        CLF_CHECK(err, w->places[i].written == w->places[i].nbytes, CLF_INVALID_ARGUMENT,
                  "tensor %" PRId64 ": expected %" PRIu64 " bytes of data, %" PRIu64 " were written", i,
                  w->places[i].nbytes, w->places[i].written);
    if (!w->data) CLF_TRY(write_header(w, err));
    return clf_output_file_finish(&w->file, w->data + w->end, err);
}
