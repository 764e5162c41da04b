/* adapter_save.c: a model's LoRA adapter as PEFT and as llama.cpp read it.
 *
 *     PEFT   base_model.model.model.layers.3.self_attn.q_proj.lora_A.weight, …lora_B.weight; scale = alpha ÷ rank,
 *            alpha and rank by module where they differ from the most frequent ones; embed_tokens and lm_head as
 *            a whole where they were trained so (modules_to_save)
 *     GGUF   blk.3.attn_q.weight.lora_a, .lora_b; one alpha, scale = alpha ÷ rank */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../core/output_file.h"
#include "../core/output_folder.h"
#include "adapter_modules.h"
#include "json.h"
#include "text.h"

static const char *const peft_files[] = {"adapter_config.json", "adapter_model.safetensors", NULL};

/* "model.layers.3.self_attn.q_proj" */
static void module_name(char *out, size_t size, const clf_adapter_module *x) {
    snprintf(out, size, "model.layers.%d.%s", x->layer, x->rule->hf);
}
static void peft_name(char *out, size_t size, const clf_adapter_module *x) {
    snprintf(out, size, "base_model.model.model.layers.%d.%s", x->layer, x->rule->hf);
}
static void gguf_name(char *out, size_t size, const clf_adapter_module *x) {
    char name[CLF_NAME_SIZE];
    snprintf(out, size, "%s", clf_name_in_gguf(name, x->rule, x->layer, ".weight"));
}

/* A whole number as an integer. */
static json_t *number(double value) {
    return value == (double)(json_int_t)value ? json_integer((json_int_t)value) : json_real(value);
}

static bool put(json_t *object, const char *key, json_t *value) {
    return !json_object_set_new(object, key, value);
}

/* A pattern that only this module's name matches. */
static bool put_pattern(json_t *patterns, const clf_adapter_module *x, double value) {
    char name[160], pattern[320], *p = pattern;
    module_name(name, sizeof name, x);
    for (const char *c = name; *c; c++) {
        if (*c == '.') *p++ = '\\';
        *p++ = *c;
    }
    *p = 0;
    return put(patterns, pattern, number(value));
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The last parts of the names ("q_proj") of what is adapted in every layer, the whole names of the rest; sorted. */
static json_t *target_modules(const clf_adapter_modules *list) {
    json_t *out = json_array();
    const int64_t n = list->count;
    char(*names)[160] = calloc((size_t)n + 1, sizeof *names);
    const char **sorted = calloc((size_t)n + 1, sizeof *sorted);
    bool ok = out && names && sorted;
    for (int64_t i = 0; ok && i < n; i++) {
        const clf_tensor_rule *r = list->module[i].rule;
        int64_t layers = 0;
        for (int64_t j = 0; j < n; j++) layers += list->module[j].rule == r;
        if (layers == list->model->config.n_layers)
            snprintf(names[i], sizeof names[i], "%s", strrchr(r->hf, '.') + 1);
        else
            module_name(names[i], sizeof names[i], &list->module[i]);
        sorted[i] = names[i];
    }
    if (ok) qsort(sorted, (size_t)n, sizeof *sorted, by_text);
    for (int64_t i = 0; ok && i < n; i++)
        if (!i || strcmp(sorted[i], sorted[i - 1])) ok = !json_array_append_new(out, json_string(sorted[i]));
    free(names);
    free(sorted);
    if (ok) return out;
    json_decref(out);
    return NULL;
}

/* Ranks and alphas that aren't the most frequent ones. */
static bool put_patterns(json_t *config, const clf_adapter_modules *list) {
    json_t *ranks = json_object(), *alphas = json_object();
    bool ok = put(config, "rank_pattern", ranks);
    ok &= put(config, "alpha_pattern", alphas);
    for (int64_t i = 0; ok && i < list->count; i++) {
        const clf_adapter_module *x = &list->module[i];
        if (x->rank != list->rank) ok &= put_pattern(ranks, x, (double)x->rank);
        if (clf_adapter_alpha(x) != list->alpha) ok &= put_pattern(alphas, x, clf_adapter_alpha(x));
    }
    return ok;
}

/* "embed_tokens", "lm_head"; null for none. */
static json_t *modules_to_save(const clf_adapter_modules *list) {
    json_t *out = list->n_whole ? json_array() : json_null();
    for (int i = 0; out && i < list->n_whole; i++) {
        char name[160];
        snprintf(name, sizeof name, "%.*s", (int)(strlen(list->whole[i].name) - strlen(".weight")),
                 list->whole[i].name);
        if (json_array_append_new(out, json_string(strrchr(name, '.') + 1))) return json_decref(out), NULL;
    }
    return out;
}

/* adapter_config.json, to be freed; NULL: out of memory. */
static char *config_text(const clf_adapter_modules *list, const char *base_model) {
    static const char *const none[] = {"auto_mapping", "exclude_modules", "layers_pattern", "layers_to_transform",
                                       "revision"},
                             *const no[] = {"fan_in_fan_out", "use_dora", "use_rslora"},
                             *const yes[] = {"inference_mode", "init_lora_weights"};
    json_t *config = json_object();
    bool ok = config && put_patterns(config, list);
    for (size_t i = 0; ok && i < sizeof none / sizeof *none; i++) ok = put(config, none[i], json_null());
    for (size_t i = 0; ok && i < sizeof no / sizeof *no; i++) ok = put(config, no[i], json_false());
    for (size_t i = 0; ok && i < sizeof yes / sizeof *yes; i++) ok = put(config, yes[i], json_true());
    ok = ok && put(config, "peft_type", json_string("LORA")) && put(config, "task_type", json_string("CAUSAL_LM")) &&
         put(config, "bias", json_string("none")) && put(config, "lora_dropout", json_real(0)) &&
         put(config, "r", json_integer((json_int_t)list->rank)) && put(config, "lora_alpha", number(list->alpha)) &&
         put(config, "target_modules", target_modules(list)) && put(config, "modules_to_save", modules_to_save(list)) &&
         put(config, "base_model_name_or_path", base_model ? json_string(base_model) : json_null());
    char *text = ok ? clf_json_text(config, JSON_INDENT(2) | JSON_SORT_KEYS) : NULL;
    json_decref(config);
    return text;
}

static clf_status write_peft(const clf_adapter_modules *list, const clf_adapter_save_args *args, clf_error *err) {
    clf_output_folder folder;
    clf_tensor_writer w = {0};
    CLF_CHECK(err, !args->base_model || clf_utf8_valid(args->base_model, strlen(args->base_model)),
              CLF_INVALID_ARGUMENT, "adapter: base_model: expected UTF-8");
    CLF_TRY(clf_output_folder_create(&folder, args->path, peft_files, err));
    char *config = clf_path_join(folder.temporary, peft_files[0]),
         *weights = clf_path_join(folder.temporary, peft_files[1]), *text = config_text(list, args->base_model);
    clf_status st =
        config && weights && text ? CLF_OK : clf_fail(err, CLF_OUT_OF_MEMORY, "adapter: out of host memory");
    if (st == CLF_OK) st = clf_safetensors_writer_create(&w.safetensors, weights, err);
    if (st == CLF_OK) st = clf_safetensors_write_metadata(w.safetensors, "format", "pt", err);
    if (st == CLF_OK)
        st =
            clf_adapter_modules_write(list, &w, CLF_ROPE_HALVES, 0, peft_name, ".lora_A.weight", ".lora_B.weight", err);
    if (st == CLF_OK) st = clf_write_finish(&w, err);
    if (st == CLF_OK) st = clf_output_file_put(config, text, strlen(text), err);
    clf_write_end(&w);
    if (st == CLF_OK) st = clf_output_folder_finish(&folder, err);
    clf_output_folder_discard(&folder);
    free(config);
    free(weights);
    free(text);
    return st;
}

static clf_status write_gguf(const clf_adapter_modules *list, const clf_adapter_save_args *args, clf_error *err) {
    const clf_architecture *a = clf_architecture_in_gguf(clf_architecture_named(list->model->config.architecture));
    const float alpha = list->alpha != 0 ? (float)list->alpha : 1; /* 0 would mean a scale of 1 */
    clf_tensor_writer w = {0};
    CLF_CHECK(err, !list->n_whole, CLF_UNSUPPORTED,
              "adapter: %s: a GGUF adapter holds pairs only, and here the embedding or output matrix was trained as a "
              "whole: save it as a PEFT folder, or the merged model",
              args->path);
    CLF_TRY(clf_gguf_writer_create(&w.gguf, args->path, err));
    clf_status st = clf_gguf_write_string(w.gguf, "general.type", "adapter", err);
    if (st == CLF_OK) st = clf_gguf_write_string(w.gguf, "general.architecture", a->gguf, err);
    if (st == CLF_OK) st = clf_gguf_write_string(w.gguf, "adapter.type", "lora", err);
    if (st == CLF_OK) st = clf_gguf_write_f32(w.gguf, "adapter.lora.alpha", alpha, err);
    if (st == CLF_OK)
        st = clf_adapter_modules_write(list, &w, a->pairing, (double)alpha, gguf_name, ".lora_a", ".lora_b", err);
    if (st == CLF_OK) st = clf_write_finish(&w, err);
    clf_write_end(&w);
    return st;
}

clf_status clf_model_save_adapter(const clf_model *m, const clf_adapter_save_args *args) {
    if (!m) return CLF_INVALID_ARGUMENT;
    CLF_TRY(clf_model_enter(m));
    clf_error *err = &m->contexts[0]->error;
    clf_adapter_modules list;
    CLF_CHECK(err, args && args->path && *args->path, CLF_INVALID_ARGUMENT, "adapter: path: expected a name");
    CLF_TRY(clf_adapter_modules_list(&list, m, err));
    const clf_status st = clf_is_gguf_name(args->path) ? write_gguf(&list, args, err) : write_peft(&list, args, err);
    clf_adapter_modules_free(&list);
    return st;
}
