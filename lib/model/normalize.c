/* normalize.c: the steps that rewrite a word. */
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "steps.h"

#define APPEND(text, length)                                                                                           \
    do {                                                                                                               \
        if (!clf_text_append(out, text, length)) return CLF_OUT_OF_MEMORY;                                             \
    } while (0)

static clf_status replace(const clf_step *step, clf_matcher *matcher, const char *text, size_t length, clf_text *out) {
    size_t done = 0, from = 0;
    while (from <= length) {
        size_t begin, end;
        if (step->regex) {
            const int found = clf_regex_find(step->regex, matcher, text, length, from, &begin, &end);
            if (found < 0) return CLF_UNSUPPORTED;
            if (!found) break;
        } else {
            const char *p = text + from;
            if (!step->pattern_length) break;
            for (; p && (size_t)(text + length - p) >= step->pattern_length; p++) {
                p = memchr(p, step->pattern[0], (size_t)(text + length - p) - step->pattern_length + 1);
                if (!p || memcmp(p, step->pattern, step->pattern_length) == 0) break;
            }
            if (!p || (size_t)(text + length - p) < step->pattern_length) break;
            begin = (size_t)(p - text);
            end = begin + step->pattern_length;
        }
        APPEND(text + done, begin - done);
        APPEND(step->content, step->content_length);
        done = end;
        from = end > begin ? end : end < length ? end + clf_utf8_size(text[end]) : length + 1;
    }
    APPEND(text + done, length - done);
    return CLF_OK;
}

static clf_status normal_form(int options, const char *text, size_t length, clf_text *out) {
    utf8proc_uint8_t *form;
    const utf8proc_ssize_t n =
        utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)length, &form, (utf8proc_option_t)options);
    if (n < 0) return CLF_OUT_OF_MEMORY;
    const bool ok = clf_text_append(out, (const char *)form, (size_t)n);
    free(form);
    return ok ? CLF_OK : CLF_OUT_OF_MEMORY;
}

static bool is_mark(int32_t c) {
    const utf8proc_category_t category = utf8proc_category(c);
    return category == UTF8PROC_CATEGORY_MN || category == UTF8PROC_CATEGORY_MC || category == UTF8PROC_CATEGORY_ME;
}

/* Lower case, or without accents: code point by code point. */
static clf_status each(clf_step_kind kind, const char *text, size_t length, clf_text *out) {
    for (size_t i = 0, n; i < length; i += n) {
        int32_t c;
        n = clf_utf8_decode(text + i, length - i, &c);
        if (kind == CLF_STEP_STRIP_ACCENTS) {
            if (!is_mark(c)) APPEND(text + i, n);
            continue;
        }
        utf8proc_uint8_t lower[4];
        APPEND((const char *)lower, (size_t)utf8proc_encode_char(c == 0x130 ? 'i' : utf8proc_tolower(c), lower));
        if (c == 0x130) APPEND("\xCC\x87", 2);
    }
    return CLF_OK;
}

static clf_status strip(const clf_step *step, clf_words *words, const char *text, size_t length, clf_text *out) {
    size_t begin = 0, end = length;
    int32_t c;
    while (step->left && begin < end) {
        const size_t n = clf_utf8_decode(text + begin, end - begin, &c);
        if (!clf_is_space(c)) break;
        begin += n;
        words->place = CLF_PLACE_TOKEN;
    }
    while (step->right && begin < end) {
        size_t last = end - 1;
        while (last > begin && (text[last] & 0xC0) == 0x80) last--;
        clf_utf8_decode(text + last, end - last, &c);
        if (!clf_is_space(c)) break;
        end = last;
    }
    APPEND(text + begin, end - begin);
    return CLF_OK;
}

static clf_status squeeze(const char *text, size_t length, clf_text *out) {
    while (length >= 3 && memcmp(text + length - 3, CLF_LOW_LINE, 3) == 0) /* SentencePiece sees the escaped text */
        for (length -= 3; length && text[length - 1] == ' ';) length--;
    for (size_t i = 0; i < length;) {
        const char *space = memchr(text + i, ' ', length - i);
        const size_t end = space ? (size_t)(space - text) : length;
        APPEND(text + i, end - i);
        for (i = end; i < length && text[i] == ' ';) i++;
        if (i < length && end > 0) APPEND(" ", 1);
    }
    return CLF_OK;
}

static clf_status byte_level(const char *text, size_t length, clf_text *out) {
    char *data = clf_grown(out->data, &out->capacity, out->length + 2 * length + 1, 1);
    if (!data || out->length + 2 * length > UINT32_MAX) {
        if (data) out->data = data;
        return CLF_OUT_OF_MEMORY;
    }
    out->data = data;
    for (size_t i = 0; i < length; i++)
        out->length += clf_byte_level_encode((unsigned char)text[i], data + out->length);
    return CLF_OK;
}

static bool is_ascii(const char *text, size_t length) {
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)text[i] >= 0x80) return false;
    return true;
}

clf_status clf_normalize(const clf_step *step, clf_words *words, const char *text, size_t length, clf_place place,
                         clf_text *out) {
    switch (step->kind) {
    case CLF_STEP_PREFIX: {
        const bool there = step->unless_there && length >= step->content_length &&
                           memcmp(text, step->content, step->content_length) == 0;
        if (!there && length && (step->first_only ? place == CLF_PLACE_BEGINNING : place != CLF_PLACE_BYTES))
            APPEND(step->content, step->content_length);
        APPEND(text, length);
        return CLF_OK;
    }
    case CLF_STEP_REPLACE: return replace(step, words->matcher, text, length, out);
    case CLF_STEP_NORMAL_FORM:
        if (!is_ascii(text, length)) return normal_form(step->options, text, length, out);
        APPEND(text, length); /* every normal form of ASCII is itself */
        return CLF_OK;
    case CLF_STEP_LOWERCASE:
    case CLF_STEP_STRIP_ACCENTS: return each(step->kind, text, length, out);
    case CLF_STEP_STRIP: return strip(step, words, text, length, out);
    case CLF_STEP_SQUEEZE: return squeeze(text, length, out);
    case CLF_STEP_CHARSMAP: return clf_charsmap_apply(step->charsmap, text, length, out) ? CLF_OK : CLF_OUT_OF_MEMORY;
    case CLF_STEP_BYTE_LEVEL: return byte_level(text, length, out);
    default: APPEND(text, length); return CLF_OK;
    }
}
