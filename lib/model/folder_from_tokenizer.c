/* folder_from_tokenizer.c: a GGUF's tokenizer as tokenizer.json and tokenizer_config.json: tokenizer_json.c turned
 * round. Pieces with scores become BPE by merges, as there is nothing else for them there: every way to cut a piece in
 * two pieces merges, in the order of the scores. What was written is read back, and both must cut some hard texts
 * alike. */
#include <stdlib.h>
#include <string.h>

#include "folder_from_gguf.h"
#include "json.h"
#include "tokenizer_data.h"
#include "tokenizer_json.h"

/* Jansson's failures are told by what is missing then. */
typedef struct writing {
    const clf_tokenizer *t;
    bool failed;
} writing;

static json_t *piece(const writing *w, int32_t id) {
    return json_stringn(clf_vocab_text(&w->t->vocab, id), w->t->vocab.pieces[id].length);
}
static void put(writing *w, json_t *object, const char *key, json_t *value) {
    if (json_object_set_new(object, key, value)) w->failed = true;
}
static void append(writing *w, json_t *list, json_t *value) {
    if (json_array_append_new(list, value)) w->failed = true;
}

/* ---- the model ---- */

static json_t *vocab_of(writing *w) {
    json_t *vocab = json_object();
    for (int32_t id = 0; id < w->t->vocab.count; id++) {
        const clf_piece *p = &w->t->vocab.pieces[id];
        if (p->length && json_object_setn_new(vocab, clf_vocab_text(&w->t->vocab, id), p->length, json_integer(id)))
            w->failed = true;
    }
    return vocab;
}

typedef struct split {
    int32_t left, right, id;
    double score;
} split;

/* The greater score first, then the smaller id, then the longer left part. */
static int by_score(const void *a, const void *b) {
    const split *x = a, *y = b;
    if (x->score != y->score) return x->score < y->score ? 1 : -1;
    if (x->id != y->id) return x->id < y->id ? -1 : 1;
    return (x->right > y->right) - (x->right < y->right);
}

/* All ways to cut pieces in two, to be freed; `out` may be NULL: they are counted. */
static size_t splits_of(const clf_vocab *vocab, split *out) {
    size_t n = 0;
    for (int32_t id = 0; id < vocab->count; id++) {
        const clf_piece *p = &vocab->pieces[id];
        const char *text = clf_vocab_text(vocab, id);
        if (p->kind != CLF_PIECE_NORMAL) continue;
        for (uint32_t at = 1; at < p->length; at++) {
            if (((unsigned char)text[at] & 0xc0) == 0x80) continue; /* within a code point */
            const int32_t left = clf_vocab_find_plain(vocab, text, at);
            const int32_t right = left < 0 ? -1 : clf_vocab_find_plain(vocab, text + at, p->length - at);
            if (right < 0) continue;
            if (out) out[n] = (split){left, right, id, p->score};
            n++;
        }
    }
    return n;
}

static void append_merge(writing *w, json_t *list, int32_t left, int32_t right) {
    append(w, list, json_pack("[o, o]", piece(w, left), piece(w, right)));
}

/* Pairs of pieces by their scores. */
static void append_splits(writing *w, json_t *list) {
    const size_t n = splits_of(&w->t->vocab, NULL);
    split *splits = malloc((n + 1) * sizeof *splits);
    if (splits) {
        splits_of(&w->t->vocab, splits);
        qsort(splits, n, sizeof *splits, by_score);
    }
    for (size_t i = 0; splits && i < n; i++) append_merge(w, list, splits[i].left, splits[i].right);
    w->failed |= !splits;
    free(splits);
}

static json_t *merges_of(writing *w) {
    json_t *list = json_array();
    if (w->t->kind == CLF_TOKENIZER_SCORES) {
        append_splits(w, list);
        return list;
    }
    clf_error why = {0};
    clf_merge *merges = NULL;
    size_t n = 0;
    w->failed |= clf_tokenizer_list_merges(w->t, &merges, &n, &why) != CLF_OK;
    for (size_t i = 0; merges && i < n; i++) append_merge(w, list, merges[i].left, merges[i].right);
    free(merges);
    return list;
}

static json_t *model_of(writing *w) {
    const clf_tokenizer *t = w->t;
    json_t *model = json_pack("{s:s, s:n, s:n, s:n, s:b, s:b, s:b}", "type", "BPE", "dropout",
                              "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", t->fuse_unknown,
                              "byte_fallback", t->byte_fallback, "ignore_merges", t->ignore_merges);
    put(w, model, "unk_token", t->unknown >= 0 ? piece(w, t->unknown) : json_null());
    put(w, model, "vocab", vocab_of(w));
    put(w, model, "merges", merges_of(w));
    return model;
}

/* ---- before and after it ---- */

static json_t *added_tokens_of(writing *w) {
    json_t *list = json_array();
    for (size_t i = 0; i < w->t->n_added; i++) {
        const clf_added *a = &w->t->added[i];
        append(w, list,
               json_pack("{s:i, s:o, s:b, s:b, s:b, s:b, s:b}", "id", (int)a->id, "content", piece(w, a->id),
                         "single_word", a->single_word, "lstrip", a->left, "rstrip", a->right, "normalized",
                         a->normalized, "special", a->special));
    }
    return list;
}

static bool has_step(const clf_steps *steps, clf_step_kind kind) {
    for (size_t i = 0; i < steps->count; i++)
        if (steps->data[i].kind == kind) return true;
    return false;
}

static json_t *replace(const char *from, const char *to) {
    return json_pack("{s:s, s:{s:s}, s:s}", "type", "Replace", "pattern", "String", from, "content", to);
}

/* SentencePiece's spaces: one in front, each as U+2581; and back. */
static void put_spaces(writing *w, json_t *root) {
    const bool prefix = has_step(&w->t->normalize, CLF_STEP_PREFIX);
    json_t *normalizers = json_array(), *decoders = json_array();
    if (prefix) append(w, normalizers, json_pack("{s:s, s:s}", "type", "Prepend", "prepend", CLF_LOW_LINE));
    append(w, normalizers, replace(" ", CLF_LOW_LINE));
    append(w, decoders, replace(CLF_LOW_LINE, " "));
    append(w, decoders, json_pack("{s:s}", "type", "ByteFallback"));
    append(w, decoders, json_pack("{s:s}", "type", "Fuse"));
    if (prefix)
        append(w, decoders, json_pack("{s:s, s:s, s:i, s:i}", "type", "Strip", "content", " ", "start", 1, "stop", 0));
    put(w, root, "normalizer", json_pack("{s:s, s:o}", "type", "Sequence", "normalizers", normalizers));
    put(w, root, "pre_tokenizer", json_null());
    put(w, root, "decoder", json_pack("{s:s, s:o}", "type", "Sequence", "decoders", decoders));
}

static json_t *byte_level(void) {
    return json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets", 1, "use_regex",
                     0);
}

static void put_patterns(writing *w, json_t *root) {
    json_t *list = json_array();
    for (size_t i = 0; i < w->t->split.count; i++) {
        const clf_step *s = &w->t->split.data[i];
        if (s->kind != CLF_STEP_SPLIT) continue;
        append(w, list,
               json_pack("{s:s, s:{s:s%}, s:s, s:b}", "type", "Split", "pattern", "Regex", s->pattern,
                         s->pattern_length, "behavior", "Isolated", "invert", 0));
    }
    append(w, list, byte_level());
    put(w, root, "normalizer", json_null());
    put(w, root, "pre_tokenizer", json_pack("{s:s, s:o}", "type", "Sequence", "pretokenizers", list));
    put(w, root, "decoder", byte_level());
}

static void append_around(writing *w, json_t *list, json_t *named, const clf_ids *ids, int kind) {
    for (size_t i = 0; i < ids->count; i++) {
        const int32_t id = ids->data[i];
        const char *name = clf_vocab_text(&w->t->vocab, id);
        append(w, list, json_pack("{s:{s:s, s:i}}", "SpecialToken", "id", name, "type_id", kind));
        put(w, named, name, json_pack("{s:s, s:[i], s:[s]}", "id", name, "ids", (int)id, "tokens", name));
    }
}

static void append_text(writing *w, json_t *list, json_t *named, const char *name, int kind) {
    append_around(w, list, named, &w->t->before, kind);
    append(w, list, json_pack("{s:{s:s, s:i}}", "Sequence", "id", name, "type_id", kind));
    append_around(w, list, named, &w->t->after, kind);
}

static json_t *template_of(writing *w) {
    if (!w->t->before.count && !w->t->after.count) return json_null();
    json_t *single = json_array(), *pair = json_array(), *named = json_object();
    append_text(w, single, named, "A", 0);
    append_text(w, pair, named, "A", 0);
    append_text(w, pair, named, "B", 1);
    return json_pack("{s:s, s:o, s:o, s:o}", "type", "TemplateProcessing", "single", single, "pair", pair,
                     "special_tokens", named);
}

/* ---- the files ---- */

static clf_status check(const clf_tokenizer *t, clf_error *err) {
    const bool scores = t->kind == CLF_TOKENIZER_SCORES && t->byte_fallback;
    CLF_CHECK(err, (t->kind == CLF_TOKENIZER_MERGES && t->byte_level) || scores, CLF_UNSUPPORTED,
              "tokenizer.json: expected byte-level BPE, or SentencePiece's with bytes");
    CLF_CHECK(err, !has_step(&t->normalize, CLF_STEP_SQUEEZE) && !has_step(&t->normalize, CLF_STEP_CHARSMAP),
              CLF_UNSUPPORTED, "tokenizer.json: SentencePiece's normalization of texts isn't written");
    for (int32_t id = 0; id < t->vocab.count; id++) {
        const char *text = clf_vocab_text(&t->vocab, id);
        const size_t length = t->vocab.pieces[id].length;
        CLF_CHECK(err, clf_utf8_valid(text, length) && !memchr(text, 0, length), CLF_UNSUPPORTED,
                  "tokenizer.json: token %d: expected UTF-8 without a 0", id);
    }
    CLF_CHECK(err, !t->chat_template || clf_utf8_valid(t->chat_template, strlen(t->chat_template)), CLF_UNSUPPORTED,
              "tokenizer_config.json: chat_template: expected UTF-8");
    return CLF_OK;
}

static clf_status text_of(char **out, writing *w, json_t *root, const char *name, size_t flags, clf_error *err) {
    *out = w->failed ? NULL : clf_json_text(root, flags);
    json_decref(root);
    CLF_CHECK(err, *out, CLF_OUT_OF_MEMORY, "%s: out of memory", name);
    return CLF_OK;
}

clf_status clf_folder_tokenizer(char **out, const clf_tokenizer *t, clf_error *err) {
    writing w = {.t = t};
    *out = NULL;
    CLF_TRY(check(t, err));
    json_t *root = json_pack("{s:s, s:n, s:n}", "version", "1.0", "truncation", "padding");
    put(&w, root, "added_tokens", added_tokens_of(&w));
    if (t->byte_level)
        put_patterns(&w, root);
    else
        put_spaces(&w, root);
    put(&w, root, "post_processor", template_of(&w));
    put(&w, root, "model", model_of(&w));
    CLF_TRY(text_of(out, &w, root, "tokenizer.json", JSON_INDENT(1), err));
    clf_tokenizer *read = NULL;
    clf_status st = clf_tokenizer_from_json(&read, *out, strlen(*out), err);
    if (st == CLF_OK) st = clf_tokenizer_finish(read, err);
    if (st == CLF_OK) st = clf_tokenizer_check_same(t, read, "tokenizer.json", err);
    clf_tokenizer_destroy(read);
    if (st == CLF_OK) return CLF_OK;
    free(*out);
    *out = NULL;
    return st;
}

clf_status clf_folder_tokenizer_config(char **out, const clf_tokenizer *t, int64_t context, clf_error *err) {
    writing w = {.t = t};
    json_t *root = json_pack("{s:s, s:b, s:I}", "tokenizer_class", "PreTrainedTokenizerFast",
                             "clean_up_tokenization_spaces", 0, "model_max_length", (json_int_t)context);
    if (t->bos >= 0) put(&w, root, "bos_token", piece(&w, t->bos));
    if (t->eos >= 0) put(&w, root, "eos_token", piece(&w, t->eos));
    if (t->unknown >= 0) put(&w, root, "unk_token", piece(&w, t->unknown));
    if (t->chat_template) put(&w, root, "chat_template", json_string(t->chat_template));
    return text_of(out, &w, root, "tokenizer_config.json", JSON_INDENT(2), err);
}
