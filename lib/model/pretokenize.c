/* pretokenize.c: splitting a word at the matches of a pattern. */
#include <string.h>

#include "steps.h"

/* Gathers the pieces of one word, in order, as the behaviour wants them. */
typedef struct clf_splitter {
    clf_split behaviour;
    bool invert, after_match; /* the piece before was a match */
    size_t first;             /* the word's first span in `out` */
    clf_spans *out;
} clf_splitter;

static bool add(clf_splitter *s, size_t begin, size_t end, bool is_match) {
    if (begin == end) return true;
    is_match ^= s->invert;
    clf_span *last = s->out->count > s->first ? &s->out->data[s->out->count - 1] : NULL;
    bool join = false;
    switch (s->behaviour) {
    case CLF_SPLIT_REMOVED:
        if (is_match) return true;
        break;
    case CLF_SPLIT_PREVIOUS: join = is_match && !s->after_match; break;
    case CLF_SPLIT_NEXT: join = !is_match && s->after_match; break;
    case CLF_SPLIT_CONTIGUOUS: join = is_match == s->after_match; break;
    case CLF_SPLIT_ISOLATED: break;
    }
    s->after_match = is_match;
    if (!join || !last) return clf_spans_append(s->out, begin, end);
    last->end = end;
    return true;
}

/* Where the next match begins and ends; 0: no more. */
static int find(const clf_step *step, clf_matcher *matcher, const char *text, size_t length, size_t from, size_t *begin,
                size_t *end) {
    if (step->regex) return clf_regex_find(step->regex, matcher, text, length, from, begin, end);
    const size_t n = step->pattern_length;
    for (const char *p = text + from; n && (size_t)(text + length - p) >= n; p++) {
        p = memchr(p, step->pattern[0], (size_t)(text + length - p) - n + 1);
        if (!p) return 0;
        if (memcmp(p, step->pattern, n) != 0) continue;
        *begin = (size_t)(p - text);
        *end = *begin + n;
        return 1;
    }
    return 0;
}

clf_status clf_split_word(const clf_step *step, clf_matcher *matcher, const char *text, clf_span word, clf_spans *out) {
    clf_splitter splitter = {step->behaviour, step->invert, false, out->count, out};
    const char *subject = text + word.begin;
    const size_t length = word.end - word.begin;
    size_t done = 0, from = 0, begin, end;
    while (from <= length) {
        const int found = find(step, matcher, subject, length, from, &begin, &end);
        if (found < 0) return CLF_UNSUPPORTED;
        if (!found) break;
        if (!add(&splitter, word.begin + done, word.begin + begin, false) ||
            !add(&splitter, word.begin + begin, word.begin + end, true))
            return CLF_OUT_OF_MEMORY;
        done = end;
        from = end > begin ? end : end < length ? end + clf_utf8_size(subject[end]) : length + 1;
    }
    return add(&splitter, word.begin + done, word.begin + length, false) ? CLF_OK : CLF_OUT_OF_MEMORY;
}
