/* text.h: bytes, spans and ids that grow, and UTF-8, for the tokenizers. Growing fails with false when memory is out or
 * a size would not fit; what was there stays. */
#ifndef CLF_MODEL_TEXT_H
#define CLF_MODEL_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct clf_text {
    char *data;
    size_t length, capacity;
} clf_text;

/* [begin, end) of a text. */
typedef struct clf_span {
    size_t begin, end;
} clf_span;

typedef struct clf_spans {
    clf_span *data;
    size_t count, capacity;
} clf_spans;

typedef struct clf_ids {
    int32_t *data;
    size_t count, capacity;
} clf_ids;

/* `data` with room for `need` elements: the same or a moved block, or NULL. */
void *clf_grown(void *data, size_t *capacity, size_t need, size_t element);

bool clf_text_append(clf_text *text, const char *bytes, size_t length);
/* Adds a 0 behind the text, outside its length. */
bool clf_text_terminate(clf_text *text);
bool clf_spans_append(clf_spans *spans, size_t begin, size_t end);
bool clf_ids_append(clf_ids *ids, int32_t id);
/* A terminated copy, or NULL. */
char *clf_copy(const char *bytes, size_t length);

/* Bytes of the code point at `text`, 0 if they aren't UTF-8. `length` > 0. */
size_t clf_utf8_decode(const char *text, size_t length, int32_t *code_point);
/* Bytes of the code point that starts with `lead`, in text known to be UTF-8. */
static inline size_t clf_utf8_size(char lead) {
    const unsigned char c = (unsigned char)lead;
    return c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
}
bool clf_utf8_valid(const char *text, size_t length);
/* Bytes of the longest prefix of `text` that a UTF-8 sequence could begin with, 1 at least: what one U+FFFD stands for.
 * `*open`: whether more bytes could still complete it. */
size_t clf_utf8_broken(const char *text, size_t length, bool *open);
/* Appends `bytes` with U+FFFD for each maximal part that isn't UTF-8. */
bool clf_text_append_lossy(clf_text *text, const char *bytes, size_t length);
/* White_Space of Unicode, which \s means to the tokenizers. */
bool clf_is_space(int32_t code_point);

#define CLF_REPLACEMENT "\xEF\xBF\xBD" /* U+FFFD */
#define CLF_LOW_LINE    "\xE2\x96\x81" /* U+2581, a space in SentencePiece vocabularies */

#endif
