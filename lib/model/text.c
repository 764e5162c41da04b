/* text.c: growing arrays and UTF-8. A text stays below 2^32 bytes. */
#include "text.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "../core/checked.h"

void *clf_grown(void *data, size_t *capacity, size_t need, size_t element) {
    if (need <= *capacity && data) return data;
    size_t room = *capacity ? *capacity : 16;
    while (room < need)
        if (room > SIZE_MAX / 2)
            return NULL;
        else
            room *= 2;
    uint64_t bytes;
    if (!clf_mul_u64(room, element, &bytes) || bytes > SIZE_MAX) return NULL;
    void *moved = realloc(data, (size_t)bytes);
    if (moved) *capacity = room;
    return moved;
}

bool clf_text_append(clf_text *text, const char *bytes, size_t length) {
    if (length > UINT32_MAX - text->length) return false;
    char *data = clf_grown(text->data, &text->capacity, text->length + length, 1);
    if (!data) return false;
    text->data = data;
    if (length) memcpy(data + text->length, bytes, length);
    text->length += length;
    return true;
}

bool clf_text_terminate(clf_text *text) {
    if (!clf_text_append(text, "", 1)) return false;
    text->length--;
    return true;
}

bool clf_spans_append(clf_spans *spans, size_t begin, size_t end) {
    clf_span *data = clf_grown(spans->data, &spans->capacity, spans->count + 1, sizeof *data);
    if (!data) return false;
    spans->data = data;
    data[spans->count++] = (clf_span){begin, end};
    return true;
}

bool clf_ids_append(clf_ids *ids, int32_t id) {
    int32_t *data = clf_grown(ids->data, &ids->capacity, ids->count + 1, sizeof *data);
    if (!data) return false;
    ids->data = data;
    data[ids->count++] = id;
    return true;
}

char *clf_copy(const char *bytes, size_t length) {
    char *copy = length < SIZE_MAX ? malloc(length + 1) : NULL;
    if (!copy) return NULL;
    if (length) memcpy(copy, bytes, length);
    copy[length] = 0;
    return copy;
}

size_t clf_utf8_decode(const char *text, size_t length, int32_t *code_point) {
    if ((unsigned char)text[0] < 0x80) return *code_point = text[0], 1;
    const utf8proc_ssize_t n =
        utf8proc_iterate((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)(length < 4 ? length : 4), code_point);
    return n > 0 ? (size_t)n : 0;
}

bool clf_utf8_valid(const char *text, size_t length) {
    int32_t code_point;
    for (size_t i = 0, n; i < length; i += n)
        if (!(n = clf_utf8_decode(text + i, length - i, &code_point))) return false;
    return true;
}

size_t clf_utf8_broken(const char *text, size_t length, bool *open) {
    const unsigned char *s = (const unsigned char *)text;
    *open = false;
    if (s[0] < 0xC2 || s[0] > 0xF4) return 1;
    const size_t full = clf_utf8_size(text[0]);
    /* the second byte's range excludes overlong forms, surrogates and what lies beyond U+10FFFF */
    const unsigned char low = s[0] == 0xE0 ? 0xA0 : s[0] == 0xF0 ? 0x90 : 0x80;
    const unsigned char high = s[0] == 0xED ? 0x9F : s[0] == 0xF4 ? 0x8F : 0xBF;
    size_t n = 1;
    for (; n < full && n < length; n++)
        if (s[n] < (n == 1 ? low : 0x80) || s[n] > (n == 1 ? high : 0xBF)) return n;
    *open = n < full;
    return n;
}

bool clf_text_append_lossy(clf_text *text, const char *bytes, size_t length) {
    size_t begin = 0, i = 0;
    while (i < length) {
        int32_t code_point;
        const size_t n = clf_utf8_decode(bytes + i, length - i, &code_point);
        if (n) {
            i += n;
            continue;
        }
        bool open;
        if (!clf_text_append(text, bytes + begin, i - begin) || !clf_text_append(text, CLF_REPLACEMENT, 3))
            return false;
        begin = i += clf_utf8_broken(bytes + i, length - i, &open);
    }
    return begin == length || clf_text_append(text, bytes + begin, length - begin);
}

bool clf_is_space(int32_t c) {
    return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}
