/* dataset_tokens.c: reading and writing files of tokens, whose layout is in tokens.h. A file is checked as a whole when
 * it is opened: its hash, and every id and end. */
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "../core/checked.h"
#include "../core/output_file.h"
#include "dataset.h"
#include "tokens.h"

enum { BLOCK = 1 << 20, MAX_DOCUMENT = 1 << 28 };

static uint64_t ends_at(const clf_tokens_header *h) {
    return sizeof *h + ((h->tokens * h->width + 7) & ~(uint64_t)7);
}

static int32_t id_at(const void *ids, uint32_t width, size_t i) {
    if (width == 2) {
        uint16_t id;
        memcpy(&id, (const char *)ids + 2 * i, sizeof id);
        return id;
    }
    uint32_t id;
    memcpy(&id, (const char *)ids + 4 * i, sizeof id);
    return (int32_t)id;
}

static clf_status check_header(const clf_data_file *file, const clf_dataset_args *args, const clf_tokens_header *h,
                               clf_error *err) {
    const char *path = file->path;
    uint64_t size;
    CLF_CHECK(err, memcmp(h->magic, CLF_TOKENS_MAGIC, sizeof h->magic) == 0, CLF_BAD_FILE,
              "%s: expected a file of tokens", path);
    CLF_CHECK(err, h->version == CLF_TOKENS_VERSION, CLF_BAD_FILE, "%s: version: expected %d, got %u", path,
              CLF_TOKENS_VERSION, h->version);
    CLF_CHECK(err, h->width == 2 || h->width == 4, CLF_BAD_FILE, "%s: bytes of an id: expected 2 or 4, got %u", path,
              h->width);
    CLF_CHECK(err, h->vocab > 0 && h->vocab <= (h->width == 2 ? 1u << 16 : 1u << 31), CLF_BAD_FILE,
              "%s: vocabulary: %u ids don't fit in %u bytes", path, h->vocab, h->width);
    CLF_CHECK(err, !args->tokenizer || h->vocab == (uint32_t)clf_tokenizer_size(args->tokenizer), CLF_BAD_FILE,
              "%s: vocabulary: expected the tokenizer's %d ids, got %u", path, (int)clf_tokenizer_size(args->tokenizer),
              h->vocab);
    CLF_CHECK(err, (h->flags & ~(uint32_t)CLF_TOKENS_FLAGS) == 0 && h->zero == 0, CLF_BAD_FILE,
              "%s: unknown flags 0x%x", path, h->flags);
    CLF_CHECK(err, args->preference == ((h->flags & CLF_TOKENS_PAIRS) != 0), CLF_BAD_FILE, "%s: expected %s, got %s",
              path, args->preference ? "pairs" : "single documents", args->preference ? "single documents" : "pairs");
    CLF_CHECK(err, h->documents > 0 && h->tokens > 0 && !(args->preference && h->documents % 2), CLF_BAD_FILE,
              "%s: %llu tokens in %llu documents", path, (unsigned long long)h->tokens,
              (unsigned long long)h->documents);
    /* each is held by the file, so nothing below overflows once both are less than its size */
    CLF_CHECK(err, h->tokens < file->size && h->documents < file->size && file->size < (uint64_t)1 << 59, CLF_BAD_FILE,
              "%s: %llu tokens in %llu documents do not fit in %llu bytes", path, (unsigned long long)h->tokens,
              (unsigned long long)h->documents, (unsigned long long)file->size);
    size = ends_at(h) + 8 * h->documents + (h->flags & CLF_TOKENS_MASKED ? (h->tokens + 7) / 8 : 0);
    CLF_CHECK(err, size == file->size, CLF_BAD_FILE, "%s: expected %llu bytes, got %llu", path,
              (unsigned long long)size, (unsigned long long)file->size);
    return CLF_OK;
}

/* Checks the ids among the n bytes at `at`, which is a multiple of the width. */
static clf_status check_ids(const clf_data_file *file, const clf_tokens_header *h, const char *data, size_t n,
                            uint64_t at, clf_error *err) {
    const uint64_t begin = sizeof *h, end = begin + h->tokens * h->width;
    for (size_t i = 0; at + (i + 1) * h->width <= end && (i + 1) * h->width <= n; i++) {
        const uint32_t id = (uint32_t)id_at(data, h->width, i);
        CLF_CHECK(err, id < h->vocab, CLF_BAD_FILE, "%s: token %llu: expected an id below %u, got %u", file->path,
                  (unsigned long long)((at - begin) / h->width + i), h->vocab, id);
    }
    return CLF_OK;
}

static clf_status read_ends(clf_data_file *file, const clf_tokens_header *h, clf_error *err) {
    uint64_t *begin = malloc((size_t)(h->documents + 1) * sizeof *begin);
    CLF_CHECK(err, begin, CLF_OUT_OF_MEMORY, "%s: out of memory", file->path);
    file->begin = begin;
    begin[0] = 0;
    CLF_TRY(clf_data_file_read(file, ends_at(h), begin + 1, 8 * h->documents, err));
    for (uint64_t i = 0; i < h->documents; i++)
        CLF_CHECK(err, begin[i + 1] >= begin[i] && begin[i + 1] - begin[i] <= MAX_DOCUMENT, CLF_BAD_FILE,
                  "%s: document %llu: expected at most %d tokens", file->path, (unsigned long long)i, MAX_DOCUMENT);
    CLF_CHECK(err, begin[h->documents] == h->tokens, CLF_BAD_FILE, "%s: the documents don't end with the tokens",
              file->path);
    file->count = (size_t)h->documents / (file->pairs ? 2 : 1);
    return CLF_OK;
}

/* The header's hash, and through `content` that of what follows it. */
static uint64_t hash_all(const clf_tokens_header *header, uint64_t content) {
    clf_tokens_header h = *header;
    h.hash = 0;
    return XXH3_64bits_withSeed(&h, sizeof h, content);
}

static clf_status check_content(const clf_data_file *file, const clf_tokens_header *h, XXH3_state_t *hash, char *block,
                                clf_error *err) {
    XXH3_64bits_reset(hash);
    for (uint64_t at = sizeof *h; at < file->size; at += BLOCK) {
        const size_t n = file->size - at < BLOCK ? (size_t)(file->size - at) : BLOCK;
        CLF_TRY(clf_data_file_read(file, at, block, n, err));
        XXH3_64bits_update(hash, block, n);
        CLF_TRY(check_ids(file, h, block, n, at, err));
    }
    CLF_CHECK(err, hash_all(h, XXH3_64bits_digest(hash)) == h->hash, CLF_BAD_FILE,
              "%s: the checksum is another: the file is damaged", file->path);
    return CLF_OK;
}

clf_status clf_data_index_tokens(clf_data_file *file, const clf_dataset_args *args, clf_error *err) {
    clf_tokens_header h;
    CLF_CHECK(err, file->size >= sizeof h, CLF_BAD_FILE, "%s: expected a file of tokens", file->path);
    CLF_TRY(clf_data_file_read(file, 0, &h, sizeof h, err));
    CLF_TRY(check_header(file, args, &h, err));
    file->width = h.width;
    file->vocab = h.vocab;
    file->masked = h.flags & CLF_TOKENS_MASKED;
    file->pairs = h.flags & CLF_TOKENS_PAIRS;
    file->running = h.flags & CLF_TOKENS_RUNNING;
    char *block = malloc(BLOCK);
    XXH3_state_t *hash = XXH3_createState();
    clf_status st = block && hash ? check_content(file, &h, hash, block, err)
                                  : clf_fail(err, CLF_OUT_OF_MEMORY, "%s: out of memory", file->path);
    XXH3_freeState(hash);
    free(block);
    file->hash = h.hash;
    file->tokenizer = h.tokenizer;
    return st == CLF_OK ? read_ends(file, &h, err) : st;
}

/* The spans of targets among `count` tokens from `begin` on. */
static clf_status read_mask(const clf_data_file *file, uint64_t begin, size_t count, clf_spans *targets,
                            clf_error *err) {
    const uint64_t tokens = file->begin[file->count * (file->pairs ? 2 : 1)];
    const uint64_t at = file->size - (tokens + 7) / 8 + begin / 8;
    const size_t shift = begin % 8, bytes = (shift + count + 7) / 8;
    unsigned char *bits = malloc(bytes + 1);
    clf_status st = bits ? clf_data_file_read(file, at, bits, bytes, err)
                         : clf_fail(err, CLF_OUT_OF_MEMORY, "%s: out of memory", file->path);
    for (size_t k = 0, from = 0; k <= count && st == CLF_OK; k++) {
        if (k < count && bits[(shift + k) / 8] >> (shift + k) % 8 & 1) continue;
        if (k > from && !clf_spans_append(targets, from, k))
            st = clf_fail(err, CLF_OUT_OF_MEMORY, "%s: out of memory", file->path);
        from = k + 1;
    }
    free(bits);
    return st;
}

static clf_status read_document(const clf_data_file *file, size_t i, clf_text *text, clf_ids *ids, clf_spans *targets,
                                clf_sample *sample, clf_error *err) {
    const uint64_t begin = file->begin[i];
    const size_t count = (size_t)(file->begin[i + 1] - begin);
    char *data = clf_grown(text->data, &text->capacity, count * file->width, 1);
    CLF_CHECK(err, data, CLF_OUT_OF_MEMORY, "%s: out of memory", file->path);
    text->data = data;
    CLF_TRY(clf_data_file_read(file, sizeof(clf_tokens_header) + begin * file->width, data, count * file->width, err));
    for (size_t k = 0; k < count; k++)
        if (!clf_ids_append(ids, id_at(data, file->width, k)))
            return clf_fail(err, CLF_OUT_OF_MEMORY, "%s: out of memory", file->path);
    if (file->masked)
        CLF_TRY(read_mask(file, begin, count, targets, err));
    else if (!clf_spans_append(targets, 0, count))
        return clf_fail(err, CLF_OUT_OF_MEMORY, "%s: out of memory", file->path);
    return clf_sample_add(sample, ids->data, ids->count, targets->data, targets->count, err);
}

clf_status clf_data_read_tokens(const clf_data_file *file, size_t i, clf_text *text, clf_sample *sample,
                                clf_error *err) {
    const size_t n = file->pairs ? 2 : 1;
    clf_ids ids = {0};
    clf_spans targets = {0};
    clf_status st = CLF_OK;
    for (size_t d = 0; d < n && st == CLF_OK; d++) {
        ids.count = targets.count = 0;
        st = read_document(file, n * i + d, text, &ids, &targets, sample, err);
    }
    free(ids.data);
    free(targets.data);
    return st;
}

/* A file of tokens being written: ids go out at once, ends and bits stay until then. */
typedef struct writer {
    clf_output_file file;
    clf_tokens_header header;
    XXH3_state_t *hash;
    uint64_t at;
    clf_text ids, ends, bits;
    bool masked;
} writer;

static clf_status put(writer *w, const void *data, uint64_t bytes, clf_error *err) {
    CLF_TRY(clf_output_file_write(&w->file, w->at, data, bytes, err));
    XXH3_64bits_update(w->hash, data, (size_t)bytes);
    w->at += bytes;
    return CLF_OK;
}

static clf_status put_document(writer *w, const clf_sample *sample, clf_span document, clf_error *err) {
    bool room = true;
    w->ids.length = 0;
    for (size_t k = document.begin; k < document.end && room; k++, w->header.tokens++) {
        const uint32_t id = (uint32_t)sample->ids.data[k];
        const uint16_t narrow = (uint16_t)id;
        room = w->header.width == 2 ? clf_text_append(&w->ids, (const char *)&narrow, sizeof narrow)
                                    : clf_text_append(&w->ids, (const char *)&id, sizeof id);
        if (w->header.tokens % 8 == 0) room = room && clf_text_append(&w->bits, "", 1);
        /* the first token is never a target, and so says nothing */
        const bool target = k == document.begin || sample->labels.data[k - 1] != CLF_LABEL_NONE;
        if (room && target) w->bits.data[w->bits.length - 1] |= (char)(1 << w->header.tokens % 8);
        w->masked |= !target;
    }
    w->header.documents++;
    if (!room || !clf_text_append(&w->ends, (const char *)&w->header.tokens, sizeof w->header.tokens))
        return clf_fail(err, CLF_OUT_OF_MEMORY, "save tokens: out of memory");
    return put(w, w->ids.data, w->ids.length, err);
}

static bool has_target(const clf_sample *s, clf_span document) {
    for (size_t k = document.begin; k < document.end; k++)
        if (s->labels.data[k] != CLF_LABEL_NONE) return true;
    return false;
}

static clf_status put_samples(writer *w, clf_next_sample *next, void *user, clf_error *err) {
    const clf_sample *sample;
    static const char zeros[8];
    for (;;) {
        CLF_TRY(next(user, &sample, err));
        if (!sample) break;
        bool all = sample->documents.count > 0;
        for (size_t d = 0; d < sample->documents.count; d++) all = all && has_target(sample, sample->documents.data[d]);
        for (size_t d = 0; all && d < sample->documents.count; d++)
            CLF_TRY(put_document(w, sample, sample->documents.data[d], err));
    }
    CLF_CHECK(err, w->header.documents, CLF_BAD_FILE, "save tokens: no sample has a target");
    CLF_TRY(put(w, zeros, -w->at % 8, err));
    CLF_TRY(put(w, w->ends.data, w->ends.length, err));
    return w->masked ? put(w, w->bits.data, w->bits.length, err) : CLF_OK;
}

clf_status clf_tokens_write(const char *path, const clf_data_source *source, bool pairs, clf_next_sample *next,
                            void *user, clf_error *err) {
    const uint32_t vocab = clf_data_source_vocab(source);
    const bool running = clf_data_source_running(source) == 1;
    writer w = {.header = {.magic = CLF_TOKENS_MAGIC,
                           .version = CLF_TOKENS_VERSION,
                           .width = vocab <= 1u << 16 ? 2 : 4,
                           .vocab = vocab,
                           .tokenizer = clf_data_source_tokenizer(source)},
                .hash = XXH3_createState(),
                .at = sizeof(clf_tokens_header)};
    clf_status st = w.hash ? CLF_OK : clf_fail(err, CLF_OUT_OF_MEMORY, "save tokens: out of memory");
    if (st == CLF_OK) XXH3_64bits_reset(w.hash);
    if (st == CLF_OK) st = clf_output_file_create(&w.file, path, err);
    if (st == CLF_OK) st = put_samples(&w, next, user, err);
    if (st == CLF_OK) {
        w.header.flags =
            (w.masked ? CLF_TOKENS_MASKED : 0) | (running ? CLF_TOKENS_RUNNING : 0) | (pairs ? CLF_TOKENS_PAIRS : 0);
        w.header.hash = hash_all(&w.header, XXH3_64bits_digest(w.hash));
        st = clf_output_file_write(&w.file, 0, &w.header, sizeof w.header, err);
    }
    if (st == CLF_OK) st = clf_output_file_finish(&w.file, w.at, err);
    clf_output_file_discard(&w.file);
    XXH3_freeState(w.hash);
    free(w.ids.data);
    free(w.ends.data);
    free(w.bits.data);
    return st;
}
