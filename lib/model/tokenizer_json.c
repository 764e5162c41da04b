/* tokenizer_json.c: tokenizer.json of the Hugging Face tokenizers library: model, added tokens, what is added around a
 * text. BPE and Unigram; WordPiece and WordLevel are refused. */
#include "tokenizer_json.h"

#include <stdlib.h>
#include <string.h>

clf_status clf_json_get_bool(const json_t *object, const char *key, bool *out, clf_error *err) {
    const json_t *value = json_object_get(object, key);
    if (!value || json_is_null(value)) return CLF_OK;
    CLF_CHECK(err, json_is_boolean(value), CLF_BAD_FILE, "%s: expected true or false", key);
    *out = json_is_true(value);
    return CLF_OK;
}

clf_status clf_json_get_string(const json_t *object, const char *key, const json_t **out, clf_error *err) {
    const json_t *value = json_object_get(object, key);
    if (!value || json_is_null(value)) return CLF_OK;
    CLF_CHECK(err, json_is_string(value), CLF_BAD_FILE, "%s: expected a string", key);
    *out = value;
    return CLF_OK;
}

const char *clf_json_type(const json_t *object, const char *what, clf_error *err) {
    const json_t *type = json_object_get(object, "type");
    if (json_is_string(type)) return json_string_value(type);
    clf_fail(err, CLF_BAD_FILE, "%s: expected an object with a \"type\"", what);
    return NULL;
}

static int32_t find(const clf_tokenizer *t, const json_t *text) {
    return json_is_string(text) ? clf_vocab_find(&t->vocab, json_string_value(text), json_string_length(text)) : -1;
}

/* Ids may leave holes, but no absurd ones in a file of `count` tokens. */
static clf_status put(clf_tokenizer *t, const json_t *id, const char *text, size_t length, size_t count,
                      clf_error *err) {
    CLF_CHECK(err,
              json_is_integer(id) && json_integer_value(id) >= 0 &&
                  (uint64_t)json_integer_value(id) < 2 * (uint64_t)count + 65536,
              CLF_BAD_FILE, "token \"%.60s\": id: expected one for %zu tokens", text, count);
    return clf_vocab_put(&t->vocab, json_integer_value(id), text, length, 0, CLF_PIECE_NORMAL, err);
}

/* {"token": id}, or [["token", score]] */
static clf_status read_vocab(clf_tokenizer *t, json_t *vocab, clf_error *err) {
    const char *key;
    json_t *item;
    size_t i;
    if (json_is_object(vocab)) {
        json_object_foreach(vocab, key, item) CLF_TRY(put(t, item, key, strlen(key), json_object_size(vocab), err));
        return CLF_OK;
    }
    CLF_CHECK(err, json_is_array(vocab), CLF_BAD_FILE, "model.vocab: expected an object or a list");
    json_array_foreach(vocab, i, item) {
        const json_t *text = json_array_get(item, 0), *score = json_array_get(item, 1);
        CLF_CHECK(err, json_is_string(text) && json_is_number(score), CLF_BAD_FILE,
                  "model.vocab[%zu]: expected a string and a score", i);
        CLF_TRY(clf_vocab_put(&t->vocab, (int64_t)i, json_string_value(text), json_string_length(text),
                              json_number_value(score), CLF_PIECE_NORMAL, err));
    }
    return CLF_OK;
}

/* Added tokens that the model's vocabulary doesn't have. Before the index is built. */
static clf_status read_new_tokens(clf_tokenizer *t, const json_t *model_vocab, const json_t *list, clf_error *err) {
    json_t *item;
    size_t i;
    CLF_CHECK(err, !list || json_is_null(list) || json_is_array(list), CLF_BAD_FILE, "added_tokens: expected a list");
    json_array_foreach(list, i, item) {
        const json_t *content = json_object_get(item, "content");
        CLF_CHECK(err, json_is_string(content), CLF_BAD_FILE, "added_tokens[%zu].content: expected a string", i);
        const char *text = json_string_value(content);
        if (json_object_get(model_vocab, text) && strlen(text) == json_string_length(content)) continue;
        CLF_TRY(put(t, json_object_get(item, "id"), text, json_string_length(content),
                    (size_t)t->vocab.count + json_array_size(list), err));
    }
    return CLF_OK;
}

static clf_status read_added_tokens(clf_tokenizer *t, const json_t *list, clf_error *err) {
    json_t *item;
    size_t i;
    json_array_foreach(list, i, item) {
        clf_added added = {.id = find(t, json_object_get(item, "content"))};
        if (added.id < 0) continue; /* an empty one */
        CLF_TRY(clf_json_get_bool(item, "special", &added.special, err));
        CLF_TRY(clf_json_get_bool(item, "lstrip", &added.left, err));
        CLF_TRY(clf_json_get_bool(item, "rstrip", &added.right, err));
        CLF_TRY(clf_json_get_bool(item, "single_word", &added.single_word, err));
        added.normalized = !added.special;
        CLF_TRY(clf_json_get_bool(item, "normalized", &added.normalized, err));
        CLF_TRY(clf_tokenizer_add_added(t, added, err));
    }
    return CLF_OK;
}

/* "a b", or ["a", "b"] */
static clf_status read_merges(clf_tokenizer *t, const json_t *merges, clf_error *err) {
    json_t *item;
    size_t i;
    clf_text joined = {0};
    clf_status st = CLF_OK;
    if (!json_is_array(merges)) return clf_fail(err, CLF_BAD_FILE, "model.merges: expected a list");
    json_array_foreach(merges, i, item) {
        const json_t *first = json_array_get(item, 0), *second = json_array_get(item, 1);
        const char *left = NULL, *right = NULL;
        size_t left_length = 0, right_length = 0;
        if (json_is_string(item)) {
            left = json_string_value(item);
            const size_t length = json_string_length(item);
            const char *space = memchr(left, ' ', length);
            left_length = space ? (size_t)(space - left) : length;
            right = space ? space + 1 : left + length;
            right_length = length - (size_t)(right - left);
        } else if (json_is_string(first) && json_is_string(second)) {
            left = json_string_value(first);
            left_length = json_string_length(first);
            right = json_string_value(second);
            right_length = json_string_length(second);
        }
        joined.length = 0;
        if (left && (!clf_text_append(&joined, left, left_length) || !clf_text_append(&joined, right, right_length))) {
            st = clf_fail(err, CLF_OUT_OF_MEMORY, "merges: out of memory");
            break;
        }
        const int32_t a = left ? clf_vocab_find(&t->vocab, left, left_length) : -1;
        const int32_t b = left ? clf_vocab_find(&t->vocab, right, right_length) : -1;
        const int32_t ab = left ? clf_vocab_find(&t->vocab, joined.data, joined.length) : -1;
        st = a >= 0 && b >= 0 && ab >= 0
                 ? clf_tokenizer_add_merge(t, a, b, ab, err)
                 : clf_fail(err, CLF_BAD_FILE,
                            "model.merges[%zu]: expected two tokens that make a third, got \"%.60s\" "
                            "and \"%.60s\"",
                            i, left ? left : "", right ? right : "");
        if (st != CLF_OK) break;
    }
    free(joined.data);
    return st;
}

static clf_status read_bpe(clf_tokenizer *t, const json_t *model, clf_error *err) {
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    t->kind = CLF_TOKENIZER_MERGES;
    for (int i = 0; i < 2; i++) {
        const json_t *affix = NULL;
        CLF_TRY(clf_json_get_string(model, affixes[i], &affix, err));
        CLF_CHECK(err, !affix || !json_string_length(affix), CLF_UNSUPPORTED, "model.%s: not supported", affixes[i]);
    }
    CLF_TRY(clf_json_get_bool(model, "byte_fallback", &t->byte_fallback, err));
    CLF_TRY(clf_json_get_bool(model, "fuse_unk", &t->fuse_unknown, err));
    CLF_TRY(clf_json_get_bool(model, "ignore_merges", &t->ignore_merges, err));
    const json_t *unknown = NULL;
    CLF_TRY(clf_json_get_string(model, "unk_token", &unknown, err));
    if (unknown) {
        t->unknown = find(t, unknown);
        CLF_CHECK(err, t->unknown >= 0, CLF_BAD_FILE, "model.unk_token: \"%.60s\" is no token",
                  json_string_value(unknown));
    }
    return read_merges(t, json_object_get(model, "merges"), err);
}

static clf_status read_unigram(clf_tokenizer *t, const json_t *model, clf_error *err) {
    t->kind = CLF_TOKENIZER_UNIGRAM;
    t->fuse_unknown = true;
    CLF_TRY(clf_json_get_bool(model, "byte_fallback", &t->byte_fallback, err));
    const json_t *unknown = json_object_get(model, "unk_id");
    if (!unknown || json_is_null(unknown)) return CLF_OK;
    CLF_CHECK(err,
              json_is_integer(unknown) && json_integer_value(unknown) >= 0 &&
                  json_integer_value(unknown) < t->vocab.count,
              CLF_BAD_FILE, "model.unk_id: expected a token's id");
    t->unknown = (int32_t)json_integer_value(unknown);
    return CLF_OK;
}

/* ["</s>", 2] */
static clf_status add_pair(clf_tokenizer *t, clf_ids *ids, const json_t *pair, clf_error *err) {
    const int32_t id = find(t, json_array_get(pair, 0));
    CLF_CHECK(err, id >= 0, CLF_BAD_FILE, "post_processor: expected a token and its id");
    return clf_ids_append(ids, id) ? CLF_OK : clf_fail(err, CLF_OUT_OF_MEMORY, "post_processor: out of memory");
}

/* [{"SpecialToken": {"id": "<s>"}}, {"Sequence": …}]: tokens before and after the text. */
static clf_status read_template(clf_tokenizer *t, const json_t *json, clf_error *err) {
    clf_ids *ids = &t->before;
    json_t *item, *number;
    size_t i, k;
    json_array_foreach(json_object_get(json, "single"), i, item) {
        const json_t *name = json_object_get(json_object_get(item, "SpecialToken"), "id");
        if (!json_is_string(name)) {
            ids = &t->after;
            continue;
        }
        const json_t *special = json_object_get(json_object_get(json, "special_tokens"), json_string_value(name));
        json_array_foreach(json_object_get(special, "ids"), k, number) {
            const json_int_t id = json_is_integer(number) ? json_integer_value(number) : -1;
            CLF_CHECK(err, id >= 0 && id < t->vocab.count, CLF_BAD_FILE, "post_processor: \"%.60s\" has no valid id",
                      json_string_value(name));
            if (!clf_ids_append(ids, (int32_t)id))
                return clf_fail(err, CLF_OUT_OF_MEMORY, "post_processor: out of memory");
        }
    }
    return CLF_OK;
}

static clf_status read_post_processor(clf_tokenizer *t, const json_t *json, int depth, clf_error *err) {
    if (!json || json_is_null(json)) return CLF_OK;
    const char *type = clf_json_type(json, "post_processor", err);
    json_t *item;
    size_t i;
    if (!type) return CLF_BAD_FILE;
    if (strcmp(type, "TemplateProcessing") == 0) return read_template(t, json, err);
    if (strcmp(type, "Sequence") == 0) {
        CLF_CHECK(err, depth < 16, CLF_BAD_FILE, "post_processor: nested more than 16 deep");
        json_array_foreach(json_object_get(json, "processors"), i, item)
            CLF_TRY(read_post_processor(t, item, depth + 1, err));
    } else if (strcmp(type, "RobertaProcessing") == 0 || strcmp(type, "BertProcessing") == 0) {
        CLF_TRY(add_pair(t, &t->before, json_object_get(json, "cls"), err));
        CLF_TRY(add_pair(t, &t->after, json_object_get(json, "sep"), err));
    } else {
        CLF_CHECK(err, strcmp(type, "ByteLevel") == 0, CLF_UNSUPPORTED, "post_processor: \"%.60s\" isn't known", type);
    }
    return CLF_OK;
}

static clf_status fill(clf_tokenizer *t, const json_t *root, clf_error *err) {
    const json_t *model = json_object_get(root, "model"), *added = json_object_get(root, "added_tokens");
    json_t *vocab = json_object_get(model, "vocab");
    CLF_CHECK(err, json_is_object(model), CLF_BAD_FILE, "model: expected an object");
    const json_t *type = NULL;
    CLF_TRY(clf_json_get_string(model, "type", &type, err));
    const char *kind = type ? json_string_value(type) : json_object_get(model, "merges") ? "BPE" : "Unigram";
    const bool bpe = strcmp(kind, "BPE") == 0;
    CLF_CHECK(err, bpe || strcmp(kind, "Unigram") == 0, CLF_UNSUPPORTED,
              "model.type: \"%.60s\" is not supported, only BPE and Unigram", kind);
    CLF_TRY(clf_json_normalizer(t, json_object_get(root, "normalizer"), err));
    CLF_TRY(clf_json_pre_tokenizer(t, json_object_get(root, "pre_tokenizer"), err));
    CLF_TRY(clf_json_decoder(t, json_object_get(root, "decoder"), err));
    CLF_TRY(read_vocab(t, vocab, err));
    CLF_TRY(read_new_tokens(t, vocab, added, err));
    CLF_TRY(clf_vocab_index(&t->vocab, err));
    CLF_TRY(bpe ? read_bpe(t, model, err) : read_unigram(t, model, err));
    if (t->byte_fallback) t->byte_pieces = true;
    if (t->unknown >= 0) t->vocab.pieces[t->unknown].kind = CLF_PIECE_UNKNOWN;
    CLF_TRY(read_added_tokens(t, added, err));
    return read_post_processor(t, json_object_get(root, "post_processor"), 0, err);
}

clf_status clf_tokenizer_from_json(clf_tokenizer **out, const char *text, size_t length, clf_error *err) {
    json_error_t why;
    json_t *root = json_loadb(text, length, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &why);
    if (!root) return clf_fail(err, CLF_BAD_FILE, "line %d: %s", why.line, why.text);
    clf_tokenizer *t;
    clf_status st = clf_tokenizer_new(&t, err);
    if (st == CLF_OK) st = fill(t, root, err);
    json_decref(root);
    if (st != CLF_OK) {
        clf_tokenizer_destroy(t);
        t = NULL;
    }
    *out = t;
    return st;
}
