/* tokens.h: the file of tokens: documents tokenized beforehand. All numbers are little-endian.
 *
 *     header                     64 bytes
 *     ids [tokens]               of 2 or 4 bytes each, then zeros up to a multiple of 8
 *     ends [documents]           u64: how many tokens there are up to the end of the document
 *     targets [tokens]           bits, the first the least of the first byte; only if MASKED, otherwise all are targets
 */
#ifndef CLF_TRAIN_TOKENS_H
#define CLF_TRAIN_TOKENS_H

#include <stdint.h>

#define CLF_TOKENS_MAGIC "clftokns"
enum { CLF_TOKENS_MAGIC_SIZE = 8, CLF_TOKENS_VERSION = 1 };

enum {
    CLF_TOKENS_MASKED = 1,
    CLF_TOKENS_RUNNING = 2, /* documents are parts of running text: split, never cut off */
    CLF_TOKENS_PAIRS = 4,   /* documents are chosen and rejected in turn */
    CLF_TOKENS_FLAGS = 7
};

typedef struct clf_tokens_header {
    char magic[CLF_TOKENS_MAGIC_SIZE];
    uint32_t version;
    uint32_t width; /* bytes of an id */
    uint32_t vocab; /* every id is below it */
    uint32_t flags;
    uint64_t documents, tokens;
    uint64_t tokenizer; /* clf_tokenizer_hash() */
    uint64_t hash;      /* XXH3, 64 bits, of the header with 0 here, seeded with that of all that follows */
    uint64_t zero;
} clf_tokens_header;

_Static_assert(sizeof(clf_tokens_header) == 64, "the header of a file of tokens has 64 bytes");

#endif
