/* vocab.h: the pieces of a vocabulary by id and by spelling, and sets of pieces that are searched for in a text. */
#ifndef CLF_MODEL_VOCAB_H
#define CLF_MODEL_VOCAB_H

#include "../core/status.h"
#include "text.h"

/* Values are those of GGUF's tokenizer.ggml.token_type and of SentencePiece. */
typedef enum clf_piece_kind {
    CLF_PIECE_NORMAL = 1,
    CLF_PIECE_UNKNOWN = 2,
    CLF_PIECE_CONTROL = 3, /* never made from text unless asked to */
    CLF_PIECE_USER = 4,    /* always found in text as a whole */
    CLF_PIECE_UNUSED = 5,
    CLF_PIECE_BYTE = 6 /* "<0x0A>" */
} clf_piece_kind;

enum { CLF_MAX_PIECES = 1 << 24, CLF_MAX_PIECE_LENGTH = 65535 };

typedef struct clf_piece {
    size_t offset; /* in vocab.spelling */
    uint32_t length;
    uint8_t kind; /* clf_piece_kind */
    bool end;     /* ends a generation */
    double score;
} clf_piece;

typedef struct clf_vocab {
    clf_text spelling; /* every piece's bytes and a 0 */
    clf_piece *pieces; /* [count] */
    int32_t count;
    size_t capacity;
    int32_t *slots; /* [mask + 1] ids by hash of spelling, -1: free */
    uint32_t mask;
    int32_t bytes[256]; /* ids that stand for one byte each, -1: none */
    bool all_bytes;     /* there is an id for every byte */
} clf_vocab;

/* Makes `id` a piece, whose spelling is copied; ids below it that nothing was put at are empty and unused. An id may be
 * put twice with one spelling. Messages name the piece. */
clf_status clf_vocab_put(clf_vocab *vocab, int64_t id, const char *text, size_t length, double score,
                         clf_piece_kind kind, clf_error *err);
/* Makes clf_vocab_find() work. CLF_BAD_FILE if two pieces are spelled alike; empty ones are never found. */
clf_status clf_vocab_index(clf_vocab *vocab, clf_error *err);
/* Fills `bytes`: with the byte alphabet of byte-level BPE, or from the pieces "<0x00>" … "<0xFF>". */
void clf_vocab_index_bytes(clf_vocab *vocab, bool byte_level);
void clf_vocab_clear(clf_vocab *vocab);
/* Id of a spelling, or -1. */
int32_t clf_vocab_find(const clf_vocab *vocab, const char *text, size_t length);
/* As clf_vocab_find(), but only what plain text may become: no control, unknown or byte piece. */
int32_t clf_vocab_find_plain(const clf_vocab *vocab, const char *text, size_t length);
static inline const char *clf_vocab_text(const clf_vocab *vocab, int32_t id) {
    return vocab->spelling.data + vocab->pieces[id].offset;
}
static inline bool clf_piece_is_special(const clf_piece *piece) {
    return piece->kind == CLF_PIECE_CONTROL || piece->kind == CLF_PIECE_UNKNOWN;
}

/* "<0x0A>" → 10; -1 for what is no byte piece. */
int clf_byte_of_piece(const char *text, size_t length);
/* The byte alphabet of byte-level BPE: each byte as a printable code point below U+0144; its UTF-8 has one or two
 * bytes. Returns how many. */
size_t clf_byte_level_encode(unsigned char byte, char out[2]);
/* The byte that a code point stands for, -1 for none. */
int clf_byte_level_decode(int32_t code_point);

/* Strings sorted by their bytes, searched one byte at a time. */
typedef struct clf_prefix {
    const char *text; /* not owned */
    uint32_t length;
    int32_t value;
} clf_prefix;

typedef struct clf_prefixes {
    clf_prefix *entries; /* [count] */
    size_t count;
    size_t first[257]; /* entries that begin with byte b: [first[b], first[b + 1]) */
} clf_prefixes;

/* The entries that begin with what was read so far. */
typedef struct clf_cursor {
    size_t low, high;
    uint32_t depth;
} clf_cursor;

/* Takes over `entries` (from malloc) and sorts them; of equal strings the first stays. Empty ones are left out. */
void clf_prefixes_init(clf_prefixes *set, clf_prefix *entries, size_t count);
void clf_prefixes_clear(clf_prefixes *set);
static inline clf_cursor clf_cursor_begin(const clf_prefixes *set, unsigned char byte) {
    return (clf_cursor){set->first[byte], set->first[byte + 1], 1};
}
/* Reads one more byte; false if no entry goes on like that. */
bool clf_cursor_step(const clf_prefixes *set, clf_cursor *cursor, unsigned char byte);
/* The entry that is just what was read, or NULL. */
static inline const clf_prefix *clf_cursor_entry(const clf_prefixes *set, const clf_cursor *cursor) {
    return cursor->low < cursor->high && set->entries[cursor->low].length == cursor->depth ? &set->entries[cursor->low]
                                                                                           : NULL;
}

#endif
