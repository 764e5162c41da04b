/* hostile_gguf.h: GGUF files for tests, made by hand: headers, keys, descriptions, and a small model with one thing
 * wrong; and how they are opened. */
#ifndef CLF_TESTS_HOSTILE_GGUF_H
#define CLF_TESTS_HOSTILE_GGUF_H

#include "../lib/model/model_file.h"
#include "hostile.h"

typedef enum opener { AS_GGUF, AS_MODEL } opener;

static inline clf_status open_as(opener as, const clf_model_file_args *args, clf_error *err) {
    clf_gguf *g = NULL;
    clf_model_file *f = NULL;
    *err = (clf_error){0};
    const clf_status st = as == AS_GGUF ? clf_gguf_open(&g, args, err) : clf_model_file_open(&f, args, err);
    if (st != CLF_OK) assert_true(g == NULL && f == NULL);
    clf_gguf_close(g);
    clf_model_file_close(f);
    return st;
}

/* Opens the bytes in the three ways; takes them. */
static inline void check(int item, const char *what, opener as, bytes *b, clf_status status, const char *part) {
    clf_error err;
    double start = seconds();
    uint8_t *exact = malloc(b->size ? b->size : 1); /* so that a byte too far is noticed */
    assert_non_null(exact);
    if (b->size) memcpy(exact, b->data, b->size);
    clf_status st = open_as(as, &(clf_model_file_args){.data = exact, .data_size = b->size}, &err);
    expect(item, what, st, &err, status, part, start);
    free(exact);
    const char *path = in_folder("x.gguf");
    save(path, b->data, b->size);
    for (int map = 0; map < 2; map++) {
        start = seconds();
        st = open_as(as, &(clf_model_file_args){.path = path, .mmap = map}, &err);
        expect(item, what, st, &err, status, part, start);
        if (st != CLF_OK) assert_non_null(strstr(err.message, path));
    }
    save_seed(item, what, b);
    free(b->data);
    *b = (bytes){0};
}

static inline bytes header(uint32_t version, uint64_t tensors, uint64_t pairs) {
    bytes b = {0};
    put(&b, "GGUF", 4);
    put_u32(&b, version);
    put_u64(&b, tensors);
    put_u64(&b, pairs);
    return b;
}

/* A file with one key, whose type and value the caller appends. */
static inline bytes one_key(const char *key) {
    bytes b = header(3, 0, 1);
    put_string(&b, key);
    return b;
}

static inline void put_info(bytes *b, const char *name, uint32_t n_dims, const uint64_t *ne, uint32_t type,
                            uint64_t offset) {
    put_string(b, name);
    put_u32(b, n_dims);
    for (uint32_t i = 0; i < n_dims && i < 8; i++) put_u64(b, ne[i]);
    put_u32(b, type);
    put_u64(b, offset);
}

/* A file with one tensor and `data` bytes of data. */
static inline bytes one_tensor(uint32_t n_dims, const uint64_t *ne, uint32_t type, uint64_t offset, size_t data) {
    bytes b = header(3, 1, 0);
    put_info(&b, "t", n_dims, ne, type, offset);
    put_zeros(&b, (32 - b.size % 32) % 32 + data);
    return b;
}
#define DIMS(...)                                                                                                      \
    (sizeof((uint64_t[]){__VA_ARGS__}) / 8), (const uint64_t[]) {                                                      \
        __VA_ARGS__                                                                                                    \
    }

/* What is wrong in a model. */
typedef struct change {
    const char *key; /* without "llama.": written as `type` with `bits` instead, or added, or, with `drop`, left out */
    clf_gguf_type type;
    uint64_t bits;
    const char *tensor; /* of another shape and dtype (GGUF's), or, with `drop`, left out */
    uint64_t ne[2];
    uint32_t dtype;
    bool drop;
    const char *extra; /* a vector of 8 more */
} change;

static inline uint64_t float_bits(float v) {
    uint32_t u;
    memcpy(&u, &v, 4);
    return u;
}

static inline void put_pair(bytes *b, const char *key, clf_gguf_type type, uint64_t bits) {
    static const size_t size[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    put_string(b, key);
    put_u32(b, type);
    put(b, &bits, size[type]);
}

static inline void put_text(bytes *b, const char *key, const char *text) {
    put_string(b, key);
    put_u32(b, CLF_GGUF_STRING);
    put_string(b, text);
}

/* The model's keys, changed; returns how many. */
static inline uint64_t put_pairs(bytes *b, const change *c) {
    const struct {
        const char *key;
        clf_gguf_type type;
        uint64_t bits;
    } keys[] = {{"context_length", CLF_GGUF_U32, 64},
                {"embedding_length", CLF_GGUF_U32, 8},
                {"block_count", CLF_GGUF_U32, 1},
                {"feed_forward_length", CLF_GGUF_U32, 16},
                {"attention.head_count", CLF_GGUF_U32, 4},
                {"attention.head_count_kv", CLF_GGUF_U32, 2},
                {"attention.layer_norm_rms_epsilon", CLF_GGUF_F32, float_bits(1e-5f)}};
    uint64_t n = 1;
    bool done = !c->key;
    char key[96];
    put_text(b, "general.architecture", "llama");
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const bool changed = c->key && !strcmp(c->key, keys[i].key);
        done |= changed;
        if (changed && c->drop) continue;
        snprintf(key, sizeof key, "llama.%s", keys[i].key);
        put_pair(b, key, changed ? c->type : keys[i].type, changed ? c->bits : keys[i].bits);
        n++;
    }
    if (done) return n;
    snprintf(key, sizeof key, "llama.%s", c->key);
    put_pair(b, key, c->type, c->bits);
    return n + 1;
}

/* A llama of one layer: vocabulary 4, hidden 8, feed-forward 16, 4 heads over 2. */
static inline bytes model(const change *c) {
    static const struct {
        const char *name;
        uint64_t ne[2];
    } tensors[] = {
        {"token_embd.weight", {8, 4}},        {"output_norm.weight", {8, 0}},    {"blk.0.attn_norm.weight", {8, 0}},
        {"blk.0.attn_q.weight", {8, 8}},      {"blk.0.attn_k.weight", {8, 4}},   {"blk.0.attn_v.weight", {8, 4}},
        {"blk.0.attn_output.weight", {8, 8}}, {"blk.0.ffn_norm.weight", {8, 0}}, {"blk.0.ffn_gate.weight", {8, 16}},
        {"blk.0.ffn_up.weight", {8, 16}},     {"blk.0.ffn_down.weight", {16, 8}}};
    bytes pairs = {0}, infos = {0};
    uint64_t n = 0, offset = 0;
    const uint64_t n_pairs = put_pairs(&pairs, c);
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++) {
        const bool changed = c->tensor && !strcmp(c->tensor, tensors[i].name);
        if (changed && c->drop) continue;
        const uint64_t *ne = changed && c->ne[0] ? c->ne : tensors[i].ne;
        const uint32_t dtype = changed ? c->dtype : 0;
        put_info(&infos, tensors[i].name, ne[1] ? 2 : 1, ne, dtype, offset);
        offset += ((dtype == 24 ? 1 : 4) * ne[0] * (ne[1] ? ne[1] : 1) + 31) / 32 * 32;
        n++;
    }
    if (c->extra) {
        put_info(&infos, c->extra, DIMS(8), 0, offset);
        offset += 32;
        n++;
    }
    bytes b = header(3, n, n_pairs);
    put(&b, pairs.data, pairs.size);
    put(&b, infos.data, infos.size);
    put_zeros(&b, (32 - b.size % 32) % 32 + offset);
    free(pairs.data);
    free(infos.data);
    return b;
}

#endif
