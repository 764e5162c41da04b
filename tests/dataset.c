/* dataset.c: training data: labels of every format, batches packed and padded, orders, resuming, splitting, files of
 * tokens, and files that are none of these. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <clformer/train.h>

#include <dirent.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../lib/train/permutation.h"

enum { MAX_TOKENS = 1 << 16 };

static char folder[64];
static clf_tokenizer *bpe, *chatml, *bare; /* `bare` has no end and no template */

/* The path of `name` in the test's folder; a ring of them. */
static const char *at(const char *name) {
    static char paths[4][512];
    static int turn;
    char *path = paths[turn++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static const char *put_bytes(const char *name, const void *data, size_t n) {
    const char *path = at(name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
    return path;
}

static const char *put(const char *name, const char *text) {
    return put_bytes(name, text, strlen(text));
}

static clf_dataset *open_dataset(clf_dataset_args args) {
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

static clf_batch next(clf_dataset *d, int64_t rows) {
    clf_batch b;
    const clf_status st = clf_dataset_next(d, rows, &b);
    if (st != CLF_OK) print_error("%s\n", clf_dataset_error(d));
    assert_int_equal(st, CLF_OK);
    return b;
}

/* What every batch must be. */
static void check_batch(const clf_batch *b, const clf_dataset_args *args, int64_t rows) {
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

static uint64_t hash_ints(uint64_t h, const int32_t *v, int64_t n) {
    for (int64_t i = 0; i < n; i++) h = (h ^ (uint32_t)v[i]) * 0x100000001B3u;
    return h;
}

/* Of everything that a batch says. */
static uint64_t hash_batch(const clf_batch *b) {
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

static int by_value(const void *a, const void *b) {
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Hashes of an epoch's sequences without their padding, sorted. @return how many */
static size_t sequences_of(clf_dataset *d, const clf_dataset_args *args, int64_t rows, uint64_t *hashes, size_t most) {
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
static uint64_t random_below(uint64_t n) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (random_state >> 33) % n;
}

/* n samples of one to `most` words, each different, as text or prompt and completion. */
static const char *put_samples(const char *name, int n, int most) {
    static const char *const words[] = {"the ", "cat ", "sees ", "7 ",       "\\u00e9t\\u00e9 ",
                                        "a b",  "(x)",  "\\n",   "tomorrow "};
    const char *path = at(name);
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

/* The labels of the only sequence of a file with this line. */
static clf_batch only(const clf_tokenizer *t, const char *line, clf_dataset **d) {
    *d = open_dataset((clf_dataset_args){.path = put("one.jsonl", line), .tokenizer = t, .context = 512, .pack = true});
    const clf_batch b = next(*d, 1);
    assert_int_equal(b.sequences, 1);
    assert_true(b.last);
    return b;
}

/* Text of the targets. */
static void targets_text(const clf_tokenizer *t, const clf_batch *b, char *text, size_t size) {
    int32_t ids[512];
    size_t n = 0, length;
    for (int64_t i = 0; i < b->tokens; i++)
        if (b->labels[i] != CLF_LABEL_NONE) ids[n++] = b->labels[i];
    assert_int_equal(clf_detokenize(t, ids, n, true, text, size, &length), CLF_OK);
}

static void test_labels(void **state) {
    (void)state;
    const int32_t eos = clf_tokenizer_eos(bpe);
    clf_dataset *d;
    char text[512], expected[512];
    const char *end = clf_tokenizer_piece(bpe, eos);
    /* text: the ids of clf_tokenize() and the end; all are targets but the first */
    clf_batch b = only(bpe, "{\"text\": \"The cat sat.\", \"source\": {\"id\": 3}}", &d);
    int32_t ids[64];
    size_t n;
    assert_int_equal(clf_tokenize(bpe, "The cat sat.", 12, CLF_TOKENIZE_ADD_SPECIAL, ids, 64, &n), CLF_OK);
    if (ids[n - 1] != eos) ids[n++] = eos;
    assert_int_equal(b.tokens, n);
    assert_memory_equal(b.ids, ids, n * sizeof *ids);
    assert_int_equal(b.targets, n - 1);
    assert_int_equal(b.labels[n - 1], CLF_LABEL_NONE);
    clf_dataset_destroy(d);
    /* completion: its own tokens and the end */
    b = only(bpe, "{\"prompt\": \"Q: two and two?\\nA:\", \"completion\": \" four <s>\"}", &d);
    targets_text(bpe, &b, text, sizeof text);
    snprintf(expected, sizeof expected, " four <s>%s", end);
    assert_string_equal(text, expected);
    clf_dataset_destroy(d);
    /* a token across the border is a target */
    b = only(bpe, "{\"prompt\": \"The ca\", \"completion\": \"t\"}", &d);
    assert_true(b.targets >= 2);
    clf_dataset_destroy(d);
    /* messages before prompt before text */
    b = only(
        chatml,
        "{\"prompt\": \"x\", \"text\": \"y\", \"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}, {\"role\": "
        "\"assistant\", \"content\": \"One.\"}, {\"role\": \"user\", \"content\": \"And <|im_end|>\"}, {\"role\": "
        "\"assistant\", \"content\": \"Two\"}]}",
        &d);
    targets_text(chatml, &b, text, sizeof text);
    assert_string_equal(text, "One.<|im_end|>Two<|im_end|>");
    clf_dataset_destroy(d);
    /* a prompt of messages: only the completion's replies */
    b = only(
        chatml,
        "{\"prompt\": [{\"role\": \"user\", \"content\": \"Hi\"}, {\"role\": \"assistant\", \"content\": \"One.\"}, "
        "{\"role\": \"user\", \"content\": \"And\"}], \"completion\": [{\"role\": \"assistant\", \"content\": "
        "\"Two\"}]}",
        &d);
    targets_text(chatml, &b, text, sizeof text);
    assert_string_equal(text, "Two<|im_end|>");
    clf_dataset_destroy(d);
}

/* Every golden conversation of every template: a reply's targets begin where the ids of the conversation so far, with
 * the assistant about to speak, end, and what they say is what the assistant said. */
static void check_conversation(const char *name, const clf_tokenizer *t, const json_t *messages, int *checked) {
    const size_t n = json_array_size(messages);
    clf_chat_message list[16];
    size_t count, replies = 0;
    int32_t full[1024], before[1024];
    assert_true(n <= 16);
    for (size_t i = 0; i < n; i++) {
        const json_t *m = json_array_get(messages, i);
        list[i] = (clf_chat_message){json_string_value(json_object_get(m, "role")),
                                     json_string_value(json_object_get(m, "content"))};
        replies += !strcmp(list[i].role, "assistant");
    }
    if (!replies || clf_tokenize_chat(t, list, n, false, full, 1024, &count) != CLF_OK) return;
    json_t *line = json_pack("{s:O}", "messages", messages);
    char *dump = json_dumps(line, JSON_COMPACT);
    clf_dataset *d;
    const clf_batch b = only(t, dump, &d);
    assert_int_equal(b.tokens, count);
    assert_memory_equal(b.ids, full, count * sizeof *full);
    int64_t from = 0;
    for (size_t i = 0; i < n; i++) {
        if (strcmp(list[i].role, "assistant")) continue;
        /* the next run of targets */
        while (from < b.tokens && b.labels[from] == CLF_LABEL_NONE) from++;
        int64_t to = from;
        while (to < b.tokens && b.labels[to] != CLF_LABEL_NONE) to++;
        assert_true(to > from);
        char said[512], wanted[512];
        size_t length;
        assert_int_equal(clf_detokenize(t, b.labels + from, (size_t)(to - from), false, said, sizeof said, &length),
                         CLF_OK);
        snprintf(wanted, sizeof wanted, "%s", list[i].content);
        /* without white space, which some templates trim, and the thoughts that others drop */
        char *begin = strstr(wanted, "</think>") ? strstr(wanted, "</think>") + 8 : wanted;
        size_t k = strlen(begin);
        while (k && strchr(" \n", begin[k - 1])) begin[--k] = 0;
        begin += strspn(begin, " \n");
        if (!strstr(said, begin)) print_error("%s: \"%s\", expected \"%s\"\n", name, said, begin);
        assert_non_null(strstr(said, begin));
        assert_true(clf_tokenizer_is_end(t, b.labels[to - 1]));
        /* where the model would begin to speak; templates that change what was said before have another prefix */
        size_t prefix, same = 0;
        if (i && clf_tokenize_chat(t, list, i, true, before, 1024, &prefix) == CLF_OK) {
            while (same < prefix && before[same] == full[same]) same++;
            if (same == prefix) {
                assert_int_equal(from + 1, prefix);
                ++*checked;
            }
        }
        from = to;
    }
    clf_dataset_destroy(d);
    free(dump);
    json_decref(line);
}

static void test_conversations(void **state) {
    (void)state;
    struct dirent **names;
    const int n = scandir("golden/chat", &names, NULL, alphasort);
    int checked = 0;
    assert_true(n > 0);
    for (int i = 0; i < n; i++) {
        char path[512];
        json_t *expect, *row;
        size_t k;
        snprintf(path, sizeof path, "golden/chat/%s/expect.json", names[i]->d_name);
        if (names[i]->d_name[0] != '.' && (expect = json_load_file(path, 0, NULL))) {
            clf_tokenizer *t;
            *strrchr(path, '/') = 0;
            assert_int_equal(clf_tokenizer_create(&t, &(clf_tokenizer_args){.path = path}), CLF_OK);
            json_array_foreach(expect, k, row)
                check_conversation(names[i]->d_name, t, json_object_get(row, "messages"), &checked);
            clf_tokenizer_destroy(t);
            json_decref(expect);
        }
        free(names[i]);
    }
    free(names);
    print_message("%d replies\n", checked);
    assert_true(checked > 20);
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

static void test_pairs(void **state) {
    (void)state;
    static const char lines[] =
        "{\"prompt\": \"Say: \", \"chosen\": \"yes\", \"rejected\": \"no, never\"}\n"
        "{\"prompt\": \"1\", \"chosen\": [{\"role\": \"user\", \"content\": \"1\"}, {\"role\": \"assistant\", "
        "\"content\": "
        "\"good\"}], \"rejected\": [{\"role\": \"user\", \"content\": \"1\"}, {\"role\": \"assistant\", \"content\": "
        "\"bad\"}]}\n"
        "{\"prompt\": [{\"role\": \"user\", \"content\": \"1\"}], \"chosen\": [{\"role\": \"assistant\", \"content\": "
        "\"good\"}], \"rejected\": [{\"role\": \"assistant\", \"content\": \"bad\"}]}\n"
        "{\"chosen\": \"1 a b\", \"rejected\": \"1 c d e\"}\n"
        "{\"prompt\": \"x\", \"chosen\": \"\", \"rejected\": \"half a pair\"}\n";
    clf_dataset_args args = {.path = put("pairs.jsonl", lines), .context = 64, .preference = true, .tokenizer = chatml};
    for (int pack = 0; pack < 2; pack++) {
        args.pack = pack;
        clf_dataset *d = open_dataset(args);
        clf_batch b;
        assert_int_equal(clf_dataset_next(d, 1, &b), CLF_INVALID_ARGUMENT);
        assert_int_equal(clf_dataset_next(d, 3, &b), CLF_INVALID_ARGUMENT);
        int seen = 0, dropped = 0;
        for (bool last = false; !last;) {
            b = next(d, 2);
            check_batch(&b, &args, 2);
            assert_true(b.pairs && b.sequences % 2 == 0);
            dropped += (int)b.dropped;
            for (int64_t s = 0; s < b.sequences; s += 2) {
                const int32_t *x = b.ids + b.starts[s], *y = b.ids + b.starts[s + 1];
                char chosen[64], rejected[64];
                clf_batch half = b;
                half.labels += b.starts[s];
                half.tokens = b.starts[s + 1] - b.starts[s];
                targets_text(chatml, &half, chosen, sizeof chosen);
                half.labels = b.labels + b.starts[s + 1];
                half.tokens = b.starts[s + 2] - b.starts[s + 1];
                targets_text(chatml, &half, rejected, sizeof rejected);
                assert_int_equal(x[0], y[0]);
                if (strstr(chosen, "yes")) assert_non_null(strstr(rejected, "no, never"));
                if (strstr(chosen, "good")) assert_non_null(strstr(rejected, "bad"));
                if (strstr(chosen, "a b")) assert_non_null(strstr(rejected, "c d e"));
                seen += strstr(chosen, "yes") ? 1 : strstr(chosen, "good") ? 10 : 100;
            }
            last = b.last;
        }
        assert_int_equal(seen, 121);
        assert_int_equal(dropped, 1);
        clf_dataset_destroy(d);
    }
}

/* Files of tokens give the batches of what they were made of, and say so bit by bit. */
static void test_tokens(void **state) {
    (void)state;
    static const char text[] = "One line.\nAnother line, somewhat longer than the one before it.\n";
    static const char pairs[] = "{\"prompt\": \"Say: \", \"chosen\": \"yes\", \"rejected\": \"no, never\"}\n"
                                "{\"chosen\": \"a b\", \"rejected\": \"c d e\"}\n";
    for (int kind = 0; kind < 4; kind++) {
        clf_dataset_args args = {.context = 32, .pack = true, .seed = 3, .split = kind == 1, .preference = kind == 3};
        args.path = kind < 2    ? put_samples("source.jsonl", 60, 30)
                    : kind == 2 ? put("t.txt", text)
                                : put("p.jsonl", pairs);
        clf_dataset *d = open_dataset(args);
        const char *path = at("saved.tokens");
        assert_int_equal(clf_dataset_save_tokens(d, path), CLF_OK);
        args.path = path;
        clf_dataset *saved = open_dataset(args);
        for (int i = 0; i < 20; i++) {
            const clf_batch a = next(d, 2), b = next(saved, 2);
            assert_true(hash_batch(&a) == hash_batch(&b));
        }
        clf_dataset_destroy(d);
        clf_dataset_destroy(saved);
        args.tokenizer = NULL; /* not needed */
        assert_int_equal(clf_dataset_create(&saved, &args), CLF_OK);
        clf_dataset_destroy(saved);
    }
    /* every byte turned, every length: refused; nothing else happens */
    clf_dataset_args args = {.context = 32, .path = put_samples("few.jsonl", 6, 4), .tokenizer = bpe};
    clf_dataset *d = open_dataset(args);
    assert_int_equal(clf_dataset_save_tokens(d, at("few.tokens")), CLF_OK);
    assert_int_equal(clf_dataset_save_tokens(d, at("nowhere/x")), CLF_NOT_FOUND);
    assert_int_equal(clf_dataset_save_tokens(d, NULL), CLF_INVALID_ARGUMENT);
    clf_dataset_destroy(d);
    char good[4096], bad[4096], message[256];
    FILE *f = fopen(at("few.tokens"), "rb");
    assert_non_null(f);
    const size_t n = fread(good, 1, sizeof good, f);
    fclose(f);
    assert_in_range(n, 64, sizeof good - 1);
    args.format = CLF_DATASET_TOKENS;
    args.error = message;
    args.error_size = sizeof message;
    for (size_t i = 0; i < n; i++) {
        memcpy(bad, good, n);
        bad[i] ^= (char)(1 << i % 8);
        args.path = put_bytes("bad.tokens", bad, n);
        assert_int_equal(clf_dataset_create(&d, &args), CLF_BAD_FILE);
        assert_null(d);
        assert_non_null(strstr(message, "bad.tokens: "));
    }
    for (size_t i = 0; i <= n; i++) {
        memcpy(bad, good, n);
        bad[n] = 0;
        args.path = put_bytes("bad.tokens", bad, i < n ? i : n + 1);
        assert_int_equal(clf_dataset_create(&d, &args), CLF_BAD_FILE);
    }
    args.path = put_bytes("good.tokens", good, n);
    args.tokenizer = chatml; /* of the same size */
    assert_int_equal(clf_dataset_create(&d, &args), CLF_BAD_FILE);
    assert_non_null(strstr(message, "tokens of another tokenizer"));
    args.tokenizer = bpe;
    args.preference = true;
    assert_int_equal(clf_dataset_create(&d, &args), CLF_BAD_FILE);
    assert_non_null(strstr(message, "expected pairs"));
    const char *const mixed[] = {put("one.txt", "text\n"), put("two.jsonl", "{\"text\": \"a\"}")};
    d = open_dataset((clf_dataset_args){.paths = mixed, .n_paths = 2, .context = 32});
    assert_int_equal(clf_dataset_save_tokens(d, at("mixed.tokens")), CLF_UNSUPPORTED);
    assert_int_equal(access(at("mixed.tokens"), F_OK), -1);
    clf_dataset_destroy(d);
}

typedef struct seen {
    int calls, stop_at;
    char first[256], last[256];
} seen;

static bool on_bad_line(void *user, const char *message) {
    seen *s = user;
    snprintf(s->calls ? s->last : s->first, sizeof s->first, "%s", message);
    return ++s->calls != s->stop_at;
}

static void refused(clf_dataset_args args, clf_status status, const char *part) {
    char message[512] = "";
    clf_dataset *d;
    args.error = message;
    args.error_size = sizeof message;
    if (!args.context) args.context = 32;
    const clf_status st = clf_dataset_create(&d, &args);
    if (st != status || !strstr(message, part)) print_error("%d \"%s\", expected \"%s\"\n", st, message, part);
    assert_int_equal(st, status);
    assert_null(d);
    assert_non_null(strstr(message, part));
}

static void test_bad_lines(void **state) {
    (void)state;
    static const struct {
        const char *line, *part;
    } cases[] = {
        {"{\"text\": \"a\"", "line 3: sample: JSON, line 1"},
        {"nonsense", "line 3: sample: JSON"},
        {"[]", "line 3: sample: expected a JSON object"},
        {"{}", "line 3: expected messages, prompt and completion, or text"},
        {"{\"Text\": \"a\"}", "line 3: expected messages, prompt and completion, or text"},
        {"{\"chosen\": \"a\", \"rejected\": \"b\"}", "preference tuning"},
        {"{\"text\": 3}", "line 3: text: expected a string, got a number"},
        {"{\"text\": null}", "line 3: text: expected a string, got null"},
        {"{\"text\": \"a\", \"text\": \"b\"}", "line 3: sample: JSON"},
        {"{\"text\": \"a\\u0000b\"}", "line 3: sample: JSON"},
        {"{\"text\": \"\xFF\"}", "line 3: sample: JSON"},
        {"{\"text\": \"\\ud800\"}", "line 3: sample: JSON"},
        {"{\"prompt\": \"a\"}", "line 3: completion: expected a string, got nothing"},
        {"{\"completion\": \"a\"}", "line 3: prompt: expected beside completion"},
        {"{\"prompt\": \"a\", \"completion\": []}", "line 3: completion: expected a string, got a list"},
        {"{\"prompt\": [], \"completion\": \"\"}", "line 3: completion: expected a list, got a string"},
        {"{\"prompt\": {}, \"completion\": \"\"}", "line 3: prompt: expected a string, got an object"},
        {"{\"messages\": \"a\"}", "line 3: messages: expected a list, got a string"},
        {"{\"messages\": []}", "line 3: messages: expected messages, got none"},
        {"{\"messages\": [3]}", "line 3: messages[0]: expected an object, got a number"},
        {"{\"messages\": [{\"content\": \"a\"}]}", "line 3: messages[0].role: expected a string, got nothing"},
        {"{\"messages\": [{\"role\": \"user\", \"content\": [\"a\"]}]}", "messages[0].content: expected a string"},
        {"{\"messages\": [{\"role\": \"tool\", \"content\": \"a\"}]}", "got \"tool\""},
        {"{\"text\": \"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
         "xxxxxxxxxx\"}",
         "line 3: expected at most 100 bytes"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[1024];
        seen s = {0};
        snprintf(text, sizeof text, "\xEF\xBB\xBF{\"text\": \"first\"}\r\n \t\r\n%s\n\n{\"text\": \"last\"}",
                 cases[i].line);
        clf_dataset_args args = {.path = put("bad.jsonl", text), .tokenizer = chatml, .context = 32, .max_line = 100};
        refused(args, CLF_BAD_FILE, cases[i].part);
        refused(args, CLF_BAD_FILE, "bad.jsonl: line 3: ");
        args.bad_line = on_bad_line;
        args.user = &s;
        s.stop_at = 1;
        refused(args, CLF_BAD_FILE, cases[i].part);
        s.stop_at = 0;
        clf_dataset *d = open_dataset(args);
        assert_int_equal(s.calls, 2);
        assert_non_null(strstr(s.first, cases[i].part));
        clf_dataset_stats stats;
        assert_int_equal(clf_dataset_scan(d, 1, &stats), CLF_OK);
        assert_int_equal(stats.samples, 2);
        assert_int_equal(stats.sequences, 2);
        assert_int_equal(stats.skipped, 1);
        clf_dataset_destroy(d);
    }
    refused((clf_dataset_args){.path = put("p.jsonl", "{\"text\": \"a\"}"), .tokenizer = bpe, .preference = true},
            CLF_BAD_FILE, "line 1: chosen: expected a string, got nothing");
    /* what the template refuses is known when it is read; its line is found again */
    char *many = malloc(1 << 20), *p = many;
    for (int i = 0; i < 700; i++) p += sprintf(p, "%s{\"text\": \"a %d\"}\n", i % 5 ? "" : "\n", i);
    sprintf(p, "{\"messages\": [{\"role\": \"assistant\", \"content\": \"a\"}]}\n{\"text\": \"b\"}\n");
    clf_tokenizer *gemma;
    assert_int_equal(clf_tokenizer_create(&gemma, &(clf_tokenizer_args){.path = "golden/chat/gemma"}), CLF_OK);
    seen s = {0};
    clf_dataset_args args = {.path = put("order.jsonl", many), .tokenizer = gemma, .context = 64, .pack = true};
    clf_dataset *d = open_dataset(args);
    clf_dataset_stats stats;
    assert_int_equal(clf_dataset_scan(d, 4, &stats), CLF_BAD_FILE);
    assert_non_null(strstr(clf_dataset_error(d), "order.jsonl: line 841: messages: the gemma chat template"));
    clf_dataset_destroy(d);
    args.bad_line = on_bad_line;
    args.user = &s;
    d = open_dataset(args);
    assert_int_equal(clf_dataset_scan(d, 4, &stats), CLF_OK);
    assert_int_equal(s.calls, 1);
    assert_int_equal(stats.dropped, 1);
    assert_int_equal(stats.sequences, 701);
    clf_dataset_destroy(d);
    clf_tokenizer_destroy(gemma);
    free(many);
}

static void test_bad_files(void **state) {
    (void)state;
    clf_dataset *d;
    char good[128];
    snprintf(good, sizeof good, "%s", put("good.jsonl", "{\"text\": \"a sample\"}"));
    refused((clf_dataset_args){.tokenizer = bpe}, CLF_INVALID_ARGUMENT, "path: expected a file");
    refused((clf_dataset_args){.path = "", .tokenizer = bpe}, CLF_INVALID_ARGUMENT, "path: expected a file name");
    refused((clf_dataset_args){.path = at("none.jsonl"), .tokenizer = bpe}, CLF_NOT_FOUND, "none.jsonl");
    refused((clf_dataset_args){.path = folder, .tokenizer = bpe}, CLF_BAD_FILE,
            "expected a regular file, got a folder");
    refused((clf_dataset_args){.path = "/dev/zero", .tokenizer = bpe}, CLF_BAD_FILE, "expected a regular file");
    refused((clf_dataset_args){.path = put("empty.jsonl", ""), .tokenizer = bpe}, CLF_BAD_FILE, "got an empty file");
    refused((clf_dataset_args){.path = put("blank.jsonl", "\n \r\n\t"), .tokenizer = bpe}, CLF_BAD_FILE, "no sample");
    refused((clf_dataset_args){.path = put("data.csv", "a,b"), .tokenizer = bpe}, CLF_BAD_FILE, "ends in .jsonl");
    refused((clf_dataset_args){.path = good}, CLF_INVALID_ARGUMENT, "tokenizer: expected one");
    refused((clf_dataset_args){.path = good, .tokenizer = bpe, .context = 1}, CLF_INVALID_ARGUMENT, "context");
    refused((clf_dataset_args){.path = good, .tokenizer = bpe, .context = INT64_MAX}, CLF_INVALID_ARGUMENT, "context");
    refused((clf_dataset_args){.path = good, .tokenizer = bpe, .max_line = UINT64_MAX}, CLF_INVALID_ARGUMENT,
            "max_line");
    refused((clf_dataset_args){.path = good, .tokenizer = bpe, .preference = true, .split = true}, CLF_INVALID_ARGUMENT,
            "split");
    refused((clf_dataset_args){.path = good, .tokenizer = bpe, .format = CLF_DATASET_TOKENS}, CLF_BAD_FILE, "tokens");
    refused((clf_dataset_args){.path = put("bad.txt", "a\nb\nc \xE9t\xE9\n"), .tokenizer = bpe}, CLF_BAD_FILE,
            "bad.txt: line 3: expected UTF-8, got the byte 0xE9");
    refused((clf_dataset_args){.path = put("t.txt", "a"), .tokenizer = bpe, .preference = true}, CLF_INVALID_ARGUMENT,
            "preference");
    refused((clf_dataset_args){.path = put("c.jsonl", "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}"),
                               .tokenizer = bare},
            CLF_UNSUPPORTED, "line 1: messages: the tokenizer has no chat template");
    assert_int_equal(clf_dataset_create(NULL, NULL), CLF_INVALID_ARGUMENT);
    assert_int_equal(clf_dataset_create(&d, NULL), CLF_INVALID_ARGUMENT);
    clf_dataset_destroy(NULL);
    /* no target anywhere, or only beyond the context */
    static const char *const masked[] = {"{\"text\": \"\"}", "{\"prompt\": \"a\", \"completion\": \"\"}",
                                         "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}",
                                         "{\"prompt\": \"one two three four five six seven eight nine ten eleven "
                                         "twelve 1 2 3 4 5 6 7 8 9\", \"completion\": \"x\"}"};
    for (int i = 0; i < 4; i++) {
        d = open_dataset((clf_dataset_args){.path = put("masked.jsonl", masked[i]), .tokenizer = chatml, .context = 8});
        clf_batch b;
        clf_dataset_stats stats;
        assert_int_equal(clf_dataset_next(d, 1, &b), CLF_BAD_FILE);
        assert_non_null(strstr(clf_dataset_error(d), "no sample has a target"));
        assert_int_equal(clf_dataset_scan(d, 1, &stats), CLF_BAD_FILE);
        assert_int_equal(clf_dataset_save_tokens(d, at("m.tokens")), i < 3 ? CLF_BAD_FILE : CLF_OK);
        clf_dataset_destroy(d);
    }
    /* one line: the same batch for ever */
    const clf_dataset_args args = {.path = good, .context = 8, .pack = true};
    d = open_dataset(args);
    for (int i = 0; i < 3; i++) {
        const clf_batch b = next(d, 4);
        check_batch(&b, &args, 4);
        assert_true(b.last && b.sequences == 1 && b.epoch == i);
    }
    clf_batch b;
    assert_int_equal(clf_dataset_next(d, 0, &b), CLF_INVALID_ARGUMENT);
    assert_int_equal(clf_dataset_next(d, INT64_MAX, &b), CLF_INVALID_ARGUMENT);
    assert_int_equal(clf_dataset_next(d, 1, NULL), CLF_INVALID_ARGUMENT);
    assert_int_equal(clf_dataset_next(NULL, 1, &b), CLF_INVALID_ARGUMENT);
    clf_dataset_destroy(d);
}

/* Longer, shorter, or the same size at another time: reading fails, and the place stays. */
static void test_changed(void **state) {
    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        const char *path = put_samples("changing.jsonl", 200, 5);
        clf_dataset *d = open_dataset((clf_dataset_args){.path = path, .context = 16, .pack = true});
        next(d, 1);
        const clf_dataset_position before = clf_dataset_tell(d);
        struct stat info;
        assert_int_equal(stat(path, &info), 0);
        if (kind < 2) assert_int_equal(truncate(path, kind ? info.st_size - 9 : info.st_size + 9), 0);
        struct timespec times[2] = {info.st_atim, info.st_mtim};
        times[1].tv_sec += kind == 2;
        assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
        clf_batch b;
        clf_status st = CLF_OK;
        for (int i = 0; i < 200 && st == CLF_OK; i++) st = clf_dataset_next(d, 8, &b);
        assert_int_equal(st, CLF_BAD_FILE);
        assert_non_null(strstr(clf_dataset_error(d), "changing.jsonl: the file has changed"));
        clf_dataset_position after = clf_dataset_tell(d);
        assert_int_equal(clf_dataset_next(d, 8, &b), CLF_BAD_FILE);
        clf_dataset_position again = clf_dataset_tell(d);
        assert_memory_equal(&after, &again, sizeof again);
        assert_true(before.fingerprint == after.fingerprint);
        clf_dataset_destroy(d);
    }
}

/* A line of 100 MB, of one string and of many values: bounded, found, left out. */
static void test_long_line(void **state) {
    (void)state;
    const char *path = at("long.jsonl");
    FILE *f = fopen(path, "w");
    static char part[1 << 20];
    assert_non_null(f);
    memset(part, 'a', sizeof part);
    fputs("{\"text\": \"first\"}\n{\"text\": \"", f);
    for (int i = 0; i < 100; i++) fwrite(part, 1, sizeof part, f);
    fputs("\"}\n{\"text\": \"last\"}\n", f);
    assert_int_equal(fclose(f), 0);
    refused((clf_dataset_args){.path = path, .tokenizer = bpe}, CLF_BAD_FILE,
            "line 2: expected at most 16777216 bytes");
    seen s = {0};
    clf_dataset *d = open_dataset(
        (clf_dataset_args){.path = path, .context = 32, .pack = true, .bad_line = on_bad_line, .user = &s});
    assert_int_equal(s.calls, 1);
    assert_int_equal(next(d, 1).sequences, 2);
    clf_dataset_destroy(d);
    /* within the limit it is a sample like others */
    d = open_dataset((clf_dataset_args){
        .path = put_bytes("a.txt", part, sizeof part), .context = 512, .tokenizer = bpe, .max_line = 64});
    clf_dataset_stats stats;
    assert_int_equal(clf_dataset_scan(d, 4, &stats), CLF_OK);
    assert_int_equal(stats.samples, 16);
    assert_int_equal(stats.truncated, 0);
    clf_dataset_destroy(d);
    unlink(path);
}

static int set_up(void **state) {
    (void)state;
    strcpy(folder, "/tmp/clformer-dataset-XXXXXX");
    assert_non_null(mkdtemp(folder));
    assert_int_equal(clf_tokenizer_create(&bpe, &(clf_tokenizer_args){.path = "golden/chat/llama3"}), CLF_OK);
    assert_int_equal(clf_tokenizer_create(&bare, &(clf_tokenizer_args){.path = "golden/tokenizers/llama3-bpe"}),
                     CLF_OK);
    assert_int_equal(clf_tokenizer_create(&chatml, &(clf_tokenizer_args){.path = "golden/chat/chatml"}), CLF_OK);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    struct dirent **names;
    const int n = scandir(folder, &names, NULL, NULL);
    for (int i = 0; i < n; i++) {
        if (names[i]->d_name[0] != '.') unlink(at(names[i]->d_name));
        free(names[i]);
    }
    if (n >= 0) free(names);
    clf_tokenizer_destroy(bpe);
    clf_tokenizer_destroy(chatml);
    clf_tokenizer_destroy(bare);
    return rmdir(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_permutation),  cmocka_unit_test(test_labels),    cmocka_unit_test(test_conversations),
        cmocka_unit_test(test_pack_and_pad), cmocka_unit_test(test_resume),    cmocka_unit_test(test_split),
        cmocka_unit_test(test_text),         cmocka_unit_test(test_pairs),     cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_bad_lines),    cmocka_unit_test(test_bad_files), cmocka_unit_test(test_changed),
        cmocka_unit_test(test_long_line)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
