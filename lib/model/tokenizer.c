/* tokenizer.c: from text to ids: fragments, steps, words, model; and the small questions one asks a tokenizer. */
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "tokenizer.h"
#include "tokenizer_data.h"

void clf_scratch_clear(clf_scratch *s) {
    clf_words_clear(&s->words);
    free(s->symbols);
    free(s->heap);
    free(s->best);
    free(s->ids.data);
    *s = (clf_scratch){0};
}

clf_status clf_emit_unknown(const clf_tokenizer *t, clf_scratch *s, const char *text, size_t length,
                            bool *after_unknown) {
    bool bytes = t->byte_fallback;
    for (size_t i = 0; i < length && bytes; i++) bytes = t->vocab.bytes[(unsigned char)text[i]] >= 0;
    if (bytes) {
        *after_unknown = false;
        for (size_t i = 0; i < length; i++)
            if (!clf_ids_append(&s->ids, t->vocab.bytes[(unsigned char)text[i]])) return CLF_OUT_OF_MEMORY;
        return CLF_OK;
    }
    const bool again = *after_unknown && t->fuse_unknown;
    *after_unknown = true;
    return t->unknown < 0 || again || clf_ids_append(&s->ids, t->unknown) ? CLF_OK : CLF_OUT_OF_MEMORY;
}

static bool is_word(int32_t c) {
    const utf8proc_category_t k = utf8proc_category(c);
    return (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_NL) || k == UTF8PROC_CATEGORY_PC;
}

/* The code point that ends at `end`. */
static int32_t code_point_before(const char *text, size_t end) {
    int32_t c = 0;
    size_t begin = end - 1;
    while (begin > 0 && (text[begin] & 0xC0) == 0x80) begin--;
    return clf_utf8_decode(text + begin, end - begin, &c) ? c : 0;
}

static int32_t code_point_at(const char *text, size_t length, size_t at) {
    int32_t c = 0;
    return clf_utf8_decode(text + at, length - at, &c) ? c : 0;
}

/* The longest token of `set` that `text` has at `at`, or NULL. */
static const clf_added *added_at(const clf_tokenizer *t, const clf_prefixes *set, bool special, const char *text,
                                 size_t length, size_t at, size_t *end) {
    const clf_added *found = NULL;
    clf_cursor cursor = clf_cursor_begin(set, (unsigned char)text[at]);
    for (size_t i = at + 1; cursor.low < cursor.high; i++) {
        const clf_prefix *entry = clf_cursor_entry(set, &cursor);
        if (entry && (special || !t->added[entry->value].special)) {
            found = &t->added[entry->value];
            *end = i;
        }
        if (i >= length || !clf_cursor_step(set, &cursor, (unsigned char)text[i])) break;
    }
    return found;
}

static bool is_within_word(const char *text, size_t length, size_t begin, size_t end) {
    return (begin > 0 && is_word(code_point_before(text, begin))) ||
           (end < length && is_word(code_point_at(text, length, end)));
}

/* [begin, end) with the white space that the token takes along, not before `done`. */
static clf_span with_space(const clf_added *added, const char *text, size_t length, clf_span token, size_t done) {
    if (added->left && token.begin < done) token.begin = done;
    while (added->left && token.begin > done && clf_is_space(code_point_before(text, token.begin))) {
        token.begin--;
        while (token.begin > done && (text[token.begin] & 0xC0) == 0x80) token.begin--;
    }
    while (added->right && token.end < length && clf_is_space(code_point_at(text, length, token.end)))
        token.end += clf_utf8_size(text[token.end]);
    return token;
}

/* What a stretch of text without added tokens goes through. */
typedef clf_status clf_stretch(const clf_tokenizer *t, clf_scratch *s, const char *text, size_t length, bool special,
                               clf_place place);

/* Cuts `text` at the tokens of `set` and, with `bytes`, at bytes that aren't UTF-8; the rest goes to `stretch`. */
static clf_status cut(const clf_tokenizer *t, clf_scratch *s, const clf_prefixes *set, bool bytes, const char *text,
                      size_t length, bool special, clf_place place, clf_stretch *stretch) {
    size_t done = 0;
    clf_place before = place;
    for (size_t at = 0, next; at < length; at = next) {
        const unsigned char c = (unsigned char)text[at];
        const clf_added *added =
            set->first[c] < set->first[c + 1] ? added_at(t, set, special, text, length, at, &next) : NULL;
        clf_span span = {at, at + 1};
        int32_t id, code_point;
        if (added) {
            if (added->single_word && is_within_word(text, length, at, next)) continue;
            id = added->id;
            span = with_space(added, text, length, (clf_span){at, next}, done);
            if (span.begin >= span.end) continue; /* taken along by another */
        } else {
            next = bytes ? at + clf_utf8_decode(text + at, length - at, &code_point) : at + 1;
            if (next > at) continue;
            id = t->vocab.bytes[c];
            next = at + 1;
        }
        if (span.begin > done) CLF_TRY(stretch(t, s, text + done, span.begin - done, special, before));
        if (!clf_ids_append(&s->ids, id)) return CLF_OUT_OF_MEMORY;
        if (span.end > done) done = span.end;
        before = added ? CLF_PLACE_TOKEN : CLF_PLACE_BYTES;
    }
    return done < length ? stretch(t, s, text + done, length - done, special, before) : CLF_OK;
}

/* Normalized text without added tokens: split, then the model. `text` may be the scratch's own. */
static clf_status split_and_encode(const clf_tokenizer *t, clf_scratch *s, const char *text, size_t length,
                                   bool special, clf_place place) {
    (void)special;
    clf_words *words = &s->words;
    CLF_TRY(clf_words_begin(words, text, length, place));
    CLF_TRY(clf_steps_apply(&t->split, words));
    for (size_t i = 0; i < words->spans.count; i++) {
        const clf_span word = words->spans.data[i];
        if (word.begin == word.end) continue;
        CLF_TRY((t->kind == CLF_TOKENIZER_UNIGRAM ? clf_unigram : clf_bpe)(t, s, words->text.data + word.begin,
                                                                           word.end - word.begin));
    }
    return CLF_OK;
}

/* UTF-8 without added tokens of the first kind. */
static clf_status normalize_and_cut(const clf_tokenizer *t, clf_scratch *s, const char *text, size_t length,
                                    bool special, clf_place place) {
    if (t->normalize.count == 0 && t->normalized_added.count == 0)
        return split_and_encode(t, s, text, length, special, place);
    CLF_TRY(clf_words_begin(&s->words, text, length, place));
    CLF_TRY(clf_steps_apply(&t->normalize, &s->words));
    const clf_text normalized = s->words.text;
    s->words.text = (clf_text){0}; /* split_and_encode() needs a text of its own */
    const clf_status st =
        cut(t, s, &t->normalized_added, false, normalized.data, normalized.length, special, place, split_and_encode);
    free(normalized.data);
    return st;
}

clf_status clf_tokenize_append(const clf_tokenizer *t, clf_scratch *s, const char *text, size_t length,
                               bool parse_special, clf_place place) {
    const bool valid = clf_utf8_valid(text, length);
    if (valid || t->vocab.all_bytes)
        return cut(t, s, &t->raw_added, !valid, text, length, parse_special, place, normalize_and_cut);
    clf_text lossy = {0};
    const clf_status st =
        clf_text_append_lossy(&lossy, text, length)
            ? cut(t, s, &t->raw_added, false, lossy.data, lossy.length, parse_special, place, normalize_and_cut)
            : CLF_OUT_OF_MEMORY;
    free(lossy.data);
    return st;
}

clf_status clf_tokenize_deliver(const clf_scratch *s, int32_t *ids, size_t capacity, size_t *count) {
    *count = s->ids.count;
    const size_t n = s->ids.count < capacity ? s->ids.count : capacity;
    if (n) memcpy(ids, s->ids.data, n * sizeof *ids);
    return s->ids.count > capacity ? CLF_FULL : CLF_OK;
}

clf_status clf_tokenize(const clf_tokenizer *t, const char *text, size_t length, int flags, int32_t *ids,
                        size_t capacity, size_t *count) {
    if (count) *count = 0;
    if (!t || !count || (!text && length) || (!ids && capacity) || length > (size_t)1 << 31 ||
        (flags & ~(CLF_TOKENIZE_ADD_SPECIAL | CLF_TOKENIZE_PARSE_SPECIAL)))
        return CLF_INVALID_ARGUMENT;
    const bool add = flags & CLF_TOKENIZE_ADD_SPECIAL;
    clf_scratch s = {0};
    clf_status st = CLF_OK;
    for (size_t i = 0; add && i < t->before.count && st == CLF_OK; i++)
        if (!clf_ids_append(&s.ids, t->before.data[i])) st = CLF_OUT_OF_MEMORY;
    if (st == CLF_OK)
        st = clf_tokenize_append(t, &s, text, length, flags & CLF_TOKENIZE_PARSE_SPECIAL, CLF_PLACE_BEGINNING);
    for (size_t i = 0; add && i < t->after.count && st == CLF_OK; i++)
        if (!clf_ids_append(&s.ids, t->after.data[i])) st = CLF_OUT_OF_MEMORY;
    if (st == CLF_OK) st = clf_tokenize_deliver(&s, ids, capacity, count);
    clf_scratch_clear(&s);
    return st;
}

int32_t clf_tokenizer_size(const clf_tokenizer *t) {
    return t ? t->vocab.count : 0;
}

int32_t clf_tokenizer_first(const clf_tokenizer *t) {
    return t && t->before.count ? t->before.data[0] : -1;
}

int32_t clf_tokenizer_bos(const clf_tokenizer *t) {
    return t ? t->bos : -1;
}

int32_t clf_tokenizer_eos(const clf_tokenizer *t) {
    return t ? t->eos : -1;
}

bool clf_tokenizer_is_end(const clf_tokenizer *t, int32_t id) {
    return t && id >= 0 && id < t->vocab.count && t->vocab.pieces[id].end;
}

const char *clf_tokenizer_piece(const clf_tokenizer *t, int32_t id) {
    return t && id >= 0 && id < t->vocab.count ? clf_vocab_text(&t->vocab, id) : NULL;
}

int32_t clf_tokenizer_find(const clf_tokenizer *t, const char *piece) {
    return t && piece ? clf_vocab_find(&t->vocab, piece, strlen(piece)) : -1;
}
