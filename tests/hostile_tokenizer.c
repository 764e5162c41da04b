/* hostile_tokenizer.c: tokenizers from hostile files (cases 51 to 55, and 58 of the list of hostile inputs): arrays of
 * other lengths and types, odd tokens, merges and ids of none, patterns that are none, damaged protobuf. */
#include "tokenizer_case.h"

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

/* 58: patterns that aren't any, and a name that none has. */
static void test_patterns(void **state) {
    (void)state;
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
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lengths_differ), cmocka_unit_test(test_element_types), cmocka_unit_test(test_odd_tokens),
        cmocka_unit_test(test_merges),         cmocka_unit_test(test_ids),           cmocka_unit_test(test_patterns),
        cmocka_unit_test(test_model_file),     cmocka_unit_test(test_paths)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
