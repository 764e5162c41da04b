/* charsmap.h: SentencePiece's precompiled_charsmap: u32 size of a double-array trie (Darts-clone units, little-endian),
 * the trie, then the replacements, each ended by a 0. A key of the trie gives its replacement's offset. */
#ifndef CLF_MODEL_CHARSMAP_H
#define CLF_MODEL_CHARSMAP_H

#include "../core/status.h"
#include "text.h"

typedef struct clf_charsmap clf_charsmap;

/* How the map is applied. */
typedef enum clf_charsmap_use {
    CLF_CHARSMAP_LONGEST,  /* SentencePiece: the longest key at each place */
    CLF_CHARSMAP_GRAPHEMES /* the tokenizers library: whole grapheme clusters below 6 bytes, else single code points */
} clf_charsmap_use;

/* Copies `data`. CLF_BAD_FILE where sizes don't fit together. */
clf_status clf_charsmap_create(clf_charsmap **out, const void *data, size_t size, clf_charsmap_use use, clf_error *err);
void clf_charsmap_destroy(clf_charsmap *map); /* NULL is accepted */
/* Appends the normalized text to `out`; false if memory is out. */
bool clf_charsmap_apply(const clf_charsmap *map, const char *text, size_t length, clf_text *out);

#endif
