/* steps.h: what happens to a text before it becomes tokens, and back, as lists of steps.
 *
 * A step works on words: spans of a text that don't overlap, in order. The normalizer's steps see one word, the whole
 * fragment; those of the pre-tokenizer split it. Every word that a step reads is UTF-8. */
#ifndef CLF_MODEL_STEPS_H
#define CLF_MODEL_STEPS_H

#include "charsmap.h"
#include "regex.h"
#include "text.h"
#include "vocab.h"

typedef enum clf_step_kind {
    CLF_STEP_SPLIT,         /* words at `pattern` or `regex`, as `behaviour` says */
    CLF_STEP_PREFIX,        /* `content` before a word that isn't empty, unless bytes are before it */
    CLF_STEP_REPLACE,       /* each `pattern` or match of `regex` by `content` */
    CLF_STEP_NORMAL_FORM,   /* NFC, NFD, NFKC, NFKD: `options` of utf8proc */
    CLF_STEP_LOWERCASE,     /* simple lower case, and U+0130 */
    CLF_STEP_STRIP_ACCENTS, /* without marks */
    CLF_STEP_STRIP,         /* without White_Space on the left, the right */
    CLF_STEP_SQUEEZE,       /* runs of U+0020 become one, none at either end (SentencePiece) */
    CLF_STEP_CHARSMAP,      /* SentencePiece's compiled normalization */
    CLF_STEP_BYTE_LEVEL,    /* each byte as its character of the byte alphabet; back when decoding */
    /* only when decoding */
    CLF_STEP_STRIP_EACH,     /* up to `left` of `content` from a token's beginning, `right` from its end */
    CLF_STEP_STRIP_BEGINNING /* of the text, up to `left` of `content` */
} clf_step_kind;

typedef enum clf_split {
    CLF_SPLIT_ISOLATED,   /* matches are words of their own */
    CLF_SPLIT_REMOVED,    /* matches vanish */
    CLF_SPLIT_PREVIOUS,   /* a match ends the word before it */
    CLF_SPLIT_NEXT,       /* a match begins the word after it */
    CLF_SPLIT_CONTIGUOUS, /* as isolated, adjacent matches are one */
} clf_split;

typedef struct clf_step {
    clf_step_kind kind;
    clf_split behaviour;
    bool invert;             /* SPLIT: what doesn't match is the match */
    bool unless_there;       /* PREFIX: not where the word begins with it */
    bool first_only;         /* PREFIX: only at the beginning of the whole text */
    int options;             /* NORMAL_FORM */
    size_t left, right;      /* STRIP: whether; STRIP_EACH, STRIP_BEGINNING: how many */
    char *pattern, *content; /* owned */
    size_t pattern_length, content_length;
    clf_regex *regex;       /* owned: `pattern` compiled; NULL: it is literal */
    clf_charsmap *charsmap; /* owned */
} clf_step;

typedef struct clf_steps {
    clf_step *data;
    size_t count, capacity;
} clf_steps;

/* Takes over what `step` owns, also on failure. */
clf_status clf_steps_add(clf_steps *steps, clf_step step, clf_error *err);
void clf_step_clear(clf_step *step);
void clf_steps_clear(clf_steps *steps);
/* `pattern` is a literal, or a regular expression. */
clf_status clf_step_set_pattern(clf_step *step, const char *pattern, size_t length, bool is_regex, clf_error *err);
clf_status clf_step_set_content(clf_step *step, const char *content, size_t length, clf_error *err);

/* What is before a stretch of text. */
typedef enum clf_place {
    CLF_PLACE_BEGINNING, /* nothing: it begins the whole text, and nothing was taken from there */
    CLF_PLACE_TOKEN,     /* an added token, or another word */
    CLF_PLACE_BYTES      /* bytes that aren't UTF-8, which the same word may have */
} clf_place;

/* Words while they are being worked on; one for each call, reused from fragment to fragment. */
typedef struct clf_words {
    clf_text text, next_text;
    clf_spans spans, next_spans;
    clf_place place; /* of the first word */
    clf_matcher *matcher;
} clf_words;

/* Begins with one word, a copy of `text`. */
clf_status clf_words_begin(clf_words *words, const char *text, size_t length, clf_place place);
void clf_words_clear(clf_words *words);
/* CLF_UNSUPPORTED if a pattern needs more steps than it may. */
clf_status clf_steps_apply(const clf_steps *steps, clf_words *words);
/* One step on one word, whose result is appended to `out`; not CLF_STEP_SPLIT. */
clf_status clf_normalize(const clf_step *step, clf_words *words, const char *text, size_t length, clf_place place,
                         clf_text *out);
/* Appends the words that `step` makes of [begin, end) of `text` to `out`. */
clf_status clf_split_word(const clf_step *step, clf_matcher *matcher, const char *text, clf_span word, clf_spans *out);

#endif
