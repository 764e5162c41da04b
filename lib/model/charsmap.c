/* charsmap.c: walks the double array. A unit has a label in bits 0–7 (bit 31: it is a value), bit 8: it has a value,
 * and an offset to its children in bits 10–31, times 256 if bit 9 is set. Every index is checked, as the file is not
 * trusted.
 */
#include "charsmap.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

enum { MAX_KEY = 256 }; /* bytes; a trie that isn't one could go on for ever */

struct clf_charsmap {
    clf_charsmap_use use;
    uint32_t n_units;
    size_t size; /* of texts */
    char *texts; /* behind the units */
    uint32_t units[];
};

clf_status clf_charsmap_create(clf_charsmap **out, const void *data, size_t size, clf_charsmap_use use,
                               clf_error *err) {
    *out = NULL;
    const unsigned char *bytes = data;
    CLF_CHECK(err, size >= 4, CLF_BAD_FILE, "charsmap: expected at least 4 bytes, got %zu", size);
    const uint32_t trie = bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
    CLF_CHECK(err, trie <= size - 4 && trie % 4 == 0, CLF_BAD_FILE,
              "charsmap: expected a trie within %zu bytes, got %u bytes", size - 4, trie);
    clf_charsmap *map = malloc(sizeof *map + size);
    CLF_CHECK(err, map, CLF_OUT_OF_MEMORY, "charsmap: out of memory");
    map->use = use;
    map->n_units = trie / 4;
    map->size = size - 4 - trie;
    map->texts = (char *)(map->units + map->n_units);
    for (uint32_t i = 0; i < map->n_units; i++) {
        const unsigned char *unit = bytes + 4 + 4 * (size_t)i;
        map->units[i] = unit[0] | (uint32_t)unit[1] << 8 | (uint32_t)unit[2] << 16 | (uint32_t)unit[3] << 24;
    }
    memcpy(map->texts, bytes + 4 + trie, map->size);
    if (map->size && (map->texts[map->size - 1] != 0 || !clf_utf8_valid(map->texts, map->size))) {
        free(map);
        return clf_fail(err, CLF_BAD_FILE, "charsmap: expected replacements in UTF-8, the last one ended by a 0");
    }
    *out = map;
    return CLF_OK;
}

void clf_charsmap_destroy(clf_charsmap *map) {
    free(map);
}

static uint32_t children(uint32_t unit) {
    return (unit >> 10) << ((unit & 1u << 9) >> 6);
}

/* The replacement of a key that `text` begins with, the longest or the shortest one, and the key's length; NULL if
 * there is none. */
static const char *find(const clf_charsmap *map, const char *text, size_t length, bool longest, size_t *key_length) {
    const char *found = NULL;
    if (!map->n_units) return NULL;
    uint32_t at = children(map->units[0]);
    for (size_t i = 0; i < length && i < MAX_KEY; i++) {
        const unsigned char c = (unsigned char)text[i];
        at ^= c;
        if (!c || at >= map->n_units || (map->units[at] & (1u << 31 | 0xFF)) != c) break;
        const uint32_t unit = map->units[at];
        at ^= children(unit);
        if (!(unit >> 8 & 1)) continue;
        if (at >= map->n_units) break;
        const uint32_t offset = map->units[at] & ~(1u << 31);
        if (offset >= map->size || (map->texts[offset] & 0xC0) == 0x80) break; /* within a code point */
        found = map->texts + offset;
        *key_length = i + 1;
        if (!longest) break;
    }
    return found;
}

static bool apply_longest(const clf_charsmap *map, const char *text, size_t length, clf_text *out) {
    for (size_t i = 0, n; i < length; i += n) {
        const char *found = find(map, text + i, length - i, true, &n);
        if (found) {
            if (!clf_text_append(out, found, strlen(found))) return false;
            int32_t code_point; /* a key may end within a code point */
            for (; i + n < length && !clf_utf8_decode(text + i + n, length - i - n, &code_point); n++) {
            }
        } else {
            n = clf_utf8_size(text[i]);
            if (!clf_text_append(out, text + i, n)) return false;
        }
    }
    return true;
}

/* Bytes of the grapheme cluster at `text`. */
static size_t grapheme(const char *text, size_t length) {
    int32_t before, after, state = 0;
    size_t n = clf_utf8_decode(text, length, &before);
    while (n < length) {
        const size_t next = clf_utf8_decode(text + n, length - n, &after);
        if (utf8proc_grapheme_break_stateful(before, after, &state)) break;
        before = after;
        n += next;
    }
    return n;
}

static bool apply_graphemes(const clf_charsmap *map, const char *text, size_t length, clf_text *out) {
    size_t key;
    for (size_t i = 0, n; i < length; i += n) {
        n = grapheme(text + i, length - i);
        const char *found = n < 6 ? find(map, text + i, n, false, &key) : NULL;
        if (found) {
            if (!clf_text_append(out, found, strlen(found))) return false;
            continue;
        }
        for (size_t k = 0, m; k < n; k += m) {
            m = clf_utf8_size(text[i + k]);
            found = find(map, text + i + k, m, false, &key);
            if (!clf_text_append(out, found ? found : text + i + k, found ? strlen(found) : m)) return false;
        }
    }
    return true;
}

bool clf_charsmap_apply(const clf_charsmap *map, const char *text, size_t length, clf_text *out) {
    return map->use == CLF_CHARSMAP_LONGEST ? apply_longest(map, text, length, out)
                                            : apply_graphemes(map, text, length, out);
}
