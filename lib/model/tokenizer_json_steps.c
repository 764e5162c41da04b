/* tokenizer_json_steps.c: normalizer, pre_tokenizer and decoder of a tokenizer.json as steps. */
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "pretokenizers.h"
#include "tokenizer_json.h"

enum { MAX_NESTING = 16 };

#define PUNCTUATION "[\\p{P}!-/:-@\\[-`{-~]"

static clf_status get_size(const json_t *object, const char *key, size_t *out, clf_error *err) {
    const json_t *value = json_object_get(object, key);
    if (!value || json_is_null(value)) return CLF_OK;
    CLF_CHECK(err, json_is_integer(value) && json_integer_value(value) >= 0 && json_integer_value(value) <= 1 << 20,
              CLF_BAD_FILE, "%s: expected a small number", key);
    *out = (size_t)json_integer_value(value);
    return CLF_OK;
}

/* The string at `key` as the step's content. */
static clf_status set_content(clf_step *step, const json_t *object, const char *key, clf_error *err) {
    const json_t *value = NULL;
    CLF_TRY(clf_json_get_string(object, key, &value, err));
    CLF_CHECK(err, value, CLF_BAD_FILE, "%s: expected a string", key);
    return clf_step_set_content(step, json_string_value(value), json_string_length(value), err);
}

/* {"String": …} or {"Regex": …}. */
static clf_status set_pattern(clf_step *step, const json_t *object, clf_error *err) {
    const json_t *pattern = json_object_get(object, "pattern");
    const json_t *literal = json_object_get(pattern, "String"), *regex = json_object_get(pattern, "Regex");
    const json_t *value = literal ? literal : regex ? regex : pattern;
    CLF_CHECK(err, json_is_string(value), CLF_BAD_FILE, "pattern: expected \"String\" or \"Regex\"");
    return clf_step_set_pattern(step, json_string_value(value), json_string_length(value), regex != NULL, err);
}

static clf_status set_behaviour(clf_step *step, const json_t *object, clf_error *err) {
    static const char *const names[] = {[CLF_SPLIT_ISOLATED] = "Isolated",
                                        [CLF_SPLIT_REMOVED] = "Removed",
                                        [CLF_SPLIT_PREVIOUS] = "MergedWithPrevious",
                                        [CLF_SPLIT_NEXT] = "MergedWithNext",
                                        [CLF_SPLIT_CONTIGUOUS] = "Contiguous"};
    const json_t *value = NULL;
    CLF_TRY(clf_json_get_string(object, "behavior", &value, err));
    for (int i = 0; value && i < (int)(sizeof names / sizeof *names); i++)
        if (strcmp(json_string_value(value), names[i]) == 0) return step->behaviour = (clf_split)i, CLF_OK;
    return clf_fail(err, CLF_UNSUPPORTED, "behavior: \"%.60s\" isn't known", value ? json_string_value(value) : "");
}

static int base64_digit(char c) {
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

static clf_status set_charsmap(clf_step *step, const json_t *object, clf_error *err) {
    const json_t *value = NULL;
    CLF_TRY(clf_json_get_string(object, "precompiled_charsmap", &value, err));
    CLF_CHECK(err, value, CLF_BAD_FILE, "precompiled_charsmap: expected a string");
    const char *text = json_string_value(value);
    const size_t length = json_string_length(value);
    unsigned char *bytes = malloc(length / 4 * 3 + 3);
    CLF_CHECK(err, bytes, CLF_OUT_OF_MEMORY, "precompiled_charsmap: out of memory");
    size_t n = 0;
    uint32_t bits = 0;
    for (size_t i = 0, held = 0; i < length && text[i] != '='; i++) {
        const int digit = base64_digit(text[i]);
        if (digit < 0) {
            free(bytes);
            return clf_fail(err, CLF_BAD_FILE, "precompiled_charsmap: expected base64");
        }
        bits = bits << 6 | (uint32_t)digit;
        if ((held += 6) >= 8) bytes[n++] = (unsigned char)(bits >> (held -= 8));
    }
    const clf_status st = clf_charsmap_create(&step->charsmap, bytes, n, CLF_CHARSMAP_GRAPHEMES, err);
    free(bytes);
    return st;
}

/* Adds `step` if it was filled well, frees it otherwise. */
static clf_status add(clf_steps *steps, clf_step *step, clf_status st, clf_error *err) {
    if (st == CLF_OK) return clf_steps_add(steps, *step, err);
    clf_step_clear(step);
    return st;
}

static clf_status add_split(clf_steps *steps, const char *regex, clf_split behaviour, clf_error *err) {
    clf_step step = {.kind = CLF_STEP_SPLIT, .behaviour = behaviour};
    return add(steps, &step, clf_step_set_pattern(&step, regex, strlen(regex), true, err), err);
}

static clf_status add_replace(clf_steps *steps, const char *from, size_t from_length, const char *to, bool first_only,
                              clf_error *err) {
    clf_step step = {.kind = CLF_STEP_REPLACE, .first_only = first_only};
    clf_status st = clf_step_set_pattern(&step, from, from_length, false, err);
    if (st == CLF_OK) st = clf_step_set_content(&step, to, strlen(to), err);
    return add(steps, &step, st, err);
}

typedef clf_status reader(clf_tokenizer *t, const json_t *json, int depth, clf_error *err);

static clf_status each_of(clf_tokenizer *t, const json_t *list, int depth, reader *read, clf_error *err) {
    CLF_CHECK(err, json_is_array(list), CLF_BAD_FILE, "Sequence: expected a list");
    CLF_CHECK(err, depth < MAX_NESTING, CLF_BAD_FILE, "Sequence: nested more than %d deep", MAX_NESTING);
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item) CLF_TRY(read(t, item, depth + 1, err));
    return CLF_OK;
}

static clf_status read_normalizer(clf_tokenizer *t, const json_t *json, int depth, clf_error *err) {
    static const struct {
        const char *name;
        int options;
    } forms[] = {{"NFC", UTF8PROC_STABLE | UTF8PROC_COMPOSE},
                 {"NFD", UTF8PROC_STABLE | UTF8PROC_DECOMPOSE},
                 {"NFKC", UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT},
                 {"NFKD", UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT}};
    const char *type = clf_json_type(json, "normalizer", err);
    if (!type) return CLF_BAD_FILE;
    if (strcmp(type, "Sequence") == 0)
        return each_of(t, json_object_get(json, "normalizers"), depth, read_normalizer, err);
    clf_step step = {0};
    clf_status st = CLF_OK;
    if (strcmp(type, "Prepend") == 0) {
        step.kind = CLF_STEP_PREFIX;
        st = set_content(&step, json, "prepend", err);
    } else if (strcmp(type, "Replace") == 0) {
        step.kind = CLF_STEP_REPLACE;
        st = set_pattern(&step, json, err);
        if (st == CLF_OK) st = set_content(&step, json, "content", err);
    } else if (strcmp(type, "Lowercase") == 0) {
        step.kind = CLF_STEP_LOWERCASE;
    } else if (strcmp(type, "StripAccents") == 0) {
        step.kind = CLF_STEP_STRIP_ACCENTS;
    } else if (strcmp(type, "ByteLevel") == 0) {
        step.kind = CLF_STEP_BYTE_LEVEL;
        t->byte_level = true;
    } else if (strcmp(type, "Precompiled") == 0) {
        step.kind = CLF_STEP_CHARSMAP;
        st = set_charsmap(&step, json, err);
    } else if (strcmp(type, "Strip") == 0) {
        bool left = true, right = true;
        step.kind = CLF_STEP_STRIP;
        st = clf_json_get_bool(json, "strip_left", &left, err);
        if (st == CLF_OK) st = clf_json_get_bool(json, "strip_right", &right, err);
        step.left = left;
        step.right = right;
    } else {
        st = clf_fail(err, CLF_UNSUPPORTED, "normalizer: \"%.60s\" isn't known", type);
        for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
            if (strcmp(type, forms[i].name) != 0) continue;
            step.kind = CLF_STEP_NORMAL_FORM;
            step.options = forms[i].options;
            clf_error_clear(err);
            st = CLF_OK;
        }
    }
    return add(&t->normalize, &step, st, err);
}

/* " " → replacement, the replacement in front, words begin with it. */
static clf_status read_metaspace(clf_tokenizer *t, const json_t *json, clf_error *err) {
    const json_t *replacement = NULL, *scheme = NULL;
    bool prefix = true, split = true;
    CLF_TRY(clf_json_get_string(json, "replacement", &replacement, err));
    CLF_TRY(clf_json_get_string(json, "prepend_scheme", &scheme, err));
    CLF_TRY(clf_json_get_bool(json, "add_prefix_space", &prefix, err));
    CLF_TRY(clf_json_get_bool(json, "split", &split, err));
    const char *mark = replacement ? json_string_value(replacement) : CLF_LOW_LINE;
    const char *when = scheme ? json_string_value(scheme) : prefix ? "always" : "never";
    const bool first = strcmp(when, "first") == 0;
    CLF_CHECK(err, first || strcmp(when, "always") == 0 || strcmp(when, "never") == 0, CLF_UNSUPPORTED,
              "prepend_scheme: \"%.60s\" isn't known", when);
    CLF_TRY(add_replace(&t->split, " ", 1, mark, false, err));
    if (strcmp(when, "never") != 0) {
        clf_step step = {.kind = CLF_STEP_PREFIX, .unless_there = true, .first_only = first};
        CLF_TRY(add(&t->split, &step, clf_step_set_content(&step, mark, strlen(mark), err), err));
    }
    if (!split) return CLF_OK;
    clf_step step = {.kind = CLF_STEP_SPLIT, .behaviour = CLF_SPLIT_NEXT};
    return add(&t->split, &step, clf_step_set_pattern(&step, mark, strlen(mark), false, err), err);
}

static clf_status read_byte_level(clf_tokenizer *t, const json_t *json, clf_error *err) {
    bool prefix = true, split = true;
    CLF_TRY(clf_json_get_bool(json, "add_prefix_space", &prefix, err));
    CLF_TRY(clf_json_get_bool(json, "use_regex", &split, err));
    if (prefix) {
        clf_step step = {.kind = CLF_STEP_PREFIX, .unless_there = true};
        CLF_TRY(add(&t->split, &step, clf_step_set_content(&step, " ", 1, err), err));
    }
    if (split) CLF_TRY(add_split(&t->split, CLF_GPT2_PATTERN, CLF_SPLIT_ISOLATED, err));
    t->byte_level = true;
    return clf_steps_add(&t->split, (clf_step){.kind = CLF_STEP_BYTE_LEVEL}, err);
}

static clf_status read_pre_tokenizer(clf_tokenizer *t, const json_t *json, int depth, clf_error *err) {
    const char *type = clf_json_type(json, "pre_tokenizer", err);
    if (!type) return CLF_BAD_FILE;
    clf_step step = {.kind = CLF_STEP_SPLIT};
    if (strcmp(type, "Sequence") == 0)
        return each_of(t, json_object_get(json, "pretokenizers"), depth, read_pre_tokenizer, err);
    if (strcmp(type, "ByteLevel") == 0) return read_byte_level(t, json, err);
    if (strcmp(type, "Metaspace") == 0) return read_metaspace(t, json, err);
    if (strcmp(type, "Split") == 0) {
        clf_status st = set_pattern(&step, json, err);
        if (st == CLF_OK) st = set_behaviour(&step, json, err);
        if (st == CLF_OK) st = clf_json_get_bool(json, "invert", &step.invert, err);
        return add(&t->split, &step, st, err);
    }
    if (strcmp(type, "Punctuation") == 0) {
        clf_status st = json_object_get(json, "behavior") ? set_behaviour(&step, json, err) : CLF_OK;
        if (st == CLF_OK) st = clf_step_set_pattern(&step, PUNCTUATION, strlen(PUNCTUATION), true, err);
        return add(&t->split, &step, st, err);
    }
    if (strcmp(type, "Digits") == 0) {
        bool single = false;
        CLF_TRY(clf_json_get_bool(json, "individual_digits", &single, err));
        return add_split(&t->split, "\\p{N}", single ? CLF_SPLIT_ISOLATED : CLF_SPLIT_CONTIGUOUS, err);
    }
    if (strcmp(type, "CharDelimiterSplit") == 0) {
        const json_t *delimiter = NULL;
        CLF_TRY(clf_json_get_string(json, "delimiter", &delimiter, err));
        CLF_CHECK(err, delimiter, CLF_BAD_FILE, "delimiter: expected a string");
        step.behaviour = CLF_SPLIT_REMOVED;
        return add(&t->split, &step,
                   clf_step_set_pattern(&step, json_string_value(delimiter), json_string_length(delimiter), false, err),
                   err);
    }
    if (strcmp(type, "WhitespaceSplit") == 0) return add_split(&t->split, "\\s", CLF_SPLIT_REMOVED, err);
    if (strcmp(type, "Whitespace") == 0) {
        CLF_TRY(add_split(&t->split, "\\s", CLF_SPLIT_REMOVED, err));
        return add_split(&t->split, "[\\w\\x{200C}\\x{200D}]+", CLF_SPLIT_ISOLATED, err);
    }
    if (strcmp(type, "BertPreTokenizer") == 0) {
        CLF_TRY(add_split(&t->split, "\\s", CLF_SPLIT_REMOVED, err));
        return add_split(&t->split, PUNCTUATION, CLF_SPLIT_ISOLATED, err);
    }
    return clf_fail(err, CLF_UNSUPPORTED, "pre_tokenizer: \"%.60s\" isn't known", type);
}

/* Whether the steps so far make one text of all tokens: what follows sees that. */
static bool is_fused(const clf_tokenizer *t, bool fuse) {
    return fuse || (t->decode.count && t->decode.data[t->decode.count - 1].kind == CLF_STEP_BYTE_LEVEL);
}

static clf_status read_decoder_of(clf_tokenizer *t, const json_t *json, int depth, bool *fuse, clf_error *err) {
    const char *type = clf_json_type(json, "decoder", err);
    if (!type) return CLF_BAD_FILE;
    clf_step step = {0};
    if (strcmp(type, "Sequence") == 0) {
        const json_t *list = json_object_get(json, "decoders");
        CLF_CHECK(err, json_is_array(list), CLF_BAD_FILE, "Sequence: expected a list");
        CLF_CHECK(err, depth < MAX_NESTING, CLF_BAD_FILE, "Sequence: nested more than %d deep", MAX_NESTING);
        size_t i;
        json_t *item;
        json_array_foreach(list, i, item) CLF_TRY(read_decoder_of(t, item, depth + 1, fuse, err));
        return CLF_OK;
    }
    if (strcmp(type, "Fuse") == 0) return *fuse = true, CLF_OK;
    const bool fused = is_fused(t, *fuse);
    if (strcmp(type, "Strip") == 0) {
        clf_status st = set_content(&step, json, "content", err);
        if (st == CLF_OK) st = get_size(json, "start", &step.left, err);
        if (st == CLF_OK) st = get_size(json, "stop", &step.right, err);
        if (st == CLF_OK && fused && step.right)
            st = clf_fail(err, CLF_UNSUPPORTED, "decoder: Strip at the end of the text");
        step.kind = fused ? CLF_STEP_STRIP_BEGINNING : CLF_STEP_STRIP_EACH;
        return add(&t->decode, &step, st, err);
    }
    CLF_CHECK(err, !fused, CLF_UNSUPPORTED, "decoder: \"%.60s\" after all tokens were joined", type);
    if (strcmp(type, "ByteLevel") == 0) return clf_steps_add(&t->decode, (clf_step){.kind = CLF_STEP_BYTE_LEVEL}, err);
    if (strcmp(type, "ByteFallback") == 0) return t->byte_pieces = true, CLF_OK;
    if (strcmp(type, "Replace") == 0) {
        step.kind = CLF_STEP_REPLACE;
        clf_status st = set_pattern(&step, json, err);
        if (st == CLF_OK) st = set_content(&step, json, "content", err);
        return add(&t->decode, &step, st, err);
    }
    if (strcmp(type, "Metaspace") == 0) {
        const json_t *replacement = NULL, *scheme = NULL;
        bool prefix = true;
        CLF_TRY(clf_json_get_string(json, "replacement", &replacement, err));
        CLF_TRY(clf_json_get_string(json, "prepend_scheme", &scheme, err));
        CLF_TRY(clf_json_get_bool(json, "add_prefix_space", &prefix, err));
        const char *mark = replacement ? json_string_value(replacement) : CLF_LOW_LINE;
        if (scheme) prefix = strcmp(json_string_value(scheme), "never") != 0;
        if (prefix) CLF_TRY(add_replace(&t->decode, mark, strlen(mark), "", true, err));
        return add_replace(&t->decode, mark, strlen(mark), " ", false, err);
    }
    return clf_fail(err, CLF_UNSUPPORTED, "decoder: \"%.60s\" isn't known", type);
}

clf_status clf_json_normalizer(clf_tokenizer *t, const json_t *json, clf_error *err) {
    return !json || json_is_null(json) ? CLF_OK : read_normalizer(t, json, 0, err);
}

clf_status clf_json_pre_tokenizer(clf_tokenizer *t, const json_t *json, clf_error *err) {
    return !json || json_is_null(json) ? CLF_OK : read_pre_tokenizer(t, json, 0, err);
}

clf_status clf_json_decoder(clf_tokenizer *t, const json_t *json, clf_error *err) {
    bool fuse = false;
    return !json || json_is_null(json) ? CLF_OK : read_decoder_of(t, json, 0, &fuse, err);
}
