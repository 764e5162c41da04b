/* hostile_model.c: hostile inputs 5 and 32 to 34: models whose configuration is impossible or whose tensors don't fit
 * it, cut off anywhere, or in shards that don't belong together. */
#include "hostile_gguf.h"

#define KEY(name, of_type, value)                                                                                      \
    { .key = name, .type = CLF_GGUF_##of_type, .bits = value }

static void test_models(void **state) {
    (void)state;
    const struct {
        int item;
        const char *what;
        change c;
        clf_status status;
        const char *part;
    } cases[] = {
        {33, "a good one", {0}, CLF_OK, ""},
        {33, "no head", KEY("attention.head_count", U32, 0), CLF_BAD_FILE, "expected a positive number, got 0"},
        {33, "3 heads", KEY("attention.head_count", U32, 3), CLF_BAD_FILE, "expected a divisor of 3 heads, got 2"},
        {33, "-1 heads", KEY("attention.head_count", I32, UINT32_MAX), CLF_BAD_FILE, "got -1"},
        {33, "2^32 heads", KEY("attention.head_count", U64, (uint64_t)1 << 32), CLF_BAD_FILE, "32 bits"},
        {33, "heads in F32", KEY("attention.head_count", F32, 0x40000000), CLF_BAD_FILE, "expected an integer"},
        {33, "no key head", KEY("attention.head_count_kv", U32, 0), CLF_BAD_FILE, "key/value heads"},
        {33, "more key heads", KEY("attention.head_count_kv", U32, 8), CLF_BAD_FILE, "key/value heads"},
        {33, "3 key heads", KEY("attention.head_count_kv", U32, 3), CLF_BAD_FILE,
         "expected a divisor of 4 heads, got 3"},
        {33, "2^31 layers", KEY("block_count", U32, 1u << 31), CLF_BAD_FILE, "block_count"},
        {33, "2^30 layers", KEY("block_count", U32, 1u << 30), CLF_BAD_FILE, "block_count"},
        {33, "no layer", KEY("block_count", U32, 0), CLF_BAD_FILE, "block_count"},
        {33, "2 layers", KEY("block_count", U32, 2), CLF_BAD_FILE, "tensor blk.1.attn_norm.weight: missing"},
        {33, "epsilon NaN", KEY("attention.layer_norm_rms_epsilon", F32, 0x7fc00000), CLF_BAD_FILE, "epsilon"},
        {33, "epsilon -1", KEY("attention.layer_norm_rms_epsilon", F32, 0xbf800000), CLF_BAD_FILE, "epsilon"},
        {33, "rope base 0", KEY("rope.freq_base", F32, 0), CLF_BAD_FILE, "rope: base"},
        {33, "rope base inf", KEY("rope.freq_base", F32, 0x7f800000), CLF_BAD_FILE, "rope: base"},
        {33, "rope scaling NaN", KEY("rope.scaling.factor", F32, 0x7fc00000), CLF_BAD_FILE, "factor"},
        {33, "odd rope dimensions", KEY("rope.dimension_count", U32, 1), CLF_BAD_FILE, "rotated dimensions"},
        {33, "large rope dimensions", KEY("rope.dimension_count", U32, 4), CLF_BAD_FILE, "rotated dimensions"},
        {33, "head dimension 512", KEY("attention.key_length", U32, 512), CLF_UNSUPPORTED, "at most 256"},
        {33, "window -1", KEY("attention.sliding_window", I32, UINT32_MAX), CLF_BAD_FILE, "sliding window"},
        {33, "window pattern -1", KEY("attention.sliding_window_pattern", I32, UINT32_MAX), CLF_BAD_FILE, "pattern"},
        {33, "context 0", KEY("context_length", U32, 0), CLF_BAD_FILE, "context"},
        {33, "hidden 0", KEY("embedding_length", U32, 0), CLF_BAD_FILE, "hidden"},
        {33, "hidden 2^31-1", KEY("embedding_length", U32, INT32_MAX), CLF_BAD_FILE, "hidden"},
        {33, "experts", KEY("expert_count", U32, 8), CLF_UNSUPPORTED, "experts"},
        {33, "vocabulary above the embedding", KEY("vocab_size", U32, 5), CLF_BAD_FILE,
         "expected at least 5 rows, got 4"},
        {33, "no epsilon", {.key = "attention.layer_norm_rms_epsilon", .drop = true}, CLF_BAD_FILE, "missing"},
        {33, "no heads", {.key = "attention.head_count", .drop = true}, CLF_BAD_FILE, "missing"},
        {34,
         "narrow query",
         {.tensor = "blk.0.attn_q.weight", .ne = {8, 4}},
         CLF_BAD_FILE,
         "tensor blk.0.attn_q.weight: shape: expected [8, 8], got [4, 8]"},
        {34,
         "query as a vector",
         {.tensor = "blk.0.attn_q.weight", .ne = {64}},
         CLF_BAD_FILE,
         "expected [8, 8], got [64]"},
        {34,
         "norm as a matrix",
         {.tensor = "blk.0.attn_norm.weight", .ne = {4, 2}},
         CLF_BAD_FILE,
         "expected [8], got [2, 4]"},
        {34,
         "transposed down",
         {.tensor = "blk.0.ffn_down.weight", .ne = {8, 16}},
         CLF_BAD_FILE,
         "expected [8, 16], got [16, 8]"},
        {34,
         "embedding of other width",
         {.tensor = "token_embd.weight", .ne = {16, 4}},
         CLF_BAD_FILE,
         "expected [4, 8], got [4, 16]"},
        {34, "embedding as a vector", {.tensor = "token_embd.weight", .ne = {32}}, CLF_BAD_FILE, "two dimensions"},
        {34, "weights in I8", {.tensor = "blk.0.attn_q.weight", .dtype = 24}, CLF_UNSUPPORTED, "got i8"},
        {34,
         "no query",
         {.tensor = "blk.0.attn_q.weight", .drop = true},
         CLF_BAD_FILE,
         "tensor blk.0.attn_q.weight: missing"},
        {34, "no embedding", {.tensor = "token_embd.weight", .drop = true}, CLF_BAD_FILE, "token_embd.weight: missing"},
        {34, "a layer too many", {.extra = "blk.1.attn_norm.weight"}, CLF_UNSUPPORTED, "blk.1.attn_norm.weight"},
        {34, "layer 2^64", {.extra = "blk.18446744073709551616.attn_norm.weight"}, CLF_UNSUPPORTED, "blk.1844"},
        {34, "unknown part", {.extra = "blk.0.attn_sinks.weight"}, CLF_UNSUPPORTED, "blk.0.attn_sinks.weight"},
        {34, "bias of a norm", {.extra = "blk.0.attn_norm.bias"}, CLF_UNSUPPORTED, "blk.0.attn_norm.bias"},
        {34, "bias of a query", {.extra = "blk.0.attn_q.bias"}, CLF_OK, ""},
        {34, "head norm", {.extra = "blk.0.attn_q_norm.weight"}, CLF_UNSUPPORTED, "blk.0.attn_q_norm.weight"},
        {34, "factors of other length", {.extra = "rope_freqs.weight"}, CLF_BAD_FILE, "expected [1], got [8]"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bytes b = model(&cases[i].c);
        check(cases[i].item, cases[i].what, AS_MODEL, &b, cases[i].status, cases[i].part);
    }
    bytes b = header(3, 0, 1);
    put_text(&b, "general.architecture", "mamba");
    check(33, "unknown architecture", AS_MODEL, &b, CLF_UNSUPPORTED,
          "llama, mistral, qwen2, qwen3, gemma2, gemma3, phi3");
    b = one_key("general.architecture");
    put_u32(&b, CLF_GGUF_U8);
    put_u8(&b, 0);
    check(33, "architecture as a number", AS_MODEL, &b, CLF_BAD_FILE, "general.architecture");
}

/* 5: no prefix of a good file is good, and each byte may be anything. */
static void test_truncated(void **state) {
    (void)state;
    bytes b = model(&(change){0});
    for (size_t n = 0; n < b.size; n++) {
        uint8_t *prefix = malloc(n + 1);
        clf_error err;
        assert_non_null(prefix);
        memcpy(prefix, b.data, n);
        const clf_status st = open_as(AS_MODEL, &(clf_model_file_args){.data = prefix, .data_size = n}, &err);
        if (st != CLF_BAD_FILE || !err.message[0]) fail_msg("5, %zu bytes: status %d: %s", n, st, err.message);
        free(prefix);
        if (n % 16) continue;
        save(in_folder("prefix.gguf"), b.data, n);
        for (int map = 0; map < 2; map++)
            assert_int_equal(
                open_as(AS_MODEL, &(clf_model_file_args){.path = in_folder("prefix.gguf"), .mmap = map}, &err),
                CLF_BAD_FILE);
    }
    static const uint8_t values[] = {0, 1, 0x7f, 0x80, 0xff};
    for (size_t i = 0; i < b.size; i++)
        for (size_t j = 0; j < sizeof values; j++) {
            const uint8_t old = b.data[i];
            clf_error err;
            b.data[i] = values[j];
            open_as(AS_MODEL, &(clf_model_file_args){.data = b.data, .data_size = b.size}, &err);
            b.data[i] = old;
        }
    save_seed(5, "model", &b);
    free(b.data);
}

/* A shard with one tensor. */
static void save_shard(const char *name, uint32_t number, uint32_t of, uint32_t tensors, const char *tensor) {
    bytes b = header(3, 1, 4);
    put_text(&b, "general.architecture", "llama");
    put_pair(&b, "split.no", CLF_GGUF_U32, number);
    put_pair(&b, "split.count", CLF_GGUF_U32, of);
    put_pair(&b, "split.tensors.count", CLF_GGUF_U32, tensors);
    put_info(&b, tensor, DIMS(8), 0, 0);
    put_zeros(&b, (32 - b.size % 32) % 32 + 32);
    save(in_folder(name), b.data, b.size);
    free(b.data);
}

static void expect_shards(const char *what, const char *name, clf_status status, const char *part) {
    clf_error err;
    const double start = seconds();
    expect(32, what, open_as(AS_MODEL, &(clf_model_file_args){.path = in_folder(name)}, &err), &err, status, part,
           start);
}

static void test_shards(void **state) {
    (void)state;
    static const char *const first = "m-00001-of-00002.gguf", *const second = "m-00002-of-00002.gguf";
    save_shard(first, 0, 2, 2, "a");
    expect_shards("missing", first, CLF_NOT_FOUND, second);
    save_shard(second, 0, 2, 2, "b");
    expect_shards("the first again", first, CLF_BAD_FILE, "expected 1 of 2, got 0 of 2");
    save_shard(second, 1, 3, 2, "b");
    expect_shards("of another number", first, CLF_BAD_FILE, "expected 1 of 2, got 1 of 3");
    save_shard(second, 1, 2, 3, "b");
    save_shard(first, 0, 2, 3, "a");
    expect_shards("of fewer tensors", second, CLF_BAD_FILE, "expected 3 tensors, got 2");
    save_shard("alone.gguf", 0, 2, 2, "a");
    expect_shards("renamed", "alone.gguf", CLF_BAD_FILE, "one of 2 shards");
    expect_shards("shard 3 of 2", "m-00003-of-00002.gguf", CLF_BAD_FILE, "got 3 of 2");
    expect_shards("too many", "m-00001-of-99999.gguf", CLF_BAD_FILE, "at most");
    save(in_folder(second), "", 0);
    expect_shards("empty", first, CLF_BAD_FILE, "empty");
}

/* Tensors [from, to) of a model as a shard; the first has the model's keys. */
static void save_part(const clf_gguf *g, int64_t from, int64_t to, int shard, const char *name) {
    bytes pairs = {0}, infos = {0}, data = {0};
    const uint64_t n = shard ? 0 : put_pairs(&pairs, &(change){0});
    put_pair(&pairs, "split.no", CLF_GGUF_U32, (uint64_t)shard);
    put_pair(&pairs, "split.count", CLF_GGUF_U32, 2);
    for (int64_t i = from; i < to; i++) {
        const clf_file_tensor *t = clf_gguf_tensor(g, i);
        const uint64_t ne[2] = {(uint64_t)t->shape[t->ndim - 1], (uint64_t)t->shape[0]};
        put_info(&infos, t->name, (uint32_t)t->ndim, ne, 0, data.size);
        put(&data, t->data, t->nbytes);
        put_zeros(&data, (32 - data.size % 32) % 32);
    }
    bytes b = header(3, (uint64_t)(to - from), n + 2);
    put(&b, pairs.data, pairs.size);
    put(&b, infos.data, infos.size);
    put_zeros(&b, (32 - b.size % 32) % 32);
    put(&b, data.data, data.size);
    save(in_folder(name), b.data, b.size);
    free(pairs.data);
    free(infos.data);
    free(data.data);
    free(b.data);
}

/* A model in two shards opens, whichever is named; one tensor in both is refused. */
static void test_good_shards(void **state) {
    (void)state;
    bytes whole = model(&(change){0});
    clf_gguf *g;
    clf_error err = {0};
    assert_int_equal(clf_gguf_open(&g, &(clf_model_file_args){.data = whole.data, .data_size = whole.size}, &err),
                     CLF_OK);
    for (int twice = 0; twice < 2; twice++) {
        save_part(g, 0, 4, 0, "g-00001-of-00002.gguf");
        save_part(g, 4 - twice, clf_gguf_tensor_count(g), 1, "g-00002-of-00002.gguf");
        expect_shards("two", "g-00001-of-00002.gguf", twice ? CLF_BAD_FILE : CLF_OK, "occurs twice");
        expect_shards("two", "g-00002-of-00002.gguf", twice ? CLF_BAD_FILE : CLF_OK, "occurs twice");
    }
    clf_gguf_close(g);
    free(whole.data);
}

int main(int argc, char **argv) {
    if (argc == 3 && !strcmp(argv[1], "--seeds")) seeds = argv[2];
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_models), cmocka_unit_test(test_truncated),
                                       cmocka_unit_test(test_shards), cmocka_unit_test(test_good_shards)};
    return cmocka_run_group_tests_name("hostile_model", tests, make_folder, remove_and_weigh);
}
