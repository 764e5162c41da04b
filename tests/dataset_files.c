/* dataset_files.c: files of training data: tokens written and read, and files that are none: bad lines, damaged,
 * changed, empty, too long. */
#include "dataset_case.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "../lib/train/dataset.h"
#include "../lib/train/tokens.h"

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

/* Gives a file of tokens the checksum of what it now says. */
static const char *seal(char *data, size_t size) {
    clf_tokens_header h;
    memcpy(&h, data, sizeof h);
    h.hash = 0;
    h.hash = XXH3_64bits_withSeed(&h, sizeof h, XXH3_64bits(data + sizeof h, size - sizeof h));
    memcpy(data, &h, sizeof h);
    return data;
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
        const char *path = in_folder("saved.tokens");
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
    assert_int_equal(clf_dataset_save_tokens(d, in_folder("few.tokens")), CLF_OK);
    assert_int_equal(clf_dataset_save_tokens(d, in_folder("nowhere/x")), CLF_NOT_FOUND);
    assert_int_equal(clf_dataset_save_tokens(d, NULL), CLF_INVALID_ARGUMENT);
    clf_dataset_destroy(d);
    char good[4096], bad[4096], message[256];
    FILE *f = fopen(in_folder("few.tokens"), "rb");
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
    /* wrong, but with the right checksum */
    clf_tokens_header h;
    memcpy(&h, good, sizeof h);
    const size_t ends = sizeof h + (2 * h.tokens + 7) / 8 * 8;
    const struct {
        size_t at;
        uint64_t value;
        size_t bytes;
        const char *part;
    } lies[] = {{64, 60000, 2, "token 0: expected an id below"},
                {16, 1 << 16, 4, "vocabulary: expected the tokenizer's"},
                {20, h.flags ^ CLF_TOKENS_MASKED, 4, "bytes, got"},
                {20, 8, 4, "unknown flags"},
                {24, 0, 8, "in 0 documents"},
                {24, UINT64_MAX / 8, 8, "do not fit"},
                {32, UINT64_MAX / 2, 8, "do not fit"},
                {12, 3, 4, "expected 2 or 4, got 3"},
                {8, 2, 4, "version: expected 1, got 2"},
                {ends + 8, 1 << 29, 8, "document 1: expected at most"},
                {ends + 8 * h.documents - 8, h.tokens - 1, 8, "the documents don't end with the tokens"}};
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        memcpy(bad, good, n);
        memcpy(bad + lies[i].at, &lies[i].value, lies[i].bytes);
        args.path = put_bytes("bad.tokens", seal(bad, n), n);
        refused(args, CLF_BAD_FILE, lies[i].part);
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
    assert_int_equal(clf_dataset_save_tokens(d, in_folder("mixed.tokens")), CLF_UNSUPPORTED);
    assert_int_equal(access(in_folder("mixed.tokens"), F_OK), -1);
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
    const char *good = put("good.jsonl", "{\"text\": \"a sample\"}");
    refused((clf_dataset_args){.tokenizer = bpe}, CLF_INVALID_ARGUMENT, "path: expected a file");
    refused((clf_dataset_args){.path = "", .tokenizer = bpe}, CLF_INVALID_ARGUMENT, "path: expected a file name");
    refused((clf_dataset_args){.path = in_folder("none.jsonl"), .tokenizer = bpe}, CLF_NOT_FOUND, "none.jsonl");
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
    static const char *const masked[] = {
        "{\"text\": \"\"}", "{\"prompt\": \"a\", \"completion\": \"\"}",
        "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}",
        "{\"prompt\": \"one two three four five six seven 1 2 3 4 5 6 7 8 9\", \"completion\": \"x\"}"};
    for (int i = 0; i < 4; i++) {
        d = open_dataset((clf_dataset_args){.path = put("masked.jsonl", masked[i]), .tokenizer = chatml, .context = 8});
        clf_batch b;
        clf_dataset_stats stats;
        assert_int_equal(clf_dataset_next(d, 1, &b), CLF_BAD_FILE);
        assert_non_null(strstr(clf_dataset_error(d), "no sample has a target"));
        assert_int_equal(clf_dataset_scan(d, 1, &stats), CLF_BAD_FILE);
        assert_int_equal(clf_dataset_save_tokens(d, in_folder("m.tokens")), i < 3 ? CLF_BAD_FILE : CLF_OK);
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
    const char *path = in_folder("long.jsonl");
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

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_tokens), cmocka_unit_test(test_bad_lines),
                                       cmocka_unit_test(test_bad_files), cmocka_unit_test(test_changed),
                                       cmocka_unit_test(test_long_line)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
