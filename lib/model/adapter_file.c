/* adapter_file.c: LoRA adapters.
 *
 *     PEFT   base_model.model.model.layers.3.self_attn.q_proj.lora_A.weight [r, k], …lora_B.weight [n, r];
 *            scale lora_alpha / r, or lora_alpha / √r with use_rslora; alpha_pattern, rank_pattern by module;
 *            base_model.model.model.embed_tokens.weight, base_model.model.lm_head.weight (modules_to_save)
 *     GGUF   blk.3.attn_q.weight.lora_a, .lora_b; scale adapter.lora.alpha / r */
#include "adapter_file.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "../core/tensor.h"
#include "architecture.h"
#include "gguf.h"
#include "json.h"
#include "name_index.h"
#include "peft.h"
#include "row_order.h"
#include "safetensors.h"

enum { MAX_CONFIG = 16 << 20 };

typedef struct entry {
    clf_adapter_pair pair;
    char name[CLF_NAME_SIZE];
    void *rows; /* B in another order; NULL: as in the file */
} entry;

struct clf_adapter_file {
    const clf_config *base;
    const clf_architecture *architecture;
    clf_rope_pairing pairing; /* in which the file has the rows of queries and keys */
    clf_gguf *gguf;
    clf_safetensors *safetensors;
    const clf_file_tensor *embedding, *output; /* as a whole; NULL: not there */
    int64_t count, capacity;
    entry *entries;
    clf_name_index names;
};

/* Rows of B for queries or keys from one order of rotary pairs into the other, for each head. */
static clf_status reorder(entry *e, int32_t head_dim, clf_rope_pairing from, clf_error *err) {
    clf_file_tensor *b = &e->pair.b;
    e->rows = malloc((size_t)b->nbytes);
    CLF_CHECK(err, e->rows, CLF_OUT_OF_MEMORY, "out of memory for %s", e->name);
    clf_reorder_rows(e->rows, b->data, b->shape[0], b->nbytes / (uint64_t)b->shape[0], head_dim, from);
    b->data = e->rows;
    return CLF_OK;
}

/* Adds the pair of one matrix of the base; `first` is its first row in `b`. */
static clf_status add_part(clf_adapter_file *f, const clf_tensor_rule *r, int layer, const clf_adapter_pair *whole,
                           int64_t first, clf_error *err) {
    if (f->count == f->capacity) {
        const int64_t more = f->capacity ? 2 * f->capacity : 256;
        entry *p = realloc(f->entries, (size_t)more * sizeof *p);
        CLF_CHECK(err, p, CLF_OUT_OF_MEMORY, "out of memory for %" PRId64 " pairs", more);
        f->entries = p;
        f->capacity = more;
    }
    entry *e = &f->entries[f->count++];
    *e = (entry){.pair = *whole};
    snprintf(e->name, sizeof e->name, "blk.%d.%s.weight", layer, r->name);
    clf_file_tensor *b = &e->pair.b;
    const uint64_t row = b->nbytes / (uint64_t)b->shape[0];
    b->shape[0] = clf_extent_of(r->rows, f->base);
    b->nbytes = row * (uint64_t)b->shape[0];
    b->data = (const uint8_t *)b->data + row * (uint64_t)first;
    return clf_tensor_rule_is_rotated(r) && f->pairing != f->base->rope.pairing
               ? reorder(e, f->base->head_dim, f->pairing, err)
               : CLF_OK;
}

static clf_status check_matrix(const char *name, const char *which, const clf_file_tensor *t, int64_t rows,
                               int64_t columns, clf_error *err) {
    CLF_CHECK(err, clf_dtype_is_float(t->dtype), CLF_UNSUPPORTED, "%s: %s: dtype: expected f32, f16 or bf16, got %s",
              name, which, clf_dtype_name(t->dtype));
    CLF_CHECK(err, t->ndim == 2 && t->shape[0] == rows && t->shape[1] == columns, CLF_BAD_FILE,
              "%s: %s: shape: expected [%" PRId64 ", %" PRId64 "], got %d dimensions, [%" PRId64 ", %" PRId64 "]", name,
              which, rows, columns, t->ndim, t->shape[0], t->shape[1]);
    return CLF_OK;
}

/* Checks a pair against the base and adds it, split where the base's matrix is a part of it. */
static clf_status add(clf_adapter_file *f, const clf_tensor_rule *r, int layer, clf_adapter_pair pair, clf_error *err) {
    const int64_t n = clf_extent_of(r->rows, f->base), k = clf_extent_of(r->columns, f->base);
    CLF_CHECK(err, layer < f->base->n_layers, CLF_BAD_FILE, "%s: the base has %d layers", pair.name, f->base->n_layers);
    const int64_t rank = pair.a.ndim == 2 ? pair.a.shape[0] : 0;
    CLF_CHECK(err, rank >= 1 && rank <= k, CLF_BAD_FILE, "%s: A: expected two dimensions and a rank from 1 to %" PRId64,
              pair.name, k);
    CLF_TRY(check_matrix(pair.name, "A", &pair.a, rank, k, err));
    CLF_TRY(check_matrix(pair.name, "B", &pair.b, n, rank, err));
    CLF_CHECK(err, isfinite(pair.scale), CLF_BAD_FILE, "%s: scale: expected a number, got %g", pair.name,
              (double)pair.scale);
    if (r->presence != CLF_IN_FUSED) return add_part(f, r, layer, &pair, 0, err);
    int64_t first = 0;
    for (int i = 0; i < 3 && r->parts[i]; i++) {
        const clf_tensor_rule *part = clf_tensor_rule_named(r->parts[i]);
        CLF_TRY(add_part(f, part, layer, &pair, first, err));
        first += clf_extent_of(part->rows, f->base);
    }
    return CLF_OK;
}

/* Only matrices of layers can be adapted. */
static clf_status check_rule(const clf_tensor_rule *r, const char *name, clf_error *err) {
    CLF_CHECK(err, r && clf_tensor_rule_has_bias(r), CLF_UNSUPPORTED,
              "tensor %.120s: expected an adapter of a layer's query, key, value, output, gate, up or down matrix",
              name);
    return CLF_OK;
}

/* Splits "NAME" + end; false if `name` doesn't end so or is too long for `stem`. */
static bool strip(const char *name, const char *end, char *stem, size_t size) {
    const size_t n = strlen(name), m = strlen(end);
    if (n <= m || n - m >= size || strcmp(name + n - m, end)) return false;
    memcpy(stem, name, n - m);
    stem[n - m] = 0;
    return true;
}

/* A name without PEFT's prefix. */
static const char *inner_name(const char *name) {
    static const char prefix[] = "base_model.model.";
    return strncmp(name, prefix, sizeof prefix - 1) ? name : name + sizeof prefix - 1;
}

/* Takes an embedding or output matrix; false if `t` is neither. */
static bool take_whole(clf_adapter_file *f, const clf_file_tensor *t) {
    char name[CLF_NAME_SIZE];
    int layer;
    const clf_tensor_rule *r = clf_name_from_hf(f->architecture, inner_name(t->name), name, &layer);
    if (!r || (strcmp(r->name, "token_embd") && strcmp(r->name, "output"))) return false;
    *(strcmp(r->name, "output") ? &f->embedding : &f->output) = t;
    return true;
}

static clf_status check_whole(clf_adapter_file *f, clf_error *err) {
    const clf_file_tensor *e = f->embedding, *o = f->output;
    if (e) CLF_TRY(check_matrix(e->name, "whole", e, f->base->vocab_size, f->base->hidden_size, err));
    if (o) CLF_TRY(check_matrix(o->name, "whole", o, f->base->vocab_size, f->base->hidden_size, err));
    if (!f->base->tied_output || (!e && !o)) return CLF_OK;
    CLF_CHECK(err, e && o && e->dtype == o->dtype && !memcmp(e->data, o->data, (size_t)e->nbytes), CLF_UNSUPPORTED,
              "embed_tokens and lm_head: expected both, and equal, as the base has one matrix for them");
    f->output = NULL;
    return CLF_OK;
}

static clf_status add_peft_tensor(clf_adapter_file *f, const clf_peft *peft, const clf_file_tensor *t, clf_error *err) {
    char module[160], other[200], name[CLF_NAME_SIZE];
    int layer;
    if (take_whole(f, t)) return CLF_OK;
    const char *end = ".lora_A.weight", *other_end = ".lora_B.weight";
    if (strip(t->name, other_end, module, sizeof module)) { /* comes with its A, which must be there */
        snprintf(other, sizeof other, "%s%s", module, end);
        CLF_CHECK(err, clf_safetensors_find(f->safetensors, other), CLF_BAD_FILE, "tensor %s: missing", other);
        return CLF_OK;
    }
    CLF_CHECK(err, strip(t->name, end, module, sizeof module), CLF_UNSUPPORTED,
              "tensor %.120s: expected names ending in .lora_A.weight or .lora_B.weight, or embed_tokens or lm_head",
              t->name);
    snprintf(other, sizeof other, "%s%s", module, other_end);
    const clf_file_tensor *b = clf_safetensors_find(f->safetensors, other);
    CLF_CHECK(err, b, CLF_BAD_FILE, "tensor %s: missing", other);
    const char *inner = inner_name(module);
    snprintf(other, sizeof other, "%s.weight", inner);
    const clf_tensor_rule *r = clf_name_from_hf(f->architecture, other, name, &layer);
    CLF_TRY(check_rule(r, t->name, err));
    clf_adapter_pair pair = {.name = t->name, .a = *t, .b = *b};
    CLF_TRY(clf_peft_scale(peft, inner, t->shape[0], &pair.scale, err));
    return add(f, r, layer, pair, err);
}

static clf_status read_peft(clf_adapter_file *f, const char *path, bool mmap, clf_error *err) {
    clf_peft *peft = NULL;
    json_t *root = NULL;
    clf_status st = CLF_OK;
    char *config = clf_path_join(path, "adapter_config.json"),
         *weights = clf_path_join(path, "adapter_model.safetensors");
    if (!config || !weights) st = clf_fail(err, CLF_OUT_OF_MEMORY, "out of memory for a path");
    if (st == CLF_OK) st = clf_json_read(&root, config, MAX_CONFIG, err);
    if (st == CLF_OK && (st = clf_peft_create(&peft, root, err)) != CLF_OK) clf_fail_in(err, "%s", config);
    if (st == CLF_OK)
        st = clf_safetensors_open(&f->safetensors, &(clf_model_file_args){.path = weights, .mmap = mmap}, err);
    f->pairing = CLF_ROPE_HALVES;
    for (int64_t i = 0; st == CLF_OK && i < clf_safetensors_count(f->safetensors); i++)
        if ((st = add_peft_tensor(f, peft, clf_safetensors_at(f->safetensors, i), err)) != CLF_OK)
            clf_fail_in(err, "%s", path);
    if (st == CLF_OK && (st = check_whole(f, err)) != CLF_OK) clf_fail_in(err, "%s", path);
    clf_peft_destroy(peft);
    json_decref(root);
    free(config);
    free(weights);
    return st;
}

static clf_status add_gguf_tensor(clf_adapter_file *f, double alpha, const clf_file_tensor *t, clf_error *err) {
    char matrix[CLF_NAME_SIZE], other[CLF_NAME_SIZE + 8];
    int layer;
    const char *suffix;
    if (strip(t->name, ".lora_b", matrix, sizeof matrix)) {
        snprintf(other, sizeof other, "%s.lora_a", matrix);
        CLF_CHECK(err, clf_gguf_find(f->gguf, other), CLF_BAD_FILE, "tensor %s: missing", other);
        return CLF_OK;
    }
    CLF_CHECK(err, strip(t->name, ".lora_a", matrix, sizeof matrix), CLF_UNSUPPORTED,
              "tensor %s: expected names ending in .lora_a or .lora_b", t->name);
    snprintf(other, sizeof other, "%s.lora_b", matrix);
    const clf_file_tensor *b = clf_gguf_find(f->gguf, other);
    CLF_CHECK(err, b, CLF_BAD_FILE, "tensor %s: missing", other);
    const clf_tensor_rule *r = clf_name_parse(matrix, &layer, &suffix);
    CLF_TRY(check_rule(r, t->name, err));
    if (!strcmp(r->name, "ffn_up") && b->shape[0] == clf_extent_of(CLF_EXTENT_GATE_UP, f->base))
        r = clf_tensor_rule_named("ffn_gate_up"); /* phi3 */
    const double scale = alpha != 0 ? alpha / (double)t->shape[0] : 1;
    return add(f, r, layer, (clf_adapter_pair){.name = t->name, .a = *t, .b = *b, .scale = (float)scale}, err);
}

static bool is_text(const clf_gguf *g, const char *key, const char *text) {
    clf_string s;
    return clf_gguf_get_string(g, key, &s) && s.length == strlen(text) && !memcmp(s.data, text, strlen(text));
}

static clf_status take_gguf(clf_adapter_file *f, clf_error *err) {
    const clf_architecture *a;
    clf_string name = {"", 0};
    double alpha = 0;
    CLF_CHECK(err, is_text(f->gguf, "general.type", "adapter"), CLF_BAD_FILE, "general.type: expected \"adapter\"");
    CLF_CHECK(err, is_text(f->gguf, "adapter.type", "lora"), CLF_UNSUPPORTED, "adapter.type: expected \"lora\"");
    clf_gguf_get_string(f->gguf, "general.architecture", &name);
    CLF_TRY(clf_architecture_from_gguf(&a, name.data, (size_t)name.length, err));
    CLF_CHECK(err, a == clf_architecture_in_gguf(f->architecture), CLF_BAD_FILE,
              "general.architecture: expected the base's, %s, got %s", f->architecture->name, a->name);
    CLF_CHECK(err,
              !clf_gguf_has(f->gguf, "adapter.lora.alpha") || clf_gguf_get_f64(f->gguf, "adapter.lora.alpha", &alpha),
              CLF_BAD_FILE, "adapter.lora.alpha: expected a number");
    f->pairing = a->pairing;
    for (int64_t i = 0; i < clf_gguf_tensor_count(f->gguf); i++)
        CLF_TRY(add_gguf_tensor(f, alpha, clf_gguf_tensor(f->gguf, i), err));
    return CLF_OK;
}

static clf_status read_gguf(clf_adapter_file *f, const char *path, bool mmap, clf_error *err) {
    CLF_TRY(clf_gguf_open(&f->gguf, &(clf_model_file_args){.path = path, .mmap = mmap}, err));
    const clf_status st = take_gguf(f, err);
    return st == CLF_OK ? st : clf_fail_in(err, "%s", path);
}

static clf_status index_names(clf_adapter_file *f, const char *path, clf_error *err) {
    CLF_CHECK(err, f->count, CLF_BAD_FILE, "%s: expected a LoRA adapter, found no pair", path);
    for (int64_t i = 0; i < f->count; i++) {
        entry *e = &f->entries[i];
        int64_t earlier;
        e->pair.name = e->name;
        CLF_TRY(clf_name_index_add(&f->names, e->name, strlen(e->name), i, &earlier, err));
        CLF_CHECK(err, earlier < 0, CLF_BAD_FILE, "%s: %s: adapted twice", path, e->name);
    }
    return CLF_OK;
}

clf_status clf_adapter_file_open(clf_adapter_file **out, const char *path, bool mmap, const clf_config *base,
                                 clf_error *err) {
    struct stat info;
    *out = NULL;
    CLF_CHECK(err, path && *path, CLF_INVALID_ARGUMENT, "adapter: expected a path");
    clf_adapter_file *f = calloc(1, sizeof *f);
    CLF_CHECK(err, f, CLF_OUT_OF_MEMORY, "adapter: out of memory");
    f->base = base;
    f->architecture = clf_architecture_named(base->architecture);
    clf_status st =
        f->architecture ? CLF_OK : clf_fail(err, CLF_INVALID_ARGUMENT, "adapter: the base is no known model");
    if (st == CLF_OK)
        st =
            !stat(path, &info) && S_ISDIR(info.st_mode) ? read_peft(f, path, mmap, err) : read_gguf(f, path, mmap, err);
    if (st == CLF_OK) st = index_names(f, path, err);
    f->base = NULL;
    if (st == CLF_OK)
        *out = f;
    else
        clf_adapter_file_close(f);
    return st;
}

void clf_adapter_file_close(clf_adapter_file *f) {
    if (!f) return;
    for (int64_t i = 0; i < f->count; i++) free(f->entries[i].rows);
    free(f->entries);
    clf_name_index_free(&f->names);
    clf_gguf_close(f->gguf);
    clf_safetensors_close(f->safetensors);
    free(f);
}

int64_t clf_adapter_file_count(const clf_adapter_file *f) {
    return f->count;
}
const clf_adapter_pair *clf_adapter_file_at(const clf_adapter_file *f, int64_t index) {
    return index >= 0 && index < f->count ? &f->entries[index].pair : NULL;
}
const clf_adapter_pair *clf_adapter_file_find(const clf_adapter_file *f, const char *name) {
    return clf_adapter_file_at(f, clf_name_index_find(&f->names, name, strlen(name)));
}
const clf_file_tensor *clf_adapter_file_embedding(const clf_adapter_file *f) {
    return f->embedding;
}
const clf_file_tensor *clf_adapter_file_output(const clf_adapter_file *f) {
    return f->output;
}
