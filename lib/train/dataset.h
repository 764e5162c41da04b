/* dataset.h: from files to samples. A file is indexed once, then read sample by sample; a sample is tokens, their
 * labels, and the sequences they are cut into. */
#ifndef CLF_TRAIN_DATASET_H
#define CLF_TRAIN_DATASET_H

#include <clformer/train.h>

#include "../core/status.h"
#include "../model/tokenizer_data.h"

/* One sample: one document, or the chosen and the rejected one. */
typedef struct clf_sample {
    clf_ids ids, labels; /* of all documents */
    clf_spans documents; /* in ids */
    bool running;        /* a part of running text: split */
    clf_spans sequences; /* what batches get, in ids; none: no target. Of a pair two or none */
    int64_t truncated;   /* 1: cut off */
    int64_t lost;        /* tokens cut off */
} clf_sample;

void clf_sample_clear(clf_sample *sample);
/* Appends a document; ids[k] is a target if k > 0 is in one of the n spans. */
clf_status clf_sample_add(clf_sample *sample, const int32_t *ids, size_t count, const clf_span *targets, size_t n,
                          clf_error *err);
/* Makes the sequences: at most `context` tokens each. */
clf_status clf_sample_cut(clf_sample *sample, size_t context, bool split, clf_error *err);

/* dataset_json.c: checks a line's object, and with `sample` appends its documents. CLF_BAD_FILE: a bad line. */
clf_status clf_dataset_json(const clf_dataset_args *args, const char *line, size_t length, clf_scratch *scratch,
                            clf_sample *sample, clf_error *err);
/* One document of plain text; a part of running text may lack its beginning or its end. */
clf_status clf_dataset_plain(const clf_tokenizer *tokenizer, const char *text, size_t length, bool begins, bool ends,
                             clf_scratch *scratch, clf_sample *sample, clf_error *err);

/* A file and where its samples begin. */
typedef struct clf_data_file {
    char *path;
    int fd; /* < 0: not open */
    uint64_t size;
    int64_t changed[2]; /* st_mtim */
    clf_dataset_format format;
    uint64_t hash;   /* XXH3 of all bytes */
    uint64_t *begin; /* [count]: in bytes; of tokens: [count + 1], in tokens */
    size_t count, capacity;
    uint64_t *lines; /* [count / CLF_LINES_EVERY + 1]: line numbers of every so manieth sample */
    size_t lines_capacity;
    bool running;          /* the samples are parts of one text */
    uint64_t tokenizer;    /* of tokens: hash of the tokenizer */
    bool masked, pairs;    /* of tokens: not all are targets; documents are chosen and rejected in turn */
    uint32_t width, vocab; /* of tokens: bytes of each; ids are below vocab */
} clf_data_file;

enum { CLF_LINES_EVERY = 256 };

/* dataset_file.c. Opens a regular file and finds out its format. */
clf_status clf_data_file_open(clf_data_file *file, const char *path, clf_dataset_format format, clf_error *err);
void clf_data_file_close(clf_data_file *file);
/* Reads all of [offset, offset + bytes); CLF_BAD_FILE if the file isn't as it was when it was opened. */
clf_status clf_data_file_read(const clf_data_file *file, uint64_t offset, void *data, uint64_t bytes, clf_error *err);
bool clf_data_file_append(clf_data_file *file, uint64_t begin);
/* A bad line, whose message is in `err`: CLF_OK if the caller of the library wants it left out. */
clf_status clf_dataset_bad(const clf_dataset_args *args, clf_error *err);

/* Each fills the index of its format, checking everything, counts lines left out, and hashes the file; and reads sample
 * i as documents appended to `sample` (none: refused and left out), with `text` as a buffer. */
clf_status clf_data_index_lines(clf_data_file *file, const clf_dataset_args *args, int64_t *skipped, clf_error *err);
clf_status clf_data_index_text(clf_data_file *file, const clf_dataset_args *args, clf_error *err);
clf_status clf_data_index_tokens(clf_data_file *file, const clf_dataset_args *args, clf_error *err);
clf_status clf_data_read_line(const clf_data_file *file, const clf_dataset_args *args, size_t i, clf_text *text,
                              clf_scratch *scratch, clf_sample *sample, clf_error *err);
clf_status clf_data_read_text(const clf_data_file *file, const clf_dataset_args *args, size_t i, clf_text *text,
                              clf_scratch *scratch, clf_sample *sample, clf_error *err);
clf_status clf_data_read_tokens(const clf_data_file *file, size_t i, clf_text *text, clf_sample *sample,
                                clf_error *err);

/* dataset_source.c: the files of a dataset one after another, shared by its views. */
typedef struct clf_data_source clf_data_source;

clf_status clf_data_source_create(clf_data_source **out, const clf_dataset_args *args, clf_error *err);
clf_data_source *clf_data_source_retain(clf_data_source *source);
void clf_data_source_release(clf_data_source *source); /* NULL is accepted */
uint64_t clf_data_source_count(const clf_data_source *source);
int64_t clf_data_source_skipped(const clf_data_source *source);
/* Of the files' bytes and the tokenizer. */
uint64_t clf_data_source_hash(const clf_data_source *source);
/* Whether every file is running text (1), none is (0), or some are (−1). */
int clf_data_source_running(const clf_data_source *source);
/* Ids are below it. */
uint32_t clf_data_source_vocab(const clf_data_source *source);
uint64_t clf_data_source_tokenizer(const clf_data_source *source); /* its hash */
/* Of the vocabulary: equal for tokenizers that number the same pieces alike. */
uint64_t clf_tokenizer_hash(const clf_tokenizer *tokenizer);
/* Reads sample i uncut; without documents: refused and left out. */
clf_status clf_data_source_read(const clf_data_source *source, const clf_dataset_args *args, uint64_t i, clf_text *text,
                                clf_scratch *scratch, clf_sample *sample, clf_error *err);

/* dataset_tokens.c: writes a token file from samples that come one by one. */
typedef clf_status clf_next_sample(void *user, const clf_sample **sample, clf_error *err); /* NULL: the end */
clf_status clf_tokens_write(const char *path, const clf_data_source *source, bool pairs, clf_next_sample *next,
                            void *user, clf_error *err);

#endif
