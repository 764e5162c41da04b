/* detokenizer.c: ids to text, one at a time. What a token adds is bytes; what may be shown are whole code points, so up
 * to three bytes wait for the next token. Bytes that can't become UTF-8 are shown as U+FFFD. */
#include <stdlib.h>
#include <string.h>

#include "tokenizer_data.h"

struct clf_detokenizer {
    const clf_tokenizer *tokenizer;
    bool special;
    bool begun;      /* a token was decoded */
    size_t stripped; /* of the beginning, so far */
    bool strip_ended;
    clf_words words;  /* `text` and `next_text` hold the piece while steps work on it */
    clf_text pending; /* decoded, not shown yet */
    clf_text shown;
};

static void clear(clf_detokenizer *d) {
    clf_words_clear(&d->words);
    free(d->pending.data);
    free(d->shown.data);
}

clf_status clf_detokenizer_create(clf_detokenizer **out, const clf_tokenizer *tokenizer, bool special) {
    if (!out) return CLF_INVALID_ARGUMENT;
    *out = NULL;
    if (!tokenizer) return CLF_INVALID_ARGUMENT;
    clf_detokenizer *d = calloc(1, sizeof *d);
    if (!d) return CLF_OUT_OF_MEMORY;
    d->tokenizer = tokenizer;
    d->special = special;
    *out = d;
    return CLF_OK;
}

void clf_detokenizer_destroy(clf_detokenizer *d) {
    if (!d) return;
    clear(d);
    free(d);
}

/* A piece in the byte alphabet as bytes; a piece with any other character as it is. */
static bool byte_level(const char *text, size_t length, clf_text *out) {
    const size_t before = out->length;
    for (size_t i = 0, n; i < length; i += n) {
        int32_t c;
        n = clf_utf8_decode(text + i, length - i, &c);
        const int byte = n ? clf_byte_level_decode(c) : -1;
        if (byte < 0) {
            out->length = before;
            return clf_text_append(out, text, length);
        }
        const char b = (char)byte;
        if (!clf_text_append(out, &b, 1)) return false;
    }
    return true;
}

static bool strip_each(const clf_step *step, const char *text, size_t length, clf_text *out) {
    const size_t n = step->content_length;
    for (size_t i = 0; i < step->left && n && length >= n && memcmp(text, step->content, n) == 0; i++) {
        text += n;
        length -= n;
    }
    for (size_t i = 0; i < step->right && n && length >= n && memcmp(text + length - n, step->content, n) == 0; i++)
        length -= n;
    return clf_text_append(out, text, length);
}

/* One step on the piece in words.text. */
static clf_status decode_step(clf_detokenizer *d, const clf_step *step) {
    clf_text *in = &d->words.text, *out = &d->words.next_text;
    out->length = 0;
    clf_status st = CLF_OK;
    if (step->kind == CLF_STEP_BYTE_LEVEL) {
        if (!byte_level(in->data, in->length, out)) st = CLF_OUT_OF_MEMORY;
    } else if (step->kind == CLF_STEP_STRIP_EACH) {
        if (!strip_each(step, in->data, in->length, out)) st = CLF_OUT_OF_MEMORY;
    } else {
        if (step->regex && !clf_utf8_valid(in->data, in->length)) return CLF_OK;
        if (!d->words.matcher && !(d->words.matcher = clf_matcher_create())) return CLF_OUT_OF_MEMORY;
        st =
            clf_normalize(step, &d->words, in->data, in->length, d->begun ? CLF_PLACE_TOKEN : CLF_PLACE_BEGINNING, out);
    }
    const clf_text text = *in;
    *in = *out;
    *out = text;
    return st;
}

/* Appends what `id` decodes to to d->pending. */
static clf_status decode(clf_detokenizer *d, int32_t id) {
    const clf_tokenizer *t = d->tokenizer;
    const clf_piece *piece = &t->vocab.pieces[id];
    const char *text = clf_vocab_text(&t->vocab, id);
    if (piece->kind == CLF_PIECE_BYTE) {
        const int value = clf_byte_of_piece(text, piece->length);
        const char byte = value < 0 ? text[0] : (char)value;
        d->begun = true;
        return clf_text_append(&d->pending, &byte, 1) ? CLF_OK : CLF_OUT_OF_MEMORY;
    }
    d->words.text.length = 0;
    if (!clf_text_append(&d->words.text, text, piece->length)) return CLF_OUT_OF_MEMORY;
    const bool raw = t->byte_level && piece->kind != CLF_PIECE_NORMAL; /* added tokens are spelled in plain */
    for (size_t i = 0; i < t->decode.count; i++) {
        const clf_step *step = &t->decode.data[i];
        if (step->kind == CLF_STEP_STRIP_BEGINNING || (raw && step->kind == CLF_STEP_BYTE_LEVEL)) continue;
        if (step->first_only && d->begun) continue;
        CLF_TRY(decode_step(d, step));
    }
    d->begun = true;
    return clf_text_append(&d->pending, d->words.text.data, d->words.text.length) ? CLF_OK : CLF_OUT_OF_MEMORY;
}

/* Takes up to `left` times `content` from the beginning of the whole text. */
static void strip_beginning(clf_detokenizer *d) {
    const clf_steps *steps = &d->tokenizer->decode;
    const clf_step *step = steps->count ? &steps->data[steps->count - 1] : NULL;
    if (d->strip_ended || !step || step->kind != CLF_STEP_STRIP_BEGINNING) return;
    const size_t n = step->content_length;
    size_t begin = 0;
    while (n && d->stripped < step->left && d->pending.length - begin >= n &&
           memcmp(d->pending.data + begin, step->content, n) == 0) {
        begin += n;
        d->stripped++;
    }
    d->strip_ended = d->pending.length > begin;
    d->pending.length -= begin;
    memmove(d->pending.data, d->pending.data + begin, d->pending.length);
}

/* Moves what may be shown from pending to shown; at the end, all. */
static clf_status show(clf_detokenizer *d, bool end, const char **text, size_t *length) {
    if (d->pending.length) strip_beginning(d);
    const char *bytes = d->pending.data;
    size_t ready = d->pending.length;
    /* an incomplete sequence can only be the last one, of three bytes at most */
    for (size_t back = 1; !end && back <= 3 && back <= d->pending.length; back++) {
        const size_t at = d->pending.length - back;
        if ((bytes[at] & 0xC0) == 0x80) continue;
        int32_t code_point;
        bool open = false;
        if (!clf_utf8_decode(bytes + at, back, &code_point)) clf_utf8_broken(bytes + at, back, &open);
        if (open) ready = at;
        break;
    }
    d->shown.length = 0;
    if (!clf_text_append_lossy(&d->shown, bytes, ready) || !clf_text_terminate(&d->shown)) return CLF_OUT_OF_MEMORY;
    d->pending.length -= ready;
    if (ready) memmove(d->pending.data, d->pending.data + ready, d->pending.length);
    *text = d->shown.data;
    *length = d->shown.length;
    return CLF_OK;
}

clf_status clf_detokenizer_push(clf_detokenizer *d, int32_t id, const char **text, size_t *length) {
    if (!d || !text || !length) return CLF_INVALID_ARGUMENT;
    *text = "";
    *length = 0;
    const clf_vocab *vocab = &d->tokenizer->vocab;
    if (id < 0 || id >= vocab->count) return CLF_INVALID_ARGUMENT;
    if (clf_piece_is_special(&vocab->pieces[id]) && !d->special) return CLF_OK;
    CLF_TRY(decode(d, id));
    return show(d, false, text, length);
}

clf_status clf_detokenizer_finish(clf_detokenizer *d, const char **text, size_t *length) {
    if (!d || !text || !length) return CLF_INVALID_ARGUMENT;
    *text = "";
    *length = 0;
    CLF_TRY(show(d, true, text, length));
    d->begun = d->strip_ended = false;
    d->stripped = 0;
    return CLF_OK;
}

clf_status clf_detokenize(const clf_tokenizer *tokenizer, const int32_t *ids, size_t n, bool special, char *text,
                          size_t size, size_t *length) {
    if (length) *length = 0;
    if (text && size) text[0] = 0;
    if (!tokenizer || !length || (!ids && n) || (!text && size)) return CLF_INVALID_ARGUMENT;
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= tokenizer->vocab.count) return CLF_INVALID_ARGUMENT;
    clf_detokenizer d = {.tokenizer = tokenizer, .special = special};
    clf_status st = CLF_OK;
    size_t total = 0, written = 0;
    for (size_t i = 0; i <= n && st == CLF_OK; i++) {
        const char *part;
        size_t part_length;
        st = i < n ? clf_detokenizer_push(&d, ids[i], &part, &part_length)
                   : clf_detokenizer_finish(&d, &part, &part_length);
        if (st != CLF_OK) break;
        /* whole code points while there is room */
        for (size_t k = 0, c; written == total + k && k < part_length; k += c, written += c) {
            c = clf_utf8_size(part[k]);
            if (written + c >= size) break;
            memcpy(text + written, part + k, c);
        }
        total += part_length;
    }
    clear(&d);
    if (size) text[written] = 0;
    if (st != CLF_OK) return st;
    *length = total;
    return total < size ? CLF_OK : CLF_FULL;
}
