/* saved_tensors.c: a model's tensors on their way into a file: from wherever they are now, merged with the adapter in
 * F32, rounded once. The two formats differ in names, in the order of rows of a llama's queries and keys, and in what
 * Gemma's norms are stored less. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "merge.h"
#include "nf4.h"
#include "nf4_write.h"
#include "saved_tensors.h"
#include "row_order.h"

enum { TILE_BYTES = 4 << 20 };

bool clf_all_finite(const void *values, clf_dtype dtype, int64_t n) {
    const uint32_t mask = dtype == CLF_F32 ? 0x7f800000 : dtype == CLF_F16 ? 0x7c00 : 0x7f80;
    for (int64_t i = 0; i < n; i++) {
        const uint32_t v = dtype == CLF_F32 ? ((const uint32_t *)values)[i] : ((const uint16_t *)values)[i];
        if ((v & mask) == mask) return false;
    }
    return true;
}

/* The model's tensor of a rule, and the adapter beside it. */
static void find(const clf_model *m, const clf_tensor_rule *r, int layer, const char *suffix, const clf_tensor **weight,
                 const clf_tiles **tiles, const clf_lora **lora) {
    *lora = NULL;
    *tiles = NULL;
    if (layer < 0) {
        *weight = r->presence == CLF_IN_UNTIED ? &m->output : r->columns ? &m->embedding : &m->output_norm;
        return;
    }
    const clf_layer *l = &m->layers[layer];
    const clf_weight id = clf_weight_named(r->name, suffix);
    *weight = &l->weight[id];
    if (clf_weight_is_repacked(l, id)) *tiles = &l->tiles[id];
    if (id < CLF_W_MATRICES && l->lora[id].a.buffer) *lora = &l->lora[id];
}

/* All parts are in TQ2_0, as ternary training leaves them. */
static bool is_ternary(const clf_saved_tensor *s) {
    for (int i = 0; i < 3 && s->weight[i]; i++)
        if (s->weight[i]->dtype != CLF_TQ2_0 || s->lora[i]) return false;
    return true;
}

/* NF4: the matrices of layers. */
static clf_status choose_nf4(clf_saved_tensor *s, int layer, clf_error *err) {
    clf_file_tensor *t = &s->out;
    s->nf4 = layer >= 0 && t->ndim == 2;
    if (clf_dtype_is_block(t->dtype)) t->dtype = CLF_F32;
    CLF_CHECK(err, !s->nf4 || t->shape[1] % CLF_NF4_VALUES == 0, CLF_UNSUPPORTED,
              "%s: rows of %" PRId64 " weights aren't whole blocks of nf4, which have %d", t->name, t->shape[1],
              CLF_NF4_VALUES);
    return CLF_OK;
}

static clf_status choose_dtype(clf_saved_tensor *s, int layer, bool to_gguf, bool converts, const clf_dtype *dtype,
                               clf_error *err) {
    clf_file_tensor *t = &s->out;
    if (dtype && *dtype == CLF_NF4) return choose_nf4(s, layer, err);
    if (to_gguf && t->ndim < 2 && (dtype || converts))
        t->dtype = CLF_F32;
    else if (dtype)
        t->dtype = *dtype;
    else if (to_gguf && is_ternary(s))
        t->dtype = CLF_TQ2_0;
    else if (clf_dtype_is_interleaved(t->dtype))
        t->dtype = t->dtype == CLF_T1 ? CLF_TQ1_0 : CLF_TQ2_0;
    if (!clf_dtype_is_block(t->dtype)) return CLF_OK;
    CLF_CHECK(err, to_gguf && clf_dtype_to_gguf(t->dtype) >= 0, CLF_UNSUPPORTED,
              "%s: a %s has no %s: expected a dtype to be asked for", t->name, to_gguf ? "GGUF" : "folder",
              clf_dtype_name(t->dtype));
    for (int i = 0; i < 3 && s->weight[i]; i++)
        CLF_CHECK(err, (s->weight[i]->dtype == t->dtype || s->tiles[i]) && !s->lora[i], CLF_UNSUPPORTED,
                  "%s: it changed and can't be written as %s again: expected f32, f16 or bf16 to be asked for", t->name,
                  clf_dtype_name(t->dtype));
    return CLF_OK;
}

/* The rule of that name that the model has: GGUF's ffn_norm is two. */
static const clf_tensor_rule *rule_of(const clf_tensor_rule *r, const clf_config *c) {
    for (int i = 0; i < clf_tensor_rule_count; i++)
        if (!strcmp(clf_tensor_rules[i].name, r->name) &&
            clf_tensor_rule_applies(&clf_tensor_rules[i], c->qk_norm, c->post_norms, c->tied_output))
            return &clf_tensor_rules[i];
    return r;
}

/* What stands for a tensor of the base. */
static void take(clf_saved_tensor *s, const clf_model *m, const clf_tensor_rule *r, int layer, const char *suffix,
                 bool to_gguf, bool converts) {
    const clf_config *c = &m->config;
    const clf_architecture *a = clf_architecture_named(c->architecture);
    s->out.data = NULL;
    for (int i = 0; i < 3 && (i == 0 || r->parts[i]); i++) {
        const clf_tensor_rule *part = r->parts[i] ? clf_tensor_rule_named(r->parts[i]) : r;
        find(m, part, layer, suffix, &s->weight[i], &s->tiles[i], &s->lora[i]);
        s->reorder[i] = converts && clf_tensor_rule_is_rotated(part) &&
                        c->rope.pairing != (to_gguf ? clf_architecture_in_gguf(a)->pairing : CLF_ROPE_HALVES);
    }
    if (!converts) return;
    s->out.name =
        to_gguf ? clf_name_in_gguf(s->name, r, layer, suffix) : clf_name_in_hf(s->name, rule_of(r, c), layer, suffix);
    if (a->gemma && s->out.ndim < 2) s->offset = to_gguf ? 1 : -1;
}

/* NF4 of a GGUF, whose vectors are F32: transformers leaves what isn't NF4 in the dtype that it has, and multiplies no
 * two. It is that of embedding and output matrix, or F32 where these differ. */
static void choose_one_dtype(clf_saved_tensors *s) {
    clf_dtype dtype = CLF_DTYPE_COUNT;
    for (int64_t i = 0; i < s->count; i++) {
        const clf_saved_tensor *t = &s->tensor[i];
        if (!t->nf4 && t->out.ndim == 2)
            dtype = dtype == CLF_DTYPE_COUNT || dtype == t->out.dtype ? t->out.dtype : CLF_F32;
    }
    for (int64_t i = 0; i < s->count; i++) s->tensor[i].out.dtype = dtype;
}

clf_status clf_saved_tensors_list(clf_saved_tensors *out, const clf_model *m, const clf_model_file *base, bool to_gguf,
                                  const clf_dtype *dtype, clf_error *err) {
    const bool converts = to_gguf != (clf_model_file_gguf(base) != NULL);
    const clf_file_tensor *t;
    int64_t n = 0;
    while (clf_model_file_stored(base, n)) n++;
    *out = (clf_saved_tensors){.tensor = calloc((size_t)n + 2, sizeof *out->tensor)};
    CLF_CHECK(err, out->tensor, CLF_OUT_OF_MEMORY, "out of memory for %" PRId64 " tensors", n);
    for (int64_t i = 0; (t = clf_model_file_stored(base, i)); i++) {
        int layer;
        const char *suffix;
        const clf_tensor_rule *r = clf_model_file_rule(base, t, &layer, &suffix);
        /* a tied output that a folder has all the same would be the old one */
        if (!r && (converts || !strcmp(t->name, "lm_head.weight"))) continue;
        clf_saved_tensor *s = &out->tensor[out->count++];
        s->out = *t;
        if (!r) continue;
        take(s, m, r, layer, suffix, to_gguf, converts);
        const clf_status st = choose_dtype(s, layer, to_gguf, converts, dtype, err);
        if (st != CLF_OK) return clf_saved_tensors_free(out), st;
    }
    if (converts && dtype && *dtype == CLF_NF4) choose_one_dtype(out);
    if (to_gguf && converts) clf_gguf_factors_of(&out->factors, &m->config);
    for (int i = 0; i < out->factors.count; i++) out->tensor[out->count++].out = out->factors.tensor[i];
    return CLF_OK;
}

void clf_saved_tensors_free(clf_saved_tensors *s) {
    free(s->tensor);
    *s = (clf_saved_tensors){0};
}

/* n floats as `dtype`. */
static void encode(void *out, clf_dtype dtype, const float *x, int64_t n, float offset) {
    uint16_t *half = out;
    for (int64_t i = 0; i < n; i++) {
        const float v = offset != 0 ? x[i] + offset : x[i]; /* -0 stays */
        if (dtype == CLF_F32)
            ((float *)out)[i] = v;
        else
            half[i] = dtype == CLF_F16 ? clf_f32_to_f16(v) : clf_f32_to_bf16(v);
    }
}

/* One part of a tensor, tile by tile. */
typedef struct streaming {
    const clf_model *model;
    const clf_tensor_writer *writer;
    int64_t index;
    const clf_saved_tensor *tensor;
    int part;
    const clf_tensor *weight;
    int64_t rows, columns, tile; /* tile: rows at a time; a vector has one column */
    clf_merge merge;
    clf_nf4_writing *nf4; /* NULL: values are written as they are */
    void *in, *out;       /* [tile, columns]: as read, F32 or blocks; as written */
} streaming;

/* Rows [first, first + n). */
static clf_status write_tile(streaming *s, int64_t first, int64_t n, clf_error *err) {
    const clf_config *c = &s->model->config;
    const clf_file_tensor *t = &s->tensor->out;
    const clf_tensor *w = s->weight;
    const bool blocks = clf_dtype_is_block(t->dtype), reorder = s->tensor->reorder[s->part];
    const clf_dtype to = s->nf4 ? CLF_F32 : t->dtype;
    const uint64_t bytes = clf_dtype_bytes(to, s->columns), in_bytes = blocks ? bytes : 4 * (uint64_t)s->columns;
    if (blocks) {
        const clf_tensor rows = clf_view_of(w, 2, (const int64_t[]){n, s->columns}, NULL, first * s->columns);
        CLF_TRY(clf_model_failed(s->model, w->ctx, clf_tensor_read(&rows, s->in, bytes * (uint64_t)n)));
    } else {
        CLF_TRY(clf_model_failed(s->model, w->ctx, clf_merge_rows(&s->merge, first, n, s->in)));
    }
    for (int64_t i = 0; i < n; i++) {
        const int64_t source = reorder ? clf_row_source(i, c->head_dim, c->rope.pairing) : i;
        const void *in = (const char *)s->in + in_bytes * (uint64_t)source;
        void *out = (char *)s->out + bytes * (uint64_t)i;
        if (blocks)
            memcpy(out, in, bytes);
        else
            encode(out, to, in, s->columns, s->tensor->offset);
    }
    CLF_CHECK(err, blocks || clf_all_finite(s->out, to, n * s->columns), CLF_NOT_FINITE,
              "tensor %s: expected finite numbers, got an infinity or NaN as %s", t->name, clf_dtype_name(to));
    if (s->nf4) return clf_nf4_write(s->nf4, s->out, n * s->columns, err);
    return clf_write_data(s->writer, s->index, s->out, bytes * (uint64_t)n, err);
}

static clf_status write_tiles(streaming *s, clf_error *err) {
    const clf_tensor *w = s->weight;
    const size_t values = (size_t)(s->tile * s->columns);
    s->in = malloc(values * sizeof(float));
    s->out = malloc(values * sizeof(float));
    CLF_CHECK(err, s->in && s->out, CLF_OUT_OF_MEMORY, "tensor %s: out of host memory", s->tensor->out.name);
    if (!clf_dtype_is_block(s->tensor->out.dtype))
        CLF_TRY(clf_model_failed(s->model, w->ctx, clf_merge_begin(&s->merge, w, s->tensor->lora[s->part], s->tile)));
    for (int64_t first = 0; first < s->rows; first += s->tile)
        CLF_TRY(write_tile(s, first, s->rows - first < s->tile ? s->rows - first : s->tile, err));
    return CLF_OK;
}

static clf_status write_part(const clf_saved_tensor *t, int part, const clf_model *m, const clf_tensor_writer *writer,
                             int64_t index, clf_nf4_writing *nf4, clf_error *err) {
    clf_tensor unpacked = {0}; /* of a repacked weight: in the dtype that it was repacked from, or one that holds it */
    const clf_tensor *w = t->weight[part];
    if (t->tiles[part]) {
        const clf_dtype dtype = clf_dtype_is_block(t->out.dtype) ? t->out.dtype : CLF_TQ2_0;
        const clf_status st = clf_weight_unpack(&unpacked, w, t->tiles[part], t->out.shape[1], dtype);
        CLF_TRY(clf_model_failed(m, w->ctx, st));
        w = &unpacked;
    }
    const int64_t columns = w->ndim > 1 ? clf_last(w) : 1, rows = clf_elements(w) / columns;
    const int64_t least = t->reorder[part] ? m->config.head_dim : 1; /* heads stay whole */
    int64_t tile = TILE_BYTES / (columns * (int64_t)sizeof(float)) / least * least;
    if (tile < least) tile = least;
    if (tile > rows) tile = rows;
    streaming s = {.model = m,
                   .writer = writer,
                   .index = index,
                   .tensor = t,
                   .part = part,
                   .weight = w,
                   .rows = rows,
                   .columns = columns,
                   .tile = tile,
                   .nf4 = nf4};
    const clf_status st = write_tiles(&s, err);
    clf_merge_end(&s.merge);
    clf_tensor_release(&unpacked);
    free(s.in);
    free(s.out);
    return st;
}

static clf_status write_nf4(const clf_saved_tensor *t, const clf_model *m, const clf_tensor_writer *writer,
                            int64_t index, clf_error *err) {
    clf_nf4_writing nf4;
    clf_status st = clf_nf4_begin(&nf4, writer->safetensors, &t->out, index, clf_file_elements(&t->out), err);
    for (int part = 0; part < 3 && t->weight[part] && st == CLF_OK; part++)
        st = write_part(t, part, m, writer, index, &nf4, err);
    if (st == CLF_OK) st = clf_nf4_finish(&nf4, err);
    clf_nf4_end(&nf4);
    return st;
}

clf_status clf_saved_tensors_write(const clf_saved_tensors *tensors, const clf_model *m,
                                   const clf_tensor_writer *writer, clf_error *err) {
    for (int64_t i = 0; i < tensors->count; i++) {
        const clf_saved_tensor *t = &tensors->tensor[i];
        CLF_TRY(t->nf4 ? clf_nf4_describe(writer->safetensors, &t->out, err) : clf_write_tensor(writer, &t->out, err));
    }
    for (int64_t i = 0, index = 0; i < tensors->count; i++) {
        const clf_saved_tensor *t = &tensors->tensor[i];
        if (t->nf4) {
            CLF_TRY(write_nf4(t, m, writer, index, err));
            index += CLF_NF4_PARTS;
            continue;
        }
        if (t->out.data) CLF_TRY(clf_write_data(writer, index, t->out.data, t->out.nbytes, err));
        for (int part = 0; part < 3 && t->weight[part]; part++)
            CLF_TRY(write_part(t, part, m, writer, index, NULL, err));
        index++;
    }
    return CLF_OK;
}
