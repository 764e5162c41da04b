/* vocab.c: pieces in one block of text, a hash table (open addressing, at most half full) from spellings to ids, the
 * byte alphabet, and sorted string sets. */
#include "vocab.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

clf_status clf_vocab_put(clf_vocab *vocab, int64_t id, const char *text, size_t length, double score,
                         clf_piece_kind kind, clf_error *err) {
    CLF_CHECK(err, id >= 0 && id < CLF_MAX_PIECES, CLF_BAD_FILE, "token %lld: expected an id below %d", (long long)id,
              CLF_MAX_PIECES);
    CLF_CHECK(err, length <= CLF_MAX_PIECE_LENGTH, CLF_BAD_FILE, "token %lld: expected at most %d bytes, got %zu",
              (long long)id, CLF_MAX_PIECE_LENGTH, length);
    CLF_CHECK(err, isfinite(score), CLF_BAD_FILE, "token %lld: score: expected a finite number", (long long)id);
    CLF_CHECK(err, kind >= CLF_PIECE_NORMAL && kind <= CLF_PIECE_BYTE, CLF_BAD_FILE,
              "token %lld: type: expected 1 to 6, got %d", (long long)id, (int)kind);
    if (id < vocab->count && vocab->pieces[id].length) {
        const bool same =
            vocab->pieces[id].length == length && memcmp(clf_vocab_text(vocab, (int32_t)id), text, length) == 0;
        CLF_CHECK(err, same, CLF_BAD_FILE, "token %lld: \"%.60s\" and \"%.60s\"", (long long)id,
                  clf_vocab_text(vocab, (int32_t)id), text);
        return CLF_OK;
    }
    clf_piece *pieces = clf_grown(vocab->pieces, &vocab->capacity, (size_t)id + 1, sizeof *pieces);
    if (pieces) vocab->pieces = pieces;
    const size_t offset = vocab->spelling.length;
    if (!pieces || !clf_text_append(&vocab->spelling, text, length) || !clf_text_append(&vocab->spelling, "", 1))
        return clf_fail(err, CLF_OUT_OF_MEMORY, "token %lld: out of memory", (long long)id);
    while (vocab->count <= id)
        pieces[vocab->count++] = (clf_piece){.offset = offset + length, .kind = CLF_PIECE_UNUSED};
    pieces[id] = (clf_piece){offset, (uint32_t)length, (uint8_t)kind, false, score};
    return CLF_OK;
}

clf_status clf_vocab_index(clf_vocab *vocab, clf_error *err) {
    uint32_t size = 16;
    while (size < 2 * (uint32_t)vocab->count) size *= 2;
    if (!(vocab->slots = malloc(size * sizeof *vocab->slots)))
        return clf_fail(err, CLF_OUT_OF_MEMORY, "vocabulary: out of memory");
    memset(vocab->slots, 0xFF, size * sizeof *vocab->slots);
    vocab->mask = size - 1;
    for (int32_t id = 0; id < vocab->count; id++) {
        const clf_piece *piece = &vocab->pieces[id];
        const char *text = clf_vocab_text(vocab, id);
        if (!piece->length) continue;
        uint32_t slot = (uint32_t)XXH3_64bits(text, piece->length) & vocab->mask;
        for (; vocab->slots[slot] >= 0; slot = (slot + 1) & vocab->mask) {
            const int32_t other = vocab->slots[slot];
            if (vocab->pieces[other].length == piece->length &&
                memcmp(clf_vocab_text(vocab, other), text, piece->length) == 0)
                return clf_fail(err, CLF_BAD_FILE, "token %d: \"%.100s\" is token %d already", id, text, other);
        }
        vocab->slots[slot] = id;
    }
    return CLF_OK;
}

int32_t clf_vocab_find(const clf_vocab *vocab, const char *text, size_t length) {
    if (!length || !vocab->slots) return -1;
    for (uint32_t slot = (uint32_t)XXH3_64bits(text, length) & vocab->mask;; slot = (slot + 1) & vocab->mask) {
        const int32_t id = vocab->slots[slot];
        if (id < 0) return -1;
        if (vocab->pieces[id].length == length && memcmp(clf_vocab_text(vocab, id), text, length) == 0) return id;
    }
}

int32_t clf_vocab_find_plain(const clf_vocab *vocab, const char *text, size_t length) {
    const int32_t id = clf_vocab_find(vocab, text, length);
    if (id < 0) return -1;
    const clf_piece *piece = &vocab->pieces[id];
    return clf_piece_is_special(piece) || piece->kind == CLF_PIECE_BYTE ? -1 : id;
}

int clf_byte_of_piece(const char *text, size_t length) {
    static const char digits[] = "0123456789ABCDEF";
    if (length != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>') return -1;
    const char *high = text[3] ? strchr(digits, text[3]) : NULL, *low = text[4] ? strchr(digits, text[4]) : NULL;
    return high && low ? (int)((high - digits) << 4 | (low - digits)) : -1;
}

/* Printable Latin-1 stands for itself; the other 68 bytes are U+0100 … in order. */
static bool stands_for_itself(int byte) {
    return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

size_t clf_byte_level_encode(unsigned char byte, char out[2]) {
    int c = byte;
    if (!stands_for_itself(byte)) c = 0x100 + (byte <= 0x20 ? byte : byte <= 0xA0 ? byte - 0x7F + 0x21 : 0x43);
    if (c < 0x80) return out[0] = (char)c, 1;
    out[0] = (char)(0xC0 | c >> 6);
    out[1] = (char)(0x80 | (c & 0x3F));
    return 2;
}

int clf_byte_level_decode(int32_t c) {
    if (c < 0 || c > 0x143) return -1;
    if (c < 0x100) return stands_for_itself(c) ? c : -1;
    c -= 0x100;
    return c <= 0x20 ? c : c < 0x43 ? c - 0x21 + 0x7F : 0xAD;
}

void clf_vocab_index_bytes(clf_vocab *vocab, bool byte_level) {
    static const char digits[] = "0123456789ABCDEF";
    vocab->all_bytes = true;
    for (int b = 0; b < 256; b++) {
        char text[6] = {'<', '0', 'x', digits[b >> 4], digits[b & 15], '>'};
        const size_t n = byte_level ? clf_byte_level_encode((unsigned char)b, text) : sizeof text;
        vocab->bytes[b] = clf_vocab_find(vocab, text, n);
        if (vocab->bytes[b] < 0) vocab->all_bytes = false;
    }
}

void clf_vocab_clear(clf_vocab *vocab) {
    free(vocab->spelling.data);
    free(vocab->pieces);
    free(vocab->slots);
    *vocab = (clf_vocab){0};
}

static int compare(const void *a, const void *b) {
    const clf_prefix *x = a, *y = b;
    const int order = memcmp(x->text, y->text, x->length < y->length ? x->length : y->length);
    if (order) return order;
    if (x->length != y->length) return x->length < y->length ? -1 : 1;
    return (x->value > y->value) - (x->value < y->value);
}

void clf_prefixes_init(clf_prefixes *set, clf_prefix *entries, size_t count) {
    if (count) qsort(entries, count, sizeof *entries, compare);
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        const clf_prefix *last = n ? &entries[n - 1] : NULL;
        const bool again =
            last && last->length == entries[i].length && memcmp(last->text, entries[i].text, last->length) == 0;
        if (entries[i].length && !again) entries[n++] = entries[i];
    }
    set->entries = entries;
    set->count = n;
    for (size_t i = 0, b = 0; b < 257; b++) {
        while (i < n && (unsigned char)entries[i].text[0] < b) i++;
        set->first[b] = i;
    }
}

void clf_prefixes_clear(clf_prefixes *set) {
    free(set->entries);
    *set = (clf_prefixes){0};
}

/* First entry of [low, high) whose byte at `depth` is at least `byte`; all are longer than that. */
static size_t lower_bound(const clf_prefix *entries, size_t low, size_t high, uint32_t depth, unsigned byte) {
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if ((unsigned char)entries[middle].text[depth] < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

bool clf_cursor_step(const clf_prefixes *set, clf_cursor *cursor, unsigned char byte) {
    const clf_prefix *entries = set->entries;
    if (cursor->low < cursor->high && entries[cursor->low].length == cursor->depth) cursor->low++;
    cursor->low = lower_bound(entries, cursor->low, cursor->high, cursor->depth, byte);
    cursor->high = lower_bound(entries, cursor->low, cursor->high, cursor->depth, byte + 1u);
    cursor->depth++;
    return cursor->low < cursor->high;
}
