/* tokenizer.c: tokenizers from hostile files and on hostile text (cases 51 to 62 of the list of hostile inputs), and
 * what the API promises: capacities, streams, bytes, special tokens. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../lib/model/tokenizer.h"
#include "../lib/model/tokenizer_json.h"
#include "../lib/model/tokenizer_model.h"
#include "tiny_gguf.h"

enum { MANY = 1 << 20 };

/* Opening must fail with `status` and a message that has `part`. */
static void refused(clf_status st, const clf_tokenizer *t, const clf_error *err, clf_status expected,
                    const char *part) {
    if (st != expected || !strstr(err->message, part))
        print_error("%d \"%s\", expected \"%s\"\n", st, err->message, part);
    assert_int_equal(st, expected);
    assert_null(t);
    assert_non_null(strstr(err->message, part));
}

/* A GGUF without tensors, in memory. */
static tiny_gguf gguf_begin(uint64_t keys) {
    tiny_gguf g = {0};
    tiny_bytes(&g, "GGUF", 4);
    tiny_u32(&g, 3);
    tiny_u64(&g, 0);
    tiny_u64(&g, keys + 1);
    tiny_key_string(&g, "general.architecture", "llama");
    return g;
}

static clf_status gguf_open(clf_tokenizer **t, tiny_gguf *g, clf_error *err) {
    clf_gguf *gguf;
    *t = NULL;
    clf_status st = clf_gguf_open(&gguf, &(clf_model_file_args){.data = g->data, .data_size = g->size}, err);
    if (st == CLF_OK) {
        st = clf_tokenizer_from_gguf(t, gguf, err);
        clf_gguf_close(gguf);
    }
    free(g->data);
    return st;
}

static void gguf_refused(tiny_gguf *g, clf_status expected, const char *part) {
    clf_error err = {0};
    clf_tokenizer *t;
    const clf_status st = gguf_open(&t, g, &err);
    refused(st, t, &err, expected, part);
}

static void key_strings(tiny_gguf *g, const char *key, const char *const *strings, uint64_t n) {
    tiny_key_array(g, key, 8, n);
    for (uint64_t i = 0; i < n; i++) tiny_string(g, strings[i]);
}

static void key_floats(tiny_gguf *g, const char *key, uint64_t n) {
    tiny_key_array(g, key, 6, n);
    for (uint64_t i = 0; i < n; i++) {
        const float score = -(float)i;
        tiny_bytes(g, &score, sizeof score);
    }
}

static void key_types(tiny_gguf *g, const char *key, const uint32_t *types, uint64_t n) {
    tiny_key_array(g, key, 5, n);
    for (uint64_t i = 0; i < n; i++) tiny_u32(g, types[i]);
}

#define KEY(name) "tokenizer.ggml." name

static const char *const abc[] = {"<unk>", "<s>", "</s>", "\xe2\x96\x81", "a", "b", "ab"};
static const uint32_t abc_types[] = {2, 3, 3, 1, 1, 1, 1};
enum { ABC = 7 };

static clf_tokenizer *json_open(const char *json) {
    clf_error err = {0};
    clf_tokenizer *t;
    clf_status st = clf_tokenizer_from_json(&t, json, strlen(json), &err);
    if (st == CLF_OK) st = clf_tokenizer_finish(t, &err);
    if (st != CLF_OK) print_error("%s\n", err.message);
    assert_int_equal(st, CLF_OK);
    return t;
}

static void json_refused(const char *json, clf_status expected, const char *part) {
    clf_error err = {0};
    clf_tokenizer *t;
    clf_status st = clf_tokenizer_from_json(&t, json, strlen(json), &err);
    if (st == CLF_OK && (st = clf_tokenizer_finish(t, &err)) != CLF_OK) {
        clf_tokenizer_destroy(t);
        t = NULL;
    }
    refused(st, t, &err, expected, part);
}

/* 51: arrays that should be as long as the vocabulary. */
static void test_lengths_differ(void **state) {
    (void)state;
    for (int longer = -1; longer <= 1; longer += 2) {
        tiny_gguf g = gguf_begin(3);
        tiny_key_string(&g, KEY("model"), "llama");
        key_strings(&g, KEY("tokens"), abc, ABC);
        key_floats(&g, KEY("scores"), (uint64_t)(ABC + longer));
        gguf_refused(&g, CLF_BAD_FILE, KEY("scores") ": expected 7 elements");
        g = gguf_begin(4);
        tiny_key_string(&g, KEY("model"), "llama");
        key_strings(&g, KEY("tokens"), abc, ABC);
        key_floats(&g, KEY("scores"), ABC);
        static const uint32_t types[ABC + 1] = {2, 3, 3, 1, 1, 1, 1, 1};
        key_types(&g, KEY("token_type"), types, (uint64_t)(ABC + longer));
        gguf_refused(&g, CLF_BAD_FILE, KEY("token_type") ": expected 7 elements");
    }
    tiny_gguf g = gguf_begin(2);
    tiny_key_string(&g, KEY("model"), "llama");
    key_strings(&g, KEY("tokens"), abc, ABC);
    gguf_refused(&g, CLF_BAD_FILE, KEY("scores"));
    g = gguf_begin(2);
    tiny_key_string(&g, KEY("model"), "llama");
    key_strings(&g, KEY("tokens"), abc, 0);
    gguf_refused(&g, CLF_BAD_FILE, KEY("tokens"));
}

/* 52: the known hole: scores of bytes, read as floats. */
static void test_element_types(void **state) {
    (void)state;
    tiny_gguf g = gguf_begin(3);
    tiny_key_string(&g, KEY("model"), "llama");
    key_strings(&g, KEY("tokens"), abc, ABC);
    tiny_key_array(&g, KEY("scores"), 0, ABC);
    tiny_bytes(&g, "abcdefg", ABC);
    gguf_refused(&g, CLF_BAD_FILE, KEY("scores") ": expected elements of type f32");
    g = gguf_begin(4);
    tiny_key_string(&g, KEY("model"), "llama");
    key_strings(&g, KEY("tokens"), abc, ABC);
    key_floats(&g, KEY("scores"), ABC);
    key_floats(&g, KEY("token_type"), ABC);
    gguf_refused(&g, CLF_BAD_FILE, KEY("token_type") ": expected elements of type i32");
    g = gguf_begin(2);
    tiny_key_string(&g, KEY("model"), "llama");
    key_floats(&g, KEY("tokens"), ABC);
    gguf_refused(&g, CLF_BAD_FILE, KEY("tokens") ": expected an array of strings");
    g = gguf_begin(3);
    tiny_key_string(&g, KEY("model"), "gpt2");
    key_strings(&g, KEY("tokens"), abc, ABC);
    key_floats(&g, KEY("merges"), ABC);
    gguf_refused(&g, CLF_BAD_FILE, KEY("merges") ": expected an array of strings");
    g = gguf_begin(3);
    tiny_key_string(&g, KEY("model"), "llama");
    key_strings(&g, KEY("tokens"), abc, ABC);
    tiny_key_array(&g, KEY("scores"), 6, ABC);
    for (int i = 0; i < ABC; i++) tiny_u32(&g, 0x7FC00000); /* NaN */
    gguf_refused(&g, CLF_BAD_FILE, "score: expected a finite number");
    g = gguf_begin(4);
    tiny_key_string(&g, KEY("model"), "llama");
    key_strings(&g, KEY("tokens"), abc, ABC);
    key_floats(&g, KEY("scores"), ABC);
    static const uint32_t types[ABC] = {2, 3, 3, 1, 1, 99, 1};
    key_types(&g, KEY("token_type"), types, ABC);
    gguf_refused(&g, CLF_BAD_FILE, KEY("token_type") "[5]: expected 0 to 6, got 99");
    json_refused("[]", CLF_BAD_FILE, "model");
    json_refused("{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": \"x\"}, \"merges\": []}}", CLF_BAD_FILE, "id");
    json_refused("{\"model\": {\"type\": \"BPE\", \"vocab\": 3, \"merges\": []}}", CLF_BAD_FILE, "vocab");
    json_refused("{\"model\": {\"type\": \"Unigram\", \"vocab\": [[1, 2]]}}", CLF_BAD_FILE, "vocab[0]");
    json_refused("{\"model\": {\"type\": \"WordPiece\", \"vocab\": {\"a\": 0}}}", CLF_UNSUPPORTED, "WordPiece");
    json_refused("{\"normalizer\": {\"type\": \"Nmt\"}, \"model\": {\"type\": \"BPE\"}}", CLF_UNSUPPORTED, "Nmt");
}

/* 53: tokens twice, empty, of a megabyte, and of a kind that their spelling doesn't have. */
static void test_odd_tokens(void **state) {
    (void)state;
    static const char *const twice[] = {"<unk>", "<s>", "</s>", "a", "b", "a"};
    tiny_gguf g = gguf_begin(3);
    tiny_key_string(&g, KEY("model"), "llama");
    key_strings(&g, KEY("tokens"), twice, 6);
    key_floats(&g, KEY("scores"), 6);
    gguf_refused(&g, CLF_BAD_FILE, "token 5: \"a\" is token 3 already");

    static const char *const empty[] = {"<unk>", "", "", "\xe2\x96\x81", "a", "b", "ab"};
    g = gguf_begin(4);
    tiny_key_string(&g, KEY("model"), "llama");
    key_strings(&g, KEY("tokens"), empty, ABC);
    key_floats(&g, KEY("scores"), ABC);
    key_types(&g, KEY("token_type"), abc_types, ABC);
    clf_error err = {0};
    clf_tokenizer *t;
    assert_int_equal(gguf_open(&t, &g, &err), CLF_OK);
    int32_t ids[8];
    size_t n;
    assert_int_equal(clf_tokenize(t, "ab", 2, CLF_TOKENIZE_PARSE_SPECIAL, ids, 8, &n), CLF_OK);
    assert_int_equal(n, 2);
    assert_int_equal(ids[1], 6);
    assert_int_equal(clf_tokenizer_find(t, ""), -1);
    clf_tokenizer_destroy(t);

    char *large = malloc(MANY + 1);
    assert_non_null(large);
    memset(large, 'a', MANY);
    large[MANY] = 0;
    const char *const tokens[] = {"<unk>", "<s>", "</s>", large};
    g = gguf_begin(3);
    tiny_key_string(&g, KEY("model"), "llama");
    key_strings(&g, KEY("tokens"), tokens, 4);
    key_floats(&g, KEY("scores"), 4);
    gguf_refused(&g, CLF_BAD_FILE, "token 3: expected at most 65535 bytes, got 1048576");
    free(large);

    static const char *const byte[] = {"<unk>", "<s>", "</s>", "<0x-1>"};
    static const uint32_t byte_types[] = {2, 3, 3, 6};
    g = gguf_begin(4);
    tiny_key_string(&g, KEY("model"), "llama");
    key_strings(&g, KEY("tokens"), byte, 4);
    key_floats(&g, KEY("scores"), 4);
    key_types(&g, KEY("token_type"), byte_types, 4);
    gguf_refused(&g, CLF_BAD_FILE, "token 3: expected a byte");
    json_refused("{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 0}, \"merges\": []}}", CLF_BAD_FILE,
                 "token 0: \"a\" and \"b\"");
    json_refused("{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"a\": 1}, \"merges\": []}}", CLF_BAD_FILE,
                 "duplicate");
    json_refused("{\"model\": {\"type\": \"Unigram\", \"vocab\": [[\"a\", 0], [\"a\", 0]]}}", CLF_BAD_FILE, "already");
}

/* 54: merges of what isn't there, and in a circle. */
static void test_merges(void **state) {
    (void)state;
    static const char *const bad[] = {"a", "a ", " a", "a x", "x a", "b a", "", "a  b"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        tiny_gguf g = gguf_begin(3);
        tiny_key_string(&g, KEY("model"), "gpt2");
        key_strings(&g, KEY("tokens"), abc, ABC);
        key_strings(&g, KEY("merges"), &bad[i], 1);
        gguf_refused(&g, CLF_BAD_FILE, KEY("merges") "[0]: expected two tokens that make a third");
    }
    json_refused("{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": [\"a b\"]}}", CLF_BAD_FILE,
                 "merges[0]");
    json_refused("{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": [[\"a\"]]}}", CLF_BAD_FILE,
                 "merges[0]");
    json_refused("{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": [3]}}", CLF_BAD_FILE, "merges[0]");
    /* a merge that needs its own result ends, as every merge makes the word shorter */
    clf_tokenizer *t =
        json_open("{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"aa\": 1, \"aaa\": 2, \"aaaa\": 3}, "
                  "\"merges\": [\"aa a\", \"a aa\", \"aa aa\", \"a a\"]}}");
    int32_t ids[8];
    size_t n;
    assert_int_equal(clf_tokenize(t, "aaaaaaa", 7, 0, ids, 8, &n), CLF_OK);
    assert_true(n >= 2 && n <= 7);
    clf_tokenizer_destroy(t);
}

/* 55: ids beyond the vocabulary; -1 is none. */
static void test_ids(void **state) {
    (void)state;
    static const char *const keys[] = {KEY("bos_token_id"), KEY("eos_token_id"), KEY("unknown_token_id")};
    for (size_t i = 0; i < 3; i++) {
        tiny_gguf g = gguf_begin(5);
        tiny_key_string(&g, KEY("model"), "llama");
        key_strings(&g, KEY("tokens"), abc, ABC);
        key_floats(&g, KEY("scores"), ABC);
        key_types(&g, KEY("token_type"), abc_types, ABC);
        tiny_key_u32(&g, keys[i], ABC);
        gguf_refused(&g, CLF_BAD_FILE, "expected a token below 7, got 7");
    }
    tiny_gguf g = gguf_begin(6);
    tiny_key_string(&g, KEY("model"), "llama");
    key_strings(&g, KEY("tokens"), abc, ABC);
    key_floats(&g, KEY("scores"), ABC);
    key_types(&g, KEY("token_type"), abc_types, ABC);
    tiny_key_u32(&g, KEY("bos_token_id"), UINT32_MAX);
    tiny_key_u32(&g, KEY("eot_token_id"), 12345);
    clf_error err = {0};
    clf_tokenizer *t;
    assert_int_equal(gguf_open(&t, &g, &err), CLF_OK);
    assert_int_equal(clf_tokenizer_bos(t), -1);
    assert_int_equal(clf_tokenizer_eos(t), 2);
    assert_true(clf_tokenizer_is_end(t, 2));
    assert_false(clf_tokenizer_is_end(t, 12345));
    assert_false(clf_tokenizer_is_end(t, -1));
    assert_null(clf_tokenizer_piece(t, -1));
    assert_null(clf_tokenizer_piece(t, ABC));
    int32_t ids[4];
    size_t n;
    assert_int_equal(clf_tokenize(t, "a", 1, CLF_TOKENIZE_ADD_SPECIAL, ids, 4, &n), CLF_OK);
    assert_int_equal(ids[0], 3);
    const int32_t wrong[] = {3, ABC}, negative[] = {-1};
    char text[16];
    assert_int_equal(clf_detokenize(t, wrong, 2, true, text, sizeof text, &n), CLF_INVALID_ARGUMENT);
    assert_int_equal(clf_detokenize(t, negative, 1, true, text, sizeof text, &n), CLF_INVALID_ARGUMENT);
    clf_tokenizer_destroy(t);
    json_refused("{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 2000000000}, \"merges\": []}}", CLF_BAD_FILE,
                 "id");
    json_refused("{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": -1}, \"merges\": []}}", CLF_BAD_FILE, "id");
    json_refused("{\"model\": {\"type\": \"Unigram\", \"vocab\": [[\"a\", 0]], \"unk_id\": 1}}", CLF_BAD_FILE,
                 "unk_id");
    json_refused("{\"model\": {\"type\": \"BPE\", \"unk_token\": \"u\", \"vocab\": {\"a\": 0}, \"merges\": []}}",
                 CLF_BAD_FILE, "unk_token");
    json_refused(
        "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": []}, \"post_processor\": {\"type\": "
        "\"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"b\"}}], \"special_tokens\": {\"b\": "
        "{\"ids\": [7]}}}}",
        CLF_BAD_FILE, "post_processor");
}

static clf_tokenizer *golden(const char *name) {
    char path[256], message[256];
    clf_tokenizer *t;
    snprintf(path, sizeof path, "golden/%s", name);
    const clf_status st =
        clf_tokenizer_create(&t, &(clf_tokenizer_args){.path = path, .error = message, .error_size = sizeof message});
    if (st != CLF_OK) print_error("%s\n", message);
    assert_int_equal(st, CLF_OK);
    return t;
}

static const char *const goldens[] = {"tokenizers/llama3-bpe", "tokenizers/qwen2-bpe", "tokenizers/llama2-spm",
                                      "tokenizers/gemma-spm",  "tokenizers/unigram",   "vocab/llama-spm.gguf",
                                      "vocab/gpt-2.gguf"};
enum { GOLDENS = sizeof goldens / sizeof *goldens };

static size_t encode(const clf_tokenizer *t, const char *text, size_t length, int flags, int32_t *ids,
                     size_t capacity) {
    size_t n;
    assert_int_equal(clf_tokenize(t, text, length, flags, ids, capacity, &n), CLF_OK);
    return n;
}

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
        clf_tokenizer *t = golden(goldens[g]);
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
        clf_tokenizer *t = golden(goldens[g]);
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
    static const char *const bad[] = {"(", "[a", "a{3,1}", "(?<n>", "\\\\p{Nonsense}", "*", "\\\\"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char json[512];
        snprintf(
            json, sizeof json,
            "{\"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"Regex\": \"%s\"}, \"behavior\": \"Isolated\"}, "
            "\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": []}}",
            bad[i]);
        json_refused(json, CLF_BAD_FILE, "pattern");
    }
    tiny_gguf g = gguf_begin(4);
    tiny_key_string(&g, KEY("model"), "gpt2");
    tiny_key_string(&g, KEY("pre"), "no-such-pattern");
    key_strings(&g, KEY("tokens"), abc, ABC);
    key_strings(&g, KEY("merges"), abc, 0);
    gguf_refused(&g, CLF_UNSUPPORTED, "no-such-pattern");
}

/* 59: room for nothing, for less than all, for all. */
static void test_capacity(void **state) {
    (void)state;
    clf_tokenizer *t = golden("vocab/llama-spm.gguf");
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
    clf_tokenizer *t = golden("tokenizers/llama3-bpe");
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
        clf_tokenizer *t = golden(goldens[g]);
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
        clf_tokenizer *t = golden(goldens[g]);
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

/* Damaged protobuf: every prefix, and every byte turned. */
static void test_model_file(void **state) {
    (void)state;
    /* pieces "<unk>", "<s>", "</s>", U+2581, "a"; BPE; add_dummy_prefix */
    char file[256];
    size_t n = 0;
    static const struct {
        const char *text;
        int kind;
    } pieces[] = {{"<unk>", 2},
                  {"<s>", 3},
                  {"</s>", 3},
                  {"\xe2\x96\x81", 1},
                  {"a", 1},
                  {"\xe2\x96\x81"
                   "a",
                   1}};
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        const size_t m = strlen(pieces[i].text);
        file[n++] = 0x0A;
        file[n++] = (char)(m + 9);
        file[n++] = 0x0A;
        file[n++] = (char)m;
        memcpy(file + n, pieces[i].text, m);
        n += m;
        const float score = -(float)i;
        file[n++] = 0x15;
        memcpy(file + n, &score, 4);
        n += 4;
        file[n++] = 0x18;
        file[n++] = (char)pieces[i].kind;
    }
    static const char rest[] = "\x12\x02\x18\x02\x1a\x06\x18\x01\x20\x00\x28\x01";
    memcpy(file + n, rest, sizeof rest - 1);
    n += sizeof rest - 1;
    clf_tokenizer *t;
    clf_error err = {0};
    assert_int_equal(clf_tokenizer_from_model(&t, file, n, &err), CLF_OK);
    assert_int_equal(clf_tokenizer_finish(t, &err), CLF_OK);
    int32_t ids[8];
    assert_int_equal(encode(t, "a a", 3, CLF_TOKENIZE_ADD_SPECIAL, ids, 8), 3);
    assert_int_equal(ids[0], 1);
    assert_int_equal(ids[1], 5);
    clf_tokenizer_destroy(t);
    for (size_t length = 0; length < n; length++) {
        char *part = malloc(length ? length : 1); /* so that reading beyond it shows */
        assert_non_null(part);
        memcpy(part, file, length);
        if (clf_tokenizer_from_model(&t, part, length, &err) == CLF_OK) {
            const clf_status st = clf_tokenizer_finish(t, &err);
            assert_true(st == CLF_OK || st == CLF_BAD_FILE);
            clf_tokenizer_destroy(t);
        } else {
            assert_null(t);
            assert_true(err.message[0] != 0);
        }
        free(part);
    }
    for (size_t i = 0; i < n * 8; i++) {
        char turned[256];
        memcpy(turned, file, n);
        turned[i / 8] ^= (char)(1 << i % 8);
        if (clf_tokenizer_from_model(&t, turned, n, &err) == CLF_OK) {
            if (clf_tokenizer_finish(t, &err) == CLF_OK) {
                size_t count;
                clf_tokenize(t, "a a</s>", 7, CLF_TOKENIZE_PARSE_SPECIAL, ids, 8, &count);
            }
            clf_tokenizer_destroy(t);
        }
    }
}

static void test_paths(void **state) {
    (void)state;
    static const struct {
        const char *path;
        clf_status status;
    } cases[] = {{NULL, CLF_INVALID_ARGUMENT},      {"", CLF_INVALID_ARGUMENT},
                 {"golden/nowhere", CLF_NOT_FOUND}, {"golden/nowhere.json", CLF_NOT_FOUND},
                 {"golden", CLF_NOT_FOUND},         {"golden/tokenizers/unigram/expect.json", CLF_BAD_FILE},
                 {"tokenizer.c", CLF_BAD_FILE},     {"golden/tokenizers/unigram/tokenizer.json", CLF_OK},
                 {"/dev/null", CLF_BAD_FILE}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        clf_tokenizer *t;
        char message[64] = "untouched";
        const clf_status st = clf_tokenizer_create(
            &t, &(clf_tokenizer_args){.path = cases[i].path, .error = message, .error_size = sizeof message});
        if (st != cases[i].status) print_error("%s: %d %s\n", cases[i].path, st, message);
        assert_int_equal(st, cases[i].status);
        assert_int_equal(st == CLF_OK, t != NULL);
        assert_int_equal(st == CLF_OK, message[0] == 0);
        clf_tokenizer_destroy(t);
    }
    assert_int_equal(clf_tokenizer_create(NULL, NULL), CLF_INVALID_ARGUMENT);
    clf_tokenizer *t;
    assert_int_equal(clf_tokenizer_create(&t, NULL), CLF_INVALID_ARGUMENT);
    assert_int_equal(clf_tokenizer_create(&t, &(clf_tokenizer_args){.path = "golden/nowhere"}), CLF_NOT_FOUND);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_lengths_differ),
                                       cmocka_unit_test(test_element_types),
                                       cmocka_unit_test(test_odd_tokens),
                                       cmocka_unit_test(test_merges),
                                       cmocka_unit_test(test_ids),
                                       cmocka_unit_test(test_bytes),
                                       cmocka_unit_test(test_long_runs),
                                       cmocka_unit_test(test_pathological_pattern),
                                       cmocka_unit_test(test_capacity),
                                       cmocka_unit_test(test_long_text),
                                       cmocka_unit_test(test_special_in_text),
                                       cmocka_unit_test(test_stream),
                                       cmocka_unit_test(test_model_file),
                                       cmocka_unit_test(test_paths)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
