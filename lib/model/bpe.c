/* bpe.c: byte-pair encoding in O(n log n): symbols are a doubly linked list, candidate merges a heap ordered by rank,
 * then by position.
 *
 * A word begins as its code points. Two neighbours can merge if the list of merges has the pair (MERGES), or if their
 * concatenation is a piece (SCORES, ranks from scores). A candidate is stale when its symbols have changed since, which
 * shows in what the pair makes now.
 *
 * MERGES goes by ids, so what is no piece becomes byte tokens, the unknown token, or nothing, before the merging;
 * SCORES goes by spellings, where two unknown code points can make a piece, so what is no piece then is known
 * afterwards. */
#include <string.h>

#include "tokenizer_data.h"

static bool before(const clf_candidate *a, const clf_candidate *b) {
    return a->rank != b->rank ? a->rank < b->rank : a->position < b->position;
}

static bool push(clf_scratch *s, clf_candidate item) {
    clf_candidate *heap = clf_grown(s->heap, &s->heap_capacity, s->heap_count + 1, sizeof *heap);
    if (!heap) return false;
    s->heap = heap;
    size_t at = s->heap_count++;
    for (size_t up; at > 0 && before(&item, &heap[up = (at - 1) / 2]); at = up) heap[at] = heap[up];
    heap[at] = item;
    return true;
}

static clf_candidate pop(clf_scratch *s) {
    clf_candidate *heap = s->heap;
    const clf_candidate top = heap[0], item = heap[--s->heap_count];
    size_t at = 0;
    for (size_t down; (down = 2 * at + 1) < s->heap_count; at = down) {
        if (down + 1 < s->heap_count && before(&heap[down + 1], &heap[down])) down++;
        if (!before(&heap[down], &item)) break;
        heap[at] = heap[down];
    }
    heap[at] = item;
    return top;
}

/* What the symbol at `position` and the next one make: id and rank; false: nothing. */
static bool join(const clf_tokenizer *t, const clf_symbol *symbols, const char *word, int32_t position, int32_t *id,
                 int32_t *rank) {
    const clf_symbol *left = &symbols[position];
    if (left->next < 0) return false;
    const clf_symbol *right = &symbols[left->next];
    if (t->kind == CLF_TOKENIZER_SCORES) {
        const int32_t found = clf_vocab_find_plain(&t->vocab, word + left->begin, (size_t)left->length + right->length);
        if (found < 0) return false;
        *id = found;
        *rank = t->ranks[found];
        return true;
    }
    const clf_merge *found = clf_merges_find(&t->merges, left->id, right->id);
    if (!found) return false;
    *id = found->id;
    *rank = found->rank;
    return true;
}

static bool offer(const clf_tokenizer *t, clf_scratch *s, const char *word, int32_t position) {
    clf_candidate item = {.position = position};
    return position < 0 || !join(t, s->symbols, word, position, &item.id, &item.rank) || push(s, item);
}

/* The word's code points as symbols. */
static clf_status begin_scores(const clf_tokenizer *t, clf_scratch *s, const char *word, size_t length, int32_t *n) {
    clf_symbol *symbols = clf_grown(s->symbols, &s->symbols_capacity, length, sizeof *symbols);
    if (!symbols) return CLF_OUT_OF_MEMORY;
    s->symbols = symbols;
    *n = 0;
    for (size_t i = 0, size; i < length; i += size, ++*n) {
        size = clf_utf8_size(word[i]);
        symbols[*n] = (clf_symbol){(uint32_t)i, (uint32_t)size, clf_vocab_find_plain(&t->vocab, word + i, size), *n - 1,
                                   i + size < length ? *n + 1 : -1};
    }
    return CLF_OK;
}

/* The word's code points as ids, one symbol each. */
static clf_status begin_merges(const clf_tokenizer *t, clf_scratch *s, const char *word, size_t length, int32_t *n) {
    const size_t ids = s->ids.count;
    bool after_unknown = false;
    for (size_t i = 0, size; i < length; i += size) {
        size = clf_utf8_size(word[i]);
        const int32_t id = clf_vocab_find_plain(&t->vocab, word + i, size);
        if (id < 0) {
            CLF_TRY(clf_emit_unknown(t, s, word + i, size, &after_unknown));
        } else {
            after_unknown = false;
            if (!clf_ids_append(&s->ids, id)) return CLF_OUT_OF_MEMORY;
        }
    }
    *n = (int32_t)(s->ids.count - ids);
    clf_symbol *symbols = clf_grown(s->symbols, &s->symbols_capacity, (size_t)*n, sizeof *symbols);
    if (!symbols) return CLF_OUT_OF_MEMORY;
    s->symbols = symbols;
    for (int32_t i = 0; i < *n; i++)
        symbols[i] = (clf_symbol){0, 1, s->ids.data[ids + (size_t)i], i - 1, i + 1 < *n ? i + 1 : -1};
    s->ids.count = ids;
    return CLF_OK;
}

clf_status clf_bpe(const clf_tokenizer *t, clf_scratch *s, const char *word, size_t length) {
    if (length > INT32_MAX) return CLF_OUT_OF_MEMORY;
    if (t->ignore_merges) {
        const int32_t id = clf_vocab_find_plain(&t->vocab, word, length);
        if (id >= 0) return clf_ids_append(&s->ids, id) ? CLF_OK : CLF_OUT_OF_MEMORY;
    }
    int32_t n;
    CLF_TRY((t->kind == CLF_TOKENIZER_SCORES ? begin_scores : begin_merges)(t, s, word, length, &n));
    clf_symbol *symbols = s->symbols;
    if (!n) return CLF_OK;

    s->heap_count = 0;
    for (int32_t i = 0; i < n; i++)
        if (!offer(t, s, word, i)) return CLF_OUT_OF_MEMORY;
    while (s->heap_count) {
        const clf_candidate top = pop(s);
        clf_symbol *left = &symbols[top.position];
        int32_t id, rank;
        if (!left->length || !join(t, symbols, word, top.position, &id, &rank) || id != top.id) continue;
        clf_symbol *right = &symbols[left->next];
        left->id = id;
        left->length += right->length;
        left->next = right->next;
        right->length = 0;
        if (left->next >= 0) symbols[left->next].previous = top.position;
        if (!offer(t, s, word, left->previous) || !offer(t, s, word, top.position)) return CLF_OUT_OF_MEMORY;
    }

    bool after_unknown = false;
    for (int32_t i = 0; i >= 0; i = symbols[i].next) {
        if (symbols[i].id < 0) {
            CLF_TRY(clf_emit_unknown(t, s, word + symbols[i].begin, symbols[i].length, &after_unknown));
        } else {
            after_unknown = false;
            if (!clf_ids_append(&s->ids, symbols[i].id)) return CLF_OUT_OF_MEMORY;
        }
    }
    return CLF_OK;
}
