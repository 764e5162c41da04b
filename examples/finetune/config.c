/* config.c: a JSON object of options, {"steps": 200, "data": ["a.jsonl", "b.jsonl"], "full": true, "pack": false}, as
 * flags. */
#define _GNU_SOURCE
#include "config.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void die(const char *what, const char *why) {
    fprintf(stderr, "clformer-finetune: %s: %s\n", what, why);
    exit(EXIT_FAILURE);
}

static const char *config_path(int argc, char **argv) {
    const char *path = NULL;
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (!strncmp(argv[i], "--config=", 9))
            path = argv[i] + 9;
        else if (!strcmp(argv[i], "--config") && i + 1 < argc)
            path = argv[++i];
    return path;
}

static void add_word(words *w, char *word) {
    char **grown = realloc(w->all, ((size_t)w->count + 2) * sizeof *grown);
    if (!word || !grown) die("options", "out of memory");
    w->all = grown;
    w->all[w->count++] = word;
    w->all[w->count] = NULL;
}

static void add_flag(words *w, const char *path, const char *name, const json_t *value) {
    size_t i;
    json_t *item;
    char *word = NULL, *text = NULL;
    if (json_is_array(value)) {
        json_array_foreach(value, i, item) add_flag(w, path, name, item);
        return;
    }
    if (json_is_null(value) || (json_is_false(value) && strcmp(name, "pack") != 0)) return;
    if (json_is_object(value)) die(path, "expected options by name, each a string, a number, true, false or a list");
    if (json_is_boolean(value)) {
        if (asprintf(&word, "--%s%s", json_is_false(value) ? "no-" : "", name) < 0) word = NULL;
    } else {
        text = json_is_string(value) ? strdup(json_string_value(value)) : json_dumps(value, JSON_ENCODE_ANY);
        if (!text || asprintf(&word, "--%s=%s", name, text) < 0) word = NULL;
        free(text);
    }
    add_word(w, word);
}

words config_expand(int argc, char **argv) {
    words w = {0};
    json_error_t error;
    const char *path = config_path(argc, argv), *name;
    json_t *value;
    add_word(&w, strdup(argv[0]));
    if (path) {
        json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
        if (!root) {
            char text[320];
            snprintf(text, sizeof text, "line %d: %s", error.line, error.text);
            die(path, text);
        }
        if (!json_is_object(root)) die(path, "expected a JSON object");
        json_object_foreach(root, name, value) add_flag(&w, path, name, value);
        json_decref(root);
        add_word(&w, strdup("--config-ends"));
    }
    for (int i = 1; i < argc && argv[i]; i++) add_word(&w, strdup(argv[i]));
    return w;
}

void config_free(words *w) {
    for (int i = 0; i < w->count; i++) free(w->all[i]);
    free(w->all);
}
