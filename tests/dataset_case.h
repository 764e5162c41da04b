/* dataset_case.h: what the tests of training data share: a folder for files, tokenizers, samples at random, and what
 * every batch must be. */
#ifndef CLF_TESTS_DATASET_CASE_H
#define CLF_TESTS_DATASET_CASE_H

#include "folder_case.h"

#include <clformer/train.h>

static clf_tokenizer *bpe, *chatml, *bare; /* `bare` has no end and no template */

static inline const char *put_bytes(const char *name, const void *data, size_t n) {
    const char *path = in_folder(name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
    return path;
}

static inline const char *put(const char *name, const char *text) {
    return put_bytes(name, text, strlen(text));
}

static inline clf_dataset *open_dataset(clf_dataset_args args) {
    char message[512] = "";
    clf_dataset *d;
    args.error = message;
    args.error_size = sizeof message;
    if (!args.tokenizer) args.tokenizer = bpe;
    const clf_status st = clf_dataset_create(&d, &args);
    if (st != CLF_OK) print_error("%s\n", message);
    assert_int_equal(st, CLF_OK);
    assert_string_equal(message, "");
    return d;
}

static inline clf_batch next(clf_dataset *d, int64_t rows) {
    clf_batch b;
    const clf_status st = clf_dataset_next(d, rows, &b);
    if (st != CLF_OK) print_error("%s\n", clf_dataset_error(d));
    assert_int_equal(st, CLF_OK);
    return b;
}

/* What every batch must be. */
static inline void check_batch(const clf_batch *b, const clf_dataset_args *args, int64_t rows) {
    int64_t targets = 0, padding = 0;
    assert_true(b->sequences > 0 && b->tokens <= rows * args->context);
    assert_int_equal(b->starts[0], 0);
    assert_int_equal(b->starts[b->sequences], b->tokens);
    for (int64_t s = 0; s < b->sequences; s++) {
        const int32_t begin = b->starts[s], end = b->starts[s + 1];
        int32_t last = begin; /* target */
        bool any = false;
        assert_true(end > begin && end - begin <= args->context);
        if (!args->pack) assert_int_equal(end - begin, args->context);
        for (int32_t i = begin; i < end; i++) {
            assert_int_equal(b->positions[i], i - begin);
            assert_true(b->ids[i] >= 0);
            if (b->labels[i] == CLF_LABEL_NONE) continue;
            targets++;
            any = true;
            last = i;
            if (i + 1 < end) assert_int_equal(b->labels[i], b->ids[i + 1]); /* never of another sequence */
        }
        assert_true(any);
        if (!args->pack)
            for (int32_t i = last + 2; i < end; i++) padding += b->ids[i] == 0;
    }
    assert_int_equal(targets, b->targets);
    if (args->pack) assert_int_equal(b->padding, 0);
    assert_true(b->padding <= padding || args->pack);
}

static inline uint64_t hash_ints(uint64_t h, const int32_t *v, int64_t n) {
    for (int64_t i = 0; i < n; i++) h = (h ^ (uint32_t)v[i]) * 0x100000001B3u;
    return h;
}

/* Of everything that a batch says. */
static inline uint64_t hash_batch(const clf_batch *b) {
    const int32_t rest[] = {(int32_t)b->epoch,
                            b->last,
                            b->pairs,
                            (int32_t)b->padding,
                            (int32_t)b->targets,
                            (int32_t)b->dropped,
                            (int32_t)b->lost,
                            (int32_t)b->truncated};
    uint64_t h = hash_ints(7, b->ids, b->tokens);
    h = hash_ints(h, b->labels, b->tokens);
    h = hash_ints(h, b->positions, b->tokens);
    h = hash_ints(h, b->starts, b->sequences + 1);
    return hash_ints(h, rest, sizeof rest / sizeof *rest);
}

static inline int by_value(const void *a, const void *b) {
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Hashes of an epoch's sequences without their padding, sorted. @return how many */
static inline size_t sequences_of(clf_dataset *d, const clf_dataset_args *args, int64_t rows, uint64_t *hashes,
                                  size_t most) {
    size_t n = 0;
    for (bool last = false; !last;) {
        const clf_batch b = next(d, rows);
        check_batch(&b, args, rows);
        for (int64_t s = 0; s < b.sequences; s++) {
            int64_t begin = b.starts[s], end = b.starts[s + 1];
            while (b.labels[end - 1] == CLF_LABEL_NONE) end--;
            assert_true(n < most);
            hashes[n++] = hash_ints(hash_ints(1, b.ids + begin, end - begin), b.labels + begin, end - begin);
        }
        last = b.last;
    }
    qsort(hashes, n, sizeof *hashes, by_value);
    return n;
}

static uint64_t random_state = 1;
static inline uint64_t random_below(uint64_t n) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (random_state >> 33) % n;
}

/* n samples of one to `most` words, each different, as text or prompt and completion. */
static inline const char *put_samples(const char *name, int n, int most) {
    static const char *const words[] = {"the ", "cat ", "sees ", "7 ",       "\\u00e9t\\u00e9 ",
                                        "a b",  "(x)",  "\\n",   "tomorrow "};
    const char *path = in_folder(name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    random_state = 5;
    for (int i = 0; i < n; i++) {
        fprintf(f, i % 3 ? "{\"text\": \"%d: " : "{\"prompt\": \"%d? \", \"completion\": \"", i);
        for (uint64_t k = 1 + random_below((uint64_t)most); k > 0; k--)
            fputs(words[random_below(sizeof words / sizeof *words)], f);
        fputs("\"}\n", f);
    }
    assert_int_equal(fclose(f), 0);
    return path;
}

static inline int set_up(void **state) {
    if (make_folder(state)) return -1;
    assert_int_equal(clf_tokenizer_create(&bpe, &(clf_tokenizer_args){.path = "golden/chat/llama3"}), CLF_OK);
    assert_int_equal(clf_tokenizer_create(&bare, &(clf_tokenizer_args){.path = "golden/tokenizers/llama3-bpe"}),
                     CLF_OK);
    assert_int_equal(clf_tokenizer_create(&chatml, &(clf_tokenizer_args){.path = "golden/chat/chatml"}), CLF_OK);
    return 0;
}

static inline int tear_down(void **state) {
    clf_tokenizer_destroy(bpe);
    clf_tokenizer_destroy(chatml);
    clf_tokenizer_destroy(bare);
    return remove_folder(state);
}

#endif
