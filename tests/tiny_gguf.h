/* tiny_gguf.h: a LLaMA of a few thousand random weights with a tokenizer, as a GGUF in memory, for tests that need
 * text. Its vocabulary is <unk>, <s>, </s>, the 256 bytes, and pairs and triples of small letters. */
#ifndef CLF_TESTS_TINY_GGUF_H
#define CLF_TESTS_TINY_GGUF_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { TINY_VOCAB = 512, TINY_HIDDEN = 32, TINY_FFN = 64, TINY_LAYERS = 2, TINY_HEADS = 4, TINY_KV_HEADS = 2 };

typedef struct tiny_gguf {
    uint8_t *data;
    size_t size;
} tiny_gguf;

static inline void tiny_bytes(tiny_gguf *g, const void *data, size_t n) {
    g->data = realloc(g->data, g->size + n);
    if (!g->data) abort();
    memcpy(g->data + g->size, data, n);
    g->size += n;
}
static inline void tiny_u32(tiny_gguf *g, uint32_t v) {
    tiny_bytes(g, &v, sizeof v);
}
static inline void tiny_u64(tiny_gguf *g, uint64_t v) {
    tiny_bytes(g, &v, sizeof v);
}
static inline void tiny_string(tiny_gguf *g, const char *s) {
    tiny_u64(g, strlen(s));
    tiny_bytes(g, s, strlen(s));
}
static inline void tiny_key_u32(tiny_gguf *g, const char *key, uint32_t v) {
    tiny_string(g, key);
    tiny_u32(g, 4);
    tiny_u32(g, v);
}
static inline void tiny_key_f32(tiny_gguf *g, const char *key, float v) {
    tiny_string(g, key);
    tiny_u32(g, 6);
    tiny_bytes(g, &v, sizeof v);
}
static inline void tiny_key_string(tiny_gguf *g, const char *key, const char *v) {
    tiny_string(g, key);
    tiny_u32(g, 8);
    tiny_string(g, v);
}
static inline void tiny_key_array(tiny_gguf *g, const char *key, uint32_t type, uint64_t n) {
    tiny_string(g, key);
    tiny_u32(g, 9);
    tiny_u32(g, type);
    tiny_u64(g, n);
}

static inline const char *tiny_piece(int id, char text[16]) {
    static const char *const special[] = {"<unk>", "<s>", "</s>"};
    static const char *const ends[] = {"", "a", "e", "o", "r", "n"};
    if (id < 3) return special[id];
    const int letter = id - 259;
    if (letter < 0) {
        snprintf(text, 16, "<0x%02X>", (unsigned)id - 3);
    } else {
        snprintf(text, 16, "%s%c%c%s", letter % 7 ? "" : "\xe2\x96\x81", 'a' + letter % 26, 'a' + letter / 26 % 26,
                 ends[letter / 43 % 6]);
    }
    return text;
}

static inline void tiny_vocabulary(tiny_gguf *g) {
    char text[16];
    tiny_key_string(g, "tokenizer.ggml.model", "llama");
    tiny_key_u32(g, "tokenizer.ggml.bos_token_id", 1);
    tiny_key_u32(g, "tokenizer.ggml.eos_token_id", 2);
    tiny_key_array(g, "tokenizer.ggml.tokens", 8, TINY_VOCAB);
    for (int i = 0; i < TINY_VOCAB; i++) tiny_string(g, tiny_piece(i, text));
    tiny_key_array(g, "tokenizer.ggml.scores", 6, TINY_VOCAB);
    for (int i = 0; i < TINY_VOCAB; i++) {
        const float score = i < 259 ? 0 : -(float)i;
        tiny_bytes(g, &score, sizeof score);
    }
    tiny_key_array(g, "tokenizer.ggml.token_type", 5, TINY_VOCAB);
    for (int i = 0; i < TINY_VOCAB; i++) tiny_u32(g, i == 0 ? 2 : i < 3 ? 3 : i < 259 ? 6 : 1);
}

typedef struct tiny_tensor {
    const char *name;
    int rows, columns; /* columns 0: a vector, near 1 */
} tiny_tensor;

/* To be freed by the caller: g.data. */
static inline tiny_gguf tiny_gguf_make(void) {
    static const tiny_tensor ends[] = {{"token_embd.weight", TINY_VOCAB, TINY_HIDDEN},
                                       {"output_norm.weight", TINY_HIDDEN, 0}},
                             block[] = {{"attn_norm", TINY_HIDDEN, 0},
                                        {"attn_q", TINY_HIDDEN, TINY_HIDDEN},
                                        {"attn_k", TINY_HIDDEN / 2, TINY_HIDDEN},
                                        {"attn_v", TINY_HIDDEN / 2, TINY_HIDDEN},
                                        {"attn_output", TINY_HIDDEN, TINY_HIDDEN},
                                        {"ffn_norm", TINY_HIDDEN, 0},
                                        {"ffn_gate", TINY_FFN, TINY_HIDDEN},
                                        {"ffn_up", TINY_FFN, TINY_HIDDEN},
                                        {"ffn_down", TINY_HIDDEN, TINY_FFN}};
    enum { PER_BLOCK = sizeof block / sizeof *block, TENSORS = 2 + TINY_LAYERS * PER_BLOCK, KEYS = 15 };
    tiny_gguf g = {0};
    tiny_bytes(&g, "GGUF", 4);
    tiny_u32(&g, 3);
    tiny_u64(&g, TENSORS);
    tiny_u64(&g, KEYS);
    tiny_key_string(&g, "general.architecture", "llama");
    tiny_key_string(&g, "general.name", "tiny");
    tiny_key_u32(&g, "llama.context_length", 256);
    tiny_key_u32(&g, "llama.embedding_length", TINY_HIDDEN);
    tiny_key_u32(&g, "llama.block_count", TINY_LAYERS);
    tiny_key_u32(&g, "llama.feed_forward_length", TINY_FFN);
    tiny_key_u32(&g, "llama.attention.head_count", TINY_HEADS);
    tiny_key_u32(&g, "llama.attention.head_count_kv", TINY_KV_HEADS);
    tiny_key_f32(&g, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    tiny_vocabulary(&g); /* six keys */

    tiny_tensor all[TENSORS];
    uint64_t offset = 0;
    for (int i = 0; i < TENSORS; i++) {
        char name[64];
        all[i] = i < 2 ? ends[i] : block[(i - 2) % PER_BLOCK];
        if (i < 2)
            snprintf(name, sizeof name, "%s", all[i].name);
        else
            snprintf(name, sizeof name, "blk.%d.%s.weight", (i - 2) / PER_BLOCK, all[i].name);
        tiny_string(&g, name);
        tiny_u32(&g, all[i].columns ? 2 : 1);
        if (all[i].columns) tiny_u64(&g, (uint64_t)all[i].columns);
        tiny_u64(&g, (uint64_t)all[i].rows);
        tiny_u32(&g, 0);
        tiny_u64(&g, offset);
        offset += (uint64_t)all[i].rows * (uint64_t)(all[i].columns ? all[i].columns : 1) * sizeof(float);
    }
    while (g.size % 32) tiny_bytes(&g, "", 1);
    uint32_t random = 12345;
    for (int i = 0; i < TENSORS; i++)
        for (int j = 0; j < all[i].rows * (all[i].columns ? all[i].columns : 1); j++) {
            random = random * 1664525u + 1013904223u;
            const float u = (float)(random >> 8) / 8388608.f - 1;
            const float value = all[i].columns ? u * (i ? 0.3f : 0.7f) : 1 + 0.2f * u;
            tiny_bytes(&g, &value, sizeof value);
        }
    return g;
}

#endif
