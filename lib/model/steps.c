/* steps.c: lists of steps, and their application to words. */
#include "steps.h"

#include <stdlib.h>
#include <string.h>

void clf_step_clear(clf_step *step) {
    free(step->pattern);
    free(step->content);
    clf_regex_destroy(step->regex);
    clf_charsmap_destroy(step->charsmap);
    *step = (clf_step){0};
}

clf_status clf_steps_add(clf_steps *steps, clf_step step, clf_error *err) {
    clf_step *data = clf_grown(steps->data, &steps->capacity, steps->count + 1, sizeof *data);
    if (!data) {
        clf_step_clear(&step);
        return clf_fail(err, CLF_OUT_OF_MEMORY, "steps: out of memory");
    }
    steps->data = data;
    data[steps->count++] = step;
    return CLF_OK;
}

void clf_steps_clear(clf_steps *steps) {
    for (size_t i = 0; i < steps->count; i++) clf_step_clear(&steps->data[i]);
    free(steps->data);
    *steps = (clf_steps){0};
}

clf_status clf_step_set_pattern(clf_step *step, const char *pattern, size_t length, bool is_regex, clf_error *err) {
    if (is_regex) CLF_TRY(clf_regex_create(&step->regex, pattern, length, err));
    step->pattern = clf_copy(pattern, length);
    step->pattern_length = length;
    return step->pattern ? CLF_OK : clf_fail(err, CLF_OUT_OF_MEMORY, "pattern: out of memory");
}

clf_status clf_step_set_content(clf_step *step, const char *content, size_t length, clf_error *err) {
    step->content = clf_copy(content, length);
    step->content_length = length;
    return step->content ? CLF_OK : clf_fail(err, CLF_OUT_OF_MEMORY, "content: out of memory");
}

clf_status clf_words_begin(clf_words *words, const char *text, size_t length, clf_place place) {
    if (!words->matcher && !(words->matcher = clf_matcher_create())) return CLF_OUT_OF_MEMORY;
    words->text.length = words->spans.count = 0;
    words->place = place;
    return clf_text_append(&words->text, text, length) && clf_spans_append(&words->spans, 0, length)
               ? CLF_OK
               : CLF_OUT_OF_MEMORY;
}

void clf_words_clear(clf_words *words) {
    free(words->text.data);
    free(words->next_text.data);
    free(words->spans.data);
    free(words->next_spans.data);
    clf_matcher_destroy(words->matcher);
    *words = (clf_words){0};
}

/* Words into shorter words of the same text. */
static clf_status split(const clf_step *step, clf_words *words) {
    words->next_spans.count = 0;
    for (size_t i = 0; i < words->spans.count; i++)
        CLF_TRY(clf_split_word(step, words->matcher, words->text.data, words->spans.data[i], &words->next_spans));
    const clf_spans spans = words->spans;
    words->spans = words->next_spans;
    words->next_spans = spans;
    return CLF_OK;
}

/* As many words, of a new text. */
static clf_status rewrite(const clf_step *step, clf_words *words) {
    clf_text *out = &words->next_text;
    out->length = 0;
    if (!clf_text_append(out, "", 0)) return CLF_OUT_OF_MEMORY; /* an address, even if nothing is written */
    if (words->spans.count && words->spans.data[0].begin) words->place = CLF_PLACE_TOKEN; /* what was there is gone */
    for (size_t i = 0; i < words->spans.count; i++) {
        clf_span *word = &words->spans.data[i];
        const size_t begin = out->length;
        CLF_TRY(clf_normalize(step, words, words->text.data + word->begin, word->end - word->begin,
                              i == 0 ? words->place : CLF_PLACE_TOKEN, out));
        *word = (clf_span){begin, out->length};
    }
    const clf_text text = words->text;
    words->text = *out;
    words->next_text = text;
    return CLF_OK;
}

clf_status clf_steps_apply(const clf_steps *steps, clf_words *words) {
    for (size_t i = 0; i < steps->count; i++)
        CLF_TRY(steps->data[i].kind == CLF_STEP_SPLIT ? split(&steps->data[i], words)
                                                      : rewrite(&steps->data[i], words));
    return CLF_OK;
}
