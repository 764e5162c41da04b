/* model_file.c: one model's tensors under GGUF's names with its configuration, from a GGUF file, its shards, or a
 * Hugging Face folder. What a decoder needs is checked here: each tensor's presence and shape, and that there is none
 * that the decoder would silently pass over. */
#include "model_file.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "../core/checked.h"
#include "../core/tensor.h"
#include "gguf.h"
#include "gguf_shards.h"
#include "json.h"
#include "name_index.h"
#include "nf4.h"
#include "packed.h"
#include "read_config.h"
#include "safetensors.h"
#include "source.h"

enum { MAX_CONFIG = 16 << 20 };

typedef struct entry {
    clf_file_tensor tensor;
    char name[CLF_NAME_SIZE];
} entry;

struct clf_model_file {
    clf_config config;
    const clf_architecture *architecture;
    char *path;
    clf_gguf_shards gguf; /* the first has the keys; none: a folder */
    clf_safetensors *safetensors;
    clf_packed_list hf; /* what the folder holds */
    int64_t count, capacity;
    entry *entries;
    clf_name_index names;
};

/* Adds a tensor. Until index() the name is only in the entry, which may move. */
static clf_status add(clf_model_file *f, const char *name, const clf_file_tensor *t, clf_error *err) {
    if (f->count == f->capacity) {
        const int64_t more = f->capacity ? 2 * f->capacity : 512;
        entry *p = realloc(f->entries, (size_t)more * sizeof *p);
        CLF_CHECK(err, p, CLF_OUT_OF_MEMORY, "out of memory for %" PRId64 " tensors", more);
        f->entries = p;
        f->capacity = more;
    }
    entry *e = &f->entries[f->count++];
    e->tensor = *t;
    snprintf(e->name, sizeof e->name, "%s", name);
    return CLF_OK;
}

/* Rows [first, first + rows) of a matrix or vector under another name. */
static clf_status add_part(clf_model_file *f, const char *name, const clf_file_tensor *whole, int64_t first,
                           int64_t rows, clf_error *err) {
    clf_file_tensor t = *whole;
    t.first_row = first;
    const uint64_t row_bytes = whole->nbytes / (uint64_t)whole->shape[0];
    t.shape[0] = rows;
    t.nbytes = row_bytes * (uint64_t)rows;
    if (t.data && !t.packed) t.data = (const uint8_t *)t.data + row_bytes * (uint64_t)first;
    return add(f, name, &t, err);
}

static clf_status fail_shape(const char *name, const clf_file_tensor *t, int64_t rows, int64_t columns,
                             clf_error *err) {
    char want[64], got[96] = "";
    if (columns)
        snprintf(want, sizeof want, "[%" PRId64 ", %" PRId64 "]", rows, columns);
    else
        snprintf(want, sizeof want, "[%" PRId64 "]", rows);
    for (int i = 0; i < t->ndim; i++) {
        const size_t n = strlen(got);
        snprintf(got + n, sizeof got - n, "%s%" PRId64, i ? ", " : "", t->shape[i]);
    }
    return clf_fail(err, CLF_BAD_FILE, "tensor %s: shape: expected %s, got [%s]", name, want, got);
}

/* columns 0: a vector */
static clf_status check_shape(const char *name, const clf_file_tensor *t, int64_t rows, int64_t columns,
                              clf_error *err) {
    const bool fits =
        columns ? t->ndim == 2 && t->shape[0] == rows && t->shape[1] == columns : t->ndim == 1 && t->shape[0] == rows;
    CLF_CHECK(err, clf_dtype_is_float(t->dtype) || (columns && clf_dtype_is_block(t->dtype)), CLF_UNSUPPORTED,
              "tensor %s: dtype: expected %s, got %s", name, columns ? "f32, f16, bf16 or blocks" : "f32, f16 or bf16",
              clf_dtype_name(t->dtype));
    return fits ? CLF_OK : fail_shape(name, t, rows, columns, err);
}

static clf_status check_rule(const clf_model_file *f, const clf_tensor_rule *r, const char *name, bool bias,
                             const clf_file_tensor *t, clf_error *err) {
    const int64_t columns = bias || !r->columns ? 0 : clf_extent_of(r->columns, &f->config);
    CLF_CHECK(err, !clf_dtype_is_interleaved(t->dtype) || (r->layer && !r->parts[0]), CLF_UNSUPPORTED,
              "tensor %s: dtype: expected rows, got %s, which is for matrices of blocks that aren't fused", name,
              clf_dtype_name(t->dtype));
    return check_shape(name, t, clf_extent_of(r->rows, &f->config), columns, err);
}

/* Adds the parts of a fused tensor: attn_qkv, ffn_gate_up. */
static clf_status add_fused(clf_model_file *f, const clf_tensor_rule *r, int layer, const char *suffix,
                            const clf_file_tensor *t, clf_error *err) {
    CLF_TRY(check_rule(f, r, t->name, !strcmp(suffix, ".bias"), t, err));
    int64_t first = 0;
    for (int i = 0; i < 3 && r->parts[i]; i++) {
        char name[CLF_NAME_SIZE];
        const int64_t rows = clf_extent_of(clf_tensor_rule_named(r->parts[i])->rows, &f->config);
        snprintf(name, sizeof name, "blk.%d.%s%s", layer, r->parts[i], suffix);
        CLF_TRY(add_part(f, name, t, first, rows, err));
        first += rows;
    }
    return CLF_OK;
}

/* Tensors that no decoder needs: tables that it computes itself. */
static bool is_ignored(const char *name) {
    static const char *const ends[] = {".rotary_emb.inv_freq", ".attn_rot_embd.weight"};
    const size_t n = strlen(name);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (n > strlen(ends[i]) && !strcmp(name + n - strlen(ends[i]), ends[i])) return true;
    return false;
}

static clf_status fail_unknown(const char *name, const clf_model_file *f, clf_error *err) {
    return clf_fail(err, CLF_UNSUPPORTED, "tensor %.100s: a %s decoder of %d layers does not know it", name,
                    f->architecture->name, f->config.n_layers);
}

const clf_tensor_rule *clf_model_file_rule(const clf_model_file *f, const clf_file_tensor *t, int *layer,
                                           const char **suffix) {
    char name[CLF_NAME_SIZE];
    const clf_tensor_rule *r;
    if (f->safetensors) {
        r = clf_name_from_hf(f->architecture, t->name, name, layer);
        *suffix = strrchr(t->name, '.');
        if (r && r->presence == CLF_IN_UNTIED && f->config.tied_output) return NULL;
    } else {
        r = clf_name_parse(t->name, layer, suffix);
        /* phi3: ffn_up holds gate and up */
        if (r && !strcmp(r->name, "ffn_up") && t->shape[0] == clf_extent_of(CLF_EXTENT_GATE_UP, &f->config))
            r = clf_tensor_rule_named("ffn_gate_up");
    }
    return *layer < f->config.n_layers ? r : NULL;
}

static clf_status add_gguf_tensor(clf_model_file *f, const clf_file_tensor *t, clf_error *err) {
    int layer;
    const char *suffix;
    const clf_tensor_rule *r = clf_model_file_rule(f, t, &layer, &suffix);
    if (!strncmp(t->name, "rope_", 5)) return add(f, t->name, t, err);
    if (is_ignored(t->name)) return CLF_OK;
    if (!r) return fail_unknown(t->name, f, err);
    return r->presence == CLF_IN_FUSED ? add_fused(f, r, layer, suffix, t, err) : add(f, t->name, t, err);
}

static clf_status add_hf_tensor(clf_model_file *f, const clf_file_tensor *t, clf_error *err) {
    int layer;
    char name[CLF_NAME_SIZE];
    const char *suffix;
    const clf_tensor_rule *r = clf_model_file_rule(f, t, &layer, &suffix);
    if (is_ignored(t->name)) return CLF_OK;
    if (!r) {
        /* parts that are no decoder layer (an image tower) may be there; a layer's unknown part may not */
        const bool part = strstr(t->name, "model.layers.") || !strncmp(t->name, "layers.", 7);
        return part && !strstr(t->name, "vision") ? fail_unknown(t->name, f, err) : CLF_OK;
    }
    if (r->presence == CLF_IN_FUSED) return add_fused(f, r, layer, suffix, t, err);
    return add(f, clf_name_in_gguf(name, r, layer, suffix), t, err);
}

static clf_status index_names(clf_model_file *f, clf_error *err) {
    for (int64_t i = 0; i < f->count; i++) {
        entry *e = &f->entries[i];
        int64_t earlier;
        e->tensor.name = e->name;
        CLF_TRY(clf_name_index_add(&f->names, e->name, strlen(e->name), i, &earlier, err));
        CLF_CHECK(err, earlier < 0, CLF_BAD_FILE, "tensor %s: occurs twice", e->name);
    }
    return CLF_OK;
}

static clf_status check_presence(const clf_model_file *f, const clf_tensor_rule *r, int layer, const char *suffix,
                                 clf_error *err) {
    char name[CLF_NAME_SIZE];
    clf_name_in_gguf(name, r, layer, suffix);
    CLF_CHECK(err, clf_model_file_find(f, name), CLF_BAD_FILE, "tensor %s: missing", name);
    return CLF_OK;
}

/* Every tensor that the decoder will ask for is there. */
static clf_status check_all_present(const clf_model_file *f, clf_error *err) {
    const clf_config *c = &f->config;
    for (int layer = -1; layer < c->n_layers; layer++)
        for (int i = 0; i < clf_tensor_rule_count; i++) {
            const clf_tensor_rule *r = &clf_tensor_rules[i];
            if (r->layer != (layer >= 0) || !clf_tensor_rule_applies(r, c->qk_norm, c->post_norms, c->tied_output))
                continue;
            CLF_TRY(check_presence(f, r, layer, ".weight", err));
            const bool qkv = r->rows == CLF_EXTENT_QUERY || r->rows == CLF_EXTENT_KEY || r->rows == CLF_EXTENT_VALUE;
            if (qkv && f->architecture->qkv_bias) CLF_TRY(check_presence(f, r, layer, ".bias", err));
        }
    return CLF_OK;
}

/* Every tensor that is there is known to the decoder and has the shape that the configuration says. */
static clf_status check_all_known(const clf_model_file *f, clf_error *err) {
    const clf_config *c = &f->config;
    for (int64_t i = 0; i < f->count; i++) {
        const clf_file_tensor *t = &f->entries[i].tensor;
        int layer;
        const char *suffix;
        const clf_tensor_rule *r = clf_name_parse(t->name, &layer, &suffix);
        if (!r) continue; /* rope_ factors: take_gguf_factors() checks them */
        const bool wanted = clf_tensor_rule_applies(r, c->qk_norm, c->post_norms, c->tied_output) ||
                            (r->presence == CLF_IN_PLAIN && c->post_norms); /* ffn_norm has two rules */
        if (!wanted) return fail_unknown(t->name, f, err);
        CLF_TRY(check_rule(f, r, t->name, !strcmp(suffix, ".bias"), t, err));
    }
    return CLF_OK;
}

/* A GGUF's frequency factors: [n_dims/2] F32 each. */
static clf_status take_factors(clf_model_file *f, const char *name, float *out, bool *found, clf_error *err) {
    clf_rope_config *rope = &f->config.rope;
    const clf_file_tensor *t = clf_model_file_find(f, name);
    *found = t != NULL;
    if (!t) return CLF_OK;
    CLF_CHECK(err, t->dtype == CLF_F32, CLF_UNSUPPORTED, "tensor %s: dtype: expected f32, got %s", name,
              clf_dtype_name(t->dtype));
    CLF_TRY(check_shape(name, t, rope->n_dims / 2, 0, err));
    CLF_CHECK(err, t->shape[0] <= CLF_MAX_ROPE_PAIRS, CLF_UNSUPPORTED, "tensor %s: expected at most %d factors", name,
              CLF_MAX_ROPE_PAIRS);
    for (int64_t i = 0; i < t->shape[0]; i++) out[i] = 1;
    if (t->data) memcpy(out, t->data, (size_t)t->nbytes);
    return CLF_OK;
}

static clf_status take_gguf_factors(clf_model_file *f, clf_error *err) {
    clf_rope_config *rope = &f->config.rope;
    bool freqs, brief, lengthy;
    CLF_TRY(take_factors(f, "rope_freqs.weight", rope->freq_factors, &freqs, err));
    if (freqs) memcpy(rope->long_freq_factors, rope->freq_factors, sizeof rope->freq_factors);
    CLF_TRY(take_factors(f, "rope_factors_short.weight", rope->freq_factors, &brief, err));
    CLF_TRY(take_factors(f, "rope_factors_long.weight", rope->long_freq_factors, &lengthy, err));
    CLF_CHECK(err, brief == lengthy && !(freqs && brief), CLF_BAD_FILE,
              "expected rope_freqs.weight, or both rope_factors_short.weight and rope_factors_long.weight");
    if (brief) rope->scaling = CLF_ROPE_SCALING_LONGROPE;
    rope->has_freq_factors = freqs || brief;
    return CLF_OK;
}

/* The embedding's rows are the vocabulary: where a file says another number, padding rows exist or the file is bad. */
static clf_status take_vocab(clf_model_file *f, clf_error *err) {
    const clf_file_tensor *t = clf_model_file_find(f, "token_embd.weight");
    CLF_CHECK(err, t, CLF_BAD_FILE, "tensor token_embd.weight: missing");
    CLF_CHECK(err, t->ndim == 2 && t->shape[0] <= INT32_MAX, CLF_BAD_FILE,
              "tensor token_embd.weight: expected two dimensions, got %d", t->ndim);
    CLF_CHECK(err, f->config.vocab_size <= t->shape[0], CLF_BAD_FILE,
              "tensor token_embd.weight: expected at least %d rows, got %" PRId64, f->config.vocab_size, t->shape[0]);
    f->config.vocab_size = (int32_t)t->shape[0];
    return CLF_OK;
}

/* Everything that follows the tensors' names, whatever the format. */
static clf_status finish(clf_model_file *f, clf_error *err) {
    CLF_TRY(index_names(f, err));
    CLF_TRY(take_vocab(f, err));
    if (f->gguf.count) {
        f->config.tied_output = !clf_model_file_find(f, "output.weight");
        CLF_TRY(take_gguf_factors(f, err));
    }
    CLF_TRY(clf_config_check(&f->config, err));
    CLF_TRY(check_all_present(f, err));
    return check_all_known(f, err);
}

static clf_status take_ggufs(clf_model_file *f, clf_error *err) {
    CLF_TRY(clf_config_from_gguf(&f->config, &f->architecture, f->gguf.shard[0], err));
    for (int i = 0; i < f->gguf.count; i++)
        for (int64_t j = 0; j < clf_gguf_tensor_count(f->gguf.shard[i]); j++)
            CLF_TRY(add_gguf_tensor(f, clf_gguf_tensor(f->gguf.shard[i], j), err));
    return finish(f, err);
}

static clf_status read_ggufs(clf_model_file *f, const clf_model_file_args *args, clf_error *err) {
    CLF_TRY(clf_gguf_shards_open(&f->gguf, args, err));
    const clf_status st = take_ggufs(f, err);
    return st == CLF_OK ? st : clf_fail_in(err, "%s", args->path ? args->path : "GGUF in memory");
}

static clf_status read_config_file(clf_model_file *f, clf_error *err) {
    clf_source s = {0};
    char *path = clf_path_join(f->path, "config.json");
    CLF_CHECK(err, path, CLF_OUT_OF_MEMORY, "out of memory for a path");
    clf_status st = clf_source_open(&s, path, false, err);
    if (st == CLF_OK && s.size > MAX_CONFIG)
        st = clf_fail(err, CLF_BAD_FILE, "config.json: expected at most %d bytes, got %" PRIu64, MAX_CONFIG, s.size);
    if (st == CLF_OK) st = clf_source_need(&s, 0, s.size, err);
    if (st == CLF_OK)
        st =
            clf_config_from_json(&f->config, &f->architecture, s.size ? (const char *)s.data : "", (size_t)s.size, err);
    clf_source_close(&s);
    free(path);
    return st;
}

/* NF4's shape is in its data: without them it is what the configuration says, and so is whether blocks fit. */
static void set_shape(const clf_model_file *f, clf_file_tensor *t) {
    int layer;
    const char *suffix;
    if (!t->packed || t->shape[0]) return;
    const clf_tensor_rule *r = clf_model_file_rule(f, t, &layer, &suffix);
    if (!r || !r->columns) return;
    t->shape[0] = clf_extent_of(r->rows, &f->config);
    t->shape[1] = clf_extent_of(r->columns, &f->config);
    if (t->shape[1] % CLF_NF4_VALUES) t->dtype = CLF_BF16;
}

static clf_status take_safetensors(clf_model_file *f, clf_error *err) {
    CLF_TRY(clf_packed_list_make(&f->hf, f->safetensors, &f->config.packing, err));
    for (int64_t i = 0; i < f->hf.count; i++) {
        set_shape(f, &f->hf.tensor[i]);
        CLF_TRY(add_hf_tensor(f, &f->hf.tensor[i], err));
    }
    return finish(f, err);
}

static clf_status read_folder(clf_model_file *f, const clf_model_file_args *args, clf_error *err) {
    CLF_TRY(read_config_file(f, err));
    size_t end = strlen(f->path);
    while (end > 1 && f->path[end - 1] == '/') end--;
    size_t begin = end;
    while (begin > 0 && f->path[begin - 1] != '/') begin--;
    snprintf(f->config.name, sizeof f->config.name, "%.*s", (int)(end - begin), f->path + begin);
    CLF_TRY(clf_safetensors_open(&f->safetensors, args, err));
    const clf_status st = take_safetensors(f, err);
    return st == CLF_OK ? st : clf_fail_in(err, "%s", f->path);
}

/* Decides what each tensor becomes. Rows that aren't whole blocks stay as they are. */
static clf_status set_loaded(clf_model_file *f, clf_dtype quantize, bool keep_layout, clf_error *err) {
    CLF_CHECK(err, quantize == CLF_F32 || quantize == CLF_NF4, CLF_UNSUPPORTED,
              "model: quantize: expected nf4 or nothing, got %s", clf_dtype_name(quantize));
    for (int64_t i = 0; i < f->count; i++) {
        clf_file_tensor *t = &f->entries[i].tensor;
        const bool matrix = t->ndim == 2 && !strncmp(t->name, "blk.", 4);
        CLF_CHECK(err, !keep_layout || !clf_dtype_is_interleaved(t->dtype), CLF_UNSUPPORTED,
                  "tensor %s: %s is repacked for inference: expected the file that it was made from", t->name,
                  clf_dtype_name(t->dtype));
        t->loaded = t->ndim > 1 ? t->dtype : CLF_F32;
        if (quantize == CLF_NF4 && matrix && clf_dtype_is_float(t->dtype) && t->shape[1] % CLF_NF4_VALUES == 0)
            t->loaded = CLF_NF4;
        const bool ternary = t->dtype == CLF_TQ1_0 || t->dtype == CLF_TQ2_0 || t->dtype == CLF_Q2_0;
        t->repacks = !keep_layout && matrix && ternary && t->shape[0] % CLF_PANEL_ROWS == 0 && t->shape[1] % 256 == 0;
    }
    return CLF_OK;
}

clf_status clf_model_file_open(clf_model_file **out, const clf_model_file_args *args, clf_error *err) {
    struct stat info;
    *out = NULL;
    CLF_CHECK(err, (args->path != NULL) != (args->data != NULL), CLF_INVALID_ARGUMENT,
              "expected either a path or a GGUF in memory");
    clf_model_file *f = calloc(1, sizeof *f);
    CLF_CHECK(err, f, CLF_OUT_OF_MEMORY, "model file: out of memory");
    const char *path = args->path ? args->path : "";
    f->path = malloc(strlen(path) + 1);
    clf_status st;
    if (!f->path) {
        st = clf_fail(err, CLF_OUT_OF_MEMORY, "out of memory for a path");
    } else {
        memcpy(f->path, path, strlen(path) + 1);
        const bool folder = args->path && !stat(path, &info) && S_ISDIR(info.st_mode);
        st = folder ? read_folder(f, args, err) : read_ggufs(f, args, err);
    }
    if (st == CLF_OK) st = set_loaded(f, args->quantize, args->keep_layout, err);
    if (st == CLF_OK)
        *out = f;
    else
        clf_model_file_close(f);
    return st;
}

void clf_model_file_close(clf_model_file *f) {
    if (!f) return;
    clf_gguf_shards_close(&f->gguf);
    clf_packed_list_free(&f->hf);
    clf_safetensors_close(f->safetensors);
    clf_name_index_free(&f->names);
    free(f->entries);
    free(f->path);
    free(f);
}

const clf_config *clf_model_file_config(const clf_model_file *f) {
    return &f->config;
}
const char *clf_model_file_format(const clf_model_file *f) {
    return f->gguf.count ? "gguf" : "safetensors";
}
int64_t clf_model_file_count(const clf_model_file *f) {
    return f->count;
}
const clf_file_tensor *clf_model_file_at(const clf_model_file *f, int64_t index) {
    return index >= 0 && index < f->count ? &f->entries[index].tensor : NULL;
}
const clf_file_tensor *clf_model_file_find(const clf_model_file *f, const char *name) {
    return clf_model_file_at(f, clf_name_index_find(&f->names, name, strlen(name)));
}
const clf_file_tensor *clf_model_file_stored(const clf_model_file *f, int64_t index) {
    if (f->safetensors) return index >= 0 && index < f->hf.count ? &f->hf.tensor[index] : NULL;
    for (int i = 0; i < f->gguf.count; i++) {
        const int64_t n = clf_gguf_tensor_count(f->gguf.shard[i]);
        if (index < n) return clf_gguf_tensor(f->gguf.shard[i], index);
        index -= n;
    }
    return NULL;
}
const clf_gguf *clf_model_file_gguf(const clf_model_file *f) {
    return f->gguf.count ? f->gguf.shard[0] : NULL;
}
bool clf_model_file_reads(const clf_model_file *f, const char *path) {
    for (int i = 0; i < f->gguf.count; i++)
        if (clf_gguf_reads(f->gguf.shard[i], path)) return true;
    return f->safetensors && clf_safetensors_reads(f->safetensors, path);
}
const char *clf_model_file_path(const clf_model_file *f) {
    return f->path;
}
