/* dataset_source.c: the files of a dataset, one numbering of all their samples, and what identifies them. After it is
 * made it doesn't change, so that views in several threads may share it. */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "../core/checked.h"
#include "dataset.h"

struct clf_data_source {
    atomic_int references;
    clf_data_file *files;
    uint64_t *first; /* [n + 1]: the number of each file's first sample */
    size_t n;
    int64_t skipped;
    uint64_t hash, tokenizer;
    uint32_t vocab;
};

void clf_data_source_release(clf_data_source *s) {
    if (!s || atomic_fetch_sub(&s->references, 1) > 1) return;
    for (size_t i = 0; i < s->n; i++) clf_data_file_close(&s->files[i]);
    free(s->files);
    free(s->first);
    free(s);
}

clf_data_source *clf_data_source_retain(clf_data_source *s) {
    atomic_fetch_add(&s->references, 1);
    return s;
}

static clf_status index_file(clf_data_source *s, clf_data_file *file, const clf_dataset_args *args, clf_error *err) {
    const char *path = file->path;
    if (file->format == CLF_DATASET_TOKENS) {
        CLF_TRY(clf_data_index_tokens(file, args, err));
        CLF_CHECK(err, !s->tokenizer || s->tokenizer == file->tokenizer, CLF_BAD_FILE,
                  "%s: tokens of another tokenizer", path);
        s->tokenizer = file->tokenizer;
        s->vocab = file->vocab;
        return CLF_OK;
    }
    CLF_CHECK(err, args->tokenizer, CLF_INVALID_ARGUMENT, "dataset: tokenizer: expected one for %s, got NULL", path);
    s->vocab = (uint32_t)clf_tokenizer_size(args->tokenizer);
    CLF_CHECK(err, file->format == CLF_DATASET_JSONL || !args->preference, CLF_INVALID_ARGUMENT,
              "dataset: preference: expected JSON lines or tokens, got the text %s", path);
    CLF_TRY(file->format == CLF_DATASET_JSONL ? clf_data_index_lines(file, args, &s->skipped, err)
                                              : clf_data_index_text(file, args, err));
    CLF_CHECK(err, file->count, CLF_BAD_FILE, "%s: no sample", path);
    return CLF_OK;
}

uint64_t clf_tokenizer_hash(const clf_tokenizer *t) {
    uint64_t hash = 0;
    for (int32_t i = 0; i < clf_tokenizer_size(t); i++) {
        const char *piece = clf_tokenizer_piece(t, i);
        hash = XXH3_64bits_withSeed(piece, strlen(piece), hash);
    }
    const int32_t ends[2] = {clf_tokenizer_bos(t), clf_tokenizer_eos(t)};
    return XXH3_64bits_withSeed(ends, sizeof ends, hash);
}

clf_status clf_data_source_create(clf_data_source **out, const clf_dataset_args *args, clf_error *err) {
    const size_t n = args->path ? 1 : args->n_paths;
    clf_data_source *s = *out = calloc(1, sizeof *s);
    CLF_CHECK(err, s, CLF_OUT_OF_MEMORY, "dataset: out of memory");
    atomic_init(&s->references, 1);
    s->files = calloc(n, sizeof *s->files);
    s->first = calloc(n + 1, sizeof *s->first);
    CLF_CHECK(err, s->files && s->first, CLF_OUT_OF_MEMORY, "dataset: out of memory");
    s->hash = s->tokenizer = args->tokenizer ? clf_tokenizer_hash(args->tokenizer) : 0;
    for (size_t i = 0; i < n; i++) {
        clf_data_file *file = &s->files[i];
        s->n = i + 1; /* to be closed, also half open */
        CLF_TRY(clf_data_file_open(file, args->path ? args->path : args->paths[i], args->format, err));
        CLF_TRY(index_file(s, file, args, err));
        s->first[i + 1] = s->first[i] + file->count;
        s->hash = XXH3_64bits_withSeed(&file->hash, sizeof file->hash, s->hash);
    }
    return CLF_OK;
}

uint64_t clf_data_source_count(const clf_data_source *s) {
    return s->first[s->n];
}

int64_t clf_data_source_skipped(const clf_data_source *s) {
    return s->skipped;
}

uint64_t clf_data_source_hash(const clf_data_source *s) {
    return s->hash;
}

uint32_t clf_data_source_vocab(const clf_data_source *s) {
    return s->vocab;
}

uint64_t clf_data_source_tokenizer(const clf_data_source *s) {
    return s->tokenizer;
}

int clf_data_source_running(const clf_data_source *s) {
    size_t running = 0;
    for (size_t i = 0; i < s->n; i++) running += s->files[i].running;
    return running == 0 ? 0 : running == s->n ? 1 : -1;
}

clf_status clf_data_source_read(const clf_data_source *s, const clf_dataset_args *args, uint64_t i, clf_text *text,
                                clf_scratch *scratch, clf_sample *sample, clf_error *err) {
    size_t low = 0, high = s->n; /* first[low] <= i < first[high] */
    while (high - low > 1) {
        const size_t middle = low + (high - low) / 2;
        if (s->first[middle] <= i)
            low = middle;
        else
            high = middle;
    }
    const clf_data_file *file = &s->files[low];
    const size_t k = (size_t)(i - s->first[low]);
    sample->ids.count = sample->labels.count = sample->documents.count = 0;
    sample->running = file->running;
    switch (file->format) {
    case CLF_DATASET_TOKENS: return clf_data_read_tokens(file, k, text, sample, err);
    case CLF_DATASET_TEXT: return clf_data_read_text(file, args, k, text, scratch, sample, err);
    default: return clf_data_read_line(file, args, k, text, scratch, sample, err);
    }
}
