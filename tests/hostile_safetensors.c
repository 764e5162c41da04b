/* hostile_safetensors.c: hostile inputs 32 and 36 to 50: safetensors files that lie, shards that are missing, doubled
 * or elsewhere; and 33 and 34 for config.json. */
#include "hostile.h"

#include "../lib/model/model_file.h"
#include "../lib/model/read_config.h"

/* n, header, `data` zero bytes */
static bytes file_of(uint64_t n, const char *header, size_t data) {
    bytes b = {0};
    put_u64(&b, n);
    put(&b, header, strlen(header));
    put_zeros(&b, data);
    return b;
}

static void check(int item, const char *what, bytes *b, clf_status status, const char *part) {
    for (int way = 0; way < 3; way++) {
        clf_safetensors *s;
        clf_error err = {0};
        clf_model_file_args args = {.path = in_folder("x.safetensors"), .mmap = way == 1};
        uint8_t *exact = malloc(b->size + 1); /* so that a byte too far is noticed */
        assert_non_null(exact);
        if (b->size) memcpy(exact, b->data, b->size);
        uint8_t *fitting = realloc(exact, b->size ? b->size : 1);
        assert_non_null(fitting);
        if (way == 2) args = (clf_model_file_args){.data = fitting, .data_size = b->size};
        save(in_folder("x.safetensors"), b->data, b->size);
        const double start = seconds();
        const clf_status st = clf_safetensors_open(&s, &args, &err);
        expect(item, what, st, &err, status, part, start);
        assert_true((s != NULL) == (st == CLF_OK));
        clf_safetensors_close(s);
        free(fitting);
    }
    save_seed(item, what, b);
    free(b->data);
    *b = (bytes){0};
}

#define A(shape, begin, end) "{\"a\":{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":[" begin "," end "]}}"
#define AB(b0, b1)                                                                                                     \
    "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"                                                 \
    "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[" b0 "," b1 "]}}"
#define TYPED(dtype) "{\"a\":{\"dtype\":" dtype ",\"shape\":[8],\"data_offsets\":[0,8]}}"

static void test_headers(void **state) {
    (void)state;
    static const struct {
        int item;
        const char *what, *header;
        size_t data;
        clf_status status;
        const char *part;
    } cases[] = {
        {38, "a good one", A("[2,3]", "0", "24"), 24, CLF_OK, ""},
        {38, "spaces after it", A("[2,3]", "0", "24") "       ", 24, CLF_OK, ""},
        {38, "space before it", " " A("[2,3]", "0", "24"), 24, CLF_BAD_FILE, "expected {"},
        {38, "an array", "[]", 0, CLF_BAD_FILE, "expected {"},
        {38, "two objects", "{}{}", 0, CLF_BAD_FILE, "JSON"},
        {38, "bad UTF-8", "{\"\xff\":1}", 0, CLF_BAD_FILE, "JSON"},
        {38, "NUL in a name", "{\"a\\u0000b\":{}}", 0, CLF_BAD_FILE, "JSON"},
        {38, "a tensor that is no object", "{\"a\":1}", 0, CLF_BAD_FILE, "expected an object"},
        {38, "a tensor of nothing", "{\"a\":{}}", 0, CLF_BAD_FILE, "dtype"},
        {40, "duplicate", "{\"a\":{},\"a\":{}}", 0, CLF_BAD_FILE, "duplicate"},
        {40, "duplicate member", "{\"a\":{\"dtype\":\"F32\",\"dtype\":\"U8\"}}", 8, CLF_BAD_FILE, "duplicate"},
        {41, "begin above end", A("[2]", "8", "0"), 8, CLF_BAD_FILE, "expected begin <= end"},
        {41, "negative", A("[2]", "-8", "0"), 8, CLF_BAD_FILE, "data_offsets"},
        {41, "a real number", A("[2]", "0.0", "8"), 8, CLF_BAD_FILE, "data_offsets"},
        {41, "2^63", A("[2]", "0", "9223372036854775808"), 8, CLF_BAD_FILE, "too big"},
        {41, "2^63-1", A("[2]", "9223372036854775799", "9223372036854775807"), 8, CLF_BAD_FILE, "a hole"},
        {41, "text", A("[2]", "\"0\"", "8"), 8, CLF_BAD_FILE, "data_offsets"},
        {41, "three offsets", "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1,2]}}", 8, CLF_BAD_FILE,
         "two integers"},
        {41, "no offsets", "{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 8, CLF_BAD_FILE, "two integers"},
        {42, "overlap", AB("4", "12"), 12, CLF_BAD_FILE, "an overlap"},
        {42, "the same bytes", AB("0", "8"), 8, CLF_BAD_FILE, "an overlap"},
        {43, "a hole", AB("12", "20"), 20, CLF_BAD_FILE, "a hole"},
        {43, "a hole before all", A("[2]", "8", "16"), 16, CLF_BAD_FILE, "a hole"},
        {44, "bytes after all", A("[2]", "0", "8"), 9, CLF_BAD_FILE, "expected 8 bytes of data, got 9"},
        {44, "a byte too few", A("[2]", "0", "8"), 7, CLF_BAD_FILE, "expected 8 bytes of data, the file has 7"},
        {44, "bytes without tensors", "{}", 1, CLF_BAD_FILE, "expected 0 bytes"},
        {45, "shape that wraps to 0", A("[4294967296,4294967296]", "0", "0"), 0, CLF_BAD_FILE, "overflows"},
        {45, "bytes that wrap to 0", A("[4611686018427387904]", "0", "0"), 0, CLF_BAD_FILE, "overflows"},
        {45, "bytes that wrap", A("[2305843009213693953,2]", "0", "8"), 8, CLF_BAD_FILE, "overflows"},
        {45, "negative shape", A("[-2]", "0", "8"), 8, CLF_BAD_FILE, "shape"},
        {45, "real shape", A("[2.0]", "0", "8"), 8, CLF_BAD_FILE, "shape"},
        {45, "shape that is no array", A("8", "0", "8"), 8, CLF_BAD_FILE, "shape"},
        {45, "5 dimensions", A("[1,1,1,1,2]", "0", "8"), 8, CLF_UNSUPPORTED, "at most 4 dimensions, got 5"},
        {46, "span too short", A("[3]", "0", "8"), 8, CLF_BAD_FILE, "expected 12 bytes for its shape and dtype, got 8"},
        {46, "span too long", A("[1]", "0", "8"), 8, CLF_BAD_FILE, "expected 4 bytes"},
        {47, "F4", TYPED("\"F4\""), 8, CLF_UNSUPPORTED, "got F4"},
        {47, "F8_E4M3", TYPED("\"F8_E4M3\""), 8, CLF_UNSUPPORTED, "got F8_E4M3"},
        {47, "U32", TYPED("\"U32\""), 8, CLF_UNSUPPORTED, "got U32"},
        {47, "lower case", TYPED("\"u8\""), 8, CLF_UNSUPPORTED, "got u8"},
        {47, "a number", TYPED("0"), 8, CLF_BAD_FILE, "expected a string"},
        {48, "metadata of a number", "{\"__metadata__\":{\"a\":1}}", 0, CLF_BAD_FILE, "__metadata__"},
        {48, "metadata that are no object", "{\"__metadata__\":[]}", 0, CLF_BAD_FILE, "__metadata__"},
        {48, "metadata alone", "{\"__metadata__\":{\"a\":\"b\"}}", 0, CLF_OK, ""},
        {49, "no element", A("[2,0]", "0", "0"), 0, CLF_OK, ""},
        {49, "no dimension", A("[]", "0", "4"), 4, CLF_OK, ""},
        {49, "no element amid others",
         "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
         "\"z\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[1,1]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}",
         2, CLF_OK, ""},
        {49, "no element of 2^63-1", A("[9223372036854775807,0]", "0", "0"), 0, CLF_OK, ""},
        {49, "nothing", "{}", 0, CLF_OK, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bytes b = file_of(strlen(cases[i].header), cases[i].header, cases[i].data);
        check(cases[i].item, cases[i].what, &b, cases[i].status, cases[i].part);
    }
}

static void test_lengths(void **state) {
    (void)state;
    for (size_t n = 0; n < 8; n++) {
        bytes b = {0};
        put_zeros(&b, n);
        check(36, "under 8 bytes", &b, CLF_BAD_FILE, "at least 8 bytes");
    }
    static const uint64_t lengths[] = {0, 1, 3, 1000, 100000001, (uint64_t)1 << 63, UINT64_MAX, UINT64_MAX - 7};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        bytes b = file_of(lengths[i], "{}", 0);
        check(37, "a header of another length", &b, CLF_BAD_FILE, "header: expected 2 to 2 bytes");
    }
    bytes b = file_of(100000001, "{}", 0);
    save(in_folder("long.safetensors"), b.data, b.size);
    free(b.data);
    assert_int_equal(truncate(in_folder("long.safetensors"), (off_t)1 << 40), 0);
    for (int map = 0; map < 2; map++) {
        clf_safetensors *s;
        clf_error err = {0};
        const double start = seconds();
        const clf_model_file_args args = {.path = in_folder("long.safetensors"), .mmap = map};
        const clf_status st = clf_safetensors_open(&s, &args, &err);
        expect(37, "a header above 100 MB", st, &err, CLF_BAD_FILE, "header: expected 2 to 100000000 bytes", start);
    }
}

/* `n` times `open`, then as many `close` */
static bytes nested(const char *before, const char *open, const char *close, int n) {
    bytes text = {0}, b = {0};
    put(&text, before, strlen(before));
    for (int i = 0; i < n; i++) put(&text, open, strlen(open));
    for (int i = 0; i < n; i++) put(&text, close, strlen(close));
    put_u8(&text, '}');
    put_u64(&b, text.size);
    put(&b, text.data, text.size);
    free(text.data);
    return b;
}

static void test_deep(void **state) {
    (void)state;
    bytes b = nested("{\"a\":", "[", "]", 1000000);
    check(39, "a million arrays deep", &b, CLF_BAD_FILE, "JSON");
    b = nested("{\"a\":", "{\"a\":", "}", 1000000);
    check(39, "a million objects deep", &b, CLF_BAD_FILE, "JSON");
    b = nested("{\"a\":", "[", "]", 1000);
    check(39, "a thousand arrays deep", &b, CLF_BAD_FILE, "expected an object");
}

/* 37: as many values as 90 MB can hold. */
static void test_many_values(void **state) {
    (void)state;
    bytes text = {0}, b = {0};
    put(&text, "{\"a\":[0", 7);
    for (int i = 0; i < 45000000; i++) put(&text, ",0", 2);
    put(&text, "]}", 2);
    put_u64(&b, text.size);
    put(&b, text.data, text.size);
    free(text.data);
    check(37, "45 million values", &b, CLF_BAD_FILE, "at most 16777216 values");
}

/* Every prefix is refused, every byte may be anything. */
static void test_truncated(void **state) {
    (void)state;
    const char *header = AB("8", "16");
    bytes b = file_of(strlen(header), header, 16);
    clf_safetensors *s;
    for (size_t n = 0; n < b.size; n++) {
        uint8_t *prefix = malloc(n + 1);
        clf_error err = {0};
        assert_non_null(prefix);
        memcpy(prefix, b.data, n);
        assert_int_equal(clf_safetensors_open(&s, &(clf_model_file_args){.data = prefix, .data_size = n}, &err),
                         CLF_BAD_FILE);
        assert_true(err.message[0]);
        free(prefix);
    }
    for (size_t i = 0; i < b.size; i++)
        for (int value = 0; value < 256; value += 5) {
            const uint8_t old = b.data[i];
            b.data[i] = (uint8_t)value;
            clf_error err = {0};
            clf_safetensors_open(&s, &(clf_model_file_args){.data = b.data, .data_size = b.size}, &err);
            clf_safetensors_close(s);
            b.data[i] = old;
        }
    free(b.data);
}

static void expect_folder(int item, const char *what, clf_status status, const char *part) {
    clf_safetensors *s;
    clf_error err = {0};
    const double start = seconds();
    const clf_status st = clf_safetensors_open(&s, &(clf_model_file_args){.path = folder}, &err);
    expect(item, what, st, &err, status, part, start);
    clf_safetensors_close(s);
}

static void save_text(const char *name, const char *text) {
    save(in_folder(name), text, strlen(text));
}

static void save_tensor(const char *file, const char *name) {
    char header[200];
    snprintf(header, sizeof header, "{\"%s\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", name);
    bytes b = file_of(strlen(header), header, 1);
    save(in_folder(file), b.data, b.size);
    free(b.data);
}

#define INDEX(map) "{\"metadata\":{\"total_size\":2},\"weight_map\":" map "}"

static void test_shards(void **state) {
    (void)state;
    const char *index = "model.safetensors.index.json";
    unlink(in_folder("model.safetensors"));
    unlink(in_folder(index));
    expect_folder(32, "nothing in it", CLF_NOT_FOUND, "model.safetensors");
    static const char *const outside[] = {"../1.safetensors", "/etc/passwd", "sub/1.safetensors", "..", ".", "",
                                          "..\\\\1"};
    for (size_t i = 0; i < sizeof outside / sizeof *outside; i++) {
        char text[200];
        snprintf(text, sizeof text, INDEX("{\"a\":\"%s\"}"), outside[i]);
        save_text(index, text);
        expect_folder(50, outside[i], CLF_BAD_FILE, "expected the name of a file in this folder");
    }
    static const char *const bad[] = {"{}", INDEX("[]"), INDEX("{}"), INDEX("{\"a\":1}"), "[", ""};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        save_text(index, bad[i]);
        expect_folder(32, bad[i], CLF_BAD_FILE, i < 4 ? "weight_map" : "JSON");
    }
    save_text(index, INDEX("{\"a\":\"1.safetensors\",\"b\":\"2.safetensors\"}"));
    save_tensor("1.safetensors", "a");
    expect_folder(32, "missing", CLF_NOT_FOUND, "2.safetensors");
    save_tensor("2.safetensors", "b");
    expect_folder(32, "two good ones", CLF_OK, "");
    save_tensor("2.safetensors", "a");
    expect_folder(32, "a tensor in both", CLF_BAD_FILE, "occurs in two shards");
    save_tensor("2.safetensors", "c");
    expect_folder(32, "a tensor in none", CLF_BAD_FILE, "weight_map: b: not in 2.safetensors");
    save_text(index, INDEX("{\"b\":\"1.safetensors\",\"a\":\"2.safetensors\"}"));
    save_tensor("2.safetensors", "b");
    expect_folder(32, "exchanged", CLF_BAD_FILE, "not in");
    assert_int_equal(unlink(in_folder("2.safetensors")), 0);
    assert_int_equal(symlink("2.safetensors", in_folder("2.safetensors")), 0);
    expect_folder(31, "symlink loop", CLF_IO_ERROR, "2.safetensors");
    unlink(in_folder("2.safetensors"));
    assert_int_equal(mkfifo(in_folder("2.safetensors"), 0600), 0);
    expect_folder(31, "FIFO", CLF_BAD_FILE, "regular file");
    unlink(in_folder(index));
    assert_int_equal(mkdir(in_folder("model.safetensors"), 0700), 0);
    expect_folder(31, "folder", CLF_BAD_FILE, "a folder");
    rmdir(in_folder("model.safetensors"));
}

#define CONFIG(more)                                                                                                   \
    "{\"model_type\":\"llama\",\"num_hidden_layers\":2,\"hidden_size\":48,\"intermediate_size\":80,"                   \
    "\"num_attention_heads\":4" more "}"

static void test_configs(void **state) {
    (void)state;
    static const struct {
        const char *text;
        clf_status status;
        const char *part;
    } cases[] = {
        {CONFIG(""), CLF_OK, ""},
        {"", CLF_BAD_FILE, "JSON"},
        {"[]", CLF_BAD_FILE, "object"},
        {"{}", CLF_BAD_FILE, "model_type: missing"},
        {"{\"model_type\":1}", CLF_BAD_FILE, "model_type"},
        {"{\"model_type\":\"mamba\"}", CLF_UNSUPPORTED,
         "llama, mistral, qwen2, qwen3, gemma2, gemma3, phi3; got \"mamba\""},
        {"{\"model_type\":\"llama\"}", CLF_BAD_FILE, "num_hidden_layers: missing"},
        {CONFIG(",\"num_attention_heads\":4"), CLF_BAD_FILE, "duplicate"},
        {CONFIG(",\"rms_norm_eps\":NaN"), CLF_BAD_FILE, "JSON"},
        {CONFIG(",\"rms_norm_eps\":1e999"), CLF_BAD_FILE, "JSON"},
        {CONFIG(",\"rms_norm_eps\":-1"), CLF_BAD_FILE, "epsilon"},
        {CONFIG(",\"rms_norm_eps\":\"1\""), CLF_BAD_FILE, "rms_norm_eps: expected a number"},
        {CONFIG(",\"num_key_value_heads\":0"), CLF_BAD_FILE, "key/value heads"},
        {CONFIG(",\"num_key_value_heads\":3"), CLF_BAD_FILE, "divisor of 4"},
        {CONFIG(",\"num_key_value_heads\":-1"), CLF_BAD_FILE, "got -1"},
        {CONFIG(",\"num_key_value_heads\":1e300"), CLF_BAD_FILE, "expected an integer"},
        {CONFIG(",\"num_key_value_heads\":4294967298"), CLF_BAD_FILE, "32 bits"},
        {CONFIG(",\"head_dim\":0"), CLF_BAD_FILE, "head dimension"},
        {CONFIG(",\"head_dim\":13"), CLF_BAD_FILE, "even number"},
        {CONFIG(",\"head_dim\":320"), CLF_UNSUPPORTED, "at most 256"},
        {CONFIG(",\"head_dim\":null"), CLF_OK, ""},
        {CONFIG(",\"rope_theta\":0"), CLF_BAD_FILE, "rope: base"},
        {CONFIG(",\"rope_parameters\":7"), CLF_BAD_FILE, "rope_parameters"},
        {CONFIG(",\"rope_scaling\":{\"type\":\"linear\",\"factor\":0}"), CLF_BAD_FILE, "factor"},
        {CONFIG(",\"rope_scaling\":{\"type\":\"linear\",\"factor\":1e-60}"), CLF_BAD_FILE, "factor"},
        {CONFIG(",\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":2}"), CLF_UNSUPPORTED, "got dynamic"},
        {CONFIG(",\"rope_scaling\":{\"type\":3}"), CLF_BAD_FILE, "rope_type"},
        {CONFIG(
             ",\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":4,\"high_freq_factor\":4}"),
         CLF_BAD_FILE, "high_freq_factor"},
        {CONFIG(",\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":8,\"original_max_position_embeddings\":0}"),
         CLF_BAD_FILE, "original"},
        {CONFIG(",\"rope_scaling\":{\"rope_type\":\"longrope\",\"short_factor\":[1],\"long_factor\":[1]}"),
         CLF_BAD_FILE, "short_factor: expected an array of 6"},
        {CONFIG(",\"rope_scaling\":{\"rope_type\":\"longrope\",\"short_factor\":[1,1,1,1,1,0],\"long_factor\":[1,1,1,1,"
                "1,1]}"),
         CLF_BAD_FILE, "frequency factor 5"},
        {CONFIG(",\"partial_rotary_factor\":0"), CLF_BAD_FILE, "partial_rotary_factor"},
        {CONFIG(",\"partial_rotary_factor\":2"), CLF_BAD_FILE, "partial_rotary_factor"},
        {CONFIG(",\"layer_types\":[\"full_attention\"]"), CLF_BAD_FILE, "array of 2"},
        {CONFIG(",\"layer_types\":[\"full_attention\",\"linear_attention\"]"), CLF_UNSUPPORTED, "linear_attention"},
        {CONFIG(",\"layer_types\":[\"full_attention\",1]"), CLF_UNSUPPORTED, "no string"},
        {CONFIG(",\"hidden_act\":\"relu\""), CLF_UNSUPPORTED, "relu"},
        {CONFIG(",\"sliding_window\":-4"), CLF_BAD_FILE, "sliding window"},
        {CONFIG(",\"vocab_size\":-4"), CLF_BAD_FILE, "vocabulary"},
        {CONFIG(",\"max_position_embeddings\":0"), CLF_BAD_FILE, "context"},
        {CONFIG(",\"quantization_config\":{\"quant_method\":\"gptq\"}"), CLF_UNSUPPORTED, "quantization_config"},
        {CONFIG(",\"tie_word_embeddings\":\"yes\""), CLF_BAD_FILE, "tie_word_embeddings"},
        {"{\"model_type\":\"llama\",\"num_hidden_layers\":2147483648,\"hidden_size\":8,\"intermediate_size\":8}",
         CLF_BAD_FILE, "32 bits"},
        {"{\"model_type\":\"llama\",\"num_hidden_layers\":1000000,\"hidden_size\":8,\"intermediate_size\":8}",
         CLF_BAD_FILE, "num_hidden_layers"},
        {"{\"model_type\":\"llama\",\"num_hidden_layers\":1,\"hidden_size\":8,\"intermediate_size\":8,\"num_attention_"
         "heads\":0}",
         CLF_BAD_FILE, "expected a positive number"},
        {"{\"model_type\":\"gemma3\",\"text_config\":[]}", CLF_BAD_FILE, "text_config"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        clf_config c;
        const clf_architecture *a;
        clf_error err = {0};
        const double start = seconds();
        clf_status st = clf_config_from_json(&c, &a, cases[i].text, strlen(cases[i].text), &err);
        if (st == CLF_OK && !c.vocab_size) c.vocab_size = 4;
        if (st == CLF_OK) st = clf_config_check(&c, &err);
        expect(33, cases[i].text, st, &err, cases[i].status, cases[i].part, start);
    }
}

/* 34: a folder whose tensors don't fit its config.json. */
static void test_folder(void **state) {
    (void)state;
    clf_model_file *f;
    clf_error err = {0};
    const char *path = in_folder("model");
    assert_int_equal(mkdir(path, 0700), 0);
    save_text("model/config.json", CONFIG(""));
    save_tensor("model/model.safetensors", "model.embed_tokens.weight");
    double start = seconds();
    expect(34, "dimensions", clf_model_file_open(&f, &(clf_model_file_args){.path = path}, &err), &err, CLF_BAD_FILE,
           "tensor token_embd.weight: expected two dimensions, got 1", start);
    save_tensor("model/model.safetensors", "model.layers.0.mixer.weight");
    expect(34, "unknown part", clf_model_file_open(&f, &(clf_model_file_args){.path = path}, &err), &err,
           CLF_UNSUPPORTED, "model.layers.0.mixer.weight", start);
    save_tensor("model/model.safetensors", "model.layers.2.input_layernorm.weight");
    expect(34, "a layer too many", clf_model_file_open(&f, &(clf_model_file_args){.path = path}, &err), &err,
           CLF_UNSUPPORTED, "model.layers.2.", start);
    save_tensor("model/model.safetensors", "vision_tower.weight");
    expect(34, "no embedding", clf_model_file_open(&f, &(clf_model_file_args){.path = path}, &err), &err, CLF_BAD_FILE,
           "token_embd.weight: missing", start);
}

int main(int argc, char **argv) {
    if (argc == 3 && !strcmp(argv[1], "--seeds")) seeds = argv[2];
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_headers), cmocka_unit_test(test_lengths),
                                       cmocka_unit_test(test_deep),    cmocka_unit_test(test_truncated),
                                       cmocka_unit_test(test_shards),  cmocka_unit_test(test_configs),
                                       cmocka_unit_test(test_folder),  cmocka_unit_test(test_many_values)};
    return cmocka_run_group_tests_name("hostile_safetensors", tests, make_folder, remove_and_weigh);
}
