/* tokenizer_build.c: filling a tokenizer, building its tables, freeing it. */
#include <stdlib.h>
#include <string.h>

#include "tokenizer_data.h"

clf_status clf_tokenizer_new(clf_tokenizer **out, clf_error *err) {
    clf_tokenizer *t = *out = calloc(1, sizeof *t);
    if (!t) return clf_fail(err, CLF_OUT_OF_MEMORY, "tokenizer: out of memory");
    t->unknown = t->bos = t->eos = -1;
    return CLF_OK;
}

void clf_tokenizer_destroy(clf_tokenizer *t) {
    if (!t) return;
    clf_vocab_clear(&t->vocab);
    free(t->merges.list);
    free(t->merges.slots);
    free(t->ranks);
    clf_prefixes_clear(&t->pieces);
    clf_prefixes_clear(&t->raw_added);
    clf_prefixes_clear(&t->normalized_added);
    clf_steps_clear(&t->normalize);
    clf_steps_clear(&t->split);
    clf_steps_clear(&t->decode);
    for (size_t i = 0; i < t->n_added; i++) free(t->added[i].text);
    free(t->added);
    free(t->before.data);
    free(t->after.data);
    free(t->chat_template);
    free(t);
}

clf_status clf_tokenizer_add_merge(clf_tokenizer *t, int32_t left, int32_t right, int32_t id, clf_error *err) {
    clf_merges *merges = &t->merges;
    clf_merge *list = clf_grown(merges->list, &merges->capacity, merges->count + 1, sizeof *list);
    if (!list || merges->count >= (size_t)CLF_MAX_PIECES * 4)
        return clf_fail(err, CLF_OUT_OF_MEMORY, "merges: out of memory");
    merges->list = list;
    list[merges->count] = (clf_merge){left, right, id, (int32_t)merges->count};
    merges->count++;
    return CLF_OK;
}

/* Leaves out merges that would make special tokens out of text. */
static clf_status index_merges(clf_merges *merges, const clf_vocab *vocab, clf_error *err) {
    uint32_t size = 16;
    while (size < 2 * merges->count) size *= 2;
    if (!(merges->slots = malloc(size * sizeof *merges->slots)))
        return clf_fail(err, CLF_OUT_OF_MEMORY, "merges: out of memory");
    memset(merges->slots, 0xFF, size * sizeof *merges->slots);
    merges->mask = size - 1;
    for (size_t i = 0; i < merges->count; i++) {
        const clf_merge merge = merges->list[i];
        const clf_piece *made = &vocab->pieces[merge.id];
        if (clf_piece_is_special(made) || made->kind == CLF_PIECE_BYTE) continue;
        if (clf_merges_find(merges, merge.left, merge.right)) continue; /* the first one counts */
        const uint64_t key = (uint64_t)(uint32_t)merge.left << 32 | (uint32_t)merge.right;
        uint32_t slot = (uint32_t)(key * 0x9E3779B97F4A7C15u >> 32) & merges->mask;
        while (merges->slots[slot].left >= 0) slot = (slot + 1) & merges->mask;
        merges->slots[slot] = merge;
    }
    free(merges->list);
    merges->list = NULL;
    return CLF_OK;
}

typedef struct clf_scored {
    double score;
    int32_t id;
} clf_scored;

static int by_score(const void *a, const void *b) {
    const double x = ((const clf_scored *)a)->score, y = ((const clf_scored *)b)->score;
    return (x < y) - (x > y);
}

static clf_status rank_scores(clf_tokenizer *t, clf_error *err) {
    const size_t n = (size_t)t->vocab.count;
    clf_scored *scored = malloc((n + 1) * sizeof *scored);
    t->ranks = malloc((n + 1) * sizeof *t->ranks);
    if (!scored || !t->ranks) {
        free(scored);
        return clf_fail(err, CLF_OUT_OF_MEMORY, "scores: out of memory");
    }
    for (size_t i = 0; i < n; i++) scored[i] = (clf_scored){t->vocab.pieces[i].score, (int32_t)i};
    qsort(scored, n, sizeof *scored, by_score);
    int32_t rank = 0;
    for (size_t i = 0; i < n; i++) {
        if (i && scored[i].score < scored[i - 1].score) rank++;
        t->ranks[scored[i].id] = rank;
    }
    free(scored);
    return CLF_OK;
}

static clf_status index_unigram(clf_tokenizer *t, clf_error *err) {
    clf_prefix *entries = malloc(((size_t)t->vocab.count + 1) * sizeof *entries);
    if (!entries) return clf_fail(err, CLF_OUT_OF_MEMORY, "vocabulary: out of memory");
    size_t n = 0;
    double lowest = 0;
    for (int32_t id = 0; id < t->vocab.count; id++) {
        const clf_piece *piece = &t->vocab.pieces[id];
        if (clf_piece_is_special(piece) || piece->kind == CLF_PIECE_BYTE) continue;
        if (n == 0 || piece->score < lowest) lowest = piece->score;
        entries[n++] = (clf_prefix){clf_vocab_text(&t->vocab, id), piece->length, id};
    }
    clf_prefixes_init(&t->pieces, entries, n);
    t->unknown_score = lowest - 10;
    return CLF_OK;
}

clf_status clf_tokenizer_add_added(clf_tokenizer *t, clf_added added, clf_error *err) {
    clf_piece *piece = &t->vocab.pieces[added.id];
    clf_added *list = clf_grown(t->added, &t->added_capacity, t->n_added + 1, sizeof *list);
    if (!list) return clf_fail(err, CLF_OUT_OF_MEMORY, "added tokens: out of memory");
    t->added = list;
    list[t->n_added++] = added;
    if (piece->kind != CLF_PIECE_UNKNOWN) piece->kind = added.special ? CLF_PIECE_CONTROL : CLF_PIECE_USER;
    return CLF_OK;
}

/* Spelling of what is looked for in normalized text: normalized too. */
static clf_status normalize_added(clf_tokenizer *t, clf_words *words, clf_added *added) {
    if (!added->normalized || t->normalize.count == 0) return CLF_OK;
    const clf_piece *piece = &t->vocab.pieces[added->id];
    CLF_TRY(clf_words_begin(words, clf_vocab_text(&t->vocab, added->id), piece->length, CLF_PLACE_TOKEN));
    CLF_TRY(clf_steps_apply(&t->normalize, words));
    added->text = clf_copy(words->text.data, words->text.length);
    added->text_length = words->text.length;
    return added->text ? CLF_OK : CLF_OUT_OF_MEMORY;
}

static clf_status index_added(clf_tokenizer *t, clf_error *err) {
    clf_words words = {0};
    for (size_t i = 0; i < t->n_added; i++) {
        const clf_piece *piece = &t->vocab.pieces[t->added[i].id];
        const char *text = clf_vocab_text(&t->vocab, t->added[i].id);
        t->added[i].found = clf_utf8_valid(text, piece->length); /* other bytes would cut code points */
        if (!t->added[i].found) continue;
        const clf_status st = normalize_added(t, &words, &t->added[i]);
        if (st != CLF_OK) {
            clf_words_clear(&words);
            return clf_fail(err, st, "added token \"%.100s\": can't be normalized", text);
        }
    }
    clf_words_clear(&words);
    for (int normalized = 0; normalized < 2; normalized++) {
        clf_prefix *entries = malloc((t->n_added + 1) * sizeof *entries);
        if (!entries) return clf_fail(err, CLF_OUT_OF_MEMORY, "added tokens: out of memory");
        size_t n = 0;
        for (size_t i = 0; i < t->n_added; i++) {
            const clf_added *a = &t->added[i];
            if (!a->found || a->normalized != normalized) continue;
            entries[n].text = a->text ? a->text : clf_vocab_text(&t->vocab, a->id);
            entries[n].length = (uint32_t)(a->text ? a->text_length : t->vocab.pieces[a->id].length);
            entries[n++].value = (int32_t)i;
        }
        clf_prefixes_init(normalized ? &t->normalized_added : &t->raw_added, entries, n);
    }
    return CLF_OK;
}

static clf_status add_with(clf_steps *steps, clf_step step, const char *pattern, const char *content, clf_error *err) {
    clf_status st = pattern ? clf_step_set_pattern(&step, pattern, strlen(pattern), false, err) : CLF_OK;
    if (st == CLF_OK) st = clf_step_set_content(&step, content, strlen(content), err);
    if (st == CLF_OK) return clf_steps_add(steps, step, err);
    clf_step_clear(&step);
    return st;
}

clf_status clf_tokenizer_set_spaces(clf_tokenizer *t, bool prefix, bool first_only, bool squeeze, bool escape,
                                    clf_error *err) {
    if (squeeze) CLF_TRY(clf_steps_add(&t->normalize, (clf_step){.kind = CLF_STEP_SQUEEZE}, err));
    if (prefix)
        CLF_TRY(add_with(&t->normalize, (clf_step){.kind = CLF_STEP_PREFIX, .first_only = first_only}, NULL, " ", err));
    if (escape) {
        CLF_TRY(add_with(&t->normalize, (clf_step){.kind = CLF_STEP_REPLACE}, " ", CLF_LOW_LINE, err));
        CLF_TRY(add_with(&t->decode, (clf_step){.kind = CLF_STEP_REPLACE}, CLF_LOW_LINE, " ", err));
    }
    if (prefix) CLF_TRY(add_with(&t->decode, (clf_step){.kind = CLF_STEP_STRIP_BEGINNING, .left = 1}, NULL, " ", err));
    return CLF_OK;
}

void clf_tokenizer_mark_end(clf_tokenizer *t, int64_t id) {
    if (id >= 0 && id < t->vocab.count) t->vocab.pieces[id].end = true;
}

/* Byte pieces by kind or by spelling; a single byte may spell itself. */
static clf_status check_bytes(clf_tokenizer *t, clf_error *err) {
    for (int32_t id = 0; id < t->vocab.count; id++) {
        clf_piece *piece = &t->vocab.pieces[id];
        const char *text = clf_vocab_text(&t->vocab, id);
        const int byte = clf_byte_of_piece(text, piece->length);
        if (t->byte_pieces && piece->kind == CLF_PIECE_NORMAL && byte >= 0) piece->kind = CLF_PIECE_BYTE;
        CLF_CHECK(err, piece->kind != CLF_PIECE_BYTE || byte >= 0 || piece->length == 1, CLF_BAD_FILE,
                  "token %d: expected a byte as \"<0x0A>\", got \"%.60s\"", id, text);
    }
    return CLF_OK;
}

/* Whether every piece has U+2581 at its beginning only, as vocabularies of words have. */
static bool begins_words(const clf_vocab *vocab) {
    if (clf_vocab_find_plain(vocab, CLF_LOW_LINE, 3) < 0) return false;
    for (int32_t id = 0; id < vocab->count; id++) {
        const char *text = clf_vocab_text(vocab, id);
        if (clf_piece_is_special(&vocab->pieces[id])) continue;
        while (strncmp(text, CLF_LOW_LINE, 3) == 0) text += 3;
        if (strstr(text, CLF_LOW_LINE)) return false;
    }
    return true;
}

/* BPE over a whole text is BPE over its words, then, as nothing can merge across U+2581; and short heaps are quick. */
static clf_status split_words(clf_tokenizer *t, clf_error *err) {
    static const char pattern[] = "\\x{2581}*[^\\x{2581}]+|\\x{2581}+";
    if (t->kind == CLF_TOKENIZER_UNIGRAM || t->byte_level || t->ignore_merges || !begins_words(&t->vocab))
        return CLF_OK;
    clf_step step = {.kind = CLF_STEP_SPLIT};
    CLF_TRY(clf_step_set_pattern(&step, pattern, sizeof pattern - 1, true, err));
    return clf_steps_add(&t->split, step, err);
}

clf_status clf_tokenizer_finish(clf_tokenizer *t, clf_error *err) {
    static const char *const ends[] = {
        "<|eot_id|>",      "<|eom_id|>",      "<|im_end|>", "<|end|>", "<end_of_turn>",
        "<|endoftext|>",   "<|end_of_text|>", "<|return|>", "<EOT>",   "<｜end▁of▁sentence｜>",
        "<|end_of_turn|>", "<|eos|>"};
    CLF_CHECK(err, t->vocab.count > 0, CLF_BAD_FILE, "vocabulary: expected tokens, got none");
    if (!t->vocab.slots) CLF_TRY(clf_vocab_index(&t->vocab, err));
    CLF_TRY(check_bytes(t, err));
    clf_vocab_index_bytes(&t->vocab, t->byte_level);
    if (t->kind == CLF_TOKENIZER_MERGES) CLF_TRY(index_merges(&t->merges, &t->vocab, err));
    if (t->kind == CLF_TOKENIZER_SCORES) CLF_TRY(rank_scores(t, err));
    if (t->kind == CLF_TOKENIZER_UNIGRAM) CLF_TRY(index_unigram(t, err));
    CLF_TRY(index_added(t, err));
    CLF_TRY(split_words(t, err));
    if (t->bos < 0 || t->bos >= t->vocab.count) t->bos = -1;
    if (t->eos < 0 || t->eos >= t->vocab.count) t->eos = -1;
    clf_tokenizer_mark_end(t, t->eos);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        const int32_t id = clf_vocab_find(&t->vocab, ends[i], strlen(ends[i]));
        if (id >= 0 && t->vocab.pieces[id].kind != CLF_PIECE_NORMAL) clf_tokenizer_mark_end(t, id);
    }
    t->chat = clf_chat_recognise(t->chat_template);
    return CLF_OK;
}
