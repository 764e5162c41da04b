/* gguf.c: reading GGUF (versions 2 and 3, little-endian): header, keys with values, tensor descriptions, data.
 *
 *     "GGUF", u32 version, u64 tensors, u64 keys
 *     per key:     string name, u32 type, value            string: u64 length, bytes
 *     per tensor:  string name, u32 n_dims, u64 ne[n_dims] (fastest first), u32 type, u64 offset
 *     padding, data                                         array: u32 type, u64 count, elements
 *
 * Nothing is allocated by what a count says, only by what was found; a file that claims more than it holds fails where
 * it ends. Limits: 512 MiB of metadata, keys of 65535 bytes, names of 63 bytes, arrays of 2^24 strings. */
#include "gguf.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <utf8proc.h>

#include "../core/checked.h"
#include "../core/dtype.h"
#include "gguf_state.h"

#define MAX_METADATA  ((uint64_t)1 << 29)
#define MAX_STRINGS   ((uint64_t)1 << 24)
#define MAX_ALIGNMENT ((uint64_t)1 << 24)

static const struct {
    const char *name;
    uint64_t bytes;
} types[] = {{"u8", 1},   {"i8", 1},     {"u16", 2},   {"i16", 2}, {"u32", 4}, {"i32", 4}, {"f32", 4},
             {"bool", 1}, {"string", 0}, {"array", 0}, {"u64", 8}, {"i64", 8}, {"f64", 8}};
enum { TYPES = sizeof types / sizeof *types };

uint64_t clf_gguf_type_bytes(uint32_t type) {
    return type < TYPES ? types[type].bytes : 0;
}
const char *clf_gguf_type_name(uint32_t type) {
    return type < TYPES ? types[type].name : "?";
}

/* A place in the metadata. */
typedef struct cursor {
    clf_source *source;
    uint64_t at;
    clf_error *err;
} cursor;

/* Moves over `bytes` bytes, which are then readable at *p. */
static clf_status take(cursor *c, uint64_t bytes, const uint8_t **p) {
    uint64_t end;
    CLF_CHECK(c->err, clf_add_u64(c->at, bytes, &end) && end <= c->source->size, CLF_BAD_FILE,
              "the file ends too early: expected %" PRIu64 " bytes at %" PRIu64 ", got %" PRIu64, bytes, c->at,
              c->source->size - c->at);
    CLF_CHECK(c->err, end <= MAX_METADATA, CLF_BAD_FILE, "metadata: expected at most %" PRIu64 " bytes", MAX_METADATA);
    CLF_TRY(clf_source_need(c->source, c->at, end, c->err));
    if (p) *p = c->source->data + c->at;
    c->at = end;
    return CLF_OK;
}

static clf_status take_u32(cursor *c, uint32_t *out) {
    const uint8_t *p = NULL;
    CLF_TRY(take(c, 4, &p));
    memcpy(out, p, 4);
    return CLF_OK;
}
static clf_status take_u64(cursor *c, uint64_t *out) {
    const uint8_t *p = NULL;
    CLF_TRY(take(c, 8, &p));
    memcpy(out, p, 8);
    return CLF_OK;
}
static clf_status take_string(cursor *c, clf_string *out) {
    const uint8_t *p = NULL;
    uint64_t length = 0;
    CLF_TRY(take_u64(c, &length));
    CLF_TRY(take(c, length, &p));
    *out = (clf_string){(const char *)p, length};
    return CLF_OK;
}

bool clf_gguf_is_name(const char *name, uint64_t length, uint64_t max) {
    const utf8proc_uint8_t *p = (const utf8proc_uint8_t *)name;
    if (length < 1 || length > max) return false;
    for (utf8proc_ssize_t i = 0, n = (utf8proc_ssize_t)length; i < n;) {
        utf8proc_int32_t code;
        const utf8proc_ssize_t used = utf8proc_iterate(p + i, n - i, &code);
        if (used <= 0 || code < 32 || code == 127) return false;
        i += used;
    }
    return true;
}

static clf_status take_name(cursor *c, const char *what, uint64_t max, clf_string *out) {
    const uint64_t at = c->at;
    CLF_TRY(take_string(c, out));
    CLF_CHECK(c->err, clf_gguf_is_name(out->data, out->length, max), CLF_BAD_FILE,
              "%s at byte %" PRIu64 ": expected 1 to %" PRIu64
              " bytes of UTF-8 without control characters, got %" PRIu64 " bytes",
              what, at, max, out->length);
    return CLF_OK;
}

static clf_status take_bools(cursor *c, uint64_t count) {
    const uint8_t *p = NULL;
    CLF_TRY(take(c, count, &p));
    for (uint64_t i = 0; i < count; i++)
        CLF_CHECK(c->err, p[i] <= 1, CLF_BAD_FILE, "bool: expected 0 or 1, got %d", p[i]);
    return CLF_OK;
}

/* Walks over an array of strings, noting where each begins. */
static clf_status take_strings(cursor *c, uint64_t count, uint64_t **out) {
    CLF_CHECK(c->err, count <= MAX_STRINGS, CLF_BAD_FILE, "array: expected at most %" PRIu64 " strings, got %" PRIu64,
              MAX_STRINGS, count);
    uint64_t capacity = 0;
    for (uint64_t i = 0; i < count; i++) {
        if (i == capacity) {
            capacity = capacity ? 2 * capacity : 1024;
            uint64_t *p = realloc(*out, (size_t)capacity * sizeof *p);
            CLF_CHECK(c->err, p, CLF_OUT_OF_MEMORY, "out of memory for an array of %" PRIu64 " strings", count);
            *out = p;
        }
        clf_string s;
        (*out)[i] = c->at;
        CLF_TRY(take_string(c, &s));
    }
    return CLF_OK;
}

static clf_status take_array(cursor *c, clf_gguf_value *v) {
    uint32_t type = 0;
    uint64_t bytes;
    CLF_TRY(take_u32(c, &type));
    CLF_CHECK(c->err, type < TYPES && type != CLF_GGUF_ARRAY, CLF_BAD_FILE,
              "array: expected an element type below %d and no array of arrays, got %" PRIu32, TYPES, type);
    v->element = (clf_gguf_type)type;
    CLF_TRY(take_u64(c, &v->count));
    v->offset = c->at;
    if (type == CLF_GGUF_STRING) return take_strings(c, v->count, &v->strings);
    if (type == CLF_GGUF_BOOL) return take_bools(c, v->count);
    CLF_CHECK(c->err, clf_mul_u64(v->count, clf_gguf_type_bytes(type), &bytes), CLF_BAD_FILE,
              "array: %" PRIu64 " elements overflow", v->count);
    return take(c, bytes, NULL);
}

static clf_status take_value(cursor *c, clf_gguf_value *v) {
    uint32_t type = 0;
    CLF_TRY(take_u32(c, &type));
    CLF_CHECK(c->err, type < TYPES, CLF_BAD_FILE, "type: expected below %d, got %" PRIu32, TYPES, type);
    v->type = v->element = (clf_gguf_type)type;
    v->count = 1;
    v->offset = c->at;
    clf_string s;
    if (type == CLF_GGUF_ARRAY) return take_array(c, v);
    if (type == CLF_GGUF_STRING) return take_string(c, &s);
    if (type == CLF_GGUF_BOOL) return take_bools(c, 1);
    return take(c, clf_gguf_type_bytes(type), NULL);
}

/* Makes room for one more element of *array. */
static clf_status grow(void **array, int64_t count, int64_t *capacity, size_t size, clf_error *err) {
    if (count < *capacity) return CLF_OK;
    const int64_t more = *capacity ? 2 * *capacity : 64;
    void *p = realloc(*array, (size_t)more * size);
    CLF_CHECK(err, p, CLF_OUT_OF_MEMORY, "out of memory for %" PRId64 " entries", more);
    *array = p;
    *capacity = more;
    return CLF_OK;
}

static clf_status take_pairs(clf_gguf *g, cursor *c, uint64_t count) {
    int64_t capacity = 0, earlier;
    for (uint64_t i = 0; i < count; i++) {
        clf_string key;
        clf_status st = take_name(c, "key", CLF_GGUF_MAX_KEY, &key);
        if (st != CLF_OK) return clf_fail_in(c->err, "key %" PRIu64 " of %" PRIu64, i, count);
        CLF_TRY(grow((void **)&g->values, g->n_values, &capacity, sizeof *g->values, c->err));
        const int shown = key.length < 100 ? (int)key.length : 100;
        CLF_TRY(clf_name_index_add(&g->keys, key.data, key.length, g->n_values, &earlier, c->err));
        CLF_CHECK(c->err, earlier < 0, CLF_BAD_FILE, "%.*s: duplicate key", shown, key.data);
        clf_gguf_value *v = &g->values[g->n_values++];
        *v = (clf_gguf_value){.key = key};
        if ((st = take_value(c, v)) != CLF_OK) return clf_fail_in(c->err, "%.*s", shown, key.data);
    }
    return CLF_OK;
}

/* Shape, dtype and size; the data's offset goes to *offset. */
static clf_status take_shape(cursor *c, clf_file_tensor *t, uint64_t *offset) {
    uint32_t n_dims = 0, type = 0;
    CLF_TRY(take_u32(c, &n_dims));
    CLF_CHECK(c->err, n_dims >= 1 && n_dims <= CLF_MAX_DIMS, CLF_BAD_FILE, "dimensions: expected 1 to %d, got %" PRIu32,
              CLF_MAX_DIMS, n_dims);
    t->ndim = (int)n_dims;
    uint64_t elements = 1;
    for (int i = t->ndim - 1; i >= 0; i--) {
        uint64_t n = 0;
        CLF_TRY(take_u64(c, &n));
        CLF_CHECK(c->err, n >= 1 && n <= INT64_MAX, CLF_BAD_FILE,
                  "dimension %d: expected a positive size, got %" PRId64, t->ndim - 1 - i, (int64_t)n);
        CLF_CHECK(c->err, clf_mul_u64(elements, n, &elements) && elements <= INT64_MAX, CLF_BAD_FILE,
                  "shape: the number of elements overflows");
        t->shape[i] = (int64_t)n;
    }
    CLF_TRY(take_u32(c, &type));
    CLF_CHECK(c->err, clf_dtype_from_gguf(type, &t->dtype), CLF_UNSUPPORTED,
              "tensor type %" PRIu32 " is unknown or no longer in use", type);
    const int64_t columns = t->shape[t->ndim - 1];
    const int values = clf_dtype_block_values(t->dtype);
    CLF_CHECK(c->err, columns % values == 0, CLF_BAD_FILE, "row length: expected a multiple of %d for %s, got %" PRId64,
              values, clf_dtype_name(t->dtype), columns);
    CLF_CHECK(c->err, !clf_dtype_is_interleaved(t->dtype) || (t->ndim == 2 && t->shape[0] % CLF_PANEL_ROWS == 0),
              CLF_BAD_FILE, "shape: expected a matrix of a multiple of %d rows for %s", CLF_PANEL_ROWS,
              clf_dtype_name(t->dtype));
    CLF_CHECK(c->err, clf_mul_u64(elements / (uint64_t)values, clf_dtype_block_bytes(t->dtype), &t->nbytes),
              CLF_BAD_FILE, "shape: the number of bytes overflows");
    return take_u64(c, offset);
}

/* One description; *end is where the previous tensor's data end, padded, counted from the data's start. */
static clf_status take_tensor(clf_gguf *g, cursor *c, clf_string name, uint64_t alignment, uint64_t *end) {
    clf_gguf_tensor_entry *e = &g->tensors[g->n_tensors];
    uint64_t offset = 0;
    *e = (clf_gguf_tensor_entry){0};
    memcpy(e->name, name.data, (size_t)name.length);
    CLF_TRY(take_shape(c, &e->tensor, &offset));
    CLF_CHECK(c->err, offset == *end, CLF_BAD_FILE,
              "offset: expected %" PRIu64 " (tensors lie one after another), got %" PRIu64, *end, offset);
    CLF_CHECK(c->err, clf_add_u64(offset, e->tensor.nbytes, end) && clf_align_u64(*end, alignment, end), CLF_BAD_FILE,
              "the sum of the tensors' sizes overflows");
    int64_t earlier;
    CLF_TRY(clf_name_index_add(&g->tensor_names, name.data, name.length, g->n_tensors, &earlier, c->err));
    CLF_CHECK(c->err, earlier < 0, CLF_BAD_FILE, "duplicate tensor name");
    g->n_tensors++;
    return CLF_OK;
}

static clf_status take_tensors(clf_gguf *g, cursor *c, uint64_t count, uint64_t alignment) {
    int64_t capacity = 0;
    uint64_t end = 0;
    for (uint64_t i = 0; i < count; i++) {
        clf_string name;
        clf_status st = take_name(c, "name", CLF_GGUF_NAME - 1, &name);
        if (st != CLF_OK) return clf_fail_in(c->err, "tensor %" PRIu64 " of %" PRIu64, i, count);
        CLF_TRY(grow((void **)&g->tensors, g->n_tensors, &capacity, sizeof *g->tensors, c->err));
        if ((st = take_tensor(g, c, name, alignment, &end)) != CLF_OK)
            return clf_fail_in(c->err, "tensor %.*s", (int)name.length, name.data);
    }
    return CLF_OK;
}

/* Gives every tensor its name and, unless only the metadata are wanted, its data, which begin at the next multiple of
 * the alignment. */
static clf_status place(clf_gguf *g, cursor *c, uint64_t alignment, bool metadata_only) {
    uint64_t begin = 0, at, end = 0;
    CLF_CHECK(c->err, clf_align_u64(c->at, alignment, &begin), CLF_BAD_FILE, "padding overflows");
    at = begin;
    for (int64_t i = 0; i < g->n_tensors; i++) {
        clf_file_tensor *t = &g->tensors[i].tensor;
        t->name = g->tensors[i].name;
        CLF_CHECK(c->err, clf_add_u64(at, t->nbytes, &end) && end <= g->source.size, CLF_BAD_FILE,
                  "tensor %s: expected data up to byte %" PRIu64 ", the file has %" PRIu64, t->name, end,
                  g->source.size);
        if (!metadata_only) t->data = g->source.data + at;
        CLF_CHECK(c->err, clf_align_u64(end, alignment, &at), CLF_BAD_FILE, "padding overflows");
    }
    return g->n_tensors && !metadata_only ? clf_source_need(&g->source, begin, end, c->err) : CLF_OK;
}

static clf_status take_header(clf_gguf *g, cursor *c, uint64_t *n_tensors, uint64_t *n_pairs) {
    const uint8_t *magic = NULL;
    CLF_CHECK(c->err, g->source.size, CLF_BAD_FILE, "the file is empty");
    CLF_TRY(take(c, 4, &magic));
    CLF_CHECK(c->err, !memcmp(magic, "GGUF", 4), CLF_BAD_FILE,
              "magic: expected 47 47 55 46 (GGUF), got %02x %02x %02x %02x", magic[0], magic[1], magic[2], magic[3]);
    CLF_TRY(take_u32(c, &g->version));
    CLF_CHECK(c->err, g->version & 0xffff, CLF_UNSUPPORTED, "version: expected 2 or 3, got %" PRIu32 " (big-endian?)",
              g->version);
    CLF_CHECK(c->err, g->version == 2 || g->version == 3, CLF_UNSUPPORTED, "version: expected 2 or 3, got %" PRIu32,
              g->version);
    CLF_TRY(take_u64(c, n_tensors));
    CLF_TRY(take_u64(c, n_pairs));
    CLF_CHECK(c->err, *n_tensors <= INT64_MAX && *n_pairs <= INT64_MAX, CLF_BAD_FILE,
              "counts: expected no negative number, got %" PRId64 " tensors, %" PRId64 " keys", (int64_t)*n_tensors,
              (int64_t)*n_pairs);
    return CLF_OK;
}

static clf_status take_alignment(const clf_gguf *g, clf_error *err, uint64_t *alignment) {
    *alignment = 32;
    if (!clf_gguf_has(g, "general.alignment")) return CLF_OK;
    const clf_gguf_value *v = clf_gguf_value_of(g, "general.alignment");
    CLF_CHECK(err, clf_gguf_get_u64(g, "general.alignment", alignment), CLF_BAD_FILE,
              "general.alignment: expected u32, got %s", clf_gguf_type_name(v->type));
    CLF_CHECK(err, *alignment && *alignment <= MAX_ALIGNMENT && !(*alignment & (*alignment - 1)), CLF_BAD_FILE,
              "general.alignment: expected a power of two up to %" PRIu64 ", got %" PRIu64, MAX_ALIGNMENT, *alignment);
    return CLF_OK;
}

static clf_status parse(clf_gguf *g, bool metadata_only, clf_error *err) {
    cursor c = {&g->source, 0, err};
    uint64_t n_tensors = 0, n_pairs = 0, alignment = 0;
    CLF_TRY(take_header(g, &c, &n_tensors, &n_pairs));
    CLF_TRY(take_pairs(g, &c, n_pairs));
    CLF_TRY(take_alignment(g, err, &alignment));
    CLF_TRY(take_tensors(g, &c, n_tensors, alignment));
    return place(g, &c, alignment, metadata_only);
}

clf_status clf_gguf_open(clf_gguf **out, const clf_model_file_args *args, clf_error *err) {
    *out = NULL;
    clf_gguf *g = calloc(1, sizeof *g);
    CLF_CHECK(err, g, CLF_OUT_OF_MEMORY, "gguf: out of memory");
    clf_status st = args->path ? clf_source_open(&g->source, args->path, args->mmap, err)
                               : clf_source_wrap(&g->source, args->data, args->data_size, err);
    if (st == CLF_OK) clf_source_ask_large(&g->source);
    if (st == CLF_OK && (st = parse(g, args->metadata_only, err)) != CLF_OK)
        clf_fail_in(err, "%s", args->path ? args->path : "GGUF in memory");
    clf_source_seal(&g->source);
    if (st == CLF_OK)
        *out = g;
    else
        clf_gguf_close(g);
    return st;
}

void clf_gguf_close(clf_gguf *g) {
    if (!g) return;
    for (int64_t i = 0; i < g->n_values; i++) free(g->values[i].strings);
    free(g->values);
    free(g->tensors);
    clf_name_index_free(&g->keys);
    clf_name_index_free(&g->tensor_names);
    clf_source_close(&g->source);
    free(g);
}

bool clf_gguf_reads(const clf_gguf *g, const char *path) {
    return clf_source_is_at(&g->source, path);
}

bool clf_is_gguf_name(const char *path) {
    const size_t n = strlen(path);
    return n > 5 && !strcasecmp(path + n - 5, ".gguf");
}

int64_t clf_gguf_tensor_count(const clf_gguf *g) {
    return g->n_tensors;
}
const clf_file_tensor *clf_gguf_tensor(const clf_gguf *g, int64_t index) {
    return index >= 0 && index < g->n_tensors ? &g->tensors[index].tensor : NULL;
}
const clf_file_tensor *clf_gguf_find(const clf_gguf *g, const char *name) {
    return clf_gguf_tensor(g, clf_name_index_find(&g->tensor_names, name, strlen(name)));
}
