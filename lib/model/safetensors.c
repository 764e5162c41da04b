/* safetensors.c: reading safetensors files, alone or sharded.
 *
 *     u64 n, n bytes of JSON {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, …}, data
 *
 * The format's own rules hold: a header of at most 100 MB, no duplicate names, spans that fit dtype and shape and cover
 * the data without hole, overlap or rest. A folder's model.safetensors.index.json names the shards, which lie in it. */
#include "safetensors.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "../core/checked.h"
#include "json.h"
#include "name_index.h"
#include "source.h"

#define MAX_HEADER 100000000u

typedef struct entry {
    clf_file_tensor tensor; /* .name is owned */
    uint64_t begin;         /* from the data's start */
    int file;
} entry;

struct clf_safetensors {
    int n_files;
    clf_source *files;
    json_t *metadata; /* of the first file that has any; may be NULL */
    int64_t n_tensors, capacity;
    entry *entries;
    clf_name_index names;
};

static const struct {
    const char *name;
    clf_dtype dtype;
} dtypes[] = {{"F32", CLF_F32}, {"F16", CLF_F16}, {"BF16", CLF_BF16}, {"F64", CLF_F64}, {"I64", CLF_I64},
              {"I32", CLF_I32}, {"I16", CLF_I16}, {"I8", CLF_I8},     {"U8", CLF_U8},   {"BOOL", CLF_BOOL}};

const char *clf_safetensors_dtype_name(clf_dtype dtype) {
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++)
        if (dtypes[i].dtype == dtype) return dtypes[i].name;
    return NULL;
}

static clf_status read_dtype(clf_dtype *out, const json_t *value, clf_error *err) {
    const char *name = json_string_value(value);
    CLF_CHECK(err, name, CLF_BAD_FILE, "dtype: expected a string");
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++)
        if (!strcmp(name, dtypes[i].name)) return *out = dtypes[i].dtype, CLF_OK;
    return clf_fail(err, CLF_UNSUPPORTED,
                    "dtype: expected F32, F16, BF16, F64, I64, I32, I16, I8, U8 or BOOL, got %.40s", name);
}

/* A JSON integer that isn't negative. */
static clf_status read_size(uint64_t *out, const json_t *value, const char *what, clf_error *err) {
    CLF_CHECK(err, json_is_integer(value) && json_integer_value(value) >= 0, CLF_BAD_FILE,
              "%s: expected integers from 0 to 2^63-1", what);
    *out = (uint64_t)json_integer_value(value);
    return CLF_OK;
}

static clf_status read_tensor(entry *e, const json_t *value, clf_error *err) {
    clf_file_tensor *t = &e->tensor;
    const json_t *shape = json_object_get(value, "shape"), *span = json_object_get(value, "data_offsets");
    CLF_CHECK(err, json_is_object(value), CLF_BAD_FILE, "expected an object with dtype, shape and data_offsets");
    CLF_TRY(read_dtype(&t->dtype, json_object_get(value, "dtype"), err));
    CLF_CHECK(err, json_is_array(shape), CLF_BAD_FILE, "shape: expected an array");
    CLF_CHECK(err, json_array_size(shape) <= CLF_MAX_DIMS, CLF_UNSUPPORTED,
              "shape: expected at most %d dimensions, got %zu", CLF_MAX_DIMS, json_array_size(shape));
    t->ndim = (int)json_array_size(shape);
    int64_t elements;
    for (int i = 0; i < t->ndim; i++) {
        uint64_t n = 0;
        CLF_TRY(read_size(&n, json_array_get(shape, (size_t)i), "shape", err));
        t->shape[i] = (int64_t)n;
    }
    CLF_CHECK(err,
              clf_product_i64(t->shape, t->ndim, &elements) &&
                  clf_mul_u64((uint64_t)elements, clf_dtype_block_bytes(t->dtype), &t->nbytes),
              CLF_BAD_FILE, "shape: the number of bytes overflows");
    CLF_CHECK(err, json_is_array(span) && json_array_size(span) == 2, CLF_BAD_FILE,
              "data_offsets: expected two integers");
    uint64_t end = 0;
    CLF_TRY(read_size(&e->begin, json_array_get(span, 0), "data_offsets", err));
    CLF_TRY(read_size(&end, json_array_get(span, 1), "data_offsets", err));
    CLF_CHECK(err, e->begin <= end, CLF_BAD_FILE, "data_offsets: expected begin <= end, got %" PRIu64 ", %" PRIu64,
              e->begin, end);
    CLF_CHECK(err, end - e->begin == t->nbytes, CLF_BAD_FILE,
              "data_offsets: expected %" PRIu64 " bytes for its shape and dtype, got %" PRIu64, t->nbytes,
              end - e->begin);
    return CLF_OK;
}

static clf_status read_metadata(clf_safetensors *s, json_t *value, clf_error *err) {
    const char *key;
    json_t *item;
    CLF_CHECK(err, json_is_object(value), CLF_BAD_FILE, "__metadata__: expected an object");
    json_object_foreach(value, key, item)
        CLF_CHECK(err, json_is_string(item), CLF_BAD_FILE, "__metadata__: %.60s: expected a string", key);
    if (!s->metadata) s->metadata = json_incref(value);
    return CLF_OK;
}

static clf_status add(clf_safetensors *s, const char *name, const json_t *value, clf_error *err) {
    if (s->n_tensors == s->capacity) {
        const int64_t more = s->capacity ? 2 * s->capacity : 256;
        entry *p = realloc(s->entries, (size_t)more * sizeof *p);
        CLF_CHECK(err, p, CLF_OUT_OF_MEMORY, "out of memory for %" PRId64 " tensors", more);
        s->entries = p;
        s->capacity = more;
    }
    entry *e = &s->entries[s->n_tensors];
    *e = (entry){.file = s->n_files - 1};
    const clf_status st = read_tensor(e, value, err);
    if (st != CLF_OK) return clf_fail_in(err, "tensor %.100s", name);
    const size_t length = strlen(name);
    char *copy = malloc(length + 1);
    CLF_CHECK(err, copy, CLF_OUT_OF_MEMORY, "out of memory for a tensor's name");
    memcpy(copy, name, length + 1);
    e->tensor.name = copy;
    s->n_tensors++;
    int64_t earlier;
    CLF_TRY(clf_name_index_add(&s->names, copy, length, s->n_tensors - 1, &earlier, err));
    CLF_CHECK(err, earlier < 0, CLF_BAD_FILE, "tensor %.100s: occurs in two shards", name);
    return CLF_OK;
}

static int by_begin(const void *a, const void *b) {
    const entry *x = *(const entry *const *)a, *y = *(const entry *const *)b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return (x->tensor.nbytes > y->tensor.nbytes) - (x->tensor.nbytes < y->tensor.nbytes);
}

/* The tensors from `first` on cover the `size` bytes at `data` exactly. */
static clf_status place(clf_safetensors *s, int64_t first, const uint8_t *data, uint64_t size, bool metadata_only,
                        clf_error *err) {
    const size_t n = (size_t)(s->n_tensors - first);
    entry **order = malloc(n * sizeof *order + 1);
    CLF_CHECK(err, order, CLF_OUT_OF_MEMORY, "out of memory for %zu tensors", n);
    for (size_t i = 0; i < n; i++) order[i] = &s->entries[first + (int64_t)i];
    qsort(order, n, sizeof *order, by_begin);
    uint64_t at = 0;
    clf_status st = CLF_OK;
    for (size_t i = 0; i < n && st == CLF_OK; i++) {
        clf_file_tensor *t = &order[i]->tensor;
        if (order[i]->begin != at)
            st = clf_fail(err, CLF_BAD_FILE,
                          "tensor %.100s: data_offsets: expected begin %" PRIu64 ", got %" PRIu64 " (%s)", t->name, at,
                          order[i]->begin, order[i]->begin > at ? "a hole" : "an overlap");
        else if (t->nbytes > size - at)
            st = clf_fail(err, CLF_BAD_FILE, "tensor %.100s: expected %" PRIu64 " bytes of data, the file has %" PRIu64,
                          t->name, t->nbytes, size - at);
        else if (!metadata_only)
            t->data = data + at;
        if (st == CLF_OK) at += t->nbytes;
    }
    free(order);
    if (st == CLF_OK && at != size)
        st = clf_fail(err, CLF_BAD_FILE, "expected %" PRIu64 " bytes of data, got %" PRIu64, at, size);
    return st;
}

static clf_status parse(clf_safetensors *s, clf_source *source, bool metadata_only, clf_error *err) {
    uint64_t n;
    CLF_CHECK(err, source->size >= 8, CLF_BAD_FILE, "expected at least 8 bytes, got %" PRIu64, source->size);
    CLF_TRY(clf_source_need(source, 0, 8, err));
    memcpy(&n, source->data, 8);
    CLF_CHECK(err, n >= 2 && n <= MAX_HEADER && n <= source->size - 8, CLF_BAD_FILE,
              "header: expected 2 to %" PRIu64 " bytes, got %" PRIu64,
              source->size - 8 < MAX_HEADER ? source->size - 8 : MAX_HEADER, n);
    CLF_TRY(clf_source_need(source, 0, 8 + n, err));
    CLF_CHECK(err, source->data[8] == '{', CLF_BAD_FILE, "header: expected {, got byte %d", source->data[8]);
    json_t *header, *value;
    const char *name;
    CLF_TRY(clf_json_parse(&header, source->data + 8, n, "header", err));
    const int64_t first = s->n_tensors;
    clf_status st = CLF_OK;
    json_object_foreach(header, name, value) {
        st = !strcmp(name, "__metadata__") ? read_metadata(s, value, err) : add(s, name, value, err);
        if (st != CLF_OK) break;
    }
    json_decref(header);
    CLF_TRY(st);
    CLF_TRY(place(s, first, source->data + 8 + n, source->size - 8 - n, metadata_only, err));
    return metadata_only ? CLF_OK : clf_source_need(source, 8 + n, source->size, err);
}

/* Parses the next file; s->files has room for it. */
static clf_status add_file(clf_safetensors *s, const clf_model_file_args *args, const char *path, clf_error *err) {
    clf_source *source = &s->files[s->n_files];
    CLF_TRY(path ? clf_source_open(source, path, args->mmap, err)
                 : clf_source_wrap(source, args->data, args->data_size, err));
    s->n_files++;
    const clf_status st = parse(s, source, args->metadata_only, err);
    clf_source_seal(source);
    return st == CLF_OK ? st : clf_fail_in(err, "%s", path ? path : "safetensors in memory");
}

static clf_status add_single(clf_safetensors *s, const clf_model_file_args *args, const char *path, clf_error *err) {
    s->files = calloc(1, sizeof *s->files);
    CLF_CHECK(err, s->files, CLF_OUT_OF_MEMORY, "safetensors: out of memory");
    return add_file(s, args, path, err);
}

/* A plain file name: no folder, no way out of this one. */
static bool is_plain(const char *name) {
    return *name && !strchr(name, '/') && !strchr(name, '\\') && strcmp(name, ".") && strcmp(name, "..");
}

/* Lists the distinct files of an index; `names` are the index's own strings. */
static clf_status list_shards(json_t *map, clf_name_index *shards, const char ***names, int *count, clf_error *err) {
    const char *tensor;
    json_t *value;
    int64_t earlier;
    CLF_CHECK(err, json_is_object(map) && json_object_size(map), CLF_BAD_FILE,
              "weight_map: expected an object of tensor names and file names");
    *names = malloc(json_object_size(map) * sizeof **names);
    CLF_CHECK(err, *names, CLF_OUT_OF_MEMORY, "out of memory for %zu names", json_object_size(map));
    json_object_foreach(map, tensor, value) {
        const char *name = json_string_value(value);
        CLF_CHECK(err, name && is_plain(name), CLF_BAD_FILE,
                  "weight_map: %.100s: expected the name of a file in this folder, got %.100s", tensor,
                  name ? name : "no string");
        CLF_TRY(clf_name_index_add(shards, name, strlen(name), *count, &earlier, err));
        if (earlier < 0) (*names)[(*count)++] = name;
    }
    return CLF_OK;
}

static clf_status add_shards(clf_safetensors *s, const clf_model_file_args *args, json_t *map, clf_error *err) {
    clf_name_index shards = {0};
    const char **names = NULL, *tensor;
    json_t *value;
    int count = 0;
    clf_status st;
    CLF_TRY_GOTO(st, list_shards(map, &shards, &names, &count, err));
    s->files = calloc((size_t)count, sizeof *s->files);
    st = s->files ? CLF_OK : clf_fail(err, CLF_OUT_OF_MEMORY, "out of memory for %d shards", count);
    for (int i = 0; i < count && st == CLF_OK; i++) {
        char *path = clf_path_join(args->path, names[i]);
        st = path ? add_file(s, args, path, err) : clf_fail(err, CLF_OUT_OF_MEMORY, "out of memory for a path");
        free(path);
    }
    if (st != CLF_OK) goto fail;
    json_object_foreach(map, tensor, value) {
        const int64_t t = clf_name_index_find(&s->names, tensor, strlen(tensor));
        const char *name = json_string_value(value);
        if (t < 0 || t >= s->n_tensors || s->entries[t].file != clf_name_index_find(&shards, name, strlen(name))) {
            st = clf_fail(err, CLF_BAD_FILE, "weight_map: %.100s: not in %.100s", tensor, name);
            break;
        }
    }
fail:
    free(names);
    clf_name_index_free(&shards);
    return st;
}

static clf_status add_folder(clf_safetensors *s, const clf_model_file_args *args, clf_error *err) {
    struct stat info;
    char *single = clf_path_join(args->path, "model.safetensors");
    char *index = clf_path_join(args->path, "model.safetensors.index.json");
    clf_status st;
    if (!single || !index) {
        st = clf_fail(err, CLF_OUT_OF_MEMORY, "out of memory for a path");
    } else if (!stat(single, &info)) {
        st = add_single(s, args, single, err);
    } else if (!stat(index, &info)) {
        json_t *root;
        st = clf_json_read(&root, index, MAX_HEADER, err);
        if (st == CLF_OK && (st = add_shards(s, args, json_object_get(root, "weight_map"), err)) != CLF_OK)
            clf_fail_in(err, "%s", index);
        json_decref(root);
    } else {
        st = clf_fail(err, CLF_NOT_FOUND, "%s: expected model.safetensors or model.safetensors.index.json in it",
                      args->path);
    }
    free(single);
    free(index);
    return st;
}

clf_status clf_safetensors_open(clf_safetensors **out, const clf_model_file_args *args, clf_error *err) {
    struct stat info;
    *out = NULL;
    clf_safetensors *s = calloc(1, sizeof *s);
    CLF_CHECK(err, s, CLF_OUT_OF_MEMORY, "safetensors: out of memory");
    const bool folder = args->path && !stat(args->path, &info) && S_ISDIR(info.st_mode);
    const clf_status st = folder ? add_folder(s, args, err) : add_single(s, args, args->path, err);
    if (st == CLF_OK)
        *out = s;
    else
        clf_safetensors_close(s);
    return st;
}

void clf_safetensors_close(clf_safetensors *s) {
    if (!s) return;
    for (int64_t i = 0; i < s->n_tensors; i++) free((void *)(uintptr_t)s->entries[i].tensor.name);
    for (int i = 0; i < s->n_files; i++) clf_source_close(&s->files[i]);
    free(s->files);
    free(s->entries);
    clf_name_index_free(&s->names);
    json_decref(s->metadata);
    free(s);
}

int64_t clf_safetensors_count(const clf_safetensors *s) {
    return s->n_tensors;
}
const clf_file_tensor *clf_safetensors_at(const clf_safetensors *s, int64_t index) {
    return index >= 0 && index < s->n_tensors ? &s->entries[index].tensor : NULL;
}
const clf_file_tensor *clf_safetensors_find(const clf_safetensors *s, const char *name) {
    return clf_safetensors_at(s, clf_name_index_find(&s->names, name, strlen(name)));
}
const char *clf_safetensors_metadata(const clf_safetensors *s, const char *key) {
    return json_string_value(json_object_get(s->metadata, key));
}

bool clf_safetensors_reads(const clf_safetensors *st, const char *path) {
    for (int i = 0; i < st->n_files; i++)
        if (clf_source_is_at(&st->files[i], path)) return true;
    return false;
}
