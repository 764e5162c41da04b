/* quantize.c: a model file becomes one of other dtypes: what each tensor becomes is decided first, then they are
 * written one after the other. */
#include "quantize.h"

#include <fnmatch.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../core/context.h"
#include "gguf_from_folder.h"
#include "quantize_mix.h"

enum { PANEL_ALIGNMENT = 64 /* words of panels lie in one line of a cache */ };
#define MOST_TERNARY_ERROR 0.1 /* more, and the weights weren't ternary: nothing of the model is left */

typedef struct job {
    clf_context *ctx;
    const clf_quantize_args *args;
    const clf_quantize_type *type;
    clf_model_file *file;
    clf_importance_file *importance;
    clf_gguf_factors factors;
    clf_quantize_item *items;
    int64_t count;
    bool *matched; /* [n_overrides] */
    bool repacked; /* at least one */
    clf_gguf_writer *writer;
    clf_quantize_stream stream;
    clf_weight_error error; /* of what was quantised */
    clf_quantize_result result;
} job;

static clf_error *error_of(const job *j) {
    return &j->ctx->error;
}

/* The first override that matches, or NULL. */
static const clf_quantize_override *override_of(job *j, const char *name) {
    for (int i = 0; i < j->args->n_overrides; i++)
        if (!fnmatch(j->args->overrides[i].name, name, 0)) return j->matched[i] = true, &j->args->overrides[i];
    return NULL;
}

static bool suits(clf_dtype dtype, int64_t columns) {
    return columns % clf_dtype_block_values(dtype) == 0;
}

/* T2 and T1: ternary matrices of blocks are repacked, all else stays as it is. */
static clf_status repack(job *j, clf_quantize_item *item, const clf_tensor_rule *r) {
    CLF_CHECK(error_of(j), !override_of(j, item->name), CLF_INVALID_ARGUMENT,
              "quantize: overrides: %.80s: %s only repacks", item->name, j->type->name);
    item->repacked = clf_dtype_is_ternary(item->out.dtype) && r->layer && !r->parts[0] &&
                     item->out.shape[0] % CLF_PANEL_ROWS == 0 && suits(j->type->dtype, item->out.shape[1]);
    if (item->repacked) item->out.dtype = j->type->dtype;
    j->repacked |= item->repacked;
    return CLF_OK;
}

/* What a matrix becomes: what an override says, or the type, or, in a mix, its better dtype. */
static clf_status choose(job *j, clf_quantize_item *item, const char *stem, int layer) {
    const clf_quantize_override *override = override_of(j, item->name);
    const int64_t columns = item->out.shape[1];
    clf_dtype dtype = j->type->dtype;
    if (override)
        dtype = override->dtype;
    else if (!j->args->pure)
        dtype = clf_quantize_mixed(j->type, clf_model_file_config(j->file),
                                   (clf_quantize_place){stem, layer, j->importance != NULL});
    if (!override && dtype != j->type->dtype && !suits(dtype, columns)) /* a finer one that suits, if any */
        dtype = suits(CLF_Q8_0, columns) ? CLF_Q8_0 : j->type->dtype;
    item->fell_back = !suits(dtype, columns);
    CLF_CHECK(error_of(j), !item->fell_back || !j->args->pure, CLF_INVALID_ARGUMENT,
              "quantize: tensor %s: rows of %" PRId64 " weights aren't whole blocks of %s, which have %d", item->name,
              columns, clf_dtype_name(dtype), clf_dtype_block_values(dtype));
    item->out.dtype = item->fell_back ? CLF_F16 : dtype;
    return CLF_OK;
}

/* A fused matrix meets what its parts meet. */
static const clf_importance_entry *importance_of(const job *j, const char *name, const clf_tensor_rule *r, int layer) {
    char part[CLF_NAME_SIZE];
    const clf_importance_entry *e = j->importance ? clf_importance_file_find(j->importance, name) : NULL;
    if (e || !j->importance || !r->parts[0]) return e;
    return clf_importance_file_find(j->importance,
                                    clf_name_in_gguf(part, clf_tensor_rule_named(r->parts[0]), layer, ".weight"));
}

/* A folder's tensors have other names, another order of rows in a llama's queries and keys, and Gemma's norms are less
 * one there. */
static void convert(const job *j, clf_quantize_item *item, const clf_tensor_rule *r, int layer, const char *suffix) {
    const clf_config *c = clf_model_file_config(j->file);
    const clf_architecture *a = clf_architecture_named(c->architecture);
    clf_name_in_gguf(item->name, r, layer, suffix);
    if (clf_tensor_rule_is_rotated(r) && c->rope.pairing != clf_architecture_in_gguf(a)->pairing)
        item->head_dim = c->head_dim;
    if (a->gemma && item->out.ndim < 2) item->offset = 1;
}

static clf_status add(job *j, const clf_file_tensor *t) {
    int layer;
    const char *suffix;
    const clf_tensor_rule *r = clf_model_file_rule(j->file, t, &layer, &suffix);
    const bool folder = !clf_model_file_gguf(j->file);
    if (folder && !r) return CLF_OK; /* no part of a decoder */
    clf_quantize_item *item = &j->items[j->count++];
    *item = (clf_quantize_item){.source = t, .out = *t};
    strncpy(item->name, t->name, sizeof item->name - 1);
    item->out.name = item->name;
    if (folder) convert(j, item, r, layer, suffix);
    if (t->ndim < 2) item->out.dtype = CLF_F32;
    if (!r || t->ndim != 2) return CLF_OK;
    if (clf_dtype_is_interleaved(j->type->dtype)) return repack(j, item, r);
    item->importance = importance_of(j, item->name, r, layer);
    return choose(j, item, r->name, layer);
}

static void add_factors(job *j) {
    clf_gguf_factors_of(&j->factors, clf_model_file_config(j->file));
    for (int i = 0; i < j->factors.count; i++) {
        clf_quantize_item *item = &j->items[j->count++];
        *item = (clf_quantize_item){.source = &j->factors.tensor[i], .out = j->factors.tensor[i]};
        strncpy(item->name, item->source->name, sizeof item->name - 1);
        item->out.name = item->name;
    }
}

static clf_status plan(job *j) {
    const clf_file_tensor *t;
    int64_t n = 0;
    while (clf_model_file_stored(j->file, n)) n++;
    j->items = calloc((size_t)n + 2, sizeof *j->items);
    j->matched = calloc((size_t)j->args->n_overrides + 1, sizeof *j->matched);
    CLF_CHECK(error_of(j), j->items && j->matched, CLF_OUT_OF_MEMORY, "quantize: out of memory for %" PRId64 " tensors",
              n);
    for (int64_t i = 0; (t = clf_model_file_stored(j->file, i)); i++) CLF_TRY(add(j, t));
    if (!clf_model_file_gguf(j->file)) add_factors(j);
    for (int i = 0; i < j->args->n_overrides; i++)
        CLF_CHECK(error_of(j), j->matched[i], CLF_INVALID_ARGUMENT, "quantize: overrides: %.80s: matches no matrix",
                  j->args->overrides[i].name);
    CLF_CHECK(error_of(j), !clf_dtype_is_interleaved(j->type->dtype) || j->repacked, CLF_UNSUPPORTED,
              "quantize: type %s: expected a model with ternary matrices, of tq1_0, tq2_0 or q2_0", j->type->name);
    return CLF_OK;
}

/* Keys, then what each tensor will be. */
static clf_status describe(job *j) {
    clf_error *err = error_of(j);
    bool blocks = false;
    for (int64_t i = 0; i < j->count; i++) blocks |= clf_dtype_is_block(j->items[i].out.dtype);
    CLF_TRY(clf_gguf_writer_create(&j->writer, j->args->output, err));
    if (j->repacked) CLF_TRY(clf_gguf_write_alignment(j->writer, PANEL_ALIGNMENT, err));
    CLF_TRY(clf_gguf_write_u32(j->writer, "general.file_type", j->type->file_type, err));
    if (blocks) CLF_TRY(clf_gguf_write_u32(j->writer, "general.quantization_version", 2, err));
    const clf_gguf *gguf = clf_model_file_gguf(j->file);
    CLF_TRY(gguf ? clf_gguf_write_keys_of(j->writer, gguf, err)
                 : clf_gguf_write_keys_of_folder(j->writer, j->file, err));
    for (int64_t i = 0; i < j->count; i++) CLF_TRY(clf_gguf_write_tensor(j->writer, &j->items[i].out, err));
    return CLF_OK;
}

static clf_status check_ternary(const job *j, const clf_quantized_tensor *t) {
    if (j->args->force || !clf_dtype_is_ternary(t->to) || t->relative_error <= MOST_TERNARY_ERROR) return CLF_OK;
    return clf_fail(error_of(j), CLF_UNSUPPORTED,
                    "tensor %s: relative error %.3f as %s: these weights aren't ternary and rounding destroys them; "
                    "%s is for models trained so",
                    t->name, t->relative_error, clf_dtype_name(t->to), clf_dtype_name(t->to));
}

static clf_status write_item(job *j, int64_t index) {
    const clf_quantize_item *item = &j->items[index];
    clf_weight_error e = {0};
    CLF_TRY(clf_quantize_write(&j->stream, item, index, &e));
    clf_quantized_tensor t = {.name = item->name,
                              .index = (int)index,
                              .count = (int)j->count,
                              .ndim = item->out.ndim,
                              .from = item->source->dtype,
                              .to = item->out.dtype,
                              .fell_back = item->fell_back,
                              .bytes = clf_dtype_bytes(item->out.dtype, e.count),
                              .relative_error = clf_weight_error_relative(&e),
                              .max_error = e.largest,
                              .cosine = clf_weight_error_cosine(&e)};
    memcpy(t.shape, item->out.shape, sizeof t.shape);
    if (clf_dtype_is_ternary(t.to)) {
        t.zeros = (double)e.zeros / (double)e.count;
        t.ternary = !e.far;
    }
    CLF_TRY(check_ternary(j, &t));
    j->result.source_bytes += item->source->nbytes;
    j->result.bytes += t.bytes;
    j->result.parameters += e.count;
    j->result.fell_back += t.fell_back;
    if (clf_dtype_is_block(t.to)) clf_weight_error_join(&j->error, &e);
    if (j->args->tensor && !j->args->tensor(j->args->user, &t))
        return clf_fail(error_of(j), CLF_CANCELLED, "quantize: cancelled at tensor %s", item->name);
    return CLF_OK;
}

static clf_status check_args(job *j) {
    clf_error *err = error_of(j);
    const clf_quantize_args *a = j->args;
    CLF_CHECK(err, j->ctx->backend->host, CLF_INVALID_ARGUMENT, "quantize: ctx: expected a CPU context, got %s",
              j->ctx->device_name);
    CLF_CHECK(err, a->input && *a->input, CLF_INVALID_ARGUMENT, "quantize: input: expected a path");
    CLF_CHECK(err, a->output && clf_is_gguf_name(a->output), CLF_INVALID_ARGUMENT,
              "quantize: output: expected NAME.gguf, got %.200s", a->output ? a->output : "NULL");
    CLF_CHECK(err, a->type, CLF_INVALID_ARGUMENT, "quantize: type is NULL");
    CLF_TRY(clf_quantize_type_named(&j->type, a->type, err));
    CLF_CHECK(err, a->n_overrides >= 0 && (a->overrides || !a->n_overrides), CLF_INVALID_ARGUMENT,
              "quantize: overrides is NULL");
    for (int i = 0; i < a->n_overrides; i++)
        CLF_CHECK(err,
                  a->overrides[i].name &&
                      (clf_dtype_is_float(a->overrides[i].dtype) || clf_dtype_is_block(a->overrides[i].dtype)) &&
                      clf_dtype_to_gguf(a->overrides[i].dtype) >= 0 && !clf_dtype_is_interleaved(a->overrides[i].dtype),
                  CLF_INVALID_ARGUMENT,
                  "quantize: overrides[%d]: expected a name and a dtype of weights in GGUF, got %s", i,
                  clf_dtype_name(a->overrides[i].dtype));
    return CLF_OK;
}

static clf_status open_inputs(job *j) {
    clf_error *err = error_of(j);
    CLF_TRY(clf_model_file_open(&j->file, &(clf_model_file_args){.path = j->args->input, .mmap = true}, err));
    CLF_CHECK(err, !clf_model_file_reads(j->file, j->args->output), CLF_INVALID_ARGUMENT,
              "quantize: output: %.200s is a file of the input", j->args->output);
    if (!j->args->importance) return CLF_OK;
    CLF_TRY(clf_importance_file_open(&j->importance, j->args->importance, err));
    return clf_importance_file_check(j->importance, j->file, err);
}

static clf_status run(job *j) {
    CLF_TRY(check_args(j));
    CLF_TRY(open_inputs(j));
    CLF_TRY(plan(j));
    CLF_TRY(describe(j));
    CLF_TRY(clf_quantize_stream_begin(&j->stream, j->ctx, j->writer, j->items, j->count));
    for (int64_t i = 0; i < j->count; i++) CLF_TRY(write_item(j, i));
    j->result.relative_error = clf_weight_error_relative(&j->error);
    return clf_gguf_writer_finish(j->writer, error_of(j));
}

clf_status clf_quantize(clf_context *ctx, const clf_quantize_args *args, clf_quantize_result *result) {
    CLF_TRY(clf_enter(ctx));
    clf_leave(ctx, CLF_OK);
    CLF_CHECK(&ctx->error, args, CLF_INVALID_ARGUMENT, "quantize: args is NULL");
    job j = {.ctx = ctx, .args = args};
    const clf_status st = run(&j);
    if (st == CLF_OK && result) *result = j.result;
    clf_quantize_stream_end(&j.stream);
    clf_gguf_writer_destroy(j.writer);
    clf_importance_file_close(j.importance);
    clf_model_file_close(j.file);
    free(j.items);
    free(j.matched);
    return st;
}
