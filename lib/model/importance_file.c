/* importance_file.c: reading importance matrices, both formats into one table of names. */
#include "importance_file.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gguf.h"
#include "name_index.h"
#include "source.h"

enum { MAX_ENTRIES = 1 << 20, MAX_COLUMNS = 1 << 24, MAX_NAME = 255 };

struct clf_importance_file {
    clf_importance_entry *entries;
    int64_t count, capacity;
    clf_name_index names;
};

/* A new entry with room for its means. */
static clf_status add(clf_importance_file *f, const char *name, size_t length, int64_t columns,
                      clf_importance_entry **out, clf_error *err) {
    CLF_CHECK(err, length >= 1 && length <= MAX_NAME && !memchr(name, 0, length), CLF_BAD_FILE,
              "importance: name: expected 1 to %d bytes, got %zu", MAX_NAME, length);
    CLF_CHECK(err, columns >= 1 && columns <= MAX_COLUMNS, CLF_BAD_FILE,
              "importance: %.*s: expected 1 to %d columns, got %" PRId64, (int)length, name, MAX_COLUMNS, columns);
    if (f->count == f->capacity) {
        const int64_t more = f->capacity ? 2 * f->capacity : 256;
        clf_importance_entry *p = realloc(f->entries, (size_t)more * sizeof *p);
        CLF_CHECK(err, p, CLF_OUT_OF_MEMORY, "importance: out of memory for %" PRId64 " entries", more);
        f->entries = p;
        f->capacity = more;
    }
    clf_importance_entry *e = &f->entries[f->count];
    *e = (clf_importance_entry){
        .name = malloc(length + 1), .columns = columns, .mean = malloc((size_t)columns * sizeof *e->mean)};
    f->count++;
    CLF_CHECK(err, e->name && e->mean, CLF_OUT_OF_MEMORY, "importance: out of memory for %.*s", (int)length, name);
    memcpy(e->name, name, length);
    e->name[length] = 0;
    int64_t earlier;
    CLF_TRY(clf_name_index_add(&f->names, e->name, length, f->count - 1, &earlier, err));
    CLF_CHECK(err, earlier < 0, CLF_BAD_FILE, "importance: %s: occurs twice", e->name);
    *out = e;
    return CLF_OK;
}

/* Sums of squares, at any address, and how many there were of each. */
static clf_status take_means(clf_importance_entry *e, const void *sums, double count, clf_error *err) {
    CLF_CHECK(err, count >= 0 && isfinite(count), CLF_BAD_FILE,
              "importance: %s: count: expected a number from 0, got %g", e->name, count);
    memcpy(e->mean, sums, (size_t)e->columns * sizeof *e->mean);
    for (int64_t i = 0; i < e->columns; i++) {
        CLF_CHECK(err, e->mean[i] >= 0 && isfinite(e->mean[i]), CLF_BAD_FILE,
                  "importance: %s: column %" PRId64 ": expected a finite number from 0, got %g", e->name, i,
                  (double)e->mean[i]);
        e->mean[i] = count > 0 ? (float)((double)e->mean[i] / count) : 1;
    }
    return CLF_OK;
}

static clf_status take_tensor(clf_importance_file *f, const clf_gguf *gguf, const clf_file_tensor *sums,
                              clf_error *err) {
    const size_t n = strlen(sums->name) - strlen(CLF_IMPORTANCE_SUMS);
    char name[MAX_NAME + 1];
    CLF_CHECK(err, n < sizeof name - sizeof CLF_IMPORTANCE_COUNTS, CLF_BAD_FILE, "importance: %s: too long a name",
              sums->name);
    snprintf(name, sizeof name, "%.*s" CLF_IMPORTANCE_COUNTS, (int)n, sums->name);
    const clf_file_tensor *counts = clf_gguf_find(gguf, name);
    CLF_CHECK(err, counts, CLF_BAD_FILE, "importance: tensor %s: missing", name);
    CLF_CHECK(err, sums->dtype == CLF_F32 && counts->dtype == CLF_F32, CLF_BAD_FILE,
              "importance: %s: expected f32, got %s", sums->name, clf_dtype_name(sums->dtype));
    CLF_CHECK(err, clf_file_elements(counts) == 1 && clf_file_elements(sums) == sums->shape[sums->ndim - 1],
              CLF_UNSUPPORTED, "importance: %s: expected one matrix, got experts", sums->name);
    float count;
    memcpy(&count, counts->data, sizeof count);
    clf_importance_entry *e;
    CLF_TRY(add(f, sums->name, n, clf_file_elements(sums), &e, err));
    return take_means(e, sums->data, (double)count, err);
}

static bool ends_with(const char *name, const char *end) {
    const size_t n = strlen(name), m = strlen(end);
    return n > m && !strcmp(name + n - m, end);
}

static clf_status read_gguf(clf_importance_file *f, const clf_gguf *gguf, clf_error *err) {
    clf_string type;
    CLF_CHECK(err,
              clf_gguf_get_string(gguf, "general.type", &type) && type.length == strlen(CLF_IMPORTANCE_TYPE) &&
                  !memcmp(type.data, CLF_IMPORTANCE_TYPE, (size_t)type.length),
              CLF_BAD_FILE, "general.type: expected " CLF_IMPORTANCE_TYPE);
    for (int64_t i = 0; i < clf_gguf_tensor_count(gguf); i++) {
        const clf_file_tensor *t = clf_gguf_tensor(gguf, i);
        if (ends_with(t->name, CLF_IMPORTANCE_SUMS)) CLF_TRY(take_tensor(f, gguf, t, err));
    }
    return CLF_OK;
}

/* The older format. */
typedef struct cursor {
    const uint8_t *data;
    uint64_t size, at;
    clf_error *err;
} cursor;

static clf_status take(cursor *c, uint64_t bytes, const uint8_t **out) {
    CLF_CHECK(c->err, bytes <= c->size - c->at, CLF_BAD_FILE,
              "importance: expected a GGUF or a .dat file of llama-imatrix, which end later: %" PRIu64
              " bytes at %" PRIu64 " of %" PRIu64,
              bytes, c->at, c->size);
    *out = c->data + c->at;
    c->at += bytes;
    return CLF_OK;
}

static clf_status take_i32(cursor *c, const char *what, int32_t least, int32_t most, int32_t *out) {
    const uint8_t *p = NULL;
    CLF_TRY(take(c, sizeof *out, &p));
    memcpy(out, p, sizeof *out);
    CLF_CHECK(c->err, *out >= least && *out <= most, CLF_BAD_FILE,
              "importance: expected a GGUF or a .dat file of llama-imatrix: %s: expected %d to %d, got %d", what, least,
              most, *out);
    return CLF_OK;
}

static clf_status read_dat(clf_importance_file *f, cursor *c) {
    int32_t entries;
    CLF_TRY(take_i32(c, "entries", 1, MAX_ENTRIES, &entries));
    for (int32_t i = 0; i < entries; i++) {
        int32_t length, calls, columns;
        const uint8_t *name = NULL, *sums = NULL;
        clf_importance_entry *e;
        CLF_TRY(take_i32(c, "length of a name", 1, MAX_NAME, &length));
        CLF_TRY(take(c, (uint64_t)length, &name));
        CLF_TRY(take_i32(c, "calls", 0, INT32_MAX, &calls));
        CLF_TRY(take_i32(c, "columns", 1, MAX_COLUMNS, &columns));
        CLF_TRY(take(c, (uint64_t)columns * sizeof(float), &sums));
        CLF_TRY(add(f, (const char *)name, (size_t)length, columns, &e, c->err));
        CLF_TRY(take_means(e, sums, (double)calls, c->err));
    }
    return CLF_OK;
}

static clf_status read_file(clf_importance_file *f, const char *path, clf_error *err) {
    clf_source source;
    CLF_TRY(clf_source_open(&source, path, true, err));
    clf_status st;
    if (source.size >= 4 && !memcmp(source.data, "GGUF", 4)) {
        clf_gguf *gguf;
        st = clf_gguf_open(&gguf, &(clf_model_file_args){.path = path, .mmap = true}, err);
        if (st == CLF_OK && (st = read_gguf(f, gguf, err)) != CLF_OK) clf_fail_in(err, "%s", path);
        clf_gguf_close(gguf);
    } else {
        cursor c = {source.data, source.size, 0, err};
        if ((st = read_dat(f, &c)) != CLF_OK) clf_fail_in(err, "%s", path);
    }
    if (st == CLF_OK && !f->count) st = clf_fail(err, CLF_BAD_FILE, "%s: importance of no matrix", path);
    clf_source_close(&source);
    return st;
}

clf_status clf_importance_file_open(clf_importance_file **out, const char *path, clf_error *err) {
    *out = NULL;
    clf_importance_file *f = calloc(1, sizeof *f);
    CLF_CHECK(err, f, CLF_OUT_OF_MEMORY, "importance: out of memory");
    const clf_status st = read_file(f, path, err);
    if (st == CLF_OK)
        *out = f;
    else
        clf_importance_file_close(f);
    return st;
}

void clf_importance_file_close(clf_importance_file *f) {
    if (!f) return;
    for (int64_t i = 0; i < f->count; i++) {
        free(f->entries[i].name);
        free(f->entries[i].mean);
    }
    free(f->entries);
    clf_name_index_free(&f->names);
    free(f);
}

const clf_importance_entry *clf_importance_file_find(const clf_importance_file *f, const char *name) {
    const int64_t i = clf_name_index_find(&f->names, name, strlen(name));
    return i < 0 ? NULL : &f->entries[i];
}

/* A matrix by GGUF's name: the model's, or one whose parts the model is read as ("blk.0.attn_qkv.weight"). */
static const clf_file_tensor *find_matrix(const clf_model_file *m, const char *name) {
    int layer;
    const char *suffix;
    char part[CLF_NAME_SIZE];
    const clf_file_tensor *t = clf_model_file_find(m, name);
    const clf_tensor_rule *r = t ? NULL : clf_name_parse(name, &layer, &suffix);
    if (r && r->parts[0])
        t = clf_model_file_find(m, clf_name_in_gguf(part, clf_tensor_rule_named(r->parts[0]), layer, suffix));
    return t && t->ndim == 2 ? t : NULL;
}

clf_status clf_importance_file_check(const clf_importance_file *f, const clf_model_file *m, clf_error *err) {
    for (int64_t i = 0; i < f->count; i++) {
        const clf_importance_entry *e = &f->entries[i];
        const clf_file_tensor *t = find_matrix(m, e->name);
        CLF_CHECK(err, t, CLF_INVALID_ARGUMENT,
                  "quantize: importance: %s: the model has no such matrix; is it of another model?", e->name);
        CLF_CHECK(err, t->shape[1] == e->columns, CLF_INVALID_ARGUMENT,
                  "quantize: importance: %s: expected %" PRId64 " columns, got %" PRId64 "; is it of another model?",
                  e->name, t->shape[1], e->columns);
    }
    return CLF_OK;
}
