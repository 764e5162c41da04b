/* dataset_json.c: lines of JSON, and plain text, to documents.
 *
 * Text is a begin-of-sequence token where the tokenizer sets one, the text, and an end-of-sequence token where there is
 * one. A prompt and what follows it are tokenized together; the targets begin at the first token that isn't one of the
 * prompt's own. A conversation is what its template makes of it; the targets are the assistant's turns. Special tokens
 * spelled in the data are text. */
#include <stdlib.h>
#include <string.h>

#include "../model/json.h"
#include "dataset.h"

/* What a line says: strings, or lists of messages. */
typedef struct record {
    const json_t *prompt;   /* NULL: none */
    const json_t *sides[2]; /* what is trained after it; of a pair chosen and rejected */
    const char *names[2];
    int n_sides;
} record;

static clf_status check_type(const json_t *value, json_type type, const char *name, size_t i, const char *key,
                             clf_error *err) {
    static const char *const names[] = {
        [JSON_OBJECT] = "an object", [JSON_ARRAY] = "a list", [JSON_STRING] = "a string", [JSON_INTEGER] = "a number",
        [JSON_REAL] = "a number",    [JSON_TRUE] = "true",    [JSON_FALSE] = "false",     [JSON_NULL] = "null"};
    if (value && json_typeof(value) == type) return CLF_OK;
    char at[32] = "";
    if (i < SIZE_MAX) snprintf(at, sizeof at, "[%zu]", i);
    return clf_fail(err, CLF_BAD_FILE, "%s%s%s: expected %s, got %s", name, at, key, names[type],
                    value ? names[json_typeof(value)] : "nothing");
}

static clf_status check_messages(const json_t *list, const char *name, clf_error *err) {
    size_t i;
    const json_t *message;
    json_array_foreach(list, i, message) {
        const json_t *role = json_object_get(message, "role"), *content = json_object_get(message, "content");
        CLF_TRY(check_type(message, JSON_OBJECT, name, i, "", err));
        CLF_TRY(check_type(role, JSON_STRING, name, i, ".role", err));
        CLF_TRY(check_type(content, JSON_STRING, name, i, ".content", err));
        const char *text = json_string_value(role);
        CLF_CHECK(err, !strcmp(text, "system") || !strcmp(text, "user") || !strcmp(text, "assistant"), CLF_BAD_FILE,
                  "%s[%zu].role: expected system, user or assistant, got \"%.40s\"", name, i, text);
    }
    return CLF_OK;
}

static clf_status check_record(const record *r, clf_error *err) {
    const json_type type = json_is_array(r->prompt ? r->prompt : r->sides[0]) ? JSON_ARRAY : JSON_STRING;
    if (r->prompt) CLF_TRY(check_type(r->prompt, type, "prompt", SIZE_MAX, "", err));
    for (int i = 0; i < r->n_sides; i++) {
        CLF_TRY(check_type(r->sides[i], type, r->names[i], SIZE_MAX, "", err));
        if (type != JSON_ARRAY) continue;
        CLF_TRY(check_messages(r->sides[i], r->names[i], err));
        CLF_CHECK(err, json_array_size(r->sides[i]), CLF_BAD_FILE, "%s: expected messages, got none", r->names[i]);
    }
    return r->prompt && type == JSON_ARRAY ? check_messages(r->prompt, "prompt", err) : CLF_OK;
}

static clf_status read_record(record *r, const json_t *root, bool preference, clf_error *err) {
    const json_t *messages = json_object_get(root, "messages"), *completion = json_object_get(root, "completion");
    const json_t *prompt = json_object_get(root, "prompt"), *text = json_object_get(root, "text");
    if (preference) {
        *r = (record){.prompt = prompt,
                      .sides = {json_object_get(root, "chosen"), json_object_get(root, "rejected")},
                      .names = {"chosen", "rejected"},
                      .n_sides = 2};
        /* beside lists a prompt that is a string repeats what they begin with */
        if (json_is_string(prompt) && json_is_array(r->sides[0])) r->prompt = NULL;
    } else if (messages) {
        CLF_TRY(check_type(messages, JSON_ARRAY, "messages", SIZE_MAX, "", err));
        *r = (record){.sides = {messages}, .names = {"messages"}, .n_sides = 1};
    } else if (prompt || completion) {
        CLF_CHECK(err, prompt, CLF_BAD_FILE, "prompt: expected beside completion, got nothing");
        *r = (record){.prompt = prompt, .sides = {completion}, .names = {"completion"}, .n_sides = 1};
    } else {
        CLF_CHECK(err, text, CLF_BAD_FILE, "expected messages, prompt and completion, or text%s",
                  json_object_get(root, "chosen") ? "; chosen and rejected are for preference tuning" : "");
        CLF_TRY(check_type(text, JSON_STRING, "text", SIZE_MAX, "", err));
        *r = (record){.sides = {text}, .names = {"text"}, .n_sides = 1};
    }
    return check_record(r, err);
}

static clf_status append_all(clf_ids *to, const clf_ids *ids) {
    for (size_t i = 0; i < ids->count; i++)
        if (!clf_ids_append(to, ids->data[i])) return CLF_OUT_OF_MEMORY;
    return CLF_OK;
}

/* The scratch's ids become those of `text`, after `begins` the tokens that begin one. */
static clf_status tokenize(const clf_tokenizer *t, clf_scratch *s, const char *text, size_t length, bool begins) {
    s->ids.count = 0;
    if (begins) CLF_TRY(append_all(&s->ids, &t->before));
    return clf_tokenize_append(t, s, text, length, false, begins ? CLF_PLACE_BEGINNING : CLF_PLACE_TOKEN);
}

static clf_status end(const clf_tokenizer *t, clf_scratch *s) {
    CLF_TRY(append_all(&s->ids, &t->after));
    if (t->eos < 0 || (s->ids.count && s->ids.data[s->ids.count - 1] == t->eos)) return CLF_OK;
    return clf_ids_append(&s->ids, t->eos) ? CLF_OK : CLF_OUT_OF_MEMORY;
}

/* Messages of the tokenizer: a text that a pattern gives up on is a bad line. */
static clf_status fail_tokenizing(clf_status st, clf_error *err) {
    if (st == CLF_OUT_OF_MEMORY) return clf_fail(err, st, "out of memory for tokens");
    return clf_fail(err, CLF_BAD_FILE, "the tokenizer's pattern needs too many steps on this text");
}

clf_status clf_dataset_plain(const clf_tokenizer *t, const char *text, size_t length, bool begins, bool ends,
                             clf_scratch *scratch, clf_sample *sample, clf_error *err) {
    clf_status st = tokenize(t, scratch, text, length, begins);
    if (st == CLF_OK && ends) st = end(t, scratch);
    if (st != CLF_OK) return fail_tokenizing(st, err);
    const clf_ids *ids = &scratch->ids;
    return clf_sample_add(sample, ids->data, ids->count, &(clf_span){0, length ? ids->count : 0}, 1, err);
}

static clf_status completion(const clf_tokenizer *t, const json_t *prompt, const json_t *text, clf_scratch *scratch,
                             clf_sample *sample, clf_error *err) {
    clf_text both = {0};
    clf_ids own = {0}; /* the prompt's */
    size_t same = 0;
    clf_status st = CLF_OUT_OF_MEMORY;
    if (clf_text_append(&both, json_string_value(prompt), json_string_length(prompt)) &&
        clf_text_append(&both, json_string_value(text), json_string_length(text)))
        st = tokenize(t, scratch, both.data, json_string_length(prompt), true);
    if (st == CLF_OK) st = append_all(&own, &scratch->ids);
    if (st == CLF_OK) st = tokenize(t, scratch, both.data, both.length, true);
    if (st == CLF_OK) st = end(t, scratch);
    const clf_ids *ids = &scratch->ids;
    if (st == CLF_OK) {
        while (same < own.count && same < ids->count && own.data[same] == ids->data[same]) same++;
        const clf_span targets = {same, json_string_length(text) ? ids->count : same};
        st = clf_sample_add(sample, ids->data, ids->count, &targets, 1, err);
    } else {
        fail_tokenizing(st, err);
        st = err->status;
    }
    free(both.data);
    free(own.data);
    return st;
}

static clf_status conversation(const clf_tokenizer *t, const json_t *prompt, const json_t *list, clf_scratch *scratch,
                               clf_sample *sample, clf_error *err) {
    const size_t before = prompt ? json_array_size(prompt) : 0, n = before + json_array_size(list);
    clf_chat_message *messages = calloc(n, sizeof *messages);
    clf_spans replies = {0};
    size_t of_prompt = 0; /* replies there */
    if (!messages) return clf_fail(err, CLF_OUT_OF_MEMORY, "out of memory for messages");
    for (size_t i = 0; i < n; i++) {
        const json_t *m = i < before ? json_array_get(prompt, i) : json_array_get(list, i - before);
        messages[i] = (clf_chat_message){json_string_value(json_object_get(m, "role")),
                                         json_string_value(json_object_get(m, "content"))};
        of_prompt += i < before && !strcmp(messages[i].role, "assistant");
    }
    scratch->ids.count = 0;
    clf_status st = clf_chat_append(t, messages, n, false, scratch, &replies);
    if (st == CLF_INVALID_ARGUMENT)
        st = clf_fail(err, CLF_BAD_FILE, "messages: the %s chat template doesn't take these roles in this order",
                      clf_tokenizer_chat_family(t));
    else if (st != CLF_OK)
        st = fail_tokenizing(st, err);
    else
        st = clf_sample_add(sample, scratch->ids.data, scratch->ids.count,
                            replies.data ? replies.data + of_prompt : NULL, replies.count - of_prompt, err);
    free(replies.data);
    free(messages);
    return st;
}

clf_status clf_dataset_json(const clf_dataset_args *args, const char *line, size_t length, clf_scratch *scratch,
                            clf_sample *sample, clf_error *err) {
    const clf_tokenizer *t = args->tokenizer;
    json_t *root;
    record r = {0};
    CLF_TRY(clf_json_parse(&root, line, length, "sample", err));
    clf_status st = read_record(&r, root, args->preference, err);
    if (st == CLF_OK && json_is_array(r.sides[0]) && !clf_tokenizer_chat_family(t))
        st = clf_fail(err, CLF_UNSUPPORTED, "%s: the tokenizer has no chat template of a known family", r.names[0]);
    for (int i = 0; sample && i < r.n_sides && st == CLF_OK; i++) {
        if (json_is_array(r.sides[i]))
            st = conversation(t, r.prompt, r.sides[i], scratch, sample, err);
        else if (r.prompt)
            st = completion(t, r.prompt, r.sides[i], scratch, sample, err);
        else
            st = clf_dataset_plain(t, json_string_value(r.sides[i]), json_string_length(r.sides[i]), true, true,
                                   scratch, sample, err);
    }
    json_decref(root);
    return st;
}
