/* pretokenizers.h: the patterns that GGUF names in tokenizer.ggml.pre. */
#ifndef CLF_MODEL_PRETOKENIZERS_H
#define CLF_MODEL_PRETOKENIZERS_H

#include "../core/status.h"

#define CLF_GPT2_PATTERN "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

enum { CLF_MAX_PATTERNS = 6 };

/* What a name stands for: patterns applied one after the other, each isolating its matches. */
typedef struct clf_pretokenizer {
    const char *patterns[CLF_MAX_PATTERNS]; /* NULL ends */
    bool ignore_merges, add_bos;
} clf_pretokenizer;

/* NULL: an unknown name. `name` isn't terminated. */
/* The names, in the order of preference where several stand for the same; NULL beyond the last. */
const char *clf_pretokenizer_name(int index);
const clf_pretokenizer *clf_pretokenizer_find(const char *name, size_t length);

#endif
