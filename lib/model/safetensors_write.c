/* safetensors_write.c: writing safetensors. Tensors lie in the file by the size of their elements, the widest first, so
 * that each is aligned to its element; the header is padded with spaces to a multiple of 8. */
#include "safetensors_write.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../core/checked.h"
#include "../core/output_file.h"
#include "../core/tensor.h"
#include "json.h"

typedef struct place {
    clf_file_tensor tensor; /* without name and data */
    json_t *entry;          /* its object in the header, to be filled in */
    uint64_t offset;        /* from the data's start */
    uint64_t written;       /* so many bytes */
} place;

struct clf_safetensors_writer {
    clf_output_file file;
    json_t *header;
    int64_t n_tensors, capacity;
    place *places;
    uint64_t data, end; /* where the data begin (0: the header isn't written yet) and how many bytes they are */
};

static clf_status out_of_memory(clf_error *err) {
    return clf_fail(err, CLF_OUT_OF_MEMORY, "safetensors: out of memory");
}

clf_status clf_safetensors_writer_create(clf_safetensors_writer **out, const char *path, clf_error *err) {
    *out = NULL;
    clf_safetensors_writer *w = calloc(1, sizeof *w);
    if (!w) return out_of_memory(err);
    w->header = json_object();
    const clf_status st = w->header ? clf_output_file_create(&w->file, path, err) : out_of_memory(err);
    if (st == CLF_OK)
        *out = w;
    else
        clf_safetensors_writer_destroy(w);
    return st;
}

void clf_safetensors_writer_destroy(clf_safetensors_writer *w) {
    if (!w) return;
    clf_output_file_discard(&w->file);
    json_decref(w->header);
    free(w->places);
    free(w);
}

clf_status clf_safetensors_write_metadata(clf_safetensors_writer *w, const char *key, const char *value,
                                          clf_error *err) {
    CLF_CHECK(err, !w->data, CLF_INVALID_ARGUMENT, "%s: metadata come before data", key);
    json_t *object = json_object_get(w->header, "__metadata__"), *text = json_string(value);
    CLF_CHECK(err, text, CLF_INVALID_ARGUMENT, "%s: expected UTF-8", key);
    if (!object && json_object_set_new(w->header, "__metadata__", object = json_object())) object = NULL;
    if (!object) {
        json_decref(text);
        return out_of_memory(err);
    }
    CLF_CHECK(err, !json_object_set_new(object, key, text), CLF_INVALID_ARGUMENT, "%s: expected UTF-8", key);
    return CLF_OK;
}

clf_status clf_safetensors_write_tensor(clf_safetensors_writer *w, const clf_file_tensor *t, clf_error *err) {
    int64_t elements;
    uint64_t nbytes, end;
    CLF_CHECK(err, !w->data, CLF_INVALID_ARGUMENT, "tensor %s: descriptions come before data", t->name);
    CLF_CHECK(err, clf_safetensors_dtype_name(t->dtype), CLF_UNSUPPORTED, "tensor %s: safetensors has no %s", t->name,
              clf_dtype_name(t->dtype));
    CLF_CHECK(err,
              t->ndim >= 0 && t->ndim <= CLF_MAX_DIMS && clf_product_i64(t->shape, t->ndim, &elements) &&
                  clf_mul_u64((uint64_t)elements, clf_dtype_block_bytes(t->dtype), &nbytes) &&
                  clf_add_u64(w->end, nbytes, &end) && end <= INT64_MAX,
              CLF_INVALID_ARGUMENT, "tensor %s: expected up to %d dimensions from 0 that do not overflow", t->name,
              CLF_MAX_DIMS);
    CLF_CHECK(err, strcmp(t->name, "__metadata__") && !json_object_get(w->header, t->name), CLF_INVALID_ARGUMENT,
              "tensor %s: written twice or reserved", t->name);
    if (w->n_tensors == w->capacity) {
        const int64_t more = w->capacity ? 2 * w->capacity : 256;
        place *p = realloc(w->places, (size_t)more * sizeof *p);
        if (!p) return out_of_memory(err);
        w->places = p;
        w->capacity = more;
    }
    json_t *entry = json_object();
    if (!entry) return out_of_memory(err);
    CLF_CHECK(err, !json_object_set_new(w->header, t->name, entry), CLF_INVALID_ARGUMENT,
              "tensor %.60s: expected a name in UTF-8", t->name);
    place *p = &w->places[w->n_tensors++];
    *p = (place){.tensor = *t, .entry = entry};
    p->tensor.name = NULL;
    p->tensor.nbytes = nbytes;
    w->end = end;
    return CLF_OK;
}

/* Fills in dtype, shape and data_offsets; false without memory. */
static bool describe(const place *p) {
    const clf_file_tensor *t = &p->tensor;
    json_t *shape = json_array();
    bool ok = !json_object_set_new(p->entry, "dtype", json_string(clf_safetensors_dtype_name(t->dtype)));
    for (int i = 0; i < t->ndim; i++) ok &= !json_array_append_new(shape, json_integer(t->shape[i]));
    ok &= !json_object_set_new(p->entry, "shape", shape);
    const uint64_t end = p->offset + t->nbytes;
    json_t *span = json_array();
    ok &= !json_array_append_new(span, json_integer((json_int_t)p->offset));
    ok &= !json_array_append_new(span, json_integer((json_int_t)end));
    return !json_object_set_new(p->entry, "data_offsets", span) && ok;
}

/* Gives every tensor its place: the widest elements first, otherwise in order. */
static clf_status arrange(clf_safetensors_writer *w, clf_error *err) {
    uint64_t at = 0;
    for (size_t width = 8; width; width /= 2)
        for (int64_t i = 0; i < w->n_tensors; i++) {
            place *p = &w->places[i];
            if (clf_dtype_block_bytes(p->tensor.dtype) != width) continue;
            p->offset = at;
            at += p->tensor.nbytes;
            if (!describe(p)) return out_of_memory(err);
        }
    return CLF_OK;
}

static clf_status write_header(clf_safetensors_writer *w, clf_error *err) {
    CLF_TRY(arrange(w, err));
    char *text = clf_json_text(w->header, JSON_COMPACT);
    if (!text) return out_of_memory(err);
    const uint64_t length = strlen(text), padded = (length + 7) / 8 * 8;
    clf_status st = clf_output_file_write(&w->file, 0, &padded, 8, err);
    if (st == CLF_OK) st = clf_output_file_write(&w->file, 8, text, length, err);
    if (st == CLF_OK) st = clf_output_file_write(&w->file, 8 + length, "       ", padded - length, err);
    free(text);
    if (st == CLF_OK) w->data = 8 + padded;
    return st;
}

clf_status clf_safetensors_write_data(clf_safetensors_writer *w, int64_t index, const void *data, uint64_t bytes,
                                      clf_error *err) {
    CLF_CHECK(err, index >= 0 && index < w->n_tensors, CLF_INVALID_ARGUMENT,
              "tensor: expected an index below %" PRId64 ", got %" PRId64, w->n_tensors, index);
    place *p = &w->places[index];
    CLF_CHECK(err, bytes <= p->tensor.nbytes - p->written, CLF_INVALID_ARGUMENT,
              "tensor %" PRId64 ": expected at most %" PRIu64 " bytes, got %" PRIu64, index,
              p->tensor.nbytes - p->written, bytes);
    if (!w->data) CLF_TRY(write_header(w, err));
    CLF_TRY(clf_output_file_write(&w->file, w->data + p->offset + p->written, data, bytes, err));
    p->written += bytes;
    return CLF_OK;
}

clf_status clf_safetensors_writer_finish(clf_safetensors_writer *w, clf_error *err) {
    for (int64_t i = 0; i < w->n_tensors; i++)
        CLF_CHECK(err, w->places[i].written == w->places[i].tensor.nbytes, CLF_INVALID_ARGUMENT,
                  "tensor %" PRId64 ": expected %" PRIu64 " bytes of data, %" PRIu64 " were written", i,
                  w->places[i].tensor.nbytes, w->places[i].written);
    if (!w->data) CLF_TRY(write_header(w, err));
    return clf_output_file_finish(&w->file, w->data + w->end, err);
}
