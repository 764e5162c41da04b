/* unigram.c: Viterbi. best[i] is the best segmentation of the first i bytes of the word; every piece that begins at a
 * code point extends it. A code point that is no piece costs the lowest score less 10. O(n · longest piece). */
#include <string.h>

#include "tokenizer_data.h"

/* SentencePiece adds floats, the tokenizers library doubles; near ties show it. */
static double sum(const clf_tokenizer *t, double a, double b) {
    return t->float_scores ? (double)((float)a + (float)b) : a + b;
}

static void improve(clf_segment *at, double score, size_t begin, int32_t id) {
    if (at->id != -2 && score <= at->score) return;
    *at = (clf_segment){score, (uint32_t)begin, id};
}

clf_status clf_unigram(const clf_tokenizer *t, clf_scratch *s, const char *word, size_t length) {
    clf_segment *best = clf_grown(s->best, &s->best_capacity, length + 1, sizeof *best);
    if (!best) return CLF_OUT_OF_MEMORY;
    s->best = best;
    for (size_t i = 0; i <= length; i++) best[i].id = -2;
    best[0] = (clf_segment){0, 0, -1};

    for (size_t i = 0, size; i < length; i += size) {
        size = clf_utf8_size(word[i]);
        bool single = false;
        clf_cursor cursor = clf_cursor_begin(&t->pieces, (unsigned char)word[i]);
        for (size_t end = i + 1; cursor.low < cursor.high; end++) {
            const clf_prefix *piece = clf_cursor_entry(&t->pieces, &cursor);
            if (piece) {
                improve(&best[end], sum(t, best[i].score, t->vocab.pieces[piece->value].score), i, piece->value);
                single |= end == i + size;
            }
            if (end >= length || !clf_cursor_step(&t->pieces, &cursor, (unsigned char)word[end])) break;
        }
        if (!single) improve(&best[i + size], sum(t, best[i].score, t->unknown_score), i, -1);
    }

    /* backwards: link each piece to the one after it, by its end */
    for (size_t end = length, next = 0; end > 0;) {
        const size_t begin = best[end].begin;
        best[end].begin = (uint32_t)next;
        next = end;
        end = begin;
        if (end == 0) best[0].begin = (uint32_t)next;
    }
    bool after_unknown = false;
    size_t unknown = 0; /* where a run of unknown code points began */
    for (size_t begin = 0, end = best[0].begin; begin < length; begin = end, end = best[end].begin) {
        if (best[end].id >= 0) {
            after_unknown = false;
            unknown = end;
            if (!clf_ids_append(&s->ids, best[end].id)) return CLF_OUT_OF_MEMORY;
            continue;
        }
        const bool goes_on = t->fuse_unknown && end < length && best[best[end].begin].id < 0;
        if (goes_on) continue;
        CLF_TRY(clf_emit_unknown(t, s, word + unknown, end - unknown, &after_unknown));
        unknown = end;
    }
    return CLF_OK;
}
