/* dataset_sample.c: labels of documents, and the sequences that they are cut into.
 *
 *     label[k] = ids[k + 1] where ids[k + 1] is a target, CLF_LABEL_NONE elsewhere
 *
 * Labels are made before the cut: the last token of a sequence that was cut keeps its own, so that every target of a
 * split document is trained once. */
#include <stdlib.h>

#include "dataset.h"

void clf_sample_clear(clf_sample *s) {
    free(s->ids.data);
    free(s->labels.data);
    free(s->documents.data);
    free(s->sequences.data);
    *s = (clf_sample){0};
}

static clf_status out_of_memory(clf_error *err) {
    return clf_fail(err, CLF_OUT_OF_MEMORY, "dataset: out of memory for a sample");
}

clf_status clf_sample_add(clf_sample *s, const int32_t *ids, size_t count, const clf_span *targets, size_t n,
                          clf_error *err) {
    const size_t begin = s->ids.count;
    for (size_t k = 0; k < count; k++)
        if (!clf_ids_append(&s->ids, ids[k]) || !clf_ids_append(&s->labels, CLF_LABEL_NONE)) return out_of_memory(err);
    for (size_t i = 0; i < n; i++)
        for (size_t k = targets[i].begin ? targets[i].begin : 1; k < targets[i].end && k < count; k++)
            s->labels.data[begin + k - 1] = ids[k];
    return clf_spans_append(&s->documents, begin, begin + count) ? CLF_OK : out_of_memory(err);
}

static bool has_target(const clf_sample *s, size_t begin, size_t end) {
    for (size_t k = begin; k < end; k++)
        if (s->labels.data[k] != CLF_LABEL_NONE) return true;
    return false;
}

clf_status clf_sample_cut(clf_sample *s, size_t context, bool split, clf_error *err) {
    s->sequences.count = 0;
    s->truncated = s->lost = 0;
    for (size_t d = 0; d < s->documents.count; d++) {
        const clf_span document = s->documents.data[d];
        size_t begin = document.begin, end;
        do {
            end = document.end - begin < context ? document.end : begin + context;
            if (has_target(s, begin, end) && !clf_spans_append(&s->sequences, begin, end)) return out_of_memory(err);
            begin = end;
        } while (split && end < document.end);
        if (has_target(s, end, document.end)) {
            s->truncated = 1;
            s->lost += (int64_t)(document.end - end);
        }
    }
    if (s->documents.count == 2 && s->sequences.count < 2) s->sequences.count = 0; /* half a pair teaches nothing */
    if (!s->sequences.count) s->truncated = s->lost = 0;
    return CLF_OK;
}
