/* dataset.c: batches of training data: packed and padded, orders, resuming, splitting, running text. */
#include "dataset_case.h"

#include "../lib/train/permutation.h"

static void test_permutation(void **state) {
    (void)state;
    static const uint64_t sizes[] = {1, 2, 3, 4, 5, 15, 16, 17, 255, 256, 257, 1000, 65537};
    unsigned char *seen = malloc(65537);
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        for (uint64_t seed = 0; seed < 3; seed++) {
            const uint64_t n = sizes[k];
            const clf_permutation p = clf_permutation_of(seed, 3 * seed, n);
            memset(seen, 0, n);
            for (uint64_t i = 0; i < n; i++) {
                const uint64_t to = clf_permute(&p, i);
                assert_true(to < n && !seen[to]);
                seen[to] = 1;
            }
        }
    free(seen);
    /* every sample comes at every place about equally often, and all orders of four occur */
    enum { N = 4, EPOCHS = 24000 };
    int at_place[N][N] = {{0}}, orders[256] = {0}, different = 0;
    for (uint64_t epoch = 0; epoch < EPOCHS; epoch++) {
        const clf_permutation p = clf_permutation_of(11, epoch, N);
        int order = 0;
        for (uint64_t i = 0; i < N; i++) {
            at_place[i][clf_permute(&p, i)]++;
            order = order * N + (int)clf_permute(&p, i);
        }
        different += orders[order]++ == 0;
    }
    assert_int_equal(different, 24);
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) assert_in_range(at_place[i][j], EPOCHS / N * 94 / 100, EPOCHS / N * 106 / 100);
    for (int i = 0; i < 256; i++)
        if (orders[i]) assert_in_range(orders[i], EPOCHS / 24 * 80 / 100, EPOCHS / 24 * 120 / 100);
    /* two seeds, and two epochs of one seed, have nothing in common */
    int same = 0;
    const clf_permutation a = clf_permutation_of(1, 0, 4000), b = clf_permutation_of(1, 1, 4000),
                          c = clf_permutation_of(2, 0, 4000);
    for (uint64_t i = 0; i < 4000; i++)
        same += (clf_permute(&a, i) == clf_permute(&b, i)) + (clf_permute(&a, i) == clf_permute(&c, i));
    assert_true(same < 16);
}

/* Packed or padded, in rows of one batch or of many: the same sequences with the same labels. */
static void test_pack_and_pad(void **state) {
    (void)state;
    enum { N = 300, MOST = 1000 };
    static uint64_t expected[MOST], got[MOST];
    const char *path = put_samples("many.jsonl", N, 90);
    for (int split = 0; split < 2; split++) {
        size_t n = 0;
        int64_t targets = 0, tokens = 0;
        for (int pack = 0; pack < 2; pack++)
            for (int64_t rows = 1; rows <= 8; rows += 7) {
                const clf_dataset_args args = {
                    .path = path, .context = 64, .pack = pack, .split = split, .seed = (uint64_t)rows};
                clf_dataset *d = open_dataset(args);
                clf_dataset_stats stats;
                assert_int_equal(clf_dataset_scan(d, rows, &stats), CLF_OK);
                const size_t m = sequences_of(d, &args, rows, got, MOST);
                assert_int_equal(stats.samples, N);
                assert_int_equal(stats.sequences, m);
                assert_true(split ? stats.truncated == 0 && m > N : stats.truncated > 0 && m == N);
                assert_int_equal(stats.lost > 0, stats.truncated > 0);
                assert_true(stats.longest > 64);
                if (!n) {
                    n = m;
                    memcpy(expected, got, sizeof got);
                    targets = stats.targets;
                    tokens = stats.tokens;
                }
                assert_int_equal(m, n);
                assert_memory_equal(got, expected, n * sizeof *got);
                assert_int_equal(stats.targets, targets);
                assert_int_equal(stats.tokens, tokens);
                if (pack) { /* but for the last batch next to nothing is left free; long samples wait for their turn */
                    const int64_t room = (stats.batches - 1) * rows * args.context;
                    assert_true(stats.tokens * 100 >= room * (split && rows == 1 ? 85 : 97));
                }
                clf_dataset_destroy(d);
            }
    }
}

/* From every position on, in another dataset, the same batches. */
static void test_resume(void **state) {
    (void)state;
    enum { BATCHES = 60, MORE = 4 };
    const char *path = put_samples("resume.jsonl", 60, 30);
    FILE *f = fopen(path, "a");
    fputs("{\"text\": \"\"}\n{\"prompt\": \"x\", \"completion\": \"\"}\n", f); /* no targets */
    fclose(f);
    for (int kind = 0; kind < 8; kind++) {
        const clf_dataset_args args = {
            .path = path, .context = 32, .pack = kind & 1, .split = kind & 2, .ordered = kind & 4, .seed = 9};
        clf_dataset *d = open_dataset(args);
        clf_dataset_position positions[BATCHES];
        uint64_t hashes[BATCHES];
        int64_t rows[BATCHES], dropped = 0, epochs = 0;
        for (int i = 0; i < BATCHES; i++) {
            rows[i] = 1 + i % 7;
            positions[i] = clf_dataset_tell(d);
            const clf_batch b = next(d, rows[i]);
            check_batch(&b, &args, rows[i]);
            hashes[i] = hash_batch(&b);
            dropped += b.dropped;
            epochs += b.last;
            assert_int_equal(b.epoch, positions[i].epoch);
            if (b.last) assert_int_equal(dropped, 2 * epochs);
        }
        assert_true(epochs > 0);
        clf_dataset *other = open_dataset(args);
        for (int i = 0; i < BATCHES; i++) {
            assert_int_equal(clf_dataset_seek(other, &positions[i]), CLF_OK);
            for (int k = i; k < i + MORE && k < BATCHES; k++) {
                const clf_batch b = next(other, rows[k]);
                assert_true(hash_batch(&b) == hashes[k]);
            }
        }
        /* a scan and a seek to the beginning change nothing */
        clf_dataset_stats stats;
        assert_int_equal(clf_dataset_seek(other, NULL), CLF_OK);
        assert_int_equal(clf_dataset_scan(other, 3, &stats), CLF_OK);
        assert_int_equal(stats.dropped, 2);
        clf_batch b = next(other, rows[0]);
        assert_true(hash_batch(&b) == hashes[0]);
        clf_dataset_destroy(other);
        /* other arguments: another stream */
        clf_dataset_args different = args;
        different.seed++;
        other = open_dataset(different);
        assert_int_equal(clf_dataset_seek(other, &positions[3]), CLF_INVALID_ARGUMENT);
        assert_non_null(strstr(clf_dataset_error(other), "other data"));
        b = next(other, rows[0]);
        assert_int_equal(hash_batch(&b) == hashes[0], (kind & 4) != 0);
        clf_dataset_destroy(other);
        clf_dataset_destroy(d);
    }
    /* forged positions do no harm */
    const clf_dataset_args args = {.path = path, .context = 32, .pack = true, .split = true};
    clf_dataset *d = open_dataset(args);
    for (int i = 0; i < 200; i++) {
        clf_dataset_position p = clf_dataset_tell(d);
        p.sample = random_below(100);
        p.sequence = random_below(5) * random_below(1u << 30);
        p.used = random_below(UINT32_MAX) << random_below(33);
        p.epoch = i % 5 ? random_below(9) : UINT64_MAX;
        clf_batch b;
        if (clf_dataset_seek(d, &p) != CLF_OK) continue;
        if (clf_dataset_next(d, 2, &b) == CLF_OK) check_batch(&b, &args, 2);
    }
    clf_dataset_destroy(d);
}

static void test_split(void **state) {
    (void)state;
    enum { N = 120 };
    static uint64_t all[N], train[N], eval[N], again[N];
    clf_dataset_args args = {.path = put_samples("split.jsonl", N, 20), .context = 128, .pack = true};
    clf_dataset *whole = open_dataset(args), *e, *third;
    assert_int_equal(sequences_of(whole, &args, 2, all, N), N);
    assert_int_equal(clf_dataset_split(whole, 0.1, &e), CLF_INVALID_ARGUMENT);
    assert_null(e);
    clf_dataset_destroy(whole);
    for (uint64_t seed = 0; seed < 3; seed++) {
        args.seed = seed;
        clf_dataset *d = open_dataset(args);
        assert_int_equal(clf_dataset_split(d, 0.1, &e), CLF_OK);
        assert_int_equal(sequences_of(e, &args, 2, eval, N), 12);
        clf_dataset_destroy(seed == 1 ? d : NULL); /* in any order */
        if (seed != 1) {
            assert_int_equal(sequences_of(d, &args, 2, train, N), N - 12);
            memcpy(train + N - 12, eval, 12 * sizeof *eval);
            qsort(train, N, sizeof *train, by_value);
            assert_memory_equal(train, all, sizeof all); /* disjoint, and nothing is missing */
        }
        assert_int_equal(sequences_of(e, &args, 3, train, N), 12); /* the next epoch: the same again */
        assert_memory_equal(train, eval, 12 * sizeof *eval);
        if (seed) assert_memory_equal(eval, again, 12 * sizeof *eval); /* whatever the seed of the order is */
        memcpy(again, eval, sizeof eval);
        if (seed != 1) clf_dataset_destroy(d);
        clf_dataset_destroy(e);
    }
    args.split_seed = 1;
    clf_dataset *d = open_dataset(args);
    assert_int_equal(clf_dataset_split(d, 0.1, &e), CLF_OK);
    assert_int_equal(clf_dataset_split(d, 1e-9, &third), CLF_OK); /* one at least */
    assert_int_equal(sequences_of(e, &args, 2, eval, N), 12);
    assert_memory_not_equal(eval, again, 12 * sizeof *eval);
    assert_int_equal(sequences_of(third, &args, 2, train, N), 1);
    assert_null(bsearch(train, eval, 12, sizeof *eval, by_value));
    clf_dataset_position p = clf_dataset_tell(d);
    assert_int_equal(clf_dataset_seek(e, &p), CLF_INVALID_ARGUMENT);
    const double shares[] = {0, 1, -1, 2};
    for (int i = 0; i < 4; i++) {
        clf_dataset *none;
        assert_int_equal(clf_dataset_split(d, shares[i], &none), CLF_INVALID_ARGUMENT);
        assert_null(none);
    }
    assert_int_equal(clf_dataset_split(third, 0.5, &whole), CLF_INVALID_ARGUMENT);
    clf_dataset_destroy(third);
    clf_dataset_destroy(d);
    clf_dataset_destroy(e);
}

/* Running text: in order, every token is a target once, and the text comes back. */
static void test_text(void **state) {
    (void)state;
    enum { SIZE = 400000 };
    char *text = malloc(SIZE + 1), *back = malloc(SIZE + 64);
    int32_t *ids = malloc(2 * SIZE * sizeof *ids);
    static const char *const words[] = {"word ", "\xC3\xA9t\xC3\xA9 ", "line\n", "\n\n", "x",
                                        "1234 ", "\xF0\x9F\xA6\x99"};
    for (int kind = 0; kind < 3; kind++) { /* lines; words without lines; letters without words */
        size_t n = 0, count = 0, length;
        while (n < SIZE - 16) {
            const char *w = kind == 2 ? "\xC3\xA9" : words[random_below(kind ? 2 : 7)];
            memcpy(text + n, w, strlen(w));
            n += strlen(w);
        }
        text[n] = 0;
        const clf_dataset_args args = {.path = put("book.txt", text), .context = 100, .ordered = true};
        clf_dataset *d = open_dataset(args);
        clf_dataset_stats stats;
        assert_int_equal(clf_dataset_scan(d, 1, &stats), CLF_OK);
        assert_true(stats.samples > 3);
        assert_int_equal(stats.truncated, 0);
        bool joined = false; /* the sequence goes on from the one before */
        int64_t begun = 0;
        for (bool last = false; !last;) {
            const clf_batch b = next(d, 4);
            check_batch(&b, &args, 4);
            for (int64_t s = 0; s < b.sequences; s++) {
                const int32_t begin = b.starts[s], end = b.starts[s + 1];
                if (!joined) ids[count++] = b.ids[begin];
                begun += !joined;
                assert_int_equal(ids[count - 1], b.ids[begin]);
                for (int32_t i = begin; i < end; i++)
                    if (b.labels[i] != CLF_LABEL_NONE) ids[count++] = b.labels[i];
                joined = b.labels[end - 1] != CLF_LABEL_NONE;
            }
            last = b.last;
        }
        assert_int_equal(begun, stats.samples);
        assert_int_equal(count, stats.targets + stats.samples);
        assert_int_equal(ids[count - 1], clf_tokenizer_eos(bpe));
        assert_int_equal(clf_detokenize(bpe, ids, count, false, back, SIZE + 64, &length), CLF_OK);
        assert_int_equal(length, n);
        assert_memory_equal(back, text, n);
        clf_dataset_destroy(d);
    }
    free(text);
    free(back);
    free(ids);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_permutation), cmocka_unit_test(test_pack_and_pad),
                                       cmocka_unit_test(test_resume), cmocka_unit_test(test_split),
                                       cmocka_unit_test(test_text)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
