/* json.c: reading JSON files. */
#include "json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "source.h"

/* Values of a parsed text take some 40 bytes each, written ones as few as two: their number is limited first. */
enum { MAX_VALUES = 1 << 24 };

static uint64_t count_values(const char *text, uint64_t size) {
    uint64_t n = 1;
    for (uint64_t i = 0; i < size; i++) n += text[i] == ',' || text[i] == ':' || text[i] == '[' || text[i] == '{';
    return n;
}

clf_status clf_json_parse(json_t **out, const void *data, uint64_t size, const char *name, clf_error *err) {
    json_error_t why;
    *out = NULL;
    CLF_CHECK(err, count_values(data, size) <= MAX_VALUES, CLF_BAD_FILE, "%s: JSON: expected at most %d values", name,
              MAX_VALUES);
    *out = json_loadb(data, (size_t)size, JSON_REJECT_DUPLICATES, &why);
    if (!*out)
        return clf_fail(err, json_error_code(&why) == json_error_out_of_memory ? CLF_OUT_OF_MEMORY : CLF_BAD_FILE,
                        "%s: JSON, line %d, column %d: %s", name, why.line, why.column, why.text);
    if (json_is_object(*out)) return CLF_OK;
    json_decref(*out);
    *out = NULL;
    return clf_fail(err, CLF_BAD_FILE, "%s: expected a JSON object", name);
}

clf_status clf_json_read(json_t **out, const char *path, uint64_t max, clf_error *err) {
    clf_source s;
    *out = NULL;
    CLF_TRY(clf_source_open(&s, path, false, err));
    clf_status st = CLF_OK;
    if (s.size > max)
        st = clf_fail(err, CLF_BAD_FILE, "%s: expected at most %llu bytes, got %llu", path, (unsigned long long)max,
                      (unsigned long long)s.size);
    else if ((st = clf_source_need(&s, 0, s.size, err)) != CLF_OK)
        clf_fail_in(err, "%s", path);
    if (st == CLF_OK) st = clf_json_parse(out, s.data ? s.data : (const uint8_t *)"", s.size, path, err);
    clf_source_close(&s);
    return st;
}

char *clf_json_text(const json_t *value, size_t flags) {
    const size_t size = json_dumpb(value, NULL, 0, flags);
    char *text = size ? malloc(size + 1) : NULL;
    if (!text) return NULL;
    if (json_dumpb(value, text, size, flags) == size) return text[size] = 0, text;
    free(text);
    return NULL;
}

char *clf_path_join(const char *folder, const char *name) {
    const size_t size = strlen(folder) + strlen(name) + 2;
    char *path = malloc(size);
    if (path) snprintf(path, size, "%s/%s", folder, name);
    return path;
}
