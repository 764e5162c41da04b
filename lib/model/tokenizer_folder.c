/* tokenizer_folder.c: a tokenizer from a path: GGUF, tokenizer.json or tokenizer.model, and what a folder says besides:
 * tokenizer_config.json, special_tokens_map.json, generation_config.json, chat_template.jinja. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "json.h"
#include "source.h"
#include "tokenizer.h"
#include "tokenizer_json.h"
#include "tokenizer_model.h"

enum { MAX_FILE = 1 << 30 };

/* A file of `folder`, which the caller closes. CLF_NOT_FOUND if there is none. */
static clf_status read_in(clf_source *out, const char *folder, const char *name, clf_error *err) {
    *out = (clf_source){0};
    char *path = clf_path_join(folder, name);
    CLF_CHECK(err, path, CLF_OUT_OF_MEMORY, "%s: out of memory", name);
    clf_status st = clf_source_open(out, path, false, err);
    free(path);
    if (st == CLF_OK && out->size > MAX_FILE)
        st = clf_fail(err, CLF_BAD_FILE, "%s: expected at most %d bytes", name, MAX_FILE);
    return st == CLF_OK ? clf_source_need(out, 0, out->size, err) : st;
}

/* `*out` NULL where the file doesn't exist. */
static clf_status read_json(json_t **out, const char *folder, const char *name, clf_error *err) {
    *out = NULL;
    char *path = clf_path_join(folder, name);
    CLF_CHECK(err, path, CLF_OUT_OF_MEMORY, "%s: out of memory", name);
    clf_status st = clf_json_read(out, path, MAX_FILE, err);
    free(path);
    if (st == CLF_NOT_FOUND) {
        clf_error_clear(err);
        st = CLF_OK;
    }
    return st;
}

/* A token given as "<s>" or {"content": "<s>"}: its id, or `otherwise`. */
static int32_t token_of(const clf_tokenizer *t, const json_t *json, const char *key, int32_t otherwise) {
    const json_t *value = json_object_get(json, key);
    if (json_is_object(value)) value = json_object_get(value, "content");
    const int32_t id =
        json_is_string(value) ? clf_vocab_find(&t->vocab, json_string_value(value), json_string_length(value)) : -1;
    return id < 0 ? otherwise : id;
}

/* "chat_template": "…", or [{"name": "default", "template": "…"}] */
static const json_t *template_of(const json_t *config) {
    const json_t *value = json_object_get(config, "chat_template");
    size_t i;
    json_t *item;
    if (json_is_string(value)) return value;
    json_array_foreach(value, i, item) {
        const json_t *name = json_object_get(item, "name");
        if (json_is_string(name) && strcmp(json_string_value(name), "default") == 0)
            return json_object_get(item, "template");
    }
    return NULL;
}

static clf_status set_template(clf_tokenizer *t, const char *text, size_t length, clf_error *err) {
    free(t->chat_template);
    t->chat_template = clf_copy(text, length);
    return t->chat_template ? CLF_OK : clf_fail(err, CLF_OUT_OF_MEMORY, "chat template: out of memory");
}

/* What add_bos_token or add_eos_token says of ids that the tokenizer's own file brought. */
static clf_status override(clf_ids *ids, const json_t *config, const char *key, int32_t id, bool decides,
                           clf_error *err) {
    const json_t *value = json_object_get(config, key);
    if (!decides || !json_is_boolean(value)) return CLF_OK;
    ids->count = 0;
    if (json_is_false(value) || id < 0) return CLF_OK;
    return clf_ids_append(ids, id) ? CLF_OK : clf_fail(err, CLF_OUT_OF_MEMORY, "%s: out of memory", key);
}

/* `decides`: the files here say what is added around a text, as the tokenizer's own file doesn't. */
static clf_status read_configuration(clf_tokenizer *t, const char *folder, bool decides, clf_error *err) {
    json_t *config = NULL, *map = NULL, *generation = NULL;
    clf_source jinja = {0};
    clf_status st = read_json(&config, folder, "tokenizer_config.json", err);
    if (st == CLF_OK) st = read_json(&map, folder, "special_tokens_map.json", err);
    if (st == CLF_OK) st = read_json(&generation, folder, "generation_config.json", err);
    if (st != CLF_OK) goto fail;

    t->bos = token_of(t, config, "bos_token", token_of(t, map, "bos_token", t->bos));
    t->eos = token_of(t, config, "eos_token", token_of(t, map, "eos_token", t->eos));
    CLF_TRY_GOTO(st, override(&t->before, config, "add_bos_token", t->bos, decides, err));
    CLF_TRY_GOTO(st, override(&t->after, config, "add_eos_token", t->eos, decides, err));

    const json_t *ends = json_object_get(generation, "eos_token_id");
    if (json_is_integer(ends)) clf_tokenizer_mark_end(t, json_integer_value(ends));
    size_t i;
    json_t *end;
    json_array_foreach(ends, i, end) if (json_is_integer(end)) clf_tokenizer_mark_end(t, json_integer_value(end));

    const json_t *template = template_of(config);
    if (json_is_string(template))
        CLF_TRY_GOTO(st, set_template(t, json_string_value(template), json_string_length(template), err));
    st = read_in(&jinja, folder, "chat_template.jinja", err);
    if (st == CLF_OK) st = set_template(t, (const char *)jinja.data, (size_t)jinja.size, err);
    if (st == CLF_NOT_FOUND) {
        clf_error_clear(err);
        st = CLF_OK;
    }
fail:
    json_decref(config);
    json_decref(map);
    json_decref(generation);
    clf_source_close(&jinja);
    return st;
}

/* `name` is tokenizer.json or tokenizer.model, in `folder`. */
static clf_status from_file(clf_tokenizer **out, const char *folder, const char *name, bool json, clf_error *err) {
    clf_tokenizer *t = NULL;
    clf_source file;
    clf_status st = read_in(&file, folder, name, err);
    if (st == CLF_OK) {
        const char *data = file.size ? (const char *)file.data : "";
        st = (json ? clf_tokenizer_from_json : clf_tokenizer_from_model)(&t, data, (size_t)file.size, err);
        if (st != CLF_OK) st = clf_fail_in(err, "%s", name);
    }
    clf_source_close(&file);
    if (st == CLF_OK) st = read_configuration(t, folder, !json || (!t->before.count && !t->after.count), err);
    if (st == CLF_OK) st = clf_tokenizer_finish(t, err);
    if (st == CLF_OK && t->bos < 0 && t->before.count) t->bos = t->before.data[0];
    if (st != CLF_OK) {
        clf_tokenizer_destroy(t);
        t = NULL;
    }
    *out = t;
    return st;
}

clf_status clf_tokenizer_from_folder(clf_tokenizer **out, const char *path, clf_error *err) {
    *out = NULL;
    clf_status st = from_file(out, path, "tokenizer.json", true, err);
    if (st != CLF_NOT_FOUND) return st;
    clf_error_clear(err);
    st = from_file(out, path, "tokenizer.model", false, err);
    if (st != CLF_NOT_FOUND) return st;
    return clf_fail(err, CLF_NOT_FOUND, "%s: neither tokenizer.json nor tokenizer.model", path);
}

static bool ends_with(const char *text, const char *end) {
    const size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static clf_status open_path(clf_tokenizer **out, const char *path, clf_error *err) {
    struct stat info;
    CLF_CHECK(err, path && *path, CLF_INVALID_ARGUMENT, "tokenizer: path: expected one, got none");
    CLF_CHECK(err, stat(path, &info) == 0, CLF_NOT_FOUND, "%s: no such file or folder", path);
    if (S_ISDIR(info.st_mode)) return clf_tokenizer_from_folder(out, path, err);
    const bool json = ends_with(path, ".json");
    if (json || ends_with(path, ".model")) {
        const char *slash = strrchr(path, '/');
        char folder[4096];
        const size_t n = slash ? (size_t)(slash - path) : 0;
        CLF_CHECK(err, n < sizeof folder, CLF_NOT_FOUND, "%.200s…: path too long", path);
        memcpy(folder, slash ? path : ".", n ? n : 1);
        folder[n ? n : 1] = 0;
        return from_file(out, folder, slash ? slash + 1 : path, json, err);
    }
    clf_gguf *gguf;
    CLF_TRY(clf_gguf_open(&gguf, &(clf_model_file_args){.path = path, .metadata_only = true}, err));
    const clf_status st = clf_tokenizer_from_gguf(out, gguf, err);
    clf_gguf_close(gguf);
    return st;
}

clf_status clf_tokenizer_create(clf_tokenizer **out, const clf_tokenizer_args *args) {
    if (!out) return CLF_INVALID_ARGUMENT;
    *out = NULL;
    if (!args) return CLF_INVALID_ARGUMENT;
    clf_error err = {0};
    const clf_status st = open_path(out, args->path, &err);
    if (args->error && args->error_size) snprintf(args->error, args->error_size, "%s", err.message);
    return st;
}
