/* checkpoint.c: a training run on disk: a safetensors file of every master weight and its optimizer state, by name, and
 * in the metadata what isn't a tensor. `checksum` is the XXH3 of all that, in order, so that a file which was cut or
 * changed is refused before anything is taken from it. Floats in metadata are written so that they read back equal. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "../model/safetensors_write.h"
#include "trainer.h"

enum { PARTS = 5, NAME_SIZE = CLF_WEIGHT_NAME_SIZE + 32 };

/* Part 0 … 4 of a parameter, and what its name is; NULL: it has none. */
static clf_tensor *part_of(clf_parameter *p, int part, char name[NAME_SIZE]) {
    static const char *const suffixes[PARTS] = {"", ".momentum", ".variance", ".momentum_scale", ".variance_scale"};
    clf_tensor *const parts[PARTS] = {&p->master, &p->momentum, &p->variance, &p->momentum_scale, &p->variance_scale};
    snprintf(name, NAME_SIZE, "%s%s", p->name, suffixes[part]);
    return parts[part]->buffer ? parts[part] : NULL;
}

/* Goes over all parts in their order; each(state, name, tensor) until one fails. */
typedef clf_status each_part(void *state, const char *name, clf_tensor *t);
static clf_status for_parts(const clf_trainer *t, each_part *each, void *state) {
    for (int i = 0; i < t->parameters.count; i++)
        for (int part = 0; part < PARTS; part++) {
            char name[NAME_SIZE];
            clf_tensor *tensor = part_of(&t->parameters.all[i], part, name);
            if (tensor) CLF_TRY(each(state, name, tensor));
        }
    return CLF_OK;
}

/* 2 has other codes of 8-bit state; where there are none, files are as they were in 1. */
static const char *version_of(const clf_trainer *t) {
    return t->args.optimizer_8bit ? "2" : "1";
}

/* What isn't a tensor, as text. */
typedef struct facts {
    const char *version;
    char model[20], step[24], micro_batch[24], loss_scale[40];
    const char *extra;
} facts;

static void hash_facts(XXH3_state_t *hash, const facts *f) {
    const char *const all[] = {f->version, f->model, f->step, f->micro_batch, f->loss_scale, f->extra};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) XXH3_64bits_update(hash, all[i], strlen(all[i]) + 1);
}

/* Writing */

typedef struct writing {
    clf_error *err;
    clf_safetensors_writer *file;
    XXH3_state_t *hash;
    int64_t index;
    void *data; /* [capacity] */
    size_t capacity;
} writing;

static clf_status describe(void *state, const char *name, clf_tensor *t) {
    writing *w = state;
    clf_file_tensor d = {.name = name, .dtype = t->dtype, .ndim = t->ndim};
    memcpy(d.shape, t->shape, sizeof d.shape);
    return clf_safetensors_write_tensor(w->file, &d, w->err);
}

static clf_status write_part(void *state, const char *name, clf_tensor *t) {
    writing *w = state;
    const size_t bytes = clf_dtype_bytes(t->dtype, clf_elements(t));
    if (bytes > w->capacity) {
        void *data = realloc(w->data, bytes);
        CLF_CHECK(w->err, data, CLF_OUT_OF_MEMORY, "checkpoint: %s: out of host memory", name);
        w->data = data;
        w->capacity = bytes;
    }
    CLF_TRY(clf_tensor_read(t, w->data, bytes));
    XXH3_64bits_update(w->hash, w->data, bytes);
    return clf_safetensors_write_data(w->file, w->index++, w->data, bytes, w->err);
}

static clf_status write_metadata(writing *w, const facts *f) {
    const char *const pairs[][2] = {
        {"format", "clformer checkpoint"}, {"version", f->version},       {"model", f->model}, {"step", f->step},
        {"micro_batch", f->micro_batch},   {"loss_scale", f->loss_scale}, {"extra", f->extra}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        CLF_TRY(clf_safetensors_write_metadata(w->file, pairs[i][0], pairs[i][1], w->err));
    return CLF_OK;
}

static clf_status write_all(const clf_trainer *t, writing *w, const facts *f) {
    const clf_file_tensor checksum = {.name = "checksum", .dtype = CLF_I64, .ndim = 1, .shape = {1}};
    CLF_TRY(write_metadata(w, f));
    CLF_TRY(for_parts(t, describe, w));
    CLF_TRY(clf_safetensors_write_tensor(w->file, &checksum, w->err));
    hash_facts(w->hash, f);
    CLF_TRY(for_parts(t, write_part, w));
    const uint64_t sum = XXH3_64bits_digest(w->hash);
    CLF_TRY(clf_safetensors_write_data(w->file, w->index, &sum, sizeof sum, w->err));
    return clf_safetensors_writer_finish(w->file, w->err);
}

clf_status clf_trainer_save(clf_trainer *t, const char *path, const char *extra) {
    if (!t || !path) return CLF_INVALID_ARGUMENT;
    CLF_TRY(clf_model_enter(t->args.model));
    writing w = {.err = &t->ctx->error, .hash = XXH3_createState()};
    facts f = {.version = version_of(t), .extra = extra ? extra : ""};
    snprintf(f.model, sizeof f.model, "%016" PRIx64, t->model);
    snprintf(f.step, sizeof f.step, "%" PRId64, t->step);
    snprintf(f.micro_batch, sizeof f.micro_batch, "%" PRId64, t->settled);
    snprintf(f.loss_scale, sizeof f.loss_scale, "%a", (double)t->args.loss_scale);
    clf_status st = w.hash ? clf_safetensors_writer_create(&w.file, path, w.err)
                           : clf_fail(w.err, CLF_OUT_OF_MEMORY, "checkpoint: out of host memory");
    if (st == CLF_OK) {
        XXH3_64bits_reset(w.hash);
        st = write_all(t, &w, &f);
    }
    clf_safetensors_writer_destroy(w.file);
    XXH3_freeState(w.hash);
    free(w.data);
    return st;
}

/* Reading */

typedef struct reading {
    clf_error *err;
    const char *path;
    clf_safetensors *file;
    XXH3_state_t *hash;
    int64_t count;
} reading;

/* The part is there with this trainer's dtype and shape; its data join the hash. */
static clf_status check_part(void *state, const char *name, clf_tensor *t) {
    reading *r = state;
    const clf_file_tensor *f = clf_safetensors_find(r->file, name);
    CLF_CHECK(r->err, f, CLF_BAD_FILE, "checkpoint %s: %s is missing: it is of another training", r->path, name);
    bool same = f->dtype == t->dtype && f->ndim == t->ndim;
    for (int i = 0; same && i < t->ndim; i++) same = f->shape[i] == t->shape[i];
    CLF_CHECK(r->err, same, CLF_BAD_FILE, "checkpoint %s: %s has another shape or dtype: it is of another training",
              r->path, name);
    XXH3_64bits_update(r->hash, f->data, (size_t)f->nbytes);
    r->count++;
    return CLF_OK;
}

static clf_status read_part(void *state, const char *name, clf_tensor *t) {
    const reading *r = state;
    const clf_file_tensor *f = clf_safetensors_find(r->file, name);
    return clf_tensor_write(t, f->data, (size_t)f->nbytes);
}

static clf_status copy_fact(const reading *r, const char *key, char *out, size_t size) {
    const char *value = clf_safetensors_metadata(r->file, key);
    CLF_CHECK(r->err, value && strlen(value) < size, CLF_BAD_FILE, "checkpoint %s: %s is missing or too long", r->path,
              key);
    snprintf(out, size, "%s", value);
    return CLF_OK;
}

static clf_status read_facts(const clf_trainer *t, const reading *r, facts *f) {
    char model[20], version[8];
    const char *format = clf_safetensors_metadata(r->file, "format");
    CLF_CHECK(r->err, format && !strcmp(format, "clformer checkpoint"), CLF_BAD_FILE,
              "checkpoint %s: it is a safetensors file, but no checkpoint", r->path);
    CLF_TRY(copy_fact(r, "version", version, sizeof version));
    f->version = version_of(t);
    CLF_CHECK(r->err, !strcmp(version, f->version), CLF_UNSUPPORTED,
              "checkpoint %s: version: expected %s, got %s: its optimizer state is of another kind", r->path,
              f->version, version);
    CLF_TRY(copy_fact(r, "model", f->model, sizeof f->model));
    CLF_TRY(copy_fact(r, "step", f->step, sizeof f->step));
    CLF_TRY(copy_fact(r, "micro_batch", f->micro_batch, sizeof f->micro_batch));
    CLF_TRY(copy_fact(r, "loss_scale", f->loss_scale, sizeof f->loss_scale));
    f->extra = clf_safetensors_metadata(r->file, "extra");
    CLF_CHECK(r->err, f->extra, CLF_BAD_FILE, "checkpoint %s: extra is missing", r->path);
    snprintf(model, sizeof model, "%016" PRIx64, t->model);
    CLF_CHECK(r->err, !strcmp(model, f->model), CLF_BAD_FILE, "checkpoint %s: it is of another model or adapter",
              r->path);
    return CLF_OK;
}

/* Everything is there and as it was written. */
static clf_status verify(const clf_trainer *t, reading *r, facts *f) {
    CLF_TRY(read_facts(t, r, f));
    XXH3_64bits_reset(r->hash);
    hash_facts(r->hash, f);
    CLF_TRY(for_parts(t, check_part, r));
    const clf_file_tensor *sum = clf_safetensors_find(r->file, "checksum");
    CLF_CHECK(r->err, sum && sum->nbytes == sizeof(uint64_t) && clf_safetensors_count(r->file) == r->count + 1,
              CLF_BAD_FILE, "checkpoint %s: it has tensors that this training lacks", r->path);
    uint64_t want;
    memcpy(&want, sum->data, sizeof want);
    CLF_CHECK(r->err, want == XXH3_64bits_digest(r->hash), CLF_BAD_FILE,
              "checkpoint %s: its checksum is wrong: the file is damaged", r->path);
    return CLF_OK;
}

/* What the forward pass uses follows the master weights; gradients begin anew. */
static clf_status refresh(const clf_trainer *t) {
    for (int i = 0; i < t->parameters.count; i++) {
        clf_parameter *p = &t->parameters.all[i];
        CLF_TRY(clf_parameter_refresh(p));
        CLF_TRY(clf_tensor_clear(&p->gradient));
    }
    return CLF_OK;
}

static clf_status load(clf_trainer *t, reading *r, char *extra, size_t extra_size) {
    facts f;
    CLF_TRY(clf_safetensors_open(&r->file, &(clf_model_file_args){.path = r->path}, r->err));
    CLF_TRY(verify(t, r, &f));
    CLF_CHECK(r->err, !extra || strlen(f.extra) < extra_size, CLF_FULL,
              "checkpoint %s: extra: expected room for %zu bytes, got %zu", r->path, strlen(f.extra) + 1, extra_size);
    CLF_TRY(for_parts(t, read_part, r));
    t->step = strtoll(f.step, NULL, 10);
    t->micro_batch = t->settled = strtoll(f.micro_batch, NULL, 10);
    t->args.loss_scale = strtof(f.loss_scale, NULL);
    if (extra) snprintf(extra, extra_size, "%s", f.extra);
    return refresh(t);
}

clf_status clf_trainer_load(clf_trainer *t, const char *path, char *extra, size_t extra_size) {
    if (!t || !path) return CLF_INVALID_ARGUMENT;
    CLF_TRY(clf_model_enter(t->args.model));
    reading r = {.err = &t->ctx->error, .path = path, .hash = XXH3_createState()};
    const clf_status st =
        r.hash ? load(t, &r, extra, extra_size) : clf_fail(r.err, CLF_OUT_OF_MEMORY, "checkpoint: out of host memory");
    clf_safetensors_close(r.file);
    XXH3_freeState(r.hash);
    return st;
}
