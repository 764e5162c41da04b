/* quantize_case.h: LLaMAs of a chosen width on disk, for tests of quantising. */
#ifndef CLF_TESTS_QUANTIZE_CASE_H
#define CLF_TESTS_QUANTIZE_CASE_H

#include "model_case.h"

#include "../lib/core/dtype.h"
#include "../lib/model/gguf_write.h"

typedef enum quantize_values { NORMAL, TERNARY } quantize_values;

typedef struct quantize_model {
    int hidden, ffn, layers; /* four heads over one */
    clf_dtype dtype;         /* of matrices: F32 or F16 */
    quantize_values values;
    bool tied;
    const char *broken; /* a matrix of which one weight, in row 3, column 7, is `value`; NULL: none */
    float value;
} quantize_model;

static inline float quantize_uniform(uint32_t *seed) {
    *seed = *seed * 1664525u + 1013904223u;
    return ((float)(*seed >> 8) + 0.5f) * 0x1p-24f;
}

/* Of n weights of a matrix: normal ones, or 0 and ± one value. */
static inline void quantize_fill(float *w, int64_t n, quantize_values values, float size, uint32_t *seed) {
    for (int64_t i = 0; i < n; i++) {
        const float u = quantize_uniform(seed), v = quantize_uniform(seed);
        w[i] = size * (values == TERNARY ? (float)((int)(u * 3) - 1) : sqrtf(-2 * logf(u)) * cosf(6.2831853f * v));
    }
}

static inline void quantize_describe(clf_gguf_writer *w, const quantize_model *m, const char *name, int rows,
                                     int columns, clf_error *err) {
    const clf_file_tensor t = {
        .name = name, .dtype = columns ? m->dtype : CLF_F32, .ndim = columns ? 2 : 1, .shape = {rows, columns}};
    assert_int_equal(clf_gguf_write_tensor(w, &t, err), CLF_OK);
}

static inline void quantize_put(clf_gguf_writer *w, const quantize_model *m, int64_t index, const char *name, int rows,
                                int columns, clf_error *err) {
    uint32_t seed = 17 + 31 * (uint32_t)index;
    const int64_t n = (int64_t)rows * (columns ? columns : 1);
    float *x = malloc((size_t)n * sizeof *x);
    uint16_t *half = malloc((size_t)n * sizeof *half);
    if (columns)
        quantize_fill(x, n, strcmp(name, "token_embd.weight") ? m->values : NORMAL, 0.0625f, &seed);
    else
        for (int64_t i = 0; i < n; i++) x[i] = 1;
    if (m->broken && !strcmp(name, m->broken)) x[3 * columns + 7] = m->value;
    for (int64_t i = 0; i < n; i++) half[i] = clf_f32_to_f16(x[i]);
    const bool f16 = columns && m->dtype == CLF_F16;
    assert_int_equal(clf_gguf_write_data(w, index, f16 ? (void *)half : x, (uint64_t)n * (f16 ? 2 : 4), err), CLF_OK);
    free(x);
    free(half);
}

static inline void quantize_make(const char *path, const quantize_model *m) {
    const struct {
        const char *name;
        int rows, columns;
    } ends[] = {{"token_embd.weight", VOCAB, m->hidden},
                {"output_norm.weight", m->hidden, 0},
                {"output.weight", VOCAB, m->hidden}},
      block[] = {{"attn_norm", m->hidden, 0},           {"attn_q", m->hidden, m->hidden},
                 {"attn_k", m->hidden / 4, m->hidden},  {"attn_v", m->hidden / 4, m->hidden},
                 {"attn_output", m->hidden, m->hidden}, {"ffn_norm", m->hidden, 0},
                 {"ffn_gate", m->ffn, m->hidden},       {"ffn_up", m->ffn, m->hidden},
                 {"ffn_down", m->hidden, m->ffn}};
    enum { BLOCK = 9 };
    const int n_ends = m->tied ? 2 : 3;
    clf_error err = {0};
    clf_gguf_writer *w;
    assert_int_equal(clf_gguf_writer_create(&w, path, &err), CLF_OK);
    clf_gguf_write_string(w, "general.architecture", "llama", &err);
    clf_gguf_write_u32(w, "general.file_type", 1, &err);
    clf_gguf_write_u32(w, "llama.context_length", 256, &err);
    clf_gguf_write_u32(w, "llama.embedding_length", (uint32_t)m->hidden, &err);
    clf_gguf_write_u32(w, "llama.block_count", (uint32_t)m->layers, &err);
    clf_gguf_write_u32(w, "llama.feed_forward_length", (uint32_t)m->ffn, &err);
    clf_gguf_write_u32(w, "llama.attention.head_count", 4, &err);
    clf_gguf_write_u32(w, "llama.attention.head_count_kv", 1, &err);
    clf_gguf_write_f32(w, "llama.attention.layer_norm_rms_epsilon", 1e-5f, &err);
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < n_ends + m->layers * BLOCK; i++) {
            char name[64];
            const int b = i < n_ends ? i : (i - n_ends) % BLOCK;
            if (i < n_ends)
                snprintf(name, sizeof name, "%s", ends[b].name);
            else
                snprintf(name, sizeof name, "blk.%d.%s.weight", (i - n_ends) / BLOCK, block[b].name);
            const int rows = i < n_ends ? ends[b].rows : block[b].rows,
                      columns = i < n_ends ? ends[b].columns : block[b].columns;
            if (pass)
                quantize_put(w, m, i, name, rows, columns, &err);
            else
                quantize_describe(w, m, name, rows, columns, &err);
        }
    if (clf_gguf_writer_finish(w, &err) != CLF_OK) fail_msg("%s", err.message);
    clf_gguf_writer_destroy(w);
}

#endif
