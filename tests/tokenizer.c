/* tokenizer.c: tokenizers on hostile text (cases 56 to 62 of the list of hostile inputs), and what the API promises:
 * capacities, streams, bytes, special tokens. */
#include "tokenizer_case.h"

#include <time.h>

static const char *const goldens[] = {"golden/tokenizers/llama3-bpe", "golden/tokenizers/qwen2-bpe",
                                      "golden/tokenizers/llama2-spm", "golden/tokenizers/gemma-spm",
                                      "golden/tokenizers/unigram",    "golden/vocab/llama-spm.gguf",
                                      "golden/vocab/gpt-2.gguf"};
enum { GOLDENS = sizeof goldens / sizeof *goldens };

/* 56: bytes that aren't UTF-8, NUL, the ends of Unicode: byte tokens give them back, others U+FFFD. */
static void test_bytes(void **state) {
    (void)state;
    static const struct {
        const char *bytes;
        size_t n;
        const char *lossy;
    } cases[] = {{"a\xff\xfe"
                  "b",
                  4,
                  "a\xEF\xBF\xBD\xEF\xBF\xBD"
                  "b"},
                 {"a\0b", 3, "a"},
                 {"\xF4\x8F\xBF\xBF", 4, "\xF4\x8F\xBF\xBF"},
                 {"\xF4\x90\x80\x80", 4, "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
                 {"\xED\xA0\x80x", 4, "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBDx"},
                 {"\xE2\x82", 2, "\xEF\xBF\xBD"},
                 {"\xC0\x80", 2, "\xEF\xBF\xBD\xEF\xBF\xBD"},
                 {"\xEF\xBF\xBF", 3, "\xEF\xBF\xBF"}};
    for (size_t g = 0; g < GOLDENS; g++) {
        clf_tokenizer *t = open_tokenizer(goldens[g]);
        const bool unigram = strstr(goldens[g], "unigram");
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            int32_t ids[64];
            char text[128];
            size_t length;
            const size_t n = encode(t, cases[i].bytes, cases[i].n, 0, ids, 64);
            assert_int_equal(clf_detokenize(t, ids, n, true, text, sizeof text, &length), CLF_OK);
            if (unigram) continue; /* has no tokens for most of these */
            assert_string_equal(text, cases[i].lossy);
            if (i == 1) assert_memory_equal(text, cases[i].bytes, 3);
        }
        char all[256];
        int32_t ids[1024];
        for (int b = 0; b < 256; b++) all[b] = (char)b;
        encode(t, all, sizeof all, CLF_TOKENIZE_PARSE_SPECIAL, ids, 1024);
        clf_tokenizer_destroy(t);
    }
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* 57: long runs take time that grows with their length, not its square. */
static void test_long_runs(void **state) {
    (void)state;
    static const char *const units[] = {" ",  "a",        "\n", "\xe2\x96\x81", "\xF0\x9F\x98\x80", "0",
                                        " a", "\xCC\x81", "!",  "\xff"};
    enum { RUN = 200000 };
    for (size_t g = 0; g < GOLDENS; g++) {
        clf_tokenizer *t = open_tokenizer(goldens[g]);
        for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
            const size_t size = strlen(units[u]);
            char *text = malloc(RUN * size);
            assert_non_null(text);
            for (size_t i = 0; i < RUN; i++) memcpy(text + i * size, units[u], size);
            size_t n;
            const double begin = seconds();
            const clf_status st = clf_tokenize(t, text, RUN * size, CLF_TOKENIZE_PARSE_SPECIAL, NULL, 0, &n);
            const double took = seconds() - begin;
            if (took > 5) print_error("%s, unit %zu: %.1f s\n", goldens[g], u, took);
            assert_int_equal(st, CLF_FULL);
            assert_true(n > 0 && took < 20); /* a square would take hours */
            free(text);
        }
        clf_tokenizer_destroy(t);
    }
}

/* 58: a pattern that goes over all ways to split a word is given up. */
static void test_pathological_pattern(void **state) {
    (void)state;
    clf_tokenizer *t =
        json_open("{\"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"Regex\": \"(a+)+b|(a|aa)+c\"}, "
                  "\"behavior\": \"Isolated\"}, \"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, "
                  "\"merges\": []}}");
    char text[4096];
    size_t n;
    memset(text, 'a', sizeof text);
    const double begin = seconds();
    assert_int_equal(clf_tokenize(t, text, sizeof text, 0, NULL, 0, &n), CLF_UNSUPPORTED);
    assert_int_equal(n, 0);
    assert_true(seconds() - begin < 20);
    clf_tokenizer_destroy(t);
}

/* 59: room for nothing, for less than all, for all. */
static void test_capacity(void **state) {
    (void)state;
    clf_tokenizer *t = open_tokenizer("golden/vocab/llama-spm.gguf");
    static const char text[] = "Hello world, \xC3\xA9!";
    int32_t all[32], some[32];
    size_t n, again;
    assert_int_equal(clf_tokenize(t, text, sizeof text - 1, 0, NULL, 0, &n), CLF_FULL);
    assert_int_equal(clf_tokenize(t, text, sizeof text - 1, 0, all, n, &again), CLF_OK);
    assert_int_equal(again, n);
    for (size_t room = 0; room < n; room++) {
        memset(some, 0x55, sizeof some);
        assert_int_equal(clf_tokenize(t, text, sizeof text - 1, 0, some, room, &again), CLF_FULL);
        assert_int_equal(again, n);
        assert_memory_equal(some, all, room * sizeof *all);
        assert_int_equal(some[room], 0x55555555);
    }
    assert_int_equal(clf_tokenize(t, "", 0, 0, NULL, 0, &again), CLF_OK);
    assert_int_equal(again, 0);
    char back[64];
    size_t length;
    assert_int_equal(clf_detokenize(t, all, n, true, NULL, 0, &length), CLF_FULL);
    assert_int_equal(length, sizeof text - 1);
    for (size_t room = 1; room < sizeof back; room++) {
        memset(back, 0x55, sizeof back);
        const clf_status st = clf_detokenize(t, all, n, true, back, room, &length);
        assert_int_equal(st, room >= sizeof text ? CLF_OK : CLF_FULL);
        assert_int_equal(length, sizeof text - 1);
        const size_t written = strlen(back);
        assert_true(written < room);
        assert_memory_equal(back, text, written);
        assert_true(clf_utf8_valid(back, written));
        if (room < sizeof back) assert_int_equal(back[room], 0x55);
    }
    assert_int_equal(clf_tokenize(NULL, text, 1, 0, all, 1, &n), CLF_INVALID_ARGUMENT);
    assert_int_equal(clf_tokenize(t, NULL, 1, 0, all, 1, &n), CLF_INVALID_ARGUMENT);
    assert_int_equal(clf_tokenize(t, text, 1, 0, NULL, 1, &n), CLF_INVALID_ARGUMENT);
    assert_int_equal(clf_tokenize(t, text, 1, 0, all, 1, NULL), CLF_INVALID_ARGUMENT);
    assert_int_equal(clf_tokenize(t, text, 1, 64, all, 1, &n), CLF_INVALID_ARGUMENT);
    clf_tokenizer_destroy(t);
    clf_tokenizer_destroy(NULL);
}

/* 60: more than 2^31 bytes: the addresses are there, the bytes never looked at. */
static void test_long_text(void **state) {
    (void)state;
    clf_tokenizer *t = open_tokenizer("golden/tokenizers/llama3-bpe");
    const size_t size = ((size_t)1 << 31) + 1;
    size_t n = 7;
    assert_int_equal(clf_tokenize(t, "x", size, 0, NULL, 0, &n), CLF_INVALID_ARGUMENT);
    assert_int_equal(n, 0);
    assert_int_equal(clf_tokenize(t, "x", SIZE_MAX, 0, NULL, 0, &n), CLF_INVALID_ARGUMENT);
    clf_tokenizer_destroy(t);
}

/* 62: special tokens in a text are text, unless they are asked for. */
static void test_special_in_text(void **state) {
    (void)state;
    for (size_t g = 0; g < GOLDENS; g++) {
        clf_tokenizer *t = open_tokenizer(goldens[g]);
        const char *const spellings[] = {"<s>", "</s>", "<unk>", "<|end|>", "<|user|>", "<|endoftext|>", "<0x0A>"};
        for (size_t i = 0; i < sizeof spellings / sizeof *spellings; i++) {
            const int32_t id = clf_tokenizer_find(t, spellings[i]);
            if (id < 0) continue;
            char text[64];
            int32_t ids[128];
            snprintf(text, sizeof text, "a%s b %s", spellings[i], spellings[i]);
            const size_t plain = encode(t, text, strlen(text), 0, ids, 128);
            for (size_t k = 0; k < plain; k++) assert_int_not_equal(ids[k], id);
            if (strstr(goldens[g], "unigram")) continue;
            char back[64];
            size_t length;
            assert_int_equal(clf_detokenize(t, ids, plain, false, back, sizeof back, &length), CLF_OK);
            assert_string_equal(back, text);
            if (spellings[i][1] == '0') continue; /* bytes are never parsed */
            const size_t parsed = encode(t, text, strlen(text), CLF_TOKENIZE_PARSE_SPECIAL, ids, 128);
            assert_int_equal(ids[parsed - 1], id);
            assert_int_equal(clf_detokenize(t, ids, parsed, true, back, sizeof back, &length), CLF_OK);
            assert_non_null(strstr(back, spellings[i]));
            assert_int_equal(clf_detokenize(t, ids, parsed, false, back, sizeof back, &length), CLF_OK);
            assert_null(strstr(back, spellings[i]));
        }
        clf_tokenizer_destroy(t);
    }
    /* neither does a merge, a whole word, or a normalizer make one */
    clf_tokenizer *t =
        json_open("{\"normalizer\": {\"type\": \"Lowercase\"}, \"added_tokens\": [{\"id\": 5, \"content\": "
                  "\"<s>\", \"special\": true}], \"model\": {\"type\": \"BPE\", \"ignore_merges\": true, "
                  "\"vocab\": {\"<\": 0, \"s\": 1, \">\": 2, \"<s\": 3, \"s>\": 4, \"<s>\": 5}, \"merges\": "
                  "[\"< s\", \"<s >\"]}}");
    int32_t ids[8];
    assert_int_equal(encode(t, "<S>", 3, 0, ids, 8), 2);
    assert_int_equal(encode(t, "<s>", 3, CLF_TOKENIZE_PARSE_SPECIAL, ids, 8), 1);
    clf_tokenizer_destroy(t);
}

/* A stream shows whole code points only, and all of them in the end; the pieces add up to what clf_detokenize() gives.
 */
static void test_stream(void **state) {
    (void)state;
    static const char text[] = "Hi \xF0\x9F\xA6\x99\xF0\x9F\x98\xB6\xE2\x80\x8D\xF0\x9F\x8C\xAB \xE4\xBD\xA0 done";
    for (size_t g = 0; g < GOLDENS; g++) {
        if (strstr(goldens[g], "unigram")) continue;
        clf_tokenizer *t = open_tokenizer(goldens[g]);
        int32_t ids[128];
        const size_t n = encode(t, text, sizeof text - 1, 0, ids, 128);
        clf_detokenizer *d;
        assert_int_equal(clf_detokenizer_create(&d, t, false), CLF_OK);
        for (int round = 0; round < 2; round++) { /* finishing begins anew */
            char all[128];
            size_t length = 0;
            for (size_t i = 0; i <= n; i++) {
                const char *part;
                size_t size;
                assert_int_equal(i < n ? clf_detokenizer_push(d, ids[i], &part, &size)
                                       : clf_detokenizer_finish(d, &part, &size),
                                 CLF_OK);
                assert_true(clf_utf8_valid(part, size) && !strstr(part, CLF_REPLACEMENT));
                assert_int_equal(strlen(part), size);
                memcpy(all + length, part, size);
                length += size;
            }
            assert_int_equal(length, sizeof text - 1);
            assert_memory_equal(all, text, length);
        }
        /* the stream ends within a code point */
        const int32_t llama =
            clf_tokenizer_find(t, "<0xF0>") >= 0 ? clf_tokenizer_find(t, "<0xF0>") : clf_tokenizer_find(t, "\xC3\xB0");
        const char *part;
        size_t size;
        assert_int_equal(clf_detokenizer_push(d, llama, &part, &size), CLF_OK);
        assert_int_equal(size, 0);
        assert_int_equal(clf_detokenizer_finish(d, &part, &size), CLF_OK);
        assert_string_equal(part, CLF_REPLACEMENT);
        assert_int_equal(clf_detokenizer_push(d, -1, &part, &size), CLF_INVALID_ARGUMENT);
        assert_int_equal(clf_detokenizer_push(d, clf_tokenizer_size(t), &part, &size), CLF_INVALID_ARGUMENT);
        clf_detokenizer_destroy(d);
        clf_tokenizer_destroy(t);
    }
    clf_detokenizer_destroy(NULL);
    clf_detokenizer *d;
    assert_int_equal(clf_detokenizer_create(&d, NULL, false), CLF_INVALID_ARGUMENT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes),    cmocka_unit_test(test_long_runs), cmocka_unit_test(test_pathological_pattern),
        cmocka_unit_test(test_capacity), cmocka_unit_test(test_long_text), cmocka_unit_test(test_special_in_text),
        cmocka_unit_test(test_stream)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
