/* dataset_lines.c: text files: JSON lines, each a sample, and running text, cut into samples of many rows. */
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "dataset.h"

enum { BLOCK = 1 << 20 };

static clf_status out_of_memory(const clf_data_file *file, clf_error *err) {
    return clf_fail(err, CLF_OUT_OF_MEMORY, "%s: out of memory", file->path);
}

/* What is known while the lines go by. */
typedef struct scan {
    clf_data_file *file;
    const clf_dataset_args *args;
    int64_t *skipped;
    clf_text line;
    uint64_t begin, number; /* of the line */
    bool is_long;           /* too long: not kept */
} scan;

static bool is_blank(const char *text, size_t length) {
    for (size_t i = 0; i < length; i++)
        if (!strchr(" \t\r", text[i]) || !text[i]) return false;
    return true;
}

static clf_status check_line(const scan *s, const char *text, size_t length, clf_error *err) {
    clf_status st;
    if (s->is_long)
        st = clf_fail(err, CLF_BAD_FILE, "expected at most %llu bytes", (unsigned long long)s->args->max_line);
    else
        st = clf_dataset_json(s->args, text, length, NULL, NULL, err);
    return st == CLF_OK ? st : clf_fail_in(err, "%s: line %llu", s->file->path, (unsigned long long)s->number);
}

static clf_status end_line(scan *s, clf_error *err) {
    clf_data_file *file = s->file;
    const char *text = s->line.length ? s->line.data : "";
    size_t length = s->line.length;
    if (s->begin == 0 && length >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0) {
        text += 3;
        length -= 3;
        s->begin = 3;
    }
    if (!s->is_long && is_blank(text, length)) return CLF_OK;
    if (check_line(s, text, length, err) != CLF_OK) {
        ++*s->skipped;
        return clf_dataset_bad(s->args, err);
    }
    const size_t block = file->count / CLF_LINES_EVERY;
    uint64_t *lines = clf_grown(file->lines, &file->lines_capacity, block + 1, sizeof *lines);
    if (lines) {
        file->lines = lines;
        if (file->count % CLF_LINES_EVERY == 0) lines[block] = s->number;
    }
    return lines && clf_data_file_append(file, s->begin) ? CLF_OK : out_of_memory(file, err);
}

static clf_status take_block(scan *s, const char *block, size_t n, uint64_t offset, clf_error *err) {
    for (size_t i = 0; i < n;) {
        const char *end = memchr(block + i, '\n', n - i);
        const size_t part = end ? (size_t)(end - block) - i : n - i;
        if (s->line.length + part > s->args->max_line) s->is_long = true;
        if (!s->is_long && !clf_text_append(&s->line, block + i, part)) return out_of_memory(s->file, err);
        i += part;
        if (!end) break;
        CLF_TRY(end_line(s, err));
        s->line.length = 0;
        s->is_long = false;
        s->begin = offset + ++i;
        s->number++;
    }
    return CLF_OK;
}

clf_status clf_data_index_lines(clf_data_file *file, const clf_dataset_args *args, int64_t *skipped, clf_error *err) {
    scan s = {.file = file, .args = args, .skipped = skipped, .number = 1};
    char *block = malloc(BLOCK);
    XXH3_state_t *hash = XXH3_createState();
    clf_status st = block && hash ? CLF_OK : out_of_memory(file, err);
    if (st == CLF_OK) XXH3_64bits_reset(hash);
    for (uint64_t at = 0; at < file->size && st == CLF_OK; at += BLOCK) {
        const size_t n = file->size - at < BLOCK ? (size_t)(file->size - at) : BLOCK;
        if ((st = clf_data_file_read(file, at, block, n, err)) != CLF_OK) break;
        XXH3_64bits_update(hash, block, n);
        st = take_block(&s, block, n, at, err);
    }
    if (st == CLF_OK && (s.line.length || s.is_long)) st = end_line(&s, err);
    if (st == CLF_OK) file->hash = XXH3_64bits_digest(hash);
    XXH3_freeState(hash);
    free(s.line.data);
    free(block);
    return st;
}

static clf_status read_range(const clf_data_file *file, uint64_t begin, uint64_t bytes, clf_text *text,
                             clf_error *err) {
    char *data = clf_grown(text->data, &text->capacity, (size_t)bytes, 1);
    if (!data) return out_of_memory(file, err);
    text->data = data;
    text->length = (size_t)bytes;
    return clf_data_file_read(file, begin, data, bytes, err);
}

/* The line number of sample i: lines are counted from the last one whose number was kept. */
static clf_status line_of(const clf_data_file *file, size_t i, uint64_t *number, clf_error *err) {
    const size_t block = i / CLF_LINES_EVERY;
    char part[4096];
    *number = file->lines[block];
    for (uint64_t at = file->begin[block * CLF_LINES_EVERY]; at < file->begin[i]; at += sizeof part) {
        const uint64_t left = file->begin[i] - at;
        const size_t n = left < sizeof part ? (size_t)left : sizeof part;
        CLF_TRY(clf_data_file_read(file, at, part, n, err));
        for (size_t k = 0; k < n; k++) *number += part[k] == '\n';
    }
    return CLF_OK;
}

clf_status clf_data_read_line(const clf_data_file *file, const clf_dataset_args *args, size_t i, clf_text *text,
                              clf_scratch *scratch, clf_sample *sample, clf_error *err) {
    const uint64_t begin = file->begin[i], next = i + 1 < file->count ? file->begin[i + 1] : file->size;
    /* lines that were left out may follow */
    CLF_TRY(read_range(file, begin, next - begin <= args->max_line ? next - begin : args->max_line + 1, text, err));
    const char *end = memchr(text->data, '\n', text->length);
    const size_t length = end ? (size_t)(end - text->data) : text->length;
    if (clf_dataset_json(args, text->data, length, scratch, sample, err) == CLF_OK) return CLF_OK;
    clf_error where = {0};
    uint64_t number;
    if (line_of(file, i, &number, &where) == CLF_OK)
        clf_fail_in(err, "%s: line %llu", file->path, (unsigned long long)number);
    sample->ids.count = sample->labels.count = sample->documents.count = 0;
    return clf_dataset_bad(args, err);
}

/* Where to cut n bytes of running text, of which more follows: behind the last line, or before the last word, or
 * behind the last whole code point. */
static size_t find_cut(const char *text, size_t n) {
    for (size_t i = n - 1; i > n / 2; i--)
        if (text[i - 1] == '\n' && text[i] != '\n') return i;
    for (size_t i = n - 1; i > n / 2; i--)
        if (text[i] == ' ' && text[i - 1] != ' ') return i;
    size_t i = n - 1;
    while (i > n - 4 && (text[i] & 0xC0) == 0x80) i--;
    return i + clf_utf8_size(text[i]) == n ? n : i;
}

static clf_status check_utf8(const clf_data_file *file, const char *text, size_t n, uint64_t *line, clf_error *err) {
    int32_t code_point;
    for (size_t i = 0, size; i < n; i += size) {
        *line += text[i] == '\n';
        CLF_CHECK(err, (size = clf_utf8_decode(text + i, n - i, &code_point)) > 0, CLF_BAD_FILE,
                  "%s: line %llu: expected UTF-8, got the byte 0x%02X", file->path, (unsigned long long)*line,
                  (unsigned)(unsigned char)text[i]);
    }
    return CLF_OK;
}

clf_status clf_data_index_text(clf_data_file *file, const clf_dataset_args *args, clf_error *err) {
    enum { LEAST = 1 << 16, MOST = 1 << 24, BYTES_A_TOKEN = 32 /* so that some eight rows are a sample */ };
    const uint64_t wanted = (uint64_t)args->context * BYTES_A_TOKEN;
    const uint64_t size = wanted < LEAST ? LEAST : wanted < MOST ? wanted : MOST;
    clf_text text = {0};
    uint64_t line = 1;
    XXH3_state_t *hash = XXH3_createState();
    clf_status st = hash ? CLF_OK : out_of_memory(file, err);
    if (st == CLF_OK) XXH3_64bits_reset(hash);
    for (uint64_t at = 0; at < file->size && st == CLF_OK;) {
        const uint64_t left = file->size - at;
        if ((st = read_range(file, at, left < size ? left : size, &text, err)) != CLF_OK) break;
        const size_t n = left <= size ? text.length : find_cut(text.data, text.length);
        const size_t mark = at == 0 && n >= 3 && memcmp(text.data, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;
        XXH3_64bits_update(hash, text.data, n);
        st = check_utf8(file, text.data, n, &line, err);
        if (st == CLF_OK && !clf_data_file_append(file, at + mark)) st = out_of_memory(file, err);
        at += n;
    }
    if (st == CLF_OK) file->hash = XXH3_64bits_digest(hash);
    file->running = true;
    XXH3_freeState(hash);
    free(text.data);
    return st;
}

clf_status clf_data_read_text(const clf_data_file *file, const clf_dataset_args *args, size_t i, clf_text *text,
                              clf_scratch *scratch, clf_sample *sample, clf_error *err) {
    const bool last = i + 1 == file->count;
    const uint64_t begin = file->begin[i], next = last ? file->size : file->begin[i + 1];
    CLF_TRY(read_range(file, begin, next - begin, text, err));
    if (clf_dataset_plain(args->tokenizer, text->data, text->length, i == 0, last, scratch, sample, err) == CLF_OK)
        return CLF_OK;
    return clf_fail_in(err, "%s: byte %llu", file->path, (unsigned long long)begin);
}
