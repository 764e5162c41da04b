/* model_save.c: a model as it is now, into a GGUF file or a Hugging Face folder. Keys and the files beside the weights
 * are the base's, which is opened again if it had been closed. Either becomes the other. */
#include <stdlib.h>
#include <string.h>

#include "../core/context.h"
#include "../core/output_file.h"
#include "../core/output_folder.h"
#include "folder_from_gguf.h"
#include "gguf_from_folder.h"
#include "json.h"
#include "saved_tensors.h"
#include "source.h"

enum { MAX_FILE = 1 << 30, MOSTLY_TQ2_0 = 37 /* of general.file_type */ };

/* What a folder may hold besides its weights: copied as it is. */
static const char *const folder_files[] = {"tokenizer.json",
                                           "tokenizer.model",
                                           "tokenizer_config.json",
                                           "special_tokens_map.json",
                                           "added_tokens.json",
                                           "vocab.json",
                                           "merges.txt",
                                           "chat_template.jinja",
                                           "chat_template.json",
                                           "generation_config.json",
                                           "preprocessor_config.json",
                                           "processor_config.json",
                                           "config.json",
                                           "model.safetensors",
                                           NULL};
enum { COPIED = 12 }; /* of them */

typedef struct saving {
    const clf_model *model;
    const clf_model_file *base;
    clf_dtype dtype;
    bool converts; /* to `dtype` */
    clf_saved_tensors tensors;
    clf_tensor_writer writer;
    clf_output_folder folder;
    clf_error *err;
} saving;

static clf_status write_tensors(saving *s) {
    CLF_TRY(clf_saved_tensors_write(&s->tensors, s->model, &s->writer, s->err));
    return clf_write_finish(&s->writer, s->err);
}

static clf_status write_gguf(saving *s, const char *path) {
    static const struct {
        clf_dtype dtype;
        uint32_t type;
    } file_types[] = {{CLF_F32, 0}, {CLF_F16, 1}, {CLF_BF16, 32}};
    CLF_TRY(clf_gguf_writer_create(&s->writer.gguf, path, s->err));
    for (int64_t i = 0; i < s->tensors.count && !s->converts; i++)
        if (s->tensors.tensor[i].out.dtype == CLF_TQ2_0) {
            CLF_TRY(clf_gguf_write_u32(s->writer.gguf, "general.file_type", MOSTLY_TQ2_0, s->err));
            break;
        }
    for (int i = 0; s->converts && i < 3; i++)
        if (file_types[i].dtype == s->dtype)
            CLF_TRY(clf_gguf_write_u32(s->writer.gguf, "general.file_type", file_types[i].type, s->err));
    const clf_gguf *base = clf_model_file_gguf(s->base);
    CLF_TRY(base ? clf_gguf_write_keys_of(s->writer.gguf, base, s->err)
                 : clf_gguf_write_keys_of_folder(s->writer.gguf, s->base, s->err));
    return write_tensors(s);
}

/* A file of the base's folder, if there is one. */
static clf_status copy_file(const char *from, const char *to, clf_error *err) {
    clf_source source;
    clf_status st = clf_source_open(&source, from, false, err);
    if (st == CLF_NOT_FOUND) return clf_error_clear(err), CLF_OK;
    if (st == CLF_OK && source.size > MAX_FILE)
        st = clf_fail(err, CLF_BAD_FILE, "%s: expected at most %d bytes", from, MAX_FILE);
    if (st == CLF_OK) st = clf_source_need(&source, 0, source.size, err);
    if (st == CLF_OK) st = clf_output_file_put(to, source.data, source.size, err);
    clf_source_close(&source);
    return st;
}

static clf_status copy_files(const saving *s) {
    for (int i = 0; i < COPIED; i++) {
        char *from = clf_path_join(s->model->path, folder_files[i]),
             *to = clf_path_join(s->folder.temporary, folder_files[i]);
        const clf_status st =
            from && to ? copy_file(from, to, s->err) : clf_fail(s->err, CLF_OUT_OF_MEMORY, "out of memory for a path");
        free(from);
        free(to);
        CLF_TRY(st);
    }
    return CLF_OK;
}

/* Where the value of a dtype begins that is said at in[i], behind its quote; 0: none is. transformers 4 calls it
 * torch_dtype. */
static size_t dtype_at(const char *in, size_t n, size_t i) {
    static const char *const keys[] = {"\"dtype\"", "\"torch_dtype\""};
    static const char space[] = {' ', '\t', '\r', '\n'};
    if (in[i] != '"' || (i && in[i - 1] == '\\')) return 0;
    for (int k = 0; k < 2; k++) {
        size_t at = i + strlen(keys[k]);
        if (at >= n || strncmp(in + i, keys[k], strlen(keys[k]))) continue;
        while (at < n && memchr(space, in[at], sizeof space)) at++;
        if (at == n || in[at++] != ':') return 0;
        while (at < n && memchr(space, in[at], sizeof space)) at++;
        return at < n && in[at] == '"' ? at + 1 : 0;
    }
    return 0;
}

/* n bytes of JSON with another dtype, everything else as it was, [2n] at most. Returns their number. */
static size_t set_dtype(char *out, const char *in, size_t n, clf_dtype dtype) {
    const char *name = dtype == CLF_F32 ? "float32" : dtype == CLF_F16 ? "float16" : "bfloat16";
    size_t m = 0;
    for (size_t i = 0; i < n;) {
        const size_t value = dtype_at(in, n, i);
        const char *end = value ? memchr(in + value, '"', n - value) : NULL;
        if (end) {
            memcpy(out + m, in + i, value - i);
            m += value - i;
            for (const char *c = name; *c; c++) out[m++] = *c;
            i = (size_t)(end - in);
        }
        out[m++] = in[i++];
    }
    return m;
}

/* As transformers writes it for bitsandbytes; what has no parts is plain. */
static json_t *packing_of_nf4(void) {
    return json_pack("{s:s, s:b, s:b, s:s, s:b, s:s, s:s}", "quant_method", "bitsandbytes", "load_in_4bit", 1,
                     "load_in_8bit", 0, "bnb_4bit_quant_type", "nf4", "bnb_4bit_use_double_quant", 1,
                     "bnb_4bit_compute_dtype", "float32", "bnb_4bit_quant_storage", "uint8");
}

/* Of a folder whose matrices were quantised and no longer are, or are so now. */
static clf_status write_packing_config(const saving *s, const char *from, const char *to) {
    static const char *const names[] = {[CLF_F32] = "float32", [CLF_F16] = "float16", [CLF_BF16] = "bfloat16"},
                             *const keys[] = {"dtype", "torch_dtype"};
    json_t *root;
    CLF_TRY(clf_json_read(&root, from, MAX_FILE, s->err));
    bool fits = true;
    json_object_del(root, "quantization_config");
    if (s->dtype == CLF_NF4) fits = !json_object_set_new(root, "quantization_config", packing_of_nf4());
    for (int k = 0; k < 2; k++)
        if (s->converts && s->dtype != CLF_NF4 && json_object_get(root, keys[k]))
            fits &= !json_object_set_new(root, keys[k], json_string(names[s->dtype]));
    char *text = fits ? clf_json_text(root, JSON_INDENT(2)) : NULL;
    json_decref(root);
    CLF_CHECK(s->err, text, CLF_OUT_OF_MEMORY, "config.json: out of memory");
    const clf_status st = clf_output_file_put(to, text, strlen(text), s->err);
    free(text);
    return st;
}

/* Of a model from a GGUF. */
static clf_status make_config(const saving *s, const char *to) {
    int64_t padding = -1;
    clf_dtype dtype = CLF_F32; /* the matrices' */
    json_t *root;
    for (int64_t i = 0; i < s->tensors.count; i++)
        if (s->tensors.tensor[i].out.ndim > 1) dtype = s->tensors.tensor[i].out.dtype;
    clf_gguf_get_i64(clf_model_file_gguf(s->base), "tokenizer.ggml.padding_token_id", &padding);
    CLF_TRY(clf_folder_config(&root, s->model, padding, dtype, s->err));
    const bool fits = s->dtype != CLF_NF4 || !json_object_set_new(root, "quantization_config", packing_of_nf4());
    char *text = fits ? clf_json_text(root, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(root);
    CLF_CHECK(s->err, text, CLF_OUT_OF_MEMORY, "config.json: out of memory");
    const clf_status st = clf_output_file_put(to, text, strlen(text), s->err);
    free(text);
    return st;
}

/* `text` as that file of the folder; freed. */
static clf_status put_text(const saving *s, const char *name, char *text) {
    char *to = clf_path_join(s->folder.temporary, name);
    const clf_status st = to ? clf_output_file_put(to, text, strlen(text), s->err)
                             : clf_fail(s->err, CLF_OUT_OF_MEMORY, "out of memory for a path");
    free(to);
    free(text);
    return st;
}

/* Of a model from a GGUF, if it has one. One that can't be said there is left out: the model is whole without. */
static clf_status make_tokenizer(const saving *s) {
    const clf_tokenizer *t = s->model->tokenizer;
    char *text;
    if (!t) return CLF_OK;
    const clf_status st = clf_folder_tokenizer(&text, t, s->err);
    if (st == CLF_UNSUPPORTED) {
        clf_log(s->model->contexts[0], CLF_LOG_WARNING, "model: the folder gets no tokenizer: %s", s->err->message);
        return clf_error_clear(s->err), CLF_OK;
    }
    CLF_TRY(st);
    CLF_TRY(put_text(s, "tokenizer.json", text));
    CLF_TRY(clf_folder_tokenizer_config(&text, t, s->model->config.trained_context, s->err));
    return put_text(s, "tokenizer_config.json", text);
}

static clf_status rewrite_config(const saving *s, const char *from, const char *to) {
    clf_source source;
    if (clf_model_file_config(s->base)->packing.method || s->dtype == CLF_NF4) return write_packing_config(s, from, to);
    if (!s->converts) return copy_file(from, to, s->err);
    CLF_TRY(clf_source_open(&source, from, false, s->err));
    clf_status st = clf_source_need(&source, 0, source.size, s->err);
    char *text = st == CLF_OK ? malloc(2 * (size_t)source.size + 1) : NULL;
    if (st == CLF_OK && !text) st = clf_fail(s->err, CLF_OUT_OF_MEMORY, "config.json: out of memory");
    if (st == CLF_OK)
        st = clf_output_file_put(to, text, set_dtype(text, (const char *)source.data, (size_t)source.size, s->dtype),
                                 s->err);
    free(text);
    clf_source_close(&source);
    return st;
}

static clf_status write_config(const saving *s, const char *to) {
    if (clf_model_file_gguf(s->base)) return make_config(s, to);
    char *from = clf_path_join(s->model->path, "config.json");
    CLF_CHECK(s->err, from, CLF_OUT_OF_MEMORY, "out of memory for a path");
    const clf_status st = rewrite_config(s, from, to);
    free(from);
    return st;
}

static clf_status write_folder(saving *s, const char *path) {
    clf_error *err = s->err;
    CLF_TRY(clf_output_folder_create(&s->folder, path, folder_files, err));
    CLF_TRY(clf_model_file_gguf(s->base) ? make_tokenizer(s) : copy_files(s));
    char *weights = clf_path_join(s->folder.temporary, "model.safetensors"),
         *to = clf_path_join(s->folder.temporary, "config.json");
    clf_status st = weights && to ? CLF_OK : clf_fail(err, CLF_OUT_OF_MEMORY, "out of memory for a path");
    if (st == CLF_OK) st = clf_safetensors_writer_create(&s->writer.safetensors, weights, err);
    if (st == CLF_OK) st = clf_safetensors_write_metadata(s->writer.safetensors, "format", "pt", err);
    if (st == CLF_OK) st = write_tensors(s);
    if (st == CLF_OK) st = write_config(s, to);
    free(weights);
    free(to);
    return st == CLF_OK ? clf_output_folder_finish(&s->folder, err) : st;
}

static clf_status check_args(saving *s, const clf_model_save_args *args) {
    CLF_CHECK(s->err, args && args->path && *args->path, CLF_INVALID_ARGUMENT, "model: path: expected a name");
    s->converts = args->dtype != NULL;
    const bool known = !args->dtype || clf_dtype_from_name(&s->dtype, args->dtype) == CLF_OK;
    CLF_CHECK(s->err, known && (clf_dtype_is_float(s->dtype) || s->dtype == CLF_NF4), CLF_INVALID_ARGUMENT,
              "model: dtype: expected f32, f16, bf16 or nf4, got %.40s", args->dtype);
    CLF_CHECK(s->err, s->dtype != CLF_NF4 || !clf_is_gguf_name(args->path), CLF_UNSUPPORTED,
              "model: dtype: a GGUF has no nf4, a folder has");
    return CLF_OK;
}

static clf_status save(saving *s, const char *path) {
    const bool to_gguf = clf_is_gguf_name(path);
    CLF_TRY(clf_saved_tensors_list(&s->tensors, s->model, s->base, to_gguf, s->converts ? &s->dtype : NULL, s->err));
    return to_gguf ? write_gguf(s, path) : write_folder(s, path);
}

clf_status clf_model_save(const clf_model *m, const clf_model_save_args *args) {
    if (!m) return CLF_INVALID_ARGUMENT;
    CLF_TRY(clf_model_enter(m));
    saving s = {.model = m, .base = m->file, .err = &m->contexts[0]->error};
    clf_model_file *again = NULL;
    CLF_TRY(check_args(&s, args));
    if (!s.base) {
        const clf_model_file_args from = {
            .path = m->data ? NULL : m->path, .data = m->data, .data_size = m->data_size, .mmap = true};
        CLF_TRY(clf_model_file_open(&again, &from, s.err));
        s.base = again;
    }
    const clf_status st = save(&s, args->path);
    clf_write_end(&s.writer);
    clf_output_folder_discard(&s.folder);
    clf_saved_tensors_free(&s.tensors);
    clf_model_file_close(again);
    return st;
}
