/* tokenizer_data.h: what a tokenizer is, whichever file described it, and the tools with which readers build one.
 *
 *     text → fragments (added tokens, bytes that aren't UTF-8, text) → normalize → split → words → model → ids
 *     ids → pieces → decode → text
 */
#ifndef CLF_MODEL_TOKENIZER_DATA_H
#define CLF_MODEL_TOKENIZER_DATA_H

#include <clformer/model.h>

#include "chat.h"
#include "steps.h"
#include "vocab.h"

/* How a word becomes pieces. */
typedef enum clf_tokenizer_kind {
    CLF_TOKENIZER_MERGES, /* BPE: adjacent pairs by their rank in a list of merges */
    CLF_TOKENIZER_SCORES, /* SentencePiece's BPE: adjacent pairs by the score of what they make */
    CLF_TOKENIZER_UNIGRAM /* the segmentation with the greatest sum of scores */
} clf_tokenizer_kind;

/* Pairs of ids to what they make: open addressing, at most half full. */
typedef struct clf_merge {
    int32_t left, right; /* left < 0: free */
    int32_t id, rank;
} clf_merge;

typedef struct clf_merges {
    clf_merge *list; /* as added, until clf_tokenizer_finish() */
    size_t count, capacity;
    clf_merge *slots; /* [mask + 1] */
    uint32_t mask;
} clf_merges;

/* NULL: the pair doesn't merge. */
static inline const clf_merge *clf_merges_find(const clf_merges *merges, int32_t left, int32_t right) {
    const uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    for (uint32_t slot = (uint32_t)(key * 0x9E3779B97F4A7C15u >> 32) & merges->mask;;
         slot = (slot + 1) & merges->mask) {
        const clf_merge *merge = &merges->slots[slot];
        if (merge->left < 0) return NULL;
        if (merge->left == left && merge->right == right) return merge;
    }
}

/* A token that is found in text before the model sees it. */
typedef struct clf_added {
    int32_t id;
    bool special;     /* only where special tokens are parsed */
    bool left, right; /* takes the white space there along */
    bool single_word; /* not next to a letter or digit */
    bool normalized;  /* looked for in normalized text */
    bool found;       /* set by clf_tokenizer_finish(): looked for at all */
    char *text;       /* normalized form of its spelling; NULL: the spelling */
    size_t text_length;
} clf_added;

struct clf_tokenizer {
    clf_tokenizer_kind kind;
    clf_vocab vocab;
    clf_merges merges;    /* MERGES */
    int32_t *ranks;       /* SCORES: [vocab.count], 0 for the greatest score, equal for equal scores */
    clf_prefixes pieces;  /* UNIGRAM: what text may become */
    double unknown_score; /* UNIGRAM */
    bool float_scores;    /* UNIGRAM: sums are rounded to float */
    int32_t unknown;      /* -1: what is unknown vanishes */
    bool byte_fallback;   /* unknown code points become byte tokens */
    bool fuse_unknown;    /* a run of unknown code points is one token */
    bool ignore_merges;   /* MERGES: a word that is a piece is that piece */
    bool byte_level;      /* pieces are spelled in the byte alphabet */
    bool byte_pieces;     /* "<0x0A>" is the byte 10, whatever its kind was */
    clf_steps normalize, split, decode;
    clf_added *added;
    size_t n_added, added_capacity;
    clf_prefixes raw_added, normalized_added; /* values: index into `added` */
    int32_t bos, eos;
    clf_ids before, after; /* with CLF_TOKENIZE_ADD_SPECIAL */
    char *chat_template;   /* NULL: none */
    clf_chat_style chat;   /* points into the template */
};

/* tokenizer_build.c: a tokenizer is filled, then finished. */
clf_status clf_tokenizer_new(clf_tokenizer **out, clf_error *err);
clf_status clf_tokenizer_add_merge(clf_tokenizer *t, int32_t left, int32_t right, int32_t id, clf_error *err);
/* `added.id` exists; its piece becomes a control or a user-defined one. */
clf_status clf_tokenizer_add_added(clf_tokenizer *t, clf_added added, clf_error *err);
/* SentencePiece's treatment of spaces, and back: `squeeze` runs into one, one in front of the text (`first_only`) or of
 * every stretch between added tokens, `escape` as U+2581. */
clf_status clf_tokenizer_set_spaces(clf_tokenizer *t, bool prefix, bool first_only, bool squeeze, bool escape,
                                    clf_error *err);
/* Marks the end token and those whose spelling is a known one. Builds the tables and checks ids. */
clf_status clf_tokenizer_finish(clf_tokenizer *t, clf_error *err);
/* Makes `id` one that ends a generation; ignored if out of range. */
void clf_tokenizer_mark_end(clf_tokenizer *t, int64_t id);

/* tokenizer_written.c: a finished tokenizer's merges in their order, to be freed. */
clf_status clf_tokenizer_list_merges(const clf_tokenizer *t, clf_merge **out, size_t *count, clf_error *err);
/* CLF_UNSUPPORTED, naming `file`, unless both give some hard texts the same ids. */
clf_status clf_tokenizer_check_same(const clf_tokenizer *a, const clf_tokenizer *b, const char *file, clf_error *err);

/* Scratch of one call. */
typedef struct clf_symbol {
    uint32_t begin, length; /* in the word, for SCORES; length 0: merged into another */
    int32_t id;             /* -1: no piece */
    int32_t previous, next; /* -1: none */
} clf_symbol;

typedef struct clf_candidate {
    int32_t rank, position, id;
} clf_candidate;

typedef struct clf_segment { /* the best segmentation that ends here */
    double score;
    uint32_t begin; /* of its last piece */
    int32_t id;     /* of its last piece; -1: unknown; -2: nothing ends here */
} clf_segment;

typedef struct clf_scratch {
    clf_words words;
    clf_symbol *symbols;
    size_t symbols_capacity;
    clf_candidate *heap;
    size_t heap_count, heap_capacity;
    clf_segment *best;
    size_t best_capacity;
    clf_ids ids;
} clf_scratch;

void clf_scratch_clear(clf_scratch *scratch);
/* bpe.c, unigram.c: append the ids of one word (UTF-8, not empty) to scratch->ids. */
clf_status clf_bpe(const clf_tokenizer *t, clf_scratch *scratch, const char *word, size_t length);
clf_status clf_unigram(const clf_tokenizer *t, clf_scratch *scratch, const char *word, size_t length);
/* For what is no piece: byte tokens, the unknown token (once for a run: `*after_unknown`), or nothing. */
clf_status clf_emit_unknown(const clf_tokenizer *t, clf_scratch *scratch, const char *text, size_t length,
                            bool *after_unknown);
/* tokenizer.c: appends the ids of `text`, which `place` is before, to scratch->ids. */
clf_status clf_tokenize_append(const clf_tokenizer *t, clf_scratch *scratch, const char *text, size_t length,
                               bool parse_special, clf_place place);
/* chat.c: clf_tokenize_chat(), appending to the scratch's ids, of which there are none yet. `replies`, if not NULL,
 * receives where each of the assistant's messages is among them: from where the model would speak to the token that
 * ends its turn, which is included. */
clf_status clf_chat_append(const clf_tokenizer *t, const clf_chat_message *messages, size_t n, bool reply,
                           clf_scratch *scratch, clf_spans *replies);
/* Copies scratch->ids to the caller, as clf_tokenize() says. */
clf_status clf_tokenize_deliver(const clf_scratch *scratch, int32_t *ids, size_t capacity, size_t *count);

#endif
